//! A server's file that gets one more client.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::{Options, Subnets, is_host, public_key};
use crate::conf::{self, Mode};
use crate::quick;
use crate::{AllowedIpChange, Prefix, PublicKey};

/// What a server's file says that its clients have to know.
#[derive(Debug)]
pub struct Server {
    /// What its clients were told alike.
    pub options: Options,
    /// Who it is.
    pub public_key: PublicKey,
    /// Where it listens, if that stays the same.
    pub listen_port: Option<u16>,
    /// Its inner networks.
    pub subnets: Subnets,
    /// The least number of a machine that nobody has.
    pub free_host: u128,
}

/// Why a file is not that of a server.
#[derive(Debug)]
pub enum ReadServerError {
    /// It has an error.
    Wrong(conf::Error),
    /// It has no private key.
    NoKey,
    /// It has no address with a network.
    NoSubnet,
    /// All addresses are taken.
    Full,
}

impl fmt::Display for ReadServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadServerError::Wrong(_) => "it has an error; see adit check",
            ReadServerError::NoKey => "it has no PrivateKey, which clients need to know the public half of",
            ReadServerError::NoSubnet => {
                "it has no Address with a network, such as 10.7.4.1/24, to take a client's from"
            }
            ReadServerError::Full => "all addresses of its network are taken",
        })
    }
}

impl std::error::Error for ReadServerError {}

impl Server {
    /// Reads a server's file.
    ///
    /// # Errors
    /// When it has an error, or lacks what a client needs.
    pub fn read(content: &[u8], tables: impl Fn(&str) -> Option<u32>) -> Result<Self, ReadServerError> {
        let config = quick::read(content, tables).map_err(ReadServerError::Wrong)?;
        let draft = conf::read(&config.rest, Mode::Whole).map_err(ReadServerError::Wrong)?;
        let private_key = draft.set.private_key.flatten().ok_or(ReadServerError::NoKey)?;
        let subnets = Subnets::of(config.addresses.iter().map(|own| (own.ip, own.prefix_len)));
        if subnets.is_empty() {
            return Err(ReadServerError::NoSubnet);
        }
        let peers =
            draft.set.peers.iter().flat_map(|peer| &peer.allowed_ips).filter_map(|change| match change {
                AllowedIpChange::Add(prefix) => Some(*prefix),
                AllowedIpChange::Remove(_) => None,
            });
        let own = config.addresses.iter().map(|own| Prefix::host(own.ip));
        let free_host = free_host(&subnets, own.chain(peers)).ok_or(ReadServerError::Full)?;
        let options = conf::decoded(content, Options::find);
        let listen_port = draft.set.listen_port.filter(|port| *port != 0);
        Ok(Server { options, public_key: public_key(&private_key), listen_port, subnets, free_host })
    }
}

/// The least number of a machine whose addresses are in none of the prefixes. What holds a whole network of the tunnel's, such
/// as a default route, takes no address in it.
fn free_host(subnets: &Subnets, taken: impl Iterator<Item = Prefix>) -> Option<u128> {
    let holds_subnet = |prefix: &Prefix| {
        subnets.prefixes().any(|subnet| prefix.len() <= subnet.len() && prefix.contains(subnet.addr()))
    };
    let (hosts, networks): (Vec<Prefix>, Vec<Prefix>) =
        taken.filter(|prefix| !holds_subnet(prefix)).partition(|prefix| is_host(*prefix));
    let hosts: BTreeSet<IpAddr> = hosts.iter().map(Prefix::addr).collect();
    let is_free = |ip: IpAddr| !hosts.contains(&ip) && !networks.iter().any(|prefix| prefix.contains(ip));
    /// More clients than a tunnel has.
    const TRIED: u128 = 1 << 20;
    (super::SERVER_HOST..=subnets.last_host().min(TRIED)).find(|host| subnets.addresses(*host).all(is_free))
}
