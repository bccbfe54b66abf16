//! The control socket as a file: made so that nobody else can open it, and watched, since its removal means the end; and
//! connecting to one that somebody else made.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::stat::{Mode, umask};
use nix::sys::time::{TimeVal, TimeValLike};

/// Binds a socket that only its owner can connect to, from its first moment on. It has its name only once it listens: who
/// is refused by a socket takes it for one that was left behind, and may remove it.
///
/// The process's umask is changed for that moment: call it while no other thread makes files.
///
/// # Errors
///
/// `EADDRINUSE` if `path` exists; those of `bind(2)`, `listen(2)` and `link(2)`.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    // A name that is too long for those who connect would do for link(2).
    SocketAddr::from_pathname(path)?;
    sweep(path);
    let mut result = try_bind_private(path);
    for _ in 1..TRIES {
        match result {
            // Somebody else has taken the first name for one that was left behind.
            Err(error) if error.kind() == io::ErrorKind::NotFound => result = try_bind_private(path),
            _ => break,
        }
    }
    result
}

const TRIES: usize = 10;

/// Removes the first names of sockets whose servers were killed before they had their own.
fn sweep(path: &Path) {
    let entries = path.parent().and_then(|directory| fs::read_dir(directory).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix('.')).unwrap_or_default();
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_socket = || entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_number && is_socket() && is_left_behind(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn try_bind_private(path: &Path) -> io::Result<UnixListener> {
    let first = path.with_file_name(format!(".{}", std::process::id()));
    let _ = fs::remove_file(&first);
    let previous = umask(Mode::from_bits_truncate(0o177));
    let result = UnixListener::bind(&first);
    umask(previous);
    let named = result.and_then(|listener| fs::hard_link(&first, path).map(|()| listener));
    // It is bound before it listens, so there is a file even where it does not. What stays harms nobody.
    let _ = fs::remove_file(&first).or_else(|_| fs::remove_file(&first));
    match named {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Errno::EADDRINUSE.into()),
        named => named,
    }
}

/// Connects to the socket at `path`, and waits at most `patience` for its server to take as many connections that one more
/// has room in its queue: [`UnixStream::connect`] waits for ever.
///
/// # Errors
/// `WouldBlock` when that took longer; else what connect(2) says.
pub fn connect_within(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let millis = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    setsockopt(&socket, SendTimeout, &TimeVal::milliseconds(millis))?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}

/// Whether an error of `accept(2)` and its kin says that there are too many things of some kind, in this process or on this
/// machine: giving up one makes room.
#[must_use]
pub fn is_out_of_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether nobody has the socket at `path` open any more, so that it may be removed. One of another kind, or one whose server
/// does not come to taking connections, is in use.
#[must_use]
pub fn is_left_behind(path: &Path) -> bool {
    const PATIENCE: Duration = Duration::from_millis(100);
    // Not found: a symbolic link that leads nowhere.
    connect_within(path, PATIENCE).is_err_and(|error| {
        matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
    })
}

/// The file at `path`, to know it again: who removes only this one leaves alone what has replaced it.
#[must_use]
pub fn inode_of(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|metadata| metadata.ino())
}

/// Tells when a file was removed, renamed or replaced; what happens to others in its directory wakes nobody.
#[derive(Debug)]
pub struct FileWatch(Inotify);

impl FileWatch {
    /// Watches the file at `path`.
    ///
    /// # Errors
    ///
    /// `ENOENT`; `EMFILE` and `ENOSPC` at the limits of inotify.
    pub fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // Removal lowers the count of links, which is an attribute; the file itself lives on while it is open.
        let flags = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        inotify.add_watch(path, flags)?;
        Ok(Self(inotify))
    }

    /// Whether something happened to it since, perhaps only to its attributes; does not block.
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

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{Backlog, listen};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_private_socket_is_watched() {
        let directory = std::env::temp_dir().join(format!("adit-unix-{}", std::process::id()));
        fs::create_dir(&directory).expect("a directory of its own");
        let [path, other] = ["a.sock", "b.sock"].map(|name| directory.join(name));
        // What those have left who were killed at a bad moment.
        drop(UnixListener::bind(directory.join(".1")).expect("bound"));
        for replaced in [false, true] {
            let listeners = [&path, &other].map(|path| bind_private(path).expect("bound"));
            let mode = fs::metadata(&path).expect("exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(bind_private(&path).expect_err("there is one").kind(), io::ErrorKind::AddrInUse);
            assert_eq!(fs::read_dir(&directory).expect("listed").count(), 2);
            let watch = FileWatch::new(&path).expect("watched");
            fs::write(directory.join("c"), "")
                .and_then(|()| fs::remove_file(directory.join("c")))
                .expect("another");
            assert!(!watch.drain().expect("read"), "another file");
            let gone = if replaced { fs::rename(&other, &path) } else { fs::remove_file(&path) };
            gone.expect("removed or replaced");
            assert!(watch.drain().expect("read"));
            drop(listeners);
            [&path, &other].map(fs::remove_file).into_iter().for_each(drop);
        }
        fs::remove_dir(&directory).expect("empty");
    }

    #[test]
    fn a_full_queue_is_not_waited_for_longer_than_wanted() {
        let path = std::env::temp_dir().join(format!("adit-unix-full-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match connect_within(&path, Duration::from_millis(50)) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(!waiting.is_empty());
        assert!(!is_left_behind(&path));
        let (served, _) = listener.accept().unwrap();
        connect_within(&path, Duration::from_millis(50)).unwrap();
        drop((served, listener));
        assert!(is_left_behind(&path));
        fs::remove_file(&path).unwrap();
        let error = connect_within(&path, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(!is_left_behind(&path));
        drop(datagrams);
        assert!(is_left_behind(&path));
        fs::remove_file(&path).unwrap();
    }
}
