//! Two real TUN devices in two network namespaces, joined by nothing but [`Splitter`] and [`groups`]: whatever one
//! kernel sends, the other must receive unchanged, with each combination of offloads.
//!
//! Where network namespaces or TUN devices are not permitted, the tests are skipped and say so.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use adit_net::netlink::{Config, if_index};
use adit_net::netns;
use adit_net::segment::{Delivery, MAX_PACKET_LEN, Splitter, groups};
use adit_net::tun::{Offloads, Tun, TunOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

/// Enough for TCP to open its window, and to fill super-packets.
const TRANSFER_LEN: usize = 8 << 20;
const TIMEOUT: Duration = Duration::from_secs(20);

/// A namespace with one end of the tunnel.
struct End {
    netns: OwnedFd,
    tun: Tun,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl End {
    fn open(host: u8, offloads: Offloads) -> Result<Self, String> {
        let v4 = Ipv4Addr::new(192, 0, 2, host);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host));
        let netns = netns::create().map_err(|error| format!("no network namespace: {error}"))?;
        let tun = netns::run_in(&netns, || {
            let tun =
                Tun::open(&TunOptions { offloads, ..TunOptions::new("wg0") }).map_err(|e| e.to_string())?;
            let ifindex = if_index("wg0").expect("the interface");
            let mut config = Config::open().expect("netlink");
            config.add_address(ifindex, v4.into(), 24).expect("an address");
            config.add_address(ifindex, v6.into(), 64).expect("an address");
            config.set_up(ifindex, true).expect("up");
            Ok::<_, String>(tun)
        });
        Ok(Self { tun: tun.expect("entering the namespace")?, netns, v4, v6 })
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run_in(&self.netns, work).expect("entering the namespace")
    }

    /// Transport segments that arrived with a wrong checksum, which TCP would cover up by sending them again.
    fn checksum_errors(&self) -> u64 {
        self.inside(|| {
            let read =
                |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).expect("statistics");
            let snmp = read("snmp");
            let lines: Vec<Vec<&str>> = snmp.lines().map(|line| line.split_whitespace().collect()).collect();
            let of_table = |pair: &[Vec<&str>]| -> u64 {
                let column = pair[0].iter().position(|name| *name == "InCsumErrors");
                column.map_or(0, |column| pair[1][column].parse().expect("a number"))
            };
            let v4: u64 = lines.chunks_exact(2).map(of_table).sum();
            let snmp6 = read("snmp6");
            let v6 = snmp6.lines().filter(|line| line.contains("InCsumErrors"));
            v4 + v6
                .map(|line| line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0))
                .sum::<u64>()
        })
    }
}

/// What went through the pump, in both directions.
#[derive(Default)]
struct Counts {
    super_packets_read: AtomicUsize,
    super_packets_written: AtomicUsize,
    refused: AtomicUsize,
    longest_train: AtomicUsize,
}

/// Carries packets from one device to the other until told to stop.
fn pump(from: &Tun, to: &Tun, offloads: Offloads, stop: &AtomicBool, counts: &Counts) {
    let (source, sink) = (&from.queues()[0], &to.queues()[0]);
    let mut buffer = vec![0; MAX_PACKET_LEN];
    let mut train = vec![0; 4 * MAX_PACKET_LEN];
    while !stop.load(Ordering::Relaxed) {
        let Some(read) = source.read(&mut buffer).expect("a device that is up") else {
            let mut fds = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(20u8)).expect("poll");
            continue;
        };
        let splitter = Splitter::new(&read.hdr, &buffer[..read.len]).expect("the kernel's headers are true");
        let mut free = &mut train[..];
        let mut packets: Vec<&[u8]> = Vec::new();
        for i in 0..splitter.count() {
            let (packet, rest) = free.split_at_mut(splitter.packet_len(i));
            splitter.write(i, packet);
            packets.push(packet);
            free = rest;
        }
        counts.longest_train.fetch_max(packets.len(), Ordering::Relaxed);
        if packets.len() > 1 {
            counts.super_packets_read.fetch_add(1, Ordering::Relaxed);
        }
        for group in groups(&packets, offloads) {
            if group.packets().len() > 1 {
                counts.super_packets_written.fetch_add(1, Ordering::Relaxed);
            }
            if group.write_to(sink).expect("a packet that the other kernel made") == Delivery::OneByOne {
                counts.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Runs `test` while packets flow between two ends with these offloads.
fn joined(wanted: Offloads, test: impl FnOnce(&End, &End, &Counts)) {
    let (a, b) = match (End::open(1, wanted), End::open(2, wanted)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(reason), _) | (_, Err(reason)) => return drop(lab::skip(&reason)),
    };
    let stop = AtomicBool::new(false);
    let counts = Counts::default();
    thread::scope(|scope| {
        scope.spawn(|| pump(&a.tun, &b.tun, b.tun.offloads(), &stop, &counts));
        scope.spawn(|| pump(&b.tun, &a.tun, a.tun.offloads(), &stop, &counts));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&a, &b, &counts)));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    assert_eq!(a.checksum_errors() + b.checksum_errors(), 0, "packets with wrong checksums arrived");
    assert_eq!(counts.refused.into_inner(), 0, "super-packets that the kernel refused");

    let mut stats = a.tun.stats();
    stats += b.tun.stats();
    assert_eq!(stats.tcp.read + stats.udp.read, counts.super_packets_read.into_inner() as u64);
    assert_eq!(stats.tcp.written + stats.udp.written, counts.super_packets_written.into_inner() as u64);
    assert!(stats.single.read > 0 && stats.single.written > 0);
    assert_eq!((stats.tcp.refused, stats.udp.refused, stats.dropped), (0, 0, 0));
}

/// Bytes that no shift or swap maps to themselves.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(next).collect()
}

fn listen(end: &End, ip: IpAddr) -> TcpListener {
    // A new IPv6 address is tentative for a moment, until no duplicate has been found.
    let attempt = || TcpListener::bind(SocketAddr::new(ip, 0));
    end.inside(|| retry(attempt))
}

fn retry<T>(attempt: impl Fn() -> io::Result<T>) -> T {
    for _ in 0..100 {
        match attempt() {
            Ok(done) => return done,
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
    attempt().expect("after five seconds")
}

/// Sends a stream both ways at once and compares.
fn transfer(a: &End, b: &End, to: IpAddr) {
    let listener = listen(b, to);
    let address = listener.local_addr().expect("bound");
    let client = a.inside(|| retry(|| TcpStream::connect(address)));
    let (server, _) = listener.accept().expect("a connection");
    thread::scope(|scope| {
        for (stream, out, back) in [(&client, 1, 2), (&server, 2, 1)] {
            stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
            stream.set_write_timeout(Some(TIMEOUT)).expect("a timeout");
            scope.spawn(move || {
                let mut writer = stream;
                writer.write_all(&pattern(TRANSFER_LEN, out)).expect("sent");
                writer.shutdown(std::net::Shutdown::Write).expect("finished");
            });
            scope.spawn(move || {
                let mut received = Vec::new();
                let mut reader = stream;
                reader.read_to_end(&mut received).expect("received");
                assert!(received == pattern(TRANSFER_LEN, back), "the stream changed on the way to {to}");
            });
        }
    });
}

fn tcp(offloads: Offloads) {
    joined(offloads, |a, b, counts| {
        transfer(a, b, b.v4.into());
        transfer(a, b, b.v6.into());
        let read = counts.super_packets_read.load(Ordering::Relaxed);
        let written = counts.super_packets_written.load(Ordering::Relaxed);
        if offloads.tcp && offloads.vnet_hdr {
            assert!(read > 100 && written > 100, "super-packets: {read} read, {written} written");
            assert!(counts.longest_train.load(Ordering::Relaxed) > 20);
        } else {
            assert_eq!((read, written), (0, 0));
        }
    });
}

#[test]
fn tcp_with_every_offload() {
    tcp(Offloads::ALL);
}

#[test]
fn tcp_without_udp_offload() {
    tcp(Offloads { udp: false, ..Offloads::ALL });
}

#[test]
fn tcp_with_checksums_only() {
    tcp(Offloads { tcp: false, udp: false, vnet_hdr: true });
}

#[test]
fn tcp_without_offloads() {
    tcp(Offloads::NONE);
}

/// A new IPv6 address can be bound a moment before packets to it are delivered.
fn wait_until_reachable(sender: &UdpSocket, receiver: &UdpSocket) {
    receiver.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    retry(|| {
        sender.send(b"?")?;
        receiver.recv(&mut [0])
    });
    while receiver.recv(&mut [0]).is_ok() {}
}

/// Datagrams sent as trains by `UDP_SEGMENT`: with the offload they stay together from end to end.
fn udp(offloads: Offloads) {
    const STRIDE: usize = 1000;
    joined(offloads, |a, b, counts| {
        for (from, to) in [(IpAddr::from(a.v4), IpAddr::from(b.v4)), (a.v6.into(), b.v6.into())] {
            let bind = |ip| move || retry(|| UdpSocket::bind(SocketAddr::new(ip, 0)));
            let (sender, receiver) = (a.inside(bind(from)), b.inside(bind(to)));
            sender.connect(receiver.local_addr().expect("bound")).expect("connected");
            wait_until_reachable(&sender, &receiver);
            receiver.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
            setsockopt(&sender, sockopt::UdpGsoSegment, &(STRIDE as i32)).expect("UDP_SEGMENT");
            for round in 1..20 {
                let train = pattern(20 * STRIDE + 123, round);
                sender.send(&train).expect("sent");
                let mut datagram = [0; 2 * STRIDE];
                for expected in train.chunks(STRIDE) {
                    let len = receiver.recv(&mut datagram).expect("a datagram");
                    assert!(datagram[..len] == *expected, "a datagram to {to} changed or was lost");
                }
            }
        }
        let read = counts.super_packets_read.load(Ordering::Relaxed);
        let written = counts.super_packets_written.load(Ordering::Relaxed);
        let expected = if a.tun.offloads().udp { 38 } else { 0 };
        assert_eq!((read, written), (expected, expected));
    });
}

#[test]
fn udp_with_every_offload() {
    udp(Offloads::ALL);
}

#[test]
fn udp_without_its_offload() {
    udp(Offloads { udp: false, ..Offloads::ALL });
}
