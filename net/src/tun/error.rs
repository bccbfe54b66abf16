//! Why a TUN device could not be opened, and what an error of an open one means.

use std::{fmt, io};

use nix::errno::Errno;

/// Why there is no TUN device. Its `Display` is one line that says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum TunError {
    /// The name breaks the kernel's rules for interfaces.
    BadName(String),
    /// `/dev/net/tun` is missing, or no driver stands behind it.
    NoDriver(io::Error),
    /// `/dev/net/tun` may not be opened by this user.
    NoAccess(io::Error),
    /// Creating or attaching takes CAP_NET_ADMIN, or the ownership of a persistent device.
    NotPermitted(String),
    /// Another process serves the interface.
    InUse(String),
    /// An interface of this name exists and is something else.
    NotTun(String),
    /// An inherited descriptor is not a TUN device that can be used; the text says why.
    BadDescriptor(&'static str),
    /// A step that has no reason to fail failed; the text names the step.
    Failed(String, io::Error),
}

impl fmt::Display for TunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(name) => write!(
                f,
                "{name:?} cannot name an interface: use 1 to 15 bytes without '/', ':' or white space, not \".\" or \"..\""
            ),
            Self::NoDriver(error) if error.raw_os_error() == Some(libc::ENOENT) => write!(
                f,
                "/dev/net/tun does not exist: load the tun module (modprobe tun), or give the container the device (--device /dev/net/tun)"
            ),
            Self::NoDriver(error) => {
                write!(f, "the kernel offers no TUN driver ({error}): load the tun module (modprobe tun)")
            }
            Self::NoAccess(error) => {
                write!(f, "/dev/net/tun cannot be opened ({error}): run as root or grant access to it")
            }
            Self::NotPermitted(name) => write!(
                f,
                "opening interface {name} is not permitted: run as root or with CAP_NET_ADMIN, or as the owner of the interface"
            ),
            Self::InUse(name) => write!(f, "interface {name} is already in use by another process"),
            Self::NotTun(name) => {
                write!(f, "interface {name} exists and is not a TUN device: delete it or choose another name")
            }
            Self::BadDescriptor(why) => write!(f, "the inherited descriptor cannot be used: {why}"),
            Self::Failed(step, error) => write!(f, "{step} failed: {error}"),
        }
    }
}

impl std::error::Error for TunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoDriver(error) | Self::NoAccess(error) | Self::Failed(_, error) => Some(error),
            _ => None,
        }
    }
}

/// What an error of [`TunQueue::read`](super::TunQueue::read) or [`write`](super::TunQueue::write) says about the
/// interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EBADFD`: the interface was deleted. The descriptor stays dead, and polls as an error, for good.
    Gone,
    /// `EIO`: the interface is down. The packet is lost; the next may pass once it is up again.
    Down,
    /// `EINVAL`, of a write: neither IPv4 nor IPv6, or a virtio-net header that this kernel refuses; of a read: a
    /// packet that the header cannot describe. The packet is lost, the next is not affected.
    Refused,
    /// Anything else, such as `ENOMEM`: the packet is lost.
    Other,
}

impl Fault {
    /// Classifies an error.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EBADFD) => Self::Gone,
            Some(Errno::EIO) => Self::Down,
            Some(Errno::EINVAL) => Self::Refused,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line_that_says_what_to_do() {
        let errno = io::Error::from_raw_os_error;
        for (error, advice) in [
            (TunError::BadName("a/b".to_owned()), "use 1 to 15 bytes"),
            (TunError::BadName("a\nb".to_owned()), "use 1 to 15 bytes"),
            (TunError::NoDriver(errno(libc::ENOENT)), "/dev/net/tun does not exist: load the tun module"),
            (TunError::NoDriver(errno(libc::ENODEV)), "modprobe tun"),
            (TunError::NoAccess(errno(libc::EACCES)), "run as root"),
            (TunError::NotPermitted("wg0".to_owned()), "CAP_NET_ADMIN"),
            (TunError::InUse("wg0".to_owned()), "wg0 is already in use by another process"),
            (TunError::NotTun("eth0".to_owned()), "choose another name"),
            (TunError::BadDescriptor("it is a TAP device"), "TAP"),
            (TunError::Failed("opening".to_owned(), errno(libc::ENOMEM)), "opening failed"),
        ] {
            let line = error.to_string();
            assert!(line.contains(advice) && !line.contains('\n'), "{line}");
        }
    }
}
