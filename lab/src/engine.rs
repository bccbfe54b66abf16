//! A userspace WireGuard daemon, started the way they all are: `PROGRAM -f INTERFACE`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cmd::{Background, Cmd};
use crate::netns::{Netns, interface_name};
use crate::uapi::Uapi;
use crate::wg::{self, Dump};
use crate::{seconds, within};

/// A program that is started as `wireguard-go` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(pub PathBuf);

impl Program {
    /// The program at `path`, or found by that name.
    pub fn new(path: impl Into<PathBuf>) -> Program {
        Program(path.into())
    }

    /// The reference implementation in Go.
    #[must_use]
    pub fn wireguard_go() -> Program {
        Program::new("wireguard-go")
    }

    /// The arguments that run it on `interface` in the foreground.
    #[must_use]
    pub fn foreground(&self, interface: &str) -> String {
        format!("{} -f {interface}", self.0.display())
    }
}

/// A daemon on an interface of its own in a namespace; stopped when dropped, its interface and socket removed.
#[derive(Debug)]
pub struct Engine {
    interface: String,
    process: Background,
}

impl Engine {
    /// Starts `program` in `ns` on a fresh interface and returns when its UAPI socket answers.
    ///
    /// # Panics
    /// If it does not within half a minute.
    #[track_caller]
    #[must_use]
    pub fn start(program: &Program, ns: &Netns) -> Engine {
        Engine::start_with(program, ns, &[])
    }

    /// Like [`Engine::start`], with environment variables.
    ///
    /// # Panics
    /// If its socket does not answer within half a minute.
    #[track_caller]
    #[must_use]
    pub fn start_with(program: &Program, ns: &Netns, env: &[(&str, &str)]) -> Engine {
        let interface = interface_name();
        let mut command = ns.cmd(&program.foreground(&interface)).env("WG_PROCESS_FOREGROUND", "1");
        for (name, value) in env {
            command = command.env(name, value);
        }
        Engine::adopt(interface, command)
    }

    /// Runs `command`, which is to serve `interface`, and returns when its UAPI socket answers.
    ///
    /// # Panics
    /// If it does not within half a minute.
    #[track_caller]
    #[must_use]
    pub fn adopt(interface: String, command: Cmd) -> Engine {
        let mut engine = Engine { interface, process: command.spawn() };
        let ready =
            within(seconds(30), || Uapi::connect(&engine.interface).is_ok() || engine.exited().is_some());
        let alive = ready && engine.exited().is_none();
        assert!(alive, "no daemon on {}\n{}", engine.interface, engine.log());
        engine
    }

    /// Its interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The path of its UAPI socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(&self.interface)
    }

    /// A new connection to its UAPI socket.
    ///
    /// # Panics
    /// If it refuses.
    #[track_caller]
    #[must_use]
    pub fn uapi(&self) -> Uapi {
        Uapi::connect(&self.interface).unwrap_or_else(|e| panic!("{}: {e}", self.interface))
    }

    /// `wg set INTERFACE ARGS`.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn set(&self, args: &str) {
        Cmd::new(&format!("wg set {} {args}", self.interface)).ok();
    }

    /// Sets the private key.
    ///
    /// # Panics
    /// If `wg set` fails.
    #[track_caller]
    pub fn set_private_key(&self, key: &str) {
        Cmd::new(&format!("wg set {} private-key /dev/stdin", self.interface)).input(key).ok();
    }

    /// Sets the preshared key of a peer.
    ///
    /// # Panics
    /// If `wg set` fails.
    #[track_caller]
    pub fn set_preshared_key(&self, peer: &str, key: &str) {
        let line = format!("wg set {} peer {peer} preshared-key /dev/stdin", self.interface);
        Cmd::new(&line).input(key).ok();
    }

    /// What `wg show INTERFACE dump` says.
    ///
    /// # Panics
    /// If it fails or cannot be read.
    #[track_caller]
    #[must_use]
    pub fn dump(&self) -> Dump {
        wg::parse_dump(&Cmd::new(&format!("wg show {} dump", self.interface)).ok())
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until `text` is in its log.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    #[track_caller]
    pub fn expect_log(&self, text: &str, limit: Duration) {
        self.process.expect_log(text, limit);
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Waits for it to end, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.process.wait(limit)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        if self.wait(seconds(3)).is_none() {
            self.signal(Signal::SIGKILL);
            let _ = self.wait(seconds(3));
        }
        let _ = fs::remove_file(self.socket());
    }
}

/// The UAPI socket of `interface`.
#[must_use]
pub fn socket(interface: &str) -> PathBuf {
    Path::new("/var/run/wireguard").join(format!("{interface}.sock"))
}
