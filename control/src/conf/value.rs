//! The values of configuration files and of `wg set`, each read as wireguard-tools reads it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::IntErrorKind;

use adit_crypto::Secret;

use super::line::is_space;
use crate::{AllowedIpChange, EndpointName, Prefix, PublicKey, key};

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What wireguard-tools says.
    pub message: String,
    /// Where in the value, in bytes.
    pub offset: usize,
    /// What would have been right.
    pub expected: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

fn fault(message: impl Into<String>, offset: usize, expected: &'static str) -> Fault {
    Fault { message: message.into(), offset, expected }
}

/// A UDP port, perhaps after white space. (wireguard-tools has names of services looked up, and cuts numbers that are too large.)
///
/// # Errors
/// When it is not a decimal number up to 65535.
pub fn port(value: &str) -> Result<u16, Fault> {
    const EXPECTED: &str = "expected a UDP port, 0 to 65535";
    if value.is_empty() {
        return Err(fault("Unable to parse empty port", 0, EXPECTED));
    }
    decimal(value.trim_start_matches(is_space))
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| fault(format!("Servname not supported for ai_socktype: `{value}'"), 0, EXPECTED))
}

/// A mark of packets: `off`, or a number of 32 bits, hexadecimal after `0x`. Off is zero.
///
/// # Errors
/// When it is neither.
pub fn fwmark(value: &str) -> Result<u32, Fault> {
    let number = match value.strip_prefix("0x") {
        _ if value.eq_ignore_ascii_case("off") => Some(0),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        _ => decimal(value),
    };
    number.and_then(|number| number.try_into().ok()).ok_or_else(|| {
        fault(
            format!("Fwmark is neither 0/off nor 0-0xffffffff: `{value}'"),
            0,
            "expected off, or a number of 32 bits, hexadecimal after 0x",
        )
    })
}

/// Seconds between persistent keepalives: `off`, or up to 65535. Off is zero.
///
/// # Errors
/// When it is neither.
pub fn persistent_keepalive(value: &str) -> Result<u16, Fault> {
    let number = if value.eq_ignore_ascii_case("off") { Some(0) } else { decimal(value) };
    number.and_then(|number| number.try_into().ok()).ok_or_else(|| {
        fault(
            format!("Persistent keepalive interval is neither 0/off nor 1-65535: `{value}'"),
            0,
            "expected off, or seconds, 1 to 65535",
        )
    })
}

/// Digits and nothing else.
fn decimal(value: &str) -> Option<u64> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits => Some(number),
        Err(error) if digits && *error.kind() == IntErrorKind::PosOverflow => Some(u64::MAX),
        _ => None,
    }
}

const A_KEY: &str = "expected a key: 43 characters of base64 and one =";

/// A public key.
///
/// # Errors
/// When it is not canonical base64 of 32 bytes.
pub fn public_key(value: &str) -> Result<PublicKey, Fault> {
    PublicKey::from_base64(value)
        .ok_or_else(|| fault(format!("Key is not the correct length or format: `{value}'"), 0, A_KEY))
}

/// A private or preshared key; zeros mean none. A wrong one is not repeated in the error: it may be a mistyped one.
///
/// # Errors
/// When it is not canonical base64 of 32 bytes.
pub fn secret_key(value: &str) -> Result<Option<Secret<32>>, Fault> {
    let secret = key::secret_from_base64(value)
        .ok_or_else(|| fault("Key is not the correct length or format: `(hidden)'", 0, A_KEY))?;
    Ok((!secret.is_zero()).then_some(secret))
}

/// What a file holds that is to have one secret key: nothing means none, white space may follow.
///
/// # Errors
/// When there is something else.
pub fn key_file(content: &[u8]) -> Result<Option<Secret<32>>, Fault> {
    if content.is_empty() {
        return Ok(None);
    }
    let Some((text, rest)) = content.split_at_checked(key::BASE64_LEN) else {
        return Err(fault("Invalid length key in key file", 0, A_KEY));
    };
    if let Some(offset) = rest.iter().position(|&byte| !is_space(byte.into())) {
        // Which one is not told: it may be a part of a key.
        return Err(fault("Found trailing character in key file:", key::BASE64_LEN + offset, A_KEY));
    }
    secret_key(str::from_utf8(text).unwrap_or_default())
}

/// What one list of allowed IPs asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedIps {
    /// All that the peer had go first.
    pub replace: bool,
    /// In order.
    pub changes: Vec<AllowedIpChange>,
}

/// Addresses and prefixes with commas between them. Nothing replaces what the peer had by nothing. A `+` or `-` before any
/// of them makes the whole list a change of what the peer has. Addresses with bits beyond their prefix are worth a warning.
///
/// # Errors
/// When one is neither an address nor a prefix. The warnings are of those before it.
pub fn allowed_ips(value: &str, warnings: &mut Vec<String>) -> Result<AllowedIps, Fault> {
    let mut list = AllowedIps { replace: true, ..AllowedIps::default() };
    if value.is_empty() {
        return Ok(list);
    }
    let mut offset = 0;
    for entry in value.split(',') {
        let (sign, text) = match entry.as_bytes().first() {
            Some(sign @ (b'+' | b'-')) => (Some(sign), &entry[1..]),
            _ => (None, entry),
        };
        list.replace &= sign.is_none();
        let (prefix, warning) = prefix(text)
            .map_err(|fault| Fault { offset: offset + entry.len() - text.len() + fault.offset, ..fault })?;
        warnings.extend(warning);
        list.changes.push(match sign {
            Some(b'-') => AllowedIpChange::Remove(prefix),
            _ => AllowedIpChange::Add(prefix),
        });
        offset += entry.len() + 1;
    }
    Ok(list)
}

/// An address, alone or with the length of a prefix, and a warning if bits are set beyond that.
fn prefix(text: &str) -> Result<(Prefix, Option<String>), Fault> {
    const EXPECTED: &str = "expected an IP address, and perhaps a slash and the number of bits that count; commas between several";
    let (ip, len) = text.split_once('/').map_or((text, None), |(ip, len)| (ip, Some(len)));
    let ip = address(ip).ok_or_else(|| fault(format!("Unable to parse IP address: `{ip}'"), 0, EXPECTED))?;
    let Some(len) = len else { return Ok((Prefix::host(ip), None)) };
    let prefix = decimal(len).and_then(|len| Prefix::new(ip, len.try_into().ok()?)).ok_or_else(|| {
        fault(format!("AllowedIP is not in the correct format: `{text}'"), text.len() - len.len(), EXPECTED)
    })?;
    let warning = (prefix.addr() != ip).then(|| format!("Warning: AllowedIP has nonzero host part: {text}"));
    Ok((prefix, warning))
}

fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    } else {
        text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    }
}

/// Where to send packets, as written: an address or a name, and a port or a service's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As it was written.
    pub text: String,
    /// Without brackets.
    pub host: String,
    /// Behind the last colon.
    pub port: String,
}

impl Endpoint {
    /// The address, if nothing has to be looked up.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, port(&self.port).ok()?))
    }

    /// The name, if it is one: its addresses have this port, which may be written as a service's name.
    #[must_use]
    pub fn name(&self, port: u16) -> Option<EndpointName> {
        let is_address = self.host.parse::<IpAddr>().is_ok();
        if is_address { None } else { EndpointName::new(&self.host, port) }
    }
}

/// An endpoint: `192.0.2.1:51820`, `[2001:db8::1]:51820`, `vpn.example.com:51820`.
///
/// # Errors
/// When there is no port, or no end of the brackets.
pub fn endpoint(value: &str) -> Result<Endpoint, Fault> {
    const EXPECTED: &str = "expected ADDRESS:PORT, [IPv6 ADDRESS]:PORT or NAME:PORT";
    let without_port = || fault(format!("Unable to find port of endpoint: `{value}'"), value.len(), EXPECTED);
    if value.is_empty() {
        return Err(fault("Unable to parse empty endpoint", 0, EXPECTED));
    }
    let (host, port) = match value.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(|| {
                let message = format!("Unable to find matching brace of endpoint: `{value}'");
                fault(message, value.len(), EXPECTED)
            })?;
            (host, rest.strip_prefix(':').ok_or_else(without_port)?)
        }
        None => value.rsplit_once(':').ok_or_else(without_port)?,
    };
    if port.is_empty() {
        return Err(without_port());
    }
    // Resolvers cut numbers that are too large.
    if decimal(port).is_some_and(|number| number > u16::MAX.into()) {
        let message = format!("Servname not supported for ai_socktype: `{value}'");
        return Err(fault(message, value.len() - port.len(), "expected a UDP port, up to 65535"));
    }
    Ok(Endpoint { text: value.to_owned(), host: host.to_owned(), port: port.to_owned() })
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
