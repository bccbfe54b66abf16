//! `show --why`: real troubles, provoked, and each told under its name on the side that can know of it.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::common::adit;
use crate::common::stranger::{engine_and_stranger, now};
use lab::flood::{Flood, Stutter};
use lab::pair::{CABLE, Side};
use lab::wg::genpsk;
use lab::{Cmd, Engine, Netns, Outer, Pair, Program, needs, seconds, within};
use serde_json::Value;

fn show(args: &str) -> String {
    Cmd::new(&format!("{} show {args} --why", adit().0.display())).ok()
}

/// What is told of `engine`, for programs.
fn why(engine: &Engine) -> Value {
    let told: Value = serde_json::from_str(&show(&format!("{} --json", engine.interface()))).unwrap();
    told[engine.interface()]["why"].clone()
}

/// How often `engine` gave `reason`, for all or for one peer.
fn count(engine: &Engine, peer: Option<&str>, reason: &str) -> u64 {
    let why = why(engine);
    let reasons = match peer {
        Some(key) => why["peers"].as_array().unwrap().iter().find(|peer| peer["public_key"] == key).unwrap(),
        None => &why,
    };
    reasons["reasons"][reason]["count"].as_u64().unwrap_or(0)
}

/// Waits until `engine` gives `reason`; then the page for people has it too, with all of `words`.
#[track_caller]
fn expect(engine: &Engine, peer: Option<&str>, reason: &str, words: &[&str]) {
    let is_told = within(seconds(20), || count(engine, peer, reason) > 0);
    let page = show(engine.interface());
    assert!(is_told, "no {reason}:\n{page}\n{}", engine.log());
    for word in words.iter().chain(&[reason]) {
        assert!(page.contains(word), "no {word:?}:\n{page}");
    }
}

fn standing(side: &Side, of: &Side) -> String {
    let why = why(&side.engine);
    let mut peers = why["peers"].as_array().unwrap().iter();
    let peer = peers.find(|peer| peer["public_key"] == *of.keys.public).unwrap();
    peer["standing"].as_str().unwrap().to_owned()
}

fn pair() -> Pair {
    Pair::new(&adit(), &adit())
}

#[test]
fn a_preshared_key_on_one_side_only() {
    needs!("netns", "tun", "wg", "ping");
    let pair = pair();
    pair.a.engine.set_preshared_key(&pair.b.keys.public, &genpsk());
    pair.a_knows_b(Outer::V4);
    pair.a.ns.ping(&format!("-c 1 {}", pair.b.inner4()));
    let (a, b) = (pair.a.keys.public.as_str(), pair.b.keys.public.as_str());
    expect(
        &pair.a.engine,
        Some(b),
        "psk_mismatch",
        &["its preshared key probably differs", "10.77.0.2:20000"],
    );
    expect(&pair.b.engine, Some(a), "unconfirmed", &["its preshared key probably differs"]);
    assert_eq!(count(&pair.a.engine, Some(b), "no_answer"), 0, "it was answered");
    assert_eq!(standing(&pair.a, &pair.b), "never_answered");
}

#[test]
fn somebody_who_is_no_peer() {
    needs!("netns", "tun", "wg");
    let (engine, _ns, mut stranger) = engine_and_stranger();
    engine.set(&format!("peer {} remove", stranger.public_key()));
    let initiation = stranger.initiation(now());
    assert!(!stranger.is_answered(&initiation));
    expect(
        &engine,
        None,
        "unknown_peer",
        &[&stranger.public_key(), "127.0.0.1:", "add it by its public key"],
    );
    let event = &why(&engine)["events"][0];
    assert_eq!(event["public_key"], stranger.public_key());
    assert!(show(engine.interface()).contains("it has no peers"));
}

#[test]
fn a_source_that_is_not_allowed_and_a_destination_that_nobody_has() {
    needs!("netns", "tun", "wg", "ping");
    let pair = pair();
    pair.b_knows_a(Outer::V4);
    pair.b.reaches(&pair.a);
    // What a client with a default route into the tunnel says by itself is nothing to act upon.
    pair.b.set_peer(&pair.a, "allowed-ips ::/0,0.0.0.0/0");
    let tunnel = pair.b.interface();
    pair.b.ns.run(&format!("ip address add fe80::9/64 dev {tunnel} nodad"));
    pair.b.ns.run(&format!("ping -c 1 -W 1 -I {tunnel} fe80::1"));
    pair.b.ns.address(pair.b.interface(), "10.9.9.9/32");
    pair.b.ns.ping(&format!("-c 2 -i 0.2 -I 10.9.9.9 {}", pair.a.inner4()));
    let b = pair.b.keys.public.as_str();
    expect(&pair.a.engine, Some(b), "source_not_allowed", &["2 × source_not_allowed", "address 10.9.9.9"]);
    assert_eq!(standing(&pair.a, &pair.b), "connected");
    pair.a.ns.ping("-c 1 192.168.241.99");
    expect(&pair.a.engine, None, "no_route", &["address 192.168.241.99"]);
}

#[test]
fn an_initiation_that_comes_again_and_a_clock_that_is_behind() {
    needs!("netns", "tun", "wg");
    let (engine, _ns, mut stranger) = engine_and_stranger();
    let peer = Some(stranger.public_key());
    let initiation = stranger.initiation(now());
    assert!(stranger.is_answered(&initiation));
    assert!(!stranger.is_answered(&initiation));
    expect(&engine, peer.as_deref(), "replayed_initiation", &["1 × replayed_initiation"]);
    let late = stranger.initiation(now() - Duration::from_secs(3 * 3600));
    assert!(!stranger.is_answered(&late));
    expect(&engine, peer.as_deref(), "clock_behind", &["3 h behind this machine's clock"]);
    assert!(!stranger.is_answered(&late), "and again");
    expect(&engine, peer.as_deref(), "replayed_initiation", &["2 × replayed_initiation", "1 × clock_behind"]);
}

#[test]
fn a_clock_that_was_ahead() {
    needs!("netns", "tun", "wg");
    let (engine, _ns, mut stranger) = engine_and_stranger();
    let early = stranger.initiation(now() + Duration::from_secs(3 * 3600 + 60));
    assert!(stranger.is_answered(&early));
    sleep(Duration::from_millis(50));
    let right = stranger.initiation(now());
    assert!(!stranger.is_answered(&right));
    let peer = stranger.public_key();
    expect(&engine, Some(&peer), "clock_was_ahead", &["3 h ahead of this machine's clock"]);
}

#[test]
fn an_endpoint_that_is_not_known_cannot_be_reached_or_does_not_answer() {
    needs!("netns", "tun", "wg", "ping");
    let pair = pair();
    let b = pair.b.keys.public.as_str();
    let ping = || pair.a.ns.ping(&format!("-c 1 {}", pair.b.inner4()));
    ping();
    expect(&pair.a.engine, Some(b), "no_endpoint", &["set its Endpoint"]);
    assert_eq!(standing(&pair.a, &pair.b), "no_endpoint");
    pair.a.set_peer(&pair.b, "endpoint 203.0.113.1:7");
    assert_eq!(standing(&pair.a, &pair.b), "never_tried");
    ping();
    let words = ["203.0.113.1:7", "Network is unreachable", "there is no way to the endpoint"];
    expect(&pair.a.engine, Some(b), "endpoint_unreachable", &words);
    // Nobody listens there.
    pair.a.set_peer(&pair.b, "endpoint 10.77.0.2:9");
    ping();
    expect(&pair.a.engine, Some(b), "no_answer", &["10.77.0.2:9", "does its firewall let UDP in"]);
    assert!(within(seconds(30), || standing(&pair.a, &pair.b) == "never_answered"));
}

#[test]
fn rubbish_of_every_kind() {
    needs!("netns", "tun", "wg");
    let (engine, _ns, stranger) = engine_and_stranger();
    for (kind, len) in [(1, 148), (2, 92), (3, 64), (4, 32), (9, 40)] {
        let mut message = vec![0x5a; len];
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        stranger.socket.send(&message).unwrap();
    }
    expect(&engine, None, "bad_mac1", &["2 × bad_mac1"]);
    expect(&engine, None, "unknown_index", &["2 × unknown_index"]);
    expect(&engine, None, "not_wireguard", &["1 × not_wireguard"]);
    engine.set_private_key("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let mut message = vec![0x5a; 148];
    message[..4].copy_from_slice(&[1, 0, 0, 0]);
    stranger.socket.send(&message).unwrap();
    expect(&engine, None, "no_private_key", &["it has no private key"]);
}

/// A packet as the other side has sent it, and a socket of its to send it from again.
fn data_to_a(pair: &Pair) -> (Vec<u8>, UdpSocket) {
    let filter = "udp dst port 10000 and udp[4:2] = 136";
    let mut capture = lab::probe::Capture::start(&pair.a.ns, CABLE, "data", filter);
    assert!(pair.b.ns.ping(&format!("-c 1 {}", pair.a.inner4())).success());
    let bytes = fs::read(capture.stop()).unwrap();
    // Behind the headers of the file, the packet, Ethernet, IPv4 and UDP.
    let message = bytes[24 + 16 + 14 + 20 + 8..][..128].to_vec();
    let socket = pair.b.ns.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.connect("10.77.0.1:10000").unwrap();
    (message, socket)
}

/// Data that somebody has changed, and data that comes again: what passes the cable is sent once more, and once more with
/// another tag.
#[test]
fn data_that_is_forged_and_data_that_comes_again() {
    needs!("netns", "tun", "wg", "ping", "tcpdump");
    let pair = pair();
    pair.b_knows_a(Outer::V4);
    pair.b.reaches(&pair.a);
    let (mut message, socket) = data_to_a(&pair);
    socket.send(&message).unwrap();
    let b = pair.b.keys.public.as_str();
    expect(&pair.a.engine, Some(b), "replayed_data", &["1 × replayed_data"]);
    message[127] ^= 1;
    socket.send(&message).unwrap();
    expect(&pair.a.engine, Some(b), "undecryptable", &["1 × undecryptable"]);
    assert_eq!(pair.a.peer(&pair.b).endpoint, Some(pair.b.endpoint(Outer::V4)), "it does not roam for these");
}

#[test]
fn a_flood_of_handshakes() {
    needs!("netns", "tun", "wg");
    let (engine, ns, mut stranger) = engine_and_stranger();
    let target = ([127, 0, 0, 1], 10_000).into();
    let flood = Flood::start(&adit(), &ns, target, &stranger.engine_key(), 40_000);
    let stutter = Stutter::start(&engine);
    let under_load = ["this machine is being flooded with handshakes", "127.0.0.1:"];
    expect(&engine, None, "under_load", &under_load);
    let mut initiation = stranger.initiation(now());
    let mut with_cookie = None;
    let has_cookie = within(seconds(20), || {
        // What it gets while there is no load after all is a response.
        with_cookie = stranger.with_cookie(&initiation);
        initiation = stranger.initiation(now());
        with_cookie.is_some()
    });
    assert!(has_cookie, "{}", show(engine.interface()));
    let with_cookie = with_cookie.unwrap();
    let mut wrong = with_cookie.clone();
    *wrong.last_mut().unwrap() ^= 1;
    // Many of each: the flood fills the queue before them.
    for (message, reason) in [(wrong, "bad_mac2"), (with_cookie, "rate_limited")] {
        let is_told = within(seconds(20), || {
            (0..200).for_each(|_| drop(stranger.socket.send(&message)));
            count(&engine, None, reason) > 0
        });
        assert!(is_told, "no {reason}:\n{}", show(engine.interface()));
    }
    drop((flood, stutter));
}

#[test]
fn more_packets_than_may_wait_for_a_session() {
    needs!("netns", "tun", "wg");
    let pair = pair();
    pair.a.set_peer(&pair.b, "endpoint 10.77.0.2:9");
    let socket = pair.a.ns.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.connect((pair.b.inner4().as_str(), 9)).unwrap();
    for _ in 0..20 {
        (0..20).for_each(|_| drop(socket.send(&[0; 100])));
        sleep(Duration::from_millis(5));
    }
    expect(&pair.a.engine, Some(&pair.b.keys.public), "staging_full", &["too many waited for a session"]);
}

/// One that does not answer, and data that is three minutes late.
#[test]
#[ignore = "slow: 190 s"]
fn who_is_given_up_and_what_comes_too_late() {
    needs!("netns", "tun", "wg", "ping", "tcpdump");
    let (pair, other) = (pair(), pair());
    other.a.set_peer(&other.b, "endpoint 10.77.0.2:9");
    other.a.ns.ping(&format!("-c 1 {}", other.b.inner4()));
    pair.b_knows_a(Outer::V4);
    pair.b.reaches(&pair.a);
    let (message, socket) = data_to_a(&pair);
    sleep(Duration::from_secs(182));
    socket.send(&message).unwrap();
    expect(
        &pair.a.engine,
        Some(&pair.b.keys.public),
        "expired_key",
        &["1 × expired_key", "older than 180 s"],
    );
    expect(&other.a.engine, Some(&other.b.keys.public), "gave_up", &["1 × gave_up", "10.77.0.2:9"]);
    assert_eq!(standing(&pair.a, &pair.b), "idle");
}

/// Two hundred thousand bad packets of several kinds: no more memory, and no more events, and a quiet peer's is still there.
#[test]
fn a_flood_leaves_memory_as_it_is() {
    needs!("netns", "tun", "wg");
    let (engine, _ns, mut stranger) = engine_and_stranger();
    let initiation = stranger.initiation(now());
    stranger.is_answered(&initiation);
    stranger.is_answered(&initiation);
    let flood = |count: u32| {
        for number in 0..count {
            let (kind, len) = [(1, 148), (4, 64), (9, 40), (2, 92)][number as usize % 4];
            let mut message = vec![0x5a; len];
            message[..4].copy_from_slice(&[kind, 0, 0, 0]);
            message[4..8].copy_from_slice(&number.to_be_bytes());
            // An ICMP error or a full buffer: the flood goes on.
            let _ = stranger.socket.send(&message);
        }
    };
    flood(10_000);
    let before = resident(&engine);
    flood(200_000);
    let told = why(&engine);
    let events = told["events"].as_array().unwrap();
    assert!(events.len() <= 6, "{events:?}");
    assert!(events.iter().any(|event| event["reason"] == "replayed_initiation"), "{events:?}");
    let counted: u64 =
        ["bad_mac1", "unknown_index", "not_wireguard"].map(|r| count(&engine, None, r)).iter().sum();
    assert!(counted > 20_000, "{counted} counted\n{}", show(engine.interface()));
    let after = resident(&engine);
    assert!(after < before + 1024, "{before} KiB before, {after} KiB after");
}

/// In KiB.
fn resident(engine: &Engine) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn another_engine_keeps_no_reasons() {
    needs!("netns", "tun", "wg", "wireguard-go");
    let ns = Netns::new();
    let engine = Engine::start(&Program::wireguard_go(), &ns);
    assert!(show(engine.interface()).contains("keeps no reasons"));
    let why = why(&engine);
    assert!(why["reasons"].is_null() && why["events"].is_null() && why["is_listening"].is_null());
}

#[test]
fn an_interface_that_is_down_and_what_the_schema_says() {
    needs!("netns", "tun", "wg", "ping", "jsonschema");
    let pair = pair();
    pair.a.ns.ping(&format!("-c 1 {}", pair.b.inner4()));
    pair.a.ns.ip(&format!("link set {} down", pair.a.interface()));
    let is_told = || show(pair.a.interface()).contains("it has no socket open");
    assert!(within(seconds(20), is_told), "{}", show(pair.a.interface()));
    let file = std::env::temp_dir().join(format!("{}-why.json", pair.a.interface()));
    let told = show(&format!("{} --json", pair.a.interface()));
    assert!(told.contains("no_endpoint"), "{told}");
    fs::write(&file, told).unwrap();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/show.schema.json");
    let checked = Cmd::new("jsonschema").arg("-i").arg(&file).arg(schema).run();
    let _ = fs::remove_file(&file);
    assert!(checked.success(), "{}", checked.text());
}
