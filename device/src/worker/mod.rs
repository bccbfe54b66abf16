//! A worker: one thread that moves packets between its TUN queues, if it has any, and its UDP sockets.
//!
//! Trains go through two lanes (`lane.rs`), one for each direction, in which workers that idle help with sealing and
//! opening (`crew.rs`). What a worker holds is allocated once.

mod crew;
pub mod halves;
mod inlet;
mod lane;
mod outlet;
mod rx;
pub(crate) mod train;
mod tx;
mod unreachable;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use adit_net::poll::{Events, Interest, Poller};
use adit_net::tun::{Fault, Tun, TunQueue};
use adit_net::udp::{Bound, RecvBatch, RecvBuffer, is_transient};

use crate::state::Device;
pub(crate) use crew::Crew;
pub use crew::MAX_WORKERS;
use outlet::Ports;
use rx::Receiver;
use tx::Sender;
use unreachable::Unreachable;

/// Trains received by one system call at most.
const RECV_SLOTS: usize = 16;
/// What a worker's buffers take at most, in bytes.
pub(crate) const BUFFER_BYTES: usize = (RECV_SLOTS + lane::SLOTS + 1) * RecvBuffer::LEN
    + (lane::SLOTS + 1) * train::BUFFER_LEN
    + tx::SUPER_PACKET;

/// What is read from a TUN queue or a socket before others have their turn, in bytes: half a millisecond's work or so. A
/// small packet of the other direction waits no longer for a bulk transfer of this one.
const SHARE_BYTES: usize = 64 << 10;

const TOKEN_WAKE: u64 = 0;
const TOKEN_V4: u64 = 1;
const TOKEN_V6: u64 = 2;
/// The first TUN queue; the others follow.
const TOKEN_TUN: u64 = 3;

pub(crate) struct Worker<'a> {
    device: &'a Device,
    tun: &'a Tun,
    /// Which of the device's workers.
    number: usize,
    /// The TUN queues that it reads from.
    queues: &'a [TunQueue],
    /// The one that it writes through: one of its own if it has any, since the driver accounts for packets per queue, and
    /// processors that write through one fight over a cache line.
    writer: &'a TunQueue,
    poller: Poller,
    sockets: Option<Arc<Bound>>,
    batch: RecvBatch,
    sender: Sender<'a>,
    receiver: Receiver<'a>,
    limit: Unreachable,
}

/// Runs worker `number` until the device ends.
pub(crate) fn run(device: &Device, tun: &Tun, number: usize) -> io::Result<()> {
    let mut worker = Worker::new(device, tun, number)?;
    worker.follow_sockets();
    let mut events = Events::with_capacity(16);
    while !device.is_ending() {
        worker.wait(&mut events)?;
        for event in events.iter() {
            match event.token {
                TOKEN_WAKE => worker.follow_sockets(),
                token @ (TOKEN_V4 | TOKEN_V6) => worker.receive(token),
                queue => worker.drain_tun((queue - TOKEN_TUN) as usize),
            }
        }
    }
    Ok(())
}

impl<'a> Worker<'a> {
    fn new(device: &'a Device, tun: &'a Tun, number: usize) -> io::Result<Self> {
        let poller = Poller::new()?;
        let member = device.crew.member(number);
        poller.add(&member.waker, TOKEN_WAKE, Interest::Read)?;
        let queues = share(tun.queues(), number, device.crew.len());
        for (queue, token) in queues.iter().zip(TOKEN_TUN..) {
            poller.add(queue, token, Interest::Trouble)?;
        }
        Ok(Worker {
            device,
            tun,
            number,
            queues,
            writer: queues.first().unwrap_or(&tun.queues()[0]),
            poller,
            sockets: None,
            batch: RecvBatch::new(RECV_SLOTS),
            sender: Sender::new(device, &member.tx),
            receiver: Receiver::new(device, &member.rx),
            limit: Unreachable::default(),
        })
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
                self.poller.wait(events, Some(Duration::ZERO))?;
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
                let result = self.poller.wait(events, None);
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
            number: self.number,
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
    let bounds = |number: usize| (queues.len() * number).div_ceil(workers);
    &queues[bounds(number)..bounds(number + 1)]
}

impl Worker<'_> {
    /// Takes up the device's sockets when they were changed. The old ones close when the last worker has let go.
    fn follow_sockets(&mut self) {
        self.device.crew.member(self.number).waker.clear();
        let sockets = self.device.sockets();
        if self.sockets.as_ref().map(Arc::as_ptr) == sockets.as_ref().map(Arc::as_ptr) {
            return;
        }
        self.sockets = sockets;
        if let Err(error) = self.poll_sockets() {
            log::error!(
                "worker {} cannot wait for packets: {error}; set the interface down and up",
                self.number
            );
        }
    }

    fn poll_sockets(&self) -> io::Result<()> {
        // Without sockets packets wait in the interface: what is sent right after it came up must not be lost.
        let interest = if self.sockets.is_some() { Interest::Read } else { Interest::Trouble };
        for (queue, token) in self.queues.iter().zip(TOKEN_TUN..) {
            self.poller.modify(queue, token, interest)?;
        }
        let Some(bound) = &self.sockets else { return Ok(()) };
        let pair = &bound.sockets[self.number];
        for (socket, token) in [(&pair.v4, TOKEN_V4), (&pair.v6, TOKEN_V6)] {
            if let Some(socket) = socket {
                self.poller.add(socket, token, Interest::Read)?;
            }
        }
        Ok(())
    }

    fn drain_tun(&mut self, queue: usize) {
        if self.sockets.is_none() {
            return self.tun_is_in_trouble();
        }
        let queue = &self.queues[queue];
        let (sender, _, _, mut ports) = self.parts();
        if let Err(error) = sender.turn(queue, &mut ports) {
            self.tun_failed(&error);
        }
    }

    /// The interface is down, and polls as an error nevertheless: it was deleted.
    fn tun_is_in_trouble(&self) {
        if self.tun.is_gone() {
            self.device.end();
        }
    }

    fn tun_failed(&self, error: &io::Error) {
        match Fault::of(error) {
            Fault::Gone => self.device.end(),
            fault => log::debug!("the interface failed ({fault:?}): {error}"),
        }
    }

    fn receive(&mut self, token: u64) {
        let Some(bound) = self.sockets.clone() else { return };
        let pair = &bound.sockets[self.number];
        let socket = if token == TOKEN_V4 { &pair.v4 } else { &pair.v6 };
        let Some(socket) = socket else { return };
        let (_, receiver, batch, mut ports) = self.parts();
        match socket.recv(batch) {
            Ok(trains) => {
                let bytes: usize = receiver.push(batch, &mut ports);
                batch.set_limit(trains_in_a_share(trains, bytes));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                log::debug!("receiving failed: {error}");
                // Never a reason to stop; what lasts must not occupy the processor either.
                if !is_transient(&error) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}
