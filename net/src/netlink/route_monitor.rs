//! Noticing that the way to a peer may have changed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;

use super::socket::{NetlinkSocket, is_overrun};

/// `RTNLGRP_*`: links, addresses, routes and rules of both families.
const GROUPS: [u32; 7] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
];

/// Hears of every change of links, addresses, routes and rules in one network namespace.
pub struct RouteMonitor(NetlinkSocket);

impl RouteMonitor {
    /// Listens in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn open() -> io::Result<Self> {
        let mask = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        let socket = NetlinkSocket::open_with_groups(NETLINK_ROUTE, mask)?;
        socket.set_non_blocking()?;
        Ok(Self(socket))
    }

    /// Whether anything changed since; does not block. To be called when the descriptor is readable.
    ///
    /// What changed is not told: the answer to "which way now?" is [`RouteLookup`](super::RouteLookup)'s.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn drain(&mut self) -> io::Result<bool> {
        let (mut changed, mut overruns) = (false, 0);
        loop {
            match self.0.recv() {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                // More changes than the socket could hold.
                Err(error) if is_overrun(&error, &mut overruns) => changed = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for RouteMonitor {
    /// Readable when something changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::fmt::Debug for RouteMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RouteMonitor").field(&self.0.as_fd()).finish()
    }
}
