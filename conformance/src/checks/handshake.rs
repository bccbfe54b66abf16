//! The handshake (whitepaper 5.4.2, 5.4.3).

use std::time::Duration;

use adit_crypto::Secret;
use adit_crypto::x25519::{self, PrivateKey};
use adit_proto::handshake::{Env, Handshake, Identity, Timestamps};
use adit_proto::message::{HandshakeMessage, Message, WithMacs};
use adit_proto::time::{Instant, Tai64n};
use lab::seconds;

use crate::check::Check;
use crate::noise::{Forgery, LOW_ORDER, low_order_response};
use crate::peer::{Keys, Peer, SILENCE, SOON, tai64n, unix};
use crate::scene::{Scene, endpoint};
use crate::wire;

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::new(
        "handshake/old-response",
        "A response to an initiation that was sent again meanwhile is not taken (5.4.3)",
        old_response,
    ),
    Check::new(
        "handshake/one-initiation-in-5-s",
        "Packets without a session bring one initiation every REKEY_TIMEOUT (6.4)",
        one_initiation,
    ),
    Check::new(
        "handshake/initiator",
        "An initiation made by snow is answered, and data pass both ways (5.4.2)",
        initiator,
    ),
    Check::new("handshake/initiator-psk", "The same with a preshared key (5.4.3)", initiator_psk),
    Check::new(
        "handshake/responder",
        "A response made by snow is taken, and data pass both ways (5.4.3)",
        responder,
    ),
    Check::new("handshake/responder-psk", "The same with a preshared key (5.4.3)", responder_psk),
    Check::new("handshake/ipv6", "All of it over IPv6, both as initiator and as responder", over_ipv6),
    Check::new(
        "handshake/adit-proto",
        "A second implementation, adit-proto, agrees as initiator and as responder",
        by_adit_proto,
    ),
    Check::new(
        "handshake/wrong-psk",
        "With another preshared key there is no session, and the right one may still follow (5.4.3)",
        wrong_psk,
    ),
    Check::new(
        "handshake/psk-next-handshake",
        "A new preshared key counts from the next handshake; the live session stays",
        psk_change,
    ),
    Check::new(
        "handshake/unknown-peer",
        "Who is not a peer gets no answer (5.1: silence is a virtue)",
        unknown_peer,
    ),
    Check::new("handshake/replay", "The same initiation twice is answered once (5.1)", replay),
    Check::new(
        "handshake/older-timestamp",
        "An initiation with an older timestamp is not answered (5.1)",
        older,
    ),
    Check::new("handshake/equal-timestamp", "Nor is one with the same timestamp (5.1)", equal),
    Check::new(
        "handshake/newer-timestamp",
        "One nanosecond more is enough, whatever the clocks say (5.1)",
        newer,
    ),
    Check::new(
        "handshake/replay-after-removal",
        "A replay stays one after the peer was removed and added (firezone/boringtun#126)",
        replay_after_removal,
    ),
    Check::new(
        "handshake/timestamps-rise",
        "Its own timestamps rise, also after the peer was removed and added (5.4.2)",
        timestamps_rise,
    ),
    Check::new(
        "handshake/timestamp-whitened",
        "Its timestamps tell no more than 1/60 s: a precise clock is a side channel",
        whitened,
    ),
    Check::new(
        "handshake/initiation-rate",
        "A peer's initiations are taken 50 times a second at most",
        initiation_rate,
    ),
    Check::new(
        "handshake/response-unsolicited",
        "A response to nothing, or one that fails, changes nothing (5.4.3)",
        bogus_responses,
    ),
    Check::new(
        "handshake/response-replay",
        "A response is taken once: no key is used from zero again",
        response_replay,
    ),
    Check::new(
        "handshake/low-order-ephemeral-initiation",
        "An ephemeral key of low order is refused in an initiation (wireguard-go c7b76d3)",
        low_order_initiation,
    ),
    Check::new(
        "handshake/low-order-ephemeral-response",
        "And in a response (wireguard-go c7b76d3)",
        low_order_in_response,
    ),
    Check::new(
        "handshake/low-order-static",
        "A peer whose public key is of low order is neither called nor answered",
        low_order_static,
    ),
    Check::new(
        "handshake/claimed-static",
        "Knowing a peer's public key is not enough to be answered as it (5.4.2)",
        claimed_static,
    ),
    Check::new("handshake/tampered", "An initiation with any part changed is not answered (5.4.2)", tampered),
    Check::new(
        "handshake/own-key",
        "An initiation that claims the engine's own key is not answered",
        own_key,
    ),
    Check::new("handshake/indices-random", "Indices are random (5.4.2; GotaTun audit 3.2)", random_indices),
    Check::new(
        "handshake/quiet-until-needed",
        "A peer is not called before there is something to say (5.1)",
        quiet,
    ),
    Check::new(
        "handshake/response-counts",
        "Sending a response, too, starts REKEY_TIMEOUT anew: no initiation follows at once (6.1)",
        response_counts,
    ),
    Check::new(
        "handshake/both-at-once",
        "When both sides start at the same moment, data pass both ways",
        both_at_once,
    ),
    Check::new(
        "handshake/new-response-each",
        "Every response has a new index and ephemeral key (5.4.3)",
        new_response,
    ),
];

fn initiator(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
}

/// A peer with a preshared key.
fn peer_with_psk(scene: &Scene) -> Peer {
    let (peer, key) = (scene.stranger(), wire::random());
    peer.preshared_key.set(key);
    scene.add(&peer, &format!("{}preshared_key={}\n", endpoint(&peer), wire::hex(&key)));
    peer
}

/// A new preshared key that both have.
fn with_psk(scene: &Scene, peer: &Peer) {
    let key = wire::random();
    peer.preshared_key.set(key);
    scene.change(peer, &format!("preshared_key={}\n", wire::hex(&key)));
}

fn initiator_psk(scene: &mut Scene) {
    let (peer, tap) = (peer_with_psk(scene), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
}

fn responder(scene: &mut Scene) {
    let (peer, tap) = (scene.known(), scene.tun());
    scene.prompt(&peer);
    let session = peer.meet();
    assert!(peer.hear_data(&session, SOON).is_some(), "what was waiting is not sent");
    scene.settle(&tap, &peer, &session);
}

fn responder_psk(scene: &mut Scene) {
    let (peer, tap) = (peer_with_psk(scene), scene.tun());
    scene.prompt(&peer);
    let session = peer.meet();
    assert!(peer.hear_data(&session, SOON).is_some(), "what was waiting is not sent");
    scene.settle(&tap, &peer, &session);
}

fn by_adit_proto(scene: &mut Scene) {
    let peer = scene.known();
    let identity = Identity::new(&Secret::new(peer.keys.private));
    let mut handshake = Handshake::new(scene.keys.public, Timestamps::default());
    let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
    let now = unix(&peer.now());
    let timestamp = Tai64n::from_unix(now.as_secs(), now.subsec_nanos());
    let at = Instant::from_nanos(1);
    let mut env = Env { now: at, timestamp, rng: &mut rng, key_log: None };
    let (initiation, _) = handshake.create_initiation(&identity, 7, &mut env).expect("a good public key");
    let answer = peer.ask(initiation.as_bytes(), SOON).expect("no response");
    let Some(Message::Handshake(HandshakeMessage::Response(response))) = Message::parse(&answer) else {
        panic!("not a response: {answer:x?}");
    };
    handshake.consume_response(&identity, &response, at).expect("a response that authenticates");
    // Nothing was said on that session, so the engine calls itself when it has something to say.
    scene.change(&peer, "remove=true\n");
    scene.add(&peer, &endpoint(&peer));
    scene.prompt(&peer);
    let called = peer.called();
    let Some(Message::Handshake(HandshakeMessage::Initiation(initiation))) = Message::parse(&called) else {
        panic!("not an initiation: {called:x?}");
    };
    let opened = identity.open_initiation(&initiation).expect("an initiation that opens");
    let consumed = handshake.consume_initiation(&identity, opened, at).expect("one that authenticates");
    let mut env = Env { now: at, timestamp, rng: &mut rng, key_log: None };
    let (response, _) = handshake.create_response(&identity, consumed, 8, &mut env).expect("a response");
    peer.port.drain();
    peer.port.send(response.as_bytes());
    assert!(peer.port.next(wire::DATA, SOON).is_some(), "the engine did not take the response");
}

fn wrong_psk(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let initiation = peer.called();
    peer.preshared_key.set([1; 32]);
    peer.port.send(&peer.respond(&initiation).0);
    assert_eq!(peer.port.count(wire::DATA, SILENCE), 0, "data after a response with another preshared key");
    peer.preshared_key.set([0; 32]);
    let (response, session) = peer.respond(&initiation);
    peer.port.send(&response);
    assert!(peer.hear(&session, SOON).is_some(), "the right response is not taken after a wrong one");
}

fn psk_change(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    with_psk(scene, &peer);
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
}

fn unknown_peer(scene: &mut Scene) {
    let (stranger, peer) = (scene.stranger(), scene.peer());
    assert!(stranger.is_ignored(&stranger.initiation().bytes), "a stranger is answered");
    assert!(peer.is_answered(&peer.initiation().bytes), "a peer is not");
}

fn replay(scene: &mut Scene) {
    let peer = scene.peer();
    let initiation = peer.initiation().bytes;
    assert!(peer.is_answered(&initiation));
    // Not refused for being one too many, either.
    std::thread::sleep(Duration::from_millis(60));
    assert!(peer.is_ignored(&initiation), "a replayed initiation is answered");
}

fn older(scene: &mut Scene) {
    let peer = scene.peer();
    let now = unix(&peer.now());
    assert!(peer.is_answered(&peer.initiation_at(&tai64n(now)).bytes));
    for back in [seconds(1), seconds(86_400), Duration::from_nanos(1)] {
        let initiation = peer.initiation_at(&tai64n(now - back));
        assert!(peer.is_ignored(&initiation.bytes), "answered, though {back:?} older");
    }
    let initiation = peer.initiation_at(&[0; 12]);
    assert!(peer.is_ignored(&initiation.bytes), "answered, though of the year dot");
}

fn equal(scene: &mut Scene) {
    let peer = scene.peer();
    let now = peer.now();
    assert!(peer.is_answered(&peer.initiation_at(&now).bytes));
    assert!(peer.is_ignored(&peer.initiation_at(&now).bytes), "the same timestamp is taken twice");
}

fn newer(scene: &mut Scene) {
    let peer = scene.peer();
    // Nobody but the peer reads its clock: 1990 is as good as now.
    let then = seconds(631_152_000);
    assert!(peer.is_answered(&peer.initiation_at(&tai64n(then)).bytes), "an old clock");
    let next = peer.initiation_at(&tai64n(then + Duration::from_nanos(1)));
    assert!(peer.is_answered(&next.bytes), "one nanosecond later");
    let next = peer.initiation_at(&tai64n(then + seconds(2_000_000_000)));
    assert!(peer.is_answered(&next.bytes), "half a century later");
}

fn replay_after_removal(scene: &mut Scene) {
    let peer = scene.peer();
    let initiation = peer.initiation().bytes;
    assert!(peer.is_answered(&initiation));
    scene.change(&peer, "remove=true\n");
    scene.add(&peer, "");
    std::thread::sleep(Duration::from_millis(60));
    assert!(peer.is_ignored(&initiation), "a replay is answered once the peer was removed and added");
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn timestamps_rise(scene: &mut Scene) {
    let peer = scene.known();
    let mut last = [0; 12];
    for _ in 0..5 {
        scene.prompt(&peer);
        let (_, timestamp) = peer.read(&peer.called()).expect("an initiation that authenticates");
        assert!(timestamp > last, "{timestamp:x?} after {last:x?}");
        last = timestamp;
        scene.change(&peer, "remove=true\n");
        scene.add(&peer, &endpoint(&peer));
    }
}

fn whitened(scene: &mut Scene) {
    for _ in 0..3 {
        let peer = scene.known();
        scene.prompt(&peer);
        let (_, timestamp) = peer.read(&peer.called()).expect("an initiation that authenticates");
        let nanos = unix(&timestamp).subsec_nanos();
        assert_eq!(nanos % (1 << 24), 0, "{nanos} ns is no multiple of 2^24");
    }
}

fn initiation_rate(scene: &mut Scene) {
    let peer = scene.peer();
    let initiations: Vec<_> = (0..100).map(|_| peer.hasty_initiation(&peer.now()).bytes).collect();
    let start = std::time::Instant::now();
    initiations.iter().for_each(|initiation| peer.port.send(initiation));
    let (mut answered, mut last) = (0, Duration::ZERO);
    while peer.port.next(wire::RESPONSE, seconds(1)).is_some() {
        (answered, last) = (answered + 1, start.elapsed());
    }
    // On a busy machine they may be taken one by one; those that are taken 20 ms apart may all be answered.
    let allowed = 3 + last.as_millis() / 20;
    assert!(answered >= 1, "none is answered");
    assert!(answered <= allowed, "{answered} of 100 initiations at once are answered, in {last:?}");
}

fn bogus_responses(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let initiation = peer.called();
    let (good, session) = peer.respond(&initiation);
    let mut astray = good.clone();
    astray[8] ^= 1;
    peer.port.send(&wire::again_with_mac1(&astray, &scene.keys.public));
    for at in [12, 43, 44, 59] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        peer.port.send(&wire::again_with_mac1(&bad, &scene.keys.public));
    }
    assert_eq!(peer.port.count(wire::DATA, SILENCE), 0, "a response that fails is taken");
    peer.port.send(&good);
    assert!(peer.hear(&session, SOON).is_some(), "bad responses spoil the pending handshake");
}

fn response_replay(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let (response, session) = peer.respond(&peer.called());
    peer.port.send(&response);
    assert_eq!(peer.hear(&session, SOON).map(|data| data.counter), Some(0), "the first counter");
    peer.port.send(&response);
    std::thread::sleep(SILENCE);
    scene.prompt(&peer);
    let mut last = 0;
    for message in peer.port.all(SILENCE) {
        if let Some(data) = session.open(&message) {
            assert!(data.counter > last, "counter {} after {last}", data.counter);
            last = data.counter;
        }
    }
    assert!(last > 0, "nothing is sent after a replayed response");
}

fn low_order_initiation(scene: &mut Scene) {
    let peer = scene.peer();
    let private = PrivateKey::new(peer.keys.private);
    let ss = *x25519::shared(&private, &scene.keys.public).expect("good keys").expose();
    for point in LOW_ORDER {
        let forgery = Forgery {
            responder: scene.keys.public,
            ephemeral: point,
            es: [0; 32],
            claimed: peer.keys.public,
            ss,
        };
        let initiation = forgery.initiation(7, &peer.now());
        assert!(peer.is_ignored(&initiation), "answered, with ephemeral key {}", wire::hex(&point));
    }
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn low_order_in_response(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let initiation = peer.called();
    for point in LOW_ORDER {
        let response = low_order_response(&initiation, &peer.keys.private, &scene.keys.public, &point, 7);
        peer.port.send(&response);
    }
    assert_eq!(peer.port.count(wire::DATA, SILENCE), 0, "an ephemeral key of low order is taken");
    let (response, session) = peer.respond(&initiation);
    peer.port.send(&response);
    assert!(peer.hear(&session, SOON).is_some(), "and the right response is not");
}

fn low_order_static(scene: &mut Scene) {
    let watcher = scene.known();
    for (n, point) in (50..).zip(LOW_ORDER) {
        let lines = format!(
            "public_key={}\nendpoint={}\nallowed_ip=192.168.241.{n}/32\n",
            wire::hex(&point),
            watcher.port.address()
        );
        // To refuse it is as good.
        let _ = scene.uapi().set(&lines);
        let _ = scene.say([192, 168, 241, n], b"anybody there?");
        let ephemeral = Keys::new();
        let private = PrivateKey::new(ephemeral.private);
        let es = *x25519::shared(&private, &scene.keys.public).expect("good keys").expose();
        let (responder, ephemeral) = (scene.keys.public, ephemeral.public);
        let forgery = Forgery { responder, ephemeral, es, claimed: point, ss: [0; 32] };
        watcher.port.send(&forgery.initiation(7, &watcher.now()));
    }
    let heard = watcher.port.all(seconds(1));
    assert!(heard.is_empty(), "it sends {} bytes where everybody knows the secrets", heard[0].len());
    assert!(watcher.is_answered(&watcher.initiation().bytes));
}

fn claimed_static(scene: &mut Scene) {
    let (victim, attacker) = (scene.peer(), scene.stranger());
    let ephemeral = Keys::new();
    let product = |keys: &Keys| {
        let private = PrivateKey::new(keys.private);
        *x25519::shared(&private, &scene.keys.public).expect("good keys").expose()
    };
    for ss in [[0; 32], product(&ephemeral), product(&attacker.keys)] {
        let forgery = Forgery {
            responder: scene.keys.public,
            ephemeral: ephemeral.public,
            es: product(&ephemeral),
            claimed: victim.keys.public,
            ss,
        };
        assert!(attacker.is_ignored(&forgery.initiation(7, &attacker.now())), "answered as somebody else");
    }
    assert_eq!(scene.get_of(&victim, "endpoint"), None, "and its endpoint moved");
    assert!(victim.is_answered(&victim.initiation().bytes));
}

fn tampered(scene: &mut Scene) {
    let peer = scene.peer();
    // One byte of the ephemeral key, the static key, its tag, the timestamp, its tag; mac1 is made anew each time.
    for at in [8, 39, 40, 71, 87, 88, 99, 115] {
        let mut initiation = peer.initiation().bytes;
        initiation[at] ^= 1;
        let initiation = wire::again_with_mac1(&initiation, &scene.keys.public);
        assert!(peer.is_ignored(&initiation), "answered, with byte {at} changed");
    }
    // The index is authenticated by mac1 alone.
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn own_key(scene: &mut Scene) {
    let (keys, port) = (scene.keys.clone(), scene.port_at("10.77.0.2:0"));
    let itself = Peer::new(keys, port, 40, scene.keys.public);
    assert!(itself.is_ignored(&itself.initiation().bytes), "the engine answers itself");
    let peer = scene.peer();
    assert!(peer.is_answered(&peer.initiation().bytes));
}

fn random_indices(scene: &mut Scene) {
    let mut indices = Vec::new();
    let peers: Vec<Peer> = (0..4).map(|_| scene.peer()).collect();
    for _ in 0..6 {
        indices.extend(peers.iter().map(|peer| peer.half_connect().remote));
    }
    // 24 random numbers: no two share their upper half, nor their lower one, in 98 of 100 cases each.
    for (what, shift) in [("upper", 16), ("lower", 0)] {
        let mut halves: Vec<u16> = indices.iter().map(|index| (index >> shift) as u16).collect();
        halves.sort_unstable();
        halves.dedup();
        assert!(
            halves.len() >= 22,
            "24 indices have {} different {what} halves: {indices:08x?}",
            halves.len()
        );
    }
}

fn quiet(scene: &mut Scene) {
    let peer = scene.known();
    assert!(peer.port.all(seconds(2)).is_empty(), "something is sent, though nothing is to be said");
    scene.prompt(&peer);
    peer.called();
}

fn one_initiation(scene: &mut Scene) {
    let peer = scene.known();
    for _ in 0..40 {
        scene.prompt(&peer);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(peer.port.count(wire::INITIATION, Duration::from_millis(400)), 1, "initiations in 4.4 s");
}

fn response_counts(scene: &mut Scene) {
    let peer = scene.peer();
    peer.half_connect();
    scene.prompt(&peer);
    assert_eq!(peer.port.count(wire::INITIATION, seconds(2)), 0, "initiations right after a response");
}

fn both_at_once(scene: &mut Scene) {
    let (peer, tap) = (scene.known(), scene.tun());
    scene.prompt(&peer);
    let theirs = peer.called();
    let ours = peer.initiation();
    let answer = peer.ask(&ours.bytes, SOON).expect("no response while its own initiation is pending");
    let (response, _) = peer.respond(&theirs);
    peer.port.send(&response);
    let session = ours.finish(&answer).expect("a response that authenticates");
    peer.port.send(&session.next(&[]));
    std::thread::sleep(SILENCE);
    let session = if scene.delivers(&tap, &peer, &session) { session } else { peer.connect() };
    scene.settle(&tap, &peer, &session);
}

fn old_response(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let first = peer.called();
    let second = peer.called_within(seconds(8));
    assert_ne!(first[4..40], second[4..40], "index and ephemeral key of the second");
    peer.port.send(&peer.respond(&first).0);
    assert_eq!(peer.port.count(wire::DATA, SILENCE), 0, "data after a response to the first initiation");
    let (response, session) = peer.respond(&second);
    peer.port.send(&response);
    assert!(peer.hear(&session, SOON).is_some(), "the response to the second initiation is not taken");
}

fn new_response(scene: &mut Scene) {
    let peer = scene.peer();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let response = peer.ask(&peer.initiation().bytes, SOON).expect("no response");
        assert_eq!(response.len(), 92, "bytes of a response");
        assert_eq!(response[..4], [2, 0, 0, 0], "type and reserved bytes");
        let fields = (wire::index(&response, 4), response[12..44].to_vec());
        let is_new = |(index, ephemeral): &(u32, Vec<u8>)| *index != fields.0 && *ephemeral != fields.1;
        assert!(seen.iter().all(is_new), "a response made of an earlier one's parts");
        seen.push(fields);
    }
}

fn over_ipv6(scene: &mut Scene) {
    let (mut peer, tap) = (scene.stranger(), scene.tun());
    peer.port = scene.port_at("[fd77::2]:0");
    scene.add(&peer, &endpoint(&peer));
    scene.prompt(&peer);
    let session = peer.meet();
    assert!(peer.hear_data(&session, SOON).is_some(), "what was waiting is not sent");
    scene.settle(&tap, &peer, &session);
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
}
