//! The text protocol of userspace WireGuard, <https://www.wireguard.com/xplatform/>.
//!
//! A client writes `get=1` or `set=1`, lines of `key=value` for a set, and a blank line; the device answers
//! with lines of its own for a get, `errno=…` and a blank line. The serving side is a [`Connection`] for what
//! arrives and [`write_get`] and [`Operation::answer`] for what goes back. The asking side is [`write_set`],
//! [`parse_get`] and [`parse_set_answer`].
//!
//! Beside `get=1` and `set=1` there are two extensions: `status=1`, how the engine gets on with the kernel's offloads
//! ([`Status`](crate::Status)), and `why=1`, what came to nothing and why ([`Why`](crate::Why)). They are operations of
//! their own since the answer to a get is parsed by programs that this one does not know.
//!
//! Another extension is a line of a peer's section of a set, `endpoint_name=HOST:PORT` after `endpoint=`: the name that the
//! address was found by, which the engine looks up again when the peer does not answer. An `endpoint=` without such a line
//! after it has an earlier name forgotten. Other engines refuse it; one that knows it has a key `endpoint_names` in its
//! status ([`knows_endpoint_names`]).
//!
//! What the specification leaves open, and clients depend on:
//!
//! - The answer to a failed set carries a negative errno and the answer to a failed get a positive one: `wg`
//!   prints "Unknown error" for the one and reports a protocol error for the other if the signs differ.
//! - After a bad line the rest of its operation is consumed, then answered once; the connection stays usable.
//! - An operation that the connection's end cuts short is refused. It may have lost the lines that limit what
//!   it opens up.
//! - An IPv6 endpoint may have a scope, as a number or as an interface's name: `wg` writes names. Turning a
//!   name into a number asks the system, so the caller brings the function that does ([`ScopeResolver`]).

mod connection;
mod get;
mod set;
mod status;
mod value;
mod why;

use std::fmt;

use crate::Set;

pub use connection::{Connection, MAX_LINE};
pub use get::{AnswerError, parse_get, parse_set_answer, write_get};
pub use set::write_set;
pub use status::{STATUS_REQUEST, knows_endpoint_names, parse_status, write_status};
pub use why::{WHY_REQUEST, parse_why, write_why};

/// Finds the number of the interface that scopes a link-local address, given its name.
pub type ScopeResolver = fn(&str) -> Option<u32>;

/// `EINVAL` of Linux: a key or a value is not what it has to be.
pub const EINVAL: i32 = 22;
/// `EPROTO` of Linux: the text does not have the form of the protocol.
pub const EPROTO: i32 = 71;

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `get=1`
    Get,
    /// `set=1`
    Set,
    /// `status=1`, which only this project's programs know.
    Status,
    /// `why=1`, which only this project's programs know.
    Why,
}

impl Operation {
    /// The text that ends the operation: `errno=` and a blank line. `errno` is a number of `errno.h`, 0 for
    /// success; its sign is set here as the operation wants it.
    #[must_use]
    pub fn answer(self, errno: i32) -> String {
        let errno = i64::from(errno).abs();
        let signed = match self {
            Self::Get | Self::Status | Self::Why => errno,
            Self::Set => -errno,
        };
        format!("errno={signed}\n\n")
    }
}

/// A complete operation. Each is owed one answer, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To be answered with [`write_get`], or with [`Operation::answer`] if that fails.
    Get,
    /// To be answered with [`write_status`].
    Status,
    /// To be answered with [`write_why`].
    Why,
    /// To be applied, then answered with [`Operation::answer`].
    Set(Set),
    /// To be answered with [`Refusal::answer`].
    Refuse(Refusal),
}

/// Why an operation was refused before it reached the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The operation, or for an unknown one the one whose answer it gets.
    pub operation: Operation,
    /// A positive number of `errno.h`.
    pub errno: i32,
    /// The first bad line, counted from 1, which is the line that names the operation.
    pub line_number: u64,
    /// What is wrong with it, for a log: never a value, which might be a key.
    pub message: String,
}

impl Refusal {
    /// The text to write to the client.
    #[must_use]
    pub fn answer(&self) -> String {
        self.operation.answer(self.errno)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.operation {
            Operation::Get => "get",
            Operation::Set => "set",
            Operation::Status => "status",
            Operation::Why => "why",
        };
        write!(f, "UAPI {name} refused, line {}: {}", self.line_number, self.message)
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    errno: i32,
    message: String,
}

impl Fault {
    fn invalid(message: impl Into<String>) -> Self {
        Self { errno: EINVAL, message: message.into() }
    }

    fn protocol(message: impl Into<String>) -> Self {
        Self { errno: EPROTO, message: message.into() }
    }

    /// A key that means nothing where it stands. It is named only if it looks like one: a misplaced private
    /// key in base64 also ends in an equals sign.
    fn unknown_key(key: &str, place: &str) -> Self {
        let plausible = key.len() <= 32 && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        Self::invalid(if plausible { format!("no {place} key {key:?}") } else { format!("no {place} key") })
    }
}
