//! Many WireGuard peers in one process, each with its own key, session and source port: the far end of an engine that
//! serves a crowd.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use adit_net::clock;
use adit_proto::handshake::{Env, Handshake, Identity, Timestamps};
use adit_proto::keypair::{Keypair, MAX_TRAIN, plaintext};
use adit_proto::message::{
    DATA_HEADER_LEN, DATA_OVERHEAD, HandshakeMessage, KEEPALIVE_LEN, Message, WithMacs,
};
use adit_proto::session::{Endpoint, Session};
use adit_proto::time::{Instant, Tai64n};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use rand_core::UnwrapErr;

use super::sink::{self, LABEL_LEN};
use super::topology::{Keys, PeerConfig, inner};

/// Bytes of an inner packet. A multiple of 16, so that nothing is padded.
pub const PACKET_LEN: usize = 128;
/// Bytes of the message that carries it.
pub const MESSAGE_LEN: usize = PACKET_LEN + DATA_OVERHEAD;
/// Bytes of an IPv4 and a UDP header.
const HEADERS_LEN: usize = 20 + 8;
/// UDP port of the first member; the others follow.
const FIRST_PORT: u16 = 20_000;
/// Handshakes under way at a time: few enough that no engine takes them for an attack.
const HANDSHAKES: usize = 32;
/// How often a member tries, how long it waits for an answer each time.
const TRIES: usize = 10;
const PATIENCE: Duration = Duration::from_millis(300);
/// Receive buffer of each member in bytes. What arrives is counted on the cable; a few messages of each are kept as a
/// sample, the kernel drops the others at little cost.
const SAMPLE_BYTES: usize = 8 << 10;

/// Members have no use for the engine's address: their sockets are connected to it.
#[derive(Clone, PartialEq)]
struct Connected;

impl Endpoint for Connected {
    fn clear_source(&mut self) {}
}

/// One peer of the engine.
pub struct Member {
    number: u32,
    identity: Identity,
    handshake: Handshake,
    session: Session<Connected>,
    keypair: Option<Arc<Keypair>>,
    socket: UdpSocket,
}

/// The inner address of a member.
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 0).to_bits() + 1 + number)
}

/// The UDP port of a member.
fn port(number: u32) -> u16 {
    FIRST_PORT + u16::try_from(number).expect("fewer members than ports")
}

/// The UDP port of the member that has this inner address.
pub fn port_of(inner: IpAddr) -> Option<u16> {
    let IpAddr::V4(inner) = inner else { return None };
    let number = inner.to_bits().checked_sub(address(0).to_bits())?;
    FIRST_PORT.checked_add(number.try_into().ok()?)
}

/// The network that holds all members.
pub const NETWORK: &str = "10.64.0.0/16";

/// All of them.
pub struct Crowd(Vec<Member>);

impl Crowd {
    /// `size` members in the present namespace, for the engine at `endpoint`; also what it has to know of them.
    ///
    /// # Errors
    /// Of the sockets.
    pub fn new(size: u32, engine: &Keys, endpoint: SocketAddr) -> Result<(Crowd, Vec<PeerConfig>), String> {
        allow_sockets(size)?;
        let mut members = Vec::new();
        let mut configs = Vec::new();
        for number in 0..size {
            let keys = Keys::generate()?;
            configs.push(PeerConfig { public_key: keys.public, address: address(number), endpoint: None });
            members.push(Member {
                number,
                identity: Identity::new(&keys.secret),
                handshake: Handshake::new(engine.public, Timestamps::default()),
                session: Session::default(),
                keypair: None,
                socket: connect(port(number), endpoint)
                    .map_err(|error| format!("a socket for a peer: {error}"))?,
            });
        }
        Ok((Crowd(members), configs))
    }

    /// Brings up every member's session, and confirms it.
    ///
    /// # Errors
    /// When the engine does not answer somebody.
    pub fn greet(&mut self) -> Result<(), String> {
        for group in self.0.chunks_mut(HANDSHAKES) {
            for _ in 0..TRIES {
                let mut waiting: Vec<_> =
                    group.iter_mut().filter(|member| member.keypair.is_none()).collect();
                waiting.iter_mut().try_for_each(|member| member.initiate())?;
                waiting.iter_mut().for_each(|member| member.await_response());
            }
            if let Some(member) = group.iter().find(|member| member.keypair.is_none()) {
                return Err(format!("it does not answer the handshake of peer {}", member.number));
            }
        }
        self.0.iter_mut().try_for_each(Member::confirm)
    }

    /// Seals `rounds` packets of each member to the engine's end of the tunnel, and returns them in the order in which
    /// they are to be sent: one of each member in turn.
    ///
    /// # Errors
    /// When a session is not up any more.
    pub fn seal(&mut self, rounds: usize) -> Result<Vec<u8>, String> {
        let size = self.0.len();
        let mut messages = vec![0; rounds * size * MESSAGE_LEN];
        let mut train = [0; MAX_TRAIN * MESSAGE_LEN];
        for (position, member) in self.0.iter_mut().enumerate() {
            for first in (0..rounds).step_by(MAX_TRAIN) {
                let count = MAX_TRAIN.min(rounds - first);
                let train = &mut train[..count * MESSAGE_LEN];
                member.seal(first, train)?;
                for (round, message) in (first..).zip(train.chunks(MESSAGE_LEN)) {
                    let at = (round * size + position) * MESSAGE_LEN;
                    messages[at..at + MESSAGE_LEN].copy_from_slice(message);
                }
            }
        }
        Ok(messages)
    }

    /// Sends what [`Crowd::seal`] made, each message from its member's socket by a call of its own; returns how many the
    /// kernel took.
    pub fn blast(&self, messages: &[u8]) -> u64 {
        let sends = messages.chunks(MESSAGE_LEN).zip(self.0.iter().cycle());
        sends.map(|(message, member)| u64::from(member.socket.send(message).is_ok())).sum()
    }

    /// Opens the sample of messages that the members' sockets have kept; returns how many members have one that is
    /// authentic, new, and addressed to them.
    ///
    /// # Errors
    /// When something else arrived.
    pub fn verify(&mut self) -> Result<usize, String> {
        let verified = self.0.iter_mut().map(Member::verify).collect::<Result<Vec<_>, _>>()?;
        Ok(verified.into_iter().filter(|&messages| messages > 0).count())
    }
}

impl Member {
    fn initiate(&mut self) -> Result<(), String> {
        let (seconds, nanos) = clock::realtime();
        let mut rng = UnwrapErr(getrandom::SysRng);
        let mut env =
            Env { now: now(), timestamp: Tai64n::from_unix(seconds, nanos), rng: &mut rng, key_log: None };
        let made = self.handshake.create_initiation(&self.identity, self.number, &mut env);
        let (initiation, _) = made.map_err(|error| format!("no initiation: {error:?}"))?;
        self.socket
            .send(initiation.as_bytes())
            .map(drop)
            .map_err(|error| format!("sending an initiation: {error}"))
    }

    /// Takes one answer, if one comes in time: with a cookie, the next try may succeed.
    fn await_response(&mut self) {
        let mut datagram = [0; 256];
        let Ok(len) = self.socket.recv(&mut datagram) else { return };
        match Message::parse(&datagram[..len]) {
            Some(Message::Handshake(HandshakeMessage::Response(response))) => {
                if let Ok(keypair) = self.handshake.consume_response(&self.identity, &response, now()) {
                    let keypair = Arc::new(keypair);
                    self.session.start();
                    let retired = self.session.response_received(Arc::clone(&keypair), now());
                    debug_assert!(retired.is_empty(), "the first session replaces none");
                    self.keypair = Some(keypair);
                }
            }
            Some(Message::Handshake(HandshakeMessage::CookieReply(reply))) => {
                self.handshake.consume_cookie_reply(&reply, now());
            }
            _ => {}
        }
    }

    /// A keepalive tells the engine that it may send.
    fn confirm(&mut self) -> Result<(), String> {
        let mut keepalive = [0; KEEPALIVE_LEN];
        self.seal_train(&mut keepalive, KEEPALIVE_LEN)?;
        self.socket.set_nonblocking(true).map_err(|error| format!("a socket for a peer: {error}"))?;
        self.socket.send(&keepalive).map(drop).map_err(|error| format!("sending a keepalive: {error}"))
    }

    /// Seals a train of packets, the first of which has the number `first`.
    fn seal(&mut self, first: usize, train: &mut [u8]) -> Result<(), String> {
        for (number, message) in (first as u64..).zip(train.chunks_mut(MESSAGE_LEN)) {
            let packet = &mut message[DATA_HEADER_LEN..][..PACKET_LEN];
            write_headers(packet, address(self.number), inner(2));
            sink::label(&mut packet[HEADERS_LEN..], self.number, number);
        }
        self.seal_train(train, MESSAGE_LEN)
    }

    fn seal_train(&mut self, train: &mut [u8], stride: usize) -> Result<(), String> {
        let mut rng = UnwrapErr(getrandom::SysRng);
        let grant = self.session.begin_send(train.len().div_ceil(stride), true, now(), &mut rng);
        let grant = grant.map_err(|why| format!("no session: {why:?}"))?;
        grant.keypair.seal_train(grant.nonces, train, stride);
        Ok(())
    }

    /// How many of the messages kept are what they should be.
    fn verify(&mut self) -> Result<u32, String> {
        let mut verified = 0;
        let mut trains = vec![0; usize::from(u16::MAX)];
        while let Ok(len) = self.socket.recv(&mut trains) {
            for message in trains[..len].chunks_mut(MESSAGE_LEN) {
                verified += u32::from(self.open(message)?);
            }
        }
        Ok(verified)
    }

    /// Whether it is a data packet; a keepalive is none.
    fn open(&mut self, message: &mut [u8]) -> Result<bool, String> {
        let wrong = |what: &str| format!("peer {} got a message that is {what}", self.number);
        if message.len() == KEEPALIVE_LEN {
            return Ok(false);
        }
        let keypair = self.keypair.as_ref().ok_or_else(|| wrong("of no session"))?;
        let opened = keypair.open_train(message, MESSAGE_LEN, now()).ok_or_else(|| wrong("too late"))?;
        if self.session.finish_recv(&opened, &Connected, now()).accepted != 1 {
            return Err(wrong("not authentic"));
        }
        let destination = plaintext(message).get(16..20);
        if destination != Some(&address(self.number).octets()[..]) {
            return Err(wrong("somebody else's"));
        }
        Ok(true)
    }
}

fn now() -> Instant {
    Instant::from_nanos(clock::boottime_ns())
}

fn connect(port: u16, endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    socket.connect(endpoint)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    setsockopt(&socket, sockopt::RcvBuf, &SAMPLE_BYTES)?;
    // Or the kernel would take trains apart at the sender's expense.
    setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
    Ok(socket)
}

/// Lets this process and those that it starts have a socket for each member.
fn allow_sockets(size: u32) -> Result<(), String> {
    let needed = 2 * u64::from(size) + 256;
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("RLIMIT_NOFILE: {error}"))?;
    if soft >= needed {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed))
        .map_err(|error| format!("{size} peers need {needed} open files, which the limit forbids: {error}"))
}

/// IPv4 and UDP headers of a packet that fills `packet`. UDP over IPv4 may do without a checksum.
fn write_headers(packet: &mut [u8], from: Ipv4Addr, to: Ipv4Addr) {
    let len = u16::try_from(packet.len()).expect("packets are short").to_be_bytes();
    let udp_len = u16::try_from(packet.len() - 20).expect("packets are short").to_be_bytes();
    packet[..HEADERS_LEN].fill(0);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len);
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let checksum = header_checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&checksum);
    packet[20..22].copy_from_slice(&sink::PORT.to_be_bytes());
    packet[22..24].copy_from_slice(&sink::PORT.to_be_bytes());
    packet[24..26].copy_from_slice(&udp_len);
}

/// The Internet checksum (RFC 1071) of an IPv4 header whose checksum field is zero.
pub fn header_checksum(header: &[u8]) -> [u8; 2] {
    let words = header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

const _: () = assert!(HEADERS_LEN + LABEL_LEN <= PACKET_LEN && PACKET_LEN.is_multiple_of(16));

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071's most quoted explanation.
    #[test]
    fn checksum_of_a_known_header() {
        let header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(header_checksum(&header), [0xb8, 0x61]);
    }

    #[test]
    fn headers_are_of_a_whole_packet() {
        let mut packet = [0xff; PACKET_LEN];
        write_headers(&mut packet, address(0), inner(2));
        let checked = adit_net::packet::parse(&packet).expect("a packet");
        assert_eq!((checked.source, checked.destination), (address(0).into(), inner(2).into()));
        // With its checksum in place, a header sums up to nothing.
        assert_eq!(header_checksum(&packet[..20]), [0, 0]);
        assert_eq!(packet[24..26], 108_u16.to_be_bytes());
    }

    #[test]
    fn a_port_is_found_by_the_address() {
        for number in [0, 1, 255, 999] {
            assert_eq!(port_of(address(number).into()), Some(port(number)));
        }
        assert_eq!(port_of(inner(2).into()), None);
        assert_eq!(port_of(Ipv4Addr::new(10, 63, 255, 255).into()), None);
    }

    #[test]
    fn addresses_do_not_collide() {
        assert_eq!(address(0), Ipv4Addr::new(10, 64, 0, 1));
        assert_eq!(address(999), Ipv4Addr::new(10, 64, 3, 232));
    }
}
