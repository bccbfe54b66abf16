//! The daemon as a process: how it is started, what it inherits, how it ends, and what it leaves behind.
//!
//! It must replace wireguard-go wherever something starts that: wg-quick, init scripts, launchers that open the
//! device themselves.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::adit;
use adit_crypto::{Backend, preferred_backend};
use adit_net::tun::{Offloads, Tun, TunOptions};
use lab::cmd::code;
use lab::engine::socket;
use lab::netns::interface_name;
use lab::wg::{Keypair, genpsk};
use lab::{Cmd, Engine, Netns, Outer, Output, Pair, Uapi, needs, seconds, within};
use nix::sys::signal::Signal;

/// Runs the program with `args` until it ends.
fn run(ns: &Netns, args: &str) -> Output {
    ns.run(&format!("{} {args}", adit().0.display()))
}

fn link_del(ns: &Netns, interface: &str) {
    ns.ip(&format!("link del {interface}"));
    assert!(within(seconds(20), || !socket(interface).exists()), "the daemon has left its socket behind");
}

#[test]
fn version() {
    let output = Cmd::new(&format!("{} --version", adit().0.display())).run();
    assert_eq!(output.code(), 0);
    assert!(output.stdout.contains(|c: char| c.is_ascii_digit()), "{}", output.text());
}

#[test]
fn usage_errors() {
    needs!("netns");
    let ns = Netns::new();
    for args in ["", "-f"] {
        let output = run(&ns, args);
        assert!(output.code() > 0, "`{args}` is not enough");
        assert!(!output.stderr.is_empty(), "`{args}` deserves an explanation");
    }
}

#[test]
fn bad_interface_names() {
    needs!("netns", "tun");
    let ns = Netns::new();
    for name in ["sixteen-letters-", "with/slash", ".."] {
        let output = run(&ns, &format!("-f {name}"));
        assert!(output.code() > 0 && !output.stderr.is_empty(), "{name}: {}", output.text());
    }
}

/// Each obstacle is told in one line, with what to do about it.
#[test]
fn obstacles() {
    needs!("netns", "tun", "unshare", "setpriv");
    let ns = Netns::new();
    let program = adit().foreground(&interface_name());
    let no_device = format!("unshare --mount sh -c 'mount -t tmpfs none /dev/net && exec {program}'");
    let no_permission = format!("exec setpriv --bounding-set -all --inh-caps -all {program}");
    for (command, advice) in [(no_device, "load the tun module"), (no_permission, "run as root")] {
        let output = ns.cmd("sh -c").arg(command).run();
        assert!(output.code() > 0 && output.stderr.contains(advice), "{}", output.text());
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.text());
    }
}

/// Deadlines are waited for, not looked for: a thousand peers that have nothing to do wake nobody.
#[test]
fn an_idle_daemon_sleeps() {
    needs!("netns", "tun", "wg");
    let ns = Netns::new();
    let engine = Engine::start(&adit(), &ns);
    engine.set_private_key(&Keypair::generate().private);
    let peers: String =
        (1..=1000).map(|n| format!("public_key={n:064x}\nendpoint=192.0.2.1:{n}\n")).collect();
    assert_eq!(engine.uapi().set(&peers), 0);
    // Or the kernel's own multicast (router solicitations, MLD) comes by.
    ns.sysctl(&format!("net.ipv6.conf.{}.disable_ipv6", engine.interface()), "1");
    ns.ip(&format!("link set {} up", engine.interface()));
    std::thread::sleep(seconds(1));
    let before = times_woken(engine.pid());
    std::thread::sleep(seconds(3));
    let woken = times_woken(engine.pid()) - before;
    assert!(woken <= 2, "woken {woken} times in three seconds");
}

/// How often the threads of a process had to wait and were woken.
fn times_woken(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |status: String| {
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse::<u64>().ok()).expect("a count")
    };
    threads.map(|thread| of_thread(fs::read_to_string(thread.unwrap().path().join("status")).unwrap())).sum()
}

/// Without -f the command returns when the interface can be configured, and a daemon stays behind.
#[test]
fn goes_to_the_background_when_ready() {
    needs!("netns", "tun", "wg");
    let (ns, interface) = (Netns::new(), interface_name());
    let output = run(&ns, &interface);
    assert_eq!(output.code(), 0, "{}", output.text());
    Cmd::new(&format!("wg set {interface} listen-port 51820")).ok();
    assert!(ns.has(&interface));
    link_del(&ns, &interface);
}

#[test]
fn stays_in_the_foreground() {
    needs!("netns", "tun", "wg");
    let ns = Netns::new();
    let by_option = interface_name();
    let command = ns.cmd(&format!("{} -f {by_option}", adit().0.display()));
    let by_variable = interface_name();
    let other = ns.cmd(&format!("{} {by_variable}", adit().0.display())).env("WG_PROCESS_FOREGROUND", "1");
    for (interface, command) in [(by_option, command), (by_variable, other)] {
        let mut engine = Engine::adopt(interface, command);
        std::thread::sleep(Duration::from_millis(300));
        assert!(engine.exited().is_none(), "{}", engine.log());
    }
}

#[test]
fn signals_end_it_cleanly() {
    needs!("netns", "tun");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let ns = Netns::new();
        let mut engine = Engine::start(&adit(), &ns);
        engine.signal(signal);
        assert_eq!(engine.wait(seconds(20)).map(code), Some(0), "{signal}\n{}", engine.log());
        assert!(!engine.socket().exists() && !ns.has(engine.interface()), "{signal}");
    }
}

#[test]
fn sigpipe_and_sighup_leave_it_alone() {
    needs!("netns", "tun");
    let ns = Netns::new();
    let mut engine = Engine::start(&adit(), &ns);
    engine.signal(Signal::SIGPIPE);
    let mut uapi = engine.uapi();
    uapi.send("get=1\n\n");
    drop(uapi);
    std::thread::sleep(Duration::from_millis(200));
    assert!(engine.exited().is_none());
    assert_eq!(engine.uapi().get().errno, 0);
}

#[test]
fn deleting_the_link_ends_it() {
    needs!("netns", "tun");
    let ns = Netns::new();
    let mut engine = Engine::start(&adit(), &ns);
    ns.ip(&format!("link set {} up", engine.interface()));
    link_del(&ns, engine.interface());
    assert!(engine.wait(seconds(20)).is_some(), "{}", engine.log());
}

#[test]
fn deleting_its_namespace_ends_it() {
    needs!("netns", "tun");
    let (home, away) = (Netns::new(), Netns::new());
    let mut engine = Engine::start(&adit(), &home);
    home.ip(&format!("link set {} netns {}", engine.interface(), away.name()));
    assert!(away.has(engine.interface()) && engine.exited().is_none());
    drop(away);
    assert!(engine.wait(seconds(20)).is_some(), "{}", engine.log());
    assert!(!engine.socket().exists());
}

#[test]
fn removing_the_socket_ends_it() {
    needs!("netns", "tun");
    let ns = Netns::new();
    let mut engine = Engine::start(&adit(), &ns);
    fs::remove_file(engine.socket()).unwrap();
    assert!(engine.wait(seconds(20)).is_some(), "{}", engine.log());
    assert!(!ns.has(engine.interface()));
}

#[test]
fn second_instance_fails_and_harms_nothing() {
    needs!("netns", "tun", "wg", "ping");
    let mut pair = Pair::new(&adit(), &adit());
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    // In the same namespace the interface is in the way; in another one, the socket is.
    let elsewhere = Netns::new();
    for ns in [&pair.a.ns, &elsewhere] {
        let second = run(ns, &format!("-f {}", pair.a.interface()));
        assert!(second.code() > 0 && !second.stderr.is_empty(), "{}", second.text());
    }
    assert!(!elsewhere.has(pair.a.interface()), "a failed start leaves nothing behind");
    assert!(pair.a.engine.exited().is_none());
    pair.a.reaches_within(&pair.b, seconds(30));
    assert_eq!(pair.a.engine.dump().peers.len(), 1);
}

/// What a killed daemon leaves behind is in nobody's way.
#[test]
fn stale_socket_is_replaced() {
    needs!("netns", "tun");
    let ns = Netns::new();
    let mut first = Engine::start(&adit(), &ns);
    first.signal(Signal::SIGKILL);
    assert!(first.wait(seconds(20)).is_some() && first.socket().exists());
    let interface = first.interface().to_owned();
    assert!(within(seconds(20), || !ns.has(&interface)));
    let second = Engine::adopt(interface.clone(), ns.cmd(&adit().foreground(&interface)));
    assert_eq!(second.uapi().get().errno, 0);
}

#[test]
fn log_levels() {
    needs!("netns", "tun", "wg", "ping");
    let verbose = Pair::with_env(&adit(), &adit(), &[("LOG_LEVEL", "verbose")]);
    let psk = genpsk();
    verbose.a.engine.set_preshared_key(&verbose.b.keys.public, &psk);
    verbose.b.engine.set_preshared_key(&verbose.a.keys.public, &psk);
    verbose.a_knows_b(Outer::V4);
    verbose.a.reaches(&verbose.b);
    let log = verbose.a.engine.log();
    assert!(
        log.contains(verbose.a.interface()),
        "a handshake is worth a line, and lines tell the interface\n{log}"
    );
    for secret in [&verbose.a.keys.private, &psk] {
        assert!(
            !log.contains(secret.as_str()) && !log.contains(&lab::wg::hex(secret)),
            "a secret is in the log"
        );
    }
    let ns = Netns::new();
    let silent = Engine::start_with(&adit(), &ns, &[("LOG_LEVEL", "silent")]);
    assert_ne!(silent.uapi().set("frobnicate=1\n"), 0);
    assert_eq!(silent.log(), "");
}

/// The library alone and what the processor prefers understand each other, and the log tells which it is.
#[test]
fn cryptography_can_be_left_to_the_library() {
    needs!("netns", "tun", "wg", "ping");
    let sealed_by = |backend: Backend| format!("packets are sealed and opened by {backend}");
    let pair = Pair::with_env(&adit(), &adit(), &[("LOG_LEVEL", "info"), ("ADIT_CRYPTO", "library")]);
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let log = pair.a.engine.log();
    assert!(log.contains(&sealed_by(Backend::AwsLc)), "{log}");

    let ns = Netns::new();
    let engine = Engine::start_with(&adit(), &ns, &[("LOG_LEVEL", "info")]);
    engine.expect_log(&sealed_by(preferred_backend()), seconds(20));

    let interface = interface_name();
    let output = ns.cmd(&adit().foreground(&interface)).env("ADIT_CRYPTO", "own").run();
    assert!(output.code() > 0 && output.stderr.contains("ADIT_CRYPTO=\"own\""), "{}", output.text());
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.text());
    assert!(!ns.has(&interface));
}

/// A launcher may open the device, and the socket, and hand over the descriptors.
#[test]
fn inherited_descriptors() {
    needs!("netns", "tun", "wg");
    let (ns, interface) = (Netns::new(), interface_name());
    let tun = ns
        .enter(|| Tun::open(&TunOptions { offloads: Offloads::NONE, ..TunOptions::new(&interface) }))
        .unwrap();
    let device: OwnedFd = tun.queues()[0].as_fd().try_clone_to_owned().unwrap();
    drop(tun);
    fs::create_dir_all("/var/run/wireguard").unwrap();
    let listener = UnixListener::bind(socket(&interface)).unwrap();
    let command = ns
        .cmd("sh -c")
        .arg(format!("exec 3<&0 4<&1 </dev/null >&2; exec {}", adit().foreground(&interface)))
        .env("WG_PROCESS_FOREGROUND", "1")
        .env("WG_TUN_FD", "3")
        .env("WG_UAPI_FD", "4")
        .stdin(device)
        .stdout(listener);
    let mut engine = Engine::adopt(interface.clone(), command);
    assert_eq!(engine.uapi().set("listen_port=51821\n"), 0);
    assert!(ns.has(&interface));
    engine.signal(Signal::SIGTERM);
    assert_eq!(engine.wait(seconds(20)).map(code), Some(0), "{}", engine.log());
    assert!(!ns.has(&interface), "it had the only descriptor of the device");
}

#[test]
fn bad_descriptors() {
    needs!("netns", "tun");
    let ns = Netns::new();
    for (variable, value) in
        [("WG_TUN_FD", "77"), ("WG_TUN_FD", "x"), ("WG_UAPI_FD", "x"), ("WG_TUN_FD", "0")]
    {
        let interface = interface_name();
        let output = ns.cmd(&adit().foreground(&interface)).env(variable, value).run();
        assert!(output.code() > 0 && !output.stderr.is_empty(), "{variable}={value}: {}", output.text());
        assert!(!ns.has(&interface) && Uapi::connect(&interface).is_err());
    }
}

/// A configuration file in a directory of its own, removed when dropped.
struct Conf {
    file: PathBuf,
    interface: String,
}

impl Conf {
    fn new(text: &str) -> Conf {
        let interface = interface_name();
        let dir = std::env::temp_dir().join(format!("{interface}.d"));
        fs::create_dir(&dir).unwrap();
        let file = dir.join(format!("{interface}.conf"));
        fs::write(&file, text).unwrap();
        Conf { file, interface }
    }

    fn wg_quick(&self, ns: &Netns, verb: &str) -> Output {
        let line = format!("wg-quick {verb} {}", self.file.display());
        ns.cmd(&line).env("WG_QUICK_USERSPACE_IMPLEMENTATION", &adit().0).run()
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.file.parent().expect("it is in a directory"));
    }
}

/// Debian's wg-quick starts the daemon, routes everything through it, and takes it all back.
#[test]
fn wg_quick_up_and_down() {
    needs!("netns", "tun", "wg", "wg-quick", "nft", "ping");
    let pair = Pair::new(&adit(), &adit());
    let keys = Keypair::generate();
    let conf = Conf::new(&format!(
        "[Interface]\nPrivateKey = {}\nAddress = 192.168.241.7/32, fd00::7/128\nMTU = 1400\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {}\n",
        keys.private,
        pair.b.keys.public,
        pair.b.endpoint(Outer::V4)
    ));
    pair.b.engine.set(&format!("peer {} allowed-ips 192.168.241.7/32,fd00::7/128", keys.public));
    let client = &pair.a.ns;
    client.ip(&format!("link del {}", pair.a.interface()));
    let before = (client.ok("ip rule"), client.ok("nft list ruleset"));

    let up = conf.wg_quick(client, "up");
    assert_eq!(up.code(), 0, "{}", up.text());
    assert!(client.reaches(&pair.b.inner4(), seconds(30)) && client.reaches(&pair.b.inner6(), seconds(30)));
    assert!(client.ip("rule").contains("fwmark"));
    assert!(client.ip(&format!("link show {}", conf.interface)).contains("mtu 1400"));
    let again = conf.wg_quick(client, "up");
    assert_eq!(again.code(), 1);
    assert!(again.stderr.contains("already exists"), "{}", again.stderr);

    let down = conf.wg_quick(client, "down");
    assert_eq!(down.code(), 0, "{}", down.text());
    assert!(!client.has(&conf.interface));
    assert!(within(seconds(20), || !socket(&conf.interface).exists()));
    assert_eq!((client.ok("ip rule"), client.ok("nft list ruleset")), before);
}

/// A configuration that fails half way leaves no daemon behind.
#[test]
fn wg_quick_rolls_back() {
    needs!("netns", "tun", "wg", "wg-quick");
    let ns = Netns::new();
    let key = Keypair::generate().private;
    let conf =
        Conf::new(&format!("[Interface]\nPrivateKey = {key}\nAddress = 10.0.0.1/24\nPostUp = false\n"));
    let up = conf.wg_quick(&ns, "up");
    assert_ne!(up.code(), 0, "{}", up.text());
    assert!(!ns.has(&conf.interface));
    assert!(within(seconds(20), || !socket(&conf.interface).exists()));
}
