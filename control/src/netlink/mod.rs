//! Generic netlink, the kernel's own WireGuard: `linux/wireguard.h` of its headers is the documentation.
//!
//! The family is [`FAMILY`], its commands are [`GET_DEVICE`] and [`SET_DEVICE`]. What is spelled here are the attributes
//! that follow the generic netlink header; whoever owns the socket puts the headers before them.
//!
//! - [`get_request`] asks for a device. The answer are several messages, a peer with many allowed IPs in several of them:
//!   [`Reader`] makes one [`Get`](crate::Get) of them.
//! - [`write_set`] spells a [`Set`](crate::Set) as one or several messages, to be sent one after the other. The kernel
//!   applies each from its beginning; where one is refused, what came before has been done. [`explain`] knows of a
//!   refusal what the kernel's number does not say.
//!
//! A device goes by its index rather than its name, so that what belongs together meets one device, renamed or not.

mod attribute;
mod get;
mod set;

use std::error::Error;
use std::fmt;

pub use get::{Reader, get_request};
pub use set::{explain, write_set};

/// The name of the generic netlink family (`WG_GENL_NAME`).
pub const FAMILY: &str = "wireguard";
/// The version of the family (`WG_GENL_VERSION`).
pub const VERSION: u8 = 1;
/// The command that asks for a device, to be sent as a dump (`WG_CMD_GET_DEVICE`).
pub const GET_DEVICE: u8 = 0;
/// The command that changes a device (`WG_CMD_SET_DEVICE`).
pub const SET_DEVICE: u8 = 1;

/// What the kernel answered is not what `linux/wireguard.h` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kernel's answer makes no sense")
    }
}

impl Error for Malformed {}

/// `enum wgdevice_attribute`.
mod device {
    pub const IFINDEX: u16 = 1;
    pub const PRIVATE_KEY: u16 = 3;
    pub const FLAGS: u16 = 5;
    pub const LISTEN_PORT: u16 = 6;
    pub const FWMARK: u16 = 7;
    pub const PEERS: u16 = 8;

    pub const REPLACE_PEERS: u32 = 1;
}

/// `enum wgpeer_attribute`.
mod peer {
    pub const PUBLIC_KEY: u16 = 1;
    pub const PRESHARED_KEY: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const ENDPOINT: u16 = 4;
    pub const PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
    pub const LAST_HANDSHAKE_TIME: u16 = 6;
    pub const RX_BYTES: u16 = 7;
    pub const TX_BYTES: u16 = 8;
    pub const ALLOWEDIPS: u16 = 9;

    pub const REMOVE_ME: u32 = 1;
    pub const REPLACE_ALLOWEDIPS: u32 = 2;
    pub const UPDATE_ONLY: u32 = 4;
}

/// `enum wgallowedip_attribute`.
mod allowed_ip {
    pub const FAMILY: u16 = 1;
    pub const IPADDR: u16 = 2;
    pub const CIDR_MASK: u16 = 3;
    pub const FLAGS: u16 = 4;

    pub const REMOVE_ME: u32 = 1;
}

/// The items of a list have no types of their own.
const ITEM: u16 = 0;

/// `AF_INET` of Linux.
const AF_INET: u16 = 2;
/// `AF_INET6` of Linux.
const AF_INET6: u16 = 10;
