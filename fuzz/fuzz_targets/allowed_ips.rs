//! The routing table against one that looks at every prefix.
//!
//! The input is a list of insertions, removals and questions, four bytes each. Addresses have few different bits, so that
//! prefixes nest and collide.

#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use adit_proto::allowed_ips::AllowedIps;
use libfuzzer_sys::fuzz_target;

/// What comes after that costs time and shows little.
const MAX_STEPS: usize = 120;

fuzz_target!(|input: &[u8]| {
    let mut table = AllowedIps::default();
    let mut naive = Naive::default();
    for (number, step) in (0u32..).zip(input.as_chunks::<4>().0.iter().take(MAX_STEPS)) {
        let [what, high, low, len] = *step;
        let ip = address(what & 0x80 != 0, high, low);
        match what & 0x7f {
            0..64 => {
                assert_eq!(table.insert(ip, len, number), naive.0.insert(key(ip, len), number));
            }
            64..96 => assert_eq!(table.remove(ip, len), naive.0.remove(&key(ip, len))),
            _ => {
                assert_eq!(table.longest_match(ip), naive.longest_match(ip));
                assert_eq!(table.get(ip, len), naive.0.get(&key(ip, len)));
            }
        }
        assert!(table.nodes() <= 2 * naive.0.len());
    }
    for ((ip, len), value) in &naive.0 {
        assert_eq!(table.get(*ip, *len), Some(value));
        for asked in [*ip, last(*ip, *len)] {
            assert_eq!(table.longest_match(asked), naive.longest_match(asked));
        }
    }
    for (ip, len) in naive.0.keys() {
        assert!(table.remove(*ip, *len).is_some());
    }
    assert_eq!(table.nodes(), 0);
});

fn address(v6: bool, high: u8, low: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::from(u128::from(high) << 120 | u128::from(low & 0xf0) << 60 | u128::from(low & 0xf)).into()
    } else {
        Ipv4Addr::from(u32::from(high) << 24 | u32::from(low & 0xf0) << 12 | u32::from(low & 0xf)).into()
    }
}

fn bits(ip: IpAddr) -> (u128, u8) {
    match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (ip.into(), 128),
    }
}

fn of_bits(like: IpAddr, bits: u128) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::from((bits >> 96) as u32).into() } else { Ipv6Addr::from(bits).into() }
}

/// A prefix without host bits; a length beyond the address means the whole address.
fn key(ip: IpAddr, len: u8) -> (IpAddr, u8) {
    let (all, width) = bits(ip);
    let len = len.min(width);
    (of_bits(ip, all & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)), len)
}

/// The last address of a prefix.
fn last(ip: IpAddr, len: u8) -> IpAddr {
    of_bits(ip, bits(ip).0 | u128::MAX.checked_shr(len.into()).unwrap_or(0))
}

/// The rule itself: of all prefixes that contain the address, the longest.
#[derive(Default)]
struct Naive(BTreeMap<(IpAddr, u8), u32>);

impl Naive {
    fn longest_match(&self, ip: IpAddr) -> Option<&u32> {
        let containing = self
            .0
            .iter()
            .filter(|((net, len), _)| net.is_ipv4() == ip.is_ipv4() && key(ip, *len) == (*net, *len));
        containing.max_by_key(|((_, len), _)| *len).map(|(_, value)| value)
    }
}
