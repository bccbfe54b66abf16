//! A worker: one thread that moves packets between its TUN queues, if it has any, and its UDP sockets.
//!
//! Trains go through two lanes (`lane.rs`), one for each direction, in which workers that idle help with sealing and
//! opening (`crew.rs`). What a worker holds is allocated once.

mod crew;
mod gate;
pub mod halves;
mod inlet;
mod lane;
#[cfg(all(test, feature = "loom"))]
mod models;
mod outlet;
mod rx;
#[cfg(test)]
pub(crate) mod simulated;
pub(crate) mod train;
mod tx;
mod unreachable;
mod watch;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use adit_net::poll::{Events, Poller};
use adit_net::tun::{Fault, Tun, TunQueue};
use adit_net::udp::{Bound, RecvBatch, RecvBuffer};

use crate::state::Device;
use crate::trouble::Trouble;
pub(crate) use crew::Crew;
pub use crew::MAX_WORKERS;
pub(crate) use gate::{BUFFER_BYTES as GATE_BYTES, Gate};
use outlet::Ports;
use rx::Receiver;
use tx::Sender;
use unreachable::Unreachable;
use watch::{Source, is_rush};

/// Trains received by one system call at most.
const RECV_SLOTS: usize = 16;
/// What a worker's buffers take at most, in bytes.
pub(crate) const BUFFER_BYTES: usize = (RECV_SLOTS + lane::SLOTS + 1) * RecvBuffer::LEN
    + (lane::SLOTS + 1) * train::BUFFER_LEN
    + tx::SUPER_PACKET;

/// What is read from a TUN queue or a socket before others have their turn, in bytes: half a millisecond's work or so. A
/// small packet of the other direction waits no longer for a bulk transfer of this one.
const SHARE_BYTES: usize = 64 << 10;

pub(crate) struct Worker<'a> {
    device: &'a Device,
    tun: &'a Tun,
    /// Which of the device's workers.
    number: usize,
    /// The TUN queue that it writes through: one of its own if it has any, since the driver accounts for packets per
    /// queue, and processors that write through one fight over a cache line.
    writer: &'a TunQueue,
    poller: &'a Poller,
    /// Bit `i`: it watches the descriptors of worker `i`.
    watched: u64,
    /// Whose sockets it sends through: those of the worker whose queue it read last, so that a flow's packets leave by one
    /// socket, which knows what its path refuses, whoever reads them.
    sends_for: usize,
    sockets: Option<Arc<Bound>>,
    batch: RecvBatch,
    sender: Sender<'a>,
    receiver: Receiver<'a>,
    limit: Unreachable,
    trouble: Trouble,
    /// Some descriptor could not be watched, or not be given up: that is to be tried again.
    watches_wrongly: bool,
}

/// What worker `number` waits with.
pub(crate) fn poller(device: &Device, number: usize) -> io::Result<Poller> {
    watch::poller(&device.crew.member(number).waker)
}

/// Runs worker `number` until the device ends.
pub(crate) fn run(device: &Device, tun: &Tun, number: usize, poller: &Poller) -> io::Result<()> {
    let mut worker = Worker::new(device, tun, number, poller);
    worker.follow();
    let mut events = Events::with_capacity(16);
    while !device.is_ending() {
        worker.wait(&mut events)?;
        if worker.watches_wrongly {
            worker.watch_rightly();
        }
        for event in events.iter() {
            match Source::of(event.token) {
                Source::Waker => worker.follow(),
                Source::Queue(index) => worker.drain_tun(index),
                Source::V4(owner) => worker.receive(owner, false),
                Source::V6(owner) => worker.receive(owner, true),
            }
        }
    }
    Ok(())
}

impl<'a> Worker<'a> {
    fn new(device: &'a Device, tun: &'a Tun, number: usize, poller: &'a Poller) -> Self {
        let member = device.crew.member(number);
        let queues = share(tun.queues(), number, device.crew.len());
        Worker {
            device,
            tun,
            number,
            writer: queues.first().unwrap_or(&tun.queues()[0]),
            poller,
            watched: 0,
            sends_for: number,
            sockets: None,
            batch: RecvBatch::new(RECV_SLOTS),
            sender: Sender::new(device, &member.tx),
            receiver: Receiver::new(device, &member.rx),
            limit: Unreachable::default(),
            trouble: Trouble::default(),
            watches_wrongly: false,
        }
    }

    /// Waits for events. Meanwhile what is in the lanes goes on, and what is in other workers' lanes.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let (crew, number) = (&self.device.crew, self.number);
        loop {
            while self.has_work() {
                let (sender, receiver, _, mut ports) = self.parts();
                sender.round(&mut ports);
                receiver.round(&mut ports);
                // Then what comes in has precedence: lanes are short, and with work in them others can help.
                self.trouble.wait(self.poller, events, Some(Duration::ZERO))?;
                if !events.is_empty() {
                    crew.helps_no_more(number);
                    return Ok(());
                }
                if !self.work() {
                    break;
                }
            }
            if self.sender.may_sleep() && self.receiver.may_sleep() {
                self.sender.rest();
                self.receiver.rest();
                crew.sleeps(number);
                let timeout = self.watches_wrongly.then_some(watch::AGAIN);
                let result = self.trouble.wait(self.poller, events, timeout);
                crew.awakes(number);
                return result;
            }
        }
    }

    fn has_work(&self) -> bool {
        !self.sender.is_idle() || !self.receiver.is_idle() || self.device.crew.wants_help(self.number)
    }

    /// Does a job of its own, or else one of another's; false if all are in good hands.
    fn work(&mut self) -> bool {
        let (device, number) = (self.device, self.number);
        let (sender, receiver, _, mut ports) = self.parts();
        sender.advance(&mut ports) || receiver.advance(&mut ports) || device.crew.help(device, number)
    }

    /// The halves, what the receiving one receives into, and where their packets go.
    fn parts(&mut self) -> (&mut Sender<'a>, &mut Receiver<'a>, &mut RecvBatch, Ports<'_>) {
        let ports = Ports {
            device: self.device,
            number: self.sends_for,
            bound: self.sockets.as_deref(),
            tun: self.tun,
            writer: self.writer,
            limit: &mut self.limit,
        };
        (&mut self.sender, &mut self.receiver, &mut self.batch, ports)
    }
}

/// How many trains are to be received at a time, when the last `trains` were so many bytes.
fn trains_in_a_share(trains: usize, bytes: usize) -> usize {
    SHARE_BYTES * trains / bytes.max(1)
}

/// The part of `queues` that is worker `number`'s of `workers`: neighbours, so that one worker sends what goes to one host
/// (see [`adit_net::tun::QUEUES_OF_A_HOST`]). If there is but one queue, it is the first worker's.
fn share(queues: &[TunQueue], number: usize, workers: usize) -> &[TunQueue] {
    &queues[places(queues.len(), number, workers)]
}

/// Where of so many `queues` worker `number`'s share of them is.
fn places(queues: usize, number: usize, workers: usize) -> Range<usize> {
    let bound = |number: usize| (queues * number).div_ceil(workers);
    bound(number)..bound(number + 1)
}

impl Worker<'_> {
    fn drain_tun(&mut self, index: usize) {
        if self.sockets.is_none() {
            return self.tun_is_in_trouble();
        }
        let Some(owner) = self.owner_of(index) else { return };
        if owner != self.sends_for {
            self.finish();
            self.sends_for = owner;
        }
        let queue = &self.tun.queues()[index];
        let (sender, _, _, mut ports) = self.parts();
        let turn = sender.turn(queue, &mut ports);
        match turn {
            Ok(turn) => {
                self.trouble.passed();
                self.turned(is_rush(turn.packets, turn.bytes));
            }
            Err(error) => self.tun_failed(&error),
        }
    }

    /// The interface is down, and polls as an error nevertheless: it was deleted.
    fn tun_is_in_trouble(&self) {
        if self.tun.is_gone() {
            self.device.end();
        }
    }

    /// Never a reason to stop, unless it was deleted.
    fn tun_failed(&mut self, error: &io::Error) {
        match Fault::of(error) {
            Fault::Gone => self.device.end(),
            _ => self.trouble.failed("reading from the interface", error),
        }
    }

    fn receive(&mut self, owner: usize, is_v6: bool) {
        let Some(bound) = self.sockets.clone().filter(|_| self.watches(owner)) else { return };
        let pair = &bound.sockets[owner];
        let socket = if is_v6 { &pair.v6 } else { &pair.v4 };
        let Some(socket) = socket else { return };
        let (_, receiver, batch, mut ports) = self.parts();
        match socket.recv(batch) {
            Ok(trains) => {
                let bytes: usize = receiver.push(batch, &mut ports);
                batch.set_limit(trains_in_a_share(trains, bytes));
                self.trouble.passed();
                self.turned(is_rush(trains, bytes));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Never a reason to stop.
            Err(error) => self.trouble.failed("receiving", &error),
        }
    }
}
