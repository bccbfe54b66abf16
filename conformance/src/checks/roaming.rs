//! Endpoints (whitepaper 2.1): only what is authenticated moves them.

use std::time::Duration;

use crate::check::Check;
use crate::inner;
use crate::peer::{Keys, Peer, Port, SOON, Session};
use crate::scene::{PORT, Scene, Tap, marked};
use crate::wire;

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::new(
        "roaming/port",
        "Authentic data from another port move the endpoint there (2.1; GotaTun audit 3.4)",
        port,
    ),
    Check::new("roaming/address", "And from another address (2.1)", address),
    Check::new(
        "roaming/family",
        "And from IPv4 to IPv6 and back (wireguard-go sends to a wrong address)",
        family,
    ),
    Check::new("roaming/keepalive", "A keepalive is as authentic as data (2.1)", keepalive),
    Check::new("roaming/initiation", "An authentic initiation moves it, too (2.1)", initiation),
    Check::new("roaming/response", "And a response (2.1)", response),
    Check::new(
        "roaming/refused-source",
        "So do authentic data with a source that is not the peer's",
        refused_source,
    ),
    Check::new(
        "roaming/replayed-data",
        "Replayed data move nothing: an attacker could take the session away",
        replayed_data,
    ),
    Check::new("roaming/forged-data", "Nor do forged data", forged_data),
    Check::new("roaming/unknown-index", "Nor do data for an unknown index (zephyr#118013)", unknown_index),
    Check::new("roaming/replayed-initiation", "Nor does a replayed initiation", replayed_initiation),
    Check::new("roaming/bad-response", "Nor does a response that fails", bad_response),
    Check::new(
        "roaming/cookie-reply",
        "Nor does a cookie reply, good or replayed (GotaTun#159, boringtun#489)",
        cookie_reply,
    ),
    Check::new(
        "roaming/answers-come-back",
        "A response leaves from the address that was asked, and so do data",
        sticky,
    ),
    Check::new(
        "roaming/asked-address-joined",
        "Also when the kernel joined what was received (wireguard-go loses it)",
        sticky_joined,
    ),
    Check::new(
        "roaming/source-disappears",
        "When that address is gone, the next packet finds another",
        source_disappears,
    ),
];

fn session(scene: &Scene) -> (Peer, Tap, Session) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    (peer, tap, session)
}

/// Where the engine sends the next packet for `peer`: whether `port` hears it.
fn is_heard_at(scene: &Scene, peer: &Peer, port: &Port, session: &Session) -> bool {
    port.drain();
    scene.prompt(peer);
    port.next(wire::DATA, SOON).is_some_and(|message| session.open(&message).is_some())
}

/// Asserts that data from `there` move the endpoint there.
fn moves_to(scene: &Scene, tap: &Tap, peer: &Peer, session: &Session, there: &Port) {
    let packet = marked(peer);
    there.send(&session.next(&inner::padded(packet.clone())));
    assert!(tap.saw(&packet, SOON), "data from {} are not delivered", there.address());
    assert!(is_heard_at(scene, peer, there, session), "nothing comes to {}", there.address());
    let told = scene.get_of(peer, "endpoint");
    assert_eq!(told, Some(there.address().to_string()), "the endpoint in the configuration");
}

fn port(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    moves_to(scene, &tap, &peer, &session, &scene.port_at("10.77.0.2:0"));
}

fn address(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    for address in ["10.77.0.3:0", "10.78.1.2:0", "10.77.0.2:0"] {
        moves_to(scene, &tap, &peer, &session, &scene.port_at(address));
    }
}

fn family(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    for address in ["[fd77::2]:0", "10.77.0.3:0", "[fd77::2]:0", "10.77.0.2:0"] {
        moves_to(scene, &tap, &peer, &session, &scene.port_at(address));
    }
}

fn keepalive(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let there = scene.port_at("10.77.0.3:0");
    there.send(&session.next(&[]));
    scene_settles(&tap);
    assert!(is_heard_at(scene, &peer, &there, &session), "a keepalive does not move the endpoint");
}

/// For what cannot be seen to have been done.
fn scene_settles(tap: &Tap) {
    tap.all(Duration::from_millis(200));
}

fn initiation(scene: &mut Scene) {
    let (peer, _, _) = session(scene);
    let there = scene.port_at("10.77.0.3:0");
    let initiation = peer.initiation();
    there.send(&initiation.bytes);
    let response = there.next(wire::RESPONSE, SOON).expect("no response at the new place");
    let next = initiation.finish(&response).expect("a response that authenticates");
    assert_eq!(scene.get_of(&peer, "endpoint"), Some(there.address().to_string()), "after an initiation");
    there.send(&next.next(&[]));
    assert!(is_heard_at(scene, &peer, &there, &next), "nothing comes to the new place");
}

fn response(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let there = scene.port_at("10.77.0.3:0");
    let (response, session) = peer.respond(&peer.called());
    there.send(&response);
    let message = there.next(wire::DATA, SOON).expect("nothing comes to where the response came from");
    assert!(session.open(&message).is_some());
}

fn refused_source(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let there = scene.port_at("10.77.0.3:0");
    let packet = inner::v4([10, 9, 9, 9], inner::NOBODY4, &[1; 12]);
    there.send(&session.next(&inner::padded(packet.clone())));
    scene_settles(&tap);
    assert!(!tap.has_seen(&packet), "delivered, though not the peer's source");
    assert!(is_heard_at(scene, &peer, &there, &session), "authentic data do not move the endpoint");
}

/// Asserts that what `act` sends from elsewhere moves nothing.
fn stays(scene: &Scene, peer: &Peer, tap: &Tap, session: &Session, act: impl FnOnce(&Port)) {
    let before = scene.get_of(peer, "endpoint");
    let elsewhere = scene.port_at("10.77.0.3:0");
    act(&elsewhere);
    scene_settles(tap);
    assert_eq!(scene.get_of(peer, "endpoint"), before, "the endpoint in the configuration");
    assert!(is_heard_at(scene, peer, &peer.port, session), "nothing comes to the true place any more");
    assert_eq!(elsewhere.count(wire::DATA, Duration::from_millis(50)), 0, "data for the attacker");
}

fn replayed_data(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let message = session.next(&inner::padded(marked(&peer)));
    peer.port.send(&message);
    scene.settle(&tap, &peer, &session);
    stays(scene, &peer, &tap, &session, |elsewhere| elsewhere.send(&message));
}

fn forged_data(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let mut message = session.next(&inner::padded(marked(&peer)));
    stays(scene, &peer, &tap, &session, |elsewhere| {
        for at in [8, 16, message.len() - 1] {
            message[at] ^= 1;
            elsewhere.send(&message);
        }
    });
}

fn unknown_index(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let mut message = session.next(&inner::padded(marked(&peer)));
    message[4..8].copy_from_slice(&(session.remote ^ 1).to_le_bytes());
    stays(scene, &peer, &tap, &session, |elsewhere| elsewhere.send(&message));
}

fn replayed_initiation(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let initiation = peer.initiation();
    let response = peer.ask(&initiation.bytes, SOON).expect("no response");
    let bytes = initiation.bytes.clone();
    let session = initiation.finish(&response).expect("a response that authenticates");
    scene.settle(&tap, &peer, &session);
    std::thread::sleep(Duration::from_millis(60));
    stays(scene, &peer, &tap, &session, |elsewhere| elsewhere.send(&bytes));
}

fn bad_response(scene: &mut Scene) {
    let (peer, tap) = (scene.known(), scene.tun());
    scene.prompt(&peer);
    let (good, session) = peer.respond(&peer.called());
    let elsewhere = scene.port_at("10.77.0.3:0");
    let mut bad = good.clone();
    bad[50] ^= 1;
    elsewhere.send(&wire::again_with_mac1(&bad, &scene.keys.public));
    elsewhere.send(&bad);
    scene_settles(&tap);
    assert_eq!(scene.get_of(&peer, "endpoint"), Some(peer.port.address().to_string()));
    peer.port.send(&good);
    assert!(peer.hear(&session, SOON).is_some(), "the good response is not taken");
    // Whoever replays it later gains nothing, either.
    stays(scene, &peer, &tap, &session, |elsewhere| elsewhere.send(&good));
}

fn cookie_reply(scene: &mut Scene) {
    let (peer, tap) = (scene.known(), scene.tun());
    scene.prompt(&peer);
    let initiation = peer.called();
    let (index, mac1) = (wire::index(&initiation, 4), wire::mac1_of(&initiation));
    let reply = wire::cookie_reply(&peer.keys.public, index, &mac1, &[1; 16]);
    let forged = wire::cookie_reply(&Keys::new().public, index, &mac1, &[1; 16]);
    let elsewhere = scene.port_at("10.77.0.3:0");
    for message in [&forged, &reply, &reply] {
        elsewhere.send(message);
        scene_settles(&tap);
        assert_eq!(
            scene.get_of(&peer, "endpoint"),
            Some(peer.port.address().to_string()),
            "after a cookie reply"
        );
    }
}

/// A session over each of the engine's addresses: answers come from where they were asked for.
fn sticky(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    for (local, remote) in [
        ("10.77.0.2:0", "10.77.0.11"),
        ("10.77.0.2:0", "10.77.0.1"),
        ("[fd77::2]:0", "fd77::11"),
        ("[fd77::2]:0", "fd77::1"),
    ] {
        let port = scene.port_at(local);
        port.aim((remote.parse::<std::net::IpAddr>().expect("an address"), PORT).into());
        let initiation = peer.initiation();
        port.send(&initiation.bytes);
        let (response, from) = port.receive(SOON).expect("no response");
        assert_eq!(from, port.target(), "where the response came from");
        let session = initiation.finish(&response).expect("a response that authenticates");
        let packet = marked(&peer);
        port.send(&session.next(&inner::padded(packet.clone())));
        assert!(tap.saw(&packet, SOON), "not delivered");
        scene.prompt(&peer);
        let (_, from) = port.receive(SOON).expect("no data");
        assert_eq!(from, port.target(), "where data came from");
    }
}

fn sticky_joined(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    peer.port.aim(([10, 77, 0, 11], PORT).into());
    let session = peer.connect();
    for round in 0..20 {
        let packets: Vec<_> = (0..10).map(|_| marked(&peer)).collect();
        let train: Vec<_> =
            packets.iter().map(|packet| session.next(&inner::padded(packet.clone()))).collect();
        peer.port.send_train(&train);
        assert!(tap.saw(&packets[9], SOON), "not delivered");
        peer.port.drain();
        scene.prompt(&peer);
        let (_, from) = peer.port.receive(SOON).expect("no data");
        assert_eq!(from, peer.port.target(), "where data came from, round {round}");
    }
}

fn source_disappears(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    peer.port.aim(([10, 77, 0, 11], PORT).into());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    scene.inside.ip("addr del 10.77.0.11/24 dev cable");
    assert!(is_heard_at(scene, &peer, &peer.port, &session), "nothing is sent any more");
}
