//! The configuration socket (wireguard.com/xplatform), as its clients rely on it.

use std::fmt::Write;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::seconds;

use crate::check::Check;
use crate::peer::{Keys, SOON};
use crate::scene::{PORT, Scene};
use crate::wire;

const EADDRINUSE: i32 = -98;

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::new(
        "uapi/reads-back",
        "What is set is what is got, in the spelling that clients know",
        reads_back,
    ),
    Check::new(
        "uapi/without-private-key",
        "A device without a private key can be asked, and may have peers",
        without_private_key,
    ),
    Check::new(
        "uapi/clamped",
        "A private key reads back clamped; upper case is fine; zeros remove it",
        clamped,
    ),
    Check::new("uapi/host-bits", "Host bits of an allowed IP are masked", host_bits),
    Check::new("uapi/sections-merge", "Several sections of one peer are one peer", sections),
    Check::new("uapi/remove-and-add", "A peer may be removed and added in one operation", remove_and_add),
    Check::new("uapi/update-only", "update_only makes no peer", update_only),
    Check::new("uapi/replace-peers", "replace_peers leaves no other peers", replace_peers),
    Check::new(
        "uapi/allowed-ip-moves",
        "An allowed IP is one peer's: whom it is given to last",
        allowed_ip_moves,
    ),
    Check::new(
        "uapi/allowed-ip-minus",
        "allowed_ip=-… takes away what is the peer's own, and nothing else",
        allowed_ip_minus,
    ),
    Check::new("uapi/own-key", "The device's own key as a peer's is passed over in silence", own_key),
    Check::new("uapi/own-key-later", "A peer whose key the device takes is dropped", own_key_later),
    Check::new(
        "uapi/errors-device",
        "Errors about the device are answered, with a negative errno",
        errors_device,
    ),
    Check::new("uapi/errors-peer", "So are errors about a peer", errors_peer),
    Check::new("uapi/booleans", "Booleans have one value: true", booleans),
    Check::new(
        "uapi/bad-keys",
        "Keys of another length, or with other digits, are refused (VPP d9d7707)",
        bad_keys,
    ),
    Check::new(
        "uapi/error-keeps-serving",
        "After an error the daemon serves on, and the tunnel works",
        serves_on,
    ),
    Check::new("uapi/several-operations", "A connection takes one operation after the other", several),
    Check::new("uapi/pipelined", "Also when they come in one write (wireguard-go loses some)", pipelined),
    Check::new("uapi/byte-by-byte", "And when a request comes one byte at a time", byte_by_byte),
    Check::new("uapi/stalled-client", "A client that stops in the middle blocks nobody", stalled),
    Check::new("uapi/hangs-up", "A request without its end is none", hangs_up),
    Check::new(
        "uapi/client-gone",
        "A client that is gone before its answer is written harms nobody",
        client_gone,
    ),
    Check::new("uapi/port-in-use", "A port that is taken is reported, and the daemon works on", port_in_use),
    Check::new("uapi/ten-thousand-peers", "10,000 peers can be set and got", many_peers),
    Check::new("uapi/many-allowed-ips", "So can 130,560 allowed IPs", many_allowed_ips),
    Check::new(
        "uapi/get-is-atomic",
        "Who reads sees the device before or after a set, nothing in between",
        atomic,
    ),
    Check::new(
        "uapi/peers-come-and-go",
        "Peers come and go while they are listed and in use (CVE-2024-26950, CVE-2024-26861)",
        come_and_go,
    ),
    Check::new(
        "uapi/counters",
        "rx_bytes and tx_bytes count whole UDP payloads, handshakes and keepalives too",
        counters,
    ),
    Check::new(
        "uapi/last-handshake",
        "The latest handshake is told as a time of the wall clock",
        last_handshake,
    ),
    Check::new("uapi/socket-mode", "The socket is closed to others", socket_mode),
    Check::new(
        "uapi/churn",
        "100,000 peers that come and go leave no memory behind (tailscale#20954)",
        churn,
    ),
];

/// A public key like no other.
fn key(n: usize) -> String {
    format!("{:064x}", n + 0x1000)
}

fn reads_back(scene: &mut Scene) {
    let psk = wire::hex(&wire::random::<32>());
    scene.set(&format!(
        "listen_port=51999\nfwmark=3735928559\npublic_key={}\npreshared_key={psk}\n\
         endpoint=[2001:db8::7]:65535\npersistent_keepalive_interval=65535\nallowed_ip=10.0.0.0/8\n\
         allowed_ip=fd10::/16\nprotocol_version=1\n",
        key(1)
    ));
    let answer = scene.get();
    for (name, value) in [
        ("listen_port", "51999"),
        ("fwmark", "3735928559"),
        ("public_key", key(1).as_str()),
        ("preshared_key", &psk),
        ("protocol_version", "1"),
        ("endpoint", "[2001:db8::7]:65535"),
        ("last_handshake_time_sec", "0"),
        ("last_handshake_time_nsec", "0"),
        ("rx_bytes", "0"),
        ("persistent_keepalive_interval", "65535"),
    ] {
        assert_eq!(answer.first(name), Some(value), "{name}");
    }
    assert_eq!(answer.first("private_key").map(str::len), Some(64), "digits of the private key");
    let mut allowed = answer.all("allowed_ip");
    allowed.sort_unstable();
    assert_eq!(allowed, ["10.0.0.0/8", "fd10::/16"]);
}

fn without_private_key(scene: &mut Scene) {
    scene.set(&format!("private_key={}\npublic_key={}\n", "0".repeat(64), key(1)));
    let answer = scene.get();
    assert_eq!(answer.first("private_key"), None, "the private key");
    assert_eq!(answer.all("public_key"), [key(1).as_str()], "the peer");
}

fn clamped(scene: &mut Scene) {
    scene.set(&format!("private_key={}\n", "FF".repeat(32)));
    assert_eq!(scene.get().first("private_key"), Some(format!("f8{}7f", "ff".repeat(30)).as_str()));
    scene.set(&format!("private_key={}\n", "00".repeat(32)));
    assert_eq!(scene.get().first("private_key"), None, "after zeros");
}

fn host_bits(scene: &mut Scene) {
    scene.set(&format!("public_key={}\nallowed_ip=10.1.2.3/8\nallowed_ip=fd10::1/16\n", key(1)));
    let answer = scene.get();
    let mut allowed = answer.all("allowed_ip");
    allowed.sort_unstable();
    assert_eq!(allowed, ["10.0.0.0/8", "fd10::/16"]);
}

fn sections(scene: &mut Scene) {
    let (one, two) = (key(1), key(2));
    scene.set(&format!(
        "public_key={one}\nallowed_ip=10.0.0.0/24\npublic_key={two}\npublic_key={one}\nallowed_ip=10.0.1.0/24\n"
    ));
    let answer = scene.get();
    assert_eq!(
        (answer.all("public_key").len(), answer.all("allowed_ip").len()),
        (2, 2),
        "peers and allowed IPs"
    );
}

fn remove_and_add(scene: &mut Scene) {
    let one = key(1);
    scene.set(&format!("public_key={one}\nallowed_ip=10.0.0.0/24\n"));
    scene.set(&format!("public_key={one}\nremove=true\npublic_key={one}\nallowed_ip=10.0.2.0/24\n"));
    assert_eq!(scene.get().all("allowed_ip"), ["10.0.2.0/24"]);
    scene.set(&format!("public_key={}\nremove=true\n", key(7)));
    assert_eq!(scene.get().all("public_key").len(), 1, "peers after removing one that is not there");
}

fn update_only(scene: &mut Scene) {
    scene.set(&format!("public_key={}\nallowed_ip=10.9.0.0/24\n", key(1)));
    scene.set(&format!("public_key={}\nupdate_only=true\nallowed_ip=10.9.0.0/24\n", key(2)));
    let answer = scene.get();
    assert_eq!(answer.all("public_key"), [key(1).as_str()]);
    assert_eq!(answer.all("allowed_ip"), ["10.9.0.0/24"], "it stays whose it was");
    scene.set(&format!("public_key={}\nupdate_only=true\nallowed_ip=10.8.0.0/24\n", key(1)));
    assert_eq!(scene.get().all("allowed_ip").len(), 2, "an update of a peer that is there");
}

fn replace_peers(scene: &mut Scene) {
    scene.set(&format!("public_key={}\npublic_key={}\n", key(1), key(2)));
    scene.set(&format!("replace_peers=true\npublic_key={}\n", key(3)));
    assert_eq!(scene.get().all("public_key"), [key(3).as_str()]);
}

fn allowed_ip_moves(scene: &mut Scene) {
    let (one, two) = (key(1), key(2));
    scene.set(&format!(
        "public_key={one}\nallowed_ip=10.0.0.0/24\npublic_key={two}\nallowed_ip=10.0.0.0/24\n"
    ));
    let lines = scene.get().lines;
    let owners: Vec<_> = lines.iter().filter(|(k, _)| k == "allowed_ip").collect();
    assert_eq!(owners.len(), 1, "peers that have it");
    let last = lines.iter().take_while(|(k, _)| k != "allowed_ip").filter(|(k, _)| k == "public_key").last();
    assert_eq!(last.map(|(_, v)| v.as_str()), Some(two.as_str()), "whose it is");
}

fn allowed_ip_minus(scene: &mut Scene) {
    let (one, two) = (key(1), key(2));
    scene.set(&format!(
        "public_key={one}\nallowed_ip=10.0.0.0/24\npublic_key={two}\nallowed_ip=10.1.0.0/24\n"
    ));
    scene.set(&format!("public_key={one}\nallowed_ip=-10.1.0.0/24\n"));
    assert_eq!(scene.get().all("allowed_ip").len(), 2, "another's was taken away");
    scene.set(&format!("public_key={two}\nallowed_ip=-10.1.0.0/24\n"));
    assert_eq!(scene.get().all("allowed_ip"), ["10.0.0.0/24"]);
}

fn own_key(scene: &mut Scene) {
    let own = wire::hex(&scene.keys.public);
    scene.set(&format!("public_key={own}\nallowed_ip=10.0.0.0/8\npublic_key={}\n", key(1)));
    assert_eq!(scene.get().all("public_key"), [key(1).as_str()]);
}

fn own_key_later(scene: &mut Scene) {
    let next = Keys::new();
    scene.set(&format!("public_key={}\npublic_key={}\n", wire::hex(&next.public), key(1)));
    scene.set(&format!("private_key={}\n", wire::hex(&next.private)));
    assert_eq!(scene.get().all("public_key"), [key(1).as_str()]);
}

/// Asserts that each of `lines` is refused with a negative errno, on a connection of its own.
fn all_refused(scene: &Scene, before: &str, lines: &[&str]) {
    for line in lines {
        let errno = scene.uapi().set(&format!("{before}{line}\n"));
        assert!(errno < 0, "errno={errno} for {line}");
    }
}

fn errors_device(scene: &mut Scene) {
    let lines = [
        "listen_port=65536",
        "listen_port=-1",
        "listen_port=",
        "listen_port=x",
        "fwmark=4294967296",
        "fwmark=-1",
        "frobnicate=1",
        "allowed_ip=10.0.0.0/8",
        "endpoint=10.0.0.1:1",
        "listen_port",
    ];
    all_refused(scene, "", &lines);
}

fn errors_peer(scene: &mut Scene) {
    let lines = [
        "allowed_ip=10.0.0.0",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=fd00::/129",
        "allowed_ip=10.0.0/8",
        "allowed_ip=example.com/8",
        "endpoint=example.com:1",
        "endpoint=10.0.0.1",
        "endpoint=10.0.0.1:65536",
        "persistent_keepalive_interval=65536",
        "persistent_keepalive_interval=on",
        "protocol_version=2",
        "listen_port=1",
        "frobnicate=1",
    ];
    all_refused(scene, &format!("public_key={}\n", key(1)), &lines);
}

fn booleans(scene: &mut Scene) {
    all_refused(
        scene,
        "",
        &["replace_peers=false", "replace_peers=1", "replace_peers=TRUE", "replace_peers="],
    );
    let peer = format!("public_key={}\n", key(1));
    all_refused(scene, &peer, &["update_only=yes", "remove=false", "replace_allowed_ips=0"]);
}

fn bad_keys(scene: &mut Scene) {
    let [short, long, other] = ["a".repeat(63), "a".repeat(65), "g".repeat(64)];
    for value in [short.as_str(), &long, &other, "", "00", "é"] {
        all_refused(scene, "", &[&format!("private_key={value}"), &format!("public_key={value}")]);
        let peer = format!("public_key={}\n", key(1));
        all_refused(scene, &peer, &[&format!("preshared_key={value}")]);
    }
}

fn serves_on(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    for line in ["frobnicate=1", "public_key=00", "private_key=x", "allowed_ip=10.0.0.0/8"] {
        let _ = scene.uapi().set(&format!("{line}\n"));
    }
    // Who speaks something else altogether may be hung up on, without an answer.
    for garbage in ["GET / HTTP/1.1\r\n\r\n", "\n\n", "get=2\n\n", "set=2\n\n", "\0\0\0\n\n"] {
        scene.uapi().send(garbage);
    }
    scene.settle(&tap, &peer, &session);
    assert_eq!(scene.get().first("listen_port"), Some(PORT.to_string().as_str()));
}

fn several(scene: &mut Scene) {
    let mut uapi = scene.uapi();
    for port in [51_001, 51_002, 51_003] {
        assert_eq!(uapi.set(&format!("listen_port={port}\n")), 0);
        assert_eq!(uapi.get().first("listen_port"), Some(port.to_string().as_str()));
    }
}

fn pipelined(scene: &mut Scene) {
    let mut uapi = scene.uapi();
    uapi.send("set=1\nlisten_port=51004\n\nget=1\n\nset=1\nlisten_port=51005\n\nget=1\n\n");
    assert_eq!(uapi.answer().errno, 0);
    assert_eq!(uapi.answer().first("listen_port"), Some("51004"));
    assert_eq!(uapi.answer().errno, 0);
    assert_eq!(uapi.answer().first("listen_port"), Some("51005"));
}

fn byte_by_byte(scene: &mut Scene) {
    let mut uapi = scene.uapi();
    // The next one only when this one is answered: pipelining is another check's.
    let mut ask = |request: &str| {
        for byte in request.split_inclusive(|_| true) {
            uapi.send(byte);
            std::thread::sleep(Duration::from_millis(1));
        }
        uapi.answer()
    };
    assert_eq!(ask("set=1\nlisten_port=51006\n\n").errno, 0);
    assert_eq!(ask("get=1\n\n").first("listen_port"), Some("51006"));
}

fn stalled(scene: &mut Scene) {
    let mut writer = scene.uapi();
    writer.send("set=1\nlisten_port=510");
    let mut other = scene.uapi();
    let start = Instant::now();
    assert_eq!(other.set("listen_port=51007\n"), 0);
    assert!(start.elapsed() < seconds(5), "blocked for {:?}", start.elapsed());
    writer.send("08\n\n");
    assert_eq!(writer.answer().errno, 0);
    assert_eq!(other.get().first("listen_port"), Some("51008"));
}

fn hangs_up(scene: &mut Scene) {
    let mut uapi = scene.uapi();
    uapi.send(&format!("set=1\npublic_key={}\nallowed_ip=10.", key(1)));
    drop(uapi);
    std::thread::sleep(Duration::from_millis(200));
    assert!(scene.get().all("allowed_ip").is_empty(), "half an allowed IP was set");
}

fn port_in_use(scene: &mut Scene) {
    let taken = scene.inside.enter(|| UdpSocket::bind("0.0.0.0:0")).expect("some port");
    let port = taken.local_addr().expect("it is bound").port();
    assert_eq!(scene.uapi().set(&format!("listen_port={port}\n")), EADDRINUSE, "errno");
    drop(taken);
    scene.set("listen_port=51009\n");
    let (peer, tap) = (scene.peer(), scene.tun());
    peer.port.aim(([10, 77, 0, 1], 51_009).into());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
}

fn many_peers(scene: &mut Scene) {
    let mut lines = String::new();
    for n in 0..10_000 {
        let (high, low) = (n / 256, n % 256);
        let _ = writeln!(
            lines,
            "public_key={}\nendpoint=10.0.{high}.{low}:1\nallowed_ip=10.0.{high}.{low}/32",
            key(n)
        );
    }
    scene.set(&lines);
    let answer = scene.get();
    assert_eq!((answer.all("public_key").len(), answer.all("allowed_ip").len()), (10_000, 10_000));
    scene.set("replace_peers=true\n");
    assert!(scene.get().all("public_key").is_empty());
}

fn many_allowed_ips(scene: &mut Scene) {
    let mut lines = format!("public_key={}\n", key(1));
    for a in 1..=255 {
        for b in 0..=255 {
            let _ = writeln!(lines, "allowed_ip={a}.{b}.0.0/16\nallowed_ip={a:x}::{b:x}/128");
        }
    }
    scene.set(&lines);
    assert_eq!(scene.get().all("allowed_ip").len(), 130_560);
}

fn atomic(scene: &mut Scene) {
    let scene = &*scene;
    std::thread::scope(|scope| {
        let mut writer_uapi = scene.uapi();
        let writer = scope.spawn(move || {
            for n in 0..200 {
                let lines = format!(
                    "fwmark={}\nreplace_peers=true\npublic_key={}\nallowed_ip=10.0.0.0/24\n",
                    n + 1,
                    key(n)
                );
                assert_eq!(writer_uapi.set(&lines), 0, "errno");
            }
        });
        let mut uapi = scene.uapi();
        while !writer.is_finished() {
            let answer = uapi.get();
            let Some(mark) = answer.first("fwmark").and_then(|mark| mark.parse::<usize>().ok()) else {
                continue;
            };
            if mark > 0 {
                assert_eq!(answer.all("public_key"), [key(mark - 1).as_str()], "the peer of set {mark}");
                assert_eq!(answer.all("allowed_ip"), ["10.0.0.0/24"], "its allowed IP");
            }
        }
        writer.join().expect("each set succeeds");
    });
}

fn come_and_go(scene: &mut Scene) {
    let peers: Vec<_> = (0..4).map(|_| scene.known()).collect();
    for round in 0..40 {
        let peer = &peers[round % 4];
        scene.change(peer, "remove=true\n");
        let mut uapi = scene.uapi();
        uapi.send("get=1\n\n");
        scene.add(peer, &format!("endpoint={}\n", peer.port.address()));
        for other in &peers {
            let _ = scene.say(other.inner4(), b"anybody there?");
            other.port.send(&other.initiation().bytes);
        }
        assert_eq!(uapi.answer().errno, 0);
        assert_eq!(scene.get().all("public_key").len(), 4, "peers after round {round}");
    }
    let tap = scene.tun();
    let session = peers[0].connect();
    scene.settle(&tap, &peers[0], &session);
}

fn counters(scene: &mut Scene) {
    let peer = scene.peer();
    let number = |key| scene.get_of(&peer, key).and_then(|value| value.parse::<u64>().ok());
    let session = peer.connect();
    let mut sent = 92;
    for len in [0, 1, 100] {
        peer.port.drain();
        scene.say(peer.inner4(), &vec![1; len]).expect("the tunnel takes a packet");
        let text = peer.hear_data(&session, SOON).expect("no data").text;
        sent += 32 + text.len() as u64;
        peer.port.send(&session.next(&[]));
    }
    let expected = (Some(148 + 4 * 32), Some(sent));
    let told = || (number("rx_bytes"), number("tx_bytes"));
    lab::within(seconds(2), || told() == expected);
    assert_eq!(told(), expected, "rx_bytes and tx_bytes");
}

fn last_handshake(scene: &mut Scene) {
    let peer = scene.peer();
    peer.connect();
    let number =
        || scene.get_of(&peer, "last_handshake_time_sec").and_then(|value| value.parse::<u64>().ok());
    lab::within(SOON, || number().is_some_and(|n| n > 0));
    let told = Duration::from_secs(number().expect("it is told"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    assert!(told + seconds(10) > now && told <= now, "{told:?} since the epoch, at {now:?}");
}

fn socket_mode(scene: &mut Scene) {
    let mode = std::fs::metadata(scene.engine.socket()).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "mode {mode:o}");
}

fn churn(scene: &mut Scene) {
    let mut uapi = scene.uapi();
    let mut round = |round: usize| {
        let mut lines = String::from("replace_peers=true\n");
        for n in 0..1_000 {
            let (a, b) = (n / 250, n % 250);
            let _ = writeln!(
                lines,
                "public_key={}\nallowed_ip=10.{}.{a}.{b}/32",
                key(round * 1_000 + n),
                round % 250
            );
        }
        assert_eq!(uapi.set(&lines), 0, "errno");
    };
    (0..20).for_each(&mut round);
    let before = scene.resident();
    (20..100).for_each(&mut round);
    let after = scene.resident();
    // A heap that is collected grows now and then; what 80,000 peers leave behind would be more than that.
    assert!(after < before * 3 / 2 + 16_384, "{before} KB after 20,000 peers, {after} KB after 100,000");
}

fn client_gone(scene: &mut Scene) {
    let lines: String = (0..2_000).map(|n| format!("public_key={}\n", key(n))).collect();
    scene.set(&lines);
    for _ in 0..20 {
        scene.uapi().send("get=1\n\nget=1\n\nget=1\n\n");
    }
    assert_eq!(scene.get().all("public_key").len(), 2_000, "peers");
}
