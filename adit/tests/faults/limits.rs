//! Real limits, of descriptors and of memory, and threads that cannot be started: as little may come of them as of what is
//! injected.

use std::os::unix::net::UnixStream;

use super::start::{Place, serves, told};
use super::{is_whole, try_all};
use crate::common::adit;
use lab::faults::{Failing, Fault, On, Outcome, Times, descriptors};
use lab::wg::Keypair;
use lab::{Cmd, Engine, Netns, Program, Uapi, needs, seconds, within};

/// With every number of descriptors it works, or says what it lacks.
#[test]
fn few_descriptors_at_the_start() {
    needs!("netns", "tun", "wg", "ping", "prlimit");
    let step = if is_whole() { 1 } else { 5 };
    let limits: Vec<u32> = (4..60).step_by(step).collect();
    try_all(&limits, 4, Place::new, |place, limit| {
        let program = Program::new(format!("prlimit --nofile={limit} {}", adit().0.display()));
        place.try_start(&format!("{limit} descriptors"), &program, false)
    });
}

/// The same for address space, in MiB.
#[test]
fn little_memory_at_the_start() {
    needs!("netns", "tun", "wg", "ping", "prlimit");
    let step = if is_whole() { 1 } else { 7 };
    // With less the kernel cannot even load the program, as it is built for tests, and ends it without a word.
    let limits: Vec<u32> = (10..80).step_by(step).collect();
    try_all(&limits, 4, Place::new, |place, limit| {
        let program = Program::new(format!("prlimit --as={} {}", limit << 20, adit().0.display()));
        place.try_start(&format!("{limit} MiB"), &program, false)
    });
}

fn limit(engine: &Engine, what: &str) {
    Cmd::new(&format!("prlimit --pid {} {what}", engine.pid())).ok();
}

/// Clients that come when no descriptor is left take the place of those who have been silent for the longest, and the
/// interface comes up as soon as there are some again.
#[test]
fn no_descriptors_while_it_runs() {
    needs!("netns", "tun", "wg", "prlimit");
    let ns = Netns::new();
    let engine = Engine::start(&adit(), &ns);
    engine.set_private_key(&Keypair::generate().private);
    let wg = engine.interface();
    let open = descriptors(engine.pid()).len();
    limit(&engine, &format!("--nofile={}:", open + 5));
    let clients: Vec<_> = (0..40).map(|_| UnixStream::connect(engine.socket()).unwrap()).collect();
    assert!(within(seconds(60), || serves(wg)), "{}", engine.log());
    // For sockets there is no room, until those who are silent go.
    ns.ip(&format!("link set {wg} up"));
    engine.expect_log("no packets can pass", seconds(60));
    assert!(serves(wg), "{}", engine.log());
    drop(clients);
    limit(&engine, "--nofile=1024:");
    engine.expect_log("packets can pass now", seconds(60));
    assert!(engine.dump().listen_port > 0);
    assert!(engine.log().lines().count() < 10, "{}", engine.log());
}

/// Without memory it ends, with one line and a code that says so; what it leaves does not keep the next one from starting.
#[test]
fn no_memory_while_it_runs() {
    needs!("netns", "tun", "wg", "prlimit");
    let place = Place::new();
    let (interface, mut process) = place.start(&adit(), false);
    assert!(within(seconds(60), || serves(&interface)), "{}", process.log());
    Cmd::new(&format!("prlimit --pid {} --as=1048576", process.pid())).ok();
    let mut uapi = Uapi::connect(&interface).unwrap();
    let peers = (0..100_000).map(|number| format!("public_key={number:064x}\nallowed_ip=10.0.0.1/32\n"));
    let _ = uapi.try_send(&format!("set=1\n{}\n", peers.collect::<String>()));
    let code = process.wait(seconds(60)).map(lab::cmd::code).expect("it ends");
    assert_ne!(code, 0);
    told(&process, code).unwrap();
    assert!(!place.a.has(&interface));
    // The socket's file has nobody behind it: the next one of this name replaces it.
    let mut again = place.a.cmd(&adit().foreground(&interface)).spawn();
    assert!(within(seconds(60), || serves(&interface)), "{}", again.log());
    place.end(&interface, &mut again, false).unwrap();
}

/// A name that could not be looked up, since no thread could be started for it, is looked up later.
#[test]
fn no_threads_while_it_runs() {
    needs!("netns", "tun", "wg", "strace");
    let place = Place::new();
    let program = Program::new(format!("env LOG_LEVEL=debug {}", adit().0.display()));
    let (interface, process) = place.start(&program, false);
    assert!(within(seconds(60), || serves(&interface)), "{}", process.log());
    let no_threads =
        Fault { call: "clone3", on: On::Any, outcome: Outcome::Error("EAGAIN"), times: Times::Always };
    let failing = Failing::attach(process.pid(), &no_threads).unwrap();
    place.works(&interface, &process).unwrap();
    // Nobody answers there.
    let lost = "endpoint=10.77.0.9:1\nendpoint_name=localhost:1\npersistent_keepalive_interval=1\n";
    let mut uapi = Uapi::connect(&interface).unwrap();
    let key = format!("public_key={}\n", lab::wg::hex(&Keypair::generate().public));
    assert_eq!(uapi.set(&format!("{key}{lost}")), 0);
    process.expect_log("names cannot be looked up", seconds(60));
    failing.stop();
    process.expect_log("localhost:1 is [", seconds(60));
}
