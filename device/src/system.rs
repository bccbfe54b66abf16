//! What the engine has of the system besides packets: clocks, randomness, and sockets as far as the slow path and the
//! control thread use them. The rest of the crate calls this `outside`; in tests that is the simulation's
//! (`sim/outside.rs`), which puts a virtual clock, a seeded generator and a virtual network in their place.

use std::io;
use std::net::SocketAddr;

use adit_net::poll::TimerFd;
use adit_net::udp::{self, BindError, BindOptions, Bound, LocalAddr, Pair, SendReport};
use adit_proto::time::Instant;
use rand_core::UnwrapErr;

pub(crate) use adit_net::clock::{boottime_ns, realtime};

/// The system's generator. It fails only where nothing works any more.
pub(crate) type SystemRng = UnwrapErr<getrandom::SysRng>;

pub(crate) fn rng() -> SystemRng {
    UnwrapErr(getrandom::SysRng)
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
