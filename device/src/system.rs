//! What the engine has of the system besides packets: clocks, randomness, and sockets as far as the slow path and the
//! control thread use them. The rest of the crate calls this `outside`; in tests that is the simulation's
//! (`sim/outside.rs`), which puts a virtual clock, a seeded generator and a virtual network in their place.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use std::{io, process, thread};

use adit_net::poll::TimerFd;
use adit_net::udp::{self, BindError, BindOptions, Bound, LocalAddr, Pair, SendReport};
use adit_proto::time::Instant;
use rand_core::{TryCryptoRng, TryRng};

pub(crate) use adit_net::clock::{boottime_ns, realtime};

/// How often the generator is asked until the program ends.
const RANDOM_TRIES: usize = 50;
const RANDOM_PAUSE: Duration = Duration::from_millis(10);

/// The system's generator. It fails only where nothing works any more: then neither does this program.
pub(crate) struct SystemRng(());

pub(crate) fn rng() -> SystemRng {
    SystemRng(())
}

impl TryRng for SystemRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(insist(|| getrandom::SysRng.try_next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(insist(|| getrandom::SysRng.try_next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        insist(|| getrandom::SysRng.try_fill_bytes(bytes));
        Ok(())
    }
}

impl TryCryptoRng for SystemRng {}

fn insist<T>(mut random: impl FnMut() -> Result<T, getrandom::Error>) -> T {
    let mut result = random();
    for _ in 1..RANDOM_TRIES {
        if result.is_ok() {
            break;
        }
        thread::sleep(RANDOM_PAUSE);
        result = random();
    }
    result.unwrap_or_else(|error| {
        // Nobody could be sure any more that what is sent is secret. The interface goes with the process.
        log::error!("ending: the system gives no random numbers ({error}); start again when it does");
        process::exit(1)
    })
}

/// Sets the timer to a moment of [`boottime_ns`]'s clock, or to none.
pub(crate) fn set_timer(timer: &TimerFd, at: Option<Instant>) -> io::Result<()> {
    match at {
        Some(at) => timer.set(at.as_nanos()),
        None => timer.clear(),
    }
}

/// See [`udp::bind`].
pub(crate) fn bind(port: u16, options: &BindOptions) -> Result<Bound, BindError> {
    udp::bind(port, options)
}

/// Sends a train through the socket of `to`'s family, as [`udp::UdpSocket::send`] does; `None` when there is none.
pub(crate) fn send(
    sockets: &Pair,
    to: &SocketAddr,
    from: Option<&LocalAddr>,
    tos: u8,
    train: &[u8],
    stride: usize,
) -> Option<SendReport> {
    Some(sockets.for_addr(to)?.send(to, from, tos, train, stride))
}
