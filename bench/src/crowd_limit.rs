//! The copy limit of sending to a crowd: packets from TUN, each to the peer that its destination belongs to, by the
//! system calls that Adit makes, and nothing else.
//!
//! There are as many threads, TUN queues and sockets as Adit has, and packets leave as in one of its turns: neighbours
//! for one peer as one message that the kernel segments, all messages by one call. But no table of routes is kept, no
//! session, no key; a message has room for header and tag, with nothing in it. How many peers slow this down is what they
//! cost the kernel.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::thread;

use adit_net::packet;
use adit_net::poll::{Events, Interest, Poller};
use adit_net::tun::{QUEUES_OF_A_HOST, Tun, TunOptions, TunQueue};
use adit_net::udp::{self, BindOptions, Outbound, UdpSocket};
use adit_proto::message::{DATA_HEADER_LEN, DATA_OVERHEAD};

use crate::peers::crowd::port_of;

/// Packets that leave together at most.
const PACKETS: usize = 64;
/// How long a packet may be, in bytes.
const MAX_PACKET: usize = 2_048;

/// Forwards from `interface` to the crowd at `to`, until the process is ended.
///
/// # Errors
/// Of opening the interface and the sockets.
pub fn run(interface: &str, listen: u16, to: IpAddr) -> Result<(), Box<dyn Error>> {
    let workers = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let queues = workers.get() * QUEUES_OF_A_HOST;
    let tun = Tun::open(&TunOptions { queues, ..TunOptions::new(interface) })?;
    let bound = udp::bind(listen, &BindOptions { workers, ..BindOptions::default() })?;
    thread::scope(|scope| {
        for (queues, pair) in tun.queues().chunks(QUEUES_OF_A_HOST).zip(&bound.sockets) {
            let socket = pair.for_addr(&(to, 0).into()).ok_or("this host lacks the address family")?;
            let mut forwarder = Forwarder::new(queues, socket, to);
            scope.spawn(move || forwarder.forward().expect("an interface that is there can be read"));
        }
        Ok(())
    })
}

/// Messages for one peer, back to back in the buffer.
struct Train {
    to: SocketAddr,
    stride: usize,
    place: Range<usize>,
}

struct Forwarder<'a> {
    queues: &'a [TunQueue],
    socket: &'a UdpSocket,
    to: IpAddr,
    buffer: Vec<u8>,
    trains: Vec<Train>,
}

impl<'a> Forwarder<'a> {
    fn new(queues: &'a [TunQueue], socket: &'a UdpSocket, to: IpAddr) -> Self {
        let buffer = vec![0; PACKETS * (MAX_PACKET + DATA_OVERHEAD)];
        Self { queues, socket, to, buffer, trains: Vec::with_capacity(PACKETS) }
    }

    fn forward(&mut self) -> io::Result<()> {
        let poller = Poller::new()?;
        for (queue, token) in self.queues.iter().zip(0..) {
            poller.add(queue, token, Interest::Read)?;
        }
        let mut events = Events::with_capacity(self.queues.len());
        loop {
            poller.wait(&mut events, None)?;
            for event in events.iter() {
                self.turn(event.token as usize)?;
            }
        }
    }

    fn turn(&mut self, queue: usize) -> io::Result<()> {
        let mut end = 0;
        for _ in 0..PACKETS {
            let packet = &mut self.buffer[end + DATA_HEADER_LEN..][..MAX_PACKET];
            let Some(read) = self.queues[queue].read(packet)? else { break };
            let Some(port) = packet::parse(packet).and_then(|ip| port_of(ip.destination)) else { continue };
            let message = end..end + read.len + DATA_OVERHEAD;
            end = message.end;
            self.add((self.to, port).into(), message);
        }
        let buffer = &self.buffer;
        self.socket.send_all(
            &self.trains,
            |train| Outbound {
                to: &train.to,
                from: None,
                tos: 0,
                train: &buffer[train.place.clone()],
                stride: train.stride,
            },
            |_, _| (),
        );
        self.trains.clear();
        Ok(())
    }

    fn add(&mut self, to: SocketAddr, message: Range<usize>) {
        match self.trains.last_mut() {
            Some(last) if last.to == to && last.stride == message.len() => last.place.end = message.end,
            _ => self.trains.push(Train { to, stride: message.len(), place: message }),
        }
    }
}
