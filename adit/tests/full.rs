//! Files that cannot be written: the disk is full or has no more room for files, `/etc` is mounted for reading, a file may
//! not even be changed by root. One line says what to do, what was there stays as it was, and nothing half written is left.

use std::fs;
use std::path::Path;

use crate::common::machine::{Machine, RESOLV_CONF, assert_same};
use lab::wg::Keypair;
use lab::{Cmd, needs};

fn conf(more: &str) -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.0.0.1/24, fd00::1/64\nDNS = 192.0.2.1\n{more}\n\
        [Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\n",
        Keypair::generate().private,
        Keypair::generate().public
    )
}

/// A small file system in the place of a directory of a machine; what was there is in it.
struct Small {
    directory: std::path::PathBuf,
}

impl Small {
    fn new(machine: &Machine, name: &str, options: &str) -> Small {
        let directory = machine.path(name);
        let aside = machine.path("aside");
        fs::rename(&directory, &aside).unwrap();
        fs::create_dir(&directory).unwrap();
        Cmd::new(&format!("mount -t tmpfs -o mode=755,{options} none {}", directory.display())).ok();
        Cmd::new(&format!("cp -a {}/. {}", aside.display(), directory.display())).ok();
        fs::remove_dir_all(&aside).unwrap();
        Small { directory }
    }

    /// Takes all the room, or all the names, that there are.
    fn fill(&self) {
        let filler = self.directory.join("filler");
        let _ = fs::write(&filler, vec![0; 64 << 20]);
        assert!(fs::write(self.directory.join("more"), [0; 8192]).is_err(), "it is full");
    }

    fn use_up_names(&self) {
        let names = (0..100_000).map(|number| self.directory.join(format!("name{number}")));
        let used = names.take_while(|name| fs::write(name, "").is_ok()).count();
        assert!(used < 100_000);
    }

    fn remount(&self, option: &str) {
        Cmd::new(&format!("mount -o remount,{option} {}", self.directory.display())).ok();
    }

    fn make_room(&self) {
        for entry in fs::read_dir(&self.directory).unwrap().flatten() {
            let name = entry.file_name();
            let name = name.to_str().unwrap();
            if name == "filler" || name == "more" || name.starts_with("name") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Cmd::new(&format!("umount -l {}", self.directory.display())).run();
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The configuration's directory, in each way in which it may refuse.
#[test]
fn a_configuration_cannot_be_saved() {
    needs!("netns", "tun", "wg", "nft", "unshare", "strace");
    let machine = Machine::new();
    machine.configure(&conf("SaveConfig = true"));
    let before = machine.state();
    let small = Small::new(&machine, "etc/wireguard", "size=64k,nr_inodes=30");
    machine.ok("OURS up wg0");
    machine.ok(&format!("wg set wg0 peer {}", Keypair::generate().public));
    let path = machine.path("etc/wireguard/wg0.conf");
    let content = fs::read_to_string(&path).unwrap();
    let fails = |context: &str, needed: &str| {
        let files = names(&small.directory);
        for command in ["save", "down"] {
            let output = machine.run(&format!("OURS {command} wg0"));
            assert_eq!(output.code(), 1, "{context}: {}", output.text());
            let told: Vec<_> = output.stderr.lines().filter(|line| !line.starts_with("[#]")).collect();
            let [told] = told[..] else { panic!("{context}: {}", output.text()) };
            assert!(told.contains("/etc/wireguard/wg0.conf") && told.contains(needed), "{context}: {told}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content, "{context}");
            assert_eq!(names(&small.directory), files, "{context}");
            assert!(machine.ns.has("wg0"), "{context}: what is not saved stays");
        }
    };
    small.fill();
    fails("full", "No space left on device; make room there");
    small.make_room();
    small.use_up_names();
    fails("no more names", "No space left on device; make room there");
    small.make_room();
    small.remount("ro");
    fails("read-only", "Read-only file system; mount it for writing");
    small.remount("rw");
    // And a disk that fails at any step.
    for call in ["fchmod", "fsync", "rename"] {
        let files = names(&small.directory);
        let inject = format!("-e trace={call} -e inject={call}:error=EIO:when=1");
        let output = machine.run(&format!("strace -qq -o /dev/null {inject} OURS save wg0"));
        assert!(output.code() == 1 && output.stderr.contains("Input/output error"), "{}", output.text());
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "{call}");
        assert_eq!(names(&small.directory), files, "{call}");
    }
    // Then all is as if nothing had been.
    machine.ok("OURS down wg0");
    assert_ne!(fs::read_to_string(&path).unwrap(), content);
    drop(small);
    machine.configure(&conf(""));
    assert_same(&before, &machine.state(), "as before");
}

/// Where sockets, notes and locks are. An interface that is up goes down all the same.
#[test]
fn nothing_can_be_noted() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = Machine::new();
    machine.configure(&conf(""));
    let before = machine.state();
    let small = Small::new(&machine, "run/wireguard", "size=64k,nr_inodes=30");
    let fails = |context: &str, needed: &str| {
        let files = names(&small.directory);
        let output = machine.run("OURS up wg0");
        assert_eq!(output.code(), 1, "{context}: {}", output.text());
        assert_eq!(output.stderr.lines().count(), 1, "{context}: {}", output.text());
        assert!(
            output.stderr.contains("/var/run/wireguard") && output.stderr.contains(needed),
            "{context}: {}",
            output.text()
        );
        assert_eq!(names(&small.directory), files, "{context}");
        assert!(!machine.ns.has("wg0"), "{context}");
    };
    for mode in ["full", "no more names", "read-only"] {
        let (begin, needed): (&dyn Fn(), &str) = match mode {
            "full" => (&|| small.fill(), "No space left on device; make room there"),
            "no more names" => (&|| small.use_up_names(), "No space left on device; make room there"),
            _ => (&|| small.remount("ro"), "Read-only file system; mount it for writing"),
        };
        begin();
        fails(mode, needed);
        small.remount("rw");
        small.make_room();
        machine.ok("OURS up wg0");
        begin();
        let down = machine.ok("OURS down wg0");
        assert_eq!(machine.resolv_conf(), RESOLV_CONF, "{mode}: {}", down.text());
        assert!(!machine.ns.has("wg0"), "{mode}");
        small.remount("rw");
        small.make_room();
        // What could not be removed there is, at last.
        machine.run("OURS down wg0");
        machine.ok("OURS up wg0");
        machine.ok("OURS down wg0");
        assert_eq!(names(&small.directory), [""; 0], "{mode}");
    }
    drop(small);
    assert_same(&before, &machine.state(), "as before");
}

/// Where name servers are told by a file, and that cannot be written.
#[test]
fn name_servers_cannot_be_set() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = Machine::new();
    machine.configure(&conf(""));
    let before = machine.state();
    let small = Small::new(&machine, "etc", "size=4m,nr_inodes=3000");
    for mode in ["full", "no more names", "read-only"] {
        let begin = || match mode {
            "full" => small.fill(),
            "no more names" => small.use_up_names(),
            _ => small.remount("ro"),
        };
        begin();
        let output = machine.run("OURS up wg0");
        assert_eq!(output.code(), 1, "{mode}: {}", output.text());
        assert!(output.stderr.contains("/etc/resolv.conf: "), "{mode}: {}", output.text());
        assert_eq!(machine.resolv_conf(), RESOLV_CONF, "{mode}");
        assert!(!machine.ns.has("wg0"), "{mode}");
        small.remount("rw");
        small.make_room();
        assert_same(&before, &machine.state(), mode);
        // Room is not needed to put back what is kept.
        machine.ok("OURS up wg0");
        begin();
        let down = machine.run("OURS down wg0");
        if mode == "read-only" {
            assert!(
                down.stderr.contains("/etc/resolv.conf: Read-only file system; mount it for writing"),
                "{}",
                down.text()
            );
            assert!(!down.success(), "names are still asked for in a tunnel that is gone: {}", down.text());
            small.remount("rw");
            machine.ok("OURS down wg0");
        }
        assert_eq!(machine.resolv_conf(), RESOLV_CONF, "{mode}: {}", down.text());
        small.make_room();
        assert_same(&before, &machine.state(), mode);
    }
}

/// A file that not even root may change, and one that is a link.
#[test]
fn files_that_are_not_to_be_replaced() {
    needs!("netns", "tun", "wg", "unshare", "chattr");
    let machine = Machine::new();
    machine.configure(&conf("SaveConfig = true"));
    let path = machine.path("etc/wireguard/wg0.conf");
    machine.ok("OURS up wg0");
    let change = |sign: &str| Cmd::new(&format!("chattr {sign}i {}", path.display())).run().success();
    if change("+") {
        let output = machine.run("OURS down wg0");
        change("-");
        assert_eq!(output.code(), 1, "{}", output.text());
        assert!(output.stderr.contains("see lsattr"), "{}", output.text());
        assert_eq!(names(&machine.path("etc/wireguard")), ["wg0.conf"]);
    } else {
        lab::skip("this file system knows no files that cannot be changed");
    }
    // A link leads to the file: that is replaced, and the link stays.
    let real = machine.path("etc/real.conf");
    fs::rename(&path, &real).unwrap();
    std::os::unix::fs::symlink("../real.conf", &path).unwrap();
    machine.ok(&format!("wg set wg0 peer {}", Keypair::generate().public));
    let output = machine.run("OURS down wg0");
    assert!(output.success() && !machine.ns.has("wg0"), "{}", output.text());
    assert_eq!(fs::read_to_string(real).unwrap().matches("[Peer]").count(), 2);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(names(&machine.path("etc/wireguard")), ["wg0.conf"]);
}
