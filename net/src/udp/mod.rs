//! The tunnel's UDP sockets: outer packets, sent and received a train at a time.
//!
//! A *train* is datagrams of equal size (the *stride*), back to back in one buffer, the last one perhaps shorter. That
//! is what `UDP_SEGMENT` sends and what `UDP_GRO` delivers, so one system call moves up to 64 packets. Every offload
//! may be refused, at start or in the middle; the socket then falls back by itself and counts it ([`UdpStats`]).
//!
//! Whitepaper §6.5 (source addresses stick to the address a peer last wrote to) and RFC 6040 (ECN) are served by the
//! ancillary data: each received train says which local address it was sent to and carries its TOS byte, each sent one
//! may name both.
//!
//! | file | is |
//! | --- | --- |
//! | `bind` | v4 and v6 sockets on one port, for one or several workers |
//! | `socket` | one socket, its options and counters |
//! | `recv` | [`RecvBatch`]: `recvmmsg` into reusable slots |
//! | `send` | one train: `sendmsg`, and what to do when the kernel refuses |
//! | `send_all` | several trains: `sendmmsg` |
//! | `gso` | which strides are known to be refused towards whom |
//! | `control`, `addr` | ancillary data and socket addresses as the kernel lays them out |
//! | `sort` | handshake messages to sockets of their own |
//! | `errors` | which errors pass |

mod addr;
mod bind;
mod control;
mod errors;
mod gso;
mod recv;
mod send;
mod send_all;
mod socket;
mod sort;

pub use addr::LocalAddr;
pub use bind::{BindError, BindOptions, Bound, Pair, bind};
pub use errors::{NO_ADDRESS_FAMILY, is_no_room, is_transient};
pub use recv::{Received, RecvBatch, RecvBuffer, SLOT_LEN};
pub use send::{Outbound, SendReport};
pub use socket::{UdpSocket, UdpStats};

/// The largest UDP payload over IPv4 in bytes: 65,535 less an IPv4 header (20) and a UDP header (8).
pub const MAX_UDP_PAYLOAD: usize = 65_507;

/// The most datagrams that one `UDP_SEGMENT` call may carry (`UDP_MAX_SEGMENTS` of kernels before 6.9).
pub const MAX_SEGMENTS: usize = 64;
