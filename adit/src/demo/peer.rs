//! A peer: the daemon in a process of its own, spoken to as any `wg` would speak to it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use adit_control::uapi::{parse_get, parse_set_answer, write_set};
use adit_control::{AllowedIpChange, Get, Prefix, PublicKey, Set, SetPeer};
use adit_crypto::{Secret, x25519};
use adit_net::child::{cpu_time, die_with_parent, pass_fd, peak_memory};
use adit_net::netns;
use adit_net::process::unblock_signals;

use super::error::{Stop, cannot};
use super::interrupt::Interrupt;
use super::site::{INTERFACE, PORT, Side, Site};
use crate::daemon::{LOG_LEVEL, WG_UAPI_FD};

/// This program, also if its file was replaced meanwhile or this user may not go where it is.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running engine. It is killed when dropped: with it go its interface and its sockets, and files it has none.
pub(super) struct Peer {
    side: Side,
    engine: Child,
    /// The UAPI socket.
    uapi: UnixAddr,
    key: Secret<32>,
}

impl Peer {
    /// Starts an engine on one side, and returns when it answers.
    pub(super) fn start(site: &Site, side: Side) -> Result<Self, Stop> {
        let mut key = Secret::zero();
        getrandom::fill(key.expose_mut()).map_err(cannot("make a key"))?;
        // An abstract name belongs to a network namespace, so that nobody outside can connect, and to no file system.
        let uapi = UnixAddr::from_abstract_name(format!("adit-demo-{side:?}"));
        let uapi = uapi.map_err(cannot("name a socket"))?;
        let listener = UnixListener::bind_addr(&uapi).map_err(cannot("make a UAPI socket"))?;
        let engine = spawn(site, side, listener).map_err(cannot("start an engine"))?;
        let peer = Self { side, engine, uapi, key };
        match peer.state() {
            Ok(_) => Ok(peer),
            Err(error) => Err(peer.last_words().map_or(error, Stop::Failure)),
        }
    }

    /// Waits until the engine knows that its interface is up. It hears of that like everybody else, a little later, and
    /// what is sent before goes nowhere. Then it opens its sockets, on a port of its own choice as yet.
    pub(super) fn wait_until_up(&self, interrupt: &Interrupt) -> Result<(), Stop> {
        let end = Instant::now() + PATIENCE;
        while self.state()?.listen_port == 0 {
            if Instant::now() > end {
                return Err(Stop::failure("an engine does not notice that its interface is up"));
            }
            interrupt.sleep(Duration::from_millis(1))?;
        }
        Ok(())
    }

    /// Gives the engine its key, and `other` as its peer.
    pub(super) fn configure(&self, other: &Peer, endpoint: Option<SocketAddr>) -> Result<(), Stop> {
        let mut peer = SetPeer::new(other.public_key());
        peer.endpoint = endpoint;
        peer.allowed_ips = vec![AllowedIpChange::Add(Prefix::host(other.side.inner().into()))];
        let set = Set {
            private_key: Some(Some(self.key.clone())),
            listen_port: Some(PORT),
            peers: vec![peer],
            ..Set::default()
        };
        let answer = self.ask(&write_set(&set)).map_err(cannot("configure an engine"))?;
        parse_set_answer(&answer).map_err(cannot("configure an engine"))
    }

    /// What the engine says about itself.
    pub(super) fn state(&self) -> Result<Get, Stop> {
        let answer = self.ask(b"get=1\n\n").map_err(cannot("ask an engine for its state"))?;
        // No peer here has a link-local endpoint.
        parse_get(&answer, |_| None).map_err(cannot("ask an engine for its state"))
    }

    /// The processor time that the engine has used.
    pub(super) fn cpu_time(&self) -> Result<Duration, Stop> {
        cpu_time(self.engine.id()).map_err(cannot("measure the engine's processor time"))
    }

    /// The most memory that the engine has had, in bytes.
    pub(super) fn peak_memory(&self) -> Result<u64, Stop> {
        peak_memory(self.engine.id()).map_err(cannot("measure the engine's memory"))
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::new(x25519::public_key(&x25519::PrivateKey::new(*self.key.expose())))
    }

    /// One operation on a connection of its own. An engine that is still starting answers when it is ready; the
    /// connection to one that dies ends.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect_addr(&self.uapi)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// What the engine printed last.
    fn last_words(mut self) -> Option<String> {
        let mut text = String::new();
        let _ = self.engine.kill();
        self.engine.stderr.take()?.read_to_string(&mut text).ok()?;
        let line = text.lines().rev().find(|line| !line.is_empty())?;
        Some(line.strip_prefix("adit: ").unwrap_or(line).to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Neither can fail on a child that was not waited for.
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }
}

/// Starts the daemon as `adit --foreground wg0`, with nothing of the user's environment.
fn spawn(site: &Site, side: Side, listener: UnixListener) -> io::Result<Child> {
    let mut command = Command::new(THIS_PROGRAM);
    let uapi_fd = pass_fd(&mut command, listener.into());
    command
        .arg0("adit")
        .args(["--foreground", INTERFACE])
        .env_clear()
        .env(WG_UAPI_FD, uapi_fd.to_string())
        .env(LOG_LEVEL, "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Out of reach of the terminal's Ctrl-C, which is for the demonstration as a whole.
        .process_group(0);
    netns::start_in(&mut command, site.netns(side).try_clone_to_owned()?);
    die_with_parent(unblock_signals(&mut command)).spawn()
}
