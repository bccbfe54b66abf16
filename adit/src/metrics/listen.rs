//! Where requests come in: a UNIX socket of its owner's alone, or a loopback address. What comes from elsewhere is nobody's
//! business here: there is no encryption and no password.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use adit_net::unix::{bind_private, inode_of, is_left_behind};

/// Pause after an error of accepting, which would come again at once.
const RESPITE: Duration = Duration::from_millis(100);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Unix(PathBuf),
    Loopback(SocketAddr),
}

impl Place {
    /// Where the file of its socket is.
    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Place::Unix(path) => path.parent(),
            Place::Loopback(_) => None,
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Place::Unix(path.into())),
                false => {
                    Err("behind unix: a path from the root is needed, such as unix:/run/adit/metrics.sock"
                        .into())
                }
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(addr) if addr.ip().is_loopback() => Ok(Place::Loopback(addr)),
            Ok(addr) => Err(format!(
                "{} is no loopback address: anybody could read there whom you talk to. Let a proxy with a password \
                 answer there, and this one behind it on 127.0.0.1",
                addr.ip()
            )),
            Err(_) => Err("unix:PATH, 127.0.0.1:PORT or [::1]:PORT is needed".into()),
        }
    }
}

/// Listens. The file of a UNIX socket goes away with it, if it is still the same one.
pub(super) enum Listener {
    Unix { socket: UnixListener, path: PathBuf, inode: Option<u64> },
    Loopback { socket: TcpListener, addr: SocketAddr },
}

impl Listener {
    pub(super) fn bind(place: &Place) -> Result<Self, String> {
        match place {
            Place::Unix(path) => Self::bind_unix(path),
            Place::Loopback(addr) => {
                let bound = TcpListener::bind(addr).and_then(|socket| {
                    socket.set_nonblocking(true)?;
                    Ok(Listener::Loopback { addr: socket.local_addr()?, socket })
                });
                bound.map_err(|error| match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        format!("another program answers on {addr}: choose another port")
                    }
                    _ => format!("cannot answer on {addr}: {error}"),
                })
            }
        }
    }

    /// A socket that nobody answers on is replaced; whatever else is there stays, a symbolic link too.
    fn bind_unix(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(format!("{shown} is there and is no socket: name another path"));
            }
            Ok(_) if !is_left_behind(path) => {
                return Err(format!("another program answers on {shown}: name another path"));
            }
            Ok(_) => fs::remove_file(path).map_err(|error| format!("{shown} cannot be replaced: {error}"))?,
            Err(_) => {}
        }
        let bound = bind_private(path).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        let socket = bound.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{shown} cannot be made: there is no such directory"),
            _ => format!("{shown} cannot be made: {error}"),
        })?;
        Ok(Listener::Unix { socket, path: path.to_owned(), inode: inode_of(path) })
    }

    /// The next connection, if there is one.
    pub(super) fn accept(&self) -> Option<Stream> {
        let accepted = match self {
            Listener::Unix { socket, .. } => socket.accept().map(|(stream, _)| Stream::Unix(stream)),
            Listener::Loopback { socket, .. } => socket.accept().map(|(stream, _)| Stream::Tcp(stream)),
        };
        if let Err(error) = &accepted
            && error.kind() != io::ErrorKind::WouldBlock
        {
            thread::sleep(RESPITE);
        }
        accepted.ok()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Unix { socket, .. } => socket.as_fd(),
            Listener::Loopback { socket, .. } => socket.as_fd(),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Listener::Loopback { addr, .. } => write!(f, "http://{addr}/metrics"),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix { path, inode, .. } = self
            && inode.is_some()
            && inode_of(path) == *inode
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// A connection.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Whether programs without a name of their own on this machine can reach it: a browser's page can.
    pub(super) fn is_tcp(&self) -> bool {
        matches!(self, Stream::Tcp(_))
    }

    pub(super) fn try_clone(&self) -> io::Result<Stream> {
        match self {
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
        }
    }

    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))
            }
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))
            }
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Stream::Unix(stream) => stream.shutdown(how),
            Stream::Tcp(stream) => stream.shutdown(how),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_this_machines_alone() {
        let place = |text: &str| text.parse::<Place>();
        assert_eq!(place("unix:/run/x.sock"), Ok(Place::Unix("/run/x.sock".into())));
        for text in ["127.0.0.1:9586", "127.1.2.3:1", "[::1]:9586"] {
            assert_eq!(place(text), Ok(Place::Loopback(text.parse().unwrap())));
        }
        for text in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:127.0.0.1]:1"] {
            assert!(place(text).unwrap_err().contains("is no loopback address"), "{text}");
        }
        for text in ["", "unix:", "unix:x", "9586", "localhost:9586", "127.0.0.1", ":9586"] {
            assert!(place(text).unwrap_err().ends_with("needed") || text.starts_with("unix"), "{text}");
        }
    }
}
