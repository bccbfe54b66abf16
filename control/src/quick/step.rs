//! A step of a plan: the command that it stands for, and what takes it back.

use std::borrow::Cow;

use super::config::Address;
use crate::Prefix;

/// The number of the main routing table.
pub(super) const MAIN: u32 = 254;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start this program, which makes the interface and serves it.
    StartEngine(String),
    /// Make an interface of the kernel's.
    AddLink,
    /// Have a command of the user's run.
    Hook(String),
    /// Give the device what the file says to `wg`.
    Configure,
    /// Have the device mark its own packets.
    SetFwmark(u32),
    /// Give the interface an address.
    AddAddress(Address),
    /// Take an address from the interface.
    DeleteAddress(Address),
    /// Set the interface up, with this MTU.
    SetUp(u32),
    /// Route a network to the interface.
    AddRoute(Route),
    /// Take a route away.
    DeleteRoute(Route),
    /// Give the device what the file says to `wg`, and leave alone what stays.
    Synchronize,
    /// Add a rule of policy routing.
    AddRule(Rule),
    /// Take one away.
    DeleteRule(Rule),
    /// Make marks count when a source is validated.
    SetSrcValidMark,
    /// Give that up, unless another interface needs it.
    UnsetSrcValidMark,
    /// Run a program of the system.
    Run(Program),
    /// Put this in the place of `/etc/resolv.conf`, which is kept.
    ReplaceResolvConf(String),
    /// Put back what was kept.
    RestoreResolvConf,
    /// Write the interface's state into its file.
    Save,
    /// Delete the interface, which ends its daemon.
    DeleteLink,
}

/// A program with its arguments, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name, and its arguments.
    pub words: Vec<String>,
    /// What it reads; the file that stands for it is its last argument where it does not read standard input.
    pub input: String,
    /// What takes back what it did.
    pub undo: Option<Box<Program>>,
}

impl Program {
    pub(super) fn new(line: &str, input: impl Into<String>) -> Program {
        let words = line.split(' ').map(str::to_owned).collect();
        Program { words, input: input.into(), undo: None }
    }

    pub(super) fn undone_by(self, undo: Program) -> Program {
        Program { undo: Some(Box::new(undo)), ..self }
    }
}

/// A route to the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub prefix: Prefix,
    /// The routing table: as it is called, and its number; the main one otherwise.
    pub table: Option<(String, u32)>,
}

/// A rule that sends packets to a routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For IPv6, else for IPv4.
    pub v6: bool,
    /// Its place; the kernel chooses one for a rule that is added without.
    pub priority: Option<u32>,
    /// For all packets with another mark than this; for all packets otherwise.
    pub not_fwmark: Option<u32>,
    /// Where to look.
    pub table: u32,
    /// Whether default routes found there do not count.
    pub suppress_default: bool,
}

impl Rule {
    /// Whatever is not marked goes to the table of the mark's number.
    pub(super) fn tunnel(v6: bool, table: u32) -> Rule {
        Rule { v6, priority: None, not_fwmark: Some(table), table, suppress_default: false }
    }

    /// What the main table has a route for, and not just a default route, goes there.
    pub(super) fn main(v6: bool) -> Rule {
        Rule { v6, priority: None, not_fwmark: None, table: MAIN, suppress_default: true }
    }

    /// Whether it sends what a tunnel has not marked into the tunnel's table.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        self.not_fwmark == Some(self.table) && !self.suppress_default
    }

    pub(super) fn is_main(&self) -> bool {
        *self == Rule { priority: self.priority, ..Rule::main(self.v6) }
    }
}

impl Step {
    /// What takes it back; nothing does where that goes with the interface.
    #[must_use]
    pub fn undo(&self) -> Option<Step> {
        match self {
            Step::AddLink | Step::StartEngine(_) => Some(Step::DeleteLink),
            Step::AddRule(rule) => Some(Step::DeleteRule(*rule)),
            Step::SetSrcValidMark => Some(Step::UnsetSrcValidMark),
            Step::Run(program) => program.undo.as_deref().cloned().map(Step::Run),
            Step::ReplaceResolvConf(_) => Some(Step::RestoreResolvConf),
            _ => None,
        }
    }

    /// The command that would do the same.
    #[must_use]
    pub fn command(&self, interface: &str) -> String {
        match self {
            Step::StartEngine(program) => format!("{program} {interface}"),
            Step::AddLink => format!("ip link add dev {interface} type wireguard"),
            Step::Hook(command) => command.clone(),
            Step::Configure => format!("wg addconf {interface} /dev/fd/63"),
            Step::SetFwmark(mark) => format!("wg set {interface} fwmark {mark}"),
            Step::AddAddress(Address { text, ip, .. }) => {
                format!("ip {} address add {text} dev {interface}", family(ip.is_ipv6()))
            }
            Step::DeleteAddress(Address { text, ip, .. }) => {
                format!("ip {} address delete {text} dev {interface}", family(ip.is_ipv6()))
            }
            Step::SetUp(mtu) => format!("ip link set mtu {mtu} up dev {interface}"),
            Step::AddRoute(route) => route_command("add", route, interface),
            Step::DeleteRoute(route) => route_command("delete", route, interface),
            Step::Synchronize => format!("wg syncconf {interface} /dev/fd/63"),
            Step::AddRule(rule) => {
                let not = rule.not_fwmark.map_or(String::new(), |mark| format!("not fwmark {mark} "));
                format!("ip {} rule add {not}{}", family(rule.v6), target(rule))
            }
            Step::DeleteRule(rule) => format!("ip {} rule delete {}", family(rule.v6), target(rule)),
            Step::SetSrcValidMark => "sysctl -q net.ipv4.conf.all.src_valid_mark=1".to_owned(),
            Step::UnsetSrcValidMark => "sysctl -q net.ipv4.conf.all.src_valid_mark=0".to_owned(),
            Step::Run(Program { words, .. }) => words.join(" "),
            Step::ReplaceResolvConf(_) => {
                format!("ln /etc/resolv.conf {}", super::dns::kept(interface))
            }
            Step::RestoreResolvConf => format!("mv {} /etc/resolv.conf", super::dns::kept(interface)),
            Step::Save => format!("wg showconf {interface}"),
            Step::DeleteLink => format!("ip link delete dev {interface}"),
        }
    }

    /// What is given to the command, to be shown with it.
    #[must_use]
    pub fn input(&self) -> Cow<'_, str> {
        match self {
            Step::Run(program) => Cow::Borrowed(&program.input),
            Step::ReplaceResolvConf(content) => Cow::Borrowed(content),
            _ => Cow::Borrowed(""),
        }
    }
}

fn family(v6: bool) -> &'static str {
    if v6 { "-6" } else { "-4" }
}

fn route_command(what: &str, Route { prefix, table }: &Route, interface: &str) -> String {
    let family = family(prefix.addr().is_ipv6());
    let table = table.as_ref().map_or(String::new(), |(name, _)| format!(" table {name}"));
    format!("ip {family} route {what} {prefix} dev {interface}{table}")
}

fn target(rule: &Rule) -> String {
    let table = if rule.table == MAIN { "main".to_owned() } else { rule.table.to_string() };
    let suppress = if rule.suppress_default { " suppress_prefixlength 0" } else { "" };
    format!("table {table}{suppress}")
}
