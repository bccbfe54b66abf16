//! Super-packets: many TCP segments or UDP datagrams of one flow under one set of headers.
//!
//! A TUN device with offloads hands them out and takes them in. The tunnel carries ordinary packets, so [`Splitter`]
//! cuts what was read and [`groups`] finds what can be written together. Both are the software twin of what the
//! kernel calls GSO and GRO, and a super-packet that is cut up gives exactly the packets that were joined.

mod coalesce;
mod headers;
mod split;
#[cfg(test)]
mod tests;

pub use coalesce::{Delivery, Group, Groups, MAX_GROUP, groups};
pub use split::{Malformed, Splitter};

/// Longest IP packet and super-packet, in bytes: what a 16-bit length field can state.
pub const MAX_PACKET_LEN: usize = 65_535;
