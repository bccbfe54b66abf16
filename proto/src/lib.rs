//! WireGuard's protocol without I/O.
//!
//! The whole of the whitepaper (<https://www.wireguard.com/papers/wireguard.pdf>) as plain state machines: time,
//! randomness and buffers are passed in, decisions come out. Nothing here opens a socket, starts a thread, reads a clock
//! or draws a random number on its own, so that everything replays exactly under a virtual clock and a seeded generator.
//!
//! One file per concept, in the order of a connection's life:
//!
//! | file | whitepaper |
//! | --- | --- |
//! | [`message`] | 5.4: the four messages |
//! | [`handshake`] (with `noise`) | 5.4.1–5.4.5: Noise_IKpsk2 |
//! | [`cookie`] | 5.3, 5.4.4, 5.4.7: MACs, cookies, load |
//! | [`ratelimit`] | 5.3: handshakes per source |
//! | [`keypair`] | 5.4.5, 5.4.6: transport keys, nonces |
//! | [`replay`] | 5.4.6: the sliding window |
//! | [`session`] (with [`timers`], [`staged`]) | 6: rotation, timers, queueing |
//! | [`allowed_ips`] | 2: cryptokey routing |
//! | [`index`] | 5.4: sender and receiver indices |
//!
//! Only what the AEAD has authenticated may move state: [`keypair::Opened`] can be made by nothing but
//! [`keypair::Keypair::open_train`], and [`session::Session::finish_recv`] takes nothing else.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod allowed_ips;
pub mod cookie;
pub mod dh;
pub mod handshake;
pub mod index;
pub mod keypair;
pub mod limits;
pub mod message;
mod noise;
pub mod ratelimit;
pub mod replay;
pub mod session;
pub mod staged;
pub mod time;
pub mod timers;

// Also for the fuzz target of the state machine.
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
