//! Offsets and bits of the headers that splitting and coalescing rewrite (RFC 791, RFC 8200, RFC 9293, RFC 768).

pub(super) const PROTOCOL_TCP: u8 = 6;
pub(super) const PROTOCOL_UDP: u8 = 17;

pub(super) mod ipv4 {
    pub const TOTAL_LEN: usize = 2;
    pub const IDENTIFICATION: usize = 4;
    pub const FRAGMENT: usize = 6;
    pub const PROTOCOL: usize = 9;
    pub const CHECKSUM: usize = 10;
    pub const ADDRESSES: usize = 12;

    /// In the 16-bit word at [`FRAGMENT`].
    pub const DONT_FRAGMENT: u16 = 0x4000;
}

pub(super) mod ipv6 {
    pub const PAYLOAD_LEN: usize = 4;
    pub const NEXT_HEADER: usize = 6;
}

pub(super) mod tcp {
    pub const MIN_HEADER_LEN: usize = 20;
    pub const SEQUENCE: usize = 4;
    pub const ACKNOWLEDGEMENT: usize = 8;
    /// Data offset and reserved bits, in one 16-bit word with the flags.
    pub const DATA_OFFSET: usize = 12;
    pub const FLAGS: usize = 13;
    pub const CHECKSUM: usize = 16;
    pub const URGENT: usize = 18;

    pub const FIN: u8 = 0x01;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const CWR: u8 = 0x80;
}

pub(super) mod udp {
    pub const HEADER_LEN: usize = 8;
    pub const LEN: usize = 4;
    pub const CHECKSUM: usize = 6;
}

/// The transport protocols that can be cut and joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => PROTOCOL_TCP,
            Self::Udp => PROTOCOL_UDP,
        }
    }

    /// Where its header keeps the checksum.
    pub const fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => tcp::CHECKSUM,
            Self::Udp => udp::CHECKSUM,
        }
    }

    /// The 16-bit fields of its header that differ from segment to segment.
    pub const fn rewritten(self) -> &'static [usize] {
        match self {
            Self::Tcp => &[tcp::SEQUENCE, tcp::SEQUENCE + 2, tcp::DATA_OFFSET, tcp::CHECKSUM],
            Self::Udp => &[udp::LEN, udp::CHECKSUM],
        }
    }

    /// The length of the header at the start of `segment`, if it is whole.
    pub fn header_len(self, segment: &[u8]) -> Option<usize> {
        let len = match self {
            Self::Tcp => usize::from(segment.get(tcp::DATA_OFFSET)? >> 4) * 4,
            Self::Udp => udp::HEADER_LEN,
        };
        let at_least = if self == Self::Tcp { tcp::MIN_HEADER_LEN } else { udp::HEADER_LEN };
        (at_least..=segment.len()).contains(&len).then_some(len)
    }
}

/// The 16-bit field at `at`; the caller has made sure that it is there.
pub(super) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32-bit field at `at`; the caller has made sure that it is there.
pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from(get_u16(bytes, at)) << 16 | u32::from(get_u16(bytes, at + 2))
}

/// Sets the 16-bit field at `at`.
pub(super) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Sets the 32-bit field at `at`.
pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
