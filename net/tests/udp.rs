//! The UDP sockets against the kernel's own loopback: offloads and their fallbacks, sticky sources, binding.

#![allow(unsafe_code, reason = "reads socket options back")]

mod common;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use adit_net::netlink::{Config, if_index};
use adit_net::netns;
use adit_net::poll::{Events, Interest, Poller};
use adit_net::udp::{
    BindOptions, Bound, LocalAddr, MAX_SEGMENTS, Pair, Received, RecvBatch, SendReport, UdpSocket, bind,
    is_transient,
};
use common::isolated;

const LOOPBACKS: [&str; 2] = ["127.0.0.1", "::1"];

fn open(options: &BindOptions) -> Bound {
    bind(0, options).unwrap()
}

fn socket_for(bound: &Bound, ip: IpAddr) -> &UdpSocket {
    bound.sockets[0].for_addr(&(ip, 1).into()).unwrap()
}

fn wait_readable(fd: impl AsFd) -> bool {
    let (poller, mut events) = (Poller::new().unwrap(), Events::with_capacity(1));
    poller.add(fd, 0, Interest::Read).unwrap();
    poller.wait(&mut events, Some(Duration::from_secs(5))).unwrap();
    !events.is_empty()
}

/// A train whose every byte tells its place.
fn train(packets: usize, stride: usize, last: usize) -> Vec<u8> {
    (0..(packets - 1) * stride + last).map(|i| (i / stride * 7 + i) as u8).collect()
}

/// Receives until `bytes` have come; returns what is known of each train, and the datagrams.
fn receive(socket: &UdpSocket, bytes: usize) -> (Vec<Received>, Vec<Vec<u8>>) {
    let (mut batch, mut trains, mut datagrams) = (RecvBatch::new(8), Vec::new(), Vec::new());
    while datagrams.iter().map(Vec::len).sum::<usize>() < bytes {
        assert!(wait_readable(socket), "only {} of {bytes} bytes came", datagrams.concat().len());
        socket.recv(&mut batch).unwrap();
        for (received, data) in batch.trains() {
            assert_eq!(received.packets(), data.chunks(received.stride).count());
            trains.push(*received);
            datagrams.extend(data.chunks(received.stride).map(<[u8]>::to_vec));
        }
    }
    (trains, datagrams)
}

fn assert_sent(report: &SendReport, packets: usize, bytes: usize) {
    assert!(report.error.is_none(), "{report:?}");
    assert_eq!((report.packets, report.bytes, report.dropped), (packets, bytes, 0));
}

#[test]
fn a_train_crosses_as_one() {
    isolated(|_| {
        for ip in LOOPBACKS.map(|ip| ip.parse::<IpAddr>().unwrap()) {
            let (alice, bob) = (open(&BindOptions::default()), open(&BindOptions::default()));
            let (from, to) = (socket_for(&alice, ip), socket_for(&bob, ip));
            let sent = train(20, 1452, 900);
            let report = from.send(&(ip, bob.port).into(), None, 0, &sent, 1452);
            assert_sent(&report, 20, sent.len());
            assert_eq!(from.stats().gso_sends, 1);

            let (trains, datagrams) = receive(to, sent.len());
            assert_eq!(trains.len(), 1, "loopback keeps a train whole: {trains:?}");
            assert_eq!((trains[0].len, trains[0].stride), (sent.len(), 1452));
            assert_eq!(trains[0].from, SocketAddr::new(ip, alice.port));
            assert_eq!(trains[0].local.unwrap().ip, ip);
            assert_eq!(datagrams, sent.chunks(1452).map(<[u8]>::to_vec).collect::<Vec<_>>());
            assert_eq!(to.stats().gro_trains, 1);
        }
    });
}

#[test]
fn a_long_train_takes_several_calls() {
    isolated(|_| {
        let (alice, bob) = (open(&BindOptions::default()), open(&BindOptions::default()));
        for (packets, stride) in [(3 * MAX_SEGMENTS + 5, 200), (100, 1452), (3, 40_000)] {
            let sent = train(packets, stride, stride / 2);
            for ip in LOOPBACKS.map(|ip| ip.parse::<IpAddr>().unwrap()) {
                let report = socket_for(&alice, ip).send(&(ip, bob.port).into(), None, 0, &sent, stride);
                assert_sent(&report, packets, sent.len());
                let (_, datagrams) = receive(socket_for(&bob, ip), sent.len());
                assert_eq!(datagrams, sent.chunks(stride).map(<[u8]>::to_vec).collect::<Vec<_>>());
            }
        }
    });
}

#[test]
fn each_offload_can_be_switched_off() {
    isolated(|_| {
        for (gso, gro) in [(false, true), (true, false), (false, false)] {
            let options = BindOptions { gso, gro, ..BindOptions::default() };
            let (alice, bob) = (open(&options), open(&options));
            let ip: IpAddr = "::1".parse().unwrap();
            let (from, to) = (socket_for(&alice, ip), socket_for(&bob, ip));
            assert_eq!((from.has_gso(), to.has_gro()), (gso, gro));
            let sent = train(10, 1000, 1000);
            assert_sent(&from.send(&(ip, bob.port).into(), None, 0, &sent, 1000), 10, sent.len());
            let (_, datagrams) = receive(to, sent.len());
            assert_eq!(datagrams.len(), 10);
            assert_eq!(from.stats().gso_sends, u64::from(gso));
            assert_eq!(from.stats().gso_fallbacks, 0, "switched off is not refused");
            assert!(gro || to.stats().gro_trains == 0);
        }
    });
}

#[test]
fn the_answer_comes_from_the_address_that_was_asked() {
    isolated(|network| {
        for (home, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (home, other) = (network.add_address(home), network.add_address(other));
            let (alice, bob) = (open(&BindOptions::default()), open(&BindOptions::default()));
            let (from, to) = (socket_for(&alice, home), socket_for(&bob, home));
            for ip in [home, other] {
                let question = train(5, 100, 100);
                assert_sent(&from.send(&(ip, bob.port).into(), None, 0, &question, 100), 5, 500);
                let (trains, _) = receive(to, 500);
                let local = trains[0].local.unwrap();
                assert_eq!((local.ip, local.ifindex), (ip, network.loopback));

                let report = to.send(&trains[0].from, Some(&local), 0, &question, 100);
                assert_sent(&report, 5, 500);
                assert!(!report.source_lost);
                let (answers, _) = receive(from, 500);
                assert_eq!(answers[0].from, SocketAddr::new(ip, bob.port));
            }
        }
    });
}

#[test]
fn a_source_that_went_away_is_let_go_and_nothing_is_lost() {
    isolated(|network| {
        for (home, lost) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (home, lost) = (network.add_address(home), network.add_address(lost));
            let (alice, bob) = (open(&BindOptions::default()), open(&BindOptions::default()));
            let (from, to) = (socket_for(&alice, home), socket_for(&bob, home));
            let pinned = LocalAddr { ip: lost, ifindex: network.loopback };
            let sent = train(12, 500, 123);
            let prefix = if lost.is_ipv4() { 32 } else { 128 };
            network.config.delete_address(network.loopback, lost, prefix).unwrap();
            for packets in [12, 1] {
                let sent = &sent[..sent.len().min(packets * 500)];
                let report = from.send(&(home, bob.port).into(), Some(&pinned), 0, sent, 500);
                assert_sent(&report, packets, sent.len());
                assert!(report.source_lost);
                let (trains, datagrams) = receive(to, sent.len());
                assert!(trains.iter().all(|train| train.from == SocketAddr::new(home, alice.port)));
                assert_eq!(datagrams.concat(), sent);
            }
            // The source was to blame, not the offload.
            assert_eq!(from.stats().gso_fallbacks, 0);
            let before = from.stats().gso_sends;
            let report = from.send(&(home, bob.port).into(), None, 0, &sent, 500);
            assert_sent(&report, 12, sent.len());
            assert_eq!(from.stats().gso_sends, before + 1);
        }
    });
}

#[test]
fn ecn_arrives_with_every_train() {
    isolated(|_| {
        let (alice, bob) = (open(&BindOptions::default()), open(&BindOptions::default()));
        for ip in LOOPBACKS.map(|ip| ip.parse::<IpAddr>().unwrap()) {
            for tos in [0, 0x88, 0x89, 0x8a, 0x8b] {
                let sent = train(6, 300, 300);
                let report = socket_for(&alice, ip).send(&(ip, bob.port).into(), None, tos, &sent, 300);
                assert_sent(&report, 6, 1800);
                let (trains, _) = receive(socket_for(&bob, ip), 1800);
                assert!(trains.iter().all(|train| train.ecn == tos & 3), "{tos:#x}: {trains:?}");
            }
        }
    });
}

#[test]
fn the_whole_tos_byte_is_on_the_wire() {
    isolated(|_| {
        let alice = open(&BindOptions::default());
        for (ip, level, option) in [
            ("127.0.0.1", libc::IPPROTO_IP, libc::IP_RECVTOS),
            ("::1", libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            let bob = StdSocket::bind((ip, 0)).unwrap();
            set_option(&bob, level, option, 1);
            socket_for(&alice, ip).send(&bob.local_addr().unwrap(), None, 0x88, b"handshake", 9);
            assert_eq!(received_control_byte(&bob), 0x88);
        }
    });
}

/// The first byte of the first control message of a datagram.
fn received_control_byte(socket: &StdSocket) -> u8 {
    let (mut data, mut control) = ([0u8; 64], [0u64; 8]);
    let mut iovec = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: zeros are an empty message, which is then pointed at live buffers of the stated lengths.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut iovec;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = 64;
        assert!(libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) > 0);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!header.is_null());
        *libc::CMSG_DATA(header)
    }
}

#[test]
fn a_path_with_a_small_mtu_gets_its_packets_one_by_one() {
    isolated(|network| {
        network.config.set_mtu(network.loopback, 1400).unwrap();
        let (alice, bob) = (open(&BindOptions::default()), open(&BindOptions::default()));
        for ip in LOOPBACKS.map(|ip| ip.parse::<IpAddr>().unwrap()) {
            let (from, to) = (socket_for(&alice, ip), socket_for(&bob, ip));
            let sent = train(10, 1452, 700);
            let pinned = LocalAddr { ip, ifindex: 0 };
            for _ in 0..3 {
                let report = from.send(&(ip, bob.port).into(), Some(&pinned), 0, &sent, 1452);
                assert_sent(&report, 10, sent.len());
                assert!(!report.source_lost, "the MTU was to blame");
                let (_, datagrams) = receive(to, sent.len());
                assert_eq!(datagrams, sent.chunks(1452).map(<[u8]>::to_vec).collect::<Vec<_>>());
            }
            let stats = from.stats();
            assert_eq!((stats.gso_sends, stats.gso_fallbacks), (0, 1), "refused once, then known");

            // What fits is still sent as one.
            let small = train(10, 1200, 1200);
            assert_sent(&from.send(&(ip, bob.port).into(), None, 0, &small, 1200), 10, small.len());
            assert_eq!(from.stats().gso_sends, 1);
            receive(to, small.len());
        }
    });
}

#[test]
fn an_oversized_packet_is_dropped_and_reported() {
    isolated(|_| {
        let (alice, bob) = (open(&BindOptions::default()), open(&BindOptions::default()));
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let from = socket_for(&alice, ip);
        let report = from.send(&(ip, bob.port).into(), None, 0, &vec![1; 65_508 + 7], 65_508);
        assert_eq!((report.packets, report.bytes, report.dropped), (1, 7, 1));
        assert_eq!(report.error.unwrap().raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(from.stats().send_drops, 1);
        assert_eq!(receive(socket_for(&bob, ip), 7).1, [vec![1; 7]]);
    });
}

#[test]
fn the_largest_datagram_arrives() {
    isolated(|_| {
        let (alice, bob) = (open(&BindOptions::default()), open(&BindOptions::default()));
        let ip: IpAddr = "::1".parse().unwrap();
        let sent = train(1, 65_507, 65_507);
        let report = socket_for(&alice, ip).send(&(ip, bob.port).into(), None, 0, &sent, 65_507);
        assert_sent(&report, 1, 65_507);
        assert_eq!(receive(socket_for(&bob, ip), 65_507).1, [sent]);
    });
}

#[test]
fn a_full_send_buffer_is_waited_for_but_not_for_long() {
    isolated(|network| {
        // Packets for a neighbour that never answers ARP stay in the send buffer, here for a second or more.
        let away = netns::create().unwrap();
        network.config.add_veth("left", "right", &away).unwrap();
        let left = if_index("left").unwrap();
        network.config.add_address(left, "192.0.2.1".parse().unwrap(), 24).unwrap();
        network.config.set_up(left, true).unwrap();
        netns::run_in(&away, || Config::open().unwrap().set_up(if_index("right").unwrap(), true).unwrap())
            .unwrap();

        let alice = open(&BindOptions { buffer_bytes: 16 << 10, gso: false, ..BindOptions::default() });
        let to: SocketAddr = "192.0.2.9:9".parse().unwrap();
        let start = Instant::now();
        let report = socket_for(&alice, to.ip()).send(&to, None, 0, &[0; 100_000], 1000);
        assert!(report.packets > 0 && report.dropped > 0, "{report:?}");
        assert_eq!(report.packets + report.dropped, 100);
        assert_eq!(report.error.unwrap().kind(), io::ErrorKind::WouldBlock);
        let waited = start.elapsed();
        assert!((Duration::from_millis(4)..Duration::from_millis(500)).contains(&waited), "{waited:?}");
    });
}

#[test]
fn what_the_kernel_drops_is_counted() {
    isolated(|_| {
        let (alice, bob) = (
            open(&BindOptions::default()),
            open(&BindOptions { buffer_bytes: 4 << 10, ..BindOptions::default() }),
        );
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        for _ in 0..100 {
            let to = (ip, bob.port).into();
            assert_sent(&socket_for(&alice, ip).send(&to, None, 0, &[0; 1000], 1000), 1, 1000);
        }
        let (mut batch, to) = (RecvBatch::new(100), socket_for(&bob, ip));
        let received = to.recv(&mut batch).unwrap() as u64;
        assert!(received < 100);
        assert_eq!(bob.stats().recv_overflows, 100 - received);
    });
}

#[test]
fn no_route_drops_and_is_transient() {
    isolated(|_| {
        let alice = open(&BindOptions::default());
        for (to, stride) in [("198.51.100.1:9", 100), ("[2001:db8::9]:9", 100), ("198.51.100.1:9", 1000)] {
            let to: SocketAddr = to.parse().unwrap();
            let report = socket_for(&alice, to.ip()).send(&to, None, 0, &[0; 1000], stride);
            assert_eq!((report.packets, report.dropped), (0, 1000 / stride));
            assert!(!report.source_lost);
            assert!(is_transient(&report.error.unwrap()));
        }
    });
}

#[test]
fn the_wrong_family_is_an_error_not_a_wrong_address() {
    isolated(|_| {
        let alice = open(&BindOptions::default());
        let v4 = alice.sockets[0].v4.as_ref().unwrap();
        let report = v4.send(&"[::1]:9".parse().unwrap(), None, 0, &[0; 100], 50);
        assert_eq!((report.packets, report.dropped), (0, 2));
        assert_eq!(report.error.unwrap().raw_os_error(), Some(libc::EAFNOSUPPORT));
    });
}

#[test]
fn an_empty_socket_would_block() {
    isolated(|_| {
        let mut batch = RecvBatch::new(1);
        for socket in open(&BindOptions::default()).iter() {
            assert_eq!(socket.recv(&mut batch).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert!(batch.is_empty());
        }
    });
}

#[test]
fn a_closed_port_does_not_end_receiving() {
    isolated(|_| {
        let alice = open(&BindOptions::default());
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let socket = socket_for(&alice, ip);
        // ICMP "port unreachable" comes back at once.
        socket.send(&(ip, 9).into(), None, 0, b"anyone?", 7);
        match socket.recv(&mut RecvBatch::new(1)) {
            Err(error) => assert!(is_transient(&error), "{error}"),
            Ok(n) => panic!("{n} datagrams from a closed port"),
        }
    });
}

#[test]
fn port_zero_is_one_port_for_both_families() {
    isolated(|_| {
        let bound = open(&BindOptions::default());
        assert_ne!(bound.port, 0);
        for ip in LOOPBACKS.map(|ip| ip.parse::<IpAddr>().unwrap()) {
            let error = StdSocket::bind((ip, bound.port)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    });
}

#[test]
fn a_port_in_use_is_reported_for_either_family_and_any_number_of_workers() {
    isolated(|_| {
        for ip in LOOPBACKS {
            let other = StdSocket::bind((ip, 0)).unwrap();
            let port = other.local_addr().unwrap().port();
            for workers in [1, 3].map(|n| NonZeroUsize::new(n).unwrap()) {
                let error = bind(port, &BindOptions { workers, ..BindOptions::default() }).unwrap_err();
                assert!(error.is_address_in_use(), "{error}");
            }
            drop(other);
            assert_eq!(bind(port, &BindOptions::default()).unwrap().port, port);
        }
    });
}

#[test]
fn a_second_instance_can_not_join_the_first() {
    isolated(|_| {
        let options = BindOptions { workers: NonZeroUsize::new(2).unwrap(), ..BindOptions::default() };
        let first = open(&options);
        assert!(bind(first.port, &options).unwrap_err().is_address_in_use());
    });
}

#[test]
fn workers_share_the_port() {
    isolated(|_| {
        let workers = NonZeroUsize::new(4).unwrap();
        let bound = open(&BindOptions { workers, ..BindOptions::default() });
        assert_eq!(bound.sockets.len(), 4);
        for ip in LOOPBACKS {
            // By 64 source ports, at least two workers are met, and nothing is lost.
            let senders: Vec<_> = (0..64).map(|_| StdSocket::bind((ip, 0)).unwrap()).collect();
            for sender in &senders {
                sender.send_to(b"x", (ip, bound.port)).unwrap();
            }
            let mut batch = RecvBatch::new(64);
            let to: SocketAddr = (ip.parse::<IpAddr>().unwrap(), 1).into();
            let counts: Vec<usize> = bound
                .sockets
                .iter()
                .map(|pair| pair.for_addr(&to).unwrap().recv(&mut batch).unwrap_or(0))
                .collect();
            assert_eq!(counts.iter().sum::<usize>(), 64, "{counts:?}");
            assert!(counts.iter().filter(|&&n| n > 0).count() >= 2, "{counts:?}");
        }
    });
}

#[test]
fn the_kernel_sorts_by_type() {
    isolated(|_| {
        for workers in [1, 3].map(|n| NonZeroUsize::new(n).unwrap()) {
            let bound = open(&BindOptions { workers, sorts: true, ..BindOptions::default() });
            let [with_mac2, handshakes] = &bound.handshakes[..] else { panic!("the kernel does not sort") };
            let mut batch = RecvBatch::new(64);
            for ip in LOOPBACKS {
                let to: SocketAddr = (ip.parse::<IpAddr>().unwrap(), bound.port).into();
                let mut received = |pair: &Pair| pair.for_addr(&to).unwrap().recv(&mut batch).unwrap_or(0);
                let senders: Vec<_> = (0..32).map(|_| StdSocket::bind((ip, 0)).unwrap()).collect();
                let data = [&[4, 0, 0, 0][..], &[7; 28]].concat();
                // Twice: a peer's messages all go one way.
                let ways = [(); 2].map(|()| {
                    senders.iter().for_each(|sender| assert_eq!(sender.send_to(&data, to).unwrap(), 32));
                    bound.sockets.iter().map(&mut received).collect::<Vec<_>>()
                });
                assert_eq!(ways[0].iter().sum::<usize>(), senders.len());
                assert_eq!(ways[0], ways[1]);
                assert!(
                    ways[0].iter().filter(|count| **count > 0).count() >= workers.get().min(2),
                    "{ways:?}"
                );

                let others: [&[u8]; 7] =
                    [&[1; 148], &[1, 0, 0, 0, 9], &data[..31], &[4; 32], &[], &[4], &[0, 0, 0, 4].repeat(9)];
                for other in others {
                    senders[0].send_to(other, to).unwrap();
                    assert_eq!(received(handshakes), 1, "{other:?}");
                }
                let with = |first: u8, len: usize, mac2: &[u8]| {
                    [&[first, 0, 0, 0][..], &vec![5; len - 20], mac2].concat()
                };
                for (first, len) in [(1, 148), (2, 92)] {
                    senders[0].send_to(&with(first, len, &[0; 16]), to).unwrap();
                    assert_eq!((received(handshakes), received(with_mac2)), (1, 0));
                    senders[0].send_to(&with(first, len, &[9; 16]), to).unwrap();
                    assert_eq!((received(handshakes), received(with_mac2)), (0, 1));
                }
                // Shorter than either.
                senders[0].send_to(&with(1, 147, &[9; 16]), to).unwrap();
                senders[0].send_to(&with(2, 91, &[9; 16]), to).unwrap();
                assert_eq!((received(handshakes), received(with_mac2)), (2, 0));
                assert!(bound.sockets.iter().all(|pair| received(pair) == 0));
            }
        }
    });
}

#[test]
fn a_host_without_ipv6_addresses_still_binds() {
    isolated(|_| {
        // The kernel resolves /proc/sys/net by the namespace of the calling thread.
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        let bound = open(&BindOptions::default());
        assert!(bound.sockets[0].v4.is_some());
    });
}

#[test]
fn options_are_as_the_tunnel_needs_them() {
    isolated(|_| {
        let bound = open(&BindOptions { fwmark: 0xca6c, ..BindOptions::default() });
        for socket in bound.iter() {
            assert_eq!(option(socket, libc::SOL_SOCKET, libc::SO_MARK), 0xca6c);
            // The kernel doubles what it is asked for.
            assert!(option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF) >= 14 << 20);
            assert!(option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF) >= 14 << 20);
            let (level, name, dont) = if socket.is_ipv6() {
                (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
            } else {
                (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
            };
            assert_eq!(option(socket, level, name), dont);
            assert_eq!(option(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT), 0);
        }
        bound.set_fwmark(7).unwrap();
        assert!(bound.iter().all(|socket| option(socket, libc::SOL_SOCKET, libc::SO_MARK) == 7));
        bound.set_fwmark(0).unwrap();
        assert!(bound.iter().all(|socket| option(socket, libc::SOL_SOCKET, libc::SO_MARK) == 0));
    });
}

fn option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int) -> libc::c_int {
    let (mut value, mut len) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: an int of the stated length that lives through the call.
    let result = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, value, &raw mut len)
    };
    assert_eq!(result, 0);
    value
}

fn set_option(socket: &StdSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: an int of the stated length that lives through the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    assert_eq!(result, 0);
}
