//! System calls of a running program that fail for a while, and what calls a program makes at all: by strace.
//!
//! [`refusal`](crate::refusal) has the faults that a program is started with. Here strace is attached to one that runs, and
//! lets go of it again; what the program makes of it is the test's to see.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::cmd::{Background, Cmd};
use crate::engine::Program;
use crate::netns::interface_name;
use crate::seconds;

/// What a call does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It fails with this name of `errno.h`.
    Error(&'static str),
    /// It says that so much was done, and nothing was.
    Returns(u32),
}

/// On which descriptors calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// On all, also calls that have none.
    Any,
    /// On those that `/proc/PID/fd` names like this.
    Named(&'static str),
    /// On the netlink sockets that the process has when it begins.
    Netlink,
}

/// Which calls of each thread fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The first.
    Once,
    /// The first so many.
    Some(u32),
    /// All.
    Always,
}

/// Calls that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The name of the system call.
    pub call: &'static str,
    /// On what.
    pub on: On,
    /// How.
    pub outcome: Outcome,
    /// How often.
    pub times: Times,
}

impl Fault {
    /// strace's word for it.
    fn inject(&self) -> String {
        let outcome = match self.outcome {
            Outcome::Error(name) => format!("error={name}"),
            Outcome::Returns(value) => format!("retval={value}"),
        };
        let when = match self.times {
            Times::Once => "1".to_owned(),
            Times::Some(count) => format!("1..{count}"),
            Times::Always => "1+".to_owned(),
        };
        format!("inject={}:{outcome}:when={when}", self.call)
    }
}

/// A process some of whose calls fail until this is stopped or dropped.
#[derive(Debug)]
pub struct Failing {
    strace: Background,
    trace: PathBuf,
}

/// How many of the calls that a [`Fault`] is about were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Also those that were let through.
    pub made: usize,
    /// Those that failed.
    pub failed: usize,
}

impl Failing {
    /// Lets calls of the process `pid` fail from now on. None, if there is no descriptor that they could fail on.
    ///
    /// # Panics
    /// If strace is not attached within a minute.
    #[track_caller]
    #[must_use]
    pub fn attach(pid: u32, fault: &Fault) -> Option<Failing> {
        let paths = match fault.on {
            On::Any => Vec::new(),
            On::Named(name) => vec![name.to_owned()],
            On::Netlink => netlink_sockets(pid),
        };
        if paths.is_empty() && fault.on != On::Any {
            return None;
        }
        let trace = trace_file();
        let mut command =
            Cmd::new(&format!("strace -f -p {pid} -o {} -e trace={}", trace.display(), fault.call))
                .arg("-e")
                .arg(fault.inject());
        for path in paths {
            command = command.arg("-P").arg(path);
        }
        let failing = Failing { strace: command.spawn(), trace };
        failing.strace.expect_log("attached", seconds(60));
        Some(failing)
    }

    /// The calls so far.
    #[must_use]
    pub fn count(&self) -> Count {
        let trace = fs::read_to_string(&self.trace).unwrap_or_default();
        let failed = trace.lines().filter(|line| line.ends_with("(INJECTED)")).count();
        // A call that another thread's came between has a second line.
        let made = trace.lines().filter(|line| !line.contains(" resumed>")).count();
        Count { made, failed }
    }

    /// Lets go of the process; what fails no more when this returns.
    ///
    /// # Panics
    /// If strace does not end.
    #[track_caller]
    pub fn stop(mut self) -> Count {
        self.strace.signal(Signal::SIGINT);
        if self.strace.wait(seconds(5)).is_none() {
            // It waits for a thread that was about to end. Without it the others go on.
            self.strace.signal(Signal::SIGKILL);
            assert!(self.strace.wait(seconds(30)).is_some(), "strace does not end: {}", self.strace.log());
        }
        self.count()
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.trace);
    }
}

fn trace_file() -> PathBuf {
    std::env::temp_dir().join(format!("{}.trace", interface_name()))
}

/// The netlink sockets of a process, as `/proc/PID/fd` names them.
fn netlink_sockets(pid: u32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/netlink")).unwrap_or_default();
    let inodes: Vec<String> = table
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    descriptors(pid).into_iter().filter(|name| inodes.contains(name)).collect()
}

/// What the descriptors of a process lead to.
#[must_use]
pub fn descriptors(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect()
}

/// How many threads a process has.
#[must_use]
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// The processor time that a process has used, in ticks of 10 ms.
#[must_use]
pub fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name, in brackets, may have any characters; utime and stime are the 12th and 13th words behind it.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
}

/// The memory of a process that is in use, in KiB.
#[must_use]
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A program's calls, as strace writes them down.
#[derive(Debug)]
pub struct Trace(PathBuf);

/// One call of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which of the threads, in the order of their first calls.
    pub thread: usize,
    /// The system call.
    pub name: String,
    /// What it is about: the kind of descriptor, the option, the file. Without numbers, so that it is the same each time.
    pub about: String,
    /// The how manieth call of this name and thread it is, from 1.
    pub nth: usize,
}

impl Trace {
    /// `program` with all its calls written down, and where.
    #[must_use]
    pub fn of(program: &Program) -> (Program, Trace) {
        let file = trace_file();
        // See `failing` of `refusal` for -D.
        let line = format!("strace -D -f -qq -y -o {} {}", file.display(), program.0.display());
        (Program::new(line), Trace(file))
    }

    /// The calls up to now, in order.
    ///
    /// # Panics
    /// If there is no trace.
    #[track_caller]
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        read(&fs::read_to_string(&self.0).expect("strace has written something"))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn read(trace: &str) -> Vec<Call> {
    let mut threads = Vec::new();
    let mut counts = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((id, rest)) = line.split_once(' ') else { continue };
        // Ends of calls, signals and exits are none.
        let Some((name, arguments)) = rest.trim_start().split_once('(') else { continue };
        if name.contains(' ') || name.starts_with(['<', '+', '-']) {
            continue;
        }
        let thread = threads.iter().position(|known| *known == id).unwrap_or_else(|| {
            threads.push(id);
            threads.len() - 1
        });
        let nth = counts.entry((thread, name)).or_insert(0);
        *nth += 1;
        calls.push(Call { thread, name: name.to_owned(), about: about(name, arguments), nth: *nth });
    }
    calls
}

/// What tells calls of one name apart: a word or two of the arguments.
fn about(name: &str, arguments: &str) -> String {
    let words: Vec<&str> = arguments.split([',', ')']).map(str::trim).collect();
    let word = |index: usize| words.get(index).copied().unwrap_or_default();
    let target = |word: &str| word.split_once('<').map_or(String::new(), |(_, path)| path.to_owned());
    let text = match name {
        "socket" | "eventfd2" | "signalfd4" => format!("{} {}", word(0), word(1)),
        "openat" | "openat2" | "newfstatat" | "statx" | "unlinkat" => {
            format!("{} {}", target(word(0)), word(1))
        }
        "access" | "unlink" | "mkdir" | "chdir" | "bpf" | "prctl" | "rt_sigaction" | "rt_sigprocmask" => {
            word(0).to_owned()
        }
        "setsockopt" | "getsockopt" => format!("{} {}", word(1), word(2)),
        "bind" => word(1).to_owned(),
        _ if word(0).contains('<') => {
            let request = if matches!(name, "ioctl" | "fcntl" | "epoll_ctl") { word(1) } else { "" };
            format!("{} {request}", target(word(0)))
        }
        _ => String::new(),
    };
    text.chars()
        .filter(|c| !c.is_ascii_digit() && !"[]<>\"".contains(*c))
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Whether `path` is a file that was left behind.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::within;

    #[test]
    fn traces_are_read() {
        let trace = "\
7  execve(\"/bin/x\", [\"x\"], 0x7f /* 3 vars */) = 0
7  ioctl(4</dev/net/tun>, TUNSETIFF, 0x7ffd) = 0
8  epoll_wait(3<anon_inode:[eventpoll]>,  <unfinished ...>
7  ioctl(5<socket:[123]>, SIOCSIFMTU, {ifr_name=\"wg0\"}) = 0
8  <... epoll_wait resumed>[], 16, -1) = 0
7  --- SIGTERM {si_signo=SIGTERM} ---
7  setsockopt(5<socket:[123]>, SOL_SOCKET, SO_MARK, [1], 4) = 0
7  +++ exited with 0 +++
";
        let calls = read(trace);
        let texts: Vec<_> = calls
            .iter()
            .map(|call| format!("{} {} {} {}", call.thread, call.name, call.about, call.nth))
            .collect();
        assert_eq!(
            texts,
            [
                "0 execve  1",
                "0 ioctl /dev/net/tun TUNSETIFF 1",
                "1 epoll_wait anon_inode:eventpoll 1",
                "0 ioctl socket: SIOCSIFMTU 2",
                "0 setsockopt SOL_SOCKET SO_MARK 1",
            ]
        );
    }

    #[test]
    fn calls_of_a_running_program_fail_for_a_while() {
        crate::needs!("strace");
        // Whatever fails, it goes on.
        let script = "while :; do sleep 0.01; cat /proc/self/comm || echo no >&2; done";
        let clock = Cmd::new("sh -c").arg(script).spawn();
        let fault =
            Fault { call: "openat", on: On::Any, outcome: Outcome::Error("EMFILE"), times: Times::Always };
        clock.expect_log("cat\ncat\n", seconds(30));
        let failing = Failing::attach(clock.pid(), &fault).expect("on any descriptor");
        assert!(within(seconds(20), || failing.count().failed > 3), "{}", clock.log());
        assert!(failing.stop().failed > 3);
        let before = clock.log().len();
        assert!(within(seconds(20), || clock.log()[before..].contains("cat\ncat\n")), "{}", clock.log());
        assert!(
            descriptors(clock.pid()).len() >= 3 && threads(clock.pid()) == 1 && resident(clock.pid()) > 100
        );
        assert!(ticks(clock.pid()) < 1000);
    }
}
