//! The laboratory: network namespaces, daemons under test, their peers and probes.
//!
//! For tests only. Everything here panics with an account of what failed instead of returning errors, as a test would,
//! and takes back what it made when dropped, also while a panic unwinds: namespaces, processes, interfaces, sockets.
//!
//! | module | gives |
//! | --- | --- |
//! | [`require`](mod@require) | what the machine must offer, and skips that are counted |
//! | [`cmd`] | commands with a time limit, and background processes |
//! | [`netns`] | namespaces, the cables between them, threads inside them |
//! | [`engine`] | a userspace WireGuard daemon on an interface |
//! | [`uapi`] | its configuration socket, driven byte by byte |
//! | [`wg`] | keys, and what `wg show … dump` says |
//! | [`pair`] | two engines, two namespaces, one cable |
//! | [`probe`] | ping, iperf3, tcpdump |
//! | [`beat`] | a steady flow of numbered datagrams |
//! | [`dice`], [`sets`] | random configurations that a seed decides |
//! | [`flood`] | handshake initiations by the thousand |
//! | [`barrage`] | whatever costs an engine something, by the million, from forged addresses |
//! | [`refusal`] | a kernel that refuses system calls |
//! | [`faults`] | calls of a running program that fail for a while, and which it makes |
//! | [`debian`] | a small Debian to install packages in |
//! | [`vm`] | the Linux kernel's own WireGuard, in a virtual machine |

pub mod barrage;
pub mod beat;
pub mod cmd;
pub mod debian;
pub mod dice;
pub mod engine;
pub mod faults;
pub mod flood;
mod image;
pub mod netns;
pub mod pair;
pub mod probe;
pub mod refusal;
pub mod require;
pub mod sets;
pub mod uapi;
pub mod vm;
pub mod wg;

pub use beat::{Beat, Pace};
pub use cmd::{Background, Cmd, Output};
pub use debian::Debian;
pub use dice::Dice;
pub use engine::{Engine, Program};
pub use image::Image;
pub use netns::Netns;
pub use pair::{Outer, Pair, Side};
pub use require::{Skip, require, skip};
pub use uapi::Uapi;
pub use vm::Vm;

use std::time::{Duration, Instant};

/// Asks `done` every few milliseconds until it says yes or `limit` has passed; returns its last answer.
pub fn within(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `n` seconds.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
