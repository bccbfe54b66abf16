//! A name's addresses, asked of name servers past whatever routes the marked packets avoid.
//!
//! The system's resolver cannot mark its packets, and in a tunnel that takes all traffic its questions go into the very
//! tunnel that does not work because its other end has moved. This asks for A and AAAA records over UDP, with a mark, and
//! for nothing else: no search domains, no TCP, no DNSSEC. Whoever forges an answer gains that a handshake is sent somewhere.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod message;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use message::{Answer, Kind};

const PORT: u16 = 53;
/// For the answers of one server.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// As many as the system's resolver asks (`MAXNS`).
const MAX_SERVERS: usize = 3;
/// Answers are no longer without EDNS (RFC 1035, 4.2.1).
const MAX_ANSWER: usize = 512;

/// The addresses of `host`, by the first of `servers` that knows some. The packets carry `fwmark`.
///
/// # Errors
/// `InvalidInput` for what is no name, `NotFound` if a server says that there is no address, `TimedOut` if none answers.
pub fn lookup(host: &str, servers: &[IpAddr], fwmark: u32) -> io::Result<Vec<IpAddr>> {
    for _ in 0..ROUNDS {
        for server in servers.iter().take(MAX_SERVERS) {
            match ask(host, (*server, PORT).into(), fwmark) {
                Ok(Some(addresses)) if addresses.is_empty() => return Err(io::ErrorKind::NotFound.into()),
                Ok(Some(addresses)) => return Ok(addresses),
                // It cannot tell.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
                Err(error) => log::debug!("name server {server}: {error}"),
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// `None` if the server has answered nothing that helps.
fn ask(host: &str, server: SocketAddr, fwmark: u32) -> io::Result<Option<Vec<IpAddr>>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    if fwmark != 0 {
        setsockopt(&socket, sockopt::Mark, &fwmark)?;
    }
    socket.connect(server)?;
    let mut waiting = Vec::new();
    for kind in [Kind::A, Kind::Aaaa] {
        let question = message::Question::new(host, kind, random()?)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        socket.send(question.as_bytes())?;
        waiting.push(question);
    }
    let (mut addresses, mut is_certain) = (Vec::new(), true);
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; MAX_ANSWER];
    while !waiting.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let len = match socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // Nothing else than an answer to a question counts.
        let Some(place) = waiting.iter().position(|question| question.is_answered_by(&buffer[..len])) else {
            continue;
        };
        match waiting.swap_remove(place).read(&buffer[..len]) {
            Answer::Addresses(found) => addresses.extend(found),
            Answer::Failure => is_certain = false,
        }
    }
    Ok((!addresses.is_empty() || is_certain && waiting.is_empty()).then_some(addresses))
}

fn random() -> io::Result<u16> {
    let mut bytes = [0; 2];
    // SAFETY: the buffer is writable and as long as is said.
    let len = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if len == 2 { Ok(u16::from_ne_bytes(bytes)) } else { Err(io::Error::last_os_error()) }
}

/// The name servers that a file like `/etc/resolv.conf` names. Those of one link's addresses are left out.
#[must_use]
pub fn servers(content: &str) -> Vec<IpAddr> {
    let lines = content.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    lines.filter_map(|word| word.parse().ok()).collect()
}

/// The addresses that a file like `/etc/hosts` gives `host`.
#[must_use]
pub fn in_hosts(content: &str, host: &str) -> Vec<IpAddr> {
    let lines = content.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let addr = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(addr)
    });
    lines.collect()
}

/// The servers of a file; none if it cannot be read.
#[must_use]
pub fn servers_of(path: &Path) -> Vec<IpAddr> {
    fs::read_to_string(path).map(|content| servers(&content)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_servers_and_hosts() {
        let conf = "# nameserver 192.0.2.9\nsearch lan\nnameserver 192.0.2.1 # x\n nameserver\t2001:db8::1\n\
            nameserver fe80::1%eth0\nnameservers 192.0.2.3\nnameserver";
        let expected: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(servers(conf), expected);
        let hosts = "192.0.2.1 a.test b.test # c.test\n#192.0.2.2 a.test\n2001:db8::1\tA.test\nx a.test\n\n";
        assert_eq!(in_hosts(hosts, "a.test"), expected);
        assert_eq!(in_hosts(hosts, "c.test"), [] as [IpAddr; 0]);
    }

    #[test]
    fn a_server_that_does_not_exist_answers_nothing() {
        assert_eq!(lookup("a.test", &[], 0).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let server: IpAddr = [127, 0, 0, 1].into();
        assert_eq!(lookup("a..test", &[server], 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
