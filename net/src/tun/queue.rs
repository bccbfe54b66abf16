//! One queue of a TUN device: a packet, or a super-packet, per system call.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::uio::{readv, writev};

use super::counters::{Counters, Joining, Kind};
use super::{Fault, TunStats, VirtioNetHdr};

/// Most parts that a packet handed to [`TunQueue::write`] may consist of.
pub const MAX_PARTS: usize = 129;

/// What [`TunQueue::read`] found.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// How to split and checksum the packet; all zero on a device without `IFF_VNET_HDR`.
    pub hdr: VirtioNetHdr,
    /// Length of the packet in bytes.
    pub len: usize,
}

/// A queue of a TUN device, non-blocking. Any thread may use it; the kernel keeps packets whole.
///
/// It counts what it moves ([`stats`](Self::stats)), and tells the device when the kernel keeps refusing a kind of
/// super-packet.
#[derive(Debug)]
pub struct TunQueue {
    fd: OwnedFd,
    vnet_hdr: bool,
    joining: Arc<Joining>,
    counters: Counters,
}

impl TunQueue {
    pub(super) fn new(fd: OwnedFd, joining: Arc<Joining>) -> Self {
        Self { fd, vnet_hdr: joining.agreed().vnet_hdr, joining, counters: Counters::default() }
    }

    /// Reads one packet into `buf`; `None` if none is waiting.
    ///
    /// The kernel cuts longer packets off in silence, so give `buf` 65,535 bytes, the longest of super-packets.
    ///
    /// # Errors
    /// See [`Fault`]: only [`Gone`](Fault::Gone) ends reading. A device that is down has
    /// nothing to read rather than an error.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<Option<Read>> {
        let mut hdr = [0; VirtioNetHdr::LEN];
        let hdr_len = if self.vnet_hdr { hdr.len() } else { 0 };
        let n = loop {
            let mut parts = [IoSliceMut::new(&mut hdr[..hdr_len]), IoSliceMut::new(buf)];
            match readv(&self.fd, &mut parts) {
                Ok(n) => break n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        };
        // A descriptor that a parent handed over might be anything that can be read; a TUN device is never short.
        let len = n.checked_sub(hdr_len).ok_or(io::ErrorKind::UnexpectedEof)?;
        let hdr = VirtioNetHdr::from_bytes(hdr);
        self.counters.read(Kind::of(&hdr));
        Ok(Some(Read { hdr, len }))
    }

    /// Writes one packet, the concatenation of `parts`, of at most [`MAX_PARTS`].
    ///
    /// On a device without `IFF_VNET_HDR`, `hdr` must be all zero: nobody would heed it.
    ///
    /// # Errors
    /// See [`Fault`]. [`io::ErrorKind::InvalidInput`]: too many parts, or a header that the device
    /// cannot carry.
    pub fn write(&self, hdr: &VirtioNetHdr, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let (kind, hdr) = (Kind::of(hdr), hdr.to_bytes());
        // A lone packet must not pay for clearing the long array.
        let result = if parts.len() < 4 {
            self.write_framed(&hdr, parts, &mut [IoSlice::new(&[]); 4])
        } else {
            self.write_framed(&hdr, parts, &mut [IoSlice::new(&[]); 1 + MAX_PARTS])
        };
        match &result {
            Ok(()) => {
                self.counters.written(kind);
                self.joining.taken(kind);
            }
            Err(_) if kind == Kind::Single => self.dropped(1),
            Err(error) if Fault::of(error) == Fault::Refused => {
                self.counters.refused(kind);
                self.joining.refused(kind);
            }
            Err(_) => {}
        }
        result
    }

    /// Counts packets that will not be written.
    pub(crate) fn dropped(&self, packets: usize) {
        self.counters.dropped(packets);
    }

    /// How much this queue has moved.
    #[must_use]
    pub fn stats(&self) -> TunStats {
        self.counters.stats()
    }

    fn write_framed<'a>(
        &self,
        hdr: &'a [u8; VirtioNetHdr::LEN],
        parts: &[IoSlice<'a>],
        framed: &mut [IoSlice<'a>],
    ) -> io::Result<()> {
        if parts.len() >= framed.len() || (!self.vnet_hdr && *hdr != [0; VirtioNetHdr::LEN]) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        framed[0] = IoSlice::new(hdr);
        framed[1..=parts.len()].copy_from_slice(parts);
        let framed = &framed[usize::from(!self.vnet_hdr)..=parts.len()];
        loop {
            match writev(&self.fd, framed) {
                // The driver takes a packet whole or not at all.
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Whether packets carry a virtio-net header; without one there are no super-packets in either direction.
    #[must_use]
    pub fn has_vnet_hdr(&self) -> bool {
        self.vnet_hdr
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
