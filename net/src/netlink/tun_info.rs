//! How many queues of a TUN device are taken.
//!
//! The kernel refuses a second opener of a device with one queue, but lets anybody join one with several, and would
//! then spread the packets between the two. So whoever wants such a device for itself has to count first.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::message::{IFLA_INFO_KIND, IFLA_LINKINFO, LINK_HEADER_LEN, Message, attributes, find, u32_of};
use super::socket::NetlinkSocket;

// linux/if_link.h
const IFLA_INFO_DATA: u16 = 2;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
const IFLA_TUN_NUM_QUEUES: u16 = 8;
const IFLA_TUN_NUM_DISABLED_QUEUES: u16 = 9;

/// What rtnetlink says about a TUN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunInfo {
    /// Whether several descriptors may be attached.
    pub multi_queue: bool,
    /// Attached descriptors, active or not; `None` if the kernel does not tell (before Linux 4.20), or does not
    /// because the device has but one queue.
    pub queues: Option<u32>,
}

/// Asks about the interface `name` of the calling thread's network namespace; `None` if it is no TUN device.
pub(crate) fn tun_info(name: &str) -> io::Result<Option<TunInfo>> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    NetlinkSocket::open(NETLINK_ROUTE)?.get(RouteNetlinkMessage::GetLink(link), read)
}

pub(super) fn read(message: &Message<'_>) -> Option<TunInfo> {
    let info = find(message.attributes(LINK_HEADER_LEN), IFLA_LINKINFO)?;
    if !find(attributes(info), IFLA_INFO_KIND)?.starts_with(b"tun") {
        return None;
    }
    // Missing before Linux 4.16; attaching then shows what the device is.
    let data = find(attributes(info), IFLA_INFO_DATA).unwrap_or_default();
    let count = |wanted| find(attributes(data), wanted).and_then(u32_of);
    let disabled = count(IFLA_TUN_NUM_DISABLED_QUEUES).unwrap_or(0);
    Some(TunInfo {
        multi_queue: find(attributes(data), IFLA_TUN_MULTI_QUEUE).is_some_and(|value| value != [0]),
        queues: count(IFLA_TUN_NUM_QUEUES).map(|active| active.saturating_add(disabled)),
    })
}
