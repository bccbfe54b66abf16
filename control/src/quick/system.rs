//! What the system looks like, as far as a plan depends on it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::dns::Manager;
use super::firewall::Firewall;
use super::step::Rule;
use crate::Prefix;

/// The system before an interface is set up, or while one is taken down.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// The rules of both families that could be of a tunnel, each with its priority.
    pub rules: Vec<Rule>,
    /// The routing tables with a route of either family.
    pub used_tables: BTreeSet<u32>,
    /// The routing tables with a route to the interface.
    pub own_tables: BTreeSet<u32>,
    /// The MTU of the way to each peer's endpoint, where there is one.
    pub endpoint_mtus: Vec<u32>,
    /// The MTU of the way to everywhere.
    pub default_mtu: Option<u32>,
    /// The addresses that the interface has already.
    pub addresses: Vec<IpAddr>,
    /// What is routed to the interface already, in the main table.
    pub covered: Vec<Prefix>,
    /// Whether marks count when a source is validated, and it was not wg-quick that made them count.
    pub src_valid_mark: bool,
    /// What rules against spoofed packets are made with.
    pub firewall: Firewall,
    /// Who looks after the name servers.
    pub dns: Manager,
}

/// What an interface has left in the system, be it still there or gone with its daemon.
#[derive(Clone, Debug, Default)]
pub struct Remains {
    /// Whether there is an interface to delete.
    pub link: bool,
    /// The routing table that rules were made for.
    pub table: Option<u32>,
    /// Whether bringing it up has made marks count for source validation.
    pub src_valid_mark: bool,
    /// Whether `/etc/resolv.conf` was replaced for it.
    pub resolv_conf: bool,
    /// What `nft list tables` prints.
    pub nft: String,
    /// What `iptables-save` and `ip6tables-save` print.
    pub iptables: [String; 2],
}
