//! `adit metrics`: asked by curl, and read by the OpenMetrics parser of those who defined the format.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::adit;
use lab::netns::interface_name;
use lab::{Background, Cmd, Engine, Netns, Outer, Output, Pair, Program, needs, seconds, skip, within};
use nix::sys::signal::Signal;
use nix::sys::socket::{Backlog, listen};
use serde_json::Value;

/// Debian's, whatever else is called python3.
const PYTHON: &str = "/usr/bin/python3";
const PARSER: &str = "\
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
text = open(sys.argv[1]).read()
assert text.endswith('# EOF\\n')
print(json.dumps([[f.type, s.name, s.labels, s.value] for f in parse(text) for s in f.samples]))";

/// What the parser found.
#[derive(Debug)]
struct Samples(Vec<Value>);

impl Samples {
    fn parse(text: &str) -> Samples {
        let file = std::env::temp_dir().join(format!("{}.metrics", interface_name()));
        fs::write(&file, text).unwrap();
        let parsed = Cmd::new(PYTHON).arg("-c").arg(PARSER).arg(&file).run();
        let _ = fs::remove_file(&file);
        assert!(parsed.success(), "{}\n{text}", parsed.text());
        Samples(serde_json::from_str(&parsed.stdout).unwrap())
    }

    /// The sample of this name with at least these labels.
    fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Value| {
            sample[1] == name && labels.iter().all(|(label, value)| sample[2][label] == *value)
        };
        self.0.iter().find(has).and_then(|sample| sample[3].as_f64())
    }

    #[track_caller]
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in {self:#?}"))
    }
}

/// Returns from the test if the parser is not there.
macro_rules! needs_parser {
    () => {
        needs!("netns", "tun", "wg", "ping", "curl");
        if !Cmd::new(PYTHON).arg("-c").arg("import prometheus_client.openmetrics.parser").run().success() {
            skip("python3-prometheus-client is not installed");
            return;
        }
    };
}

struct Metrics {
    process: Background,
    path: PathBuf,
}

impl Metrics {
    fn command(ns: &Netns, place: &str) -> Cmd {
        ns.cmd(&format!("{} metrics {place}", adit().0.display()))
    }

    /// On a UNIX socket.
    fn start(ns: &Netns) -> Metrics {
        let path = std::env::temp_dir().join(format!("{}.sock", interface_name()));
        let process = Self::command(ns, &format!("unix:{}", path.display())).spawn();
        process.expect_log("answering on unix:", seconds(20));
        Metrics { process, path }
    }

    fn curl(&self, args: &str) -> Output {
        Cmd::new(&format!("curl -sS --unix-socket {} {args}", self.path.display())).run()
    }

    #[track_caller]
    fn samples(&self) -> Samples {
        let answer = self.curl("-f http://localhost/metrics");
        assert!(answer.success(), "{}", answer.text());
        Samples::parse(&answer.stdout)
    }

    /// The status and the headers of an answer.
    fn status(&self, args: &str) -> String {
        self.curl(&format!("-o /dev/null -D - {args}")).stdout
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.process.signal(Signal::SIGTERM);
        let _ = self.process.wait(seconds(20));
    }
}

#[test]
fn what_peers_and_drops_count() {
    needs_parser!();
    let pair = Pair::new(&adit(), &adit());
    pair.b_knows_a(Outer::V4);
    pair.b.reaches(&pair.a);
    pair.b.ns.address(pair.b.interface(), "10.9.9.9/32");
    pair.b.ns.ping(&format!("-c 3 -i 0.2 -I 10.9.9.9 {}", pair.a.inner4()));
    pair.a.ns.ping("-c 1 192.168.241.99");
    let metrics = Metrics::start(&pair.a.ns);
    let samples = metrics.samples();
    let (a, b) = (("interface", pair.a.interface()), ("public_key", pair.b.keys.public.as_str()));
    let info = [a, ("public_key", &pair.a.keys.public), ("engine", "adit"), ("listen_port", "10000")];
    assert_eq!(samples.get("wireguard_interface_info", &info), 1.0);
    assert_eq!(samples.get("wireguard_interface_answered", &[a]), 1.0);
    assert_eq!(samples.get("wireguard_peers", &[a]), 1.0);
    let shown = pair.a.peer(&pair.b);
    // A keepalive may have come meanwhile.
    assert!(samples.get("wireguard_peer_received_bytes_total", &[a, b]) <= shown.rx as f64);
    assert!(samples.get("wireguard_peer_received_bytes_total", &[a, b]) > 300.0);
    assert!(samples.get("wireguard_peer_sent_bytes_total", &[a, b]) > 300.0);
    let at = samples.get("wireguard_peer_latest_handshake_timestamp_seconds", &[a, b]);
    assert_eq!(at as u64, shown.latest_handshake);
    assert!(samples.get("wireguard_peer_latest_handshake_age_seconds", &[a, b]) < 120.0);
    let drops = [a, b, ("reason", "source_not_allowed")];
    assert_eq!(samples.get("wireguard_peer_drops_total", &drops), 3.0);
    assert_eq!(samples.get("wireguard_drops_total", &[a, ("reason", "source_not_allowed")]), 3.0);
    assert!(samples.get("wireguard_drops_total", &[a, ("reason", "no_route")]) >= 1.0);
    assert!(samples.get("adit_workers", &[a]) >= 1.0);
    assert_eq!(samples.get("adit_endpoint_names", &[a]), 0.0, "a gauge");
    assert!(samples.get("adit_tun_read_total", &[a]) >= 1.0);
    let offload = [a, ("offload", "udp_gro")];
    assert_eq!(samples.get("adit_offload", &offload), 1.0);
    assert_eq!(samples.get("adit_confinement", &[a, ("part", "seccomp"), ("state", "on")]), 1.0);
    // The other way round nobody has done anything wrong, and the age grows.
    let other = [("interface", pair.b.interface()), ("reason", "source_not_allowed")];
    assert_eq!(samples.find("wireguard_drops_total", &other), None);
}

#[test]
fn another_engine_and_one_that_is_stuck() {
    needs_parser!();
    needs!("wireguard-go");
    let ns = Netns::new();
    let (mut stuck, other) = (Engine::start(&adit(), &ns), Engine::start(&Program::wireguard_go(), &ns));
    let metrics = Metrics::start(&ns);
    stuck.signal(Signal::SIGSTOP);
    for _ in 0..2 {
        let samples = metrics.samples();
        assert_eq!(samples.get("wireguard_interface_answered", &[("interface", stuck.interface())]), 0.0);
        assert_eq!(samples.get("wireguard_interface_answered", &[("interface", other.interface())]), 1.0);
        let engine = [("interface", other.interface()), ("engine", "other")];
        assert_eq!(samples.get("wireguard_interface_info", &engine), 1.0);
    }
    stuck.signal(Signal::SIGCONT);
    let answers =
        || metrics.samples().get("wireguard_interface_answered", &[("interface", stuck.interface())]) == 1.0;
    assert!(within(seconds(20), answers));
}

#[test]
fn what_is_asked_otherwise() {
    needs_parser!();
    let ns = Netns::new();
    let metrics = Metrics::start(&ns);
    assert_eq!(fs::metadata(&metrics.path).unwrap().permissions().mode() & 0o777, 0o600);
    let get = metrics.status("http://localhost/metrics?name=x");
    assert!(get.starts_with("HTTP/1.1 200 OK\r\n"), "{get}");
    assert!(get.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    let head = metrics.status("-I http://localhost/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(metrics.status("http://localhost/").starts_with("HTTP/1.1 404 "));
    let post = metrics.status("-d x=1 http://localhost/metrics");
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("\r\nAllow: GET, HEAD\r\n"), "{post}");
    let long = format!("-H x:{} http://localhost/metrics", "y".repeat(20_000));
    assert!(metrics.status(&long).starts_with("HTTP/1.1 431 "));
    let mut stream = UnixStream::connect(&metrics.path).unwrap();
    stream.set_read_timeout(Some(seconds(30))).unwrap();
    stream.write_all(b"\x16\x03\x01 what is this?\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn those_who_dawdle_hold_nobody_up() {
    needs_parser!();
    let ns = Netns::new();
    let metrics = Metrics::start(&ns);
    let mut dawdling = Vec::new();
    for _ in 0..100 {
        let mut stream = UnixStream::connect(&metrics.path).unwrap();
        // Those that had to go meanwhile do not take it.
        let _ = stream.write_all(b"GET /metrics HT");
        dawdling.push(stream);
        assert!(dawdling.len() % 25 > 0 || metrics.status("http://localhost/metrics").contains(" 200 OK"));
    }
    assert!(metrics.status("http://localhost/metrics").contains(" 200 OK"));
}

/// Those who have their answer and do not go, whether they are silent or go on talking, do not hold anybody up either.
#[test]
fn those_who_stay_hold_nobody_up() {
    needs_parser!();
    let ns = Netns::new();
    let metrics = Metrics::start(&ns);
    let mut staying = Vec::new();
    for _ in 0..100 {
        let mut stream = UnixStream::connect(&metrics.path).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        staying.push(stream);
    }
    assert!(metrics.status("http://localhost/metrics").contains(" 200 OK"));
    let talks = staying.last_mut().unwrap();
    assert!(within(seconds(30), || talks.write_all(b"x").is_err()), "it may talk for ever");
}

/// A socket that is served, and whose queue has no room.
fn full_listener(path: &Path) -> (UnixListener, Vec<UnixStream>) {
    let listener = UnixListener::bind(path).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let more = || adit_net::unix::connect_within(path, Duration::from_millis(20)).ok();
    (listener, std::iter::from_fn(more).collect())
}

/// Nor does an interface that takes no questions any more, whatever it is called; one that is no more is not told of.
#[test]
fn an_engine_whose_queue_is_full_and_one_that_has_left_its_socket() {
    needs_parser!();
    let ns = Netns::new();
    let live = Engine::start(&adit(), &ns);
    let metrics = Metrics::start(&ns);
    let (full, left) = (format!("{}\"\\x", interface_name()), interface_name());
    let path = lab::engine::socket(&full);
    let listener = full_listener(&path);
    drop(UnixListener::bind(lab::engine::socket(&left)).unwrap());
    let samples = [metrics.samples(), metrics.samples()];
    drop(listener);
    // Whoever asks for all interfaces removes what is left behind.
    let _ = fs::remove_file(path);
    for samples in samples {
        let answered = |name: &str| samples.find("wireguard_interface_answered", &[("interface", name)]);
        assert_eq!((answered(&full), answered(live.interface())), (Some(0.0), Some(1.0)));
        assert_eq!(answered(&left), None);
    }
}

#[test]
fn a_loopback_address_answers_to_its_name_alone() {
    needs_parser!();
    let ns = Netns::new();
    ns.ip("link set lo up");
    let mut process = Metrics::command(&ns, "127.0.0.1:0").spawn();
    process.expect_log("answering on http://127.0.0.1:", seconds(20));
    let log = process.log();
    let addr = log.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    Samples::parse(&ns.ok(&format!("curl -sSf http://{addr}/metrics")));
    let another = ns.ok(&format!("curl -sS -o /dev/null -D - -H Host:evil.example http://{addr}/metrics"));
    assert!(another.starts_with("HTTP/1.1 421 "), "{another}");
    let taken = Metrics::command(&ns, &addr).run();
    assert_eq!((taken.code(), taken.stderr.lines().count()), (1, 1), "{}", taken.text());
    assert!(taken.stderr.contains("another program answers on"), "{}", taken.text());
    let stream = ns.enter(|| TcpStream::connect(addr.parse::<SocketAddr>().unwrap())).unwrap();
    process.signal(Signal::SIGTERM);
    assert!(process.wait(seconds(20)).is_some_and(|status| status.success()), "it ends at once");
    drop(stream);
}

#[test]
fn places_that_are_refused() {
    needs!("netns");
    let ns = Netns::new();
    let directory = std::env::temp_dir().join(format!("{}.metrics", interface_name()));
    fs::create_dir(&directory).unwrap();
    let path = |name: &str| directory.join(name).display().to_string();
    fs::write(path("file"), "precious").unwrap();
    symlink(path("file"), path("link")).unwrap();
    drop(UnixListener::bind(path("stale")).unwrap());
    // Of another kind, or too busy to take one more: somebody uses them.
    let _datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
    let _full = full_listener(Path::new(&path("full")));
    for (place, code, why) in [
        ("0.0.0.0:9586".to_owned(), 2, "is no loopback address"),
        ("192.0.2.1:9586".to_owned(), 2, "is no loopback address"),
        ("localhost:9586".to_owned(), 2, "is needed"),
        (format!("unix:{}", path("file")), 1, "is no socket"),
        (format!("unix:{}", path("link")), 1, "is no socket"),
        (format!("unix:{}", path("none/x")), 1, "no such directory"),
        (format!("unix:{}", path("datagrams")), 1, "another program answers on"),
        (format!("unix:{}", path("full")), 1, "another program answers on"),
        (format!("unix:{}", path(&"x".repeat(200))), 1, "cannot be made"),
    ] {
        let refused = Metrics::command(&ns, &place).run();
        assert_eq!(refused.code(), code, "{place}: {}", refused.text());
        assert!(refused.stderr.contains(why), "{place}: {}", refused.text());
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
    assert!(fs::exists(path("datagrams")).unwrap() && fs::exists(path("full")).unwrap());
    let mut process = Metrics::command(&ns, &format!("unix:{}", path("stale"))).spawn();
    process.expect_log("answering on unix:", seconds(20));
    let twice = Metrics::command(&ns, &format!("unix:{}", path("stale"))).run();
    assert!(twice.stderr.contains("another program answers on"), "{}", twice.text());
    process.signal(Signal::SIGTERM);
    assert!(process.wait(seconds(20)).is_some());
    assert!(fs::symlink_metadata(path("stale")).is_err(), "the file is gone");
    let _ = fs::remove_dir_all(&directory);
}
