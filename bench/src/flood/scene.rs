//! The network of a flood: four namespaces, and an engine in three of them.
//!
//! ```text
//!   peer     tunnel 192.168.241.2   cable 10.77.2.2 ───┐
//!   newcomer tunnel 192.168.241.3   cable 10.77.3.2 ───┤ 10.77.N.1 target, tunnel 192.168.241.1
//!   flooder                         cable 10.77.4.2 ───┘ everything else is routed back to the flooder
//! ```

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use lab::barrage::{Eavesdropper, Knowledge};
use lab::netns::interface_name;
use lab::{Engine, Netns, seconds};

use crate::peers::topology::{Keys, hex};

/// UDP port of every engine.
const PORT: u16 = 51820;
/// How long the network may take to work while nobody attacks it.
const PATIENCE: Duration = seconds(20);
/// The numbers of the three that are beside the target, which is 1.
const PEER: u8 = 2;
const NEWCOMER: u8 = 3;
const FLOODER: u8 = 4;

/// An engine, its namespace, its keys and its number.
pub struct Station {
    pub engine: Engine,
    pub ns: Netns,
    keys: Keys,
    number: u8,
}

impl Station {
    /// `command` has `%i` for the interface.
    fn start(command: &str, number: u8) -> Result<Station, String> {
        let ns = Netns::new();
        let engine = serve(command, &ns);
        let station = Station { engine, ns, keys: Keys::generate()?, number };
        station.set(&format!("private_key={}\nlisten_port={PORT}\n", hex(station.keys.secret.expose())))?;
        station.ns.ip(&format!("link set {} mtu 1420", station.engine.interface()));
        station.ns.address(station.engine.interface(), &format!("{}/24", inner(number)));
        station.ns.ip(&format!("link set {} up", station.engine.interface()));
        Ok(station)
    }

    fn set(&self, text: &str) -> Result<(), String> {
        match self.engine.uapi().set(text) {
            0 => Ok(()),
            errno => Err(format!("an engine refuses its configuration, errno {errno}")),
        }
    }

    fn allow(&self, other: &Station) -> Result<(), String> {
        let key = hex(&other.keys.public);
        self.set(&format!("public_key={key}\nallowed_ip={}/32\n", inner(other.number)))
    }

    /// Makes `target` a peer, and has it greeted.
    fn greet(&self, target: &Station) -> Result<(), String> {
        let (key, inner) = (hex(&target.keys.public), inner(target.number));
        let endpoint = SocketAddrV4::new(outer(self.number, 1), PORT);
        let keepalive = "persistent_keepalive_interval=25";
        self.set(&format!("public_key={key}\nendpoint={endpoint}\n{keepalive}\nallowed_ip={inner}/32\n"))
    }

    /// Whether it has had a handshake with its one peer.
    pub fn has_met(&self) -> bool {
        self.engine.uapi().get().first("last_handshake_time_sec").is_some_and(|seconds| seconds != "0")
    }
}

fn serve(command: &str, ns: &Netns) -> Engine {
    let interface = interface_name();
    let command = ns.cmd(&command.replace("%i", &interface)).env("WG_PROCESS_FOREGROUND", "1");
    Engine::adopt(interface, command)
}

/// The address in the tunnel.
pub fn inner(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 241, number)
}

/// The addresses of the cable between the target and `number`: end 1 is the target's.
fn outer(number: u8, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, number, end)
}

/// All of them. Engines are ended before their namespaces.
pub struct Scene {
    pub target: Station,
    pub peer: Station,
    pub flooder: Netns,
    /// What the flooder knows.
    pub known: Knowledge,
    adit: String,
    _unread: UdpSocket,
}

impl Scene {
    /// `command` serves the target; everybody else is `adit`.
    ///
    /// # Errors
    /// When the peer does not reach the target.
    pub fn new(command: &str, adit: &str) -> Result<Scene, String> {
        let target = Station::start(command, 1)?;
        let peer = Station::start(adit, PEER)?;
        let flooder = Netns::new();
        lay(&target.ns, &peer.ns, PEER);
        lay(&target.ns, &flooder, FLOODER);
        target.ns.ip(&format!("route add default via {}", outer(FLOODER, 2)));
        // The kernel would answer for ports that nobody has, and look for the way back to each source.
        target.ns.sysctl("net/ipv4/conf/all/rp_filter", "0");
        let unread = target.ns.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)));
        let unread = unread.map_err(|error| format!("a socket that nobody reads: {error}"))?;
        let port = unread.local_addr().map_err(|error| error.to_string())?.port();

        let ear = Eavesdropper::new(&target.ns);
        target.allow(&peer)?;
        peer.greet(&target)?;
        let initiation = ear.message(PORT, 1, PATIENCE).ok_or("the peer sends no initiation")?;
        let data = ear.message(PORT, 4, PATIENCE).ok_or("the target does not answer its peer")?;
        drop(ear);
        if !peer.ns.reaches(&inner(1).to_string(), PATIENCE) {
            return Err("the tunnel carries nothing".to_owned());
        }
        let index = data[4..8].try_into().map(u32::from_le_bytes).map_err(|_| "a short message")?;
        let known = Knowledge {
            target: SocketAddrV4::new(outer(FLOODER, 1), PORT),
            unread: port,
            public_key: target.keys.public,
            initiation,
            index,
        };
        Ok(Scene { target, peer, flooder, known, adit: adit.to_owned(), _unread: unread })
    }

    /// A peer that the target knows and has never heard: started, but with nobody to greet yet.
    ///
    /// # Errors
    /// When it does not start.
    pub fn newcomer(&self) -> Result<Newcomer<'_>, String> {
        let station = Station::start(&self.adit, NEWCOMER)?;
        lay(&self.target.ns, &station.ns, NEWCOMER);
        self.target.allow(&station)?;
        Ok(Newcomer { scene: self, station })
    }

    /// Bytes that the target's engine has written to its interface so far.
    pub fn received(&self) -> u64 {
        interface_counter(&self.target.ns, self.target.engine.interface(), 0)
    }

    /// Packets that the target has sent to the flooder so far.
    pub fn answers(&self) -> u64 {
        interface_counter(&self.flooder, &cable(1), 1)
    }

    /// Datagrams that the target's kernel dropped so far, for the sockets' buffers were full.
    pub fn overflows(&self) -> u64 {
        let text = self.target.ns.enter(|| fs::read_to_string("/proc/thread-self/net/snmp"));
        let text = text.unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(name, _)| *name == "RcvbufErrors").and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
    }
}

/// Somebody new.
pub struct Newcomer<'a> {
    scene: &'a Scene,
    pub station: Station,
}

impl Newcomer<'_> {
    /// Begins to greet the target.
    ///
    /// # Errors
    /// When its engine refuses.
    pub fn greet(&self) -> Result<(), String> {
        self.station.greet(&self.scene.target)
    }
}

impl Drop for Newcomer<'_> {
    fn drop(&mut self) {
        // The cable goes with the namespace, but a moment later.
        self.scene.target.ns.ip(&format!("link del {}", cable(NEWCOMER)));
        let key = hex(&self.station.keys.public);
        let _ = self.scene.target.set(&format!("public_key={key}\nremove=true\n"));
    }
}

/// The name of a cable's end that leads to `number`.
fn cable(number: u8) -> String {
    format!("cable{number}")
}

fn lay(target: &Netns, other: &Netns, number: u8) {
    target.connect(&cable(number), other, &cable(1));
    target.address(&cable(number), &format!("{}/24", outer(number, 1)));
    other.address(&cable(1), &format!("{}/24", outer(number, 2)));
}

/// A received counter of `/proc/net/dev`: bytes, packets.
fn interface_counter(ns: &Netns, interface: &str, which: usize) -> u64 {
    let text = ns.enter(|| fs::read_to_string("/proc/thread-self/net/dev")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().nth(which)?.parse().ok()).unwrap_or(0)
}
