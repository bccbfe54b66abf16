//! What belongs to others: `wg-quick` leaves alone the rules, interfaces and marks that it did not make.

use std::fs;

use crate::common::machine::{Machine, OURS, assert_same};
use lab::wg::Keypair;
use lab::{Cmd, needs, seconds, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A tunnel for everything.
fn full(interface: &str) -> String {
    let [own, peer] = [Keypair::generate(), Keypair::generate()];
    format!(
        "[Interface]\nPrivateKey = {}\n{interface}\n[Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\n",
        own.private, peer.public
    )
}

fn machine_with_two() -> Machine {
    let machine = Machine::new();
    machine.configure(&full("Address = 10.0.0.1/24, fd00::1/64"));
    machine.write("etc/wireguard/wg1.conf", &full("Address = 10.1.0.1/24, fd01::1/64"), 0o600);
    machine
}

/// Kills the daemon of one interface, which takes the interface along.
fn kill_daemon(machine: &Machine, interface: &str) {
    let pids = Cmd::new(&format!("ip netns pids {}", machine.ns.name())).run().stdout;
    let serves = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == interface.as_bytes())
    };
    for pid in pids.lines().filter_map(|pid| pid.parse().ok()).filter(serves) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    assert!(within(seconds(20), || !machine.ns.has(interface)), "the interface goes with its daemon");
}

/// The engine is the program under test itself, as where nothing says otherwise.
fn with_own_engine(line: &str) -> String {
    format!("env -u WG_QUICK_USERSPACE_IMPLEMENTATION {line}")
}

#[test]
fn rules_with_selectors_stay() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = machine_with_two();
    for selector in
        ["fwmark 1", "not fwmark 1", "fwmark 0/1", "iif eth0", "oif eth0", "from 10.9.0.0/16", "tos 8"]
            .into_iter()
            .enumerate()
            .map(|(place, selector)| format!("{selector} pref {}", 100 + place))
    {
        machine.ns.ip(&format!("rule add {selector} lookup main suppress_prefixlength 0"));
    }
    machine.ns.ip("rule add from 10.55.0.0/16 lookup 153 pref 500");
    let before = machine.state();
    machine.ok("OURS up wg0");
    machine.ok("OURS down wg0");
    assert_same(&before, &machine.state(), "");
    // Nor does a failure take more than its own back.
    for end in ["PostUp = exit 9", "FwMark = 153\nPostUp = exit 9", "FwMark = 255\nPostUp = exit 9"] {
        machine.configure(&full(end));
        assert_eq!(machine.run("OURS up wg0").code(), 9);
        assert_same(&before, &machine.state(), end);
    }
    for mark in [153, 255] {
        machine.configure(&full(&format!("FwMark = {mark}")));
        machine.ok("OURS up wg0");
        machine.ok("OURS down wg0");
        assert_same(&before, &machine.state(), "");
    }
}

#[test]
fn a_dead_daemon_takes_nothing_of_a_living_one() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = machine_with_two();
    machine.ns.ip("rule add not fwmark 100 lookup 100 pref 50");
    machine.ok("OURS up wg1");
    machine.ok("OURS up wg0");
    kill_daemon(&machine, "wg0");
    // Its table is empty then, as that of a dead one is.
    machine.ns.ip("link set wg1 down");
    machine.ok("OURS down wg0");
    let rules = |machine: &Machine| machine.ok("ip rule").stdout + &machine.ok("ip -6 rule").stdout;
    let left = rules(&machine);
    for needed in ["fwmark 0xca6c lookup 51820", "fwmark 0x64 lookup 100", "suppress_prefixlength 0"] {
        assert!(left.contains(needed), "{needed} is missing in\n{left}");
    }
    assert!(!left.contains("51821"), "{left}");
    machine.ok("OURS down wg1");
    assert!(!rules(&machine).contains("5182"));
    assert!(rules(&machine).contains("fwmark 0x64 lookup 100"));
}

#[test]
fn marks_count_as_long_as_a_living_tunnel_needs_it() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = machine_with_two();
    let mark = || machine.ok("cat /proc/sys/net/ipv4/conf/all/src_valid_mark").stdout;
    let before = machine.state();
    machine.ok("OURS up wg0");
    kill_daemon(&machine, "wg0");
    machine.ok("OURS up wg1");
    machine.ok("OURS down wg0");
    assert_eq!(mark(), "1\n");
    machine.ok("OURS down wg1");
    assert_same(&before, &machine.state(), "");
}

#[test]
fn names_that_mean_something_else() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    let text = full("Table = off");
    for name in ["demo", "status", "up", "show", "help", "-f"] {
        machine.write(&format!("etc/wireguard/{name}.conf"), &text, 0o600);
        machine.ok(&with_own_engine(&format!("{OURS} up /etc/wireguard/{name}.conf")));
        assert!(machine.ns.has(name), "{name}");
        machine.ok(&format!("{OURS} down /etc/wireguard/{name}.conf"));
    }
    // Another program may know no `--`.
    let output = machine.run("OURS up /etc/wireguard/-f.conf");
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains("for an option"), "{}", output.text());
}

/// The sockets of all network namespaces are in one directory.
#[test]
fn an_interface_of_another_kind_stays() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    machine.configure(&full("Table = off\nDNS = 192.0.2.1"));
    machine.ok("OURS up wg0");
    let up = machine.state();
    let elsewhere = "unshare --net sh -c";
    let script = format!(
        "'ip link add wg0 type veth peer name x && ! {OURS} down wg0 && ! {OURS} save wg0 && ip link show wg0'"
    );
    machine.ok(&format!("{elsewhere} {script}"));
    assert_same(&up, &machine.state(), "");
    machine.ok("OURS down wg0");
}

#[test]
fn a_command_that_a_signal_ends() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    machine.configure(&full("Table = off\nPostUp = kill -9 $BASHPID"));
    assert_eq!(machine.run("OURS up wg0").code(), 128 + 9);
}
