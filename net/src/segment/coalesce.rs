//! Joining neighbouring packets of one flow into a super-packet, by the rules of the kernel's `tcp_gro_receive` and
//! `udp_gro_receive`, without moving their payload.
//!
//! A packet joins the one directly before it or none: what a bulk sender sends arrives in trains, so a table of flows
//! would find little more, and without one the order of packets cannot change. Hence a group is a run of neighbours.

use std::io::{self, IoSlice};

use super::MAX_PACKET_LEN;
use super::headers::{
    PROTOCOL_TCP, PROTOCOL_UDP, Transport, get_u16, get_u32, ipv4, ipv6, put_u16, tcp, udp,
};
use crate::checksum::{checksum, fold, sum};
use crate::packet::{self, IPV4_HEADER_LEN, IPV6_HEADER_LEN};
use crate::tun::{Fault, MAX_PARTS, Offloads, TunQueue, VirtioNetHdr};

/// Most packets in a group.
pub const MAX_GROUP: usize = MAX_PARTS - 1;

/// Most datagrams in a UDP super-packet that every kernel takes (`UDP_MAX_SEGMENTS` was 64 before Linux 6.9).
const MAX_UDP_GROUP: usize = 64;

/// IPv6 and a TCP header with every option; IPv4 with options is not joined.
const MAX_HEADER_LEN: usize = IPV6_HEADER_LEN + 60;

/// The groups that `packets` fall into, in order; each packet is in one. `offloads` are those of the device.
/// A packet ends where its header says; one with padding behind it is not joined.
///
/// Packets that cannot be joined, for whatever reason, are groups of one and pass unchanged. That includes packets
/// whose checksums are wrong: a super-packet gets new ones, and must not hide damage done before the tunnel.
///
/// It neither allocates nor keeps anything from one call to the next.
#[must_use]
pub fn groups<'s, 'p>(packets: &'s [&'p [u8]], offloads: Offloads) -> Groups<'s, 'p> {
    Groups { packets, offloads }
}

/// The iterator of [`groups`].
#[derive(Clone, Debug)]
pub struct Groups<'s, 'p> {
    packets: &'s [&'p [u8]],
    offloads: Offloads,
}

/// Neighbouring packets that are written to the device at once.
#[derive(Clone, Debug)]
pub struct Group<'s, 'p> {
    packets: &'s [&'p [u8]],
    hdr: VirtioNetHdr,
    /// The headers of the super-packet; those of the packets are left as they are.
    header: [u8; MAX_HEADER_LEN],
    /// Bytes of `header` in use, and of each packet that it replaces. Zero for a group of one.
    header_len: usize,
}

/// How a group got to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In one write.
    Whole,
    /// The kernel refused the super-packet, so its packets were written singly. If that keeps happening,
    /// [`Tun::offloads`](crate::tun::Tun::offloads) no longer has the offload.
    OneByOne,
}

impl<'s, 'p> Iterator for Groups<'s, 'p> {
    type Item = Group<'s, 'p>;

    fn next(&mut self) -> Option<Group<'s, 'p>> {
        let (first, rest) = self.packets.split_first()?;
        let mut run = match Segment::parse(first, self.offloads) {
            Some(head) if !rest.is_empty() => Run::new(head),
            _ => return Some(self.take_group(1, None)),
        };
        for packet in rest {
            let joined = Segment::parse(packet, self.offloads).is_some_and(|next| run.join(&next));
            if !joined {
                break;
            }
        }
        Some(self.take_group(run.count, Some(&run)))
    }
}

impl<'s, 'p> Groups<'s, 'p> {
    fn take_group(&mut self, count: usize, run: Option<&Run<'_>>) -> Group<'s, 'p> {
        let (packets, rest) = self.packets.split_at(count);
        self.packets = rest;
        let mut group =
            Group { packets, hdr: VirtioNetHdr::default(), header: [0; MAX_HEADER_LEN], header_len: 0 };
        if let Some(run) = run.filter(|run| run.count > 1) {
            group.hdr = run.virtio_net_hdr();
            group.header_len = run.head.header_len;
            run.write_header(&mut group.header[..run.head.header_len]);
        }
        group
    }
}

impl<'p> Group<'_, 'p> {
    /// The header to write it with. A group of one has an all-zero header rather than one that promises a good
    /// checksum: the kernel then verifies what nobody has verified so far.
    #[must_use]
    pub fn hdr(&self) -> &VirtioNetHdr {
        &self.hdr
    }

    /// The packets as they were received.
    #[must_use]
    pub fn packets(&self) -> &[&'p [u8]] {
        self.packets
    }

    /// The bytes to write, in at most [`MAX_PARTS`] pieces.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let header = &self.header[..self.header_len];
        let payloads = self.packets.iter().map(|packet| &packet[self.header_len..]);
        std::iter::once(header).filter(|header| !header.is_empty()).chain(payloads)
    }

    /// Writes it to the device; packet by packet if the device refuses to take it whole.
    ///
    /// # Errors
    /// Those of [`TunQueue::write`]; the first one, if packets are written singly.
    pub fn write_to(&self, queue: &TunQueue) -> io::Result<Delivery> {
        if let [packet] = self.packets {
            return write_one(queue, packet).map(|()| Delivery::Whole);
        }
        let mut slices = [IoSlice::new(&[]); MAX_PARTS];
        let mut len = 0;
        for (slice, part) in slices.iter_mut().zip(self.parts()) {
            *slice = IoSlice::new(part);
            len += 1;
        }
        match queue.write(&self.hdr, &slices[..len]) {
            Ok(()) => Ok(Delivery::Whole),
            Err(error) if matches!(Fault::of(&error), Fault::Gone | Fault::Down) => {
                queue.dropped(self.packets.len());
                Err(error)
            }
            // Refused, or too large for the memory that is free just now.
            Err(_) => {
                let mut result = Ok(());
                for packet in self.packets {
                    result = result.and(write_one(queue, packet));
                }
                result.map(|()| Delivery::OneByOne)
            }
        }
    }
}

fn write_one(queue: &TunQueue, packet: &[u8]) -> io::Result<()> {
    queue.write(&VirtioNetHdr::default(), &[IoSlice::new(packet)])
}

/// A packet that may be part of a super-packet.
#[derive(Clone, Copy)]
struct Segment<'p> {
    bytes: &'p [u8],
    transport: Transport,
    is_v4: bool,
    /// Length of the IP header.
    ip_len: usize,
    /// Length of the IP and transport headers.
    header_len: usize,
}

impl<'p> Segment<'p> {
    fn parse(bytes: &'p [u8], offloads: Offloads) -> Option<Self> {
        let ip = packet::parse(bytes)?;
        let is_v4 = ip.source.is_ipv4();
        if ip.total_len != bytes.len() || bytes.len() > MAX_PACKET_LEN {
            return None;
        }
        // IPv4 options, and fragments, whose transport header is not to be trusted or not there.
        if is_v4 && (bytes[0] != 0x45 || get_u16(bytes, ipv4::FRAGMENT) & !ipv4::DONT_FRAGMENT != 0) {
            return None;
        }
        let transport = match bytes[if is_v4 { ipv4::PROTOCOL } else { ipv6::NEXT_HEADER }] {
            PROTOCOL_TCP if offloads.tcp => Transport::Tcp,
            PROTOCOL_UDP if offloads.udp => Transport::Udp,
            _ => return None,
        };
        let ip_len = if is_v4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
        let segment = &bytes[ip_len..];
        let header_len = ip_len + transport.header_len(segment)?;
        let joinable = match transport {
            Transport::Tcp => segment[tcp::FLAGS] & !tcp::PSH == tcp::ACK,
            // Datagrams without a checksum would acquire one.
            Transport::Udp => {
                usize::from(get_u16(segment, udp::LEN)) == segment.len()
                    && get_u16(segment, udp::CHECKSUM) != 0
            }
        };
        let has_payload = bytes.len() > header_len;
        (joinable && has_payload).then_some(Self { bytes, transport, is_v4, ip_len, header_len })
    }

    fn payload_len(&self) -> usize {
        self.bytes.len() - self.header_len
    }

    fn transport_header(&self) -> &'p [u8] {
        &self.bytes[self.ip_len..self.header_len]
    }

    fn has_psh(&self) -> bool {
        self.transport == Transport::Tcp && self.transport_header()[tcp::FLAGS] & tcp::PSH != 0
    }

    /// The sum of the pseudo-header without its length, the same for all of a flow.
    fn pseudo(&self) -> u32 {
        let addresses = if self.is_v4 { ipv4::ADDRESSES..IPV4_HEADER_LEN } else { 8..IPV6_HEADER_LEN };
        sum(&self.bytes[addresses]) + u32::from(self.transport.protocol())
    }

    fn checksums_are_valid(&self, pseudo: u32) -> bool {
        let segment = &self.bytes[self.ip_len..];
        let ip_ok = !self.is_v4 || sum(&self.bytes[..IPV4_HEADER_LEN]) == 0xffff;
        ip_ok && fold(pseudo + segment.len() as u32 + sum(segment)) == 0xffff
    }

    /// Whether all header fields agree that must be the same throughout a super-packet. Those that differ from packet
    /// to packet (lengths, identification, sequence number, checksums, PSH) are not looked at.
    fn same_flow(&self, other: &Self) -> bool {
        let same = |from: usize, to: usize| self.bytes[from..to] == other.bytes[from..to];
        let same_kind = self.transport == other.transport && self.is_v4 == other.is_v4;
        if !same_kind || self.header_len != other.header_len {
            return false;
        }
        // IPv4: TOS, DF, TTL, addresses. IPv6: traffic class, flow label, hop limit, addresses.
        let same_ip =
            if self.is_v4 { same(1, 2) && same(6, 9) && same(12, 20) } else { same(0, 4) && same(7, 40) };
        let (l4, end) = (self.ip_len, self.header_len);
        // Ports; for TCP also acknowledgement, reserved bits, window, urgent pointer, options. Other flags than PSH
        // are the same for all that can be joined.
        same_ip
            && same(l4, l4 + 4)
            && (self.transport == Transport::Udp
                || same(l4 + tcp::ACKNOWLEDGEMENT, l4 + tcp::FLAGS)
                    && same(l4 + tcp::FLAGS + 1, l4 + tcp::CHECKSUM)
                    && same(l4 + tcp::URGENT, end))
    }
}

/// A super-packet in the making.
struct Run<'p> {
    head: Segment<'p>,
    count: usize,
    /// Length of the super-packet in bytes.
    len: usize,
    /// Nothing may follow a PSH or a packet shorter than the first.
    ended: bool,
    psh: bool,
    /// By how much the IPv4 identification grows from packet to packet, as soon as there are two.
    id_step: Option<u16>,
    /// The sum of the pseudo-header without its length, if the checksums of `head` were verified: that is only done
    /// once somebody wants to join it.
    verified: Option<u32>,
}

impl<'p> Run<'p> {
    fn new(head: Segment<'p>) -> Self {
        let psh = head.has_psh();
        Self { head, count: 1, len: head.bytes.len(), ended: psh, psh, id_step: None, verified: None }
    }

    /// Adds `next` to the run if it continues it. The checksums come last, since they cost most.
    fn join(&mut self, next: &Segment<'p>) -> bool {
        let gso_size = self.head.payload_len();
        let max_count = if self.head.transport == Transport::Udp { MAX_UDP_GROUP } else { MAX_GROUP };
        let fits = !self.ended
            && self.count < max_count
            && next.payload_len() <= gso_size
            && self.len + next.payload_len() <= MAX_PACKET_LEN;
        if !fits || !self.head.same_flow(next) || !self.continues_sequence(next) {
            return false;
        }
        let Some(id_step) = self.id_step_to(next) else { return false };
        let Some(pseudo) = self.verify_head().filter(|pseudo| next.checksums_are_valid(*pseudo)) else {
            return false;
        };
        self.verified = Some(pseudo);
        self.id_step = Some(id_step);
        self.count += 1;
        self.len += next.payload_len();
        self.psh = next.has_psh();
        self.ended = self.psh || next.payload_len() < gso_size;
        true
    }

    fn verify_head(&self) -> Option<u32> {
        self.verified.or_else(|| {
            let pseudo = self.head.pseudo();
            self.head.checksums_are_valid(pseudo).then_some(pseudo)
        })
    }

    fn continues_sequence(&self, next: &Segment<'_>) -> bool {
        let joined = (self.len - self.head.header_len) as u32;
        let sequence = |segment: &Segment<'_>| get_u32(segment.transport_header(), tcp::SEQUENCE);
        self.head.transport == Transport::Udp || sequence(&self.head).wrapping_add(joined) == sequence(next)
    }

    /// Identifications must count up, as they will when the super-packet is cut up again. Under Don't Fragment they
    /// mean nothing (RFC 6864), so all may be equal too.
    fn id_step_to(&self, next: &Segment<'_>) -> Option<u16> {
        if !self.head.is_v4 {
            return Some(0);
        }
        let id = |segment: &Segment<'_>| get_u16(segment.bytes, ipv4::IDENTIFICATION);
        let distance = id(next).wrapping_sub(id(&self.head));
        let atomic = get_u16(self.head.bytes, ipv4::FRAGMENT) == ipv4::DONT_FRAGMENT;
        let step = self.id_step.unwrap_or(distance);
        let allowed = step == 1 || (step == 0 && atomic);
        (allowed && distance == step * self.count as u16).then_some(step)
    }

    fn virtio_net_hdr(&self) -> VirtioNetHdr {
        let head = &self.head;
        VirtioNetHdr {
            flags: VirtioNetHdr::NEEDS_CSUM,
            gso_type: match (head.transport, head.is_v4) {
                (Transport::Tcp, true) => VirtioNetHdr::GSO_TCPV4,
                (Transport::Tcp, false) => VirtioNetHdr::GSO_TCPV6,
                (Transport::Udp, _) => VirtioNetHdr::GSO_UDP_L4,
            },
            hdr_len: head.header_len as u16,
            gso_size: head.payload_len() as u16,
            csum_start: head.ip_len as u16,
            csum_offset: head.transport.checksum_at() as u16,
        }
    }

    /// The headers of the first packet, with the lengths of the whole, the PSH of the last, and in the checksum field
    /// the sum of the pseudo-header, where whoever cuts it up goes on from.
    fn write_header(&self, header: &mut [u8]) {
        header.copy_from_slice(&self.head.bytes[..self.head.header_len]);
        let (ip, transport) = header.split_at_mut(self.head.ip_len);
        let segment_len = self.len - self.head.ip_len;
        if self.head.is_v4 {
            put_u16(ip, ipv4::TOTAL_LEN, self.len as u16);
            put_u16(ip, ipv4::CHECKSUM, 0);
            let header_checksum = checksum(ip);
            put_u16(ip, ipv4::CHECKSUM, header_checksum);
        } else {
            put_u16(ip, ipv6::PAYLOAD_LEN, segment_len as u16);
        }
        match self.head.transport {
            Transport::Tcp if self.psh => transport[tcp::FLAGS] |= tcp::PSH,
            Transport::Tcp => {}
            Transport::Udp => put_u16(transport, udp::LEN, segment_len as u16),
        }
        put_u16(transport, self.head.transport.checksum_at(), fold(self.head.pseudo() + segment_len as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Config, if_index};
    use crate::tun::tests::isolated;
    use crate::tun::{Tun, TunOptions};

    /// Packets that the interface has taken, in the namespace of this thread.
    fn received(name: &str) -> u64 {
        let statistics = std::fs::read_to_string("/proc/thread-self/net/dev").expect("statistics");
        let line = statistics.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}:")));
        line.and_then(|line| line.split_whitespace().nth(1)).expect("a line").parse().expect("a number")
    }

    fn datagrams(count: u8) -> Vec<Vec<u8>> {
        let datagram = |i| {
            let mut bytes =
                vec![0x45, 0, 0, 128, 0, i, 0, 0, 64, PROTOCOL_UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
            bytes.extend([0, 9, 0, 9, 0, 108, 0, 0]);
            bytes.extend([i; 100]);
            let header_checksum = checksum(&bytes[..20]);
            put_u16(&mut bytes, ipv4::CHECKSUM, header_checksum);
            let pseudo = sum(&bytes[12..20]) + u32::from(PROTOCOL_UDP) + 108;
            let complete = !fold(pseudo + sum(&bytes[20..]));
            put_u16(&mut bytes, 26, complete);
            bytes
        };
        (0..count).map(datagram).collect()
    }

    #[test]
    fn a_refused_group_is_written_packet_by_packet() {
        isolated(|| {
            let tun = Tun::open(&TunOptions::new("wg0")).expect("a device");
            Config::open().expect("netlink").set_up(if_index("wg0").expect("it"), true).expect("up");
            let packets = datagrams(5);
            let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            let mut group = groups(&slices, Offloads::ALL).next().expect("a group");
            assert_eq!(group.packets().len(), 5);

            group.hdr.gso_type = 0x77;
            let before = received("wg0");
            assert_eq!(group.write_to(&tun.queues()[0]).expect("written"), Delivery::OneByOne);
            assert_eq!(received("wg0") - before, 5);
        });
    }

    #[test]
    fn a_kind_that_is_always_refused_is_given_up() {
        isolated(|| {
            let tun = Tun::open(&TunOptions::new("wg0")).expect("a device");
            if !tun.offloads().udp {
                return drop(lab::skip("no UDP offload of TUN before Linux 6.2"));
            }
            Config::open().expect("netlink").set_up(if_index("wg0").expect("it"), true).expect("up");
            let packets = datagrams(5);
            let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            let (queue, before) = (&tun.queues()[0], received("wg0"));
            let mut writes = 0;
            while tun.offloads().udp {
                let mut group = groups(&slices, tun.offloads()).next().expect("a group");
                // Checksums beyond the packet's end.
                group.hdr.csum_start = u16::MAX;
                assert_eq!(group.write_to(queue).expect("written"), Delivery::OneByOne);
                writes += 1;
                assert!(writes < 100, "refusals teach nothing");
            }
            assert!(tun.offloads().tcp && tun.agreed_offloads().udp, "only UDP's are given up");
            assert_eq!(groups(&slices, tun.offloads()).count(), 5);
            let stats = queue.stats();
            assert_eq!((stats.udp.refused, stats.udp.written, stats.dropped), (writes, 0, 0));
            assert_eq!(stats.single.written, 5 * writes);
            assert_eq!(received("wg0") - before, 5 * writes);
        });
    }

    #[test]
    fn errors_of_the_device_are_not_answered_by_writing_more() {
        isolated(|| {
            let tun = Tun::open(&TunOptions::new("wg0")).expect("a device");
            let packets = datagrams(5);
            let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            for group in groups(&slices, Offloads::ALL).chain(groups(&slices, Offloads::NONE)) {
                let error = group.write_to(&tun.queues()[0]).expect_err("the interface is down");
                assert_eq!(Fault::of(&error), Fault::Down);
            }
        });
    }
}
