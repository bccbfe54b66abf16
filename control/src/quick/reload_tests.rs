//! Plans for files that have changed, as the commands that they print.

use super::*;
use crate::conf::{self, Mode};
use crate::quick::dns::Manager;
use crate::quick::{Rule, read};

const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

fn configuration(interface: &str, allowed_ips: &str) -> (Config, Get) {
    let text = format!("[Interface]\n{interface}\n[Peer]\nPublicKey = {KEY}\nAllowedIPs = {allowed_ips}\n");
    let config = read(text.as_bytes(), |_| None).unwrap();
    let draft = conf::read(&config.rest, Mode::Addition).unwrap();
    (config, plan::predicted(&draft.set))
}

/// The interface as it is after it was brought up with this file.
fn present(interface: &str, allowed_ips: &str) -> Present {
    let (config, device) = configuration(interface, allowed_ips);
    let routes = plan::routes("wg0", &config, &device, &system()).into_iter().filter_map(|step| match step {
        Step::AddRoute(Route { prefix, table }) => Some((prefix, table.map_or(MAIN, |(_, number)| number))),
        _ => None,
    });
    let routes = routes.collect();
    let addresses = config.addresses.iter().map(|address| (address.ip, address.prefix_len)).collect();
    let dns = (!config.dns.is_empty()).then_some(config.dns);
    Present { device, addresses, routes, mtu: 1420, dns, is_half_reloaded: false }
}

fn system() -> System {
    System { default_mtu: Some(1500), dns: Manager::Resolvconf(String::new()), ..System::default() }
}

/// That of a tunnel that takes all IPv4 traffic.
fn full() -> System {
    let rules = vec![Rule { priority: Some(7), ..Rule::tunnel(false, 51820) }];
    System { rules, own_tables: [MAIN, 51820].into(), ..system() }
}

fn text(steps: &[Reversible]) -> String {
    let mut text = String::new();
    for Reversible { step, undo } in steps {
        text += &step.command("wg0");
        for undo in undo {
            text += &format!(" <- {}", undo.command("wg0"));
        }
        text += "\n";
    }
    text
}

#[track_caller]
fn check(before: (&str, &str), after: (&str, &str), system: &System, expected: Result<&str, NotLive>) {
    let mut present = present(before.0, before.1);
    let (config, mut wanted) = configuration(after.0, after.1);
    if has_rules(false, system) {
        present.device.fwmark = 51820;
    }
    wanted.fwmark = mark(&config, None, &present, system);
    let plan = super::plan("wg0", &config, &wanted, &present, system);
    assert_eq!(plan.map(|plan| text(&plan)), expected.map(str::to_owned));
}

#[test]
fn nothing_but_the_device_is_told_of_no_change() {
    let same = ("Address = 10.0.0.1/24, fd00::1/64", "10.1.0.0/16, 10.0.0.2/32");
    check(same, same, &system(), Ok("wg syncconf wg0 /dev/fd/63\n"));
}

#[test]
fn routes_come_and_go() {
    check(
        ("Address = 10.0.0.1/24", "10.1.0.0/16, 10.2.0.0/16"),
        ("Address = 10.0.0.1/24", "10.2.0.0/16, 10.3.0.0/16, 10.0.0.5/32"),
        &system(),
        Ok("ip -4 route add 10.3.0.0/16 dev wg0 <- ip -4 route delete 10.3.0.0/16 dev wg0\n\
            ip -4 route delete 10.1.0.0/16 dev wg0 <- ip -4 route add 10.1.0.0/16 dev wg0\n\
            wg syncconf wg0 /dev/fd/63\n"),
    );
    check(
        ("Table = 5", "10.1.0.0/16"),
        ("", "10.1.0.0/16"),
        &system(),
        Ok("ip -4 route add 10.1.0.0/16 dev wg0 <- ip -4 route delete 10.1.0.0/16 dev wg0\n\
            ip -4 route delete 10.1.0.0/16 dev wg0 table 5 <- ip -4 route add 10.1.0.0/16 dev wg0 table 5\n\
            wg syncconf wg0 /dev/fd/63\n"),
    );
}

#[test]
fn routes_of_others_stay() {
    let mut present = present("", "10.1.0.0/16");
    present.routes.push(("10.9.0.0/16".parse().unwrap(), MAIN));
    let (config, wanted) = configuration("Table = off", "10.1.0.0/16");
    let plan = super::plan("wg0", &config, &wanted, &present, &system()).unwrap();
    assert!(!text(&plan).contains("10.9.0.0/16") && text(&plan).contains("route delete 10.1.0.0/16"));
}

#[test]
fn addresses_mtu_and_name_servers() {
    check(
        ("Address = 10.0.0.1/24, 10.0.0.2/24, fd00::1/64\nDNS = 192.0.2.1", ""),
        ("Address = 10.0.0.2/24, fd00::1/64, fd00::2/64\nMTU = 1300\nDNS = 192.0.2.2", ""),
        &system(),
        Ok("ip -6 address add fd00::2/64 dev wg0 <- ip -6 address delete fd00::2/64 dev wg0\n\
            ip -4 address add 10.0.0.2/32 dev wg0 <- ip -4 address delete 10.0.0.2/32 dev wg0\n\
            ip -4 address delete 10.0.0.2/24 dev wg0 <- ip -4 address add 10.0.0.2/24 dev wg0\n\
            ip -4 address delete 10.0.0.1/24 dev wg0 <- ip -4 address add 10.0.0.1/24 dev wg0\n\
            ip -4 address add 10.0.0.2/24 dev wg0 <- ip -4 address delete 10.0.0.2/24 dev wg0\n\
            ip -4 address delete 10.0.0.2/32 dev wg0 <- ip -4 address add 10.0.0.2/32 dev wg0\n\
            ip link set mtu 1300 up dev wg0 <- ip link set mtu 1420 up dev wg0\n\
            resolvconf -a wg0 -m 0 -x <- resolvconf -a wg0 -m 0 -x\n\
            wg syncconf wg0 /dev/fd/63\n"),
    );
    check(
        ("DNS = 192.0.2.1", ""),
        ("", ""),
        &system(),
        Ok("resolvconf -d wg0 -f <- resolvconf -a wg0 -m 0 -x\nwg syncconf wg0 /dev/fd/63\n"),
    );
}

#[test]
fn an_ipv6_address_cannot_be_there_twice() {
    check(
        ("Address = 10.0.0.1/24, fd00::1/64", ""),
        ("Address = 10.0.0.1/16, fd00::1/48", ""),
        &system(),
        Ok("ip -6 address delete fd00::1/64 dev wg0 <- ip -6 address add fd00::1/64 dev wg0\n\
            ip -4 address add 10.0.0.1/16 dev wg0 <- ip -4 address delete 10.0.0.1/16 dev wg0\n\
            ip -6 address add fd00::1/48 dev wg0 <- ip -6 address delete fd00::1/48 dev wg0\n\
            ip -4 address delete 10.0.0.1/24 dev wg0 <- ip -4 address add 10.0.0.1/24 dev wg0\n\
            wg syncconf wg0 /dev/fd/63\n"),
    );
}

#[test]
fn routes_come_back_that_go_with_the_last_address() {
    check(
        ("Address = 10.0.0.1/24, fd00::1/64", "10.1.0.0/16, fd01::/64"),
        ("Address = fd00::1/64", "10.1.0.0/16, fd01::/64"),
        &system(),
        Ok("ip -4 address delete 10.0.0.1/24 dev wg0 <- ip -4 address add 10.0.0.1/24 dev wg0 \
            <- ip -4 route add 10.1.0.0/16 dev wg0\n\
            ip -4 route add 10.1.0.0/16 dev wg0 <- ip -4 route delete 10.1.0.0/16 dev wg0\n\
            wg syncconf wg0 /dev/fd/63\n"),
    );
}

#[test]
fn a_tunnel_that_takes_all_traffic_keeps_its_mark_and_its_rules() {
    let all = ("Address = 10.0.0.1/24", "0.0.0.0/0");
    check(all, all, &full(), Ok("wg syncconf wg0 /dev/fd/63\n"));
    check(
        all,
        ("Address = 10.0.0.9/24", "0.0.0.0/0, 10.5.0.0/16"),
        &full(),
        Ok("ip -4 address add 10.0.0.9/32 dev wg0 <- ip -4 address delete 10.0.0.9/32 dev wg0\n\
            ip -4 address delete 10.0.0.1/24 dev wg0 <- ip -4 address add 10.0.0.1/24 dev wg0\n\
            ip -4 address add 10.0.0.9/24 dev wg0 <- ip -4 address delete 10.0.0.9/24 dev wg0\n\
            ip -4 address delete 10.0.0.9/32 dev wg0 <- ip -4 address add 10.0.0.9/32 dev wg0\n\
            ip -4 route add 10.5.0.0/16 dev wg0 <- ip -4 route delete 10.5.0.0/16 dev wg0\n\
            nft -f /dev/fd/63 <- nft -f /dev/fd/63\n\
            wg syncconf wg0 /dev/fd/63\n"),
    );
    let older = System { firewall: Firewall::Iptables, ..full() };
    let refused = Err("its addresses are others, and rules of iptables name them");
    check(all, ("Address = 10.0.0.9/24", "0.0.0.0/0"), &older, refused);
}

#[test]
fn a_mark_that_a_command_may_have_set_stays() {
    let mut present = present("", "10.1.0.0/16");
    present.device.fwmark = 7;
    let mark = |interface: &str, file| mark(&configuration(interface, "").0, file, &present, &system());
    assert_eq!([mark("", None), mark("PostUp = wg set %i fwmark 7", None)], [0, 7]);
    assert_eq!(mark("PostUp = wg set %i fwmark 7", Some(5)), 5);
}

#[test]
fn what_takes_down_and_up() {
    let (all, some) = (("", "0.0.0.0/0"), ("", "10.0.0.0/8"));
    check(some, all, &system(), Err("it is to take all traffic from now on, and has not so far"));
    check(all, some, &full(), Err("it is to take all traffic no more"));
    check(all, ("Table = off", "0.0.0.0/0"), &full(), Err("it is to take all traffic no more"));
    let (config, mut wanted) = configuration("", "0.0.0.0/0");
    let mut present = present("", "0.0.0.0/0");
    present.device.fwmark = 51820;
    wanted.fwmark = mark(&config, Some(5), &present, &full());
    let refused = super::plan("wg0", &config, &wanted, &present, &full());
    assert_eq!(refused, Err("FwMark is another, and all traffic depends on it"));
}

/// An address that stands alone because an earlier reload was cut short; and rules are told anew whatever has moved.
#[test]
fn half_of_it_is_done() {
    let mut present = present("Address = 10.0.0.1/24", "0.0.0.0/0");
    present.device.fwmark = 51820;
    present.is_half_reloaded = true;
    let system = full();
    let (config, mut wanted) = configuration("Address = 10.0.0.9/24", "0.0.0.0/0");
    wanted.fwmark = 51820;
    let alone = ("10.0.0.9".parse().unwrap(), 32);
    let whole = ("10.0.0.9".parse().unwrap(), 24);
    for (addresses, expected) in [
        (
            vec![present.addresses[0], alone],
            &["delete 10.0.0.1/24", "add 10.0.0.9/24", "delete 10.0.0.9/32"][..],
        ),
        (vec![alone], &["add 10.0.0.9/24", "delete 10.0.0.9/32"]),
        (vec![alone, whole], &["delete 10.0.0.9/32"]),
        (vec![whole], &[]),
    ] {
        present.addresses = addresses;
        let plan = super::plan("wg0", &config, &wanted, &present, &system).unwrap();
        let commands: Vec<String> = plan.iter().map(|Reversible { step, .. }| step.command("wg0")).collect();
        let address = |what: &&str| format!("ip -4 address {what} dev wg0");
        let expected: Vec<String> =
            expected.iter().map(address).chain(["nft -f /dev/fd/63".to_owned()]).collect();
        assert_eq!(commands[..expected.len()], expected, "{commands:?}");
    }
}
