//! Receiving: one `recvmmsg` fills a batch of slots, each with a train.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::addr::{LocalAddr, RawAddr};
use super::control::{Control, ControlBuffer};
use super::socket::{Counters, UdpSocket};

/// Bytes that a slot can take: more than any UDP payload or coalesced train.
pub const SLOT_LEN: usize = 1 << 16;

/// Size of a slot's memory. Not a power of two, or the first bytes of all slots, which every packet touches, would
/// compete for the same few cache sets.
const SLOT_DISTANCE: usize = SLOT_LEN + 17 * 64;

/// A received train and what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who sent it. The scope of a v6 address is kept for link-local ones only.
    pub from: SocketAddr,
    /// Which address of ours it was sent to: of every datagram in the train.
    pub local: Option<LocalAddr>,
    /// The ECN bits of the outer header (the lower two of the TOS byte), of every datagram in the train.
    pub ecn: u8,
    /// Bytes in the train.
    pub len: usize,
    /// Bytes of each datagram but the last, which may be shorter; `len` if there is only one.
    pub stride: usize,
}

impl Received {
    /// How many datagrams the train has.
    pub fn packets(&self) -> usize {
        self.len.div_ceil(self.stride.max(1)).max(1)
    }
}

/// The memory of a slot: room for the longest train.
#[derive(Debug)]
pub struct RecvBuffer(Box<[u8]>);

impl Default for RecvBuffer {
    fn default() -> Self {
        Self(vec![0; SLOT_DISTANCE].into())
    }
}

impl RecvBuffer {
    /// Its length in bytes: some more than [`SLOT_LEN`].
    pub const LEN: usize = SLOT_DISTANCE;

    /// The train of `len` bytes that was received into it.
    ///
    /// # Panics
    ///
    /// If `len` is more than [`SLOT_LEN`].
    pub fn train_mut(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= SLOT_LEN);
        &mut self.0[..len]
    }
}

/// Reusable slots to receive into.
///
/// Each slot reserves 66,624 bytes of address space; memory is used only up to the longest train that it ever held,
/// since pages are touched on first use. 16 slots are thus 1.02 MiB at most.
pub struct RecvBatch {
    slots: Box<[RecvBuffer]>,
    addrs: Box<[RawAddr]>,
    controls: Box<[ControlBuffer]>,
    iovecs: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
    /// The trains of the last call, each with its slot.
    received: Vec<(usize, Received)>,
    /// How many messages, from the first, the last call overwrote.
    used: usize,
    /// How many slots the next call may fill.
    limit: usize,
}

// SAFETY: the raw pointers in `iovecs` and `messages` lead only into this value's own boxes, which stay where they are
// while it moves. A slot whose buffer was exchanged was in use by the last call, and is pointed at the new one before
// the next. Nothing follows them elsewhere.
unsafe impl Send for RecvBatch {}
// SAFETY: as above; nothing follows them through a shared reference.
unsafe impl Sync for RecvBatch {}

impl RecvBatch {
    /// A batch of `slots` slots, at least one.
    pub fn new(slots: usize) -> Self {
        let slots = slots.max(1);
        let iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: an all-zero mmsghdr is an empty message.
        let message: libc::mmsghdr = unsafe { mem::zeroed() };
        Self {
            slots: (0..slots).map(|_| RecvBuffer::default()).collect(),
            addrs: vec![RawAddr::unset(); slots].into(),
            controls: vec![ControlBuffer::new(); slots].into(),
            iovecs: vec![iovec; slots].into(),
            messages: vec![message; slots].into(),
            received: Vec::with_capacity(slots),
            used: slots,
            limit: slots,
        }
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.messages.len()
    }

    /// How many trains the last call received.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the last call received nothing.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// The `index`th train of the last call, below [`len`](Self::len).
    pub fn get_mut(&mut self, index: usize) -> Option<(&Received, &mut [u8])> {
        let (slot, received) = self.received.get(index)?;
        Some((received, self.slots[*slot].train_mut(received.len)))
    }

    /// Takes the `index`th train of the last call out, in exchange for another buffer; a train is to be taken once.
    ///
    /// # Panics
    ///
    /// If there are not so many trains.
    pub fn take(&mut self, index: usize, buffer: &mut RecvBuffer) -> Received {
        let (slot, received) = self.received[index];
        mem::swap(&mut self.slots[slot], buffer);
        received
    }

    /// The trains of the last call in the order of arrival.
    pub fn trains(&mut self) -> impl Iterator<Item = (&Received, &mut [u8])> {
        let slots = self.slots.iter_mut().enumerate();
        let mut wanted = self.received.iter().peekable();
        slots.filter_map(move |(index, slot)| {
            let (_, received) = wanted.next_if(|(wanted, _)| *wanted == index)?;
            Some((received, slot.train_mut(received.len)))
        })
    }

    /// Lets the next calls fill `slots` slots at most, and at least one.
    pub fn set_limit(&mut self, slots: usize) {
        self.limit = slots.clamp(1, self.slots());
    }

    /// Whether the last call filled as many slots as it might: more may be waiting.
    pub fn is_full(&self) -> bool {
        self.received.len() >= self.limit
    }

    /// Points the messages that the last call overwrote at their slots again, with their full capacities.
    fn prepare(&mut self) {
        let parts = self.addrs.iter_mut().zip(&mut self.controls).zip(&mut self.iovecs).zip(&mut self.slots);
        for (message, (((addr, control), iovec), slot)) in self.messages.iter_mut().zip(parts).take(self.used)
        {
            *iovec = libc::iovec { iov_base: slot.0.as_mut_ptr().cast(), iov_len: SLOT_LEN };
            let header = &mut message.msg_hdr;
            header.msg_name = ptr::from_mut(addr).cast();
            header.msg_namelen = RawAddr::CAPACITY;
            header.msg_iov = iovec;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr();
            header.msg_controllen = ControlBuffer::CAPACITY as _;
            header.msg_flags = 0;
            message.msg_len = 0;
        }
        // What a call that fails leaves behind in the first one is not documented.
        self.used = 1;
    }

    /// Notes what the first `filled` messages hold; returns how many were unusable.
    fn collect(&mut self, filled: usize) -> usize {
        for (slot, message) in self.messages.iter().enumerate().take(filled) {
            // SAFETY: `prepare` pointed the message at its control buffer, all of it initialised, and the kernel set
            // `msg_controllen` to what it wrote there.
            let received = unsafe { describe(message, &self.addrs[slot]) };
            self.received.extend(received.map(|received| (slot, received)));
        }
        filled - self.received.len()
    }
}

/// Receives once into `batch`; see [`UdpSocket::recv`].
pub(super) fn receive(socket: &UdpSocket, batch: &mut RecvBatch) -> io::Result<usize> {
    batch.received.clear();
    batch.prepare();
    let filled = loop {
        // SAFETY: `prepare` pointed each message at buffers of the stated capacities that live in `batch`, which is
        // borrowed mutably throughout.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                batch.messages.as_mut_ptr(),
                batch.limit as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        match usize::try_from(result) {
            Ok(filled) => break filled,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    batch.used = filled + 1;
    let dropped = batch.collect(filled);
    let trains = batch.received.iter().filter(|(_, received)| received.stride < received.len).count();
    Counters::add(&socket.counters.recv_drops, dropped as u64);
    Counters::add(&socket.counters.gro_trains, trains as u64);
    Ok(batch.received.len())
}

/// What a received message holds; `None` if it, or what describes it, was cut short.
///
/// # Safety
///
/// `message.msg_hdr` must describe initialised control data, as for [`Control::parse`].
unsafe fn describe(message: &libc::mmsghdr, addr: &RawAddr) -> Option<Received> {
    let header = &message.msg_hdr;
    // Without its control data a train can't be told from a datagram, so that is no less fatal.
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return None;
    }
    let len = message.msg_len as usize;
    let from = addr.decode()?;
    // SAFETY: the caller's promise is the same.
    let control = unsafe { Control::parse(header) };
    let stride = control.segment_size.filter(|&size| size > 0 && size < len).unwrap_or(len);
    (len <= SLOT_LEN).then_some(Received { from, local: control.local, ecn: control.tos & 0b11, len, stride })
}
