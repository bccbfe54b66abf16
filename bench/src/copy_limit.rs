//! The copy limit: TUN to UDP to TUN with every offload, and nothing else.
//!
//! What a tunnel with the same system calls as Adit would reach if cryptography, splitting and coalescing cost nothing.
//! A super-packet crosses whole, in an [envelope](HEADER_LEN) with the virtio-net header that it was read with; small
//! packets share a train. Trains are cut wherever the outer MTU demands, and the other end writes to TUN what this end
//! read. No packet is looked into.
//!
//! It limits what comes in super-packets. Packets that come one by one it writes one by one, and an engine that coalesces
//! them for TUN can be faster.

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::process;

use adit_net::poll::{Events, Interest, Poller};
use adit_net::tun::{Offloads, Tun, TunOptions, TunQueue, VirtioNetHdr};
use adit_net::udp::{self, BindOptions, Bound, RecvBatch, UdpSocket};

use crate::crowd_limit;

/// An envelope's header: the length of the packet that follows (2 bytes, in the machine's order), and its virtio-net
/// header.
const HEADER_LEN: usize = 2 + VirtioNetHdr::LEN;
/// The most that an envelope may be long.
const MAX_ENVELOPE: usize = HEADER_LEN + u16::MAX as usize;
/// UDP payload that fits the MTU of Ethernet over IPv4: what a train is cut at.
const STRIDE: usize = 1500 - 20 - 8;
/// The longest train that one call can send.
const MAX_TRAIN: usize = udp::MAX_UDP_PAYLOAD / STRIDE * STRIDE;
/// The longest packet in bytes that crosses whole: no interface that this forwards from may produce a longer one.
pub const MAX_PACKET: usize = MAX_TRAIN - HEADER_LEN;
/// A train of this length is sent without waiting for more: the other end could be working on it.
const EAGER: usize = MAX_TRAIN / 4;
/// Reads of TUN before UDP has its turn.
const READS: usize = 64;
/// Trains per receive call.
const SLOTS: usize = 16;

const TOKEN_TUN: u64 = 0;
const TOKEN_UDP: u64 = 1;

/// Options of the forwarder.
#[derive(clap::Args)]
pub struct Args {
    /// The interface to create
    interface: String,
    /// UDP port to receive at
    #[arg(long, value_name = "PORT")]
    listen: u16,
    /// Where the other end receives
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// Send each packet to a port of its own at that address, as an engine with many peers does
    #[arg(long)]
    crowd: bool,
}

/// Forwards until the process is ended.
///
/// # Errors
/// Of opening the interface and the socket, and when the kernel refuses the offloads that make the limit one.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if args.crowd {
        return crowd_limit::run(&args.interface, args.listen, args.to.ip());
    }
    let tun = Tun::open(&TunOptions::new(args.interface.as_str()))?;
    if tun.offloads() != Offloads::ALL {
        eprintln!(
            "bench: this kernel offers only {:?}: the copy limit is lower than it could be",
            tun.offloads()
        );
    }
    let bound = udp::bind(args.listen, &BindOptions::default())?;
    let socket = socket_for(&bound, &args.to)?;
    Forwarder::new(&tun.queues()[0], socket, args.to).forward()?;
    Ok(())
}

fn socket_for<'a>(bound: &'a Bound, to: &SocketAddr) -> Result<&'a UdpSocket, String> {
    bound.sockets[0].for_addr(to).ok_or_else(|| format!("this host has no address family for {to}"))
}

struct Forwarder<'a> {
    queue: &'a TunQueue,
    socket: &'a UdpSocket,
    to: SocketAddr,
    /// A train, and room behind it for the packet that may not fit it any more.
    buffer: Vec<u8>,
    batch: RecvBatch,
}

impl<'a> Forwarder<'a> {
    fn new(queue: &'a TunQueue, socket: &'a UdpSocket, to: SocketAddr) -> Self {
        let buffer = vec![0; EAGER + MAX_ENVELOPE];
        Self { queue, socket, to, buffer, batch: RecvBatch::new(SLOTS) }
    }

    fn forward(&mut self) -> io::Result<()> {
        let poller = Poller::new()?;
        poller.add(self.queue, TOKEN_TUN, Interest::Read)?;
        poller.add(self.socket, TOKEN_UDP, Interest::Read)?;
        let mut events = Events::with_capacity(2);
        loop {
            poller.wait(&mut events, None)?;
            for event in events.iter() {
                match event.token {
                    TOKEN_TUN => self.send()?,
                    _ => self.receive()?,
                }
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let mut train = 0;
        for _ in 0..READS {
            let (header, packet) = self.buffer[train..].split_at_mut(HEADER_LEN);
            let Some(read) = self.queue.read(packet)? else { break };
            write_header(header, read.hdr, read.len);
            let envelope = HEADER_LEN + read.len;
            if train + envelope > MAX_TRAIN {
                self.flush(0..train);
                self.flush(train..train + envelope);
                train = 0;
            } else if train + envelope >= EAGER {
                self.flush(0..train + envelope);
                train = 0;
            } else {
                train += envelope;
            }
        }
        self.flush(0..train);
        Ok(())
    }

    fn flush(&self, train: Range<usize>) {
        if train.is_empty() {
            return;
        }
        let report = self.socket.send(&self.to, None, 0, &self.buffer[train], STRIDE);
        // A full buffer loses packets, as it does for every engine; anything else spoils the measurement.
        if let Some(error) = report.error.filter(|error| error.kind() != io::ErrorKind::WouldBlock) {
            eprintln!("bench: the copy limit cannot send: {error}");
            process::exit(1);
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        match self.socket.recv(&mut self.batch) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && !udp::is_transient(&error) => {
                return Err(error);
            }
            Err(_) => return Ok(()),
            Ok(_) => {}
        }
        for (_, train) in self.batch.trains() {
            let mut rest = &*train;
            // Half an envelope, whose other half the kernel dropped, is lost.
            while let Some((hdr, packet, after)) = open_envelope(rest) {
                // An interface that is going down takes nothing; whoever measures will notice.
                let _ = self.queue.write(&hdr, &[IoSlice::new(packet)]);
                rest = after;
            }
        }
        Ok(())
    }
}

fn write_header(header: &mut [u8], hdr: VirtioNetHdr, len: usize) {
    let len = u16::try_from(len).expect("TUN gives no more than the buffer, which is 64 KiB");
    header[..2].copy_from_slice(&len.to_ne_bytes());
    header[2..].copy_from_slice(&hdr.to_bytes());
}

/// The virtio-net header and the packet of the first envelope, and what follows it; `None` if it is not whole.
fn open_envelope(train: &[u8]) -> Option<(VirtioNetHdr, &[u8], &[u8])> {
    let (len, rest) = train.split_first_chunk::<2>()?;
    let (hdr, rest) = rest.split_first_chunk::<{ VirtioNetHdr::LEN }>()?;
    let (packet, after) = rest.split_at_checked(usize::from(u16::from_ne_bytes(*len)))?;
    Some((VirtioNetHdr::from_bytes(*hdr), packet, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_envelopes_give_back_what_was_put_in_and_a_part_gives_nothing() {
        let hdr = VirtioNetHdr { flags: VirtioNetHdr::NEEDS_CSUM, gso_size: 1368, ..VirtioNetHdr::default() };
        let mut train = vec![7; HEADER_LEN + 3000 + HEADER_LEN];
        write_header(&mut train[..HEADER_LEN], hdr, 3000);
        write_header(&mut train[HEADER_LEN + 3000..], VirtioNetHdr::default(), 0);
        let (back, packet, after) = open_envelope(&train).unwrap();
        assert_eq!((back, packet.len(), after.len()), (hdr, 3000, HEADER_LEN));
        assert_eq!(open_envelope(after), Some((VirtioNetHdr::default(), &[][..], &[][..])));
        for len in [0, 1, 11, 12, STRIDE, 2 * STRIDE, HEADER_LEN + 2999] {
            assert_eq!(open_envelope(&train[..len]), None, "{len}");
        }
    }
}
