//! Packets and super-packets as a TUN queue with offloads hands them out: checksums are left to the reader.

use std::net::IpAddr;

use adit_net::checksum::{checksum, fold, pseudo_header};
use adit_net::segment::MAX_PACKET_LEN;
use adit_net::tun::VirtioNetHdr;

use super::{far_address, near_address};

const IP_LEN: usize = 20;

/// What TCP and UDP differ in, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Without options.
    Tcp,
    /// With a checksum.
    Udp,
}

impl Transport {
    /// The length of the headers of an IPv4 packet, in bytes.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Transport::Tcp => IP_LEN + 20,
            Transport::Udp => IP_LEN + 8,
        }
    }

    const fn protocol(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    const fn checksum_offset(self) -> u16 {
        match self {
            Transport::Tcp => 16,
            Transport::Udp => 6,
        }
    }
}

/// An IPv4 packet or super-packet from the sending engine to one of its peers.
#[derive(Clone, Debug)]
pub struct Packet {
    /// How it is to be split, and that its checksum is to be finished.
    pub hdr: VirtioNetHdr,
    /// Headers and payload.
    pub bytes: Vec<u8>,
    transport: Transport,
}

impl Packet {
    /// A packet for the `peer`th peer, or a super-packet of more `segments` than one, of `payload` bytes each, all zero.
    ///
    /// # Panics
    /// If it is longer than [`MAX_PACKET_LEN`].
    #[must_use]
    pub fn new(transport: Transport, peer: usize, payload: usize, segments: usize) -> Self {
        let len = transport.header_len() + payload * segments;
        assert!(len <= MAX_PACKET_LEN, "{len} bytes are more than IP allows");
        let (source, destination) = (near_address(peer), far_address(peer));
        let mut bytes = vec![0; len];
        bytes[0] = 0x45;
        put(&mut bytes, 2, len as u16);
        bytes[8] = 64;
        bytes[9] = transport.protocol();
        bytes[12..16].copy_from_slice(&source.octets());
        bytes[16..20].copy_from_slice(&destination.octets());
        let sum = checksum(&bytes[..IP_LEN]);
        put(&mut bytes, 10, sum);
        put(&mut bytes, IP_LEN, 5000);
        put(&mut bytes, IP_LEN + 2, 5001);
        match transport {
            // The header's length, ACK, the window.
            Transport::Tcp => bytes[IP_LEN + 12..IP_LEN + 16].copy_from_slice(&[5 << 4, 0x10, 0xff, 0xff]),
            Transport::Udp => put(&mut bytes, IP_LEN + 4, (len - IP_LEN) as u16),
        }
        let (source, destination) = (IpAddr::V4(source), IpAddr::V4(destination));
        let pseudo = pseudo_header(source, destination, transport.protocol(), (len - IP_LEN) as u16);
        put(&mut bytes, IP_LEN + usize::from(transport.checksum_offset()), fold(pseudo));
        Packet { hdr: header(transport, payload, segments), bytes, transport }
    }

    /// What it carries.
    #[must_use]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.transport.header_len()..]
    }

    /// Makes it the next one of its flow: a TCP sequence number becomes that of the next byte.
    pub fn advance(&mut self) {
        if self.transport == Transport::Tcp {
            let sequence = &mut self.bytes[IP_LEN + 4..IP_LEN + 8];
            let old = sequence.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
            let payload = self.bytes.len() - self.transport.header_len();
            let next = old.wrapping_add(payload as u32);
            self.bytes[IP_LEN + 4..IP_LEN + 8].copy_from_slice(&next.to_be_bytes());
        }
    }
}

fn header(transport: Transport, payload: usize, segments: usize) -> VirtioNetHdr {
    let (gso_type, gso_size) = match (segments, transport) {
        (1, _) => (VirtioNetHdr::GSO_NONE, 0),
        (_, Transport::Tcp) => (VirtioNetHdr::GSO_TCPV4, payload),
        (_, Transport::Udp) => (VirtioNetHdr::GSO_UDP_L4, payload),
    };
    VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type,
        hdr_len: transport.header_len() as u16,
        gso_size: gso_size as u16,
        csum_start: IP_LEN as u16,
        csum_offset: transport.checksum_offset(),
    }
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
