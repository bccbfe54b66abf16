//! Which queue of a TUN device a flow's packets come to.

mod common;

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use adit_net::checksum;
use adit_net::netlink::{Config, if_index};
use adit_net::netns;
use adit_net::tun::{Fault, QUEUES_OF_A_HOST, Tun, TunOptions, TunQueue, VirtioNetHdr};
use common::{Network, isolated};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HERE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PORT_THERE: u16 = 9;
const QUEUES: usize = 2 * QUEUES_OF_A_HOST;
/// Hosts on the other side, and their last numbers.
const HOSTS: Range<u8> = 2..66;

const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
/// Of the checksum, after the start of the UDP header.
const CSUM_OFFSET: usize = 6;

fn there(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, host)
}

fn there6(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host))
}

fn open(queues: usize) -> Tun {
    Tun::open(&TunOptions { queues, ..TunOptions::new("wg0") }).expect("a device")
}

/// A device that is up, with several queues; none where the kernel does not let this process load programs.
fn steered(network: &mut Network) -> Option<Tun> {
    let tun = open(QUEUES);
    set_up(&mut network.config);
    if tun.queues().len() == 1 {
        lab::skip("the kernel takes no steering program (CAP_BPF, or CAP_SYS_ADMIN)");
        return None;
    }
    assert_eq!(tun.queues().len(), QUEUES);
    Some(tun)
}

fn set_up(config: &mut Config) -> u32 {
    let ifindex = if_index("wg0").unwrap();
    config.add_address(ifindex, HERE.into(), 24).unwrap();
    config.add_address(ifindex, HERE6.into(), 64).unwrap();
    config.set_up(ifindex, true).unwrap();
    ifindex
}

/// A socket whose packets leave through the device.
fn connect_to(there: IpAddr) -> UdpSocket {
    let here: IpAddr = if there.is_ipv4() { HERE.into() } else { HERE6.into() };
    let socket = UdpSocket::bind((here, 0)).unwrap();
    socket.connect((there, PORT_THERE)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A datagram from there to `socket`; its UDP checksum is left to the virtio-net header.
fn answer(socket: &UdpSocket, payload: &[u8]) -> Vec<u8> {
    let (here, there) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
    let (SocketAddr::V4(here), SocketAddr::V4(there)) = (here, there) else { panic!("IPv4 only") };
    let udp_len = u16::try_from(UDP_LEN + payload.len()).unwrap();
    let total_len = u16::try_from(IPV4_LEN).unwrap() + udp_len;
    let mut packet = vec![0x45, 0];
    packet.extend(total_len.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    packet.extend(there.ip().octets());
    packet.extend(here.ip().octets());
    let sum = checksum::checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = checksum::pseudo_header((*there.ip()).into(), (*here.ip()).into(), UDP, udp_len);
    for field in [there.port(), here.port(), udp_len, checksum::fold(pseudo)] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

fn write(queue: &TunQueue, packet: &[u8]) -> Result<(), Fault> {
    let hdr = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: VirtioNetHdr::GSO_NONE,
        hdr_len: (IPV4_LEN + UDP_LEN) as u16,
        gso_size: 0,
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

/// A packet as far as it matters here.
struct Packet {
    protocol: u8,
    to: IpAddr,
    /// TCP's and UDP's; something else in a fragment.
    source_port: u16,
}

impl Packet {
    fn parse(packet: &[u8]) -> Option<Packet> {
        let is_ipv4 = packet[0] == 0x45;
        let (protocol, to, rest) = if is_ipv4 {
            let to: [u8; 4] = packet[16..20].try_into().unwrap();
            (packet[9], IpAddr::from(to), &packet[IPV4_LEN..])
        } else {
            let to: [u8; 16] = packet[24..40].try_into().unwrap();
            let protocol = if packet[6] == FRAGMENT { packet[IPV6_LEN] } else { packet[6] };
            (protocol, IpAddr::from(to), &packet[IPV6_LEN..])
        };
        let source_port = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
        Some(Packet { protocol, to, source_port })
    }
}

/// By flow, the queues to which its packets came, in order.
type Seen<K> = BTreeMap<K, Vec<usize>>;

/// Adds what waits in the queues, under the key that `key` gives it, if it gives one.
fn drain<K: Ord>(tun: &Tun, seen: &mut Seen<K>, key: impl Fn(&Packet) -> Option<K>) {
    let mut buf = vec![0; 0xffff];
    for (number, queue) in tun.queues().iter().enumerate() {
        while let Some(read) = queue.read(&mut buf).unwrap() {
            if let Some(key) = Packet::parse(&buf[..read.len]).and_then(|packet| key(&packet)) {
                seen.entry(key).or_default().push(number);
            }
        }
    }
}

/// Each flow is on one queue, and together they are on all of `expected`.
#[track_caller]
fn assert_on<K>(seen: &Seen<K>, expected: impl Iterator<Item = usize>) {
    let moved = seen.values().filter(|queues| queues.iter().any(|queue| *queue != queues[0])).count();
    assert_eq!(moved, 0, "flows of {} came to several queues", seen.len());
    let mut used: Vec<usize> = seen.values().map(|queues| queues[0]).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used, expected.collect::<Vec<_>>());
}

fn odd() -> impl Iterator<Item = usize> {
    (1..QUEUES).step_by(2)
}

#[test]
fn fragments_come_to_the_queue_of_their_flows_whole_datagrams() {
    isolated(|network| {
        let Some(tun) = steered(network) else { return };
        let families: [fn(u8) -> IpAddr; 2] = [|host| there(host).into(), |host| there6(host).into()];
        for there in families {
            let mut seen = Seen::new();
            for host in HOSTS {
                let socket = connect_to(there(host));
                for len in [100, 3000, 700, 5000, 1400, 1] {
                    socket.send(&vec![0; len]).unwrap();
                }
                drain(&tun, &mut seen, |packet| (packet.protocol == UDP).then_some(packet.to));
            }
            assert_eq!(seen.len(), HOSTS.len());
            // 3, 4 and 2 fragments or so, and 3 whole ones.
            assert!(seen.values().all(|queues| queues.len() > 9), "{seen:?}");
            assert_on(&seen, odd());
        }
    });
}

#[test]
fn what_goes_to_one_host_has_four_neighbouring_queues() {
    isolated(|network| {
        let Some(tun) = steered(network) else { return };
        for host in [2, 3, 4, 5] {
            let (mut connections, mut sockets) = (Seen::new(), Vec::new());
            for _ in 0..64 {
                sockets.push(start_to_connect(there(host)));
                drain(&tun, &mut connections, |packet| {
                    (packet.protocol == TCP).then_some(packet.source_port)
                });
            }
            assert_eq!(connections.len(), sockets.len());
            let mut datagrams = Seen::new();
            connect_to(there(host).into()).send(b"datagram").unwrap();
            drain(&tun, &mut datagrams, |packet| (packet.protocol == UDP).then_some(()));
            let first = datagrams[&()][0] / QUEUES_OF_A_HOST * QUEUES_OF_A_HOST;
            assert_on(&connections, [first, first + 2].into_iter());
        }
    });
}

/// Sends the first packet of a connection.
fn start_to_connect(there: Ipv4Addr) -> OwnedFd {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let result = connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(there, 80)));
    assert_eq!(result, Err(Errno::EINPROGRESS));
    socket
}

/// Without a program the driver would move a flow to the queue that its answers are written to.
#[test]
fn a_flow_keeps_its_queue_whichever_one_its_answers_are_written_to() {
    const ROUNDS: usize = 8;
    isolated(|network| {
        let Some(tun) = steered(network) else { return };
        let sockets: Vec<UdpSocket> = HOSTS.map(|host| connect_to(there(host).into())).collect();
        let mut seen = Seen::new();
        for round in 0..ROUNDS {
            for (flow, socket) in sockets.iter().enumerate() {
                socket.send(b"question").unwrap();
                write(&tun.queues()[(flow + round) % QUEUES], &answer(socket, b"answer")).unwrap();
            }
            drain(&tun, &mut seen, |packet| (packet.protocol == UDP).then_some(packet.to));
        }
        for socket in &sockets {
            assert_eq!(received(socket), [b"answer".len(); ROUNDS]);
            assert_eq!(seen[&socket.peer_addr().unwrap().ip()].len(), ROUNDS);
        }
        assert_on(&seen, odd());
    });
}

#[test]
fn queues_share_the_fate_of_the_device() {
    isolated(|network| {
        let tun = open(2);
        let away = netns::create().unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, PORT_THERE)).unwrap();
        let packet = answer(&socket, b"answer");
        let write_each = |expected: Result<(), Fault>| {
            for queue in tun.queues() {
                assert_eq!(write(queue, &packet), expected);
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
            let socket = connect_to(there(2).into());
            assert_eq!(write(&tun.queues()[0], &answer(&socket, b"moved")), Ok(()));
            assert_eq!(received(&socket), [b"moved".len()]);
            config.delete_link(ifindex).unwrap();
        })
        .unwrap();
        write_each(Err(Fault::Gone));
        assert!(tun.is_gone());
    });
}

#[test]
fn the_device_ends_with_its_descriptors() {
    isolated(|_| {
        for queues in [1, 2, QUEUES] {
            let tun = open(queues);
            assert!([1, queues].contains(&tun.queues().len()));
            drop(tun);
            assert!(if_index("wg0").is_err());
        }
    });
}
