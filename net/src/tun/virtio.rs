//! The virtio-net header that precedes each packet of a TUN device opened with `IFF_VNET_HDR`.
//!
//! Virtual I/O Device (VIRTIO) 1.2, section 5.1.6, in the legacy form without `num_buffers` and in the machine's byte
//! order, which is what the kernel's TUN driver speaks unless told otherwise.

/// What a super-packet needs that its own headers do not say: where to cut it and what to checksum.
///
/// All zero means: an ordinary packet, complete as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioNetHdr {
    /// [`NEEDS_CSUM`](Self::NEEDS_CSUM), or zero.
    pub flags: u8,
    /// One of the `GSO_*` constants, perhaps with [`GSO_ECN`](Self::GSO_ECN).
    pub gso_type: u8,
    /// Length of the headers before the payload, in bytes: a hint only. Forwarded packets carry larger values.
    pub hdr_len: u16,
    /// Payload bytes per segment.
    pub gso_size: u16,
    /// Where checksumming starts: the offset of the transport header, in bytes.
    pub csum_start: u16,
    /// Where the checksum belongs, in bytes after `csum_start`.
    pub csum_offset: u16,
}

impl VirtioNetHdr {
    /// Its length on the wire, in bytes.
    pub const LEN: usize = 10;

    /// The checksum field holds the sum of the pseudo-header; the rest is for the reader to add.
    pub const NEEDS_CSUM: u8 = 1;

    /// Not a super-packet.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// TCP over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP datagrams of one size (not UDP fragmentation), over IPv4 or IPv6.
    pub const GSO_UDP_L4: u8 = 5;
    /// A bit beside the type: the first segment carries TCP's CWR flag (RFC 3168).
    pub const GSO_ECN: u8 = 0x80;

    /// Reads it from its wire form.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let [flags, gso_type, rest @ ..] = bytes;
        let [h0, h1, g0, g1, s0, s1, o0, o1] = rest;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// Its wire form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }
}

#[cfg(test)]
mod tests {
    use super::VirtioNetHdr;

    #[test]
    fn bytes_and_back() {
        let bytes = [1, 0x81, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(VirtioNetHdr::from_bytes(bytes).to_bytes(), bytes);
        assert_eq!(VirtioNetHdr::default().to_bytes(), [0; VirtioNetHdr::LEN]);
    }
}
