//! What is said about keys, the interface, its peers and who can begin.

use std::collections::HashMap;
use std::net::IpAddr;

use super::outline::shown;
use super::source::{Peer, Source, words};
use super::{Finding, Severity};
use crate::conf::Place;
use crate::conf::line::is_space;
use crate::{Prefix, PublicKey};

/// The least MTU that IPv6 works with (RFC 8200, section 5).
const IPV6_MTU: u32 = 1280;
/// What fits through Ethernet with IPv4 outside.
const ETHERNET_MTU: u32 = 1440;

pub(super) fn apply(source: &Source<'_>, findings: &mut Vec<Finding>) {
    repeated(source, findings);
    own_key(source, findings);
    peers(source, findings);
    addresses(source, findings);
    mtu(source, findings);
    beginning(source, findings);
    saving(source, findings);
}

fn warning(
    code: &'static str,
    place: Option<Place>,
    message: impl Into<String>,
    why: &'static str,
    advice: impl Into<String>,
) -> Finding {
    let (message, advice) = (message.into(), advice.into());
    Finding { severity: Severity::Warning, code, place, message, why, advice }
}

fn note(
    code: &'static str,
    place: Option<Place>,
    message: impl Into<String>,
    why: &'static str,
    advice: impl Into<String>,
) -> Finding {
    Finding { severity: Severity::Note, ..warning(code, place, message, why, advice) }
}

/// The keys that have one value.
const ONCE: [&str; 10] = [
    "PrivateKey",
    "ListenPort",
    "FwMark",
    "MTU",
    "Table",
    "SaveConfig",
    "PublicKey",
    "PresharedKey",
    "Endpoint",
    "PersistentKeepalive",
];

fn repeated(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let sections = source.peers.iter().map(|peer| &peer.entries).chain([&source.interface]);
    for entries in sections {
        for (index, entry) in entries.iter().enumerate() {
            let Some(name) = ONCE.iter().find(|name| name.eq_ignore_ascii_case(&entry.key)) else { continue };
            let Some(first) = entries[..index].iter().find(|first| first.key == entry.key) else { continue };
            let advice = match *name {
                "PublicKey" => "put [Peer] in front of each peer; or remove one of the lines",
                _ => "remove one of the lines",
            };
            findings.push(warning(
                "repeated-key",
                Some(entry.place()),
                format!("{name} is there twice, in line {} first: the last one counts", first.place().line),
                "one section has one value, and the other line is without effect",
                advice,
            ));
        }
    }
}

fn own_key(source: &Source<'_>, findings: &mut Vec<Finding>) {
    if source.private_key.is_some() || source.hooks().any(|(_, command)| command.contains("private-key")) {
        return;
    }
    let place = source.place("privatekey");
    let message = match place {
        Some(_) => "this private key is all zeros, which means none",
        None => "there is no PrivateKey",
    };
    findings.push(warning(
        "no-private-key",
        place,
        message,
        "without one there are no handshakes, and nothing gets through",
        "add PrivateKey with what `adit genkey` prints, and tell the peers what `adit pubkey` makes of it",
    ));
}

fn peers(source: &Source<'_>, findings: &mut Vec<Finding>) {
    if source.peers.is_empty() {
        let advice = "add a [Peer] with its PublicKey and AllowedIPs";
        findings.push(note("no-peers", None, "there is no peer", "nobody can be talked to", advice));
    }
    let own = source.public_key();
    let mut firsts: HashMap<PublicKey, usize> = HashMap::new();
    for peer in &source.peers {
        keys(peer, source, own, findings);
        let first = *firsts.entry(peer.public_key).or_insert(peer.place.line);
        if first != peer.place.line {
            findings.push(warning(
                "peer-twice",
                Some(peer.place("publickey")),
                format!("the peer of line {first} has the same public key"),
                "both sections are about one peer, and the allowed IPs of the last replace the others",
                "put all that is about a peer into one section, or give the other machine a key of its own",
            ));
        }
        if peer.is_superseded {
            continue;
        }
        if peer.allowed_ips.is_empty() {
            findings.push(warning(
                "no-allowed-ips",
                Some(peer.place.clone()),
                "this peer has no AllowedIPs",
                "nothing is sent to it, and nothing is taken from it",
                "add AllowedIPs with the addresses that it has in the tunnel",
            ));
        }
        endpoint(peer, source, findings);
    }
}

fn keys(peer: &Peer<'_>, source: &Source<'_>, own: Option<PublicKey>, findings: &mut Vec<Finding>) {
    if own == Some(peer.public_key) {
        findings.push(warning(
            "own-key",
            Some(peer.place("publickey")),
            "this is the public key of this machine",
            "a section about oneself is ignored",
            "put the peer's public key there: what `adit pubkey` makes of its private key, on its machine",
        ));
    }
    if peer.public_key.as_bytes() == &[0; 32] {
        findings.push(warning(
            "zero-key",
            Some(peer.place("publickey")),
            "this public key is all zeros",
            "nobody has a private key to it",
            "put the peer's public key there",
        ));
    }
    if source.private_key.is_some() && peer.preshared_key == source.private_key {
        findings.push(warning(
            "preshared-private-key",
            Some(peer.place("presharedkey")),
            "the preshared key is this machine's private key",
            "the peer knows the preshared key, and with it could be this machine to everybody",
            "make a new private key, and a preshared key with `adit genpsk`",
        ));
    }
}

fn endpoint(peer: &Peer<'_>, source: &Source<'_>, findings: &mut Vec<Finding>) {
    let Some(endpoint) = &peer.endpoint else { return };
    let place = || Some(peer.place("endpoint"));
    let ip: Option<IpAddr> = endpoint.host.parse().ok();
    let is_nowhere = ip.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast());
    if is_nowhere || endpoint.port.parse() == Ok(0) {
        findings.push(warning(
            "no-such-endpoint",
            place(),
            format!("there can be no peer at {}", shown(&endpoint.text)),
            "packets to it go nowhere",
            "put the address and the ListenPort there that the peer has",
        ));
    }
    if ip.is_none() {
        findings.push(note(
            "endpoint-name",
            place(),
            format!("{} is looked up when the interface comes up", shown(&endpoint.host)),
            "if no name server can be reached by then, it does not come up",
            "nothing; or write an address that stays the same",
        ));
    }
    // In the same network nothing is in between.
    let is_near = ip.is_some_and(|ip| super::routes::is_private(ip) || ip.is_loopback());
    if peer.keepalive == 0 && source.listen_port.is_none() && !is_near {
        let finding = warning(
            "no-keepalive",
            place(),
            "this machine calls the peer, and has no PersistentKeepalive for it",
            "behind NAT or a firewall, the way back is forgotten after a minute or so without traffic, and the peer cannot \
             begin any more",
            "add PersistentKeepalive = 25 to this peer; or ListenPort, if this machine can be reached from outside",
        );
        // Who sends everything to a provider mostly wants nothing to begin there.
        let is_client = source.takes_all(false) || source.takes_all(true);
        findings.push(if is_client { Finding { severity: Severity::Note, ..finding } } else { finding });
    }
}

fn addresses(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let addresses = &source.config.addresses;
    if addresses.is_empty() && !source.hooks().any(|(_, command)| command.contains("addr")) {
        findings.push(warning(
            "no-address",
            None,
            "the interface has no Address",
            "what this machine sends through the tunnel has a source that the peers do not expect",
            "add Address with what the peers have in their AllowedIPs for this machine",
        ));
    }
    for (index, address) in addresses.iter().enumerate() {
        let place = || {
            let lines = source.interface.iter().filter(|entry| entry.key == "address");
            let mut lines = lines.filter(|entry| words(entry.value()).any(|word| word == address.text));
            lines.next_back().or(source.entry("address")).map(super::source::Entry::place)
        };
        if addresses[..index]
            .iter()
            .any(|other| (other.ip, other.prefix_len) == (address.ip, address.prefix_len))
        {
            findings.push(Finding {
                severity: Severity::Error,
                ..warning(
                    "address-twice",
                    place(),
                    format!("the Address {} is there twice", address.text),
                    "the system refuses to add it again",
                    "remove one of them",
                )
            });
        }
        if let Some(kind) = reserved(address.ip, address.prefix_len) {
            findings.push(warning(
                "reserved-address",
                place(),
                format!("{} is the {kind} address of its network", address.ip),
                "it is no machine's, and what comes from it is dropped by many",
                "take another address of the network",
            ));
        }
    }
}

/// What the first and the last address of an IPv4 network are.
fn reserved(ip: IpAddr, prefix_len: u8) -> Option<&'static str> {
    let IpAddr::V4(ip) = ip else { return None };
    let host = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
    match ip.to_bits() & host {
        _ if prefix_len >= 31 => None,
        0 => Some("network"),
        bits if bits == host => Some("broadcast"),
        _ => None,
    }
}

fn mtu(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let Some(mtu) = source.config.mtu else { return };
    let has_ipv6 = source.config.addresses.iter().any(|address| address.ip.is_ipv6())
        || source.allowed_ips().any(|ip| ip.prefix.addr().is_ipv6());
    if has_ipv6 && mtu < IPV6_MTU {
        findings.push(warning(
            "small-mtu",
            source.place("mtu"),
            format!("an MTU of {mtu} is too small for IPv6, which needs {IPV6_MTU}"),
            "the system turns IPv6 off on an interface like this, and its addresses are refused",
            format!(
                "raise it to {IPV6_MTU} at least, or remove the line: it is then worked out from the routes"
            ),
        ));
    }
    if mtu > ETHERNET_MTU {
        findings.push(note(
            "large-mtu",
            source.place("mtu"),
            format!("an MTU of {mtu} is more than what fits through Ethernet, {ETHERNET_MTU} at most"),
            "outer packets that are too large are fragmented, or lost",
            "remove the line, unless the whole way to the peers has larger frames",
        ));
    }
}

fn beginning(source: &Source<'_>, findings: &mut Vec<Finding>) {
    if source.listen_port.is_some() {
        return;
    }
    let mut waiting = source.effective_peers().filter(|peer| peer.endpoint.is_none());
    let Some(first) = waiting.next() else { return };
    let nobody = source.effective_peers().all(|peer| peer.endpoint.is_none());
    let message = match nobody {
        true => "there is neither a ListenPort nor any Endpoint: nobody can begin",
        false => "this peer has no Endpoint, and without ListenPort it cannot find this machine either",
    };
    findings.push(warning(
        "nobody-begins",
        Some(first.place.clone()),
        message,
        "one side has to know where the other is; without ListenPort, the port is another one each time",
        "add an Endpoint to the peer, or ListenPort = 51820 to [Interface] and this machine's address to the peer",
    ));
}

fn saving(source: &Source<'_>, findings: &mut Vec<Finding>) {
    if source.config.save {
        findings.push(note(
            "save-config",
            source.place("saveconfig"),
            "the file is written anew whenever the interface goes down",
            "what is edited meanwhile is lost, and comments are always",
            "edit the file while the interface is down",
        ));
    }
    let own = source.config.addresses.iter().filter_map(|own| Prefix::new(own.ip, own.prefix_len));
    if own.clone().any(|prefix| prefix.len() == 0) {
        findings.push(warning(
            "address-everywhere",
            source.place("address"),
            "an Address with /0 says that every machine is on this link",
            "everything would be sent into the tunnel, its own packets included",
            "write the length of the tunnel's own network, such as /24",
        ));
    }
}

/// The key that was probably meant.
pub(super) fn likely_key(line: &str) -> Option<&'static str> {
    const OTHERS: [&str; 9] =
        ["Address", "DNS", "AllowedIPs", "PreUp", "PostUp", "PreDown", "PostDown", "[Interface]", "[Peer]"];
    let key = line.split(['=', '#']).next()?.replace(is_space, "").to_ascii_lowercase();
    let known = ONCE.iter().chain(&OTHERS).map(|name| (distance(&key, &name.to_ascii_lowercase()), *name));
    let (distance, name) = known.min()?;
    (1..=2).contains(&distance).then_some(name).filter(|name| name.len() > 4)
}

/// How many characters have to be put in, taken out or replaced to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, char) in one.chars().take(32).enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, another) in other.iter().enumerate() {
            let replaced = before + usize::from(char != *another);
            before = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[other.len()]
}
