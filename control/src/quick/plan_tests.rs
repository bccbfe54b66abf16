//! Plans, as the commands that they print.

use std::collections::BTreeSet;

use super::*;
use crate::conf::{self, Mode};
use crate::quick::dns::Manager;
use crate::quick::{Firewall, read};

const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

/// A system without anything that matters.
fn system() -> System {
    System { default_mtu: Some(1500), dns: Manager::Resolvconf(String::new()), ..System::default() }
}

/// The interface's part of a file, and the allowed IPs of its only peer.
fn configuration(interface: &str, allowed_ips: &str) -> (Config, Get) {
    let text = format!("[Interface]\n{interface}\n[Peer]\nPublicKey = {KEY}\nAllowedIPs = {allowed_ips}\n");
    let config = read(text.as_bytes(), |_| None).unwrap();
    let draft = conf::read(&config.rest, Mode::Addition).unwrap();
    (config, predicted(&draft.set))
}

/// The commands, and what is given to them below each.
fn text(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        text += &format!("{}\n", step.command("wg0"));
        for line in step.input().lines() {
            text += &format!("    {line}\n");
        }
    }
    text
}

fn up(interface: &str, allowed_ips: &str, system: &System) -> Vec<Step> {
    let (config, device) = configuration(interface, allowed_ips);
    let mut steps = begin("wg0", &config, Some("adit"));
    steps.extend(finish("wg0", &config, &device, system));
    steps
}

fn down(
    interface: &str,
    config: &Config,
    device: Option<&Get>,
    system: &System,
    remains: &Remains,
) -> Vec<Step> {
    let mut steps = begin_down(interface, config, device.is_some());
    steps.extend(remove(interface, config, device, system, remains));
    steps.extend(end_down(interface, config));
    steps
}

#[track_caller]
fn check(steps: &[Step], expected: &str) {
    assert_eq!(text(steps), expected);
}

#[test]
fn simple() {
    check(
        &up(
            "Address = 10.0.0.1/24, fd00::1/64",
            "10.0.0.2/32, 192.168.0.0/16, 192.168.1.0/24, fd00::2/128, fd01::/64",
            &system(),
        ),
        "\
adit wg0
wg addconf wg0 /dev/fd/63
ip -4 address add 10.0.0.1/24 dev wg0
ip -6 address add fd00::1/64 dev wg0
ip link set mtu 1420 up dev wg0
ip -6 route add fd01::/64 dev wg0
ip -4 route add 192.168.1.0/24 dev wg0
ip -4 route add 192.168.0.0/16 dev wg0
",
    );
}

#[test]
fn everything_goes_through_the_tunnel() {
    let steps = up("Address = 10.0.0.1/24, fd00::1/64", "0.0.0.0/0, ::/0", &system());
    check(
        &steps,
        "\
adit wg0
wg addconf wg0 /dev/fd/63
ip -4 address add 10.0.0.1/24 dev wg0
ip -6 address add fd00::1/64 dev wg0
ip link set mtu 1420 up dev wg0
wg set wg0 fwmark 51820
ip -6 rule add not fwmark 51820 table 51820
ip -6 rule add table main suppress_prefixlength 0
ip -6 route add ::/0 dev wg0 table 51820
nft -f /dev/fd/63
    add table ip6 wg-quick-wg0
    add chain ip6 wg-quick-wg0 preraw { type filter hook prerouting priority -300; }
    add chain ip6 wg-quick-wg0 premangle { type filter hook prerouting priority -150; }
    add chain ip6 wg-quick-wg0 postmangle { type filter hook postrouting priority -150; }
    add rule ip6 wg-quick-wg0 preraw iifname != \"wg0\" ip6 daddr fd00::1 fib saddr type != local drop
    add rule ip6 wg-quick-wg0 postmangle meta l4proto udp meta mark 51820 ct mark set meta mark
    add rule ip6 wg-quick-wg0 premangle meta l4proto udp meta mark set ct mark
ip -4 rule add not fwmark 51820 table 51820
ip -4 rule add table main suppress_prefixlength 0
ip -4 route add 0.0.0.0/0 dev wg0 table 51820
sysctl -q net.ipv4.conf.all.src_valid_mark=1
nft -f /dev/fd/63
    add table ip wg-quick-wg0
    add chain ip wg-quick-wg0 preraw { type filter hook prerouting priority -300; }
    add chain ip wg-quick-wg0 premangle { type filter hook prerouting priority -150; }
    add chain ip wg-quick-wg0 postmangle { type filter hook postrouting priority -150; }
    add rule ip wg-quick-wg0 preraw iifname != \"wg0\" ip daddr 10.0.0.1 fib saddr type != local drop
    add rule ip wg-quick-wg0 postmangle meta l4proto udp meta mark 51820 ct mark set meta mark
    add rule ip wg-quick-wg0 premangle meta l4proto udp meta mark set ct mark
",
    );
    let undone: Vec<Step> = steps.iter().rev().filter_map(Step::undo).collect();
    check(
        &undone,
        "\
nft -f /dev/fd/63
    delete table ip wg-quick-wg0
sysctl -q net.ipv4.conf.all.src_valid_mark=0
ip -4 rule delete table main suppress_prefixlength 0
ip -4 rule delete table 51820
nft -f /dev/fd/63
    delete table ip6 wg-quick-wg0
ip -6 rule delete table main suppress_prefixlength 0
ip -6 rule delete table 51820
ip link delete dev wg0
",
    );
}

#[test]
fn without_nft_there_is_iptables() {
    let system = System {
        firewall: Firewall::Iptables,
        src_valid_mark: true,
        used_tables: BTreeSet::from([51820, 51821]),
        ..system()
    };
    let steps = up("Address = 10.0.0.1", "0.0.0.0/0", &system);
    check(
        &steps[4..],
        "\
wg set wg0 fwmark 51822
ip -4 rule add not fwmark 51822 table 51822
ip -4 rule add table main suppress_prefixlength 0
ip -4 route add 0.0.0.0/0 dev wg0 table 51822
iptables-restore -n
    *raw
    -I PREROUTING ! -i wg0 -d 10.0.0.1 -m addrtype ! --src-type LOCAL -j DROP -m comment --comment \"wg-quick(8) rule for wg0\"
    COMMIT
    *mangle
    -I POSTROUTING -m mark --mark 51822 -p udp -j CONNMARK --save-mark -m comment --comment \"wg-quick(8) rule for wg0\"
    -I PREROUTING -p udp -j CONNMARK --restore-mark -m comment --comment \"wg-quick(8) rule for wg0\"
    COMMIT
",
    );
    let Some(Step::Run(undo)) = steps.last().and_then(Step::undo) else { panic!("it can be undone") };
    assert_eq!(undo.input.matches("-D ").count(), 3);
}

#[test]
fn a_mark_of_the_files_is_the_table() {
    let steps = up("FwMark = 0x10\nAddress = 10.0.0.1/24", "0.0.0.0/0, 10.0.0.0/24", &system());
    check(
        &steps[3..6],
        "\
ip link set mtu 1420 up dev wg0
ip -4 rule add not fwmark 16 table 16
ip -4 rule add table main suppress_prefixlength 0
",
    );
}

#[test]
fn the_kernels_own() {
    let (config, _) = configuration("Address = 10.0.0.1/24", "");
    let steps = begin("wg0", &config, None);
    check(&steps, "ip link add dev wg0 type wireguard\nwg addconf wg0 /dev/fd/63\n");
    check(&[steps[0].undo().unwrap()], "ip link delete dev wg0\n");
}

#[test]
fn no_routes() {
    check(
        &up("Address = 10.0.0.1/24\nTable = off", "0.0.0.0/0, 10.1.0.0/16", &system())[2..],
        "ip -4 address add 10.0.0.1/24 dev wg0\nip link set mtu 1420 up dev wg0\n",
    );
}

#[test]
fn all_routes_in_one_table() {
    check(
        &up("Address = 10.0.0.1/24\nTable = 123", "0.0.0.0/0, 10.0.0.0/24, ::/0", &system())[3..],
        "\
ip link set mtu 1420 up dev wg0
ip -4 route add 10.0.0.0/24 dev wg0 table 123
ip -6 route add ::/0 dev wg0 table 123
ip -4 route add 0.0.0.0/0 dev wg0 table 123
",
    );
}

#[test]
fn automatic_said_in_so_many_words() {
    let said = up("Table = auto", "0.0.0.0/0, 10.0.0.0/24", &system());
    assert_eq!(said, up("", "0.0.0.0/0, 10.0.0.0/24", &system()));
}

#[test]
fn mtu_from_the_narrowest_way() {
    for (endpoints, default, expected) in [
        (&[1400, 1300, 1500][..], Some(1200), 1220),
        (&[], Some(9000), 8920),
        (&[], None, 1420),
        (&[0], Some(9000), 1420),
    ] {
        let system = System { endpoint_mtus: endpoints.to_vec(), default_mtu: default, ..system() };
        assert!(up("", "", &system).contains(&Step::SetUp(expected)), "{endpoints:?} {default:?}");
    }
    assert!(up("MTU = 1234", "", &system()).contains(&Step::SetUp(1234)));
}

const DNS: &str = "DNS = 192.0.2.1, corp.example, 2001:db8::1\nDNS = lan";

#[test]
fn name_servers_by_resolvconf() {
    let system = System { dns: Manager::Resolvconf("tun.".to_owned()), ..system() };
    let steps = up(DNS, "", &system);
    check(
        &steps[2..],
        "\
ip link set mtu 1420 up dev wg0
resolvconf -a tun.wg0 -m 0 -x
    nameserver 192.0.2.1
    nameserver 2001:db8::1
    search corp.example lan
",
    );
    check(&[steps[3].undo().unwrap()], "resolvconf -d tun.wg0 -f\n");
    assert_eq!(up("DNS = only.a.domain", "", &system).len(), 3);
}

#[test]
fn name_servers_by_systemd_resolved() {
    let steps = up(DNS, "", &System { dns: Manager::Resolvectl, ..system() });
    check(
        &steps[3..],
        "resolvectl dns wg0 192.0.2.1 2001:db8::1\nresolvectl domain wg0 ~. corp.example lan\n",
    );
    check(&[steps[3].undo().unwrap()], "resolvectl revert wg0\n");
}

#[test]
fn name_servers_by_the_file() {
    let steps = up("DNS = 192.0.2.1", "", &System { dns: Manager::File, ..system() });
    check(
        &steps[3..],
        "\
ln /etc/resolv.conf /etc/resolv.conf.adit-wg0
    # Made by adit for wg0
    nameserver 192.0.2.1
",
    );
    check(&[steps[3].undo().unwrap()], "mv /etc/resolv.conf.adit-wg0 /etc/resolv.conf\n");
}

#[test]
fn commands_in_their_places() {
    let interface = "PreUp = a %i\nPreUp = b\nPostUp = c %i %i #\nPreDown = d\nPostDown = e %i\nSaveConfig = true\n\
        Address = 10.0.0.1/24";
    check(
        &up(interface, "10.1.0.0/16", &system()),
        "\
adit wg0
a wg0
b
wg addconf wg0 /dev/fd/63
ip -4 address add 10.0.0.1/24 dev wg0
ip link set mtu 1420 up dev wg0
ip -4 route add 10.1.0.0/16 dev wg0
c wg0 wg0 #
",
    );
    let (config, device) = configuration(interface, "10.1.0.0/16");
    let remains = Remains { link: true, ..Remains::default() };
    let steps = down("wg0", &config, Some(&device), &system(), &remains);
    check(&steps, "d\nwg showconf wg0\nip link delete dev wg0\ne wg0\n");
}

/// The rules of a full tunnel, the later ones asked first.
fn rules(table: u32, priority: u32) -> [Rule; 2] {
    [
        Rule { priority: Some(priority - 1), ..Rule::main(false) },
        Rule { priority: Some(priority), ..Rule::tunnel(false, table) },
    ]
}

fn full() -> System {
    let rules = [rules(51821, 97), rules(51820, 99)].concat();
    System { rules, used_tables: BTreeSet::from([51820, 51821]), ..system() }
}

#[test]
fn down_takes_only_its_own_rules() {
    let (config, mut device) = configuration("", "0.0.0.0/0");
    device.fwmark = 51820;
    let steps = super::rules(Some(&device), &full(), None);
    assert_eq!(steps, rules(51820, 99));
    device.fwmark = 5;
    let routed = System { own_tables: BTreeSet::from([51820]), ..full() };
    assert_eq!(super::rules(Some(&device), &routed, None), steps);
    let (off, _) = configuration("Table = off", "0.0.0.0/0");
    for (config, allowed_ip) in [(&off, "0.0.0.0/0"), (&config, "10.0.0.0/8")] {
        device.peers[0].allowed_ips = vec![allowed_ip.parse().unwrap()];
        let steps = remove("wg0", config, Some(&device), &full(), &Remains::default());
        assert_eq!(steps, []);
    }
}

#[test]
fn down_takes_what_a_dead_daemon_has_left() {
    let (config, _) = configuration(DNS, "0.0.0.0/0");
    let mut system = full();
    system.used_tables.remove(&51821);
    system.dns = Manager::File;
    let remains = Remains {
        link: false,
        table: Some(51821),
        src_valid_mark: true,
        resolv_conf: true,
        nft: "table ip filter\ntable ip wg-quick-wg0\ntable ip wg-quick-wg00\n".to_owned(),
        iptables: [
            "# Generated\n*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j X\n\
            -A PREROUTING -m comment --comment \"wg-quick(8) rule for wg0\" -j DROP\nCOMMIT\n"
                .to_owned(),
            "*raw\n-A PREROUTING -m comment --comment \"wg-quick(8) rule for wg00\" -j DROP\nCOMMIT\n"
                .to_owned(),
        ],
    };
    check(
        &down("wg0", &config, None, &system, &remains),
        "\
ip -4 rule delete table 51821
mv /etc/resolv.conf.adit-wg0 /etc/resolv.conf
nft -f /dev/fd/63
    delete table ip wg-quick-wg0
iptables-restore -n
    *raw
    -D PREROUTING -m comment --comment \"wg-quick(8) rule for wg0\" -j DROP
    COMMIT
sysctl -q net.ipv4.conf.all.src_valid_mark=0
",
    );
}

#[test]
fn the_last_tunnel_takes_every_rule_along() {
    let (_, mut device) = configuration("", "0.0.0.0/0");
    device.fwmark = 51820;
    let mut system = full();
    system.rules.retain(|rule| rule.table != 51821);
    assert_eq!(super::rules(Some(&device), &system, None).len(), 3);
}

#[test]
fn rules_of_another_kind_stay_whatever_their_table() {
    let (_, mut device) = configuration("", "0.0.0.0/0");
    for table in [255, 153] {
        device.fwmark = table;
        let local = Rule { priority: Some(0), not_fwmark: None, ..Rule::tunnel(false, table) };
        let system = System { rules: [vec![local], rules(table, 99).to_vec()].concat(), ..system() };
        assert_eq!(super::rules(Some(&device), &system, None), rules(table, 99));
    }
}

#[test]
fn what_is_gone_takes_only_the_rules_that_were_noted() {
    let system = System { used_tables: BTreeSet::new(), ..full() };
    assert_eq!(super::rules(None, &system, None), []);
    assert_eq!(super::rules(None, &system, Some(51820)), rules(51820, 99)[1..]);
    // A tunnel with the same mark has come since.
    assert_eq!(super::rules(None, &full(), Some(51820)), []);
    let last = System { rules: rules(51820, 99).to_vec(), ..system };
    assert_eq!(super::rules(None, &last, Some(51820)), rules(51820, 99));
}

/// Somebody killed `down` after it had taken the main rule away.
#[test]
fn a_second_down_leaves_the_main_rule_of_another() {
    let (_, mut device) = configuration("", "0.0.0.0/0");
    device.fwmark = 51820;
    let mut system = full();
    system.rules.retain(|rule| *rule != rules(51820, 99)[0]);
    assert_eq!(super::rules(Some(&device), &system, None), rules(51820, 99)[1..]);
}

#[test]
fn a_table_that_rules_still_lead_to_is_not_free() {
    let system = System { rules: rules(51820, 99).to_vec(), ..system() };
    assert!(up("", "0.0.0.0/0", &system).contains(&Step::SetFwmark(51821)));
}

#[test]
fn an_address_that_nothing_is_connected_to() {
    for address in ["10.0.0.1/0", "10.0.0.1/4", "10.1.0.1/32"] {
        let steps = up(&format!("Address = {address}"), "10.1.0.0/16", &system());
        assert_eq!(text(&steps[4..]), "ip -4 route add 10.1.0.0/16 dev wg0\n", "{address}");
    }
}
