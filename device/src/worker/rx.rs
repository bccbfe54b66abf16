//! UDP to TUN: sort by message type, open the train in place, let the session accept what is new, check the inner source,
//! and hand neighbours of one flow to TUN as one super-packet, without copying.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use adit_control::Reason;
use adit_net::packet;
use adit_net::segment;
use adit_net::tun::Fault;
use adit_net::udp::{Received, RecvBuffer};
use adit_proto::keypair::{MAX_TRAIN, Opened, plaintext_mut};
use adit_proto::message::{DataHeader, KEEPALIVE_LEN, Message};

use super::inlet::Trains;
use super::lane::{Lane, Owner, Worked};
use super::outlet::Outlet;
use crate::lock::{Lock, Shared};
use crate::peer::Peer;
use crate::queue::Arrival;
use crate::state::{Device, Indexed};
use crate::sync::yield_now;
use crate::why::Note;

/// A train as it was received, and what was found in it.
#[derive(Default)]
pub(crate) struct Incoming {
    pub(super) buffer: RecvBuffer,
    pub(super) meta: Option<Received>,
    runs: Vec<Run>,
}

/// Neighbouring messages of one session, opened.
struct Run {
    bytes: Range<usize>,
    peer: Arc<Peer>,
    opened: Opened,
}

/// Opens the next train that waits in `lane`.
pub(super) fn work(device: &Device, lane: &Lane<Incoming>) -> Worked {
    lane.work(|incoming| incoming.open(device))
}

impl Incoming {
    /// Opens the train's messages, without any session's lock, and hands handshakes to the slow path.
    pub(super) fn open(&mut self, device: &Device) {
        let Some(meta) = &self.meta else { return };
        let train = self.buffer.train_mut(meta.len);
        let mut at = 0;
        while at < train.len() {
            let rest = &mut train[at..];
            let first = meta.stride.min(rest.len());
            let mut len = first;
            match Message::parse(&rest[..first]) {
                Some(Message::Data(header)) => {
                    len = run_len(rest, meta.stride, header.receiver);
                    let opened = open_run(device, meta, header.receiver, &mut rest[..len]);
                    self.runs.extend(opened.map(|(peer, opened)| Run { bytes: at..at + len, peer, opened }));
                }
                Some(Message::Handshake(message)) => {
                    device.handshake_arrived(Arrival { message, from: meta.from, local: meta.local });
                }
                None => device.note(Note::new(Reason::NotWireguard).at(meta.from)),
            }
            at += len;
        }
    }

    /// Lets the sessions accept what is new; adds the packets for TUN to `inner`.
    pub(super) fn accept<'b>(&'b mut self, device: &Device, inner: &mut Vec<&'b [u8]>) {
        let Some(meta) = &self.meta else { return };
        let mut rest = self.buffer.train_mut(meta.len);
        let mut at = 0;
        for run in &self.runs {
            let (messages, behind) = rest[run.bytes.start - at..].split_at_mut(run.bytes.len());
            (rest, at) = (behind, run.bytes.end);
            accept_run(device, meta, run, messages, inner);
        }
    }

    /// Lets go of what it found: an idle lane must not keep a peer or its keys alive.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.meta = None;
    }
}

/// How many bytes belong to the session of the first message, at most [`MAX_TRAIN`] messages.
fn run_len(bytes: &[u8], stride: usize, receiver: u32) -> usize {
    let is_same =
        |message: &&[u8]| DataHeader::parse(message).is_some_and(|header| header.receiver == receiver);
    bytes.chunks(stride).take(MAX_TRAIN).take_while(is_same).map(<[u8]>::len).sum()
}

fn open_run(
    device: &Device,
    meta: &Received,
    receiver: u32,
    messages: &mut [u8],
) -> Option<(Arc<Peer>, Opened)> {
    let indexed = device.indices.shared().get(receiver).cloned();
    let Some(Indexed::Keypair(peer, keypair)) = indexed else {
        note_all(device, meta, messages, Note::new(Reason::UnknownIndex));
        return None;
    };
    let Some(opened) = keypair.open_train(messages, meta.stride, Device::now()) else {
        note_all(device, meta, messages, Note::new(Reason::ExpiredKey).peer(&peer));
        return None;
    };
    Some((peer, opened))
}

#[cold]
#[inline(never)]
fn note_all(device: &Device, meta: &Received, messages: &[u8], note: Note<'_>) {
    device.note(note.times(messages.len().div_ceil(meta.stride)).at(meta.from));
}

/// The message at `position` was not taken. One whose key was given up between its being opened and now counts as a replay.
#[cold]
#[inline(never)]
fn note_refused(device: &Device, meta: &Received, run: &Run, position: usize) {
    let is_authentic = run.opened.is_authentic(position);
    let reason = if is_authentic { Reason::ReplayedData } else { Reason::Undecryptable };
    device.note(Note::new(reason).peer(&run.peer).at(meta.from));
}

#[cold]
#[inline(never)]
fn note_none_accepted(device: &Device, meta: &Received, run: &Run, bytes: usize) {
    (0..bytes.div_ceil(meta.stride)).for_each(|position| note_refused(device, meta, run, position));
}

#[cold]
#[inline(never)]
fn note_malformed(device: &Device, meta: &Received, run: &Run) {
    device.note(Note::new(Reason::MalformedInner).peer(&run.peer).at(meta.from));
}

/// What IPv6 says below the tunnel's own addresses is not worth a word: an interface that has a default route into the tunnel
/// sends some, as soon as it is up, and nobody is to allow these addresses.
#[cold]
#[inline(never)]
fn note_source(device: &Device, meta: &Received, run: &Run, source: IpAddr) {
    log::debug!("{}: sent a packet from {source}, which is not its own", run.peer);
    if let IpAddr::V6(source) = source
        && (source.is_unspecified() || source.is_unicast_link_local())
    {
        return;
    }
    device.note(Note::new(Reason::SourceNotAllowed).peer(&run.peer).at(meta.from).about(source));
}

fn accept_run<'b>(
    device: &Device,
    meta: &Received,
    run: &Run,
    messages: &'b mut [u8],
    inner: &mut Vec<&'b [u8]>,
) {
    let Run { peer, opened, .. } = run;
    let accepted = accept_opened(device, meta, peer, opened);
    if accepted == 0 {
        return note_none_accepted(device, meta, run, messages.len());
    }
    let routes = device.routes.shared();
    let mut received = 0;
    for (position, message) in messages.chunks_mut(meta.stride).enumerate() {
        if accepted & 1 << position == 0 {
            note_refused(device, meta, run, position);
            continue;
        }
        let wire_len = message.len();
        if wire_len == KEEPALIVE_LEN {
            received += wire_len;
            continue;
        }
        let padded = plaintext_mut(message);
        let Some(ip) = packet::parse(padded) else {
            note_malformed(device, meta, run);
            continue;
        };
        let is_its_own = routes.longest_match(ip.source).is_some_and(|route| Arc::ptr_eq(&route.peer, peer));
        if !is_its_own {
            note_source(device, meta, run, ip.source);
            continue;
        }
        let packet = &mut padded[..ip.total_len];
        packet::ecn_decap(packet, meta.ecn);
        received += wire_len;
        inner.push(packet);
    }
    peer.received(received);
}

/// Lets the session know what was authentic; returns which messages are to be delivered, a bit each.
fn accept_opened(device: &Device, meta: &Received, peer: &Arc<Peer>, opened: &Opened) -> u64 {
    let endpoint = device.endpoint_from(meta.from, meta.local);
    let mut session = peer.session.locked();
    let received = session.finish_recv(opened, &endpoint, Device::now());
    device.schedule(peer, &mut session);
    drop(session);
    device.retire(received.retired);
    if received.confirmed {
        peer.handshake_completed();
        device.flush(peer);
    }
    if received.initiate {
        device.initiate(peer);
    }
    received.accepted
}

/// The receiving half of a worker.
pub(super) struct Receiver<'a> {
    device: &'a Device,
    lane: Owner<'a, Incoming>,
    /// What the next train is exchanged for.
    spare: Incoming,
    /// Kept for its memory.
    inner: Vec<&'static [u8]>,
    /// As many trains came as may at a time.
    is_backed_up: bool,
}

impl<'a> Receiver<'a> {
    pub(super) fn new(device: &'a Device, lane: &'a Lane<Incoming>) -> Self {
        Receiver {
            device,
            lane: Owner::of(lane),
            spare: Incoming::default(),
            inner: Vec::new(),
            is_backed_up: false,
        }
    }

    /// Takes what was received out of `batch`, and delivers it in that order. Returns how many bytes it was.
    pub(super) fn push(&mut self, batch: &mut impl Trains, outlet: &mut impl Outlet) -> usize {
        let mut bytes = 0;
        let mut is_shared = false;
        for index in 0..batch.len() {
            let meta = batch.take(index, &mut self.spare.buffer);
            self.spare.meta = Some(meta);
            bytes += meta.len;
            let crew = &self.device.crew;
            // A short train behind those that others open stays in the lane, too; see `Sender::put`.
            is_shared |= self.is_backed_up
                && (crew.call(meta.packets(), meta.len) || !self.lane.is_empty() && crew.is_helping());
            if !is_shared && batch.len() == 1 && self.lane.is_empty() {
                self.deliver_spare(outlet);
                break;
            }
            while self.lane.is_full() {
                self.advance_or_yield(outlet);
            }
            self.lane.put(&mut self.spare);
        }
        if !is_shared {
            self.finish_own(outlet);
        }
        self.is_backed_up = batch.is_full();
        bytes
    }

    /// To be called in each round of the worker: delivers what is open, and opens what nobody has taken up since the last
    /// round or what helpers alone would be late with.
    pub(super) fn round(&mut self, outlet: &mut impl Outlet) {
        self.take_out(outlet);
        if self.lane.needs_its_owner() {
            work(self.device, self.lane.lane());
            self.take_out(outlet);
        }
        self.lane.end_round();
    }

    /// The sockets are silent: the next burst is a new one.
    pub(super) fn rest(&mut self) {
        self.is_backed_up = false;
    }

    /// A train on its own goes past the lane: nothing more has to be fetched into the cache for it.
    fn deliver_spare(&mut self, outlet: &mut impl Outlet) {
        self.spare.open(self.device);
        let mut inner = recycle(std::mem::take(&mut self.inner));
        self.spare.accept(self.device, &mut inner);
        deliver(self.device, &inner, outlet);
        self.inner = recycle(inner);
        self.spare.clear();
    }

    /// Delivers all that is in the lane.
    pub(super) fn finish(&mut self, outlet: &mut impl Outlet) {
        while !self.lane.is_empty() {
            self.advance_or_yield(outlet);
        }
    }

    /// Opens all that waits and delivers it together, as one flow's packets may have come in several trains. What others
    /// are opening stays in the lane.
    fn finish_own(&mut self, outlet: &mut impl Outlet) {
        while work(self.device, self.lane.lane()) != Worked::Nothing {}
        self.take_out(outlet);
    }

    /// Delivers what is open, or else opens what waits; false when there is neither.
    pub(super) fn advance(&mut self, outlet: &mut impl Outlet) -> bool {
        self.take_out(outlet) || work(self.device, self.lane.lane()) != Worked::Nothing
    }

    /// When everything in the lane is in others' hands, lets them go on. Each has one job, which is soon done unless it waits for
    /// a processor; then yielding gives it this one. Even under full load it is too rare for sleeping to be worth a wake-up.
    fn advance_or_yield(&mut self, outlet: &mut impl Outlet) {
        if !self.advance(outlet) {
            yield_now();
        }
    }

    /// Delivers what is open and next in order; false if there is nothing.
    fn take_out(&mut self, outlet: &mut impl Outlet) -> bool {
        let mut finished = self.lane.finished();
        let mut inner = recycle(std::mem::take(&mut self.inner));
        let mut count = 0;
        for incoming in finished.iter_mut().flatten() {
            incoming.accept(self.device, &mut inner);
            count += 1;
        }
        deliver(self.device, &inner, outlet);
        self.inner = recycle(inner);
        finished.iter_mut().flatten().for_each(|incoming| incoming.clear());
        drop(finished);
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

pub(super) fn deliver(device: &Device, inner: &[&[u8]], outlet: &mut impl Outlet) {
    for group in segment::groups(inner, outlet.offloads()) {
        if let Err(error) = outlet.deliver(&group) {
            match Fault::of(&error) {
                Fault::Gone => return device.end(),
                fault => log::debug!("the interface took a packet not ({fault:?}): {error}"),
            }
        }
    }
}

/// The same vector, empty, for other references: the standard library collects in place, so nothing is allocated.
fn recycle<'b>(mut used: Vec<&[u8]>) -> Vec<&'b [u8]> {
    used.clear();
    used.into_iter().map(|_| -> &[u8] { unreachable!("it is empty") }).collect()
}
