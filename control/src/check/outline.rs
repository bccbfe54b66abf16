//! What a file does, as data and in words.

use std::fmt;

use super::source::Source;
use crate::quick::Address;
use crate::{Prefix, PublicKey};

/// What a file does. No secret is in it.
#[derive(Debug)]
pub struct Outline {
    /// Who this machine is.
    pub public_key: Option<PublicKey>,
    /// What it is called inside.
    pub addresses: Vec<Address>,
    /// Where it is called; `None` is any free port.
    pub listen_port: Option<u16>,
    /// The mark of encrypted packets.
    pub fwmark: Option<u32>,
    /// As written; otherwise it is worked out.
    pub mtu: Option<u32>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Domains to search.
    pub search: Vec<String>,
    /// `auto`, `off`, or where routes go.
    pub table: String,
    /// Whether all IPv4 traffic goes into the tunnel.
    pub full_ipv4: bool,
    /// Whether all IPv6 traffic does.
    pub full_ipv6: bool,
    /// The keys and commands that are run as root, without what could be a key.
    pub hooks: Vec<(&'static str, String)>,
    /// Whether the file is written anew when the interface goes down.
    pub save: bool,
    /// The peers, as they will be.
    pub peers: Vec<OutlinePeer>,
}

/// A peer.
#[derive(Debug)]
pub struct OutlinePeer {
    /// Who it is.
    pub public_key: PublicKey,
    /// Whether there is a preshared key.
    pub has_preshared_key: bool,
    /// Where it is called, as written, without what could be a key.
    pub endpoint: Option<String>,
    /// Whether that has to be looked up.
    pub is_name: bool,
    /// Seconds between keepalives; 0 is none.
    pub persistent_keepalive: u16,
    /// What goes to it.
    pub allowed_ips: Vec<Prefix>,
}

impl Outline {
    pub(super) fn new(source: &Source<'_>) -> Self {
        let config = &source.config;
        let peers = source.effective_peers().map(|peer| OutlinePeer {
            public_key: peer.public_key,
            has_preshared_key: peer.preshared_key.is_some(),
            endpoint: peer.endpoint.as_ref().map(|endpoint| shown(&endpoint.text)),
            is_name: peer.endpoint.as_ref().is_some_and(|endpoint| endpoint.address().is_none()),
            persistent_keepalive: peer.keepalive,
            allowed_ips: peer.allowed_ips.iter().map(|ip| ip.prefix).collect(),
        });
        Outline {
            public_key: source.public_key(),
            addresses: config.addresses.clone(),
            listen_port: source.listen_port,
            fwmark: source.fwmark,
            mtu: config.mtu,
            dns: config.dns.iter().map(|word| shown(word)).collect(),
            search: config.search.iter().map(|word| shown(word)).collect(),
            table: shown(config.table.spelling().unwrap_or("auto")),
            full_ipv4: source.takes_all(false),
            full_ipv6: source.takes_all(true),
            hooks: source.hooks().map(|(key, command)| (key, shown(command))).collect(),
            save: config.save,
            peers: peers.collect(),
        }
    }
}

/// A command, or another value, without what could be a key in it: one may have been pasted where it does not belong. Of the
/// rest all is shown, since root runs it.
pub(super) fn shown(command: &str) -> String {
    let is_of_key = |char: char| char.is_ascii_alphanumeric() || "+/=-_".contains(char);
    let mut shown = String::new();
    let mut rest = command;
    while let Some(first) = rest.chars().next() {
        let is_run = is_of_key(first);
        let end = rest.find(|char| is_of_key(char) != is_run).unwrap_or(rest.len());
        shown += if is_run && could_be_key(&rest[..end]) { "(hidden)" } else { &rest[..end] };
        rest = &rest[end..];
    }
    shown
}

/// Whether a run of characters could be a key, in base64 or hexadecimal. A path is as long at times, but it is not of
/// capitals and small letters by chance: one key in a million has fewer of either.
fn could_be_key(run: &str) -> bool {
    /// A few characters less than a key has.
    const SHORTEST: usize = 38;
    const FEWEST: usize = 4;
    let count = |is: fn(&char) -> bool| run.chars().filter(is).count();
    let is_mixed = count(char::is_ascii_uppercase) >= FEWEST && count(char::is_ascii_lowercase) >= FEWEST;
    run.len() >= SHORTEST && (is_mixed || count(char::is_ascii_hexdigit) >= SHORTEST)
}

/// In words, a line for each thing.
impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.public_key {
            writeln!(f, "  This machine's public key is {key}.")?;
        }
        if !self.addresses.is_empty() {
            let addresses: Vec<_> = self.addresses.iter().map(|address| address.text.as_str()).collect();
            writeln!(f, "  In the tunnel it is {}.", addresses.join(", "))?;
        }
        match self.listen_port {
            Some(port) => writeln!(f, "  It is called at UDP port {port}.")?,
            None => writeln!(f, "  It calls from any free UDP port.")?,
        }
        for peer in self.peers.iter().take(SHOWN_PEERS) {
            writeln!(f, "  {peer}")?;
        }
        if let Some(more @ 1..) = self.peers.len().checked_sub(SHOWN_PEERS) {
            writeln!(f, "  And {more} more peers.")?;
        }
        self.rest(f)
    }
}

/// More are for programs.
const SHOWN_PEERS: usize = 20;

impl Outline {
    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.full_ipv4, self.full_ipv6) {
            (true, true) => writeln!(f, "  All traffic goes into the tunnel (a full tunnel).")?,
            (true, false) => writeln!(f, "  All IPv4 traffic goes into the tunnel.")?,
            (false, true) => writeln!(f, "  All IPv6 traffic goes into the tunnel.")?,
            (false, false) => writeln!(f, "  All other traffic stays where it is.")?,
        }
        match self.table.as_str() {
            "auto" => {}
            "off" => writeln!(f, "  No routes are made (Table = off).")?,
            table => writeln!(f, "  Routes go into the table {table}.")?,
        }
        if let Some(mtu) = self.mtu {
            writeln!(f, "  Its packets have up to {mtu} bytes.")?;
        }
        if !self.dns.is_empty() {
            writeln!(
                f,
                "  Names are looked up at {}, instead of the system's servers.",
                self.dns.join(", ")
            )?;
        }
        if !self.search.is_empty() {
            writeln!(f, "  Names are searched in {}.", self.search.join(", "))?;
        }
        for (key, command) in &self.hooks {
            writeln!(f, "  {key} runs as root: {command}")?;
        }
        if self.save {
            writeln!(f, "  When it goes down, its state is written into the file.")?;
        }
        Ok(())
    }
}

impl fmt::Display for OutlinePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer {}, ", self.public_key)?;
        match &self.endpoint {
            Some(endpoint) => write!(f, "at {endpoint}")?,
            None => f.write_str("which calls this machine")?,
        }
        let all: Vec<String> = self.allowed_ips.iter().map(Prefix::to_string).collect();
        match all.is_empty() {
            true => f.write_str(", gets nothing")?,
            false => write!(f, ", gets {}", all.join(", "))?,
        }
        match self.has_preshared_key {
            true => f.write_str("; with a preshared key")?,
            false => f.write_str("; without a preshared key")?,
        }
        match self.persistent_keepalive {
            0 => Ok(()),
            seconds => write!(f, ", and a packet every {seconds} s"),
        }
    }
}
