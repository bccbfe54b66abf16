//! Asking the kernel which way a packet would take.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::time::{TimeVal, TimeValLike};

use super::message::{Message, attributes, ip_of, u32_of};
use super::socket::NetlinkSocket;

/// How long the kernel, which answers at once, may take to answer.
const PATIENCE_MS: i64 = 500;

/// `struct rtmsg`.
const ROUTE_HEADER_LEN: usize = 12;
/// Where in it the type of the route is (`rtm_type`).
const ROUTE_TYPE: usize = 7;
/// The MTU among the metrics (`RTAX_MTU`).
const METRIC_MTU: u16 = 2;

/// The way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index of the interface that packets leave by.
    pub ifindex: u32,
    /// The source address that the kernel would choose, or the one that was asked for.
    pub source: Option<IpAddr>,
    /// The router that they go to first, if it is not the destination itself.
    pub gateway: Option<IpAddr>,
    /// The MTU of the route in bytes, where one is set; else that of the interface holds.
    pub mtu: Option<u32>,
}

/// Route lookups over one socket, in the network namespace that it was opened in.
pub struct RouteLookup(NetlinkSocket);

impl RouteLookup {
    /// Opens the socket in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn open() -> io::Result<Self> {
        let socket = NetlinkSocket::open(NETLINK_ROUTE)?;
        // Who asks may have a packet to send, and must not wait for ever for an answer that was lost.
        // No kernel refuses this; and if one did, all would go well without.
        let _ = setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(PATIENCE_MS));
        Ok(Self(socket))
    }

    /// The way that a packet to `destination` would take now, from `source` if given, with this routing mark (0: none).
    ///
    /// `None` if there is none: no route, a route that forbids, or a source that is not ours.
    ///
    /// # Errors
    ///
    /// None in practice but `ENOBUFS` and `ENOMEM`.
    pub fn route(
        &mut self,
        destination: IpAddr,
        source: Option<IpAddr>,
        fwmark: u32,
    ) -> io::Result<Option<Route>> {
        match self.0.get(request(destination, source, fwmark), read) {
            Err(error) if is_no_route(&error) => Ok(None),
            // A route without an interface forbids.
            result => result.map(Option::flatten),
        }
    }
}

impl std::fmt::Debug for RouteLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RouteLookup").field(&self.0.as_fd()).finish()
    }
}

fn request(destination: IpAddr, source: Option<IpAddr>, fwmark: u32) -> RouteNetlinkMessage {
    let mut route = RouteMessage::default();
    let (family, bits) = match destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    route.header.address_family = family;
    route.header.destination_prefix_length = bits;
    route.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
    if let Some(source) = source {
        route.header.source_prefix_length = bits;
        route.attributes.push(RouteAttribute::Source(RouteAddress::from(source)));
    }
    if fwmark != 0 {
        route.attributes.push(RouteAttribute::Mark(fwmark));
    }
    RouteNetlinkMessage::GetRoute(route)
}

/// A route that was found; `Some(None)` if it is one that forbids.
pub(super) fn read(message: &Message<'_>) -> Option<Option<Route>> {
    if message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let header: &[u8; ROUTE_HEADER_LEN] = message.header()?;
    // IPv4 answers with an error where nothing may pass, IPv6 with a route of such a type.
    if !matches!(
        header[ROUTE_TYPE],
        libc::RTN_UNICAST | libc::RTN_LOCAL | libc::RTN_MULTICAST | libc::RTN_BROADCAST
    ) {
        return Some(None);
    }
    let (mut ifindex, mut source, mut gateway, mut mtu) = (None, None, None, None);
    for (kind, value) in message.attributes(ROUTE_HEADER_LEN) {
        match kind {
            libc::RTA_OIF => ifindex = u32_of(value),
            libc::RTA_GATEWAY => gateway = ip_of(value),
            libc::RTA_PREFSRC => source = ip_of(value),
            // With a source in the question, it comes back as such.
            libc::RTA_SRC => source = source.or_else(|| ip_of(value)),
            libc::RTA_METRICS => {
                mtu = attributes(value)
                    .find_map(|(kind, value)| (kind == METRIC_MTU).then(|| u32_of(value))?);
            }
            _ => {}
        }
    }
    Some(ifindex.map(|ifindex| Route { ifindex, source, gateway, mtu }))
}

/// Unreachable, prohibited, or (`EINVAL`) from an address that is not ours or into a black hole.
fn is_no_route(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::EACCES
                | libc::EINVAL
                | libc::EADDRNOTAVAIL
                | libc::ESRCH
        )
    )
}
