//! Cookies and load (whitepaper 5.3, 5.4.4, 5.4.7).
//!
//! Only a busy engine asks for cookies, and a flood alone keeps no fast processor busy. So the engine is stopped for a
//! moment while initiations gather at its socket, and finds them all at once.

use std::cell::Cell;
use std::time::{Duration, Instant};

use lab::seconds;
use nix::sys::signal::Signal;

use crate::check::Check;
use crate::inner;
use crate::peer::{Peer, Port, SILENCE, SOON};
use crate::scene::{Scene, marked};
use crate::wire;

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::new(
        "cookie/used-at-next-attempt",
        "A cookie is used when the initiation is next sent, and no sooner (5.4.4, 6.6)",
        used,
    ),
    Check::new("cookie/wrong-key", "A cookie reply that does not authenticate is ignored (5.4.7)", wrong_key),
    Check::new(
        "cookie/other-mac1",
        "Nor is one for another message taken: mac1 is its associated data (5.4.7)",
        other_mac1,
    ),
    Check::new(
        "cookie/consumed-once",
        "Of several replies to one message the first counts (5.4.7)",
        consumed_once,
    ),
    Check::flood(
        "cookie/asked-under-load",
        "Under load an initiation brings a cookie reply that authenticates (5.4.7; boringtun#294)",
        asked,
    ),
    Check::flood("cookie/mac2-accepted", "With the cookie it is answered, under load (5.4.4)", accepted),
    Check::flood("cookie/wrong-mac2", "With a wrong one it is not (5.4.4)", wrong_mac2),
    Check::flood(
        "cookie/bound-to-port",
        "A cookie for one port is none for another (5.4.7; GotaTun 0.6.0)",
        bound_to_port,
    ),
    Check::flood("cookie/bound-to-address", "Nor for another address (5.4.7)", bound_to_address),
    Check::flood(
        "cookie/mac1-first",
        "Without mac1 there is no cookie reply: it would answer anybody (5.4.4)",
        mac1_first,
    ),
    Check::flood("cookie/responses-too", "Under load a response needs a cookie, too (5.4.4)", responses_too),
    Check::flood(
        "cookie/load-is-everybodys",
        "Many sources that send little each are load together (GotaTun counts each alone)",
        collective,
    ),
    Check::flood(
        "cookie/load-ends",
        "When the flood is over, no cookie is asked for (GotaTun 0.1.2)",
        load_ends,
    ),
    Check::flood(
        "cookie/limit-with-mac2",
        "With valid cookies, too, one address gets about 20 handshakes a second (5.3)",
        limit,
    ),
    Check::flood(
        "cookie/session-lives",
        "A live session passes data while a flood is on (5.3)",
        session_lives,
    ),
    Check::flood(
        "cookie/memory-bounded",
        "60,000 initiations from 400 sources leave no memory behind",
        memory,
    ),
];

/// Initiations with a valid mac1 of somebody unknown, from one port or many.
struct Flood {
    messages: Vec<Vec<u8>>,
    ports: Vec<Port>,
    next: Cell<usize>,
}

impl Flood {
    fn new(scene: &Scene, addresses: impl Iterator<Item = String>) -> Flood {
        let stranger = scene.stranger();
        let messages = (0..64).map(|_| stranger.hasty_initiation(&stranger.now()).bytes).collect();
        let ports = addresses.map(|address| scene.port_at(&address)).collect();
        Flood { messages, ports, next: Cell::new(0) }
    }

    /// From the address that the peers have, for an engine may look at each address alone.
    fn of_one(scene: &Scene) -> Flood {
        Flood::new(scene, std::iter::once("10.77.0.2:0".to_owned()))
    }

    /// Has the engine find this many messages, and what `then` sends, at once.
    fn wave(&self, scene: &mut Scene, count: usize, then: impl FnOnce()) {
        scene.engine.signal(Signal::SIGSTOP);
        for _ in 0..count {
            let n = self.next.replace(self.next.get() + 1);
            self.ports[n % self.ports.len()].send(&self.messages[n % self.messages.len()]);
        }
        then();
        scene.engine.signal(Signal::SIGCONT);
    }

    /// What comes back for `message` from `port` under load: a response or a cookie reply. Waves are repeated until one
    /// of those asked for comes.
    fn ask(
        &self,
        scene: &mut Scene,
        port: &Port,
        message: impl Fn() -> Vec<u8>,
        kinds: &[u8],
    ) -> Option<Vec<u8>> {
        let end = Instant::now() + seconds(12);
        for count in (0..).map(|n| 1_500 + 500 * (n % 6)) {
            port.drain();
            let message = message();
            self.wave(scene, count, || ());
            // It comes while the wave is worked through, or right after: load is said to last for a second.
            std::thread::sleep(Duration::from_millis(5));
            port.send(&message);
            let wait = Instant::now() + Duration::from_millis(600);
            while let Some((answer, _)) = port.receive(wait.saturating_duration_since(Instant::now())) {
                if kinds.contains(&answer[0]) {
                    return Some([&answer[..], &wire::mac1_of(&message)].concat());
                }
            }
            if Instant::now() > end {
                return None;
            }
        }
        unreachable!("the counts do not end")
    }

    /// The cookie for where `port` is.
    #[track_caller]
    fn cookie(&self, scene: &mut Scene, peer: &Peer, port: &Port) -> [u8; 16] {
        let initiation = || peer.hasty_initiation(&peer.now()).bytes;
        let answer = self.ask(scene, port, initiation, &[wire::COOKIE_REPLY]);
        let answer = answer.expect("no cookie is asked for, however many initiations wait");
        let (reply, mac1) = answer.split_at(64);
        assert_eq!(reply[..4], [3, 0, 0, 0], "type and reserved bytes");
        let cookie = wire::open_cookie_reply(reply, &peer.engine.get(), &wire::field(mac1, 0));
        cookie.expect("a cookie reply that does not authenticate")
    }
}

/// Answers the engine's first initiation with `replies`; its second one.
fn second_after(scene: &Scene, peer: &Peer, replies: impl FnOnce(u32, [u8; 16]) -> Vec<Vec<u8>>) -> Vec<u8> {
    scene.prompt(peer);
    let first = peer.called();
    for reply in replies(wire::index(&first, 4), wire::mac1_of(&first)) {
        peer.port.send(&reply);
    }
    assert_eq!(peer.port.count(wire::INITIATION, seconds(4)), 0, "an initiation before its time");
    peer.called()
}

fn used(scene: &mut Scene) {
    let peer = scene.known();
    let cookie = wire::random();
    let key = peer.keys.public;
    let second =
        second_after(scene, &peer, |index, mac1| vec![wire::cookie_reply(&key, index, &mac1, &cookie)]);
    assert_eq!(wire::with_mac2(&second, &cookie), second, "mac2 made of the cookie");
    let session = {
        let (response, session) = peer.respond(&second);
        peer.port.send(&response);
        session
    };
    assert!(peer.hear(&session, SOON).is_some(), "no session after a cookie");
}

fn wrong_key(scene: &mut Scene) {
    let peer = scene.known();
    let (engine, ours) = (scene.keys.public, peer.keys.public);
    let second = second_after(scene, &peer, |index, mac1| {
        let mut spoilt = wire::cookie_reply(&ours, index, &mac1, &[1; 16]);
        spoilt[40] ^= 1;
        vec![wire::cookie_reply(&engine, index, &mac1, &[1; 16]), spoilt]
    });
    assert_eq!(wire::mac2_of(&second), [0; 16], "a cookie was taken that nobody authentic gave");
}

fn other_mac1(scene: &mut Scene) {
    let peer = scene.known();
    let key = peer.keys.public;
    let second = second_after(scene, &peer, |index, mac1| {
        let other = mac1.map(|byte| byte ^ 1);
        vec![
            wire::cookie_reply(&key, index, &other, &[1; 16]),
            wire::cookie_reply(&key, index ^ 1, &other, &[1; 16]),
        ]
    });
    assert_eq!(wire::mac2_of(&second), [0; 16], "a cookie was taken that answers another message");
}

fn consumed_once(scene: &mut Scene) {
    let peer = scene.known();
    let key = peer.keys.public;
    let (first, later): ([u8; 16], [u8; 16]) = (wire::random(), wire::random());
    let second = second_after(scene, &peer, |index, mac1| {
        [first, later].iter().map(|cookie| wire::cookie_reply(&key, index, &mac1, cookie)).collect()
    });
    assert_eq!(wire::with_mac2(&second, &first), second, "mac2 made of the first cookie");
}

fn asked(scene: &mut Scene) {
    let peer = scene.peer();
    let flood = Flood::of_one(scene);
    flood.cookie(scene, &peer, &peer.port);
    drop(flood);
    std::thread::sleep(seconds(2));
    let index = peer.connect().remote;
    assert_ne!(index, 0, "it lives");
}

/// An initiation of `peer`'s with this cookie.
fn with_cookie(peer: &Peer, cookie: &[u8; 16]) -> Vec<u8> {
    wire::with_mac2(&peer.hasty_initiation(&peer.now()).bytes, cookie)
}

fn accepted(scene: &mut Scene) {
    let peer = scene.peer();
    let flood = Flood::of_one(scene);
    let cookie = flood.cookie(scene, &peer, &peer.port);
    let answer =
        flood.ask(scene, &peer.port, || with_cookie(&peer, &cookie), &[wire::RESPONSE, wire::COOKIE_REPLY]);
    assert_eq!(
        answer.map(|answer| answer[0]),
        Some(wire::RESPONSE),
        "the answer to an initiation with a cookie"
    );
}

/// Asserts that under load `message` from `port` never brings a response, only cookie replies.
fn is_not_enough(scene: &mut Scene, flood: &Flood, port: &Port, message: impl Fn() -> Vec<u8>) {
    for _ in 0..8 {
        let answer = flood.ask(scene, port, &message, &[wire::COOKIE_REPLY, wire::RESPONSE]);
        if answer.is_some_and(|answer| answer[0] == wire::COOKIE_REPLY) {
            return;
        }
        // The load may have been over just then.
    }
    panic!("answered under load, without a cookie of its own");
}

fn wrong_mac2(scene: &mut Scene) {
    let peer = scene.peer();
    let flood = Flood::of_one(scene);
    flood.cookie(scene, &peer, &peer.port);
    is_not_enough(scene, &flood, &peer.port, || with_cookie(&peer, &wire::random()));
}

fn bound_to_port(scene: &mut Scene) {
    let peer = scene.peer();
    let flood = Flood::of_one(scene);
    let cookie = flood.cookie(scene, &peer, &peer.port);
    let other = scene.port_at("10.77.0.2:0");
    is_not_enough(scene, &flood, &other, || with_cookie(&peer, &cookie));
}

fn bound_to_address(scene: &mut Scene) {
    let peer = scene.peer();
    // Both addresses are busy: an engine may look at each alone.
    let flood = Flood::new(scene, ["10.77.0.2:0", "10.78.0.9:0"].map(str::to_owned).into_iter());
    let cookie = flood.cookie(scene, &peer, &peer.port);
    let other = scene.port_at(&format!("10.78.0.9:{}", peer.port.address().port()));
    is_not_enough(scene, &flood, &other, || with_cookie(&peer, &cookie));
}

fn mac1_first(scene: &mut Scene) {
    let peer = scene.peer();
    let flood = Flood::of_one(scene);
    flood.cookie(scene, &peer, &peer.port);
    let other = scene.port_at("10.77.0.2:0");
    for _ in 0..3 {
        let mut message = peer.hasty_initiation(&peer.now()).bytes;
        message[120] ^= 1;
        flood.wave(scene, 3_000, || other.send(&message));
        assert!(other.all(SILENCE).is_empty(), "an answer to a message without a valid mac1");
    }
}

fn responses_too(scene: &mut Scene) {
    let (caller, peer) = (scene.peer(), scene.known());
    let flood = Flood::of_one(scene);
    flood.cookie(scene, &caller, &caller.port);
    scene.prompt(&peer);
    let (response, _) = peer.respond(&peer.called());
    let kinds = [wire::COOKIE_REPLY, wire::DATA];
    let answer = flood.ask(scene, &peer.port, || response.clone(), &kinds);
    assert_eq!(
        answer.map(|answer| answer[0]),
        Some(wire::COOKIE_REPLY),
        "the answer to a response under load"
    );
}

fn collective(scene: &mut Scene) {
    let peer = scene.peer();
    let flood = Flood::new(scene, (0..300).map(|n| format!("10.78.{}.{}:0", n / 100, n % 100 + 1)));
    flood.cookie(scene, &peer, &peer.port);
}

fn load_ends(scene: &mut Scene) {
    let peer = scene.peer();
    let flood = Flood::of_one(scene);
    flood.cookie(scene, &peer, &peer.port);
    drop(flood);
    std::thread::sleep(seconds(3));
    assert!(
        peer.is_answered(&peer.initiation().bytes),
        "a cookie is asked for, three seconds after the flood"
    );
}

fn limit(scene: &mut Scene) {
    let peers: Vec<Peer> = (0..60).map(|_| scene.peer()).collect();
    let port = scene.port_at("10.77.0.2:0");
    let flood = Flood::of_one(scene);
    let cookie = flood.cookie(scene, &peers[0], &port);
    let (mut answered, mut allowed) = (0, 0);
    for round in 0..8 {
        let messages: Vec<_> = peers.iter().map(|peer| with_cookie(peer, &cookie)).collect();
        port.drain();
        flood.wave(scene, 2_000, || ());
        // Later from round to round: while its buffer is full, the engine gets nothing.
        std::thread::sleep(Duration::from_millis(5 + 20 * round));
        let start = Instant::now();
        messages.iter().for_each(|message| port.send(message));
        answered = port.count(wire::RESPONSE, Duration::from_millis(700));
        allowed = 5 + start.elapsed().as_millis() as usize / 50 + 5;
        if answered > 0 {
            break;
        }
    }
    assert!(answered > 0, "none of 60 initiations with a cookie is answered");
    assert!(answered <= allowed, "{answered} of 60 handshakes from one address at once");
}

fn session_lives(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    let flood = Flood::of_one(scene);
    let mut delivered = 0;
    for _ in 0..5 {
        flood.wave(scene, 1_000, || ());
        for _ in 0..4 {
            let packet = marked(&peer);
            peer.port.send(&session.next(&inner::padded(packet.clone())));
            delivered += usize::from(tap.saw(&packet, seconds(1)));
            scene.prompt(&peer);
        }
    }
    assert!(delivered >= 16, "{delivered} of 20 packets are delivered");
    assert!(peer.port.count(wire::DATA, SILENCE) >= 16, "packets the other way");
}

fn memory(scene: &mut Scene) {
    let peer = scene.peer();
    let flood = Flood::new(scene, (0..400).map(|n| format!("10.78.{}.{}:0", n / 100, n % 100 + 1)));
    flood.wave(scene, 3_000, || ());
    assert!(peer.port.all(SILENCE).is_empty(), "what nobody asked for");
    let before = scene.resident();
    for _ in 0..20 {
        flood.wave(scene, 3_000, || ());
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(seconds(1));
    let after = scene.resident();
    assert!(after < before * 3 / 2 + 16_384, "{before} KB after the first wave, {after} KB after the last");
}
