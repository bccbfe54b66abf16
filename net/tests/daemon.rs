//! Going to the background. A program of its own, without the test harness: its threads would forbid the fork.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, exit};
use std::thread;
use std::time::{Duration, Instant};

use adit_net::process::{Output, Role, Signal, SignalFd, daemonize, unblock_signals};

/// Set for the process that is to become a daemon: what its child shall do.
const TASK: &str = "ADIT_TEST_DAEMON";

fn main() -> ExitCode {
    if let Ok(task) = std::env::var(TASK) {
        exit(become_daemon(&task));
    }
    let tests: [(&str, fn()); 5] = [
        ("the_parent_waits_until_the_child_is_ready", the_parent_waits_until_the_child_is_ready),
        ("the_exit_code_of_a_dead_child_is_passed_on", the_exit_code_of_a_dead_child_is_passed_on),
        ("output_is_seen_until_ready", output_is_seen_until_ready),
        ("the_daemon_has_a_session_of_its_own", the_daemon_has_a_session_of_its_own),
        ("commands_may_be_signalled", commands_may_be_signalled),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// The process under test; returns its exit code.
fn become_daemon(task: &str) -> i32 {
    let output = if task == "keep" { Output::Keep } else { Output::Discard };
    let ready = match daemonize(output).unwrap() {
        Role::Parent(code) => return code,
        Role::Child(ready) => ready,
    };
    match task {
        "slow" => thread::sleep(Duration::from_millis(300)),
        "fail" => return 3,
        "clean exit before ready" => return 0,
        "abort" => std::process::abort(),
        "print" | "keep" => println!("before"),
        "report" => {
            // Fields 4 to 6 of stat(5): parent, process group, session; the name in field 2 has no spaces here.
            let stat = fs::read_to_string("/proc/self/stat").unwrap();
            let session: u32 = stat.split(' ').nth(5).unwrap().parse().unwrap();
            let cwd = std::env::current_dir().unwrap();
            let stdin = fs::read_link("/proc/self/fd/0").unwrap();
            println!("{} {} {}", session == std::process::id(), cwd.display(), stdin.display());
        }
        _ => unreachable!("{task}"),
    }
    ready.ready().unwrap();
    println!("after");
    std::io::stdout().flush().unwrap();
    0
}

/// Runs this program as a daemon to be; returns exit status and output, complete when all copies of it have ended.
fn run(task: &str) -> (std::process::ExitStatus, String) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).env(TASK, task).output().unwrap();
    (output.status, String::from_utf8(output.stdout).unwrap())
}

fn the_parent_waits_until_the_child_is_ready() {
    let start = Instant::now();
    let (status, _) = run("slow");
    assert_eq!(status.code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(300));
}

fn the_exit_code_of_a_dead_child_is_passed_on() {
    assert_eq!(run("fail").0.code(), Some(3));
    assert_eq!(run("clean exit before ready").0.code(), Some(1));
    let (status, _) = run("abort");
    assert_eq!((status.code(), status.signal()), (Some(128 + 6), None));
}

fn output_is_seen_until_ready() {
    assert_eq!(run("print").1, "before\n");
    assert_eq!(run("keep").1, "before\nafter\n");
}

fn the_daemon_has_a_session_of_its_own() {
    assert_eq!(run("report").1, "true / /dev/null\n");
}

fn commands_may_be_signalled() {
    let _signals = SignalFd::new(&[Signal::Terminate]).unwrap();
    let mut command = Command::new("grep");
    let output = unblock_signals(command.args(["SigBlk", "/proc/self/status"])).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "SigBlk:\t0000000000000000\n");
}
