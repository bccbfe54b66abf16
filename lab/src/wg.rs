//! Debian's `wg`: keys, and its machine-readable `dump`.

use std::net::SocketAddr;

use crate::cmd::Cmd;

/// A Curve25519 key pair, both halves in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keypair {
    /// The private key.
    pub private: String,
    /// The public key.
    pub public: String,
}

impl Keypair {
    /// A new pair.
    ///
    /// # Panics
    /// If `wg` is missing.
    #[must_use]
    pub fn generate() -> Keypair {
        let private = Cmd::new("wg genkey").ok().trim().to_owned();
        let public = Cmd::new("wg pubkey").input(private.as_str()).ok().trim().to_owned();
        Keypair { private, public }
    }
}

/// A new preshared key in base64.
///
/// # Panics
/// If `wg` is missing.
#[must_use]
pub fn genpsk() -> String {
    Cmd::new("wg genpsk").ok().trim().to_owned()
}

/// A key in the UAPI's spelling.
///
/// # Panics
/// If `key` is not 44 characters of base64.
#[must_use]
pub fn hex(key: &str) -> String {
    let bytes = decode(key);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn decode(key: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert!(key.len() == 44 && key.ends_with('='), "not a key: {key:?}");
    let digit = |c| ALPHABET.iter().position(|&a| a == c).expect("a base64 digit") as u32;
    let (mut bytes, mut window, mut bits) = (Vec::with_capacity(32), 0u32, 0);
    for c in key[..43].bytes() {
        window = (window << 6 | digit(c)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((window >> bits) as u8);
        }
    }
    bytes
}

/// What `wg show INTERFACE dump` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// The private key, if there is one.
    pub private_key: Option<String>,
    /// The port, 0 while none is open.
    pub listen_port: u16,
    /// The mark on outgoing packets; 0 is off.
    pub fwmark: u32,
    /// The peers, in the daemon's order.
    pub peers: Vec<Peer>,
}

impl Dump {
    /// The peer of that public key.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    #[must_use]
    pub fn peer(&self, public_key: &str) -> &Peer {
        let found = self.peers.iter().find(|p| p.public_key == public_key);
        found.unwrap_or_else(|| panic!("no peer {public_key} in {self:?}"))
    }
}

/// A peer's line of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its public key.
    pub public_key: String,
    /// The preshared key, if there is one.
    pub preshared_key: Option<String>,
    /// Where it was last heard from, or set to be.
    pub endpoint: Option<SocketAddr>,
    /// Its allowed IPs.
    pub allowed_ips: Vec<String>,
    /// When the last handshake completed, in seconds since 1970; 0 is never.
    pub latest_handshake: u64,
    /// Bytes received.
    pub rx: u64,
    /// Bytes sent.
    pub tx: u64,
    /// Persistent keepalive interval in seconds; 0 is off.
    pub keepalive: u16,
}

/// Reads `wg show INTERFACE dump`.
///
/// # Panics
/// If the text is anything else.
#[track_caller]
#[must_use]
pub fn parse_dump(text: &str) -> Dump {
    let mut rows = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let Some([private_key, _, port, fwmark]) =
        rows.next().as_deref().and_then(|r| <[&str; 4]>::try_from(r).ok())
    else {
        panic!("not a dump: {text:?}")
    };
    Dump {
        private_key: present(private_key),
        listen_port: port.parse().expect("a port"),
        fwmark: parse_mark(fwmark),
        peers: rows.map(|row| parse_peer(&row)).collect(),
    }
}

fn parse_peer(row: &[&str]) -> Peer {
    let &[public_key, psk, endpoint, allowed_ips, handshake, rx, tx, keepalive] = row else {
        panic!("not a peer: {row:?}")
    };
    Peer {
        public_key: public_key.to_owned(),
        preshared_key: present(psk),
        endpoint: present(endpoint).map(|e| e.parse().expect("an endpoint")),
        allowed_ips: present(allowed_ips)
            .map_or_else(Vec::new, |a| a.split(',').map(str::to_owned).collect()),
        latest_handshake: handshake.parse().expect("a time"),
        rx: rx.parse().expect("a count"),
        tx: tx.parse().expect("a count"),
        keepalive: if keepalive == "off" { 0 } else { keepalive.parse().expect("an interval") },
    }
}

fn present(field: &str) -> Option<String> {
    (field != "(none)").then(|| field.to_owned())
}

fn parse_mark(field: &str) -> u32 {
    field.strip_prefix("0x").map_or(0, |hex| u32::from_str_radix(hex, 16).expect("a mark"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_hexadecimal() {
        let key = "////////////////////////////////////////AAA=";
        assert_eq!(hex(key), format!("{}{}", "ff".repeat(30), "0000"));
        assert_eq!(
            hex("AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="),
            format!("010203{}01", "00".repeat(28))
        );
    }

    #[test]
    fn reads_a_dump() {
        let dump = parse_dump(
            "priv\tpub\t51820\t0xca6c\n\
             peer1\t(none)\t[fe80::1%2]:7\t10.0.0.0/8,fd00::/8\t1700000000\t1\t2\t25\n\
             peer2\tpsk\t(none)\t(none)\t0\t0\t0\toff\n",
        );
        assert_eq!((dump.listen_port, dump.fwmark, dump.peers.len()), (51820, 51820, 2));
        assert_eq!(dump.peer("peer1").allowed_ips, ["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(dump.peer("peer1").keepalive, 25);
        let second = dump.peer("peer2");
        assert_eq!((second.endpoint, second.preshared_key.as_deref()), (None, Some("psk")));
        assert!(second.allowed_ips.is_empty());
    }
}
