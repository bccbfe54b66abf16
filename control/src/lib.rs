//! The model of a WireGuard configuration, and its spellings.
//!
//! [`Get`] is what a device tells about itself, [`Set`] is a change asked of one. Everything else here
//! spells these two: [`uapi`] is the text protocol of the userspace implementations
//! (<https://www.wireguard.com/xplatform/>), [`netlink`] what the Linux kernel's own implementation speaks, [`conf`] the
//! files of `wg setconf`, [`show`] what `wg show` prints, [`quick`] what `wg-quick` makes of a file, [`check`] what there
//! is to say about one, [`key`] the hexadecimal and base64 forms of keys.
//!
//! Nothing here performs I/O: bytes come in, decisions go out. A change is decoded whole before anybody sees
//! it, so an error in its last line leaves nothing half applied.

#![forbid(unsafe_code)]

pub mod check;
pub mod conf;
mod endpoint_name;
pub mod key;
pub mod model;
pub mod netlink;
pub mod new;
pub mod phone;
mod prefix;
pub mod quick;
pub mod show;
pub mod status;
mod text;
pub mod uapi;
pub mod why;

pub use endpoint_name::EndpointName;
pub use key::PublicKey;
pub use model::{AllowedIpChange, Get, GetPeer, LastHandshake, Set, SetPeer};
pub use prefix::{ParsePrefixError, Prefix};
pub use status::{OffloadState, Status};
pub use text::SecretText;
pub use why::{Reason, Why};
