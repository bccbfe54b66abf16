//! Floods from forged addresses at full speed, short ones of every kind: what must hold however fast the machine is. What
//! a flood leaves of a transfer is measured by `bench flood`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use adit_control::PublicKey;
use adit_net::child::peak_memory;
use lab::barrage::{Barrage, Eavesdropper, KINDS, Kind, Knowledge};
use lab::flood::Stutter;
use lab::wg::Keypair;
use lab::{Engine, Netns, Outer, Pair, seconds, within};

use crate::common::adit;

/// Datagrams of a flood.
const COUNT: u64 = 30_000;
/// Those of a burst that fits into the buffers of a socket, and not into the engine's queue.
const BURST: u64 = 8_000;
/// What floods may take of memory, all together: docs/security.md adds it up.
const MEMORY: u64 = 24 << 20;
/// Floods that are no flood any more after that long: the machine is busy with something else.
const PATIENCE: Duration = seconds(120);

/// The target is `pair.a`, its peer `pair.b`; what goes elsewhere is routed back to the flooder.
struct Scene {
    pair: Pair,
    flooder: Netns,
    known: Knowledge,
}

impl Scene {
    fn new() -> Scene {
        let pair = Pair::new(&adit(), &adit());
        let flooder = Netns::new();
        pair.a.ns.connect("flood", &flooder, "flood");
        pair.a.ns.address("flood", "10.79.0.1/24");
        flooder.address("flood", "10.79.0.2/24");
        pair.a.ns.sysctl("net/ipv4/conf/all/rp_filter", "0");
        pair.a.ns.ip("route add default via 10.79.0.2");
        let ear = Eavesdropper::new(&pair.a.ns);
        pair.b_knows_a(Outer::V4);
        // It is the peer that calls.
        pair.b.set_peer(&pair.a, "persistent-keepalive 25");
        let initiation = ear.message(pair.a.port, 1, PATIENCE).expect("an initiation");
        let data = ear.message(pair.a.port, 4, PATIENCE).expect("data");
        pair.b.reaches(&pair.a);
        let known = Knowledge {
            target: SocketAddrV4::new(Ipv4Addr::new(10, 79, 0, 1), pair.a.port),
            unread: 9,
            public_key: *PublicKey::from_base64(&pair.a.keys.public).expect("a key").as_bytes(),
            initiation,
            index: u32::from_le_bytes(data[4..8].try_into().expect("four bytes")),
        };
        Scene { pair, flooder, known }
    }

    /// Returns when all of it was sent.
    fn flood(&self, kind: Kind, count: u64) {
        let barrage = Barrage::start(&self.flooder, kind.ammunition(&self.known), count);
        assert!(within(PATIENCE, || barrage.sent() >= count), "{kind:?}: {} sent", barrage.sent());
    }

    /// Packets that came back so far.
    fn answers(&self) -> u64 {
        let text = self.flooder.enter(|| fs::read_to_string("/proc/thread-self/net/dev")).expect("counters");
        let line = text.lines().find_map(|line| line.trim().strip_prefix("flood:")).expect("the cable");
        line.split_whitespace().nth(1).and_then(|packets| packets.parse().ok()).expect("a number")
    }
}

#[test]
fn every_flood_leaves_sessions_memory_and_the_log_as_they_are() {
    lab::needs!("netns", "tun", "wg", "ping");
    let scene = Scene::new();
    let Pair { a, b } = &scene.pair;
    let endpoint = a.peer(b).endpoint;
    let (peak, lines) = (peak_memory(a.engine.pid()).expect("it runs"), a.engine.log().lines().count());
    let mut kinds = KINDS.to_vec();
    kinds.retain(|kind| *kind != Kind::Unread);
    // What is answered comes last: the answers may take longer than the flood.
    kinds.sort_by_key(|kind| kind.is_answered());
    for kind in kinds {
        let before = scene.answers();
        let count = if kind == Kind::Oversized { COUNT / 20 } else { COUNT };
        scene.flood(kind, count);
        b.reaches_within(a, PATIENCE);
        let answers = scene.answers() - before;
        // The kernels have a few things of their own to say, as who has which address.
        assert!(kind.is_answered() || answers < COUNT / 100, "{kind:?} was answered {answers} times");
        assert_eq!(a.peer(b).endpoint, endpoint, "{kind:?} has moved the endpoint");
    }
    let growth = peak_memory(a.engine.pid()).expect("it runs") - peak;
    assert!(growth <= MEMORY, "it took {growth} bytes");
    let log = a.engine.log();
    assert!(log.lines().count() <= lines + 4, "{log}");
}

/// It has to show a cookie: what the engine cannot keep up with is load.
#[test]
fn a_new_peer_connects_in_a_flood() {
    lab::needs!("netns", "tun", "wg", "ping");
    let scene = Scene::new();
    let target = &scene.pair.a;
    let ns = Netns::new();
    target.ns.connect("new", &ns, "new");
    target.ns.address("new", "10.78.0.1/24");
    ns.address("new", "10.78.0.2/24");
    let (newcomer, keys) = (Engine::start(&adit(), &ns), Keypair::generate());
    newcomer.set_private_key(&keys.private);
    ns.address(newcomer.interface(), "192.168.241.3/24");
    ns.ip(&format!("link set {} up", newcomer.interface()));
    target.engine.set(&format!("peer {} allowed-ips 192.168.241.3/32", keys.public));

    let _stutter = Stutter::start(&target.engine);
    let is_load = within(PATIENCE, || {
        scene.flood(Kind::ManyAddresses, BURST);
        scene.answers() > 100
    });
    assert!(is_load, "never under load\n{}", target.engine.log());
    let endpoint = SocketAddr::new(IpAddr::from([10, 78, 0, 1]), target.port);
    let key = &target.keys.public;
    newcomer
        .set(&format!("peer {key} endpoint {endpoint} allowed-ips 192.168.241.1/32 persistent-keepalive 25"));
    let has_met = within(PATIENCE, || {
        scene.flood(Kind::ManyAddresses, BURST);
        newcomer.dump().peer(key).latest_handshake != 0
    });
    assert!(has_met, "no handshake\n{}\n{}", newcomer.log(), target.engine.log());
    // Nor was its peer shut out meanwhile.
    scene.pair.b.reaches_within(target, PATIENCE);
}
