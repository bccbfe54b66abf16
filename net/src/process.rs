//! The daemon as a process: going to the background, signals, inherited descriptors.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet};
use nix::sys::signalfd::{self, SfdFlags};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

/// Who one is after [`daemonize`].
#[derive(Debug)]
pub enum Role {
    /// The process that was started, to exit with this code: 0 once the daemon is ready, else what it died with.
    Parent(i32),
    /// The daemon to be, which says when it is ready.
    Child(ReadySignal),
}

/// What the daemon does with standard output and standard error once it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Both become `/dev/null`.
    Discard,
    /// Both stay.
    Keep,
}

/// The daemon's end of the wait. Dropping it unsaid leaves the parent waiting for the exit code.
#[derive(Debug)]
#[must_use = "the parent waits until the daemon is ready"]
pub struct ReadySignal {
    pipe: File,
    output: Output,
}

impl ReadySignal {
    /// Lets the parent exit with code 0, and discards the output from here on if so asked.
    ///
    /// Until then, messages go where the user sees them.
    ///
    /// # Errors
    ///
    /// No `/dev/null`, or the parent cannot be told, and would wait for ever. One that is gone is no error.
    pub fn ready(mut self) -> io::Result<()> {
        let null = if self.output == Output::Discard { Some(dev_null()?) } else { None };
        match self.pipe.write_all(&[1]) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
        if let Some(null) = null {
            // From here on it is a success, whatever becomes of messages.
            let _ = dup2_stdout(&null).and_then(|()| dup2_stderr(&null));
        }
        Ok(())
    }
}

/// Goes to the background: forks, and returns in both processes.
///
/// The child leads a session of its own, stands in `/` and reads nothing. The parent returns only when the child is
/// ready or dead, so that whoever started it may use the tunnel at once, or sees the exit code.
///
/// # Errors
///
/// `EBUSY` if other threads are running, which would be missing in the child together with whatever locks they held:
/// call this before starting any. Else those of `fork(2)`, `setsid(2)`, `/dev/null`.
pub fn daemonize(output: Output) -> io::Result<Role> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: no other thread runs, so the child is a whole copy of this process and may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(write);
            Ok(Role::Parent(await_child(child, read.into())?))
        }
        ForkResult::Child => {
            drop(read);
            setsid()?;
            chdir("/")?;
            dup2_stdin(dev_null()?)?;
            Ok(Role::Child(ReadySignal { pipe: write.into(), output }))
        }
    }
}

fn dev_null() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}

/// The exit code for the parent: never 0 unless the child said that it is ready.
fn await_child(child: Pid, mut pipe: File) -> io::Result<i32> {
    match pipe.read_exact(&mut [0]) {
        Ok(()) => return Ok(0),
        // It closed its end, mostly by dying.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => {
            // Nobody would learn whether it is ready: it must not stay.
            signal::kill(child, signal::Signal::SIGTERM)?;
            return Err(error);
        }
    }
    loop {
        return match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => Ok(code.max(1)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// The signals that programs here answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`: end.
    Terminate,
    /// `SIGINT`: end.
    Interrupt,
    /// `SIGHUP`: whatever the daemon makes of it.
    Hangup,
    /// `SIGCHLD`: a program that this one has started has ended.
    Child,
    /// `SIGWINCH`: the terminal has another size.
    Resize,
    /// `SIGCONT`: the process was stopped, and goes on.
    Continue,
}

impl Signal {
    const ALL: [Self; 6] =
        [Self::Terminate, Self::Interrupt, Self::Hangup, Self::Child, Self::Resize, Self::Continue];

    /// The exit code with which a shell reports a process that the signal ended: 128 and the signal's number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        128 + self.to_nix() as u8
    }

    /// Sends it to a child that has not been waited for.
    ///
    /// # Errors
    ///
    /// `EPERM`, to one that has become somebody else.
    pub fn send(self, child: &Child) -> io::Result<()> {
        Ok(signal::kill(Pid::from_raw(child.id() as i32), self.to_nix())?)
    }

    /// Whether this process was started so that the signal does nothing to it, as `nohup` starts programs.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn is_ignored(self) -> io::Result<bool> {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action, the call only writes the present one, for which there is room.
        let result = unsafe { libc::sigaction(self.to_nix() as i32, std::ptr::null(), action.as_mut_ptr()) };
        Errno::result(result)?;
        // SAFETY: zeroes are a valid action, and the call has succeeded.
        Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
    }

    fn to_nix(self) -> signal::Signal {
        match self {
            Self::Terminate => signal::Signal::SIGTERM,
            Self::Interrupt => signal::Signal::SIGINT,
            Self::Hangup => signal::Signal::SIGHUP,
            Self::Child => signal::Signal::SIGCHLD,
            Self::Resize => signal::Signal::SIGWINCH,
            Self::Continue => signal::Signal::SIGCONT,
        }
    }
}

/// Signals as something to read and to poll.
#[derive(Debug)]
pub struct SignalFd(signalfd::SignalFd);

impl SignalFd {
    /// Takes these signals: blocks them in the calling thread and in all that it starts from now on.
    ///
    /// Call it before starting threads, or one that does not block them dies of them. Programs that are started
    /// inherit the block: see [`unblock_signals`].
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let set: SigSet = signals.iter().map(|signal| signal.to_nix()).collect();
        set.thread_block()?;
        Ok(Self(signalfd::SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next signal that came, if any.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn read(&self) -> io::Result<Option<Signal>> {
        let info = self.0.read_signal()?;
        Ok(info
            .and_then(|info| Signal::ALL.into_iter().find(|signal| signal.to_nix() as u32 == info.ssi_signo)))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes `command` start with no signal blocked, so that it ends when asked to, whatever this process waits for by
/// [`SignalFd`].
pub fn unblock_signals(command: &mut Command) -> &mut Command {
    let unblock = || Ok(SigSet::empty().thread_set_mask()?);
    // SAFETY: pthread_sigmask, the only call between fork and exec, is async-signal-safe.
    unsafe { command.pre_exec(unblock) }
}

/// Has large blocks go back to the system as soon as they are freed. By default glibc learns from the first of them to keep
/// its like, in between others: what a crowd of clients asked for at once is then never given back.
pub fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers, and one that it refuses changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK)
    };
}

/// Bytes from which on a block is large: glibc's own default, before it learns.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK: libc::c_int = 128 << 10;

/// Makes writing to a closed connection an error (`EPIPE`) instead of the end of the process.
///
/// # Errors
///
/// None in practice.
pub fn ignore_sigpipe() -> io::Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal runs no handler.
    unsafe { signal::sigaction(signal::Signal::SIGPIPE, &ignore) }?;
    Ok(())
}

/// Takes over a descriptor that this process was started with, by number, and keeps programs that it starts from
/// inheriting it in turn.
///
/// Only descriptors from 3 on, since the standard streams belong to `std`. Take each at most once, before this process
/// opens anything itself: nothing else can tell an inherited descriptor from one of its own.
///
/// # Errors
///
/// `EBADF` if it is not open, or below 3.
pub fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the borrow lasts for one call, which fails with EBADF if the descriptor is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: the descriptor is open. That nobody else owns it is the documented duty of the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn signals_arrive_on_the_descriptor() {
        let fd = SignalFd::new(&Signal::ALL).unwrap();
        assert_eq!(fd.read().unwrap(), None);
        for signal in Signal::ALL {
            // To this thread only: the others of the test program do not block it.
            // SAFETY: pthread_kill takes no pointers, and the calling thread exists.
            assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), signal.to_nix() as i32) }, 0);
            assert_eq!(fd.read().unwrap(), Some(signal));
        }
    }

    #[test]
    fn a_closed_pipe_is_an_error() {
        ignore_sigpipe().unwrap();
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        drop(read);
        assert_eq!(File::from(write).write(&[0]).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }

    #[test]
    fn an_inherited_descriptor_is_taken_once_open() {
        let number = dev_null().unwrap().into_raw_fd();
        // SAFETY: no pointers; clears the flag of a descriptor that this test owns.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        let fd = inherited_fd(number).unwrap();
        assert_eq!(fd.as_raw_fd(), number);
        assert_eq!(fcntl(&fd, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
    }

    #[test]
    fn closed_and_standard_descriptors_are_refused() {
        for number in [-1, 0, 2, 1_000_000] {
            assert_eq!(inherited_fd(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }

    #[test]
    fn several_threads_can_not_become_a_daemon() {
        // The test runs on a thread beside the main one.
        assert_eq!(daemonize(Output::Keep).unwrap_err().raw_os_error(), Some(libc::EBUSY));
    }
}
