//! The netlink monitors, lookups and changes, each in a network namespace of its own.

mod common;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use adit_net::netlink::{
    Config, Entry, Generic, Link, LinkEvent, LinkMonitor, Route, RouteLookup, RouteMonitor, Rule, if_index,
    if_index_in,
};
use adit_net::netns;
use adit_net::poll::{Events, Interest, Poller};
use common::isolated;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn is_readable(fd: impl AsFd, timeout: Duration) -> bool {
    let (poller, mut events) = (Poller::new().unwrap(), Events::with_capacity(1));
    poller.add(fd, 0, Interest::Read).unwrap();
    poller.wait(&mut events, Some(timeout)).unwrap();
    !events.is_empty()
}

/// A pair of interfaces called `left` (here) and `right` (also here); returns the index of `left`.
fn add_pair(config: &mut Config) -> u32 {
    config.add_veth("left", "right", netns::current().unwrap()).unwrap();
    if_index("left").unwrap()
}

/// Collects events until `last` comes.
fn events_until(monitor: &mut LinkMonitor, last: &LinkEvent) -> Vec<LinkEvent> {
    let mut events = Vec::new();
    while !events.contains(last) {
        assert!(is_readable(&*monitor, Duration::from_secs(5)), "{events:?} without {last:?}");
        events.extend(monitor.poll().unwrap());
    }
    events
}

#[test]
fn the_state_at_start_is_that_of_the_interface() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        let monitor = LinkMonitor::open(None, left).unwrap();
        assert_eq!(
            (monitor.state().name.as_str(), monitor.state().up, monitor.state().mtu),
            ("left", false, 1500)
        );
        let loopback = LinkMonitor::open(None, network.loopback).unwrap();
        assert!(loopback.state().up);
    });
}

#[test]
fn every_change_is_told_once() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        let mut monitor = LinkMonitor::open(None, left).unwrap();
        network.config.set_mtu(left, 1420).unwrap();
        assert_eq!(events_until(&mut monitor, &LinkEvent::Mtu(1420)), [LinkEvent::Mtu(1420)]);
        network.config.set_up(left, true).unwrap();
        assert_eq!(events_until(&mut monitor, &LinkEvent::Up), [LinkEvent::Up]);
        network.config.set_up(left, false).unwrap();
        assert_eq!(events_until(&mut monitor, &LinkEvent::Down), [LinkEvent::Down]);
        network.config.rename(left, "wg0").unwrap();
        let renamed = LinkEvent::Renamed("wg0".to_owned());
        assert_eq!(events_until(&mut monitor, &renamed), [renamed]);
        assert_eq!(
            (monitor.state().name.as_str(), monitor.state().up, monitor.state().mtu),
            ("wg0", false, 1420)
        );
    });
}

#[test]
fn other_interfaces_are_passed_over() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        let mut monitor = LinkMonitor::open(None, left).unwrap();
        let right = if_index("right").unwrap();
        network.config.set_mtu(right, 1300).unwrap();
        network.config.set_up(right, true).unwrap();
        assert!(is_readable(&monitor, Duration::from_secs(5)));
        assert_eq!(monitor.poll().unwrap(), []);
    });
}

#[test]
fn a_deleted_interface_is_gone() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        let mut monitor = LinkMonitor::open(None, left).unwrap();
        network.config.delete_link(left).unwrap();
        assert_eq!(events_until(&mut monitor, &LinkEvent::Gone).last(), Some(&LinkEvent::Gone));
        assert_eq!(LinkMonitor::open(None, left).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    });
}

#[test]
fn an_interface_is_followed_into_another_namespace() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        let mut here = LinkMonitor::open(None, left).unwrap();
        let away = netns::create().unwrap();
        network.config.move_to(left, &away).unwrap();
        assert_eq!(events_until(&mut here, &LinkEvent::Gone).last(), Some(&LinkEvent::Gone));

        let index = netns::run_in(&away, || if_index("left")).unwrap().unwrap();
        assert_eq!(if_index_in(away.as_fd(), "left").unwrap(), index);
        assert_eq!(if_index_in(away.as_fd(), "right").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        let mut there = LinkMonitor::open(Some(away.as_fd()), index).unwrap();
        assert_eq!(there.state().name, "left");
        netns::run_in(&away, || Config::open().unwrap().set_mtu(index, 1280).unwrap()).unwrap();
        assert_eq!(events_until(&mut there, &LinkEvent::Mtu(1280)), [LinkEvent::Mtu(1280)]);
        assert!(if_index("left").is_err(), "the test itself stayed where it was");
    });
}

#[test]
fn an_overrun_monitor_still_learns_the_truth() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        let mut monitor = LinkMonitor::open(None, left).unwrap();
        let mut routes = RouteMonitor::open().unwrap();
        // Each message takes more than 1 KiB of a receive buffer of some 200 KiB.
        for round in 0..3_000 {
            network.config.set_mtu(left, 1000 + round % 2).unwrap();
        }
        network.config.set_mtu(left, 1234).unwrap();
        events_until(&mut monitor, &LinkEvent::Mtu(1234));
        assert_eq!(monitor.state().mtu, 1234);
        assert!(routes.drain().unwrap());
        assert!(!routes.drain().unwrap());
    });
}

#[test]
fn routes_addresses_and_links_are_changes_and_silence_is_none() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        let mut monitor = RouteMonitor::open().unwrap();
        let mut changed = |what: &str| {
            assert!(is_readable(&monitor, Duration::from_secs(5)), "{what}");
            assert!(monitor.drain().unwrap(), "{what}");
        };
        network.config.set_up(left, true).unwrap();
        changed("link");
        network.config.add_address(left, ip("192.0.2.1"), 24).unwrap();
        changed("IPv4 address");
        network.config.add_address(left, ip("2001:db8::1"), 64).unwrap();
        changed("IPv6 address");
        network.config.set_up(if_index("right").unwrap(), true).unwrap();
        changed("other link");
        network.config.add_route(left, ip("198.51.100.0"), 24, None).unwrap();
        changed("IPv4 route");
        network.config.delete_route(left, ip("198.51.100.0"), 24, None).unwrap();
        changed("IPv4 route gone");
    });
    isolated(|_| {
        let mut monitor = RouteMonitor::open().unwrap();
        assert!(!monitor.drain().unwrap());
    });
}

#[test]
fn the_way_follows_the_routes() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        let right = if_index("right").unwrap();
        for link in [left, right] {
            network.config.set_up(link, true).unwrap();
        }
        network.config.add_address(left, ip("192.0.2.1"), 24).unwrap();
        network.config.add_address(right, ip("198.51.100.1"), 24).unwrap();
        let mut lookup = RouteLookup::open().unwrap();
        let by = |ifindex, source, gateway: Option<&str>| {
            Some(Route { ifindex, source: Some(ip(source)), gateway: gateway.map(ip), mtu: None })
        };

        assert_eq!(lookup.route(ip("192.0.2.9"), None, 0).unwrap(), by(left, "192.0.2.1", None));
        assert_eq!(lookup.route(ip("203.0.113.1"), None, 0).unwrap(), None);
        network.config.add_route(left, ip("203.0.113.0"), 24, Some(ip("192.0.2.9"))).unwrap();
        assert_eq!(
            lookup.route(ip("203.0.113.1"), None, 0).unwrap(),
            by(left, "192.0.2.1", Some("192.0.2.9"))
        );
        // A longer prefix by the other interface is the better way.
        network.config.add_route(right, ip("203.0.113.1"), 32, Some(ip("198.51.100.9"))).unwrap();
        assert_eq!(
            lookup.route(ip("203.0.113.1"), None, 0).unwrap(),
            by(right, "198.51.100.1", Some("198.51.100.9"))
        );
        let pinned = lookup.route(ip("203.0.113.1"), Some(ip("192.0.2.1")), 0).unwrap().unwrap();
        assert_eq!((pinned.ifindex, pinned.source), (right, Some(ip("192.0.2.1"))));
        assert_eq!(
            lookup.route(ip("203.0.113.1"), Some(ip("192.0.2.77")), 0).unwrap(),
            None,
            "not our address"
        );
    });
}

#[test]
fn the_way_of_ipv6() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        network.config.set_up(left, true).unwrap();
        network.config.set_up(if_index("right").unwrap(), true).unwrap();
        network.config.add_address(left, ip("2001:db8::1"), 64).unwrap();
        let mut lookup = RouteLookup::open().unwrap();
        let found = (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            lookup.route(ip("2001:db8::9"), None, 0).unwrap()
        });
        let found = found.expect("a route once the link has its carrier");
        assert_eq!((found.ifindex, found.source), (left, Some(ip("2001:db8::1"))));
        assert_eq!(lookup.route(ip("2001:db8:1::9"), None, 0).unwrap(), None);
        network.config.add_route(left, ip("2001:db8:1::"), 48, Some(ip("2001:db8::9"))).unwrap();
        assert_eq!(lookup.route(ip("2001:db8:1::9"), None, 0).unwrap().unwrap().ifindex, left);
    });
}

#[test]
fn a_marked_packet_takes_its_own_way() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        network.config.set_up(left, true).unwrap();
        network.config.set_up(if_index("right").unwrap(), true).unwrap();
        network.config.add_address(left, ip("192.0.2.1"), 24).unwrap();
        run("ip rule add fwmark 0xca6c prohibit");
        run("ip route add 203.0.113.0/24 dev left mtu 1280");
        let mut lookup = RouteLookup::open().unwrap();
        assert_eq!(lookup.route(ip("192.0.2.9"), None, 0xca6c).unwrap(), None);
        assert!(lookup.route(ip("192.0.2.9"), None, 7).unwrap().is_some());
        assert_eq!(lookup.route(ip("203.0.113.1"), None, 0).unwrap().unwrap().mtu, Some(1280));
    });
}

fn run(command: &str) {
    let status = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

#[test]
fn addresses_come_and_go() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        network.config.add_address(left, ip("192.0.2.1"), 24).unwrap();
        network.config.add_address(left, ip("2001:db8::1"), 64).unwrap();
        let mut addresses = network.config.addresses(left).unwrap();
        addresses.sort();
        assert_eq!(addresses, [(ip("192.0.2.1"), 24), (ip("2001:db8::1"), 64)]);
        network.config.delete_address(left, ip("192.0.2.1"), 24).unwrap();
        assert_eq!(network.config.addresses(left).unwrap(), [(ip("2001:db8::1"), 64)]);
        let loopback = network.config.addresses(network.loopback).unwrap();
        assert!(
            loopback.contains(&(ip("127.0.0.1"), 8)) && loopback.contains(&(ip("::1"), 128)),
            "{loopback:?}"
        );
    });
}

#[test]
fn errors_are_the_kernels() {
    isolated(|network| {
        let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        assert_eq!(errno(network.config.set_up(999, true)), Some(libc::ENODEV));
        let left = add_pair(&mut network.config);
        network.config.add_address(left, ip("192.0.2.1"), 24).unwrap();
        assert_eq!(errno(network.config.add_address(left, ip("192.0.2.1"), 24)), Some(libc::EEXIST));
        assert_eq!(errno(network.config.set_mtu(left, 1)), Some(libc::EINVAL));
        assert_eq!(if_index("absent").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        // An error leaves the socket usable.
        network.config.set_mtu(left, 1400).unwrap();
    });
}

#[test]
fn generic_netlink_knows_its_own_family() {
    isolated(|_| {
        let (controller, get_family) = (Generic::open("nlctrl", 2), 3);
        let contains_name = |attributes: &[u8]| attributes.windows(7).any(|bytes| bytes == b"nlctrl\0");
        let told = controller.unwrap().dump(get_family, &[], |told: &mut Vec<bool>, attributes| {
            told.push(contains_name(attributes));
        });
        assert_eq!(told.unwrap().iter().filter(|told| **told).count(), 1);
    });
}

#[test]
fn errors_of_generic_netlink() {
    isolated(|_| {
        for absent in ["adit-absent", "", "a-name-longer-than-any"] {
            let error = Generic::open(absent, 1).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            assert!(error.to_string().contains("module"), "{error}");
        }
        let mut controller = Generic::open("nlctrl", 2).unwrap();
        assert_eq!(controller.change(0xff, &[]).unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        // An error leaves the socket usable.
        assert!(controller.dump(3, &[], |count: &mut u32, _| *count += 1).unwrap() > 0);
    });
}

#[test]
fn interfaces_of_the_kernels_wireguard() {
    isolated(|network| {
        add_pair(&mut network.config);
        assert_eq!(network.config.wireguards().unwrap(), []);
        match network.config.add_wireguard("wg0") {
            Ok(()) => {
                let index = if_index("wg0").unwrap();
                let wg0 = Link { index, name: "wg0".to_owned() };
                assert_eq!(network.config.wireguards().unwrap(), [wg0]);
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "a kernel without it"),
        }
    });
}

#[test]
fn rules_come_and_go() {
    isolated(|network| {
        let before = network.config.rules().unwrap();
        let marked = |v6| Rule {
            v6,
            priority: None,
            fwmark: Some(51820),
            invert: true,
            table: 51820,
            suppress_prefix_len: None,
        };
        let main =
            |v6| Rule { fwmark: None, invert: false, table: 254, suppress_prefix_len: Some(0), ..marked(v6) };
        for rule in [marked(false), main(false), marked(true), main(true)] {
            network.config.add_rule(&rule).unwrap();
        }
        let mut rules = network.config.rules().unwrap();
        rules.retain(|rule| !before.contains(rule));
        let without_priority: Vec<Rule> = rules.iter().map(|rule| Rule { priority: None, ..*rule }).collect();
        // The later is asked first.
        assert_eq!(without_priority, [main(false), marked(false), main(true), marked(true)]);
        assert_eq!(rules[0].priority.unwrap() + 1, rules[1].priority.unwrap());
        for rule in &rules {
            network.config.delete_rule(rule).unwrap();
        }
        assert_eq!(network.config.rules().unwrap(), before);
        assert_eq!(network.config.delete_rule(&rules[0]).unwrap_err().raw_os_error(), Some(2));
    });
}

#[test]
fn routes_of_other_tables_are_told() {
    isolated(|network| {
        let left = add_pair(&mut network.config);
        network.config.set_mtu(left, 1400).unwrap();
        network.config.set_up(left, true).unwrap();
        network.config.set_up(if_index("right").unwrap(), true).unwrap();
        assert_eq!(network.config.mtu(left).unwrap(), 1400);
        network.config.add_route_in(51820, left, ip("0.0.0.0"), 0).unwrap();
        network.config.add_route_in(254, left, ip("192.0.2.0"), 24).unwrap();
        network.config.add_route_in(51821, left, ip("::"), 0).unwrap();
        let routes = network.config.routes().unwrap();
        for (table, destination, prefix_len) in
            [(51820, "0.0.0.0", 0), (254, "192.0.2.0", 24), (51821, "::", 0)]
        {
            let entry = Entry {
                table,
                ifindex: Some(left),
                destination: ip(destination),
                prefix_len,
                mtu: None,
                is_kernels: false,
            };
            assert!(routes.contains(&entry), "{entry:?} in {routes:?}");
        }
    });
}
