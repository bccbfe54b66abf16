//! A steady flow of numbered datagrams through a tunnel: none lost, none overtaken, none late, or it is told which.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::netns::Netns;
use crate::seconds;

/// Bytes of a datagram: its number, and when it was sent.
const LEN: usize = 16;
/// Room for what is in flight: a receiver that is not scheduled for a while must not be taken for a tunnel that loses.
const BUFFER: usize = 4 << 20;
/// After this long without an arrival, a full window lets one more pass.
const STALL: Duration = Duration::from_millis(200);

/// How fast.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The time between two; zero sends as fast as the window allows.
    pub every: Duration,
    /// How many may be in flight, lest queues overflow while an engine is not scheduled.
    pub window: u64,
}

/// Numbers that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How many.
    pub count: u64,
    /// When the last one before them that arrived was sent.
    pub after: Instant,
    /// When the first one after them was.
    pub before: Instant,
}

/// What became of all.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Sent, whether or not the kernel took them.
    pub sent: u64,
    /// Different ones that arrived.
    pub arrived: u64,
    /// Those that a later one had overtaken, and those that came twice.
    pub disordered: u64,
    /// Where some are missing for good, but those at the end.
    pub gaps: Vec<Gap>,
    /// How long each that arrived was under way, in microseconds.
    pub delays: Vec<u32>,
}

impl Tally {
    /// How many did not arrive.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent - self.arrived
    }
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    /// Held while one is sent, so that none leaves after somebody has paused the flow.
    is_paused: Mutex<bool>,
    is_over: AtomicBool,
    sent: AtomicU64,
    /// The greatest number that arrived, plus one.
    next: AtomicU64,
}

/// A flow that goes on until it is stopped.
#[derive(Debug)]
pub struct Beat {
    shared: Arc<Shared>,
    threads: Option<(JoinHandle<()>, JoinHandle<Tally>)>,
}

impl Beat {
    /// From the inner address `source` in `from` to `destination` in `to`.
    ///
    /// # Panics
    /// If these addresses are not there.
    #[track_caller]
    #[must_use]
    pub fn start(from: (&Netns, IpAddr), to: (&Netns, IpAddr), pace: Pace) -> Beat {
        let bind = |(ns, address): (&Netns, IpAddr)| {
            ns.enter(|| UdpSocket::bind((address, 0))).expect("an inner address")
        };
        let (sender, receiver) = (bind(from), bind(to));
        sender.connect(receiver.local_addr().expect("it is bound")).expect("a route into the tunnel");
        setsockopt(&receiver, sockopt::RcvBufForce, &BUFFER).expect("room for what is in flight");
        receiver.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        let shared = Arc::new(Shared {
            start: Instant::now(),
            is_paused: Mutex::new(false),
            is_over: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            next: AtomicU64::new(0),
        });
        let (ours, theirs) = (Arc::clone(&shared), Arc::clone(&shared));
        let receiving = thread::spawn(move || ours.receive(&receiver));
        let sending = thread::spawn(move || theirs.send(&sender, pace));
        Beat { shared, threads: Some((sending, receiving)) }
    }

    /// Sends nothing until [`Beat::resume`]; whether all that was sent has arrived within `limit`.
    #[must_use]
    pub fn pause(&self, limit: Duration) -> bool {
        *self.shared.is_paused() = true;
        soon(limit, || self.in_flight() == 0)
    }

    /// Goes on.
    pub fn resume(&self) {
        *self.shared.is_paused() = false;
    }

    /// Waits until something arrives that is sent from now on; whether it did within `limit`.
    #[must_use]
    pub fn arrives(&self, limit: Duration) -> bool {
        let sent = self.shared.sent.load(Ordering::SeqCst);
        soon(limit, || self.shared.next.load(Ordering::SeqCst) > sent)
    }

    fn in_flight(&self) -> u64 {
        let next = self.shared.next.load(Ordering::SeqCst);
        self.shared.sent.load(Ordering::SeqCst).saturating_sub(next)
    }

    /// Stops sending, and waits for what is under way, half a minute at most.
    ///
    /// # Panics
    /// If a thread of it did.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        let _ = self.pause(seconds(30));
        self.shared.is_over.store(true, Ordering::SeqCst);
        let (sending, receiving) = self.threads.take().expect("it is stopped once");
        sending.join().expect("sending");
        let tally = receiving.join().expect("receiving");
        Tally { sent: self.shared.sent.load(Ordering::SeqCst), ..tally }
    }
}

/// Like [`within`](crate::within), for what is a matter of a fraction of a millisecond.
fn soon(limit: Duration, done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_micros(200));
    }
    true
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn is_paused(&self) -> MutexGuard<'_, bool> {
        self.is_paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, socket: &UdpSocket, pace: Pace) {
        let mut due = Instant::now();
        while !self.is_over() {
            // Nobody else counts.
            let number = self.sent.load(Ordering::SeqCst);
            self.await_window(number, pace.window);
            let is_paused = self.is_paused();
            if *is_paused {
                drop(is_paused);
                thread::sleep(Duration::from_millis(1));
                due = Instant::now();
                continue;
            }
            self.sent.store(number + 1, Ordering::SeqCst);
            let now = u64::try_from(self.start.elapsed().as_nanos()).expect("some time");
            // What the kernel does not take is lost like any other.
            let _ = socket.send(&[number.to_be_bytes(), now.to_be_bytes()].concat());
            drop(is_paused);
            due += pace.every;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    fn await_window(&self, number: u64, window: u64) {
        let next = || self.next.load(Ordering::SeqCst);
        let (mut last, mut since) = (next(), Instant::now());
        while number.saturating_sub(next()) >= window && since.elapsed() < STALL && !self.is_over() {
            thread::sleep(Duration::from_micros(100));
            if next() != last {
                (last, since) = (next(), Instant::now());
            }
        }
    }

    fn receive(&self, socket: &UdpSocket) -> Tally {
        let mut tally = Tally::default();
        let mut gaps: Vec<(BTreeSet<u64>, Gap)> = Vec::new();
        let mut last = self.start;
        let mut datagram = [0; LEN + 1];
        while !self.is_over() {
            let Ok(LEN) = socket.recv(&mut datagram) else { continue };
            let number =
                |at: usize| u64::from_be_bytes(datagram[at..at + 8].try_into().expect("eight bytes"));
            let sent = self.start + Duration::from_nanos(number(8));
            let next = self.next.load(Ordering::SeqCst);
            if number(0) < next {
                tally.disordered += 1;
                // The last gaps are the likeliest.
                let is_late = gaps.iter_mut().rev().any(|(numbers, _)| numbers.remove(&number(0)));
                tally.arrived += u64::from(is_late);
                continue;
            }
            if number(0) > next {
                gaps.push(((next..number(0)).collect(), Gap { count: 0, after: last, before: sent }));
            }
            tally.arrived += 1;
            tally.delays.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            last = sent;
            self.next.store(number(0) + 1, Ordering::SeqCst);
        }
        let missing = gaps.into_iter().map(|(numbers, gap)| Gap { count: numbers.len() as u64, ..gap });
        tally.gaps = missing.filter(|gap| gap.count > 0).collect();
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arrive_on_the_loopback_interface() {
        crate::needs!("netns");
        let ns = Netns::new();
        let here = (&ns, [127, 0, 0, 1].into());
        let beat = Beat::start(here, here, Pace { every: Duration::ZERO, window: 16 });
        assert!(beat.arrives(seconds(30)) && beat.pause(seconds(30)));
        beat.resume();
        assert!(beat.arrives(seconds(30)));
        let tally = beat.stop();
        assert!(tally.sent > 1, "{}", tally.sent);
        assert_eq!((tally.lost(), tally.disordered, tally.gaps.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_lost_is_told() {
        crate::needs!("netns");
        let ns = Netns::new();
        let here = (&ns, [127, 0, 0, 1].into());
        let beat = Beat::start(here, here, Pace { every: Duration::from_millis(1), window: 16 });
        assert!(beat.arrives(seconds(30)));
        ns.ip("link set lo down");
        let sent = || beat.shared.sent.load(Ordering::SeqCst);
        let before = sent();
        assert!(soon(seconds(30), || sent() > before + 1));
        assert!(!beat.pause(Duration::from_millis(300)), "what is sent to an interface that is down is lost");
        ns.ip("link set lo up");
        beat.resume();
        assert!(beat.arrives(seconds(30)));
        let tally = beat.stop();
        assert_eq!(tally.gaps.len(), 1, "{:?}", tally.gaps);
        assert_eq!((tally.gaps[0].count, tally.disordered), (tally.lost(), 0));
        assert!(tally.gaps[0].after <= tally.gaps[0].before);
    }
}
