//! The halves of the data path without their devices, for measuring: from memory to memory, by the very code that moves
//! packets between a TUN queue and sockets.
//!
//! [`with`] sets up two engines in memory that are each other's peers. One sends: packets and super-packets in, sealed
//! trains out. The other receives: such trains in, packets and super-packets out. Each has the workers that it is given:
//! one owns the half and is the caller's thread, the others help as they do in the engine.

mod introduction;
mod memory;
mod stages;
#[cfg(test)]
mod tests;
mod traffic;

use std::io;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;

use adit_net::poll::{Events, Interest, Poller};
use adit_net::segment::Group;
use adit_net::tun::Read;

use super::rx::Receiver;
use super::trains_in_a_share;
use super::tx::Sender;
use crate::state::Device;
use introduction::introduce;
use memory::{Batch, ToTun, ToUdp, Waiting};
pub use stages::{Stage, StagedReceiving, StagedSending};
pub use traffic::{Packet, Transport};

/// Peers at most: each has one address in a /16.
pub const MAX_PEERS: usize = 1 << 16;

/// The address of the sending engine within the tunnel to its `peer`th peer.
#[must_use]
pub fn near_address(peer: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a01_0000 | peer as u32 & 0xffff)
}

/// The address of that peer, which is the receiving engine.
#[must_use]
pub fn far_address(peer: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a02_0000 | peer as u32 & 0xffff)
}

/// Runs `measure` with the sending half of one engine and the receiving half of another, which have `peers` tunnels
/// between them, with sessions. Each has `workers` threads, of which `measure` is one of both. The sessions expire after
/// three minutes.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`, `EAGAIN`: each engine needs some descriptors and threads.
///
/// # Panics
/// If `peers` is more than [`MAX_PEERS`], or when a helper finds no descriptor for what it waits with.
pub fn with<R>(
    peers: usize,
    workers: NonZeroUsize,
    measure: impl FnOnce(Sending<'_>, Receiving<'_>) -> R,
) -> io::Result<R> {
    let helper = |device: &Device, number, ready| help(device, number, ready).expect("a worker can wait");
    with_helpers(peers, workers, helper, measure)
}

fn with_helpers<R>(
    peers: usize,
    workers: NonZeroUsize,
    helper: impl Fn(&Device, usize, Ready) + Sync,
    measure: impl FnOnce(Sending<'_>, Receiving<'_>) -> R,
) -> io::Result<R> {
    assert!(peers <= MAX_PEERS, "{peers} peers are more than have an address");
    let (near, far) = (Device::new(workers, None)?, Device::new(workers, None)?);
    introduce(&near, &far, peers);
    let helper = &helper;
    thread::scope(|scope| {
        let devices = Ending([&near, &far]);
        let (ready, are_ready) = mpsc::channel();
        for device in devices.0 {
            for number in 1..workers.get() {
                let ready = ready.clone();
                thread::Builder::new().spawn_scoped(scope, move || helper(device, number, ready))?;
            }
        }
        drop(ready);
        // None of them sends anything: all have dropped their ends when this returns.
        let _ = are_ready.recv();
        Ok(measure(Sending::new(&near), Receiving::new(&far)))
    })
}

/// What a helper drops when it has all that it needs, so that nothing is measured before.
type Ready = mpsc::Sender<()>;

/// What a worker without anything of its own does: it seals and opens for the others, until the device ends.
fn help(device: &Device, number: usize, ready: Ready) -> io::Result<()> {
    let poller = Poller::new()?;
    poller.add(&device.crew.member(number).waker, 0, Interest::Read)?;
    let mut events = Events::with_capacity(1);
    drop(ready);
    lend_a_hand(device, number, || poller.wait(&mut events, None))
}

pub(super) fn lend_a_hand(
    device: &Device,
    number: usize,
    mut wait: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let crew = &device.crew;
    while !device.is_ending() {
        while crew.help(device, number) {}
        crew.sleeps(number);
        wait()?;
        crew.awakes(number);
        crew.member(number).waker.clear();
    }
    Ok(())
}

/// Has the helpers return, whatever happens.
struct Ending<'a>([&'a Device; 2]);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|device| device.end());
    }
}

/// The sending half. Sealed trains leave, in order, as bytes and the length of each message but the last.
pub struct Sending<'a> {
    sender: Sender<'a>,
}

impl<'a> Sending<'a> {
    fn new(device: &'a Device) -> Self {
        Sending { sender: Sender::new(device, &device.crew.member(0).tx) }
    }

    /// Takes as many packets as a TUN queue's turn is long. `read` puts the next one into the buffer, if there is one.
    pub fn turn(&mut self, read: impl FnMut(&mut [u8]) -> Option<Read>, mut leave: impl FnMut(&[u8], usize)) {
        let turn = self.sender.turn(&Waiting::new(read), &mut ToUdp(&mut leave));
        debug_assert!(turn.is_ok(), "memory does not fail");
    }

    /// Seals, or waits for, what is still in the lane.
    pub fn finish(&mut self, mut leave: impl FnMut(&[u8], usize)) {
        while !self.sender.is_idle() {
            if !self.sender.advance(&mut ToUdp(&mut leave)) {
                thread::yield_now();
            }
        }
    }

    /// The same, one stage after the other.
    pub fn staged(&mut self) -> StagedSending<'_, 'a> {
        StagedSending::new(&mut self.sender)
    }
}

/// The receiving half.
pub struct Receiving<'a> {
    device: &'a Device,
    receiver: Receiver<'a>,
    batch: Batch,
}

impl<'a> Receiving<'a> {
    fn new(device: &'a Device) -> Self {
        let receiver = Receiver::new(device, &device.crew.member(0).rx);
        Receiving { device, receiver, batch: Batch::new() }
    }

    /// Takes as many trains as one system call would. `receive` puts the next one into the buffer, if there is one, and
    /// returns its length and the length of its messages. Returns whether there was any.
    pub fn turn(
        &mut self,
        receive: impl FnMut(&mut [u8]) -> Option<(usize, usize)>,
        mut deliver: impl FnMut(&Group<'_, '_>),
    ) -> bool {
        let trains = self.batch.fill(receive);
        let bytes = self.receiver.push(&mut self.batch, &mut ToTun(&mut deliver));
        if trains > 0 {
            self.batch.set_limit(trains_in_a_share(trains, bytes));
        }
        trains > 0
    }

    /// Opens, or waits for, what is still in the lane.
    pub fn finish(&mut self, mut deliver: impl FnMut(&Group<'_, '_>)) {
        while !self.receiver.is_idle() {
            if !self.receiver.advance(&mut ToTun(&mut deliver)) {
                thread::yield_now();
            }
        }
    }

    /// The same, one stage after the other.
    pub fn staged(&mut self) -> StagedReceiving<'a> {
        StagedReceiving::new(self.device)
    }
}
