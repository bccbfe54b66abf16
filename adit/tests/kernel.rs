//! Against the reference: the Linux kernel's own WireGuard, in a virtual machine. What is checked here follows the
//! WireGuard whitepaper, §5.4 (messages) and §6 (timers).

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::link::kernel_link;
use lab::wg::genpsk;
use lab::{Vm, seconds, within};

#[test]
fn handshake_started_by_adit() {
    let link = kernel_link!(1);
    link.meet();
    link.reaches_kernel();
    assert_eq!(link.kernel_sees().endpoint, Some(SocketAddr::from(([10, 88, 0, 1], link.engine_port()))));
    assert!(link.engine_sees().latest_handshake > 0);
    link.reaches_engine();
}

#[test]
fn handshake_started_by_the_kernel() {
    let link = kernel_link!(2);
    link.kernel_set(&format!("endpoint 10.88.0.1:{}", link.engine_port()));
    link.reaches_engine();
    assert_eq!(link.engine_sees().endpoint, Some(SocketAddr::from(([10, 88, 0, 2], link.kernel_port()))));
    link.reaches_kernel();
}

#[test]
fn over_outer_ipv6() {
    let link = kernel_link!(3);
    link.engine_set(&format!("endpoint [{}]:{}", Vm::ADDRESS6, link.kernel_port()));
    link.reaches_kernel();
    link.reaches_engine();
}

#[test]
fn preshared_key() {
    let link = kernel_link!(4);
    let psk = genpsk();
    link.engine.set_preshared_key(&link.kernel.public, &psk);
    link.meet();
    assert!(!link.vm.ns.reaches(&link.inner(2), seconds(1)), "only one side has the preshared key");
    link.vm.ok(&format!(
        "echo {psk} > /tmp/psk && wg set {} peer {} preshared-key /tmp/psk",
        link.wg(),
        link.keys.public
    ));
    link.reaches_kernel();
}

#[test]
fn counters_agree() {
    let link = kernel_link!(5);
    link.meet();
    let pings = link.vm.ns.ping(&format!("-c 10 -i 0.05 {}", link.inner(2)));
    assert!(pings.success(), "{}", pings.text());
    // The kernel counts a packet on its way out a moment later than the peer may have answered it.
    let agree = within(seconds(2), || {
        let (ours, theirs) = (link.engine_sees(), link.kernel_sees());
        (ours.tx, ours.rx) == (theirs.rx, theirs.tx) && ours.tx == 148 + 10 * 128
    });
    assert!(agree, "{:?}\n{:?}", link.engine_sees(), link.kernel_sees());
}

#[test]
fn tcp_both_ways() {
    let link = kernel_link!(6);
    link.meet();
    link.reaches_kernel();
    for direction in ["-t 2", "-t 2 -R"] {
        link.vm.ok(&format!("iperf3 -s -1 -D -B {}", link.inner(2)));
        let listening = within(seconds(30), || link.vm.ok("netstat -ltn").contains(":5201"));
        assert!(listening, "iperf3 does not start in the virtual machine");
        let tcp = link.vm.ns.iperf(&link.inner(2), direction);
        assert!(tcp.bytes > 2_000_000, "{direction}: {tcp:?}");
    }
}

#[test]
fn large_packets_and_fragments() {
    let link = kernel_link!(7);
    link.meet();
    link.reaches_kernel();
    for mtu in [1280, 1420, 9000] {
        link.vm.ns.ip(&format!("link set {} mtu {mtu}", link.engine.interface()));
        link.vm.ok(&format!("ip link set {} mtu {mtu}", link.wg()));
        let pings = link.vm.ns.ping(&format!("-c 3 -i 0.1 -M do -s {} {}", mtu - 28, link.inner(2)));
        assert!(pings.success(), "mtu {mtu}: {}", pings.text());
    }
}

#[test]
fn roaming_of_adit() {
    let link = kernel_link!(8);
    link.meet();
    link.reaches_kernel();
    link.engine.set("listen-port 15008");
    link.reaches_kernel();
    assert_eq!(link.kernel_sees().endpoint, Some("10.88.0.1:15008".parse().unwrap()));
    link.engine_set(&format!("endpoint [{}]:{}", Vm::ADDRESS6, link.kernel_port()));
    link.reaches_kernel();
    assert_eq!(link.kernel_sees().endpoint, Some("[fd88::1]:15008".parse().unwrap()));
}

#[test]
fn roaming_of_the_kernel() {
    let link = kernel_link!(9);
    link.meet();
    link.reaches_kernel();
    link.vm.ok(&format!("wg set {} listen-port 25009", link.wg()));
    link.reaches_engine();
    assert_eq!(link.engine_sees().endpoint, Some("10.88.0.2:25009".parse().unwrap()));
}

#[test]
fn persistent_keepalive_of_either() {
    let link = kernel_link!(10);
    link.meet();
    link.engine_set("persistent-keepalive 1");
    link.kernel_set("persistent-keepalive 1");
    assert!(
        within(seconds(30), || link.engine_sees().latest_handshake > 0),
        "a keepalive must start a handshake"
    );
    let before = link.engine_sees();
    std::thread::sleep(Duration::from_millis(3500));
    let after = link.engine_sees();
    // Whichever side keeps alive first re-arms only its own timer when it sends, but both when it is heard.
    assert!(after.rx + after.tx >= before.rx + before.tx + 3 * 32, "{before:?} {after:?}");
}
