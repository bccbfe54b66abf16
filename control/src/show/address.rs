//! Addresses as C programs on Linux print them.

use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};

use crate::Prefix;

/// Finds the name of the interface that scopes a link-local address, given its number. That is the system's to know.
pub type ScopeName = fn(u32) -> Option<String>;

/// An address as `inet_ntop` of the GNU C library has it: the last 32 bits of an IPv6 address are dotted if only they are
/// not zero, as in `::192.0.2.1`.
pub(crate) fn address(ip: IpAddr) -> impl Display {
    fmt::from_fn(move |f| match ip {
        IpAddr::V6(v6) if v6.segments()[..6] == [0; 6] && v6.segments()[6] != 0 => {
            let [.., a, b, c, d] = v6.octets();
            write!(f, "::{a}.{b}.{c}.{d}")
        }
        _ => ip.fmt(f),
    })
}

/// A prefix, its address spelled likewise.
pub(crate) fn prefix(prefix: &Prefix) -> impl Display {
    fmt::from_fn(move |f| write!(f, "{}/{}", address(prefix.addr()), prefix.len()))
}

/// An endpoint as people write it: the scope of a link-local address is an interface's name, if it has one.
#[must_use]
pub fn endpoint(addr: &SocketAddr, scope_name: ScopeName) -> String {
    let SocketAddr::V6(v6) = addr else { return addr.to_string() };
    let (ip, port) = (address(addr.ip()), v6.port());
    let is_link_local = v6.ip().is_unicast_link_local() || v6.ip().segments()[0] & 0xff0f == 0xff02;
    match v6.scope_id() {
        0 => format!("[{ip}]:{port}"),
        scope => match is_link_local.then(|| scope_name(scope)).flatten() {
            Some(name) => format!("[{ip}%{name}]:{port}"),
            None => format!("[{ip}%{scope}]:{port}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_link_local_addresses_have_names() {
        let name: ScopeName = |number| {
            assert_ne!(number, 9, "asked for no reason");
            (number == 7).then(|| "eth0".to_owned())
        };
        for (addr, expected) in [
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("[fe80::1%7]:1", "[fe80::1%eth0]:1"),
            ("[ff02::1%7]:1", "[ff02::1%eth0]:1"),
            ("[fe80::1%8]:1", "[fe80::1%8]:1"),
            ("[fe80::1]:1", "[fe80::1]:1"),
            ("[2001:db8::1%9]:1", "[2001:db8::1%9]:1"),
            ("[::1.2.3.4]:4", "[::1.2.3.4]:4"),
        ] {
            assert_eq!(endpoint(&addr.parse().unwrap(), name), expected);
        }
    }

    #[test]
    fn dotted_ends() {
        for text in [
            "::",
            "::1",
            "::ffff",
            "::1.0.0.0",
            "::1.2.3.4",
            "::255.255.255.255",
            "::ffff:1.2.3.4",
            "::ffff:0.0.0.0",
            "::1:102:304",
            "1::102:304",
            "::fffe:102:304",
            "1.2.3.4",
            "2001:db8:0:1:1:1:1:1",
        ] {
            assert_eq!(address(text.parse().unwrap()).to_string(), text);
        }
        assert_eq!(prefix(&"::1.2.3.4/112".parse().unwrap()).to_string(), "::1.2.0.0/112");
    }
}
