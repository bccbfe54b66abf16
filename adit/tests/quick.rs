//! Bringing interfaces up and down from files, beside wireguard-tools' `wg-quick`: what the system looks like while one is
//! up is the same, and afterwards it is as before.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use crate::common::adit;
use crate::common::machine::{Machine, OURS, RESOLV_CONF, THEIRS, assert_same};
use lab::wg::Keypair;
use lab::{Engine, Netns, needs, seconds, within};
use nix::sys::signal::Signal;

fn file(interface: &str, peers: &[&str]) -> String {
    let keys = Keypair::generate();
    let mut text = format!("[Interface]\nPrivateKey = {}\nListenPort = 5555\n{interface}\n", keys.private);
    for peer in peers {
        text += &format!("\n[Peer]\nPublicKey = {}\n{peer}\n", Keypair::generate().public);
    }
    text
}

/// Brings the same up here and there, compares, and takes it down.
#[track_caller]
fn compare(text: &str) {
    needs!("netns", "tun", "wg", "wg-quick", "nft", "unshare");
    let [ours, theirs] = [OURS, THEIRS].map(|program| {
        let machine = Machine::new();
        machine.configure(text);
        let before = machine.state();
        machine.ok(&format!("{program} up wg0"));
        let up = machine.state();
        // Peers come in any order.
        let conf = machine.ok("wg showconf wg0").stdout;
        let mut conf: Vec<_> = conf.lines().map(str::to_owned).collect();
        conf.sort();
        machine.ok(&format!("{program} down wg0"));
        assert_ne!(before, up);
        if program == OURS {
            assert_same(&before, &machine.state(), "down is as before up");
        }
        // Theirs notes nothing.
        let up = up.replace("wg0.quick\n", "");
        // On a TUN device nobody detects duplicates, whether that is said or not.
        format!("{}{}", up.replace("nodad ", ""), conf.join("\n"))
    });
    assert_same(&ours, &theirs, "ours, theirs");
}

#[test]
fn simple() {
    compare(&file(
        "Address = 10.0.0.1/24, fd00::1/64\nAddress = 10.9.9.9",
        &["AllowedIPs = 10.0.0.2/32, 192.168.0.0/16, fd00::2/128, fd01::/64\nEndpoint = peer.test:51820"],
    ));
}

#[test]
fn everything_goes_through_the_tunnel() {
    compare(&file(
        "Address = 10.0.0.1/24, fd00::1/64",
        &[
            "AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = [2001:db8::1]:51820",
            "AllowedIPs = 10.0.0.7/32, 10.1.0.0/16",
        ],
    ));
}

#[test]
fn everything_of_one_family_and_a_mark() {
    compare(&file("Address = 10.0.0.1/24\nFwMark = 0x1234", &["AllowedIPs = 0.0.0.0/0"]));
    compare(&file("Address = fd00::1/64\nMTU = 1300", &["AllowedIPs = ::/0, 10.0.0.0/8"]));
}

#[test]
fn tables() {
    compare(&file("Address = 10.0.0.1/24\nTable = off", &["AllowedIPs = 0.0.0.0/0, 10.2.0.0/16"]));
    compare(&file("Address = 10.0.0.1/24\nTable = 123", &["AllowedIPs = 0.0.0.0/0, 10.0.0.0/24, ::/0"]));
}

/// A `resolvconf` that writes down what it is asked.
const RESOLVCONF: &str = "#!/bin/sh\necho \"$@\" >> /run/asked\ncase $1 in -a) cat >> /run/asked;; esac\n";

#[test]
fn name_servers_and_commands() {
    needs!("netns", "tun", "wg", "wg-quick", "nft", "unshare");
    let text = file(
        "Address = 10.0.0.1/24\nDNS = 192.0.2.1, corp.example\nDNS=2001:db8::1\n\
        PostUp = echo up '%i' >> /run/asked\nPostUp = set -o | grep -c on$ >/dev/null; false || echo %i%i >> /run/asked\n\
        PreDown = echo down %i >> /run/asked; test -e /sys/class/net || true\nPostDown = echo gone >> /run/asked",
        &["AllowedIPs = 10.1.0.0/16"],
    );
    let [ours, theirs] = [OURS, THEIRS].map(|program| {
        let machine = Machine::new();
        machine.configure(&text);
        machine.write("bin/resolvconf", RESOLVCONF, 0o755);
        machine.ok(&format!("{program} up wg0"));
        machine.ok(&format!("{program} down wg0"));
        let asked = fs::read_to_string(machine.path("run/asked")).unwrap();
        // Whoever takes down asks once more than needed.
        asked.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(ours, theirs);
}

/// A `resolvectl` that does the same, where systemd-resolved has its socket.
#[test]
fn name_servers_for_systemd_resolved() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    fs::create_dir_all(machine.path("run/systemd/resolve")).unwrap();
    machine.write("run/systemd/resolve/io.systemd.Resolve", "", 0o600);
    machine.write("bin/resolvectl", RESOLVCONF, 0o755);
    machine.configure(&file("DNS = 192.0.2.1, corp.example\nPostUp = exit 4", &[]));
    assert_eq!(machine.run("OURS up wg0").code(), 4);
    let asked = fs::read_to_string(machine.path("run/asked")).unwrap();
    assert_eq!(asked, "dns wg0 192.0.2.1\ndomain wg0 ~. corp.example\nrevert wg0\n");
    assert_eq!(machine.resolv_conf(), RESOLV_CONF);
}

/// What was told to `resolvconf` is taken back when the daemon has died, too.
#[test]
fn name_servers_of_a_dead_daemon() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    machine.write("bin/resolvconf", RESOLVCONF, 0o755);
    machine.configure(&file("DNS = 192.0.2.1", &[]));
    machine.ok("OURS up wg0");
    machine.kill_all();
    machine.ok("OURS down wg0");
    let asked = fs::read_to_string(machine.path("run/asked")).unwrap();
    assert_eq!(asked, "-a wg0 -m 0 -x\nnameserver 192.0.2.1\n-d wg0 -f\n");
}

#[test]
fn without_a_manager_the_file_is_replaced() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    let conf = |dns| file(&format!("DNS = {dns}, lan"), &[]);
    machine.configure(&conf("192.0.2.1"));
    machine.write("etc/wireguard/wg1.conf", &conf("192.0.2.2").replace("5555", "5556"), 0o600);
    // A link stays a link.
    machine.write("etc/real", RESOLV_CONF, 0o644);
    fs::remove_file(machine.path("etc/resolv.conf")).unwrap();
    symlink("real", machine.path("etc/resolv.conf")).unwrap();
    let before = machine.state();
    machine.ok("OURS up wg0");
    assert_eq!(machine.resolv_conf(), "# Made by adit for wg0\nnameserver 192.0.2.1\nsearch lan\n");
    assert_eq!(fs::metadata(machine.path("etc/resolv.conf")).unwrap().mode() & 0o777, 0o644);
    machine.ok("OURS up wg1");
    assert!(machine.resolv_conf().contains("192.0.2.2"));
    // In the other order than they came.
    machine.ok("OURS down wg0");
    assert!(machine.resolv_conf().contains("192.0.2.2"));
    machine.ok("OURS down wg1");
    assert_eq!(fs::read_link(machine.path("etc/resolv.conf")).unwrap(), PathBuf::from("real"));
    assert_same(&before, &machine.state(), "");
    // What somebody else puts there stays.
    machine.ok("OURS up wg0");
    machine.write("etc/resolv.conf", "nameserver 192.0.2.77\n", 0o644);
    machine.ok("OURS down wg0");
    assert_eq!(machine.resolv_conf(), "nameserver 192.0.2.77\n");
    // None stays none.
    fs::remove_file(machine.path("etc/resolv.conf")).unwrap();
    let before = machine.state();
    machine.ok("OURS up wg0");
    machine.ok("OURS down wg0");
    assert_same(&before, &machine.state(), "");
}

/// A file that can neither be renamed nor be replaced.
#[test]
fn a_mounted_file_has_other_content_meanwhile() {
    needs!("netns", "tun", "wg", "unshare");
    let mut machine = Machine::new();
    machine.configure(&file("DNS = 192.0.2.1", &[]));
    machine.mount_resolv_conf();
    let before = machine.state();
    machine.ok("OURS up wg0");
    assert!(machine.ok("cat /etc/resolv.conf").stdout.contains("192.0.2.1"));
    machine.ok("OURS down wg0");
    assert_same(&before, &machine.state(), "");
    assert_eq!(machine.ok("cat /etc/resolv.conf").stdout, RESOLV_CONF);
}

/// `iptables` where there is no `nft`.
#[test]
fn an_older_firewall() {
    needs!("netns", "tun", "wg", "wg-quick", "unshare", "iptables-restore", "ip6tables-restore");
    let programs = [
        "ip",
        "unshare",
        "sh",
        "mount",
        "bash",
        "cat",
        "ls",
        "wg",
        "wg-quick",
        "readlink",
        "stat",
        "sort",
        "sysctl",
        "iptables",
        "iptables-save",
        "iptables-restore",
        "ip6tables-save",
        "ip6tables-restore",
    ];
    let [ours, theirs] = [OURS, THEIRS].map(|program| {
        let mut machine = Machine::new();
        machine.leave_only(&programs);
        machine.configure(&full_tunnel("").replace("DNS", "# DNS"));
        let rules = || {
            let saved =
                ["iptables-save", "ip6tables-save"].map(|program| machine.ok(program).stdout).concat();
            let rules = saved.lines().filter(|line| line.starts_with('-') && !line.contains("fe80:"));
            rules.map(str::to_owned).collect::<Vec<_>>()
        };
        machine.ok(&format!("{program} up wg0"));
        let up = rules();
        assert_eq!(up.len(), 6, "{up:?}");
        machine.ok(&format!("{program} down wg0"));
        assert_eq!(rules(), [""; 0]);
        if program == OURS {
            machine.configure(&full_tunnel("PostUp = false").replace("DNS", "# DNS"));
            assert!(!machine.run("OURS up wg0").success());
            assert_eq!(rules(), [""; 0], "after a failure");
            machine.configure(&full_tunnel("").replace("DNS", "# DNS"));
            machine.ok("OURS up wg0");
            machine.kill_all();
            machine.ok("OURS down wg0");
            assert_eq!(rules(), [""; 0], "after the daemon's death");
        }
        up
    });
    assert_eq!(ours, theirs);
}

/// In PreUp the interface is there, and what is not in the file can be given to it.
#[test]
fn a_key_from_elsewhere() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    let keys = Keypair::generate();
    let peer = Keypair::generate().public;
    machine.configure(&format!(
        "[Interface]\nPreUp = wg set %i private-key <(echo {}) peer {peer} allowed-ips 10.7.0.0/16\n",
        keys.private
    ));
    machine.ok("OURS up wg0");
    assert_eq!(machine.ok("wg show wg0 public-key").stdout.trim(), keys.public);
    assert!(machine.ok("ip route").stdout.contains("10.7.0.0/16 dev wg0"));
    machine.ok("OURS down wg0");
}

#[test]
fn who_looks_up_a_name_can_be_stopped() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    machine.write("etc/resolv.conf", "nameserver 192.0.2.53\noptions timeout:1 attempts:1\n", 0o644);
    let before = machine.state();
    machine.configure(&file("", &["Endpoint = nowhere.test:5"]));
    let mut up = machine.cmd("OURS up wg0").spawn();
    up.expect_log("Trying again", seconds(60));
    assert!(machine.ns.has("wg0"));
    up.signal(Signal::SIGTERM);
    let status = up.wait(seconds(30)).expect("it ends");
    assert_eq!(status.code(), Some(143), "{}", up.log());
    assert_same(&before, &machine.state(), "");
}

/// With strict validation of sources, which forgets the mark otherwise.
#[test]
fn all_traffic_but_the_tunnels_own_goes_through_it() {
    needs!("netns", "tun", "wg", "nft", "unshare", "ping");
    let machine = Machine::new();
    let [here, there] = [Keypair::generate(), Keypair::generate()];
    let peer = Engine::start(&adit(), &machine.outside);
    machine.outside.address("eth0", "192.0.2.1/24");
    machine.outside.address("lo", "203.0.113.1/32");
    machine.outside.address(peer.interface(), "10.0.0.2/24");
    machine.outside.ip(&format!("link set {} up", peer.interface()));
    peer.set_private_key(&there.private);
    peer.set(&format!("listen-port 51820 peer {} allowed-ips 10.0.0.1/32", here.public));
    machine.configure(&format!(
        "[Interface]\nAddress = 10.0.0.1/24\nPrivateKey = {}\n\
        [Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0\nEndpoint = 192.0.2.1:51820\n",
        here.private, there.public
    ));
    for interface in ["all", "eth0"] {
        machine.ns.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "1");
    }
    let ping = |from: &Netns, to: &str| from.run(&format!("ping -c 1 -W 2 {to}")).success();
    machine.ok("OURS up wg0");
    assert!(ping(&machine.ns, "203.0.113.1"), "through the tunnel");
    let received = peer.dump().peers[0].rx;
    assert!(received > 0, "it did");
    assert!(ping(&machine.ns, "192.0.2.1"), "to the neighbour");
    assert_eq!(peer.dump().peers[0].rx, received, "past the tunnel");
    // The inner address is not to be had from outside of the tunnel.
    machine.outside.ip("route add 10.0.0.1/32 via 192.0.2.2 dev eth0 src 192.0.2.1");
    assert!(!ping(&machine.outside, "10.0.0.1"), "packets that do not come from the tunnel");
    machine.ok("nft delete table ip wg-quick-wg0");
    assert!(ping(&machine.outside, "10.0.0.1"), "without the rule");
    machine.ok("OURS down wg0");
}

fn full_tunnel(more: &str) -> String {
    file(
        &format!("Address = 10.0.0.1/24, fd00::1/64\nDNS = 192.0.2.1\n{more}"),
        &["AllowedIPs = 0.0.0.0/0, ::/0"],
    )
}

#[test]
fn a_failure_takes_back_everything() {
    needs!("netns", "tun", "wg", "wg-quick", "nft", "unshare");
    let machine = Machine::new();
    let before = machine.state();
    for (more, code) in [
        ("PostUp = exit 7", 7),
        ("PostUp = true | false | true", 1),
        ("PreUp = false; true", 1),
        ("Address = 10.0.0.1/24", 2),
        ("MTU = 20", 2),
        ("PostUp = kill -TERM $PPID", 143),
    ] {
        machine.configure(&full_tunnel(more));
        let output = machine.run("OURS up wg0");
        assert_eq!(output.code(), code, "{more}: {}", output.text());
        assert_same(&before, &machine.state(), more);
        assert!(output.stderr.contains("[#] ip link delete dev wg0\n"), "{more}: {}", output.text());
    }
    machine.configure(&full_tunnel("PostUp = exit 7").replace("DNS", "# DNS"));
    assert_eq!(machine.run("THEIRS up wg0").code(), 7);
}

/// Whichever program of the system fails, and whether it is asked first or later.
#[test]
fn a_program_that_fails_takes_back_everything() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = Machine::new();
    machine.configure(&full_tunnel(""));
    let before = machine.state();
    let nft = lab::require::find("nft").unwrap();
    for (program, condition) in [
        ("nft", "[ $1 = -f ]"),
        // The second time only.
        ("nft", "[ $1 = -f ] && ! mkdir /run/asked && mkdir /run/failed"),
        ("resolvconf", "[ $1 = -a ]"),
    ] {
        // The rest goes to the real one; there is no resolvconf.
        let script = format!("#!/bin/sh\nif {condition}; then exit 5; fi\nexec {} \"$@\"\n", nft.display());
        machine.write(&format!("bin/{program}"), &script, 0o755);
        let output = machine.run("OURS up wg0");
        fs::remove_file(machine.path("bin").join(program)).unwrap();
        for directory in ["run/asked", "run/failed"] {
            let _ = fs::remove_dir(machine.path(directory));
        }
        assert_eq!(output.code(), 5, "{program} {condition}: {}", output.text());
        let after = machine.state();
        assert_same(&before, &after, &format!("{program} {condition}"));
    }
}

#[test]
fn a_dead_daemon_leaves_nothing_that_stays() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = Machine::new();
    let before = machine.state();
    machine.configure(&full_tunnel("PostDown = echo gone > /run/gone"));
    machine.ok("OURS up wg0");
    machine.kill_all();
    let left = machine.state();
    assert!(left.contains("wg-quick-wg0") && left.contains("lookup 51820"), "{left}");
    machine.ok("OURS down wg0");
    assert!(machine.path("run/gone").exists());
    fs::remove_file(machine.path("run/gone")).unwrap();
    assert_same(&before, &machine.state(), "");
    let output = machine.run("OURS down wg0");
    assert_eq!((output.code(), output.stderr.as_str()), (1, "adit: `wg0' is not a WireGuard interface\n"));
    // Bringing it up once more is as good.
    machine.ok("OURS up wg0");
    let up = machine.state();
    machine.kill_all();
    machine.ok("OURS up wg0");
    assert_same(&up, &machine.state(), "");
    machine.ok("OURS down wg0");
    fs::remove_file(machine.path("run/gone")).unwrap();
    assert_same(&before, &machine.state(), "");
}

#[test]
fn two_tunnels_do_not_disturb_each_other() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = Machine::new();
    let before = machine.state();
    machine.configure(&full_tunnel(""));
    machine.ok("OURS up wg0");
    let one = machine.state();
    let other =
        full_tunnel("Table = auto").replace("5555", "5556").replace("10.0.0.1/24, fd00", "10.2.0.1/24, fd02");
    machine.write("etc/wireguard/wg1.conf", &other, 0o600);
    machine.ok("OURS up wg1");
    machine.ok("OURS down wg1");
    assert_same(&one, &machine.state(), "");
    machine.ok("OURS up wg1");
    machine.ok("OURS down wg0");
    let rest = machine.state();
    for needed in ["fwmark 0xca6d lookup 51821", "suppress_prefixlength 0", "table ip wg-quick-wg1", "\n1\n"]
    {
        assert!(rest.contains(needed), "{needed} is missing in\n{rest}");
    }
    machine.ok("OURS down wg1");
    assert_same(&before, &machine.state(), "");
}

/// What theirs brought up, ours takes down, and the other way around.
#[test]
fn either_takes_down_what_the_other_brought_up() {
    needs!("netns", "tun", "wg", "wg-quick", "nft", "unshare");
    for (up, down) in [(THEIRS, OURS), (OURS, THEIRS)] {
        let machine = Machine::new();
        machine.configure(&full_tunnel("").replace("DNS", "# DNS"));
        let before = machine.state();
        machine.ok(&format!("{up} up wg0"));
        machine.ok(&format!("{down} down wg0"));
        assert!(within(seconds(20), || !machine.path("run/wireguard/wg0.sock").exists()));
        // Theirs leaves that as it made it, and a note that it does not know.
        machine.ok("sysctl -q net.ipv4.conf.all.src_valid_mark=0");
        let _ = fs::remove_file(machine.path("run/wireguard/wg0.quick"));
        assert_same(&before, &machine.state(), &format!("{down} after {up}"));
    }
}

#[test]
fn saving_keeps_what_is_only_in_the_file() {
    needs!("netns", "tun", "wg", "wg-quick", "unshare");
    let text = file(
        "Address = 10.0.0.1/24\nMTU = 1300\nTable = off\nSaveConfig = true\nPostUp = echo '%i'",
        &["AllowedIPs = 10.1.0.0/16\nEndpoint = 198.51.100.1:51820"],
    );
    let peer = Keypair::generate().public;
    let [ours, theirs] = [OURS, THEIRS].map(|program| {
        let machine = Machine::new();
        machine.configure(&text);
        machine.ok(&format!("{program} up wg0"));
        // The second peer makes their order one of chance.
        machine.ok(&format!("wg set wg0 peer {peer} allowed-ips 10.3.0.0/16 persistent-keepalive 5"));
        machine.ok("ip address add 10.5.0.1/16 dev wg0");
        machine.ok("ip link set wg0 mtu 1290");
        let planted = machine.path("etc/wireguard/wg0.conf.tmp");
        symlink("/etc/passwd", &planted).unwrap();
        machine.ok("OURS save wg0");
        // Ours leaves it alone; theirs would follow it.
        fs::remove_file(planted).unwrap();
        machine.ok(&format!("{program} down wg0"));
        let path = machine.path("etc/wireguard/wg0.conf");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(machine.path("etc/passwd")).unwrap().starts_with("root:"));
        let mut saved: Vec<_> = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
        saved.retain(|line| !line.contains("fe80:"));
        saved.sort();
        saved
    });
    assert_eq!(ours, theirs);
    for line in
        ["Address = 10.5.0.1/16", "MTU = 1290", "Table = off", "SaveConfig = true", "PostUp = echo '%i'"]
    {
        assert!(ours.iter().any(|saved| saved == line), "{line} is missing in {ours:?}");
    }
}

#[test]
fn stripping_and_what_is_wrong() {
    needs!("netns", "tun", "wg", "wg-quick", "unshare");
    let machine = Machine::new();
    fs::create_dir(machine.path("link")).unwrap();
    symlink(adit().0, machine.path("link/wg-quick")).unwrap();
    let ours = format!("{}/wg-quick", machine.path("link").display());
    let same = |args: &str, expected: &str| {
        let [ours, theirs] = [ours.as_str(), THEIRS].map(|program| machine.run(&format!("{program} {args}")));
        assert_eq!(ours.code(), theirs.code(), "{args}: {}", ours.text());
        assert_eq!(ours.stdout, theirs.stdout, "{args}");
        assert!(
            ours.stderr.contains(expected) && theirs.stderr.contains(expected),
            "{args}: {}",
            ours.text()
        );
        assert_eq!(ours.stderr.is_empty(), theirs.stderr.is_empty(), "{args}");
    };
    machine.configure(
        "# one\n[Interface] # two\n  PrivateKey = x # three\nAddress = 10.0.0.1\nPostUp = # \n\n dns=1.1.1.1\n[Peer]\n\tMTU = 5\nlast",
    );
    same("strip wg0", "");
    same("strip /etc/wireguard/wg0.conf", "");
    same("strip nothing", "wg-quick: `/etc/wireguard/nothing.conf' does not exist\n");
    same("up ./nothing", "wg-quick: `./nothing' does not exist\n");
    same("up /etc/passwd", "wg-quick: The config file must be a valid interface name, followed by .conf\n");
    same("down wg0", "wg-quick: `wg0' is not a WireGuard interface\n");
    same("save wg0", "wg-quick: `wg0' is not a WireGuard interface\n");
    same("up", "");
    same("upp wg0", "");
    same("--help", "");
    machine.configure("[Interface]\nSaveConfig = perhaps\n");
    same("up wg0", "`perhaps' is neither true nor false\n");
    machine.write("etc/wireguard/wg0.conf", "[Interface]\n", 0o644);
    machine.run("chmod 755 /etc/wireguard");
    same("strip wg0", "Warning: `/etc/wireguard/wg0.conf' is world accessible\n");
    machine.configure(&file("", &[]).replace("[Interface]", "[Interface]\nNonsense = 5"));
    let output = machine.run(&format!("{ours} up wg0"));
    assert!(output.stderr.contains("/etc/wireguard/wg0.conf:2:1: "), "{}", output.text());
    assert!(!output.stderr.contains("[#]"), "{}", output.text());
    machine.configure(&file("Address = 10.0.0.1/24", &[]));
    machine.ok(&format!("{ours} up wg0"));
    let state = machine.state();
    same("up wg0", "wg-quick: `wg0' already exists\n");
    assert_same(&state, &machine.state(), "");
    machine.ok(&format!("{ours} down wg0"));
}

/// In the virtual machine, where the kernel has WireGuard.
#[test]
fn the_kernels_own() {
    if lab::require(lab::vm::NEEDS).is_err() {
        return;
    }
    let program = adit().0;
    let Ok(vm) = lab::Vm::alone_with(&[&program]) else { return };
    let adit = program.file_name().unwrap().to_str().unwrap();
    let text =
        file("Address = 10.44.0.1/24, fd44::1/64\nMTU = 1333\nTable = 123", &["AllowedIPs = 0.0.0.0/0"]);
    vm.ok("mkdir -p /etc/wireguard");
    // The machine is told one line at a time.
    let lines: Vec<String> = text.lines().map(|line| format!("echo '{line}'")).collect();
    vm.ok(&format!("({}) > /etc/wireguard/wgq.conf", lines.join("; ")));
    vm.ok(&format!("{adit} up --engine kernel wgq"));
    assert_eq!(vm.ok(&format!("{adit} show wgq listen-port")).trim(), "5555");
    let address = vm.ok("ip address show dev wgq");
    for needed in ["10.44.0.1/24", "fd44::1/64", "mtu 1333"] {
        assert!(address.contains(needed), "{needed} is missing in {address}");
    }
    assert!(vm.ok("ip route show table 123").contains("default dev wgq"));
    vm.ok(&format!("{adit} save wgq"));
    assert!(vm.ok("cat /etc/wireguard/wgq.conf").contains("MTU = 1333"));
    let (code, said) = vm.run(&format!("{adit} up --engine kernel wgq 2>&1"));
    assert!(code == 1 && said.contains("`wgq' already exists"), "{said}");
    // Another address, another network, no sessions to lose.
    vm.ok("sed -i 's/10.44.0.1/10.44.0.9/; s|AllowedIPs = .*|AllowedIPs = 10.45.0.0/16|' /etc/wireguard/wgq.conf");
    vm.ok(&format!("{adit} reload wgq"));
    let address = vm.ok("ip address show dev wgq");
    assert!(address.contains("10.44.0.9/24") && !address.contains("10.44.0.1/"), "{address}");
    let routes = vm.ok("ip route show table 123");
    assert!(routes.contains("10.45.0.0/16 dev wgq") && !routes.contains("default"), "{routes}");
    assert!(vm.ok(&format!("{adit} show wgq allowed-ips")).contains("10.45.0.0/16"));
    vm.ok(&format!("{adit} down wgq"));
    assert_ne!(vm.run("ip link show dev wgq").0, 0);
    assert_eq!(vm.ok("ls /var/run/wireguard").trim(), "");
}

#[test]
fn a_dry_run_changes_nothing() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = Machine::new();
    machine.configure(&full_tunnel("PostUp = echo up"));
    let before = machine.state();
    let plan = machine.ok("OURS up --dry-run wg0").stdout;
    let kernels = machine.ok("OURS up --dry-run --engine kernel wg0").stdout;
    assert_eq!(kernels.lines().next(), Some("[#] ip link add dev wg0 type wireguard"));
    assert_same(&before, &machine.state(), "");
    let done = machine.ok("OURS up wg0").stderr;
    let commands: Vec<&str> = plan.lines().filter(|line| line.starts_with("[#]")).collect();
    let done: Vec<&str> = done.lines().filter(|line| line.starts_with("[#]")).collect();
    assert_eq!(commands, done);
    assert!(plan.contains("\n    add table ip wg-quick-wg0\n"));
    machine.ok("OURS down --dry-run wg0");
    machine.ok("OURS down wg0");
    assert_same(&before, &machine.state(), "");
}

#[test]
fn the_trace_is_theirs() {
    needs!("netns", "tun", "wg", "wg-quick", "nft", "unshare");
    let text = full_tunnel("PostUp = echo %i up\nPreDown = echo down").replace("DNS", "# DNS");
    let [ours, theirs] = [OURS, THEIRS].map(|program| {
        let machine = Machine::new();
        machine.configure(&text);
        let trace =
            ["up", "down"].map(|command| machine.ok(&format!("{program} {command} wg0")).stderr).concat();
        let mut lines: Vec<_> =
            trace.lines().filter(|line| line.starts_with("[#]")).map(file_number).collect();
        // Theirs tries the kernel's first. Versions differ in the order of rules and routes, and in how they configure.
        lines.retain(|line| !line.contains("type wireguard") && !line.contains("src_valid_mark"));
        lines.sort();
        lines
    });
    assert_eq!(ours, theirs);
}

/// The shell numbers its files as it likes.
fn file_number(line: &str) -> String {
    let line = line.replace("setconf", "addconf");
    line.split_once("/dev/fd/").map_or(line.clone(), |(before, _)| before.to_owned())
}
