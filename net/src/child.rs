//! Programs that this one starts: what they are given, when they end, and what they have used (`proc_pid_stat(5)`).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{self, Command};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// Makes `command` start with `fd` open, for it to take over by the number returned
/// ([`inherited_fd`](crate::process::inherited_fd)). `command` owns `fd`: it stays open here until that is dropped.
pub fn pass_fd(command: &mut Command, fd: OwnedFd) -> RawFd {
    let number = fd.as_raw_fd();
    let keep_open = move || {
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: fcntl, the only call between fork and exec, is async-signal-safe.
    unsafe { command.pre_exec(keep_open) };
    number
}

/// Makes `command` be killed when the thread that starts it ends, whatever ends it.
///
/// The thread, not the process: start it from one that stays.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    let parent = process::id();
    let bind = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // A parent that died before is not waited for.
        match getppid().as_raw().cast_unsigned() == parent {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: prctl and getppid, the only calls between fork and exec, are async-signal-safe.
    unsafe { command.pre_exec(bind) }
}

/// The processor time that all threads of a process have used, in user and in kernel mode. Counted in ticks, mostly of
/// 10 ms.
///
/// # Errors
///
/// `ENOENT` if there is no such process.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
    // SAFETY: no pointers; sysconf is a question.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(0).max(1);
    Ok(Duration::from_secs(ticks) / u32::try_from(per_second).unwrap_or(u32::MAX))
}

/// Fields 14 and 15 of `/proc/PID/stat`. The second field is the program's name in parentheses, and may contain any
/// character, parentheses too.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, from_third) = stat.rsplit_once(')')?;
    let mut fields = from_third.split_ascii_whitespace().skip(14 - 3);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// The most memory that a process has had at a time, its resident set, in bytes.
///
/// # Errors
///
/// `ENOENT` if there is no such process.
pub fn peak_memory(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()
    });
    kib.map(|kib| kib * 1024).ok_or(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::hint::black_box;
    use std::process::Stdio;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn a_descriptor_is_passed_on() {
        let path = std::env::temp_dir().join(format!("adit-child-{}", process::id()));
        fs::write(&path, "passed on").unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mut command = Command::new("cat");
        let number = pass_fd(&mut command, file.into());
        let name = format!("/proc/self/fd/{number}");
        let output = command.arg(&name).output().unwrap();
        assert_eq!(output.stdout, b"passed on", "{output:?}");
        let other = Command::new("cat").arg(&name).stdin(Stdio::null()).output().unwrap();
        assert!(!other.status.success(), "descriptor {number} leaks to all programs");
    }

    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let start = || die_with_parent(Command::new("sleep").arg("60").stdin(Stdio::null())).spawn().unwrap();
        let mut child = thread::spawn(start).join().unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the child is still there");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn work_takes_time() {
        let before = cpu_time(process::id()).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            black_box((0..10_000).sum::<u64>());
        }
        let used = cpu_time(process::id()).unwrap() - before;
        assert!(used >= Duration::from_millis(20), "{used:?}");
    }

    #[test]
    fn names_do_not_confuse() {
        let stat = "77 (a) S (b) R 1 77 77 0 -1 4194304 1 2 3 4 250 50 0 0 20 0 1 0 5";
        assert_eq!(cpu_ticks(stat), Some(300));
        for bad in ["", "77 (a", "77 (a) R 1 2", &stat.replace("250", "x")] {
            assert_eq!(cpu_ticks(bad), None, "{bad}");
        }
    }

    #[test]
    fn memory_counts_what_was_touched() {
        let before = peak_memory(process::id()).unwrap();
        drop(black_box(vec![1_u8; 64 << 20]));
        let after = peak_memory(process::id()).unwrap();
        assert!(before > 100_000 && after >= 64 << 20, "{before} then {after} bytes");
    }

    #[test]
    fn nobody_has_no_numbers() {
        assert_eq!(cpu_time(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(peak_memory(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
