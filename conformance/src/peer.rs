//! A peer that says what it is told to: the protocol by hand, on a socket of its own.

use std::cell::Cell;
use std::io::{ErrorKind, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::Netns;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use snow::{HandshakeState, StatelessTransportState};

use crate::check::skip;
use crate::wire;

/// How long an answer may take that is due at once. Other checks run beside this one.
pub const SOON: Duration = Duration::from_secs(4);

/// How long is listened for what must not come.
pub const SILENCE: Duration = Duration::from_millis(400);

/// A key pair.
#[derive(Clone)]
pub struct Keys {
    /// Clamped by whoever uses it.
    pub private: [u8; 32],
    /// What belongs to it.
    pub public: [u8; 32],
}

impl Keys {
    /// A new pair.
    pub fn new() -> Keys {
        let builder = snow::Builder::new(wire::CONSTRUCTION.parse().expect("a name that Noise has"));
        let pair = builder.generate_keypair().expect("random bytes");
        Keys { private: wire::field(&pair.private, 0), public: wire::field(&pair.public, 0) }
    }
}

/// A socket that talks to the engine.
pub struct Port {
    socket: UdpSocket,
    engine: Cell<SocketAddr>,
}

impl Port {
    /// Bound to `local` in `ns`, for an engine at `engine`.
    pub fn new(ns: &Netns, local: SocketAddr, engine: SocketAddr) -> Port {
        let socket = ns.enter(|| UdpSocket::bind(local)).expect("an address of this namespace");
        Port { socket, engine: Cell::new(engine) }
    }

    /// Its own address.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// From now on, the engine is at `address`.
    pub fn aim(&self, address: SocketAddr) {
        self.engine.set(address);
    }

    /// Where the engine is.
    pub fn target(&self) -> SocketAddr {
        self.engine.get()
    }

    /// Sends a datagram to the engine.
    pub fn send(&self, datagram: &[u8]) {
        // What ICMP said about an earlier datagram is reported by a later one.
        assert!(self.try_send(datagram) || self.try_send(datagram), "no route to the engine");
    }

    /// Sends a datagram if there is a way to the engine.
    pub fn try_send(&self, datagram: &[u8]) -> bool {
        self.socket.send_to(datagram, self.engine.get()).is_ok()
    }

    /// Sets the DSCP and ECN byte of the datagrams that follow, which are IPv4.
    pub fn mark(&self, tos: u8) {
        setsockopt(&self.socket, sockopt::Ipv4Tos, &i32::from(tos)).expect("a byte to mark packets with");
    }

    /// Sends datagrams of one size as a train, which the kernel hands as one buffer to whoever asks it to.
    pub fn send_train(&self, train: &[Vec<u8>]) {
        let stride = u16::try_from(train[0].len()).expect("a datagram");
        let bytes = train.concat();
        let to = SockaddrStorage::from(self.engine.get());
        let (data, control) = ([IoSlice::new(&bytes)], [ControlMessage::UdpGsoSegments(&stride)]);
        if sendmsg(self.socket.as_raw_fd(), &data, &control, MsgFlags::empty(), Some(&to)).is_err() {
            skip("this kernel has no UDP segmentation offload");
        }
    }

    /// The next datagram and whom it is from, within `limit`.
    pub fn receive(&self, limit: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        let end = Instant::now() + limit;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).expect("a time limit");
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    buffer.truncate(len);
                    return Some((buffer, from));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(_) => {}
            }
        }
    }

    /// The next message of a kind within `limit`; others are passed over.
    pub fn next(&self, kind: u8, limit: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        loop {
            let (datagram, _) = self.receive(end.saturating_duration_since(Instant::now()))?;
            if datagram.first() == Some(&kind) {
                return Some(datagram);
            }
        }
    }

    /// All that comes within `limit`.
    pub fn all(&self, limit: Duration) -> Vec<Vec<u8>> {
        let end = Instant::now() + limit;
        let more = || self.receive(end.saturating_duration_since(Instant::now()));
        std::iter::from_fn(more).map(|(datagram, _)| datagram).collect()
    }

    /// How many messages of a kind come within `limit`.
    pub fn count(&self, kind: u8, limit: Duration) -> usize {
        self.all(limit).iter().filter(|datagram| datagram[0] == kind).count()
    }

    /// Forgets what has arrived.
    pub fn drain(&self) {
        while self.receive(Duration::from_millis(1)).is_some() {}
    }
}

/// A peer of the engine.
pub struct Peer {
    /// Its keys.
    pub keys: Keys,
    /// The preshared key, zeros when there is none.
    pub preshared_key: Cell<[u8; 32]>,
    /// Its socket.
    pub port: Port,
    /// The last part of its inner addresses.
    pub number: u8,
    /// The engine's public key, as far as the peer knows.
    pub engine: Cell<[u8; 32]>,
    /// The last timestamp sent.
    clock: Cell<[u8; 12]>,
    has_called: Cell<bool>,
}

impl Peer {
    /// A peer that the engine does not know yet.
    pub fn new(keys: Keys, port: Port, number: u8, engine: [u8; 32]) -> Peer {
        Peer {
            keys,
            preshared_key: Cell::new([0; 32]),
            port,
            number,
            engine: Cell::new(engine),
            clock: Cell::new([0; 12]),
            has_called: Cell::new(false),
        }
    }

    /// Its public key, as the UAPI spells it.
    pub fn hex(&self) -> String {
        wire::hex(&self.keys.public)
    }

    /// Its inner IPv4 address.
    pub fn inner4(&self) -> [u8; 4] {
        [192, 168, 241, self.number]
    }

    /// Its inner IPv6 address.
    pub fn inner6(&self) -> [u8; 16] {
        let mut address = [0; 16];
        address[0] = 0xfd;
        address[15] = self.number;
        address
    }

    /// A timestamp greater than all before.
    pub fn now(&self) -> [u8; 12] {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let mut now = tai64n(since);
        if now <= self.clock.get() {
            now = tai64n(unix(&self.clock.get()) + Duration::from_nanos(1));
        }
        self.clock.set(now);
        now
    }

    /// An initiation made now.
    pub fn initiation(&self) -> Initiation {
        self.initiation_at(&self.now())
    }

    /// An initiation with this timestamp, some time after the one before: of each peer, one every 20 ms is taken.
    pub fn initiation_at(&self, timestamp: &[u8; 12]) -> Initiation {
        if self.has_called.replace(true) {
            std::thread::sleep(Duration::from_millis(40));
        }
        self.hasty_initiation(timestamp)
    }

    /// The same without a pause.
    pub fn hasty_initiation(&self, timestamp: &[u8; 12]) -> Initiation {
        let index = u32::from_le_bytes(wire::random());
        let engine = self.engine.get();
        let mut state = wire::snow(&self.keys.private, Some(&engine), &self.preshared_key.get());
        let mut message = wire::header(wire::INITIATION, index);
        let mut noise = [0; 108];
        state.write_message(timestamp, &mut noise).expect("room for the message");
        message.extend(noise);
        Initiation { bytes: wire::with_mac1(message, &engine), index, state }
    }

    /// Sends `datagram` and waits for a response.
    pub fn is_answered(&self, datagram: &[u8]) -> bool {
        self.ask(datagram, SOON).is_some()
    }

    /// Whether `datagram` brings no handshake message.
    pub fn is_ignored(&self, datagram: &[u8]) -> bool {
        self.port.drain();
        self.port.send(datagram);
        !self
            .port
            .all(SILENCE)
            .iter()
            .any(|answer| answer[0] == wire::RESPONSE || answer[0] == wire::COOKIE_REPLY)
    }

    /// Sends `datagram`; the response that comes within `limit`.
    pub fn ask(&self, datagram: &[u8], limit: Duration) -> Option<Vec<u8>> {
        self.port.drain();
        self.port.send(datagram);
        self.port.next(wire::RESPONSE, limit)
    }

    /// A handshake that the engine has answered and this peer not yet confirmed.
    #[track_caller]
    pub fn half_connect(&self) -> Session {
        let initiation = self.initiation();
        let response = self.ask(&initiation.bytes, SOON).expect("no response to a good initiation");
        initiation.finish(&response).expect("a response that does not authenticate")
    }

    /// A session that this peer asked for, confirmed with a keepalive.
    #[track_caller]
    pub fn connect(&self) -> Session {
        let session = self.half_connect();
        self.port.send(&session.next(&[]));
        session
    }

    /// What the engine said in an initiation to this peer: its static key, and the timestamp.
    pub fn read(&self, initiation: &[u8]) -> Option<([u8; 32], [u8; 12])> {
        let mut state = wire::snow(&self.keys.private, None, &self.preshared_key.get());
        let mut timestamp = [0; 12];
        state.read_message(&initiation[8..116], &mut timestamp).ok()?;
        Some((wire::field(state.get_remote_static()?, 0), timestamp))
    }

    /// A response to `initiation`, not yet sent, and the session that comes of it.
    #[track_caller]
    pub fn respond(&self, initiation: &[u8]) -> (Vec<u8>, Session) {
        let mut state = wire::snow(&self.keys.private, None, &self.preshared_key.get());
        let read = state.read_message(&initiation[8..116], &mut [0; 12]);
        read.expect("the engine's initiation does not authenticate");
        assert_eq!(state.get_remote_static(), Some(&self.engine.get()[..]), "the engine's static key");
        let index = u32::from_le_bytes(wire::random());
        let mut message = wire::header(wire::RESPONSE, index);
        message.extend(&initiation[4..8]);
        let mut noise = [0; 48];
        state.write_message(&[], &mut noise).expect("room for the message");
        message.extend(noise);
        let session = Session::new(state, index, wire::index(initiation, 4));
        (wire::with_mac1(message, &self.engine.get()), session)
    }

    /// The engine's next initiation.
    #[track_caller]
    pub fn called(&self) -> Vec<u8> {
        self.called_within(SOON)
    }

    /// The engine's next initiation within `limit`.
    #[track_caller]
    pub fn called_within(&self, limit: Duration) -> Vec<u8> {
        let initiation = self.port.next(wire::INITIATION, limit).expect("the engine sent no initiation");
        assert_eq!(initiation.len(), 148, "bytes of an initiation");
        initiation
    }

    /// Answers the engine's next initiation.
    #[track_caller]
    pub fn meet(&self) -> Session {
        let (response, session) = self.respond(&self.called());
        self.port.send(&response);
        session
    }

    /// The next message of `session` within `limit`, decrypted.
    pub fn hear(&self, session: &Session, limit: Duration) -> Option<Data> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let message = self.port.next(wire::DATA, left)?;
            if let Some(data) = session.open(&message) {
                return Some(data);
            }
        }
    }

    /// The next message of `session` that is no keepalive.
    pub fn hear_data(&self, session: &Session, limit: Duration) -> Option<Data> {
        let end = Instant::now() + limit;
        loop {
            let data = self.hear(session, end.saturating_duration_since(Instant::now()))?;
            if !data.text.is_empty() {
                return Some(data);
            }
        }
    }
}

/// The TAI64N timestamp of a moment since the epoch.
pub fn tai64n(since: Duration) -> [u8; 12] {
    let mut timestamp = [0; 12];
    timestamp[..8].copy_from_slice(&(since.as_secs() + 0x4000_0000_0000_000a).to_be_bytes());
    timestamp[8..].copy_from_slice(&since.subsec_nanos().to_be_bytes());
    timestamp
}

/// The moment of a TAI64N timestamp.
pub fn unix(timestamp: &[u8; 12]) -> Duration {
    let seconds = u64::from_be_bytes(wire::field(timestamp, 0)) - 0x4000_0000_0000_000a;
    Duration::new(seconds, u32::from_be_bytes(wire::field(timestamp, 8)))
}

/// An initiation of a peer's.
pub struct Initiation {
    /// As it is on the wire.
    pub bytes: Vec<u8>,
    /// The sender's index in it.
    pub index: u32,
    state: HandshakeState,
}

impl Initiation {
    /// The session, if `response` answers this.
    pub fn finish(mut self, response: &[u8]) -> Option<Session> {
        let is_ours = response.len() == 92 && wire::index(response, 8) == self.index;
        if !is_ours || self.state.read_message(&response[12..60], &mut [0; 16]).is_err() {
            return None;
        }
        Some(Session::new(self.state, self.index, wire::index(response, 4)))
    }
}

/// Transport data, decrypted.
#[derive(Debug)]
pub struct Data {
    /// Its counter.
    pub counter: u64,
    /// The plaintext with its padding.
    pub text: Vec<u8>,
}

/// A session, whose counters are for the caller to choose.
pub struct Session {
    keys: StatelessTransportState,
    /// This peer's index.
    pub local: u32,
    /// The engine's.
    pub remote: u32,
    counter: Cell<u64>,
}

impl Session {
    fn new(state: HandshakeState, local: u32, remote: u32) -> Session {
        let keys = state.into_stateless_transport_mode().expect("the handshake is finished");
        Session { keys, local, remote, counter: Cell::new(0) }
    }

    /// A message with this counter; `text` is sealed as it is, padded by whoever wants that.
    pub fn seal(&self, counter: u64, text: &[u8]) -> Vec<u8> {
        let mut message = wire::header(wire::DATA, self.remote);
        message.extend(counter.to_le_bytes());
        let mut sealed = vec![0; text.len() + 16];
        self.keys.write_message(counter, text, &mut sealed).expect("room for the tag");
        message.extend(sealed);
        message
    }

    /// A message with the next counter.
    pub fn next(&self, text: &[u8]) -> Vec<u8> {
        let counter = self.counter.replace(self.counter.get() + 1);
        self.seal(counter, text)
    }

    /// Goes on from this counter.
    pub fn skip_to(&self, counter: u64) {
        self.counter.set(counter);
    }

    /// The plaintext, if `message` is of this session.
    pub fn open(&self, message: &[u8]) -> Option<Data> {
        if message.len() < wire::DATA_OVERHEAD
            || message[..4] != [4, 0, 0, 0]
            || wire::index(message, 4) != self.local
        {
            return None;
        }
        let counter = u64::from_le_bytes(wire::field(message, 8));
        let mut text = vec![0; message.len() - wire::DATA_OVERHEAD];
        let opened = self.keys.read_message(counter, &message[16..], &mut text);
        opened.ok().map(|_| Data { counter, text })
    }
}
