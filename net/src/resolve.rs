//! Names into addresses, by the system's resolver (`getaddrinfo`).

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ptr;

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// Why a name has no address.
#[derive(Debug)]
pub struct LookupError {
    code: libc::c_int,
    /// What the system said, where `code` is `EAI_SYSTEM`.
    system: io::Error,
}

impl LookupError {
    /// Whether asking again is pointless: there is no such name, or none with an address.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self.code, libc::EAI_NONAME | libc::EAI_FAIL | libc::EAI_NODATA)
    }

    /// The system's own error, if it is one.
    #[must_use]
    pub fn system(&self) -> Option<&io::Error> {
        (self.code == libc::EAI_SYSTEM).then_some(&self.system)
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = self.system() {
            return error.fmt(f);
        }
        // SAFETY: gai_strerror returns a string with static lifetime for any code.
        let text = unsafe { CStr::from_ptr(libc::gai_strerror(self.code)) };
        f.write_str(&text.to_string_lossy())
    }
}

impl std::error::Error for LookupError {}

/// The UDP addresses of `host`, a name or an address, at `port`, a number or a service's name, in the order in which the
/// system would try them. At least one.
///
/// # Errors
/// When there is none, or the resolver cannot be asked.
pub fn lookup(host: &str, port: &str) -> Result<Vec<SocketAddr>, LookupError> {
    let failed = |code| LookupError { code, system: io::Error::last_os_error() };
    let (Ok(host), Ok(port)) = (CString::new(host), CString::new(port)) else {
        return Err(failed(libc::EAI_NONAME));
    };
    // SAFETY: all zero is a valid addrinfo: numbers and null pointers.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = libc::AF_UNSPEC;
    hints.ai_socktype = libc::SOCK_DGRAM;
    hints.ai_protocol = libc::IPPROTO_UDP;
    let mut list = ptr::null_mut();
    // SAFETY: the strings and the hints outlive the call, and `list` is written only by it.
    let code = unsafe { libc::getaddrinfo(host.as_ptr(), port.as_ptr(), &raw const hints, &raw mut list) };
    if code != 0 {
        return Err(failed(code));
    }
    let mut addresses = Vec::new();
    let mut next = list;
    // SAFETY: after a success `list` starts a list of valid nodes that ends in a null pointer, and lives until it is freed.
    while let Some(node) = unsafe { next.as_ref() } {
        // SAFETY: a node's address is valid for the length that stands beside it.
        addresses.extend(
            unsafe { SockaddrStorage::from_raw(node.ai_addr, Some(node.ai_addrlen)) }.and_then(socket_addr),
        );
        next = node.ai_next;
    }
    // SAFETY: it came from getaddrinfo, and nothing refers to it any more.
    unsafe { libc::freeaddrinfo(list) };
    if addresses.is_empty() { Err(failed(libc::EAI_NODATA)) } else { Ok(addresses) }
}

fn socket_addr(addr: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = addr.as_sockaddr_in().map(|addr| SocketAddr::V4((*addr).into()));
    v4.or_else(|| addr.as_sockaddr_in6().map(|addr| SocketAddr::V6((*addr).into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_resolver() {
        assert_eq!(lookup("192.0.2.1", "51820").unwrap(), ["192.0.2.1:51820".parse().unwrap()]);
        assert_eq!(lookup("2001:db8::1", "1").unwrap(), ["[2001:db8::1]:1".parse().unwrap()]);
        assert_eq!(lookup("::1%1", "1").unwrap()[0].port(), 1);
    }

    #[test]
    fn nonsense_is_permanent() {
        let error = lookup("a\0b", "1").unwrap_err();
        assert!(error.is_permanent());
        assert_eq!(error.to_string(), "Name or service not known");
        assert!(lookup("192.0.2.1", "no-such-service").is_err());
    }
}
