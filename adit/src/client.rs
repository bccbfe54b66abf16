//! The asking side of a UAPI socket.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use adit_control::SecretText;
use zeroize::Zeroizing;

/// How long an engine may be silent.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends `request`, one operation, and returns the answer up to its blank line. It may hold keys.
///
/// # Errors
/// `NotFound` and `ConnectionRefused` where nobody serves the socket; `WouldBlock` when there is no answer.
pub(crate) fn request(path: &Path, request: &[u8]) -> io::Result<SecretText> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    // Some engines take the end of what is to be read for the end of the connection, so it stays open.
    let mut answer = SecretText::default();
    let mut piece = Zeroizing::new([0; 16 << 10]);
    loop {
        match stream.read(&mut *piece) {
            Ok(0) => return Ok(answer),
            Ok(len) => {
                answer.push(&piece[..len]);
                if answer.ends_with(b"\n\n") {
                    return Ok(answer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Who closes the connection without reading all of it, resets it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(answer),
            Err(error) => return Err(error),
        }
    }
}

/// Whether somebody serves the socket. One that its server has left behind is removed.
pub(crate) fn is_served(path: &Path) -> bool {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        return false;
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let _ = fs::remove_file(path);
            false
        }
        // Also when it may not be opened: asking will say why.
        _ => true,
    }
}
