//! Everything that reads what the kernel sends, for the fuzz target.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::link_monitor::{LinkState, News};
use super::message::{attributes, find, ip_of, messages, name_of, u32_of};
use super::{LinkEvent, config, policy, route_lookup, tun_info};

/// How much there was in a datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub messages: usize,
    pub attributes: usize,
    pub events: usize,
}

/// Has every reader read a datagram, whomever it is meant for.
pub fn read(datagram: &[u8], ifindex: u32) -> Found {
    let mut found = Found::default();
    let mut link = LinkState { name: String::new(), up: false, mtu: 0 };
    for message in messages(datagram) {
        found.messages += 1;
        let _ = (message.acknowledgement(), message.end(), message.flags, message.sequence);
        // What rtnetlink and generic netlink put before the attributes.
        for header_len in [4, 8, 12, 16] {
            for (kind, value) in message.attributes(header_len) {
                found.attributes += 1;
                let _ = (u32_of(value), name_of(value), ip_of(value), find(attributes(value), kind));
            }
        }
        let nowhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let _ = nowhere.map(|nowhere| policy::read_route(&message, nowhere));
        let _ = (policy::read_rule(&message), route_lookup::read(&message), tun_info::read(&message));
        let _ = (config::read_address(&message, ifindex), config::read_wireguard(&message));
        if let Some(news) = News::read(&message, ifindex) {
            let is_gone = matches!(news, News::Gone);
            let mut events = Vec::new();
            link.apply(news, &mut events);
            assert!(events.len() <= 3 && events.contains(&LinkEvent::Gone) == is_gone);
            found.events += events.len();
        }
    }
    found
}
