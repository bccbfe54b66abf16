//! `WG_CMD_SET_DEVICE`: a [`Set`] into messages.

use std::net::{IpAddr, SocketAddr};

use adit_crypto::Secret;

use super::attribute::{HEADER_LEN, Nest, Writer, size};
use super::{AF_INET, AF_INET6, ITEM, allowed_ip, device, peer};
use crate::{AllowedIpChange, SecretText, Set, SetPeer};

/// The length of a message's attributes at most. The kernel would take more, up to what 16 bits of length can say, but
/// it holds up every other change of the network's configuration while it applies one.
const MESSAGE_LEN: usize = 8 << 10;

/// `struct sockaddr_in`.
const SOCKADDR4_LEN: usize = 16;
/// `struct sockaddr_in6`.
const SOCKADDR6_LEN: usize = 28;

/// The most that a peer takes before its allowed IPs.
const PEER_LEN: usize = HEADER_LEN + 2 * size(32) + size(4) + size(SOCKADDR6_LEN) + size(2);
/// The most that a change of an allowed IP takes.
const ALLOWED_IP_LEN: usize = HEADER_LEN + size(2) + size(16) + size(1) + size(4);

/// `EINVAL` of Linux.
const EINVAL: i32 = 22;

/// Spells a change of the device with this index as messages, at least one, to be sent in this order.
///
/// What replaces (all peers, or all allowed IPs of a peer) does so in the first message about it only. A peer that is not
/// to be created is not created by any of its parts.
#[must_use]
pub fn write_set(ifindex: u32, set: &Set) -> Vec<SecretText> {
    let mut messages = Messages::begin(ifindex);
    messages.device(set);
    for peer in &set.peers {
        messages.peer(peer);
    }
    messages.finish()
}

/// What the kernel means by refusing a message of `set` with this positive number of `errno.h`, where the number's own
/// text does not say.
#[must_use]
pub fn explain(set: &Set, errno: i32) -> Option<&'static str> {
    let mut changes = set.peers.iter().flat_map(|peer| &peer.allowed_ips);
    let removes = changes.any(|change| matches!(change, AllowedIpChange::Remove(_)));
    // Unknown attributes are invalid ones to it, and nothing else here can be.
    (errno == EINVAL && removes).then_some(
        "this kernel cannot take a single allowed IP from a peer, which Linux can since version 6.16",
    )
}

struct Messages {
    ifindex: u32,
    complete: Vec<SecretText>,
    current: Writer,
    /// The current message's list of peers, if it has begun.
    peers: Option<Nest>,
}

impl Messages {
    fn begin(ifindex: u32) -> Self {
        Self { ifindex, complete: Vec::new(), current: message(ifindex), peers: None }
    }

    fn finish(mut self) -> Vec<SecretText> {
        self.cut();
        self.complete
    }

    /// Completes the current message and begins the next.
    fn cut(&mut self) {
        let mut complete = std::mem::replace(&mut self.current, message(self.ifindex));
        if let Some(peers) = self.peers.take() {
            complete.close(peers);
        }
        self.complete.push(complete.finish());
    }

    fn has_room(&self, more: usize) -> bool {
        self.current.len() + more <= MESSAGE_LEN
    }

    fn device(&mut self, set: &Set) {
        let out = &mut self.current;
        if set.replace_peers {
            out.put(device::FLAGS, &device::REPLACE_PEERS.to_ne_bytes());
        }
        if let Some(private_key) = &set.private_key {
            put_secret(out, device::PRIVATE_KEY, private_key.as_ref());
        }
        if let Some(port) = set.listen_port {
            out.put(device::LISTEN_PORT, &port.to_ne_bytes());
        }
        if let Some(fwmark) = set.fwmark {
            out.put(device::FWMARK, &fwmark.to_ne_bytes());
        }
    }

    fn peer(&mut self, section: &SetPeer) {
        let mut changes = self.part(section, Part::First, section.allowed_ips.as_slice());
        while !changes.is_empty() {
            self.cut();
            changes = self.part(section, Part::Continued, changes);
        }
    }

    /// Writes a peer with as many of the changes as fit, and returns the others.
    fn part<'a>(
        &mut self,
        section: &SetPeer,
        part: Part,
        changes: &'a [AllowedIpChange],
    ) -> &'a [AllowedIpChange] {
        if !self.has_room(2 * HEADER_LEN + PEER_LEN + ALLOWED_IP_LEN) {
            self.cut();
        }
        if self.peers.is_none() {
            self.peers = Some(self.current.open(device::PEERS));
        }
        let item = self.current.open(ITEM);
        self.current.put(peer::PUBLIC_KEY, section.public_key.as_bytes());
        let rest = if section.remove {
            // Whatever else there was would be done to a peer that goes.
            self.current.put(peer::FLAGS, &peer::REMOVE_ME.to_ne_bytes());
            &[]
        } else {
            put_peer(&mut self.current, section, part);
            self.allowed_ips(changes)
        };
        self.current.close(item);
        rest
    }

    fn allowed_ips<'a>(&mut self, mut changes: &'a [AllowedIpChange]) -> &'a [AllowedIpChange] {
        if changes.is_empty() {
            return changes;
        }
        let list = self.current.open(peer::ALLOWEDIPS);
        while let [change, rest @ ..] = changes
            && self.has_room(ALLOWED_IP_LEN)
        {
            put_allowed_ip(&mut self.current, *change);
            changes = rest;
        }
        self.current.close(list);
        changes
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    First,
    Continued,
}

fn message(ifindex: u32) -> Writer {
    let mut message = Writer::with_capacity(MESSAGE_LEN);
    message.put(device::IFINDEX, &ifindex.to_ne_bytes());
    message
}

/// A peer's attributes but for the key and the allowed IPs.
fn put_peer(out: &mut Writer, section: &SetPeer, part: Part) {
    let first = part == Part::First;
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let flags = flag(section.update_only, peer::UPDATE_ONLY)
        | flag(section.replace_allowed_ips && first, peer::REPLACE_ALLOWEDIPS);
    if flags != 0 {
        out.put(peer::FLAGS, &flags.to_ne_bytes());
    }
    if !first {
        return;
    }
    if let Some(preshared_key) = &section.preshared_key {
        put_secret(out, peer::PRESHARED_KEY, preshared_key.as_ref());
    }
    if let Some(endpoint) = section.endpoint {
        put_endpoint(out, endpoint);
    }
    if let Some(seconds) = section.persistent_keepalive {
        out.put(peer::PERSISTENT_KEEPALIVE_INTERVAL, &seconds.to_ne_bytes());
    }
}

/// Zeros say that there is none.
fn put_secret(out: &mut Writer, kind: u16, secret: Option<&Secret<32>>) {
    let bytes: &[u8; 32] = secret.map_or(&[0; 32], Secret::expose);
    out.put(kind, bytes);
}

/// As `struct sockaddr_in` or `struct sockaddr_in6`, whose port is in network order.
fn put_endpoint(out: &mut Writer, endpoint: SocketAddr) {
    let port = endpoint.port().to_be_bytes();
    match endpoint {
        SocketAddr::V4(v4) => {
            let mut address = [0; SOCKADDR4_LEN];
            address[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            address[2..4].copy_from_slice(&port);
            address[4..8].copy_from_slice(&v4.ip().octets());
            out.put(peer::ENDPOINT, &address);
        }
        SocketAddr::V6(v6) => {
            let mut address = [0; SOCKADDR6_LEN];
            address[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
            address[2..4].copy_from_slice(&port);
            address[8..24].copy_from_slice(&v6.ip().octets());
            address[24..].copy_from_slice(&v6.scope_id().to_ne_bytes());
            out.put(peer::ENDPOINT, &address);
        }
    }
}

fn put_allowed_ip(out: &mut Writer, change: AllowedIpChange) {
    let (prefix, remove) = match change {
        AllowedIpChange::Add(prefix) => (prefix, false),
        AllowedIpChange::Remove(prefix) => (prefix, true),
    };
    let item = out.open(ITEM);
    match prefix.addr() {
        IpAddr::V4(v4) => {
            out.put(allowed_ip::FAMILY, &AF_INET.to_ne_bytes());
            out.put(allowed_ip::IPADDR, &v4.octets());
        }
        IpAddr::V6(v6) => {
            out.put(allowed_ip::FAMILY, &AF_INET6.to_ne_bytes());
            out.put(allowed_ip::IPADDR, &v6.octets());
        }
    }
    out.put(allowed_ip::CIDR_MASK, &[prefix.len()]);
    // Kernels that cannot remove do not know the attribute, so it is there only for them to refuse.
    if remove {
        out.put(allowed_ip::FLAGS, &allowed_ip::REMOVE_ME.to_ne_bytes());
    }
    out.close(item);
}
