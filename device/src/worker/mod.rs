//! A worker: one thread that moves packets between its TUN queue and its UDP sockets, with nothing between the steps.
//!
//! What it holds is allocated once: [`adit_net::udp::RecvBatch`] with [`RECV_SLOTS`] slots for receiving, and for sending
//! a buffer for a super-packet and one for a train.

mod rx;
mod train;
mod tx;

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
    // A TUN device may have fewer queues than there are workers: the others write to one, but read from none.
    let queue = &queues[number % queues.len()];
    if number < queues.len() {
        poller.add(queue, TOKEN_TUN, Interest::Read)?;
    }
    let mut worker = Worker {
        device,
        number,
        queue,
        poller,
        sockets: None,
        batch: RecvBatch::new(RECV_SLOTS),
        sender: Sender::new(number),
    };
    worker.follow_sockets()?;
    let mut events = Events::with_capacity(4);
    while !device.is_ending() {
        worker.poller.wait(&mut events, None)?;
        for event in events.iter() {
            match event.token {
                TOKEN_WAKE => worker.follow_sockets()?,
                TOKEN_TUN => worker.drain_tun(),
                token => worker.receive(token),
            }
        }
    }
    Ok(())
}

impl Worker<'_> {
    /// Takes up the device's sockets when they were changed. The old ones close when the last worker has let go.
    fn follow_sockets(&mut self) -> io::Result<()> {
        self.device.workers[self.number].clear();
        let sockets = self.device.sockets();
        let is_same = match (&self.sockets, &sockets) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return Ok(());
        }
        self.sockets = sockets;
        if let Some(bound) = &self.sockets {
            let pair = &bound.sockets[self.number];
            for (socket, token) in [(&pair.v4, TOKEN_V4), (&pair.v6, TOKEN_V6)] {
                if let Some(socket) = socket {
                    self.poller.add(socket, token, Interest::Read)?;
                }
            }
        }
        Ok(())
    }

    fn drain_tun(&mut self) {
        let (device, queue) = (self.device, self.queue);
        let Some(bound) = self.sockets.clone() else {
            return self.discard_from_tun();
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

    /// Between the interface coming up and the sockets being there, or if they cannot be had, packets have nowhere to
    /// go, as on a link without a carrier.
    fn discard_from_tun(&mut self) {
        for _ in 0..TUN_BUDGET {
            match self.sender.discard(self.queue) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.tun_failed(&error),
            }
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
