//! The asking side of a UAPI socket. Who serves it is not trusted to answer well, or ever.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use adit_control::SecretText;
use adit_control::uapi::EPROTO;
use adit_device::uapi::DIRECTORY;
use adit_net::unix::{connect_within, is_left_behind};
use zeroize::Zeroizing;

/// How long an engine may be silent.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long an exchange may take.
const LONGEST: Duration = Duration::from_secs(60);
/// More than a million peers have to say.
const MAX_ANSWER: usize = 256 << 20;

/// Sends `request`, one operation, and returns the answer up to its blank line. It may hold keys.
///
/// # Errors
/// `NotFound` and `ConnectionRefused` where nobody serves the socket; `WouldBlock` when there is no answer, `TimedOut` when
/// there is no end of it; `EPROTO` when it is none.
pub(crate) fn request(path: &Path, request: &[u8]) -> io::Result<SecretText> {
    exchange(connect_within(path, PATIENCE)?, request)
}

fn exchange(mut stream: UnixStream, request: &[u8]) -> io::Result<SecretText> {
    let end = Instant::now() + LONGEST;
    // Who refuses a request early may have closed the connection, and answered all the same.
    let sent = send(&mut stream, request, end);
    match sent {
        Err(error) if !has_hung_up(&error) => Err(error),
        Err(error) => match receive(&mut stream, end)? {
            answer if answer.is_empty() => Err(error),
            answer => Ok(answer),
        },
        // Some engines take the end of what is to be read for the end of the connection, so it stays open.
        Ok(()) => receive(&mut stream, end),
    }
}

fn has_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn send(stream: &mut UnixStream, mut request: &[u8], end: Instant) -> io::Result<()> {
    while !request.is_empty() {
        stream.set_write_timeout(Some(patience(end)?))?;
        match stream.write(request) {
            Ok(len) => request = &request[len..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn receive(stream: &mut UnixStream, end: Instant) -> io::Result<SecretText> {
    let mut answer = SecretText::default();
    let mut piece = Zeroizing::new([0; 16 << 10]);
    let mut line = LineSoFar::default();
    loop {
        stream.set_read_timeout(Some(patience(end)?))?;
        match stream.read(&mut *piece) {
            Ok(0) => return Ok(answer),
            Ok(len) => {
                let end = line.find_end(&piece[..len])?;
                answer.push(&piece[..end.unwrap_or(len)]);
                if end.is_some() {
                    return Ok(answer);
                }
                if answer.len() > MAX_ANSWER {
                    return Err(no_answer());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody knows it as "Resource temporarily unavailable".
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(silent()),
            // Who closes the connection without reading all of it, resets it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(answer),
            Err(error) => return Err(error),
        }
    }
}

/// How long to wait for the next bytes.
fn patience(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.min(PATIENCE)) }
}

fn silent() -> io::Error {
    let text = format!("the program that serves it has been silent for {} s", PATIENCE.as_secs());
    io::Error::new(io::ErrorKind::WouldBlock, text)
}

fn no_answer() -> io::Error {
    io::Error::from_raw_os_error(EPROTO)
}

/// What matters of a line that has arrived in part.
#[derive(Default)]
struct LineSoFar {
    has_bytes: bool,
    has_equals: bool,
}

impl LineSoFar {
    /// The end of the blank line that ends an answer, if it is in `piece`, which goes on where the last one ended.
    ///
    /// # Errors
    /// When there is a line before it that cannot be of an answer.
    fn find_end(&mut self, piece: &[u8]) -> io::Result<Option<usize>> {
        for (index, &byte) in piece.iter().enumerate() {
            match byte {
                b'\n' if !self.has_bytes => return Ok(Some(index + 1)),
                b'\n' if !self.has_equals => return Err(no_answer()),
                b'\n' => *self = LineSoFar::default(),
                _ => {
                    self.has_bytes = true;
                    self.has_equals |= byte == b'=';
                }
            }
        }
        Ok(None)
    }
}

/// The names of the interfaces that have a UAPI socket, in the order of the directory, whether anybody serves them or not.
pub(crate) fn interfaces() -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".sock"));
        names.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
    }
    Ok(names)
}

/// Whether somebody serves the socket. One that its server has left behind is removed.
pub(crate) fn is_served(path: &Path) -> bool {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        return false;
    }
    // One that may not be opened is served, too: asking will say why.
    let is_served = !is_left_behind(path);
    if !is_served {
        let _ = fs::remove_file(path);
    }
    is_served
}

/// Whether somebody serves the socket by now, where nobody has before: one that is about to be served is left alone.
pub(crate) fn is_served_yet(path: &Path) -> bool {
    connect_within(path, PATIENCE).is_ok()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What comes of an answer in these pieces, after which the connection stays open.
    fn answered(pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        for piece in pieces {
            (&theirs).write_all(piece).unwrap();
        }
        exchange(ours, b"get=1\n\n").map(|answer| answer.to_vec())
    }

    #[test]
    fn an_answer_ends_at_its_first_blank_line() {
        assert_eq!(answered(&[b"a=1\nerrno=0\n\n"]).unwrap(), b"a=1\nerrno=0\n\n");
        assert_eq!(answered(&[b"errno=0\n", b"\nmore\nx"]).unwrap(), b"errno=0\n\n");
        assert_eq!(answered(&[b"\nerrno=0\n\n"]).unwrap(), b"\n");
        assert_eq!(answered(&[b"errno=0\n\n\n\n"]).unwrap(), b"errno=0\n\n");
    }

    #[test]
    fn a_line_that_says_nothing_ends_it_too() {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"a=1\nb\n\n", b" \n"] {
            assert_eq!(answered(&[answer]).unwrap_err().raw_os_error(), Some(EPROTO), "{answer:?}");
        }
    }

    #[test]
    fn lines_may_arrive_in_any_pieces() {
        let answer = b"private_key=5\nlisten_port=\nerrno=0\n\nrest";
        for cut in 0..=answer.len() {
            let mut line = LineSoFar::default();
            let (first, second) = answer.split_at(cut);
            let end = line.find_end(first).unwrap();
            let end = end.or_else(|| line.find_end(second).unwrap().map(|end| cut + end));
            assert_eq!(end, Some(answer.len() - 4), "{cut}");
        }
    }

    #[test]
    fn who_hangs_up_while_being_asked_may_have_answered() {
        let request = vec![b'x'; 16 << 20];
        for answer in [&b"errno=22\n\n"[..], b""] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let engine = thread::spawn(move || {
                (&theirs).read_exact(&mut [0; 1000]).unwrap();
                (&theirs).write_all(answer).unwrap();
            });
            let result = exchange(ours, &request);
            engine.join().unwrap();
            match result {
                Ok(found) => assert_eq!(&*found, answer),
                Err(error) => assert!(answer.is_empty() && has_hung_up(&error), "{error}"),
            }
        }
    }

    #[test]
    fn an_answer_may_be_cut_short() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(b"errno=0\n").unwrap();
        drop(theirs);
        assert_eq!(&*exchange(ours, b"").unwrap(), b"errno=0\n");
    }
}
