//! Netlink (RFC 3549): what the kernel says about links, addresses and routes, and the few things to ask of it.
//!
//! Two namespaces matter to a tunnel. Its interface may be moved to another one, and is followed there by
//! [`LinkMonitor`]; its sockets stay where the daemon was started, and [`RouteMonitor`] and [`RouteLookup`] tell there
//! when a pinned source address has been overtaken by a better route.
//!
//! Beside rtnetlink there is [`Generic`] netlink, by which the kernel's own WireGuard is configured.
//!
//! Requests of rtnetlink are built with `netlink-packet-route`; answers are read attribute by attribute, so that an
//! attribute of a future kernel can't make a message unreadable.

mod config;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod generic;
mod link_monitor;
mod message;
mod policy;
mod route_lookup;
mod route_monitor;
mod socket;
mod tun_info;

pub use config::{Config, Link, if_index, if_name};
pub use generic::Generic;
pub use link_monitor::{LinkEvent, LinkMonitor, LinkState, if_index_in};
pub use policy::{Entry, Rule};
pub use route_lookup::{Route, RouteLookup};
pub use route_monitor::RouteMonitor;
pub(crate) use tun_info::tun_info;
