//! IPv4 packets by hand: whoever writes their headers himself says where they come from.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes of an IPv4 header without options.
const IP_HEADER: usize = 20;
/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;
/// Bytes of a fragment's payload that fit an MTU of 1,500; a multiple of 8.
const FRAGMENT: usize = 1480;
/// "More fragments follow".
const MORE: u16 = 0x2000;
const UDP: u8 = 17;

/// The `number`th forged source, of any number: addresses of 100.64.0.0/10, which nobody has here.
#[must_use]
pub fn source(number: u32) -> SocketAddrV4 {
    let port = 1024 + (number.wrapping_mul(7919) % 60_000) as u16;
    SocketAddrV4::new(Ipv4Addr::from_bits(0x6440_0000 | number & 0x003f_ffff), port)
}

/// The packets that carry `payload` as one datagram: one, or its fragments.
///
/// # Panics
/// If it is longer than 65,507 bytes.
#[must_use]
pub fn packets(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8], id: u16) -> Vec<Vec<u8>> {
    let len = u16::try_from(UDP_HEADER + payload.len()).expect("a datagram's length fits its header");
    let mut datagram = Vec::with_capacity(usize::from(len));
    for word in [from.port(), to.port(), len, 0] {
        // No checksum: over IPv4 it may be left out.
        datagram.extend(word.to_be_bytes());
    }
    datagram.extend(payload);
    let parts = datagram.chunks(FRAGMENT);
    let last = parts.len() - 1;
    let fragment = |(number, part): (usize, &[u8])| {
        let flags = if number < last { MORE } else { 0 };
        let at = (number * FRAGMENT / 8) as u16 | flags;
        [&header(from, to, part.len(), id, at)[..], part].concat()
    };
    parts.enumerate().map(fragment).collect()
}

/// The kernel writes the checksum, and nothing else that is not zero.
fn header(from: SocketAddrV4, to: SocketAddrV4, len: usize, id: u16, fragment: u16) -> [u8; IP_HEADER] {
    let mut header = [0; IP_HEADER];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((IP_HEADER + len) as u16).to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    (header[8], header[9]) = (64, UDP);
    header[12..16].copy_from_slice(&from.ip().octets());
    header[16..20].copy_from_slice(&to.ip().octets());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 51820);

    #[test]
    fn short_payloads_are_one_packet() {
        let made = packets(source(7), TO, b"hello", 9);
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].len(), 33);
        assert_eq!(made[0][2..4], [0, 33]);
        assert_eq!(made[0][12..16], [100, 64, 0, 7]);
        assert_eq!(made[0][24..26], [0, 13]);
        assert_eq!(made[0][28..], *b"hello");
    }

    #[test]
    fn long_ones_are_fragments_that_add_up() {
        let payload = vec![7; 65_507];
        let made = packets(source(0), TO, &payload, 9);
        assert_eq!(made.iter().map(|packet| packet.len() - IP_HEADER).sum::<usize>(), 65_515);
        for (number, packet) in made.iter().enumerate() {
            let word = u16::from_be_bytes([packet[6], packet[7]]);
            assert_eq!(usize::from(word & 0x1fff) * 8, number * FRAGMENT);
            assert_eq!(word & MORE != 0, number + 1 < made.len());
        }
    }

    #[test]
    fn sources_differ() {
        assert_ne!(source(0).ip(), source(1).ip());
        assert!((0..100_000).all(|number| source(number).port() >= 1024));
    }
}
