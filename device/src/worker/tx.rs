//! TUN to UDP: read a super-packet, find the peer, split it straight into a train, seal that in place, send it by one
//! call, together with those that are short.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use adit_control::Reason;
use adit_net::packet::{self, Ip};
use adit_net::segment::Splitter;
use adit_net::tun::VirtioNetHdr;
use adit_proto::session::NotReady;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::SHARE_BYTES;
use super::inlet::Packets;
use super::lane::{Lane, Owner, Worked};
use super::outlet::Outlet;
use super::train::Convoy;
use crate::lock::{Lock, Shared};
use crate::outside::rng;
use crate::peer::Peer;
use crate::state::Device;
use crate::sync::yield_now;
use crate::why::Note;

/// A super-packet's greatest length.
pub(super) const SUPER_PACKET: usize = 65_536;
/// Packets read from a queue before others have their turn.
const SHARE_PACKETS: usize = 64;

/// What a queue's turn brought.
pub(super) struct Turn {
    pub(super) packets: usize,
    pub(super) bytes: usize,
}

/// Seals the next convoy that waits in `lane`.
pub(super) fn work(lane: &Lane<Convoy>) -> Worked {
    lane.work(Convoy::seal)
}

/// The sending half of a worker.
pub(super) struct Sender<'a> {
    device: &'a Device,
    super_packet: Box<[u8]>,
    /// What is under construction.
    pub(super) next: Convoy,
    lane: Owner<'a, Convoy>,
    /// There was but one packet when a queue last had its turn.
    is_calm: bool,
    /// There was more than its share.
    is_backed_up: bool,
    /// For the timers' jitter, where a call of the system's would cost as much as sealing a small packet.
    rng: ChaCha8Rng,
}

impl<'a> Sender<'a> {
    pub(super) fn new(device: &'a Device, lane: &'a Lane<Convoy>) -> Self {
        Sender {
            device,
            super_packet: vec![0; SUPER_PACKET].into_boxed_slice(),
            next: Convoy::default(),
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
    pub(super) fn turn(&mut self, queue: &impl Packets, outlet: &mut impl Outlet) -> io::Result<Turn> {
        let (mut packets, mut bytes) = (0, 0);
        let result = loop {
            match self.read(queue, outlet) {
                Ok(0) => break Ok(false),
                Ok(len) => (packets, bytes) = (packets + 1, bytes + len),
                Err(error) => break Err(error),
            }
            if packets == 1 && self.is_calm {
                // More is not expected: what there is does not wait until that is certain.
                self.depart(outlet);
            }
            if packets == SHARE_PACKETS || bytes >= SHARE_BYTES {
                break Ok(true);
            }
        };
        self.depart(outlet);
        self.is_calm = packets <= 1 && bytes < SHARE_BYTES;
        self.is_backed_up = result.as_ref().is_ok_and(|is_more| *is_more);
        result.map(|_| Turn { packets, bytes })
    }

    /// Reads one packet or super-packet and adds it to the convoy, which departs when it is full. Returns
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
        let Some(peer) = self.route(&ip) else {
            self.note_no_route(&ip, splitter.count());
            return outlet.unreachable(packet);
        };
        let (ecn, mtu) = (packet::ecn_encap(ip.tos), self.device.mtu());
        for i in 0..splitter.count() {
            let len = splitter.packet_len(i);
            if !self.next.takes(&peer, ecn, len, mtu) {
                self.close(outlet);
                if !self.next.has_room(len, mtu) {
                    self.depart(outlet);
                }
                self.next.begin(peer.clone(), ecn, len, mtu);
            }
            self.next.push(len, mtu, |out| {
                splitter.write(i, out);
            });
        }
    }

    /// Cryptokey routing (whitepaper 2).
    fn route(&self, ip: &Ip) -> Option<Arc<Peer>> {
        Some(self.device.routes.shared().longest_match(ip.destination)?.peer.clone())
    }

    /// Multicast is not worth a word: every interface sends some, as soon as it is up.
    #[cold]
    #[inline(never)]
    fn note_no_route(&self, ip: &Ip, packets: usize) {
        let is_broadcast = ip.destination == IpAddr::V4(Ipv4Addr::BROADCAST);
        if !ip.destination.is_multicast() && !is_broadcast {
            self.device.note(Note::new(Reason::NoRoute).times(packets).about(ip.destination));
        }
    }

    /// Closes the open train and lets the convoy go, through the lane if others have time for it.
    pub(super) fn depart(&mut self, outlet: &mut impl Outlet) {
        self.close(outlet);
        if !self.next.is_empty() {
            self.put(outlet);
        }
    }

    /// Asks the session for leave to send the open train. Without it, the packets are staged.
    pub(super) fn close(&mut self, outlet: &mut impl Outlet) {
        let device = self.device;
        let Some((peer, packets)) = self.next.open() else { return };
        let mut session = peer.session.locked();
        match session.begin_send(packets, true, Device::now(), &mut self.rng) {
            Ok(grant) => {
                device.schedule(peer, &mut session);
                drop(session);
                if grant.initiate {
                    device.initiate(peer);
                }
                return self.next.grant(grant);
            }
            Err(_) if session.endpoint().is_none() => {
                drop(session);
                device.note(Note::new(Reason::NoEndpoint).times(packets).peer(peer));
                self.next.open_packets().for_each(|packet| outlet.unreachable(packet));
            }
            Err(reason) => {
                drop(session);
                self.stage(&peer.clone(), reason, outlet);
            }
        }
        self.next.discard();
    }

    /// Keeps the open train's packets until there is a session.
    fn stage(&mut self, peer: &Arc<Peer>, reason: NotReady, outlet: &mut impl Outlet) {
        // What was granted before leaves before another thread can send what is staged.
        self.finish(outlet);
        self.next.seal();
        send(&mut self.next, outlet);
        let mut session = peer.session.locked();
        if peer.is_removed() {
            return;
        }
        let dropped: usize = self.next.open_packets().map(|packet| session.stage(packet)).sum();
        self.device.schedule(peer, &mut session);
        drop(session);
        if dropped > 0 {
            self.device.note(Note::new(Reason::StagingFull).times(dropped).peer(peer));
        }
        if reason == (NotReady::NoKeypair { initiate: true }) {
            self.device.initiate(peer);
        }
        // There may be a key by now, the peer's if no other, and whoever brought it found nothing staged.
        self.device.flush(peer);
    }

    /// Puts the convoy into the lane, if others have time for it. Else it is sealed at once, while it is in this
    /// processor's cache, and leaves when all before it have.
    fn put(&mut self, outlet: &mut impl Outlet) {
        let crew = &self.device.crew;
        // A short one behind those that others seal stays in the lane, too: to have it leave, all before it would have
        // to be sealed here.
        let (packets, bytes) = (self.next.packets(), self.next.len());
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

    /// Sends all that is in the lane.
    pub(super) fn finish(&mut self, outlet: &mut impl Outlet) {
        while !self.lane.is_empty() {
            self.advance_or_yield(outlet);
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

    /// When everything in the lane is in others' hands, lets them go on. Each has one job, which is soon done unless it waits for
    /// a processor; then yielding gives it this one. Even under full load it is too rare for sleeping to be worth a wake-up.
    fn advance_or_yield(&mut self, outlet: &mut impl Outlet) {
        if !self.advance(outlet) {
            yield_now();
        }
    }

    /// Sends what is sealed and next in order; false if there is nothing.
    fn take_out(&mut self, outlet: &mut impl Outlet) -> bool {
        let finished = self.lane.finished();
        let count = finished.iter().flatten().count();
        for mut convoy in finished.into_iter().flatten() {
            send(&mut convoy, outlet);
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

/// Sends the trains that are sealed.
pub(super) fn send(convoy: &mut Convoy, outlet: &mut impl Outlet) {
    let (trains, buffer) = convoy.trains();
    if !trains.is_empty() {
        outlet.send(trains, buffer);
        convoy.clear_granted();
    }
}
