//! Sending several trains, each to an address of its own, by one `sendmmsg`.
//!
//! Where a host serves many peers in turn, the calls are what trains of one packet cost most. The kernel stops at the
//! first train that it refuses, and tells why only if that is the first of a call: this one then goes down the ladder of
//! `send` alone, and the others go on behind it.

use std::io;
use std::iter;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::addr::RawAddr;
use super::control::ControlWriter;
use super::send::{Outbound, SendReport, Transmission, iovec_of, sent_some};
use super::socket::{Counters, UdpSocket};
use super::{MAX_SEGMENTS, MAX_UDP_PAYLOAD};

/// Trains in one call at most.
const MAX_MESSAGES: usize = 64;

/// Sends `items`, each a train as `outbound` tells it, in order; `done` learns what became of each.
pub(super) fn send_all<'a, T>(
    socket: &UdpSocket,
    items: &'a [T],
    outbound: impl Fn(&'a T) -> Outbound<'a>,
    mut done: impl FnMut(&'a T, SendReport),
) {
    let mut rest = items;
    while let Some((first, others)) = rest.split_first() {
        let messages = rest.iter().take(MAX_MESSAGES).map(&outbound);
        let together = messages.take_while(|outbound| is_one_message(socket, outbound)).count();
        if together < 2 {
            done(first, Transmission::new(socket, &outbound(first)).run());
            rest = others;
        } else {
            let (items, behind) = rest.split_at(together);
            send_together(socket, items, &outbound, &mut done);
            rest = behind;
        }
    }
}

/// Whether one message can carry the train, as far as is known.
fn is_one_message(socket: &UdpSocket, outbound: &Outbound<'_>) -> bool {
    let Outbound { to, train, stride, .. } = *outbound;
    let is_carried = !outbound.is_segmented()
        || train.len() <= MAX_UDP_PAYLOAD
            && outbound.packets() <= MAX_SEGMENTS
            && u16::try_from(stride).is_ok_and(|stride| !socket.gso.refuses(to.ip(), stride));
    is_carried && socket.family().matches(to)
}

/// Sends trains of one message each, at most [`MAX_MESSAGES`].
fn send_together<'a, T>(
    socket: &UdpSocket,
    items: &'a [T],
    outbound: impl Fn(&'a T) -> Outbound<'a>,
    mut done: impl FnMut(&'a T, SendReport),
) {
    // Written to only as far as there are trains.
    let mut envelopes = [const { MaybeUninit::<Envelope>::uninit() }; MAX_MESSAGES];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_MESSAGES];
    let places = iter::zip(&mut envelopes, &mut messages);
    for (outbound, (envelope, message)) in items.iter().map(&outbound).zip(places) {
        message.write(envelope.write(Envelope::new(&outbound)).message());
    }
    let mut gone = 0;
    while let [first, ..] = &items[gone..] {
        // SAFETY: as many messages were written as there are items. They point into their envelopes, which nobody
        // touches any more, and through these at the trains' bytes; all live on.
        let result = unsafe { sendmmsg(socket, &mut messages[gone..items.len()]) };
        let Ok(sent) = result else {
            done(first, Transmission::new(socket, &outbound(first)).run());
            gone += 1;
            continue;
        };
        let sent = &items[gone..gone + sent];
        note_segmented(socket, sent.iter().map(&outbound));
        sent.iter().for_each(|item| done(item, outbound(item).sent_whole()));
        gone += sent.len();
    }
}

/// Sends as many messages as the kernel takes; returns how many, at least one.
///
/// # Safety
/// All messages must have been written, and what they point at must be alive.
unsafe fn sendmmsg(socket: &UdpSocket, messages: &mut [MaybeUninit<libc::mmsghdr>]) -> io::Result<usize> {
    // SAFETY: the caller vouches for the messages, of which the kernel writes only to `msg_len`.
    let result = unsafe {
        libc::sendmmsg(
            socket.as_fd().as_raw_fd(),
            messages.as_mut_ptr().cast(),
            messages.len() as libc::c_uint,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    sent_some(result)
}

fn note_segmented<'a>(socket: &UdpSocket, sent: impl Iterator<Item = Outbound<'a>>) {
    let segmented = sent.filter(Outbound::is_segmented).count();
    if segmented > 0 {
        Counters::add(&socket.counters.gso_sends, segmented as u64);
        socket.gso.succeeded();
    }
}

/// What a message points at.
struct Envelope {
    address: (RawAddr, libc::socklen_t),
    control: ControlWriter,
    iovec: libc::iovec,
}

impl Envelope {
    fn new(outbound: &Outbound<'_>) -> Self {
        let Outbound { to, tos, train, stride, .. } = *outbound;
        let mut control = ControlWriter::new(to.is_ipv6(), outbound.source(), tos);
        if let (true, Ok(stride)) = (outbound.is_segmented(), u16::try_from(stride)) {
            control.push_segment_size(stride);
        }
        Self { address: RawAddr::encode(to), control, iovec: iovec_of(train) }
    }

    /// A message that points here: it is good for as long as the envelope stays where it is.
    fn message(&mut self) -> libc::mmsghdr {
        // SAFETY: an all-zero msghdr is an empty message.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = ptr::from_mut(&mut self.address.0).cast();
        header.msg_namelen = self.address.1;
        header.msg_iov = &raw mut self.iovec;
        header.msg_iovlen = 1;
        self.control.attach(&mut header);
        libc::mmsghdr { msg_hdr: header, msg_len: 0 }
    }
}
