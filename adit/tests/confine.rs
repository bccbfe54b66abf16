//! What the daemon has given up, as the kernel tells it. All other tests run it confined like this, too. From inside, what it
//! is refused: `adit/src/confine/tests.rs`.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::adit;
use lab::netns::interface_name;
use lab::wg::Keypair;
use lab::{Background, Cmd, Engine, Netns, Outer, Output, Pair, needs, seconds, within};
use nix::sys::signal::Signal;

/// CAP_NET_BIND_SERVICE, CAP_NET_BROADCAST, CAP_NET_ADMIN.
const NEEDED: u64 = 1 << 10 | 1 << 11 | 1 << 12;
/// CAP_IPC_LOCK, which remains where the limit of locked memory cannot be lifted.
const LOCK: u64 = 1 << 14;

/// In a file of `/proc/PID` the value behind a name.
#[track_caller]
fn field(pid: u32, file: &str, name: &str) -> String {
    value(&fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap(), name)
}

#[track_caller]
fn value(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap_or_else(|| panic!("no {name} in\n{text}")).trim().to_owned()
}

fn number(pid: u32, file: &str, name: &str) -> u64 {
    parse(&field(pid, file, name), name)
}

fn parse(text: &str, name: &str) -> u64 {
    let radix = if name.starts_with("Cap") { 16 } else { 10 };
    let word = text.split_whitespace().next().unwrap();
    u64::from_str_radix(word, radix).unwrap_or_else(|error| panic!("{name} {text}: {error}"))
}

/// What the kernel tells of its threads. One that has just ended is none.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok()).collect()
}

/// Its socket is there before it is confined; once it answers, it is.
fn is_confined(engine: &Engine) {
    assert_eq!(engine.uapi().get().errno, 0);
}

/// What `adit status` tells of its confinement.
fn told(interface: &str) -> String {
    let status = Cmd::new(&format!("{} status {interface}", adit().0.display())).ok();
    status.lines().find_map(|line| line.strip_prefix("  confined by: ")).expect("it tells").to_owned()
}

#[test]
fn every_thread_has_given_up_the_same() {
    needs!("netns", "tun", "wg", "ping");
    let pair = Pair::new(&adit(), &adit());
    pair.a_knows_b(Outer::V4);
    // A name to look up is one thread more.
    let (program, other) = (adit().0, Keypair::generate().public);
    Cmd::new(&format!("{} set {} peer {other} endpoint localhost:5", program.display(), pair.a.interface()))
        .ok();
    pair.a.reaches(&pair.b);
    let pid = pair.a.engine.pid();
    let is_limited = !field(pid, "limits", "Max locked memory").starts_with("unlimited");
    let kept = NEEDED | if is_limited { LOCK } else { 0 };
    let threads = threads(pid);
    assert!(threads.len() >= 3, "{threads:?}");
    for thread in &threads {
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(parse(&value(thread, set), set), kept, "{set} {thread}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            assert_eq!(parse(&value(thread, set), set), 0, "{set} {thread}");
        }
        assert_eq!(value(thread, "NoNewPrivs:"), "1");
        assert_eq!(value(thread, "Seccomp:"), "2");
    }
    assert_eq!(told(pair.a.interface()), "dumps, mlock, landlock, capabilities, seccomp");
    // A low port and a mark may come at any time.
    assert_eq!(pair.a.engine.uapi().set("listen_port=53\nfwmark=51820\n"), 0);
}

#[test]
fn its_memory_is_locked_as_it_is_used() {
    needs!("netns", "tun");
    let ns = Netns::new();
    let start = |off: &str| Engine::start_with(&adit(), &ns, &[("ADIT_NO_CONFINEMENT", off)]);
    let (engine, other) = (start(""), start("mlock"));
    [&engine, &other].into_iter().for_each(is_confined);
    let [locked, unlocked] = [&engine, &other].map(|engine| number(engine.pid(), "status", "VmLck:"));
    assert!(locked > 1000 && unlocked == 0, "{locked}, {unlocked} KiB");
    // What is merely reserved, such as stacks, takes no memory.
    let [small, smaller] = [&engine, &other].map(|engine| number(engine.pid(), "status", "VmRSS:"));
    assert!(small < smaller + smaller / 2 && small < locked / 2, "{small}, {smaller} KiB");
}

/// A directory of its own, which is removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        let path = std::env::temp_dir().join(format!("{}.d", interface_name()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How an engine ends that is told to dump its memory into `directory`.
fn aborted(ns: &Netns, directory: &Path, off: &str) -> (Option<i32>, bool) {
    let interface = interface_name();
    let line =
        format!("cd {} && ulimit -c unlimited; exec {}", directory.display(), adit().foreground(&interface));
    let command = ns.cmd("bash -c").arg(line).env("ADIT_NO_CONFINEMENT", off);
    let mut engine = Engine::adopt(interface, command);
    is_confined(&engine);
    let limit = field(engine.pid(), "limits", "Max core file size");
    assert_eq!(limit.starts_with("0 "), off.is_empty(), "{limit}");
    engine.signal(Signal::SIGABRT);
    let status = engine.wait(seconds(20)).expect("it ends");
    (status.signal(), status.core_dumped())
}

#[test]
fn it_leaves_no_core() {
    needs!("netns", "tun", "bash");
    let (ns, directory) = (Netns::new(), Directory::new());
    let abort = Some(Signal::SIGABRT as i32);
    assert_eq!(aborted(&ns, &directory.0, ""), (abort, false));
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
    // Who wants one can have it, where the machine and landlock let it be written.
    let another = Command::new("bash")
        .args(["-c", "ulimit -c unlimited && kill -ABRT $$"])
        .current_dir(&directory.0)
        .status();
    if another.is_ok_and(|status| status.core_dumped()) {
        assert_eq!(aborted(&ns, &directory.0, "dumps,landlock"), (abort, true));
    }
}

#[test]
fn parts_can_be_left_out() {
    needs!("netns", "tun");
    let (ns, interface) = (Netns::new(), interface_name());
    let program = adit().0.display().to_string();
    let line = format!("{program} -f --no-confinement seccomp,landlock {interface}");
    let engine = Engine::adopt(interface, ns.cmd(&line).env("ADIT_NO_CONFINEMENT", "mlock"));
    assert_eq!(told(engine.interface()), "dumps, capabilities, mlock off, landlock off, seccomp off");
    assert_eq!(field(engine.pid(), "status", "Seccomp:"), "0");
    let nothing = Engine::start_with(&adit(), &ns, &[("ADIT_NO_CONFINEMENT", "all")]);
    is_confined(&nothing);
    assert_eq!(field(nothing.pid(), "status", "NoNewPrivs:"), "0");
    assert_ne!(number(nothing.pid(), "status", "CapEff:") & !(NEEDED | LOCK), 0);
    let wrong = ns.run(&format!("{program} -f --no-confinement seccom lab0"));
    assert!(wrong.code() > 0 && wrong.stderr.contains("there are dumps, mlock"), "{}", wrong.text());
    assert_eq!(wrong.stderr.lines().count(), 1, "{}", wrong.text());
}

/// Who asks all engines needs no more than they do.
#[test]
fn so_does_the_process_that_asks_for_metrics() {
    needs!("netns", "tun");
    let (ns, directory) = (Netns::new(), Directory::new());
    let socket = directory.0.join("metrics.sock");
    let mut metrics = ns.cmd(&format!("{} metrics unix:{}", adit().0.display(), socket.display())).spawn();
    metrics.expect_log("answering on", seconds(20));
    let pid = metrics.pid();
    for thread in threads(pid) {
        assert_eq!(parse(&value(&thread, "CapEff:"), "CapEff:") & !LOCK, 1 << 12);
        assert_eq!(value(&thread, "NoNewPrivs:"), "1");
        assert_eq!(value(&thread, "Seccomp:"), "2");
    }
    metrics.signal(Signal::SIGTERM);
    assert!(metrics.wait(seconds(20)).is_some_and(|status| status.success()), "{}", metrics.log());
    assert!(!socket.exists(), "it may remove its own");
}

/// What is refused is told, and done without.
#[test]
fn where_little_may_be_locked() {
    needs!("netns", "tun", "setpriv");
    let (ns, interface) = (Netns::new(), interface_name());
    let line = format!(
        "setpriv --bounding-set -ipc_lock,-sys_resource --inh-caps -ipc_lock,-sys_resource {}",
        adit().foreground(&interface)
    );
    let limited = format!("ulimit -l 64 && exec {line}");
    let engine = Engine::adopt(interface, ns.cmd("sh -c").arg(limited).env("LOG_LEVEL", "info"));
    assert_eq!(told(engine.interface()), "dumps, landlock, capabilities, seccomp, mlock refused");
    engine.expect_log("goes on without mlock confining it: memory may be swapped", seconds(20));
    let kept = number(engine.pid(), "status", "CapEff:");
    assert_eq!(kept, NEEDED);
}

/// An engine that a user without privileges has started, with the directory of its socket to itself.
struct AsUser {
    process: Background,
    interface: String,
}

const USER: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";

impl AsUser {
    fn start(ns: &Netns, program: &Path) -> AsUser {
        let interface = interface_name();
        let script = format!(
            "mkdir -p /run/wireguard && mount -t tmpfs -o mode=0755,uid=65534 none /run/wireguard && \
             exec {USER} {} -f {interface}",
            program.display()
        );
        let command = ns.cmd("unshare --mount sh -c").arg(script).env("LOG_LEVEL", "debug");
        let process = command.spawn();
        process.expect_log("confined by", seconds(20));
        AsUser { process, interface }
    }

    /// Runs a command where its socket is.
    fn run(&self, line: &str) -> Output {
        Cmd::new(&format!("nsenter --mount --target {} {line}", self.process.pid())).run()
    }
}

#[test]
fn a_user_may_start_it_by_capabilities_of_the_file() {
    needs!("netns", "tun", "setpriv", "setcap", "nsenter", "unshare");
    let (ns, directory) = (Netns::new(), Directory::new());
    let program = directory.0.join("adit");
    fs::copy(adit().0, &program).unwrap();
    let given =
        Cmd::new(&format!("setcap cap_net_admin,cap_net_bind_service+ep {}", program.display())).run();
    if !given.success() {
        lab::skip("files have no capabilities here");
        return;
    }
    let mut engine = AsUser::start(&ns, &program);
    let pid = engine.process.pid();
    let adit = adit().0.display().to_string();
    let set = |words: &str| engine.run(&format!("{adit} set {} {words}", engine.interface));
    // Its socket is there once it serves.
    assert!(within(seconds(20), || set("listen-port 53 fwmark 7").success()), "{}", engine.process.log());
    assert_eq!(field(pid, "status", "Uid:").split_whitespace().next(), Some("65534"));
    for set in ["CapPrm:", "CapEff:"] {
        assert_eq!(number(pid, "status", set), 1 << 10 | 1 << 12, "{set}");
    }
    assert_eq!(number(pid, "status", "CapAmb:"), 0);
    for thread in threads(pid) {
        assert_eq!(value(&thread, "Seccomp:"), "2");
    }
    // Its user is not told what it keeps.
    for file in ["mem", "environ", "maps"] {
        let read = Cmd::new(&format!("{USER} cat /proc/{pid}/{file}")).run();
        assert!(read.stderr.contains("Permission denied"), "{file}: {}", read.text());
    }
    let socket = engine.run(&format!("test -S /run/wireguard/{}.sock", engine.interface));
    assert!(socket.success());
    engine.process.signal(Signal::SIGTERM);
    let ended = engine.process.wait(seconds(20));
    assert!(ended.is_some_and(|status| status.success()), "{}", engine.process.log());
    assert!(!ns.has(&engine.interface));
}
