//! `adit new`: what it writes comes up as it is, on both sides.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::common::adit;
use crate::common::machine::Machine;
use lab::{Cmd, Output, needs};

/// A directory that goes when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("adit-new-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn files(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn new(args: &str, path: &Path) -> Output {
    Cmd::new(&format!("{} new {args}", adit().0.display())).arg(path).run()
}

/// The values of a key, without what says how long their networks are.
fn values(content: &str, key: &str) -> Vec<String> {
    let lines = content.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    let values = lines.flat_map(|value| value.split(", "));
    values.map(|value| value.split('/').next().unwrap_or_default().to_owned()).collect()
}

/// Two machines with a cable between them.
fn machines() -> (Machine, Machine) {
    let (server, client) = (Machine::new(), Machine::new());
    server.ns.connect("eth1", &client.ns, "eth1");
    for (machine, number) in [(&server, 1), (&client, 2)] {
        machine.ns.address("eth1", &format!("203.0.113.{number}/24"));
        machine.ns.address("eth1", &format!("2001:db8:1::{number}/64"));
    }
    (server, client)
}

#[track_caller]
fn assert_answers(machine: &Machine, address: &str) {
    let output = machine.ns.run(&format!("ping -c 1 -W 5 {address}"));
    assert!(output.success(), "{address}: {}", output.text());
}

#[test]
fn from_nothing_to_two_connected_machines_and_a_third() {
    needs!("netns", "tun", "unshare", "ping", "bash", "wg", "wg-quick");
    let directory = Directory::new("two");
    let home = directory.path("home");
    let told = new("--endpoint 203.0.113.1 --clients laptop,phone", &home);
    assert!(told.success(), "{}", told.text());
    assert_eq!(directory.files("home"), ["laptop.conf", "phone.conf", "wg0.conf"]);
    assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["laptop.conf", "phone.conf", "wg0.conf"] {
        let path = home.join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let check = Cmd::new(&format!("{} check --strict", adit().0.display())).arg(&path).run();
        assert!(check.success() && check.stdout.ends_with(": fine\n"), "{}", check.text());
    }
    let (server, client) = machines();
    let [wg0, laptop] = ["wg0", "laptop"].map(|name| format!("{}/{name}.conf", home.display()));
    server.ok(&format!("OURS up {wg0}"));
    client.ok(&format!("OURS up {laptop}"));
    let inner = values(&directory.read("home/wg0.conf"), "Address");
    for address in &inner {
        assert_answers(&client, address);
    }
    client.ok(&format!("OURS down {laptop}"));

    let told = new("--add tablet", &home.join("wg0.conf"));
    assert!(told.success(), "{}", told.text());
    let tablet = format!("{}/tablet.conf", home.display());
    server.ok(&format!("OURS reload {wg0}"));
    // The files are for every wg-quick.
    client.ok(&format!("THEIRS up {tablet}"));
    assert_answers(&client, &inner[0]);
    client.ok(&format!("THEIRS down {tablet}"));
    server.ok(&format!("OURS down {wg0}"));
}

#[test]
fn all_traffic_goes_through_the_server() {
    needs!("netns", "tun", "unshare", "ping", "nft");
    let directory = Directory::new("full");
    let told = new("--endpoint [2001:db8:1::1]:4500 --full-tunnel --dns 198.18.0.1", &directory.0);
    assert!(told.success() && told.stderr.is_empty(), "{}", told.text());
    let (server, client) = machines();
    // The world beyond the server knows nothing of the tunnel's network.
    server.outside.address("eth0", "192.0.2.1/24");
    server.outside.address("lo", "198.18.0.1/32");
    let [wg0, peer] = ["wg0", "client"].map(|name| directory.path(&format!("{name}.conf")));
    server.ok(&format!("OURS up {}", wg0.display()));
    let before = client.state();
    client.ok(&format!("OURS up {}", peer.display()));
    assert_answers(&client, "198.18.0.1");
    client.ok(&format!("OURS down {}", peer.display()));
    assert_eq!(before, client.state());
    server.ok(&format!("OURS down {}", wg0.display()));
    assert_eq!(server.ok("nft list tables").stdout, "");
}

#[test]
fn nothing_is_overwritten_or_half_written() {
    let directory = Directory::new("nothing");
    let home = directory.path("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("b.conf"), "mine").unwrap();
    symlink(directory.path("elsewhere"), home.join("d.conf")).unwrap();
    for clients in ["a,b", "c,d"] {
        let refused = new(&format!("--endpoint a.example --clients {clients}"), &home);
        assert_eq!(refused.code(), 1);
        assert!(refused.stderr.contains("is there already, and stays as it is; nothing was written"));
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.text());
    }
    assert_eq!(directory.files("home"), ["b.conf", "d.conf"]);
    assert_eq!(directory.read("home/b.conf"), "mine");
    assert!(!directory.path("elsewhere").exists());

    for (args, expected) in [
        ("--endpoint a.example --clients a,a", "each file needs a name of its own"),
        ("--endpoint a.example --clients wg0", "each file needs a name of its own"),
        ("--endpoint a.example --clients a/b", "`a/b' cannot be a name"),
        ("--endpoint a.example --clients ..", "`..' cannot be a name"),
        ("--endpoint a.example --clients a --subnet 10.0.0.1/24", "--subnet: `10.0.0.1/24' is no network"),
        ("--endpoint a.example --clients a,b --subnet 10.0.0.0/30", "the network has room for 1 clients"),
        ("--endpoint a.example:0 --clients a", "--endpoint: `0' is no UDP port"),
        ("--endpoint a.example --dns 1.1.1.1;x --clients a", "--dns: `1.1.1.1;x' is neither"),
    ] {
        let refused = new(args, &home);
        assert_eq!(refused.code(), 1, "{args}");
        assert!(refused.stderr.starts_with(&format!("adit new: {expected}")), "{}", refused.text());
    }
    assert_eq!(directory.files("home"), ["b.conf", "d.conf"]);
}

#[test]
fn clients_that_are_added_at_once_get_addresses_of_their_own() {
    let directory = Directory::new("once");
    assert!(new("--endpoint a.example --clients a0", &directory.0).success());
    let server = directory.path("wg0.conf");
    let adding = (1..9).map(|number| {
        let line = format!("{} new --add a{number}", adit().0.display());
        Cmd::new(&line).arg(&server).spawn()
    });
    for mut one in adding.collect::<Vec<_>>() {
        assert!(one.wait(lab::seconds(20)).is_some_and(|status| status.success()), "{}", one.log());
    }
    let addresses =
        (0..9).map(|number| values(&directory.read(&format!("a{number}.conf")), "Address").remove(0));
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort();
    let mut allowed: Vec<_> = values(&directory.read("wg0.conf"), "AllowedIPs");
    allowed.retain(|ip| !ip.contains(':'));
    allowed.sort();
    assert_eq!(addresses, allowed);
    addresses.dedup();
    assert_eq!(addresses.len(), 9);
}

#[test]
fn a_client_more_leaves_the_rest_as_it_is() {
    let directory = Directory::new("more");
    let told = new("--endpoint a.example --subnet 10.7.4.0/29,fd00:7::/64 --interface vpn", &directory.0);
    assert!(told.success(), "{}", told.text());
    let before = format!("# mine\n\n{}#\tend without a line's", directory.read("vpn.conf"));
    fs::write(directory.path("vpn.conf"), &before).unwrap();
    let link = directory.path("link.conf");
    symlink("vpn.conf", &link).unwrap();
    for (name, number) in [("one", 3), ("two", 4), ("three", 5), ("four", 6)] {
        let path = if number == 4 { link.clone() } else { directory.path("vpn.conf") };
        let told = new(&format!("--add {name}"), &path);
        assert!(told.success(), "{}", told.text());
        let client = directory.read(&format!("{name}.conf"));
        assert_eq!(values(&client, "Address"), [format!("10.7.4.{number}"), format!("fd00:7::{number}")]);
        assert_eq!(values(&client, "Endpoint"), ["a.example:51820"]);
        assert!(directory.read("vpn.conf").contains(&format!("\n\n# {name}\n[Peer]\nPublicKey = ")));
    }
    let after = directory.read("vpn.conf");
    // Somebody else's file, with more room.
    let other = after.replace("# Made by", "# Made with").replace("/29", "/24");
    fs::write(directory.path("other.conf"), &other).unwrap();
    assert!(after.starts_with(&before) && link.is_symlink());
    // It does not say where it is called, but at which port.
    let moved = other.replace("ListenPort = 51820", "ListenPort = 4500");
    fs::write(directory.path("moved.conf"), moved).unwrap();
    assert!(new("--add six --endpoint 2001:db8::1", &directory.path("moved.conf")).success());
    assert_eq!(
        directory.read("six.conf").lines().rfind(|line| line.starts_with("Endpoint")),
        Some("Endpoint = [2001:db8::1]:4500")
    );
    // It is full, has a client of that name, or is none.
    for (args, file, expected) in [
        ("--add five", "vpn.conf", "all addresses of its network are taken"),
        ("--add five", "client.conf", "it has no Address with a network"),
        ("--add five", "other.conf", "does not say where clients call it: add --endpoint"),
        ("--add one --endpoint a.example", "other.conf", "one.conf is there already"),
        ("--add five", "missing.conf", "cannot read"),
    ] {
        let refused = new(args, &directory.path(file));
        assert_eq!(refused.code(), 1);
        assert!(refused.stderr.contains(expected), "{}", refused.text());
    }
    assert_eq!(directory.read("vpn.conf"), after);
    assert_eq!(fs::metadata(directory.path("vpn.conf")).unwrap().permissions().mode() & 0o777, 0o600);
}
