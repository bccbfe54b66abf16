//! Writing the state of an interface into its file.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::config::Config;
use crate::SecretText;

/// What an interface has now.
#[derive(Debug)]
pub struct Current<'a> {
    /// Its addresses, and how many bits their networks share.
    pub addresses: &'a [(IpAddr, u8)],
    /// Its name servers; those of the file if nobody knows.
    pub dns: Option<Vec<String>>,
    /// Its MTU.
    pub mtu: u32,
    /// What `wg showconf` prints.
    pub conf: &'a [u8],
}

const INTERFACE: &[u8] = b"[Interface]\n";

/// The file: the state, with what only the file before had.
#[must_use]
pub fn save(config: &Config, current: &Current<'_>) -> SecretText {
    let mut out = SecretText::with_capacity(current.conf.len() + 4096);
    out.push(INTERFACE);
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let written = writeln!(out, "{name} = {value}");
        debug_assert!(written.is_ok(), "memory takes all that is written to it");
    };
    let mut addresses: Vec<_> =
        current.addresses.iter().filter(|(ip, _)| !is_automatic(*ip, config)).collect();
    // The kernel lists IPv6 addresses last to first: their order would turn around each time.
    addresses.sort_by_key(|(ip, _)| place(*ip, config));
    for (ip, prefix_len) in addresses {
        line("Address", &format_args!("{ip}/{prefix_len}"));
    }
    for name in current.dns.as_ref().unwrap_or(&config.dns).iter().chain(&config.search) {
        line("DNS", name);
    }
    if config.mtu.is_some() {
        line("MTU", &current.mtu);
    }
    if let Some(table) = config.table.spelling() {
        line("Table", &table);
    }
    if config.save {
        line("SaveConfig", &true);
    }
    for (name, commands) in [
        ("PreUp", &config.pre_up),
        ("PostUp", &config.post_up),
        ("PreDown", &config.pre_down),
        ("PostDown", &config.post_down),
    ] {
        for command in commands {
            line(name, command);
        }
    }
    let conf = current.conf.strip_prefix(INTERFACE).unwrap_or(current.conf);
    let end = conf.iter().rposition(|&byte| byte != b'\n').map_or(0, |last| last + 1);
    out.push(&conf[..end]);
    out.push(b"\n");
    out
}

/// Where the file has an address; behind all others if it does not.
fn place(ip: IpAddr, config: &Config) -> usize {
    config.addresses.iter().position(|address| address.ip == ip).unwrap_or(usize::MAX)
}

/// The kernel gives a TUN device a link-local address, another one each time. Saved, they would pile up.
fn is_automatic(ip: IpAddr, config: &Config) -> bool {
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    is_link_local && !config.addresses.iter().any(|address| address.ip == ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quick::read;

    #[test]
    fn what_only_the_file_has_is_kept() {
        let file = "[Interface]\nAddress = 10.0.0.1/24\nMTU = 1400\nTable = 5\nSaveConfig = true\n\
            PostUp = echo '#' %i # both\nDNS = 192.0.2.1, example.com\nPrivateKey = x\n[Peer]\n";
        let current = Current {
            addresses: &[("10.0.0.2".parse().unwrap(), 24), ("fe80::1".parse().unwrap(), 64)],
            dns: Some(vec!["192.0.2.9".to_owned()]),
            mtu: 1300,
            conf: b"[Interface]\nPrivateKey = y\n\n[Peer]\nPublicKey = z\n\n",
        };
        let expected = "[Interface]\nAddress = 10.0.0.2/24\nDNS = 192.0.2.9\nDNS = example.com\nMTU = 1300\nTable = 5\n\
            SaveConfig = true\nPostUp = echo '#' %i # both\nPrivateKey = y\n\n[Peer]\nPublicKey = z\n";
        let saved = save(&read(file.as_bytes(), |_| None).unwrap(), &current);
        assert_eq!(str::from_utf8(&saved).unwrap(), expected);
    }

    #[test]
    fn addresses_stay_in_the_order_of_the_file() {
        let file = "[Interface]\nAddress = fd00::1/64, fd00::2/64\nAddress = 10.0.0.1/24\n";
        let addresses = ["10.0.0.1", "fd00::9", "fd00::2", "fd00::1"].map(|ip| (ip.parse().unwrap(), 64));
        let current = Current { addresses: &addresses, dns: None, mtu: 1420, conf: b"" };
        let saved = save(&read(file.as_bytes(), |_| None).unwrap(), &current);
        let saved: Vec<_> = str::from_utf8(&saved).unwrap().lines().skip(1).take(4).collect();
        let expected = ["fd00::1", "fd00::2", "10.0.0.1", "fd00::9"].map(|ip| format!("Address = {ip}/64"));
        assert_eq!(saved, expected);
    }
}
