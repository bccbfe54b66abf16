//! Looking up an endpoint's address, with patience: at boot the network may come later than we do.

use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use adit_control::Set;
use adit_control::conf::{Draft, Endpoint, is_space};
use adit_net::resolve::{LookupError, lookup};

use super::{Failed, reason, tell};

/// How often to ask again.
const RETRIES: &str = "WG_ENDPOINT_RESOLUTION_RETRIES";
const DEFAULT_RETRIES: u32 = 15;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What a file says, with all its endpoints looked up.
pub(crate) fn resolve_all(draft: Draft, file: &Path) -> Result<Set, Failed> {
    if draft.endpoints.is_empty() {
        return Ok(draft.set);
    }
    let retries = retries()?;
    draft
        .resolve(|endpoint| look_up(endpoint, retries))
        .map_err(|error| Failed::because(error.display(&file.to_string_lossy())))
}

/// The endpoint's address; the first, if there are several.
pub(crate) fn resolve(endpoint: &Endpoint) -> Result<SocketAddr, Failed> {
    look_up(endpoint, retries()?).map_err(Failed::because)
}

/// The address, or why there is none.
fn look_up(endpoint: &Endpoint, mut retries: Option<u32>) -> Result<SocketAddr, String> {
    if let Some(address) = endpoint.address() {
        return Ok(address);
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match lookup(&endpoint.host, &endpoint.port) {
            Ok(addresses) => return Ok(addresses[0]),
            Err(error) => error,
        };
        let text = describe(&error);
        if error.is_permanent() || retries == Some(0) {
            return Err(format!("{text}: `{}'", endpoint.text));
        }
        retries = retries.map(|retries| retries - 1);
        let seconds = pause.as_secs_f64();
        tell(format_args!("{text}: `{}'. Trying again in {seconds:.2} seconds...", endpoint.text));
        thread::sleep(pause);
        pause = LONGEST_PAUSE.min(pause * 6 / 5);
    }
}

fn describe(error: &LookupError) -> String {
    error.system().map_or_else(|| error.to_string(), reason)
}

/// `None` is without end.
fn retries() -> Result<Option<u32>, Failed> {
    let Some(value) = env::var_os(RETRIES) else { return Ok(Some(DEFAULT_RETRIES)) };
    if value == "infinity" {
        return Ok(None);
    }
    let number = retries_in(&value).map(Some);
    number.ok_or_else(|| Failed::because(format_args!("Unable to parse {RETRIES}: `{}'", value.display())))
}

/// The number as C's strtoul reads it: after white space and a sign. Nothing at all is zero.
fn retries_in(value: &OsStr) -> Option<u32> {
    if value.is_empty() {
        return Some(0);
    }
    let text = value.to_str()?.trim_start_matches(is_space);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number: u32 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    let is_negative = text.starts_with('-') && number != 0;
    (i32::try_from(number).is_ok() && !is_negative).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_read_as_c_reads_numbers() {
        for (text, expected) in [
            ("", 0),
            ("0", 0),
            ("15", 15),
            (" \t15", 15),
            ("+5", 5),
            ("-0", 0),
            ("2147483647", i32::MAX as u32),
        ] {
            assert_eq!(retries_in(OsStr::new(text)), Some(expected), "{text:?}");
        }
        for text in [" ", "x", "5 ", "0x5", "-1", "++5", "+", "2147483648", "99999999999999999999"] {
            assert_eq!(retries_in(OsStr::new(text)), None, "{text:?}");
        }
    }
}
