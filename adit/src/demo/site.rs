//! Where the peers live: two network namespaces and a cable between them.
//!
//! ```text
//!   namespace of A             │             namespace of B
//!   wg0 10.0.0.1               │               10.0.0.2 wg0
//!     └ engine ─ cable 192.0.2.1 ═════ 192.0.2.2 cable ─ engine
//! ```
//!
//! This process lives in A's, which it made itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use adit_net::netlink::{Config, if_index};
use adit_net::netns;

use super::error::{Stop, cannot};

/// The tunnel's interface, in either namespace.
pub(super) const INTERFACE: &str = "wg0";
/// The cable's ends. A veth has the MTU of Ethernet, 1500 bytes.
const CABLE: &str = "cable";
/// UDP port of both engines.
pub(super) const PORT: u16 = 51820;
/// Both the inner and the outer networks are a /24.
const PREFIX_LEN: u8 = 24;

/// One of the two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Starts the handshake; this process lives with it.
    A,
    /// The other one.
    B,
}

impl Side {
    const BOTH: [Self; 2] = [Self::A, Self::B];

    fn host(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// Its address in the tunnel.
    pub(super) fn inner(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, self.host())
    }

    /// Its address on the cable, in a network that is for documentation (RFC 5737).
    fn outer(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.host())
    }

    /// Where its engine is reached.
    pub(super) fn endpoint(self) -> SocketAddr {
        (self.outer(), PORT).into()
    }
}

/// Both namespaces.
pub(super) struct Site {
    a: OwnedFd,
    b: OwnedFd,
    /// Whether it took a user namespace.
    pub(super) as_user: bool,
}

impl Site {
    /// Moves this process to a new site, with the cable laid.
    pub(super) fn enter() -> Result<Self, Stop> {
        let as_user = isolate()?;
        let a = netns::current().map_err(cannot("find the network namespace"))?;
        let b = netns::create().map_err(cannot("make a second network namespace"))?;
        let site = Self { a, b, as_user };
        site.lay_cable().map_err(cannot("lay a cable (veth) between the namespaces"))?;
        Ok(site)
    }

    fn lay_cable(&self) -> io::Result<()> {
        Config::open()?.add_veth(CABLE, CABLE, &self.b)?;
        self.bring_up(CABLE, Side::outer)
    }

    /// Gives both ends of the tunnel their addresses.
    pub(super) fn bring_up_tunnel(&self) -> Result<(), Stop> {
        self.bring_up(INTERFACE, Side::inner).map_err(cannot("bring the tunnel up"))
    }

    /// Brings `interface` up on both sides.
    fn bring_up(&self, interface: &str, address: impl Fn(Side) -> Ipv4Addr) -> io::Result<()> {
        for side in Side::BOTH {
            let address = address(side).into();
            self.run_in(side, || {
                let (mut config, index) = (Config::open()?, if_index(interface)?);
                config.add_address(index, address, PREFIX_LEN)?;
                config.set_up(index, true)
            })??;
        }
        Ok(())
    }

    /// Runs `work` on a thread in one side's namespace.
    pub(super) fn run_in<T: Send>(&self, side: Side, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        netns::run_in(self.netns(side), work)
    }

    /// One side's namespace.
    pub(super) fn netns(&self, side: Side) -> BorrowedFd<'_> {
        match side {
            Side::A => self.a.as_fd(),
            Side::B => self.b.as_fd(),
        }
    }
}

/// Leaves the machine's network; returns whether that took a user namespace.
fn isolate() -> Result<bool, Stop> {
    match netns::enter_new() {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            netns::enter_new_as_user().map(|()| true).map_err(|error| {
                Stop::Failure(format!(
                    "this user may make no network namespaces ({error}): run it as root, and where that is not enough \
                     (in a container) with CAP_SYS_ADMIN and CAP_NET_ADMIN"
                ))
            })
        }
        Err(error) => Err(cannot("make a network namespace")(error)),
    }
}
