//! `/etc/resolv.conf`, notes and commands of the user's, when what happens to them is not what is expected.

use std::fs;

use crate::common::machine::{Machine, RESOLV_CONF, assert_same};
use lab::needs;
use lab::wg::Keypair;

fn file(interface: &str) -> String {
    let key = Keypair::generate().private;
    format!("[Interface]\nPrivateKey = {key}\n{interface}\n")
}

#[test]
fn tunnels_that_come_at_once() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    let names = ["wg0", "wg1", "wg2", "wg3"];
    for name in names {
        let path = format!("etc/wireguard/{name}.conf");
        machine.write(&path, &file("DNS = 192.0.2.1\nTable = off"), 0o600);
    }
    machine.write("etc/resolv.conf.tmp", "somebody's own\n", 0o600);
    let before = machine.state();
    for change in ["up", "down"] {
        std::thread::scope(|scope| {
            for name in names {
                let machine = &machine;
                scope.spawn(move || machine.ok(&format!("OURS {change} {name}")));
            }
        });
    }
    assert_same(&before, &machine.state(), "");
    assert_eq!(fs::read_to_string(machine.path("etc/resolv.conf.tmp")).unwrap(), "somebody's own\n");
}

#[test]
fn a_kept_file_that_somebody_removed() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    machine.configure(&file("DNS = 192.0.2.1"));
    machine.ok("OURS up wg0");
    fs::remove_file(machine.path("etc/resolv.conf.adit-wg0")).unwrap();
    let output = machine.ok("OURS down wg0");
    assert!(output.stderr.contains("/etc/resolv.conf stays as it is"), "{}", output.text());
    assert!(machine.resolv_conf().contains("192.0.2.1"));
    let output = machine.run("OURS down wg0");
    assert_eq!(output.stderr, "adit: `wg0' is not a WireGuard interface\n");
}

#[test]
fn a_mounted_file_that_was_cut_off() {
    needs!("netns", "tun", "wg", "unshare");
    let mut machine = Machine::new();
    machine.configure(&file("DNS = 192.0.2.1"));
    machine.mount_resolv_conf();
    machine.ok("OURS up wg0");
    machine.ok("truncate -s 0 /etc/resolv.conf");
    machine.ok("OURS down wg0");
    assert_eq!(machine.ok("cat /etc/resolv.conf").stdout, RESOLV_CONF);
    // Nothing is kept, and it cannot be removed.
    machine.ok("OURS up wg0");
    fs::remove_file(machine.path("etc/resolv.conf.adit-wg0")).unwrap();
    machine.ok("OURS down wg0");
    machine.ok("OURS up wg0");
    machine.ok("OURS down wg0");
    assert!(machine.ok("cat /etc/resolv.conf").stdout.contains("192.0.2.1"));
}

#[test]
fn nobody_listens() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    machine.configure(&file("PostUp = sleep 0.2; exit 3"));
    let before = machine.state();
    // The reader has gone before the first line.
    let output = machine.run("sh -c '(sleep 0.1; OURS up wg0; echo $? >/run/code) 2>&1 | true; sleep 1'");
    assert!(output.success(), "{}", output.text());
    machine.ok("sh -c 'until [ -s /run/code ]; do sleep 0.05; done'");
    assert_eq!(fs::read_to_string(machine.path("run/code")).unwrap(), "3\n");
    assert_same(&before, &machine.state(), "");
}

#[test]
fn who_hangs_up_leaves_nothing() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    let before = machine.state();
    machine.configure(&file("DNS = 192.0.2.1\nPostUp = kill -HUP $PPID"));
    assert_eq!(machine.run("OURS up wg0").code(), 129);
    assert_same(&before, &machine.state(), "");
    machine.ok("nohup OURS up wg0");
    machine.ok("OURS down wg0");
    assert_same(&before, &machine.state(), "");
}

#[test]
fn commands_before_down_change_what_is_removed() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = Machine::new();
    let before = machine.state();
    let peer = Keypair::generate().public;
    machine.configure(&file(&format!(
        "PreDown = ip -4 rule delete table 51820\nPreDown = ip -4 rule delete table main suppress_prefixlength 0\n[Peer]\nPublicKey = {peer}\nAllowedIPs = 0.0.0.0/0"
    )));
    machine.ok("OURS up wg0");
    machine.ok("OURS down wg0");
    assert_same(&before, &machine.state(), "");
}

#[test]
fn commands_that_fail_are_not_run_for_ever() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    machine.configure(&file("PostDown = exit 4"));
    let before = machine.state();
    machine.ok("OURS up wg0");
    assert_eq!(machine.run("OURS down wg0").code(), 4);
    assert_same(&before, &machine.state(), "");
    let output = machine.run("OURS down wg0");
    assert_eq!(output.stderr, "adit: `wg0' is not a WireGuard interface\n");
}

#[test]
fn commands_are_told_whose_they_are_and_nobody_else_reads_them() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    machine.configure(&file(
        "PostUp = echo $INTERFACE $CONFIG_FILE $# ${ADIT_HOOK-unset} > /run/told; \
        tr '\\0' ' ' < /proc/$$/cmdline > /run/read # a-secret",
    ));
    machine.ok("OURS up wg0");
    machine.ok("OURS down wg0");
    let told = fs::read_to_string(machine.path("run/told")).unwrap();
    assert_eq!(told, "wg0 /etc/wireguard/wg0.conf 0 unset\n");
    assert!(!fs::read_to_string(machine.path("run/read")).unwrap().contains("a-secret"));
}
