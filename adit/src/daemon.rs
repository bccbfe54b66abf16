//! The daemon: `adit wg0`, as `wireguard-go wg0` is used.
//!
//! What may fail for reasons of the user's is done before going to the background, and the program that was started
//! returns only when the interface is ready, so that its exit code says whether it is.

use std::env;
use std::fmt::Display;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::process::{self, ExitCode};
use std::thread;

use adit_device::uapi::Listener;
use adit_device::{Engine, KeyLogFile, Options, tun_queues};
use adit_net::process::{
    Output, ReadySignal, Role, Signal, SignalFd, daemonize, give_back_large_blocks, ignore_sigpipe,
    inherited_fd,
};
use adit_net::tun::{Offloads, Tun, TunOptions};

use crate::cli::DaemonArgs;
use crate::confine::{self, Purpose};
use crate::crypto;
use crate::logger;
use crate::offloads;
use crate::service;

/// A descriptor of a TUN device that is already there.
const WG_TUN_FD: &str = "WG_TUN_FD";
/// A descriptor of the UAPI socket that is already listening.
pub(crate) const WG_UAPI_FD: &str = "WG_UAPI_FD";
/// `1`: stay in the foreground.
const WG_PROCESS_FOREGROUND: &str = "WG_PROCESS_FOREGROUND";
/// How much to log.
pub(crate) const LOG_LEVEL: &str = "LOG_LEVEL";
/// For debugging: the file that gets every session's secrets, so that a capture can be decrypted.
const ADIT_KEYLOGFILE: &str = "ADIT_KEYLOGFILE";

/// Serves `interface` until it or its UAPI socket is removed, or a signal comes.
pub(crate) fn run(interface: &str, args: &DaemonArgs) -> ExitCode {
    let level = env::var(LOG_LEVEL).ok();
    logger::init(level.as_deref());
    match serve(interface, args, level.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(interface: &str, args: &DaemonArgs, level: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    let workers = args.workers.unwrap_or_else(default_workers);
    let wanted = offloads::SWITCHES.without(&args.no_offload)?;
    let parts = confine::SWITCHES.without(&args.no_confinement)?;
    crypto::choose()?;
    let tun = open_tun(interface, workers, wanted.tun)?;
    let name = tun.name().map_err(cannot("ask for the interface's name"))?;
    logger::set_interface(&name);
    let listener = match inherited(WG_UAPI_FD)? {
        Some(fd) => Listener::from_fd(fd, &name)?,
        None => Listener::bind(&name)?,
    };
    // The daemon stands elsewhere.
    let key_log = env::var_os(ADIT_KEYLOGFILE).map(std::path::absolute).transpose();
    let key_log = key_log.map_err(cannot("find the key log"))?;
    let foreground = args.foreground || env::var(WG_PROCESS_FOREGROUND).is_ok_and(|value| value == "1");
    let ready = match foreground {
        true => None,
        false => Some(go_to_background(level)?),
    };
    give_back_large_blocks();
    let signals = ignore_sigpipe()
        .and_then(|()| SignalFd::new(&[Signal::Terminate, Signal::Interrupt]))
        .map_err(cannot("take signals"))?;
    let key_log = key_log.map(KeyLogFile::open).transpose()?;
    let confinement = confine::confine(Purpose::Engine, parts);
    let options = Options { workers, udp_offloads: wanted.udp, key_log, confinement };
    let engine = Engine::start(tun, listener, signals, options)?;
    match ready {
        Some(ready) => ready.ready().map_err(cannot("go to the background"))?,
        None => service::ready(&format!("serving {name}")),
    }
    Ok(engine.run().map_err(cannot("go on"))?)
}

/// Says what could not be done.
fn cannot(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot {what}: {error}")
}

/// One for each processor that this process may use. More than eight would find little to do, and cost memory.
fn default_workers() -> NonZeroUsize {
    const EIGHT: NonZeroUsize = NonZeroUsize::new(8).unwrap();
    thread::available_parallelism().map_or(NonZeroUsize::MIN, |processors| processors.min(EIGHT))
}

fn open_tun(
    interface: &str,
    workers: NonZeroUsize,
    offloads: Offloads,
) -> Result<Tun, Box<dyn std::error::Error>> {
    Ok(match inherited(WG_TUN_FD)? {
        Some(fd) => Tun::from_fd(fd, offloads)?,
        None => {
            let queues = tun_queues(workers);
            Tun::open(&TunOptions { queues, offloads, ..TunOptions::new(interface) })?
        }
    })
}

/// The descriptor that an environment variable names.
fn inherited(variable: &str) -> Result<Option<OwnedFd>, String> {
    let Some(value) = env::var_os(variable).filter(|value| !value.is_empty()) else { return Ok(None) };
    let wrong = |why: &dyn Display| format!("{variable}={}: {why}", value.display());
    let number = value.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong(&"not a number"))?;
    inherited_fd(number).map(Some).map_err(|error| wrong(&error))
}

/// Returns in the daemon; the process that was started ends here, when the daemon is ready or has failed.
fn go_to_background(level: Option<&str>) -> Result<ReadySignal, Box<dyn std::error::Error>> {
    let output = match level {
        Some("silent") | None => Output::Discard,
        Some(_) => Output::Keep,
    };
    match daemonize(output).map_err(cannot("go to the background"))? {
        Role::Child(ready) => Ok(ready),
        // Without destructors: interface and socket are the daemon's now.
        Role::Parent(code) => process::exit(code),
    }
}
