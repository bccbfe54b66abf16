//! Packets through a tunnel: adit with itself and with wireguard-go, each in a namespace of its own.
//!
//! Side `a` is always adit. Constants are those of the WireGuard whitepaper §6.1.

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use crate::common::{adit, against_each_peer};
use lab::pair::CABLE;
use lab::probe::Capture;
use lab::wg::{Keypair, genpsk};
use lab::{Netns, Outer, Pair, Program, needs, seconds, within};
use nix::sys::signal::Signal;

against_each_peer! {
    handshake_started_by_adit,
    handshake_started_by_the_peer,
    preshared_key,
    tcp,
    udp_in_order,
    every_mtu,
    counters,
    persistent_keepalive,
    passive_keepalive,
    allowed_ips_move,
    crypto_key_routing,
    ecn_is_copied_out,
    congestion_comes_back_in,
    link_down_and_up,
    garbage,
    #[ignore = "slow: 130 s"]
    rekey,
    #[ignore = "slow: 20 s"]
    silence_starts_a_handshake,
}

fn handshake_started_by_adit(peer: &Program) {
    for outer in [Outer::V4, Outer::V6] {
        let pair = Pair::new(&adit(), peer);
        pair.a_knows_b(outer);
        pair.a.reaches(&pair.b);
        pair.b.reaches(&pair.a);
        assert_eq!(pair.b.peer(&pair.a).endpoint, Some(pair.a.endpoint(outer)));
        assert!(pair.a.peer(&pair.b).latest_handshake > 0);
    }
}

fn handshake_started_by_the_peer(peer: &Program) {
    for outer in [Outer::V4, Outer::V6] {
        let pair = Pair::new(&adit(), peer);
        pair.b_knows_a(outer);
        pair.b.reaches(&pair.a);
        pair.a.reaches(&pair.b);
        assert_eq!(pair.a.peer(&pair.b).endpoint, Some(pair.b.endpoint(outer)));
        assert!(pair.a.peer(&pair.b).latest_handshake > 0);
    }
}

fn preshared_key(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    let psk = genpsk();
    pair.a.engine.set_preshared_key(&pair.b.keys.public, &psk);
    pair.a_knows_b(Outer::V4);
    assert!(!pair.a.ns.reaches(&pair.b.inner4(), seconds(1)), "only one side has the preshared key");
    pair.b.engine.set_preshared_key(&pair.a.keys.public, &psk);
    pair.a.reaches(&pair.b);
    assert_eq!(pair.a.peer(&pair.b).preshared_key, Some(psk));
}

fn tcp(peer: &Program) {
    for outer in [Outer::V4, Outer::V6] {
        let pair = Pair::new(&adit(), peer);
        pair.a_knows_b(outer);
        pair.a.reaches(&pair.b);
        for (address, args) in
            [(pair.b.inner4(), "-t 1"), (pair.b.inner6(), "-t 1 -R"), (pair.b.inner4(), "-t 1 -P 4 -R")]
        {
            let _server = pair.b.ns.iperf_server(&address);
            let tcp = pair.a.ns.iperf(&address, args);
            assert!(tcp.bytes > 20_000_000, "{outer:?} {args}: {tcp:?}");
        }
    }
}

fn udp_in_order(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    for args in ["-u -b 60M -t 2 -l 1200", "-u -b 60M -t 2 -l 1200 -R"] {
        let _server = pair.b.ns.iperf_server(&pair.b.inner4());
        let udp = pair.a.ns.iperf(&pair.b.inner4(), args);
        assert_eq!(udp.out_of_order, 0, "{args}: {udp:?}");
        assert!(udp.bytes > 1_000_000 && udp.lost_percent < 20.0, "{args}: {udp:?}");
    }
}

fn every_mtu(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    for mtu in [1280, 1420, 9000, 65_000] {
        pair.set_mtu(mtu);
        pair.a.reaches(&pair.b);
        for (address, headers) in [(pair.b.inner4(), 28), (pair.b.inner6(), 48)] {
            let pings = pair.a.ns.ping(&format!("-c 2 -i 0.05 -M do -s {} {address}", mtu - headers));
            assert!(pings.stdout.contains(" 2 received"), "MTU {mtu}: {}", pings.text());
        }
        for args in ["-n 8M", "-n 8M -R"] {
            let _server = pair.b.ns.iperf_server(&pair.b.inner6());
            assert!(pair.a.ns.iperf(&pair.b.inner6(), args).bytes > 4_000_000, "MTU {mtu}: {args}");
        }
    }
}

/// Whole UDP payloads count: 148 and 92 bytes of handshake, and 128 for each ping of 84, padded to 96.
fn counters(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    let pings = pair.a.ns.ping(&format!("-c 10 -i 0.02 {}", pair.b.inner4()));
    assert!(pings.success(), "{}", pings.text());
    let (a, b) = (pair.a.peer(&pair.b), pair.b.peer(&pair.a));
    assert_eq!((a.tx, a.rx, b.tx, b.rx), (1428, 1372, 1372, 1428));
}

fn persistent_keepalive(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.set_peer(&pair.b, "persistent-keepalive 25");
    let greeted = within(seconds(4), || pair.a.peer(&pair.b).latest_handshake > 0);
    assert!(greeted, "turning it on must send at once");
    pair.a.set_peer(&pair.b, "persistent-keepalive 1");
    // The new interval counts from the next packet.
    pair.a.reaches(&pair.b);
    let before = pair.a.peer(&pair.b).tx;
    sleep(Duration::from_millis(3500));
    let sent = pair.a.peer(&pair.b).tx - before;
    assert!((3 * 32..=5 * 32).contains(&sent), "{sent} bytes in 3.5 s");
}

/// KEEPALIVE_TIMEOUT, 10 seconds after data that went unanswered (§6.5); and no keepalive for a keepalive.
fn passive_keepalive(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.b_knows_a(Outer::V4);
    pair.b.reaches(&pair.a);
    let _sink = pair.a.ns.enter(|| UdpSocket::bind((pair.a.inner4(), 9))).unwrap();
    sleep(Duration::from_millis(200));
    let before = pair.a.peer(&pair.b);
    pair.b.ns.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (pair.a.inner4(), 9))).unwrap();
    sleep(seconds(8));
    assert_eq!(pair.a.peer(&pair.b).tx, before.tx, "a keepalive too early");
    let sent = within(seconds(4), || pair.a.peer(&pair.b).tx == before.tx + 32);
    assert!(sent, "no keepalive: {before:?} {:?}", pair.a.peer(&pair.b));
}

fn allowed_ips_move(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let other = Keypair::generate().public;
    pair.a.engine.set(&format!("peer {other} allowed-ips {}/32", pair.b.inner4()));
    assert_eq!(pair.a.peer(&pair.b).allowed_ips, [format!("{}/128", pair.b.inner6())]);
    assert!(!pair.a.ns.reaches(&pair.b.inner4(), seconds(1)), "another peer has this address now");
    assert!(pair.a.ns.reaches(&pair.b.inner6(), seconds(20)));
    pair.a.engine.set(&format!("peer {other} remove"));
    assert!(!pair.a.ns.reaches(&pair.b.inner4(), seconds(1)), "nobody has this address now");
    pair.a.set_peer(&pair.b, "allowed-ips 0.0.0.0/0,::/0");
    pair.a.reaches(&pair.b);
}

/// Whitepaper §2: a packet is delivered only if its source address belongs to the peer whose key decrypted it.
fn crypto_key_routing(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.b_knows_a(Outer::V4);
    pair.b.reaches(&pair.a);
    let inbox = pair.a.ns.enter(|| UdpSocket::bind((pair.a.inner4(), 1111))).unwrap();
    inbox.set_read_timeout(Some(Duration::from_millis(800))).unwrap();
    let outbox = pair.b.ns.enter(|| UdpSocket::bind((pair.b.inner4(), 0))).unwrap();
    let delivered = || {
        outbox.send_to(b"X", (pair.a.inner4(), 1111)).unwrap();
        inbox.recv(&mut [0; 8]).is_ok()
    };
    assert!(delivered());
    pair.a.engine.set(&format!("peer {} allowed-ips {}/32", Keypair::generate().public, pair.b.inner4()));
    pair.b.engine.set("listen-port 20009");
    assert!(!delivered(), "the source address belongs to another peer");
    let endpoint = pair.a.peer(&pair.b).endpoint.map(|e| e.port());
    assert_eq!(endpoint, Some(20_009), "the packet was authentic all the same, and shows where the peer is");
}

/// RFC 6040, normal mode: the outer header has the inner one's ECN field. The rest of it tells nothing.
fn ecn_is_copied_out(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    let mut capture = Capture::start(&pair.b.ns, CABLE, "ecn", "udp and src 10.77.0.1");
    let ping = pair.a.ns.ping(&format!("-c 2 -i 0.1 -Q 0xba {}", pair.b.inner4()));
    assert!(ping.success(), "{}", ping.text());
    let text = capture.read("-v");
    assert!(text.contains("tos 0x88,"), "handshakes are AF41\n{text}");
    assert!(text.contains("tos 0x2,ECT(0)"), "ECT(0) alone is copied\n{text}");
}

/// RFC 6040: a router on the way marks the outer header, and the inner one says so when it comes out.
fn congestion_comes_back_in(peer: &Program) {
    needs!("nft");
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    pair.a.ns.ok("nft add table inet lab");
    pair.a.ns.cmd("nft").arg("add chain inet lab in { type filter hook prerouting priority -300; }").ok();
    pair.a.ns.ok(&format!("nft add rule inet lab in iifname {CABLE} ip ecn set ce"));
    let mut capture =
        Capture::start(&pair.a.ns, pair.a.interface(), "ce", &format!("src {}", pair.b.inner4()));
    for tos in ["0x2", "0x0"] {
        let ping = pair.a.ns.ping(&format!("-c 1 -Q {tos} {}", pair.b.inner4()));
        assert!(ping.success(), "{tos}: {}", ping.text());
    }
    let text = capture.read("-v");
    assert!(text.contains("tos 0x3,CE"), "congestion is not reported\n{text}");
    // Like the kernel, and against §4.2: what is not ECN-capable is neither marked nor dropped.
    assert!(text.contains("tos 0x0,"), "{text}");
}

fn link_down_and_up(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let interface = pair.a.interface();
    pair.a.ns.ip(&format!("link set {interface} down"));
    let closed = within(seconds(2), || !listens(&pair.a.ns, pair.a.port));
    assert!(closed, "a device that is down has no open port");
    assert_eq!(pair.a.engine.dump().listen_port, pair.a.port, "but it remembers it");
    assert!(!pair.b.ns.reaches(&pair.a.inner4(), seconds(1)));
    pair.a.ns.ip(&format!("link set {interface} up"));
    pair.a.ns.ip(&format!("addr replace {}/64 dev {interface} nodad", pair.a.inner6()));
    pair.a.reaches(&pair.b);
}

/// Whether some socket of the namespace is bound to a UDP port, IPv4 or IPv6.
fn listens(ns: &Netns, port: u16) -> bool {
    let sockets = ns.ok("cat /proc/net/udp /proc/net/udp6");
    sockets.contains(&format!(":{port:04X} "))
}

/// What comes from the Internet: truncated, oversized, of unknown type, with the reserved bytes set.
fn garbage(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let socket = pair.b.ns.enter(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
    let before = pair.a.peer(&pair.b);
    for kind in 0..=5u8 {
        for reserved in [0, 1] {
            for length in
                [0, 1, 3, 4, 15, 16, 31, 32, 33, 63, 64, 65, 91, 92, 93, 147, 148, 149, 1500, 9000, 65_000]
            {
                let mut packet = vec![kind; length];
                packet.iter_mut().skip(1).take(3).for_each(|byte| *byte = reserved);
                socket.send_to(&packet, pair.a.endpoint(Outer::V4)).unwrap();
            }
        }
    }
    let after = pair.a.peer(&pair.b);
    assert_eq!((before.rx, before.endpoint), (after.rx, after.endpoint), "nothing of it was authentic");
    let pings = pair.a.ns.ping(&format!("-c 3 -i 0.1 {}", pair.b.inner4()));
    assert!(pings.stdout.contains(" 3 received"), "{}", pings.text());
}

/// REKEY_AFTER_TIME, 120 seconds (§6.2): a new handshake, and not one ping lost over it.
fn rekey(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let first = pair.a.peer(&pair.b).latest_handshake;
    let line = format!("ping -n -q -i 0.2 -w 130 {}", pair.b.inner4());
    let pings = pair.a.ns.cmd(&line).limit(seconds(140)).run();
    let second = pair.a.peer(&pair.b).latest_handshake;
    assert!((119..=123).contains(&(second - first)), "a handshake {} s after the first", second - first);
    assert!(pings.stdout.contains(" 0% packet loss"), "{}", pings.text());
}

/// KEEPALIVE_TIMEOUT + REKEY_TIMEOUT, 15 seconds without an answer to data (§6.5).
fn silence_starts_a_handshake(peer: &Program) {
    let mut pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    pair.b.engine.signal(Signal::SIGKILL);
    assert!(pair.b.engine.wait(seconds(20)).is_some());
    let before = pair.a.peer(&pair.b).tx;
    assert!(!pair.a.ns.ping(&format!("-c 1 {}", pair.b.inner4())).success());
    sleep(seconds(12));
    assert_eq!(pair.a.peer(&pair.b).tx, before + 128, "a handshake too early");
    let greeted = within(seconds(5), || pair.a.peer(&pair.b).tx == before + 128 + 148);
    assert!(greeted, "no handshake: {:?}", pair.a.peer(&pair.b));
}

/// Like the kernel: a packet that has no peer, or whose peer has no endpoint, is answered by ICMP at once.
#[test]
fn unreachable_is_reported() {
    needs!("netns", "tun", "wg", "ping");
    let pair = Pair::new(&adit(), &adit());
    let interface = pair.a.interface();
    pair.a.ns.ip(&format!("route add 192.168.250.0/24 dev {interface}"));
    pair.a.ns.ip(&format!("route add fd50::/64 dev {interface}"));
    let no_peer = ["192.168.250.1".to_owned(), "fd50::1".to_owned()];
    for address in no_peer.into_iter().chain([pair.b.inner4(), pair.b.inner6()]) {
        let ping = pair.a.ns.ping(&format!("-c 1 {address}"));
        let text = ping.text();
        assert!(
            text.contains("Destination Host Unreachable") || text.contains("Address unreachable"),
            "{text}"
        );
    }
}

/// SO_MARK on every packet, also after the socket was replaced.
#[test]
fn fwmark() {
    needs!("netns", "tun", "wg", "ping", "nft");
    let pair = Pair::new(&adit(), &adit());
    pair.a.ns.ok("nft add table inet lab");
    pair.a.ns.cmd("nft").arg("add chain inet lab out { type filter hook output priority 0; }").ok();
    pair.a.ns.ok("nft add rule inet lab out meta mark 0x1234 udp dport 20000 counter");
    let marked = || {
        let rules = pair.a.ns.ok("nft list chain inet lab out");
        let count = rules.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        count.and_then(|n| n.parse::<u64>().ok()).expect("a counter")
    };
    pair.a.engine.set("fwmark 0x1234");
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    assert!(marked() >= 3, "a handshake and two pings");
    pair.a_knows_b(Outer::V6);
    pair.a.engine.set("listen-port 10005");
    let before = marked();
    pair.a.reaches(&pair.b);
    assert!(marked() > before, "the mark is lost with the old socket");
    pair.a.engine.set("fwmark 0");
    let before = marked();
    pair.a.reaches(&pair.b);
    assert_eq!(marked(), before, "the mark is off");
}
