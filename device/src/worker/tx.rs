//! TUN to UDP: read a super-packet, find the peer, split it straight into a train, seal that in place, send it by one
//! call.

use std::io;
use std::sync::Arc;

use adit_net::packet::{self, Ip};
use adit_net::segment::Splitter;
use adit_net::tun::VirtioNetHdr;
use adit_proto::session::{Grant, NotReady};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::SHARE_BYTES;
use super::inlet::Packets;
use super::lane::{Lane, Owner, Worked};
use super::outlet::Outlet;
use super::train::Train;
use crate::endpoint::Endpoint;
use crate::lock::{Lock, Shared};
use crate::peer::Peer;
use crate::state::{Device, rng};

/// A super-packet's greatest length.
pub(super) const SUPER_PACKET: usize = 65_536;
/// Packets read from a queue before others have their turn.
const SHARE_PACKETS: usize = 64;

/// A train in the lane, and leave to send it.
#[derive(Default)]
pub(crate) struct Outgoing {
    train: Train,
    grant: Option<Grant<Endpoint>>,
}

impl Outgoing {
    pub(super) fn seal(&mut self) {
        let Outgoing { train, grant: Some(grant) } = self else { return };
        let nonces = grant.nonces.take(train.count());
        let (messages, stride) = train.messages();
        grant.keypair.seal_train(nonces, messages, stride);
    }
}

/// Seals the next train that waits in `lane`.
pub(super) fn work(lane: &Lane<Outgoing>) -> Worked {
    lane.work(Outgoing::seal)
}

/// The sending half of a worker.
pub(super) struct Sender<'a> {
    device: &'a Device,
    super_packet: Box<[u8]>,
    /// The train under construction.
    pub(super) next: Outgoing,
    lane: Owner<'a, Outgoing>,
    /// There was but one packet when a queue last had its turn.
    is_calm: bool,
    /// There was more than its share.
    is_backed_up: bool,
    /// For the timers' jitter, where a call of the system's would cost as much as sealing a small packet.
    rng: ChaCha8Rng,
}

impl<'a> Sender<'a> {
    pub(super) fn new(device: &'a Device, lane: &'a Lane<Outgoing>) -> Self {
        Sender {
            device,
            super_packet: vec![0; SUPER_PACKET].into_boxed_slice(),
            next: Outgoing::default(),
            lane: Owner::of(lane),
            is_calm: true,
            is_backed_up: false,
            rng: ChaCha8Rng::from_rng(&mut rng()),
        }
    }

    /// Reads packets and super-packets until there are no more, or as many as are one queue's share, and sends them.
    ///
    /// # Errors
    /// Those of [`Packets::read`]; what was read before is sent.
    pub(super) fn turn(&mut self, queue: &impl Packets, outlet: &mut impl Outlet) -> io::Result<()> {
        let (mut packets, mut bytes) = (0, 0);
        let result = loop {
            match self.read(queue, outlet) {
                Ok(0) => break Ok(false),
                Ok(len) => (packets, bytes) = (packets + 1, bytes + len),
                Err(error) => break Err(error),
            }
            if packets == 1 && self.is_calm {
                // More is not expected: what there is does not wait until that is certain.
                self.dispatch(outlet);
            }
            if packets == SHARE_PACKETS || bytes >= SHARE_BYTES {
                break Ok(true);
            }
        };
        self.dispatch(outlet);
        self.is_calm = packets <= 1 && bytes < SHARE_BYTES;
        self.is_backed_up = result.as_ref().is_ok_and(|is_more| *is_more);
        result.map(|_| ())
    }

    /// Reads one packet or super-packet and adds it to the train, putting that into the lane when it is full. Returns
    /// its length in bytes, zero when there is none.
    fn read(&mut self, queue: &impl Packets, outlet: &mut impl Outlet) -> io::Result<usize> {
        let mut buffer = std::mem::take(&mut self.super_packet);
        let read = queue.read(&mut buffer);
        if let Ok(Some(read)) = &read {
            self.push(&read.hdr, &buffer[..read.len], outlet);
        }
        self.super_packet = buffer;
        Ok(read?.map_or(0, |read| read.len))
    }

    /// Adds a packet or super-packet.
    pub(super) fn push(&mut self, hdr: &VirtioNetHdr, packet: &[u8], outlet: &mut impl Outlet) {
        // What is not IP goes nowhere, and gets no ICMP either.
        let Some(ip) = packet::parse(packet) else { return };
        let Ok(splitter) = Splitter::new(hdr, packet) else {
            log::debug!("the interface handed out a malformed super-packet");
            return;
        };
        let Some(peer) = self.route(&ip) else { return outlet.unreachable(packet) };
        let (ecn, mtu) = (packet::ecn_encap(ip.tos), self.device.mtu());
        for i in 0..splitter.count() {
            let len = splitter.packet_len(i);
            if !self.next.train.takes(&peer, ecn, len, mtu) {
                self.dispatch(outlet);
            }
            self.next.train.push(&peer, ecn, len, mtu, |out| {
                splitter.write(i, out);
            });
        }
    }

    /// Cryptokey routing (whitepaper 2).
    fn route(&self, ip: &Ip) -> Option<Arc<Peer>> {
        Some(self.device.routes.shared().longest_match(ip.destination)?.peer.clone())
    }

    /// Puts the train into the lane, or stages its packets until there is a session.
    pub(super) fn dispatch(&mut self, outlet: &mut impl Outlet) {
        if self.obtain_grant(outlet) {
            self.put(outlet);
        }
    }

    /// Asks the session for leave to send the train. Without it, the packets are staged; then, and when there are none,
    /// this returns false.
    pub(super) fn obtain_grant(&mut self, outlet: &mut impl Outlet) -> bool {
        let device = self.device;
        let Some((peer, _)) = self.next.train.bound_for().cloned() else { return false };
        let mut session = peer.session.locked();
        match session.begin_send(self.next.train.count(), true, Device::now(), &mut self.rng) {
            Ok(grant) => {
                device.schedule(&peer, &mut session);
                drop(session);
                if grant.initiate {
                    device.initiate(&peer);
                }
                self.next.grant = Some(grant);
                return true;
            }
            Err(_) if session.endpoint().is_none() => {
                drop(session);
                self.next.train.packets().for_each(|packet| outlet.unreachable(packet));
            }
            Err(reason) => {
                drop(session);
                self.stage(&peer, reason, outlet);
            }
        }
        self.next.train.clear();
        false
    }

    /// Keeps the packets until there is a session.
    fn stage(&mut self, peer: &Arc<Peer>, reason: NotReady, outlet: &mut impl Outlet) {
        // What was granted before leaves before another thread can send what is staged.
        while !self.lane.is_empty() {
            self.advance_or_yield(outlet);
        }
        let mut session = peer.session.locked();
        if peer.is_removed() {
            return;
        }
        for packet in self.next.train.packets() {
            session.stage(packet);
        }
        self.device.schedule(peer, &mut session);
        drop(session);
        match reason {
            NotReady::NoKeypair { initiate: true } => self.device.initiate(peer),
            // There may be a key by now, and whoever brought it found nothing staged.
            _ => self.device.flush(peer),
        }
    }

    /// Puts the train into the lane, if others have time for it. Else it is sealed at once, while it is in this
    /// processor's cache, and leaves when all before it have.
    fn put(&mut self, outlet: &mut impl Outlet) {
        let crew = &self.device.crew;
        // A short train behind those that others seal stays in the lane, too: to have it leave, all before it would have
        // to be sealed here.
        let (packets, bytes) = (self.next.train.count(), self.next.train.len());
        let is_shared =
            self.is_backed_up && (crew.call(packets, bytes) || !self.lane.is_empty() && crew.is_helping());
        if !is_shared && self.lane.is_empty() {
            self.next.seal();
            return send(&mut self.next, outlet);
        }
        while self.lane.is_full() {
            self.advance_or_yield(outlet);
        }
        self.lane.put(&mut self.next);
        if !is_shared {
            while self.advance(outlet) {}
        }
    }

    /// To be called in each round of the worker: sends what is sealed, and seals what nobody has taken up since the last
    /// round or what helpers alone would be late with.
    pub(super) fn round(&mut self, outlet: &mut impl Outlet) {
        self.take_out(outlet);
        if self.lane.needs_its_owner() {
            work(self.lane.lane());
            self.take_out(outlet);
        }
        self.lane.end_round();
    }

    /// The interface is silent: the next burst is a new one.
    pub(super) fn rest(&mut self) {
        self.is_backed_up = false;
    }

    /// Sends what is sealed, or else seals what waits; false when there is neither.
    pub(super) fn advance(&mut self, outlet: &mut impl Outlet) -> bool {
        self.take_out(outlet) || work(self.lane.lane()) != Worked::Nothing
    }

    /// When everything in the lane is in others' hands, lets them go on.
    fn advance_or_yield(&mut self, outlet: &mut impl Outlet) {
        if !self.advance(outlet) {
            std::thread::yield_now();
        }
    }

    /// Sends what is sealed and next in order; false if there is nothing.
    fn take_out(&mut self, outlet: &mut impl Outlet) -> bool {
        let finished = self.lane.finished();
        let count = finished.iter().flatten().count();
        for mut outgoing in finished.into_iter().flatten() {
            send(&mut outgoing, outlet);
        }
        self.lane.took(count);
        count > 0
    }

    /// Whether its lane is empty.
    pub(super) fn is_idle(&self) -> bool {
        self.lane.is_empty()
    }

    /// See [`Owner::sleep`].
    pub(super) fn may_sleep(&self) -> bool {
        self.lane.sleep()
    }
}

/// Sends what is sealed, and leaves an empty train.
pub(super) fn send(Outgoing { train, grant }: &mut Outgoing, outlet: &mut impl Outlet) {
    let leave = (train.bound_for().cloned(), grant.take());
    if let (Some((peer, ecn)), Some(Grant { endpoint: Some(endpoint), .. })) = leave {
        let (messages, stride) = train.messages();
        outlet.send(&peer, endpoint, messages, stride, ecn);
    }
    train.clear();
}
