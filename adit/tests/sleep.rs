//! A machine that sleeps, which takes one of its own.

mod common;

use common::adit;
use lab::Vm;

/// Two engines on one machine have a session that nobody uses. Time passes, and nothing happens; the machine sleeps, and a
/// handshake follows. Setting the clock is no sleep.
#[test]
fn a_handshake_begins_when_the_machine_has_slept() {
    if lab::require(lab::vm::NEEDS).is_err() {
        return;
    }
    let program = adit().0;
    let Ok(vm) = Vm::shared_with(&[&program]) else { return };
    let program = program.file_name().unwrap().to_str().unwrap();
    for (name, port) in [("a", 1001), ("b", 1002)] {
        vm.ok(&format!("{program} sleep{name} && ip link set sleep{name} up && wg genkey > /tmp/{name}"));
        vm.ok(&format!("wg set sleep{name} private-key /tmp/{name} listen-port {port}"));
    }
    vm.ok("wg set sleepb peer $(wg pubkey < /tmp/a)");
    let peer = "wg set sleepa peer $(wg pubkey < /tmp/b)";
    // What is sent when it is switched on takes a session.
    vm.ok(&format!("{peer} endpoint 127.0.0.1:1002 persistent-keepalive 1000"));
    let handshake = || -> u64 {
        let told = vm.ok("wg show sleepa latest-handshakes");
        told.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let first = (0..100).find_map(|_| {
        vm.ok("sleep 0.1");
        Some(handshake()).filter(|at| *at > 0)
    });
    let first = first.expect("a session");
    vm.ok(&format!("{peer} persistent-keepalive off"));

    vm.ok("sleep 7; date -s @$(($(date +%s) + 1))");
    vm.ok("sleep 2");
    assert_eq!(handshake(), first);
    let (status, said) = vm.run("echo +4 > /sys/class/rtc/rtc0/wakealarm && echo mem > /sys/power/state");
    assert_eq!(status, 0, "{said}");
    let second = (0..100).any(|_| {
        vm.ok("sleep 0.1");
        handshake() > first
    });
    assert!(second, "{}", vm.ok("cat /sys/power/state; dmesg | tail -30"));
    vm.ok("rm /var/run/wireguard/sleepa.sock /var/run/wireguard/sleepb.sock");
}
