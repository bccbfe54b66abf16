//! Splitting what a hostile TUN device hands out, and joining what hostile peers send, each as a round trip.
//!
//! The first byte says what: a virtio-net header and a super-packet to be split, of which flags have parts put right; or the
//! headers of a flow and a list of what its packets are like, to be joined. What was split is joined again, what was joined is
//! split again, and the packets must be the same. Checksums are asked of another sum.

#![no_main]

use adit_fuzz::{exact, ones_complement, pseudo_header, some};
use adit_net::packet::parse;
use adit_net::segment::{MAX_GROUP, Malformed, Splitter, groups};
use adit_net::tun::{MAX_PARTS, Offloads, VirtioNetHdr};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Of the packets that one gives, so many are looked at from either end.
const MANY: usize = 40;

fuzz_target!(|input: &[u8]| {
    let Some((&what, rest)) = input.split_first() else { return };
    // Too little input is no case.
    let _ =
        if what & 1 == 0 { split_first(what, rest) } else { join_first(what, &mut Unstructured::new(rest)) };
});

/// Where the transport header of a packet is, and where the payload, of the protocols that are cut.
#[derive(Clone, Copy, Debug)]
struct Layout {
    start: usize,
    payload: usize,
    tcp: bool,
    v6: bool,
}

impl Layout {
    fn of(packet: &[u8]) -> Option<Layout> {
        let ip = parse(packet)?;
        let v6 = ip.source.is_ipv6();
        let tcp = match packet[if v6 { 6 } else { 9 }] {
            TCP => true,
            UDP => false,
            _ => return None,
        };
        let start = ip.header_len;
        let header = if tcp { usize::from(packet.get(start + 12)? >> 4) * 4 } else { 8 };
        let least = if tcp { 20 } else { 8 };
        let payload = start + header;
        (header >= least && payload <= packet.len()).then_some(Layout { start, payload, tcp, v6 })
    }

    fn checksum(&self) -> usize {
        self.start + if self.tcp { 16 } else { 6 }
    }
}

fn split_first(flags: u8, rest: &[u8]) -> Option<()> {
    let (header, packet) = rest.split_first_chunk()?;
    let mut hdr = VirtioNetHdr::from_bytes(*header);
    let mut packet = exact(packet);
    if flags & 2 != 0 {
        put_lengths_right(&mut packet, flags & 4 != 0);
    }
    if flags & 8 != 0
        && let Some(layout) = Layout::of(&packet)
    {
        put_header_right(&mut hdr, &mut packet, layout);
    }
    let splitter = check_refusal(&hdr, &packet)?;
    let layout = Layout::of(&packet);
    let cut = split(&splitter, packet.len());
    if hdr.gso_type & !VirtioNetHdr::GSO_ECN == VirtioNetHdr::GSO_NONE {
        assert_eq!(cut.len(), 1);
        return check_lone(&hdr, &packet, &cut[0]);
    }
    if splitter.count() == cut.len()
        && let Some(layout) = layout.filter(|layout| is_plain(&hdr, *layout))
    {
        check_segments(&hdr, &packet, layout, &cut);
    }
    check_round_trip(&cut, Offloads::ALL);
    Some(())
}

/// `None` if it is refused.
fn check_refusal<'a>(hdr: &VirtioNetHdr, packet: &'a [u8]) -> Option<Splitter<'a>> {
    match Splitter::new(hdr, packet) {
        Ok(splitter) => Some(splitter),
        Err(reason) => {
            let kind = hdr.gso_type & !VirtioNetHdr::GSO_ECN;
            let is_whole = parse(packet).is_some_and(|ip| ip.total_len == packet.len());
            let is_good = match reason {
                Malformed::GsoType(_) => [0, 1, 4, 5].contains(&kind),
                Malformed::GsoSize => hdr.gso_size != 0,
                Malformed::Length => is_whole,
                _ => false,
            };
            assert!(!is_good, "{reason:?}");
            None
        }
    }
}

/// Whether the header names the transport header behind the IP header, or leaves that to the reader.
fn is_plain(hdr: &VirtioNetHdr, layout: Layout) -> bool {
    hdr.flags & VirtioNetHdr::NEEDS_CSUM == 0 || usize::from(hdr.csum_start) == layout.start
}

/// The packets that it gives: all, or the first and the last of them.
fn split(splitter: &Splitter<'_>, len: usize) -> Vec<Vec<u8>> {
    let count = splitter.count();
    assert!((1..=len.max(1)).contains(&count));
    let write = |i: usize| {
        let packet_len = splitter.packet_len(i);
        assert!(packet_len <= len && (i + 1 == count || packet_len == splitter.packet_len(0)));
        // AddressSanitizer sees what is written behind it.
        let mut out = vec![0xaa; packet_len].into_boxed_slice();
        assert_eq!(splitter.write(i, &mut out), packet_len);
        out.into_vec()
    };
    (0..count).filter(|i| *i < MANY || *i + MANY >= count).map(write).collect()
}

/// A packet that was not to be cut is the same but for its checksum.
fn check_lone(hdr: &VirtioNetHdr, packet: &[u8], written: &[u8]) -> Option<()> {
    if hdr.flags & VirtioNetHdr::NEEDS_CSUM == 0 {
        assert_eq!(packet, written);
        return None;
    }
    let (start, field) =
        (usize::from(hdr.csum_start), usize::from(hdr.csum_start) + usize::from(hdr.csum_offset));
    let mut expected = packet.to_vec();
    let sum = !ones_complement(&[&packet[start..]]);
    // Zero has two spellings, and the one that is written never means that there is none.
    let value = u16::from_be_bytes([written[field], written[field + 1]]);
    assert!(value % 0xffff == sum % 0xffff && value != 0);
    expected[field..field + 2].copy_from_slice(&value.to_be_bytes());
    assert_eq!(expected, written);
    None
}

/// Payloads are the super-packet's, in order, each of the size that was asked for; lengths and checksums are right.
fn check_segments(hdr: &VirtioNetHdr, packet: &[u8], layout: Layout, cut: &[Vec<u8>]) {
    let payloads: Vec<&[u8]> = cut.iter().map(|segment| &segment[layout.payload..]).collect();
    assert_eq!(payloads.concat(), packet[layout.payload..]);
    assert!(payloads.iter().all(|payload| payload.len() <= usize::from(hdr.gso_size)));
    // A super-packet whose checksum field is wrong gives packets whose checksums are.
    let field = &packet[layout.checksum()..][..2];
    let states = if layout.tcp {
        packet.len() - layout.start
    } else {
        usize::from(u16::from_be_bytes([packet[layout.start + 4], packet[layout.start + 5]]))
    };
    let pseudo = ones_complement(&[&pseudo_header(packet, layout.start)]);
    let is_right = hdr.flags & VirtioNetHdr::NEEDS_CSUM == 0
        || states == packet.len() - layout.start
            && u16::from_be_bytes([field[0], field[1]]) % 0xffff == pseudo % 0xffff;
    for (number, segment) in cut.iter().enumerate() {
        assert_eq!(parse(segment).map(|ip| ip.total_len), Some(segment.len()));
        if !layout.v6 {
            assert_eq!(ones_complement(&[&segment[..layout.start]]), 0xffff, "IPv4 header, packet {number}");
        }
        if is_right {
            let pseudo = pseudo_header(segment, layout.start);
            assert_eq!(ones_complement(&[&pseudo, &segment[layout.start..]]), 0xffff, "packet {number}");
        }
        check_flags(packet, layout, segment, number, cut.len());
    }
}

/// CWR stays with the first, FIN and PSH with the last; sequence numbers and identifications count up.
fn check_flags(packet: &[u8], layout: Layout, segment: &[u8], number: usize, count: usize) {
    let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    if !layout.v6 {
        assert_eq!(word(segment, 4), word(packet, 4).wrapping_add(number as u16));
    }
    if !layout.tcp {
        assert_eq!(usize::from(word(segment, layout.start + 4)), segment.len() - layout.start);
        return;
    }
    let flags = layout.start + 13;
    let lost = if number > 0 { 0x80 } else { 0 } | if number + 1 < count { 0x09 } else { 0 };
    assert_eq!(segment[flags], packet[flags] & !lost);
}

/// Joins the packets, and splits what came out: they must be the same, in the same order.
fn check_round_trip(packets: &[Vec<u8>], offloads: Offloads) {
    let boxed: Vec<Box<[u8]>> = packets.iter().map(|packet| exact(packet)).collect();
    let slices: Vec<&[u8]> = boxed.iter().map(|packet| &**packet).collect();
    let mut at = 0;
    for group in groups(&slices, offloads) {
        let whole: Vec<u8> = group.parts().flatten().copied().collect();
        let count = group.packets().len();
        assert!((1..=MAX_GROUP).contains(&count) && group.parts().count() <= MAX_PARTS);
        assert!(count == 1 || whole.len() <= 65_535);
        let splitter = Splitter::new(group.hdr(), &whole).expect("what was joined can be split");
        assert_eq!(splitter.count(), count);
        for i in 0..count {
            let mut out = vec![0; splitter.packet_len(i)];
            splitter.write(i, &mut out);
            assert_eq!(out, packets[at], "packet {at}");
            if count > 1 {
                check_joined(&out, offloads);
            }
            at += 1;
        }
    }
    assert_eq!(at, packets.len(), "a packet was lost");
}

/// Only packets whose checksums are right may be joined: they get new ones.
fn check_joined(packet: &[u8], offloads: Offloads) {
    let layout = Layout::of(packet).expect("only TCP and UDP are joined");
    assert!(if layout.tcp { offloads.tcp } else { offloads.udp });
    assert!(layout.v6 || ones_complement(&[&packet[..20]]) == 0xffff);
    assert_eq!(ones_complement(&[&pseudo_header(packet, layout.start), &packet[layout.start..]]), 0xffff);
}

/// Packets that go on from the one before, or nearly.
fn join_first(flags: u8, input: &mut Unstructured<'_>) -> Option<()> {
    let offloads = Offloads { tcp: flags & 2 != 0, udp: flags & 4 != 0, vnet_hdr: true };
    let mut packets = Vec::new();
    let _ = flow(flags, input, &mut packets);
    check_round_trip(&packets, offloads);
    Some(())
}

fn flow(flags: u8, input: &mut Unstructured<'_>, packets: &mut Vec<Vec<u8>>) -> Result<()> {
    let header_len = input.int_in_range(0..=100)?;
    let header = some(input, header_len)?.to_vec();
    let payload_len: usize = input.int_in_range(1..=60)?;
    let (mut sequence, mut id) = (0u32, 0u16);
    while packets.len() < 80 {
        let mut packet = header.clone();
        let what = input.arbitrary::<u8>()?;
        let len = match what & 7 {
            0 => input.int_in_range(0..=100)?,
            1 => payload_len - 1,
            _ => payload_len,
        };
        packet.extend((0..len).map(|i| i as u8 ^ what));
        let v6 = flags & 8 != 0;
        if flags & 16 != 0 {
            put_lengths_right(&mut packet, v6);
        }
        if flags & 32 != 0
            && let Some(layout) = Layout::of(&packet)
        {
            if what & 8 != 0 {
                id = id.wrapping_add(input.arbitrary::<u8>()?.into());
            }
            count_up(&mut packet, layout, sequence, id);
            if what & 16 != 0 && layout.tcp {
                packet[layout.start + 13] ^= input.arbitrary::<u8>()?;
            }
            put_checksums_right(&mut packet, layout);
            sequence = sequence.wrapping_add((packet.len() - layout.payload) as u32);
        }
        if what & 32 != 0 && !packet.is_empty() {
            let at = input.choose_index(packet.len())?;
            let by = input.arbitrary::<u8>()?;
            packet[at] ^= by;
            // Half of them are what they are meant to be: their checksums say so.
            if by & 1 == 0
                && let Some(layout) = Layout::of(&packet)
            {
                put_checksums_right(&mut packet, layout);
            }
        }
        id = id.wrapping_add(1);
        packets.push(packet);
        // Many alike cost one byte.
        if what & 0xc0 == 0xc0 {
            let like = packets.last().cloned().unwrap_or_default();
            for _ in 0..input.int_in_range(0..=80)? {
                let mut packet = like.clone();
                let Some(layout) = Layout::of(&packet).filter(|_| flags & 48 == 48) else { break };
                count_up(&mut packet, layout, sequence, id);
                put_checksums_right(&mut packet, layout);
                sequence = sequence.wrapping_add((packet.len() - layout.payload) as u32);
                id = id.wrapping_add(1);
                packets.push(packet);
            }
        }
    }
    Ok(())
}

fn put_lengths_right(packet: &mut [u8], v6: bool) {
    let len = packet.len() as u16;
    if v6 && packet.len() >= 48 {
        packet[0] = packet[0] & 0xf | 0x60;
        packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
        packet[6] = if packet[6] & 1 == 0 { TCP } else { UDP };
    } else if packet.len() >= 28 {
        packet[0] = packet[0] & 0xf | 0x40;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[9] = if packet[9] & 1 == 0 { TCP } else { UDP };
    }
    if let Some(layout) = Layout::of(packet).filter(|layout| !layout.tcp) {
        let len = (packet.len() - layout.start) as u16;
        packet[layout.start + 4..][..2].copy_from_slice(&len.to_be_bytes());
    }
}

fn count_up(packet: &mut [u8], layout: Layout, sequence: u32, id: u16) {
    if !layout.v6 {
        packet[4..6].copy_from_slice(&id.to_be_bytes());
    }
    if layout.tcp {
        packet[layout.start + 4..][..4].copy_from_slice(&sequence.to_be_bytes());
    }
}

fn put_checksums_right(packet: &mut [u8], layout: Layout) {
    if !layout.v6 {
        packet[10..12].fill(0);
        let sum = !ones_complement(&[&packet[..layout.start]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let field = layout.checksum();
    packet[field..field + 2].fill(0);
    let sum = !ones_complement(&[&pseudo_header(packet, layout.start), &packet[layout.start..]]);
    let sum = if sum == 0 && !layout.tcp { 0xffff } else { sum };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// As the kernel would hand the packet out.
fn put_header_right(hdr: &mut VirtioNetHdr, packet: &mut [u8], layout: Layout) {
    hdr.flags = VirtioNetHdr::NEEDS_CSUM;
    hdr.gso_type = match (layout.tcp, layout.v6) {
        (true, false) => VirtioNetHdr::GSO_TCPV4,
        (true, true) => VirtioNetHdr::GSO_TCPV6,
        (false, _) => VirtioNetHdr::GSO_UDP_L4,
    };
    hdr.csum_start = layout.start as u16;
    hdr.csum_offset = (layout.checksum() - layout.start) as u16;
    let pseudo = ones_complement(&[&pseudo_header(packet, layout.start)]);
    packet[layout.checksum()..][..2].copy_from_slice(&pseudo.to_be_bytes());
}
