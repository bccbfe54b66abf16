//! Commands: each with a time limit, its output captured, and killed by its process id when nobody waits any more.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{seconds, within};

/// A command about to be run.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    line: String,
    input: Vec<u8>,
    hold_input: bool,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    limit: Duration,
}

impl Cmd {
    /// `line` is split at white space; nothing is quoted or expanded. The time limit is 20 seconds.
    ///
    /// # Panics
    /// If `line` is blank.
    #[must_use]
    pub fn new(line: &str) -> Cmd {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a command"));
        command.args(words);
        Cmd {
            command,
            line: line.to_owned(),
            input: Vec::new(),
            hold_input: false,
            stdin: None,
            stdout: None,
            limit: seconds(20),
        }
    }

    /// Adds one argument as it is, spaces included.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Cmd {
        self.line = format!("{} {}", self.line, arg.as_ref().display());
        self.command.arg(arg);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Cmd {
        self.command.env(name, value);
        self
    }

    /// What the command reads on its standard input; nothing otherwise.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Cmd {
        self.input = bytes.into();
        self
    }

    /// Leaves the command's standard input open for as long as the [`Background`] or this whole process lives.
    #[must_use]
    pub fn hold_input(mut self) -> Cmd {
        self.hold_input = true;
        self
    }

    /// Gives the command a descriptor of any kind as its number 0.
    #[must_use]
    pub fn stdin(mut self, fd: impl Into<OwnedFd>) -> Cmd {
        self.stdin = Some(fd.into());
        self
    }

    /// Gives the command a descriptor of any kind as its number 1; its standard output is not captured then.
    #[must_use]
    pub fn stdout(mut self, fd: impl Into<OwnedFd>) -> Cmd {
        self.stdout = Some(fd.into());
        self
    }

    /// Replaces the time limit.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Cmd {
        self.limit = limit;
        self
    }

    /// Runs to the end, successful or not.
    ///
    /// # Panics
    /// If the command cannot be started or exceeds its time limit.
    #[track_caller]
    pub fn run(self) -> Output {
        let (line, limit) = (self.line.clone(), self.limit);
        let mut process = self.spawn();
        let Some(status) = process.wait(limit) else {
            panic!("`{line}` did not end within {limit:?}\n{}", process.log());
        };
        process.output(status)
    }

    /// Runs to the end and returns what the command printed on its standard output.
    ///
    /// # Panics
    /// Like [`Cmd::run`], and if the command fails.
    #[track_caller]
    pub fn ok(self) -> String {
        let line = self.line.clone();
        let output = self.run();
        assert!(output.success(), "`{line}`: {}\n{}{}", output.status, output.stdout, output.stderr);
        output.stdout
    }

    /// Starts the command in the background.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    #[must_use]
    pub fn spawn(mut self) -> Background {
        let stdio = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::piped, Stdio::from);
        let command = self.command.stdin(stdio(self.stdin.take())).stdout(stdio(self.stdout.take()));
        let mut child =
            command.stderr(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("`{}`: {e}", self.line));
        if !self.hold_input
            && let Some(mut stdin) = child.stdin.take()
        {
            let input = std::mem::take(&mut self.input);
            // A command that does not read its input is no error of the test.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let stdout = Collector::new(child.stdout.take());
        let stderr = Collector::new(child.stderr.take());
        Background { child, line: self.line, stdout, stderr }
    }
}

/// How a command ended and what it printed.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the command exited with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The exit status, or minus the signal that ended the command.
    #[must_use]
    pub fn code(&self) -> i32 {
        code(self.status)
    }

    /// Standard output and standard error, one after the other.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The exit status, or minus the signal that ended the process.
#[must_use]
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// A process in the background; ended when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    line: String,
    stdout: Collector,
    stderr: Collector,
}

impl Background {
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a process that has already ended gets none.
    pub fn signal(&mut self, signal: Signal) {
        // Until it is reaped, a dead child keeps its id, so this never reaches a stranger.
        if self.exited().is_none() {
            let pid = Pid::from_raw(self.child.id().cast_signed());
            let _ = kill(pid, signal);
        }
    }

    /// How the process ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the process to end, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        within(limit, || {
            status = self.exited();
            status.is_some()
        });
        status
    }

    /// What it printed so far, standard output first.
    #[must_use]
    pub fn log(&self) -> String {
        format!("{}{}", self.stdout.so_far(), self.stderr.so_far())
    }

    /// Waits until `text` is in what it printed.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    #[track_caller]
    pub fn expect_log(&self, text: &str, limit: Duration) {
        let found = within(limit, || self.log().contains(text));
        assert!(found, "`{}` never printed {text:?}\n{}", self.line, self.log());
    }

    fn output(&mut self, status: ExitStatus) -> Output {
        Output { status, stdout: self.stdout.finish(), stderr: self.stderr.finish() }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        if self.wait(seconds(2)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Reads a pipe on a thread, so that the process never blocks on it.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collector {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Collector {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let (Some(mut pipe), mut chunk) = (pipe, [0; 8192]) else { return };
            loop {
                match pipe.read(&mut chunk) {
                    Ok(n @ 1..) => sink.lock().expect("no reader panics").extend_from_slice(&chunk[..n]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
        });
        Collector { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no reader panics")).into_owned()
    }

    /// All of it. A daemon that the command left behind may hold the pipe open for ever: a short while must do then.
    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take()
            && within(seconds(2), || reader.is_finished())
        {
            let _ = reader.join();
        }
        self.so_far()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_output_status_and_input() {
        let output = Cmd::new("sh -c").arg("cat; echo oops >&2; exit 3").input("hello").run();
        assert_eq!((output.code(), output.stdout.as_str(), output.stderr.as_str()), (3, "hello", "oops\n"));
    }

    #[test]
    #[should_panic(expected = "did not end within")]
    fn limits_time() {
        Cmd::new("sleep 5").limit(Duration::from_millis(50)).run();
    }

    #[test]
    fn ends_background_processes_when_dropped() {
        let sleeper = Cmd::new("sleep 60").spawn();
        let pid = Pid::from_raw(sleeper.pid().cast_signed());
        assert!(kill(pid, None).is_ok());
        drop(sleeper);
        assert!(kill(pid, None).is_err());
    }

    #[test]
    fn signals_show_as_negative_codes() {
        let mut sleeper = Cmd::new("sleep 60").spawn();
        sleeper.signal(Signal::SIGINT);
        assert_eq!(sleeper.wait(seconds(20)).map(code), Some(-2));
    }
}
