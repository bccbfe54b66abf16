//! The engine: a TUN device on one side, UDP sockets on the other, and between them the protocol.
//!
//! Three kinds of threads share `Device` (`state.rs`):
//!
//! - **workers** move packets: TUN to UDP and back (`worker/`); each has sockets and TUN queues of its own,
//! - the **slow path** does what takes long or waits for a moment: handshakes and timers (`slow_path.rs`),
//! - the **control** thread, the caller of [`Engine::run`], applies configurations, follows the interface and the
//!   routes, serves the UAPI socket and ends it all (`control.rs`).
//!
//! Locks, in the order in which they may be held together: a peer's name or handshake, a peer's session, then one of the
//! index table, the deadlines and the device's key. The routing table's and the peer map's are not held together with
//! these. On the data path none is held across a system call, but for setting the timer to a deadline that became the
//! earliest and for looking up a route after a change of the routes; none across cryptography but the handshake's own and,
//! for the hashes of a cookie, the checker's.
#![forbid(unsafe_code)]

mod configure;
mod control;
mod deadlines;
mod endpoint;
mod flush;
mod handshakes;
mod key_log;
mod link;
mod lock;
#[cfg(all(test, feature = "loom"))]
mod models;
mod names;
mod peer;
mod queue;
pub mod rush;
mod send;
#[cfg(test)]
mod sim;
mod slow_path;
mod state;
mod status;
mod sync;
mod system;
mod trouble;
pub mod uapi;
mod ways;
mod why;
mod worker;

use std::num::NonZeroUsize;

use adit_net::tun::QUEUES_OF_A_HOST;

#[cfg(test)]
use sim::outside;
#[cfg(not(test))]
use system as outside;

pub use control::{Engine, Options, StartError, UdpOffloads};
pub use key_log::{KeyLogError, KeyLogFile};
pub use worker::{MAX_WORKERS, halves};

/// What the packet buffers of an engine with so many workers take at most, in bytes: 2.2 MiB for each, and 2.1 MiB for what is no
/// data. Pages that no train was long enough to reach are never touched. Besides, a peer has up to 1 MiB staged while it has no
/// key, all peers together 64 MiB, and the handshake queue takes up to 1.2 MiB.
#[must_use]
pub fn buffer_bytes(workers: NonZeroUsize) -> usize {
    workers.get() * worker::BUFFER_BYTES + worker::GATE_BYTES
}

/// How many queues the TUN device of an engine with so many workers should have.
#[must_use]
pub fn tun_queues(workers: NonZeroUsize) -> usize {
    workers.get() * QUEUES_OF_A_HOST
}
