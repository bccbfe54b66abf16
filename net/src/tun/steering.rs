//! Which queue of a TUN device with several a packet comes to: what a program says that the driver runs for each of them
//! (`TUNSETSTEERINGEBPF`, Linux 4.16).
//!
//! The driver's own choice loses the order of flows in two ways. Its hash takes the ports wherever it sees them, and parts
//! a datagram's fragments, which have none, from the whole datagrams of their flow. And a flow moves to the queue through
//! which its answers are *written* (`tun_flow_update`), while its last packets still wait in the old one. With a program it
//! does neither, and is spared computing a hash of what is written.
//!
//! A host has four neighbouring queues ([`QUEUES_OF_A_HOST`]), by its address. Whoever reads those is the only one who
//! sends to it: different hosts are served in parallel, and yet what a host's peer gets leaves in the order of its nonces,
//! and from one processor's cache. (Behind a peer with many hosts several may be at work; its replay window is wide enough.)
//!
//! Two of the four, the even ones, are for TCP, and two for everything else: what is sent beside a bulk transfer waits for its
//! turn, but not behind the transfer's packets. Which of the two depends on what all packets of a flow have, whole or in
//! fragments: the addresses and the protocol; and the ports of TCP that is not to be fragmented. A datagram is fragmented by
//! its sender whenever it is too long, so the ports of UDP must not matter.

use std::io;
use std::os::fd::OwnedFd;

use super::bpf::{
    self, Assembler, Instruction, R0, R1, R6, R7, R8, R9, Register, and, copy, copy_pointer, exit, load_byte,
    load_half, load_word, load_word_at, multiply, or, set, shift_left, shift_right, xor,
};
use super::sys;

/// Neighbouring queues for the packets to one host, if the device has a multiple of so many.
pub const QUEUES_OF_A_HOST: usize = 4;

/// Protocols and IPv6 extension headers (IANA "Protocol Numbers").
const TCP: u32 = 6;
const FRAGMENT: u32 = 44;

/// Length of an IPv6 header in bytes.
const IPV6_LEN: u32 = 40;

/// Of IPv4's word of flags and fragment offset: all but the reserved bit.
const FRAGMENTATION: u32 = 0x7fff;
const DONT_FRAGMENT: u32 = 0x4000;

/// Odd, and without a pattern: the golden ratio's fraction in 32 bits.
const MULTIPLIER: u32 = 0x9e37_79b9;

const PACKET: Register = R6;
/// Of the flow.
const HASH: Register = R7;
/// Of the destination alone.
const HOST_HASH: Register = R8;
/// Or IPv6's next header.
const PROTOCOL: Register = R9;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Ipv6,
    WholeIpv6,
    Choose,
    Exit,
}

/// The program in the kernel.
pub(super) struct Steering(OwnedFd);

impl Steering {
    /// None if the kernel refuses; the log says so.
    pub(super) fn load() -> Option<Self> {
        taken("bpf", bpf::load("adit_steering", &program())).map(Self)
    }

    /// Lets it choose the queues of a device, which has but one so far; false if the kernel refuses.
    pub(super) fn attach_to(&self, device: &OwnedFd) -> bool {
        taken("TUNSETSTEERINGEBPF", sys::set_steering(device, &self.0)).is_some()
    }
}

fn taken<T>(step: &str, result: io::Result<T>) -> Option<T> {
    let refused = |error: &io::Error| {
        log::info!(
            "the interface has one queue only: the kernel takes no steering program ({step}: {error})"
        );
    };
    result.inspect_err(refused).ok()
}

/// The program returns a number of 16 bits, of which the driver takes the remainder by the number of queues.
fn program() -> Vec<Instruction> {
    let mut code = Assembler::new();
    code.add(&[copy_pointer(PACKET, R1), set(HASH, 0), set(HOST_HASH, 0), set(PROTOCOL, 0)]);
    code.add(&[load_byte(0), shift_right(R0, 4)]);
    code.jump_if_equal(R0, 6, Label::Ipv6);
    code.jump_unless_equal(R0, 4, Label::Choose);
    ipv4(&mut code);
    code.label(Label::Ipv6);
    ipv6(&mut code);
    code.label(Label::Choose);
    choose(&mut code);
    code.finish()
}

fn ipv4(code: &mut Assembler<Label>) {
    mix(code, load_word(16));
    code.add(&[copy(HOST_HASH, HASH)]);
    mix(code, load_word(12));
    code.add(&[load_byte(9), copy(PROTOCOL, R0)]);
    code.jump_unless_equal(PROTOCOL, TCP, Label::Choose);
    // Don't Fragment on a packet that is no fragment nevertheless: the whole flow has its ports.
    code.add(&[load_half(6), and(R0, FRAGMENTATION)]);
    code.jump_unless_equal(R0, DONT_FRAGMENT, Label::Choose);
    // Behind the header, whose length in words the first byte tells.
    code.add(&[load_byte(0), and(R0, 0x0f), shift_left(R0, 2)]);
    mix(code, load_word_at(R0));
    code.jump(Label::Choose);
}

fn ipv6(code: &mut Assembler<Label>) {
    (24..IPV6_LEN).step_by(4).for_each(|destination| mix(code, load_word(destination)));
    code.add(&[copy(HOST_HASH, HASH)]);
    (8..24).step_by(4).for_each(|source| mix(code, load_word(source)));
    code.add(&[load_byte(6), copy(PROTOCOL, R0)]);
    code.jump_unless_equal(PROTOCOL, FRAGMENT, Label::WholeIpv6);
    // What comes next in the whole packets of the flow. Behind another extension header a fragment has the same one in
    // front as a whole packet has, and nothing of what comes after that is looked at.
    code.add(&[load_byte(IPV6_LEN), copy(PROTOCOL, R0)]);
    code.jump(Label::Choose);
    code.label(Label::WholeIpv6);
    code.jump_unless_equal(PROTOCOL, TCP, Label::Choose);
    // Routers never fragment. Where the sender does, with what was on its way while the path became narrower, TCP
    // restores the order.
    mix(code, load_word(IPV6_LEN));
}

/// Adds what `load` loads to the hash.
fn mix(code: &mut Assembler<Label>, load: Instruction) {
    code.add(&[load, multiply(HASH, MULTIPLIER), xor(HASH, R0)]);
}

/// The upper half of the one hash, and in place of its lowest bits one of the other hash and the kind of packet.
fn choose(code: &mut Assembler<Label>) {
    code.add(&[multiply(HASH, MULTIPLIER), xor(HASH, PROTOCOL)]);
    // Everything that went into a hash has an influence on its upper half then.
    for hash in [HASH, HOST_HASH] {
        code.add(&[copy(R0, hash), shift_right(R0, 16), xor(hash, R0), multiply(hash, MULTIPLIER)]);
    }
    code.add(&[shift_right(HOST_HASH, 16), and(HOST_HASH, !3)]);
    code.add(&[shift_right(HASH, 30), and(HASH, 2)]);
    code.add(&[copy(R0, HOST_HASH), xor(R0, HASH)]);
    code.jump_if_equal(PROTOCOL, TCP, Label::Exit);
    code.add(&[or(R0, 1)]);
    code.label(Label::Exit);
    code.add(&[exit()]);
}

#[cfg(test)]
mod tests {
    use std::ffi::c_int;
    use std::os::fd::AsRawFd;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const UDP: u8 = 17;
    const ETHERNET_LEN: usize = 14;

    /// The part of `union bpf_attr` that runs a program.
    #[repr(C)]
    #[derive(Default)]
    struct TestAttributes {
        program: u32,
        returned: u32,
        data_len: u32,
        out_len: u32,
        data: u64,
        out: u64,
        repeat: u32,
        duration: u32,
    }

    /// None where loading is not permitted; anything but that is a mistake in the program.
    fn loaded() -> Option<OwnedFd> {
        match bpf::load("steering_test", &program()) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                lab::skip(&format!("loading programs: {error}"));
                None
            }
            result => Some(result.expect("the verifier takes it")),
        }
    }

    /// What the kernel's machine returns for `packet`. It wants an Ethernet header, which it takes off.
    fn run(program: &OwnedFd, packet: &[u8]) -> u32 {
        const BPF_PROG_TEST_RUN: c_int = 10;
        let frame = [&[0; ETHERNET_LEN], packet].concat();
        let mut attributes = TestAttributes {
            program: program.as_raw_fd() as u32,
            data_len: frame.len() as u32,
            data: frame.as_ptr() as u64,
            repeat: 1,
            ..TestAttributes::default()
        };
        // SAFETY: BPF_PROG_TEST_RUN reads the data, and reads and writes the attributes, which both live through the call.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attributes, size_of::<TestAttributes>())
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        attributes.returned
    }

    /// An IPv4 packet of `protocol`, with the word of flags and fragment offset, and so many words of options.
    fn ipv4(protocol: u8, addresses: [u8; 8], fragmentation: u16, options: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + 4 * usize::from(options)];
        packet[0] = 0x45 + options;
        packet[6..8].copy_from_slice(&fragmentation.to_be_bytes());
        packet[9] = protocol;
        packet[12..20].copy_from_slice(&addresses);
        packet.extend(payload);
        packet
    }

    fn ipv6(next_header: u8, addresses: [u8; 32], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = next_header;
        packet[8..40].copy_from_slice(&addresses);
        packet.extend(payload);
        packet
    }

    /// Changes what is another in each packet of a flow.
    fn vary(packet: &mut [u8], with: &[u8; 7]) {
        if packet[0] >> 4 == 4 {
            // TOS, total length, identification, TTL, checksum.
            let places = [1, 2, 3, 4, 5, 8, 10];
            places.into_iter().zip(with).for_each(|(place, byte)| packet[place] = *byte);
        } else {
            // Traffic class, flow label, payload length, hop limit.
            packet[0] = 0x60 | with[0] >> 4;
            let places = [1, 2, 3, 4, 5, 7];
            places.into_iter().zip(&with[1..]).for_each(|(place, byte)| packet[place] = *byte);
        }
    }

    fn protocol() -> impl Strategy<Value = u8> {
        prop_oneof![Just(TCP as u8), Just(UDP), any::<u8>()]
    }

    fn fragment_header(next_header: u8, rest: [u8; 7]) -> Vec<u8> {
        [&[next_header][..], &rest].concat()
    }

    proptest! {
        #[test]
        fn a_flow_of_ipv4_has_one_number(
            protocol in protocol(), addresses: [u8; 8], options in 0u8..=10, ports: [u8; 4],
            fragmentation: u16, variation: [u8; 7], first in vec(any::<u8>(), 8..40), second in vec(any::<u8>(), 1..40),
        ) {
            let Some(program) = loaded() else { return Ok(()) };
            let number = |fragmentation, payload: &[u8]| {
                let mut packet = ipv4(protocol, addresses, fragmentation, options, payload);
                vary(&mut packet, &variation);
                run(&program, &packet)
            };
            // As its sender would have it on a path where nothing has to be fragmented, and otherwise.
            let whole = number(0, &[&ports[..], &first].concat());
            prop_assert_eq!(whole, run(&program, &ipv4(protocol, addresses, 0, 0, &second)));
            prop_assert_eq!(whole & 1, u32::from(protocol != TCP as u8));
            if protocol != TCP as u8 || u32::from(fragmentation) & FRAGMENTATION != DONT_FRAGMENT {
                prop_assert_eq!(whole, number(fragmentation, &second));
            }
            let unfragmentable = number(DONT_FRAGMENT as u16, &[&ports[..], &first].concat());
            prop_assert_eq!(unfragmentable, number(DONT_FRAGMENT as u16, &[&ports[..], &second].concat()));
            prop_assert!(unfragmentable == whole || protocol == TCP as u8);
            prop_assert_eq!(whole & 1, unfragmentable & 1);
            let (mut others, other_protocol) = (addresses, variation[0]);
            others[..4].copy_from_slice(&ports);
            let other = run(&program, &ipv4(other_protocol, others, 0, 0, &second));
            prop_assert_eq!([whole >> 2, unfragmentable >> 2], [other >> 2; 2], "the destination's");
        }

        #[test]
        fn a_flow_of_ipv6_has_one_number(
            next_header in protocol(), addresses: [u8; 32], ports: [u8; 4],
            fragmentation: [u8; 7], variation: [u8; 7], first in vec(any::<u8>(), 4..40), second in vec(any::<u8>(), 1..40),
        ) {
            let Some(program) = loaded() else { return Ok(()) };
            prop_assume!(u32::from(next_header) != FRAGMENT);
            let number = |next_header, payload: &[u8]| {
                let mut packet = ipv6(next_header, addresses, payload);
                vary(&mut packet, &variation);
                run(&program, &packet)
            };
            let whole = number(next_header, &[&ports[..], &first].concat());
            let header = fragment_header(next_header, fragmentation);
            let fragment = number(FRAGMENT as u8, &[&header[..], &second].concat());
            prop_assert_eq!(whole, number(next_header, &[&ports[..], &second].concat()));
            prop_assert_eq!(fragment, run(&program, &ipv6(FRAGMENT as u8, addresses, &header)));
            prop_assert!(whole == fragment || next_header == TCP as u8);
            prop_assert_eq!([whole & 1, fragment & 1], [u32::from(next_header != TCP as u8); 2]);
            let mut others = addresses;
            others[12..16].copy_from_slice(&ports);
            let other = run(&program, &ipv6(UDP, others, &second));
            prop_assert_eq!([whole >> 2, fragment >> 2], [other >> 2; 2], "the destination's");
        }

        #[test]
        fn whatever_comes_has_a_number(packet in vec(any::<u8>(), 1..80), version in 3u8..8) {
            let Some(program) = loaded() else { return Ok(()) };
            let mut packet = packet;
            packet[0] = packet[0] & 0x0f | version << 4;
            prop_assert!(run(&program, &packet) <= u32::from(u16::MAX));
        }
    }

    /// About as many of `numbers` are each of those from 0 to `parts`.
    #[track_caller]
    fn assert_even(numbers: impl Iterator<Item = usize>, parts: usize) {
        let mut counts = vec![0; parts];
        numbers.for_each(|number| counts[number] += 1);
        let fair = counts.iter().sum::<usize>() / parts;
        let is_fair = |count: &usize| (fair / 2..=fair * 3 / 2).contains(count);
        assert!(counts.iter().all(is_fair), "{counts:?}");
    }

    /// Which of a host's two queues for packets of their kind.
    fn of_two(number: u32) -> usize {
        number as usize >> 1 & 1
    }

    const HOSTS: [u8; 8] = [192, 0, 2, 1, 192, 0, 2, 2];

    fn tcp4(from: u16, to: u16) -> Vec<u8> {
        ipv4(TCP as u8, HOSTS, DONT_FRAGMENT as u16, 0, &[from.to_be_bytes(), to.to_be_bytes()].concat())
    }

    fn tcp6(from: u16, to: u16) -> Vec<u8> {
        ipv6(TCP as u8, [0xfd; 32], &[from.to_be_bytes(), to.to_be_bytes()].concat())
    }

    #[test]
    fn connections_to_one_host_have_two_of_its_queues() {
        let Some(program) = loaded() else { return };
        // As Linux chooses ports, as others do, and of a crawler.
        let linux = (32_768..34_816).step_by(2);
        for packets in [
            linux.clone().map(|port| tcp4(port, 443)).collect::<Vec<_>>(),
            linux.map(|port| tcp6(port, 443)).collect(),
            (49_152..50_176).map(|port| tcp4(port, 443)).collect(),
            (1..1025).map(|port| tcp4(40_000, port)).collect(),
        ] {
            let numbers: Vec<u32> = packets.iter().map(|packet| run(&program, packet)).collect();
            assert!(numbers.iter().all(|number| number >> 2 == numbers[0] >> 2 && number & 1 == 0));
            assert_even(numbers.into_iter().map(of_two), 2);
        }
    }

    #[test]
    fn hosts_are_spread() {
        let Some(program) = loaded() else { return };
        let near = |i: u16| [[10, 0, 0, 1], [10, 1, (i >> 8) as u8, i as u8]].concat().try_into().unwrap();
        let networks = |i: u16| [10, 0, 0, 1, 10, 1, i as u8, 1];
        let near6 = |i: u16| {
            let mut addresses = [0; 32];
            addresses[30..].copy_from_slice(&i.to_be_bytes());
            addresses
        };
        for packets in [
            (0..1024).map(|i| ipv4(UDP, near(i), 0, 0, &[0; 8])).collect::<Vec<_>>(),
            (0..256).map(|i| ipv4(UDP, networks(i), 0, 0, &[0; 8])).collect(),
            (0..1024).map(|i| ipv6(UDP, near6(i), &[0; 8])).collect(),
        ] {
            let numbers: Vec<u32> = packets.iter().map(|packet| run(&program, packet)).collect();
            for readers in 2..=8 {
                let reader =
                    |number: &u32| *number as usize % (readers * QUEUES_OF_A_HOST) / QUEUES_OF_A_HOST;
                assert_even(numbers.iter().map(reader), readers);
            }
            assert_even(numbers.into_iter().map(of_two), 2);
        }
    }
}
