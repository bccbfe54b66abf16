//! Random *set* operations, none of which may interrupt one peer's traffic, and what the configuration must be after them.
//!
//! | what changes | why the flow must go on |
//! | --- | --- |
//! | the private key, set again | it is the same |
//! | the listen port | the peer follows where authentic packets come from |
//! | the mark | it means nothing here |
//! | the peer's own allowed IPs, replaced by the same; its keepalive; its preshared key | addresses that stay must never be nobody's; keys that are agreed stay |
//! | the peer's endpoint | another address is also its own |
//! | other peers: added, removed, changed; shorter prefixes of the same addresses moved between them | the longest prefix decides |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::dice::Dice;
use crate::uapi::Answer;

/// Sections of a set at most.
const SECTIONS: u64 = 12;

/// The peer whose traffic goes on.
#[derive(Debug, Clone)]
pub struct Live {
    /// The engine's private key, in hexadecimal.
    pub private_key: String,
    /// The peer's public key, in hexadecimal.
    pub public_key: String,
    /// Its allowed IPs, each a host's.
    pub allowed_ips: Vec<String>,
    /// Where it is: any of these.
    pub endpoints: Vec<String>,
}

/// An operation.
#[derive(Debug, Clone)]
pub struct Set {
    /// Its lines.
    pub lines: String,
    /// Whether packets go another way from then on: to the peer at once, from it once it has heard of it. What is under way
    /// to a port that closes is lost, and what goes another way may overtake.
    pub reroutes: bool,
}

/// What the engine must say of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Peer {
    preshared_key: Option<String>,
    endpoint: Option<String>,
    keepalive: u64,
}

/// Operations without end, and what they amount to.
#[derive(Debug)]
pub struct Sets {
    dice: Dice,
    live: Live,
    keys: Vec<String>,
    prefixes: Vec<String>,
    endpoints: Vec<String>,
    listen_port: u64,
    fwmark: u64,
    takes_back: bool,
    peers: BTreeMap<String, Peer>,
    /// Whose each prefix is.
    owners: BTreeMap<String, String>,
}

impl Sets {
    /// For an engine that has the peer `live` and no other, about `crowd` others at most, which are at addresses of
    /// `network`, such as `10.77.0`, that nobody has.
    #[must_use]
    pub fn new(seed: u64, live: Live, crowd: usize, network: &str) -> Sets {
        let mut dice = Dice::new(seed);
        let keys = (0..crowd).map(|_| dice.key()).collect();
        let endpoints = (100..120).map(|n| format!("{network}.{n}:{}", 1000 + n)).collect();
        let owners = live.allowed_ips.iter().map(|ip| (ip.clone(), live.public_key.clone())).collect();
        let peers = [(live.public_key.clone(), Peer::default())].into();
        Sets {
            dice,
            live,
            keys,
            prefixes: prefixes(crowd),
            endpoints,
            listen_port: 0,
            fwmark: 0,
            takes_back: true,
            peers,
            owners,
        }
    }

    /// For an engine that cannot remove a single allowed IP, as older ones cannot.
    #[must_use]
    pub fn without_taking_back(self) -> Sets {
        Sets { takes_back: false, ..self }
    }

    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    /// The next operation.
    pub fn next(&mut self) -> Set {
        let mut set = Set { lines: String::new(), reroutes: false };
        self.device(&mut set);
        for _ in 0..=self.dice.below(SECTIONS) {
            if self.dice.once_in(4) { self.live_peer(&mut set) } else { self.other_peer(&mut set.lines) }
        }
        set
    }

    /// What is wrong with the configuration that the engine tells, if anything is.
    ///
    /// # Panics
    /// If it tells none.
    #[must_use]
    pub fn differs(&self, answer: &Answer) -> Option<String> {
        let mut peers = BTreeMap::<String, Peer>::new();
        let mut owners = BTreeMap::new();
        let mut key = String::new();
        for (name, value) in &answer.lines {
            match name.as_str() {
                "public_key" => {
                    key.clone_from(value);
                    peers.entry(key.clone()).or_default();
                }
                "allowed_ip" => drop(owners.insert(value.clone(), key.clone())),
                "preshared_key" if value.chars().any(|digit| digit != '0') => {
                    peers.get_mut(&key)?.preshared_key = Some(value.clone());
                }
                "endpoint" if key != self.live.public_key => {
                    peers.get_mut(&key)?.endpoint = Some(value.clone());
                }
                "persistent_keepalive_interval" => {
                    peers.get_mut(&key)?.keepalive = value.parse().expect("a number");
                }
                _ => {}
            }
        }
        let missing = self.peers.iter().find(|(key, peer)| peers.get(*key) != Some(peer));
        let surplus = peers.keys().find(|key| !self.peers.contains_key(*key));
        let stray = self.owners.iter().find(|(prefix, owner)| owners.get(*prefix) != Some(owner));
        if let Some((key, peer)) = missing {
            return Some(format!("of peer {key} there is {:?} and should be {peer:?}", peers.get(key)));
        }
        if let Some(key) = surplus {
            return Some(format!("peer {key} should not be there"));
        }
        if let Some((prefix, owner)) = stray {
            return Some(format!("{prefix} is {:?}'s and should be {owner}'s", owners.get(prefix)));
        }
        (owners.len() != self.owners.len()).then(|| "there are more allowed IPs than should be".to_owned())
    }

    fn device(&mut self, set: &mut Set) {
        if self.dice.once_in(8) {
            let _ = writeln!(set.lines, "private_key={}", self.live.private_key);
        }
        if self.dice.once_in(64) {
            let port = 20_000 + self.dice.below(20_000);
            set.reroutes = port != self.listen_port;
            self.listen_port = port;
        }
        if self.listen_port != 0 && (set.reroutes || self.dice.once_in(8)) {
            let _ = writeln!(set.lines, "listen_port={}", self.listen_port);
        }
        if self.dice.once_in(8) {
            self.fwmark = self.dice.below(1 << 32);
            let _ = writeln!(set.lines, "fwmark={}", self.fwmark);
        }
    }

    fn live_peer(&mut self, set: &mut Set) {
        let lines = &mut set.lines;
        let Live { public_key, allowed_ips, endpoints, .. } = &self.live;
        let _ = writeln!(lines, "public_key={public_key}");
        let peer = self.peers.get_mut(public_key).expect("it stays");
        if self.dice.once_in(2) {
            let _ = writeln!(lines, "update_only=true");
        }
        if self.dice.once_in(32) {
            set.reroutes = true;
            let _ = writeln!(lines, "endpoint={}", self.dice.one_of(endpoints));
        }
        if self.dice.once_in(4) {
            peer.keepalive = self.dice.below(30);
            let _ = writeln!(lines, "persistent_keepalive_interval={}", peer.keepalive);
        }
        if self.dice.once_in(8) {
            // Zeros are none: whatever handshake comes is the other end's as well.
            let _ = writeln!(lines, "preshared_key={}\npublic_key={public_key}", self.dice.key());
            let _ = writeln!(lines, "preshared_key={}", "0".repeat(64));
        }
        if self.dice.once_in(2) {
            if self.dice.once_in(2) {
                let _ = writeln!(lines, "replace_allowed_ips=true");
            }
            for ip in allowed_ips {
                let _ = writeln!(lines, "allowed_ip={ip}");
            }
        }
    }

    fn other_peer(&mut self, lines: &mut String) {
        let key = self.dice.one_of(&self.keys).clone();
        let _ = writeln!(lines, "public_key={key}");
        if self.dice.once_in(4) {
            let _ = writeln!(lines, "remove=true");
            self.peers.remove(&key);
            self.owners.retain(|_, owner| *owner != key);
            return;
        }
        if self.dice.once_in(8) {
            let _ = writeln!(lines, "update_only=true");
        } else {
            self.peers.entry(key.clone()).or_default();
        }
        self.its_settings(&key, lines);
        self.its_allowed_ips(&key, lines);
    }

    fn its_settings(&mut self, key: &str, lines: &mut String) {
        let mut nobody = Peer::default();
        let peer = self.peers.get_mut(key).unwrap_or(&mut nobody);
        if self.dice.once_in(4) {
            let preshared_key = self.dice.key();
            let _ = writeln!(lines, "preshared_key={preshared_key}");
            peer.preshared_key = Some(preshared_key);
        }
        if self.dice.once_in(2) {
            let endpoint = self.dice.one_of(&self.endpoints);
            let _ = writeln!(lines, "endpoint={endpoint}");
            peer.endpoint = Some(endpoint.clone());
        }
        if self.dice.once_in(8) {
            peer.keepalive = self.dice.below(65_536);
            let _ = writeln!(lines, "persistent_keepalive_interval={}", peer.keepalive);
        }
    }

    fn its_allowed_ips(&mut self, key: &str, lines: &mut String) {
        let is_there = self.peers.contains_key(key);
        if self.dice.once_in(4) {
            let _ = writeln!(lines, "replace_allowed_ips=true");
            self.owners.retain(|_, owner| owner != key);
        }
        for _ in 0..self.dice.below(6) {
            let prefix = self.dice.one_of(&self.prefixes).clone();
            if self.dice.once_in(4) && self.takes_back {
                let _ = writeln!(lines, "allowed_ip=-{prefix}");
                if self.owners.get(&prefix).is_some_and(|owner| owner == key) {
                    self.owners.remove(&prefix);
                }
            } else {
                let _ = writeln!(lines, "allowed_ip={prefix}");
                if is_there {
                    self.owners.insert(prefix, key.to_owned());
                }
            }
        }
    }
}

/// Prefixes that contain each other, those of the tunnel's own networks among them, but no host of it.
fn prefixes(crowd: usize) -> Vec<String> {
    let mut prefixes: BTreeSet<String> = [
        "0.0.0.0/0",
        "::/0",
        "192.168.0.0/16",
        "192.168.241.0/24",
        "192.168.241.0/30",
        "fd00::/8",
        "fd00::/64",
        "fd00::/112",
    ]
    .map(str::to_owned)
    .into();
    for n in 0..crowd {
        let (high, low) = (n / 256 % 256, n % 256);
        prefixes.extend([
            format!("10.{high}.{low}.0/24"),
            format!("10.{high}.{low}.7/32"),
            format!("10.{high}.0.0/16"),
        ]);
        prefixes.insert(format!("fd01:{:x}:{:x}::/48", high + 1, low + 1));
    }
    prefixes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(seed: u64) -> Sets {
        let live = Live {
            private_key: "aa".repeat(32),
            public_key: "bb".repeat(32),
            allowed_ips: vec!["192.168.241.2/32".to_owned()],
            endpoints: vec!["10.77.0.2:7".to_owned()],
        };
        Sets::new(seed, live, 20, "10.77.0")
    }

    #[test]
    fn a_seed_decides_all_and_the_live_peer_stays() {
        let (mut one, mut same) = (sets(1), sets(1));
        for _ in 0..1000 {
            let set = one.next();
            assert_eq!(set.lines, same.next().lines);
            assert!(!set.lines.contains(&format!("{}\nremove", one.live.public_key)));
            assert_eq!(one.owners["192.168.241.2/32"], one.live.public_key);
        }
        assert!(one.peers.len() > 2 && one.owners.len() > 2);
    }

    #[test]
    fn what_differs_is_told() {
        let sets = sets(1);
        let tell = |lines: &[(&str, &str)]| {
            let lines = lines.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            sets.differs(&Answer { lines, errno: 0 })
        };
        let live = "bb".repeat(32);
        let good = [("public_key", live.as_str()), ("allowed_ip", "192.168.241.2/32")];
        assert_eq!(tell(&good), None);
        assert!(tell(&good[..1]).unwrap().contains("192.168.241.2/32 is None's"));
        assert!(tell(&good[1..]).is_some());
        assert!(
            tell(&[&good[..], &[("public_key", "cc")]].concat()).unwrap().contains("should not be there")
        );
        assert!(tell(&[&good[..], &[("allowed_ip", "10.0.0.0/8")]].concat()).unwrap().contains("more"));
        assert!(
            tell(&[&good[..], &[("persistent_keepalive_interval", "3")]].concat())
                .unwrap()
                .contains("keepalive: 0")
        );
    }
}
