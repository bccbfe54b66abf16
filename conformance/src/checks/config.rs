//! Changes of a running tunnel's configuration, as seen by its peers.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use lab::seconds;
use nix::sys::socket::{setsockopt, sockopt};

use crate::check::Check;
use crate::inner;
use crate::peer::{Keys, Peer, SILENCE, SOON, Session};
use crate::scene::{CABLE, PORT, Scene, Tap, endpoint, marked};
use crate::wire;

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::new(
        "config/peer-removed",
        "A removed peer is neither heard nor spoken to from then on",
        peer_removed,
    ),
    Check::new(
        "config/private-key-changed",
        "With a new private key nothing is sent on old sessions; the next packet brings a handshake",
        key_changed,
    ),
    Check::new("config/private-key-same", "The same private key again ends none", key_same),
    Check::new(
        "config/listen-port",
        "A new port is used at once, in a live session; the old one is closed",
        listen_port,
    ),
    Check::new("config/listen-port-zero", "Port 0 asks for any port, which is then told", listen_port_zero),
    Check::new("config/fwmark", "The mark is on every packet, until it is taken off", fwmark),
    Check::new("config/fwmark-stays", "It stays when the port is changed (boringtun loses it)", fwmark_stays),
    Check::new("config/endpoint", "A new endpoint is used at once, and the session goes on", endpoint_set),
    Check::new(
        "config/peer-set-again",
        "Setting what is already set changes nothing (boringtun panics)",
        set_again,
    ),
    Check::new("config/link-down", "Down, an interface is silent and deaf; up, it is back", link_down),
    Check::new(
        "config/handshake-dscp",
        "Handshake messages are marked AF41, data are not, as the kernel does",
        dscp,
    ),
    Check::new(
        "config/ecn-out",
        "ECN bits of the inner packet are copied to the outer one (RFC 6040)",
        ecn_out,
    ),
    Check::new(
        "config/ecn-in",
        "Congestion that the outer packet met is told to the inner one (RFC 6040)",
        ecn_in,
    ),
    Check::new(
        "config/port-closed-error",
        "ICMP errors about what it sent do not end receiving (wireguard-go 8246d25)",
        icmp_errors,
    ),
    Check::new(
        "config/network-down",
        "Nor does a network that is down for a while (wireguard-go 6228659)",
        network_down,
    ),
];

fn session(scene: &Scene) -> (Peer, Tap, Session) {
    let (peer, tap) = (scene.known(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    (peer, tap, session)
}

fn peer_removed(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let other = scene.peer();
    let witness = other.connect();
    scene.change(&peer, "remove=true\n");
    let packet = marked(&peer);
    peer.port.send(&session.next(&inner::padded(packet.clone())));
    scene.settle(&tap, &other, &witness);
    assert!(!tap.has_seen(&packet), "what a removed peer says is delivered");
    peer.port.drain();
    let _ = scene.say(peer.inner4(), b"anybody there?");
    assert!(peer.port.all(SILENCE).is_empty(), "something is sent to a removed peer");
    assert!(peer.is_ignored(&peer.initiation().bytes), "a removed peer is answered");
}

fn key_changed(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let keys = Keys::new();
    scene.set(&format!("private_key={}\n", wire::hex(&keys.private)));
    peer.port.drain();
    scene.prompt(&peer);
    // At once, though a handshake with the old key was made just now.
    let messages = peer.port.all(seconds(1));
    assert!(
        !messages.iter().any(|message| session.open(message).is_some()),
        "data on a session of the old key"
    );
    let initiation = messages.into_iter().find(|message| message[0] == wire::INITIATION);
    let initiation = initiation.expect("no handshake with the new key");
    let read = peer.read(&initiation).map(|(key, _)| key);
    assert_eq!(read, Some(keys.public), "the static key in the new initiation");
    assert!(peer.is_ignored(&peer.initiation().bytes), "an initiation to the old key is answered");
    peer.engine.set(keys.public);
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
}

fn key_same(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    scene.set(&format!("private_key={}\n", wire::hex(&scene.keys.private)));
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
}

fn listen_port(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    scene.set("listen_port=51999\n");
    let packet = marked(&peer);
    peer.port.send(&session.next(&inner::padded(packet.clone())));
    assert!(!tap.saw(&packet, SILENCE), "the old port is still open");
    scene.prompt(&peer);
    let (_, from) = peer.port.receive(SOON).expect("nothing is sent from the new port");
    assert_eq!(from.port(), 51_999, "the port that data come from");
    peer.port.aim(([10, 77, 0, 1], 51_999).into());
    scene.settle(&tap, &peer, &session);
    peer.port.aim("[fd77::1]:51999".parse().expect("an address"));
    let v6 = scene.port_at("[fd77::2]:0");
    v6.aim("[fd77::1]:51999".parse().expect("an address"));
    let packet = marked(&peer);
    v6.send(&session.next(&inner::padded(packet.clone())));
    assert!(tap.saw(&packet, SOON), "the new port is not open for IPv6");
}

fn listen_port_zero(scene: &mut Scene) {
    scene.set("listen_port=0\n");
    let answer = scene.get();
    let port: u16 = answer.first("listen_port").and_then(|port| port.parse().ok()).expect("a port is told");
    assert!(port != 0 && port != PORT, "port {port}");
    let (peer, tap) = (scene.peer(), scene.tun());
    peer.port.aim(([10, 77, 0, 1], port).into());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
}

/// Lets the kernel drop what is marked with 0x2a.
fn forbid_mark(scene: &Scene) {
    scene.inside.ip("rule add fwmark 0x2a prohibit");
    scene.inside.ip("-6 rule add fwmark 0x2a prohibit");
}

/// Whether data reach the peer.
fn is_heard(scene: &Scene, peer: &Peer, session: &Session) -> bool {
    peer.port.drain();
    scene.prompt(peer);
    peer.hear_data(session, Duration::from_millis(700)).is_some()
}

fn fwmark(scene: &mut Scene) {
    let (peer, _, session) = session(scene);
    forbid_mark(scene);
    assert!(is_heard(scene, &peer, &session), "without a mark");
    scene.set("fwmark=42\n");
    assert!(!is_heard(scene, &peer, &session), "data are not marked");
    scene.set("fwmark=0\n");
    assert!(is_heard(scene, &peer, &session), "the mark is still on");
}

fn fwmark_stays(scene: &mut Scene) {
    let (peer, _, session) = session(scene);
    forbid_mark(scene);
    scene.set("fwmark=42\n");
    scene.set("listen_port=51999\n");
    assert!(!is_heard(scene, &peer, &session), "data are not marked any more");
    scene.set("fwmark=0\n");
    assert!(is_heard(scene, &peer, &session), "the mark is still on");
}

fn endpoint_set(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    for local in ["10.77.0.3:0", "[fd77::2]:0", "10.77.0.2:0"] {
        let there = scene.port_at(local);
        scene.change(&peer, &format!("endpoint={}\n", there.address()));
        scene.prompt(&peer);
        let message = there.next(wire::DATA, SOON).expect("nothing comes to the new endpoint");
        assert!(session.open(&message).is_some(), "what comes there is of another session");
    }
    // And what is heard moves it back.
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
}

fn set_again(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    for _ in 0..3 {
        scene.add(&peer, &endpoint(&peer));
        scene.change(&peer, "persistent_keepalive_interval=0\n");
        scene.settle(&tap, &peer, &session);
        scene.reaches(&peer, &session);
    }
}

fn link_down(scene: &mut Scene) {
    let (peer, tap, _) = session(scene);
    let interface = scene.engine.interface().to_owned();
    scene.inside.ip(&format!("link set {interface} down"));
    // Some look once a second.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(peer.is_ignored(&peer.initiation().bytes), "an interface that is down answers");
    scene.inside.ip(&format!("link set {interface} up"));
    std::thread::sleep(Duration::from_millis(1500));
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
}

/// The DSCP and ECN byte of the outer IPv4 packet of which `is_it`.
fn outer_tos(cable: &Tap, is_it: impl Fn(&[u8]) -> bool) -> u8 {
    let packet = cable.find(SOON, |packet| {
        packet.len() > 28 && packet[0] == 0x45 && packet[9] == 17 && is_it(&packet[28..])
    });
    packet.expect("nothing passes the cable")[1]
}

fn dscp(scene: &mut Scene) {
    let cable = Tap::new(&scene.outside, CABLE);
    let peer = scene.known();
    scene.prompt(&peer);
    let session = peer.meet();
    assert_eq!(
        outer_tos(&cable, |message| message[0] == wire::INITIATION) & 0xfc,
        0x88,
        "an initiation's DSCP"
    );
    assert!(peer.hear_data(&session, SOON).is_some());
    assert_eq!(outer_tos(&cable, |message| message[0] == wire::DATA), 0, "DSCP and ECN of data");
}

fn ecn_out(scene: &mut Scene) {
    let (peer, _, session) = session(scene);
    let socket = scene.inside.enter(|| UdpSocket::bind("192.168.241.1:0")).expect("the engine's address");
    for (tos, expected) in [(0xb8 | 1, 1), (0xb8 | 2, 2), (0xb8, 0)] {
        let cable = Tap::new(&scene.outside, CABLE);
        peer.port.drain();
        setsockopt(&socket, sockopt::Ipv4Tos, &tos).expect("a byte to mark packets with");
        socket.send_to(b"marked", (Ipv4Addr::from(peer.inner4()), 9)).expect("the tunnel takes a packet");
        assert!(peer.hear_data(&session, SOON).is_some(), "data are not sent");
        assert_eq!(
            outer_tos(&cable, |message| message[0] == wire::DATA),
            expected,
            "for inner byte {tos:#x}"
        );
    }
}

fn ecn_in(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    for (outer, inner, expected) in [(0_u8, 2_u8, 2_u8), (3, 2, 3), (3, 1, 3), (1, 0, 0)] {
        let mut packet = inner::v4(peer.inner4(), inner::NOBODY4, &wire::random::<12>());
        packet[1] = inner;
        let mut seen = packet.clone();
        seen[1] = expected;
        peer.port.mark(outer);
        peer.port.send(&session.next(&inner::padded(inner::again(packet))));
        peer.port.mark(0);
        assert!(tap.saw(&inner::again(seen), SOON), "outer {outer}, inner {inner} does not give {expected}");
    }
}

fn icmp_errors(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let nobody = scene.stranger();
    scene.add(&nobody, &endpoint(&nobody));
    let inner = nobody.inner4();
    // Its port is closed from here on.
    drop(nobody);
    for _ in 0..10 {
        let _ = scene.say(inner, b"anybody there?");
        std::thread::sleep(Duration::from_millis(20));
        scene.settle(&tap, &peer, &session);
    }
    scene.reaches(&peer, &session);
}

fn network_down(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    // The other end of the cable, and then this one, with its routes.
    for ns in [&scene.outside, &scene.inside] {
        ns.ip(&format!("link set {CABLE} down"));
        for _ in 0..5 {
            let _ = scene.say(peer.inner4(), b"anybody there?");
            std::thread::sleep(Duration::from_millis(20));
        }
        ns.ip(&format!("link set {CABLE} up"));
        let delivered = (0..10).any(|_| {
            let packet = marked(&peer);
            let sent = peer.port.try_send(&session.next(&inner::padded(packet.clone())));
            tap.saw(&packet, Duration::from_millis(500)) && sent
        });
        assert!(delivered, "nothing is delivered once the network is back");
        scene.reaches(&peer, &session);
    }
}
