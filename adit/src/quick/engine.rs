//! Who moves an interface's packets.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// A program to be used instead of this one.
const USERSPACE_IMPLEMENTATION: &str = "WG_QUICK_USERSPACE_IMPLEMENTATION";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Engine {
    /// This program, or the one that WG_QUICK_USERSPACE_IMPLEMENTATION names
    #[default]
    Adit,
    /// The Linux kernel
    Kernel,
}

impl Engine {
    /// The program that serves an interface, unless the kernel does.
    pub(super) fn program(self) -> Option<String> {
        match self {
            Engine::Adit => Some(other().unwrap_or_else(|| "adit".to_owned())),
            Engine::Kernel => None,
        }
    }
}

fn other() -> Option<String> {
    env::var(USERSPACE_IMPLEMENTATION).ok().filter(|program| !program.is_empty())
}

/// The command that starts it. In the background, it returns when the interface is ready.
pub(super) fn command(interface: &str, in_foreground: bool) -> io::Result<Command> {
    let is_own = other().is_none();
    let mut command = match other() {
        // Not every program knows that what comes after `--` is no option.
        Some(_) if interface.starts_with('-') => {
            let why = format!("the engine would take the name `{interface}' for an option");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Some(program) => Command::new(program),
        // Whatever this program is called, the daemon is called adit.
        None => {
            let mut own = Command::new(env::current_exe()?);
            own.arg0("adit");
            own
        }
    };
    if in_foreground {
        // Who presses Ctrl-C asks this process to end, which takes the interface down first.
        command.arg("-f").process_group(0);
    }
    if is_own {
        // Whatever the interface is called, that is a name and neither an option nor a subcommand.
        command.arg("--");
    }
    command.arg(interface).env_remove("WG_PROCESS_FOREGROUND");
    Ok(command)
}
