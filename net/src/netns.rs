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
    on_fresh_thread(|| enter_new().map(|()| work()))
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

/// Moves the calling thread into a new network namespace, for good. Threads and programs that it starts follow.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN` (see [`enter_new_as_user`]), `ENOSPC` beyond `user.max_net_namespaces`.
pub fn enter_new() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNET)?)
}

/// Moves this process into a new user and a new network namespace, for good: in there it is root and may do anything to
/// the network, while outside it is still the caller. A tunnel for users without privileges.
///
/// # Errors
///
/// `EINVAL` if other threads are running. `EPERM` or `EACCES` where the administrator forbids user namespaces, `ENOSPC`
/// beyond `user.max_user_namespaces`; the process may then be in a namespace where it is nobody.
pub fn enter_new_as_user() -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    // Without this, the kernel lets nobody but root map groups (CVE-2014-8989).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Makes `command` start in the network namespace `netns`. Starting it then fails like [`enter`].
pub fn start_in(command: &mut Command, netns: OwnedFd) -> &mut Command {
    let enter = move || enter(&netns);
    // SAFETY: between fork and exec only async-signal-safe things may happen, and setns is a system call.
    unsafe { command.pre_exec(enter) }
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
    fn a_command_starts_where_it_is_told_to() {
        let other = create().unwrap();
        let inside = inode(&other);
        let mut command = Command::new("readlink");
        let output = start_in(command.arg("/proc/self/ns/net"), other).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("net:[{inside}]\n"));
    }

    #[test]
    fn a_user_is_root_of_a_network_of_its_own() {
        let mut command = Command::new("sh");
        command.args(["-c", "id -u; ip link set lo up && ls /sys/class/net; readlink /proc/self/ns/net"]);
        // SAFETY: besides system calls there are allocations, which glibc keeps usable after a fork.
        let output = unsafe { command.pre_exec(enter_new_as_user) }.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let home = fs::read_link("/proc/self/ns/net").unwrap();
        assert!(output.status.success() && text.starts_with("0\n"), "{text}");
        assert!(!text.contains(home.to_str().unwrap()), "{text}");
    }

    #[test]
    fn threads_forbid_a_user_namespace() {
        // The test runs on a thread beside the main one.
        assert_eq!(enter_new_as_user().unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
