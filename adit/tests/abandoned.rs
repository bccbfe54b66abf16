//! What `up`, `down` and `save` make of notes that outlast what they are on: only what was left by somebody who was killed is
//! taken down, and nothing of it is lost.

use std::fs;

use crate::common::machine::Machine;
use lab::wg::Keypair;
use lab::{needs, seconds, within};
use nix::sys::signal::Signal;

fn machine(more: &str) -> Machine {
    let machine = Machine::new();
    let [own, peer] = [Keypair::generate(), Keypair::generate()];
    machine.configure(&format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.0.0.1/24\n{more}\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.0.0.2/32\n",
        own.private, peer.public
    ));
    machine
}

const NOTE: &str = "run/wireguard/wg0.quick";

fn note(machine: &Machine, lines: &str) {
    let namespace = machine.ok("readlink /proc/self/ns/net").stdout;
    machine.write(NOTE, &format!("{}\n{lines}", namespace.trim_end()), 0o600);
}

fn index(machine: &Machine) -> String {
    machine.ok("cat /sys/class/net/wg0/ifindex").stdout.trim_end().to_owned()
}

/// A peer that the file does not know.
fn add_peer(machine: &Machine) -> String {
    let peer = Keypair::generate().public;
    machine.ok(&format!("wg set wg0 peer {peer} allowed-ips 10.3.0.0/16"));
    peer
}

/// The note is on one that is no more: whoever has made this one may still need it.
#[test]
fn what_somebody_else_made_stays() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = machine("");
    machine.ok("OURS up wg0");
    let peer = add_peer(&machine);
    let another = index(&machine).parse::<u32>().unwrap() + 1000;
    for lines in [
        String::new(),
        "coming up\n".to_owned(),
        "attended\n".to_owned(),
        format!("link {another}\ncoming up\n"),
        format!("link {another}\nattended\n"),
        format!("link {another}\ngoing down\n"),
        format!("link {another}\nhalf removed\n"),
    ] {
        note(&machine, &lines);
        let up = machine.run("OURS up wg0");
        assert!(up.code() == 1 && up.stderr == "adit: `wg0' already exists\n", "{lines}: {}", up.text());
        assert!(machine.ok("wg show wg0 peers").stdout.contains(&peer), "{lines}");
    }
    machine.ok("OURS down wg0");
}

#[test]
fn what_was_left_whole_is_saved() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = machine("SaveConfig = true");
    for state in ["going down", "attended"] {
        machine.ok("OURS up wg0");
        let peer = add_peer(&machine);
        note(&machine, &format!("link {}\n{state}\n", index(&machine)));
        let up = machine.ok("OURS up wg0");
        assert!(up.stderr.contains("left behind"), "{}", up.text());
        let file = fs::read_to_string(machine.path("etc/wireguard/wg0.conf")).unwrap();
        assert!(file.contains(&peer), "{state}: {file}");
        assert!(machine.ok("wg show wg0 peers").stdout.contains(&peer), "{state}");
        machine.ok("OURS down wg0");
    }
}

/// Half of the changed file would be lost.
#[test]
fn what_is_half_reloaded_is_not_saved() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = machine("");
    machine.ok("OURS up wg0");
    note(&machine, &format!("link {}\nreloading\n", index(&machine)));
    let path = machine.path("etc/wireguard/wg0.conf");
    let before = fs::read_to_string(&path).unwrap();
    let save = machine.run("OURS save wg0");
    assert!(save.code() == 1 && save.stderr.contains("`adit reload wg0` completes it"), "{}", save.text());
    assert_eq!(fs::read_to_string(path).unwrap(), before);
    machine.ok("OURS reload wg0");
    machine.ok("OURS save wg0");
    machine.ok("OURS down wg0");
}

/// A `down` that comes to nothing leaves no note on what has had none.
#[test]
fn what_has_no_note_gets_none() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = machine("PreDown = test -e /run/may");
    machine.ok("OURS up wg0");
    fs::remove_file(machine.path(NOTE)).unwrap();
    let down = machine.run("OURS down wg0");
    assert!(!down.success() && !machine.path(NOTE).exists(), "{}", down.text());
    machine.write("run/may", "", 0o644);
    machine.ok("OURS down wg0");
}

/// Whoever has stayed with it needs a moment to notice that it is gone.
#[test]
fn down_and_up_again_at_once() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = machine("");
    for _ in 0..3 {
        let mut stays = machine.cmd("OURS up --foreground wg0").spawn();
        let is_up = || fs::read_to_string(machine.path(NOTE)).is_ok_and(|note| note.contains("attended"));
        assert!(within(seconds(30), is_up), "{}", stays.log());
        // Slower than ever.
        stays.signal(Signal::SIGSTOP);
        let down = machine.cmd("OURS down wg0").spawn();
        assert!(within(seconds(30), || !machine.ns.has("wg0")));
        let mut up = machine.cmd("OURS up wg0").spawn();
        // It finds that somebody still has it.
        std::thread::sleep(std::time::Duration::from_millis(300));
        stays.signal(Signal::SIGCONT);
        for mut process in [stays, down] {
            assert!(process.wait(seconds(30)).is_some(), "{}", process.log());
        }
        assert_eq!(up.wait(seconds(30)).and_then(|status| status.code()), Some(0), "{}", up.log());
        machine.ok("OURS down wg0");
    }
}
