//! Transport data: keys, counters, the replay window, padding, lengths (whitepaper 5.4.5, 5.4.6).

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use lab::seconds;

use crate::check::Check;
use crate::inner::{self, NOBODY4, NOBODY6};
use crate::peer::{Peer, SILENCE, SOON, Session};
use crate::scene::{Scene, Tap, marked};
use crate::wire;

/// From this counter on, a key is used no more (whitepaper 6.1).
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::new(
        "data/key-confirmation",
        "A responder sends nothing on a key before it has received something on it (5.4.3)",
        key_confirmation,
    ),
    Check::new(
        "data/initiator-confirms",
        "An initiator with nothing to say sends a keepalive on the new key at once (5.4.3, 6.5)",
        initiator_confirms,
    ),
    Check::new(
        "data/staged-in-order",
        "What waited for the handshake is sent after it, in order, none lost of a hundred (6.4)",
        staged,
    ),
    Check::new(
        "data/staged-bounded",
        "Of many that wait, old ones are dropped, the newest sent",
        staged_bounded,
    ),
    Check::new("data/replay", "A message is delivered once (5.4.6)", replay),
    Check::new(
        "data/reordered",
        "Messages that overtake each other are delivered, each once (5.4.6)",
        reordered,
    ),
    Check::new(
        "data/window-2000",
        "1,900 messages late is not too late: the window holds roughly 2,000 (5.4.6)",
        window_2000,
    ),
    Check::new("data/window-8000", "Nor is 8,000, as in the kernel: fast paths reorder much", window_8000),
    Check::new(
        "data/too-old",
        "10,000 messages late is too late: it cannot be told from a replay (5.4.6)",
        too_old,
    ),
    Check::new(
        "data/window-edges",
        "No message is delivered twice, at any distance that the window's words end at",
        window_edges,
    ),
    Check::new(
        "data/counter-limit",
        "Counters from REJECT_AFTER_MESSAGES on are refused, and move no window (6.2; boringtun accepts them)",
        counter_limit,
    ),
    Check::new("data/counter-64-bit", "Counters have 64 bits (5.4.6; GotaTun 0.4.1)", counter_64),
    Check::new("data/counters-rise", "Its own counters start at zero and rise by one (5.4.6)", counters_rise),
    Check::new("data/forged", "What has one bit changed is dropped and moves no window (5.4.6)", forged),
    Check::new(
        "data/unknown-index",
        "Data for an unknown index are dropped, and no session is lost",
        unknown_index,
    ),
    Check::new(
        "data/other-session",
        "Data of one session with another's index are dropped (5.4.6)",
        other_session,
    ),
    Check::new(
        "data/padding",
        "Packets are padded to 16 bytes with zeros (5.4.6; GotaTun audit 3.3)",
        padding,
    ),
    Check::new(
        "data/padding-mtu",
        "Padding does not exceed the MTU: the outer packet would not fit",
        padding_mtu,
    ),
    Check::new(
        "data/keepalive-empty",
        "A keepalive has 32 bytes and is not delivered (5.4.6, 6.5)",
        keepalive,
    ),
    Check::new(
        "data/trimmed",
        "Padding is not delivered, however long and whatever is in it (5.4.6)",
        trimmed,
    ),
    Check::new("data/unpadded", "A packet that is not padded is delivered (5.4.6)", unpadded),
    Check::new(
        "data/length-v4",
        "An IPv4 packet whose header tells more than there is, or less than a header, is dropped (5.4.6)",
        length_v4,
    ),
    Check::new(
        "data/length-v6",
        "So is an IPv6 packet, also where 40 is added to 65,535 (wireguard-go wraps)",
        length_v6,
    ),
    Check::new("data/version", "What is neither IPv4 nor IPv6 is dropped", version),
    Check::new("data/fragment-of-header", "So is what is shorter than a header", short_inner),
    Check::new(
        "data/previous-key",
        "What was sent on the previous key still arrives after a handshake (6.1)",
        previous_key,
    ),
    Check::new("data/two-back", "The key before the previous one is dead (6.1)", two_back),
    Check::new(
        "data/next-key",
        "With an unconfirmed next key, the current one is sent on; then the next one (5.4.3)",
        next_key,
    ),
    Check::new(
        "data/current-key",
        "Late data on the previous key do not make it the one to send on",
        current_key,
    ),
    Check::new(
        "data/order-in",
        "2,000 messages that come fast are delivered in the order in which they came",
        order_in,
    ),
    Check::new(
        "data/order-out",
        "2,000 packets that are sent fast leave in order, each counter once",
        order_out,
    ),
    Check::new("data/large", "Packets of the MTU's size pass both ways", large),
];

/// A session that works, and what to see it with.
fn session(scene: &Scene) -> (Peer, Tap, Session) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    (peer, tap, session)
}

/// How many of `packet` pass within a moment.
fn times(tap: &Tap, packet: &[u8]) -> usize {
    tap.all(Duration::from_millis(50)).iter().filter(|seen| *seen == packet).count()
}

fn key_confirmation(scene: &mut Scene) {
    let peer = scene.peer();
    let session = peer.half_connect();
    for _ in 0..3 {
        scene.prompt(&peer);
    }
    assert_eq!(peer.port.count(wire::DATA, seconds(1)), 0, "data on a key that nobody has confirmed");
    peer.port.send(&session.next(&[]));
    assert!(peer.hear_data(&session, SOON).is_some(), "what waited is not sent once the key is confirmed");
}

fn initiator_confirms(scene: &mut Scene) {
    // The engine has nothing to say but that it is there.
    let peer = scene.known_with("persistent_keepalive_interval=1\n");
    let session = peer.meet();
    let data = peer.hear(&session, SOON).expect("nothing confirms the key");
    assert!(data.text.is_empty() && data.counter == 0, "{data:?}");
}

fn staged(scene: &mut Scene) {
    let peer = scene.known();
    for n in 0..100_u8 {
        scene.say(peer.inner4(), &[n; 7]).expect("the tunnel takes a packet");
    }
    let session = peer.meet();
    for n in 0..100_u8 {
        let data = peer.hear_data(&session, SOON).unwrap_or_else(|| panic!("packet {n} of 100 is not sent"));
        assert_eq!(data.text[28], n, "a packet out of order");
    }
}

fn staged_bounded(scene: &mut Scene) {
    let peer = scene.known();
    for n in 0..3_000_u16 {
        scene.say(peer.inner4(), &n.to_be_bytes()).expect("the tunnel takes a packet");
    }
    let session = peer.meet();
    let mut sent = Vec::new();
    while let Some(data) = peer.hear_data(&session, seconds(1)) {
        sent.push(u16::from_be_bytes(wire::field(&data.text, 28)));
    }
    assert!(sent.is_sorted(), "out of order");
    assert!(!sent.is_empty() && sent.len() < 2_500, "{} of 3,000 packets waited", sent.len());
    assert_eq!(sent.last(), Some(&2_999), "the newest is what matters");
}

fn replay(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let packet = marked(&peer);
    let message = session.next(&inner::padded(packet.clone()));
    for _ in 0..3 {
        peer.port.send(&message);
    }
    scene.settle(&tap, &peer, &session);
    peer.port.send(&message);
    scene.settle(&tap, &peer, &session);
    assert_eq!(times(&tap, &packet), 1, "times that a message is delivered");
}

/// Sends a packet with each of the counters; how often each is delivered.
fn deliveries(scene: &Scene, counters: &[u64]) -> Vec<usize> {
    let (peer, tap, session) = session(scene);
    let mut packets = Vec::new();
    for (n, counter) in counters.iter().enumerate() {
        let packet = marked(&peer);
        peer.port.send(&session.seal(*counter, &inner::padded(packet.clone())));
        packets.push(packet);
        if n % 64 == 63 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    session.skip_to(counters.iter().copied().filter(|n| *n < REJECT_AFTER_MESSAGES).max().unwrap_or(0) + 1);
    scene.settle(&tap, &peer, &session);
    let seen = tap.all(Duration::from_millis(50));
    packets.iter().map(|packet| seen.iter().filter(|seen| *seen == packet).count()).collect()
}

fn reordered(scene: &mut Scene) {
    let counters: Vec<u64> = (10..200).rev().chain((10..200).step_by(3)).chain(200..210).collect();
    let expected: Vec<usize> = (0..counters.len()).map(|n| usize::from(!(190..254).contains(&n))).collect();
    assert_eq!(deliveries(scene, &counters), expected, "deliveries of counters {counters:?}");
}

fn window_2000(scene: &mut Scene) {
    assert_eq!(deliveries(scene, &[100_000, 98_100, 99_000, 98_100]), [1, 1, 1, 0], "100,000 and older ones");
}

fn window_8000(scene: &mut Scene) {
    assert_eq!(deliveries(scene, &[100_000, 92_000, 95_000, 92_000]), [1, 1, 1, 0], "100,000 and older ones");
}

fn too_old(scene: &mut Scene) {
    assert_eq!(deliveries(scene, &[100_000, 90_000, 5, 50_000]), [1, 0, 0, 0], "100,000 and older ones");
}

fn window_edges(scene: &mut Scene) {
    let mut counters = vec![1_000_000];
    for back in [
        1, 63, 64, 65, 127, 128, 129, 1_023, 1_024, 2_047, 2_048, 8_063, 8_064, 8_127, 8_128, 8_129, 8_191,
        8_192,
    ] {
        counters.extend([1_000_000 - back, 1_000_000 - back]);
    }
    for ahead in [1, 63, 64, 8_128, 8_192, 100_000] {
        counters.extend([1_000_000 + ahead, 1_000_000 + ahead, 1_000_000]);
    }
    let delivered = deliveries(scene, &counters);
    let mut once = std::collections::BTreeMap::new();
    for (counter, times) in counters.iter().zip(&delivered) {
        *once.entry(*counter).or_insert(0) += times;
    }
    let twice: Vec<_> = once.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "counters delivered more than once: {twice:?}");
    for counter in
        [1_000_000, 1_000_001, 1_000_063, 1_000_064, 1_008_128, 1_008_192, 1_100_000, 999_999, 999_937]
    {
        assert_eq!(once[&counter], 1, "times that counter {counter} is delivered");
    }
}

fn counter_limit(scene: &mut Scene) {
    // Within the suite's own cipher, 2^64 - 1 is not to be had; the one before it must do.
    let counters = [50, u64::MAX - 1, REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES + 1, 51, 49];
    assert_eq!(deliveries(scene, &counters), [1, 0, 0, 0, 1, 1], "deliveries of counters {counters:?}");
}

fn counter_64(scene: &mut Scene) {
    let counters = [7, (1 << 32) - 1, 1 << 32, (1 << 32) + 7, 7, 1 << 60];
    assert_eq!(deliveries(scene, &counters), [1, 1, 1, 1, 0, 1], "deliveries of counters {counters:?}");
}

fn counters_rise(scene: &mut Scene) {
    let (peer, _, session) = session(scene);
    let mut expected = None;
    for _ in 0..20 {
        scene.prompt(&peer);
        let data = peer.hear(&session, SOON).expect("the engine does not send");
        // The first may have been a keepalive of its own.
        let next = expected.unwrap_or(data.counter);
        assert!(next < 2 || expected.is_some(), "the first counter is {next}");
        assert_eq!(data.counter, next, "a counter was left out or used twice");
        expected = Some(next + 1);
    }
}

fn forged(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let packet = marked(&peer);
    let good = session.seal(10, &inner::padded(packet.clone()));
    for at in 8..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        peer.port.send(&bad);
    }
    session.skip_to(11);
    scene.settle(&tap, &peer, &session);
    assert_eq!(times(&tap, &packet), 0, "a forgery is delivered");
    peer.port.send(&good);
    scene.settle(&tap, &peer, &session);
    assert_eq!(times(&tap, &packet), 1, "forgeries have used up the counter of the good one");
}

fn unknown_index(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let packet = marked(&peer);
    for flipped in [1, 1 << 31, 0xffff_ffff, 1 << 8, 1 << 16] {
        let mut message = session.next(&inner::padded(packet.clone()));
        message[4..8].copy_from_slice(&(session.remote ^ flipped).to_le_bytes());
        peer.port.send(&message);
    }
    scene.settle(&tap, &peer, &session);
    assert_eq!(times(&tap, &packet), 0, "data for another index are delivered");
}

fn other_session(scene: &mut Scene) {
    let (one, tap, first) = session(scene);
    let two = scene.peer();
    let second = two.connect();
    let packet = marked(&one);
    let mut message = first.next(&inner::padded(packet.clone()));
    message[4..8].copy_from_slice(&second.remote.to_le_bytes());
    one.port.send(&message);
    scene.settle(&tap, &one, &first);
    scene.settle(&tap, &two, &second);
    assert_eq!(times(&tap, &packet), 0, "one session's data are delivered with another's index");
}

fn padding(scene: &mut Scene) {
    let (peer, _, session) = session(scene);
    for len in 0..40 {
        peer.port.drain();
        scene.say(peer.inner4(), &vec![0xff; len]).expect("the tunnel takes a packet");
        let data = peer.hear_data(&session, SOON).expect("the engine does not send");
        let packet = 28 + len;
        assert_eq!(data.text.len(), packet.next_multiple_of(16), "padded length of {packet} bytes");
        assert!(data.text[packet..].iter().all(|byte| *byte == 0), "padding that is not zero");
    }
}

fn padding_mtu(scene: &mut Scene) {
    let (peer, _, session) = session(scene);
    for mtu in [1413, 1301, 1420] {
        scene.inside.ip(&format!("link set {} mtu {mtu}", scene.engine.interface()));
        // Whoever learns of the MTU by a message needs a moment.
        std::thread::sleep(Duration::from_millis(300));
        for packet in [mtu - 1, mtu] {
            peer.port.drain();
            scene.say(peer.inner4(), &vec![1; packet - 28]).expect("the tunnel takes a packet");
            let data = peer.hear_data(&session, SOON).expect("the engine does not send");
            assert!(data.text.len() <= mtu, "{packet} bytes are padded to {}, MTU {mtu}", data.text.len());
        }
    }
}

fn keepalive(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let before = tap.all(Duration::from_millis(100)).len();
    for _ in 0..5 {
        peer.port.send(&session.next(&[]));
    }
    scene.settle(&tap, &peer, &session);
    assert_eq!(
        tap.all(Duration::from_millis(100)).len(),
        before + 1,
        "packets after five keepalives and one of data"
    );
}

fn trimmed(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    for (extra, fill) in [(1, 0), (15, 0xff), (16, 0), (500, 0xaa)] {
        let packet = marked(&peer);
        let text = [&packet[..], &vec![fill; extra]].concat();
        peer.port.send(&session.next(&text));
        assert!(tap.saw(&packet, SOON), "not delivered as it was, with {extra} bytes of {fill} after it");
        let packet = inner::v6(peer.inner6(), NOBODY6, &wire::random::<9>());
        let text = [&packet[..], &vec![fill; extra]].concat();
        peer.port.send(&session.next(&text));
        assert!(tap.saw(&packet, SOON), "IPv6, with {extra} bytes of {fill} after it");
    }
}

fn unpadded(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    for len in [0, 1, 5, 11] {
        let packet = inner::v4(peer.inner4(), NOBODY4, &wire::random::<12>()[..len]);
        peer.port.send(&session.next(&packet));
        assert!(tap.saw(&packet, SOON), "{} bytes are not delivered", packet.len());
    }
}

/// Asserts that none of these texts brings a packet to TUN.
fn none_is_delivered(scene: &Scene, texts: impl Fn(&Peer) -> Vec<Vec<u8>>) {
    let (peer, tap, session) = session(scene);
    for (n, text) in texts(&peer).iter().enumerate() {
        let before = tap.all(Duration::from_millis(30)).len();
        peer.port.send(&session.next(text));
        scene.settle(&tap, &peer, &session);
        let after = tap.all(Duration::from_millis(30));
        let delivered = after[before..].first().map(Vec::len);
        let start = &text[..text.len().min(8)];
        assert_eq!(after.len(), before + 1, "number {n}, {start:x?}…, comes out as {delivered:?} bytes");
    }
}

fn length_v4(scene: &mut Scene) {
    none_is_delivered(scene, |peer| {
        let packet = marked(peer);
        let told = |len: u16| {
            let mut bad = packet.clone();
            bad[2..4].copy_from_slice(&len.to_be_bytes());
            inner::again(bad)
        };
        let len = packet.len() as u16;
        [0, 1, 19, len + 1, len + 16, 1500, 65_535].map(told).to_vec()
    });
}

fn length_v6(scene: &mut Scene) {
    none_is_delivered(scene, |peer| {
        let packet = inner::v6(peer.inner6(), NOBODY6, &[5; 24]);
        let told = |len: u16| {
            let mut bad = packet.clone();
            bad[4..6].copy_from_slice(&len.to_be_bytes());
            bad
        };
        [25, 40, 1500, 65_496, 65_500, 65_535].map(told).to_vec()
    });
}

fn version(scene: &mut Scene) {
    none_is_delivered(scene, |peer| {
        let mut texts = Vec::new();
        for version in [0_u8, 1, 2, 3, 5, 7, 8, 12, 15] {
            let mut packet = inner::padded(marked(peer));
            packet[0] = version << 4 | 5;
            texts.push(packet);
        }
        texts
    });
}

fn short_inner(scene: &mut Scene) {
    none_is_delivered(scene, |peer| {
        let (v4, v6) = (marked(peer), inner::v6(peer.inner6(), NOBODY6, &[]));
        let mut texts: Vec<_> = [1, 2, 3, 4, 19].map(|len| v4[..len].to_vec()).to_vec();
        texts.extend([1, 6, 20, 39].map(|len| v6[..len].to_vec()));
        texts
    });
}

fn previous_key(scene: &mut Scene) {
    let (peer, tap, first) = session(scene);
    let second = peer.connect();
    scene.settle(&tap, &peer, &second);
    scene.settle(&tap, &peer, &first);
    scene.settle(&tap, &peer, &second);
}

fn two_back(scene: &mut Scene) {
    let (peer, tap, first) = session(scene);
    let second = peer.connect();
    scene.settle(&tap, &peer, &second);
    let third = peer.connect();
    scene.settle(&tap, &peer, &third);
    let packet = marked(&peer);
    peer.port.send(&first.next(&inner::padded(packet.clone())));
    scene.settle(&tap, &peer, &second);
    scene.settle(&tap, &peer, &third);
    assert!(!tap.has_seen(&packet), "data on the key before the previous one are delivered");
}

fn next_key(scene: &mut Scene) {
    let (peer, tap, current) = session(scene);
    let next = peer.half_connect();
    scene.reaches(&peer, &current);
    scene.settle(&tap, &peer, &current);
    scene.reaches(&peer, &current);
    peer.port.send(&next.next(&[]));
    std::thread::sleep(SILENCE);
    scene.reaches(&peer, &next);
}

fn current_key(scene: &mut Scene) {
    let (peer, tap, previous) = session(scene);
    let current = peer.connect();
    scene.settle(&tap, &peer, &current);
    scene.settle(&tap, &peer, &previous);
    scene.reaches(&peer, &current);
}

fn large(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let packet = inner::v4(peer.inner4(), NOBODY4, &wire::random::<1400>());
    peer.port.send(&session.next(&packet));
    assert!(tap.saw(&packet, SOON), "1,420 bytes are not delivered");
    peer.port.drain();
    scene.say(peer.inner4(), &wire::random::<1392>()).expect("the tunnel takes a packet");
    let data = peer.hear_data(&session, SOON).expect("1,420 bytes are not sent");
    assert!(data.text.len() >= 1420, "{} bytes of 1,420 are sent", data.text.len());
}

fn order_in(scene: &mut Scene) {
    let (peer, tap, session) = session(scene);
    let packet = |n: u32| inner::v4(peer.inner4(), NOBODY4, &n.to_be_bytes());
    for first in (0..2_000).step_by(50) {
        let train: Vec<_> = (first..first + 50).map(|n| session.next(&inner::padded(packet(n)))).collect();
        peer.port.send_train(&train);
        std::thread::sleep(Duration::from_millis(2));
    }
    scene.settle(&tap, &peer, &session);
    let is_one = |seen: &&Vec<u8>| seen.len() == 24 && seen[12..16] == peer.inner4();
    let number = |seen: &Vec<u8>| u32::from_be_bytes(wire::field(seen, 20));
    let numbers: Vec<u32> = tap.all(Duration::from_millis(50)).iter().filter(is_one).map(number).collect();
    assert!(numbers.is_sorted(), "delivered out of order");
    // Where a buffer overflows, that is nobody's fault.
    assert!(numbers.len() > 1_500, "{} of 2,000 are delivered", numbers.len());
}

fn order_out(scene: &mut Scene) {
    let (peer, _, session) = session(scene);
    let socket = scene.inside.enter(|| UdpSocket::bind("192.168.241.1:0")).expect("the engine's address");
    let to = (Ipv4Addr::from(peer.inner4()), 9);
    let mut heard = Vec::new();
    for first in (0..2_000_u32).step_by(50) {
        for n in first..first + 50 {
            socket.send_to(&n.to_be_bytes(), to).expect("the tunnel takes a packet");
        }
        while let Some(data) = peer.hear_data(&session, Duration::from_millis(15)) {
            heard.push((data.counter, u32::from_be_bytes(wire::field(&data.text, 28))));
        }
    }
    assert!(heard.windows(2).all(|pair| pair[0].0 < pair[1].0), "counters that do not rise");
    assert!(heard.windows(2).all(|pair| pair[0].1 < pair[1].1), "packets out of order");
    assert!(heard.len() > 1_500, "{} of 2,000 packets are sent", heard.len());
}
