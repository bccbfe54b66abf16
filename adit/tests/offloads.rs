//! The kernel's offloads, each switched off, refused at the start, and refused in the middle: whatever happens, packets
//! arrive as they were sent, in order, none lost, and the status tells what happened.
//!
//! Side `a` is always adit. Refusals are the kernel's own where it can be brought to them, otherwise
//! [`lab::refusal`]'s: the engine cannot tell.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::adit;
use crate::common::traffic::{Flow, Inner, stream};
use lab::pair::{CABLE, Side};
use lab::refusal::{Refusal, failing, refusing};
use lab::{Cmd, Engine, Netns, Outer, Pair, Program, needs, seconds, within};
use nix::libc;

const TUNSETOFFLOAD: u64 = 0x4004_54d0;
const TUNSETVNETHDRSZ: u64 = 0x4004_54d8;
const TUNSETSTEERINGEBPF: u64 = 0x8004_54e0;
const TUN_F_TSO4: u64 = 0x02;
const TUN_F_USO4: u64 = 0x20;

const SWITCHES: [&str; 4] = ["tun-tcp", "tun-udp", "udp-gso", "udp-gro"];

const QUEUES_OF_A_WORKER: u64 = 4;

/// Pairs that run at a time.
const AT_ONCE: usize = 6;

/// The answer to `status=1`.
struct Status(BTreeMap<String, String>);

impl Status {
    #[track_caller]
    fn of(side: &Side) -> Status {
        let mut uapi = side.engine.uapi();
        uapi.send("status=1\n\n");
        let answer = uapi.answer();
        assert_eq!(answer.errno, 0);
        Status(answer.lines.into_iter().collect())
    }

    #[track_caller]
    fn state(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("no {key} in {:?}", self.0))
    }

    #[track_caller]
    fn count(&self, key: &str) -> u64 {
        self.state(key).parse().expect("a count")
    }

    /// Nothing was dropped that should have arrived.
    #[track_caller]
    fn assert_no_drops(&self) {
        for key in ["udp_send_dropped", "udp_receive_dropped", "udp_receive_overflows"] {
            assert_eq!(self.count(key), 0, "{key}: {:?}", self.0);
        }
    }
}

/// A pair that has shaken hands.
#[track_caller]
fn connected(a: &Program, b: &Program, off: &str, outer: Outer) -> Pair {
    let pair = Pair::with_env(a, b, &[("ADIT_NO_OFFLOAD", off)]);
    pair.a_knows_b(outer);
    pair.a.reaches(&pair.b);
    pair.b.reaches(&pair.a);
    pair
}

/// Every kind of traffic that an offload touches, in both directions.
fn all_traffic(pair: &Pair) {
    for inner in Inner::BOTH {
        stream(pair, inner);
        for (from, to) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
            Flow::of_trains(from, to, inner, 1200, 20).run(6);
            // As long as a train can be, and a datagram too long for the tunnel: fragments.
            Flow::of_trains(from, to, inner, 1000, 64).run(3);
            Flow::of_datagrams(from, to, inner, 20_000).run(4);
            Flow::of_datagrams(from, to, inner, 700).run(20);
            // Whole ones and fragments in turn: the kernel's hash of a fragment knows no ports.
            Flow::of_datagrams(from, to, inner, 3000).alternating_with(700).run(60);
        }
    }
}

/// All subsets of the switches, and the one that takes the packets' headers away.
fn combinations() -> Vec<String> {
    let subset = |bits: usize| {
        let chosen = SWITCHES.iter().enumerate().filter(|(i, _)| bits & 1 << i != 0);
        chosen.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
    };
    (0..1 << SWITCHES.len()).map(subset).chain(["tun-vnet-hdr".to_owned(), "all".to_owned()]).collect()
}

fn every_combination(program: &Program, peer: &Program) {
    let (combinations, next) = (combinations(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let work = || {
            while let Some(off) = combinations.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = std::panic::catch_unwind(|| combination(program, peer, off));
                assert!(result.is_ok(), "without {off:?}, against {}", peer.0.display());
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

fn combination(program: &Program, peer: &Program, off: &str) {
    let pair = connected(program, peer, off, Outer::V4);
    all_traffic(&pair);
    pair.a_knows_b(Outer::V6);
    all_traffic(&pair);
    let status = Status::of(&pair.a);
    let is_off = |name: &str| {
        let whole = off == "all" || (off == "tun-vnet-hdr" && name.starts_with("tun-"));
        whole || off.split(',').any(|switched| switched == name)
    };
    for name in SWITCHES.into_iter().chain(["tun-vnet-hdr"]) {
        let state = if is_off(name) { "off" } else { "on" };
        assert_eq!(status.state(&name.replace('-', "_")), state, "{name}");
    }
    for (name, use_count) in [
        ("tun-tcp", "tun_tcp_read"),
        ("tun-tcp", "tun_tcp_written"),
        ("tun-udp", "tun_udp_read"),
        ("tun-udp", "tun_udp_written"),
        ("udp-gso", "udp_gso_sent"),
        ("udp-gro", "udp_gro_received"),
    ] {
        let count = status.count(use_count);
        // What comes in together depends on the peer, and on GRO.
        let comes_in = use_count.ends_with("written") || use_count.ends_with("received");
        let depends = comes_in && (*peer == Program::wireguard_go() || is_off("udp-gro"));
        assert!(count == 0 || !is_off(name), "{use_count} is {count} without {off:?}");
        assert!(count > 0 || is_off(name) || depends, "{use_count} is {count} without {off:?}");
    }
    for failures in ["tun_tcp_refused", "tun_udp_refused", "udp_gso_refused", "udp_gso_avoided"] {
        assert_eq!(status.count(failures), 0, "{failures}");
    }
    status.assert_no_drops();
}

#[test]
fn every_combination_with_adit() {
    needs!("netns", "tun", "wg", "ping");
    every_combination(&adit(), &adit());
}

#[test]
fn every_combination_with_wireguard_go() {
    needs!("netns", "tun", "wg", "ping", "wireguard-go");
    every_combination(&adit(), &Program::wireguard_go());
}

#[test]
fn every_combination_with_several_workers() {
    needs!("netns", "tun", "wg", "ping");
    let program = Program::new(format!("{} --workers 3", adit().0.display()));
    every_combination(&program, &program);
}

/// `EMSGSIZE` or `EINVAL` from the kernel itself: segments are never fragmented, single packets are.
#[test]
fn the_path_narrows_under_a_flow_and_widens_again() {
    needs!("netns", "tun", "wg", "ping");
    for outer in [Outer::V4, Outer::V6] {
        let pair = connected(&adit(), &adit(), "", outer);
        let mut flow = Flow::of_trains(&pair.a, &pair.b, Inner::V6, 1300, 10).one_at_a_time();
        flow.run(20);
        let before = Status::of(&pair.a);
        assert_eq!((before.count("udp_gso_refused"), before.count("udp_gso_avoided")), (0, 0));

        pair.a.ns.ip(&format!("link set {CABLE} mtu 1300"));
        flow.run(200);
        let narrow = Status::of(&pair.a);
        assert_eq!(narrow.state("udp_gso"), "on", "it is one path's");
        assert_eq!((narrow.count("udp_gso_refused"), narrow.count("udp_gso_avoided")), (1, 1));
        // Trains of a size that still fits are sent as ever.
        Flow::of_trains(&pair.a, &pair.b, Inner::V6, 1000, 10).run(20);
        assert!(Status::of(&pair.a).count("udp_gso_sent") > narrow.count("udp_gso_sent"));

        pair.a.ns.ip(&format!("link set {CABLE} mtu 1500"));
        flow.run(1100);
        let wide = Status::of(&pair.a);
        assert_eq!((wide.count("udp_gso_refused"), wide.count("udp_gso_avoided")), (1, 0), "{:?}", wide.0);
        wide.assert_no_drops();
        Status::of(&pair.b).assert_no_drops();
    }
}

#[test]
fn one_send_that_fails_costs_no_packet() {
    needs!("netns", "tun", "wg", "ping", "strace");
    for error in ["EIO", "EINVAL", "EMSGSIZE"] {
        let pair = connected(&failing(&adit(), "sendmsg", error, "30"), &adit(), "", Outer::V4);
        Flow::of_trains(&pair.a, &pair.b, Inner::V4, 1200, 20).one_at_a_time().run(100);
        let status = Status::of(&pair.a);
        assert_eq!((status.state("udp_gso"), status.count("udp_gso_refused")), ("on", 1), "{error}");
        assert_eq!(status.count("udp_gso_avoided"), 1, "{error}");
        status.assert_no_drops();
    }
}

/// A send of a single packet has nothing to fall back to but itself.
#[test]
fn one_send_of_a_single_packet_that_fails_costs_no_packet() {
    needs!("netns", "tun", "wg", "ping", "strace");
    for error in ["EIO", "EINVAL"] {
        let pair = connected(&failing(&adit(), "sendmsg", error, "30"), &adit(), "", Outer::V6);
        Flow::of_datagrams(&pair.a, &pair.b, Inner::V6, 1200).one_at_a_time().run(100);
        let status = Status::of(&pair.a);
        assert_eq!(status.count("udp_gso_refused"), 0, "{error}: no offload was involved");
        status.assert_no_drops();
    }
}

/// As on a route through IPsec, or before Linux 6.11 through a device that cannot checksum.
#[test]
fn segmentation_that_always_fails_is_given_up() {
    needs!("netns", "tun", "wg", "ping", "strace");
    let pair = connected(&failing(&adit(), "sendmsg", "EIO", "30+"), &adit(), "", Outer::V4);
    let mut flow = Flow::of_trains(&pair.a, &pair.b, Inner::V4, 100, 2).one_at_a_time();
    flow.run(100);
    let first = Status::of(&pair.a);
    assert_eq!((first.state("udp_gso"), first.count("udp_gso_refused")), ("on", 1), "one address's so far");
    flow.run(4000);
    let status = Status::of(&pair.a);
    assert_eq!(status.state("udp_gso"), "given-up", "{:?}", status.0);
    assert!((4..=8).contains(&status.count("udp_gso_refused")), "{:?}", status.0);
    assert_eq!(status.count("udp_send_dropped"), 0);
    assert!(pair.a.engine.log().contains("keeps refusing UDP segmentation"), "{}", pair.a.engine.log());
}

#[test]
fn a_kernel_without_the_sockets_offloads() {
    needs!("netns", "tun", "wg", "ping");
    const UDP_SEGMENT: Refusal = Refusal::SocketOption(libc::SOL_UDP, libc::UDP_SEGMENT);
    const UDP_GRO: Refusal = Refusal::SocketOption(libc::SOL_UDP, libc::UDP_GRO);
    for (refusals, gso, gro) in [
        ([UDP_SEGMENT].as_slice(), "refused", "on"),
        (&[UDP_GRO], "on", "refused"),
        (&[UDP_SEGMENT, UDP_GRO], "refused", "refused"),
    ] {
        let pair = refusing(refusals, || connected(&adit(), &adit(), "", Outer::V4));
        all_traffic(&pair);
        let status = Status::of(&pair.a);
        assert_eq!((status.state("udp_gso"), status.state("udp_gro")), (gso, gro));
        assert_eq!(status.count("udp_gso_sent") > 0, gso == "on");
        assert_eq!(status.count("udp_gro_received") > 0, gso == "on" && gro == "on");
        status.assert_no_drops();
    }
}

#[test]
fn a_kernel_without_the_interfaces_offloads() {
    needs!("netns", "tun", "wg", "ping");
    for (refusal, states) in [
        // Before Linux 6.2.
        (Refusal::IoctlBit(TUNSETOFFLOAD, TUN_F_USO4), ["on", "on", "refused"]),
        (Refusal::IoctlBit(TUNSETOFFLOAD, TUN_F_TSO4), ["on", "refused", "on"]),
        (Refusal::Ioctl(TUNSETOFFLOAD), ["on", "refused", "refused"]),
        (Refusal::Ioctl(TUNSETVNETHDRSZ), ["refused", "refused", "refused"]),
    ] {
        let pair = refusing(&[refusal], || connected(&adit(), &adit(), "", Outer::V6));
        all_traffic(&pair);
        let status = Status::of(&pair.a);
        assert_eq!(
            ["tun_vnet_hdr", "tun_tcp", "tun_udp"].map(|key| status.state(key)),
            states,
            "{refusal:?}"
        );
        assert_eq!(
            ["tun_tcp_read", "tun_udp_read"].map(|key| status.count(key) > 0),
            [1, 2].map(|i| states[i] == "on")
        );
        status.assert_no_drops();
    }
}

/// Without CAP_BPF, in a container, and before Linux 4.16: one queue keeps the order, too.
#[test]
fn a_kernel_without_the_steering_program() {
    needs!("netns", "tun", "wg", "ping");
    let program = Program::new(format!("env LOG_LEVEL=info {} --workers 2", adit().0.display()));
    for refusal in [Refusal::Bpf, Refusal::Ioctl(TUNSETSTEERINGEBPF)] {
        let pair = refusing(&[refusal], || connected(&program, &adit(), "", Outer::V4));
        all_traffic(&pair);
        let status = Status::of(&pair.a);
        assert_eq!(status.count("tun_queues"), 1, "{refusal:?}");
        status.assert_no_drops();
        let log = pair.a.engine.log();
        assert!(log.contains("one queue") && log.contains("no steering program"), "{refusal:?}: {log}");
    }
}

/// Datagrams on one queue and streams on others, in both directions at once.
#[test]
fn flows_keep_their_order_on_several_queues() {
    needs!("netns", "tun", "wg", "ping");
    for workers in [1, 2, 4] {
        let program = Program::new(format!("{} --workers {workers}", adit().0.display()));
        let pair = &connected(&program, &program, "", Outer::V4);
        thread::scope(|scope| {
            for inner in Inner::BOTH {
                scope.spawn(move || (0..8).for_each(|_| stream(pair, inner)));
                for (from, to) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
                    scope.spawn(move || {
                        Flow::of_datagrams(from, to, inner, 3000).alternating_with(700).run(3000);
                    });
                }
            }
        });
        for side in [&pair.a, &pair.b] {
            let status = Status::of(side);
            match status.count("tun_queues") {
                1 => drop(lab::skip("several queues: the kernel takes no steering program")),
                queues => assert_eq!(queues, workers * QUEUES_OF_A_WORKER),
            }
            status.assert_no_drops();
        }
    }
}

/// It takes two parts to write a packet and its header, three or more for a super-packet.
#[test]
fn super_packets_that_are_always_refused_are_given_up() {
    needs!("netns", "tun", "wg", "ping");
    let pair = refusing(&[Refusal::WritevParts(3)], || connected(&adit(), &adit(), "", Outer::V4));
    Flow::of_trains(&pair.b, &pair.a, Inner::V4, 1200, 20).one_at_a_time().run(4);
    let some = Status::of(&pair.a);
    assert_eq!((some.state("tun_udp"), some.count("tun_udp_refused")), ("on", 4), "{:?}", some.0);
    Flow::of_trains(&pair.b, &pair.a, Inner::V6, 1200, 20).run(20);
    stream(&pair, Inner::V6);
    let status = Status::of(&pair.a);
    for kind in ["tun_udp", "tun_tcp"] {
        assert_eq!(status.state(kind), "given-up", "{:?}", status.0);
        // Those that were ready to be written at that time still were tried.
        assert!((8..40).contains(&status.count(&format!("{kind}_refused"))), "{:?}", status.0);
        assert_eq!(status.count(&format!("{kind}_written")), 0);
    }
    assert_eq!(status.count("tun_dropped"), 0);
    assert!(pair.a.engine.log().contains("keeps refusing UDP super-packets"), "{}", pair.a.engine.log());
    // Only writing is: what the interface hands out is as ever.
    assert!(status.count("tun_tcp_read") > 0);
    status.assert_no_drops();
}

#[test]
fn one_super_packet_that_is_refused_costs_no_packet() {
    needs!("netns", "tun", "wg", "ping", "strace");
    let pair = connected(&failing(&adit(), "writev", "EINVAL", "40"), &adit(), "", Outer::V4);
    Flow::of_trains(&pair.b, &pair.a, Inner::V4, 1200, 20).one_at_a_time().run(100);
    let status = Status::of(&pair.a);
    assert_eq!((status.state("tun_udp"), status.count("tun_udp_refused")), ("on", 1));
    assert!(status.count("tun_udp_written") > 50, "{:?}", status.0);
}

#[test]
fn totals_survive_the_sockets() {
    needs!("netns", "tun", "wg", "ping");
    let pair = connected(&adit(), &adit(), "", Outer::V4);
    Flow::of_trains(&pair.a, &pair.b, Inner::V4, 1200, 20).one_at_a_time().run(30);
    let before = Status::of(&pair.a);
    assert_eq!(before.count("udp_gso_sent"), 30);
    pair.a.engine.set("listen-port 10007");
    let after = Status::of(&pair.a);
    assert_eq!(after.count("udp_gso_sent"), before.count("udp_gso_sent"));
    let interface = pair.a.interface();
    pair.a.ns.ip(&format!("link set {interface} down"));
    assert!(within(seconds(5), || Status::of(&pair.a).count("udp_gso_sent") == before.count("udp_gso_sent")));
    assert_eq!(Status::of(&pair.a).state("udp_gso"), "on", "nobody switched it off");
}

#[test]
fn status_is_printed() {
    needs!("netns", "tun", "wg");
    let ns = Netns::new();
    let engine = Engine::start_with(&adit(), &ns, &[("ADIT_NO_OFFLOAD", "udp-gro")]);
    let adit = adit().0.display().to_string();
    let page = Cmd::new(&format!("{adit} status {}", engine.interface())).ok();
    assert!(page.starts_with(&format!("interface: {}\n  workers: ", engine.interface())), "{page}");
    assert!(page.contains("\n  udp-gro       off"), "{page}");
    let json = Cmd::new(&format!("{adit} status --json {}", engine.interface())).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[engine.interface()]["udp_gro"], "off");
    assert_eq!(json[engine.interface()]["tun_tcp"], "on");
    assert_eq!(json[engine.interface()]["udp_gso_sent"], 0);

    let nobody = Cmd::new(&format!("{adit} status nobody0")).run();
    assert_eq!((nobody.code(), nobody.stderr.lines().count()), (1, 1), "{}", nobody.text());
    assert!(nobody.stderr.contains("no userspace engine serves nobody0"), "{}", nobody.stderr);
}

/// Without an interface: all, in a directory of sockets that neighbours do not use.
#[test]
fn status_of_every_engine() {
    needs!("netns", "tun", "unshare");
    let ns = Netns::new();
    let script = "mount -t tmpfs tmpfs /var/run/wireguard && touch /var/run/wireguard/left-over.sock \
                  && $ADIT lab0 && $ADIT lab1 && $ADIT status && ip link del lab0 && ip link del lab1";
    let adit = adit().0.display().to_string();
    let pages = ns.cmd("unshare --mount sh -c").arg(script).env("ADIT", adit).ok();
    let interfaces: Vec<&str> = pages.lines().filter_map(|line| line.strip_prefix("interface: ")).collect();
    assert_eq!(interfaces, ["lab0", "lab1"], "{pages}");
}

#[test]
fn another_programs_interface_has_no_status() {
    needs!("netns", "tun", "wg", "wireguard-go");
    let ns = Netns::new();
    let engine = Engine::start(&Program::wireguard_go(), &ns);
    let output = Cmd::new(&format!("{} status {}", adit().0.display(), engine.interface())).run();
    assert_eq!((output.code(), output.stderr.lines().count()), (1, 1), "{}", output.text());
    assert!(output.stderr.contains("not by adit"), "{}", output.stderr);
}

#[test]
fn options_and_environment() {
    needs!("netns", "tun", "wg");
    let ns = Netns::new();
    let interface = lab::netns::interface_name();
    let line =
        format!("{} -f --no-offload tun-tcp,udp-gso --no-offload udp-gro {interface}", adit().0.display());
    let engine = Engine::adopt(interface, ns.cmd(&line).env("ADIT_NO_OFFLOAD", "tun-udp"));
    let mut uapi = engine.uapi();
    uapi.send("status=1\n\n");
    let answer = uapi.answer();
    let states = ["tun_vnet_hdr", "tun_tcp", "tun_udp", "udp_gso", "udp_gro"].map(|key| answer.first(key));
    assert_eq!(states, ["on", "off", "off", "off", "off"].map(Some));

    let program = adit().0.display().to_string();
    let by_option = ns.run(&format!("{program} -f --no-offload tso lab0"));
    let by_environment = ns.cmd(&format!("{program} -f lab0")).env("ADIT_NO_OFFLOAD", "tun-tcp,tso").run();
    for (output, origin) in [(by_option, "--no-offload"), (by_environment, "ADIT_NO_OFFLOAD")] {
        let expected = format!("adit: {origin}: no offload is called \"tso\"; there are tun-tcp, ");
        assert!(output.code() == 1 && output.stderr.starts_with(&expected), "{}", output.text());
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
}
