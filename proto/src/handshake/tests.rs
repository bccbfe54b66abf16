//! The handshake's rules, one test each, and the handshake against another implementation of Noise.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use adit_crypto::TAG_LEN;
use rand_core::Rng;

use super::*;
use crate::cookie::Mac1Key;
use crate::dh::ready_all;
use crate::keypair::{Nonces, plaintext};
use crate::message::{DATA_HEADER_LEN, DataHeader, HandshakeMessage, Message, WithMacs};
use crate::testing::{ChaCha8Rng, START, after, as_initiation, identity, rng, wall_clock};

/// One side of a handshake.
struct Party {
    identity: Identity,
    handshake: Handshake,
    rng: ChaCha8Rng,
}

impl Party {
    fn initiation(&mut self, index: u32, now: Instant) -> Initiation {
        self.try_initiation(index, now).expect("a peer with a good key").0
    }

    fn try_initiation(
        &mut self,
        index: u32,
        now: Instant,
    ) -> Result<(Initiation, Option<u32>), HandshakeError> {
        let mut env = Env { now, timestamp: wall_clock(now), rng: &mut self.rng, key_log: None };
        self.handshake.create_initiation(&self.identity, index, &mut env)
    }

    fn consume(&mut self, message: &Initiation, now: Instant) -> Result<ConsumedInitiation, HandshakeError> {
        let opened = self.identity.open_initiation(message)?;
        assert_eq!(opened.remote_static(), self.handshake.remote_static());
        self.handshake.consume_initiation(&self.identity, opened, now)
    }

    fn respond(
        &mut self,
        message: &Initiation,
        index: u32,
        now: Instant,
    ) -> Result<(Response, Keypair), HandshakeError> {
        let consumed = self.consume(message, now)?;
        let mut env = Env { now, timestamp: wall_clock(now), rng: &mut self.rng, key_log: None };
        self.handshake.create_response(&self.identity, consumed, index, &mut env)
    }

    fn finish(&mut self, message: &Response, now: Instant) -> Result<Keypair, HandshakeError> {
        self.handshake.consume_response(&self.identity, message, now)
    }
}

/// Two parties that know each other.
fn parties(seed: u64) -> (Party, Party) {
    let mut rng = rng(seed);
    let (a, b) = (identity(&mut rng), identity(&mut rng));
    let party = |identity: Identity, peer: [u8; 32], seed| Party {
        identity,
        handshake: Handshake::new(peer, Timestamps::default()),
        rng: crate::testing::rng(seed),
    };
    let (a_public, b_public) = (*a.public_key(), *b.public_key());
    (party(a, b_public, rng.next_u64()), party(b, a_public, rng.next_u64()))
}

/// Whether a message that `from` seals is opened by `to`.
fn data_passes(from: &Keypair, to: &Arc<Keypair>) -> bool {
    let mut message = vec![7; DATA_HEADER_LEN + 32 + TAG_LEN];
    from.seal_train(Nonces::new(3, 1), &mut message, DATA_HEADER_LEN + 32 + TAG_LEN);
    assert_eq!(DataHeader::parse(&message), Some(DataHeader { receiver: to.local_index(), counter: 3 }));
    let stride = message.len();
    let opened = to.open_train(&mut message, stride, START).expect("a fresh key");
    opened.messages().count() == 1 && plaintext(&message) == [7; 32]
}

fn assert_keys_match(a: Keypair, b: Keypair) {
    let (a, b) = (Arc::new(a), Arc::new(b));
    assert!(data_passes(&a, &b) && data_passes(&b, &a));
    assert!(a.is_initiator() && !b.is_initiator());
}

#[test]
fn both_sides_derive_the_same_keys_with_and_without_a_preshared_key() {
    for preshared_key in [[0; 32], [0xa5; 32]] {
        for swapped in [false, true] {
            let (mut a, mut b) = parties(1);
            if swapped {
                core::mem::swap(&mut a, &mut b);
            }
            a.handshake.set_preshared_key(Secret::new(preshared_key));
            b.handshake.set_preshared_key(Secret::new(preshared_key));
            let initiation = a.initiation(1, START);
            let (response, b_keys) = b.respond(&initiation, 2, START).unwrap();
            assert_eq!((initiation.sender(), response.sender(), response.receiver()), (1, 2, 1));
            assert_keys_match(a.finish(&response, START).unwrap(), b_keys);
        }
    }
}

#[test]
fn a_wrong_preshared_key_fails_and_the_right_one_may_still_follow() {
    let (mut a, mut b) = parties(2);
    b.handshake.set_preshared_key(Secret::new([1; 32]));
    let initiation = a.initiation(1, START);
    let (response, b_keys) = b.respond(&initiation, 2, START).unwrap();
    assert_eq!(a.finish(&response, START).unwrap_err(), HandshakeError::Unauthenticated);
    a.handshake.set_preshared_key(Secret::new([1; 32]));
    assert_keys_match(a.finish(&response, START).unwrap(), b_keys);
}

fn env(rng: &mut ChaCha8Rng) -> Env<'_> {
    Env { now: START, timestamp: wall_clock(START), rng, key_log: None }
}

/// Eleven pairs take every step together, and in each step somebody is refused: only that one.
#[test]
fn steps_taken_together_are_each_ones_own() {
    let mut pairs: Vec<(Party, Party)> = (100..111).map(parties).collect();
    let begun =
        pairs.iter_mut().map(|(a, _)| a.handshake.begin_initiation(&a.identity, &mut env(&mut a.rng)));
    let begun = ready_all(begun.collect());
    let mut initiations: Vec<Initiation> = begun
        .zip(&mut pairs)
        .map(|(begun, (a, _))| {
            a.handshake.finish_initiation(&a.identity, begun, 1, &env(&mut a.rng)).unwrap().0
        })
        .collect();
    let honest = initiations[3].clone();
    initiations[3] = Initiation::new(1, &[0; 32], honest.encrypted_static(), honest.encrypted_timestamp());

    let openings = pairs.iter().zip(&initiations).map(|((_, b), message)| b.identity.opening(message));
    let mut opened: Vec<_> = ready_all(openings.collect()).map(Ready::<Opening<'_>, 1>::open).collect();
    let refused = opened.remove(3);
    assert_eq!(refused.err(), Some(HandshakeError::ZeroSharedSecret));
    pairs.remove(3);

    let strangers: Vec<Identity> = pairs.iter_mut().map(|(_, b)| identity(&mut b.rng)).collect();
    assert!(pairs.iter().zip(&strangers).all(|((_, b), other)| b.handshake.introduction(other).is_some()));
    let introductions = pairs.iter().map(|(_, b)| b.handshake.introduction(&b.identity).expect("never met"));
    let keys: Vec<_> = ready_all(introductions.collect()).map(|ready| ready.shared).collect();
    for ((_, b), shared) in pairs.iter_mut().zip(keys) {
        let step = b.handshake.introduction(&b.identity).expect("never met");
        b.handshake.introduce(Ready { step, shared });
        assert!(b.handshake.introduction(&b.identity).is_none());
    }

    let responding = pairs.iter_mut().zip(opened).map(|((_, b), opened)| {
        let consumed = b.handshake.consume_initiation(&b.identity, opened.unwrap(), START).unwrap();
        b.handshake.begin_response(&b.identity, consumed, &mut env(&mut b.rng))
    });
    let responding = ready_all(responding.collect());
    let (mut responses, theirs): (Vec<Response>, Vec<Keypair>) = responding
        .zip(&mut pairs)
        .map(|(responding, (_, b))| b.handshake.finish_response(responding, 2, START).unwrap())
        .unzip();
    responses.swap(5, 6);

    let completing = pairs
        .iter()
        .zip(&responses)
        .map(|((a, _), message)| a.handshake.begin_completion(&a.identity, message, START).unwrap());
    let shared: Vec<_> = ready_all(completing.collect()).map(|ready| ready.shared).collect();
    for (i, ((((a, _), message), shared), theirs)) in
        pairs.iter_mut().zip(&responses).zip(shared).zip(theirs).enumerate()
    {
        let step = a.handshake.begin_completion(&a.identity, message, START).unwrap();
        match a.handshake.complete(Ready { step, shared }, START) {
            Ok(ours) => assert_keys_match(ours, theirs),
            Err(error) => assert!([5, 6].contains(&i) && error == HandshakeError::Unauthenticated),
        }
    }
}

/// What happened while nobody held the lock counts.
#[test]
fn an_answer_to_an_initiation_that_is_gone_meanwhile_is_refused() {
    let meanwhile: [fn(&mut Party, &Response); 3] = [
        |a, response| drop(a.finish(response, START).expect("the first one")),
        |a, _| assert_eq!(a.handshake.forget_identity(), Some(1)),
        |a, _| assert_eq!(a.initiation(3, START).sender(), 3),
    ];
    for meanwhile in meanwhile {
        let (mut a, mut b) = parties(120);
        let initiation = a.initiation(1, START);
        let (response, _) = b.respond(&initiation, 2, START).unwrap();
        let completing = a.handshake.begin_completion(&a.identity, &response, START).unwrap();
        let shared = ready(completing).shared;
        let completing = Completing {
            identity: &identity(&mut rng(1)),
            message: &response,
            ephemeral: a.handshake.pending.as_ref().unwrap().ephemeral.clone(),
        };
        meanwhile(&mut a, &response);
        let error = a.handshake.complete(Ready { step: completing, shared }, START).unwrap_err();
        assert_eq!(error, HandshakeError::NotAwaited);
    }
}

/// The `snow` crate, told what WireGuard's Noise is.
fn snow(private_key: &[u8; 32], preshared_key: &[u8; 32], remote: Option<&[u8; 32]>) -> snow::HandshakeState {
    let pattern = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
    let builder = snow::Builder::new(pattern)
        .prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com")
        .and_then(|builder| builder.local_private_key(private_key))
        .and_then(|builder| builder.psk(2, preshared_key))
        .unwrap();
    match remote {
        Some(remote) => builder.remote_public_key(remote).and_then(snow::Builder::build_initiator).unwrap(),
        None => builder.build_responder().unwrap(),
    }
}

/// Data both ways between our keypair and theirs, at counters of more than 32 bits too.
fn assert_data_passes_with_snow(ours: Keypair, theirs: snow::HandshakeState) {
    let theirs = theirs.into_stateless_transport_mode().unwrap();
    let ours = Arc::new(ours);
    for counter in [0, 1, (1 << 32) + 5, (1 << 60) + 1] {
        let mut message = vec![9; DATA_HEADER_LEN + 16 + TAG_LEN];
        let stride = message.len();
        ours.seal_train(Nonces::new(counter, 1), &mut message, stride);
        let mut text = [0; 64];
        let len = theirs.read_message(counter, &message[DATA_HEADER_LEN..], &mut text).unwrap();
        assert_eq!(text[..len], [9; 16]);

        let header = DataHeader { receiver: ours.local_index(), counter };
        header.write(&mut message);
        theirs.write_message(counter, &[8; 16], &mut message[DATA_HEADER_LEN..]).unwrap();
        let opened = ours.open_train(&mut message, stride, START).unwrap();
        assert_eq!((opened.messages().count(), plaintext(&message)), (1, &[8; 16][..]));
    }
}

#[test]
fn agrees_with_an_independent_noise_responder() {
    for preshared_key in [[0; 32], [0x5a; 32]] {
        let (mut a, b) = parties(3);
        a.handshake.set_preshared_key(Secret::new(preshared_key));
        let mut theirs = snow(b.identity.private_key().expose(), &preshared_key, None);
        let initiation = a.initiation(1, START);
        let mut timestamp = [0; 12];
        assert_eq!(theirs.read_message(&initiation.as_bytes()[8..116], &mut timestamp).unwrap(), 12);
        assert_eq!(Tai64n::from_bytes(timestamp), wall_clock(START));
        assert_eq!(theirs.get_remote_static(), Some(&a.identity.public_key()[..]));
        let mut message = [0; 48];
        assert_eq!(theirs.write_message(&[], &mut message).unwrap(), 48);
        let response =
            Response::new(2, 1, message[..32].try_into().unwrap(), message[32..].try_into().unwrap());
        assert_data_passes_with_snow(a.finish(&response, START).unwrap(), theirs);
    }
}

#[test]
fn agrees_with_an_independent_noise_initiator() {
    for preshared_key in [[0; 32], [0x5a; 32]] {
        let (a, mut b) = parties(4);
        b.handshake.set_preshared_key(Secret::new(preshared_key));
        let remote = Some(b.identity.public_key());
        let mut theirs = snow(a.identity.private_key().expose(), &preshared_key, remote);
        let mut message = [0; 108];
        assert_eq!(theirs.write_message(wall_clock(START).as_bytes(), &mut message).unwrap(), 108);
        let (ephemeral, rest) = message.split_first_chunk().unwrap();
        let (static_, timestamp) = rest.split_first_chunk().unwrap();
        let initiation = Initiation::new(1, ephemeral, static_, timestamp.try_into().unwrap());
        let (response, keys) = b.respond(&initiation, 2, START).unwrap();
        assert_eq!(theirs.read_message(&response.as_bytes()[12..60], &mut [0; 16]).unwrap(), 0);
        assert_data_passes_with_snow(keys, theirs);
    }
}

/// `bytes` with one bit of byte `at` flipped.
fn flipped(bytes: &[u8], at: usize) -> HandshakeMessage {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 4;
    match Message::parse(&bytes) {
        Some(Message::Handshake(message)) => message,
        other => panic!("still has the form of a handshake message: {other:?}"),
    }
}

#[test]
fn bogus_responses_do_not_spoil_the_pending_initiation() {
    let (mut a, mut b) = parties(5);
    let initiation = a.initiation(1, START);
    let (response, b_keys) = b.respond(&initiation, 2, START).unwrap();
    // Receiver index, ephemeral, the empty field's tag.
    for at in 8..60 {
        let HandshakeMessage::Response(bogus) = flipped(response.as_bytes(), at) else { unreachable!() };
        let expected = if at < 12 { HandshakeError::NotAwaited } else { HandshakeError::Unauthenticated };
        assert_eq!(a.finish(&bogus, START).unwrap_err(), expected, "byte {at}");
    }
    let keys = a.finish(&response, START).unwrap();
    assert_eq!(a.finish(&response, START).unwrap_err(), HandshakeError::NotAwaited, "a second time");
    assert_keys_match(keys, b_keys);
}

#[test]
fn an_initiation_that_does_not_authenticate_changes_nothing() {
    let (mut a, mut b) = parties(6);
    let initiation = a.initiation(1, START);
    for at in 8..116 {
        let HandshakeMessage::Initiation(bogus) = flipped(initiation.as_bytes(), at) else { unreachable!() };
        let error = b.consume(&bogus, START).err();
        assert_eq!(error, Some(HandshakeError::Unauthenticated), "byte {at}");
        assert_eq!(b.handshake.timestamps().received, Tai64n::default());
    }
    assert!(b.consume(&initiation, START).is_ok());
}

#[test]
fn an_initiation_to_somebody_else_does_not_open() {
    let (mut a, _) = parties(7);
    let (other, _) = parties(8);
    let error = other.identity.open_initiation(&a.initiation(1, START)).err();
    assert_eq!(error, Some(HandshakeError::Unauthenticated));
}

#[test]
fn replayed_and_older_timestamps_are_refused() {
    let (mut a, mut b) = parties(9);
    let (old, new) = (a.initiation(1, START), a.initiation(2, after(1)));
    assert!(b.consume(&new, after(2)).is_ok());
    for stale in [&old, &new] {
        assert!(matches!(b.consume(stale, after(3)).err(), Some(HandshakeError::StaleTimestamp(_))));
    }
    assert_eq!(b.handshake.timestamps().received, wall_clock(after(1)));
    assert!(b.consume(&a.initiation(3, after(4)), after(4)).is_ok());
}

/// Also for a peer that is removed and added again.
#[test]
fn replays_are_refused_by_a_handshake_made_anew_with_the_timestamps() {
    let (mut a, mut b) = parties(10);
    let initiation = a.initiation(1, START);
    assert!(b.consume(&initiation, START).is_ok());
    b.handshake = Handshake::new(*a.identity.public_key(), b.handshake.timestamps());
    assert!(matches!(b.consume(&initiation, after(1)).err(), Some(HandshakeError::StaleTimestamp(_))));
    assert!(b.consume(&a.initiation(2, after(2)), after(2)).is_ok());
}

/// firezone/boringtun pull request 126: a peer that was made anew for the same key sent timestamps that went backwards.
#[test]
fn timestamps_sent_by_a_handshake_made_anew_go_on_from_the_last() {
    let (mut a, mut b) = parties(25);
    assert!(b.consume(&a.initiation(1, after(50)), after(50)).is_ok());
    for (index, wall) in [(2, after(50)), (3, START)] {
        a.handshake = Handshake::new(*b.identity.public_key(), a.handshake.timestamps());
        let now = after(50 + u64::from(index));
        let mut env = Env { now, timestamp: wall_clock(wall), rng: &mut a.rng, key_log: None };
        let (initiation, _) = a.handshake.create_initiation(&a.identity, index, &mut env).unwrap();
        assert!(b.consume(&initiation, now).is_ok(), "initiation {index}");
    }
}

#[test]
fn timestamps_sent_increase_though_the_wall_clock_does_not() {
    let (mut a, mut b) = parties(11);
    let mut now = START;
    for (index, wall) in [after(50), after(50), after(10), START, after(50)].into_iter().enumerate() {
        let mut env = Env { now, timestamp: wall_clock(wall), rng: &mut a.rng, key_log: None };
        let index = u32::try_from(index).unwrap();
        let (initiation, _) = a.handshake.create_initiation(&a.identity, index, &mut env).unwrap();
        assert!(b.consume(&initiation, now).is_ok(), "initiation {index}");
        now = now + Duration::from_secs(1);
    }
    assert!(b.handshake.timestamps().received < wall_clock(after(51)));
}

/// GotaTun and boringtun have no such limit: one peer can occupy the processor with four multiplications for each
/// initiation it sends.
#[test]
fn initiations_of_a_peer_are_consumed_at_most_every_twenty_milliseconds() {
    let (mut a, mut b) = parties(12);
    let millis = |ms| START + Duration::from_millis(ms);
    let initiations: Vec<Initiation> = (0..4).map(|i| a.initiation(i, millis(0))).collect();
    assert!(b.consume(&initiations[0], millis(0)).is_ok());
    assert_eq!(b.consume(&initiations[1], millis(0)).err(), Some(HandshakeError::TooSoon));
    assert_eq!(b.consume(&initiations[2], millis(19)).err(), Some(HandshakeError::TooSoon));
    assert!(b.consume(&initiations[3], millis(20)).is_ok());
}

/// Points of order 1, 2, 4 and 8 on the curve and its twist, some not canonical, some with the top bit set.
fn low_order_points() -> Vec<[u8; 32]> {
    let order_8 = [
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
            0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
            0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
        ],
    ];
    let with_ends = |first: u8, middle: u8, last: u8| {
        let mut point = [middle; 32];
        (point[0], point[31]) = (first, last);
        point
    };
    let mut points = vec![
        with_ends(0, 0, 0),
        with_ends(1, 0, 0),
        // p - 1, p, p + 1
        with_ends(0xec, 0xff, 0x7f),
        with_ends(0xed, 0xff, 0x7f),
        with_ends(0xee, 0xff, 0x7f),
    ];
    points.extend(order_8);
    let with_top_bit = points.clone().into_iter().map(|mut point| {
        point[31] |= 0x80;
        point
    });
    points.extend(with_top_bit);
    points
}

/// wireguard-go c7b76d3: zero ECDH results have to be rejected in both messages. GotaTun and boringtun accept them.
#[test]
fn low_order_ephemerals_are_rejected_in_both_messages() {
    for point in low_order_points() {
        let (mut a, mut b) = parties(13);
        let initiation = a.initiation(1, START);
        let bogus =
            Initiation::new(1, &point, initiation.encrypted_static(), initiation.encrypted_timestamp());
        assert_eq!(b.identity.open_initiation(&bogus).err(), Some(HandshakeError::ZeroSharedSecret));

        let (response, b_keys) = b.respond(&initiation, 2, START).unwrap();
        let bogus = Response::new(2, 1, &point, response.encrypted_nothing());
        assert_eq!(a.finish(&bogus, START).unwrap_err(), HandshakeError::ZeroSharedSecret);
        assert_keys_match(a.finish(&response, START).unwrap(), b_keys);
    }
}

/// A peer with such a key may be configured; it is never contacted, and whoever claims the key (for which nothing secret is
/// needed) is not believed.
#[test]
fn low_order_static_keys_are_rejected_in_both_roles() {
    for point in low_order_points() {
        let (mut a, _) = parties(14);
        a.handshake = Handshake::new(point, Timestamps::default());
        let error = a.try_initiation(1, START).err();
        assert_eq!(error, Some(HandshakeError::ZeroSharedSecret));

        let opened = a.identity.open_initiation(&claim(&point, &a.identity, &mut rng(1))).unwrap();
        assert_eq!(opened.remote_static(), &point);
        let error = a.handshake.consume_initiation(&a.identity, opened, START).err();
        assert_eq!(error, Some(HandshakeError::ZeroSharedSecret));
        assert_eq!(a.handshake.timestamps().received, Tai64n::default());
    }
}

/// An initiation that claims to come from the low-order `point`: its shared secret with anything is zero.
fn claim(point: &[u8; 32], to: &Identity, rng: &mut ChaCha8Rng) -> Initiation {
    let ephemeral = identity(rng);
    let mut symmetric = Symmetric::new(to.public_key());
    symmetric.mix_ephemeral(ephemeral.public_key());
    let shared = x25519::shared(ephemeral.private_key(), to.public_key()).unwrap();
    let key = symmetric.mix_key_for_field(&shared);
    let static_ = symmetric.encrypt_and_hash(&key, point);
    let key = symmetric.mix_key_for_field(&Secret::zero());
    let timestamp = symmetric.encrypt_and_hash(&key, wall_clock(START).as_bytes());
    Initiation::new(1, ephemeral.public_key(), &static_, &timestamp)
}

#[test]
fn a_retry_has_a_new_ephemeral_and_replaces_the_pending_initiation() {
    let (mut a, mut b) = parties(15);
    let (first, replaced) = a.try_initiation(1, START).unwrap();
    assert_eq!(replaced, None);
    let (second, replaced) = a.try_initiation(2, after(5)).unwrap();
    assert_eq!(replaced, Some(1));
    assert_ne!(first.unencrypted_ephemeral(), second.unencrypted_ephemeral());
    let (late, _) = b.respond(&first, 3, after(5)).unwrap();
    assert_eq!(a.finish(&late, after(6)).unwrap_err(), HandshakeError::NotAwaited);
    let (response, keys) = b.respond(&second, 4, after(6)).unwrap();
    assert_keys_match(a.finish(&response, after(6)).unwrap(), keys);
    assert_eq!(a.handshake.forget_pending(), None);
}

/// The peer's initiation is consumed and answered while ours is pending; ours can still be answered.
#[test]
fn a_pending_initiation_survives_the_peers_own() {
    let (mut a, mut b) = parties(16);
    let (from_a, from_b) = (a.initiation(1, START), b.initiation(2, START));
    let (a_responds, a_next) = a.respond(&from_b, 3, START).unwrap();
    let (b_responds, b_next) = b.respond(&from_a, 4, START).unwrap();
    assert_keys_match(a.finish(&b_responds, START).unwrap(), b_next);
    assert_keys_match(b.finish(&a_responds, START).unwrap(), a_next);
}

#[test]
fn a_new_private_key_takes_effect_at_once() {
    let (mut a, mut b) = parties(17);
    a.initiation(1, START);
    a.identity = identity(&mut rng(170));
    assert_eq!(a.handshake.forget_identity(), Some(1));
    b.handshake = Handshake::new(*a.identity.public_key(), Timestamps::default());
    let initiation = a.initiation(2, after(1));
    let (response, keys) = b.respond(&initiation, 3, after(1)).unwrap();
    assert_keys_match(a.finish(&response, after(1)).unwrap(), keys);
}

#[test]
fn both_messages_carry_a_valid_mac1_and_no_mac2_without_a_cookie() {
    let (mut a, mut b) = parties(18);
    let initiation = a.initiation(1, START);
    let (response, _) = b.respond(&initiation, 2, START).unwrap();
    assert!(Mac1Key::new(b.identity.public_key()).verifies(&initiation));
    assert!(Mac1Key::new(a.identity.public_key()).verifies(&response));
    assert!(!Mac1Key::new(b.identity.public_key()).verifies(&response));
    assert_eq!((initiation.mac2(), response.mac2()), (&[0; 16], &[0; 16]));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let (mut a, mut b) = parties(seed);
        let initiation = a.initiation(1, START);
        let (response, _) = b.respond(&initiation, 2, START).unwrap();
        (initiation.as_bytes().to_vec(), response.as_bytes().to_vec())
    };
    assert_eq!(run(19), run(19));
    assert_ne!(run(19), run(20));
    assert!(as_initiation(&run(19).0).is_some());
}

/// Collects what it is told.
#[derive(Default)]
struct Collected(RefCell<Vec<([u8; 32], [u8; 32])>>);

impl KeyLog for Collected {
    fn handshake(&self, keys: &LoggedKeys<'_>) {
        self.0.borrow_mut().push((*keys.local_ephemeral_private, *keys.remote_static_public));
    }
}

#[test]
fn the_key_log_is_told_the_ephemeral_that_was_sent() {
    let (mut a, _) = parties(21);
    let log = Collected::default();
    let mut env = Env { now: START, timestamp: wall_clock(START), rng: &mut a.rng, key_log: Some(&log) };
    let (initiation, _) = a.handshake.create_initiation(&a.identity, 1, &mut env).unwrap();
    let told = log.0.borrow();
    let [(ephemeral, remote)] = told[..] else { panic!("one handshake, one line") };
    assert_eq!(&x25519::public_key(&PrivateKey::new(ephemeral)), initiation.unencrypted_ephemeral());
    assert_eq!(&remote, a.handshake.remote_static());
}

/// Whoever can withhold an answer could otherwise bring up, hours later, a session that the peer has forgotten.
#[test]
fn an_answer_is_refused_once_nobody_waits_for_it() {
    for (late, is_taken) in [(after(89), true), (after(90), false)] {
        let (mut a, mut b) = parties(21);
        let message = a.initiation(1, START);
        let (response, _) = b.respond(&message, 2, START).expect("a good initiation");
        assert_eq!(a.finish(&response, late).is_ok(), is_taken);
    }
}

/// The thread that handles a message may hold the old key while another sets the new one and clears what was computed.
#[test]
fn what_was_computed_with_a_replaced_key_is_not_used() {
    let (mut a, mut b) = parties(22);
    let old = core::mem::replace(&mut a.identity, identity(&mut rng(23)));
    a.handshake.forget_identity();
    let mut env = Env { now: START, timestamp: wall_clock(START), rng: &mut rng(24), key_log: None };
    a.handshake.create_initiation(&old, 1, &mut env).expect("made with the old key");
    b.handshake = Handshake::new(*a.identity.public_key(), Timestamps::default());
    let message = a.initiation(2, after(5));
    assert!(b.respond(&message, 3, after(5)).is_ok(), "made with the new key");
}
