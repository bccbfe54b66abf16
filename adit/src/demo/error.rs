//! Why a demonstration stops early.

use std::fmt::Display;

use adit_net::process::Signal;

/// What ended it.
#[derive(Debug)]
pub(super) enum Stop {
    /// The user, or the system.
    Signal(Signal),
    /// Something that does not work; one line that says what, and what to do about it where that is known.
    Failure(String),
}

impl Stop {
    pub(super) fn failure(message: impl Into<String>) -> Self {
        Self::Failure(message.into())
    }
}

/// Says what could not be done.
pub(super) fn cannot<E: Display>(what: &'static str) -> impl Fn(E) -> Stop {
    move |error| Stop::Failure(format!("cannot {what}: {error}"))
}
