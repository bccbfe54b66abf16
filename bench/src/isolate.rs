//! A world of its own for a benchmark that makes namespaces and starts daemons: nothing outlives the process, however it
//! ends, and nothing on the machine is touched.
//!
//! The program starts itself once more under `unshare(1)`, in new mount and process-id namespaces. When that process
//! ends, the kernel kills everything that it started; named network namespaces and UAPI sockets live on a `/run` that
//! only it sees, and vanish with it.

use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::{env, panic, process};

use adit_net::child::die_with_parent;
use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;

/// Set for the process inside.
const INSIDE: &str = "BENCH_ISOLATED";

/// Returns inside; the process that was started stays outside, and ends here with the exit code of the one inside.
///
/// # Errors
/// Without root, or when the machine permits no namespaces.
pub fn enter() -> Result<(), Box<dyn Error>> {
    if env::var_os(INSIDE).is_none() {
        process::exit(run_inside()?);
    }
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|error| format!("cannot mount a private /run: {error}"))?;
    // The laboratory panics with an account of what failed; here that is the error message.
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("something that has no message failed");
        eprintln!("bench: {message}");
        process::exit(1);
    }));
    Ok(())
}

fn run_inside() -> Result<i32, Box<dyn Error>> {
    if !geteuid().is_root() {
        return Err("it makes network namespaces: run it as root".into());
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(env::current_exe()?).args(env::args_os().skip(1)).env(INSIDE, "1").stdin(Stdio::null());
    let status = die_with_parent(&mut command).status().map_err(|error| {
        format!("cannot run unshare (of util-linux), which isolates the benchmark: {error}")
    })?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}
