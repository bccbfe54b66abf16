//! TUN to UDP: read a super-packet, find the peer, split it straight into a train, seal that in place, send it by one
//! call.

use std::io;
use std::sync::Arc;

use adit_net::packet::{self, Ip};
use adit_net::segment::Splitter;
use adit_net::tun::{TunQueue, VirtioNetHdr};
use adit_net::udp::Bound;
use adit_proto::session::NotReady;

use super::train::Train;
use super::unreachable::Unreachable;
use crate::lock::{Lock, Shared};
use crate::peer::Peer;
use crate::state::{Device, rng};

/// A super-packet's greatest length.
const SUPER_PACKET: usize = 65_536;

/// The sending half of a worker.
pub(super) struct Sender {
    worker: usize,
    super_packet: Box<[u8]>,
    train: Train,
    unreachable: Unreachable,
}

impl Sender {
    pub(super) fn new(worker: usize) -> Self {
        Sender {
            worker,
            super_packet: vec![0; SUPER_PACKET].into_boxed_slice(),
            train: Train::new(),
            unreachable: Unreachable::default(),
        }
    }

    /// Reads one packet or super-packet and adds it to the train, sending that when it is full; false when there is
    /// nothing to read.
    pub(super) fn read(&mut self, device: &Device, bound: &Bound, queue: &TunQueue) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut self.super_packet);
        let read = queue.read(&mut buffer);
        if let Ok(Some(read)) = &read {
            self.push(device, bound, queue, &read.hdr, &buffer[..read.len]);
        }
        self.super_packet = buffer;
        Ok(read?.is_some())
    }

    fn push(&mut self, device: &Device, bound: &Bound, queue: &TunQueue, hdr: &VirtioNetHdr, packet: &[u8]) {
        // What is not IP goes nowhere, and gets no ICMP either.
        let Some(ip) = packet::parse(packet) else { return };
        let Ok(splitter) = Splitter::new(hdr, packet) else {
            log::debug!("the interface handed out a malformed super-packet");
            return;
        };
        let Some(peer) = self.route(device, &ip) else { return self.unreachable.answer(queue, packet) };
        let (ecn, mtu) = (packet::ecn_encap(ip.tos), device.mtu());
        for i in 0..splitter.count() {
            let len = splitter.packet_len(i);
            if !self.train.takes(&peer, ecn, len, mtu) {
                self.flush(device, bound, queue);
            }
            self.train.push(&peer, ecn, len, mtu, |out| {
                splitter.write(i, out);
            });
        }
    }

    /// Cryptokey routing (whitepaper 2).
    fn route(&self, device: &Device, ip: &Ip) -> Option<Arc<Peer>> {
        Some(device.routes.shared().longest_match(ip.destination)?.peer.clone())
    }

    /// Sends the train, or stages its packets until there is a session.
    pub(super) fn flush(&mut self, device: &Device, bound: &Bound, queue: &TunQueue) {
        let Some((peer, ecn)) = self.train.bound_for().cloned() else { return };
        let mut session = peer.session.locked();
        match session.begin_send(self.train.count(), true, Device::now(), &mut rng()) {
            Ok(grant) => {
                device.schedule(&peer, &mut session);
                drop(session);
                let (messages, stride) = self.train.messages();
                device.seal_and_send(&peer, grant, (bound, self.worker), messages, stride, ecn);
            }
            Err(_) if session.endpoint().is_none() => {
                drop(session);
                self.train.packets().for_each(|packet| self.unreachable.answer(queue, packet));
            }
            Err(_) if peer.is_removed() => {}
            Err(reason) => {
                for packet in self.train.packets() {
                    session.stage(packet);
                }
                device.schedule(&peer, &mut session);
                drop(session);
                match reason {
                    NotReady::NoKeypair { initiate: true } => device.initiate(&peer),
                    NotReady::NoKeypair { initiate: false } => {}
                    NotReady::Behind => device.flush(&peer),
                }
            }
        }
        self.train.clear();
    }
}
