//! 1,000 peers with a little traffic each, against one peer with as much: the same client, the same number of packets.
//!
//! *In* is from the peers to the engine: messages that were sealed beforehand are sent in turn, and what arrives in the
//! engine's namespace counts. *Out* is the other way: packets are sent to every peer's inner address in turn, and what
//! arrives on the cable counts. That way the copy limit takes part, too: what a message for each packet costs the kernel
//! is no engine's to save.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use lab::Netns;

use crate::peers::contender::{Contender, Role};
use crate::peers::crowd::{Crowd, MESSAGE_LEN, NETWORK, PACKET_LEN, address};
use crate::peers::sample::{Outcome, Sample, figures};
use crate::peers::sink::{PORT, Sink};
use crate::peers::topology::{CABLE, Keys, Site, Station, endpoint, inner};

/// Peers of a crowd.
const MANY: u32 = 1_000;
/// Packets to the engine, of all peers together.
const PACKETS: usize = 400_000;
/// How long the last packets may take to arrive.
const DRAIN: Duration = Duration::from_millis(300);
/// How long packets from the engine flow before they are counted, and are counted.
const WARM_UP: Duration = Duration::from_millis(300);
const COUNTED: Duration = Duration::from_millis(1_000);
/// Bytes of a frame on the cable before the message: Ethernet, IPv4, UDP.
const FRAME_HEADERS: u64 = 14 + 20 + 8;
/// Bytes of an IPv4 and a UDP header.
const INNER_HEADERS: usize = 20 + 8;

/// One round: both directions, with many peers and with one.
///
/// # Errors
/// When the engine does not serve them.
pub fn compare(contender: &Contender) -> Outcome {
    let many = measure(contender, MANY)?;
    let one = measure(contender, 1)?;
    let mut sample = Sample::default();
    if let (Some(many), Some(one)) = (&many.arrived, &one.arrived) {
        sample.put(figures::MANY_IN, many.rate / 1e3);
        sample.put(figures::ONE_IN, one.rate / 1e3);
        sample.put(figures::RATIO_IN, many.rate / one.rate);
        sample.put(figures::LOST, many.lost_percent);
        sample.put(figures::ONE_LOST, one.lost_percent);
        sample.put(figures::REORDERED, (many.reordered + one.reordered) as f64);
    }
    sample.put(figures::MANY_OUT, many.sent_rate / 1e3);
    sample.put(figures::ONE_OUT, one.sent_rate / 1e3);
    sample.put(figures::RATIO_OUT, many.sent_rate / one.sent_rate);
    Ok(sample)
}

/// What a crowd of one size gave.
struct Measured {
    /// None of the copy limit, which knows no sessions.
    arrived: Option<Arrived>,
    /// Packets a second that the engine sent to the crowd.
    sent_rate: f64,
}

/// What the engine delivered of what the crowd sent.
struct Arrived {
    /// Packets a second.
    rate: f64,
    /// Next to none means that the crowd was the slower part.
    lost_percent: f64,
    reordered: u64,
}

fn measure(contender: &Contender, size: u32) -> Result<Measured, String> {
    let site = Site::new();
    let station = Station::start(&contender.for_crowd(), &site.b, 2)?;
    let keys = Keys::generate()?;
    let (mut crowd, configs) = site.a.enter(|| Crowd::new(size, &keys, endpoint(2)))?;
    station.configure(&keys, &configs)?;
    site.b.address(station.interface(), &format!("{}/32", inner(2)));
    site.b.ip(&format!("link set {} up", station.interface()));
    site.b.ip(&format!("route add {NETWORK} dev {}", station.interface()));
    if contender.role == Role::CopyLimit {
        return Ok(Measured { arrived: None, sent_rate: outwards(&site, size)? });
    }
    crowd.greet()?;
    let arrived = inwards(&site.b, &mut crowd, size)?;
    let sent_rate = outwards(&site, size)?;
    // Messages of the sample came in turn, so that whoever was served at all has one.
    let served = crowd.verify()?;
    if served < size as usize {
        return Err(format!("only {served} of {size} peers got something"));
    }
    Ok(Measured { arrived: Some(arrived), sent_rate })
}

fn inwards(ns: &Netns, crowd: &mut Crowd, size: u32) -> Result<Arrived, String> {
    let broken = |error: io::Error| format!("receiving failed: {error}");
    let messages = crowd.seal(PACKETS / size as usize)?;
    let sink = ns.enter(|| Sink::bind(false)).map_err(broken)?;
    let is_over = AtomicBool::new(false);
    let (sent, arrivals) = thread::scope(|scope| {
        let receiving = scope.spawn(|| sink.receive(size as usize, &is_over, |_| ()));
        let sent = crowd.blast(&messages);
        thread::sleep(DRAIN);
        is_over.store(true, Relaxed);
        (sent, receiving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let arrivals = arrivals.map_err(broken)?;
    let lost = sent.saturating_sub(arrivals.arrived());
    Ok(Arrived {
        rate: arrivals.rate()?,
        lost_percent: 100.0 * lost as f64 / sent.max(1) as f64,
        reordered: arrivals.reordered(),
    })
}

/// Packets a second that leave the engine, while more are offered than it can take.
fn outwards(site: &Site, size: u32) -> Result<f64, String> {
    let broken = |error: io::Error| format!("sending failed: {error}");
    let socket = site.b.enter(|| UdpSocket::bind((inner(2), 0))).map_err(broken)?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let datagram = [0; PACKET_LEN - INNER_HEADERS];
            for number in (0..size).cycle() {
                if is_over.load(Relaxed) {
                    break;
                }
                // A full queue loses the packet, and the next one has its turn.
                let _ = socket.send_to(&datagram, (address(number), PORT));
            }
        });
        thread::sleep(WARM_UP);
        let rate = counted(&site.a);
        is_over.store(true, Relaxed);
        sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        rate
    })
}

/// Messages a second that come in by the cable.
fn counted(ns: &Netns) -> Result<f64, String> {
    let (start, before) = (Instant::now(), Received::on_cable(ns)?);
    thread::sleep(COUNTED);
    let (elapsed, after) = (start.elapsed(), Received::on_cable(ns)?);
    match after.messages_since(&before) {
        0.0 => Err("it sends nothing".to_owned()),
        messages => Ok(messages / elapsed.as_secs_f64()),
    }
}

/// What an interface has received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Received {
    bytes: u64,
    frames: u64,
}

impl Received {
    fn on_cable(ns: &Netns) -> Result<Received, String> {
        let read = || fs::read_to_string("/proc/thread-self/net/dev");
        let text = ns.enter(read).map_err(|error| format!("the cable's counters: {error}"))?;
        Received::parse(&text, CABLE).ok_or_else(|| "the cable has no counters".to_owned())
    }

    /// From `/proc/net/dev`: the interface's name, a colon, and the bytes and packets received first.
    fn parse(text: &str, interface: &str) -> Option<Received> {
        let (_, counters) = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == interface)?;
        let mut counters = counters.split_whitespace().map(str::parse);
        Some(Received { bytes: counters.next()?.ok()?, frames: counters.next()?.ok()? })
    }

    /// Messages of [`MESSAGE_LEN`] since `before`. A train is one frame on the cable, with one set of headers.
    fn messages_since(&self, before: &Received) -> f64 {
        let headers = (self.frames - before.frames) * FRAME_HEADERS;
        (self.bytes - before.bytes).saturating_sub(headers) as f64 / MESSAGE_LEN as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_an_interface() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs |bytes\n    \
            lo:     100       2    0    0\n cable: 4242 7 0 0\n";
        assert_eq!(Received::parse(text, "cable"), Some(Received { bytes: 4242, frames: 7 }));
        assert_eq!(Received::parse(text, "able"), None);
        assert_eq!(Received::parse("cable: x\n", "cable"), None);
    }

    #[test]
    fn a_train_has_headers_once() {
        let before = Received { bytes: 1_000, frames: 10 };
        let after = Received { bytes: 1_000 + 42 + 5 * 160 + 42 + 160, frames: 12 };
        assert!((after.messages_since(&before) - 6.0).abs() < 1e-9);
        assert_eq!(before.messages_since(&before), 0.0);
    }
}
