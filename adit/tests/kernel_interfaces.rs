//! Interfaces of the Linux kernel's own WireGuard, shown and set over generic netlink, beside Debian's `wg`.
//!
//! The tests run in the virtual machine: this program is put there, and told the name of the test.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::Command;
use std::{env, io};

use adit_control::netlink::{
    FAMILY, GET_DEVICE, Reader, SET_DEVICE, VERSION, explain, get_request, write_set,
};
use adit_control::{AllowedIpChange, Get, GetPeer, Prefix, PublicKey, Set, SetPeer, key};
use adit_crypto::Secret;
use adit_net::netlink::{Config, Generic, Link, if_index};
use lab::wg::{Peer, parse_dump};

/// Set in the virtual machine.
const THERE: &str = "ADIT_TEST_MACHINE";

/// Runs the test of this name in the virtual machine.
fn in_the_machine(name: &str, test: fn()) {
    if env::var_os(THERE).is_some() {
        return test();
    }
    if lab::require(lab::vm::NEEDS).is_err() {
        return;
    }
    let this = env::current_exe().unwrap();
    let Ok(vm) = lab::Vm::shared_with(&[&this]) else { return };
    let program = this.file_name().unwrap().to_str().unwrap();
    let said = vm.ok(&format!("{THERE}=1 RUST_BACKTRACE=1 {program} --exact {name} --nocapture 2>&1"));
    assert!(said.contains("1 passed"), "no test {name}:\n{said}");
}

macro_rules! in_the_machine {
    ($($name:ident),* $(,)?) => { $(
        #[test]
        fn $name() {
            in_the_machine(stringify!($name), there::$name);
        }
    )* };
}

in_the_machine!(
    all_that_can_be_said,
    two_thousand_peers,
    five_thousand_allowed_ips,
    values_are_taken_away,
    what_replaces_does_so_once,
    a_single_allowed_ip,
    an_endpoint_with_a_scope,
    refusals,
    the_interfaces_and_no_others,
    changed_while_it_is_told,
);

/// An interface for one test, and the kernel to ask.
struct Interface {
    config: Config,
    kernel: Generic,
    name: &'static str,
    index: u32,
}

impl Interface {
    fn new(name: &'static str) -> Self {
        let mut config = Config::open().unwrap();
        config.add_wireguard(name).unwrap();
        let kernel = Generic::open(FAMILY, VERSION).unwrap();
        Self { config, kernel, name, index: if_index(name).unwrap() }
    }

    fn try_set(&mut self, set: &Set) -> io::Result<()> {
        set_device(&mut self.kernel, self.index, set)
    }

    #[track_caller]
    fn set(&mut self, set: &Set) {
        self.try_set(set).unwrap();
    }

    #[track_caller]
    fn set_peers(&mut self, peers: impl IntoIterator<Item = SetPeer>) {
        self.set(&Set { peers: peers.into_iter().collect(), ..Set::default() });
    }

    #[track_caller]
    fn get(&mut self) -> Get {
        get_device(&mut self.kernel, self.index).unwrap()
    }

    /// The state, after a look at whether `wg` sees the same.
    #[track_caller]
    fn checked(&mut self) -> Get {
        let get = self.get();
        let dump = parse_dump(&wg(&["show", self.name, "dump"]));
        let secret = |secret: Option<&Secret<32>>| {
            secret.map(|secret| String::from_utf8(key::encode_base64(secret.expose()).to_vec()).unwrap())
        };
        assert_eq!(dump.private_key, secret(get.private_key.as_ref()));
        assert_eq!((dump.listen_port, dump.fwmark), (get.listen_port, get.fwmark));
        let peer = |peer: &GetPeer| Peer {
            public_key: peer.public_key.to_base64(),
            preshared_key: secret(peer.preshared_key.as_ref()),
            endpoint: peer.endpoint,
            allowed_ips: peer.allowed_ips.iter().map(Prefix::to_string).collect(),
            latest_handshake: peer.last_handshake.unwrap_or_default().0,
            rx: peer.rx_bytes,
            tx: peer.tx_bytes,
            keepalive: peer.persistent_keepalive,
        };
        assert_eq!(dump.peers, get.peers.iter().map(peer).collect::<Vec<_>>());
        get
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        let deleted = self.config.delete_link(self.index);
        assert!(std::thread::panicking() || deleted.is_ok(), "{deleted:?}");
    }
}

fn set_device(kernel: &mut Generic, index: u32, set: &Set) -> io::Result<()> {
    write_set(index, set).iter().try_for_each(|message| kernel.change(SET_DEVICE, message))
}

fn get_device(kernel: &mut Generic, index: u32) -> io::Result<Get> {
    let reader = kernel.dump(GET_DEVICE, &get_request(index), Reader::message)?;
    reader.finish().map_err(io::Error::other)
}

#[track_caller]
fn wg(arguments: &[&str]) -> String {
    let output = Command::new("wg").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn public_key(n: u32) -> PublicKey {
    let mut bytes = [0x42; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PublicKey::new(bytes)
}

/// A private key as the kernel keeps it, with the bits set that every Curve25519 key has set.
fn private_key() -> Secret<32> {
    let mut bytes = [0x5a; 32];
    (bytes[0], bytes[31]) = (0x58, 0x5a & 0x7f | 0x40);
    Secret::new(bytes)
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn add(prefixes: impl IntoIterator<Item = Prefix>) -> Vec<AllowedIpChange> {
    prefixes.into_iter().map(AllowedIpChange::Add).collect()
}

fn sorted(mut prefixes: Vec<Prefix>) -> Vec<Prefix> {
    prefixes.sort();
    prefixes
}

/// The tests, as they run in the machine.
mod there {
    use super::*;

    pub fn all_that_can_be_said() {
        let mut wg0 = Interface::new("all0");
        assert_eq!(wg0.checked(), Get::default());
        let peer = SetPeer {
            preshared_key: Some(Some(Secret::new([9; 32]))),
            endpoint: Some("192.0.2.1:51820".parse().unwrap()),
            persistent_keepalive: Some(25),
            replace_allowed_ips: true,
            allowed_ips: add(["10.0.0.0/8", "0.0.0.0/0", "fd00::/8"].map(prefix)),
            ..SetPeer::new(public_key(1))
        };
        wg0.set(&Set {
            private_key: Some(Some(private_key())),
            listen_port: Some(51820),
            fwmark: Some(0xca6c),
            replace_peers: true,
            peers: vec![peer, SetPeer::new(public_key(2))],
        });
        let mut found = wg0.checked();
        found.peers[0].allowed_ips.sort();
        assert_eq!(
            found,
            Get {
                private_key: Some(private_key()),
                listen_port: 51820,
                fwmark: 0xca6c,
                peers: vec![
                    GetPeer {
                        preshared_key: Some(Secret::new([9; 32])),
                        endpoint: Some("192.0.2.1:51820".parse().unwrap()),
                        persistent_keepalive: 25,
                        allowed_ips: sorted(["10.0.0.0/8", "0.0.0.0/0", "fd00::/8"].map(prefix).to_vec()),
                        ..GetPeer::new(public_key(1))
                    },
                    GetPeer::new(public_key(2)),
                ],
            }
        );
        let configuration = wg(&["showconf", "all0"]);
        for line in ["ListenPort = 51820", "FwMark = 0xca6c", "Endpoint = 192.0.2.1:51820"] {
            assert!(configuration.contains(line), "{line}\n{configuration}");
        }
        // None of this is said of the second message, nor changed by it.
        wg0.set_peers([SetPeer::new(public_key(3))]);
        found.peers.push(GetPeer::new(public_key(3)));
        let mut now = wg0.checked();
        now.peers[0].allowed_ips.sort();
        assert_eq!(now, found);
    }

    pub fn two_thousand_peers() {
        let mut wg0 = Interface::new("many0");
        let host = |n: u32| Prefix::host(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)));
        let net =
            |n: u32| Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n) << 64)), 64);
        let section = |n: u32| SetPeer {
            preshared_key: Some(Some(Secret::new([n as u8 | 1; 32]))),
            endpoint: Some(SocketAddr::from((Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n)), 7))),
            persistent_keepalive: Some(n as u16),
            replace_allowed_ips: true,
            allowed_ips: add([host(n), net(n).unwrap()]),
            ..SetPeer::new(public_key(n))
        };
        let all = Set { replace_peers: true, peers: (0..2000).map(section).collect(), ..Set::default() };
        wg0.set(&all);
        let found = wg0.checked();
        assert_eq!(found.peers.len(), 2000);
        for (n, peer) in (0..).zip(&found.peers) {
            assert_eq!(peer.public_key, public_key(n));
            assert_eq!(sorted(peer.allowed_ips.clone()), [host(n), net(n).unwrap()]);
            assert_eq!(peer.preshared_key, Some(Secret::new([n as u8 | 1; 32])));
            assert_eq!(peer.persistent_keepalive, n as u16);
        }
        // The same again changes nothing; then every eighth goes, and the others stay.
        wg0.set(&Set { replace_peers: false, ..all });
        assert_eq!(wg0.get(), found);
        let eighths = (0..2000).filter(|n| n % 8 == 0);
        wg0.set_peers(eighths.map(|n| SetPeer { remove: true, ..section(n) }));
        let left: Vec<_> = wg0.checked().peers.iter().map(|peer| peer.public_key).collect();
        assert_eq!(left, (0..2000).filter(|n| n % 8 != 0).map(public_key).collect::<Vec<_>>());
    }

    pub fn five_thousand_allowed_ips() {
        let mut wg0 = Interface::new("wide0");
        let prefixes = |from: u32, to: u32| {
            (from..to).map(|n| match n % 2 {
                0 => Prefix::host(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))),
                _ => Prefix::host(IpAddr::V6(Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n)))),
            })
        };
        let wide = SetPeer {
            replace_allowed_ips: true,
            allowed_ips: add(prefixes(0, 5000)),
            ..SetPeer::new(public_key(2))
        };
        wg0.set_peers([SetPeer::new(public_key(1)), wide.clone(), SetPeer::new(public_key(3))]);
        let found = wg0.checked();
        assert_eq!(found.peers.iter().map(|peer| peer.allowed_ips.len()).collect::<Vec<_>>(), [0, 5000, 0]);
        assert_eq!(sorted(found.peers[1].allowed_ips.clone()), sorted(prefixes(0, 5000).collect()));
        // Replaced by the first part only, else the last part would be all that is left.
        wg0.set_peers([SetPeer { allowed_ips: add(prefixes(1000, 6000)), ..wide.clone() }]);
        let found = wg0.checked();
        assert_eq!(sorted(found.peers[1].allowed_ips.clone()), sorted(prefixes(1000, 6000).collect()));
        // No part makes a peer that is only to be updated.
        wg0.set_peers([SetPeer { public_key: public_key(4), update_only: true, ..wide }]);
        assert_eq!(wg0.checked(), found);
    }

    pub fn values_are_taken_away() {
        let mut wg0 = Interface::new("away0");
        let peer = SetPeer {
            preshared_key: Some(Some(Secret::new([9; 32]))),
            persistent_keepalive: Some(25),
            allowed_ips: add([prefix("10.0.0.0/8")]),
            ..SetPeer::new(public_key(1))
        };
        wg0.set(&Set {
            private_key: Some(Some(private_key())),
            fwmark: Some(1),
            peers: vec![peer, SetPeer::new(public_key(2))],
            ..Set::default()
        });
        let nothing = SetPeer {
            preshared_key: Some(None),
            persistent_keepalive: Some(0),
            replace_allowed_ips: true,
            ..SetPeer::new(public_key(1))
        };
        wg0.set(&Set { private_key: Some(None), fwmark: Some(0), peers: vec![nothing], ..Set::default() });
        let peers = vec![GetPeer::new(public_key(1)), GetPeer::new(public_key(2))];
        assert_eq!(wg0.checked(), Get { peers, ..Get::default() });
        wg0.set_peers([SetPeer { remove: true, ..SetPeer::new(public_key(1)) }]);
        assert_eq!(wg0.checked().peers, [GetPeer::new(public_key(2))]);
        // To remove what is not there is no error, nor to update it.
        wg0.set_peers([
            SetPeer { remove: true, ..SetPeer::new(public_key(1)) },
            SetPeer { update_only: true, persistent_keepalive: Some(5), ..SetPeer::new(public_key(3)) },
        ]);
        assert_eq!(wg0.checked().peers, [GetPeer::new(public_key(2))]);
        wg0.set(&Set { replace_peers: true, ..Set::default() });
        assert_eq!(wg0.checked(), Get::default());
    }

    pub fn what_replaces_does_so_once() {
        let mut wg0 = Interface::new("sync0");
        wg0.set_peers((0..300).map(|n| SetPeer::new(public_key(n))));
        let keys = |get: &Get| get.peers.iter().map(|peer| peer.public_key).collect::<BTreeSet<_>>();
        let sections = (250..850).map(|n| SetPeer::new(public_key(n))).collect();
        wg0.set(&Set { replace_peers: true, peers: sections, ..Set::default() });
        assert_eq!(keys(&wg0.checked()), (250..850).map(public_key).collect());
        // An allowed IP moves to whoever is given it last.
        let with = |n| SetPeer { allowed_ips: add([prefix("10.0.0.0/8")]), ..SetPeer::new(public_key(n)) };
        wg0.set_peers([with(500), with(501)]);
        let owners: Vec<_> =
            wg0.checked().peers.into_iter().filter(|peer| !peer.allowed_ips.is_empty()).collect();
        assert_eq!(owners.iter().map(|peer| peer.public_key).collect::<Vec<_>>(), [public_key(501)]);
        // A section that removes before one that configures makes a fresh peer.
        let gone = SetPeer { remove: true, ..SetPeer::new(public_key(501)) };
        wg0.set_peers([gone, SetPeer::new(public_key(501))]);
        assert!(wg0.checked().peers.iter().all(|peer| peer.allowed_ips.is_empty()));
    }

    pub fn a_single_allowed_ip() {
        let mut wg0 = Interface::new("one0");
        let [stays, goes] = ["10.0.0.0/8", "fd00::/8"].map(prefix);
        wg0.set_peers([SetPeer { allowed_ips: add([stays, goes]), ..SetPeer::new(public_key(1)) }]);
        let allowed_ips = vec![AllowedIpChange::Remove(goes)];
        let peers = vec![SetPeer { allowed_ips, ..SetPeer::new(public_key(1)) }];
        let set = Set { peers, ..Set::default() };
        match wg0.try_set(&set) {
            Ok(()) => assert_eq!(wg0.checked().peers[0].allowed_ips, [stays]),
            Err(error) => {
                let errno = error.raw_os_error().unwrap();
                assert!(explain(&set, errno).is_some(), "{error}");
                assert_eq!(sorted(wg0.checked().peers[0].allowed_ips.clone()), [stays, goes]);
            }
        }
    }

    pub fn an_endpoint_with_a_scope() {
        let mut wg0 = Interface::new("scope0");
        let ip: Ipv6Addr = "fe80::1".parse().unwrap();
        let endpoint = SocketAddr::from(SocketAddrV6::new(ip, 51820, 0, if_index("eth0").unwrap()));
        wg0.set_peers([SetPeer { endpoint: Some(endpoint), ..SetPeer::new(public_key(1)) }]);
        assert_eq!(wg0.get().peers[0].endpoint, Some(endpoint));
        let shown = wg(&["show", "scope0", "endpoints"]);
        assert_eq!(shown, format!("{}\t[fe80::1%eth0]:51820\n", public_key(1)));
    }

    pub fn refusals() {
        let mut wg0 = Interface::new("no0");
        let errno = |error: io::Error| error.raw_os_error();
        let (lo, none) = (if_index("lo").unwrap(), u32::MAX >> 1);
        for (index, expected) in [(lo, Some(nix::libc::EOPNOTSUPP)), (none, Some(nix::libc::ENODEV))] {
            assert_eq!(errno(get_device(&mut wg0.kernel, index).unwrap_err()), expected);
            assert_eq!(errno(set_device(&mut wg0.kernel, index, &Set::default()).unwrap_err()), expected);
        }
        assert_eq!(errno(wg0.config.add_wireguard("no0").unwrap_err()), Some(nix::libc::EEXIST));
        let mut taken = Interface::new("no1");
        for interface in [&mut wg0, &mut taken] {
            interface.config.set_up(interface.index, true).unwrap();
        }
        wg0.set(&Set { listen_port: Some(4000), ..Set::default() });
        let again = taken.try_set(&Set { listen_port: Some(4000), ..Set::default() });
        assert_eq!(errno(again.unwrap_err()), Some(nix::libc::EADDRINUSE));
        assert_eq!(wg0.checked().listen_port, 4000, "errors leave the socket usable");
    }

    pub fn the_interfaces_and_no_others() {
        let names = |config: &mut Config| {
            config.wireguards().unwrap().into_iter().map(|link| link.name).collect::<Vec<_>>()
        };
        let mut zz = Interface::new("zz0");
        let aa = Interface::new("aa0");
        let found = zz.config.wireguards().unwrap();
        let link = |interface: &Interface| Link { index: interface.index, name: interface.name.to_owned() };
        assert_eq!(found, [link(&zz), link(&aa)]);
        assert_eq!(wg(&["show", "interfaces"]), "zz0 aa0\n");
        drop(aa);
        assert_eq!(names(&mut zz.config), ["zz0"]);
    }

    /// A dump of several messages is of one moment: it begins anew after a change of what it has told already.
    pub fn changed_while_it_is_told() {
        let mut wg0 = Interface::new("busy0");
        wg0.set_peers((0..1000).map(|n| SetPeer::new(public_key(n))));
        let mut other = Generic::open(FAMILY, VERSION).unwrap();
        let index = wg0.index;
        let mut changes = [5, 6].into_iter();
        let reader = wg0.kernel.dump(GET_DEVICE, &get_request(index), |reader: &mut Reader, message| {
            // The kernel is a message or two ahead of what is read.
            if let Some(seconds) = changes.next() {
                let peer = SetPeer { persistent_keepalive: Some(seconds), ..SetPeer::new(public_key(0)) };
                let set = Set { peers: vec![peer], ..Set::default() };
                set_device(&mut other, index, &set).unwrap();
            }
            reader.message(message);
        });
        let get = reader.unwrap().finish().unwrap();
        assert_eq!(
            get.peers.iter().map(|peer| peer.public_key).collect::<Vec<_>>(),
            (0..1000).map(public_key).collect::<Vec<_>>()
        );
        assert_eq!(get.peers[0].persistent_keepalive, 6);
    }
}
