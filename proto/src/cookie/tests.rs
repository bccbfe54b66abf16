//! The rules of MACs, cookies and load, one test each.

use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::message::{Initiation, Response};
use crate::testing::{START, after, rng};

const PUBLIC_KEY: [u8; 32] = [3; 32];

fn source(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn initiation(jar: &mut Jar, sender: u32, now: Instant) -> Initiation {
    let mut message = Initiation::new(sender, &[1; 32], &[2; 48], &[3; 28]);
    jar.add_macs(&mut message, now);
    message
}

/// A responder, and an initiator that it has given a cookie for `source` at [`START`].
fn with_cookie(source: SocketAddr) -> (Checker, Jar) {
    let (mut checker, mut jar) = (Checker::new(&PUBLIC_KEY), Jar::new(&PUBLIC_KEY));
    let message = initiation(&mut jar, 1, START);
    let reply = checker.reply(&message, source, START, &mut rng(1));
    assert_eq!(reply.receiver(), 1);
    assert!(jar.consume_reply(&reply, START));
    (checker, jar)
}

#[test]
fn mac1_covers_all_before_it() {
    let mut jar = Jar::new(&PUBLIC_KEY);
    let mut response = Response::new(1, 2, &[1; 32], &[2; 16]);
    jar.add_macs(&mut response, START);
    let mut initiation = initiation(&mut jar, 1, START);
    let messages: [&mut dyn WithMacs; 2] = [&mut initiation, &mut response];
    for message in messages {
        let key = Mac1Key::new(&PUBLIC_KEY);
        assert!(key.verifies(message));
        assert!(!Mac1Key::new(&[4; 32]).verifies(message), "another public key");
        for at in 0..message.as_bytes().len() - 16 {
            message.bytes_mut()[at] ^= 1;
            assert!(!key.verifies(message), "byte {at}");
            message.bytes_mut()[at] ^= 1;
        }
    }
}

#[test]
fn a_cookie_makes_mac2_valid_in_both_messages() {
    let from = source("192.0.2.1:1000");
    let (checker, mut jar) = with_cookie(from);
    let mut response = Response::new(1, 2, &[1; 32], &[2; 16]);
    jar.add_macs(&mut response, START);
    assert!(checker.mac2_is_valid(&response, from, START));
    let message = initiation(&mut jar, 2, START);
    assert!(checker.mac2_is_valid(&message, from, START));
    let mut forged = message.clone();
    forged.bytes_mut()[147] ^= 1;
    assert!(!checker.mac2_is_valid(&forged, from, START));
}

/// GotaTun 0.6.0: a cookie given to port X was accepted from port Y.
#[test]
fn a_cookie_is_bound_to_address_and_port() {
    for (given, others) in [
        ("192.0.2.1:1000", ["192.0.2.1:1001", "192.0.2.2:1000", "[::ffff:192.0.2.1]:1000"]),
        ("[2001:db8::1]:1000", ["[2001:db8::1]:1001", "[2001:db8::2]:1000", "32.1.13.184:1000"]),
    ] {
        let (checker, mut jar) = with_cookie(source(given));
        let message = initiation(&mut jar, 2, START);
        assert!(checker.mac2_is_valid(&message, source(given), START));
        for other in others {
            assert!(!checker.mac2_is_valid(&message, source(other), START), "{other}");
        }
    }
}

#[test]
fn the_responders_secret_lives_two_minutes() {
    let from = source("192.0.2.1:1000");
    let (checker, mut jar) = with_cookie(from);
    let message = initiation(&mut jar, 2, START);
    assert!(checker.mac2_is_valid(&message, from, after(119)));
    assert!(!checker.mac2_is_valid(&message, from, after(120)));
}

#[test]
fn the_initiator_uses_a_cookie_for_less_than_115_seconds() {
    let (_, mut jar) = with_cookie(source("192.0.2.1:1000"));
    assert_ne!(initiation(&mut jar, 2, after(114)).mac2(), &[0; 16]);
    assert_eq!(initiation(&mut jar, 3, after(115)).mac2(), &[0; 16]);
}

#[test]
fn a_reply_is_used_once_for_each_mac1_sent() {
    let from = source("192.0.2.1:1000");
    let (mut checker, mut jar) = (Checker::new(&PUBLIC_KEY), Jar::new(&PUBLIC_KEY));
    let first = initiation(&mut jar, 1, START);
    let reply = checker.reply(&first, from, START, &mut rng(1));
    assert!(jar.consume_reply(&reply, START));
    assert!(!jar.consume_reply(&reply, after(60)), "a replay would make the cookie last for ever");
    let _second = initiation(&mut jar, 2, after(60));
    assert!(!jar.consume_reply(&reply, after(60)), "it answers another mac1");
    assert_eq!(initiation(&mut jar, 3, after(115)).mac2(), &[0; 16], "its age counts from the first time");
}

#[test]
fn a_reply_before_anything_was_sent_is_refused() {
    let mut checker = Checker::new(&PUBLIC_KEY);
    let message = initiation(&mut Jar::new(&PUBLIC_KEY), 1, START);
    let reply = checker.reply(&message, source("192.0.2.1:1000"), START, &mut rng(1));
    assert!(!Jar::new(&PUBLIC_KEY).consume_reply(&reply, START));
}

#[test]
fn a_forged_reply_is_refused_and_the_true_one_still_taken() {
    let from = source("192.0.2.1:1000");
    let mut jar = Jar::new(&PUBLIC_KEY);
    let message = initiation(&mut jar, 1, START);
    let forged = Checker::new(&[4; 32]).reply(&message, from, START, &mut rng(1));
    assert!(!jar.consume_reply(&forged, START), "from another key");
    let reply = Checker::new(&PUBLIC_KEY).reply(&message, from, START, &mut rng(1));
    for at in 0..32 {
        let mut cookie = *reply.encrypted_cookie();
        cookie[at] ^= 1;
        let bogus = CookieReply::new(reply.receiver(), reply.nonce(), &cookie);
        assert!(!jar.consume_reply(&bogus, START), "byte {at}");
    }
    assert_eq!(initiation(&mut Jar::new(&PUBLIC_KEY), 1, START).mac1(), message.mac1());
    assert!(jar.consume_reply(&reply, START));
}

#[test]
fn replies_have_random_nonces() {
    let mut checker = Checker::new(&PUBLIC_KEY);
    let message = initiation(&mut Jar::new(&PUBLIC_KEY), 1, START);
    let mut rng = rng(1);
    let mut reply = || *checker.reply(&message, source("192.0.2.1:1"), START, &mut rng).nonce();
    assert_ne!(reply(), reply());
}

/// GotaTun 0.1.2: once demanded, cookies were demanded for ever.
#[test]
fn load_lasts_a_second_after_the_queue_was_an_eighth_full() {
    let mut load = Load::default();
    assert!(!load.is_under_load(UNDER_LOAD_HANDSHAKES - 1, START));
    assert!(load.is_under_load(UNDER_LOAD_HANDSHAKES, START));
    assert!(load.is_under_load(0, START + Duration::from_millis(999)), "it is sticky");
    assert!(!load.is_under_load(0, after(1)));
    assert!(load.is_under_load(512, after(2)) && load.is_under_load(512, after(4)));
    assert!(!load.is_under_load(511, after(5)));
}

#[test]
fn a_clock_that_goes_backwards_does_no_harm() {
    let from = source("192.0.2.1:1000");
    let (checker, mut jar) = with_cookie(from);
    let early = Instant::from_nanos(0);
    let message = initiation(&mut jar, 2, early);
    assert!(checker.mac2_is_valid(&message, from, early));
    let mut load = Load::default();
    assert!(load.is_under_load(UNDER_LOAD_HANDSHAKES, START) && load.is_under_load(0, early));
    assert!(!load.is_under_load(0, after(1)));
}

#[test]
fn mac1_of_many_is_mac1_of_each() {
    let (key, mut jar) = (Mac1Key::new(&PUBLIC_KEY), Jar::new(&PUBLIC_KEY));
    let messages: Vec<Initiation> = (0..64u32)
        .map(|number| {
            let mut message = Initiation::new(number, &[number as u8; 32], &[3; 48], &[4; 28]);
            jar.add_macs(&mut message, START);
            if number % 3 == 0 {
                message.bytes_mut()[7] ^= 1;
            }
            message
        })
        .collect();
    for count in [0, 1, 7, 8, 9, 63, 64] {
        let many: Vec<&dyn WithMacs> = messages[..count].iter().map(|message| message as _).collect();
        let each = many.iter().enumerate().map(|(at, message)| u64::from(key.verifies(*message)) << at);
        let valid = key.verifies_all(&many);
        assert_eq!(valid, each.sum::<u64>(), "{count}");
        assert_eq!(valid.count_ones() as usize, count - count.div_ceil(3));
    }
}

#[test]
fn mac2_of_many_is_mac2_of_each() {
    let from = source("192.0.2.7:51820");
    let (checker, mut jar) = with_cookie(from);
    let messages: Vec<Initiation> = (0..20).map(|number| initiation(&mut jar, number, START)).collect();
    let sources = ["192.0.2.7:51820", "192.0.2.7:51821", "[2001:db8::7]:51820"].map(source);
    let many: Vec<(&dyn WithMacs, SocketAddr)> =
        messages.iter().zip(sources.iter().cycle()).map(|(message, from)| (message as _, *from)).collect();
    let each = many
        .iter()
        .enumerate()
        .map(|(at, (message, from))| u64::from(checker.mac2_is_valid(*message, *from, START)) << at);
    let valid = checker.mac2s_are_valid(&many, START);
    assert_eq!(valid, each.sum::<u64>());
    assert_eq!(valid.count_ones(), 7);
    assert_eq!(checker.mac2s_are_valid(&many, after(120)), 0);
    assert_eq!(Checker::new(&PUBLIC_KEY).mac2s_are_valid(&many, START), 0, "it has given none");
}
