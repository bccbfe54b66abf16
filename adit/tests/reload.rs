//! Applying a file that has changed: the system is as if the interface had been taken down and brought up again, and peers
//! that stay notice nothing.

use std::fs;

use crate::common::adit;
use crate::common::machine::{Machine, RESOLV_CONF, assert_same};
use lab::wg::Keypair;
use lab::{Engine, needs, seconds};

/// A file with these lines for the interface, and peers whose keys are always the same.
struct Draft {
    private: String,
    peers: [String; 3],
}

impl Draft {
    fn new() -> Draft {
        let peers = [(); 3].map(|()| Keypair::generate().public);
        Draft { private: Keypair::generate().private, peers }
    }

    fn file(&self, interface: &str, peers: [&str; 3]) -> String {
        let mut text =
            format!("[Interface]\nPrivateKey = {}\nListenPort = 5555\n{interface}\n", self.private);
        for (key, lines) in self.peers.iter().zip(peers).filter(|(_, lines)| !lines.is_empty()) {
            text += &format!("\n[Peer]\nPublicKey = {key}\n{lines}\n");
        }
        text
    }
}

/// All of the system, and of the device what does not change by itself. In which order it is listed, tables of nft for one,
/// says nothing.
fn state(machine: &Machine) -> String {
    let state = machine.state() + &machine.ok("wg showconf wg0").stdout;
    let mut lines: Vec<_> = state.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// From one file to another, by a reload and by down and up.
#[track_caller]
fn check(before: &str, after: &str) {
    let machine = Machine::new();
    let untouched = machine.state();
    machine.configure(before);
    machine.ok("OURS up wg0");
    machine.configure(after);
    machine.ok("OURS reload wg0");
    let reloaded = state(&machine);
    // A second time changes nothing.
    machine.ok("OURS reload wg0");
    assert_same(&reloaded, &state(&machine), "reloaded, reloaded again");
    machine.ok("OURS down wg0");
    assert_same(&untouched, &machine.state(), "before up, after down");
    machine.ok("OURS up wg0");
    assert_same(&reloaded, &state(&machine), "reloaded, brought up");
    machine.ok("OURS down wg0");
}

#[test]
fn peers_routes_and_addresses() {
    needs!("netns", "tun", "wg", "unshare", "nft");
    let draft = Draft::new();
    let endpoint = "Endpoint = 198.51.100.1:5\nPersistentKeepalive = 9";
    check(
        &draft.file(
            "Address = 10.0.0.1/24, 10.0.0.9/24, fd00::1/64",
            ["AllowedIPs = 10.1.0.0/16, fd01::/64", &format!("AllowedIPs = 10.2.0.0/16\n{endpoint}"), ""],
        ),
        &draft.file(
            "Address = 10.0.0.9/24, fd00::1/64, fd00::2/64\nDNS = 192.0.2.1, lan\nMTU = 1300\nFwMark = 7",
            ["AllowedIPs = 10.1.0.0/16, fd02::/64", "", "AllowedIPs = 10.2.0.0/16, 10.0.0.77/32"],
        ),
    );
    check(
        &draft.file("DNS = 192.0.2.1\nTable = 99", ["AllowedIPs = 10.1.0.0/16", "", ""]),
        &draft.file("", ["AllowedIPs = 10.1.0.0/16", endpoint, ""]),
    );
    check(
        &draft.file("Address = 10.0.0.1/24, fd00::1/64", ["AllowedIPs = 10.1.0.0/16, fd01::/64", "", ""]),
        &draft.file("Address = fd00::1/64", ["AllowedIPs = 10.1.0.0/16, fd01::/64", "", ""]),
    );
}

#[test]
fn a_tunnel_for_all_traffic_keeps_its_rules() {
    needs!("netns", "tun", "wg", "unshare", "nft");
    let draft = Draft::new();
    check(
        &draft.file("Address = 10.0.0.1/24, fd00::1/64", ["AllowedIPs = 0.0.0.0/0, ::/0", "", ""]),
        &draft.file(
            "Address = 10.0.0.2/24, fd00::1/64",
            ["AllowedIPs = 0.0.0.0/0, ::/0", "AllowedIPs = 10.5.0.0/16", ""],
        ),
    );
}

/// What an interface that takes all traffic has is not what lies under it.
#[test]
fn an_mtu_that_is_worked_out_stays() {
    needs!("netns", "tun", "wg", "unshare", "nft");
    let draft = Draft::new();
    let endpoint = "Endpoint = 203.0.113.1:5";
    check(
        &draft.file("Address = 10.0.0.1/24", [&format!("AllowedIPs = 0.0.0.0/0\n{endpoint}"), "", ""]),
        &draft.file(
            "Address = 10.0.0.1/24",
            [&format!("AllowedIPs = 0.0.0.0/0\n{endpoint}"), "AllowedIPs = 10.5.0.0/16", ""],
        ),
    );
}

/// The kernel has an IPv6 address once, whatever its length.
#[test]
fn the_same_address_in_another_network() {
    needs!("netns", "tun", "wg", "unshare");
    let draft = Draft::new();
    check(
        &draft.file("Address = 10.0.0.1/24, fd00::1/64", ["AllowedIPs = 10.1.0.0/16, fd01::/64", "", ""]),
        &draft.file("Address = 10.0.0.1/16, fd00::1/48", ["AllowedIPs = 10.1.0.0/16, fd01::/64", "", ""]),
    );
}

#[test]
fn what_cannot_be_changed_is_refused_and_nothing_is() {
    needs!("netns", "tun", "wg", "unshare", "nft");
    let draft = Draft::new();
    let machine = Machine::new();
    let some = draft.file("Address = 10.0.0.1/24", ["AllowedIPs = 10.1.0.0/16", "", ""]);
    machine.configure(&some);
    let not_up = machine.run("OURS reload wg0");
    assert!(not_up.text().contains("`wg0' is not up"), "{}", not_up.text());
    machine.ok("OURS up wg0");
    let up = state(&machine);
    for (after, why) in [
        (
            draft.file("Address = 10.0.0.2/24", ["AllowedIPs = 0.0.0.0/0", "", ""]),
            "to take all traffic from now on",
        ),
        (
            draft.file(
                "Address = 10.0.0.2/24\nMTU = 20\nDNS = 192.0.2.7",
                ["AllowedIPs = 10.9.0.0/16", "", ""],
            ),
            "Invalid argument",
        ),
        (some.replace("[Peer]", "[Pear]"), "[Pear]"),
    ] {
        machine.configure(&after);
        let refused = machine.run("OURS reload wg0");
        assert!(!refused.success() && refused.text().contains(why), "{}", refused.text());
        assert_same(&up, &state(&machine), why);
    }
    machine.configure(
        &draft.file("Address = 10.0.0.2/24\nPostUp = touch /run/ran", ["AllowedIPs = 10.9.0.0/16", "", ""]),
    );
    let shown = machine.ok("OURS reload --dry-run wg0");
    assert!(shown.stdout.contains("ip -4 address add 10.0.0.2/24 dev wg0\n"), "{}", shown.text());
    assert_same(&up, &state(&machine), "only shown");
    let done = machine.ok("OURS reload wg0").text();
    assert!(done.contains("are not run"), "{done}");
    assert!(!fs::exists(machine.path("run/ran")).unwrap());
    machine.ok("OURS down wg0");
    assert_eq!(machine.resolv_conf(), RESOLV_CONF);
}

/// Whichever comes first: what one does the other neither takes for its own nor puts back.
#[test]
fn reloads_and_down_at_the_same_moment() {
    needs!("netns", "tun", "wg", "unshare", "nft");
    let draft = Draft::new();
    let machine = Machine::new();
    let untouched = machine.state();
    let all = "AllowedIPs = 0.0.0.0/0";
    for round in 0..8 {
        machine.configure(&draft.file("Address = 10.0.0.1/24", [all, "", ""]));
        machine.ok("OURS up wg0");
        let changed = "Address = 10.0.0.2/24\nDNS = 192.0.2.7\nMTU = 1300";
        machine.configure(&draft.file(changed, [all, "AllowedIPs = 10.9.0.0/16", ""]));
        let reload = || machine.cmd("OURS reload wg0").spawn();
        let (mut one, mut other) = (reload(), reload());
        if round % 2 == 0 {
            // Both have done the same, one after the other.
            for reload in [&mut one, &mut other] {
                assert!(reload.wait(seconds(20)).is_some_and(|status| status.success()), "{}", reload.log());
            }
            assert!(machine.resolv_conf().contains("192.0.2.7"));
        }
        machine.ok("OURS down wg0");
        for reload in [&mut one, &mut other] {
            assert!(reload.wait(seconds(20)).is_some(), "{}", reload.log());
        }
        assert_same(&untouched, &machine.state(), "before up, after down");
    }
}

/// What commands have added stays: a key, a route.
#[test]
fn what_the_file_does_not_say_stays() {
    needs!("netns", "tun", "wg", "unshare");
    let machine = Machine::new();
    let keys = Keypair::generate();
    let commands = format!(
        "PreUp = wg set %i private-key <(echo {})\nPostUp = ip route add 10.9.0.0/16 dev %i",
        keys.private
    );
    machine.configure(&format!("[Interface]\nAddress = 10.0.0.1/24\n{commands}\n"));
    machine.ok("OURS up wg0");
    let port = machine.ok("wg show wg0 listen-port").stdout;
    machine.configure(&format!("[Interface]\nAddress = 10.0.0.2/24\n{commands}\n"));
    machine.ok("OURS reload wg0");
    assert_eq!(machine.ok("wg show wg0 public-key").stdout.trim(), keys.public);
    assert_eq!(machine.ok("wg show wg0 listen-port").stdout, port);
    assert!(machine.ok("ip route").stdout.contains("10.9.0.0/16 dev wg0"));
    assert!(machine.ok("ip address show wg0").stdout.contains("10.0.0.2/24"));
    machine.ok("OURS down wg0");
}

#[test]
fn nothing_is_lost_of_a_session_that_stays() {
    needs!("netns", "tun", "wg", "unshare", "ping");
    let machine = Machine::new();
    let [here, there] = [Keypair::generate(), Keypair::generate()];
    let server = Engine::start(&adit(), &machine.outside);
    machine.outside.address("eth0", "192.0.2.1/24");
    machine.outside.address(server.interface(), "10.0.0.2/24");
    machine.outside.ip(&format!("link set {} up", server.interface()));
    server.set_private_key(&there.private);
    server.set(&format!("listen-port 51820 peer {} allowed-ips 10.0.0.1/32", here.public));
    let other = Keypair::generate().public;
    let configure = |more: &str| {
        machine.configure(&format!(
            "[Interface]\nAddress = 10.0.0.1/24\nPrivateKey = {}\n[Peer]\nPublicKey = {}\n\
            AllowedIPs = 10.0.0.2/32\nEndpoint = 192.0.2.1:51820\n{more}\n",
            here.private, there.public
        ));
    };
    configure("");
    machine.ok("OURS up wg0");
    assert!(machine.ns.reaches("10.0.0.2", seconds(30)));
    let handshakes =
        || machine.ok("wg show wg0 latest-handshakes").stdout.lines().map(str::to_owned).collect::<Vec<_>>();
    let session = handshakes();
    let mut ping = machine.ns.spawn("ping -n -i 0.02 -c 200 -W 2 10.0.0.2");
    for round in 0..4 {
        configure(&format!("[Peer]\nPublicKey = {other}\nAllowedIPs = 10.{round}.0.0/16\n"));
        machine.ok("OURS reload wg0");
        configure("");
        machine.ok("OURS reload wg0");
    }
    assert!(ping.wait(seconds(30)).is_some());
    assert!(ping.log().contains(" 0% packet loss"), "{}", ping.log());
    assert_eq!(handshakes(), session);
    machine.ok("OURS down wg0");
}
