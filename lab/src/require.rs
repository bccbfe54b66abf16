//! What a test needs from the machine, and how a test that cannot run says so.
//!
//! A skipped test is not a passed one, but libtest knows no third outcome. So a skip prints its reason, and appends a
//! line `test: reason` to the file that `LAB_SKIPPED` names; `./check` counts those lines. With `LAB_REQUIRE_ALL=1` a
//! missing program is a failure: only what the machine itself refuses (namespaces, TUN) may then be skipped.

use std::env;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::cmd::Cmd;

/// Why a test could not run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Returns from the test if the machine lacks one of the [`require()`] names given.
#[macro_export]
macro_rules! needs {
    ($($need:expr),* $(,)?) => {
        if $crate::require(&[$($need),*]).is_err() {
            return;
        }
    };
}

/// Checks that the machine offers everything in `needs`, and records a skip of the running test if not.
///
/// A need is the name or path of a program, or one of: `netns` (root, and namespaces may be made), `tun` (/dev/net/tun).
///
/// # Errors
/// The first thing that is missing.
///
/// # Panics
/// If a program is missing and `LAB_REQUIRE_ALL` is 1.
pub fn require(needs: &[&str]) -> Result<(), Skip> {
    for &need in needs {
        let missing = match need {
            "netns" if !namespaces() => "needs root and network namespaces",
            "tun" if !Path::new("/dev/net/tun").exists() => "needs /dev/net/tun",
            "netns" | "tun" => continue,
            program if find(program).is_some() => continue,
            program => {
                let reason = format!("{program} is not installed");
                assert!(env::var_os("LAB_REQUIRE_ALL").is_none_or(|v| v != "1"), "{reason}");
                return Err(skip(&reason));
            }
        };
        return Err(skip(missing));
    }
    Ok(())
}

/// Records that the running test is skipped for `reason`.
///
/// # Panics
/// If the file that `LAB_SKIPPED` names cannot be written.
pub fn skip(reason: &str) -> Skip {
    let test = std::thread::current().name().unwrap_or("unnamed").to_owned();
    eprintln!("skipped: {test}: {reason}");
    if let Some(path) = env::var_os("LAB_SKIPPED") {
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).expect("LAB_SKIPPED is writable");
        // One write of one line: several test processes may append at once.
        file.write_all(format!("{test}: {reason}\n").as_bytes()).expect("LAB_SKIPPED is writable");
    }
    Skip(reason.to_owned())
}

/// Where `program` is, by `PATH` and the system directories that a user's `PATH` often lacks.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|p| p.is_file());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|p| p.is_file())
}

fn namespaces() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        nix::unistd::geteuid().is_root()
            && find("ip").is_some()
            && Cmd::new("unshare --net --mount true").run().success()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_by_name_and_path() {
        assert!(find("sh").is_some());
        assert!(find("/bin/sh").is_some());
        assert!(find("no-such-program").is_none());
        assert!(find("/bin").is_none(), "a directory is no program");
    }
}
