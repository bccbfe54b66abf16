//! What the daemon gives up once everything is open. From then on whoever has it run code of theirs can do what serving an
//! interface takes, and little else: `docs/security.md` tells what that is.
//!
//! All of it holds for threads that are started later, and most of it for those alone: it comes before the first one. What
//! the kernel refuses is told in the log, and the daemon goes on without, as it does with offloads.

mod capabilities;
mod files;
mod memory;
#[cfg(target_pointer_width = "64")]
mod system_calls;
#[cfg(test)]
mod tests;

/// Where they have other numbers and arguments.
#[cfg(not(target_pointer_width = "64"))]
mod system_calls {
    pub(super) fn filter(_: super::Purpose<'_>) -> Result<(), &'static str> {
        Err("there is no table of this processor's system calls")
    }
}

use std::fmt::Display;
use std::path::Path;

use adit_control::OffloadState;
use adit_control::status::Confinement;
use nix::sys::prctl;

use crate::switches::Switches;

/// What `--no-confinement` and the environment name. Why one would: `docs/security.md`.
pub(crate) static SWITCHES: Switches<Wanted> = Switches {
    thing: "part of the confinement",
    names: &[
        ("dumps", |wanted| wanted.dumps = false),
        ("mlock", |wanted| wanted.mlock = false),
        ("landlock", |wanted| wanted.landlock = false),
        ("capabilities", |wanted| wanted.capabilities = false),
        ("seccomp", |wanted| wanted.seccomp = false),
        ("all", |wanted| *wanted = Wanted::NOTHING),
    ],
    option: "--no-confinement",
    variable: "ADIT_NO_CONFINEMENT",
};

/// The parts of the confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    dumps: bool,
    mlock: bool,
    landlock: bool,
    capabilities: bool,
    seccomp: bool,
}

impl Wanted {
    const ALL: Wanted =
        Wanted { dumps: true, mlock: true, landlock: true, capabilities: true, seccomp: true };
    const NOTHING: Wanted =
        Wanted { dumps: false, mlock: false, landlock: false, capabilities: false, seccomp: false };
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted::ALL
    }
}

/// What the process is there for: each takes something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// An engine, which serves an interface.
    Engine,
    /// `adit metrics`, which asks all of them. Its own socket's file is in this directory, unless it has none.
    Metrics(Option<&'a Path>),
}

/// Gives up what is `wanted`, for this thread and all that it starts.
pub(crate) fn confine(purpose: Purpose<'_>, wanted: Wanted) -> Confinement {
    if wanted != Wanted::NOTHING
        && let Err(error) = prctl::set_no_new_privs()
    {
        log::info!("programs that are started could gain privileges: {error}");
    }
    // Each needs what a later one takes away: a privilege, files, at last system calls.
    let dumps = part("dumps", wanted.dumps, memory::keep_from_dumps);
    let mlock = part("mlock", wanted.mlock, memory::keep_from_swap);
    let locks = mlock == OffloadState::On && memory::is_limited();
    let confinement = Confinement {
        dumps,
        mlock,
        landlock: part("landlock", wanted.landlock, || files::restrict(purpose)),
        capabilities: part("capabilities", wanted.capabilities, || capabilities::reduce(purpose, locks)),
        seccomp: part("seccomp", wanted.seccomp, || system_calls::filter(purpose)),
    };
    log::debug!("confined by {confinement}");
    confinement
}

fn part<E: Display>(name: &str, is_wanted: bool, apply: impl FnOnce() -> Result<(), E>) -> OffloadState {
    if !is_wanted {
        return OffloadState::Off;
    }
    match apply() {
        Ok(()) => OffloadState::On,
        Err(error) => {
            log::info!("goes on without {name} confining it: {error}");
            OffloadState::Refused
        }
    }
}
