//! The configuration socket, as wireguard.com/xplatform describes it and as its clients rely on it.

use std::fmt::Write;
use std::io::{ErrorKind, Read};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::adit;
use lab::uapi::Answer;
use lab::wg::{Keypair, hex};
use lab::{Engine, Netns, Uapi, needs, seconds, within};
use nix::sys::signal::Signal;

const EINVAL: i32 = -22;
const EADDRINUSE: i32 = -98;

/// A daemon whose configuration is all that matters.
struct Daemon {
    engine: Engine,
    ns: Netns,
}

/// Starts a daemon, or returns from the test if the machine cannot.
macro_rules! daemon {
    () => {{
        needs!("netns", "tun", "wg");
        let ns = Netns::new();
        Daemon { engine: Engine::start(&adit(), &ns), ns }
    }};
}

impl Daemon {
    fn set(&self, lines: &str) -> i32 {
        self.engine.uapi().set(lines)
    }

    fn get(&self) -> Answer {
        self.engine.uapi().get()
    }
}

/// A public key like no other.
fn key(n: usize) -> String {
    format!("{:064x}", n + 0x1000)
}

#[test]
fn get_of_a_new_device() {
    let daemon = daemon!();
    let answer = daemon.get();
    assert!(answer.first("private_key").is_none() && answer.first("public_key").is_none(), "{answer:?}");
}

#[test]
fn socket_is_closed_to_others() {
    let daemon = daemon!();
    let mode = std::fs::metadata(daemon.engine.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
fn every_key_reads_back() {
    let daemon = daemon!();
    let Keypair { private, .. } = Keypair::generate();
    let private = hex(&private);
    let peer = key(1);
    let psk = "0123456789abcdef".repeat(4);
    let set = format!(
        "private_key={private}\nlisten_port=51999\nfwmark=3735928559\npublic_key={peer}\npreshared_key={psk}\n\
         endpoint=[2001:db8::7]:65535\npersistent_keepalive_interval=65535\nallowed_ip=10.0.0.0/8\n\
         allowed_ip=fd00::/8\nprotocol_version=1\n"
    );
    assert_eq!(daemon.set(&set), 0);
    let answer = daemon.get();
    for (name, value) in [
        ("private_key", private.as_str()),
        ("listen_port", "51999"),
        ("fwmark", "3735928559"),
        ("public_key", &peer),
        ("preshared_key", &psk),
        ("protocol_version", "1"),
        ("endpoint", "[2001:db8::7]:65535"),
        ("last_handshake_time_sec", "0"),
        ("last_handshake_time_nsec", "0"),
        ("tx_bytes", "0"),
        ("rx_bytes", "0"),
        ("persistent_keepalive_interval", "65535"),
    ] {
        assert_eq!(answer.first(name), Some(value), "{answer:?}");
    }
    let mut allowed = answer.all("allowed_ip");
    allowed.sort_unstable();
    assert_eq!(allowed, ["10.0.0.0/8", "fd00::/8"]);
}

#[test]
fn keys_are_clamped_and_uppercase_is_fine() {
    let daemon = daemon!();
    assert_eq!(daemon.set(&format!("private_key={}\n", "FF".repeat(32))), 0);
    let clamped = format!("f8{}7f", "ff".repeat(30));
    assert_eq!(daemon.get().first("private_key"), Some(clamped.as_str()));
    assert_eq!(daemon.set(&format!("private_key={}\n", "00".repeat(32))), 0);
    assert_eq!(daemon.get().first("private_key"), None, "the zero key removes it");
}

#[test]
fn host_bits_are_masked() {
    let daemon = daemon!();
    let peer = key(1);
    assert_eq!(daemon.set(&format!("public_key={peer}\nallowed_ip=10.1.2.3/8\nallowed_ip=fd00::1/8\n")), 0);
    let answer = daemon.get();
    let mut allowed = answer.all("allowed_ip");
    allowed.sort_unstable();
    assert_eq!(allowed, ["10.0.0.0/8", "fd00::/8"]);
}

#[test]
fn own_key_is_ignored() {
    let daemon = daemon!();
    let own = Keypair::generate();
    let set = format!(
        "private_key={}\npublic_key={}\nallowed_ip=10.0.0.0/8\n",
        hex(&own.private),
        hex(&own.public)
    );
    assert_eq!(daemon.set(&set), 0);
    assert_eq!(daemon.get().first("public_key"), None);
    // And a peer that the device's new key turns out to be is dropped.
    let (next, other) = (Keypair::generate(), key(1));
    assert_eq!(daemon.set(&format!("public_key={}\npublic_key={other}\n", hex(&next.public))), 0);
    assert_eq!(daemon.set(&format!("private_key={}\n", hex(&next.private))), 0);
    assert_eq!(daemon.get().all("public_key"), [other.as_str()]);
}

#[test]
fn sections_of_one_peer_merge() {
    let daemon = daemon!();
    let (one, two) = (key(1), key(2));
    let set = format!(
        "public_key={one}\nallowed_ip=10.0.0.0/24\npublic_key={two}\npublic_key={one}\nallowed_ip=10.0.1.0/24\n"
    );
    assert_eq!(daemon.set(&set), 0);
    let answer = daemon.get();
    assert_eq!(answer.all("public_key").len(), 2);
    assert_eq!(answer.all("allowed_ip").len(), 2);
    let set = format!("public_key={one}\nremove=true\npublic_key={one}\nallowed_ip=10.0.2.0/24\n");
    assert_eq!(daemon.set(&set), 0, "removed and added anew");
    assert_eq!(daemon.get().all("allowed_ip"), ["10.0.2.0/24"]);
}

#[test]
fn replacing_and_removing() {
    let daemon = daemon!();
    let (one, two, three) = (key(1), key(2), key(3));
    assert_eq!(daemon.set(&format!("public_key={one}\nallowed_ip=10.0.0.0/24\npublic_key={two}\n")), 0);
    let set = format!("public_key={one}\nreplace_allowed_ips=true\nallowed_ip=10.9.0.0/24\n");
    assert_eq!(daemon.set(&set), 0);
    assert_eq!(daemon.get().all("allowed_ip"), ["10.9.0.0/24"]);
    assert_eq!(daemon.set(&format!("public_key={three}\nupdate_only=true\nallowed_ip=10.9.0.0/24\n")), 0);
    assert_eq!(daemon.get().all("public_key").len(), 2, "update_only makes no peer");
    assert_eq!(daemon.get().all("allowed_ip"), ["10.9.0.0/24"]);
    assert_eq!(daemon.set(&format!("public_key={three}\nremove=true\n")), 0, "removing a stranger is fine");
    assert_eq!(daemon.set(&format!("replace_peers=true\npublic_key={three}\n")), 0);
    assert_eq!(daemon.get().all("public_key"), [three.as_str()]);
}

#[test]
fn allowed_ips_move_and_leave() {
    let daemon = daemon!();
    let (one, two) = (key(1), key(2));
    let set = format!("public_key={one}\nallowed_ip=10.0.0.0/24\npublic_key={two}\nallowed_ip=10.0.0.0/24\n");
    assert_eq!(daemon.set(&set), 0);
    assert_eq!(daemon.get().all("allowed_ip"), ["10.0.0.0/24"], "one peer has it, not both");
    assert_eq!(daemon.set(&format!("public_key={one}\nallowed_ip=-10.0.0.0/24\n")), 0);
    assert_eq!(daemon.get().all("allowed_ip"), ["10.0.0.0/24"], "it is not this peer's to give up");
    assert_eq!(daemon.set(&format!("public_key={two}\nallowed_ip=-10.0.0.0/24\n")), 0);
    assert!(daemon.get().all("allowed_ip").is_empty());
}

/// An error has the sign that `wg` expects of it, and closes nothing.
#[test]
fn errors_of_set_are_negative() {
    let daemon = daemon!();
    let peer = format!("public_key={}\n", key(1));
    let mut uapi = daemon.engine.uapi();
    for line in [
        "private_key=00",
        "private_key=xyz",
        "listen_port=65536",
        "listen_port=-1",
        "listen_port=",
        "fwmark=4294967296",
    ] {
        assert_eq!(uapi.set(&format!("{line}\n")), EINVAL, "{line}");
        uapi = daemon.engine.uapi();
    }
    for line in
        ["replace_peers=false", "replace_peers=1", "frobnicate=1", "allowed_ip=10.0.0.0/8", "public_key=00"]
    {
        assert_eq!(daemon.set(&format!("{line}\n")), EINVAL, "{line}");
    }
    for line in [
        "allowed_ip=10.0.0.0",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=fd00::/129",
        "allowed_ip=example.com/8",
        "endpoint=example.com:1",
        "endpoint=10.0.0.1",
        "endpoint=10.0.0.1:65536",
        "persistent_keepalive_interval=65536",
        "persistent_keepalive_interval=on",
        "protocol_version=2",
        "update_only=yes",
        "remove=false",
        "replace_allowed_ips=TRUE",
        "preshared_key=00",
        "listen_port=1",
        "frobnicate=1",
    ] {
        assert_eq!(daemon.set(&format!("{peer}{line}\n")), EINVAL, "{line}");
    }
}

/// All of a *set* or nothing of it.
#[test]
fn failing_set_changes_nothing() {
    let daemon = daemon!();
    let (one, two) = (key(1), key(2));
    assert_eq!(daemon.set(&format!("listen_port=51998\npublic_key={one}\nallowed_ip=10.0.0.0/24\n")), 0);
    let before = daemon.get();
    for bad in [
        format!("listen_port=51997\nfwmark=5\nreplace_peers=true\npublic_key={two}\nallowed_ip=nonsense\n"),
        format!("public_key={one}\nremove=true\npublic_key={two}\nfrobnicate=1\n"),
        format!("public_key={two}\nallowed_ip=10.0.0.0/24\nendpoint=1.2.3.4\n"),
    ] {
        assert_eq!(daemon.set(&bad), EINVAL);
        assert_eq!(daemon.get(), before, "after {bad:?}");
    }
}

#[test]
fn several_operations_on_a_connection() {
    let daemon = daemon!();
    let mut uapi = daemon.engine.uapi();
    for port in [51_001, 51_002, 51_003] {
        assert_eq!(uapi.set(&format!("listen_port={port}\n")), 0);
        assert_eq!(uapi.get().first("listen_port"), Some(port.to_string().as_str()));
    }
}

#[test]
fn operations_in_one_write() {
    let daemon = daemon!();
    let mut uapi = daemon.engine.uapi();
    uapi.send("set=1\nlisten_port=51004\n\nget=1\n\nset=1\nlisten_port=51005\n\nget=1\n\n");
    assert_eq!(uapi.answer().errno, 0);
    assert_eq!(uapi.answer().first("listen_port"), Some("51004"));
    assert_eq!(uapi.answer().errno, 0);
    assert_eq!(uapi.answer().first("listen_port"), Some("51005"));
}

#[test]
fn one_byte_at_a_time() {
    let daemon = daemon!();
    let mut uapi = daemon.engine.uapi();
    for byte in "set=1\nlisten_port=51006\n\nget=1\n\n".split_inclusive(|_| true) {
        uapi.send(byte);
        sleep(Duration::from_millis(1));
    }
    assert_eq!(uapi.answer().errno, 0);
    assert_eq!(uapi.answer().first("listen_port"), Some("51006"));
}

/// A client that stops in the middle of a request, and one that never reads its answer.
#[test]
fn stalled_clients_block_nobody() {
    let daemon = daemon!();
    let mut peers = String::new();
    for n in 0..10_000 {
        writeln!(peers, "public_key={}", key(n)).unwrap();
    }
    assert_eq!(daemon.set(&peers), 0);
    let mut writer = daemon.engine.uapi();
    writer.send("set=1\nlisten_port=510");
    let mut reader = daemon.engine.uapi();
    reader.send("get=1\n\n");
    sleep(Duration::from_millis(200));
    let start = Instant::now();
    assert_eq!(daemon.set("listen_port=51007\n"), 0);
    assert_eq!(daemon.get().first("listen_port"), Some("51007"));
    assert!(start.elapsed() < seconds(5), "{:?}", start.elapsed());
    writer.send("08\n\n");
    assert_eq!(writer.answer().errno, 0);
    assert_eq!(reader.answer().all("public_key").len(), 10_000);
}

/// 256 clients are served. One more, and who was silent for the longest has to go.
#[test]
fn of_too_many_clients_the_longest_silent_goes() {
    const SERVED: usize = 256;
    const SURPLUS: usize = 40;
    let daemon = daemon!();
    let mut talker = daemon.engine.uapi();
    let mut silent = Vec::new();
    while silent.len() < SERVED + SURPLUS {
        for _ in 0..100.min(SERVED + SURPLUS - silent.len()) {
            let stream = UnixStream::connect(daemon.engine.socket()).unwrap();
            stream.set_nonblocking(true).unwrap();
            silent.push(stream);
        }
        assert_eq!(talker.set("listen_port=51020\n"), 0, "who talks stays");
    }
    // Whoever is answered has been let in, and so has everybody before.
    assert_eq!(daemon.get().first("listen_port"), Some("51020"));
    // The talker and the one just now had a place each.
    let gone = SURPLUS + 2;
    for (number, stream) in silent.iter_mut().enumerate() {
        let read = stream.read(&mut [0; 1]).map_err(|error| error.kind());
        let expected = if number < gone { Ok(0) } else { Err(ErrorKind::WouldBlock) };
        assert_eq!(read, expected, "client {number} of {}", SERVED + SURPLUS);
    }
    assert_eq!(talker.set("listen_port=51021\n"), 0, "who talks stays");
}

/// A crowd that comes while the daemon is busy does not turn out who has asked something.
#[test]
fn who_has_asked_is_answered_before_a_crowd_is_let_in() {
    const CROWD: usize = 600;
    let mut daemon = daemon!();
    let connect = |daemon: &Daemon| UnixStream::connect(daemon.engine.socket()).unwrap();
    daemon.engine.signal(Signal::SIGSTOP);
    let mut before: Vec<_> = (0..CROWD / 2).map(|_| connect(&daemon)).collect();
    let mut asking = daemon.engine.uapi();
    asking.send("set=1\nlisten_port=51022\n\n");
    before.extend((0..CROWD / 2).map(|_| connect(&daemon)));
    daemon.engine.signal(Signal::SIGCONT);
    assert_eq!(asking.answer().errno, 0);
    assert_eq!(daemon.get().first("listen_port"), Some("51022"));
}

/// Answers that nobody reads take memory as long as their clients are there.
#[test]
fn memory_of_answers_goes_back_to_the_system() {
    const CLIENTS: usize = 50;
    const PEERS: usize = 4_000;
    let daemon = daemon!();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.engine.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it uses memory");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let section = |n| format!("public_key={}\nallowed_ip=10.{}.{}.0/24\n", key(n), n / 256, n % 256);
    assert_eq!(daemon.set(&(0..PEERS).map(section).collect::<String>()), 0);
    let answer: usize = daemon.get().lines.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    let before = resident();
    let expected = before + CLIENTS * answer / 1024 * 9 / 10;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let mut client = daemon.engine.uapi();
        client.send("get=1\n\n");
        clients.push(client);
        // In between others, so that nothing is at the end of the memory in use.
        assert_eq!(daemon.set(&section(PEERS + n)), 0);
    }
    assert!(within(seconds(20), || resident() > expected), "{} KiB", resident());
    drop(clients);
    let limit = before + 4 * answer / 1024;
    assert!(within(seconds(20), || resident() < limit), "{before} KiB before, {} KiB after", resident());
}

/// A half request without its empty line is none.
#[test]
fn hanging_up_in_the_middle_changes_nothing() {
    let daemon = daemon!();
    assert_eq!(daemon.set("listen_port=51010\n"), 0);
    let mut uapi = daemon.engine.uapi();
    uapi.send("set=1\nlisten_port=51011\n");
    drop(uapi);
    sleep(Duration::from_millis(200));
    assert_eq!(daemon.get().first("listen_port"), Some("51010"));
}

#[test]
fn port_in_use() {
    let daemon = daemon!();
    daemon.ns.ip(&format!("link set {} up", daemon.engine.interface()));
    let taken = daemon.ns.enter(|| UdpSocket::bind("[::]:0")).unwrap();
    let port = taken.local_addr().unwrap().port();
    assert_eq!(daemon.set(&format!("listen_port={port}\n")), EADDRINUSE);
    drop(taken);
    assert_eq!(daemon.set(&format!("listen_port={port}\n")), 0, "the daemon is usable, and the port free");
    assert_eq!(daemon.get().first("listen_port"), Some(port.to_string().as_str()));
}

#[test]
fn ten_thousand_peers() {
    many_peers(&daemon!(), 10_000);
}

#[test]
#[ignore = "slow: 100,000 peers"]
fn a_hundred_thousand_peers() {
    many_peers(&daemon!(), 100_000);
}

fn many_peers(daemon: &Daemon, count: usize) {
    let mut peers = format!("private_key={}\n", hex(&Keypair::generate().private));
    for n in 0..count {
        let [_, a, b, c] = u32::try_from(n).unwrap().to_be_bytes();
        writeln!(peers, "public_key={}\nendpoint=10.{a}.{b}.{c}:1\nallowed_ip=10.{a}.{b}.{c}/32", key(n))
            .unwrap();
    }
    let start = Instant::now();
    assert_eq!(daemon.set(&peers), 0);
    let answer = daemon.get();
    assert_eq!((answer.all("public_key").len(), answer.all("allowed_ip").len()), (count, count));
    println!("{count} peers set and read in {:?}", start.elapsed());
    assert_eq!(daemon.set("replace_peers=true\n"), 0);
    assert!(daemon.get().all("public_key").is_empty());
}

/// 255 · 256 prefixes of either family, for one peer.
#[test]
fn many_allowed_ips() {
    let daemon = daemon!();
    let mut set = format!("public_key={}\n", key(1));
    for a in 1..=255 {
        for b in 0..=255 {
            writeln!(set, "allowed_ip={a}.{b}.0.0/16\nallowed_ip={a:x}::{b:x}/128").unwrap();
        }
    }
    assert_eq!(daemon.set(&set), 0);
    assert_eq!(daemon.get().all("allowed_ip").len(), 130_560);
}

/// Readers see the device before or after a *set*, nothing in between.
#[test]
fn get_is_atomic() {
    let daemon = daemon!();
    let interface = daemon.engine.interface();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..200 {
                let set =
                    format!("listen_port={}\npublic_key={}\nallowed_ip=10.0.0.0/24\n", 40_000 + n, key(n));
                assert_eq!(daemon.set(&format!("replace_peers=true\n{set}")), 0);
            }
        });
        let mut uapi = Uapi::connect(interface).unwrap();
        while !writer.is_finished() {
            let answer = uapi.get();
            let Some(port) = answer.first("listen_port").and_then(|p| p.parse::<usize>().ok()) else {
                continue;
            };
            if port >= 40_000 {
                assert_eq!(answer.first("public_key"), Some(key(port - 40_000).as_str()), "{answer:?}");
            }
        }
    });
}
