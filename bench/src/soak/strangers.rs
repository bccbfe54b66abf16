//! Peers by hand: each makes a session, moves to another address in the middle of it, and is gone. Besides, a flood.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_net::clock;
use adit_proto::handshake::{Env, Handshake, Identity, Timestamps};
use adit_proto::keypair::{Keypair, plaintext};
use adit_proto::message::{
    DATA_HEADER_LEN, DATA_OVERHEAD, HandshakeMessage, KEEPALIVE_LEN, Message, WithMacs,
};
use adit_proto::session::{Endpoint, Session};
use adit_proto::time::{Instant as ProtoInstant, Tai64n};
use lab::{Dice, Netns};
use rand_core::UnwrapErr;

use super::scene::{ECHO, INNER, Scene};
use super::stage::{Actor, Stage};
use crate::peers::crowd::header_checksum;
use crate::peers::topology::{Keys, hex};

/// Bytes of an inner packet. A multiple of 16, so that nothing is padded.
const PACKET: usize = 112;
/// Inner packets in a row.
const TRAIN: usize = 16;
/// How long an answer may take, and how often it is asked for: handshakes may be refused under load.
const PATIENCE: Duration = Duration::from_millis(250);
const TRIES: usize = 4;
/// How long a flood lasts, and after how many datagrams it draws breath.
const FLOOD: Duration = Duration::from_secs(1);
const FLOOD_BATCH: usize = 64;

/// A stranger has no use for the engine's address: its sockets are connected to it.
#[derive(Clone, PartialEq)]
struct Connected;

impl Endpoint for Connected {
    fn clear_source(&mut self) {}
}

struct Stranger {
    number: u32,
    identity: Identity,
    handshake: Handshake,
}

/// Some strangers, who come one after the other.
pub struct Strangers<'a> {
    ns: &'a Netns,
    engine: SocketAddr,
    dice: Dice,
    all: Vec<Stranger>,
}

impl<'a> Strangers<'a> {
    /// Those with these numbers, who are made known to the engine under test.
    ///
    /// # Errors
    /// Without randomness.
    pub fn new(scene: &'a Scene, dice: Dice, numbers: std::ops::Range<u32>) -> Result<Strangers<'a>, String> {
        let mut all = Vec::new();
        for number in numbers {
            let keys = Keys::generate()?;
            scene.inside.set(&format!("public_key={}\nallowed_ip={}/32\n", hex(&keys.public), inner(number)));
            let handshake = Handshake::new(scene.inside.keys.public, Timestamps::default());
            all.push(Stranger { number, identity: Identity::new(&keys.secret), handshake });
        }
        Ok(Strangers { ns: &scene.outside.ns, engine: scene.target(), dice, all })
    }
}

impl Actor for Strangers<'_> {
    fn act(&mut self, stage: &Stage) {
        let who = usize::try_from(self.dice.below(self.all.len() as u64)).expect("a number of theirs");
        let mut socket = || socket(self.ns, &mut self.dice, self.engine);
        let (first, second) = (socket(), socket());
        let stranger = &mut self.all[who];
        let Some(keypair) = stranger.connect(&first) else {
            return stage.did("handshakes of strangers that failed", 1);
        };
        stage.did("handshakes of strangers", 1);
        let mut session = Session::default();
        session.start();
        let retired = session.response_received(Arc::clone(&keypair), now());
        debug_assert!(retired.is_empty(), "the first keypair replaces none");
        stranger.say(&mut session, &first);
        // From elsewhere, in the same session; what comes back has to come here.
        stage.did("strangers that moved", 1);
        stranger.say(&mut session, &second);
        let is_heard = keypair_hears(&keypair, &second);
        stage.did("of those, answered where they went", u64::from(is_heard));
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(20 + self.dice.below(40))
    }
}

/// A socket at an address that none had before, or hardly.
fn socket(ns: &Netns, dice: &mut Dice, engine: SocketAddr) -> UdpSocket {
    let bits = Ipv4Addr::new(10, 78, 0, 0).to_bits()
        + 1
        + u32::try_from(dice.below(65_000)).expect("a small number");
    let socket =
        ns.enter(|| UdpSocket::bind((Ipv4Addr::from_bits(bits), 0))).expect("an address of the strangers'");
    socket.connect(engine).expect("a route to the engine");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    socket
}

fn inner(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 0).to_bits() + number)
}

impl Stranger {
    fn connect(&mut self, socket: &UdpSocket) -> Option<Arc<Keypair>> {
        for _ in 0..TRIES {
            let initiation = self.initiation();
            let _ = socket.send(&initiation);
            let end = Instant::now() + PATIENCE;
            let mut datagram = [0; 2048];
            while let Ok(len) = socket.recv(&mut datagram) {
                match Message::parse(&datagram[..len]) {
                    Some(Message::Handshake(HandshakeMessage::Response(response))) => {
                        let made = self.handshake.consume_response(&self.identity, &response, now());
                        return made.ok().map(Arc::new);
                    }
                    Some(Message::Handshake(HandshakeMessage::CookieReply(reply))) => {
                        self.handshake.consume_cookie_reply(&reply, now());
                        break;
                    }
                    _ if Instant::now() > end => break,
                    _ => {}
                }
            }
        }
        None
    }

    fn initiation(&mut self) -> Vec<u8> {
        let (seconds, nanos) = clock::realtime();
        let mut rng = UnwrapErr(getrandom::SysRng);
        let mut env =
            Env { now: now(), timestamp: Tai64n::from_unix(seconds, nanos), rng: &mut rng, key_log: None };
        let made = self.handshake.create_initiation(&self.identity, self.number, &mut env);
        made.expect("a good public key").0.as_bytes().to_vec()
    }

    /// Sends a keepalive and a few packets, which are to come back.
    fn say(&self, session: &mut Session<Connected>, socket: &UdpSocket) {
        let mut keepalive = [0; KEEPALIVE_LEN];
        seal(session, &mut keepalive, KEEPALIVE_LEN);
        let _ = socket.send(&keepalive);
        let mut train = [0; TRAIN * (PACKET + DATA_OVERHEAD)];
        for message in train.chunks_mut(PACKET + DATA_OVERHEAD) {
            write_packet(&mut message[DATA_HEADER_LEN..][..PACKET], inner(self.number));
        }
        seal(session, &mut train, PACKET + DATA_OVERHEAD);
        for message in train.chunks(PACKET + DATA_OVERHEAD) {
            let _ = socket.send(message);
        }
    }
}

fn seal(session: &mut Session<Connected>, train: &mut [u8], stride: usize) {
    let mut rng = UnwrapErr(getrandom::SysRng);
    let Ok(grant) = session.begin_send(train.len().div_ceil(stride), true, now(), &mut rng) else {
        panic!("a session that has just begun has a key");
    };
    grant.keypair.seal_train(grant.nonces, train, stride);
}

/// Whether a packet comes here that is authentic.
fn keypair_hears(keypair: &Arc<Keypair>, socket: &UdpSocket) -> bool {
    let end = Instant::now() + 4 * PATIENCE;
    let mut datagram = [0; 2048];
    while Instant::now() < end {
        let Ok(len) = socket.recv(&mut datagram) else { continue };
        let message = &mut datagram[..len];
        let is_data = matches!(Message::parse(message), Some(Message::Data(_)));
        if is_data && len > KEEPALIVE_LEN {
            let opened = keypair.open_train(message, len, now());
            if opened.is_some_and(|opened| opened.is_authentic(0)) {
                return !plaintext(message).is_empty();
            }
        }
    }
    false
}

/// A UDP packet for the engine's echo. UDP over IPv4 may do without a checksum.
fn write_packet(packet: &mut [u8], from: Ipv4Addr) {
    packet.fill(0);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(PACKET as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&INNER[0].octets());
    let checksum = header_checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&checksum);
    packet[20..22].copy_from_slice(&9_u16.to_be_bytes());
    packet[22..24].copy_from_slice(&ECHO.to_be_bytes());
    packet[24..26].copy_from_slice(&(PACKET as u16 - 20).to_be_bytes());
}

fn now() -> ProtoInstant {
    ProtoInstant::from_nanos(clock::boottime_ns())
}

/// Somebody whom the engine does not know, who calls as often as he can, and sends whatever else.
pub struct Flood<'a> {
    ns: &'a Netns,
    engine: SocketAddr,
    dice: Dice,
    stranger: Stranger,
}

impl<'a> Flood<'a> {
    /// Against the engine under test.
    ///
    /// # Errors
    /// Without randomness.
    pub fn new(scene: &'a Scene, dice: Dice) -> Result<Flood<'a>, String> {
        let keys = Keys::generate()?;
        let handshake = Handshake::new(scene.inside.keys.public, Timestamps::default());
        let stranger = Stranger { number: 0, identity: Identity::new(&keys.secret), handshake };
        Ok(Flood { ns: &scene.outside.ns, engine: scene.target(), dice, stranger })
    }
}

impl Actor for Flood<'_> {
    fn act(&mut self, stage: &Stage) {
        let socket = socket(self.ns, &mut self.dice, self.engine);
        let initiation = self.stranger.initiation();
        let mut sent = 0;
        stage.disturb("floods", || {
            let start = Instant::now();
            while start.elapsed() < FLOOD {
                for _ in 0..FLOOD_BATCH {
                    let result = match self.dice.below(4) {
                        0 => {
                            let mut forged = initiation.clone();
                            forged[116] ^= 1;
                            socket.send(&forged)
                        }
                        1 => socket.send(&self.garbage()),
                        _ => socket.send(&initiation),
                    };
                    sent += u64::from(result.is_ok());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        stage.did("datagrams of floods", sent);
    }

    fn pause(&mut self) -> Duration {
        Duration::from_secs(10 + self.dice.below(20))
    }
}

impl Flood<'_> {
    /// Of any length, that looks like data, or like nothing.
    fn garbage(&mut self) -> Vec<u8> {
        let len = usize::try_from(self.dice.below(1400)).expect("a small number");
        let mut bytes: Vec<u8> = (0..len).map(|_| self.dice.next() as u8).collect();
        if len >= 4 && self.dice.once_in(2) {
            bytes[..4].copy_from_slice(&[4, 0, 0, 0]);
        }
        bytes
    }
}
