//! The calls in their place: a worker's way out and way back, reduced to what cannot be left out. The engine does more
//! for a packet, so it would gain less than these do.

use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use adit_crypto::TAG_LEN;
use adit_crypto::aead::{self, Key};
use adit_net::tun::VirtioNetHdr;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};

use super::calls::write_singly;
use super::ring::Ring;
use super::world::{HEADERS_LEN, Tunnel, arrive_at};
use super::{BATCH, Comparison, MAX_LEN, Result, timed};

/// Of a transport data message before its ciphertext, in bytes.
const MESSAGE_HEADER_LEN: usize = 16;

/// A batch as one train of messages, and two sockets between which it goes by one call each.
struct Train<'a> {
    key: Key,
    from: &'a UdpSocket,
    to: &'a UdpSocket,
    bytes: Vec<u8>,
    stride: usize,
}

impl<'a> Train<'a> {
    fn new([from, to]: &'a [UdpSocket; 2], payload_len: usize) -> Result<Self> {
        setsockopt(to, sockopt::UdpGroSegment, &true)?;
        let stride = MESSAGE_HEADER_LEN + (HEADERS_LEN + payload_len).next_multiple_of(16) + TAG_LEN;
        Ok(Self { key: Key::new(&[1; 32]), from, to, bytes: vec![0; BATCH * stride], stride })
    }

    fn put(&mut self, i: usize, packet: &[u8]) {
        self.bytes[i * self.stride + MESSAGE_HEADER_LEN..][..packet.len()].copy_from_slice(packet);
    }

    /// The counters repeat, which nothing but a benchmark may do.
    fn seal_and_send(&mut self) -> Result<()> {
        aead::seal_train(&self.key, 0, &mut self.bytes, self.stride, MESSAGE_HEADER_LEN);
        let segment = u16::try_from(self.stride)?;
        let control = [ControlMessage::UdpGsoSegments(&segment)];
        let message = [IoSlice::new(&self.bytes)];
        sendmsg::<()>(self.from.as_raw_fd(), &message, &control, MsgFlags::empty(), None)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let len = self.to.recv(&mut self.bytes)?;
        if len == self.bytes.len() { Ok(()) } else { Err(format!("{len} bytes of a train came").into()) }
    }

    fn receive_and_open(&mut self) -> Result<()> {
        self.receive()?;
        let counters: [u64; BATCH] = std::array::from_fn(|i| i as u64);
        let mut opened = [false; BATCH];
        aead::open_train(&self.key, &counters, &mut self.bytes, self.stride, MESSAGE_HEADER_LEN, &mut opened);
        if opened == [true; BATCH] { Ok(()) } else { Err("a message is not authentic".into()) }
    }
}

/// Read a batch from TUN, seal it, send it as a train.
pub(super) fn out<'a>(tunnel: &'a Tunnel, sockets: &'a [UdpSocket; 2], len: usize) -> Result<Comparison<'a>> {
    let queue = &tunnel.tun.queues()[0];
    let mut ring = Ring::new(queue)?;
    let (mut train, mut ring_train) = (Train::new(sockets, len)?, Train::new(sockets, len)?);
    let mut buf = [0; MAX_LEN];
    let plain = move || {
        tunnel.fill(len, BATCH)?;
        let time = timed(BATCH, || {
            let mut count = 0;
            while count < BATCH
                && let Some(read) = queue.read(&mut buf)?
            {
                train.put(count, &buf[..read.len]);
                count += 1;
            }
            train.seal_and_send()?;
            Ok(count)
        })?;
        train.receive()?;
        Ok(time)
    };
    let batch = move || {
        tunnel.fill(len, BATCH)?;
        let time = timed(BATCH, || {
            let count = ring.read()?;
            for (i, buffer) in ring.buffers()[..count].iter().enumerate() {
                ring_train.put(i, &buffer[..HEADERS_LEN + len]);
            }
            ring_train.seal_and_send()?;
            Ok(count)
        })?;
        ring_train.receive()?;
        Ok(time)
    };
    Ok(Comparison {
        what: format!("way out, {len} B: readv, io_uring"),
        packets: BATCH,
        ways: [Box::new(plain), Box::new(batch)],
    })
}

/// Receive a train, open it, write a batch to TUN: not the packets that were opened, but others like them.
pub(super) fn back<'a>(
    tunnel: &'a Tunnel,
    sockets: &'a [UdpSocket; 2],
    len: usize,
) -> Result<Comparison<'a>> {
    let queue = &tunnel.tun.queues()[0];
    let packet = tunnel.bare_packet_for_socket(len)?;
    let packet_len = packet.len();
    let mut ring = Ring::new(queue)?;
    ring.fill(&packet);
    let (mut train, mut ring_train) = (Train::new(sockets, len)?, Train::new(sockets, len)?);
    let plain = move || {
        train.seal_and_send()?;
        let time = timed(BATCH, || {
            train.receive_and_open()?;
            write_singly(queue, &VirtioNetHdr::default(), &packet)
        })?;
        arrive_at(&tunnel.socket, time)
    };
    let batch = move || {
        ring_train.seal_and_send()?;
        let time = timed(BATCH, || {
            ring_train.receive_and_open()?;
            Ok(ring.write(packet_len)?)
        })?;
        arrive_at(&tunnel.socket, time)
    };
    Ok(Comparison {
        what: format!("way back, {len} B: writev, io_uring"),
        packets: BATCH,
        ways: [Box::new(plain), Box::new(batch)],
    })
}
