//! Bugs that others have published, as far as they show from outside: each test says whose and which. Those that show in
//! one crate alone are tested there, in the same way.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::common::adit;
use crate::common::stranger::{engine_and_stranger, now};
use adit_net::udp::{BindOptions, bind};
use lab::pair::CABLE;
use lab::wg::Keypair;
use lab::{Outer, Pair, needs, seconds, within};

/// GotaTun 0.7.2: a datagram of 10,000 bytes, or several that the kernel had joined, ended receiving.
#[test]
fn datagrams_and_trains_of_any_length_are_survived() {
    needs!("netns", "tun", "wg");
    let (engine, ns, mut stranger) = engine_and_stranger();
    for length in [10_000, 65_507] {
        stranger.socket.send(&vec![4; length]).unwrap();
    }
    let to: SocketAddr = ([127, 0, 0, 1], 10_000).into();
    let sockets = ns.enter(|| bind(0, &BindOptions::default())).unwrap();
    for (count, stride) in [(40, 1600), (6, 10_000), (60, 32)] {
        let mut train = vec![0; count * stride];
        train.chunks_mut(stride).for_each(|message| message[0] = 4);
        let report = sockets.sockets[0].for_addr(&to).unwrap().send(&to, None, 0, &train, stride);
        assert_eq!(report.packets, count, "{report:?}");
    }
    let initiation = stranger.initiation(now());
    assert!(stranger.is_answered(&initiation), "{}", engine.log());
}

/// GotaTun 0.7.2, and boringtun, NepTUN and VPP still: one peer has a network, another a part of it, and the first can send
/// from there, since only its own prefixes are looked at. Also after the part has changed hands.
#[test]
fn a_peer_cannot_send_from_a_part_of_its_network_that_is_anothers() {
    needs!("netns", "tun", "wg", "ping");
    let pair = Pair::new(&adit(), &adit());
    pair.b_knows_a(Outer::V4);
    pair.b.reaches(&pair.a);
    let inbox = pair.a.ns.enter(|| UdpSocket::bind((pair.a.inner4(), 1111))).unwrap();
    inbox.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    let outbox = pair.b.ns.enter(|| UdpSocket::bind((pair.b.inner4(), 0))).unwrap();
    let delivered = || {
        outbox.send_to(b"X", (pair.a.inner4(), 1111)).unwrap();
        inbox.recv(&mut [0; 8]).is_ok()
    };
    let other = Keypair::generate().public;
    pair.a.set_peer(&pair.b, "allowed-ips 192.168.0.0/16");
    assert!(delivered());
    pair.a.engine.set(&format!("peer {other} allowed-ips 192.168.241.0/24"));
    assert!(!delivered(), "the longer prefix is another peer's");
    pair.a.set_peer(&pair.b, "allowed-ips 192.168.0.0/16,192.168.241.0/24");
    assert!(delivered(), "it has moved here");
    pair.a.engine.set(&format!("peer {other} allowed-ips 192.168.241.0/24"));
    assert!(!delivered(), "and away again");
    pair.a.engine.set(&format!("peer {other} remove"));
    assert!(delivered(), "the shorter prefix is left");
}

/// wireguard-go 8246d25 and 6228659, and GotaTun still: an error of the socket that passes ended receiving for good.
#[test]
fn errors_of_the_socket_that_pass_do_not_end_receiving() {
    needs!("netns", "tun", "wg", "ping", "nft");
    let pair = Pair::new(&adit(), &adit());
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let (ours, theirs) = (&pair.a.ns, &pair.b.ns);
    let ping = || ours.ping(&format!("-c 3 -i 0.05 {}", pair.b.inner4())).success();
    // ICMP port unreachable; a network that is down, and gone; a firewall that refuses.
    theirs.ip(&format!("link set {} down", pair.b.interface()));
    assert!(!ping());
    theirs.ip(&format!("link set {} up", pair.b.interface()));
    assert!(ours.reaches(&pair.b.inner4(), seconds(20)), "{}", pair.a.engine.log());
    ours.ip(&format!("link set {CABLE} down"));
    assert!(!ping());
    ours.ip(&format!("link set {CABLE} up"));
    assert!(ours.reaches(&pair.b.inner4(), seconds(30)), "{}", pair.a.engine.log());
    ours.ok("nft add table inet lab");
    ours.cmd("nft").arg("add chain inet lab out { type filter hook output priority 0; }").ok();
    ours.ok("nft add rule inet lab out udp dport 20000 drop");
    assert!(!ping());
    ours.ok("nft delete table inet lab");
    assert!(ours.reaches(&pair.b.inner4(), seconds(30)), "{}", pair.a.engine.log());
}

/// firezone/boringtun pull request 126, seen from the other side: what a peer has sent is remembered when it is removed.
#[test]
fn a_replay_is_refused_after_the_peer_was_removed_and_added() {
    needs!("netns", "tun", "wg");
    let (engine, _ns, mut stranger) = engine_and_stranger();
    let (early, late) = (stranger.initiation(now()), stranger.initiation(now() + seconds(2)));
    assert!(stranger.is_answered(&early), "{}", engine.log());
    let key = stranger.public_key();
    engine.set(&format!("peer {key} remove"));
    assert!(!stranger.is_answered(&early), "there is no such peer");
    engine.set(&format!("peer {key}"));
    assert!(!stranger.is_answered(&early), "a replay");
    assert!(stranger.is_answered(&late), "{}", engine.log());
}

/// CVE-2021-46873: an initiation from a clock that ran ahead makes all later ones look like replays. That is the protocol;
/// the administrator has to be told.
#[test]
fn a_peer_whose_clock_ran_ahead_is_reported() {
    needs!("netns", "tun", "wg");
    let (engine, _ns, mut stranger) = engine_and_stranger();
    let in_a_year = now() + seconds(365 * 86_400);
    let initiation = stranger.initiation(in_a_year);
    assert!(stranger.is_answered(&initiation), "{}", engine.log());
    assert_eq!(engine.log(), "", "as yet nothing is wrong");
    let initiation = stranger.initiation(now());
    assert!(!stranger.is_answered(&initiation));
    engine.expect_log("its clock was wrong", seconds(20));
    for _ in 0..10 {
        let initiation = stranger.initiation(now());
        stranger.socket.send(&initiation).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    // Two, if a minute has ended meanwhile.
    assert!(engine.log().matches("its clock was wrong").count() <= 2, "{}", engine.log());
}

/// CVE-2024-26950 and CVE-2024-26861: peers were removed while they were being listed, and counters read while they moved.
#[test]
fn peers_come_and_go_while_they_are_listed_and_in_use() {
    needs!("netns", "tun", "wg", "ping");
    let mut pair = Pair::new(&adit(), &adit());
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut uapi = pair.a.engine.uapi();
            while !ended.load(Relaxed) {
                assert!(uapi.get().all("public_key").len() <= 1);
            }
        });
        scope.spawn(|| {
            while !ended.load(Relaxed) {
                pair.b.ns.ping(&format!("-c 10 -i 0.01 {}", pair.a.inner4()));
            }
        });
        let allowed = format!("allowed-ips {}/32,{}/128", pair.b.inner4(), pair.b.inner6());
        for _ in 0..50 {
            pair.a.engine.set(&format!("peer {} remove", pair.b.keys.public));
            pair.a.set_peer(&pair.b, &format!("{allowed} endpoint {}", pair.b.endpoint(Outer::V4)));
            thread::sleep(Duration::from_millis(20));
        }
        ended.store(true, Relaxed);
    });
    assert!(pair.a.engine.exited().is_none(), "{}", pair.a.engine.log());
    assert!(within(seconds(30), || pair.a.ns.ping(&format!("-c 1 {}", pair.b.inner4())).success()));
}
