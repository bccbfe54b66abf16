//! The network of a measurement: two namespaces, a cable between them, and an engine at each end or only at one.
//!
//! ```text
//!   namespace a                                     namespace b
//!   tunnel 192.168.241.1/24                tunnel 192.168.241.2/24
//!   cable       10.77.0.1/24  ────────────  cable 10.77.0.2/24
//! ```

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use adit_crypto::{Secret, x25519};
use lab::netns::interface_name;
use lab::{Background, Netns, Uapi, within};

use super::contender::{Contender, Role};
use crate::copy_limit::MAX_PACKET;

/// The MTU of every tunnel in bytes.
const MTU: u32 = 1420;
/// The name of the cable's ends.
pub const CABLE: &str = "cable";
/// How long an engine may take to start.
const START: Duration = Duration::from_secs(10);
/// UDP port of every engine.
const PORT: u16 = 51820;

/// A Curve25519 key pair.
pub struct Keys {
    /// The private key.
    pub secret: Secret<32>,
    /// The public key.
    pub public: [u8; 32],
}

impl Keys {
    /// A new pair.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Keys, String> {
        let mut secret = Secret::zero();
        getrandom::fill(secret.expose_mut()).map_err(|error| format!("no randomness: {error}"))?;
        let public = x25519::public_key(&x25519::PrivateKey::new(*secret.expose()));
        Ok(Keys { secret, public })
    }
}

/// A peer in an engine's configuration.
pub struct PeerConfig {
    /// Its public key.
    pub public_key: [u8; 32],
    /// The one inner address that it may use.
    pub address: Ipv4Addr,
    /// Where it is, if that is known beforehand.
    pub endpoint: Option<SocketAddr>,
}

/// Two namespaces that a cable connects.
pub struct Site {
    /// One end.
    pub a: Netns,
    /// The other end.
    pub b: Netns,
}

impl Site {
    /// Lays the cable.
    pub fn new() -> Site {
        let site = Site { a: Netns::new(), b: Netns::new() };
        site.a.connect(CABLE, &site.b, CABLE);
        site.a.address(CABLE, &format!("{}/24", outer(1)));
        site.b.address(CABLE, &format!("{}/24", outer(2)));
        site
    }
}

/// The address of an end on the cable; ends are numbered 1 and 2.
pub fn outer(end: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, end)
}

/// The address of an end in the tunnel.
pub fn inner(end: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 241, end)
}

/// Where the engine of an end receives.
pub fn endpoint(end: u8) -> SocketAddr {
    (outer(end), PORT).into()
}

/// A process that serves a tunnel's interface: an engine or the copy limit. Ended when dropped.
pub struct Station {
    role: Role,
    interface: String,
    process: Background,
}

impl Station {
    /// Starts `contender` in `ns`, whose end of the cable has this number. An engine has no configuration yet.
    ///
    /// # Errors
    /// When it does not serve its interface within ten seconds.
    pub fn start(contender: &Contender, ns: &Netns, end: u8) -> Result<Station, String> {
        let interface = interface_name();
        let command = &contender.command;
        let line = match contender.role {
            Role::CopyLimit => {
                format!("{command} {interface} --listen {PORT} --to {}", endpoint(3 - end))
            }
            Role::Adit | Role::Peer => format!("{command} -f {interface}"),
        };
        let process = ns.cmd(&line).env("WG_PROCESS_FOREGROUND", "1").spawn();
        let mut station = Station { role: contender.role, interface, process };
        let mut is_ready = false;
        within(START, || {
            is_ready = station.is_ready(ns);
            is_ready || station.process.exited().is_some()
        });
        if !is_ready {
            return Err(match station.process.log().trim() {
                "" => "it does not start".to_owned(),
                log => format!("it does not start: {log}"),
            });
        }
        station.set_up(ns);
        Ok(station)
    }

    fn is_ready(&self, ns: &Netns) -> bool {
        match self.role {
            Role::CopyLimit => ns.has(&self.interface),
            Role::Adit | Role::Peer => Uapi::connect(&self.interface).is_ok(),
        }
    }

    fn set_up(&self, ns: &Netns) {
        let interface = &self.interface;
        // Otherwise the kernel would announce itself to the neighbours, while nothing should move. A kernel without IPv6
        // has no such variable.
        ns.run(&format!("sysctl -q -w net/ipv6/conf/{interface}/disable_ipv6=1"));
        ns.ip(&format!("link set {interface} mtu {MTU}"));
        if self.role == Role::CopyLimit {
            ns.ip(&format!("link set {interface} gso_max_size {MAX_PACKET}"));
        }
    }

    /// The tunnel's interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Gives an engine its keys and peers; the copy limit has none.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn configure(&self, keys: &Keys, peers: &[PeerConfig]) -> Result<(), String> {
        if self.role == Role::CopyLimit {
            return Ok(());
        }
        let mut text = format!("private_key={}\nlisten_port={PORT}\n", hex(keys.secret.expose()));
        for peer in peers {
            let _ = writeln!(text, "public_key={}", hex(&peer.public_key));
            if let Some(endpoint) = peer.endpoint {
                let _ = writeln!(text, "endpoint={endpoint}");
            }
            let _ = writeln!(text, "allowed_ip={}/32", peer.address);
        }
        let errno = Uapi::connect(&self.interface)
            .map_err(|error| format!("its configuration socket: {error}"))?
            .set(&text);
        if errno == 0 { Ok(()) } else { Err(format!("it refuses its configuration, errno {errno}")) }
    }
}

/// A tunnel between two engines of the same kind. The engines are ended before their namespaces.
pub struct Tunnel {
    /// The engine in namespace a, end 1: it sends, unless a workload says otherwise.
    pub near: Station,
    /// The engine in namespace b, end 2.
    pub far: Station,
    /// Where they are.
    pub site: Site,
}

impl Tunnel {
    /// Starts and configures both engines, and waits until the tunnel carries packets.
    ///
    /// # Errors
    /// When it does not, within ten seconds.
    pub fn new(contender: &Contender) -> Result<Tunnel, String> {
        let site = Site::new();
        let near = Station::start(contender, &site.a, 1)?;
        let far = Station::start(contender, &site.b, 2)?;
        let keys = [Keys::generate()?, Keys::generate()?];
        for (end, station, ns) in [(1, &near, &site.a), (2, &far, &site.b)] {
            let peer = PeerConfig {
                public_key: keys[usize::from(2 - end)].public,
                address: inner(3 - end),
                endpoint: Some(endpoint(3 - end)),
            };
            station.configure(&keys[usize::from(end - 1)], &[peer])?;
            ns.address(station.interface(), &format!("{}/24", inner(end)));
            ns.ip(&format!("link set {} up", station.interface()));
        }
        if !site.a.reaches(&inner(2).to_string(), Duration::from_secs(10)) {
            return Err("its tunnel carries nothing".to_owned());
        }
        Ok(Tunnel { near, far, site })
    }
}

/// As the UAPI spells keys.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_hexadecimal() {
        assert_eq!(hex(&[0, 1, 0xab, 0xff]), "0001abff");
    }

    #[test]
    fn a_pair_belongs_together() {
        let keys = Keys::generate().unwrap();
        assert_eq!(keys.public, x25519::public_key(&x25519::PrivateKey::new(*keys.secret.expose())));
        assert_ne!(keys.public, Keys::generate().unwrap().public);
    }
}
