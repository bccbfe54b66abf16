//! UDP datagrams through the tunnel, numbered, so that each one lost, late or doubled is seen.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use adit_net::udp::{self, BindOptions};

use crate::peers::contender::Contender;
use crate::peers::sample::{Outcome, Sample, figures};
use crate::peers::sink::{PORT, Sink, label, v4};
use crate::peers::topology::{Tunnel, inner};
use crate::peers::usage::Meter;

/// Datagrams of one send with segmentation offload: what QUIC stacks send at a time.
const BURST: usize = 48;
/// Datagrams that such a sender has under way at most, as congestion control would have it. More would not fit the queue
/// of a TUN device without offload, which is 500 packets long.
const WINDOW: u64 = 10 * BURST as u64;
/// After this long without an arrival, what is under way is lost.
const STALL: Duration = Duration::from_millis(20);
/// How long the last datagrams may take to arrive.
const DRAIN: Duration = Duration::from_millis(300);

/// How datagrams are sent.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of a datagram's payload.
    size: usize,
    /// With segmentation offload and a window; otherwise by one call for each, as fast as the calls return.
    is_offloaded: bool,
}

/// 1,200 bytes, with segmentation offload.
pub const OFFLOADED: Shape = Shape { size: 1200, is_offloaded: true };
/// 64 bytes, one by one.
pub const SMALL: Shape = Shape { size: 64, is_offloaded: false };
/// 1,200 bytes, one by one.
pub const LARGE: Shape = Shape { size: 1200, is_offloaded: false };

/// One round: a flow from the near end to the far one.
///
/// # Errors
/// When the tunnel does not work, nothing arrives, or an engine does not survive.
pub fn flow(contender: &Contender, duration: Duration, shape: Shape) -> Outcome {
    let tunnel = Tunnel::new(contender)?;
    let sink = tunnel.site.b.enter(|| Sink::bind(shape.is_offloaded)).map_err(broken("receiving"))?;
    let sender = tunnel.site.a.enter(|| Sender::bind(shape)).map_err(broken("sending"))?;
    let meter = Meter::start(&tunnel)?;
    let (progress, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let sending = thread::current();
    let (sent, arrivals) = thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            sink.receive(1, &is_over, |arrivals| {
                progress.store(arrivals.flows()[0].next(), Relaxed);
                sending.unpark();
            })
        });
        let sent = sender.send(duration, &progress);
        thread::sleep(DRAIN);
        is_over.store(true, Relaxed);
        (sent, receiving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (sent, arrivals) = (sent.map_err(broken("sending"))?, arrivals.map_err(broken("receiving"))?);

    let arrived = arrivals.arrived();
    let mut sample = Sample::of(figures::PACKETS, arrivals.rate()? / 1e3);
    sample.put(figures::OFFERED, sent as f64 / duration.as_secs_f64() / 1e3);
    sample.put(figures::LOST, 100.0 * sent.saturating_sub(arrived) as f64 / sent.max(1) as f64);
    sample.put(figures::REORDERED, arrivals.reordered() as f64);
    sample.put(figures::DUPLICATES, arrivals.duplicates() as f64);
    meter.finish(arrived * shape.size as u64, &mut sample)?;
    Ok(sample)
}

fn broken(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what} failed: {error}")
}

enum Sender {
    Offloaded { socket: udp::UdpSocket, size: usize },
    Plain { socket: UdpSocket, size: usize },
}

impl Sender {
    fn bind(shape: Shape) -> io::Result<Sender> {
        let size = shape.size;
        if shape.is_offloaded {
            return Ok(Sender::Offloaded { socket: v4(udp::bind(0, &BindOptions::default())?)?, size });
        }
        let socket = UdpSocket::bind((inner(1), 0))?;
        socket.connect((inner(2), PORT))?;
        Ok(Sender::Plain { socket, size })
    }

    /// Sends for as long as `duration`; returns how many datagrams the kernel took.
    fn send(&self, duration: Duration, progress: &AtomicU64) -> io::Result<u64> {
        let end = Instant::now() + duration;
        match self {
            Sender::Offloaded { socket, size } => send_bursts(socket, *size, end, progress),
            Sender::Plain { socket, size } => send_one_by_one(socket, *size, end),
        }
    }
}

/// `progress` is the greatest number that arrived, plus one; whoever stores it unparks this thread.
fn send_bursts(socket: &udp::UdpSocket, size: usize, end: Instant, progress: &AtomicU64) -> io::Result<u64> {
    let to = SocketAddr::from((inner(2), PORT));
    let mut burst = vec![0; BURST * size];
    let (mut sent, mut given_up) = (0_u64, 0);
    while Instant::now() < end {
        while sent.saturating_sub(progress.load(Relaxed).max(given_up)) > WINDOW - BURST as u64 {
            let arrived = progress.load(Relaxed);
            thread::park_timeout(STALL);
            if progress.load(Relaxed) == arrived {
                given_up = sent;
            }
        }
        for (number, datagram) in (sent..).zip(burst.chunks_mut(size)) {
            label(datagram, 0, number);
        }
        let report = socket.send(&to, None, 0, &burst, size);
        if let Some(error) = report.error.filter(|error| !is_full(error)) {
            return Err(error);
        }
        // What was not taken goes out with the next burst, under the same numbers.
        sent += report.packets as u64;
    }
    Ok(sent)
}

fn send_one_by_one(socket: &UdpSocket, size: usize, end: Instant) -> io::Result<u64> {
    let mut datagram = vec![0; size];
    let mut sent = 0_u64;
    while Instant::now() < end {
        label(&mut datagram, 0, sent);
        match socket.send(&datagram) {
            Ok(_) => sent += 1,
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Whether the kernel has no room at present.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(nix::libc::ENOBUFS)
}
