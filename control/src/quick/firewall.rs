//! Rules for a tunnel that takes all traffic.
//!
//! Nobody else on the same link may send to the tunnel's inner address. And the mark that tells the tunnel's own packets is
//! remembered for the connection, so that answers carry it too when their source is validated.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::step::{Program, Step};

/// What the rules are made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firewall {
    /// `nft`.
    #[default]
    Nft,
    /// `iptables-restore` and `ip6tables-restore`.
    Iptables,
}

const IPTABLES: [&str; 2] = ["iptables-restore -n", "ip6tables-restore -n"];

/// Rules for one family: for the interface with these addresses, whose packets are marked with `mark`.
pub(super) fn raise(kind: Firewall, interface: &str, v6: bool, mark: u32, addresses: &[IpAddr]) -> Step {
    let addresses = addresses.iter().filter(|ip| ip.is_ipv6() == v6);
    Step::Run(match kind {
        Firewall::Nft => nft(interface, v6, mark, addresses),
        Firewall::Iptables => iptables(interface, v6, mark, addresses),
    })
}

/// Has the rules of `nft` for one family name other addresses, at one stroke.
pub(super) fn replace(interface: &str, v6: bool, mark: u32, addresses: &[IpAddr]) -> Step {
    let addresses = addresses.iter().filter(|ip| ip.is_ipv6() == v6);
    let family = if v6 { "ip6" } else { "ip" };
    let Program { words, input, .. } = nft(interface, v6, mark, addresses);
    let input = format!("delete table {family} wg-quick-{interface}\n{input}");
    Step::Run(Program { words, input, undo: None })
}

/// The program reads its file by this name.
const NFT: &str = "nft -f /dev/fd/63";

fn nft<'a>(interface: &str, v6: bool, mark: u32, addresses: impl Iterator<Item = &'a IpAddr>) -> Program {
    let family = if v6 { "ip6" } else { "ip" };
    let table = format!("{family} wg-quick-{interface}");
    let mut text = format!("add table {table}\n");
    for (chain, hook, priority) in [
        ("preraw", "prerouting", -300),
        ("premangle", "prerouting", -150),
        ("postmangle", "postrouting", -150),
    ] {
        line(
            &mut text,
            format_args!("add chain {table} {chain} {{ type filter hook {hook} priority {priority}; }}"),
        );
    }
    for ip in addresses {
        let spoofed = format!("iifname != \"{interface}\" {family} daddr {ip} fib saddr type != local");
        line(&mut text, format_args!("add rule {table} preraw {spoofed} drop"));
    }
    line(
        &mut text,
        format_args!("add rule {table} postmangle meta l4proto udp meta mark {mark} ct mark set meta mark"),
    );
    line(&mut text, format_args!("add rule {table} premangle meta l4proto udp meta mark set ct mark"));
    Program::new(NFT, text).undone_by(Program::new(NFT, format!("delete table {table}\n")))
}

fn iptables<'a>(
    interface: &str,
    v6: bool,
    mark: u32,
    addresses: impl Iterator<Item = &'a IpAddr>,
) -> Program {
    let ours = comment(interface);
    let mut raw = Vec::new();
    for ip in addresses {
        raw.push(format!(
            "PREROUTING ! -i {interface} -d {ip} -m addrtype ! --src-type LOCAL -j DROP {ours}"
        ));
    }
    let mangle = [
        format!("POSTROUTING -m mark --mark {mark} -p udp -j CONNMARK --save-mark {ours}"),
        format!("PREROUTING -p udp -j CONNMARK --restore-mark {ours}"),
    ];
    let text = |how: &str| {
        let mut text = String::new();
        for (table, rules) in [("raw", &raw[..]), ("mangle", &mangle[..])] {
            line(&mut text, format_args!("*{table}"));
            for rule in rules {
                line(&mut text, format_args!("{how} {rule}"));
            }
            line(&mut text, format_args!("COMMIT"));
        }
        text
    };
    let restore = IPTABLES[usize::from(v6)];
    Program::new(restore, text("-I")).undone_by(Program::new(restore, text("-D")))
}

fn comment(interface: &str) -> String {
    format!("-m comment --comment \"wg-quick(8) rule for {interface}\"")
}

/// Takes away what is there for the interface, by what `nft list tables` prints.
pub(super) fn nft_removal(interface: &str, tables: &str) -> Option<Step> {
    let ours = format!(" wg-quick-{interface}");
    let tables = tables.lines().filter(|table| table.ends_with(&ours));
    let text: String = tables.map(|table| format!("delete {table}\n")).collect();
    (!text.is_empty()).then(|| Step::Run(Program::new(NFT, text)))
}

/// The same, by what `iptables-save` or `ip6tables-save` prints.
pub(super) fn iptables_removal(interface: &str, v6: bool, saved: &str) -> Option<Step> {
    let ours = comment(interface);
    let (mut text, mut found) = (String::new(), false);
    for saved in saved.lines() {
        match saved.strip_prefix("-A ") {
            Some(rule) if rule.contains(&ours) => {
                found = true;
                line(&mut text, format_args!("-D {rule}"));
            }
            None if saved.starts_with('*') || saved == "COMMIT" => line(&mut text, format_args!("{saved}")),
            _ => {}
        }
    }
    found.then(|| Step::Run(Program::new(IPTABLES[usize::from(v6)], text)))
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "memory takes all that is written to it");
}
