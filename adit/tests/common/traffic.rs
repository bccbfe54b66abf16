//! Traffic through a tunnel that is compared byte by byte where it arrives: TCP streams, and flows of datagrams of which
//! none may be lost or overtaken.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use lab::pair::Side;
use lab::{Pair, seconds};
use nix::sys::socket::{setsockopt, sockopt};

/// Bytes of a stream, in either direction.
const STREAM: usize = 1 << 20;
/// What may be in flight, lest it overflow a buffer of a program that leaves it at 208 KiB: the kernel charges more than
/// 2 KiB for each datagram.
const DATAGRAMS_IN_FLIGHT: usize = 80;
const BYTES_IN_FLIGHT: usize = 80_000;

/// Which address family within the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    V4,
    V6,
}

impl Inner {
    pub const BOTH: [Inner; 2] = [Inner::V4, Inner::V6];

    fn of(self, side: &Side) -> IpAddr {
        let text = if self == Inner::V4 { side.inner4() } else { side.inner6() };
        text.parse().expect("an address")
    }
}

/// One TCP connection from `a` to `b`, both directions at once.
pub fn stream(pair: &Pair, inner: Inner) {
    let to = inner.of(&pair.b);
    let listener = pair.b.ns.enter(|| TcpListener::bind((to, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let client = pair.a.ns.enter(|| TcpStream::connect_timeout(&address, seconds(30))).unwrap();
    let (server, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        for (end, out, back) in [(&client, 1, 2), (&server, 2, 1)] {
            end.set_read_timeout(Some(seconds(20))).unwrap();
            end.set_write_timeout(Some(seconds(20))).unwrap();
            scope.spawn(move || {
                let mut writer = end;
                writer.write_all(&pattern(STREAM, out)).expect("the stream goes on");
                writer.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let (mut reader, mut received) = (end, Vec::new());
                reader.read_to_end(&mut received).expect("the stream goes on");
                assert!(received == pattern(STREAM, back), "{inner:?}: the stream changed on its way");
            });
        }
    });
}

/// Datagrams that arrive as they were sent: each whole, in order, none lost.
pub struct Flow {
    sender: UdpSocket,
    receiver: UdpSocket,
    /// Bytes of a datagram, and of one of every other send.
    size: usize,
    odd_size: usize,
    /// Datagrams of a send.
    count: usize,
    /// Sends in flight.
    window: u32,
    sends: u32,
}

impl Flow {
    /// Each send is one datagram of `size` bytes.
    pub fn of_datagrams(from: &Side, to: &Side, inner: Inner, size: usize) -> Flow {
        let bind = |side: &Side| side.ns.enter(|| UdpSocket::bind((inner.of(side), 0))).unwrap();
        let (sender, receiver) = (bind(from), bind(to));
        let (source, destination) = (sender.local_addr().unwrap(), receiver.local_addr().unwrap());
        // Each hears of the other alone.
        let connect = |socket: &UdpSocket, peer: SocketAddr| socket.connect(peer).unwrap();
        connect(&sender, destination);
        connect(&receiver, source);
        receiver.set_read_timeout(Some(seconds(30))).unwrap();
        Flow { sender, receiver, size, odd_size: size, count: 1, window: window(1, size), sends: 0 }
    }

    /// Each send is `count` datagrams of `size` bytes, handed over as one (`UDP_SEGMENT`), as QUIC stacks do.
    pub fn of_trains(from: &Side, to: &Side, inner: Inner, size: usize, count: usize) -> Flow {
        let flow = Flow::of_datagrams(from, to, inner, size);
        setsockopt(&flow.sender, sockopt::UdpGsoSegment, &i32::try_from(size).unwrap()).unwrap();
        Flow { count, window: window(count, size), ..flow }
    }

    /// Every other datagram has `size` bytes, which is less.
    #[must_use]
    pub fn alternating_with(self, size: usize) -> Flow {
        Flow { odd_size: size, ..self }
    }

    /// Lets each send arrive before the next, so that no two can travel as one.
    #[must_use]
    pub fn one_at_a_time(self) -> Flow {
        Flow { window: 1, ..self }
    }

    /// Goes on with so many sends.
    #[track_caller]
    pub fn run(&mut self, sends: u32) {
        let end = self.sends + sends;
        let mut sent = self.sends;
        while self.sends < end {
            while sent < end && sent - self.sends < self.window {
                self.sender.send(&self.train(sent)).expect("sent");
                sent += 1;
            }
            self.receive();
            self.sends += 1;
        }
    }

    /// What send number `send` consists of: bytes that tell their place.
    fn train(&self, send: u32) -> Vec<u8> {
        pattern(self.size_of(send) * self.count, send.wrapping_mul(2))
    }

    fn size_of(&self, send: u32) -> usize {
        if send.is_multiple_of(2) { self.size } else { self.odd_size }
    }

    #[track_caller]
    fn receive(&self) {
        let mut datagram = vec![0; 65_535];
        for (place, expected) in self.train(self.sends).chunks(self.size_of(self.sends)).enumerate() {
            let received = loop {
                match self.receiver.recv(&mut datagram) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
            let len = received.unwrap_or_else(|error| {
                panic!("datagram {place} of send {} is lost: {error}", self.sends);
            });
            let is_it = datagram[..len] == *expected;
            assert!(is_it, "another one came in place of datagram {place} of send {}", self.sends);
        }
    }
}

fn window(count: usize, size: usize) -> u32 {
    let sends = (DATAGRAMS_IN_FLIGHT / count).min(BYTES_IN_FLIGHT / (count * size));
    u32::try_from(sends).unwrap_or(u32::MAX).max(1)
}

/// Bytes that no shift or swap maps to themselves.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut bytes = Vec::with_capacity(len + 3);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend(state.to_ne_bytes());
    }
    bytes.truncate(len);
    bytes
}
