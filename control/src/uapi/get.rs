//! The get operation's answer: a [`Get`] into lines, and back.

use std::error::Error;
use std::fmt;

use super::set::{write_key, write_line, write_secret};
use super::{EPROTO, Fault, Operation, ScopeResolver, value};
use crate::{Get, GetPeer, SecretText};

/// Spells the whole answer to a get, up to and including `errno=0` and the blank line.
#[must_use]
pub fn write_get(get: &Get) -> SecretText {
    let mut out = SecretText::with_capacity(256 + 512 * get.peers.len());
    if let Some(private_key) = &get.private_key {
        write_secret(&mut out, "private_key", Some(private_key));
    }
    if get.listen_port != 0 {
        write_line(&mut out, "listen_port", get.listen_port);
    }
    if get.fwmark != 0 {
        write_line(&mut out, "fwmark", get.fwmark);
    }
    for peer in &get.peers {
        write_peer(&mut out, peer);
    }
    out.push(Operation::Get.answer(0).as_bytes());
    out
}

/// The order of the keys is wireguard-go's, on which some clients have come to depend.
fn write_peer(out: &mut SecretText, peer: &GetPeer) {
    write_key(out, "public_key", peer.public_key.as_bytes());
    write_secret(out, "preshared_key", peer.preshared_key.as_ref());
    write_line(out, "protocol_version", 1);
    if let Some(endpoint) = peer.endpoint {
        write_line(out, "endpoint", endpoint);
    }
    let (seconds, nanoseconds) = peer.last_handshake.unwrap_or_default();
    write_line(out, "last_handshake_time_sec", seconds);
    write_line(out, "last_handshake_time_nsec", nanoseconds);
    write_line(out, "tx_bytes", peer.tx_bytes);
    write_line(out, "rx_bytes", peer.rx_bytes);
    write_line(out, "persistent_keepalive_interval", peer.persistent_keepalive);
    for prefix in &peer.allowed_ips {
        write_line(out, "allowed_ip", prefix);
    }
}

/// Reads a device's whole answer to a get. Keys that mean nothing here are skipped, so that a device may know
/// more than its client.
///
/// # Errors
///
/// [`AnswerError`] says whether the device refused or its answer made no sense.
pub fn parse_get(answer: &[u8], resolve_scope: ScopeResolver) -> Result<Get, AnswerError> {
    let mut get = Get::default();
    read_answer(answer, |key, value| match get.peers.last_mut() {
        _ if key == "public_key" => {
            get.push_peer(value::public_key(value)?);
            Ok(())
        }
        None => device_line(&mut get, key, value),
        Some(peer) => peer_line(peer, key, value, resolve_scope),
    })?;
    for peer in &mut get.peers {
        peer.last_handshake = peer.last_handshake.filter(|&at| at != (0, 0));
    }
    Ok(get)
}

fn device_line(get: &mut Get, key: &str, value: &str) -> Result<(), Fault> {
    match key {
        "private_key" => get.private_key = value::secret(key, value)?,
        "listen_port" => get.listen_port = value::number(key, value)?,
        "fwmark" => get.fwmark = value::number(key, value)?,
        _ => {}
    }
    Ok(())
}

fn peer_line(peer: &mut GetPeer, key: &str, value: &str, resolve_scope: ScopeResolver) -> Result<(), Fault> {
    match key {
        "preshared_key" => peer.preshared_key = value::secret(key, value)?,
        "endpoint" => peer.endpoint = Some(value::endpoint(value, resolve_scope)?),
        "last_handshake_time_sec" => {
            peer.last_handshake.get_or_insert_default().0 = value::number(key, value)?;
        }
        "last_handshake_time_nsec" => {
            peer.last_handshake.get_or_insert_default().1 = value::number(key, value)?;
        }
        "tx_bytes" => peer.tx_bytes = value::number(key, value)?,
        "rx_bytes" => peer.rx_bytes = value::number(key, value)?,
        "persistent_keepalive_interval" => peer.persistent_keepalive = value::number(key, value)?,
        "allowed_ip" => peer.allowed_ips.push(value::prefix(value)?),
        _ => {}
    }
    Ok(())
}

/// Reads a device's whole answer to a set.
///
/// # Errors
///
/// [`AnswerError`] says whether the device refused or its answer made no sense.
pub fn parse_set_answer(answer: &[u8]) -> Result<(), AnswerError> {
    read_answer(answer, |_, _| Ok(()))
}

/// Hands all lines but the errno to `take`; the answer has to have an errno and to end in a blank line.
pub(super) fn read_answer(
    answer: &[u8],
    mut take: impl FnMut(&str, &str) -> Result<(), Fault>,
) -> Result<(), AnswerError> {
    let mut errno = None;
    for (line_number, line) in (1..).zip(answer.split_inclusive(|&byte| byte == b'\n')) {
        let malformed = AnswerError::Malformed { line_number };
        let Some(line) = line.strip_suffix(b"\n") else { return Err(AnswerError::Truncated) };
        if line.is_empty() {
            return match errno {
                None => Err(malformed),
                Some(0) => Ok(()),
                Some(errno) => Err(AnswerError::Refused { errno }),
            };
        }
        let Some((key, value)) = str::from_utf8(line).ok().and_then(|line| line.split_once('=')) else {
            return Err(malformed);
        };
        if key == "errno" {
            // Devices disagree about the sign; it never carries a meaning of its own.
            let value: i32 = value.parse().map_err(|_| malformed)?;
            errno = Some(value.checked_abs().ok_or(malformed)?);
        } else {
            take(key, value).map_err(|_| malformed)?;
        }
    }
    Err(AnswerError::Truncated)
}

/// Why a device's answer holds no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// The device refused, with this positive number of `errno.h`.
    Refused {
        /// What the device answered, without its sign.
        errno: i32,
    },
    /// A line that is not of the protocol, or no errno before the blank line.
    Malformed {
        /// Counted from 1.
        line_number: u64,
    },
    /// The answer ended before its blank line.
    Truncated,
}

impl AnswerError {
    /// The number of `errno.h` to report: the device's own, or `EPROTO`.
    #[must_use]
    pub fn errno(self) -> i32 {
        match self {
            Self::Refused { errno } => errno,
            Self::Malformed { .. } | Self::Truncated => EPROTO,
        }
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { errno } => write!(f, "the device refused with errno {errno}"),
            Self::Malformed { line_number } => {
                write!(f, "line {line_number} of the device's answer makes no sense")
            }
            Self::Truncated => f.write_str("the device's answer ended early"),
        }
    }
}

impl Error for AnswerError {}
