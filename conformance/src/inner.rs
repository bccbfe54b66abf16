//! Packets inside the tunnel.

/// Whom inner packets are for: an address that nobody has, so that the engine's host answers nothing.
pub const NOBODY4: [u8; 4] = [192, 168, 241, 99];
/// The same in IPv6.
pub const NOBODY6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99];

/// An IPv4 packet of protocol 253 (experiments, RFC 3692).
pub fn v4(from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).expect("a short packet");
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 253, 0, 0];
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet.extend([from, to].concat());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet of protocol 253.
pub fn v6(from: [u8; 16], to: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a short packet");
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 253, 64];
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    packet.extend([from, to].concat());
    packet.extend(payload);
    packet
}

/// `packet` with a checksum that fits its IPv4 header, for one that was changed.
pub fn again(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// `packet`, padded with zeros to a multiple of 16.
pub fn padded(mut packet: Vec<u8>) -> Vec<u8> {
    packet.resize(packet.len().next_multiple_of(16), 0);
    packet
}

/// The length that a packet's header tells.
pub fn length(packet: &[u8]) -> Option<usize> {
    let number = |at: usize| Some(usize::from(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?])));
    match packet.first()? >> 4 {
        4 => number(2),
        6 => number(4).map(|len| len + 40),
        _ => None,
    }
}

/// The Internet checksum (RFC 1071).
pub fn checksum(header: &[u8]) -> u16 {
    let sum: u32 =
        header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded twice")
}
