//! What `std::net` has no word for.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

/// Makes a TCP connection end at once with a reset when it is closed, also by the end of the process (`SO_LINGER` of
/// zero, `socket(7)`).
///
/// Otherwise the kernel goes on trying to deliver what was written, for minutes, and keeps the socket's network
/// namespace alive that long.
///
/// # Errors
///
/// `ENOTSOCK`.
pub fn reset_on_close(socket: impl AsFd) -> io::Result<()> {
    Ok(setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn closing_resets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        reset_on_close(&near).unwrap();
        drop(near);
        assert_eq!(far.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
