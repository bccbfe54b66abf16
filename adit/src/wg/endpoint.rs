//! Looking up an endpoint's address, with patience: at boot the network may come later than we do.

use std::env;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use adit_control::conf::Endpoint;
use adit_net::resolve::{LookupError, lookup};

use super::{Failed, reason};

/// How often to ask again.
const RETRIES: &str = "WG_ENDPOINT_RESOLUTION_RETRIES";
const DEFAULT_RETRIES: u32 = 15;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The endpoint's address; the first, if there are several.
pub(crate) fn resolve(endpoint: &Endpoint) -> Result<SocketAddr, Failed> {
    let mut retries = retries()?;
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
            return Err(Failed::because(format_args!("{text}: `{}'", endpoint.text)));
        }
        retries = retries.map(|retries| retries - 1);
        eprintln!("{text}: `{}'. Trying again in {:.2} seconds...", endpoint.text, pause.as_secs_f64());
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
    let value = value.to_string_lossy();
    if value == "infinity" {
        return Ok(None);
    }
    let number = value.parse().ok().filter(|number| i32::try_from(*number).is_ok());
    number.map(Some).ok_or_else(|| Failed::because(format_args!("Unable to parse {RETRIES}: `{value}'")))
}
