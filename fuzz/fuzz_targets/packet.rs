//! Single packets from a hostile TUN device or peer: reading headers, marking congestion, answering with ICMP, checksums; and
//! the virtio-net header.
//!
//! The input is flags, ten bytes more, and a packet. With a flag set, version and lengths are put right first.

#![no_main]

use std::net::IpAddr;

use adit_fuzz::{exact, ones_complement, pseudo_header};
use adit_net::checksum;
use adit_net::packet::{ecn_decap, ecn_encap, icmp_unreachable, parse};
use adit_net::tun::VirtioNetHdr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&flags, rest)) = input.split_first() else { return };
    let Some((header, rest)) = rest.split_first_chunk() else { return };
    assert_eq!(VirtioNetHdr::from_bytes(*header).to_bytes(), *header);
    let mut packet = exact(rest);
    if flags & 1 != 0 {
        put_right(&mut packet, flags & 2 != 0);
    }
    check_header(&packet);
    check_sums(&packet, usize::from(header[0]));
    check_marks(&packet, header[1]);
    let own = match flags >> 2 & 3 {
        0 => None,
        1 => Some(IpAddr::from([10, 0, 0, 1])),
        _ => Some(IpAddr::from([0xfd; 16])),
    };
    check_answer(&packet, own);
});

fn put_right(packet: &mut [u8], v6: bool) {
    let len = packet.len() as u16;
    if v6 && len >= 40 {
        packet[0] = packet[0] & 0xf | 0x60;
        packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
    } else if len >= 20 {
        packet[0] = packet[0] & 0xf | 0x40;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
    }
}

fn check_header(packet: &[u8]) {
    let version = packet.first().map_or(0, |first| first >> 4);
    let word = |at: usize| usize::from(packet[at]) << 8 | usize::from(packet[at + 1]);
    let total_len = match version {
        4 if packet.len() >= 20 => Some(word(2)).filter(|len| (20..=packet.len()).contains(len)),
        6 if packet.len() >= 40 => Some(40 + word(4)).filter(|len| *len <= packet.len()),
        _ => None,
    };
    let ip = parse(packet);
    assert_eq!(ip.map(|ip| ip.total_len), total_len);
    let Some(ip) = ip else { return };
    let (source, destination) = if version == 4 { (12..16, 16..20) } else { (8..24, 24..40) };
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    assert_eq!(octets(ip.source), packet[source]);
    assert_eq!(octets(ip.destination), packet[destination]);
    assert!(ip.header_len <= ip.total_len && ip.header_len >= if version == 4 { 20 } else { 40 });
    assert_eq!(ip.tos, if version == 4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 });
}

/// Sums of any bytes at any place, with and without copying.
fn check_sums(bytes: &[u8], from: usize) {
    let bytes = exact(&bytes[from.min(bytes.len())..]);
    let expected = ones_complement(&[&bytes]);
    // Zero has two spellings.
    let same = |sum: u32| checksum::fold(sum) % 0xffff == expected % 0xffff;
    assert!(same(checksum::sum(&bytes)));
    let mut copy = vec![0; bytes.len()].into_boxed_slice();
    assert!(same(checksum::copy_and_sum(&bytes, &mut copy)));
    assert_eq!(copy, bytes);
}

/// RFC 6040, 4.2, but that a packet that cannot be marked is left alone.
fn check_marks(packet: &[u8], outer: u8) {
    let mut marked = exact(packet);
    ecn_decap(&mut marked, outer);
    let Some(ip) = parse(packet) else { return };
    let inner = ip.tos & 3;
    assert_eq!(ecn_encap(ip.tos), inner);
    let expected = match (inner, outer & 3) {
        (1 | 2, 3) => 3,
        (2, 1) => 1,
        _ => inner,
    };
    assert_eq!(parse(&marked).map(|ip| ip.tos), Some(ip.tos & !3 | expected));
    // Nothing else has changed, but the checksum of IPv4, which is as right as it was.
    let is_v4 = packet[0] >> 4 == 4;
    let changes = marked.iter().zip(packet).enumerate().filter(|(_, (new, old))| new != old);
    assert!(changes.into_iter().all(|(at, _)| at == 1 || is_v4 && (10..12).contains(&at)));
    let is_right = |packet: &[u8]| ones_complement(&[&packet[..20]]) == 0xffff;
    assert!(!is_v4 || expected == inner || is_right(&marked) == is_right(packet));
}

fn check_answer(packet: &[u8], own: Option<IpAddr>) {
    let Some(answer) = icmp_unreachable(packet, own) else { return };
    let about = parse(packet).expect("only packets are answered");
    let ip = parse(&answer).expect("an answer is a packet");
    assert_eq!(ip.total_len, answer.len());
    assert_eq!(ip.destination, about.source);
    assert!(ip.source == about.destination || Some(ip.source) == own);
    let (header, limit) = if ip.source.is_ipv4() { (20, 576) } else { (40, 1280) };
    assert_eq!(answer.len(), limit.min(header + 8 + about.total_len));
    assert_eq!(answer[header + 8..], packet[..answer.len() - header - 8], "it quotes the packet");
    if header == 20 {
        assert_eq!(ones_complement(&[&answer[..20]]), 0xffff);
        assert_eq!(ones_complement(&[&answer[20..]]), 0xffff);
    } else {
        assert_eq!(ones_complement(&[&pseudo_header(&answer, 40), &answer[40..]]), 0xffff);
    }
    let is_one_host = |ip: IpAddr| !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback();
    assert!(is_one_host(about.source) && is_one_host(about.destination));
    assert_eq!(icmp_unreachable(&answer, own), None, "errors are not answered");
}
