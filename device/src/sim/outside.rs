//! What the engine has of the system, in tests: the simulation's while one runs on this thread, else the system's own
//! (see `system.rs`).

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_net::poll::TimerFd;
use adit_net::udp::{BindError, BindOptions, Bound, LocalAddr, Pair, SendReport};
use adit_proto::time::Instant;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};

use crate::sync::atomic::{AtomicU64, Ordering::SeqCst};
use crate::system;

/// A datagram that an engine sent.
pub(crate) struct Sent {
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

struct Virtual {
    now: Duration,
    wall: Duration,
    rng: ChaCha8Rng,
    sent: Vec<Sent>,
    seen: Arc<Seen>,
}

/// What others see, and in which order: models (`models/`) have to know.
#[derive(Default)]
struct Seen {
    /// What the timer was last set to, zero for nothing.
    timer: AtomicU64,
    trains: AtomicU64,
}

thread_local! {
    static VIRTUAL: RefCell<Option<Virtual>> = const { RefCell::new(None) };
}

fn with<R>(f: impl FnOnce(&mut Virtual) -> R) -> Option<R> {
    VIRTUAL.with_borrow_mut(|outside| outside.as_mut().map(f))
}

/// While it lives, engines on this thread live in the simulation.
pub(crate) struct Guard(());

impl Guard {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let zero = Duration::ZERO;
        VIRTUAL.set(Some(Virtual { now: zero, wall: zero, rng, sent: Vec::new(), seen: Arc::default() }));
        Guard(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        VIRTUAL.set(None);
    }
}

/// Sets both clocks: the time since boot, and the wall's since the epoch.
pub(crate) fn set_clocks(now: Duration, wall: Duration) {
    with(|outside| (outside.now, outside.wall) = (now, wall));
}

/// Takes what was sent since the last call.
pub(crate) fn take_sent() -> Vec<Sent> {
    with(|outside| std::mem::take(&mut outside.sent)).unwrap_or_default()
}

/// What a timer was last set to.
#[cfg(feature = "loom")]
pub(crate) fn timer() -> Option<Instant> {
    let timer = with(|outside| outside.seen.clone())?.timer.load(SeqCst);
    (timer != 0).then(|| Instant::from_nanos(timer))
}

pub(crate) fn boottime_ns() -> u64 {
    with(|outside| outside.now.as_nanos() as u64).unwrap_or_else(system::boottime_ns)
}

pub(crate) fn realtime() -> (u64, u32) {
    with(|outside| (outside.wall.as_secs(), outside.wall.subsec_nanos())).unwrap_or_else(system::realtime)
}

/// The simulation's generator, or the system's.
pub(crate) struct SystemRng(());

pub(crate) fn rng() -> SystemRng {
    SystemRng(())
}

impl TryRng for SystemRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(with(|outside| outside.rng.next_u32()).unwrap_or_else(|| system::rng().next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(with(|outside| outside.rng.next_u64()).unwrap_or_else(|| system::rng().next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        with(|outside| outside.rng.fill_bytes(bytes)).unwrap_or_else(|| system::rng().fill_bytes(bytes));
        Ok(())
    }
}

impl TryCryptoRng for SystemRng {}

/// Who lives in the simulation is woken by it.
pub(crate) fn set_timer(timer: &TimerFd, at: Option<Instant>) -> io::Result<()> {
    let Some(seen) = with(|outside| outside.seen.clone()) else { return system::set_timer(timer, at) };
    seen.timer.store(at.map_or(0, Instant::as_nanos), SeqCst);
    Ok(())
}

/// The virtual network has addresses only: a tunnel there needs no sockets.
pub(crate) fn bind(port: u16, options: &BindOptions) -> Result<Bound, BindError> {
    match with(|_| ()) {
        Some(()) => Ok(Bound {
            port: port.max(1),
            sockets: vec![Pair { v4: None, v6: None }],
            handshakes: Vec::new(),
        }),
        None => system::bind(port, options),
    }
}

pub(crate) fn send(
    sockets: &Pair,
    to: &SocketAddr,
    from: Option<&LocalAddr>,
    tos: u8,
    train: &[u8],
    stride: usize,
) -> Option<SendReport> {
    match put(to, train, stride) {
        true => Some(SendReport { bytes: train.len(), ..SendReport::default() }),
        false => system::send(sockets, to, from, tos, train, stride),
    }
}

/// Puts a train on the virtual network, if there is one.
pub(crate) fn put(to: &SocketAddr, train: &[u8], stride: usize) -> bool {
    let Some(seen) = with(|outside| outside.seen.clone()) else { return false };
    seen.trains.fetch_add(1, SeqCst);
    let datagrams = train.chunks(stride).map(|bytes| Sent { to: *to, bytes: bytes.to_vec() });
    with(|outside| outside.sent.extend(datagrams)).is_some()
}
