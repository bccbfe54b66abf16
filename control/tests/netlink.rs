//! Generic netlink, spelled and read, against another reading of `linux/wireguard.h`: a tree of attributes.

mod common;

use std::net::{IpAddr, SocketAddr};

use adit_control::netlink::{Malformed, Reader, explain, get_request, write_set};
use adit_control::{AllowedIpChange, Get, GetPeer, Prefix, PublicKey, SecretText, Set, SetPeer};
use adit_crypto::Secret;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const IFINDEX: u32 = 0x0102_0304;
/// What a message may be, headers not counted.
const LIMIT: usize = 8192;

/// An attribute of attributes, or one with a value.
enum Tree {
    Nest(u16, Vec<Tree>),
    Leaf(u16, Vec<u8>),
}
use Tree::{Leaf, Nest};

impl Tree {
    fn bytes(&self) -> Vec<u8> {
        let (kind, value) = match self {
            Leaf(kind, value) => (*kind, value.clone()),
            Nest(kind, items) => (kind | 0x8000, items.iter().flat_map(Tree::bytes).collect()),
        };
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

/// The attributes in `bytes`, which have to be whole, padded with zeros, and marked as nests if they are in `nests`.
fn split<'a>(mut bytes: &'a [u8], nests: &[u16]) -> Vec<(u16, &'a [u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]);
        assert_eq!(kind & 0x8000 != 0, nests.contains(&(kind & 0x3fff)), "attribute {kind:#x}");
        let (attribute, rest) = bytes.split_at(length.next_multiple_of(4));
        assert!(attribute[length..].iter().all(|byte| *byte == 0));
        found.push((kind & 0x3fff, &attribute[4..length]));
        bytes = rest;
    }
    found
}

fn number<const N: usize>(value: &[u8]) -> [u8; N] {
    value.try_into().unwrap_or_else(|_| panic!("{value:?} has not {N} bytes"))
}

fn key(value: &[u8]) -> Option<Secret<32>> {
    Some(number(value)).filter(|key| *key != [0; 32]).map(Secret::new)
}

fn ip(value: &[u8]) -> IpAddr {
    if value.len() == 4 { number::<4>(value).into() } else { number::<16>(value).into() }
}

/// Reads messages as the kernel would, peers that go on in the next message put together.
fn read_set(messages: &[SecretText]) -> Set {
    let mut set = Set::default();
    for (at, message) in messages.iter().enumerate() {
        let mut peers = Vec::new();
        for (kind, value) in split(message, &[8]) {
            match kind {
                1 => assert_eq!(u32::from_ne_bytes(number(value)), IFINDEX),
                8 => peers = split(value, &[0]).into_iter().map(|(_, item)| read_peer(item)).collect(),
                _ => assert_eq!(at, 0, "attribute {kind} is said once"),
            }
            match kind {
                3 => set.private_key = Some(key(value)),
                5 => set.replace_peers = u32::from_ne_bytes(number(value)) == 1,
                6 => set.listen_port = Some(u16::from_ne_bytes(number(value))),
                7 => set.fwmark = Some(u32::from_ne_bytes(number(value))),
                _ => {}
            }
        }
        let same = peers.first().zip(set.peers.last()).is_some_and(|(a, b)| a.public_key == b.public_key);
        if same {
            let SetPeer { update_only, allowed_ips, .. } = peers.remove(0);
            let whole = set.peers.last_mut().unwrap();
            assert_eq!(update_only, whole.update_only);
            assert!(!allowed_ips.is_empty());
            whole.allowed_ips.extend(allowed_ips);
        }
        set.peers.extend(peers);
    }
    set
}

fn read_peer(item: &[u8]) -> SetPeer {
    let attributes = split(item, &[9]);
    assert_eq!(attributes[0].0, 1, "the key comes first");
    let mut peer = SetPeer::new(PublicKey::new(number(attributes[0].1)));
    for (kind, value) in &attributes[1..] {
        match kind {
            2 => peer.preshared_key = Some(key(value)),
            3 => {
                let flags = u32::from_ne_bytes(number(value));
                assert!((1..8).contains(&flags));
                peer.remove = flags & 1 != 0;
                peer.replace_allowed_ips = flags & 2 != 0;
                peer.update_only = flags & 4 != 0;
            }
            4 => {
                let port = u16::from_be_bytes(number(&value[2..4]));
                peer.endpoint = Some(match (value[..2].try_into().map(u16::from_ne_bytes), value.len()) {
                    (Ok(2), 16) => SocketAddr::new(ip(&value[4..8]), port),
                    (Ok(10), 28) => {
                        let mut endpoint = SocketAddr::new(ip(&value[8..24]), port);
                        let SocketAddr::V6(v6) = &mut endpoint else { panic!("not IPv6") };
                        v6.set_scope_id(u32::from_ne_bytes(number(&value[24..])));
                        endpoint
                    }
                    other => panic!("no address: {other:?}"),
                });
            }
            5 => peer.persistent_keepalive = Some(u16::from_ne_bytes(number(value))),
            9 => {
                peer.allowed_ips =
                    split(value, &[0]).into_iter().map(|(_, item)| read_change(item)).collect();
            }
            _ => panic!("attribute {kind}"),
        }
    }
    peer
}

fn read_change(item: &[u8]) -> AllowedIpChange {
    let attributes = split(item, &[]);
    let value = |wanted| attributes.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let addr = ip(value(2).unwrap());
    assert_eq!(u16::from_ne_bytes(number(value(1).unwrap())), if addr.is_ipv4() { 2 } else { 10 });
    let prefix = Prefix::new(addr, value(3).unwrap()[0]).unwrap();
    match value(4).map(|flags| u32::from_ne_bytes(number(flags))) {
        None => AllowedIpChange::Add(prefix),
        Some(1) => AllowedIpChange::Remove(prefix),
        Some(other) => panic!("flags {other}"),
    }
}

/// What is said of a section that removes, and of endpoints to the kernel, which knows no names.
fn essence(set: &Set) -> Set {
    let mut set = set.without_endpoint_names();
    for peer in set.peers.iter_mut().filter(|peer| peer.remove) {
        *peer = SetPeer { remove: true, ..SetPeer::new(peer.public_key) };
    }
    set
}

/// Some peers get more allowed IPs than a message holds.
fn large_set() -> impl Strategy<Value = Set> {
    let many = vec((any::<Index>(), common::prefix(), 0..700_u128), 0..4);
    (common::set(), many).prop_map(|(mut set, many)| {
        for (whose, prefix, count) in many {
            if let Some(last) = set.peers.len().checked_sub(1) {
                let IpAddr::V6(base) = "fd00::".parse().unwrap() else { unreachable!() };
                let more = (0..count).map(|n| Prefix::host(IpAddr::V6((base.to_bits() + n).into())));
                let peer = &mut set.peers[whose.index(last + 1)];
                peer.allowed_ips.extend(more.chain([prefix]).map(AllowedIpChange::Add));
            }
        }
        set
    })
}

proptest! {
    #[test]
    fn sets_say_all_that_is_to_be_said(set in common::set()) {
        let messages = write_set(IFINDEX, &set);
        prop_assert_eq!(messages.len(), 1);
        prop_assert_eq!(read_set(&messages), essence(&set));
    }

    #[test]
    fn large_sets_are_cut(set in large_set()) {
        let messages = write_set(IFINDEX, &set);
        prop_assert!(messages.iter().all(|message| message.len() <= LIMIT));
        // Each is filled: a peer and the next allowed IP would not have fitted.
        let full = messages.iter().rev().skip(1).all(|message| message.len() > LIMIT - 200);
        prop_assert!(full, "{:?}", messages);
        prop_assert_eq!(read_set(&messages), essence(&set));
    }
}

#[test]
fn nothing_to_change_is_still_a_question_whether_there_is_such_a_device() {
    let messages = write_set(IFINDEX, &Set::default());
    assert_eq!(messages.len(), 1);
    assert_eq!(&*messages[0], &*get_request(IFINDEX));
    assert_eq!(&*messages[0], Leaf(1, IFINDEX.to_ne_bytes().to_vec()).bytes());
}

#[test]
fn many_peers_take_many_messages() {
    let peers = (0..2000_u32).map(|n| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        SetPeer { preshared_key: Some(Some(Secret::new([7; 32]))), ..SetPeer::new(PublicKey::new(key)) }
    });
    let set = Set { replace_peers: true, private_key: Some(None), peers: peers.collect(), ..Set::default() };
    let messages = write_set(IFINDEX, &set);
    assert!(messages.len() > 10 && messages.len() < 30, "{}", messages.len());
    assert_eq!(read_set(&messages), set);
}

#[test]
fn the_only_refusal_that_needs_words() {
    let (einval, eperm) = (22, 1);
    let prefix = "10.0.0.0/8".parse().unwrap();
    let with = |change| {
        let peer = SetPeer { allowed_ips: vec![change], ..SetPeer::new(PublicKey::new([1; 32])) };
        Set { peers: vec![peer], ..Set::default() }
    };
    assert!(explain(&with(AllowedIpChange::Remove(prefix)), einval).is_some());
    assert!(explain(&with(AllowedIpChange::Remove(prefix)), eperm).is_none());
    assert!(explain(&with(AllowedIpChange::Add(prefix)), einval).is_none());
}

fn endpoint_tree(endpoint: SocketAddr) -> Tree {
    let port = endpoint.port().to_be_bytes();
    let bytes = match endpoint {
        SocketAddr::V4(v4) => {
            [&2_u16.to_ne_bytes()[..], &port[..], &v4.ip().octets()[..], &[0; 8][..]].concat()
        }
        SocketAddr::V6(v6) => {
            let scope = v6.scope_id().to_ne_bytes();
            [&10_u16.to_ne_bytes()[..], &port[..], &[0; 4][..], &v6.ip().octets()[..], &scope[..]].concat()
        }
    };
    Leaf(4, bytes)
}

fn allowed_ip_tree(prefix: Prefix) -> Tree {
    let (family, octets) = match prefix.addr() {
        IpAddr::V4(v4) => (2_u16, v4.octets().to_vec()),
        IpAddr::V6(v6) => (10, v6.octets().to_vec()),
    };
    Nest(0, vec![Leaf(1, family.to_ne_bytes().to_vec()), Leaf(2, octets), Leaf(3, vec![prefix.len()])])
}

fn secret_tree(kind: u16, secret: Option<&Secret<32>>) -> Tree {
    Leaf(kind, secret.map_or([0; 32], |secret| *secret.expose()).to_vec())
}

/// A peer as the kernel tells it: all but more allowed IPs in the first part.
fn peer_tree(peer: &GetPeer, first: bool, allowed_ips: &[Prefix]) -> Tree {
    let mut items = vec![Leaf(1, peer.public_key.as_bytes().to_vec())];
    if first {
        let (seconds, nanoseconds) = peer.last_handshake.unwrap_or_default();
        let time = [(seconds as i64).to_ne_bytes(), i64::from(nanoseconds).to_ne_bytes()].concat();
        items.extend([
            secret_tree(2, peer.preshared_key.as_ref()),
            Leaf(6, time),
            Leaf(5, peer.persistent_keepalive.to_ne_bytes().to_vec()),
            Leaf(8, peer.tx_bytes.to_ne_bytes().to_vec()),
            Leaf(7, peer.rx_bytes.to_ne_bytes().to_vec()),
            Leaf(10, 1_u32.to_ne_bytes().to_vec()),
        ]);
        items.extend(peer.endpoint.map(endpoint_tree));
    }
    items.push(Nest(9, allowed_ips.iter().copied().map(allowed_ip_tree).collect()));
    Nest(0, items)
}

/// Messages that tell `get`: a new one wherever `cuts` asks for it, before a peer or between its allowed IPs.
fn tell(get: &Get, mut cuts: impl Iterator<Item = bool>) -> Vec<Vec<u8>> {
    let mut cut = || cuts.next().unwrap_or(false);
    let mut messages = Vec::new();
    let mut peers = Vec::new();
    for peer in &get.peers {
        let (mut first, mut rest) = (true, &peer.allowed_ips[..]);
        if cut() {
            messages.push(std::mem::take(&mut peers));
        }
        while !rest.is_empty() && cut() {
            peers.push(peer_tree(peer, first, &rest[..1]));
            messages.push(std::mem::take(&mut peers));
            (first, rest) = (false, &rest[1..]);
        }
        if first || !rest.is_empty() {
            peers.push(peer_tree(peer, first, rest));
        }
    }
    messages.push(peers);
    let with_device = messages.into_iter().enumerate().map(|(at, peers)| {
        let mut items = vec![Leaf(2, b"wg0\0".to_vec())];
        if at == 0 {
            items.extend([Leaf(6, get.listen_port.to_ne_bytes().to_vec()), Leaf(1, vec![1, 0, 0, 0])]);
            items.push(Leaf(7, get.fwmark.to_ne_bytes().to_vec()));
            items.extend(get.private_key.as_ref().map(|key| secret_tree(3, Some(key))));
            items.extend(get.public_key().map(|key| Leaf(4, key.as_bytes().to_vec())));
        }
        items.push(Nest(8, peers));
        items.iter().flat_map(Tree::bytes).collect()
    });
    with_device.collect()
}

fn read(messages: &[Vec<u8>]) -> Result<Get, Malformed> {
    let mut reader = Reader::default();
    for message in messages {
        reader.message(message);
    }
    reader.finish()
}

/// States whose times the kernel's signed seconds can tell.
fn get() -> impl Strategy<Value = Get> {
    common::get().prop_map(|mut get| {
        for at in get.peers.iter_mut().filter_map(|peer| peer.last_handshake.as_mut()) {
            at.0 >>= 1;
        }
        for peer in &mut get.peers {
            peer.last_handshake = peer.last_handshake.filter(|&at| at != (0, 0));
        }
        get
    })
}

proptest! {
    #[test]
    fn what_is_told_is_read_however_it_is_cut(get in get(), cuts in vec(any::<bool>(), 0..30)) {
        prop_assert_eq!(read(&tell(&get, cuts.into_iter())), Ok(get));
    }

    #[test]
    fn unknown_attributes_are_passed_over(get in get(), kind in 11..0x4000_u16, value in vec(any::<u8>(), 0..9)) {
        let mut messages = tell(&get, std::iter::empty());
        messages[0].extend(Leaf(kind, value).bytes());
        prop_assert_eq!(read(&messages), Ok(get));
    }

    /// Lengths and types among them: what it means does not matter, that it is no panic does.
    #[test]
    fn any_byte_may_be_wrong(get in get(), changes in vec((any::<Index>(), any::<u8>()), 1..4)) {
        let mut messages = tell(&get, std::iter::empty());
        for (at, byte) in changes {
            let at = at.index(messages[0].len());
            messages[0][at] = byte;
        }
        let _ = read(&messages);
    }

    #[test]
    fn a_message_cut_short_is_malformed(get in get(), cut: Index) {
        let mut messages = tell(&get, std::iter::empty());
        let whole = messages[0].len();
        // Padding may be missing, and what is not there at all cannot be missed.
        let ends: Vec<_> = split(&messages[0], &[8]).iter().scan(0, |end, (_, value)| {
            let last = *end + 4 + value.len();
            *end = last.next_multiple_of(4);
            Some(last..=*end)
        }).collect();
        let cut = 1 + cut.index(whole - 1);
        messages[0].truncate(cut);
        prop_assert_eq!(read(&messages).is_ok(), ends.iter().any(|end| end.contains(&cut)));
    }

    #[test]
    fn garbage_does_no_harm(messages in vec(vec(any::<u8>(), 0..100), 0..4)) {
        let _ = read(&messages);
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let key = Leaf(1, vec![1; 32]);
    let message = |items: Vec<Tree>| items.iter().flat_map(Tree::bytes).collect::<Vec<_>>();
    let peer = |item| message(vec![Nest(8, vec![Nest(0, vec![Leaf(1, vec![1; 32]), item])])]);
    let allowed = |items| peer(Nest(9, vec![Nest(0, items)]));
    let family = |family: u16| Leaf(1, family.to_ne_bytes().to_vec());
    let timespec = |s: i64, n: i64| Leaf(6, [s.to_ne_bytes(), n.to_ne_bytes()].concat());
    for bad in [
        message(vec![Leaf(3, vec![1; 31])]),
        message(vec![Leaf(6, vec![1])]),
        message(vec![Leaf(7, vec![1; 8])]),
        message(vec![Nest(8, vec![Nest(0, vec![])])]),
        message(vec![Nest(8, vec![Nest(0, vec![Leaf(1, vec![1; 33])])])]),
        message(vec![Nest(8, vec![key])]),
        peer(Leaf(2, vec![])),
        peer(Leaf(4, vec![2])),
        peer(Leaf(4, [&2_u16.to_ne_bytes()[..], &[0; 5]].concat())),
        peer(Leaf(4, [&10_u16.to_ne_bytes()[..], &[0; 25]].concat())),
        peer(Leaf(4, [&3_u16.to_ne_bytes()[..], &[0; 26]].concat())),
        peer(timespec(1, -1)),
        peer(Leaf(6, vec![0; 8])),
        allowed(vec![]),
        allowed(vec![family(2), Leaf(2, vec![0; 4])]),
        allowed(vec![family(2), Leaf(3, vec![0])]),
        allowed(vec![Leaf(2, vec![0; 4]), Leaf(3, vec![0])]),
        allowed(vec![family(2), Leaf(2, vec![0; 4]), Leaf(3, vec![33])]),
        allowed(vec![family(2), Leaf(2, vec![0; 16]), Leaf(3, vec![32])]),
        allowed(vec![family(10), Leaf(2, vec![0; 4]), Leaf(3, vec![32])]),
        allowed(vec![family(3), Leaf(2, vec![0; 4]), Leaf(3, vec![32])]),
    ] {
        assert_eq!(read(std::slice::from_ref(&bad)), Err(Malformed), "{bad:?}");
    }
    let before_1970 = read(&[peer(timespec(-1, 5))]).unwrap();
    assert_eq!(before_1970.peers[0].last_handshake, None);
}
