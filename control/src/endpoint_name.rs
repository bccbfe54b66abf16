//! The name that an endpoint was given by. An engine that is told of it has it looked up again when the peer does not answer.

use std::fmt;
use std::str::FromStr;

/// The longest name that there is in DNS (RFC 1035, 2.3.4).
const MAX_HOST: usize = 253;

/// A host's name and a port, `vpn.example.com:51820`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName {
    host: String,
    port: u16,
}

impl EndpointName {
    /// The name `host`. `None` if it is none that could be looked up again: an address of IPv6, which may have a scope, or
    /// what no line can hold.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Option<EndpointName> {
        let is_name = !host.is_empty()
            && host.len() <= MAX_HOST
            && !host.chars().any(|char| char == ':' || char.is_whitespace() || char.is_control());
        is_name.then(|| EndpointName { host: host.to_owned(), port })
    }

    /// Whom to look up.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of all its addresses.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for EndpointName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = if is_number { port.parse().ok() } else { None };
        Self::new(host, port.ok_or(())?).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["vpn.example.com:51820", "a:0", "x_y-1.lan.:65535", "192.0.2.1:5"] {
            assert_eq!(text.parse::<EndpointName>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
        let long = format!("{}:1", "a".repeat(254));
        for wrong in ["", ":1", "a", "a:", "a:+1", "a:65536", "a b:1", "::1:1", "[::1]:1", "a\t:1", &long] {
            assert_eq!(wrong.parse::<EndpointName>(), Err(()), "{wrong:?}");
        }
    }
}
