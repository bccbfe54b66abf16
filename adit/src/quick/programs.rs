//! Programs of the system: finding them, and running them.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use adit_control::quick::Program;
use adit_net::process::unblock_signals;

use crate::service;

/// How a program is told to read what is given to it.
const SHOWN: &str = "/dev/fd/63";
const STDIN: &str = "/dev/stdin";

pub(super) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Where a program is.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    };
    env::split_paths(&path).map(|directory| directory.join(name)).find(is_program)
}

/// Makes a program start as if nobody waited for this one: no signal is blocked, and no service manager expects to hear
/// from it.
pub(super) fn prepare(command: &mut Command) -> &mut Command {
    unblock_signals(service::keep_from(command))
}

/// Runs a program of a plan. What it prints is shown.
pub(super) fn run(program: &Program) -> io::Result<ExitStatus> {
    let mut words = program.words.iter().map(|word| if word == SHOWN { STDIN } else { word });
    let mut command = Command::new(words.next().unwrap_or_default());
    let mut child = prepare(command.args(words).stdin(Stdio::piped())).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read has its reasons, and its status tells.
        let _ = stdin.write_all(program.input.as_bytes());
    }
    child.wait()
}

/// What a program prints on standard output, if it is there and succeeds.
pub(super) fn output(name: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new(find(name)?);
    let output = prepare(command.args(args).stdin(Stdio::null()).stderr(Stdio::null())).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Everybody may read a process's arguments, and a command may hold secrets; its environment is its own.
const HOOK: &str = "ADIT_HOOK";
const RUN_HOOK: &str = r#"set -- "$ADIT_HOOK"; unset ADIT_HOOK; eval "shift; $1""#;

/// Runs a command of the user's for an interface, as `bash` does after `set -e -o pipefail`.
pub(super) fn hook(command: &str, interface: &str, file: &Path) -> io::Result<ExitStatus> {
    let mut bash = Command::new("bash");
    bash.args(["-e", "-o", "pipefail", "-O", "extglob", "-c", RUN_HOOK]).env("LC_ALL", "C");
    // The latter two are variables of the shell that wireguard-tools' wg-quick is, and commands use them.
    bash.env(HOOK, command).env("INTERFACE", interface).env("CONFIG_FILE", file);
    // Where this program is, its links are too: wg, for one.
    if let Some(directory) = own_directory() {
        let path = env::var_os("PATH").unwrap_or_default();
        let paths = [directory].into_iter().chain(env::split_paths(&path));
        if let Ok(path) = env::join_paths(paths) {
            bash.env("PATH", path);
        }
    }
    prepare(&mut bash).status()
}

fn own_directory() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.to_owned())
}
