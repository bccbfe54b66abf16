//! Echo of ICMP (RFC 792): is somebody there, and how far away.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, recv, send, socket,
};

use crate::checksum::checksum;

const ECHO_REPLY: u8 = 0;
const ECHO: u8 = 8;
/// Type, code, checksum, identifier, sequence number.
const HEADER_LEN: usize = 8;
/// Of an echo, in bytes: with its headers it is a packet of 84, as `ping` sends.
const MESSAGE_LEN: usize = HEADER_LEN + 56;
/// The longest IPv4 header, in bytes.
const MAX_IP_HEADER_LEN: usize = 60;

/// Sends echoes to one host, in the network namespace that it was made in.
#[derive(Debug)]
pub struct Pinger {
    socket: OwnedFd,
    identifier: u16,
    sequence: u16,
}

impl Pinger {
    /// Prepares to ping `host`.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_RAW`.
    pub fn new(host: Ipv4Addr) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
        // Messages of other hosts are not received from here on.
        connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(host, 0)))?;
        Ok(Self { socket, identifier: std::process::id() as u16, sequence: 0 })
    }

    /// Sends one echo and waits for its answer: the time between the two, or `None` if `patience` was not enough.
    ///
    /// # Errors
    ///
    /// `ENETUNREACH`, and whatever else keeps the echo from being sent.
    pub fn ping(&mut self, patience: Duration) -> io::Result<Option<Duration>> {
        self.sequence = self.sequence.wrapping_add(1);
        let echo = echo(self.identifier, self.sequence);
        let start = Instant::now();
        send(self.socket.as_raw_fd(), &echo, MsgFlags::empty())?;
        while let Some(left) = patience.checked_sub(start.elapsed()) {
            if !self.wait(left)? {
                break;
            }
            let elapsed = start.elapsed();
            if self.receive()? == Some((self.identifier, self.sequence)) {
                return Ok(Some(elapsed));
            }
        }
        Ok(None)
    }

    /// Whether something came within `limit`.
    fn wait(&self, limit: Duration) -> io::Result<bool> {
        let millis = i32::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(ready) => Ok(ready > 0),
            // Not yet: what there is to receive, nothing, says so.
            Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whose answer came, if it is one.
    fn receive(&self) -> io::Result<Option<(u16, u16)>> {
        let mut packet = [0; MAX_IP_HEADER_LEN + MESSAGE_LEN];
        match recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(len) => Ok(answered(&packet[..len])),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn echo(identifier: u16, sequence: u16) -> [u8; MESSAGE_LEN] {
    let mut message = [0; MESSAGE_LEN];
    message[0] = ECHO;
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let checksum = checksum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// Identifier and sequence number of the echo that an IPv4 packet answers; the kernel has checked both checksums.
fn answered(packet: &[u8]) -> Option<(u16, u16)> {
    let ip_header_len = usize::from(packet.first()? & 0x0f) * 4;
    match packet.get(ip_header_len..)? {
        [ECHO_REPLY, 0, _, _, i0, i1, s0, s1, ..] => {
            Some((u16::from_be_bytes([*i0, *i1]), u16::from_be_bytes([*s0, *s1])))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Config, if_index};
    use crate::netns;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn alone_with_loopback<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let set_up = || Config::open().unwrap().set_up(if_index("lo").unwrap(), true).unwrap();
        netns::run_in_new(|| {
            set_up();
            work()
        })
        .unwrap()
    }

    #[test]
    fn the_kernel_answers() {
        alone_with_loopback(|| {
            let mut pinger = Pinger::new(Ipv4Addr::LOCALHOST).unwrap();
            for _ in 0..3 {
                assert!(pinger.ping(PATIENCE).unwrap().is_some());
            }
        });
    }

    #[test]
    fn ones_own_echo_is_no_answer() {
        alone_with_loopback(|| {
            // Loopback delivers the echo itself to whoever listens for ICMP.
            std::fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1").unwrap();
            let mut pinger = Pinger::new(Ipv4Addr::LOCALHOST).unwrap();
            let start = Instant::now();
            assert_eq!(pinger.ping(Duration::from_millis(100)).unwrap(), None);
            assert!(start.elapsed() >= Duration::from_millis(100));
        });
    }

    #[test]
    fn no_way_is_an_error() {
        netns::run_in_new(|| {
            let way = Pinger::new(Ipv4Addr::LOCALHOST).and_then(|mut pinger| pinger.ping(PATIENCE));
            assert_eq!(way.unwrap_err().raw_os_error(), Some(libc::ENETUNREACH));
        })
        .unwrap();
    }

    #[test]
    fn garbage_answers_nothing() {
        for packet in [&[][..], &[0x45], &[0x4f; 20], &[0x45; 27], &[0x40; 8]] {
            assert_eq!(answered(packet), None, "{packet:x?}");
        }
        let mut packet = [0; 28];
        packet[0] = 0x45;
        packet[24..].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(answered(&packet), Some((0x0102, 0x0304)));
        packet[20] = ECHO;
        assert_eq!(answered(&packet), None);
    }
}
