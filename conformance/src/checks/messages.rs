//! The form of messages (whitepaper 5.4), and mac1 (5.4.4).

use std::time::Duration;

use lab::seconds;

use crate::check::Check;
use crate::inner;
use crate::peer::{Peer, SILENCE, SOON, Session};
use crate::scene::{Scene, Tap, marked};
use crate::wire;

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::new(
        "message/initiation-size",
        "An initiation has 148 bytes, no fewer and no more (5.4.2)",
        initiation_size,
    ),
    Check::new(
        "message/response-size",
        "A response has 92 bytes, no fewer and no more (5.4.3)",
        response_size,
    ),
    Check::new(
        "message/reserved-initiation",
        "Reserved bytes are zero in an initiation: it is dropped otherwise (5.4.2)",
        reserved_initiation,
    ),
    Check::new(
        "message/reserved-response",
        "Reserved bytes are zero in a response (5.4.3)",
        reserved_response,
    ),
    Check::new(
        "message/reserved-data",
        "Reserved bytes are zero in transport data, though no tag covers them (5.4.6)",
        reserved_data,
    ),
    Check::new(
        "message/reserved-cookie-reply",
        "Reserved bytes are zero in a cookie reply (5.4.7)",
        reserved_cookie_reply,
    ),
    Check::new("message/unknown-type", "Other types are dropped without an answer (5.4)", unknown_type),
    Check::new(
        "message/short",
        "Datagrams of any length that is too short are dropped, empty ones too",
        short,
    ),
    Check::new(
        "message/oversized",
        "Datagrams of 10,000 and 65,507 bytes are survived (GotaTun 0.7.2)",
        oversized,
    ),
    Check::new(
        "message/oversized-together",
        "So are large datagrams that the kernel joins for whoever asks it to (GotaTun 0.7.2)",
        joined,
    ),
    Check::new("message/noise", "So are 10,000 datagrams of random bytes", noise),
    Check::new(
        "message/own-form",
        "Its initiations have the form, a mac1 for the peer's key and no mac2 (5.4.2, 5.4.4)",
        own_form,
    ),
    Check::new(
        "mac1/initiation",
        "Without a valid mac1 an initiation is not answered, whatever else is right (5.4.4)",
        mac1_initiation,
    ),
    Check::new("mac1/response", "Without a valid mac1 a response is not taken (5.4.4)", mac1_response),
    Check::new(
        "mac1/own-response",
        "Its responses carry a mac1 for the peer's key (5.4.4)",
        mac1_own_response,
    ),
];

/// A session and something to see with that it works.
fn session(scene: &Scene) -> (Peer, Tap, Session) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    (peer, tap, session)
}

/// Lets the engine empty its buffer: what overflows is lost, and that is nobody's fault.
fn pause() {
    std::thread::sleep(Duration::from_millis(30));
}

fn initiation_size(scene: &mut Scene) {
    let peer = scene.peer();
    let good = peer.initiation().bytes;
    for len in [0, 1, 4, 8, 64, 92, 116, 132, 147] {
        assert!(peer.is_ignored(&good[..len]), "answered, of {len} bytes");
    }
    for extra in [1, 4, 16, 200] {
        let long = [&good[..], &vec![0; extra]].concat();
        assert!(peer.is_ignored(&long), "answered, with {extra} bytes too many");
        let long = [&good[..116], &vec![0; extra]].concat();
        let long = wire::with_mac1(long, &scene.keys.public);
        assert!(peer.is_ignored(&long), "answered, with {extra} bytes too many before mac1");
    }
    assert!(peer.is_answered(&good), "the whole of it is not answered");
}

fn response_size(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let (good, session) = peer.respond(&peer.called());
    peer.port.send(&good[..91]);
    peer.port.send(&[&good[..], &[0]].concat());
    peer.port.send(&wire::with_mac1([&good[..60], &[0; 4]].concat(), &scene.keys.public));
    assert_eq!(peer.port.count(wire::DATA, SILENCE), 0, "a response of another size is taken");
    peer.port.send(&good);
    assert!(peer.hear(&session, SOON).is_some(), "the whole of it is not taken");
}

fn reserved_initiation(scene: &mut Scene) {
    let peer = scene.peer();
    for at in 1..4 {
        let mut bad = peer.initiation().bytes;
        bad[at] = 1;
        let bad = wire::again_with_mac1(&bad, &scene.keys.public);
        assert!(peer.is_ignored(&bad), "answered, with byte {at} set");
    }
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn reserved_response(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let (good, session) = peer.respond(&peer.called());
    for at in 1..4 {
        let mut bad = good.clone();
        bad[at] = 0x80;
        peer.port.send(&wire::again_with_mac1(&bad, &scene.keys.public));
    }
    assert_eq!(peer.port.count(wire::DATA, SILENCE), 0, "a response with a reserved byte set is taken");
    peer.port.send(&good);
    assert!(peer.hear(&session, SOON).is_some(), "the right response is not taken");
}

fn reserved_data(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    scene.settle(&tap, &peer, &session);
    for at in 1..4 {
        let packet = marked(&peer);
        let mut message = session.next(&inner::padded(packet.clone()));
        message[at] = 1;
        peer.port.send(&message);
        scene.settle(&tap, &peer, &session);
        assert!(!tap.has_seen(&packet), "delivered, with byte {at} set");
    }
}

fn reserved_cookie_reply(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let first = peer.called();
    let mut reply =
        wire::cookie_reply(&peer.keys.public, wire::index(&first, 4), &wire::mac1_of(&first), &[7; 16]);
    reply[2] = 1;
    peer.port.send(&reply);
    let second = peer.called_within(seconds(8));
    assert_eq!(wire::mac2_of(&second), [0; 16], "the cookie in it was taken");
}

fn unknown_type(scene: &mut Scene) {
    let peer = scene.peer();
    for kind in [0, 5, 6, 127, 128, 255] {
        let mut message = peer.initiation().bytes;
        message[0] = kind;
        let message = wire::again_with_mac1(&message, &scene.keys.public);
        peer.port.send(&message);
    }
    assert!(peer.port.all(SILENCE).is_empty(), "an unknown type is answered");
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn short(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    scene.settle(&tap, &peer, &session);
    let data = session.next(&[]);
    for kind in 0..=5 {
        for len in 0..data.len() {
            let mut message = data[..len].to_vec();
            if let Some(first) = message.first_mut() {
                *first = kind;
            }
            peer.port.send(&message);
        }
        pause();
    }
    scene.settle(&tap, &peer, &session);
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn oversized(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    scene.settle(&tap, &peer, &session);
    for kind in 1..=4 {
        for len in [2_048, 10_000, 65_507] {
            let mut message = vec![0; len];
            message[0] = kind;
            message[4..8].copy_from_slice(&session.remote.to_le_bytes());
            peer.port.send(&message);
            pause();
        }
    }
    scene.settle(&tap, &peer, &session);
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn joined(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    scene.settle(&tap, &peer, &session);
    for (count, stride) in [(40, 1_472), (60, 32), (50, 148), (60, 1)] {
        let mut message = vec![0; stride];
        message[0] = wire::DATA;
        peer.port.send_train(&vec![message; count]);
        pause();
    }
    scene.settle(&tap, &peer, &session);
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn noise(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    scene.settle(&tap, &peer, &session);
    let random = wire::random::<4096>();
    for n in 0..10_000_usize {
        let start = n * 7 % 3000;
        let mut message = random[start..start + n % 256].to_vec();
        if let Some(first) = message.first_mut() {
            *first %= 6;
        }
        if message.len() > 8 && n % 3 == 0 {
            message[1..4].fill(0);
            message[4..8].copy_from_slice(&session.remote.to_le_bytes());
        }
        peer.port.send(&message);
        // Nobody's buffer is to overflow.
        if n % 50 == 0 {
            scene.settle(&tap, &peer, &session);
        }
    }
    scene.settle(&tap, &peer, &session);
}

fn own_form(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let initiation = peer.called();
    assert_eq!(initiation[..4], [1, 0, 0, 0], "type and reserved bytes");
    assert_eq!(wire::mac1_of(&initiation), wire::mac1(&initiation[..116], &peer.keys.public), "mac1");
    assert_eq!(wire::mac2_of(&initiation), [0; 16], "mac2, without a cookie");
}

fn mac1_initiation(scene: &mut Scene) {
    let peer = scene.peer();
    for at in [116, 123, 131] {
        let mut bad = peer.initiation().bytes;
        bad[at] ^= 1;
        assert!(peer.is_ignored(&bad), "answered, with byte {at} of mac1 wrong");
    }
    let zero = [&peer.initiation().bytes[..116], &[0; 32]].concat();
    assert!(peer.is_ignored(&zero), "answered, without mac1");
    let own = wire::again_with_mac1(&peer.initiation().bytes, &peer.keys.public);
    assert!(peer.is_ignored(&own), "answered, with a mac1 for another device");
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn mac1_response(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let (good, session) = peer.respond(&peer.called());
    let mut bad = good.clone();
    bad[60] ^= 1;
    peer.port.send(&bad);
    peer.port.send(&[&good[..60], &[0; 32]].concat());
    assert_eq!(peer.port.count(wire::DATA, SILENCE), 0, "a response without a valid mac1 is taken");
    peer.port.send(&good);
    assert!(peer.hear(&session, SOON).is_some(), "the right response is not taken");
}

fn mac1_own_response(scene: &mut Scene) {
    let peer = scene.peer();
    let response = peer.ask(&peer.initiation().bytes, SOON).expect("no response");
    assert_eq!(wire::mac1_of(&response), wire::mac1(&response[..60], &peer.keys.public), "mac1");
    assert_eq!(wire::mac2_of(&response), [0; 16], "mac2, without a cookie");
}
