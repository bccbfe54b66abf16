//! The why operation, an extension: a [`Why`] into lines, and back.
//!
//! ```text
//! why=1
//!
//! listening=true
//! reason=bad_mac1
//! count=3
//! age_ms=41077
//! public_key=…                 a peer; the reasons that follow are its own
//! reason=source_not_allowed
//! count=12
//! age_ms=930
//! event=source_not_allowed     what happened last, the last first
//! count=12
//! age_ms=930
//! first_age_ms=7015
//! peer=…
//! endpoint=192.0.2.7:51820
//! address=10.0.0.9
//! errno=0
//!
//! ```
//!
//! A peer without reasons has no lines. An event's `peer`, `endpoint`, `address`, `error` (a number of `errno.h`) and
//! `clock_off_ms` stand only where they are known.

use std::str::FromStr;
use std::time::Duration;

use super::get::{AnswerError, read_answer};
use super::set::{write_key, write_line};
use super::{Fault, Operation, value};
use crate::SecretText;
use crate::why::{Event, PeerWhy, Reason, Tally, Why};

/// The whole request.
pub const WHY_REQUEST: &[u8] = b"why=1\n\n";

/// Spells the whole answer to a why request, up to and including `errno=0` and the blank line.
#[must_use]
pub fn write_why(why: &Why) -> SecretText {
    let mut out = SecretText::with_capacity(1024 + 256 * (why.peers.len() + why.events.len()));
    write_line(&mut out, "listening", why.is_listening);
    why.tallies.iter().for_each(|tally| write_tally(&mut out, tally));
    for peer in &why.peers {
        write_key(&mut out, "public_key", peer.public_key.as_bytes());
        peer.tallies.iter().for_each(|tally| write_tally(&mut out, tally));
    }
    why.events.iter().for_each(|event| write_event(&mut out, event));
    out.push(Operation::Why.answer(0).as_bytes());
    out
}

fn write_tally(out: &mut SecretText, tally: &Tally) {
    write_line(out, "reason", tally.reason.key());
    write_line(out, "count", tally.count);
    write_line(out, "age_ms", tally.age.as_millis());
}

fn write_event(out: &mut SecretText, event: &Event) {
    write_line(out, "event", event.reason.key());
    write_line(out, "count", event.count);
    write_line(out, "age_ms", event.age.as_millis());
    write_line(out, "first_age_ms", event.first_age.as_millis());
    if let Some(peer) = &event.peer {
        write_key(out, "peer", peer.as_bytes());
    }
    if let Some(endpoint) = event.endpoint {
        write_line(out, "endpoint", endpoint);
    }
    if let Some(address) = event.address {
        write_line(out, "address", address);
    }
    if let Some(error) = event.errno {
        write_line(out, "error", error);
    }
    if let Some(off) = event.clock_off {
        write_line(out, "clock_off_ms", off.as_millis());
    }
}

/// What the lines that follow are about.
#[derive(Clone, Copy)]
enum About {
    /// Nothing, or a reason that this program does not know.
    Unknown,
    Tally,
    Event,
}

/// Reads a device's whole answer to a why request. Keys and reasons that mean nothing here are skipped, so that a device may
/// know more than its client.
///
/// # Errors
///
/// [`AnswerError`] says whether the device refused or its answer made no sense.
pub fn parse_why(answer: &[u8]) -> Result<Why, AnswerError> {
    let mut why = Why::default();
    let mut about = About::Unknown;
    read_answer(answer, |key, value| {
        match (key, about) {
            ("listening", _) => why.is_listening = value == "true",
            ("public_key", _) => {
                why.peers.push(PeerWhy { public_key: value::public_key(value)?, tallies: Vec::new() });
                about = About::Unknown;
            }
            ("reason", _) => {
                about = About::Unknown;
                if let Some(reason) = Reason::of(value) {
                    tallies(&mut why).push(Tally { reason, count: 0, age: Duration::ZERO });
                    about = About::Tally;
                }
            }
            ("event", _) => {
                about = About::Unknown;
                if let Some(reason) = Reason::of(value) {
                    why.events.push(new_event(reason));
                    about = About::Event;
                }
            }
            (_, About::Unknown) => {}
            (_, About::Tally) => {
                if let Some(tally) = tallies(&mut why).last_mut() {
                    tally_line(tally, key, value)?;
                }
            }
            (_, About::Event) => {
                if let Some(event) = why.events.last_mut() {
                    event_line(event, key, value)?;
                }
            }
        }
        Ok(())
    })?;
    Ok(why)
}

/// Those of the peer whose lines are being read, or of the device.
fn tallies(why: &mut Why) -> &mut Vec<Tally> {
    match why.peers.last_mut() {
        Some(peer) => &mut peer.tallies,
        None => &mut why.tallies,
    }
}

fn new_event(reason: Reason) -> Event {
    Event {
        reason,
        count: 0,
        age: Duration::ZERO,
        first_age: Duration::ZERO,
        peer: None,
        endpoint: None,
        address: None,
        errno: None,
        clock_off: None,
    }
}

fn tally_line(tally: &mut Tally, key: &str, value: &str) -> Result<(), Fault> {
    match key {
        "count" => tally.count = value::number(key, value)?,
        "age_ms" => tally.age = millis(key, value)?,
        _ => {}
    }
    Ok(())
}

fn event_line(event: &mut Event, key: &str, value: &str) -> Result<(), Fault> {
    match key {
        "count" => event.count = value::number(key, value)?,
        "age_ms" => event.age = millis(key, value)?,
        "first_age_ms" => event.first_age = millis(key, value)?,
        "peer" => event.peer = Some(value::public_key(value)?),
        "endpoint" => event.endpoint = Some(parsed(key, value)?),
        "address" => event.address = Some(parsed(key, value)?),
        "error" => event.errno = Some(value::number(key, value)?),
        "clock_off_ms" => event.clock_off = Some(millis(key, value)?),
        _ => {}
    }
    Ok(())
}

fn millis(key: &str, value: &str) -> Result<Duration, Fault> {
    value::number(key, value).map(Duration::from_millis)
}

fn parsed<T: FromStr>(key: &str, value: &str) -> Result<T, Fault> {
    value.parse().map_err(|_| Fault::invalid(format!("{key} is no address")))
}
