//! TUN devices: the inner side of the tunnel (Linux Documentation/networking/tuntap.rst).
//!
//! With `IFF_VNET_HDR` one system call moves a super-packet of up to 64 KiB, headed by a [`VirtioNetHdr`];
//! [`segment`](crate::segment) splits and builds those. Whatever a kernel refuses is left out, and
//! [`Tun::offloads`] tells what remained.
//!
//! After creation, everything is asked of the descriptor, never of the name: the device may move to another network
//! namespace, or be renamed.

mod bpf;
mod counters;
mod error;
mod name;
mod open;
mod queue;
mod steering;
mod sys;
#[cfg(test)]
pub(crate) mod tests;
mod virtio;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use counters::Joining;
pub use counters::{KindStats, TunStats};
pub use error::{Fault, TunError};
pub use name::{MAX_NAME_LEN, check_name};
pub use queue::{MAX_PARTS, Read, TunQueue};
pub use steering::QUEUES_OF_A_HOST;
pub use virtio::VirtioNetHdr;

/// The MTU of a new device in bytes: 1,500 less the outer IPv6 and UDP headers and the 32 bytes of WireGuard's own.
pub const DEFAULT_MTU: u32 = 1420;

/// Which work is handed over in bulk. As a wish each can be switched off; as an answer, what the kernel agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// Super-packets of TCP segments.
    pub tcp: bool,
    /// Super-packets of UDP datagrams (Linux 6.2).
    pub udp: bool,
    /// The virtio-net header itself. Without it the other two are off and the kernel finishes all checksums.
    pub vnet_hdr: bool,
}

impl Offloads {
    /// Everything, the default.
    pub const ALL: Self = Self { tcp: true, udp: true, vnet_hdr: true };
    /// One complete packet per system call.
    pub const NONE: Self = Self { tcp: false, udp: false, vnet_hdr: false };
}

impl Default for Offloads {
    fn default() -> Self {
        Self::ALL
    }
}

/// How to open a TUN device.
#[derive(Clone, Debug)]
pub struct TunOptions {
    /// 1 to [`MAX_NAME_LEN`] bytes; `%d` stands for the first free number.
    pub name: String,
    /// Queues wanted, at least one; [`QUEUES_OF_A_HOST`] for each thread that is to read. Each flow's packets come to one of
    /// them, which takes a program in the kernel: where that is refused, there is but one queue (before Linux 4.16, on most
    /// systems without CAP_BPF and CAP_SYS_ADMIN, in many containers).
    pub queues: usize,
    /// MTU in bytes for a device that is created; an existing one keeps its own.
    pub mtu: u32,
    /// Offloads wanted.
    pub offloads: Offloads,
}

impl TunOptions {
    /// One queue, [`DEFAULT_MTU`], every offload.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), queues: 1, mtu: DEFAULT_MTU, offloads: Offloads::ALL }
    }
}

/// An open TUN device. The interface goes away with it, unless it is a persistent one (`ip tuntap add`).
#[derive(Debug)]
pub struct Tun {
    queues: Vec<TunQueue>,
    wanted: Offloads,
    joining: Arc<Joining>,
}

impl Tun {
    /// Creates the device, or attaches to a persistent one that nobody serves.
    ///
    /// An existing device without several queues gives one, whatever number is wanted.
    ///
    /// # Errors
    /// [`TunError`]; nothing is left behind.
    pub fn open(options: &TunOptions) -> Result<Self, TunError> {
        open::open(options)
    }

    /// Takes over a descriptor on which another program has already done `TUNSETIFF`; it becomes non-blocking and
    /// close-on-exec. It has the framing and the single queue that it came with; the MTU is left alone.
    ///
    /// The other program must have asked for `IFF_NO_PI`, since the kernel does not tell whether it did.
    ///
    /// # Errors
    /// [`TunError::BadDescriptor`] if it is no TUN device or a TAP device.
    pub fn from_fd(fd: OwnedFd, offloads: Offloads) -> Result<Self, TunError> {
        open::from_fd(fd, offloads)
    }

    /// The queues, at least one. Where something is written has no influence on where its answers come to.
    #[must_use]
    pub fn queues(&self) -> &[TunQueue] {
        &self.queues
    }

    /// The offloads that were asked for when it was opened.
    #[must_use]
    pub fn wanted_offloads(&self) -> Offloads {
        self.wanted
    }

    /// The offloads that the kernel agreed to when it was opened: which super-packets it hands out.
    #[must_use]
    pub fn agreed_offloads(&self) -> Offloads {
        self.joining.agreed()
    }

    /// The offloads in effect: which super-packets may be built for it. Those agreed to, less the kinds that the kernel
    /// has refused so often that they are not tried for now.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.joining.allowed()
    }

    /// How much all queues together have moved.
    #[must_use]
    pub fn stats(&self) -> TunStats {
        let mut total = TunStats::default();
        self.queues.iter().for_each(|queue| total += queue.stats());
        total
    }

    /// The interface's present name.
    ///
    /// # Errors
    /// `EBADFD` if the interface was deleted.
    pub fn name(&self) -> io::Result<String> {
        Ok(sys::interface(&self.queues[0])?.name)
    }

    /// Whether the interface was deleted, in whichever network namespace it lived.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        sys::interface(&self.queues[0]).is_err_and(|error| Fault::of(&error) == Fault::Gone)
    }

    /// The network namespace in which the interface lives now.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN there, `EBADFD` if the interface was deleted, `EINVAL` or `ENOTTY` before
    /// Linux 5.2.
    pub fn netns_fd(&self) -> io::Result<OwnedFd> {
        sys::netns(&self.queues[0])
    }
}
