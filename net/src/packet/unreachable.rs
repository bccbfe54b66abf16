//! "Destination unreachable", for a packet that the tunnel has no peer or no endpoint for.
//!
//! WireGuard whitepaper section 3: such packets are answered with ICMP. RFC 792, RFC 1122 section 3.2.2 and RFC 1812
//! section 4.3.2 say when not to; RFC 4443 sections 2.4 and 3.1 for IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, Ip, parse};
use crate::checksum::{checksum, fold, pseudo_header, sum};

/// The ICMP header of this message, with its four unused bytes.
const ICMP_HEADER_LEN: usize = 8;
const ICMP_UNREACHABLE: [u8; 2] = [3, 1];
const ICMPV6_UNREACHABLE: [u8; 2] = [1, 3];

/// Longest ICMP error in bytes that every host accepts (RFC 1812 section 4.3.2.3).
const MAX_V4_LEN: usize = 576;
/// The minimum MTU of IPv6, in bytes.
const MAX_V6_LEN: usize = 1280;
const HOP_LIMIT: u8 = 64;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;

/// Builds the answer to an undeliverable `packet`: ICMP host unreachable or ICMPv6 address unreachable, quoting as
/// much of it as permitted. Limiting the rate is up to the caller.
///
/// `source` should be an address of the tunnel's interface; if it is missing or of the other family, the answer comes
/// from the packet's own destination, which every host accepts.
///
/// `None` where no answer may be given: to ICMP errors, to later fragments, to or about groups, and to sources that
/// are not one host.
#[must_use]
pub fn icmp_unreachable(packet: &[u8], source: Option<IpAddr>) -> Option<Vec<u8>> {
    let ip = parse(packet)?;
    let packet = packet.get(..ip.total_len)?;
    match (ip.source, ip.destination) {
        (IpAddr::V4(to), IpAddr::V4(about)) => {
            let from = match source {
                Some(IpAddr::V4(own)) => own,
                _ => about,
            };
            (is_one_host_v4(to) && is_one_host_v4(about) && may_answer_v4(packet, &ip))
                .then(|| build_v4(packet, from, to, ip.tos))
        }
        (IpAddr::V6(to), IpAddr::V6(about)) => {
            let from = match source {
                Some(IpAddr::V6(own)) => own,
                _ => about,
            };
            (is_one_host_v6(to) && is_one_host_v6(about) && may_answer_v6(packet))
                .then(|| build_v6(packet, from, to))
        }
        _ => None,
    }
}

/// Not `0.0.0.0/8`, loopback, multicast, class E or broadcast.
fn is_one_host_v4(address: Ipv4Addr) -> bool {
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

fn is_one_host_v6(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

fn may_answer_v4(packet: &[u8], ip: &Ip) -> bool {
    let [_, _, _, _, _, _, f0, f1, _, protocol, ..] = *packet else { return false };
    if u16::from_be_bytes([f0, f1]) & 0x1fff != 0 {
        return false;
    }
    // Queries and their answers; whatever else there is might be an error.
    let is_query = |kind: &u8| matches!(kind, 0 | 8..=10 | 13..=18 | 42 | 43);
    protocol != PROTOCOL_ICMP || packet.get(ip.header_len).is_some_and(is_query)
}

/// Walks the extension headers to the upper layer, which must be in sight to know that it is no ICMPv6 error.
fn may_answer_v6(packet: &[u8]) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    const REDIRECT: u8 = 137;

    let Some(mut next) = packet.get(6).copied() else { return false };
    let mut at = IPV6_HEADER_LEN;
    loop {
        let extension = packet.get(at..).unwrap_or_default();
        let len = match next {
            PROTOCOL_ICMPV6 => {
                return extension.first().is_some_and(|kind| *kind >= 128 && *kind != REDIRECT);
            }
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION => extension.get(1).copied(),
            _ => return true,
        };
        let (Some(len), Some(upper)) = (len.map(usize::from), extension.first()) else { return false };
        at += match next {
            FRAGMENT => match *extension {
                [_, _, o0, o1, ..] if u16::from_be_bytes([o0, o1]) & 0xfff8 == 0 => 8,
                _ => return false,
            },
            AUTHENTICATION => (len + 2) * 4,
            _ => (len + 1) * 8,
        };
        next = *upper;
    }
}

fn build_v4(packet: &[u8], from: Ipv4Addr, to: Ipv4Addr, tos: u8) -> Vec<u8> {
    let quoted = &packet[..packet.len().min(MAX_V4_LEN - IPV4_HEADER_LEN - ICMP_HEADER_LEN)];
    let total_len = IPV4_HEADER_LEN + ICMP_HEADER_LEN + quoted.len();

    let mut answer = Vec::with_capacity(total_len);
    // Internetwork control, with the TOS bits of the original but not its ECN (RFC 1812 section 4.3.2.5).
    answer.extend([0x45, 0xc0 | tos & 0x1c]);
    answer.extend((total_len as u16).to_be_bytes());
    // No identification: Don't Fragment makes it meaningless (RFC 6864).
    answer.extend([0, 0, 0x40, 0, HOP_LIMIT, PROTOCOL_ICMP, 0, 0]);
    answer.extend(from.octets());
    answer.extend(to.octets());
    let header_checksum = checksum(&answer);
    answer[10..12].copy_from_slice(&header_checksum.to_be_bytes());

    append_icmp(&mut answer, ICMP_UNREACHABLE, quoted, 0);
    answer
}

fn build_v6(packet: &[u8], from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let quoted = &packet[..packet.len().min(MAX_V6_LEN - IPV6_HEADER_LEN - ICMP_HEADER_LEN)];
    let payload_len = (ICMP_HEADER_LEN + quoted.len()) as u16;

    let mut answer = Vec::with_capacity(IPV6_HEADER_LEN + usize::from(payload_len));
    answer.extend([0x60, 0, 0, 0]);
    answer.extend(payload_len.to_be_bytes());
    answer.extend([PROTOCOL_ICMPV6, HOP_LIMIT]);
    answer.extend(from.octets());
    answer.extend(to.octets());

    let pseudo = pseudo_header(from.into(), to.into(), PROTOCOL_ICMPV6, payload_len);
    append_icmp(&mut answer, ICMPV6_UNREACHABLE, quoted, pseudo);
    answer
}

fn append_icmp(answer: &mut Vec<u8>, kind_and_code: [u8; 2], quoted: &[u8], pseudo: u32) {
    let icmp_checksum = !fold(pseudo + sum(&kind_and_code) + sum(quoted));
    answer.extend(kind_and_code);
    answer.extend(icmp_checksum.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend_from_slice(quoted);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

    fn v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0x2b, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend_from_slice(payload);
        let total = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&total);
        packet
    }

    fn v6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([next, 64]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn answers_v4() {
        for payload in [8, 520, 528, 529, 1400] {
            let packet = v4(A4, B4, 17, &vec![7; payload]);
            let own = Ipv4Addr::new(10, 0, 0, 1);
            let answer = icmp_unreachable(&packet, Some(own.into())).expect("an answer");
            let ip = parse(&answer).expect("IP");
            assert_eq!((ip.source, ip.destination), (own.into(), A4.into()));
            assert_eq!(ip.total_len, answer.len());
            assert_eq!(answer.len(), (28 + packet.len()).min(576));
            assert_eq!(answer[1], 0xc8);
            assert_eq!(fold(sum(&answer[..20])), 0xffff);
            assert_eq!(fold(sum(&answer[20..])), 0xffff);
            assert_eq!(answer[20..22], [3, 1]);
            assert_eq!(answer[28..], packet[..answer.len() - 28]);
        }
    }

    #[test]
    fn answers_v6() {
        for payload in [8, 1192, 1193, 1360] {
            let mut packet = v6(A6, B6, 17, &vec![7; payload]);
            let honest = packet.len();
            packet.extend([0; 13]);
            let answer = icmp_unreachable(&packet, Some(A4.into())).expect("an answer");
            let ip = parse(&answer).expect("IP");
            assert_eq!((ip.source, ip.destination), (B6.into(), A6.into()));
            assert_eq!(answer.len(), (48 + honest).min(1280));
            let pseudo = pseudo_header(ip.source, ip.destination, 58, (answer.len() - 40) as u16);
            assert_eq!(fold(pseudo + sum(&answer[40..])), 0xffff);
            assert_eq!(answer[40..42], [1, 3]);
            assert_eq!(answer[48..], packet[..answer.len() - 48]);
        }
    }

    /// Linux a63edc0: what is no IP packet was answered by ICMP too.
    #[test]
    fn keeps_silent_about_v4() {
        let silent = |packet: &[u8]| assert_eq!(icmp_unreachable(packet, None), None, "{packet:?}");
        for not_one_host in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
            let address = not_one_host.parse().expect("an address");
            silent(&v4(address, B4, 17, &[0; 8]));
            silent(&v4(A4, address, 17, &[0; 8]));
        }
        for error in [3, 4, 5, 11, 12, 200] {
            silent(&v4(A4, B4, 1, &[error, 0, 0, 0, 0, 0, 0, 0]));
        }
        silent(&v4(A4, B4, 1, &[]));
        assert!(icmp_unreachable(&v4(A4, B4, 1, &[8, 0, 0, 0]), None).is_some());

        let mut fragment = v4(A4, B4, 17, &[0; 8]);
        fragment[6] = 0x20;
        assert!(icmp_unreachable(&fragment, None).is_some(), "the first fragment");
        fragment[7] = 1;
        silent(&fragment);
        silent(&[]);
        silent(&[0x45; 10]);
        silent(&[0x12; 100]);
    }

    #[test]
    fn keeps_silent_about_v6() {
        let silent = |packet: &[u8]| assert_eq!(icmp_unreachable(packet, None), None, "{packet:?}");
        for not_one_host in ["::", "::1", "ff02::1"] {
            let address = not_one_host.parse().expect("an address");
            silent(&v6(address, B6, 17, &[0; 8]));
            silent(&v6(A6, address, 17, &[0; 8]));
        }
        let echo = [128, 0, 0, 0, 0, 0, 0, 0];
        let error = [1, 0, 0, 0, 0, 0, 0, 0];
        let behind = |extension: &[u8], upper: &[u8]| [extension, upper].concat();
        assert!(icmp_unreachable(&v6(A6, B6, 58, &echo), None).is_some());
        silent(&v6(A6, B6, 58, &error));
        silent(&v6(A6, B6, 58, &[137, 0, 0, 0]));
        silent(&v6(A6, B6, 58, &[]));
        for (kind, extension) in [
            (0, &[58, 0, 1, 4, 0, 0, 0, 0][..]),
            (43, &[58, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (60, &[58, 0, 1, 4, 0, 0, 0, 0]),
            (44, &[58, 0, 0, 1, 0, 0, 0, 0]),
            (51, &[58, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert!(icmp_unreachable(&v6(A6, B6, kind, &behind(extension, &echo)), None).is_some(), "{kind}");
            silent(&v6(A6, B6, kind, &behind(extension, &error)));
            silent(&v6(A6, B6, kind, extension));
            silent(&v6(A6, B6, kind, &extension[..1]));
        }
        silent(&v6(A6, B6, 44, &behind(&[17, 0, 0, 8, 0, 0, 0, 0], &echo)));
    }

    proptest! {
        #[test]
        fn never_panics_nor_answers_itself(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 4u8..7, next in 0u8..64,
        ) {
            if let [first, _, _, _, a, b, c, _, _, d, ..] = &mut bytes[..] {
                *first = version << 4 | 5;
                (*a, *b, *c, *d) = (0, *b % 60, if version == 6 { next } else { *c }, next);
            }
            if let Some(answer) = icmp_unreachable(&bytes, None) {
                prop_assert!(parse(&answer).is_some());
                prop_assert_eq!(icmp_unreachable(&answer, None), None);
            }
        }
    }
}
