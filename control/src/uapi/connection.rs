//! The serving side of one client's connection: chunks of bytes in, whole operations out.
//!
//! Clients write as they like: a byte at a time, several operations in one write, half a line and then
//! nothing. All the state that this takes is here, so that whoever owns the socket never has to wait for one
//! client.

use std::collections::VecDeque;

use super::set::SetLines;
use super::{Fault, Operation, Refusal, Request, ScopeResolver};
use crate::SecretText;

/// The longest line in bytes, newline not counted. The longest meaningful one is far below 100.
pub const MAX_LINE: usize = 4096;

/// What one client has written so far, and the operations in it.
///
/// Memory is bounded by what the client has written since the last call of
/// [`next_request`](Self::next_request), except for the one set operation it is in the middle of: that has no
/// bound, since whoever may write here may configure the device anyway.
#[derive(Debug)]
pub struct Connection {
    /// The beginning of a line whose end has not arrived.
    partial: SecretText,
    /// The line that is arriving is too long; it has been dealt with, and the rest of it is skipped.
    skipping_line: bool,
    state: State,
    /// Lines of the current operation so far, its first included.
    line_number: u64,
    complete: VecDeque<Request>,
    resolve_scope: ScopeResolver,
}

#[derive(Debug)]
enum State {
    /// Between operations.
    Idle,
    /// Before the blank line of a get.
    Get,
    /// Before the blank line of a status.
    Status,
    /// Before the blank line of a why.
    Why,
    /// Inside a set.
    Set(SetLines),
    /// Inside an operation that will be refused when its blank line arrives.
    Faulty(Refusal),
    /// Inside an operation that has been refused already, up to its blank line.
    Refused,
}

impl Default for Connection {
    /// A connection whose endpoints are scoped by number only.
    fn default() -> Self {
        Self::new(|_| None)
    }
}

impl Connection {
    /// A new connection, on which interface names that scope an endpoint become numbers by `resolve_scope`.
    #[must_use]
    pub fn new(resolve_scope: ScopeResolver) -> Self {
        Self {
            partial: SecretText::default(),
            skipping_line: false,
            state: State::Idle,
            line_number: 0,
            complete: VecDeque::new(),
            resolve_scope,
        }
    }

    /// Takes what has been read from the socket, whole or not.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.end_line(&bytes[..end]);
            bytes = &bytes[end + 1..];
        }
        if !self.skipping_line {
            if self.partial.len() + bytes.len() > MAX_LINE {
                self.line_too_long();
                self.skipping_line = true;
            } else {
                self.partial.push(bytes);
            }
        }
    }

    /// Notes that the client will write no more. An operation cut short by that is refused.
    pub fn end(&mut self) {
        let half_line = !self.partial.is_empty() || self.skipping_line;
        self.partial.clear();
        self.skipping_line = false;
        if half_line || !matches!(self.state, State::Idle) {
            self.line_number += 1;
            self.fault(Operation::Set, Fault::protocol("the connection ended inside the operation"));
            self.end_operation();
        }
    }

    /// The next complete operation. It is owed an answer before the one after it.
    pub fn next_request(&mut self) -> Option<Request> {
        self.complete.pop_front()
    }

    fn end_line(&mut self, rest: &[u8]) {
        if self.skipping_line {
            self.skipping_line = false;
        } else if self.partial.len() + rest.len() > MAX_LINE {
            self.line_too_long();
        } else if self.partial.is_empty() {
            self.line(rest);
        } else {
            let mut line = std::mem::take(&mut self.partial);
            line.push(rest);
            self.line(&line);
            line.clear();
            self.partial = line;
        }
    }

    fn line_too_long(&mut self) {
        self.partial.clear();
        self.line_number += 1;
        self.fault(Operation::Set, Fault::protocol("the line is too long"));
    }

    fn line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return self.end_operation();
        }
        self.line_number += 1;
        match (&mut self.state, line) {
            (State::Idle, b"get=1") => self.state = State::Get,
            (State::Idle, b"status=1") => self.state = State::Status,
            (State::Idle, b"why=1") => self.state = State::Why,
            (State::Idle, b"set=1") => self.state = State::Set(SetLines::new(self.resolve_scope)),
            (State::Idle, _) => {
                let like = match line.split_inclusive(|&byte| byte == b'=').next() {
                    Some(b"get=") => Operation::Get,
                    Some(b"status=") => Operation::Status,
                    Some(b"why=") => Operation::Why,
                    _ => Operation::Set,
                };
                self.fault(like, Fault::invalid("neither get=1 nor set=1 nor status=1 nor why=1"));
            }
            (State::Get, _) => self.fault(Operation::Get, Fault::invalid("a get has no lines of its own")),
            (State::Status, _) => {
                self.fault(Operation::Status, Fault::invalid("a status has no lines of its own"));
            }
            (State::Why, _) => self.fault(Operation::Why, Fault::invalid("a why has no lines of its own")),
            (State::Set(lines), _) => {
                if let Err(fault) = lines.line(line) {
                    self.fault(Operation::Set, fault);
                }
            }
            (State::Faulty(_) | State::Refused, _) => {}
        }
    }

    /// Notes what is wrong with the current line; only an operation's first fault counts. `like` is the
    /// operation to answer as if there is none.
    fn fault(&mut self, like: Operation, Fault { errno, message }: Fault) {
        let operation = match self.state {
            State::Idle => like,
            State::Get => Operation::Get,
            State::Status => Operation::Status,
            State::Why => Operation::Why,
            State::Set(_) => Operation::Set,
            State::Faulty(_) | State::Refused => return,
        };
        let refusal = Refusal { operation, errno, line_number: self.line_number, message };
        if matches!(self.state, State::Idle) {
            // Whoever speaks another protocol may be waiting for an answer before its next line.
            self.complete.push_back(Request::Refuse(refusal));
            self.state = State::Refused;
        } else {
            self.state = State::Faulty(refusal);
        }
    }

    /// A blank line. Between operations it means nothing.
    fn end_operation(&mut self) {
        let request = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle | State::Refused => None,
            State::Get => Some(Request::Get),
            State::Status => Some(Request::Status),
            State::Why => Some(Request::Why),
            State::Set(lines) => Some(Request::Set(lines.finish())),
            State::Faulty(refusal) => Some(Request::Refuse(refusal)),
        };
        self.complete.extend(request);
        self.line_number = 0;
    }
}
