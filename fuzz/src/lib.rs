//! What several targets need: dumber versions of what they ask.

use std::net::SocketAddr;

use adit_control::{AllowedIpChange, Get, GetPeer, Prefix, Set, SetPeer};
use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// A copy that ends where its allocation does, so that AddressSanitizer sees what is touched beyond.
pub fn exact(bytes: &[u8]) -> Box<[u8]> {
    bytes.to_vec().into_boxed_slice()
}

/// The Internet's checksum (RFC 1071), not complemented: word by word, carry by carry.
pub fn ones_complement(parts: &[&[u8]]) -> u16 {
    let mut total = 0u16;
    for pair in parts.concat().chunks(2) {
        let word = u16::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u16::from);
        let (sum, carry) = total.overflowing_add(word);
        total = sum + u16::from(carry);
    }
    total
}

/// What TCP and UDP sum up before their own header, of a packet without extension headers whose transport header is at
/// `start`.
pub fn pseudo_header(packet: &[u8], start: usize) -> Vec<u8> {
    let (addresses, protocol) =
        if packet[0] >> 4 == 4 { (&packet[12..20], packet[9]) } else { (&packet[8..40], packet[6]) };
    let mut pseudo = addresses.to_vec();
    pseudo.extend([0, protocol]);
    pseudo.extend(((packet.len() - start) as u16).to_be_bytes());
    pseudo
}

/// Cuts `bytes` in places that `cuts` say.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) * (bytes.len() + 1) / 256).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// `len` bytes, or what there is.
pub fn some<'a>(input: &mut Unstructured<'a>, len: usize) -> Result<&'a [u8]> {
    let len = len.min(input.len());
    input.bytes(len)
}

/// The state of a device that was empty before `set`, applied line by line. Who gets an allowed IP takes it from others.
pub fn applied(set: &Set) -> Get {
    let mut get = Get {
        private_key: set.private_key.clone().flatten(),
        listen_port: set.listen_port.unwrap_or_default(),
        fwmark: set.fwmark.unwrap_or_default(),
        peers: Vec::new(),
    };
    for section in &set.peers {
        apply_section(&mut get.peers, section);
    }
    get
}

fn apply_section(peers: &mut Vec<GetPeer>, section: &SetPeer) {
    let known = peers.iter().position(|peer| peer.public_key == section.public_key);
    if section.remove {
        if let Some(at) = known {
            peers.remove(at);
        }
        return;
    }
    let at = match known {
        Some(at) => at,
        None if section.update_only => return,
        None => {
            peers.push(GetPeer::new(section.public_key));
            peers.len() - 1
        }
    };
    let peer = &mut peers[at];
    if let Some(key) = &section.preshared_key {
        peer.preshared_key.clone_from(key);
    }
    peer.endpoint = section.endpoint.or(peer.endpoint);
    peer.persistent_keepalive = section.persistent_keepalive.unwrap_or(peer.persistent_keepalive);
    if section.replace_allowed_ips {
        peer.allowed_ips.clear();
    }
    for change in &section.allowed_ips {
        match change {
            AllowedIpChange::Add(prefix) => {
                peers.iter_mut().for_each(|peer| peer.allowed_ips.retain(|ip| ip != prefix));
                peers[at].allowed_ips.push(*prefix);
            }
            AllowedIpChange::Remove(prefix) => peers[at].allowed_ips.retain(|ip| ip != prefix),
        }
    }
}

/// What of an endpoint the files and messages carry.
pub fn without_flow(endpoint: SocketAddr) -> SocketAddr {
    match endpoint {
        SocketAddr::V6(mut v6) => {
            v6.set_flowinfo(0);
            SocketAddr::V6(v6)
        }
        v4 => v4,
    }
}

/// Whether `prefix` has no bit beyond its length, asked bit by bit.
pub fn is_canonical(prefix: &Prefix) -> bool {
    let (bits, all) = match prefix.addr() {
        std::net::IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        std::net::IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    prefix.len() <= all && (0..all - prefix.len()).all(|bit| bits >> bit & 1 == 0)
}
