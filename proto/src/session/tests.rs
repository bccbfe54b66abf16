//! The rules of a session: which key sends, what moves the endpoint, in which order packets leave. Its timers are in
//! `timer_tests`, what holds under random operations in `property_tests`.

use alloc::vec;

use super::*;
use crate::cookie::Checker;
use crate::message::DATA_OVERHEAD;
use crate::testing::{Address, Node, Pair, START, Sent, as_initiation, just_before, packet, seal};

fn packets(numbers: core::ops::Range<u32>) -> Vec<Vec<u8>> {
    numbers.map(packet).collect()
}

fn current(node: &mut Node) -> &mut Slot {
    node.session.current.as_mut().expect("a session")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Seals a packet with the current key without sending it.
fn sealed(pair: &mut Pair, from: usize, text: &[u8]) -> Vec<u8> {
    let node = &mut pair.nodes[from];
    let mut grant = node.session.begin_send(1, true, pair.now, &mut node.rng).expect("a session");
    seal(&mut grant, text)
}

#[test]
fn the_first_packet_brings_up_a_session_and_arrives() {
    let mut pair = Pair::new(1);
    pair.send(0, &packet(1));
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].received, [packet(1)]);
    pair.send(1, &packet(2));
    pair.run_secs(1);
    assert_eq!(pair.nodes[0].received, [packet(2)]);
    assert_eq!(pair.log.len(), 4, "initiation, response and the two packets");
}

#[test]
fn without_anything_staged_the_initiator_confirms_by_a_keepalive() {
    let mut pair = Pair::new(2);
    pair.initiate(0);
    pair.run_secs(1);
    assert_eq!(pair.times(0, Sent::is_keepalive).len(), 1);
    pair.send(1, &packet(1));
    pair.run_secs(1);
    assert_eq!(pair.nodes[0].received, [packet(1)]);
}

/// The kernel forgets its own initiation when it consumes the peer's, and both sides wait for a retransmission.
#[test]
fn crossing_initiations_give_both_sides_a_session_at_once() {
    let mut pair = Pair::new(3);
    pair.send(0, &packet(1));
    pair.send(1, &packet(2));
    pair.run_for(3 * pair.latency);
    assert_eq!((&pair.nodes[0].received, &pair.nodes[1].received), (&vec![packet(2)], &vec![packet(1)]));
    for number in 3..9 {
        pair.send(0, &packet(number));
        pair.send(1, &packet(number));
        pair.run_secs(1);
    }
    for node in &pair.nodes {
        assert_eq!(node.received.len(), 7);
        assert!(node.indices.len() <= 3);
    }
    assert_eq!(pair.log.iter().filter(|sent| sent.is_initiation()).count(), 2);
}

/// Each side's own session would be renewed at the same age as the other's: initiations would cross for ever, and each time
/// what is on its way would be lost.
#[test]
fn after_crossing_initiations_both_sides_go_on_with_the_same_session() {
    for seed in 0..8 {
        let mut pair = Pair::new(seed);
        pair.latency = Duration::from_millis(50);
        pair.send(0, &packet(0));
        pair.run_for(Duration::from_millis(5 * seed));
        pair.send(1, &packet(0));
        pair.run_secs(1);
        let [a, b] = pair.nodes.each_mut().map(current);
        assert_eq!(a.keypair.remote_index(), b.keypair.local_index(), "seed {seed}");
        assert_ne!(a.keypair.is_initiator(), b.keypair.is_initiator());
        pair.log.clear();
        for number in 1..4000 {
            pair.send(0, &packet(number));
            pair.send(1, &packet(number));
            pair.run_for(Duration::from_millis(100));
        }
        pair.run_secs(1);
        for node in &pair.nodes {
            assert_eq!(node.received, packets(0..4000));
        }
        let renewals = [0, 1].map(|from| pair.times(from, Sent::is_initiation).len());
        assert!(renewals == [3, 0] || renewals == [0, 3], "one side renews: {renewals:?}");
    }
}

/// The kernel forgets its own initiation when ours arrives: the session that it started never comes to life.
#[test]
fn what_a_crossing_leaves_behind_does_not_push_out_the_key_in_use() {
    for seed in 0..8 {
        let mut pair = Pair::new(seed);
        pair.latency = Duration::from_millis(50);
        pair.send(0, &packet(0));
        pair.send(1, &packet(0));
        pair.run_for(pair.latency);
        let pending = pair.nodes[1].handshake.forget_pending();
        assert!(pending.is_some_and(|index| pair.nodes[1].indices.remove(index).is_some()));
        for number in 1..4000 {
            pair.send(0, &packet(number));
            pair.send(1, &packet(number));
            pair.run_for(Duration::from_millis(100));
        }
        pair.run_secs(1);
        for node in &pair.nodes {
            assert_eq!(node.received, packets(0..4000), "seed {seed}");
        }
    }
}

/// A key that was offered long before we initiated is no crossing: the peer did not get it.
#[test]
fn an_unconfirmed_key_does_not_outlive_our_own_handshake() {
    for seed in 0..8 {
        let mut pair = Pair::new(seed);
        pair.lost[1] = true;
        pair.initiate(0);
        pair.run_secs(1);
        pair.nodes[0].handshake.forget_pending();
        pair.lost[1] = false;
        pair.initiate(1);
        pair.run_for(2 * pair.latency);
        assert!(pair.nodes[1].session.next.is_none() && pair.nodes[1].session.current.is_some());
    }
}

/// GotaTun sends on keys that the peer has not confirmed.
#[test]
fn the_responder_sends_nothing_on_a_key_before_a_message_arrived_on_it() {
    let mut pair = Pair::new(4);
    pair.initiate(0);
    pair.run_for(pair.latency);
    assert!(pair.log.iter().any(Sent::is_response));
    pair.send(1, &packet(1));
    assert!(pair.log.iter().all(|sent| sent.data().is_none()));
    pair.run_for(3 * pair.latency);
    assert_eq!(pair.nodes[0].received, [packet(1)], "confirmed, the staged packet is sent");
}

#[test]
fn during_a_rekey_the_responder_goes_on_with_the_old_key_until_the_new_one_is_confirmed() {
    let mut pair = Pair::connected(5);
    let old = current(&mut pair.nodes[1]).keypair.clone();
    pair.initiate(0);
    pair.run_for(pair.latency);
    assert!(pair.nodes[1].session.next.is_some());
    pair.send(1, &packet(1));
    assert!(Arc::ptr_eq(&current(&mut pair.nodes[1]).keypair, &old));
    pair.run_for(3 * pair.latency);
    assert!(!Arc::ptr_eq(&current(&mut pair.nodes[1]).keypair, &old));
    assert_eq!(pair.nodes[0].received, [packet(1)], "the old key still receives");
}

#[test]
fn sending_stays_on_the_current_key_after_late_messages_on_the_previous() {
    let mut pair = Pair::connected(6);
    let late = sealed(&mut pair, 0, &packet(7));
    let old = current(&mut pair.nodes[1]).keypair.clone();
    pair.initiate(0);
    pair.run_secs(1);
    let new = current(&mut pair.nodes[1]).keypair.clone();
    assert!(!Arc::ptr_eq(&old, &new));
    pair.nodes[1].receive(&late, pair.addresses[0], pair.now);
    assert_eq!(pair.nodes[1].received, [packet(7)]);
    assert!(Arc::ptr_eq(&current(&mut pair.nodes[1]).keypair, &new));
}

#[test]
fn sessions_two_back_die_with_their_indices() {
    let mut pair = Pair::connected(7);
    let late = sealed(&mut pair, 0, &packet(7));
    let (index, _) = Sent { at: START, from: 0, bytes: late.clone() }.data().unwrap();
    let keypair = current(&mut pair.nodes[1]).keypair.clone();
    for _ in 0..2 {
        pair.run_secs(1);
        pair.initiate(0);
        pair.run_secs(1);
    }
    assert!(pair.nodes[1].indices.get(index).is_none());
    // Whoever looked the index up before that does not deliver either.
    let (mut train, stride) = (late.clone(), late.len());
    let opened = keypair.open_train(&mut train, stride, pair.now).unwrap();
    let received = pair.nodes[1].session.finish_recv(&opened, &Address::new(666), pair.now);
    assert_eq!(received.accepted, 0);
    assert_eq!(pair.nodes[1].session.endpoint(), Some(&pair.addresses[0]));
    for node in &pair.nodes {
        assert!(node.indices.len() <= 3);
    }
}

#[test]
fn a_new_key_of_the_responder_drops_the_previous_and_the_unconfirmed_one() {
    let mut pair = Pair::connected(8);
    pair.initiate(0);
    pair.run_secs(1);
    assert!(pair.nodes[1].session.previous.is_some());
    pair.lost[1] = true;
    for _ in 0..3 {
        pair.initiate(0);
        pair.run_secs(1);
        let session = &pair.nodes[1].session;
        assert!(session.previous.is_none() && session.current.is_some() && session.next.is_some());
        assert_eq!(pair.nodes[1].indices.len(), 2);
    }
}

#[test]
fn a_key_of_three_minutes_neither_sends_nor_receives() {
    let mut pair = Pair::connected(9);
    let Pair { nodes: [a, b], .. } = &mut pair;
    let end = current(a).keypair.birth() + secs(180);
    let mut grant = a.session.begin_send(1, true, just_before(end), &mut a.rng).unwrap();
    let mut message = seal(&mut grant, &packet(1));
    a.session.stage(&packet(2));
    let refused = a.session.begin_send(1, true, end, &mut a.rng).unwrap_err();
    assert_eq!(refused, NotReady::NoKeypair { initiate: false }, "no reason to flush");
    a.session.staged.purge();
    let refused = a.session.begin_send(1, true, end, &mut a.rng).unwrap_err();
    assert_eq!(refused, NotReady::NoKeypair { initiate: false }, "the grant before it asked for one");

    let (keypair, stride) = (current(b).keypair.clone(), message.len());
    let end = keypair.birth() + secs(180);
    assert!(keypair.open_train(&mut message.clone(), stride, end).is_none());
    assert_eq!(keypair.open_train(&mut message, stride, just_before(end)).unwrap().messages().count(), 1);
}

#[test]
fn sending_on_a_key_of_two_minutes_rekeys_if_we_initiated_it() {
    for (from, expected) in [(0, 1), (1, 0)] {
        let mut pair = Pair::connected(10);
        pair.run_secs(118);
        pair.send(from, &packet(1));
        assert_eq!(pair.times(from, Sent::is_initiation).len(), 0);
        pair.run_secs(2);
        pair.send(from, &packet(2));
        assert_eq!(pair.times(from, Sent::is_initiation).len(), expected, "from {from}");
        pair.run_secs(4);
        assert_eq!(pair.nodes[1 - from].received, packets(1..3));
    }
}

#[test]
fn receiving_on_a_key_of_165_seconds_rekeys_once_if_we_initiated_it() {
    let mut pair = Pair::connected(11);
    pair.run_for(secs(163));
    // Node 1 only receives our answers to its packets, and they are lost: node 0 cannot send.
    pair.send(1, &packet(1));
    pair.run_for(2 * pair.latency);
    assert_eq!(pair.times(0, Sent::is_initiation).len(), 0);
    pair.run_secs(1);
    pair.lost[0] = true;
    pair.send(1, &packet(2));
    pair.run_for(2 * pair.latency);
    assert_eq!(pair.times(0, Sent::is_initiation).len(), 1);
    let session = &mut pair.nodes[0].session;
    assert!(session.sent_lastminute_handshake);
    assert!(!session.keep_key_fresh(pair.now + secs(6)), "once");
    pair.lost[0] = false;
    pair.run_secs(6);
    assert!(!pair.nodes[0].session.sent_lastminute_handshake, "until the next session");
}

#[test]
fn after_two_to_the_sixty_messages_either_side_rekeys() {
    for from in 0..2 {
        let mut pair = Pair::connected(12);
        pair.run_secs(6);
        current(&mut pair.nodes[from]).next_counter = REKEY_AFTER_MESSAGES - 1;
        pair.send(from, &packet(1));
        assert_eq!(pair.times(from, Sent::is_initiation).len(), 0);
        pair.send(from, &packet(2));
        assert_eq!(pair.times(from, Sent::is_initiation).len(), 1);
        pair.run_secs(1);
        pair.send(from, &packet(3));
        pair.run_secs(1);
        assert_eq!(pair.nodes[1 - from].received, packets(1..4));
        assert_eq!(pair.log.last().and_then(Sent::data).map(|(_, counter)| counter < 3), Some(true));
    }
}

/// GotaTun 0.7.2: a counter at the limit has to retire the session, not to wrap.
#[test]
fn at_the_last_counter_the_session_is_retired_and_replaced() {
    let mut pair = Pair::connected(13);
    pair.run_secs(6);
    current(&mut pair.nodes[0]).next_counter = REJECT_AFTER_MESSAGES - 2;
    let last = sealed(&mut pair, 0, &packet(1));
    assert_eq!(DATA_OVERHEAD + 16, last.len());
    pair.nodes[1].receive(&last, pair.addresses[0], pair.now);
    assert_eq!(pair.nodes[1].received, packets(1..2));
    let node = &mut pair.nodes[0];
    // Two do not fit any more, and after that refusal not even one does.
    for count in [2, 1] {
        let refused = node.session.begin_send(count, true, pair.now, &mut node.rng);
        assert!(matches!(refused, Err(NotReady::NoKeypair { .. })));
    }
    node.session.initiation_requested = false;
    pair.run_secs(6);
    pair.send(0, &packet(2));
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].received, packets(1..3));
    assert!(pair.log.iter().filter_map(Sent::data).all(|(_, counter)| counter < REJECT_AFTER_MESSAGES));
}

/// GotaTun 0.4.1, boringtun 0.7.1: on 32-bit machines the counter ended at 2^32.
#[test]
fn the_counter_passes_two_to_the_thirty_two() {
    let mut pair = Pair::connected(14);
    current(&mut pair.nodes[0]).next_counter = (1 << 32) - 2;
    for number in 0..5 {
        pair.send(0, &packet(number));
    }
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].received, packets(0..5));
    assert_eq!(pair.log.last().and_then(Sent::data).map(|(_, counter)| counter), Some((1 << 32) + 2));
}

#[test]
fn replays_within_a_train_and_across_trains_are_not_accepted() {
    let mut pair = Pair::connected(15);
    let messages: Vec<_> = (0..3).map(|number| sealed(&mut pair, 0, &packet(number))).collect();
    let node = &mut pair.nodes[1];
    let keypair = current(node).keypair.clone();
    let mut deliver = |order: &[usize]| {
        let mut train: Vec<u8> = order.iter().flat_map(|i| messages[*i].clone()).collect();
        let opened = keypair.open_train(&mut train, messages[0].len(), pair.now).unwrap();
        node.session.finish_recv(&opened, &pair.addresses[0], pair.now).accepted
    };
    assert_eq!(deliver(&[1, 1, 0, 1]), 0b0101);
    assert_eq!(deliver(&[0, 1, 2]), 0b0100);
    assert_eq!(deliver(&[2, 2, 2]), 0);
}

#[test]
fn of_a_train_with_forgeries_the_authentic_messages_are_accepted() {
    let mut pair = Pair::connected(16);
    let messages: Vec<_> = (0..5).map(|number| sealed(&mut pair, 0, &packet(number))).collect();
    let mut train = messages.concat();
    let stride = messages[0].len();
    train[stride + 20] ^= 1;
    // The reserved bytes are not authenticated, so they are checked.
    train[3 * stride + 2] = 1;
    let node = &mut pair.nodes[1];
    let opened = current(node).keypair.clone().open_train(&mut train, stride, pair.now).unwrap();
    let received = node.session.finish_recv(&opened, &pair.addresses[0], pair.now);
    assert_eq!(received.accepted, 0b10101);
    assert_eq!(crate::keypair::plaintext(&train[stride..2 * stride]), [0; 16], "no plaintext of a forgery");
}

/// GotaTun issue 159, zephyr issue 118013: forged and replayed messages, also for unknown indices, moved endpoints.
#[test]
fn forged_and_replayed_data_moves_neither_endpoint_nor_timers() {
    let mut pair = Pair::connected(17);
    let message = sealed(&mut pair, 0, &packet(1));
    let thief = Address::new(666);
    let home = pair.addresses[0];
    pair.run_secs(1);
    pair.send(1, &packet(9));
    let node = &mut pair.nodes[1];
    let armed = node.session.timers.next();
    for at in 4..message.len() {
        let mut forged = message.clone();
        forged[at] ^= 1;
        node.receive(&forged, thief, pair.now);
    }
    assert_eq!((node.session.endpoint(), node.received.len()), (Some(&home), 0));
    assert_eq!(node.session.timers.next(), armed);
    node.receive(&message, home, pair.now);
    node.receive(&message, thief, pair.now);
    assert_eq!((node.session.endpoint(), node.received.len()), (Some(&home), 1));
}

/// GotaTun issue 159: a cookie reply, which anybody who has seen it can send again, moved the endpoint.
#[test]
fn a_cookie_reply_moves_no_endpoint() {
    let mut pair = Pair::new(27);
    let (home, thief) = (pair.addresses[1], Address::new(666));
    pair.lost = [true, false];
    pair.initiate(0);
    pair.run_secs(1);
    let initiation = pair.log.iter().find_map(|sent| as_initiation(&sent.bytes)).expect("an initiation");
    let mut checker = Checker::new(pair.nodes[1].identity.public_key());
    let source = "192.0.2.1:1000".parse().expect("an address");
    let reply = checker.reply(&initiation, source, pair.now, &mut pair.nodes[1].rng);
    for _ in 0..2 {
        pair.nodes[0].receive(reply.as_bytes(), thief, pair.now);
        assert_eq!(pair.nodes[0].session.endpoint(), Some(&home));
    }
    assert!(!pair.nodes[0].handshake.consume_cookie_reply(&reply, pair.now), "it was taken the first time");
}

/// The first audit of GotaTun, 3.4: authentic data has to move the endpoint.
#[test]
fn authentic_data_and_handshakes_move_the_endpoint() {
    let mut pair = Pair::connected(18);
    pair.addresses[0] = Address::new(3000);
    pair.send(0, &packet(1));
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].session.endpoint(), Some(&Address::new(3000)));
    pair.send(0, &[]);
    pair.addresses[0] = Address::new(4000);
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].session.endpoint(), Some(&Address::new(4000)), "a keepalive");
    pair.addresses = [Address::new(5000), Address::new(6000)];
    pair.lost = [false, true];
    pair.initiate(0);
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].session.endpoint(), Some(&Address::new(5000)), "an initiation");
    pair.lost = [false, false];
    pair.initiate(0);
    pair.run_for(2 * pair.latency);
    assert_eq!(pair.nodes[0].session.endpoint(), Some(&Address::new(6000)), "a response");
}

#[test]
fn replayed_handshakes_are_neither_answered_nor_followed() {
    let mut pair = Pair::connected(19);
    pair.initiate(0);
    pair.run_secs(1);
    let handshakes: Vec<_> = pair.log.iter().filter(|sent| sent.data().is_none()).cloned().collect();
    assert_eq!(handshakes.len(), 2);
    for sent in handshakes {
        let node = &mut pair.nodes[1 - sent.from];
        node.receive(&sent.bytes, Address::new(666), pair.now);
        assert!(node.outbox.is_empty());
        assert_eq!(node.session.endpoint(), Some(&pair.addresses[sent.from]));
    }
}

/// GotaTun 0.7.2: a new preshared key counts from the next handshake on.
#[test]
fn a_new_preshared_key_leaves_the_live_session() {
    let mut pair = Pair::connected(20);
    let psk = |byte| adit_crypto::Secret::new([byte; 32]);
    pair.nodes[0].handshake.set_preshared_key(psk(1));
    pair.send(0, &packet(0));
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].received.len(), 1);
    pair.initiate(0);
    pair.run_secs(1);
    assert!(pair.nodes[1].session.next.is_some(), "the handshake fails");
    pair.send(0, &packet(1));
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].received, packets(0..2));
    pair.nodes[1].handshake.set_preshared_key(psk(1));
    pair.initiate(0);
    pair.run_secs(1);
    pair.send(0, &packet(2));
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].received, packets(0..3));
    assert!(pair.nodes[1].session.next.is_none());
}

#[test]
fn staged_packets_leave_in_order_and_the_oldest_are_dropped() {
    let mut pair = Pair::new(21);
    for number in 0..200 {
        pair.send(0, &packet(number));
    }
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].received, packets(72..200));
    assert_eq!(pair.log.iter().filter(|sent| sent.is_initiation()).count(), 1);
}

#[test]
fn while_one_thread_flushes_others_stage_behind_it() {
    let mut pair = Pair::connected(22);
    let node = &mut pair.nodes[0];
    let (session, rng, now) = (&mut node.session, &mut node.rng, pair.now);
    for number in 0..70 {
        session.stage(&packet(number));
    }
    assert_eq!(session.begin_send(1, true, now, rng).unwrap_err(), NotReady::Behind);
    let flush = session.begin_flush().unwrap();
    assert!(session.begin_flush().is_none(), "there is one");
    let (flush, first) = session.next_batch(flush, now, rng).unwrap();
    assert_eq!(first.packets.len(), MAX_TRAIN);
    let (flush, second) = session.next_batch(flush, now, rng).unwrap();
    assert_eq!(second.packets.len(), 6);
    // Nothing is staged any more, but the batch is not sent yet.
    assert_eq!(session.begin_send(1, true, now, rng).unwrap_err(), NotReady::Behind);
    session.stage(&packet(70));
    assert!(session.begin_flush().is_none());
    let (flush, third) = session.next_batch(flush, now, rng).unwrap();
    assert_eq!(session.next_batch(flush, now, rng).err(), Some(NotReady::Behind));
    let all: Vec<Vec<u8>> =
        [first, second, third].into_iter().flat_map(|batch| batch.packets).map(Vec::from).collect();
    assert_eq!(all, packets(0..71));
    assert!(session.begin_send(1, true, now, rng).is_ok());
}

/// Or whoever stages faster than it sends would keep a thread flushing for ever.
#[test]
fn a_flush_can_be_handed_over() {
    let mut pair = Pair::connected(26);
    let node = &mut pair.nodes[0];
    let (session, rng, now) = (&mut node.session, &mut node.rng, pair.now);
    for number in 0..70 {
        session.stage(&packet(number));
    }
    let flush = session.begin_flush().unwrap();
    let (flush, first) = session.next_batch(flush, now, rng).unwrap();
    assert!(session.end_flush(flush), "packets are left");
    assert_eq!(session.begin_send(1, true, now, rng).unwrap_err(), NotReady::Behind);
    let flush = session.begin_flush().expect("the token came back");
    let (flush, second) = session.next_batch(flush, now, rng).unwrap();
    assert!(!session.end_flush(flush), "nothing is left");
    let all: Vec<Vec<u8>> =
        [first, second].into_iter().flat_map(|batch| batch.packets).map(Vec::from).collect();
    assert_eq!(all, packets(0..70));
    assert!(session.begin_send(1, true, now, rng).is_ok());
}

#[test]
fn a_flush_that_finds_no_key_keeps_the_packets() {
    let mut pair = Pair::new(23);
    let node = &mut pair.nodes[0];
    let (session, rng) = (&mut node.session, &mut node.rng);
    session.stage(&packet(1));
    let flush = session.begin_flush().unwrap();
    let refused = session.next_batch(flush, START, rng).err();
    assert_eq!(refused, Some(NotReady::NoKeypair { initiate: true }));
    let flush = session.begin_flush().expect("the token came back");
    let refused = session.next_batch(flush, START, rng).err();
    assert_eq!(refused, Some(NotReady::NoKeypair { initiate: false }), "asked for once");
    assert_eq!(session.staged.len(), 1);
}

#[test]
fn no_initiation_is_asked_for_while_the_endpoint_is_unknown() {
    let mut session: Session<Address> = Session::default();
    session.start();
    let mut rng = crate::testing::rng(24);
    let refused = session.begin_send(1, true, START, &mut rng).unwrap_err();
    assert_eq!(refused, NotReady::NoKeypair { initiate: false });
    session.set_endpoint(Address::new(1));
    let refused = session.begin_send(1, true, START, &mut rng).unwrap_err();
    assert_eq!(refused, NotReady::NoKeypair { initiate: true });
}

#[test]
fn a_stopped_session_is_silent_and_a_started_one_comes_back() {
    let mut pair = Pair::connected(25);
    pair.nodes[0].session.set_keepalive_interval(Some(secs(25)));
    pair.send(0, &packet(0));
    pair.run_secs(1);
    pair.nodes[0].stop();
    assert!(pair.nodes[0].indices.is_empty() && pair.nodes[0].session.timers.next().is_none());
    pair.log.clear();
    pair.send(0, &packet(1));
    pair.run_secs(600);
    assert_eq!(pair.times(0, |_| true).len(), 0);
    pair.nodes[0].session.start();
    pair.send(0, &packet(2));
    pair.run_secs(60);
    assert_eq!(pair.nodes[1].received, packets(0..3));
    assert!(!pair.times(0, Sent::is_keepalive).is_empty(), "the persistent keepalive is configuration");
}

#[test]
fn expired_keypairs_send_nothing_more_but_still_receive() {
    let mut pair = Pair::connected(26);
    let on_its_way = sealed(&mut pair, 1, &packet(1));
    pair.nodes[0].session.expire_keypairs();
    pair.nodes[0].receive(&on_its_way, pair.addresses[1], pair.now);
    assert_eq!(pair.nodes[0].received, [packet(1)]);
    pair.send(0, &packet(2));
    assert_eq!(
        pair.times(0, Sent::is_initiation),
        [pair.now],
        "although the last handshake was a second ago"
    );
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].received, [packet(2)]);
}
