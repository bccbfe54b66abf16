//! The timers of a session, one by one (whitepaper 6), and how they are reported.

use alloc::vec;

use super::*;
use crate::limits::{ERASE_KEYS_AFTER, REKEY_TIMEOUT_JITTER_MAX_MS};
use crate::testing::{Address, ChaCha8Rng, Pair, START, Sent, just_before, packet};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What lies between one and the next.
fn gaps(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1].since(pair[0])).collect()
}

#[test]
fn an_unanswered_initiation_is_sent_again_after_five_seconds_and_up_to_333_ms() {
    let mut seen = vec![];
    for seed in 0..10 {
        let mut pair = Pair::new(seed);
        pair.lost[0] = true;
        pair.send(0, &packet(1));
        pair.run_secs(90);
        seen.extend(gaps(&pair.times(0, Sent::is_initiation)));
    }
    let latest = REKEY_TIMEOUT + Duration::from_millis(333);
    assert!(seen.iter().all(|gap| (REKEY_TIMEOUT..=latest).contains(gap)));
    assert!(seen.iter().max() > seen.iter().min(), "with jitter");
    assert_eq!(REKEY_TIMEOUT_JITTER_MAX_MS, 334);
}

#[test]
fn after_twenty_initiations_it_gives_up_and_drops_what_is_staged() {
    let mut pair = Pair::new(1);
    pair.lost[0] = true;
    pair.send(0, &packet(1));
    pair.run_secs(1000);
    let times = pair.times(0, Sent::is_initiation);
    assert_eq!(times.len(), 20);
    let until = times[19].since(START);
    assert!((secs(95)..secs(102)).contains(&until), "{until:?}");
    assert_eq!(pair.nodes[0].gave_up, 1);
    assert!(pair.nodes[0].session.staged.is_empty());
    assert!(pair.nodes[0].indices.is_empty(), "the pending initiation was erased as well");

    // New traffic starts anew.
    pair.lost[0] = false;
    pair.send(0, &packet(2));
    pair.run_secs(1);
    assert_eq!(pair.nodes[1].received, [packet(2)]);
}

#[test]
fn traffic_does_not_hurry_initiations_and_resets_their_count() {
    let mut pair = Pair::new(2);
    pair.lost[0] = true;
    for number in 0..2000 {
        pair.send(0, &packet(number));
        pair.run_for(Duration::from_millis(100));
    }
    let times = pair.times(0, Sent::is_initiation);
    assert!(gaps(&times).iter().all(|gap| *gap >= REKEY_TIMEOUT));
    assert!(times.len() > 35 && pair.nodes[0].gave_up == 0);
}

#[test]
fn initiations_are_counted_until_the_peer_is_heard() {
    let mut pair = Pair::new(4);
    pair.lost[0] = true;
    pair.send(0, &packet(1));
    pair.run_secs(12);
    assert_eq!(pair.nodes[0].session.unanswered_initiations(), 3);
    pair.lost[0] = false;
    pair.run_secs(5);
    assert_eq!(pair.nodes[0].session.unanswered_initiations(), 0);
}

#[test]
fn responses_that_are_not_taken_are_counted_until_one_is() {
    let mut pair = Pair::new(7);
    let untaken = |pair: &Pair| pair.nodes[1].session.untaken_responses();
    pair.lost[1] = true;
    pair.send(0, &packet(1));
    pair.run_secs(4);
    assert_eq!(untaken(&pair), 0);
    pair.run_secs(2);
    assert_eq!(untaken(&pair), 1);
    pair.run_secs(5);
    assert_eq!(untaken(&pair), 2);
    pair.lost[1] = false;
    pair.run_secs(6);
    assert_eq!(untaken(&pair), 0, "it was taken");

    let mut pair = Pair::new(8);
    pair.lost[1] = true;
    pair.send(0, &packet(1));
    pair.run_secs(120);
    assert_eq!(untaken(&pair), 19);
    pair.send(0, &packet(2));
    pair.run_secs(1);
    assert_eq!(untaken(&pair), 0, "it was away, and calls again");
}

#[test]
fn a_handshake_that_is_asked_for_begins_in_time_whatever_is_received() {
    let mut pair = Pair::new(5);
    pair.send(0, &packet(1));
    pair.run_secs(2);
    assert!(pair.nodes[0].session.is_in_use(pair.now));
    // Two seconds after the last one is too early.
    pair.nodes[0].session.refresh(pair.now);
    pair.nodes[0].wake();
    for number in 0..50 {
        pair.send(1, &packet(number));
        pair.run_for(Duration::from_millis(100));
    }
    let initiations = pair.times(0, Sent::is_initiation);
    assert_eq!(gaps(&initiations), [REKEY_TIMEOUT]);
    pair.run_secs(20);
    assert_eq!(pair.times(0, Sent::is_initiation).len(), 2);
    pair.nodes[0].session.refresh(pair.now + secs(1));
    pair.nodes[0].wake();
    let now = pair.now;
    pair.run_secs(2);
    assert_eq!(pair.times(0, Sent::is_initiation)[2], now + secs(1));
}

#[test]
fn a_session_is_in_use_while_it_has_a_key_or_wants_one() {
    let mut pair = Pair::new(6);
    assert!(!pair.nodes[0].session.is_in_use(pair.now));
    pair.send(0, &packet(1));
    assert!(pair.nodes[0].session.is_in_use(pair.now), "it waits for a response");
    pair.run_secs(200);
    assert!(!pair.nodes[0].session.is_in_use(pair.now));
    pair.nodes[0].session.set_keepalive_interval(Some(secs(25)));
    assert!(pair.nodes[0].session.is_in_use(pair.now));
    pair.nodes[0].stop();
    assert!(!pair.nodes[0].session.is_in_use(pair.now));
}

#[test]
fn a_response_counts_against_our_own_initiations() {
    let mut pair = Pair::new(3);
    pair.lost[1] = true;
    pair.initiate(0);
    pair.run_for(2 * pair.latency);
    let response = pair.times(1, Sent::is_response)[0];
    pair.send(1, &packet(1));
    assert_eq!(pair.times(1, Sent::is_initiation).len(), 0);
    let session = &mut pair.nodes[1].session;
    assert!(!session.handshake_is_due(just_before(response + REKEY_TIMEOUT)));
    assert!(session.handshake_is_due(response + REKEY_TIMEOUT));
}

#[test]
fn a_lost_response_is_made_up_for() {
    let mut pair = Pair::new(4);
    pair.lost[1] = true;
    pair.send(0, &packet(1));
    pair.run_secs(3);
    pair.lost[1] = false;
    pair.run_secs(3);
    assert_eq!(pair.nodes[1].received, [packet(1)]);
    assert_eq!(pair.times(0, Sent::is_initiation).len(), 2);
}

#[test]
fn whoever_only_receives_data_sends_a_keepalive_after_ten_seconds() {
    let mut pair = Pair::connected(5);
    pair.run_secs(20);
    pair.log.clear();
    pair.send(0, &packet(1));
    let arrival = pair.now + pair.latency;
    pair.run_secs(60);
    assert_eq!(pair.times(1, Sent::is_keepalive), [arrival + secs(10)]);
}

#[test]
fn an_answer_takes_the_place_of_the_keepalive() {
    let mut pair = Pair::connected(6);
    pair.run_secs(20);
    pair.log.clear();
    pair.send(0, &packet(1));
    pair.run_secs(5);
    pair.send(1, &packet(2));
    pair.run_secs(60);
    assert!(pair.times(1, Sent::is_keepalive).is_empty());
    assert_eq!(pair.times(0, Sent::is_keepalive).len(), 1, "that was data for node 0");
}

/// GotaTun 0.7.2: idle peers answered keepalives with keepalives.
#[test]
fn a_keepalive_is_not_answered_by_one() {
    let mut pair = Pair::connected(7);
    pair.run_secs(30);
    pair.log.clear();
    pair.send(0, &[]);
    pair.run_secs(100);
    assert_eq!(pair.log.len(), 1);
}

#[test]
fn data_sent_and_nothing_heard_for_fifteen_seconds_brings_a_handshake() {
    let mut pair = Pair::connected(8);
    pair.run_secs(20);
    pair.log.clear();
    pair.lost[1] = true;
    let sent = pair.now;
    pair.send(0, &packet(1));
    pair.run_secs(10);
    pair.send(0, &packet(2));
    pair.run_secs(6);
    let times = pair.times(0, Sent::is_initiation);
    let after = times[0].since(sent);
    assert!(times.len() == 1 && (secs(15)..secs(15) + Duration::from_millis(334)).contains(&after));
    assert_eq!(pair.nodes[0].session.endpoint().unwrap().source, None, "the source address is forgotten");
}

#[test]
fn a_keepalive_sent_is_not_expected_to_be_answered() {
    let mut pair = Pair::connected(9);
    pair.run_secs(20);
    pair.log.clear();
    pair.lost[1] = true;
    pair.send(0, &[]);
    pair.run_secs(100);
    assert_eq!(pair.log.len(), 1);
}

#[test]
fn anything_authentic_heard_calls_the_new_handshake_off() {
    for answer in [packet(2), vec![]] {
        let mut pair = Pair::connected(10);
        pair.run_secs(20);
        pair.send(0, &packet(1));
        pair.run_secs(5);
        pair.send(1, &answer);
        pair.run_for(2 * pair.latency);
        assert_eq!(pair.nodes[0].session.endpoint().unwrap().source, Some(1));
        pair.lost[1] = true;
        pair.log.clear();
        pair.run_secs(30);
        assert!(pair.times(0, Sent::is_initiation).is_empty());
    }
}

#[test]
fn all_keys_are_erased_nine_minutes_after_the_last_was_made() {
    let mut pair = Pair::connected(11);
    let made = pair.nodes[0].session.current.as_ref().unwrap().keypair.birth();
    pair.run_for(just_before(made + ERASE_KEYS_AFTER).since(pair.now));
    assert_eq!(pair.nodes[0].indices.len(), 1);
    pair.run_for(Duration::from_nanos(1));
    for node in &pair.nodes {
        assert!(node.indices.is_empty() && node.session.current.is_none());
        assert!(node.session.timers.next().is_none(), "an idle peer costs nothing");
    }
}

#[test]
fn a_persistent_keepalive_is_sent_at_its_interval_and_put_off_by_other_traffic() {
    let mut pair = Pair::connected(12);
    pair.run_secs(20);
    pair.log.clear();
    let session = &mut pair.nodes[0].session;
    assert!(session.set_keepalive_interval(Some(secs(25))), "switched on: one at once");
    assert!(!session.set_keepalive_interval(Some(secs(25))));
    let start = pair.now;
    pair.send(0, &[]);
    pair.run_secs(60);
    assert_eq!(pair.times(0, Sent::is_keepalive), [start, start + secs(25), start + secs(50)]);
    // Received data puts it off as sent data does.
    let received = pair.now + pair.latency;
    pair.send(1, &[]);
    pair.run_secs(20);
    pair.log.clear();
    pair.run_secs(10);
    assert_eq!(pair.times(0, Sent::is_keepalive), [received + secs(25)]);
    assert!(!pair.nodes[0].session.set_keepalive_interval(None));
    pair.log.clear();
    pair.run_secs(100);
    assert!(pair.times(0, |_| true).is_empty());
}

#[test]
fn a_persistent_keepalive_revives_a_session_that_was_given_up() {
    for interval in [1, 5, 25, 65_535] {
        let mut pair = Pair::connected(13);
        pair.nodes[0].session.set_keepalive_interval(Some(secs(interval)));
        pair.send(0, &[]);
        pair.lost = [true; 2];
        pair.run_secs(2000 + interval);
        pair.lost = [false; 2];
        pair.run_secs(130 + interval);
        pair.send(1, &packet(1));
        pair.run_secs(1);
        assert_eq!(pair.nodes[0].received, [packet(1)], "every {interval} s");
    }
}

#[test]
fn wake_reports_only_earlier_deadlines() {
    let mut pair = Pair::new(14);
    let (session, rng) = (&mut pair.nodes[0].session, &mut pair.nodes[0].rng);
    assert_eq!(session.wake(), None);
    session.timers.session_derived(START);
    let late = session.wake().unwrap();
    assert_eq!(late, START + ERASE_KEYS_AFTER);
    assert_eq!(session.wake(), None);
    session.timers.handshake_initiated(START, rng);
    let early = session.wake().unwrap();
    assert!(early < late);
    session.timers.handshake_complete();
    assert_eq!(session.wake(), None, "a later one is not worth a call");

    // The early one is reached, does nothing, and the next is reported; the late one was superseded.
    assert!(session.on_deadline(late, late).is_none());
    let due = session.on_deadline(early, early).unwrap();
    assert!(!due.initiate && !due.zero_key_material && !due.flush && !due.gave_up);
    assert_eq!(session.wake(), Some(late));
    assert!(session.on_deadline(late, late).unwrap().zero_key_material);
    assert_eq!(session.wake(), None);
}

/// A busy session must not wake the slow path for each packet, nor an idle one at all.
#[test]
fn a_busy_session_causes_few_wake_ups() {
    let mut pair = Pair::connected(15);
    let mut wake_ups = 0;
    for number in 0..6000 {
        let node = &mut pair.nodes[0];
        let (session, rng) = (&mut node.session, &mut node.rng);
        let _ = session.begin_send(1, true, pair.now, rng).unwrap();
        wake_ups += usize::from(session.wake().is_some());
        pair.send(1, &packet(number));
        pair.run_for(Duration::from_millis(10));
    }
    assert!(wake_ups < 20, "{wake_ups} in a minute");
}

#[test]
fn a_stopped_session_reports_its_deadlines_anew() {
    let mut pair = Pair::connected(16);
    let session = &mut pair.nodes[0].session;
    let _ = session.stop();
    assert_eq!(session.wake(), None);
    session.start();
    session.timers.session_derived(pair.now + secs(1000));
    assert!(session.wake().is_some(), "the earlier one may have been dropped with the interface");
}

#[test]
fn an_initiation_that_was_asked_for_is_made_once_and_only_if_still_due() {
    let mut pair = Pair::new(17);
    let (session, rng) = (&mut pair.nodes[0].session, &mut pair.nodes[0].rng);
    let asked = |session: &mut Session<Address>, now, rng: &mut ChaCha8Rng| {
        session.begin_send(1, true, now, rng).unwrap_err() == NotReady::NoKeypair { initiate: true }
    };
    assert!(asked(session, START, rng));
    assert!(!asked(session, START, rng));
    assert!(session.begin_initiation(START));
    assert!(!session.begin_initiation(START + secs(4)));
    assert!(!asked(session, START + secs(4), rng));
    assert!(asked(session, START + secs(5), rng));
    let _ = session.stop();
    assert!(!session.begin_initiation(START + secs(6)), "the interface went down meanwhile");
}
