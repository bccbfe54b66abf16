//! A peer that says what no engine would.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adit_control::PublicKey;
use adit_crypto::Secret;
use adit_proto::handshake::{Env, Handshake, Identity, Timestamps};
use adit_proto::message::{HandshakeMessage, Message, RESPONSE_LEN, WithMacs};
use adit_proto::time::{Instant, Tai64n};
use lab::wg::Keypair;
use lab::{Engine, Netns};
use rand_core::UnwrapErr;

use super::adit;

/// A peer of an engine, made of the protocol alone: it says what no engine would.
pub struct Stranger {
    identity: Identity,
    handshake: Handshake,
    engine: [u8; 32],
    pub socket: UdpSocket,
}

impl Stranger {
    /// Unknown to the engine at `to` in `ns` as yet, whose public key is given.
    pub fn new(ns: &Netns, to: SocketAddr, engine: &str) -> Self {
        let mut key = Secret::<32>::zero();
        getrandom::fill(key.expose_mut()).expect("a key");
        let engine = *PublicKey::from_base64(engine).expect("a public key").as_bytes();
        let socket = ns.enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time limit");
        let handshake = Handshake::new(engine, Timestamps::default());
        Stranger { identity: Identity::new(&key), handshake, engine, socket }
    }

    pub fn public_key(&self) -> String {
        PublicKey::new(*self.identity.public_key()).to_base64()
    }

    /// The public key of the engine.
    pub fn engine_key(&self) -> String {
        PublicKey::new(self.engine).to_base64()
    }

    /// An initiation made `since_epoch`, by this stranger's clock.
    pub fn initiation(&mut self, since_epoch: Duration) -> Vec<u8> {
        // Without a memory, so that its clock may go backwards.
        self.handshake = Handshake::new(self.engine, Timestamps::default());
        self.create(since_epoch)
    }

    fn create(&mut self, since_epoch: Duration) -> Vec<u8> {
        let timestamp = Tai64n::from_unix(since_epoch.as_secs(), since_epoch.subsec_nanos());
        let mut rng = UnwrapErr(getrandom::SysRng);
        let mut env = Env { now: Instant::from_nanos(1), timestamp, rng: &mut rng, key_log: None };
        let made = self.handshake.create_initiation(&self.identity, 7, &mut env);
        made.expect("a good public key").0.as_bytes().to_vec()
    }

    /// An initiation with a cookie: the engine is under load, and answers `initiation`, the last one made, with that.
    pub fn with_cookie(&mut self, initiation: &[u8]) -> Option<Vec<u8>> {
        self.socket.send(initiation).expect("sent");
        let mut answer = [0; 256];
        let len = self.socket.recv(&mut answer).ok()?;
        let Some(Message::Handshake(HandshakeMessage::CookieReply(reply))) = Message::parse(&answer[..len])
        else {
            return None;
        };
        let has_taken = self.handshake.consume_cookie_reply(&reply, Instant::from_nanos(1));
        has_taken.then(|| self.create(now()))
    }

    /// Whether the engine responds to `initiation`.
    pub fn is_answered(&self, initiation: &[u8]) -> bool {
        self.socket.send(initiation).expect("sent");
        self.socket.recv(&mut [0; 256]).is_ok_and(|len| len == RESPONSE_LEN)
    }
}

/// The wall clock.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// An engine that is up, with a stranger beside it.
pub fn engine_and_stranger() -> (Engine, Netns, Stranger) {
    let ns = Netns::new();
    let (engine, keys) = (Engine::start(&adit(), &ns), Keypair::generate());
    engine.set_private_key(&keys.private);
    engine.set("listen-port 10000");
    ns.ip(&format!("link set {} up", engine.interface()));
    let stranger = Stranger::new(&ns, ([127, 0, 0, 1], 10_000).into(), &keys.public);
    engine.set(&format!("peer {}", stranger.public_key()));
    (engine, ns, stranger)
}
