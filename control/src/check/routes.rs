//! What is said about where packets go: the allowed IPs, their peers' endpoints, the name servers.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use super::outline::shown;
use super::source::{Allowed, Peer, Source};
use super::{Finding, Severity};
use crate::Prefix;
use crate::conf::Endpoint;
use crate::quick::Table;

pub(super) fn apply(source: &Source<'_>, findings: &mut Vec<Finding>) {
    host_bits(source, findings);
    overlaps(source, findings);
    own_addresses(source, findings);
    loops(source, findings);
    leaks(source, findings);
    name_servers(source, findings);
    nothing_routed(source, findings);
}

fn host_bits(source: &Source<'_>, findings: &mut Vec<Finding>) {
    for ip in source.allowed_ips() {
        let written = ip.text.split('/').next().and_then(|addr| addr.parse().ok());
        if written.is_some_and(|written: IpAddr| written != ip.prefix.addr()) {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "host-bits",
                place: Some(ip.place.clone()),
                message: format!("{} means {}: all of that network goes to this peer", ip.text, ip.prefix),
                why: "only the bits that are counted behind the slash matter, and the address may be any of the network",
                advice: format!(
                    "write {} for the machine, or {} for its network",
                    Prefix::host(written.unwrap_or(ip.prefix.addr())),
                    ip.prefix
                ),
            });
        }
    }
}

/// Each allowed IP with its peer.
fn owned<'s>(source: &'s Source<'s>) -> Vec<(&'s Peer<'s>, &'s Allowed)> {
    source.effective_peers().flat_map(|peer| peer.allowed_ips.iter().map(move |ip| (peer, ip))).collect()
}

/// Those of one prefix come one after the other if they are sorted, so that a thousand peers take no million steps.
fn overlaps(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let mut all = owned(source);
    all.sort_by_key(|(_, ip)| (ip.prefix, ip.place.line, ip.place.column));
    // The prefixes around the one that is looked at, each within the one before it.
    let mut around: Vec<(&Peer<'_>, &Allowed)> = Vec::new();
    for (peer, ip) in all {
        while let Some((_, outer)) = around.last()
            && !(outer.prefix.contains(ip.prefix.addr()) && outer.prefix.len() <= ip.prefix.len())
        {
            around.pop();
        }
        if let Some(&(other, outer)) = around.last() {
            let is_same_peer = other.public_key == peer.public_key;
            if outer.prefix == ip.prefix {
                findings.push(twice(ip, outer, other, peer, is_same_peer));
                around.pop();
            } else if !is_same_peer && outer.prefix.len() > 0 {
                findings.push(nested(ip, outer, other, peer));
            }
        }
        around.push((peer, ip));
    }
}

fn twice(ip: &Allowed, first: &Allowed, other: &Peer<'_>, peer: &Peer<'_>, is_same_peer: bool) -> Finding {
    let line = first.place.line;
    let (message, advice) = match is_same_peer {
        true => (
            format!("{} is listed twice for this peer, in line {line} first", ip.prefix),
            "remove one of them".to_owned(),
        ),
        false => (
            format!(
                "{} is this peer's ({:?}) and that of line {line} ({:?}): the last one, this, gets it, and the other does not",
                ip.prefix, peer.public_key, other.public_key
            ),
            "give each peer addresses of its own".to_owned(),
        ),
    };
    Finding {
        severity: Severity::Warning,
        code: "duplicate-allowed-ip",
        place: Some(ip.place.clone()),
        message,
        why: "an address belongs to one peer: packets to it go there, and packets from it are taken from nobody else",
        advice,
    }
}

fn nested(ip: &Allowed, outer: &Allowed, other: &Peer<'_>, peer: &Peer<'_>) -> Finding {
    Finding {
        severity: Severity::Note,
        code: "nested-allowed-ips",
        place: Some(ip.place.clone()),
        message: format!(
            "{} goes to this peer ({:?}), the rest of {} to that of line {} ({:?})",
            ip.prefix, peer.public_key, outer.prefix, outer.place.line, other.public_key
        ),
        why: "of prefixes within each other the longest counts, whatever their order",
        advice: "nothing, if this is meant".to_owned(),
    }
}

fn own_addresses(source: &Source<'_>, findings: &mut Vec<Finding>) {
    for ip in source.allowed_ips() {
        let own = source.config.addresses.iter().find(|own| Prefix::host(own.ip) == ip.prefix);
        if let Some(own) = own {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "own-address",
                place: Some(ip.place.clone()),
                message: format!("{} is this machine's own address, not the peer's", own.ip),
                why: "AllowedIPs are the addresses of the other side; packets from it have other sources, and are dropped",
                advice: "list the addresses that the peer has in the tunnel, and the networks behind it".to_owned(),
            });
        }
    }
}

/// The encrypted packets to a peer that go into the tunnel again. A default route leaves them out, by a mark; others do not.
fn loops(source: &Source<'_>, findings: &mut Vec<Finding>) {
    // A route of the user's own may lead to the endpoint.
    if !source.config.table.is_auto() || source.hooks().any(|(_, command)| command.contains("route")) {
        return;
    }
    let connected = source.config.addresses.iter().filter_map(|own| Prefix::new(own.ip, own.prefix_len));
    let routed: HashSet<Prefix> = source.allowed_ips().map(|ip| ip.prefix).chain(connected).collect();
    let around = |ip: IpAddr| (1..=128).map_while(move |len| Prefix::new(ip, len));
    let is_whole = |prefix: &Prefix| prefix.len() == 0 && prefix.addr().is_ipv4();
    // Wherever a name leads to, it is in one of the halves.
    let in_halves = source.is_full(false) && !routed.iter().any(is_whole);
    for peer in source.effective_peers() {
        let Some(endpoint) = &peer.endpoint else { continue };
        let found = match endpoint.address() {
            Some(address) => around(address.ip()).find(|prefix| routed.contains(prefix)),
            None => in_halves.then(|| around(Ipv4Addr::UNSPECIFIED.into()).next()).flatten(),
        };
        findings.extend(found.map(|prefix| within(peer, endpoint, prefix)));
    }
}

fn within(peer: &Peer<'_>, endpoint: &Endpoint, prefix: Prefix) -> Finding {
    let is_name = endpoint.address().is_none();
    let other_half = if is_name { " and its other half" } else { "" };
    let whole = if prefix.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    Finding {
        severity: Severity::Warning,
        code: "endpoint-in-tunnel",
        place: Some(peer.place("endpoint")),
        message: format!(
            "the endpoint {} is within {prefix}{other_half}, routed into the tunnel",
            shown(&endpoint.host)
        ),
        why: "unless there is a longer route to it, the encrypted packets are sent through the tunnel that they make, and never \
              leave",
        advice: match prefix.len() {
            1 => format!(
                "write {whole} instead of two halves: with it, wg-quick keeps the tunnel's own packets out"
            ),
            _ => "name the endpoint's public address, or allow prefixes without it".to_owned(),
        },
    }
}

fn leaks(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let (v4, v6) = (source.is_full(false), source.is_full(true));
    // Into another table, it is for others to say what goes there.
    if v4 == v6 || !source.config.table.is_auto() {
        return;
    }
    let (one, other, missing) = if v4 { ("IPv4", "IPv6", "::/0") } else { ("IPv6", "IPv4", "0.0.0.0/0") };
    let place = source.allowed_ips().find(|ip| ip.prefix.len() <= 1).map(|ip| ip.place.clone());
    findings.push(Finding {
        severity: Severity::Warning,
        code: if v4 { "ipv6-leak" } else { "ipv4-leak" },
        place,
        message: format!("all {one} traffic goes into the tunnel, {other} goes past it"),
        why: "whoever has both is seen with an own address, and sends unprotected, wherever the other side has both too",
        advice: format!(
            "add {missing}, even if the tunnel has no {other}: what cannot go through it then goes nowhere"
        ),
    });
}

fn name_servers(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let is_full = source.takes_all(false) || source.takes_all(true);
    let connected = |ip: IpAddr| {
        let mut own = source.config.addresses.iter();
        own.any(|own| Prefix::new(own.ip, own.prefix_len).is_some_and(|prefix| prefix.contains(ip)))
    };
    if is_full && source.config.dns.is_empty() {
        findings.push(Finding {
            severity: Severity::Note,
            code: "no-dns",
            place: None,
            message: "all traffic goes into the tunnel, and the name servers stay as they are".to_owned(),
            why: "one in the local network is reached past the tunnel, and whoever runs it sees every name",
            advice: "add DNS with a server that is reached through the tunnel, if that matters".to_owned(),
        });
    }
    for server in &source.config.dns {
        let Ok(ip) = server.parse::<IpAddr>() else { continue };
        if source.is_allowed(ip) || ip.is_loopback() {
            continue;
        }
        let (code, message, why) = match is_full {
            true => (
                "dns-leak",
                format!("the name server {ip} is outside of all allowed IPs: it is asked past the tunnel"),
                "everything else goes into the tunnel, but who is on the way sees every name that is looked up",
            ),
            false if is_private(ip) || connected(ip) => (
                "dns-unreachable",
                format!("the name server {ip} is outside of all allowed IPs: the tunnel does not lead to it"),
                "it replaces the system's name servers; if it is behind the tunnel, no name is found any more",
            ),
            false => continue,
        };
        findings.push(Finding {
            severity: Severity::Warning,
            code,
            place: source.place("dns"),
            message,
            why,
            advice: format!("add {} to the AllowedIPs of the peer that leads to it", Prefix::host(ip)),
        });
    }
}

fn nothing_routed(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let is_full = source.is_full(false) || source.is_full(true);
    if source.config.table == Table::Off && is_full && source.config.post_up.is_empty() {
        findings.push(Finding {
            // Where a program such as a routing daemon makes the routes, that is how it has to be.
            severity: Severity::Note,
            code: "table-off",
            place: source.place("table"),
            message: "all traffic is allowed, but with Table = off no route leads into the tunnel".to_owned(),
            why: "allowed IPs become routes only if Table is not off",
            advice: "nothing, if another program such as a routing daemon makes the routes; or else remove the line".to_owned(),
        });
    }
}

/// Of a network that is not the internet.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
