//! What `wg show` prints, as JSON for programs. `docs/json.md` describes it, and `docs/show.schema.json` is its schema.
//!
//! Whatever is asked for, it is one object with a member for each interface, which has the members that were asked for.
//! It is written piece by piece into the text: a tree of values would leave copies of keys behind in freed memory.

use std::collections::HashSet;

use adit_crypto::Secret;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::fields::Field;
use super::{ScopeName, endpoint, prefix};
use crate::{Get, GetPeer, SecretText, key};

/// An interface's name, and what it told or why it did not.
pub type Told = (String, Result<Get, String>);

/// What is told of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Only its name.
    Name,
    /// One field, as if all others were not there.
    One(Field),
    /// All there is, with the secret keys or without.
    All {
        /// With private and preshared keys.
        keys: bool,
    },
}

impl Shown {
    /// What a field prints: nothing hidden in a dump.
    #[must_use]
    pub fn of(field: Field) -> Self {
        if field == Field::Dump { Self::All { keys: true } } else { Self::One(field) }
    }

    fn has(self, field: Field) -> bool {
        match (self, field) {
            (Self::Name, _) => false,
            (Self::One(one), _) => one == field,
            (Self::All { keys }, Field::PrivateKey | Field::PresharedKeys) => keys,
            (Self::All { .. }, _) => true,
        }
    }

    /// Whether secret keys are told of, though not shown themselves.
    fn is_all(self) -> bool {
        matches!(self, Self::All { .. })
    }

    fn has_peers(self) -> bool {
        let of_peers = [
            Field::Peers,
            Field::PresharedKeys,
            Field::Endpoints,
            Field::AllowedIps,
            Field::LatestHandshakes,
            Field::Transfer,
            Field::PersistentKeepalive,
        ];
        of_peers.into_iter().any(|field| self.has(field))
    }
}

/// Prints interfaces in this order. Of several with one name the first counts.
#[must_use]
pub fn print(interfaces: &[Told], shown: Shown, scope_name: ScopeName) -> SecretText {
    let peers: usize = interfaces.iter().flat_map(|(_, told)| told).map(|get| 1 + get.peers.len()).sum();
    let mut out = SecretText::with_capacity(16 + 512 * peers);
    let written = serde_json::to_writer(&mut out, &Interfaces { interfaces, shown, scope_name });
    debug_assert!(written.is_ok(), "memory takes all that is written to it");
    out.push(b"\n");
    out
}

struct Interfaces<'a> {
    interfaces: &'a [Told],
    shown: Shown,
    scope_name: ScopeName,
}

impl Serialize for Interfaces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut names = HashSet::new();
        for (name, told) in self.interfaces.iter().filter(|(name, _)| names.insert(name)) {
            match told {
                Ok(get) => {
                    let interface = Interface { get, shown: self.shown, scope_name: self.scope_name };
                    map.serialize_entry(name, &interface)?;
                }
                Err(error) => map.serialize_entry(name, &Untold { error })?,
            }
        }
        map.end()
    }
}

/// An interface that could not be asked.
struct Untold<'a> {
    error: &'a str,
}

impl Serialize for Untold<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("error", self.error)?;
        map.end()
    }
}

struct Interface<'a> {
    get: &'a Get,
    shown: Shown,
    scope_name: ScopeName,
}

impl Serialize for Interface<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Interface { get, shown, scope_name } = *self;
        let mut map = serializer.serialize_map(None)?;
        if shown.has(Field::PublicKey) {
            map.serialize_entry("public_key", &get.public_key().map(|key| key.to_base64()))?;
        }
        if shown.is_all() {
            map.serialize_entry("has_private_key", &get.private_key.is_some())?;
        }
        if shown.has(Field::PrivateKey) {
            map.serialize_entry("private_key", &get.private_key.as_ref().map(SecretKey))?;
        }
        if shown.has(Field::ListenPort) {
            map.serialize_entry("listen_port", &(get.listen_port != 0).then_some(get.listen_port))?;
        }
        if shown.has(Field::Fwmark) {
            map.serialize_entry("fwmark", &(get.fwmark != 0).then_some(get.fwmark))?;
        }
        if shown.has_peers() {
            let peers: Vec<Peer<'_>> =
                get.peers.iter().map(|peer| Peer { peer, shown, scope_name }).collect();
            map.serialize_entry("peers", &peers)?;
        }
        map.end()
    }
}

struct Peer<'a> {
    peer: &'a GetPeer,
    shown: Shown,
    scope_name: ScopeName,
}

impl Serialize for Peer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Peer { peer, shown, scope_name } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("public_key", &peer.public_key.to_base64())?;
        if shown.is_all() {
            map.serialize_entry("has_preshared_key", &peer.preshared_key.is_some())?;
        }
        if shown.has(Field::PresharedKeys) {
            map.serialize_entry("preshared_key", &peer.preshared_key.as_ref().map(SecretKey))?;
        }
        if shown.has(Field::Endpoints) {
            let endpoint = peer.endpoint.as_ref().map(|addr| endpoint(addr, scope_name));
            map.serialize_entry("endpoint", &endpoint)?;
        }
        if shown.has(Field::AllowedIps) {
            let prefixes: Vec<String> = peer.allowed_ips.iter().map(|one| prefix(one).to_string()).collect();
            map.serialize_entry("allowed_ips", &prefixes)?;
        }
        if shown.has(Field::LatestHandshakes) {
            let seconds = peer.last_handshake.map(|(seconds, _)| seconds).filter(|&seconds| seconds != 0);
            map.serialize_entry("latest_handshake_unix_seconds", &seconds)?;
        }
        if shown.has(Field::Transfer) {
            map.serialize_entry("rx_bytes", &peer.rx_bytes)?;
            map.serialize_entry("tx_bytes", &peer.tx_bytes)?;
        }
        if shown.has(Field::PersistentKeepalive) {
            let seconds = (peer.persistent_keepalive != 0).then_some(peer.persistent_keepalive);
            map.serialize_entry("persistent_keepalive_seconds", &seconds)?;
        }
        map.end()
    }
}

/// A key that goes from wiped memory to wiped memory: the writer copies it in one piece.
struct SecretKey<'a>(&'a Secret<32>);

impl Serialize for SecretKey<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&key::secret_to_base64(self.0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::PublicKey;

    fn interfaces() -> Vec<Told> {
        let peer = GetPeer {
            preshared_key: Some(Secret::new([2; 32])),
            endpoint: Some("[fe80::1%7]:51820".parse().unwrap()),
            last_handshake: Some((1_800_000_000, 5)),
            rx_bytes: u64::MAX,
            tx_bytes: 7,
            persistent_keepalive: 25,
            allowed_ips: vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()],
            ..GetPeer::new(PublicKey::new([3; 32]))
        };
        let get = Get {
            private_key: Some(Secret::new([1; 32])),
            listen_port: 51820,
            fwmark: 0xca6c,
            peers: vec![peer, GetPeer::new(PublicKey::new([4; 32]))],
        };
        vec![
            ("wg0".into(), Ok(get)),
            ("a\"\\\u{1b}".into(), Ok(Get::default())),
            ("wg1".into(), Err("Permission denied".into())),
            ("wg0".into(), Err("a second one of that name".into())),
        ]
    }

    fn printed(shown: Shown) -> Value {
        let text = print(&interfaces(), shown, |number| (number == 7).then(|| "eth0".to_owned()));
        assert!(text.ends_with(b"\n"));
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn everything_but_the_keys() {
        let all = printed(Shown::All { keys: false });
        let peer = &all["wg0"]["peers"][0];
        assert_eq!(
            *peer,
            json!({
                "public_key": "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=",
                "has_preshared_key": true,
                "endpoint": "[fe80::1%eth0]:51820",
                "allowed_ips": ["10.0.0.0/8", "::/0"],
                "latest_handshake_unix_seconds": 1_800_000_000u64,
                "rx_bytes": u64::MAX,
                "tx_bytes": 7,
                "persistent_keepalive_seconds": 25,
            })
        );
        assert_eq!(
            all["wg0"]["peers"][1],
            json!({
                "public_key": "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=",
                "has_preshared_key": false,
                "endpoint": null,
                "allowed_ips": [],
                "latest_handshake_unix_seconds": null,
                "rx_bytes": 0,
                "tx_bytes": 0,
                "persistent_keepalive_seconds": null,
            })
        );
        assert_eq!((&all["wg0"]["listen_port"], &all["wg0"]["fwmark"]), (&json!(51820), &json!(0xca6c)));
        assert_eq!(all["wg0"]["has_private_key"], true);
        assert_eq!(all["wg0"].get("private_key"), None);
        assert_eq!(
            all["a\"\\\u{1b}"],
            json!({"public_key": null, "has_private_key": false, "listen_port": null, "fwmark": null, "peers": []})
        );
        assert_eq!(all["wg1"], json!({"error": "Permission denied"}));
    }

    #[test]
    fn keys_are_shown_where_wg_shows_them() {
        let (private, preshared) =
            ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
        for (name, field) in Field::NAMES {
            let text = printed(Shown::of(field)).to_string();
            assert_eq!(text.contains(private), matches!(name, "private-key" | "dump"), "{text}");
            assert_eq!(text.contains(preshared), matches!(name, "preshared-keys" | "dump"), "{text}");
        }
        let all = printed(Shown::All { keys: true });
        assert_eq!(all["wg0"]["private_key"], private);
        assert_eq!(all["wg0"]["peers"][1]["preshared_key"], Value::Null);
    }

    #[test]
    fn a_field_and_no_other() {
        assert_eq!(printed(Shown::Name)["wg0"], json!({}));
        assert_eq!(printed(Shown::of(Field::ListenPort))["wg0"], json!({"listen_port": 51820}));
        let peers = printed(Shown::of(Field::Peers));
        assert_eq!(
            peers["wg0"]["peers"][1],
            json!({"public_key": "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ="})
        );
        assert_eq!(peers["wg0"].as_object().unwrap().len(), 1);
        let transfer = printed(Shown::of(Field::Transfer));
        assert_eq!(transfer["wg0"]["peers"][0]["tx_bytes"], 7);
        assert_eq!(transfer["wg0"]["peers"][0].as_object().unwrap().len(), 3);
    }
}
