//! Which queue of a TUN device a flow's packets come to, and what can be written through the queues that get none.

mod common;

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::{Ipv4Addr, UdpSocket};

use adit_net::checksum;
use adit_net::netlink::{Config, if_index};
use adit_net::netns;
use adit_net::tun::{Fault, Tun, TunOptions, TunQueue, VirtioNetHdr};
use common::{Network, isolated};

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PORT_THERE: u16 = 9;
const QUEUES: usize = 4;

const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
/// Of the checksum, after the start of the UDP header.
const CSUM_OFFSET: usize = 6;

fn open(queues: usize) -> Tun {
    Tun::open(&TunOptions { queues, ..TunOptions::new("wg0") }).expect("a device")
}

fn set_up(config: &mut Config) -> u32 {
    let ifindex = if_index("wg0").unwrap();
    config.add_address(ifindex, HERE.into(), 24).unwrap();
    config.set_up(ifindex, true).unwrap();
    ifindex
}

/// A socket whose packets leave through the device.
fn connect() -> UdpSocket {
    let socket = UdpSocket::bind((HERE, 0)).unwrap();
    socket.connect((THERE, PORT_THERE)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn local_port(socket: &UdpSocket) -> u16 {
    socket.local_addr().unwrap().port()
}

/// A datagram from there to `port` here; its UDP checksum is left to the virtio-net header.
fn answer(port: u16, payload: &[u8]) -> Vec<u8> {
    let udp_len = u16::try_from(UDP_LEN + payload.len()).unwrap();
    let total_len = u16::try_from(IPV4_LEN).unwrap() + udp_len;
    let mut packet = vec![0x45, 0];
    packet.extend(total_len.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(THERE.octets());
    packet.extend(HERE.octets());
    let sum = checksum::checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = checksum::pseudo_header(THERE.into(), HERE.into(), 17, udp_len);
    for field in [PORT_THERE, port, udp_len, checksum::fold(pseudo)] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

/// `gso_size` of zero: one datagram.
fn write(queue: &TunQueue, packet: &[u8], gso_size: u16) -> Result<(), Fault> {
    let hdr = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: if gso_size == 0 { VirtioNetHdr::GSO_NONE } else { VirtioNetHdr::GSO_UDP_L4 },
        hdr_len: (IPV4_LEN + UDP_LEN) as u16,
        gso_size,
        csum_start: IPV4_LEN as u16,
        csum_offset: CSUM_OFFSET as u16,
    };
    queue.write(&hdr, &[IoSlice::new(packet)]).map_err(|error| Fault::of(&error))
}

/// Lengths of the datagrams that have come.
fn received(socket: &UdpSocket) -> Vec<usize> {
    let mut buf = [0; 0xffff];
    std::iter::from_fn(|| socket.recv(&mut buf).ok()).collect()
}

/// By source port, the queues to which the flow's packets came, in order.
type Seen = BTreeMap<u16, Vec<usize>>;

fn drain(tun: &Tun, seen: &mut Seen) {
    let mut buf = vec![0; 0xffff];
    for (number, queue) in tun.queues().iter().enumerate() {
        while let Some(read) = queue.read(&mut buf).unwrap() {
            let packet = &buf[..read.len];
            if packet[0] == 0x45 && packet[9] == 17 {
                let port = u16::from_be_bytes([packet[IPV4_LEN], packet[IPV4_LEN + 1]]);
                seen.entry(port).or_default().push(number);
            }
        }
    }
}

/// Lets many flows send, and answers each packet through the queue of another worker. Returns how many flows came to
/// more than one queue.
fn flows_that_moved(network: &mut Network, writer: fn(&Tun, usize) -> &TunQueue) -> usize {
    const FLOWS: usize = 64;
    const ROUNDS: usize = 8;
    let tun = open(QUEUES);
    set_up(&mut network.config);
    let sockets: Vec<UdpSocket> = (0..FLOWS).map(|_| connect()).collect();
    let mut seen = Seen::new();
    for round in 0..ROUNDS {
        for (flow, socket) in sockets.iter().enumerate() {
            socket.send(b"question").unwrap();
            write(writer(&tun, flow + round), &answer(local_port(socket), b"answer"), 0).unwrap();
        }
        drain(&tun, &mut seen);
    }
    for socket in &sockets {
        assert_eq!(received(socket), [b"answer".len(); ROUNDS]);
        assert_eq!(seen[&local_port(socket)].len(), ROUNDS);
    }
    let used = |queue: usize| seen.values().any(|queues| queues.contains(&queue));
    assert!((0..QUEUES).all(used), "the flows are spread over all queues");
    seen.values().filter(|queues| queues.iter().any(|queue| *queue != queues[0])).count()
}

#[test]
fn a_flow_keeps_its_queue_whichever_worker_writes_its_answers() {
    isolated(|network| {
        assert_eq!(flows_that_moved(network, Tun::writer), 0);
    });
}

/// The reason for the writers. Should a kernel ever fail this, they can go.
#[test]
fn writing_through_the_reading_queues_would_move_flows() {
    isolated(|network| {
        assert_ne!(flows_that_moved(network, |tun, number| &tun.queues()[number % QUEUES]), 0);
    });
}

#[test]
fn writers_share_the_fate_of_the_device() {
    isolated(|network| {
        let tun = open(2);
        let away = netns::create().unwrap();
        let packet = answer(7, b"answer");
        let write_each = |expected: Result<(), Fault>| {
            for number in 0..2 {
                assert_eq!(write(tun.writer(number), &packet, 0), expected);
            }
        };
        write_each(Err(Fault::Down));
        let ifindex = set_up(&mut network.config);
        write_each(Ok(()));
        network.config.set_up(ifindex, false).unwrap();
        write_each(Err(Fault::Down));
        network.config.move_to(ifindex, &away).unwrap();
        netns::run_in(&away, || {
            let mut config = Config::open().unwrap();
            let ifindex = set_up(&mut config);
            let socket = connect();
            let packet = answer(local_port(&socket), b"moved");
            assert_eq!(write(tun.writer(0), &packet, 0), Ok(()));
            assert_eq!(received(&socket), [b"moved".len()]);
            config.delete_link(ifindex).unwrap();
        })
        .unwrap();
        write_each(Err(Fault::Gone));
        assert!(tun.is_gone());
    });
}

#[test]
fn writers_take_super_packets() {
    isolated(|network| {
        let tun = open(2);
        set_up(&mut network.config);
        if !tun.offloads().udp {
            eprintln!("skipped: the kernel knows no super-packets of UDP (Linux 6.2)");
            return;
        }
        let socket = connect();
        assert_eq!(write(tun.writer(1), &answer(local_port(&socket), &[7; 3500]), 1000), Ok(()));
        assert_eq!(received(&socket), [1000, 1000, 1000, 500]);
    });
}

#[test]
fn the_device_ends_with_its_descriptors() {
    isolated(|_| {
        for queues in [1, 2, QUEUES] {
            let tun = open(queues);
            assert_eq!(tun.queues().len(), queues);
            drop(tun);
            assert!(if_index("wg0").is_err());
        }
    });
}

#[test]
fn a_single_queue_is_for_both() {
    isolated(|network| {
        let tun = open(1);
        set_up(&mut network.config);
        let socket = connect();
        for number in [0, 1] {
            assert!(std::ptr::eq(tun.writer(number), &tun.queues()[0]));
        }
        assert_eq!(write(tun.writer(0), &answer(local_port(&socket), b"answer"), 0), Ok(()));
        assert_eq!(received(&socket), [b"answer".len()]);
    });
}
