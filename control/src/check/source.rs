//! A file as its lines, each with its place, and what they mean together.

use std::collections::HashSet;
use std::net::IpAddr;

use adit_crypto::{Secret, x25519};

use crate::conf::line::Line;
use crate::conf::value::{self, Endpoint};
use crate::conf::{Place, is_space};
use crate::quick::Config;
use crate::{AllowedIpChange, Prefix, PublicKey};

/// What a file says, and where.
pub(super) struct Source<'a> {
    pub config: Config,
    /// The lines with keys and values below `[Interface]`.
    pub interface: Vec<Entry<'a>>,
    pub private_key: Option<Secret<32>>,
    pub listen_port: Option<u16>,
    pub fwmark: Option<u32>,
    pub peers: Vec<Peer<'a>>,
}

/// A section about a peer.
pub(super) struct Peer<'a> {
    /// Where it begins.
    pub place: Place,
    pub entries: Vec<Entry<'a>>,
    pub public_key: PublicKey,
    pub preshared_key: Option<Secret<32>>,
    pub endpoint: Option<Endpoint>,
    pub keepalive: u16,
    pub allowed_ips: Vec<Allowed>,
    /// Another section about the same peer follows, and replaces the allowed IPs.
    pub is_superseded: bool,
}

/// An allowed IP.
pub(super) struct Allowed {
    pub prefix: Prefix,
    /// As written.
    pub text: String,
    pub place: Place,
}

/// A line with a key and a value.
pub(super) struct Entry<'a> {
    /// In lowercase, without white space.
    pub key: String,
    line: Line<'a>,
}

impl Entry<'_> {
    /// Without white space.
    pub fn value(&self) -> &str {
        &self.line.text()[self.key.len() + 1..]
    }

    /// Where its value starts.
    pub fn place(&self) -> Place {
        self.place_at(0)
    }

    fn place_at(&self, offset: usize) -> Place {
        self.line.place(self.key.len() + 1 + offset)
    }

    fn parse<T>(&self, read: impl FnOnce(&str) -> Result<T, value::Fault>) -> Option<T> {
        read(self.value()).ok()
    }
}

impl<'a> Source<'a> {
    pub fn new(text: &'a str, config: Config) -> Self {
        let mut source = Source {
            config,
            interface: Vec::new(),
            private_key: None,
            listen_port: None,
            fwmark: None,
            peers: Vec::new(),
        };
        let mut in_interface = false;
        for (number, raw) in (1..).zip(text.split('\n')) {
            let line = Line::new(number, raw);
            if line.text().eq_ignore_ascii_case("[Interface]") {
                in_interface = true;
            } else if line.text().eq_ignore_ascii_case("[Peer]") {
                in_interface = false;
                source.peers.push(Peer::new(line.place(0)));
            } else if let Some((key, _)) = line.text().split_once('=') {
                let entry = Entry { key: key.to_ascii_lowercase(), line };
                match source.peers.last_mut() {
                    _ if in_interface => source.take(entry),
                    Some(peer) => peer.take(entry),
                    None => {}
                }
            }
        }
        source.mark_superseded();
        source
    }

    fn take(&mut self, entry: Entry<'a>) {
        match entry.key.as_str() {
            "privatekey" => self.private_key = entry.parse(value::secret_key).flatten(),
            "listenport" => self.listen_port = entry.parse(value::port).filter(|port| *port != 0),
            "fwmark" => self.fwmark = entry.parse(value::fwmark).filter(|mark| *mark != 0),
            _ => {}
        }
        self.interface.push(entry);
    }

    fn mark_superseded(&mut self) {
        let mut later = HashSet::new();
        for peer in self.peers.iter_mut().rev() {
            peer.is_superseded = !later.insert(peer.public_key);
        }
    }

    /// The line of an interface's key; the last, which counts.
    pub fn entry(&self, key: &str) -> Option<&Entry<'a>> {
        self.interface.iter().rfind(|entry| entry.key == key)
    }

    pub fn place(&self, key: &str) -> Option<Place> {
        self.entry(key).map(Entry::place)
    }

    pub fn public_key(&self) -> Option<PublicKey> {
        let private = x25519::PrivateKey::new(*self.private_key.as_ref()?.expose());
        Some(PublicKey::new(x25519::public_key(&private)))
    }

    /// The peers as they will be.
    pub fn effective_peers(&self) -> impl Iterator<Item = &Peer<'a>> + Clone {
        self.peers.iter().filter(|peer| !peer.is_superseded)
    }

    pub fn allowed_ips(&self) -> impl Iterator<Item = &Allowed> + Clone {
        self.effective_peers().flat_map(|peer| &peer.allowed_ips)
    }

    /// Whether all traffic of a family goes into the tunnel.
    pub fn takes_all(&self, v6: bool) -> bool {
        self.is_full(v6) && self.config.table.is_auto()
    }

    /// Whether all addresses of a family are allowed, be it in two halves.
    pub fn is_full(&self, v6: bool) -> bool {
        let of_len = |len| {
            self.allowed_ips().filter(move |ip| ip.prefix.addr().is_ipv6() == v6 && ip.prefix.len() == len)
        };
        let mut halves = of_len(1).map(|ip| ip.prefix);
        of_len(0).next().is_some() || halves.next().is_some_and(|one| halves.any(|other| other != one))
    }

    /// Whether packets to an address go to some peer.
    pub fn is_allowed(&self, ip: IpAddr) -> bool {
        self.allowed_ips().any(|allowed| allowed.prefix.contains(ip))
    }

    /// The users' commands.
    pub fn hooks(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let config = &self.config;
        let all = [
            ("PreUp", &config.pre_up),
            ("PostUp", &config.post_up),
            ("PreDown", &config.pre_down),
            ("PostDown", &config.post_down),
        ];
        all.into_iter().flat_map(|(key, commands)| commands.iter().map(move |command| (key, command)))
    }
}

impl<'a> Peer<'a> {
    fn new(place: Place) -> Self {
        Peer {
            place,
            entries: Vec::new(),
            public_key: PublicKey::new([0; 32]),
            preshared_key: None,
            endpoint: None,
            keepalive: 0,
            allowed_ips: Vec::new(),
            is_superseded: false,
        }
    }

    fn take(&mut self, entry: Entry<'a>) {
        match entry.key.as_str() {
            "publickey" => self.public_key = entry.parse(value::public_key).unwrap_or(self.public_key),
            "presharedkey" => self.preshared_key = entry.parse(value::secret_key).flatten(),
            "endpoint" => self.endpoint = entry.parse(value::endpoint),
            "persistentkeepalive" => {
                self.keepalive = entry.parse(value::persistent_keepalive).unwrap_or_default();
            }
            "allowedips" => self.allow(&entry),
            _ => {}
        }
        self.entries.push(entry);
    }

    fn allow(&mut self, entry: &Entry<'_>) {
        let mut offset = 0;
        for text in entry.value().split(',') {
            let list = value::allowed_ips(text, &mut Vec::new()).unwrap_or_default();
            for change in list.changes {
                if let AllowedIpChange::Add(prefix) = change {
                    let text = text.trim_start_matches('+').to_owned();
                    self.allowed_ips.push(Allowed { prefix, text, place: entry.place_at(offset) });
                }
            }
            offset += text.len() + 1;
        }
    }

    pub fn place(&self, key: &str) -> Place {
        let entry = self.entries.iter().rfind(|entry| entry.key == key);
        entry.map_or_else(|| self.place.clone(), Entry::place)
    }
}

/// The words of a list.
pub(super) fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(|char| char == ',' || is_space(char)).filter(|word| !word.is_empty())
}
