//! The few changes to links, addresses and routes that setting up a tunnel takes.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::message::{
    IFLA_INFO_KIND, IFLA_LINKINFO, LINK_HEADER_LEN, Message, attributes, find, ip_of, name_of,
};
use super::socket::NetlinkSocket;

/// `struct ifaddrmsg`.
const ADDRESS_HEADER_LEN: usize = 8;

/// An interface, as people and the kernel call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// Index of the interface called `name` in the network namespace of the calling thread.
///
/// # Errors
///
/// `ENODEV` if there is none.
pub fn if_index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// Name of the interface with that index in the network namespace of the calling thread, if there is one.
#[must_use]
pub fn if_name(index: u32) -> Option<String> {
    nix::net::if_::if_indextoname(index).ok()?.into_string().ok()
}

/// Changes and questions over one socket, in the network namespace that it was opened in.
///
/// Every change needs `CAP_NET_ADMIN` there (`EPERM`) and an interface that exists (`ENODEV`).
pub struct Config(pub(super) NetlinkSocket);

impl Config {
    /// Opens the socket in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn open() -> io::Result<Self> {
        NetlinkSocket::open(NETLINK_ROUTE).map(Self)
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    ///
    /// Those of every change.
    pub fn set_up(&mut self, ifindex: u32, up: bool) -> io::Result<()> {
        let mut link = link(ifindex);
        link.header.change_mask = LinkFlags::Up;
        link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        self.0.change(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Sets the MTU of an interface, in bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the interface can't have it.
    pub fn set_mtu(&mut self, ifindex: u32, mtu: u32) -> io::Result<()> {
        self.set_link(ifindex, LinkAttribute::Mtu(mtu))
    }

    /// Renames an interface, which older kernels allow only while it is down.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `EBUSY`, or `EINVAL` for a name that can't be one.
    pub fn rename(&mut self, ifindex: u32, name: &str) -> io::Result<()> {
        self.set_link(ifindex, LinkAttribute::IfName(name.to_owned()))
    }

    /// Moves an interface to another network namespace. It comes out there down and without addresses.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `netns` is none, `EEXIST` if the name is taken there.
    pub fn move_to(&mut self, ifindex: u32, netns: impl AsFd) -> io::Result<()> {
        self.set_link(ifindex, LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()))
    }

    /// Deletes an interface.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for one that can't be.
    pub fn delete_link(&mut self, ifindex: u32) -> io::Result<()> {
        self.0.change(RouteNetlinkMessage::DelLink(link(ifindex)), 0)
    }

    /// Makes a pair of virtual Ethernet interfaces, the second one in `netns`.
    ///
    /// # Errors
    ///
    /// `EEXIST` if a name is taken, `EOPNOTSUPP` if the kernel has no veth.
    pub fn add_veth(&mut self, name: &str, peer: &str, netns: impl AsFd) -> io::Result<()> {
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.to_owned()));
        other.attributes.push(LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()));
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        self.0.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes an interface of the kernel's own WireGuard, down and without addresses.
    /// [`delete_link`](Self::delete_link) takes it away again.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the name is taken, `EOPNOTSUPP` if the kernel has no WireGuard, `ERANGE` for a name that is too long.
    pub fn add_wireguard(&mut self, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
        self.0.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Gives an interface an address; an IPv6 one without duplicate detection, which would hold it back for seconds.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it has it already.
    pub fn add_address(&mut self, ifindex: u32, ip: IpAddr, prefix_len: u8) -> io::Result<()> {
        let address = address(ifindex, ip, prefix_len);
        self.0.change(RouteNetlinkMessage::NewAddress(address), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes an address from an interface.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` if it does not have it.
    pub fn delete_address(&mut self, ifindex: u32, ip: IpAddr, prefix_len: u8) -> io::Result<()> {
        self.0.change(RouteNetlinkMessage::DelAddress(address(ifindex, ip, prefix_len)), 0)
    }

    /// Routes a network to an interface, in the main table, through `gateway` if there is one.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the route exists, `EINVAL` if `destination` has bits beyond the prefix, `ENETUNREACH` or
    /// `EHOSTUNREACH` if the gateway can't be reached, `ENETDOWN` if the interface is down.
    pub fn add_route(
        &mut self,
        ifindex: u32,
        destination: IpAddr,
        prefix_len: u8,
        gateway: Option<IpAddr>,
    ) -> io::Result<()> {
        let route = route(ifindex, destination, prefix_len, gateway);
        self.0.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes a route away that [`add_route`](Self::add_route) made.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is none.
    pub fn delete_route(
        &mut self,
        ifindex: u32,
        destination: IpAddr,
        prefix_len: u8,
        gateway: Option<IpAddr>,
    ) -> io::Result<()> {
        let route = route(ifindex, destination, prefix_len, gateway);
        self.0.change(RouteNetlinkMessage::DelRoute(route), 0)
    }

    /// The addresses of an interface, both families, with their prefix lengths.
    ///
    /// # Errors
    ///
    /// None in practice; an interface that does not exist has no addresses.
    pub fn addresses(&mut self, ifindex: u32) -> io::Result<Vec<(IpAddr, u8)>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.0.dump(&request, |found: &mut Vec<_>, message| found.extend(read_address(message, ifindex)))
    }

    /// The interfaces of the kernel's own WireGuard, in the kernel's order.
    ///
    /// # Errors
    ///
    /// None in practice; a kernel without WireGuard has no such interfaces.
    pub fn wireguards(&mut self) -> io::Result<Vec<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.0.dump(&request, |found: &mut Vec<_>, message| found.extend(read_wireguard(message)))
    }

    /// The kind of an interface, such as `tun` or `wireguard`, where it is of one.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none.
    pub fn kind(&mut self, ifindex: u32) -> io::Result<Option<String>> {
        self.0.get(RouteNetlinkMessage::GetLink(link(ifindex)), |message| {
            let info = find(message.attributes(LINK_HEADER_LEN), IFLA_LINKINFO)?;
            find(attributes(info), IFLA_INFO_KIND).and_then(name_of)
        })
    }

    fn set_link(&mut self, ifindex: u32, attribute: LinkAttribute) -> io::Result<()> {
        let mut link = link(ifindex);
        link.attributes.push(attribute);
        self.0.change(RouteNetlinkMessage::SetLink(link), 0)
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Config").field(&self.0.as_fd()).finish()
    }
}

/// The interface's address that a message tells, and how many bits its network shares.
pub(super) fn read_address(message: &Message<'_>, ifindex: u32) -> Option<(IpAddr, u8)> {
    let header: &[u8; ADDRESS_HEADER_LEN] = message.header()?;
    let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    if message.kind != libc::RTM_NEWADDR || index != ifindex {
        return None;
    }
    let attribute = |wanted: u16| {
        let mut attributes = message.attributes(ADDRESS_HEADER_LEN);
        attributes.find_map(|(kind, value)| (kind == wanted).then(|| ip_of(value))?)
    };
    // On a point-to-point link, IFA_ADDRESS is the other end; where IFA_LOCAL is missing, it is ours.
    let ip = attribute(libc::IFA_LOCAL).or_else(|| attribute(libc::IFA_ADDRESS))?;
    Some((ip, header[1]))
}

/// The interface that a message tells of, if it is one of the kernel's own WireGuard.
pub(super) fn read_wireguard(message: &Message<'_>) -> Option<Link> {
    let header: &[u8; LINK_HEADER_LEN] = message.header()?;
    let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let attribute = |wanted| find(message.attributes(LINK_HEADER_LEN), wanted);
    let kind = find(attributes(attribute(IFLA_LINKINFO)?), IFLA_INFO_KIND).and_then(name_of);
    let is_wireguard = message.kind == libc::RTM_NEWLINK && kind.as_deref() == Some("wireguard");
    let name = is_wireguard.then(|| attribute(libc::IFLA_IFNAME).and_then(name_of))??;
    Some(Link { index, name })
}

fn link(ifindex: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    link
}

fn address(ifindex: u32, ip: IpAddr, prefix_len: u8) -> AddressMessage {
    let mut address = AddressMessage::default();
    address.header.index = ifindex;
    address.header.prefix_len = prefix_len;
    address.header.family = family(ip);
    address.header.scope = if ip.is_loopback() { AddressScope::Host } else { AddressScope::Universe };
    if ip.is_ipv6() {
        address.header.flags = AddressHeaderFlags::Nodad;
    }
    address.attributes.push(AddressAttribute::Local(ip));
    address.attributes.push(AddressAttribute::Address(ip));
    address
}

fn route(ifindex: u32, destination: IpAddr, prefix_len: u8, gateway: Option<IpAddr>) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family(destination);
    route.header.destination_prefix_length = prefix_len;
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Static;
    route.header.kind = RouteType::Unicast;
    // IPv4 distinguishes what is on the link; IPv6 has no scopes for routes.
    let on_link = gateway.is_none() && destination.is_ipv4();
    route.header.scope = if on_link { RouteScope::Link } else { RouteScope::Universe };
    route.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
    route.attributes.push(RouteAttribute::Oif(ifindex));
    if let Some(gateway) = gateway {
        route.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
    }
    route
}

pub(super) fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
