//! Which socket errors pass by themselves, and whom they are about.

use std::io;

/// Whether an error of receiving or sending says nothing about the next call.
///
/// Networks go away and come back, ICMP errors of one peer surface on a socket that serves all: none of that may end
/// a receiving loop. What is left — `EBADF`, `ENOTSOCK`, `EFAULT`, `EINVAL` and the like — is a bug of the caller.
pub fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EINTR
                | libc::EAGAIN
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::ECONNABORTED
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::ENETRESET
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EPROTO
                | libc::EOPNOTSUPP
                | libc::EMSGSIZE
                | libc::ETIMEDOUT
                | libc::EADDRNOTAVAIL
                | libc::EPERM
                | libc::EACCES
        )
    )
}

/// Whether an error of sending says that the system had no room, and nothing about the destination.
pub fn is_no_room(error: &io::Error) -> bool {
    error.is_full()
}

/// What sending fails with where the host lacks the destination's kind of address.
pub const NO_ADDRESS_FAMILY: i32 = libc::EAFNOSUPPORT;

/// Errors of `sendmsg`, by what is to be done about them.
pub(super) trait SendError {
    /// A signal came first: just call again.
    fn is_interrupt(&self) -> bool;
    /// The send buffer or the device's queue is full: wait.
    fn is_full(&self) -> bool;
    /// The pinned source may be to blame: it is no longer ours, or no route may be used with it.
    fn may_be_source(&self) -> bool;
    /// Segmentation may be to blame: the stride exceeds the path's MTU, or the route can't segment or checksum.
    fn may_be_gso(&self) -> bool;
    /// No reason is known that would last: the same packet may well pass the next time.
    fn may_be_chance(&self) -> bool;
    /// Only this packet is refused (too long; dropped by a firewall rule that may let the next one pass).
    fn is_about_one_packet(&self) -> bool;
}

impl SendError for io::Error {
    fn is_interrupt(&self) -> bool {
        self.raw_os_error() == Some(libc::EINTR)
    }

    fn is_full(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS))
    }

    fn may_be_source(&self) -> bool {
        matches!(
            self.raw_os_error(),
            Some(
                libc::EINVAL
                    | libc::EADDRNOTAVAIL
                    | libc::ENETUNREACH
                    | libc::EHOSTUNREACH
                    | libc::ENETDOWN
                    | libc::ENODEV
                    | libc::ENXIO
            )
        )
    }

    fn may_be_gso(&self) -> bool {
        matches!(
            self.raw_os_error(),
            Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
        )
    }

    fn may_be_chance(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::EIO | libc::EINVAL))
    }

    fn is_about_one_packet(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::EMSGSIZE | libc::EPERM | libc::EIO | libc::EINVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_trouble_passes_and_misuse_does_not() {
        for errno in [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENOBUFS, libc::EINTR, libc::ENETDOWN] {
            assert!(is_transient(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
        for errno in [libc::EBADF, libc::ENOTSOCK, libc::EFAULT, libc::EINVAL] {
            assert!(!is_transient(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
        assert!(!is_transient(&io::Error::other("not of the system")));
    }
}
