//! Network namespaces (`network_namespaces(7)`): a TUN device may live in another one than its daemon's sockets.
//!
//! Which namespace a socket belongs to is decided when it is opened, by the namespace of the *thread*. So work in
//! another namespace is done by a short-lived thread ([`run_in`]); the caller never moves.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

/// The network namespace of the calling thread, as a descriptor that keeps it alive.
///
/// # Errors
///
/// `ENOENT` without `/proc`.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves the calling thread into a network namespace, for good. Threads that it starts follow, others do not.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` if `netns` is something else.
pub fn enter(netns: impl AsFd) -> io::Result<()> {
    Ok(setns(netns, CloneFlags::CLONE_NEWNET)?)
}

/// Runs `work` in a network namespace, on a thread of its own, and returns what it returned.
///
/// # Errors
///
/// Those of [`enter`] and of starting a thread. Panics in `work` continue in the caller.
pub fn run_in<T: Send>(netns: impl AsFd, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let netns = netns.as_fd();
    on_fresh_thread(move || enter(netns).map(|()| work()))
}

/// Runs `work` in a new network namespace, on a thread of its own, and returns what it returned.
///
/// The namespace has a loopback interface, which is down, and goes away with its last thread, socket or descriptor.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` beyond `user.max_net_namespaces`. Panics in `work` continue in the caller.
pub fn run_in_new<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_fresh_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
}

fn on_fresh_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A new, empty network namespace.
///
/// # Errors
///
/// Those of [`run_in_new`].
pub fn create() -> io::Result<OwnedFd> {
    run_in_new(current)?
}

/// Makes `command` start in a user and a network namespace of its own, where it is root and may do anything to the
/// network, while outside it is still the caller: a tunnel for users without privileges.
///
/// Starting it then fails with `EPERM` where the administrator forbids user namespaces, `ENOSPC` beyond their limit.
pub fn unprivileged(command: &mut Command) -> &mut Command {
    let uid_map = format!("0 {} 1", geteuid());
    let gid_map = format!("0 {} 1", getegid());
    let isolate = move || {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
        // Without this, the kernel lets nobody but root map groups (CVE-2014-8989).
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", &uid_map)?;
        fs::write("/proc/self/gid_map", &gid_map)
    };
    // SAFETY: between fork and exec only async-signal-safe things may happen: `isolate` makes system calls, and its
    // paths are short enough for `fs` to keep them on the stack; the maps were formatted before.
    unsafe { command.pre_exec(isolate) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn inode(fd: &OwnedFd) -> u64 {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn the_caller_never_moves() {
        let home = inode(&current().unwrap());
        let other = create().unwrap();
        assert_ne!(inode(&other), home);
        assert_eq!(inode(&run_in(&other, || current().unwrap()).unwrap()), inode(&other));
        assert_eq!(inode(&current().unwrap()), home);
    }

    #[test]
    fn a_file_is_no_namespace() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(run_in(&file, || ()).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    #[should_panic(expected = "from inside")]
    fn panics_come_back() {
        let _ = run_in_new(|| panic!("from inside"));
    }

    #[test]
    fn an_unprivileged_command_is_root_of_its_own_network() {
        let mut command = Command::new("sh");
        command.args(["-c", "id -u; ip link set lo up && ls /sys/class/net; readlink /proc/self/ns/net"]);
        let output = unprivileged(&mut command).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let home = fs::read_link("/proc/self/ns/net").unwrap();
        assert!(output.status.success() && text.starts_with("0\n"), "{text}");
        assert!(!text.contains(home.to_str().unwrap()), "{text}");
    }
}
