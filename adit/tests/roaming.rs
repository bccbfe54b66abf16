//! Where packets come from and go to: endpoints that follow the peer (whitepaper §2.1), source addresses that stick
//! to a path as long as it works, NAT in between, and a tunnel device that changes its namespace.

use std::net::SocketAddr;

use crate::common::{adit, against_each_peer};
use lab::pair::CABLE;
use lab::{Netns, Outer, Pair, Program, needs, seconds, within};

against_each_peer! {
    port_changes,
    address_changes,
    endpoint_is_set_in_a_live_session,
    source_address_disappears,
    replies_come_from_the_address_that_was_asked,
    device_moves_to_another_namespace,
    behind_nat,
}

fn endpoint(text: &str) -> Option<SocketAddr> {
    Some(text.parse().expect("an endpoint"))
}

fn port_changes(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    pair.a.engine.set("listen-port 10009");
    pair.a.reaches(&pair.b);
    assert_eq!(pair.b.peer(&pair.a).endpoint, endpoint("10.77.0.1:10009"));
    pair.b.engine.set("listen-port 20009");
    pair.b.reaches(&pair.a);
    assert_eq!(pair.a.peer(&pair.b).endpoint, endpoint("10.77.0.2:20009"));
    pair.a.engine.set("listen-port 0");
    let port = pair.a.engine.dump().listen_port;
    assert!(port != 0 && port != 10009, "port 0 asks for any port, which is then shown: {port}");
    pair.a.reaches(&pair.b);
}

fn address_changes(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    pair.a.ns.ip(&format!("addr del 10.77.0.1/24 dev {CABLE}"));
    pair.a.ns.address(CABLE, "10.77.0.101/24");
    pair.a.reaches(&pair.b);
    assert_eq!(pair.b.peer(&pair.a).endpoint, endpoint("10.77.0.101:10000"));
    pair.b.ns.ip(&format!("addr del 10.77.0.2/24 dev {CABLE}"));
    pair.b.ns.address(CABLE, "10.77.0.102/24");
    // Makes wireguard-go forget the source address that it would stick to for ever.
    pair.b.set_peer(&pair.a, "endpoint 10.77.0.101:10000");
    pair.b.reaches(&pair.a);
    assert_eq!(pair.a.peer(&pair.b).endpoint, endpoint("10.77.0.102:20000"));
}

fn endpoint_is_set_in_a_live_session(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let before = pair.a.peer(&pair.b);
    for outer in [Outer::V6, Outer::V4] {
        pair.a_knows_b(outer);
        pair.a.reaches_within(&pair.b, seconds(30));
        assert_eq!(pair.b.peer(&pair.a).endpoint, Some(pair.a.endpoint(outer)));
    }
    assert_eq!(pair.a.peer(&pair.b).latest_handshake, before.latest_handshake, "the session goes on");
}

/// Sticky, but not too sticky: when the pinned source address is gone, the next packet finds another.
fn source_address_disappears(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a.ns.sysctl(&format!("net/ipv4/conf/{CABLE}/promote_secondaries"), "1");
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    pair.a.ns.address(CABLE, "10.77.0.10/24");
    pair.a.ns.ip(&format!("addr del 10.77.0.1/24 dev {CABLE}"));
    first_ping_passes(&pair);
    pair.a_knows_b(Outer::V6);
    first_ping_passes(&pair);
    pair.a.ns.address(CABLE, "fd77::10/64");
    pair.a.ns.ip(&format!("addr del fd77::1/64 dev {CABLE}"));
    first_ping_passes(&pair);
}

#[track_caller]
fn first_ping_passes(pair: &Pair) {
    let ping = pair.a.ns.ping(&format!("-c 1 {}", pair.b.inner4()));
    assert!(ping.success(), "{}\n{}", ping.text(), pair.a.engine.log());
}

/// Reply-to-sender: a peer that asked one of several addresses must get its answer from that one.
fn replies_come_from_the_address_that_was_asked(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a.ns.address(CABLE, "10.77.0.11/24");
    pair.a.ns.address(CABLE, "fd77::11/64");
    for address in ["10.77.0.1:10000", "[fd77::1]:10000", "10.77.0.11:10000", "[fd77::11]:10000"] {
        pair.b.set_peer(&pair.a, &format!("endpoint {address}"));
        pair.b.reaches(&pair.a);
        assert_eq!(pair.b.peer(&pair.a).endpoint, endpoint(address));
    }
    // Offloads must not lose it: many packets at once come up in one buffer.
    let _server = pair.a.ns.iperf_server(&pair.a.inner4());
    assert!(pair.b.ns.iperf(&pair.a.inner4(), "-n 8M").bytes > 4_000_000);
    assert_eq!(pair.b.peer(&pair.a).endpoint, endpoint("[fd77::11]:10000"));
}

/// Packets go in and out where the device is; the sockets stay where the daemon was started.
fn device_moves_to_another_namespace(peer: &Program) {
    let pair = Pair::new(&adit(), peer);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let away = Netns::new();
    let interface = pair.a.interface();
    pair.a.ns.ip(&format!("link set {interface} netns {}", away.name()));
    away.address(interface, &format!("{}/24", pair.a.inner4()));
    away.ip(&format!("link set {interface} up"));
    assert!(away.reaches(&pair.b.inner4(), seconds(30)), "{}", pair.a.engine.log());
    assert!(!pair.a.ns.reaches(&pair.b.inner4(), seconds(1)));
    let _server = pair.b.ns.iperf_server(&pair.b.inner4());
    assert!(away.iperf(&pair.b.inner4(), "-n 8M").bytes > 4_000_000);
}

/// A router with a mapping that expires after two seconds: a persistent keepalive holds it open.
fn behind_nat(peer: &Program) {
    needs!("nft");
    let pair = Pair::new(&adit(), peer);
    let router = Netns::new();
    for (ns, here, prefix) in [(&pair.a.ns, "inside", "192.168.1"), (&pair.b.ns, "outside", "10.99.0")] {
        router.connect(here, ns, "wan");
        router.address(here, &format!("{prefix}.1/24"));
        ns.address("wan", &format!("{prefix}.100/24"));
    }
    pair.a.ns.ip("route add default via 192.168.1.1");
    router.sysctl("net/ipv4/ip_forward", "1");
    router.ok("nft add table ip nat");
    router.cmd("nft").arg("add chain ip nat out { type nat hook postrouting priority 100; }").ok();
    router.ok("nft add rule ip nat out oifname outside masquerade");
    router.sysctl("net/netfilter/nf_conntrack_udp_timeout", "2");
    router.sysctl("net/netfilter/nf_conntrack_udp_timeout_stream", "2");
    pair.a.set_peer(&pair.b, "endpoint 10.99.0.100:20000 persistent-keepalive 1");
    pair.a.reaches(&pair.b);
    assert_eq!(pair.b.peer(&pair.a).endpoint.map(|e| e.ip()), Some([10, 99, 0, 1].into()));
    std::thread::sleep(seconds(3));
    assert!(within(seconds(20), || pair.b.ns.ping(&format!("-c 1 {}", pair.a.inner4())).success()));
}
