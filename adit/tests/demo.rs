//! `adit demo`: it works as root and as an ordinary user, and leaves nothing behind, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lab::cmd::code;
use lab::netns::interface_name;
use lab::{Background, Cmd, Netns, Output, needs, seconds, skip, within};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Much longer than it takes.
const LIMIT: u64 = 40;

/// Held by each test: they measure, and must not disturb each other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program under test where every user may go, and an empty directory for temporary files.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = std::env::temp_dir().join(format!("{}.demo", interface_name()));
        let tmp = dir.join("tmp");
        fs::create_dir_all(&tmp).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_adit"), dir.join("adit")).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).unwrap();
        Place { dir }
    }

    /// `adit demo`, in `ns`, started by `through`.
    fn demo(&self, ns: &Netns, through: &str) -> Cmd {
        let program = self.dir.join("adit");
        ns.cmd(&format!("{through} {} demo", program.display()))
            .env("TMPDIR", self.dir.join("tmp"))
            .limit(seconds(LIMIT))
    }

    fn temporary_files(&self) -> usize {
        fs::read_dir(self.dir.join("tmp")).unwrap().count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The part of the machine that the demonstration must leave alone.
fn network(ns: &Netns) -> [String; 4] {
    ["link", "address", "route show table all", "rule"].map(|what| ns.ip(&format!("-o {what}")))
}

/// A namespace with something in it that could be damaged: above all, an interface of the demonstration's name.
fn machine() -> Netns {
    let ns = Netns::new();
    ns.ip("link add wg0 type veth peer name cable");
    ns.address("wg0", "10.0.0.1/24");
    ns.ip("link set wg0 up");
    ns
}

fn check_results(output: &Output, as_user: bool) {
    assert!(output.success(), "{}", output.text());
    let json: Value = serde_json::from_str(&output.stdout).expect("one JSON object, and nothing else");
    assert_eq!(output.stdout.lines().count(), 1);
    assert_eq!(output.stderr, "");
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{key} is no number: {json}"));
    let pair = |key: &str| [0, 1].map(|i| json[key][i].as_f64().unwrap_or_else(|| panic!("{key}: {json}")));
    assert_eq!(json["user_namespace"], as_user);
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(number("processors") >= 1.0);
    assert!((0.01..900.0).contains(&number("handshake_ms")), "nothing is lost and sent again: {json}");
    assert!(number("pings_sent") >= 10.0 && number("pings_answered") <= number("pings_sent"));
    assert!(number("pings_answered") >= number("pings_sent") / 2.0, "{json}");
    let rtt = ["rtt_min_ms", "rtt_avg_ms", "rtt_max_ms"].map(number);
    assert!(rtt[0] > 0.001 && rtt.is_sorted() && rtt[0] < 500.0, "{json}");
    assert!(number("tcp_gbit_per_s") > 0.02 && number("tcp_reverse_gbit_per_s") > 0.02, "{json}");
    let bytes = number("tcp_bytes");
    assert!(bytes > 1e7, "{json}");
    let cpu = pair("cpu_seconds");
    assert!(cpu[0] > 0.0 && cpu[1] > 0.0, "{json}");
    let per_gigabyte = (cpu[0] + cpu[1]) / bytes * 1e9;
    assert!((per_gigabyte / number("cpu_seconds_per_gigabyte") - 1.0).abs() < 0.01, "{json}");
    assert!(pair("peak_memory_bytes").iter().all(|peak| (1e6..1e9).contains(peak)), "{json}");
    let show = json["wg_show"].as_str().unwrap();
    for text in
        ["interface: wg0\n", "\n  private key: (hidden)\n", "\n  latest handshake: ", "\n  transfer: "]
    {
        assert!(show.contains(text), "{text:?} is not in\n{show}");
    }
}

#[test]
fn as_root() {
    needs!("netns", "tun");
    let _alone = alone();
    let (ns, place) = (machine(), Place::new());
    let before = network(&ns);
    check_results(&place.demo(&ns, "").arg("--json").run(), false);
    assert_eq!(network(&ns), before);
    assert_eq!(place.temporary_files(), 0);
}

#[test]
fn as_an_ordinary_user() {
    needs!("netns", "tun", "setpriv");
    let _alone = alone();
    let (ns, place) = (machine(), Place::new());
    let before = network(&ns);
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs";
    let output = place.demo(&ns, user).arg("--json").run();
    assert_eq!(network(&ns), before);
    assert_eq!(place.temporary_files(), 0);
    if output.code() == 1 && output.stderr.contains("as root") {
        // Not this program's choice, but it has to say so in one line.
        assert_eq!((output.stdout.as_str(), output.stderr.lines().count()), ("", 1));
        skip(output.stderr.trim_end());
        return;
    }
    check_results(&output, true);
}

#[test]
fn for_people() {
    needs!("netns", "tun");
    let _alone = alone();
    let (ns, place) = (machine(), Place::new());
    let output = place.demo(&ns, "").run();
    assert!(output.success(), "{}", output.text());
    let text = &output.stdout;
    for expected in
        ["\nA to B ", "in second 4\n", "\nB to A ", "in second 2\n", "\nHandshake ", "\nTCP ", "\nMemory "]
    {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(!text.contains('\x1b') && !text.contains('\r'), "this is no terminal\n{text}");
}

/// What a demonstration has made that outlives no process: who is there, and in which network namespaces.
struct Traces {
    engines: Vec<u32>,
    namespaces: BTreeSet<PathBuf>,
}

impl Traces {
    fn of(demo: u32) -> Traces {
        let engines: Vec<u32> = fs::read_to_string(format!("/proc/{demo}/task/{demo}/children"))
            .unwrap()
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        let namespaces: BTreeSet<PathBuf> =
            engines.iter().chain([&demo]).filter_map(|pid| network_of(&pid.to_string())).collect();
        Traces { engines, namespaces }
    }

    /// Processes that are left, engines or whatever else lives in the namespaces.
    fn left(&self) -> Vec<String> {
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        pids.filter(|pid| {
            let is_engine = pid.parse().is_ok_and(|pid| self.engines.contains(&pid));
            is_engine || network_of(pid).is_some_and(|ns| self.namespaces.contains(&ns))
        })
        .collect()
    }
}

fn network_of(pid: &str) -> Option<PathBuf> {
    fs::read_link(Path::new("/proc").join(pid).join("ns/net")).ok()
}

/// Starts a demonstration, waits until TCP runs, sends the signal, and checks that nothing is left.
fn interrupted(signal: Signal) -> (Background, i32) {
    let (ns, place) = (machine(), Place::new());
    let before = network(&ns);
    let mut demo = place.demo(&ns, "").spawn();
    demo.expect_log("in second 1", seconds(20));
    let traces = Traces::of(demo.pid());
    assert_eq!((traces.engines.len(), traces.namespaces.len()), (2, 2), "two engines, two namespaces");
    demo.signal(signal);
    let status = demo.wait(seconds(20)).expect("it ends at once");
    assert!(within(seconds(20), || traces.left().is_empty()), "{signal}: {:?} are left", traces.left());
    assert_eq!(network(&ns), before);
    assert_eq!(place.temporary_files(), 0);
    (demo, code(status))
}

#[test]
fn signals() {
    needs!("netns", "tun");
    let _alone = alone();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (demo, code) = interrupted(signal);
        assert_eq!(code, 128 + signal as i32, "{}", demo.log());
        assert!(demo.log().contains("interrupted; nothing is left behind"), "{}", demo.log());
    }
}

#[test]
fn killed() {
    needs!("netns", "tun");
    let _alone = alone();
    let (_, code) = interrupted(Signal::SIGKILL);
    assert_eq!(code, -(Signal::SIGKILL as i32));
}

/// Each obstacle is told in one line, with what to do about it.
#[test]
fn obstacles() {
    needs!("netns", "tun", "unshare", "setpriv");
    let _alone = alone();
    let (ns, place) = (machine(), Place::new());
    let empty_dev_net = "mount -t tmpfs none /dev/net";
    let private_tun = "mount -t tmpfs none /dev/net && mknod -m 600 /dev/net/tun c 10 200";
    let no_user_namespaces = "echo 0 >/proc/sys/user/max_user_namespaces";
    let as_user = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let without_capabilities = "setpriv --bounding-set -all --inh-caps -all";
    for (flags, obstacle, through, expected) in [
        ("--mount", empty_dev_net, "", "/dev/net/tun does not exist"),
        ("--mount", private_tun, as_user, "as root"),
        ("--user --map-root-user", no_user_namespaces, without_capabilities, "run it as root"),
    ] {
        let demo = format!("{obstacle} && exec {through} {}/adit demo", place.dir.display());
        let output = ns.cmd(&format!("unshare {flags} sh -c")).arg(demo).run();
        assert_eq!((output.code(), output.stderr.lines().count()), (1, 1), "{}", output.text());
        assert!(
            output.stderr.starts_with("adit demo: ") && output.stderr.contains(expected),
            "{}",
            output.text()
        );
    }
}
