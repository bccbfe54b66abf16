//! Where a check takes place: the engine in one namespace, its peers in another, a cable between them.
//!
//! ```text
//!   namespace inside                                 namespace outside
//!   engine 192.168.241.1/24, fd00::1/64        peers, by hand
//!   cable  10.77.0.1, 10.77.0.11, fd77::1  ────  cable 10.77.0.2, 10.77.0.3, fd77::2, all of 10.78.0.0/16
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lab::cmd::Cmd;
use lab::uapi::Answer;
use lab::{Engine, Netns, Uapi};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::peer::{Keys, Peer, Port, SOON, Session};
use crate::{inner, wire};

/// The interface name of the cable's end in either namespace.
pub const CABLE: &str = "cable";
/// Where the engine listens.
pub const PORT: u16 = 51_820;

/// An engine, alone with its peers.
pub struct Scene {
    /// Dropped before its namespace.
    pub engine: Engine,
    /// Where it runs.
    pub inside: Netns,
    /// Where its peers are.
    pub outside: Netns,
    /// Its keys.
    pub keys: Keys,
    command: String,
    peers: Cell<u8>,
}

impl Scene {
    /// Starts the engine: `command` with the interface's name for `%i`. `pid` is told its process.
    pub fn new(command: &str, pid: &AtomicU32) -> Scene {
        let (inside, outside) = (Netns::new(), Netns::new());
        inside.ip(&format!("link add {CABLE} type veth peer name {CABLE} netns {}", outside.name()));
        batch(
            &inside,
            "addr add 10.77.0.1/24 dev cable\naddr add 10.77.0.11/24 dev cable\naddr add fd77::1/64 dev cable nodad\n\
             addr add fd77::11/64 dev cable nodad\nlink set cable up\nroute add 10.78.0.0/16 via 10.77.0.2\n",
        );
        batch(
            &outside,
            "addr add 10.77.0.2/24 dev cable\naddr add 10.77.0.3/24 dev cable\naddr add fd77::2/64 dev cable nodad\n\
             link set cable up\nroute add local 10.78.0.0/16 dev lo\n",
        );
        let interface = lab::netns::interface_name();
        let engine = start(command, &inside, interface);
        pid.store(engine.pid(), Ordering::Relaxed);
        let scene = Scene {
            engine,
            inside,
            outside,
            keys: Keys::new(),
            command: command.to_owned(),
            peers: Cell::new(1),
        };
        scene.set(&format!("private_key={}\nlisten_port={PORT}\n", wire::hex(&scene.keys.private)));
        let name = scene.engine.interface();
        batch(
            &scene.inside,
            &format!(
                "addr add 192.168.241.1/24 dev {name}\naddr add fd00::1/64 dev {name} nodad\nlink set {name} up\n"
            ),
        );
        scene
    }

    /// Starts the engine's program again, on an interface of that name; it may well fail.
    pub fn second(&self, interface: &str) -> lab::Background {
        foreground(&self.command, &self.inside, interface).spawn()
    }

    /// A connection to the engine's UAPI socket.
    pub fn uapi(&self) -> Uapi {
        let uapi = self.engine.uapi();
        uapi.be_patient_for(Duration::from_secs(15));
        uapi
    }

    /// Sets what must be possible to set.
    #[track_caller]
    pub fn set(&self, lines: &str) {
        let errno = self.uapi().set(lines);
        assert_eq!(errno, 0, "errno of a set that has nothing wrong");
    }

    /// The engine's configuration.
    #[track_caller]
    pub fn get(&self) -> Answer {
        self.uapi().get()
    }

    /// A value of a peer's in the engine's configuration.
    #[track_caller]
    pub fn get_of(&self, peer: &Peer, key: &str) -> Option<String> {
        let lines = self.get().lines;
        let mut section = lines.iter().skip_while(|(k, v)| k != "public_key" || *v != peer.hex()).skip(1);
        section
            .by_ref()
            .take_while(|(k, _)| k != "public_key")
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.clone())
    }

    /// The engine's address of a family.
    pub fn address(&self, local: &SocketAddr) -> SocketAddr {
        let ip: IpAddr =
            if local.is_ipv4() { [10, 77, 0, 1].into() } else { [0xfd77, 0, 0, 0, 0, 0, 0, 1].into() };
        SocketAddr::new(ip, PORT)
    }

    /// A socket on the peers' side, at `local`.
    pub fn port_at(&self, local: &str) -> Port {
        let local = local.parse().expect("an address");
        Port::new(&self.outside, local, self.address(&local))
    }

    /// A peer of that key that the engine does not know.
    pub fn stranger(&self) -> Peer {
        let number = self.peers.get() + 1;
        self.peers.set(number);
        Peer::new(Keys::new(), self.port_at("10.77.0.2:0"), number, self.keys.public)
    }

    /// A peer that the engine knows, with an inner address of each family and no endpoint.
    #[track_caller]
    pub fn peer(&self) -> Peer {
        let peer = self.stranger();
        self.add(&peer, "");
        peer
    }

    /// A peer whose endpoint the engine knows.
    #[track_caller]
    pub fn known(&self) -> Peer {
        self.known_with("")
    }

    /// Such a peer, with more lines about it. An engine that cannot change a peer can do this.
    #[track_caller]
    pub fn known_with(&self, lines: &str) -> Peer {
        let peer = self.stranger();
        self.add(&peer, &format!("{}{lines}", endpoint(&peer)));
        peer
    }

    /// Makes `peer` known to the engine, with more lines about it.
    #[track_caller]
    pub fn add(&self, peer: &Peer, lines: &str) {
        let (key, n) = (peer.hex(), peer.number);
        self.set(&format!(
            "public_key={key}\nallowed_ip=192.168.241.{n}/32\nallowed_ip=fd00::{n:x}/128\n{lines}"
        ));
    }

    /// More about a peer.
    #[track_caller]
    pub fn change(&self, peer: &Peer, lines: &str) {
        self.set(&format!("public_key={}\n{lines}", peer.hex()));
    }

    /// Sends a packet into the tunnel: UDP to `to`, whose payload is `text`. Whether the kernel took it.
    pub fn say(&self, to: impl Into<IpAddr>, text: &[u8]) -> std::io::Result<()> {
        let to = SocketAddr::new(to.into(), 9);
        let local = if to.is_ipv4() { "192.168.241.1:0" } else { "[fd00::1]:0" };
        self.inside.enter(|| UdpSocket::bind(local))?.send_to(text, to).map(drop)
    }

    /// Has the engine send something to `peer`.
    #[track_caller]
    pub fn prompt(&self, peer: &Peer) {
        self.say(peer.inner4(), b"prompt").expect("the tunnel takes a packet");
    }

    /// Kilobytes of memory that the engine has in use.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.engine.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it uses memory");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Sees what the engine delivers from now on.
    pub fn tun(&self) -> Tap {
        Tap::new(&self.inside, self.engine.interface())
    }

    /// Whether the engine delivers what `peer` says on `session` now.
    #[track_caller]
    pub fn delivers(&self, tap: &Tap, peer: &Peer, session: &Session) -> bool {
        let packet = marked(peer);
        peer.port.send(&session.next(&inner::padded(packet.clone())));
        tap.saw(&packet, SOON)
    }

    /// Asserts that the engine is well: what is said on `session` is delivered. What was sent before it has been seen to
    /// by then, for packets of a session stay in order.
    #[track_caller]
    pub fn settle(&self, tap: &Tap, peer: &Peer, session: &Session) {
        assert!(self.delivers(tap, peer, session), "good data on a good session are not delivered");
    }

    /// Asserts that the engine sends to `peer` on `session`, and returns it.
    #[track_caller]
    pub fn reaches(&self, peer: &Peer, session: &Session) {
        peer.port.drain();
        self.prompt(peer);
        assert!(peer.hear_data(session, SOON).is_some(), "the engine does not send on the session");
    }
}

/// The line of the UAPI about where `peer` is.
pub fn endpoint(peer: &Peer) -> String {
    format!("endpoint={}\n", peer.port.address())
}

/// A packet like no other, from `peer`'s inner address to nobody.
pub fn marked(peer: &Peer) -> Vec<u8> {
    inner::v4(peer.inner4(), inner::NOBODY4, &wire::random::<12>())
}

fn foreground(command: &str, ns: &Netns, interface: &str) -> Cmd {
    ns.cmd(&command.replace("%i", interface)).env("WG_PROCESS_FOREGROUND", "1")
}

fn start(command: &str, ns: &Netns, interface: String) -> Engine {
    let command = foreground(command, ns, &interface);
    Engine::adopt(interface, command)
}

fn batch(ns: &Netns, lines: &str) {
    Cmd::new(&format!("ip -n {} -batch -", ns.name())).input(lines).ok();
}

/// What the kernel sends, in a packet socket's words (packet(7)).
const PACKET_OUTGOING: u8 = 4;

/// Packets that come in by an interface: for the TUN device, what the engine delivers. What the kernel sends is left out,
/// for nobody asked it to announce itself.
pub struct Tap {
    fd: OwnedFd,
    interface: usize,
    seen: RefCell<VecDeque<Vec<u8>>>,
}

impl Tap {
    /// At `interface` in `ns`.
    pub fn new(ns: &Netns, interface: &str) -> Tap {
        let (fd, interface) = ns.enter(|| {
            let kind = SockType::Datagram;
            let fd = socket(AddressFamily::Packet, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
            (
                fd.expect("a packet socket"),
                if_nametoindex(interface).expect("the interface is there") as usize,
            )
        });
        // It sees the cable too, and is read only now and then.
        setsockopt(&fd, sockopt::RcvBufForce, &(64 << 20)).expect("room for packets");
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(20)).expect("a time limit");
        Tap { fd, interface, seen: RefCell::default() }
    }

    /// Whether `packet` comes within `limit`.
    pub fn saw(&self, packet: &[u8], limit: Duration) -> bool {
        self.find(limit, |seen| seen == packet).is_some()
    }

    /// Whether `packet` has come by now.
    pub fn has_seen(&self, packet: &[u8]) -> bool {
        self.saw(packet, Duration::from_millis(30))
    }

    /// The first packet that `is_it` of those that came or will within `limit`; they stay to be found again.
    pub fn find(&self, limit: Duration, is_it: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        let mut looked_at = 0;
        loop {
            let found = self.seen.borrow().iter().skip(looked_at).find(|packet| is_it(packet)).cloned();
            looked_at = self.seen.borrow().len();
            if found.is_some() {
                return found;
            }
            if !self.read() && Instant::now() >= end {
                return None;
            }
        }
    }

    /// All that came and will within `limit`.
    pub fn all(&self, limit: Duration) -> Vec<Vec<u8>> {
        self.find(limit, |_| false);
        self.seen.borrow().iter().cloned().collect()
    }

    /// Waits a moment for packets; whether some came.
    fn read(&self) -> bool {
        let mut buffer = vec![0; 70_000];
        match recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut buffer) {
            Ok((len, from)) => {
                let is_incoming = |from: LinkAddr| from.pkttype() != PACKET_OUTGOING;
                if from.is_some_and(|from| from.ifindex() == self.interface && is_incoming(from)) {
                    self.seen.borrow_mut().push_back(buffer[..len].to_vec());
                }
                true
            }
            Err(_) => false,
        }
    }
}
