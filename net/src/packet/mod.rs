//! The packets inside the tunnel: what of an IP packet the tunnel itself looks at.
//!
//! WireGuard whitepaper section 5.4.6 and cryptokey routing, section 2; RFC 791, RFC 8200.

mod ecn;
mod unreachable;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use ecn::{ecn_decap, ecn_encap};
pub use unreachable::icmp_unreachable;

/// Length of an IPv4 header without options, in bytes.
pub const IPV4_HEADER_LEN: usize = 20;
/// Length of the IPv6 header, in bytes.
pub const IPV6_HEADER_LEN: usize = 40;

/// The outcome of [`parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// TOS octet or traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// Length in bytes that the header states: not less than an empty header, not more than the bytes given.
    pub total_len: usize,
    /// Length of the IPv4 header with options or of the fixed IPv6 header, in bytes, at most `total_len`.
    pub header_len: usize,
}

/// Reads the header of the IP packet at the start of `bytes`; the padding that may follow lies beyond `total_len`.
///
/// `None` for anything but IPv4 and IPv6, and for lengths that cannot be true. An IPv4 header length below 20 or
/// beyond the packet is left for the receiving host to refuse, as kernel WireGuard leaves it; `header_len` is then the
/// nearest possible value.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Ip> {
    match bytes.first()? >> 4 {
        4 => parse_v4(bytes),
        6 => parse_v6(bytes),
        _ => None,
    }
}

fn parse_v4(bytes: &[u8]) -> Option<Ip> {
    let header = bytes.first_chunk::<IPV4_HEADER_LEN>()?;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if !(IPV4_HEADER_LEN..=bytes.len()).contains(&total_len) {
        return None;
    }
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    Some(Ip {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        tos: header[1],
        total_len,
        header_len: (usize::from(header[0] & 0x0f) * 4).clamp(IPV4_HEADER_LEN, total_len),
    })
}

fn parse_v6(bytes: &[u8]) -> Option<Ip> {
    let header = bytes.first_chunk::<IPV6_HEADER_LEN>()?;
    let total_len = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if total_len > bytes.len() {
        return None;
    }
    let (source, destination) = header[8..].split_at(16);
    let address = |octets: &[u8]| <[u8; 16]>::try_from(octets).ok().map(Ipv6Addr::from);
    Some(Ip {
        source: address(source)?.into(),
        destination: address(destination)?.into(),
        tos: header[0] << 4 | header[1] >> 4,
        total_len,
        header_len: IPV6_HEADER_LEN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_v4() {
        let mut bytes = [0u8; 40];
        bytes[..4].copy_from_slice(&[0x46, 0xb9, 0, 30]);
        bytes[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let ip = parse(&bytes).expect("a packet");
        assert_eq!(ip.source, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(ip.destination, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!((ip.tos, ip.total_len, ip.header_len), (0xb9, 30, 24));
    }

    #[test]
    fn reads_v6() {
        let mut bytes = [0u8; 64];
        bytes[..6].copy_from_slice(&[0x6b, 0x91, 2, 3, 0, 20]);
        bytes[23] = 1;
        bytes[39] = 2;
        let ip = parse(&bytes).expect("a packet");
        assert_eq!(ip.source, Ipv6Addr::LOCALHOST);
        assert_eq!(ip.destination, Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 2));
        assert_eq!((ip.tos, ip.total_len, ip.header_len), (0xb9, 60, 40));
    }

    #[test]
    fn refuses_untrue_lengths() {
        let v4 = |total: u16, len: usize| {
            let mut bytes = vec![0; len];
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&total.to_be_bytes());
            parse(&bytes).is_some()
        };
        assert!(v4(20, 20) && v4(20, 21) && v4(65_535, 65_535));
        assert!(!v4(19, 40) && !v4(0, 40) && !v4(41, 40) && !v4(65_535, 65_534));

        let v6 = |payload: u16, len: usize| {
            let mut bytes = vec![0; len];
            bytes[0] = 0x60;
            bytes[4..6].copy_from_slice(&payload.to_be_bytes());
            parse(&bytes).is_some()
        };
        assert!(v6(0, 40) && v6(8, 48) && v6(65_535, 65_575));
        // In 16 bits, 40 + 65,535 would be 39.
        assert!(!v6(1, 40) && !v6(65_535, 65_535) && !v6(65_535, 1500));
    }

    #[test]
    fn refuses_other_versions_and_short_headers() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0x45; 19]), None);
        assert_eq!(parse(&[0x60; 39]), None);
        assert_eq!(parse(&[0x00; 60]), None);
        assert_eq!(parse(&[0x55; 60]), None);
    }

    proptest! {
        #[test]
        fn lengths_are_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..100), version in 4u8..7) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 0xf;
            }
            if let Some(ip) = parse(&bytes) {
                prop_assert!(ip.header_len <= ip.total_len && ip.total_len <= bytes.len());
                prop_assert_eq!(ip.source.is_ipv4(), ip.destination.is_ipv4());
            }
        }
    }
}
