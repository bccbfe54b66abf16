//! What those who were killed have left: half an interface, or a whole one that nobody stays with any more.
//!
//! A note says that an interface is being brought up, taken down or reloaded, or that somebody stays with it; a lock says
//! that this somebody lives. A note without the lock's holder is what is left.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use adit_control::quick::plan;
use adit_device::uapi::DIRECTORY;
use adit_net::netlink::if_index;

use super::file::File;
use super::lock::Lock;
use super::record::{self, Record, Stage};
use super::run::Runner;
use super::{Failed, exists, is_device, look, removal};
use crate::replace::{self, advice};
use crate::wg;

/// How long an engine may take to serve the interface that it has made.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Makes way for an interface to be brought up, and notes that it is. Until the lock goes nobody else brings it up, or takes
/// what is there for something that was left.
pub(super) fn begin_up(file: &File) -> Result<Option<Lock>, Failed> {
    let interface = &file.interface;
    let keeper = keep(interface)?;
    replace::sweep(&file.path);
    if if_index(interface).is_ok() {
        match record::read(interface) {
            Some(Record { stage: Stage::Reloading, .. }) => {
                return Err(Failed::because(format_args!(
                    "`{interface}' already exists, and a reload of it was cut short: `adit reload` completes it"
                )));
            }
            Some(Record { stage, attended, .. }) if stage != Stage::Whole || attended => {}
            _ => return Err(exists(interface)),
        }
        wg::tell(format_args!(
            "{}: `{interface}' was left behind by a process that was killed, and is taken down first",
            super::program()
        ));
    }
    // Its file may be one that somebody left who was killed.
    drop(Lock::of_interface(interface));
    if look::is_noted(interface) {
        clear_away_with_commands(file)?;
        if if_index(interface).is_ok() {
            return Err(exists(interface));
        }
    }
    record::begin(interface).map_err(|error| not_noted(interface, &error))?;
    Ok(keeper)
}

fn keep(interface: &str) -> Result<Option<Lock>, Failed> {
    match Lock::of_keeper(interface) {
        Ok(Some(lock)) => Ok(Some(lock)),
        // Another interface, though one of the same name.
        Ok(None) if record::is_of_another_namespace(interface) => Ok(None),
        Ok(None) if if_index(interface).is_ok() => Err(exists(interface)),
        Ok(None) => Err(Failed::because(format_args!("`{interface}' is being brought up already"))),
        Err(error) => Err(Failed::because(format_args!(
            "`{interface}' cannot be locked: {DIRECTORY}: {}",
            advice(&error)
        ))),
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

/// The user's commands may have done what only their others take back.
fn clear_away_with_commands(file: &File) -> Result<(), Failed> {
    let File { interface, config, .. } = file;
    settle(interface);
    if record::read(interface).is_none() {
        return clear_away(file);
    }
    let mut runner = Runner::new(file)?;
    let _ = runner.run_whatever_fails(&plan::begin_down(interface, config, false));
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
