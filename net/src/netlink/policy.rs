//! Policy routing: the rules that choose a routing table, and what is in all tables.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::config::{Config, family};
use super::message::{LINK_HEADER_LEN, Message, attributes, ip_of, u32_of};

/// `struct fib_rule_hdr` and `struct rtmsg`.
const HEADER_LEN: usize = 12;
/// The MTU among the metrics (`RTAX_MTU`).
const METRIC_MTU: u16 = 2;
// The attributes of rules (linux/fib_rules.h).
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PAD: u16 = 18;
/// Who made it, which selects nothing.
const FRA_PROTOCOL: u16 = 21;
const FIB_RULE_INVERT: u32 = 2;
const FR_ACT_TO_TBL: u8 = 1;
/// How the kernel spells that nothing is suppressed.
const NOTHING: u32 = u32::MAX;
/// How it spells that all bits of a mark count.
const WHOLE: u32 = u32::MAX;

/// A rule that sends packets to a routing table. What else a rule can ask for cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For IPv6, else for IPv4.
    pub v6: bool,
    /// Its place among the rules. A rule that is added without one comes before those that were added so before.
    pub priority: Option<u32>,
    /// For packets with this mark.
    pub fwmark: Option<u32>,
    /// For all packets but those.
    pub invert: bool,
    /// Where to look.
    pub table: u32,
    /// Routes with prefixes of this length or shorter do not count.
    pub suppress_prefix_len: Option<u32>,
}

/// A route as it stands in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The routing table.
    pub table: u32,
    /// Where it leads, unless it forbids or leads several ways.
    pub ifindex: Option<u32>,
    /// The network that it leads to.
    pub destination: IpAddr,
    /// And how many bits of that count.
    pub prefix_len: u8,
    /// The MTU, where one is set.
    pub mtu: Option<u32>,
    /// Whether the kernel made it by itself, for an address.
    pub is_kernels: bool,
}

impl Config {
    /// The rules of both families that a [`Rule`] says all of, in the order in which they are asked. One that asks for
    /// more, such as a source or an interface, is left out: it is another than the one that would be told.
    ///
    /// # Errors
    ///
    /// None in practice. A family that the kernel does not have has no rules.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RuleMessage::default();
            request.header.family = family;
            let dump =
                self.0.dump(&RouteNetlinkMessage::GetRule(request), |rules: &mut Vec<Rule>, message| {
                    rules.extend(read_rule(message));
                });
            let v6 = family == AddressFamily::Inet6;
            rules.extend(or_no_family(dump)?.into_iter().map(|rule| Rule { v6, ..rule }));
        }
        Ok(rules)
    }

    /// Adds a rule.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is the same at this priority, `EAFNOSUPPORT` or `EOPNOTSUPP` without the family.
    pub fn add_rule(&mut self, rule: &Rule) -> io::Result<()> {
        self.0.change(RouteNetlinkMessage::NewRule(rule_message(rule)), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes one rule away; without a priority, the first that is like it.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none.
    pub fn delete_rule(&mut self, rule: &Rule) -> io::Result<()> {
        // Without a priority the kernel would take the first that asks for at least as much.
        let priority = match rule.priority {
            None => self.priority_of(rule)?,
            given => given,
        };
        self.0.change(RouteNetlinkMessage::DelRule(rule_message(&Rule { priority, ..*rule })), 0)
    }

    fn priority_of(&mut self, rule: &Rule) -> io::Result<Option<u32>> {
        let rules = self.rules()?;
        let found = rules.iter().find(|found| Rule { priority: None, ..**found } == *rule);
        found.map(|found| found.priority).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// Routes a network to an interface in any table, as `ip route add … table …` does.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the route exists, `ENETDOWN` if the interface is down.
    pub fn add_route_in(
        &mut self,
        table: u32,
        ifindex: u32,
        destination: IpAddr,
        prefix_len: u8,
    ) -> io::Result<()> {
        let route = route_in(table, ifindex, destination, prefix_len);
        self.0.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes such a route away.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is none.
    pub fn delete_route_in(
        &mut self,
        table: u32,
        ifindex: u32,
        destination: IpAddr,
        prefix_len: u8,
    ) -> io::Result<()> {
        let route = route_in(table, ifindex, destination, prefix_len);
        self.0.change(RouteNetlinkMessage::DelRoute(route), 0)
    }

    /// What is in all routing tables of both families.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn routes(&mut self) -> io::Result<Vec<Entry>> {
        let mut routes = Vec::new();
        for (family, nowhere) in [
            (AddressFamily::Inet, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            (AddressFamily::Inet6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        ] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let dump =
                self.0.dump(&RouteNetlinkMessage::GetRoute(request), |routes: &mut Vec<Entry>, message| {
                    routes.extend(read_route(message, nowhere));
                });
            routes.extend(or_no_family(dump)?);
        }
        Ok(routes)
    }

    /// The MTU of an interface, in bytes.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none.
    pub fn mtu(&mut self, ifindex: u32) -> io::Result<u32> {
        let mut link = LinkMessage::default();
        link.header.index = ifindex;
        let mtu = self.0.get(RouteNetlinkMessage::GetLink(link), |message| {
            let mut attributes = message.attributes(LINK_HEADER_LEN);
            attributes.find_map(|(kind, value)| (kind == libc::IFLA_MTU).then(|| u32_of(value))?)
        })?;
        mtu.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }
}

/// A kernel without IPv6 has no rules and no routes for it.
fn or_no_family<T>(result: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match result.as_ref().map_err(io::Error::raw_os_error) {
        Err(Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => Ok(Vec::new()),
        _ => result,
    }
}

fn route_in(table: u32, ifindex: u32, destination: IpAddr, prefix_len: u8) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family(destination);
    route.header.destination_prefix_length = prefix_len;
    route.header.table = RouteHeader::RT_TABLE_UNSPEC;
    route.header.protocol = RouteProtocol::Boot;
    route.header.kind = RouteType::Unicast;
    route.header.scope = if destination.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    route.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
    route.attributes.push(RouteAttribute::Oif(ifindex));
    route.attributes.push(RouteAttribute::Table(table));
    route
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = RuleAction::ToTable;
    message.header.flags = if rule.invert { RuleFlags::Invert } else { RuleFlags::empty() };
    message.attributes.push(RuleAttribute::Table(rule.table));
    message.attributes.extend(rule.priority.map(RuleAttribute::Priority));
    message.attributes.extend(rule.fwmark.map(RuleAttribute::FwMark));
    message.attributes.extend(rule.suppress_prefix_len.map(RuleAttribute::SuppressPrefixLen));
    message
}

pub(super) fn read_rule(message: &Message<'_>) -> Option<Rule> {
    let header: &[u8; HEADER_LEN] = message.header()?;
    let [_, destination_len, source_len, tos, table, _, _, action, ..] = *header;
    if [destination_len, source_len, tos, action] != [0, 0, 0, FR_ACT_TO_TBL] {
        return None;
    }
    let flags = u32::from_ne_bytes(*header.last_chunk()?);
    let mut rule = Rule {
        v6: false,
        // The first rule has priority 0, which is not spelled out.
        priority: Some(0),
        fwmark: None,
        invert: flags & FIB_RULE_INVERT != 0,
        table: table.into(),
        suppress_prefix_len: None,
    };
    for (kind, value) in message.attributes(HEADER_LEN) {
        match kind {
            FRA_PRIORITY => rule.priority = u32_of(value),
            FRA_FWMARK => rule.fwmark = u32_of(value),
            FRA_TABLE => rule.table = u32_of(value)?,
            FRA_SUPPRESS_PREFIXLEN => rule.suppress_prefix_len = u32_of(value).filter(|len| *len != NOTHING),
            FRA_FWMASK if u32_of(value) == Some(WHOLE) => {}
            FRA_PROTOCOL | FRA_PAD => {}
            _ => return None,
        }
    }
    Some(rule)
}

/// `nowhere` is how the destination of a default route is spelled, which carries none.
pub(super) fn read_route(message: &Message<'_>, nowhere: IpAddr) -> Option<Entry> {
    if message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let header: &[u8; HEADER_LEN] = message.header()?;
    let mut entry = Entry {
        table: header[4].into(),
        ifindex: None,
        destination: nowhere,
        prefix_len: header[1],
        mtu: None,
        is_kernels: header[5] == libc::RTPROT_KERNEL,
    };
    for (kind, value) in message.attributes(HEADER_LEN) {
        match kind {
            libc::RTA_TABLE => entry.table = u32_of(value)?,
            libc::RTA_OIF => entry.ifindex = u32_of(value),
            libc::RTA_DST => entry.destination = ip_of(value)?,
            libc::RTA_METRICS => {
                entry.mtu = attributes(value)
                    .find_map(|(kind, value)| (kind == METRIC_MTU).then(|| u32_of(value))?);
            }
            _ => {}
        }
    }
    Some(entry)
}
