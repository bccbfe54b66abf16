//! A worker: one thread that moves packets between its TUN queue and its UDP sockets, with nothing between the steps.
//!
//! What it holds is allocated once: [`adit_net::udp::RecvBatch`] with [`RECV_SLOTS`] slots for receiving, and for sending
//! a buffer for a super-packet and one for a train.

mod rx;
mod train;
mod tx;
mod unreachable;

use std::io;
use std::sync::Arc;

use adit_net::poll::{Events, Interest, Poller};
use adit_net::tun::{Fault, TunQueue};
use adit_net::udp::{Bound, RecvBatch, is_transient};

use crate::state::Device;
use tx::Sender;

/// Trains received by one system call at most.
const RECV_SLOTS: usize = 16;
/// Packets (or super-packets) read from TUN before the sockets have their turn again.
const TUN_BUDGET: usize = 32;

const TOKEN_WAKE: u64 = 0;
const TOKEN_TUN: u64 = 1;
const TOKEN_V4: u64 = 2;
const TOKEN_V6: u64 = 3;

pub(crate) struct Worker<'a> {
    device: &'a Device,
    /// Which of the device's workers.
    number: usize,
    queue: &'a TunQueue,
    reads: bool,
    poller: Poller,
    sockets: Option<Arc<Bound>>,
    batch: RecvBatch,
    sender: Sender,
}

/// Runs worker `number` until the device ends.
pub(crate) fn run(device: &Device, number: usize) -> io::Result<()> {
    let poller = Poller::new()?;
    poller.add(&device.workers[number], TOKEN_WAKE, Interest::Read)?;
    let queues = device.tun.queues();
    let queue = &queues[number % queues.len()];
    // A TUN device may have fewer queues than there are workers: the others write to one, but read from none.
    let reads = number < queues.len();
    if reads {
        poller.add(queue, TOKEN_TUN, Interest::Trouble)?;
    }
    let mut worker = Worker {
        device,
        number,
        queue,
        reads,
        poller,
        sockets: None,
        batch: RecvBatch::new(RECV_SLOTS),
        sender: Sender::new(number),
    };
    worker.follow_sockets();
    let mut events = Events::with_capacity(4);
    while !device.is_ending() {
        worker.poller.wait(&mut events, None)?;
        for event in events.iter() {
            match event.token {
                TOKEN_WAKE => worker.follow_sockets(),
                TOKEN_TUN => worker.drain_tun(),
                token => worker.receive(token),
            }
        }
    }
    Ok(())
}

impl Worker<'_> {
    /// Takes up the device's sockets when they were changed. The old ones close when the last worker has let go.
    fn follow_sockets(&mut self) {
        self.device.workers[self.number].clear();
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
        if self.reads {
            // Without sockets packets wait in the interface: what is sent right after it came up must not be lost.
            let interest = if self.sockets.is_some() { Interest::Read } else { Interest::Trouble };
            self.poller.modify(self.queue, TOKEN_TUN, interest)?;
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

    fn drain_tun(&mut self) {
        let (device, queue) = (self.device, self.queue);
        let Some(bound) = self.sockets.clone() else {
            return self.tun_is_in_trouble();
        };
        for _ in 0..TUN_BUDGET {
            match self.sender.read(device, &bound, queue) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.tun_failed(&error);
                    break;
                }
            }
        }
        self.sender.flush(device, &bound, queue);
    }

    /// The interface is down, and polls as an error nevertheless: it was deleted.
    fn tun_is_in_trouble(&self) {
        if self.device.tun.is_gone() {
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
        match socket.recv(&mut self.batch) {
            Ok(_) => rx::deliver(self.device, self.queue, &mut self.batch),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                log::debug!("receiving failed: {error}");
                // Never a reason to stop; what lasts must not occupy the processor either.
                if !is_transient(&error) {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
        }
    }
}
