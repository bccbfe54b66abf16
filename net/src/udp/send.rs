//! Sending: a train in as few system calls as the kernel allows, and what to do when it does not.
//!
//! The ladder, from the top: all segments in one `sendmsg` from the pinned source; the same from any source; packets
//! one by one (`sendmmsg`), once more where `EIO` or `EINVAL` has no apparent reason; dropped. Which rung failed is not
//! always in the error: `EINVAL` is both "that source is not ours" and "a segment exceeds the MTU". Then packets go out
//! one by one, and their fate tells which it was.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::addr::RawAddr;
use super::control::ControlWriter;
use super::errors::SendError;
use super::socket::{Counters, UdpSocket};
use super::{LocalAddr, MAX_SEGMENTS, MAX_UDP_PAYLOAD};

/// How long one call may wait in total for room in the kernel's buffers.
const PATIENCE: Duration = Duration::from_millis(4);

/// A train, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// The address to send to, of the socket's family.
    pub to: &'a SocketAddr,
    /// Pins the source address.
    pub from: Option<&'a LocalAddr>,
    /// The whole TOS or traffic class byte.
    pub tos: u8,
    /// Datagrams, back to back.
    pub train: &'a [u8],
    /// The length of each in bytes; the last one may be shorter.
    pub stride: usize,
}

impl<'a> Outbound<'a> {
    /// A source of the other family can't have been meant for this destination.
    pub(super) fn source(&self) -> Option<&'a LocalAddr> {
        self.from.filter(|from| from.ip.is_ipv6() == self.to.is_ipv6())
    }

    /// Whether a single message has to be segmented to carry it.
    pub(super) fn is_segmented(&self) -> bool {
        self.train.len() > self.stride
    }

    pub(super) fn packets(&self) -> usize {
        self.train.len().div_ceil(self.stride.max(1))
    }

    /// The report when all went well.
    pub(super) fn sent_whole(&self) -> SendReport {
        SendReport { packets: self.packets(), bytes: self.train.len(), ..SendReport::default() }
    }
}

/// What became of a train.
#[derive(Debug, Default)]
pub struct SendReport {
    /// Packets handed to the kernel.
    pub packets: usize,
    /// Their bytes, of UDP payload.
    pub bytes: usize,
    /// Packets given up.
    pub dropped: usize,
    /// The pinned source was refused and the packets went out without: forget it.
    pub source_lost: bool,
    /// Why packets were dropped: the last error.
    pub error: Option<io::Error>,
}

/// A train on its way out.
pub(super) struct Transmission<'a> {
    socket: &'a UdpSocket,
    to: &'a SocketAddr,
    raw_to: (RawAddr, libc::socklen_t),
    source: Option<&'a LocalAddr>,
    tos: u8,
    train: &'a [u8],
    stride: usize,
    give_up: Option<Instant>,
    /// The packet at hand was refused once for no apparent reason.
    retried: bool,
    report: SendReport,
}

impl<'a> Transmission<'a> {
    pub fn new(socket: &'a UdpSocket, outbound: &Outbound<'a>) -> Self {
        let Outbound { to, tos, train, stride, .. } = *outbound;
        Self {
            socket,
            to,
            raw_to: RawAddr::encode(to),
            source: outbound.source(),
            tos,
            train,
            stride: if stride == 0 { train.len().max(1) } else { stride },
            give_up: None,
            retried: false,
            report: SendReport::default(),
        }
    }

    pub fn run(mut self) -> SendReport {
        let train = self.train;
        if !self.socket.family().matches(self.to) {
            self.drop(train, io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
            return self.report;
        }
        let had_source = self.source.is_some();
        let segments = (MAX_UDP_PAYLOAD / self.stride).clamp(1, MAX_SEGMENTS);
        for chunk in train.chunks(segments * self.stride) {
            self.send_chunk(chunk);
        }
        self.report.source_lost = had_source && self.source.is_none() && self.report.packets > 0;
        Counters::add(&self.socket.counters.send_drops, self.report.dropped as u64);
        self.report
    }

    /// Sends what one call can carry.
    fn send_chunk(&mut self, chunk: &[u8]) {
        match u16::try_from(self.stride) {
            Ok(stride) if chunk.len() > self.stride && self.socket.gso.allows(self.to.ip(), stride) => {
                self.send_segmented(chunk, stride);
            }
            _ => self.send_one_by_one(chunk),
        }
    }

    fn send_segmented(&mut self, chunk: &[u8], stride: u16) {
        loop {
            let Err(error) = self.sendmsg(chunk, Some(stride)) else {
                Counters::add(&self.socket.counters.gso_sends, 1);
                self.socket.gso.succeeded();
                return self.sent(chunk);
            };
            if error.may_be_gso() {
                return self.fall_back(chunk, stride, &error);
            }
            if !self.overcome(&error) {
                return self.drop(chunk, error);
            }
        }
    }

    /// Sends a refused chunk packet by packet and learns from that whether segmentation was to blame.
    fn fall_back(&mut self, chunk: &[u8], stride: u16, error: &io::Error) {
        let source = self.source;
        self.send_one_by_one(chunk);
        let source_was_to_blame = error.may_be_source() && source.is_some() && self.source.is_none();
        if source_was_to_blame {
            return;
        }
        Counters::add(&self.socket.counters.gso_fallbacks, 1);
        if error.raw_os_error() == Some(libc::EIO) {
            let gave_up = self.socket.gso.refuse_all(self.to.ip());
            if gave_up {
                log::warn!(
                    "the kernel keeps refusing UDP segmentation ({error}): packets go one by one for now"
                );
            }
        } else {
            self.socket.gso.refuse(self.to.ip(), stride);
        }
    }

    fn send_one_by_one(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            let result = if rest.len() <= self.stride {
                self.sendmsg(rest, None).map(|()| 1)
            } else {
                self.sendmmsg(rest)
            };
            match result {
                Ok(packets) => {
                    let (sent, unsent) = rest.split_at((packets * self.stride).min(rest.len()));
                    self.sent(sent);
                    rest = unsent;
                }
                Err(error) if self.overcome(&error) => {}
                Err(error) if error.is_about_one_packet() => {
                    let (refused, others) = rest.split_at(self.stride.min(rest.len()));
                    self.drop(refused, error);
                    self.retried = false;
                    rest = others;
                }
                Err(error) => return self.drop(rest, error),
            }
        }
    }

    /// Whether the same packets should be tried again after `error`, having waited or let go of the source.
    fn overcome(&mut self, error: &io::Error) -> bool {
        if error.is_interrupt() {
            true
        } else if error.is_full() {
            self.wait(error)
        } else if error.may_be_chance() && !mem::replace(&mut self.retried, true) {
            true
        } else {
            error.may_be_source() && self.source.take().is_some()
        }
    }

    /// Waits for room in the send buffer; false once patience is at its end.
    fn wait(&mut self, error: &io::Error) -> bool {
        let now = Instant::now();
        let give_up = *self.give_up.get_or_insert(now + PATIENCE);
        let Some(left) = give_up.checked_duration_since(now).filter(|left| !left.is_zero()) else {
            return false;
        };
        if error.raw_os_error() == Some(libc::ENOBUFS) {
            // A full device queue does not show in the socket's readiness.
            thread::sleep(PATIENCE / 20);
        } else {
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
            let millis = u8::try_from(left.as_millis() + 1).unwrap_or(u8::MAX);
            let _ = poll(&mut fds, PollTimeout::from(millis));
        }
        true
    }

    fn sent(&mut self, packets: &[u8]) {
        self.report.packets += packets.len().div_ceil(self.stride);
        self.report.bytes += packets.len();
        self.retried = false;
    }

    fn drop(&mut self, packets: &[u8], error: io::Error) {
        self.report.dropped += packets.len().div_ceil(self.stride);
        self.report.error = Some(error);
    }

    /// One `sendmsg`, of a datagram or of what the kernel is to cut into datagrams of `segment_size` bytes.
    fn sendmsg(&mut self, chunk: &[u8], segment_size: Option<u16>) -> io::Result<()> {
        let mut control = ControlWriter::new(self.to.is_ipv6(), self.source, self.tos);
        if let Some(size) = segment_size {
            control.push_segment_size(size);
        }
        let mut iovec = iovec_of(chunk);
        let mut message = self.header(&mut control);
        message.msg_iov = &raw mut iovec;
        message.msg_iovlen = 1;
        // SAFETY: the message points at the address in `self`, at `control`, `iovec` and through it at `chunk`, which
        // all outlive the call; the kernel only reads them.
        let result = unsafe {
            libc::sendmsg(
                self.socket.as_fd().as_raw_fd(),
                &raw const message,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// One `sendmmsg` of up to [`MAX_SEGMENTS`] datagrams; returns how many went out, at least one.
    fn sendmmsg(&mut self, packets: &[u8]) -> io::Result<usize> {
        let mut control = ControlWriter::new(self.to.is_ipv6(), self.source, self.tos);
        let header = self.header(&mut control);
        let mut iovecs = [iovec_of(&[]); MAX_SEGMENTS];
        let mut messages = [libc::mmsghdr { msg_hdr: header, msg_len: 0 }; MAX_SEGMENTS];
        let mut count = 0;
        for (packet, (iovec, message)) in
            packets.chunks(self.stride).zip(iovecs.iter_mut().zip(&mut messages))
        {
            *iovec = iovec_of(packet);
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        // SAFETY: the first `count` messages point at the address in `self`, at `control`, at their `iovec` and
        // through it at `packets`, which all outlive the call; the kernel writes only to `msg_len`.
        let result = unsafe {
            libc::sendmmsg(
                self.socket.as_fd().as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        sent_some(result)
    }

    /// A message to the destination, with control data, without content yet.
    fn header(&mut self, control: &mut ControlWriter) -> libc::msghdr {
        // SAFETY: an all-zero msghdr is an empty message.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = ptr::from_mut(&mut self.raw_to.0).cast();
        header.msg_namelen = self.raw_to.1;
        control.attach(&mut header);
        header
    }
}

/// What `sendmmsg` says: that nothing was sent is no success, or who sends the rest would do so for ever.
pub(super) fn sent_some(result: libc::c_int) -> io::Result<usize> {
    match usize::try_from(result) {
        Ok(0) => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        Ok(sent) => Ok(sent),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// `writev` and its kin never write through the pointer, in spite of its type.
pub(super) fn iovec_of(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}
