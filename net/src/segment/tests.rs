//! Splitting and coalescing against each other and against packets that are built one by one, with a checksum that is
//! written another way.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{MAX_GROUP, Malformed, Splitter, groups};
use crate::tun::{Offloads, VirtioNetHdr};

const SYN: u8 = 0x02;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// A flow and the state of its sender: enough to build its next packet.
#[derive(Clone, Debug)]
struct Flow {
    tcp: bool,
    v6: bool,
    port: u16,
    id: u16,
    dont_fragment: bool,
    sequence: u32,
    options: Vec<u8>,
}

impl Flow {
    fn new(tcp: bool, v6: bool) -> Self {
        Self {
            tcp,
            v6,
            port: 1000,
            id: 0xfffe,
            dont_fragment: false,
            sequence: 0xffff_fff0,
            options: Vec::new(),
        }
    }

    fn ip_len(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    fn header_len(&self) -> usize {
        self.ip_len() + if self.tcp { 20 + self.options.len() } else { 8 }
    }

    /// The next packet of the flow, complete.
    fn packet(&mut self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut transport = self.port.to_be_bytes().to_vec();
        transport.extend(2000u16.to_be_bytes());
        if self.tcp {
            transport.extend(self.sequence.to_be_bytes());
            transport.extend(0x0102_0304_u32.to_be_bytes());
            transport.extend([(5 + self.options.len() as u8 / 4) << 4, flags, 0x12, 0x34, 0, 0, 0, 0]);
            transport.extend(&self.options);
        } else {
            transport.extend((8 + payload.len() as u16).to_be_bytes());
            transport.extend([0, 0]);
        }
        transport.extend_from_slice(payload);

        let protocol = if self.tcp { 6 } else { 17 };
        let len = transport.len() as u16;
        let mut packet = if self.v6 {
            let mut header = vec![0x6b, 0x81, 0x23, 0x45];
            header.extend(len.to_be_bytes());
            header.extend([protocol, 61]);
            header.extend([0xfd; 16]);
            header.extend([0xfe; 16]);
            header
        } else {
            let mut header = vec![0x45, 0xb8];
            header.extend((20 + len).to_be_bytes());
            header.extend(self.id.to_be_bytes());
            header.extend([if self.dont_fragment { 0x40 } else { 0 }, 0, 61, protocol, 0, 0]);
            header.extend([10, 1, 2, 3, 10, 4, 5, 6]);
            header
        };
        packet.extend(transport);
        complete(&mut packet);
        self.id = self.id.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(payload.len() as u32);
        packet
    }

    fn train(&mut self, count: usize, payload: usize) -> Vec<Vec<u8>> {
        (0..count).map(|i| self.packet(ACK, &vec![i as u8 + 1; payload])).collect()
    }
}

/// Word by word, carry by carry.
fn ones_complement(parts: &[&[u8]]) -> u16 {
    let mut total = 0u16;
    for pair in parts.concat().chunks(2) {
        let word = u16::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u16::from);
        let (sum, carry) = total.overflowing_add(word);
        total = sum + u16::from(carry);
    }
    total
}

fn pseudo(packet: &[u8]) -> Vec<u8> {
    let (addresses, protocol, start) =
        if packet[0] >> 4 == 4 { (&packet[12..20], packet[9], 20) } else { (&packet[8..40], packet[6], 40) };
    let mut pseudo = addresses.to_vec();
    pseudo.extend([0, protocol]);
    pseudo.extend(((packet.len() - start) as u16).to_be_bytes());
    pseudo
}

/// Fills in all checksums of a packet without IP options.
fn complete(packet: &mut [u8]) {
    let start = if packet[0] >> 4 == 4 { 20 } else { 40 };
    if start == 20 {
        packet[10..12].fill(0);
        let header = !ones_complement(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&header.to_be_bytes());
    }
    let tcp = packet[if start == 20 { 9 } else { 6 }] == 6;
    let field = start + if tcp { 16 } else { 6 };
    packet[field..field + 2].fill(0);
    let mut transport = !ones_complement(&[&pseudo(packet), &packet[start..]]);
    if transport == 0 && !tcp {
        transport = 0xffff;
    }
    packet[field..field + 2].copy_from_slice(&transport.to_be_bytes());
}

/// What a device would hand out for one big segment of `flow`.
fn super_packet(flow: &mut Flow, flags: u8, payload: &[u8], gso_size: usize) -> (VirtioNetHdr, Vec<u8>) {
    let mut packet = flow.packet(flags, payload);
    let field = flow.ip_len() + if flow.tcp { 16 } else { 6 };
    let partial = ones_complement(&[&pseudo(&packet)]);
    packet[field..field + 2].copy_from_slice(&partial.to_be_bytes());
    let hdr = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: match (flow.tcp, flow.v6) {
            (true, false) => VirtioNetHdr::GSO_TCPV4,
            (true, true) => VirtioNetHdr::GSO_TCPV6,
            (false, _) => VirtioNetHdr::GSO_UDP_L4,
        },
        hdr_len: packet.len() as u16,
        gso_size: gso_size as u16,
        csum_start: flow.ip_len() as u16,
        csum_offset: (field - flow.ip_len()) as u16,
    };
    (hdr, packet)
}

fn split(hdr: &VirtioNetHdr, packet: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let splitter = Splitter::new(hdr, packet)?;
    let write = |i| {
        let mut out = vec![0xaa; splitter.packet_len(i) + 3];
        let len = splitter.write(i, &mut out);
        assert_eq!(len, splitter.packet_len(i));
        assert_eq!(out[len..], [0xaa; 3], "nothing is written behind the packet");
        out.truncate(len);
        out
    };
    Ok((0..splitter.count()).map(write).collect())
}

fn sizes(packets: &[Vec<u8>], offloads: Offloads) -> Vec<usize> {
    let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    groups(&slices, offloads).map(|group| group.packets().len()).collect()
}

/// Coalesces, splits what came out, and checks that the packets are the same, in the same order.
fn assert_round_trip(packets: &[Vec<u8>], offloads: Offloads) {
    let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let mut at = 0;
    for group in groups(&slices, offloads) {
        let whole: Vec<u8> = group.parts().flatten().copied().collect();
        assert!(whole.len() <= 65_535 && group.packets().len() <= MAX_GROUP);
        assert!(group.parts().count() <= crate::tun::MAX_PARTS);
        let cut = split(group.hdr(), &whole).expect("what coalescing makes can be split");
        assert_eq!(cut.len(), group.packets().len());
        for packet in cut {
            assert_eq!(packet, packets[at], "packet {at}");
            at += 1;
        }
    }
    assert_eq!(at, packets.len());
}

fn kinds() -> impl Iterator<Item = Flow> {
    [(true, false), (true, true), (false, false), (false, true)]
        .map(|(tcp, v6)| Flow::new(tcp, v6))
        .into_iter()
}

#[test]
fn a_train_becomes_one_group() {
    for mut flow in kinds() {
        let mut packets = flow.train(40, 1300);
        packets.push(flow.packet(ACK | PSH, &[9; 700]));
        assert_eq!(sizes(&packets, Offloads::ALL), [41], "{flow:?}");
        assert_eq!(sizes(&packets, Offloads::NONE), [1; 41], "{flow:?}");
        assert_round_trip(&packets, Offloads::ALL);

        let other = Offloads { tcp: !flow.tcp, udp: flow.tcp, ..Offloads::ALL };
        assert_eq!(sizes(&packets, other), [1; 41], "{flow:?}");
    }
}

#[test]
fn groups_end_where_they_must() {
    for mut flow in kinds() {
        // A shorter packet is the last of its group, a longer one the first of another.
        let mut packets = flow.train(3, 1000);
        packets.extend(flow.train(1, 999));
        packets.extend(flow.train(2, 1000));
        packets.extend(flow.train(2, 1001));
        assert_eq!(sizes(&packets, Offloads::ALL), [4, 2, 2], "{flow:?}");
        assert_round_trip(&packets, Offloads::ALL);

        // 65,535 bytes, and the number of packets.
        let packets = flow.train(50, 1400);
        let fit = (65_535 - flow.header_len()) / 1400;
        assert_eq!(sizes(&packets, Offloads::ALL), [fit, 50 - fit], "{flow:?}");
        let max = if flow.tcp { MAX_GROUP } else { 64 };
        assert_eq!(sizes(&flow.train(max + 2, 16), Offloads::ALL), [max, 2], "{flow:?}");
    }
    let mut flow = Flow::new(true, false);
    let mut packets = flow.train(2, 100);
    packets.push(flow.packet(ACK | PSH, &[1; 100]));
    packets.extend(flow.train(2, 100));
    assert_eq!(sizes(&packets, Offloads::ALL), [3, 2], "PSH ends a group");
}

#[test]
fn identifications_count_up_or_stand_still_under_dont_fragment() {
    let with_step = |step: u16, dont_fragment: bool| {
        let mut flow = Flow { dont_fragment, ..Flow::new(true, false) };
        let packets: Vec<_> = (0..4u16)
            .map(|i| {
                flow.id = 0xfffeu16.wrapping_add(i.wrapping_mul(step));
                flow.packet(ACK, &[7; 100])
            })
            .collect();
        sizes(&packets, Offloads::ALL)
    };
    assert_eq!(with_step(1, false), [4]);
    assert_eq!(with_step(1, true), [4]);
    assert_eq!(with_step(0, true), [4]);
    assert_eq!(with_step(0, false), [1; 4]);
    assert_eq!(with_step(2, true), [1; 4]);
    assert_eq!(with_step(0xffff, true), [1; 4]);
}

/// Each header bit in turn is changed in the second of three packets, and the checksums set right again: it must then
/// neither be joined nor joined to, except for fields that are different anyway. (wireguard-go 052af4a: not TTL and TOS.)
#[test]
fn every_header_bit_counts() {
    for mut flow in kinds() {
        flow.options = if flow.tcp { vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] } else { Vec::new() };
        let packets = flow.train(3, 100);
        let start = flow.ip_len();
        for bit in 0..flow.header_len() * 8 {
            let (byte, mask) = (bit / 8, 0x80 >> (bit % 8));
            let is_checksum = match (flow.v6, flow.tcp) {
                (false, _) if byte / 2 == 5 => true,
                (_, true) => (byte.wrapping_sub(start)) / 2 == 8,
                (_, false) => (byte.wrapping_sub(start)) / 2 == 3,
            };
            let is_psh = flow.tcp && byte == start + 13 && mask == PSH;
            if is_checksum || is_psh {
                continue;
            }
            let mut changed = packets.clone();
            changed[1][byte] ^= mask;
            let breaks_layout = changed[1][0] >> 4 != packets[1][0] >> 4;
            if !breaks_layout {
                complete(&mut changed[1]);
            }
            assert_eq!(sizes(&changed, Offloads::ALL), [1, 1, 1], "{flow:?} bit {mask:#04x} of byte {byte}");
        }
    }
}

#[test]
fn wrong_checksums_are_passed_on_not_repaired() {
    for mut flow in kinds() {
        let packets = flow.train(5, 100);
        for damaged in 0..5 {
            for byte in [packets[0].len() - 1, flow.ip_len() + if flow.tcp { 16 } else { 6 }] {
                let mut packets = packets.clone();
                packets[damaged][byte] ^= 0x40;
                let expected: &[usize] = match damaged {
                    0 => &[1, 4],
                    1 => &[1, 1, 3],
                    2 => &[2, 1, 2],
                    3 => &[3, 1, 1],
                    _ => &[4, 1],
                };
                assert_eq!(sizes(&packets, Offloads::ALL), expected, "{flow:?} packet {damaged} byte {byte}");
                assert_round_trip(&packets, Offloads::ALL);
            }
        }
        if !flow.v6 {
            let mut packets = packets.clone();
            packets[2][10] ^= 1;
            assert_eq!(sizes(&packets, Offloads::ALL), [2, 1, 2], "IPv4 header checksum");
        }
    }
}

#[test]
fn datagrams_without_checksum_stay_without() {
    let mut packets = Flow::new(false, false).train(4, 100);
    for packet in &mut packets {
        packet[26..28].fill(0);
    }
    assert_eq!(sizes(&packets, Offloads::ALL), [1; 4]);
}

#[test]
fn only_plain_data_segments_are_joined() {
    for flags in [SYN | ACK, FIN | ACK, ACK | ECE, ACK | CWR, ACK | 0x20, ACK | 0x04, 0, PSH] {
        let mut flow = Flow::new(true, true);
        let packets: Vec<_> = (0..3).map(|_| flow.packet(flags, &[1; 50])).collect();
        assert_eq!(sizes(&packets, Offloads::ALL), [1; 3], "flags {flags:#04x}");
    }
    let mut flow = Flow::new(true, false);
    let acknowledgements: Vec<_> = (0..3).map(|_| flow.packet(ACK, &[])).collect();
    assert_eq!(sizes(&acknowledgements, Offloads::ALL), [1; 3]);
}

/// wireguard-go 052af4a, aad7fca: fragments and packets with IP options were joined.
#[test]
fn fragments_and_packets_with_ip_options_are_not_joined() {
    let changes: [fn(&mut Vec<u8>); 3] = [
        |packet| packet[6] = 0x20,
        |packet| packet[7] = 1,
        |packet| {
            packet.splice(20..20, [1; 4]);
            (packet[0], packet[3]) = (0x46, packet[3] + 4);
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut packets = Flow::new(true, false).train(3, 100);
        for packet in &mut packets {
            change(packet);
            let header = !ones_complement(&[&packet[..10], &packet[12..usize::from(packet[0] & 15) * 4]]);
            packet[10..12].copy_from_slice(&header.to_be_bytes());
        }
        assert_eq!(sizes(&packets, Offloads::ALL), [1; 3], "change {i}");
    }
}

#[test]
fn flags_go_where_they_belong() {
    let mut flow = Flow::new(true, false);
    let (mut hdr, packet) = super_packet(&mut flow, ACK | PSH | FIN | CWR | ECE, &[5; 350], 100);
    hdr.gso_type |= VirtioNetHdr::GSO_ECN;
    let flags: Vec<u8> = split(&hdr, &packet).expect("valid").iter().map(|p| p[33]).collect();
    assert_eq!(flags, [ACK | ECE | CWR, ACK | ECE, ACK | ECE, ACK | ECE | PSH | FIN]);

    let (hdr, packet) = super_packet(&mut flow, ACK | PSH | FIN | CWR, &[5; 80], 100);
    assert_eq!(split(&hdr, &packet).expect("valid")[0][33], ACK | PSH | FIN | CWR, "first and last at once");
}

#[test]
fn a_known_good_super_packet_comes_without_offsets() {
    for mut flow in kinds() {
        let (hdr, packet) = super_packet(&mut flow, ACK, &[3; 2500], 1000);
        let bare = VirtioNetHdr { flags: 0, csum_start: 0, csum_offset: 0, hdr_len: 0, ..hdr };
        assert_eq!(split(&bare, &packet), split(&hdr, &packet), "{flow:?}");
    }
}

#[test]
fn extension_headers_are_kept() {
    let mut flow = Flow::new(true, true);
    let (mut hdr, mut packet) = super_packet(&mut flow, ACK, &[3; 2500], 1000);
    let plain = split(&hdr, &packet).expect("valid");
    let insert = |packet: &mut Vec<u8>| {
        packet.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
        packet[6] = 60;
        let payload = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
    };
    insert(&mut packet);
    hdr.csum_start += 8;
    for (mut expected, packet) in plain.into_iter().zip(split(&hdr, &packet).expect("valid")) {
        insert(&mut expected);
        assert_eq!(packet, expected);
    }
    hdr.flags = 0;
    assert_eq!(split(&hdr, &packet), Err(Malformed::NotIp));
}

#[test]
fn untrue_headers_are_refused() {
    let mut flow = Flow::new(true, false);
    let (hdr, packet) = super_packet(&mut flow, ACK, &[5; 350], 100);
    let refused = |hdr: VirtioNetHdr, packet: &[u8]| Splitter::new(&hdr, packet).expect_err("malformed");
    assert_eq!(refused(VirtioNetHdr { gso_size: 0, ..hdr }, &packet), Malformed::GsoSize);
    for gso_type in [2, 3, 6, 0x20, 0x41, 0x7f] {
        assert_eq!(refused(VirtioNetHdr { gso_type, ..hdr }, &packet), Malformed::GsoType(gso_type));
    }
    for gso_type in [VirtioNetHdr::GSO_TCPV6, VirtioNetHdr::GSO_UDP_L4] {
        assert_eq!(refused(VirtioNetHdr { gso_type, ..hdr }, &packet), Malformed::NotIp);
    }
    for csum_start in [0, 16, 24, 40, 369, 65_535] {
        assert_eq!(refused(VirtioNetHdr { csum_start, ..hdr }, &packet), Malformed::Offsets);
    }
    for csum_offset in [0, 6, 17, 349, 65_535] {
        assert_eq!(refused(VirtioNetHdr { csum_offset, ..hdr }, &packet), Malformed::Offsets);
    }
    for data_offset in [0x00, 0x40] {
        let mut packet = packet.clone();
        packet[32] = data_offset;
        assert_eq!(refused(hdr, &packet), Malformed::Offsets);
    }
    assert_eq!(refused(hdr, &packet[..packet.len() - 1]), Malformed::NotIp, "shorter than it states");
    assert_eq!(refused(hdr, &[&packet[..], &[0]].concat()), Malformed::Length);
    assert_eq!(refused(hdr, &[]), Malformed::NotIp);

    let plain = VirtioNetHdr { gso_type: 0, ..hdr };
    assert_eq!(
        refused(VirtioNetHdr { csum_start: 389, csum_offset: 0, ..plain }, &packet),
        Malformed::Offsets
    );
    assert_eq!(
        refused(VirtioNetHdr { csum_start: 65_535, csum_offset: 65_535, ..plain }, &[]),
        Malformed::Offsets
    );
}

#[test]
fn a_checksum_of_zero_is_spelt_ffff_in_udp() {
    for mut flow in [Flow::new(false, false), Flow::new(false, true)] {
        // The payload word that makes up the difference: what the checksum itself was without it.
        let filler = flow.packet(0, &[0, 0]);
        let checksum = filler[flow.ip_len() + 6..flow.ip_len() + 8].to_vec();
        let (hdr, packet) = super_packet(&mut flow, 0, &[&checksum[..], &[1; 2]].concat(), 2);
        let cut = split(&hdr, &packet).expect("valid");
        assert_eq!(cut[0][flow.ip_len() + 6..flow.ip_len() + 8], [0xff, 0xff]);

        let plain = VirtioNetHdr { gso_type: VirtioNetHdr::GSO_NONE, ..hdr };
        let (_, lone) = super_packet(&mut flow, 0, &checksum, 2);
        assert_eq!(
            split(&plain, &lone).expect("valid")[0][flow.ip_len() + 6..flow.ip_len() + 8],
            [0xff, 0xff]
        );
    }
}

fn flow_strategy() -> impl Strategy<Value = Flow> {
    let options = (0usize..=10).prop_flat_map(|words| vec(any::<u8>(), words * 4));
    (any::<bool>(), any::<bool>(), 0u16..3, any::<u16>(), any::<bool>(), any::<u32>(), options).prop_map(
        |(tcp, v6, port, id, dont_fragment, sequence, options)| Flow {
            tcp,
            v6,
            port,
            id,
            dont_fragment,
            sequence,
            options: if tcp { options } else { Vec::new() },
        },
    )
}

/// Mostly what bulk senders do, sometimes something else.
fn flags_strategy() -> impl Strategy<Value = u8> {
    prop_oneof![8 => Just(ACK), 1 => Just(ACK | PSH), 1 => any::<u8>()]
}

proptest! {
    #[test]
    fn splitting_equals_building_one_by_one(
        mut flow in flow_strategy(),
        flags in any::<u8>(),
        payload in vec(any::<u8>(), 1..9000),
        gso_size in prop_oneof![1usize..60, 500usize..1500],
    ) {
        let mut twin = flow.clone();
        let (hdr, packet) = super_packet(&mut flow, flags, &payload, gso_size);
        let cut = split(&hdr, &packet).expect("valid");
        let last = payload.len().div_ceil(gso_size) - 1;
        let expected: Vec<_> = payload.chunks(gso_size).enumerate().map(|(i, chunk)| {
            let cwr = if i > 0 { CWR } else { 0 };
            let end = if i < last { FIN | PSH } else { 0 };
            twin.packet(flags & !cwr & !end, chunk)
        }).collect();
        prop_assert_eq!(cut, expected);
    }

    #[test]
    fn coalescing_loses_and_reorders_nothing(
        flows in vec(flow_strategy(), 1..4),
        size in 1usize..1400,
        steps in vec((0usize..4, flags_strategy(), 0u8..12, any::<u8>()), 1..160),
        tcp in any::<bool>(),
        udp in any::<bool>(),
    ) {
        let mut flows = flows;
        let mut current = 0;
        let packets: Vec<_> = steps.iter().map(|&(flow, flags, variant, byte)| {
            // Runs of one flow, sizes mostly equal.
            current = if variant == 0 { flow % flows.len() } else { current };
            let len = match variant { 1 => size / 2, 2 => size + 1, 3 => 0, _ => size };
            let flow = &mut flows[current];
            if variant == 4 { flow.sequence ^= 1; }
            if variant == 5 { flow.id ^= 4; }
            let mut packet = flow.packet(flags, &vec![byte; len]);
            if variant == 6 {
                let at = usize::from(byte) % packet.len();
                packet[at] ^= 0x10;
            }
            packet
        }).collect();
        assert_round_trip(&packets, Offloads { tcp, udp, vnet_hdr: true });
    }

    #[test]
    fn a_split_super_packet_is_one_group_again(
        mut flow in flow_strategy(),
        psh in any::<bool>(),
        payload in vec(any::<u8>(), 1000..9000),
        gso_size in 300usize..1500,
    ) {
        let flags = if psh { ACK | PSH } else { ACK };
        let (hdr, packet) = super_packet(&mut flow, flags, &payload, gso_size);
        let cut = split(&hdr, &packet).expect("valid");
        let slices: Vec<&[u8]> = cut.iter().map(Vec::as_slice).collect();
        let mut joined = groups(&slices, Offloads::ALL);
        let group = joined.next().expect("a group");
        prop_assert!(joined.next().is_none());
        if cut.len() > 1 {
            prop_assert_eq!(*group.hdr(), VirtioNetHdr { hdr_len: flow.header_len() as u16, ..hdr });
            let whole: Vec<u8> = group.parts().flatten().copied().collect();
            prop_assert_eq!(whole, packet);
        }
    }

    #[test]
    fn a_lone_checksum_is_completed(mut flow in flow_strategy(), payload in vec(any::<u8>(), 0..2000)) {
        let mut twin = flow.clone();
        let (hdr, packet) = super_packet(&mut flow, ACK, &payload, 1);
        let plain = VirtioNetHdr { gso_type: VirtioNetHdr::GSO_NONE, gso_size: 0, ..hdr };
        let expected = twin.packet(ACK, &payload);
        prop_assert_eq!(split(&plain, &packet), Ok(vec![expected]));
        let complete = VirtioNetHdr::default();
        prop_assert_eq!(split(&complete, &packet), Ok(vec![packet.clone()]));
    }

    #[test]
    fn hostile_super_packets_do_no_harm(
        mut flow in flow_strategy(),
        payload in vec(any::<u8>(), 0..300),
        bytes in any::<[u8; VirtioNetHdr::LEN]>(),
        keep in any::<[bool; 6]>(),
        damage in vec((0usize..120, any::<u8>()), 0..4),
        cut in prop_oneof![4 => Just(usize::MAX), 1 => 0usize..120],
    ) {
        let (good, mut packet) = super_packet(&mut flow, ACK, &payload, 100);
        let bad = VirtioNetHdr::from_bytes(bytes);
        let hdr = VirtioNetHdr {
            flags: if keep[0] { good.flags } else { bad.flags },
            gso_type: if keep[1] { good.gso_type } else { bad.gso_type },
            hdr_len: if keep[2] { good.hdr_len } else { bad.hdr_len },
            gso_size: if keep[3] { good.gso_size } else { bad.gso_size },
            csum_start: if keep[4] { good.csum_start } else { bad.csum_start % 600 },
            csum_offset: if keep[5] { good.csum_offset } else { bad.csum_offset % 600 },
        };
        for (at, value) in damage {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        packet.truncate(cut);
        if let Ok(packets) = split(&hdr, &packet) {
            prop_assert!(!packets.is_empty() && packets.len() <= packet.len().max(1));
            prop_assert!(packets.iter().all(|p| p.len() <= packet.len()));
        }
    }

    #[test]
    fn hostile_packets_pass_through(
        packets in vec((vec(any::<u8>(), 0..90), any::<bool>(), any::<bool>()), 0..20),
    ) {
        let packets: Vec<Vec<u8>> = packets.into_iter().map(|(mut bytes, v6, tcp)| {
            let len = bytes.len() as u16;
            if let Some([version, _, l0, l1, p0, p1, next, _, _, protocol]) = bytes.first_chunk_mut::<10>() {
                (*version, *next, *protocol) = (if v6 { 0x60 } else { 0x45 }, 0, if tcp { 6 } else { 17 });
                if v6 {
                    (*next, [*p0, *p1]) = (*protocol, len.saturating_sub(40).to_be_bytes());
                } else {
                    [*l0, *l1] = len.to_be_bytes();
                }
            }
            bytes
        }).collect();
        assert_round_trip(&packets, Offloads::ALL);
    }
}
