//! Floods at full speed, from forged addresses: packets written by hand, as many as one thread can send.
//!
//! | file | is |
//! | --- | --- |
//! | `packet` | IPv4 packets with any source |
//! | `kind` | what they carry |
//! | this one | the thread that sends them |

mod kind;
mod packet;

use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::{SndBuf, UdpGsoSegment};
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrIn, connect, recv,
    sendmmsg, setsockopt, socket,
};

pub use kind::{KINDS, Kind, Knowledge};

use crate::flood::Ending;
use crate::netns::Netns;
use crate::{seconds, within};

/// Packets that one call sends.
const BATCH: usize = 64;
/// Ports that trains come from: enough to reach every socket that shares a port.
const PORTS: usize = 16;
/// The most that a forgotten flood may last.
const FORGOTTEN: Duration = seconds(60);

/// Datagrams ready to be sent, over and over.
#[derive(Debug)]
pub struct Ammunition {
    to: SocketAddrV4,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// Packets with their headers, so many for each datagram.
    Packets { packets: Vec<Vec<u8>>, per_datagram: usize },
    /// A train that the kernel is to cut, of datagrams of so many bytes.
    Train { train: Vec<u8>, stride: usize },
}

impl Ammunition {
    /// One datagram from each of `count` forged sources.
    fn forged(to: SocketAddrV4, count: u32, payload: impl FnMut(u32) -> Vec<u8>) -> Self {
        Self::of(to, (0..count).map(packet::source), payload)
    }

    /// As many from one.
    fn from_one(to: SocketAddrV4, count: u32, payload: impl FnMut(u32) -> Vec<u8>) -> Self {
        Self::of(to, (0..count).map(|_| packet::source(0)), payload)
    }

    fn of(
        to: SocketAddrV4,
        sources: impl Iterator<Item = SocketAddrV4>,
        mut payload: impl FnMut(u32) -> Vec<u8>,
    ) -> Self {
        let mut per_datagram = 1;
        let mut packets = Vec::new();
        for (number, from) in (0..).zip(sources) {
            let made = packet::packets(from, to, &payload(number), number as u16 | 1);
            per_datagram = made.len();
            packets.extend(made);
        }
        Ammunition { to, shape: Shape::Packets { packets, per_datagram } }
    }

    fn train(to: SocketAddrV4, train: Vec<u8>, stride: usize) -> Self {
        Ammunition { to, shape: Shape::Train { train, stride } }
    }
}

/// A flood that goes on until it is dropped, has sent all it was to send, or is forgotten for a minute.
#[derive(Debug)]
pub struct Barrage {
    sent: Arc<AtomicU64>,
    _thread: Ending,
}

impl Barrage {
    /// Begins to send `ammunition` from `ns`: `count` datagrams, as fast as one thread can.
    ///
    /// # Panics
    /// If no socket can be had.
    #[track_caller]
    #[must_use]
    pub fn start(ns: &Netns, ammunition: Ammunition, count: u64) -> Barrage {
        let gun = ns.enter(|| Gun::new(&ammunition));
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        let thread = Ending::spawn(move |stop| gun.fire(&ammunition, count, stop, &counted));
        Barrage { sent, _thread: thread }
    }

    /// Datagrams sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

enum Gun {
    Raw(OwnedFd),
    Cut(Vec<UdpSocket>),
}

impl Gun {
    fn new(ammunition: &Ammunition) -> Gun {
        match &ammunition.shape {
            Shape::Packets { .. } => {
                let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)
                    .expect("a raw socket");
                // A long queue would let it send more at a time than the machine can take, and then wait.
                let _ = setsockopt(&raw, SndBuf, &(4 << 20));
                connect(raw.as_raw_fd(), &SockaddrIn::from(ammunition.to)).expect("a route to the target");
                Gun::Raw(raw)
            }
            Shape::Train { stride, .. } => {
                let new = || {
                    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                    setsockopt(&socket, UdpGsoSegment, &(*stride as i32)).expect("segmentation offload");
                    socket.connect(ammunition.to).expect("a route to the target");
                    socket
                };
                Gun::Cut((0..PORTS).map(|_| new()).collect())
            }
        }
    }

    fn fire(&self, ammunition: &Ammunition, count: u64, stop: &AtomicBool, sent: &AtomicU64) {
        let end = Instant::now() + FORGOTTEN;
        let goes_on =
            || !stop.load(Ordering::Relaxed) && sent.load(Ordering::Relaxed) < count && Instant::now() < end;
        match (self, &ammunition.shape) {
            (Gun::Raw(raw), Shape::Packets { packets, per_datagram }) => {
                let slices: Vec<_> = packets.iter().map(|packet| [IoSlice::new(packet)]).collect();
                let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
                let mut batches = slices.chunks(BATCH).cycle();
                let mut packets = 0;
                while goes_on() {
                    let batch = batches.next().expect("there is something to send");
                    let result =
                        sendmmsg(raw.as_raw_fd(), &mut headers, batch, [None; BATCH], [], MsgFlags::empty());
                    // What could not be sent was no flood.
                    packets += result.map_or(0, Iterator::count) as u64;
                    sent.store(packets / *per_datagram as u64, Ordering::Relaxed);
                }
            }
            (Gun::Cut(sockets), Shape::Train { train, stride }) => {
                let per_call = train.len().div_ceil(*stride) as u64;
                let mut sockets = sockets.iter().cycle();
                while goes_on() {
                    let socket = sockets.next().expect("there are ports");
                    if socket.send(train).is_ok() {
                        sent.fetch_add(per_call, Ordering::Relaxed);
                    }
                }
            }
            _ => unreachable!("the gun was made for it"),
        }
    }
}

/// What somebody who sees the line to the host of `ns` finds out: a raw socket there gets a copy of what comes.
#[derive(Debug)]
pub struct Eavesdropper(OwnedFd);

impl Eavesdropper {
    /// Begins to listen.
    ///
    /// # Panics
    /// If no socket can be had.
    #[track_caller]
    #[must_use]
    pub fn new(ns: &Netns) -> Self {
        let open = || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::Udp);
        Eavesdropper(ns.enter(open).expect("a raw socket"))
    }

    /// The next message of a type that comes to `port`, within `limit`.
    #[must_use]
    pub fn message(&self, port: u16, kind: u8, limit: Duration) -> Option<Vec<u8>> {
        const HEADERS: usize = 28;
        let mut packet = vec![0; 1 << 16];
        let mut found = None;
        within(limit, || {
            while let Ok(len) = recv(self.0.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
                let is_it = len > HEADERS && packet[22..24] == port.to_be_bytes() && packet[HEADERS] == kind;
                if is_it {
                    found = Some(packet[HEADERS..len].to_vec());
                    break;
                }
            }
            found.is_some()
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn known(target: SocketAddrV4, unread: u16) -> Knowledge {
        Knowledge { target, unread, public_key: KEY, initiation: vec![1; 148], index: 0x0102_0304 }
    }

    #[test]
    fn all_of_it_arrives_from_forged_addresses() {
        crate::needs!("netns");
        let (here, there) = (Netns::new(), Netns::new());
        here.connect("east", &there, "west");
        here.address("east", "10.9.0.1/24");
        there.address("west", "10.9.0.2/24");
        // Or the kernel refuses sources that it has no route to.
        there.ip("route add default via 10.9.0.1");
        for kind in KINDS {
            let inbox = there.enter(|| UdpSocket::bind("10.9.0.2:0")).unwrap();
            inbox.set_read_timeout(Some(seconds(30))).unwrap();
            let std::net::SocketAddr::V4(to) = inbox.local_addr().unwrap() else { panic!("IPv4") };
            let barrage = Barrage::start(&here, kind.ammunition(&known(to, to.port())), 100);
            let mut datagram = vec![0; 1 << 16];
            let (len, from) = inbox.recv_from(&mut datagram).unwrap();
            assert!([0, 64, 92, 128, 148, 1_452, 65_507].contains(&len), "{kind:?}: {len}");
            let is_forged = from.ip().to_string().starts_with("100.64.");
            assert_eq!(is_forged, kind != Kind::Joined, "{kind:?}: {from}");
            assert!(within(seconds(30), || barrage.sent() >= 100), "{kind:?}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = KINDS.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
    }
}
