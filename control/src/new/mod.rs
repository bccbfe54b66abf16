//! `adit new`: the files of a server and of clients that fit each other.
//!
//! What later clients have to be told is in the server's file: its key, port, addresses and peers where they belong, the rest
//! in a comment that says how it was made.

mod server;
mod subnet;

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use adit_crypto::{Secret, x25519};

pub use server::{ReadServerError, Server};
pub use subnet::{BadSubnet, SERVER_HOST, Subnets, random};

use crate::{Prefix, PublicKey, SecretText, key};

/// Mappings of NAT live for 30 seconds at least, mostly (whitepaper, section 6.5).
const KEEPALIVE: u16 = 25;

/// What all clients are told alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where they call the server.
    pub endpoint: String,
    /// Whether all their traffic goes through it.
    pub full_tunnel: bool,
    /// Their name servers, and domains to search.
    pub dns: Vec<String>,
}

/// A client, as it is made.
#[derive(Debug)]
pub struct Client {
    /// What people call it.
    pub name: String,
    /// Which address of the subnets it has: the server is the first.
    pub host: u128,
    /// Its own.
    pub private_key: Secret<32>,
    /// Its and the server's.
    pub preshared_key: Secret<32>,
}

/// What begins the comment with the options.
const MADE_BY: &str = "# Made by adit new";

/// As the command line spells them.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--endpoint {}", self.endpoint)?;
        if self.full_tunnel {
            f.write_str(" --full-tunnel")?;
        }
        if !self.dns.is_empty() {
            write!(f, " --dns {}", self.dns.join(","))?;
        }
        Ok(())
    }
}

impl Options {
    /// Finds them in a server's file; nothing if nobody has written them.
    fn find(content: &str) -> Self {
        let mut options = Options::default();
        let line = content.lines().find_map(|line| line.strip_prefix(MADE_BY)).unwrap_or_default();
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "--endpoint" => options.endpoint = words.next().unwrap_or_default().to_owned(),
                "--full-tunnel" => options.full_tunnel = true,
                "--dns" => {
                    let list =
                        words.next().unwrap_or_default().split(',').filter(|server| !server.is_empty());
                    options.dns = list.map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        options
    }
}

/// The public key of a private one.
#[must_use]
pub fn public_key(private_key: &Secret<32>) -> PublicKey {
    PublicKey::new(x25519::public_key(&x25519::PrivateKey::new(*private_key.expose())))
}

/// The server's file.
#[must_use]
pub fn server_file(
    options: &Options,
    subnets: &Subnets,
    port: u16,
    private_key: &Secret<32>,
    clients: &[Client],
) -> SecretText {
    let mut out = SecretText::with_capacity(1024 + 512 * clients.len());
    let addresses = list(subnets.networks(SERVER_HOST));
    put(&mut out, format_args!("{MADE_BY} {options}\n"));
    put(&mut out, format_args!("# One more client: adit new --add NAME FILE, with the path of this file\n"));
    put(&mut out, format_args!("[Interface]\nPrivateKey = {}\n", *key::secret_to_base64(private_key)));
    put(&mut out, format_args!("ListenPort = {port}\nAddress = {addresses}\n"));
    if options.full_tunnel {
        out.push(forwarding(subnets).as_bytes());
    }
    for client in clients {
        out.push(&peer_section(subnets, client));
    }
    out
}

/// IPv6 is forwarded only if there is nothing else: a system that forwards it takes no routes from its router any more.
fn forwarding(subnets: &Subnets) -> String {
    let Some(prefix) = subnets.prefixes().next() else { return String::new() };
    let (switch, family) = match prefix.addr() {
        IpAddr::V4(_) => ("ipv4/ip_forward", "ip"),
        IpAddr::V6(_) => ("ipv6/conf/all/forwarding", "ip6"),
    };
    format!(
        "# Clients reach everything through this machine: it forwards their packets, under an address of its own.\n\
        PostUp = echo 1 > /proc/sys/net/{switch}\n\
        PostUp = nft 'table {family} adit-%i {{ chain out {{ type nat hook postrouting priority 100; \
        {family} saddr {prefix} oifname != \"%i\" masquerade; }}; }}'\n\
        PostDown = nft delete table {family} adit-%i\n"
    )
}

/// What the server's file says about a client.
#[must_use]
pub fn peer_section(subnets: &Subnets, client: &Client) -> SecretText {
    let mut out = SecretText::with_capacity(512);
    let Client { name, host, private_key, preshared_key } = client;
    put(&mut out, format_args!("\n# {name}\n[Peer]\nPublicKey = {}\n", public_key(private_key)));
    put(&mut out, format_args!("PresharedKey = {}\n", *key::secret_to_base64(preshared_key)));
    put(&mut out, format_args!("AllowedIPs = {}\n", list(subnets.hosts(*host))));
    out
}

/// A client's file.
#[must_use]
pub fn client_file(options: &Options, subnets: &Subnets, server: PublicKey, client: &Client) -> SecretText {
    let mut out = SecretText::with_capacity(1024);
    let Client { name, host, private_key, preshared_key } = client;
    put(&mut out, format_args!("# {name}, made by adit new\n[Interface]\n"));
    put(&mut out, format_args!("PrivateKey = {}\n", *key::secret_to_base64(private_key)));
    put(&mut out, format_args!("Address = {}\n", list(subnets.hosts(*host))));
    if !options.dns.is_empty() {
        put(&mut out, format_args!("DNS = {}\n", options.dns.join(", ")));
    }
    // Both families, whatever the tunnel has: what cannot go through it is not to go past it.
    let allowed_ips =
        if options.full_tunnel { "0.0.0.0/0, ::/0".to_owned() } else { list(subnets.prefixes()) };
    put(&mut out, format_args!("\n# The server\n[Peer]\nPublicKey = {server}\n"));
    put(&mut out, format_args!("PresharedKey = {}\n", *key::secret_to_base64(preshared_key)));
    put(&mut out, format_args!("AllowedIPs = {allowed_ips}\nEndpoint = {}\n", options.endpoint));
    put(&mut out, format_args!("PersistentKeepalive = {KEEPALIVE}\n"));
    out
}

fn list(prefixes: impl Iterator<Item = impl ToString>) -> String {
    prefixes.map(|prefix| prefix.to_string()).collect::<Vec<_>>().join(", ")
}

fn put(out: &mut SecretText, text: fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "memory takes all that is written to it");
}

/// Whether a prefix is of one machine.
fn is_host(prefix: Prefix) -> bool {
    Prefix::host(prefix.addr()) == prefix
}

#[cfg(test)]
mod tests;
