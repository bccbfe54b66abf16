//! Explicit congestion notification through a tunnel (RFC 6040), so that a router on the way can slow a flow inside
//! down by marking its outer packets rather than dropping them.

use crate::checksum;

const ECN_MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// The ECN field of the outer packet for an inner TOS octet: a copy (RFC 6040 section 4.1, normal mode).
#[must_use]
pub const fn ecn_encap(inner_tos: u8) -> u8 {
    inner_tos & ECN_MASK
}

/// Carries what happened to the outer packet over to the inner one (RFC 6040 section 4.2).
///
/// A packet that cannot carry marks (Not-ECT) is left as it is and delivered even under an outer CE, as kernel
/// WireGuard does, where the RFC would drop it. Bytes that are no IP packet are left alone.
pub fn ecn_decap(packet: &mut [u8], outer_tos: u8) {
    let Some(inner) = ecn(packet) else { return };
    match (inner, outer_tos & ECN_MASK) {
        (ECT_0 | ECT_1, CE) => set_ecn(packet, CE),
        (ECT_0, ECT_1) => set_ecn(packet, ECT_1),
        (NOT_ECT | CE, _) | (_, _) => {}
    }
}

fn ecn(packet: &[u8]) -> Option<u8> {
    match (packet, packet.first()? >> 4) {
        ([_, tos, ..], 4) => Some(tos & ECN_MASK),
        ([_, low, ..], 6) => Some(low >> 4 & ECN_MASK),
        _ => None,
    }
}

fn set_ecn(packet: &mut [u8], ecn: u8) {
    let Some([first, second, rest @ ..]) = packet.split_at_mut_checked(12).map(|(header, _)| header) else {
        return;
    };
    if *first >> 4 == 6 {
        *second = *second & !(ECN_MASK << 4) | ecn << 4;
        return;
    }
    let old = u16::from_be_bytes([*first, *second]);
    *second = *second & !ECN_MASK | ecn;
    let new = u16::from_be_bytes([*first, *second]);
    // Incrementally: a header that was wrong stays wrong, for the receiving host to see.
    if let Some(field) = rest.last_chunk_mut::<2>() {
        *field = checksum::update(u16::from_be_bytes(*field), old, new).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ecn: u8) -> [u8; 20] {
        let mut header = [0x45, 0xb8 | ecn, 0, 20, 1, 2, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let sum = checksum::checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    #[test]
    fn decapsulation_follows_the_table() {
        // Rows: inner Not-ECT, ECT(1), ECT(0), CE; columns: the same four for the outer header.
        let expected = [
            [NOT_ECT, NOT_ECT, NOT_ECT, NOT_ECT],
            [ECT_1, ECT_1, ECT_1, CE],
            [ECT_0, ECT_1, ECT_0, CE],
            [CE, CE, CE, CE],
        ];
        for inner in 0..4u8 {
            for outer in 0..4u8 {
                let want = expected[usize::from(inner)][usize::from(outer)];
                let mut packet = v4(inner);
                ecn_decap(&mut packet, 0x88 | outer);
                assert_eq!(packet, v4(want), "IPv4, inner {inner:02b}, outer {outer:02b}");

                let v6 = |ecn: u8| {
                    let mut header = [0xffu8; 40];
                    header[..2].copy_from_slice(&[0x6b, 0x8f | ecn << 4]);
                    header
                };
                let mut packet = v6(inner);
                ecn_decap(&mut packet, 0x88 | outer);
                assert_eq!(packet, v6(want), "IPv6, inner {inner:02b}, outer {outer:02b}");
            }
        }
    }

    #[test]
    fn a_wrong_header_checksum_stays_wrong() {
        let mut packet = v4(ECT_0);
        packet[10] ^= 0x55;
        ecn_decap(&mut packet, CE);
        assert_eq!(packet[1] & ECN_MASK, CE);
        assert_ne!(checksum::fold(checksum::sum(&packet)), 0xffff);
    }

    #[test]
    fn encapsulation_copies() {
        assert_eq!([0xfc, 0xfd, 0xfe, 0xff].map(ecn_encap), [NOT_ECT, ECT_1, ECT_0, CE]);
    }

    #[test]
    fn short_and_foreign_bytes_are_left_alone() {
        for len in 0..12 {
            for first in [0x45, 0x60, 0x00] {
                let mut packet = vec![first; len];
                if let Some(tos) = packet.get_mut(1) {
                    *tos = 0x22;
                }
                let before = packet.clone();
                ecn_decap(&mut packet, CE);
                assert_eq!(packet, before);
            }
        }
    }
}
