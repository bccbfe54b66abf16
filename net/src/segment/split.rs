//! Cutting up a super-packet, as the kernel's `tcp_gso_segment` and `__udp_gso_segment` would.

use std::fmt;

use super::MAX_PACKET_LEN;
use super::headers::{Transport, get_u16, get_u32, ipv4, ipv6, put_u16, put_u32, tcp, udp};
use crate::checksum::{copy_and_sum, fold, pseudo_header, sum};
use crate::packet;
use crate::tun::VirtioNetHdr;

/// Why a packet cannot be split; it is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// A kind of super-packet that was not asked for.
    GsoType(u8),
    /// Segments without payload.
    GsoSize,
    /// No IP packet, or not of the family and transport that the virtio-net header names.
    NotIp,
    /// The IP header states another length than the packet has.
    Length,
    /// The checksum, or the transport header, does not lie inside the packet.
    Offsets,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GsoType(kind) => write!(f, "unknown kind of super-packet ({kind:#04x})"),
            Self::GsoSize => f.write_str("super-packet with segments of zero bytes"),
            Self::NotIp => f.write_str("super-packet of another protocol than it claims"),
            Self::Length => f.write_str("super-packet whose header states another length"),
            Self::Offsets => f.write_str("checksum or header beyond the end of the packet"),
        }
    }
}

impl std::error::Error for Malformed {}

/// A packet read from a TUN device, checked, ready to be written out as one or more complete packets.
///
/// Each is written straight to where it is needed, its payload copied once and summed during that copy. The offsets
/// in the virtio-net header are verified, and its `hdr_len` is not used at all: it is too large for packets that the
/// kernel forwards.
#[derive(Clone, Copy, Debug)]
pub struct Splitter<'a> {
    packet: &'a [u8],
    plan: Plan,
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    /// Complete already.
    Copy,
    /// Complete but for the checksum from `start` on, to be put at `field`.
    Checksum {
        start: usize,
        field: usize,
    },
    Segment(Segments),
}

#[derive(Clone, Copy, Debug)]
struct Segments {
    transport: Transport,
    is_v4: bool,
    /// Offset of the transport header.
    start: usize,
    /// Offset of the payload.
    payload: usize,
    /// Payload bytes of each segment but the last.
    gso_size: usize,
    count: usize,
    /// Sum of the IPv4 header without what is rewritten.
    ip_sum: u32,
    /// Sum of the pseudo-header and the transport header, both without what is rewritten.
    transport_sum: u32,
}

impl<'a> Splitter<'a> {
    /// Checks `packet` against the header it was read with.
    ///
    /// # Errors
    /// [`Malformed`]. Packets that are not super-packets are not checked to be IP.
    pub fn new(hdr: &VirtioNetHdr, packet: &'a [u8]) -> Result<Self, Malformed> {
        let plan = match hdr.gso_type & !VirtioNetHdr::GSO_ECN {
            VirtioNetHdr::GSO_NONE if hdr.flags & VirtioNetHdr::NEEDS_CSUM == 0 => Plan::Copy,
            VirtioNetHdr::GSO_NONE => {
                let (start, field) = checksum_offsets(hdr, packet)?;
                Plan::Checksum { start, field }
            }
            VirtioNetHdr::GSO_TCPV4 => Plan::Segment(Segments::new(hdr, packet, Transport::Tcp, Some(4))?),
            VirtioNetHdr::GSO_TCPV6 => Plan::Segment(Segments::new(hdr, packet, Transport::Tcp, Some(6))?),
            VirtioNetHdr::GSO_UDP_L4 => Plan::Segment(Segments::new(hdr, packet, Transport::Udp, None)?),
            _ => return Err(Malformed::GsoType(hdr.gso_type)),
        };
        Ok(Self { packet, plan })
    }

    /// How many packets it gives: at least 1, and up to 65,507 if the payload is cut into single bytes.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.plan {
            Plan::Copy | Plan::Checksum { .. } => 1,
            Plan::Segment(segments) => segments.count,
        }
    }

    /// The length of packet `i` in bytes. All are as long as the first, except that the last may be shorter.
    ///
    /// # Panics
    /// If `i` is not below [`count`](Self::count).
    #[must_use]
    pub fn packet_len(&self, i: usize) -> usize {
        assert!(i < self.count(), "packet {i} of {}", self.count());
        match &self.plan {
            Plan::Copy | Plan::Checksum { .. } => self.packet.len(),
            Plan::Segment(segments) => segments.payload + segments.slice(self.packet, i).len(),
        }
    }

    /// Writes packet `i`, complete with all lengths and checksums, to the start of `out`; returns its length.
    ///
    /// # Panics
    /// If `i` is not below [`count`](Self::count), or `out` is shorter than [`packet_len`](Self::packet_len).
    pub fn write(&self, i: usize, out: &mut [u8]) -> usize {
        let len = self.packet_len(i);
        let out = &mut out[..len];
        match &self.plan {
            Plan::Copy => out.copy_from_slice(self.packet),
            Plan::Checksum { start, field } => {
                let (before, covered) = self.packet.split_at(*start);
                out[..*start].copy_from_slice(before);
                // The field holds the sum of the pseudo-header and takes part in the sum.
                let total = copy_and_sum(covered, &mut out[*start..]);
                put_u16(out, *field, never_zero(!fold(total)));
            }
            Plan::Segment(segments) => segments.write(self.packet, i, out),
        }
        len
    }
}

/// Where checksumming starts and where the result goes, both checked to lie inside the packet.
fn checksum_offsets(hdr: &VirtioNetHdr, packet: &[u8]) -> Result<(usize, usize), Malformed> {
    let start = usize::from(hdr.csum_start);
    let field = start + usize::from(hdr.csum_offset);
    if field + 2 <= packet.len() { Ok((start, field)) } else { Err(Malformed::Offsets) }
}

/// In UDP a checksum of zero means that there is none; its other spelling is as valid for everybody.
const fn never_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

impl Segments {
    fn new(
        hdr: &VirtioNetHdr,
        packet: &[u8],
        transport: Transport,
        version: Option<u8>,
    ) -> Result<Self, Malformed> {
        let gso_size = usize::from(hdr.gso_size);
        if gso_size == 0 {
            return Err(Malformed::GsoSize);
        }
        let ip = packet::parse(packet).ok_or(Malformed::NotIp)?;
        if version.is_some_and(|version| packet[0] >> 4 != version) {
            return Err(Malformed::NotIp);
        }
        if ip.total_len != packet.len() || packet.len() > MAX_PACKET_LEN {
            return Err(Malformed::Length);
        }
        let start = transport_at(hdr, packet, &ip, transport)?;
        let segment = packet.get(start..).ok_or(Malformed::Offsets)?;
        let header_len = transport.header_len(segment).ok_or(Malformed::Offsets)?;
        let payload = start + header_len;
        let pseudo = pseudo_sum(hdr, segment, &ip, transport);
        Ok(Self {
            transport,
            is_v4: ip.source.is_ipv4(),
            start,
            payload,
            gso_size,
            count: (packet.len() - payload).div_ceil(gso_size).max(1),
            ip_sum: sum_without(&packet[..start], &[ipv4::TOTAL_LEN, ipv4::IDENTIFICATION, ipv4::CHECKSUM]),
            transport_sum: pseudo + sum_without(&segment[..header_len], transport.rewritten()),
        })
    }

    /// The payload of segment `i`.
    fn slice<'a>(&self, packet: &'a [u8], i: usize) -> &'a [u8] {
        let from = self.payload + i * self.gso_size;
        &packet[from..packet.len().min(from + self.gso_size)]
    }

    fn write(&self, packet: &[u8], i: usize, out: &mut [u8]) {
        let (header, out_payload) = out.split_at_mut(self.payload);
        header.copy_from_slice(&packet[..self.payload]);
        let payload_sum = copy_and_sum(self.slice(packet, i), out_payload);

        let segment_len = self.payload - self.start + out_payload.len();
        let (ip, transport) = header.split_at_mut(self.start);
        if self.is_v4 {
            self.rewrite_ipv4(ip, i, segment_len);
        } else {
            put_u16(ip, ipv6::PAYLOAD_LEN, (self.start - packet::IPV6_HEADER_LEN + segment_len) as u16);
        }
        // The pseudo-header has the length, too.
        let total = self.transport_sum + segment_len as u32 + payload_sum;
        match self.transport {
            Transport::Tcp => self.rewrite_tcp(transport, i, total),
            Transport::Udp => rewrite_udp(transport, segment_len as u16, total),
        }
    }

    fn rewrite_ipv4(&self, header: &mut [u8], i: usize, segment_len: usize) {
        let total_len = (self.start + segment_len) as u16;
        let identification = get_u16(header, ipv4::IDENTIFICATION).wrapping_add(i as u16);
        put_u16(header, ipv4::TOTAL_LEN, total_len);
        put_u16(header, ipv4::IDENTIFICATION, identification);
        let total = self.ip_sum + u32::from(total_len) + u32::from(identification);
        put_u16(header, ipv4::CHECKSUM, !fold(total));
    }

    /// CWR answers one congestion mark, so the first segment alone carries it (RFC 3168 section 6.1.2); FIN and PSH
    /// belong to the end of the data.
    fn rewrite_tcp(&self, header: &mut [u8], i: usize, total: u32) {
        let sequence = get_u32(header, tcp::SEQUENCE).wrapping_add((i * self.gso_size) as u32);
        put_u32(header, tcp::SEQUENCE, sequence);
        if i > 0 {
            header[tcp::FLAGS] &= !tcp::CWR;
        }
        if i + 1 < self.count {
            header[tcp::FLAGS] &= !(tcp::FIN | tcp::PSH);
        }
        let flags = u32::from(get_u16(header, tcp::DATA_OFFSET));
        put_u16(header, tcp::CHECKSUM, !fold(total + (sequence >> 16) + (sequence & 0xffff) + flags));
    }
}

fn rewrite_udp(header: &mut [u8], len: u16, total: u32) {
    put_u16(header, udp::LEN, len);
    put_u16(header, udp::CHECKSUM, never_zero(!fold(total + u32::from(len))));
}

/// The sum of a header less the 16-bit fields at these offsets: in one's complement, subtracting is adding the
/// complement. It is done once, and leaves a few additions for each segment.
fn sum_without(header: &[u8], fields: &[usize]) -> u32 {
    sum(header) + fields.iter().map(|at| u32::from(!get_u16(header, *at))).sum::<u32>()
}

/// The offset of the transport header: where checksumming starts, or else right behind the IP header.
///
/// Super-packets whose checksum the kernel has already seen to be right come without `NEEDS_CSUM`.
fn transport_at(
    hdr: &VirtioNetHdr,
    packet: &[u8],
    ip: &packet::Ip,
    transport: Transport,
) -> Result<usize, Malformed> {
    let is_v4 = ip.source.is_ipv4();
    let protocol = packet[if is_v4 { ipv4::PROTOCOL } else { ipv6::NEXT_HEADER }];
    let needs_csum = hdr.flags & VirtioNetHdr::NEEDS_CSUM != 0;
    // With IPv6 extension headers, only csum_start tells where they end.
    if protocol != transport.protocol() && (is_v4 || !needs_csum) {
        return Err(Malformed::NotIp);
    }
    if !needs_csum {
        return Ok(ip.header_len);
    }
    let (start, field) = checksum_offsets(hdr, packet)?;
    let start_ok = if is_v4 { start == ip.header_len } else { start >= ip.header_len };
    if start_ok && field - start == transport.checksum_at() { Ok(start) } else { Err(Malformed::Offsets) }
}

/// The sum of the pseudo-header without its length.
///
/// Under `NEEDS_CSUM` the checksum field holds that of the super-packet. It is taken from there rather than from the
/// addresses, since with a routing header the pseudo-header has another destination than the IP header.
fn pseudo_sum(hdr: &VirtioNetHdr, segment: &[u8], ip: &packet::Ip, transport: Transport) -> u32 {
    if hdr.flags & VirtioNetHdr::NEEDS_CSUM == 0 {
        return pseudo_header(ip.source, ip.destination, transport.protocol(), 0);
    }
    let with_len = get_u16(segment, transport.checksum_at());
    let len = match transport {
        Transport::Tcp => segment.len() as u16,
        Transport::Udp => get_u16(segment, udp::LEN),
    };
    u32::from(with_len) + u32::from(!len)
}
