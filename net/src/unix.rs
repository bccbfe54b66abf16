//! The control socket as a file: made so that nobody else can open it, and watched, since its removal means the end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{Mode, umask};

/// Binds a socket that only its owner can connect to, from its first moment on.
///
/// The process's umask is changed for that moment: call it while no other thread makes files.
///
/// # Errors
///
/// `EADDRINUSE` if `path` exists; those of `bind(2)` and `listen(2)`.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let previous = umask(Mode::from_bits_truncate(0o177));
    let result = UnixListener::bind(path);
    umask(previous);
    result
}

/// Tells when files of a directory were removed, renamed or replaced.
#[derive(Debug)]
pub struct DirectoryWatch(Inotify);

impl DirectoryWatch {
    /// Watches `directory`.
    ///
    /// # Errors
    ///
    /// `ENOENT`; `EMFILE` and `ENOSPC` at the limits of inotify.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE_SELF;
        inotify.add_watch(directory, flags)?;
        Ok(Self(inotify))
    }

    /// Whether something was removed or moved since; does not block.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn drain(&self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            match self.0.read_events() {
                Ok(_) => changed = true,
                Err(Errno::EAGAIN) => return Ok(changed),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_socket_is_watched() {
        let directory = std::env::temp_dir().join(format!("adit-unix-{}", std::process::id()));
        fs::create_dir(&directory).expect("a directory of its own");
        let path = directory.join("a.sock");
        let listener = bind_private(&path).expect("bound");
        let mode = fs::metadata(&path).expect("exists").permissions().mode();
        let watch = DirectoryWatch::new(&directory).expect("watched");
        let before = watch.drain().expect("read");
        fs::remove_file(&path).expect("removed");
        let after = watch.drain().expect("read");
        drop(listener);
        fs::remove_dir(&directory).expect("empty");
        assert_eq!(mode & 0o777, 0o600);
        assert!(!before && after);
    }
}
