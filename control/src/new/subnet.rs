//! The inner networks: one of IPv4, one of IPv6, or one of them. A machine has the same number in both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Prefix;

/// The server's number.
pub const SERVER_HOST: u128 = 1;

/// The inner networks, that of IPv4 first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnets(Vec<Prefix>);

/// Why networks cannot be those of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadSubnet {
    /// It is no prefix.
    Malformed(String),
    /// It has bits that do not count.
    HostBits(String, Prefix),
    /// It has no room for a server and a client.
    TooSmall(Prefix),
    /// It is no network of a tunnel's size.
    TooLarge(Prefix),
    /// Its addresses are no machine's, or leave no machine.
    Reserved(Prefix),
    /// There are two of one family.
    Twice(Prefix),
}

impl fmt::Display for BadSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadSubnet::Malformed(text) => {
                write!(f, "`{text}' is no network, such as 10.7.4.0/24 or fd12:3456::/64")
            }
            BadSubnet::HostBits(text, prefix) => write!(f, "`{text}' is no network: write {prefix}"),
            BadSubnet::TooSmall(prefix) => {
                write!(f, "{prefix} has no room for a server and a client: write a shorter prefix")
            }
            BadSubnet::TooLarge(prefix) => {
                write!(f, "{prefix} is too large: write a longer prefix, such as /24 or /64")
            }
            BadSubnet::Reserved(prefix) => {
                write!(
                    f,
                    "{prefix} has no addresses for machines: write one such as 10.7.4.0/24 or fd12:3456::/64"
                )
            }
            BadSubnet::Twice(prefix) => {
                write!(f, "{prefix} is the second network of its family: give one of each")
            }
        }
    }
}

impl std::error::Error for BadSubnet {}

/// Two networks that hardly anybody else has: 10.x.y.0/24, and a unique local one (RFC 4193).
#[must_use]
pub fn random(bytes: [u8; 9]) -> Subnets {
    let [a, b, global @ ..] = bytes;
    let mut v6 = [0; 16];
    v6[0] = 0xfd;
    v6[1..8].copy_from_slice(&global);
    let networks = [(Ipv4Addr::new(10, a, b, 0).into(), 24), (Ipv6Addr::from(v6).into(), 64)];
    Subnets(networks.into_iter().filter_map(|(addr, len)| Prefix::new(addr, len)).collect())
}

/// Loopback, multicast and what nobody may have; for IPv6 also the addresses that every link has for itself.
fn is_reserved(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => matches!(addr.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(addr) => addr.segments()[0] == 0 || addr.is_multicast() || addr.is_unicast_link_local(),
    }
}

impl Subnets {
    /// Reads networks, at most one of each family.
    ///
    /// # Errors
    /// For the first that cannot be one.
    pub fn read<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, BadSubnet> {
        let mut subnets = Subnets(Vec::new());
        for text in texts {
            let prefix: Prefix = text.parse().map_err(|_| BadSubnet::Malformed(text.to_owned()))?;
            if text.split('/').next().and_then(|addr| addr.parse().ok()) != Some(prefix.addr()) {
                return Err(BadSubnet::HostBits(text.to_owned(), prefix));
            }
            let (largest, smallest) = if prefix.addr().is_ipv4() { (8, 30) } else { (16, 126) };
            match prefix.len() {
                len if len > smallest => return Err(BadSubnet::TooSmall(prefix)),
                len if len < largest => return Err(BadSubnet::TooLarge(prefix)),
                _ if is_reserved(prefix.addr()) => return Err(BadSubnet::Reserved(prefix)),
                _ if subnets.has_family_of(prefix) => return Err(BadSubnet::Twice(prefix)),
                _ => subnets.add(prefix),
            }
        }
        Ok(subnets)
    }

    /// Those that the interface has addresses in, the first of each family.
    pub(super) fn of(addresses: impl Iterator<Item = (IpAddr, u8)>) -> Self {
        let mut subnets = Subnets(Vec::new());
        for prefix in addresses.filter_map(|(ip, len)| Prefix::new(ip, len)) {
            if !super::is_host(prefix) && !subnets.has_family_of(prefix) {
                subnets.add(prefix);
            }
        }
        subnets
    }

    fn has_family_of(&self, prefix: Prefix) -> bool {
        self.0.iter().any(|other| other.addr().is_ipv4() == prefix.addr().is_ipv4())
    }

    fn add(&mut self, prefix: Prefix) {
        self.0.push(prefix);
        self.0.sort_by_key(|prefix| prefix.addr().is_ipv6());
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.0.iter().copied()
    }

    /// The largest number that a machine can have.
    #[must_use]
    pub fn last_host(&self) -> u128 {
        let last = self.0.iter().map(|prefix| match prefix.addr() {
            // The last address is everybody's.
            IpAddr::V4(_) => (1 << (32 - prefix.len())) - 2,
            IpAddr::V6(_) => u128::MAX.checked_shr(prefix.len().into()).unwrap_or(0),
        });
        last.min().unwrap_or(0)
    }

    /// A machine's addresses, by its number.
    pub fn addresses(&self, host: u128) -> impl Iterator<Item = IpAddr> + '_ {
        self.0.iter().map(move |prefix| match prefix.addr() {
            IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() | host as u32).into(),
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() | host).into(),
        })
    }

    /// The same as prefixes that hold no others.
    pub fn hosts(&self, host: u128) -> impl Iterator<Item = Prefix> + '_ {
        self.addresses(host).map(Prefix::host)
    }

    /// The same, each with the length of its network.
    pub fn networks(&self, host: u128) -> impl Iterator<Item = String> + '_ {
        self.addresses(host).zip(&self.0).map(|(addr, prefix)| format!("{addr}/{}", prefix.len()))
    }
}
