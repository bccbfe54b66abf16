//! Timers (whitepaper 6). What waits for minutes is slow.

use std::time::{Duration, Instant};

use lab::seconds;

use crate::check::Check;
use crate::inner;
use crate::peer::{Peer, SOON, Session};
use crate::scene::{Scene, marked};
use crate::wire;

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::slow(
        "timer/gives-up",
        "An initiation is retried for REKEY_ATTEMPT_TIME, 90 s, and no longer (6.4)",
        gives_up,
    ),
    Check::slow(
        "timer/rekey-after-120-s",
        "An initiator that sends on a key of 120 s starts a handshake (6.2)",
        rekeys,
    ),
    Check::slow(
        "timer/responder-waits",
        "A responder that sends on such a key does not (6.2)",
        responder_waits,
    ),
    Check::slow(
        "timer/rekey-on-receive",
        "An initiator that receives on a key of 165 s starts a handshake, once (6.2)",
        rekeys_on_receive,
    ),
    Check::slow(
        "timer/reject-after-180-s",
        "On a key of 180 s nothing is sent, nothing taken (6.2)",
        rejects,
    ),
    Check::slow("timer/cookie-forgotten", "A cookie is used for less than 120 s (5.4.7)", forgets_cookie),
    Check::new(
        "timer/retransmission",
        "An unanswered initiation is sent again after 5 to 5.34 s, made anew (6.1, 6.4)",
        retransmission,
    ),
    Check::new(
        "timer/unanswered-data",
        "Data sent and nothing heard for 15 s: a new handshake (6.5)",
        unanswered,
    ),
    Check::new(
        "timer/passive-keepalive",
        "Data received and nothing sent for 10 s: a keepalive (6.5)",
        passive_keepalive,
    ),
    Check::new(
        "timer/no-keepalive-for-keepalive",
        "A keepalive brings no keepalive: idle peers are silent (6.5; GotaTun 0.7.2)",
        no_ping_pong,
    ),
    Check::new(
        "timer/no-keepalive-after-data",
        "Who has sent data meanwhile sends no passive keepalive (6.5)",
        no_keepalive_after_data,
    ),
    Check::new(
        "timer/heard-is-enough",
        "A keepalive is enough to be heard: no handshake after 15 s (6.5)",
        heard,
    ),
    Check::new(
        "timer/persistent-keepalive",
        "A persistent keepalive comes every interval, the first at once",
        persistent_keepalive,
    ),
    Check::new(
        "timer/persistent-keepalive-rearmed",
        "Whatever is sent or heard serves as one: it starts the interval anew",
        persistent_keepalive_rearmed,
    ),
    Check::new("timer/persistent-keepalive-off", "An interval of zero ends it", persistent_keepalive_off),
];

/// Whether `passed` lies within `expected` seconds; a busy machine may be late by a second.
#[track_caller]
fn assert_took(passed: Duration, expected: std::ops::Range<f64>) {
    let passed = passed.as_secs_f64();
    assert!((expected.start - 0.02..expected.end + 1.0).contains(&passed), "{passed:.3} s, not {expected:?}");
}

/// A session that the engine began, and its birth.
fn begun_by_engine(scene: &Scene) -> (Peer, Session, Instant) {
    let peer = scene.known();
    scene.prompt(&peer);
    let session = peer.meet();
    let birth = Instant::now();
    assert!(peer.hear_data(&session, SOON).is_some(), "no data on the new session");
    // The engine has been heard, and need not ask why not.
    peer.port.send(&session.next(&[]));
    (peer, session, birth)
}

fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

fn retransmission(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    let mut seen = vec![peer.called()];
    for _ in 0..3 {
        let before = Instant::now();
        let next = peer.called_within(seconds(8));
        // Measured from arrival to arrival.
        assert_took(before.elapsed(), 4.98..5.34);
        assert!(seen.iter().all(|one| one[4..8] != next[4..8]), "the same index");
        assert!(seen.iter().all(|one| one[8..40] != next[8..40]), "the same ephemeral key");
        seen.push(next);
    }
}

fn gives_up(scene: &mut Scene) {
    let peer = scene.known();
    scene.prompt(&peer);
    peer.called();
    let start = Instant::now();
    let mut last = Duration::ZERO;
    while start.elapsed() < seconds(125) {
        if peer.port.next(wire::INITIATION, seconds(1)).is_some() {
            last = start.elapsed();
        }
    }
    // 20 attempts of 5.33 s, or until 90 s have passed: both are in use.
    assert!((80.0..108.0).contains(&last.as_secs_f64()), "the last initiation came after {last:?}");
}

fn rekeys(scene: &mut Scene) {
    let (peer, session, birth) = begun_by_engine(scene);
    while birth.elapsed() < seconds(116) {
        peer.port.send(&session.next(&inner::padded(marked(&peer))));
        scene.prompt(&peer);
        assert_eq!(
            peer.port.count(wire::INITIATION, seconds(2)),
            0,
            "a handshake after {:?}",
            birth.elapsed()
        );
    }
    wait_until(birth + seconds(121));
    scene.prompt(&peer);
    peer.called();
}

fn responder_waits(scene: &mut Scene) {
    let peer = scene.peer();
    let session = peer.connect();
    let birth = Instant::now();
    while birth.elapsed() < seconds(140) {
        // Both talk, so that nothing else is a reason for a handshake.
        peer.port.send(&session.next(&inner::padded(marked(&peer))));
        scene.prompt(&peer);
        assert_eq!(
            peer.port.count(wire::INITIATION, seconds(2)),
            0,
            "a handshake after {:?}",
            birth.elapsed()
        );
    }
}

fn rekeys_on_receive(scene: &mut Scene) {
    let (peer, session, birth) = begun_by_engine(scene);
    wait_until(birth + seconds(160));
    peer.port.send(&session.next(&[]));
    assert_eq!(peer.port.count(wire::INITIATION, seconds(2)), 0, "a handshake on receiving at 160 s");
    wait_until(birth + seconds(167));
    peer.port.send(&session.next(&[]));
    peer.port.send(&session.next(&[]));
    peer.called();
    assert_eq!(peer.port.count(wire::INITIATION, seconds(3)), 0, "a second one at once");
}

fn rejects(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    let birth = Instant::now();
    wait_until(birth + seconds(176));
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
    wait_until(birth + seconds(182));
    let packet = marked(&peer);
    peer.port.send(&session.next(&inner::padded(packet.clone())));
    assert!(!tap.saw(&packet, seconds(1)), "data on a key of 182 s are delivered");
    peer.port.drain();
    scene.prompt(&peer);
    assert!(peer.hear_data(&session, seconds(1)).is_none(), "data are sent on a key of 182 s");
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
}

fn forgets_cookie(scene: &mut Scene) {
    let peer = scene.known_with("persistent_keepalive_interval=1\n");
    let first = peer.called();
    let cookie = [7; 16];
    let reply =
        wire::cookie_reply(&peer.keys.public, wire::index(&first, 4), &wire::mac1_of(&first), &cookie);
    peer.port.send(&reply);
    let start = Instant::now();
    let second = peer.called_within(seconds(8));
    assert_eq!(wire::with_mac2(&second, &cookie), second, "mac2 made of the cookie");
    wait_until(start + seconds(121));
    peer.port.drain();
    scene.prompt(&peer);
    let late = peer.called_within(seconds(8));
    assert_eq!(wire::mac2_of(&late), [0; 16], "mac2 after two minutes");
}

fn unanswered(scene: &mut Scene) {
    let peer = scene.peer();
    let session = peer.connect();
    std::thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    scene.reaches(&peer, &session);
    peer.called_within(seconds(18));
    assert_took(start.elapsed(), 14.7..15.6);
}

fn passive_keepalive(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    // Some clocks are coarse: data are to be later than the handshake by all of them.
    std::thread::sleep(seconds(1));
    peer.port.drain();
    let start = Instant::now();
    scene.settle(&tap, &peer, &session);
    let data = peer.hear(&session, seconds(13)).expect("no keepalive");
    assert!(data.text.is_empty(), "{data:?}");
    // After the data, or after what was last sent before them: both are in use.
    assert_took(start.elapsed(), 8.8..10.6);
}

fn no_ping_pong(scene: &mut Scene) {
    let peer = scene.peer();
    let session = peer.connect();
    peer.port.send(&session.next(&[]));
    let heard = peer.port.all(seconds(12));
    assert!(heard.is_empty(), "{} messages after nothing but keepalives", heard.len());
}

fn no_keepalive_after_data(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    std::thread::sleep(seconds(3));
    scene.reaches(&peer, &session);
    peer.port.send(&session.next(&[]));
    assert!(peer.hear(&session, seconds(11)).is_none(), "a keepalive, though data were sent");
}

fn heard(scene: &mut Scene) {
    let peer = scene.peer();
    let session = peer.connect();
    scene.reaches(&peer, &session);
    std::thread::sleep(seconds(5));
    peer.port.send(&session.next(&[]));
    assert_eq!(peer.port.count(wire::INITIATION, seconds(13)), 0, "handshakes though it has heard");
}

fn persistent_keepalive(scene: &mut Scene) {
    let peer = scene.peer();
    let session = peer.connect();
    std::thread::sleep(Duration::from_millis(300));
    peer.port.drain();
    scene.change(&peer, "persistent_keepalive_interval=2\n");
    let first = peer.hear(&session, seconds(1)).expect("no keepalive at once");
    assert!(first.text.is_empty(), "{first:?}");
    for _ in 0..2 {
        let start = Instant::now();
        assert!(peer.hear(&session, seconds(4)).is_some_and(|data| data.text.is_empty()), "no keepalive");
        assert_took(start.elapsed(), 1.9..2.1);
    }
}

fn persistent_keepalive_off(scene: &mut Scene) {
    let peer = scene.known_with("persistent_keepalive_interval=1\n");
    let session = peer.meet();
    for _ in 0..2 {
        assert!(peer.hear(&session, seconds(3)).is_some(), "no keepalive");
    }
    scene.change(&peer, "persistent_keepalive_interval=0\n");
    std::thread::sleep(Duration::from_millis(200));
    peer.port.drain();
    assert!(peer.hear(&session, seconds(3)).is_none(), "a keepalive after it was switched off");
}

fn persistent_keepalive_rearmed(scene: &mut Scene) {
    let peer = scene.known_with("persistent_keepalive_interval=3\n");
    let session = peer.meet();
    assert!(peer.hear(&session, SOON).is_some(), "no keepalive");
    for _ in 0..8 {
        std::thread::sleep(seconds(1));
        peer.port.send(&session.next(&[]));
    }
    assert_eq!(
        peer.port.count(wire::DATA, Duration::from_millis(10)),
        0,
        "keepalives though it hears one a second"
    );
    assert!(peer.hear(&session, seconds(5)).is_some(), "no keepalive when nothing is heard any more");
}
