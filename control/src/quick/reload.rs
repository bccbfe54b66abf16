//! A plan for an interface that is up and whose file has changed: the least that makes it what bringing it down and up again
//! would make of it. Peers that stay keep their sessions.
//!
//! What is compared is the file with the system, not with what the file once said, which nobody has noted. So what the
//! user's commands have added stays: routes go only if they lead to what was an allowed IP, and keys only if others are
//! given.

use std::net::IpAddr;

use super::config::{Address, Config};
use super::dns;
use super::firewall::{self, Firewall};
use super::plan;
use super::step::{MAIN, Route, Step};
use super::system::System;
use crate::{Get, Prefix};

/// A step, and what takes it back. (When the interface is brought up, most goes with the interface.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reversible {
    /// To be done.
    pub step: Step,
    /// To be done if a later one fails.
    pub undo: Vec<Step>,
}

/// The interface as it is.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// What the device says.
    pub device: Get,
    /// Its addresses with their prefix lengths, but those that the kernel gave it.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The routes to it, each with its table, but those that the kernel made.
    pub routes: Vec<(Prefix, u32)>,
    /// In bytes.
    pub mtu: u32,
    /// The name servers that it was given, as far as somebody knows.
    pub dns: Option<Vec<String>>,
    /// A reload was cut short, and the system may be half as the file says.
    pub is_half_reloaded: bool,
}

/// What only bringing the interface down and up can change.
pub type NotLive = &'static str;

/// The mark that the device is to have: what the file says, else what it was given with its table for default routes, or
/// perhaps by a command of the user's, whose rules depend on it.
#[must_use]
pub fn mark(config: &Config, file: Option<u32>, present: &Present, system: &System) -> u32 {
    let has_commands = !config.pre_up.is_empty() || !config.post_up.is_empty();
    let is_for_all = config.table.is_auto() && [false, true].iter().any(|v6| has_rules(*v6, system));
    let stays = is_for_all || has_commands;
    file.unwrap_or(if stays { present.device.fwmark } else { 0 })
}

/// The plan. `wanted` is what the device will be like.
///
/// # Errors
/// What cannot be changed while the interface is up.
pub fn plan(
    interface: &str,
    config: &Config,
    wanted: &Get,
    present: &Present,
    system: &System,
) -> Result<Vec<Reversible>, NotLive> {
    for v6 in [false, true] {
        check_family(v6, config, wanted, present, system)?;
    }
    let mut steps = addresses(config, present);
    let moves = !steps.is_empty() || present.is_half_reloaded;
    let mtu = config.mtu.unwrap_or_else(|| plan::mtu(system));
    if mtu != present.mtu {
        steps.push(Reversible { step: Step::SetUp(mtu), undo: vec![Step::SetUp(present.mtu)] });
    }
    steps.extend(routes(interface, config, wanted, present, system));
    if moves {
        for v6 in [false, true] {
            if has_rules(v6, system) {
                steps.push(firewall(interface, v6, config, present, system)?);
            }
        }
    }
    steps.extend(name_servers(interface, config, present, system));
    // Last: nothing has to take this back.
    steps.push(Reversible { step: Step::Synchronize, undo: Vec::new() });
    Ok(steps)
}

/// Whether all traffic of a family goes through the tunnel now.
fn has_rules(v6: bool, system: &System) -> bool {
    system
        .rules
        .iter()
        .any(|rule| rule.v6 == v6 && rule.is_tunnel() && system.own_tables.contains(&rule.table))
}

fn check_family(
    v6: bool,
    config: &Config,
    wanted: &Get,
    present: &Present,
    system: &System,
) -> Result<(), NotLive> {
    let all = |prefix: &Prefix| prefix.len() == 0 && prefix.addr().is_ipv6() == v6;
    let takes_all = wanted.peers.iter().flat_map(|peer| &peer.allowed_ips).any(all) && config.table.is_auto();
    match (has_rules(v6, system), takes_all) {
        (false, true) => Err("it is to take all traffic from now on, and has not so far"),
        (true, false) => Err("it is to take all traffic no more"),
        (true, true) if wanted.fwmark != present.device.fwmark => {
            Err("FwMark is another, and all traffic depends on it")
        }
        _ => Ok(()),
    }
}

/// Changes the addresses. Three things of the kernel's are in the way: with the first IPv4 address of a network go the others
/// of it, and with the last of all go the routes. So addresses that share a network with one that goes stand alone meanwhile.
/// And an IPv6 address is there once, whatever its network's length, so that it has to go before it comes again.
fn addresses(config: &Config, present: &Present) -> Vec<Reversible> {
    let wanted = |at: &Place| config.addresses.iter().any(|own| (own.ip, own.prefix_len) == *at);
    let gone: Vec<Place> = present.addresses.iter().copied().filter(|at| !wanted(at)).collect();
    let shares = |(ip, len): Place| {
        let network = |ip| (len, Prefix::new(ip, len));
        ip.is_ipv4() && gone.iter().any(|(other, of)| *of == len && network(*other) == network(ip))
    };
    let places = config.addresses.iter().map(|address| (address.ip, address.prefix_len));
    let (meanwhile, come): (Vec<Place>, Vec<Place>) =
        places.filter(|at| !present.addresses.contains(at) || shares(*at)).partition(|at| shares(*at));
    let is_in_the_way =
        |(ip, _): &Place| ip.is_ipv6() && config.addresses.iter().any(|address| address.ip == *ip);
    let alone = |(ip, _): &Place| (*ip, 32);
    // One that stands alone anyway has nobody to go along with.
    let meanwhile: Vec<Place> = meanwhile.into_iter().filter(|at| alone(at) != *at).collect();
    // It does already where an earlier reload was cut short.
    let stands_alone = |at: &Place| present.addresses.contains(&alone(at));
    let (goes_first, goes): (Vec<Place>, Vec<Place>) = present
        .addresses
        .iter()
        .copied()
        .filter(|at| !wanted(at) || shares(*at))
        .filter(|at| !meanwhile.iter().any(|other| alone(other) == *at))
        .partition(|at| is_in_the_way(at));
    let mut steps: Vec<Reversible> = Vec::new();
    steps.extend(goes_first.into_iter().map(delete));
    steps.extend(come.iter().map(|at| add(*at)));
    steps.extend(meanwhile.iter().filter(|at| !stands_alone(at)).map(|at| add(alone(at))));
    // The first of a network last: taken back, it is the first again.
    steps.extend(goes.into_iter().rev().map(delete));
    steps.extend(meanwhile.iter().map(|at| add(*at)));
    steps.extend(meanwhile.iter().map(|at| delete(alone(at))));
    if loses_ipv4(config, present)
        && let Some(last) = steps
            .iter_mut()
            .rev()
            .find(|step| matches!(&step.step, Step::DeleteAddress(address) if address.ip.is_ipv4()))
    {
        let lost = present.routes.iter().filter(|(prefix, _)| prefix.addr().is_ipv4());
        last.undo.extend(lost.map(|(prefix, number)| Step::AddRoute(route_at(*prefix, *number))));
    }
    steps
}

/// An address, and how many of its bits the interface's network shares.
type Place = (IpAddr, u8);

fn address_at((ip, prefix_len): Place) -> Address {
    Address { text: format!("{ip}/{prefix_len}"), ip, prefix_len }
}

fn add(at: Place) -> Reversible {
    Reversible { step: Step::AddAddress(address_at(at)), undo: vec![Step::DeleteAddress(address_at(at))] }
}

fn delete(at: Place) -> Reversible {
    Reversible { step: Step::DeleteAddress(address_at(at)), undo: vec![Step::AddAddress(address_at(at))] }
}

/// Whether the interface has IPv4 addresses, and will have none: the kernel takes its routes away then.
fn loses_ipv4(config: &Config, present: &Present) -> bool {
    let stays = config.addresses.iter().any(|address| address.ip.is_ipv4());
    !stays && present.addresses.iter().any(|(ip, _)| ip.is_ipv4())
}

fn route_at(prefix: Prefix, number: u32) -> Route {
    Route { prefix, table: (number != MAIN).then(|| (number.to_string(), number)) }
}

/// First those that come, so that no packet leaves the tunnel for a shorter prefix meanwhile.
fn routes(
    interface: &str,
    config: &Config,
    wanted: &Get,
    present: &Present,
    system: &System,
) -> Vec<Reversible> {
    // As they would be made for a fresh interface.
    let fresh = System { covered: Vec::new(), addresses: Vec::new(), ..system.clone() };
    let made = plan::routes(interface, config, wanted, &fresh);
    let made: Vec<Route> = made
        .into_iter()
        .filter_map(|step| match step {
            Step::AddRoute(route) => Some(route),
            _ => None,
        })
        .collect();
    let place = |route: &Route| (route.prefix, route.table.as_ref().map_or(MAIN, |(_, number)| *number));
    let is_lost = |prefix: &Prefix| prefix.addr().is_ipv4() && loses_ipv4(config, present);
    let left: Vec<(Prefix, u32)> =
        present.routes.iter().copied().filter(|(prefix, _)| !is_lost(prefix)).collect();
    let come = made.iter().filter(|route| !left.contains(&place(route))).cloned();
    let mut steps: Vec<Reversible> = come
        .map(|route| Reversible { step: Step::AddRoute(route.clone()), undo: vec![Step::DeleteRoute(route)] })
        .collect();
    let was_allowed =
        |prefix: &Prefix| present.device.peers.iter().any(|peer| peer.allowed_ips.contains(prefix));
    for (prefix, number) in left {
        if was_allowed(&prefix) && !made.iter().any(|route| place(route) == (prefix, number)) {
            let route = route_at(prefix, number);
            steps.push(Reversible {
                step: Step::DeleteRoute(route.clone()),
                undo: vec![Step::AddRoute(route)],
            });
        }
    }
    steps
}

/// The rules against spoofed packets name the addresses.
fn firewall(
    interface: &str,
    v6: bool,
    config: &Config,
    present: &Present,
    system: &System,
) -> Result<Reversible, NotLive> {
    if system.firewall == Firewall::Iptables {
        return Err("its addresses are others, and rules of iptables name them");
    }
    let mark = present.device.fwmark;
    let new: Vec<IpAddr> = config.addresses.iter().map(|address| address.ip).collect();
    let old: Vec<IpAddr> = present.addresses.iter().map(|(ip, _)| *ip).collect();
    Ok(Reversible {
        step: firewall::replace(interface, v6, mark, &new),
        undo: vec![firewall::replace(interface, v6, mark, &old)],
    })
}

fn name_servers(interface: &str, config: &Config, present: &Present, system: &System) -> Vec<Reversible> {
    let before = present.dns.clone().unwrap_or_default();
    let steps = match (config.dns.is_empty(), before.is_empty()) {
        (true, true) => Vec::new(),
        (true, false) => dns::reset(interface, &[], &system.dns),
        // Domains to search are not known; telling the same again changes nothing.
        (false, _) => dns::set(interface, config, &system.dns),
    };
    let undo = dns::reset(interface, &before, &system.dns);
    steps.into_iter().map(|step| Reversible { step, undo: undo.clone() }).collect()
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
