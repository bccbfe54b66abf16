//! The fields that `wg show INTERFACE FIELD` prints, a line for the interface or one for each peer.

use std::fmt::{self, Display, Write as _};

use adit_crypto::Secret;
use zeroize::Zeroizing;

use super::{ScopeName, endpoint, prefix};
use crate::{Get, GetPeer, Prefix, SecretText, key};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The interface's public key.
    PublicKey,
    /// The interface's private key.
    PrivateKey,
    /// The UDP port.
    ListenPort,
    /// The mark of outgoing packets.
    Fwmark,
    /// The peers' public keys.
    Peers,
    /// The peers' preshared keys.
    PresharedKeys,
    /// Where the peers' packets go.
    Endpoints,
    /// The peers' allowed IPs.
    AllowedIps,
    /// The seconds since the epoch at which the peers' last handshakes completed.
    LatestHandshakes,
    /// The bytes received from the peers, and sent to them.
    Transfer,
    /// The seconds between the peers' persistent keepalives.
    PersistentKeepalive,
    /// Everything, separated by tabs.
    Dump,
}

impl Field {
    /// Each with the name that it is asked for by, in the order of wg's usage.
    pub const NAMES: [(&'static str, Field); 12] = [
        ("public-key", Field::PublicKey),
        ("private-key", Field::PrivateKey),
        ("listen-port", Field::ListenPort),
        ("fwmark", Field::Fwmark),
        ("peers", Field::Peers),
        ("preshared-keys", Field::PresharedKeys),
        ("endpoints", Field::Endpoints),
        ("allowed-ips", Field::AllowedIps),
        ("latest-handshakes", Field::LatestHandshakes),
        ("transfer", Field::Transfer),
        ("persistent-keepalive", Field::PersistentKeepalive),
        ("dump", Field::Dump),
    ];

    /// The field of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Field> {
        Self::NAMES.into_iter().find_map(|(other, field)| (other == name).then_some(field))
    }
}

/// Prints a field, each line after `prefix`, an interface's name and a tab or nothing.
#[must_use]
pub fn print(prefix: &str, get: &Get, field: Field, scope_name: ScopeName) -> SecretText {
    let mut table = Table { out: SecretText::with_capacity(256 * (1 + get.peers.len())), prefix, scope_name };
    if let Field::PublicKey | Field::PrivateKey | Field::ListenPort | Field::Fwmark | Field::Dump = field {
        table.interface(get, field);
    }
    for peer in &get.peers {
        table.peer(peer, field);
    }
    table.out
}

struct Table<'a> {
    out: SecretText,
    prefix: &'a str,
    scope_name: ScopeName,
}

impl Table<'_> {
    fn interface(&mut self, get: &Get, field: Field) {
        let public_key = get.public_key().map_or_else(none, |key| key.to_base64());
        let private_key = secret(get.private_key.as_ref());
        let fwmark = if get.fwmark == 0 { "off".to_owned() } else { format!("{:#x}", get.fwmark) };
        match field {
            Field::PublicKey => self.line(format_args!("{public_key}")),
            Field::PrivateKey => self.line(format_args!("{}", *private_key)),
            Field::ListenPort => self.line(format_args!("{}", get.listen_port)),
            Field::Fwmark => self.line(format_args!("{fwmark}")),
            _ => self.line(format_args!("{}\t{public_key}\t{}\t{fwmark}", *private_key, get.listen_port)),
        }
    }

    fn peer(&mut self, peer: &GetPeer, field: Field) {
        let key = peer.public_key;
        let handshake = peer.last_handshake.map_or(0, |(seconds, _)| seconds);
        let (rx, tx) = (peer.rx_bytes, peer.tx_bytes);
        match field {
            Field::Peers => self.line(format_args!("{key}")),
            Field::PresharedKeys => {
                self.line(format_args!("{key}\t{}", *secret(peer.preshared_key.as_ref())));
            }
            Field::Endpoints => self.line(format_args!("{key}\t{}", self.endpoint(peer))),
            Field::AllowedIps => self.line(format_args!("{key}\t{}", prefixes(&peer.allowed_ips, " "))),
            Field::LatestHandshakes => self.line(format_args!("{key}\t{handshake}")),
            Field::Transfer => self.line(format_args!("{key}\t{rx}\t{tx}")),
            Field::PersistentKeepalive => self.line(format_args!("{key}\t{}", keepalive(peer))),
            Field::Dump => self.line(format_args!(
                "{key}\t{}\t{}\t{}\t{handshake}\t{rx}\t{tx}\t{}",
                *secret(peer.preshared_key.as_ref()),
                self.endpoint(peer),
                prefixes(&peer.allowed_ips, ","),
                keepalive(peer)
            )),
            Field::PublicKey | Field::PrivateKey | Field::ListenPort | Field::Fwmark => {}
        }
    }

    fn endpoint(&self, peer: &GetPeer) -> String {
        peer.endpoint.as_ref().map_or_else(none, |addr| endpoint(addr, self.scope_name))
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        let written = writeln!(self.out, "{}{text}", self.prefix);
        debug_assert!(written.is_ok(), "memory takes all that is written to it");
    }
}

fn none() -> String {
    "(none)".to_owned()
}

fn secret(secret: Option<&Secret<32>>) -> Zeroizing<String> {
    secret.map_or_else(|| Zeroizing::new(none()), key::secret_to_base64)
}

fn prefixes(prefixes: &[Prefix], separator: &str) -> String {
    if prefixes.is_empty() {
        return none();
    }
    let prefixes: Vec<String> = prefixes.iter().map(|one| prefix(one).to_string()).collect();
    prefixes.join(separator)
}

fn keepalive(peer: &GetPeer) -> impl Display {
    fmt::from_fn(|f| match peer.persistent_keepalive {
        0 => f.write_str("off"),
        seconds => seconds.fmt(f),
    })
}
