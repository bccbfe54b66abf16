//! The Linux system calls of a userspace WireGuard: TUN devices, UDP sockets, netlink, polling, processes.
//!
//! The only crate besides the cryptographic backends where `unsafe` is allowed; every block says why it is sound.
#![allow(unsafe_code)]

pub mod checksum;
pub mod child;
pub mod clock;
pub mod clock_watch;
pub mod dns;
pub mod netlink;
pub mod netns;
pub mod packet;
pub mod ping;
pub mod poll;
pub mod private_file;
pub mod process;
pub mod resolve;
pub mod segment;
pub mod tcp;
pub mod terminal;
pub mod tun;
pub mod udp;
pub mod unix;
