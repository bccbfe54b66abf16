//! The gate: what the kernel has sorted out as no transport data comes here, to the slow path's own thread.
//!
//! However much that is, data wait in other buffers and are served by other threads. Without such sockets
//! ([`adit_net::udp::Bound::handshakes`]) the workers receive everything.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use adit_net::poll::{Interest, Poller};
use adit_net::tun::Tun;
use adit_net::udp::{Bound, Received, RecvBatch, RecvBuffer, UdpSocket};
use adit_proto::message::Message;

use super::outlet::Ports;
use super::rx::{Incoming, deliver};
use super::unreachable::Unreachable;
use super::watch::AGAIN;
use crate::queue::Arrival;
use crate::state::Device;
use crate::trouble::Trouble;

/// Trains received by one system call at most. Nearly all are of one message.
const SLOTS: usize = 32;
/// What the gate's buffers take at most, in bytes.
pub(crate) const BUFFER_BYTES: usize = (SLOTS + 1) * RecvBuffer::LEN;
/// Messages from each socket before the slow path has its turn: as many as make up load, or more, and as many as a lane of its
/// inbox has room for, or few more. A train can have dozens.
const SHARE: usize = 1024;
/// Who was sent so many messages at a time is being flooded...
const FLOOD: usize = 64;
/// ...and lets more of them gather, instead of being woken for each. The sockets' buffers hold many times what comes meanwhile.
const NAP: Duration = Duration::from_millis(1);

/// The slow path's sockets.
pub(crate) struct Gate<'a> {
    device: &'a Device,
    tun: &'a Tun,
    sockets: Option<Arc<Bound>>,
    batch: RecvBatch,
    incoming: Incoming,
    /// Kept for its memory.
    arrivals: Vec<Arrival>,
    limit: Unreachable,
    /// Some socket could not be watched, or not be given up: that is to be tried again.
    watches_wrongly: bool,
    /// Trains since it last rested.
    received: usize,
}

impl<'a> Gate<'a> {
    pub(crate) fn new(device: &'a Device, tun: &'a Tun) -> Self {
        Gate {
            device,
            tun,
            sockets: None,
            batch: RecvBatch::new(SLOTS),
            incoming: Incoming::default(),
            arrivals: Vec::with_capacity(SLOTS),
            limit: Unreachable::default(),
            watches_wrongly: false,
            received: 0,
        }
    }

    /// Takes up the device's sockets when they were changed: they wake `poller`, with `token`.
    pub(crate) fn follow(&mut self, poller: &Poller, token: u64, trouble: &mut Trouble) {
        let sockets = self.device.sockets();
        let are_the_same = self.sockets.as_ref().map(Arc::as_ptr) == sockets.as_ref().map(Arc::as_ptr);
        if are_the_same && !self.watches_wrongly {
            return;
        }
        if !are_the_same {
            for socket in self.sockets() {
                // It goes anyway when it is closed.
                let _ = poller.remove(socket);
            }
            self.sockets = sockets;
        }
        self.watches_wrongly = false;
        let mut failed = None;
        for socket in self.sockets() {
            match poller.add(socket, token, Interest::Read) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => failed = Some(error),
                _ => {}
            }
        }
        if let Some(error) = failed {
            self.watches_wrongly = true;
            trouble.failed("waiting for handshakes", &error);
        }
    }

    /// How long to wait at most: for ever, but where something is to be tried again.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.watches_wrongly.then_some(AGAIN)
    }

    fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        let pair = self.sockets.iter().flat_map(|bound| &bound.handshakes);
        pair.flat_map(|pair| pair.v4.iter().chain(&pair.v6))
    }

    /// Hands what waits to the device's inbox; true if more may be waiting.
    pub(crate) fn receive(&mut self, trouble: &mut Trouble) -> bool {
        let Some(bound) = self.sockets.clone() else { return false };
        let pairs = bound.handshakes.iter();
        let mut is_more = false;
        for socket in pairs.flat_map(|pair| pair.v4.iter().chain(&pair.v6)) {
            is_more |= self.receive_share(socket, trouble);
        }
        is_more
    }

    fn receive_share(&mut self, socket: &UdpSocket, trouble: &mut Trouble) -> bool {
        let mut messages = 0;
        while messages < SHARE {
            match self.receive_from(socket, trouble) {
                Some(more) => messages += more,
                None => return false,
            }
        }
        true
    }

    /// How many messages it was; `None` when nothing is left.
    fn receive_from(&mut self, socket: &UdpSocket, trouble: &mut Trouble) -> Option<usize> {
        match socket.recv(&mut self.batch) {
            Ok(trains) => {
                trouble.passed();
                self.received += trains;
                let messages = self.open_all();
                self.batch.is_full().then_some(messages)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                trouble.failed("receiving handshakes", &error);
                None
            }
        }
    }

    fn open_all(&mut self) -> usize {
        let mut messages = 0;
        for index in 0..self.batch.len() {
            let meta = self.batch.take(index, &mut self.incoming.buffer);
            messages += meta.packets();
            if meta.stride == meta.len
                && let Some(Message::Handshake(message)) =
                    Message::parse(self.incoming.buffer.train_mut(meta.len))
            {
                self.arrivals.push(Arrival { message, from: meta.from, local: meta.local });
                continue;
            }
            // What came first is not to wait for what comes behind.
            self.device.handshakes_arrived(&mut self.arrivals);
            self.open_others(meta);
        }
        self.device.handshakes_arrived(&mut self.arrivals);
        messages
    }

    /// A train, or garbage.
    fn open_others(&mut self, meta: Received) {
        self.incoming.meta = Some(meta);
        self.incoming.open(self.device);
        // Data that came along are delivered from here.
        let mut inner = Vec::new();
        self.incoming.accept(self.device, &mut inner);
        if !inner.is_empty() {
            let mut ports = Ports {
                device: self.device,
                number: 0,
                bound: None,
                tun: self.tun,
                writer: &self.tun.queues()[0],
                limit: &mut self.limit,
            };
            deliver(self.device, &inner, &mut ports);
        }
        self.incoming.clear();
    }

    /// To be called when nothing is left to do, before waiting.
    pub(crate) fn rest(&mut self) {
        if std::mem::take(&mut self.received) >= FLOOD {
            std::thread::sleep(NAP);
        }
    }
}
