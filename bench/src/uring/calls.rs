//! The calls one by one.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use adit_net::tun::{TunQueue, VirtioNetHdr};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};

use super::ring::Ring;
use super::world::{Tunnel, arrive_at};
use super::{BATCH, Comparison, MAX_LEN, Result, timed};

/// The plain way reads until nothing is left, as the engine does. That of io_uring cannot know how many packets wait.
pub(super) fn tun_read(tunnel: &Tunnel, len: usize, waiting: usize) -> Result<Comparison<'_>> {
    let queue = &tunnel.tun.queues()[0];
    let mut ring = Ring::new(queue)?;
    let mut buf = [0; MAX_LEN];
    let plain = move || {
        tunnel.fill(len, waiting)?;
        timed(waiting, || {
            let mut count = 0;
            while queue.read(&mut buf)?.is_some() {
                count += 1;
            }
            Ok(count)
        })
    };
    let batch = move || {
        tunnel.fill(len, waiting)?;
        timed(waiting, || Ok(ring.read()?))
    };
    Ok(Comparison {
        what: format!("TUN, {len} B, {waiting} waiting: readv, io_uring"),
        packets: waiting,
        ways: [Box::new(plain), Box::new(batch)],
    })
}

/// Writes a batch by as many calls, as the engine writes what it cannot join.
pub(super) fn write_singly(queue: &TunQueue, hdr: &VirtioNetHdr, packet: &[u8]) -> Result<usize> {
    for _ in 0..BATCH {
        queue.write(hdr, &[IoSlice::new(packet)])?;
    }
    Ok(BATCH)
}

pub(super) fn tun_write(tunnel: &Tunnel, len: usize) -> Result<Comparison<'_>> {
    let queue = &tunnel.tun.queues()[0];
    let packet = tunnel.bare_packet_for_socket(len)?;
    let packet_len = packet.len();
    let mut ring = Ring::new(queue)?;
    ring.fill(&packet);
    let plain = move || {
        let write = || write_singly(queue, &VirtioNetHdr::default(), &packet);
        arrive_at(&tunnel.socket, timed(BATCH, write)?)
    };
    let batch = move || arrive_at(&tunnel.socket, timed(BATCH, || Ok(ring.write(packet_len)?))?);
    Ok(Comparison {
        what: format!("TUN, {len} B: writev, io_uring"),
        packets: BATCH,
        ways: [Box::new(plain), Box::new(batch)],
    })
}

pub(super) fn udp_receive([here, there]: &[UdpSocket; 2], len: usize) -> Result<Comparison<'_>> {
    let fill = move || (0..BATCH).try_for_each(|_| there.send(&[0; MAX_LEN][..len]).map(drop));
    let mut ring = Ring::new(here)?;
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut buffers = Box::new([[0; MAX_LEN]; BATCH]);
    let plain = move || {
        fill()?;
        timed(BATCH, || {
            let mut messages = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
            let flags = MsgFlags::MSG_DONTWAIT;
            Ok(recvmmsg(here.as_raw_fd(), &mut headers, &mut messages, flags, None)?.count())
        })
    };
    let batch = move || {
        fill()?;
        timed(BATCH, || Ok(ring.recv()?))
    };
    Ok(Comparison {
        what: format!("UDP, {len} B: recvmmsg, io_uring"),
        packets: BATCH,
        ways: [Box::new(plain), Box::new(batch)],
    })
}

pub(super) fn udp_send([here, there]: &[UdpSocket; 2], len: usize) -> Result<Comparison<'_>> {
    let mut ring = Ring::new(here)?;
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let payload = vec![0; len];
    let plain = move || {
        let send = || {
            let messages = [[IoSlice::new(&payload)]; BATCH];
            let flags = MsgFlags::MSG_DONTWAIT;
            Ok(sendmmsg(here.as_raw_fd(), &mut headers, &messages, [None; BATCH], [], flags)?.count())
        };
        arrive_at(there, timed(BATCH, send)?)
    };
    let batch = move || arrive_at(there, timed(BATCH, || Ok(ring.send(len)?))?);
    Ok(Comparison {
        what: format!("UDP, {len} B: sendmmsg, io_uring"),
        packets: BATCH,
        ways: [Box::new(plain), Box::new(batch)],
    })
}

/// For the scale: what the same datagrams cost as one super-packet.
pub(super) fn tun_super_packet(tunnel: &Tunnel, len: usize) -> Result<Comparison<'_>> {
    let queue = &tunnel.tun.queues()[0];
    let (hdr, packet) = tunnel.packet_for_socket(len)?;
    let (super_hdr, super_packet) = tunnel.packet_for_socket(BATCH * len)?;
    let gso_size = u16::try_from(len)?;
    let super_hdr = VirtioNetHdr { gso_type: VirtioNetHdr::GSO_UDP_L4, gso_size, ..super_hdr };
    let each = move || arrive_at(&tunnel.socket, timed(BATCH, || write_singly(queue, &hdr, &packet))?);
    let at_once = move || {
        let write = || {
            queue.write(&super_hdr, &[IoSlice::new(&super_packet)])?;
            Ok(BATCH)
        };
        arrive_at(&tunnel.socket, timed(BATCH, write)?)
    };
    Ok(Comparison {
        what: format!("TUN, {len} B: {BATCH} writev, one super-packet"),
        packets: BATCH,
        ways: [Box::new(each), Box::new(at_once)],
    })
}
