//! Socket addresses between `std` and the kernel's layout.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The local address that a train was sent to: the source to answer from (*sticky source*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalAddr {
    /// Our address. For a datagram sent to a broadcast address it is the interface's own address.
    pub ip: IpAddr,
    /// Index of the interface that the datagram arrived on. Sending is not bound to it, so that a better route wins;
    /// compare it with the interface of [`crate::netlink::RouteLookup`] to notice one. Only a link-local `ip` keeps it.
    pub ifindex: u32,
}

/// An IPv4 or IPv6 socket address as the kernel reads and writes it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union RawAddr {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddr {
    /// The size of the storage in bytes, enough for either family.
    pub const CAPACITY: libc::socklen_t = mem::size_of::<Self>() as libc::socklen_t;

    /// All zeros: an address of no family, ready for the kernel to write to.
    pub const fn unset() -> Self {
        // SAFETY: both variants are plain integers and byte arrays, for which all-zero is a value.
        unsafe { mem::zeroed() }
    }

    /// The address in the kernel's layout, with the length of its family.
    pub fn encode(addr: &SocketAddr) -> (Self, libc::socklen_t) {
        let mut raw = Self::unset();
        match addr {
            SocketAddr::V4(addr) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: encode_v4(*addr.ip()),
                    sin_zero: [0; 8],
                };
                (raw, mem::size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(addr) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: encode_v6(*addr.ip()),
                    sin6_scope_id: addr.scope_id(),
                };
                (raw, mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// Reads what the kernel wrote; `None` for a family that is neither IPv4 nor IPv6.
    ///
    /// The scope is kept for link-local addresses only: for all others it is noise that would make equal endpoints
    /// compare unequal.
    pub fn decode(&self) -> Option<SocketAddr> {
        // SAFETY: every byte of the union is initialised (it starts as zeros), every bit pattern is a value of either
        // variant, and the family is at the same offset in both.
        let (v4, v6) = unsafe { (self.v4, self.v6) };
        match libc::c_int::from(v4.sin_family) {
            libc::AF_INET => {
                Some(SocketAddrV4::new(decode_v4(v4.sin_addr), u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let ip = decode_v6(v6.sin6_addr);
                let scope = if ip.is_unicast_link_local() { v6.sin6_scope_id } else { 0 };
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, scope).into())
            }
            _ => None,
        }
    }
}

pub(super) fn encode_v4(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) }
}

pub(super) fn decode_v4(ip: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(ip.s_addr.to_ne_bytes())
}

pub(super) fn encode_v6(ip: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: ip.octets() }
}

pub(super) fn decode_v6(ip: libc::in6_addr) -> Ipv6Addr {
    Ipv6Addr::from(ip.s6_addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(addr: &str) -> SocketAddr {
        RawAddr::encode(&addr.parse().unwrap()).0.decode().unwrap()
    }

    #[test]
    fn both_families_round_trip() {
        for addr in ["192.0.2.7:51820", "[2001:db8::7]:51820", "[fe80::1%3]:9"] {
            assert_eq!(round_trip(addr), addr.parse().unwrap());
        }
    }

    #[test]
    fn scope_is_kept_for_link_local_only() {
        assert_eq!(round_trip("[2001:db8::7%3]:1"), "[2001:db8::7]:1".parse().unwrap());
    }

    #[test]
    fn no_family_is_no_address() {
        assert_eq!(RawAddr::unset().decode(), None);
    }
}
