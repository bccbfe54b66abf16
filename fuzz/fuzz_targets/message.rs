//! Datagrams for a peer in the middle of a handshake: any bytes, and real messages that somebody has tampered with.
//!
//! The first byte chooses the message; the rest is the datagram, or what is done to the real one. mac1 is often put right
//! afterwards, as anybody can who knows the public key, so that the AEAD is reached. What it authenticates has to be taken if
//! and only if it is what was sent; what is refused may change nothing: the real message must be taken afterwards, and once.

#![no_main]

use std::cell::LazyCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_crypto::{Secret, blake2s};
use adit_fuzz::{exact, some};
use adit_proto::cookie::{Checker, Mac1Key};
use adit_proto::handshake::{Env, Handshake, HandshakeError, Identity, Timestamps};
use adit_proto::keypair::{Keypair, plaintext};
use adit_proto::message::{DATA_HEADER_LEN, HandshakeMessage, Initiation, Message, Response, WithMacs};
use adit_proto::session::Session;
use adit_proto::testing::{Address, START, identity, rng, wall_clock};
use adit_proto::time::Instant;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const SOURCE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 51820);
const INITIATOR_INDEX: u32 = 0x1111_1111;
const RESPONDER_INDEX: u32 = 0x2222_2222;
/// When a tampered message arrives: late enough for a second initiation.
const LATER: Duration = Duration::from_secs(6);

thread_local! {
    static SCENE: LazyCell<Scene> = const { LazyCell::new(Scene::new) };
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    SCENE.with(|scene| {
        let mut changes = Unstructured::new(rest);
        // Too little input is no case.
        let _ = match kind % 8 {
            0 | 1 => {
                scene.any(rest);
                Ok(())
            }
            2 | 3 => scene.initiation(&mut changes),
            4 => scene.response(&mut changes),
            5 => scene.cookie_reply(&mut changes),
            _ => scene.train(&mut changes),
        };
    });
});

/// An initiator, a responder, and what they say to each other; the same each time.
struct Scene {
    initiator: Identity,
    responder: Identity,
    initiation: Vec<u8>,
    response: Vec<u8>,
    cookie_reply: Vec<u8>,
    /// Of one session, the initiator's first.
    keypairs: [Arc<Keypair>; 2],
}

fn env(rng: &mut adit_proto::testing::ChaCha8Rng) -> Env<'_> {
    Env { now: START, timestamp: wall_clock(START), rng, key_log: None }
}

fn parsed(bytes: &[u8]) -> HandshakeMessage {
    match Message::parse(bytes) {
        Some(Message::Handshake(message)) => message,
        _ => panic!("not a handshake message"),
    }
}

fn response(bytes: &[u8]) -> Response {
    match parsed(bytes) {
        HandshakeMessage::Response(response) => response,
        _ => panic!("not a response"),
    }
}

impl Scene {
    fn new() -> Self {
        let mut seeded = rng(7);
        let [initiator, responder] = [identity(&mut seeded), identity(&mut seeded)];
        let mut scene = Scene {
            initiation: Vec::new(),
            response: Vec::new(),
            cookie_reply: Vec::new(),
            keypairs: {
                let (mut ours, first) = initiating(&initiator, &responder);
                let (answer, theirs) = answered(&responder, &initiator, &first);
                let ours = ours.consume_response(&initiator, &answer, START).expect("it is ours");
                [Arc::new(ours), Arc::new(theirs)]
            },
            initiator,
            responder,
        };
        let (_, first) = initiating(&scene.initiator, &scene.responder);
        let (answer, _) = answered(&scene.responder, &scene.initiator, &first);
        let mut checker = Checker::new(scene.responder.public_key());
        scene.cookie_reply = checker.reply(&first, SOURCE, START, &mut seeded).as_bytes().to_vec();
        scene.initiation = first.as_bytes().to_vec();
        scene.response = answer.as_bytes().to_vec();
        scene
    }

    /// What both do with whatever comes.
    fn any(&self, datagram: &[u8]) {
        check_form(datagram);
        let mut datagram = exact(datagram);
        for to in [&self.responder, &self.initiator] {
            fix_mac1(&mut datagram, to);
            let (mut pending, _) = initiating(&self.initiator, &self.responder);
            match Message::parse(&datagram) {
                Some(Message::Handshake(HandshakeMessage::Initiation(message))) => {
                    assert!(Mac1Key::new(to.public_key()).verifies(&message));
                    if let Ok(opened) = to.open_initiation(&message) {
                        let _ = self.responding().consume_initiation(to, opened, START + LATER);
                    }
                }
                Some(Message::Handshake(HandshakeMessage::Response(message))) => {
                    let _ = pending.consume_response(&self.initiator, &message, START + LATER);
                }
                Some(Message::Handshake(HandshakeMessage::CookieReply(reply))) => {
                    let _ = pending.consume_cookie_reply(&reply, START + LATER);
                }
                Some(Message::Data(_)) | None => {
                    let (mut train, stride) = (datagram.to_vec(), datagram.len().max(1));
                    let opened = self.keypairs[1].open_train(&mut train, stride, START).expect("it is new");
                    assert!(!opened.is_authentic(0), "nobody has sealed that");
                }
            }
        }
    }

    fn responding(&self) -> Handshake {
        Handshake::new(*self.initiator.public_key(), Timestamps::default())
    }

    fn initiation(&self, changes: &mut Unstructured<'_>) -> Result<()> {
        let tampered = tamper(&self.initiation, &self.responder, changes)?;
        check_form(&tampered);
        let mut handshake = self.responding();
        let is_same = same(&tampered, &self.initiation, &[0..4, 8..116]);
        let taken = self.consume_initiation(&mut handshake, &tampered, START);
        assert_eq!(
            taken.is_some_and(|result| result.is_ok()),
            is_same && mac1_is_right(&tampered, &self.responder)
        );
        let real = self.consume_initiation(&mut handshake, &self.initiation, START + LATER);
        match taken {
            Some(Ok(())) => {
                assert!(matches!(real, Some(Err(HandshakeError::StaleTimestamp(_)))), "taken twice")
            }
            _ => assert_eq!(real, Some(Ok(())), "a refused message has changed something"),
        }
        Ok(())
    }

    /// `None` if it has not the form of one, or mac1 is wrong.
    fn consume_initiation(
        &self,
        handshake: &mut Handshake,
        datagram: &[u8],
        now: Instant,
    ) -> Option<core::result::Result<(), HandshakeError>> {
        let Message::Handshake(HandshakeMessage::Initiation(message)) = Message::parse(datagram)? else {
            return None;
        };
        if !Mac1Key::new(self.responder.public_key()).verifies(&message) {
            return None;
        }
        Some(self.responder.open_initiation(&message).and_then(|opened| {
            assert_eq!(opened.remote_static(), self.initiator.public_key(), "it names somebody else");
            handshake.consume_initiation(&self.responder, opened, now).map(drop)
        }))
    }

    fn response(&self, changes: &mut Unstructured<'_>) -> Result<()> {
        let tampered = tamper(&self.response, &self.initiator, changes)?;
        check_form(&tampered);
        let (mut handshake, _) = initiating(&self.initiator, &self.responder);
        let mut taken = false;
        if let Some(Message::Handshake(HandshakeMessage::Response(message))) = Message::parse(&tampered) {
            taken = handshake.consume_response(&self.initiator, &message, START).is_ok();
        }
        // Whoever calls has looked at mac1, but only the index of the sender is nowhere else.
        assert_eq!(taken, same(&tampered, &self.response, &[0..4, 8..60]));
        let again = handshake.consume_response(&self.initiator, &response(&self.response), START);
        match taken {
            true => assert!(matches!(again, Err(HandshakeError::NotAwaited)), "taken twice"),
            false => assert!(again.is_ok(), "a refused message has changed something"),
        }
        Ok(())
    }

    fn cookie_reply(&self, changes: &mut Unstructured<'_>) -> Result<()> {
        let tampered = tamper(&self.cookie_reply, &self.initiator, changes)?;
        check_form(&tampered);
        let (mut handshake, first) = initiating(&self.initiator, &self.responder);
        let mut consume = |bytes: &[u8]| match Message::parse(bytes) {
            Some(Message::Handshake(HandshakeMessage::CookieReply(reply))) => {
                handshake.consume_cookie_reply(&reply, START)
            }
            _ => false,
        };
        let taken = consume(&tampered);
        assert_eq!(taken, same(&tampered, &self.cookie_reply, &[0..4, 8..64]));
        assert_ne!(
            consume(&self.cookie_reply),
            taken,
            "a reply is used once, and a wrong one uses up nothing"
        );
        // The cookie is used in the next message.
        assert_eq!(first.mac2(), &[0; 16]);
        let mut seeded = rng(8);
        let next = handshake.create_initiation(&self.initiator, INITIATOR_INDEX, &mut env(&mut seeded));
        let next = next.expect("the keys are good").0;
        let cookie = self.cookie();
        assert_eq!(next.mac2(), &blake2s::mac(&cookie, &[next.before_mac2()]));
        Ok(())
    }

    /// The cookie in the reply, opened by another implementation.
    fn cookie(&self) -> [u8; 16] {
        let key = blake2s::hash(&[b"cookie--", self.responder.public_key()]);
        let mac1: &[u8] = &self.initiation[116..132];
        let nonce: [u8; 24] = self.cookie_reply[8..32].try_into().expect("24 bytes");
        let (mut cookie, tag) = ([0; 16], &self.cookie_reply[48..64]);
        cookie.copy_from_slice(&self.cookie_reply[32..48]);
        let tag: [u8; 16] = tag.try_into().expect("16 bytes");
        XChaCha20Poly1305::new(&key.into())
            .decrypt_inout_detached(&nonce.into(), mac1, cookie.as_mut_slice().into(), &tag.into())
            .expect("it is real");
        cookie
    }

    /// A train of transport data with messages damaged, exchanged and repeated, and then the same train as it was.
    fn train(&self, changes: &mut Unstructured<'_>) -> Result<()> {
        let count: usize = changes.int_in_range(1..=64)?;
        let stride = 32 + 16 * changes.int_in_range(0..=3)?;
        let last = 32 + 16 * changes.int_in_range(0..=(stride - 32) / 16)?;
        let mut real = vec![0; (count - 1) * stride + last];
        for (number, message) in real.chunks_mut(stride).enumerate() {
            let text = DATA_HEADER_LEN..message.len() - 16;
            message[text].fill(number as u8 | 0x80);
        }
        let texts: Vec<Vec<u8>> = real.chunks(stride).map(|message| plaintext(message).to_vec()).collect();
        let [ours, theirs] = self.sessions();
        let (mut ours, mut theirs) = (ours, theirs);
        let grant = ours.begin_send(count, true, START, &mut rng(9)).expect("there is a key");
        grant.keypair.seal_train(grant.nonces, &mut real, stride);

        let mut train = real.clone();
        for _ in 0..changes.int_in_range(0..=6)? {
            tamper_train(&mut train, stride, changes)?;
        }
        let mut taken = vec![false; count];
        for datagrams in [train, real.clone()] {
            let mut opened_train = exact(&datagrams);
            let opened = self.keypairs[1].open_train(&mut opened_train, stride, START).expect("it is new");
            let received = theirs.finish_recv(&opened, &Address::new(1), START);
            for (place, (message, opened_message)) in
                datagrams.chunks(stride).zip(opened_train.chunks(stride)).enumerate()
            {
                // The index is what the session was found by.
                let number = real.chunks(stride).position(|real| same(message, real, &[0..4, 8..real.len()]));
                assert_eq!(opened.is_authentic(place), number.is_some(), "message {place}");
                let is_new = number.is_some_and(|number| !std::mem::replace(&mut taken[number], true));
                assert_eq!(received.accepted >> place & 1 != 0, is_new, "message {place}");
                if message.len() >= 32 {
                    let expected =
                        number.map_or_else(|| vec![0; message.len() - 32], |number| texts[number].clone());
                    assert_eq!(plaintext(opened_message), expected, "message {place}");
                }
            }
        }
        assert!(taken.iter().all(|taken| *taken), "in the end all have arrived");
        Ok(())
    }

    fn sessions(&self) -> [Session<Address>; 2] {
        let mut sessions = [Session::default(), Session::default()];
        sessions.iter_mut().for_each(Session::start);
        assert!(sessions[0].response_received(self.keypairs[0].clone(), START).is_empty());
        assert!(sessions[1].response_sent(self.keypairs[1].clone(), START).is_empty());
        sessions
    }
}

/// The initiator, which has just sent its first message.
fn initiating(initiator: &Identity, responder: &Identity) -> (Handshake, Initiation) {
    let mut handshake = Handshake::new(*responder.public_key(), Timestamps::default());
    handshake.set_preshared_key(Secret::new([3; 32]));
    let created = handshake.create_initiation(initiator, INITIATOR_INDEX, &mut env(&mut rng(1)));
    let initiation = created.expect("the keys are good").0;
    (handshake, initiation)
}

fn answered(responder: &Identity, initiator: &Identity, initiation: &Initiation) -> (Response, Keypair) {
    let mut handshake = Handshake::new(*initiator.public_key(), Timestamps::default());
    handshake.set_preshared_key(Secret::new([3; 32]));
    let opened = responder.open_initiation(initiation).expect("it is for us");
    let consumed = handshake.consume_initiation(responder, opened, START).expect("it is new");
    let created = handshake.create_response(responder, consumed, RESPONDER_INDEX, &mut env(&mut rng(2)));
    created.expect("the keys are good")
}

/// What the paper says of the four messages' form (5.4), and that the accessors read what stands there.
fn check_form(datagram: &[u8]) {
    let word = |at: usize| u32::from_le_bytes(datagram[at..at + 4].try_into().expect("four bytes"));
    let is_message =
        datagram.len() >= 4 && matches!((word(0), datagram.len()), (1, 148) | (2, 92) | (3, 64) | (4, 32..));
    match Message::parse(datagram) {
        None => assert!(!is_message, "a message was not taken for one"),
        Some(_) if !is_message => panic!("that is no message"),
        Some(Message::Data(header)) => {
            assert_eq!(header.receiver, word(4));
            assert_eq!(header.counter, u64::from(word(12)) << 32 | u64::from(word(8)));
        }
        Some(Message::Handshake(message)) => {
            if let Some(message) = message.with_macs() {
                assert_eq!((message.as_bytes(), message.sender()), (datagram, word(4)));
                assert_eq!(message.mac1(), &datagram[datagram.len() - 32..datagram.len() - 16]);
                assert_eq!(message.mac2(), &datagram[datagram.len() - 16..]);
            }
            match message {
                HandshakeMessage::Response(response) => assert_eq!(response.receiver(), word(8)),
                HandshakeMessage::CookieReply(reply) => {
                    assert_eq!((reply.as_bytes(), reply.receiver()), (datagram, word(4)));
                }
                HandshakeMessage::Initiation(_) => {}
            }
        }
    }
}

/// Points of low order, and their other spellings: the products with them are zero.
const LOW_ORDER: [[u8; 32]; 7] = {
    let mut points = [[0; 32]; 7];
    points[1][0] = 1;
    points[2] = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ];
    points[3] = [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ];
    let mut near_p = [0xff; 32];
    near_p[31] = 0x7f;
    near_p[0] = 0xec;
    points[4] = near_p;
    near_p[0] = 0xed;
    points[5] = near_p;
    near_p[0] = 0xee;
    points[6] = near_p;
    points
};

/// Does to a real message what the input says.
fn tamper(real: &[u8], to: &Identity, changes: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = real.to_vec();
    for _ in 0..changes.int_in_range(0..=4)? {
        let what = changes.int_in_range(0..=5)?;
        let at = usize::from(changes.arbitrary::<u8>()?);
        match what {
            0 | 1 => {
                let by = changes.arbitrary::<u8>()?;
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= by);
            }
            2 => {
                let point = changes.choose(&LOW_ORDER)?;
                // The place of the ephemeral key in either message, or any other.
                let at = if at.is_multiple_of(2) { if bytes[0] == 1 { 8 } else { 12 } } else { at };
                bytes.get_mut(at..at + 32).into_iter().for_each(|field| field.copy_from_slice(point));
            }
            3 => bytes.truncate(at.max(4)),
            4 => bytes.extend(some(changes, at % 8)?),
            _ => {
                let patch = some(changes, 8)?;
                bytes
                    .get_mut(at..at + patch.len())
                    .into_iter()
                    .for_each(|field| field.copy_from_slice(patch));
            }
        }
    }
    if changes.ratio(3, 4)? {
        fix_mac1(&mut bytes, to);
    }
    Ok(bytes)
}

fn tamper_train(train: &mut [u8], stride: usize, changes: &mut Unstructured<'_>) -> Result<()> {
    let len = train.len();
    match changes.int_in_range(0..=3)? {
        0 => {
            let at = changes.choose_index(len)?;
            train[at] ^= changes.arbitrary::<u8>()?;
        }
        1 => {
            // Of one message a place in its header.
            let at = changes.choose_index(len.div_ceil(stride))? * stride + changes.choose_index(16)?;
            train[at] = changes.arbitrary()?;
        }
        what => {
            let whole = len / stride;
            if whole > 1 {
                let [a, b] = [changes.choose_index(whole)?, changes.choose_index(whole)?];
                let other = train[b * stride..][..stride].to_vec();
                let one = train[a * stride..][..stride].to_vec();
                train[a * stride..][..stride].copy_from_slice(&other);
                if what == 2 {
                    train[b * stride..][..stride].copy_from_slice(&one);
                }
            }
        }
    }
    Ok(())
}

/// mac1 of a handshake message (5.4.4), worked out another way than in the crate.
fn mac1(bytes: &[u8], to: &Identity) -> [u8; 16] {
    blake2s::mac(&blake2s::hash(&[b"mac1----", to.public_key()]), &[&bytes[..bytes.len() - 32]])
}

fn fix_mac1(bytes: &mut [u8], to: &Identity) {
    if matches!((bytes.first(), bytes.len()), (Some(1), 148) | (Some(2), 92)) {
        let (mac1, at) = (mac1(bytes, to), bytes.len() - 32);
        bytes[at..at + 16].copy_from_slice(&mac1);
    }
}

fn mac1_is_right(bytes: &[u8], to: &Identity) -> bool {
    bytes.len() >= 32 && mac1(bytes, to) == bytes[bytes.len() - 32..][..16]
}

/// Whether both are as long, and the same in these places.
fn same(one: &[u8], other: &[u8], places: &[core::ops::Range<usize>]) -> bool {
    one.len() == other.len() && places.iter().all(|place| one[place.clone()] == other[place.clone()])
}
