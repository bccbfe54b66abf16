//! The status operation, an extension: a [`Status`] into lines, and back.
//!
//! ```text
//! status=1
//!
//! workers=1
//! tun_vnet_hdr=on
//! …
//! errno=0
//!
//! ```

use super::get::{AnswerError, read_answer};
use super::set::write_line;
use super::{Fault, Operation};
use crate::SecretText;
use crate::status::{FIELDS, Status};

/// The whole request.
pub const STATUS_REQUEST: &[u8] = b"status=1\n\n";

/// Spells the whole answer to a status request, up to and including `errno=0` and the blank line.
#[must_use]
pub fn write_status(status: Status) -> SecretText {
    let mut out = SecretText::with_capacity(1024);
    for field in FIELDS {
        write_line(&mut out, field.key, field.get(status));
    }
    out.push(Operation::Status.answer(0).as_bytes());
    out
}

/// Reads a device's whole answer to a status request. Keys that mean nothing here are skipped, so that a device may know
/// more than its client.
///
/// # Errors
///
/// [`AnswerError`] says whether the device refused or its answer made no sense.
pub fn parse_status(answer: &[u8]) -> Result<Status, AnswerError> {
    let mut status = Status::default();
    read_answer(answer, |key, value| match FIELDS.iter().find(|field| field.key == key) {
        Some(field) => field.read(&mut status, value).ok_or_else(|| Fault::invalid("no such value")),
        None => Ok(()),
    })?;
    Ok(status)
}

/// Whether the device that gave this answer to a status request, or a refusal of it, takes the names of endpoints in a set.
#[must_use]
pub fn knows_endpoint_names(answer: &[u8]) -> bool {
    let mut knows = false;
    let read = read_answer(answer, |key, _| {
        knows |= key == "endpoint_names";
        Ok(())
    });
    read.is_ok() && knows
}
