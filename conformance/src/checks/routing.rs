//! Cryptokey routing (whitepaper 2): which peer a packet is for, and which may send it.

use std::net::IpAddr;
use std::time::Duration;

use crate::check::Check;
use crate::inner::{self, NOBODY4, NOBODY6};
use crate::peer::{Peer, SILENCE, SOON, Session};
use crate::scene::{Scene, Tap, endpoint};
use crate::wire;

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::new(
        "allowed-ips/source-refused",
        "A packet whose source is not the peer's is dropped (2)",
        source_refused,
    ),
    Check::new("allowed-ips/v6", "The same for IPv6", v6),
    Check::new("allowed-ips/none", "A peer without allowed IPs can send nothing", none),
    Check::new(
        "allowed-ips/longest-prefix-in",
        "One peer's part of another's network is not the other's to send from (GotaTun 0.7.2)",
        longest_in,
    ),
    Check::new(
        "allowed-ips/longest-prefix-moved",
        "Nor is it once it was the other's: moving a prefix takes effect at once",
        moved,
    ),
    Check::new(
        "allowed-ips/longest-prefix-out",
        "A packet goes to the peer with the longest prefix (2)",
        longest_out,
    ),
    Check::new(
        "allowed-ips/default-route",
        "0.0.0.0/0 and ::/0 hold everything that nobody else has",
        default_route,
    ),
    Check::new(
        "allowed-ips/replaced",
        "What replace_allowed_ips takes away is gone at once, either way",
        replaced,
    ),
    Check::new(
        "allowed-ips/mapped",
        "::ffff:192.0.2.1 is no IPv4 address: 192.0.2.0/24 does not hold it",
        mapped,
    ),
    Check::new("allowed-ips/many-prefixes", "Of prefixes of every length, the longest counts", many),
    Check::new(
        "allowed-ips/no-peer",
        "A packet for nobody is answered with ICMP, as the kernel does, not left to time out",
        no_peer,
    ),
    Check::new("allowed-ips/no-endpoint", "So is one for a peer whose endpoint nobody knows", no_endpoint),
];

/// A session that works, and what to see it with.
fn session(scene: &Scene) -> (Peer, Tap, Session) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    (peer, tap, session)
}

/// Whether a packet from this address, sent by `peer`, is delivered.
fn takes(scene: &Scene, tap: &Tap, peer: &Peer, session: &Session, from: [u8; 4]) -> bool {
    takes_packet(scene, tap, peer, session, &inner::v4(from, NOBODY4, &wire::random::<12>()))
}

fn takes_packet(scene: &Scene, tap: &Tap, peer: &Peer, session: &Session, packet: &[u8]) -> bool {
    peer.port.send(&session.next(&inner::padded(packet.to_vec())));
    scene.settle(tap, peer, session);
    tap.has_seen(packet)
}

fn source_refused(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let other = scene.peer();
    for from in [other.inner4(), [192, 168, 241, 1], [10, 0, 0, 1], [0; 4], [255; 4], [127, 0, 0, 1]] {
        assert!(!takes(scene, &tap, &peer, &session, from), "delivered from {from:?}");
    }
    assert!(takes(scene, &tap, &peer, &session, peer.inner4()));
}

fn v6(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let other = scene.peer();
    let packet = |from| inner::v6(from, NOBODY6, &wire::random::<12>());
    assert!(takes_packet(scene, &tap, &peer, &session, &packet(peer.inner6())), "its own address");
    for from in [other.inner6(), [0; 16], [0xff; 16], NOBODY6] {
        assert!(!takes_packet(scene, &tap, &peer, &session, &packet(from)), "delivered from {from:x?}");
    }
    peer.port.drain();
    scene.say(peer.inner6(), b"six").expect("the tunnel takes a packet");
    let data = peer.hear_data(&session, SOON).expect("IPv6 is not sent");
    assert_eq!((data.text[0] >> 4, inner::length(&data.text)), (6, Some(51)), "an IPv6 packet of 51 bytes");
}

fn none(scene: &mut Scene) {
    let (witness, tap, good) = session(scene);
    let peer = scene.stranger();
    scene.set(&format!("public_key={}\n", peer.hex()));
    let session = peer.connect();
    for from in [peer.inner4(), [10, 0, 0, 1]] {
        let packet = inner::v4(from, NOBODY4, &wire::random::<12>());
        peer.port.send(&session.next(&inner::padded(packet.clone())));
        scene.settle(&tap, &witness, &good);
        assert!(!tap.saw(&packet, SILENCE), "delivered from {from:?}");
    }
}

/// A peer with these allowed IPs besides its own, and a session of it that works.
fn owner(scene: &Scene, tap: &Tap, lines: &str) -> (Peer, Session) {
    let peer = scene.known_with(lines);
    let session = peer.connect();
    scene.settle(tap, &peer, &session);
    (peer, session)
}

fn longest_in(scene: &mut Scene) {
    let tap = scene.tun();
    let (wide, session) = owner(scene, &tap, "allowed_ip=10.0.0.0/8\nallowed_ip=fd10::/16\n");
    assert!(takes(scene, &tap, &wide, &session, [10, 1, 0, 1]), "its own network");
    owner(scene, &tap, "allowed_ip=10.1.0.0/16\nallowed_ip=fd10:1::/32\n");
    assert!(
        !takes(scene, &tap, &wide, &session, [10, 1, 0, 1]),
        "delivered from another's part of its network"
    );
    assert!(takes(scene, &tap, &wide, &session, [10, 2, 0, 1]), "the rest of its own network");
    let mut from = [0; 16];
    from[..4].copy_from_slice(&[0xfd, 0x10, 0, 1]);
    let packet = inner::v6(from, NOBODY6, &[1; 8]);
    assert!(!takes_packet(scene, &tap, &wide, &session, &packet), "delivered from another's IPv6 network");
}

fn moved(scene: &mut Scene) {
    let tap = scene.tun();
    let (one, first) = owner(scene, &tap, "allowed_ip=10.0.0.0/8\nallowed_ip=10.1.0.0/16\n");
    assert!(takes(scene, &tap, &one, &first, [10, 1, 0, 1]), "its own network");
    let (two, second) = owner(scene, &tap, "allowed_ip=10.1.0.0/16\n");
    assert!(!takes(scene, &tap, &one, &first, [10, 1, 0, 1]), "delivered from a network that was taken away");
    assert!(takes(scene, &tap, &two, &second, [10, 1, 0, 1]), "not delivered from a network that was given");
    scene.change(&two, "remove=true\n");
    assert!(takes(scene, &tap, &one, &first, [10, 1, 0, 1]), "the shorter prefix is left");
}

/// Whether the engine sends what is for `to` to `peer`.
fn goes_to(scene: &Scene, peer: &Peer, session: &Session, to: [u8; 4]) -> bool {
    peer.port.drain();
    scene.say(to, b"whose is it?").expect("the tunnel takes a packet");
    peer.hear_data(session, Duration::from_millis(700)).is_some()
}

fn longest_out(scene: &mut Scene) {
    let tap = scene.tun();
    scene.inside.ip(&format!("route add 10.0.0.0/8 dev {}", scene.engine.interface()));
    let (wide, first) = owner(scene, &tap, "allowed_ip=10.0.0.0/8\n");
    assert!(goes_to(scene, &wide, &first, [10, 1, 0, 1]), "the only one that has it");
    let (narrow, second) = owner(scene, &tap, "allowed_ip=10.1.0.0/16\n");
    assert!(goes_to(scene, &narrow, &second, [10, 1, 0, 1]), "the longer prefix");
    assert!(!goes_to(scene, &wide, &first, [10, 1, 255, 255]), "the shorter prefix");
    assert!(goes_to(scene, &wide, &first, [10, 2, 0, 1]), "the rest");
}

fn default_route(scene: &mut Scene) {
    let (tap, other) = (scene.tun(), scene.peer());
    let (peer, session) = owner(scene, &tap, "allowed_ip=0.0.0.0/0\nallowed_ip=::/0\n");
    for from in [[8, 8, 8, 8], [192, 168, 242, 1], [223, 255, 255, 254]] {
        assert!(takes(scene, &tap, &peer, &session, from), "not delivered from {from:?}");
    }
    let packet = inner::v6([0x20; 16], NOBODY6, &[1; 8]);
    assert!(takes_packet(scene, &tap, &peer, &session, &packet), "not delivered from IPv6");
    assert!(!takes(scene, &tap, &peer, &session, other.inner4()), "delivered from another's address");
}

fn replaced(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    scene.change(&peer, "replace_allowed_ips=true\nallowed_ip=10.9.0.0/16\n");
    let packet = inner::v4(peer.inner4(), NOBODY4, &[1; 12]);
    peer.port.send(&session.next(&inner::padded(packet.clone())));
    let now = inner::v4([10, 9, 0, 1], NOBODY4, &[2; 12]);
    peer.port.send(&session.next(&inner::padded(now.clone())));
    assert!(tap.saw(&now, SOON), "not delivered from the new network");
    assert!(!tap.has_seen(&packet), "delivered from the old one");
    peer.port.drain();
    let _ = scene.say(peer.inner4(), b"anybody there?");
    assert!(peer.hear_data(&session, SILENCE).is_none(), "sent to the old one");
}

fn mapped(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let mut from = [0; 16];
    from[10..12].fill(0xff);
    from[12..].copy_from_slice(&peer.inner4());
    let packet = inner::v6(from, NOBODY6, &[1; 8]);
    assert!(!takes_packet(scene, &tap, &peer, &session, &packet), "delivered from a mapped address");
}

fn many(scene: &mut Scene) {
    let tap = scene.tun();
    // Of 10.170.170.170, the prefixes of even length are one's, those of odd length two's; each leaves out one bit more.
    let prefix = |len: u32| {
        let network = (0x0aaa_aaaa_u32 >> (32 - len) << (32 - len)).to_be_bytes();
        format!("allowed_ip={}/{len}\n", std::net::Ipv4Addr::from(network))
    };
    let (one, first) = owner(scene, &tap, &(8..=32).step_by(2).map(prefix).collect::<String>());
    let (two, second) = owner(scene, &tap, &(9..=31).step_by(2).map(prefix).collect::<String>());
    for len in 8..=32_u32 {
        let outside = if len == 32 { 0 } else { 1 << (31 - len) };
        let from = (0x0aaa_aaaa_u32 ^ outside).to_be_bytes();
        let is_ones = len % 2 == 0;
        assert_eq!(takes(scene, &tap, &one, &first, from), is_ones, "the first peer, {from:?}, /{len}");
        assert_eq!(takes(scene, &tap, &two, &second, from), !is_ones, "the second peer, {from:?}, /{len}");
    }
}

/// Whether ICMP or ICMPv6 tells that a packet of this payload cannot reach its destination.
fn is_refused(scene: &Scene, to: IpAddr) -> bool {
    let (tap, text) = (scene.tun(), wire::random::<16>());
    scene.say(to, &text).expect("the tunnel takes a packet");
    let is_icmp = |packet: &[u8]| match packet[0] >> 4 {
        4 => packet[9] == 1 && packet[20] == 3,
        _ => packet[6] == 58 && packet[40] == 1,
    };
    let quotes = |packet: &[u8]| packet.windows(text.len()).any(|part| part == text);
    tap.find(Duration::from_secs(1), |packet| is_icmp(packet) && quotes(packet)).is_some()
}

fn no_peer(scene: &mut Scene) {
    assert!(is_refused(scene, NOBODY4.into()), "silence about a packet that nobody gets");
    assert!(is_refused(scene, NOBODY6.into()), "silence about an IPv6 packet that nobody gets");
}

fn no_endpoint(scene: &mut Scene) {
    let peer = scene.peer();
    assert!(is_refused(scene, peer.inner4().into()), "silence about a packet that goes nowhere");
    scene.change(&peer, &endpoint(&peer));
    assert!(!is_refused(scene, peer.inner4().into()), "refused, though there is an endpoint");
}
