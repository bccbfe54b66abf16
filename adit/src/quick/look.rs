//! What the system looks like now.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use adit_control::quick::dns::{Manager, made_for};
use adit_control::quick::reload::Present;
use adit_control::quick::{Firewall, Remains, Rule, System};
use adit_control::{Get, Prefix};
use adit_net::netlink::{self, Config, Entry, Route, RouteLookup, if_index};

use super::record::{self, Stage};
use super::{Failed, programs, resolv_conf};
use crate::wg;

const MAIN: u32 = 254;
const LOCAL: u32 = 255;

/// As far as plans for the interface depend on it, whose device is like this.
pub(super) fn system(interface: &str, device: &Get) -> Result<System, Failed> {
    read_system(interface, device)
        .map_err(|error| Failed::because(format_args!("cannot ask the kernel: {}", wg::reason(&error))))
}

fn read_system(interface: &str, device: &Get) -> io::Result<System> {
    let mut config = Config::open()?;
    let routes = config.routes()?;
    let own = if_index(interface).ok();
    let is_own = |entry: &&Entry| own.is_some() && entry.ifindex == own && entry.table == MAIN;
    let covered = routes.iter().filter(is_own);
    let own_tables = routes.iter().filter(|entry| own.is_some() && entry.ifindex == own);
    let default = routes
        .iter()
        .find(|entry| entry.table == MAIN && entry.destination.is_ipv4() && entry.prefix_len == 0);
    let default_mtu = default.and_then(|entry| mtu(&mut config, entry.mtu, entry.ifindex));
    let addresses = own.map_or(Ok(Vec::new()), |own| config.addresses(own))?;
    Ok(System {
        rules: config.rules()?.into_iter().filter_map(rule).collect(),
        used_tables: routes.iter().map(|entry| entry.table).collect(),
        own_tables: own_tables.map(|entry| entry.table).collect(),
        endpoint_mtus: endpoint_mtus(&mut config, device, own)?,
        default_mtu,
        addresses: addresses.into_iter().map(|(ip, _)| ip).collect(),
        covered: covered.filter_map(|entry| Prefix::new(entry.destination, entry.prefix_len)).collect(),
        src_valid_mark: record::src_valid_mark() && !record::is_src_valid_mark_noted(interface),
        firewall: if programs::find("nft").is_some() { Firewall::Nft } else { Firewall::Iptables },
        dns: manager(),
    })
}

/// The interface as it is, whose device is like this.
pub(super) fn present(
    interface: &str,
    device: Get,
    config: &adit_control::quick::Config,
) -> Result<Present, Failed> {
    read_present(interface, device, config)
        .map_err(|error| Failed::because(format_args!("cannot ask the kernel: {}", wg::reason(&error))))
}

fn read_present(interface: &str, device: Get, config: &adit_control::quick::Config) -> io::Result<Present> {
    let mut system = Config::open()?;
    let own = if_index(interface)?;
    let routes = system.routes()?.into_iter();
    let routes =
        routes.filter(|entry| entry.ifindex == Some(own) && !entry.is_kernels && entry.table != LOCAL);
    let is_kernels = |ip: &IpAddr| match ip {
        IpAddr::V6(v6) => v6.is_unicast_link_local() && !config.addresses.iter().any(|own| own.ip == *ip),
        IpAddr::V4(_) => false,
    };
    Ok(Present {
        device,
        routes: routes
            .filter_map(|entry| Some((Prefix::new(entry.destination, entry.prefix_len)?, entry.table)))
            .collect(),
        addresses: system.addresses(own)?.into_iter().filter(|(ip, _)| !is_kernels(ip)).collect(),
        mtu: system.mtu(own)?,
        dns: name_servers(interface),
        is_half_reloaded: record::stage(interface) == Stage::Reloading,
    })
}

/// A rule for one mark, or for nothing, is of no tunnel, nor is one that suppresses more than default routes.
fn rule(rule: netlink::Rule) -> Option<Rule> {
    let is_of_a_kind = rule.invert == rule.fwmark.is_some() && rule.suppress_prefix_len.unwrap_or(0) == 0;
    is_of_a_kind.then_some(Rule {
        v6: rule.v6,
        priority: rule.priority,
        not_fwmark: rule.fwmark,
        table: rule.table,
        suppress_default: rule.suppress_prefix_len.is_some(),
    })
}

/// Whether this network namespace has an interface of this name, and of a kind that a WireGuard device can be.
pub(super) fn is_tunnel(interface: &str) -> bool {
    let kind = || Config::open()?.kind(if_index(interface)?);
    matches!(kind().ok().flatten().as_deref(), Some("tun" | "wireguard"))
}

/// Of the ways under the interface `own`: where that takes all traffic, only packets with the device's mark get past it.
fn endpoint_mtus(config: &mut Config, device: &Get, own: Option<u32>) -> io::Result<Vec<u32>> {
    let mut lookup = RouteLookup::open()?;
    let is_past = |route: &Route| Some(route.ifindex) != own;
    let mut mtus = Vec::new();
    for endpoint in device.peers.iter().filter_map(|peer| peer.endpoint) {
        // An address of one link is not found without saying which.
        if matches!(endpoint, SocketAddr::V6(endpoint) if endpoint.scope_id() != 0) {
            continue;
        }
        // A family that the kernel does not have has no routes.
        let mut way = |mark| lookup.route(endpoint.ip(), None, mark).ok().flatten().filter(is_past);
        let route = way(0).or_else(|| way(device.fwmark));
        mtus.extend(route.and_then(|route| mtu(config, route.mtu, Some(route.ifindex))));
    }
    Ok(mtus)
}

/// That of the route, or of its interface.
fn mtu(config: &mut Config, route: Option<u32>, ifindex: Option<u32>) -> Option<u32> {
    route.or_else(|| config.mtu(ifindex?).ok())
}

fn manager() -> Manager {
    if let Some(program) = programs::find("resolvconf") {
        // What other programs are called resolvconf by a link know nothing of its files.
        let is_link = fs::symlink_metadata(&program).is_ok_and(|metadata| metadata.is_symlink());
        let order = if is_link { None } else { fs::read_to_string("/etc/resolvconf/interface-order").ok() };
        return Manager::Resolvconf(order.as_deref().and_then(first_prefix).unwrap_or_default());
    }
    let is_resolved_up = fs::exists("/run/systemd/resolve/io.systemd.Resolve").unwrap_or(false);
    if is_resolved_up && programs::find("resolvectl").is_some() { Manager::Resolvectl } else { Manager::File }
}

/// The first kind of interface that `resolvconf` prefers, as what stands before a name of such a one.
fn first_prefix(order: &str) -> Option<String> {
    order.lines().find_map(|line| {
        let kind = line.trim().strip_suffix('*').filter(|kind| !kind.is_empty())?;
        let is_word = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_word.then(|| format!("{kind}."))
    })
}

/// What bringing the interface up has left in the system. `is_up`: whether it is still there.
pub(super) fn remains(interface: &str, is_up: bool) -> Remains {
    let saved = |program: &str| programs::output(program, &[]).unwrap_or_default();
    let record = record::read(interface).unwrap_or_default();
    Remains {
        link: is_up,
        table: record.table,
        src_valid_mark: record.src_valid_mark,
        resolv_conf: resolv_conf::is_replaced_for(interface) && !record::is_up_elsewhere(interface),
        nft: programs::output("nft", &["list", "tables"]).unwrap_or_default(),
        iptables: ["iptables-save", "ip6tables-save"].map(saved),
    }
}

/// Whether an interface that is gone was brought up by this program and never taken down.
pub(super) fn is_noted(interface: &str) -> bool {
    // What is kept may be for an interface of this name in another network namespace.
    record::read(interface).is_some()
        || resolv_conf::is_kept_for(interface) && !record::is_up_elsewhere(interface)
}

/// Whether it was by any program.
pub(super) fn is_left(interface: &str, remains: &Remains) -> bool {
    let table = format!(" wg-quick-{interface}");
    let comment = format!("\"wg-quick(8) rule for {interface}\"");
    is_noted(interface)
        || remains.nft.lines().any(|line| line.ends_with(&table))
        || remains.iptables.iter().any(|saved| saved.contains(&comment))
}

/// The name servers that an interface was given, as far as somebody knows.
pub(super) fn name_servers(interface: &str) -> Option<Vec<String>> {
    let content = match manager() {
        Manager::Resolvconf(prefix) => {
            let entry = format!("{prefix}{interface}");
            programs::output("resolvconf", &["-l", &entry])
                .or_else(|| fs::read_to_string(format!("/etc/resolvconf/run/interface/{entry}")).ok())?
        }
        Manager::File => fs::read_to_string("/etc/resolv.conf")
            .ok()
            .filter(|content| made_for(content) == Some(interface))?,
        Manager::Resolvectl => return None,
    };
    servers_in(&content)
}

/// A manager that says nothing knows nothing.
fn servers_in(content: &str) -> Option<Vec<String>> {
    let servers = content.lines().filter_map(|line| line.strip_prefix("nameserver "));
    let servers: Vec<String> = servers.map(|server| server.trim().to_owned()).collect();
    (!servers.is_empty()).then_some(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_says_nothing() {
        assert_eq!(servers_in("# x\nnameserver ::1 \n"), Some(vec!["::1".to_owned()]));
        assert_eq!(servers_in(""), None);
    }

    #[test]
    fn the_first_kind_of_interface() {
        assert_eq!(first_prefix("# x\nlo.inet6\ntun*\ntap*\n").as_deref(), Some("tun."));
        assert_eq!(first_prefix("lo.*[0-9]\n*\n"), None);
    }
}
