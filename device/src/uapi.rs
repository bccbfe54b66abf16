//! The UAPI socket: `/var/run/wireguard/NAME.sock`, where `wg` and others speak the cross-platform configuration protocol
//! (<https://www.wireguard.com/xplatform/>).
//!
//! The control thread serves all clients, and none can hold it up: what a client has not written is not waited for, and
//! what it does not read stays with it, together with the requests that it has sent after.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use adit_control::SecretText;
use adit_control::uapi::{Connection, Request};
use adit_crypto::Secret;
use adit_net::netlink::if_index;
use adit_net::unix::{FileWatch, bind_private, inode_of, is_left_behind};

/// Where the sockets are.
pub const DIRECTORY: &str = "/var/run/wireguard";
/// Clients served at a time; one more, and the one that was silent for the longest has to go.
pub(crate) const MAX_CLIENTS: usize = 256;
/// Bytes taken from one client before others have their turn.
const READ_BUDGET: usize = 1 << 20;

/// Why the socket could not be made.
#[derive(Debug)]
pub enum ListenError {
    /// Another program answers on it.
    InUse(PathBuf),
    /// The system refused.
    Failed(PathBuf, io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => {
                write!(f, "{} is served by another program: stop that one first", path.display())
            }
            Self::Failed(path, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{} cannot be made: permission denied; run this as root", path.display())
            }
            Self::Failed(path, error) => write!(f, "{} cannot be made: {error}", path.display()),
        }
    }
}

impl std::error::Error for ListenError {}

/// The listening socket. Its file goes away with it, if it is still the same one.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// Empty for a socket without a file.
    path: PathBuf,
    inode: Option<u64>,
    watch: Option<FileWatch>,
}

impl Listener {
    /// Listens for the interface `name`. A socket file that nobody answers on is replaced.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(name: &str) -> Result<Self, ListenError> {
        let path = socket_path(name);
        let failed = |error| ListenError::Failed(socket_path(name), error);
        DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY).map_err(failed)?;
        if fs::symlink_metadata(&path).is_ok() {
            if !is_left_behind(&path) {
                return Err(ListenError::InUse(path));
            }
            fs::remove_file(&path).map_err(failed)?;
        }
        let socket = bind_private(&path).map_err(failed)?;
        match Self::new(socket, path.clone()) {
            Ok(listener) if listener.inode.is_some() => Ok(listener),
            // Without being able to look at the file it could not be removed at the end.
            result => {
                let _ = fs::remove_file(&path);
                let is_gone = || io::ErrorKind::NotFound.into();
                Err(failed(result.err().unwrap_or_else(is_gone)))
            }
        }
    }

    /// Takes over a listening socket that another program made for the interface `name`, wherever it is bound: one
    /// without a file serves as well.
    ///
    /// # Errors
    /// [`ListenError::Failed`] when it is none.
    pub fn from_fd(fd: OwnedFd, name: &str) -> Result<Self, ListenError> {
        let socket = UnixListener::from(fd);
        // Fails on what is no UNIX socket.
        let path = socket.local_addr().map(|path| path.as_pathname().map(Path::to_owned).unwrap_or_default());
        path.and_then(|path| Self::new(socket, path))
            .map_err(|error| ListenError::Failed(socket_path(name), error))
    }

    fn new(socket: UnixListener, path: PathBuf) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let inode = inode_of(&path);
        // Without inotify (its limits are the system's) the file's removal goes unnoticed; all else works.
        let watch = inode.and_then(|_| FileWatch::new(&path).ok());
        Ok(Listener { socket, path, inode, watch })
    }

    pub(crate) fn watch(&self) -> Option<&FileWatch> {
        self.watch.as_ref()
    }

    /// Whether the file was removed, or replaced by another: whoever did that wants this engine to end.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(crate) fn is_removed(&self) -> io::Result<bool> {
        let Some(watch) = &self.watch else { return Ok(false) };
        watch.drain()?;
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) => Ok(Some(metadata.ino()) != self.inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            // It cannot be looked at, which is no reason to end.
            Err(error) => Err(error),
        }
    }

    pub(crate) fn accept(&self) -> io::Result<Client> {
        let (stream, _) = self.socket.accept()?;
        stream.set_nonblocking(true)?;
        Ok(Client {
            stream,
            connection: Connection::new(|name| if_index(name).ok()),
            answer: None,
            is_ended: false,
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.inode.is_some() && inode_of(&self.path) == self.inode {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The path of the socket for the interface `name`.
#[must_use]
pub fn socket_path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{name}.sock"))
}

/// What a client's turn left it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// It may write.
    Reading,
    /// It has an answer to read first.
    Writing,
    /// It is gone, or has got all its answers.
    Over,
}

/// A connected client.
pub(crate) struct Client {
    stream: UnixStream,
    connection: Connection,
    /// The answer that is being written, and how much of it is.
    answer: Option<(SecretText, usize)>,
    is_ended: bool,
}

impl Client {
    /// Goes on with this client as far as that is possible without waiting; `serve` answers a request.
    pub(crate) fn turn(&mut self, mut serve: impl FnMut(Request) -> SecretText) -> Turn {
        let mut budget = READ_BUDGET;
        loop {
            match self.write() {
                Ok(true) => {}
                Ok(false) => return Turn::Writing,
                Err(_) => return Turn::Over,
            }
            if let Some(request) = self.connection.next_request() {
                self.answer = Some((serve(request), 0));
                continue;
            }
            if self.is_ended {
                return Turn::Over;
            }
            match self.read(&mut budget) {
                Ok(true) => {}
                Ok(false) => return Turn::Reading,
                Err(_) => return Turn::Over,
            }
        }
    }

    /// Writes what there is; false when the client has to read first.
    fn write(&mut self) -> io::Result<bool> {
        while let Some((text, written)) = &mut self.answer {
            if *written == text.len() {
                self.answer = None;
                break;
            }
            match self.stream.write(&text[*written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads some; false when the client has to write first, or others have to have their turn.
    fn read(&mut self, budget: &mut usize) -> io::Result<bool> {
        let mut buffer = Secret::<16_384>::default();
        if *budget == 0 {
            return Ok(false);
        }
        match self.stream.read(buffer.expose_mut()) {
            Ok(0) => {
                self.is_ended = true;
                self.connection.end();
            }
            Ok(count) => {
                self.connection.feed(&buffer.expose()[..count]);
                *budget = budget.saturating_sub(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
