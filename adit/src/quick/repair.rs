//! What those who were killed have left: half an interface, or a whole one that nobody stays with any more.
//!
//! A note says that an interface is being brought up, taken down or reloaded, or that somebody stays with it; a lock says
//! that this somebody lives. A note without the lock's holder is what is left.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use adit_control::quick::plan;
use adit_device::uapi::DIRECTORY;
use adit_net::netlink::{Config, LinkMonitor, if_index};

use super::file::File;
use super::lock::Lock;
use super::record::{self, Record, Stage};
use super::run::Runner;
use super::{Failed, exists, is_device, look, removal};
use crate::replace::{self, advice};
use crate::wg;

/// How long an engine may take to serve the interface that it has made.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long who has stayed with an interface may take to let go of it.
const LETTING_GO: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Makes way for the interface of the file called `name` to be brought up, and notes that it is. Until the lock goes nobody
/// else brings it up, or takes what is there for something that was left.
pub(super) fn begin_up(file: &mut File, name: &str) -> Result<Option<Lock>, Failed> {
    let keeper = keep(&file.interface)?;
    replace::sweep(&file.path);
    refuse_what_is_not_left(&file.interface)?;
    // Its file may be one that somebody left who was killed.
    drop(Lock::of_interface(&file.interface));
    if look::is_noted(&file.interface) {
        clear_away_with_commands(file)?;
        if if_index(&file.interface).is_ok() {
            return Err(exists(&file.interface));
        }
        // It may have been saved.
        *file = File::read(name)?;
    }
    let interface = &file.interface;
    record::begin(interface).map_err(|error| not_noted(interface, &error))?;
    Ok(keeper)
}

/// An interface that is there may only be one that somebody has left who was killed.
fn refuse_what_is_not_left(interface: &str) -> Result<(), Failed> {
    let Ok(link) = if_index(interface) else { return Ok(()) };
    let record = record::read(interface).unwrap_or_default();
    if record.stage == Stage::Reloading {
        return Err(Failed::because(format_args!(
            "`{interface}' already exists, and {CUT_SHORT}: `adit reload` completes it"
        )));
    }
    if !is_left(interface, link, record) {
        return Err(exists(interface));
    }
    wg::tell(format_args!(
        "{}: `{interface}' was left behind by a process that was killed, and is taken down first",
        super::program()
    ));
    Ok(())
}

const CUT_SHORT: &str = "a reload of it was cut short";

/// Whether the interface of that index is the one that was left, according to its note. Notes outlast interfaces, and
/// somebody else may have made another one of the name since.
fn is_left(interface: &str, link: u32, record: Record) -> bool {
    match record {
        Record { stage: Stage::Whole, attended: false, .. } => false,
        Record { link: Some(noted), .. } => noted == link,
        // Who made it was killed before it could be noted, and has done nothing else with it.
        Record { stage: Stage::ComingUp, .. } => is_untouched(interface, link),
        _ => false,
    }
}

/// Whether nobody has given anything to the interface that could be lost.
fn is_untouched(interface: &str, link: u32) -> bool {
    settle(interface);
    let is_up = LinkMonitor::open(None, link).map_or(true, |monitor| monitor.state().up);
    let addresses = Config::open().and_then(|mut config| config.addresses(link));
    let is_configured = wg::device::get(interface)
        .is_ok_and(|device| device.private_key.is_some() || !device.peers.is_empty());
    !is_up && !is_configured && addresses.is_ok_and(|addresses| addresses.is_empty())
}

/// Who takes it down, or has just seen it taken down, is waited for.
fn keep(interface: &str) -> Result<Option<Lock>, Failed> {
    let end = Instant::now() + LETTING_GO;
    loop {
        match Lock::of_keeper(interface) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            // Another interface, though one of the same name.
            Ok(None) if record::is_of_another_namespace(interface) => return Ok(None),
            Ok(None) if if_index(interface).is_ok() => return Err(exists(interface)),
            Ok(None) if Instant::now() < end => thread::sleep(PAUSE),
            Ok(None) => {
                let why = format_args!("`{interface}' is being brought up or taken down already");
                return Err(Failed::because(why));
            }
            Err(error) => {
                let why = advice(&error);
                return Err(Failed::because(format_args!(
                    "`{interface}' cannot be locked: {DIRECTORY}: {why}"
                )));
            }
        }
    }
}

pub(super) fn not_noted(interface: &str, error: &io::Error) -> Failed {
    Failed::because(format_args!("`{interface}' cannot be noted: {DIRECTORY}: {}", advice(error)))
}

/// Refuses what makes sense for a whole interface only, unless whoever brings it up is at it.
pub(super) fn refuse_half(file: &File, name: &str) -> Result<(), Failed> {
    let interface = &file.interface;
    let is_half = matches!(record::stage(interface), Stage::ComingUp | Stage::HalfRemoved);
    if is_half && Lock::of_keeper(interface).is_ok_and(|lock| lock.is_some()) {
        return Err(Failed::because(format_args!(
            "`{interface}' is only half there: whoever brought it up or took it down was killed; `adit up {name}` brings it up anew"
        )));
    }
    Ok(())
}

/// Refuses to save what a reload has left half as its file says, over that file. `Lock::of_interface` is held.
pub(super) fn refuse_half_reloaded(file: &File, name: &str) -> Result<(), Failed> {
    let interface = &file.interface;
    if record::stage(interface) != Stage::Reloading {
        return Ok(());
    }
    Err(Failed::because(format_args!(
        "`{interface}' is not saved, since {CUT_SHORT}: `adit reload {name}` completes it"
    )))
}

/// An engine that was being started goes on when who has started it is killed: waits until it serves its interface.
pub(super) fn settle(interface: &str) {
    if record::stage(interface) != Stage::ComingUp {
        return;
    }
    let end = Instant::now() + PATIENCE;
    while if_index(interface).is_ok() && !is_device(interface).unwrap_or(true) && Instant::now() < end {
        thread::sleep(PAUSE);
    }
}

/// The user's commands may have done what only their others take back. What is whole is saved as `down` does it, and stays
/// where it cannot be.
fn clear_away_with_commands(file: &File) -> Result<(), Failed> {
    let File { interface, config, .. } = file;
    settle(interface);
    let Some(Record { stage, .. }) = record::read(interface) else { return clear_away(file) };
    let is_whole = stage.is_whole() && is_device(interface)?;
    let mut runner = Runner::new(file)?;
    runner.run_down(&plan::begin_down(interface, config, is_whole), true)?;
    clear_away(file)?;
    let _ = runner.run_whatever_fails(&plan::end_down(interface, config));
    Ok(())
}

/// Clears away what is there of this interface, such as what a daemon has left that ended before it was taken down. What
/// cannot be cleared away is told, and in nobody's way.
pub(super) fn clear_away(file: &File) -> Result<(), Failed> {
    let interface = &file.interface;
    // Somebody may be taking it down.
    let lock = Lock::of_interface(interface).ok();
    if !look::is_noted(interface) {
        return Ok(());
    }
    if Runner::new(file)?.run_whatever_fails(&removal(file)?).is_err() {
        wg::tell(format_args!("Warning: something of an earlier `{interface}' is left"));
    }
    record::forget(interface);
    drop(lock);
    Ok(())
}
