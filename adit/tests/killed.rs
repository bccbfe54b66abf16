//! `SIGKILL` at any moment of `up`, `down`, `save` and `reload`, and of the engine's start: the next `up` and `down` leave the
//! system as it was before all of this, and files are whole, old or new.
//!
//! strace says which system calls of a command change something, and kills it before one of them: each state that a
//! command leads through is between two of these. `KILL_POINTS=all` takes them all, and a number so many for each
//! command; the default is a few. Then there are moments of chance, of which `KILL_SEED` is the first's seed.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::adit;
use crate::common::machine::{Machine, RESOLV_CONF, assert_same};
use lab::wg::Keypair;
use lab::{Background, Cmd, Dice, needs, seconds, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What may change something. Not every processor has all of these.
const CALLS: &str = "?open,openat,write,sendto,sendmsg,?rename,renameat,?renameat2,?link,linkat,?symlink,symlinkat,\
    ?unlink,unlinkat,?mkdir,mkdirat,ftruncate,?vfork,?fork,clone,?clone3,wait4,waitid,exit_group";
/// And of an engine.
const ENGINES_CALLS: &str = ",ioctl,bind,listen,exit_group";
/// Points of each command by default, and moments.
const FEW: usize = 5;
const MOMENTS: u64 = 4;

/// A machine with a tunnel for all traffic, name servers, and commands that leave something behind if their others are not
/// run.
struct Subject {
    machine: Machine,
    conf: String,
    /// The system before all of this, and while the interface is up.
    before: String,
    up: String,
}

fn full_tunnel(more: &str) -> String {
    let peer = |lines: &str| format!("\n[Peer]\nPublicKey = {}\n{lines}\n", Keypair::generate().public);
    format!(
        "[Interface]\nPrivateKey = {}\nListenPort = 5555\nAddress = 10.0.0.1/24, fd00::1/64\nDNS = 192.0.2.1\n\
        PreUp = nft add table inet early\nPostDown = nft delete table inet early\n\
        PostUp = nft add table inet late; nft add chain inet late c; nft add rule inet late c counter\n\
        PreDown = nft delete table inet late\n{more}\n{}{}{}",
        Keypair::generate().private,
        peer("AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 192.0.2.1:51820"),
        peer("AllowedIPs = 10.0.0.2/32, fd00::2/128\nEndpoint = [2001:db8::1]:51820"),
        peer("AllowedIPs = 10.2.0.0/16"),
    )
}

impl Subject {
    fn new(more: &str) -> Subject {
        Subject::on(Machine::new(), more)
    }

    fn on(machine: Machine, more: &str) -> Subject {
        let conf = full_tunnel(more);
        machine.configure(&conf);
        let before = machine.state();
        machine.ok("OURS up wg0");
        let up = machine.state();
        machine.ok("OURS down wg0");
        assert_same(&before, &machine.state(), "down is as before up");
        Subject { machine, conf, before, up }
    }

    /// The points at which to kill `command`, which runs to its end once: a call, and the how manieth it is.
    fn points(&self, command: &str) -> Vec<(String, usize)> {
        let machine = &self.machine;
        let traced = machine.run(&format!("strace -qq -s 200 -o /run/trace -e trace={CALLS} {command}"));
        assert!(traced.success(), "{}", traced.text());
        self.read_points()
    }

    /// The same, as strace has written them down: each line with the process that it is of, if there are several.
    fn read_points(&self) -> Vec<(String, usize)> {
        let path = self.machine.path("run/trace");
        let trace = fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
        let mut counts = BTreeMap::new();
        let mut points = Vec::new();
        for line in trace.lines() {
            let Some((call, args)) = line.split_once('(') else { continue };
            let (process, call) = call.rsplit_once(' ').unwrap_or(("", call));
            let count = counts.entry((process, call)).or_insert(0);
            *count += 1;
            let point = (call.to_owned(), *count);
            if is_change(call, args) && !points.contains(&point) {
                points.push(point);
            }
        }
        assert!(points.len() > 2, "{trace}");
        chosen(points)
    }

    /// Runs `command` and kills it before that call.
    #[track_caller]
    fn killed_at(&self, command: &str, (call, number): &(String, usize)) {
        let inject = format!("inject={call}:signal=SIGKILL:when={number}");
        let machine = &self.machine;
        let output = machine.run(&format!("strace -qq -o /dev/null -e trace={call} -e {inject} {command}"));
        // What waits for others may wait once less this time.
        assert!(output.code() == -9 || output.success(), "{command}, {call} {number}: {}", output.text());
        self.settles();
    }

    /// Programs that were started go on: the engine alone stays. One that is alone may be one that only begins.
    #[track_caller]
    fn settles(&self) {
        let machine = &self.machine;
        let serves = || machine.ns.has("wg0") && machine.path("run/wireguard/wg0.sock").exists();
        let has_settled = || match self.processes().len() {
            0 => true,
            1 => serves(),
            _ => false,
        };
        assert!(within(seconds(30), has_settled), "{:?}", self.processes());
    }

    fn processes(&self) -> Vec<String> {
        let pids = Cmd::new(&format!("ip netns pids {}", self.machine.ns.name())).run().stdout;
        let names = pids.lines().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        // It ends with the last one that it watches.
        names.filter(|name| name.trim() != "strace").collect()
    }

    fn kill_everybody(&self) {
        let pids = Cmd::new(&format!("ip netns pids {}", self.machine.ns.name())).run().stdout;
        for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Is its file, which is nobody else's to read, one of these, whole?
    #[track_caller]
    fn has_one_of(&self, contents: &[&str], context: &str) {
        let path = self.machine.path("etc/wireguard/wg0.conf");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{context}");
        let content = fs::read_to_string(path).unwrap();
        let is_one = contents.iter().any(|whole| lines(whole) == lines(&content));
        assert!(is_one, "{context}: {content}");
    }

    /// Whatever there is now, `up` and `down` work, in the end all is as it was.
    #[track_caller]
    fn is_repaired(&self, context: &str, down_first: bool) {
        let machine = &self.machine;
        if down_first {
            let down = machine.run("OURS down wg0");
            let is_none = down.stderr == "adit: `wg0' is not a WireGuard interface\n";
            assert!(down.success() || is_none, "{context}: {}", down.text());
        }
        let up = machine.run("OURS up wg0");
        // Whole, or not begun to be taken down.
        let is_whole = !down_first && up.stderr == "adit: `wg0' already exists\n";
        assert!(up.success() || is_whole, "{context}: {}", up.text());
        if up.success() {
            assert_same(&self.up, &machine.state(), &format!("{context}\n{}", up.text()));
        }
        self.is_as_before(context);
    }

    #[track_caller]
    fn is_as_before(&self, context: &str) {
        let down = self.machine.run("OURS down wg0");
        assert!(down.success(), "{context}: {}", down.text());
        assert_same(&self.before, &self.machine.state(), &format!("{context}\n{}", down.text()));
        assert!(within(seconds(20), || self.processes().is_empty()), "{context}: {:?}", self.processes());
    }
}

/// Peers come in any order, and link-local addresses are another each time.
fn lines(conf: &str) -> Vec<&str> {
    let mut lines: Vec<_> = conf.lines().filter(|line| !line.contains("fe80:")).collect();
    lines.sort_unstable();
    lines
}

fn is_change(call: &str, args: &str) -> bool {
    match call {
        "open" | "openat" => {
            ["O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR"].iter().any(|flag| args.contains(flag))
        }
        "write" => !args.starts_with("2,") && !args.contains("\"get=1"),
        "sendto" | "sendmsg" => ["RTM_NEW", "RTM_DEL", "RTM_SET"].iter().any(|kind| args.contains(kind)),
        "ioctl" => args.contains("TUN"),
        _ => true,
    }
}

/// As many of these as are asked for, evenly.
fn chosen<T>(points: Vec<T>) -> Vec<T> {
    let wanted = match env::var("KILL_POINTS").as_deref() {
        Ok("all") => points.len(),
        Ok(number) => number.parse().expect("KILL_POINTS is a number, or `all'"),
        Err(_) => FEW,
    };
    let every = points.len().div_ceil(wanted.max(1)).max(1);
    points
        .into_iter()
        .enumerate()
        .filter(|(number, _)| number % every == every / 2)
        .map(|(_, point)| point)
        .collect()
}

fn is_thorough() -> bool {
    env::var("KILL_POINTS").is_ok_and(|points| points == "all")
}

/// Each point, in `context`, and whether to begin with `down` afterwards: both, or alternately.
fn each(command: &str, points: &[(String, usize)], mut kill: impl FnMut(&(String, usize), &str, bool)) {
    for (number, point) in points.iter().enumerate() {
        let both = [number % 2 == 0, number % 2 == 1];
        for &down_first in &both[..1 + usize::from(is_thorough())] {
            let context = format!("{command}, killed before {point:?}, down first: {down_first}");
            kill(point, &context, down_first);
        }
    }
    println!("{command}: killed at {} points", points.len());
}

fn kill_up(subject: &Subject) {
    let points = subject.points("OURS up wg0");
    subject.is_as_before("traced");
    each("up", &points, |point, context, down_first| {
        subject.killed_at("OURS up wg0", point);
        subject.is_repaired(context, down_first);
        subject.has_one_of(&[&subject.conf], context);
    });
}

fn kill_down(subject: &Subject) {
    subject.machine.ok("OURS up wg0");
    let points = subject.points("OURS down wg0");
    each("down", &points, |point, context, down_first| {
        subject.machine.ok("OURS up wg0");
        subject.killed_at("OURS down wg0", point);
        subject.is_repaired(context, down_first);
        subject.has_one_of(&[&subject.conf], context);
    });
}

#[test]
fn up() {
    needs!("netns", "tun", "wg", "nft", "unshare", "strace");
    kill_up(&Subject::new(""));
}

#[test]
fn down() {
    needs!("netns", "tun", "wg", "nft", "unshare", "strace");
    kill_down(&Subject::new(""));
}

/// `/etc/resolv.conf` can only be overwritten there.
#[test]
fn where_name_servers_are_mounted() {
    needs!("netns", "tun", "wg", "nft", "unshare", "strace");
    let mut machine = Machine::new();
    machine.mount_resolv_conf();
    // What is put there is shorter.
    machine.write("mounted", &format!("{RESOLV_CONF}# {}\n", "x".repeat(100)), 0o644);
    let subject = Subject::on(machine, "");
    kill_up(&subject);
    kill_down(&subject);
}

/// A change that is only in the interface as yet.
fn change(subject: &Subject) {
    let peer = Keypair::generate().public;
    subject.machine.ok(&format!("wg set wg0 peer {peer} allowed-ips 10.3.0.0/16"));
}

fn file(subject: &Subject) -> String {
    fs::read_to_string(subject.machine.path("etc/wireguard/wg0.conf")).unwrap()
}

#[test]
fn save() {
    needs!("netns", "tun", "wg", "nft", "unshare", "strace");
    let subject = Subject::new("");
    subject.machine.ok("OURS up wg0");
    change(&subject);
    let points = subject.points("OURS save wg0");
    let saved = file(&subject);
    each("save", &points, |point, context, _| {
        subject.machine.configure(&subject.conf);
        subject.killed_at("OURS save wg0", point);
        subject.has_one_of(&[&subject.conf, &saved], context);
        subject.machine.ok("OURS save wg0");
        subject.has_one_of(&[&saved], context);
        let left = fs::read_dir(subject.machine.path("etc/wireguard")).unwrap().count();
        assert_eq!(left, 1, "{context}");
    });
    subject.is_as_before("save");
}

/// Where it is saved when it is taken down. What is half there is not.
#[test]
fn down_and_save() {
    needs!("netns", "tun", "wg", "nft", "unshare", "strace");
    let subject = Subject::new("SaveConfig = true");
    // It has been saved once, and says all that saving makes it say.
    let old = file(&subject);
    let points = subject.points("OURS up wg0");
    subject.machine.ok("OURS down wg0");
    each("up", &points, |point, context, down_first| {
        subject.machine.configure(&old);
        subject.killed_at("OURS up wg0", point);
        subject.is_repaired(context, down_first);
        subject.has_one_of(&[&old], context);
    });
    subject.machine.configure(&old);
    subject.machine.ok("OURS up wg0");
    change(&subject);
    let points = subject.points("OURS down wg0");
    let saved = file(&subject);
    let peer =
        saved.lines().find(|line| line.starts_with("PublicKey") && !old.contains(line)).expect("one more");
    let peer = peer.split_once("= ").expect("a value").1;
    each("down", &points, |point, context, _| {
        subject.machine.configure(&old);
        subject.machine.ok("OURS up wg0");
        subject.machine.ok(&format!("wg set wg0 peer {peer} allowed-ips 10.3.0.0/16"));
        subject.killed_at("OURS down wg0", point);
        subject.has_one_of(&[&old, &saved], context);
        // What it was to save is not lost as long as it is there.
        let _ = subject.machine.run("OURS down wg0");
        subject.has_one_of(&[&saved], context);
        subject.machine.ok("OURS up wg0");
        subject.is_as_before(context);
    });
}

/// A reload that was cut short is completed by another, and nothing stays of it if there is none.
#[test]
fn reload() {
    needs!("netns", "tun", "wg", "nft", "unshare", "strace");
    let subject = Subject::new("");
    let peer = Keypair::generate().public;
    let changed = subject
        .conf
        .replace("10.0.0.1/24, fd00::1/64\nDNS = 192.0.2.1", "10.0.0.9/24, fd00::1/64\nDNS = 192.0.2.7")
        + &format!("[Peer]\nPublicKey = {peer}\nAllowedIPs = 10.6.0.0/16, fd06::/64\n");
    let sorted = || {
        let state = subject.machine.state() + &subject.machine.ok("wg showconf wg0").stdout;
        lines(&state).join("\n")
    };
    let begin = || {
        subject.machine.configure(&subject.conf);
        subject.machine.ok("OURS up wg0");
        subject.machine.configure(&changed);
    };
    begin();
    let points = subject.points("OURS reload wg0");
    let reloaded = sorted();
    subject.is_as_before("traced");
    each("reload", &points, |point, context, down_first| {
        begin();
        subject.killed_at("OURS reload wg0", point);
        let up = subject.machine.run("OURS up wg0");
        assert!(up.code() == 1 && up.stderr.lines().count() == 1, "{context}: {}", up.text());
        if down_first {
            subject.machine.ok("OURS down wg0");
            subject.machine.ok("OURS up wg0");
        } else {
            subject.machine.ok("OURS reload wg0");
        }
        assert_same(&reloaded, &sorted(), context);
        subject.is_as_before(context);
    });
}

const FOREGROUND: &str = "OURS up --foreground wg0";

/// Starts it under strace with these options, and waits until it is up, or has ended.
fn start_foreground(subject: &Subject, options: &str) -> (Background, bool) {
    let machine = &subject.machine;
    let mut up = machine.cmd(&format!("strace -D -qq -s 200 {options} {FOREGROUND}")).spawn();
    let note = machine.path("run/wireguard/wg0.quick");
    let is_up = || fs::read_to_string(&note).is_ok_and(|note| note.contains("attended"));
    assert!(within(seconds(60), || up.exited().is_some() || is_up()), "{}", up.log());
    let is_up = up.exited().is_none();
    (up, is_up)
}

/// Whoever stays with an interface dies, and it stays alone with its engine.
#[test]
fn foreground() {
    needs!("netns", "tun", "wg", "nft", "unshare", "strace");
    let subject = Subject::new("");
    let (mut up, _) = start_foreground(&subject, &format!("-o /run/trace -e trace={CALLS}"));
    up.signal(Signal::SIGTERM);
    assert!(up.wait(seconds(60)).is_some(), "{}", up.log());
    let points = subject.read_points();
    each(FOREGROUND, &points, |point, context, down_first| {
        let (call, number) = point;
        let inject = format!("-o /dev/null -e trace={call} -e inject={call}:signal=SIGKILL:when={number}");
        let (mut up, is_up) = start_foreground(&subject, &inject);
        if is_up {
            up.signal(Signal::SIGTERM);
        }
        assert!(up.wait(seconds(60)).is_some(), "{context}: {}", up.log());
        subject.settles();
        subject.is_repaired(context, down_first);
    });
    let (mut up, _) = start_foreground(&subject, "-o /dev/null -e trace=none");
    up.signal(Signal::SIGKILL);
    assert!(up.wait(seconds(60)).is_some());
    // Before anybody has noticed: a lock says that there is nobody.
    subject.is_repaired("nobody stays with it", false);
}

/// While it starts and is configured.
#[test]
fn engine() {
    needs!("netns", "tun", "wg", "nft", "unshare", "strace");
    let subject = Subject::new("");
    let machine = &subject.machine;
    let calls = format!("{CALLS}{ENGINES_CALLS}");
    let program = adit().0.display().to_string();
    let up_with = |options: &str| {
        let script = format!("#!/bin/sh\nexec strace -D -f -qq -s 200 {options} {program} \"$@\"\n");
        machine.write("bin/engine", &script, 0o755);
        let engine = machine.path("bin/engine");
        let up =
            machine.cmd("OURS up wg0").env("WG_QUICK_USERSPACE_IMPLEMENTATION", engine).limit(seconds(60));
        up.run()
    };
    let up = up_with(&format!("-o /run/trace -e trace={calls}"));
    assert!(up.success(), "{}", up.text());
    subject.is_as_before("traced");
    let points = subject.read_points();
    each("the engine", &points, |(call, number), context, down_first| {
        let up =
            up_with(&format!("-o /dev/null -e trace={call} -e inject={call}:signal=SIGKILL:when={number}"));
        assert!(up.success() || up.stderr.lines().count() < 100, "{context}: {}", up.text());
        subject.settles();
        subject.is_repaired(context, down_first);
    });
}

/// The process alone, or all of the machine's, at a moment of chance.
#[test]
fn at_any_moment() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse().ok());
    let chance = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = number("KILL_SEED").unwrap_or_else(chance);
    let moments = if is_thorough() { 200 } else { MOMENTS };
    let subject = Subject::new("");
    let machine = &subject.machine;
    let start = Instant::now();
    machine.ok("OURS up wg0");
    let longest = start.elapsed();
    machine.ok("OURS down wg0");
    for seed in first..first + moments {
        let mut chance = Dice::new(seed);
        let command = ["up", "down", "reload", "save"][chance.below(4) as usize];
        let everybody = chance.below(3) == 0;
        let context = format!("KILL_SEED={seed}: {command}, everybody: {everybody}");
        println!("{context}");
        if command != "up" {
            machine.ok("OURS up wg0");
        }
        let mut process = machine.cmd(&format!("OURS {command} wg0")).spawn();
        thread::sleep(Duration::from_nanos(chance.below(longest.as_nanos() as u64)));
        if everybody {
            subject.kill_everybody();
        }
        process.signal(Signal::SIGKILL);
        assert!(process.wait(seconds(20)).is_some(), "{context}");
        subject.settles();
        let was_up = machine.ns.has("wg0") && matches!(command, "reload" | "save");
        subject.is_repaired(&context, was_up || chance.below(2) == 0);
        machine.configure(&subject.conf);
    }
}
