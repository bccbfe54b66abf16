//! The configuration socket, spoken to directly (wireguard.com/xplatform): what `wg` never sends can be sent here.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::{engine, seconds};

/// One connection to a daemon's UAPI socket.
#[derive(Debug)]
pub struct Uapi {
    stream: BufReader<UnixStream>,
}

/// The answer to an operation: its lines before `errno=`, and that number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The `key=value` lines in order.
    pub lines: Vec<(String, String)>,
    /// 0, or what went wrong.
    pub errno: i32,
}

impl Answer {
    /// Every value of `key`, in order.
    pub fn all(&self, key: &str) -> Vec<&str> {
        self.lines.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect()
    }

    /// The first value of `key`.
    #[must_use]
    pub fn first(&self, key: &str) -> Option<&str> {
        self.all(key).first().copied()
    }
}

impl Uapi {
    /// Connects to the daemon on `interface`. An answer that takes longer than 60 seconds is an error.
    ///
    /// # Errors
    /// Of the socket.
    pub fn connect(interface: &str) -> io::Result<Uapi> {
        let stream = UnixStream::connect(engine::socket(interface))?;
        stream.set_read_timeout(Some(seconds(60)))?;
        stream.set_write_timeout(Some(seconds(60)))?;
        Ok(Uapi { stream: BufReader::new(stream) })
    }

    /// Replaces the time that an answer may take.
    ///
    /// # Panics
    /// If `limit` is zero.
    pub fn be_patient_for(&self, limit: Duration) {
        self.stream.get_ref().set_read_timeout(Some(limit)).expect("a time limit");
    }

    /// Writes bytes as they are.
    ///
    /// # Panics
    /// If the daemon closed the connection.
    #[track_caller]
    pub fn send(&mut self, bytes: &str) {
        self.stream.get_mut().write_all(bytes.as_bytes()).expect("writing to the UAPI socket");
    }

    /// The same, for who does not mind.
    ///
    /// # Errors
    /// When the daemon closed the connection.
    pub fn try_send(&mut self, bytes: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_bytes())
    }

    /// Reads one answer, up to its empty line.
    ///
    /// # Panics
    /// If the connection ends before that, or a line is no `key=value`.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let n = self.stream.read_line(&mut line).expect("reading from the UAPI socket");
            assert!(n > 0, "the connection was closed after {lines:?}");
            if line == "\n" {
                let Some((key, errno)) = lines.pop() else { panic!("an empty answer") };
                assert_eq!(key, "errno", "the last line of an answer");
                return Answer { lines, errno: errno.parse().expect("errno is a number") };
            }
            let (key, value) =
                line.trim_end().split_once('=').unwrap_or_else(|| panic!("not key=value: {line:?}"));
            lines.push((key.to_owned(), value.to_owned()));
        }
    }

    /// A *get* operation.
    ///
    /// # Panics
    /// Like [`Uapi::answer`], and if the daemon reports an error.
    #[track_caller]
    pub fn get(&mut self) -> Answer {
        self.send("get=1\n\n");
        let answer = self.answer();
        assert_eq!(answer.errno, 0, "get");
        answer
    }

    /// A *set* operation with these lines (each ends in a newline); returns its errno.
    ///
    /// # Panics
    /// Like [`Uapi::answer`].
    #[track_caller]
    pub fn set(&mut self, lines: &str) -> i32 {
        self.send(&format!("set=1\n{lines}\n"));
        self.answer().errno
    }
}
