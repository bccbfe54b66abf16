//! Plans: from a configuration, a device and a system to steps.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::config::{Config, Table};
use super::step::{Route, Rule, Step};
use super::system::{Remains, System};
use super::{dns, firewall};
use crate::{AllowedIpChange, Get, GetPeer, Prefix, Set};

/// The first routing table to be tried for a default route, and the mark that goes with it.
const FIRST_TABLE: u32 = 51820;
/// What the tunnel adds to a packet at most: IPv6 header, UDP header, and the data message around it.
const OVERHEAD: u32 = 80;
/// When nothing says what an MTU is.
const ETHERNET_MTU: u32 = 1500;

/// The user's commands, for this interface.
fn hooks(interface: &str, commands: &[String]) -> impl Iterator<Item = Step> {
    commands.iter().map(move |command| Step::Hook(command.replace("%i", interface)))
}

/// Brings an interface up to the point where it is configured. `engine` is the program that serves it; without one the
/// kernel does.
#[must_use]
pub fn begin(interface: &str, config: &Config, engine: Option<&str>) -> Vec<Step> {
    let make = |program: &str| Step::StartEngine(program.to_owned());
    let mut steps = vec![engine.map_or(Step::AddLink, make)];
    steps.extend(hooks(interface, &config.pre_up));
    steps.push(Step::Configure);
    steps
}

/// What a fresh device will be like that was given `set`.
#[must_use]
pub fn predicted(set: &Set) -> Get {
    let peers = set.peers.iter().map(|peer| GetPeer {
        endpoint: peer.endpoint,
        allowed_ips: peer.allowed_ips.iter().filter_map(added).collect(),
        ..GetPeer::new(peer.public_key)
    });
    Get { fwmark: set.fwmark.unwrap_or(0), peers: peers.collect(), ..Get::default() }
}

fn added(change: &AllowedIpChange) -> Option<Prefix> {
    match change {
        AllowedIpChange::Add(prefix) => Some(*prefix),
        AllowedIpChange::Remove(_) => None,
    }
}

/// Brings a configured interface all the way up.
#[must_use]
pub fn finish(interface: &str, config: &Config, device: &Get, system: &System) -> Vec<Step> {
    let mut steps: Vec<Step> = config.addresses.iter().cloned().map(Step::AddAddress).collect();
    steps.push(Step::SetUp(config.mtu.unwrap_or_else(|| mtu(system))));
    steps.extend(dns::set(interface, config, &system.dns));
    steps.extend(routes(interface, config, device, system));
    steps.extend(hooks(interface, &config.post_up));
    steps
}

pub(super) fn mtu(system: &System) -> u32 {
    let outer = system.endpoint_mtus.iter().copied().min().or(system.default_mtu);
    outer.filter(|mtu| *mtu > 0).unwrap_or(ETHERNET_MTU).saturating_sub(OVERHEAD)
}

/// A route for each allowed IP, the longest prefixes first.
pub(super) fn routes(interface: &str, config: &Config, device: &Get, system: &System) -> Vec<Step> {
    let mut prefixes: Vec<Prefix> = device.peers.iter().flat_map(|peer| peer.allowed_ips.clone()).collect();
    prefixes.sort_by_cached_key(|prefix| Reverse((prefix.len(), prefix.to_string())));
    prefixes.dedup();
    let own = OwnTable { interface, device, system, addresses: addresses(config, system) };
    let covered: Vec<Prefix> = system.covered.iter().copied().chain(connected(config)).collect();
    let mut steps = Vec::new();
    for prefix in prefixes {
        match &config.table {
            Table::Off => {}
            Table::Named { name, number } => {
                steps.push(Step::AddRoute(Route { prefix, table: Some((name.clone(), *number)) }));
            }
            _ if prefix.len() == 0 => own.default_route(prefix, &mut steps),
            _ if covered.iter().any(|route| is_within(prefix, *route)) => {}
            _ => steps.push(Step::AddRoute(Route { prefix, table: None })),
        }
    }
    steps
}

fn addresses(config: &Config, system: &System) -> Vec<IpAddr> {
    let mut addresses = system.addresses.clone();
    for address in &config.addresses {
        if !addresses.contains(&address.ip) {
            addresses.push(address.ip);
        }
    }
    addresses
}

/// The networks that the kernel routes to the interface by itself, in the main table.
fn connected(config: &Config) -> impl Iterator<Item = Prefix> {
    let networks = config.addresses.iter().filter_map(|address| Prefix::new(address.ip, address.prefix_len));
    networks.filter(|network| match network.addr() {
        // It routes neither a single address nor 0.0.0.0/8, where every /0 begins.
        IpAddr::V4(addr) => network.len() < 32 && addr.octets()[0] != 0,
        IpAddr::V6(_) => true,
    })
}

fn is_within(inner: Prefix, outer: Prefix) -> bool {
    outer.len() <= inner.len() && outer.contains(inner.addr())
}

/// Default routes go into a table of their own, for all packets but the tunnel's.
struct OwnTable<'a> {
    interface: &'a str,
    device: &'a Get,
    system: &'a System,
    addresses: Vec<IpAddr>,
}

impl OwnTable<'_> {
    fn default_route(&self, prefix: Prefix, steps: &mut Vec<Step>) {
        let table = match self.device.fwmark {
            0 => (FIRST_TABLE..).find(|table| self.is_free(*table)).unwrap_or(FIRST_TABLE),
            mark => mark,
        };
        let mark = Step::SetFwmark(table);
        if self.device.fwmark == 0 && !steps.contains(&mark) {
            steps.push(mark);
        }
        let v6 = prefix.addr().is_ipv6();
        steps.push(Step::AddRule(Rule::tunnel(v6, table)));
        steps.push(Step::AddRule(Rule::main(v6)));
        steps.push(Step::AddRoute(Route { prefix, table: Some((table.to_string(), table)) }));
        if !v6 && !self.system.src_valid_mark {
            steps.push(Step::SetSrcValidMark);
        }
        let System { firewall, .. } = *self.system;
        steps.push(firewall::raise(firewall, self.interface, v6, table, &self.addresses));
    }

    /// Rules that a dead daemon has left to an empty table are still to be told from those of another tunnel.
    fn is_free(&self, table: u32) -> bool {
        let has_rules = self.system.rules.iter().any(|rule| rule.is_tunnel() && rule.table == table);
        !has_rules && !self.system.used_tables.contains(&table)
    }
}

/// Takes an interface down as far as the user's commands may change what is to be removed: [`remove`] follows, and
/// [`end_down`].
#[must_use]
pub fn begin_down(interface: &str, config: &Config, is_up: bool) -> Vec<Step> {
    let mut steps: Vec<Step> = hooks(interface, &config.pre_down).collect();
    if config.save && is_up {
        steps.push(Step::Save);
    }
    steps
}

/// The user's commands for when all is undone.
#[must_use]
pub fn end_down(interface: &str, config: &Config) -> Vec<Step> {
    hooks(interface, &config.post_down).collect()
}

/// Removes the interface and all that belongs to it. `device` is what is known of it; nothing if it is gone, and only its
/// remains are left.
#[must_use]
pub fn remove(
    interface: &str,
    config: &Config,
    device: Option<&Get>,
    system: &System,
    remains: &Remains,
) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    if config.table.is_auto() {
        steps.extend(rules(device, system, remains.table).into_iter().map(Step::DeleteRule));
    }
    steps.extend(remains.link.then_some(Step::DeleteLink));
    steps.extend(dns::unset(interface, config, &system.dns, remains.resolv_conf));
    steps.extend(firewall::nft_removal(interface, &remains.nft));
    for (v6, saved) in [false, true].into_iter().zip(&remains.iptables) {
        steps.extend(firewall::iptables_removal(interface, v6, saved));
    }
    steps.extend(remains.src_valid_mark.then_some(Step::UnsetSrcValidMark));
    steps
}

/// The rules that belong to the device, or, if it is gone, to the table that was noted for it.
fn rules(device: Option<&Get>, system: &System, noted: Option<u32>) -> Vec<Rule> {
    let belongs = |table: u32| match device {
        // Its mark and its allowed IPs may have changed since.
        Some(_) if system.own_tables.contains(&table) => true,
        Some(device) => table == device.fwmark && has_default_route(device),
        // Its routes have gone with it; those of a tunnel with the same mark have not.
        None => noted == Some(table) && !system.used_tables.contains(&table),
    };
    let ours = |rule: &Rule| rule.is_tunnel() && belongs(rule.table);
    let mut gone = Vec::new();
    for v6 in [false, true] {
        let rules: Vec<Rule> = system.rules.iter().filter(|rule| rule.v6 == v6).copied().collect();
        let tunnels: Vec<Rule> = rules.iter().filter(|rule| ours(rule)).copied().collect();
        if tunnels.is_empty() {
            continue;
        }
        let others_are_up = rules.iter().any(|rule| rule.is_tunnel() && !ours(rule));
        let mains: Vec<Rule> = match (others_are_up, device) {
            (false, _) => rules.iter().filter(|rule| rule.is_main()).copied().collect(),
            (true, Some(_)) => tunnels.iter().filter_map(|tunnel| in_front_of(tunnel, &rules)).collect(),
            // One more does the others no harm, one less would.
            (true, None) => Vec::new(),
        };
        // Those of the tunnel are what shows, if this is cut short, that there is something left to do.
        gone.extend(mains.into_iter().chain(tunnels));
    }
    gone
}

/// Each tunnel's main rule was put right in front of its own; behind another tunnel's rule it is that tunnel's.
fn in_front_of(tunnel: &Rule, rules: &[Rule]) -> Option<Rule> {
    let before = rules.iter().filter(|rule| rule.priority < tunnel.priority);
    let nearest =
        before.filter(|rule| rule.is_main() || rule.is_tunnel()).max_by_key(|rule| rule.priority)?;
    nearest.is_main().then_some(*nearest)
}

fn has_default_route(device: &Get) -> bool {
    device.peers.iter().flat_map(|peer| &peer.allowed_ips).any(|prefix| prefix.len() == 0)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
