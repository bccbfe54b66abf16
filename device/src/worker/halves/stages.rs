//! The halves one stage after the other, so that each can be timed, or its instructions counted.
//!
//! The stages are functions that the compiler may not inline: a profiler knows them by their names.

use adit_net::segment::Group;
use adit_net::tun::VirtioNetHdr;
use adit_net::udp::Received;

use super::super::rx::{Incoming, deliver};
use super::super::tx::{Sender, send};
use super::memory::{ADDRESS, ToTun, ToUdp};
use crate::state::Device;

/// A part of a packet's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Packets and super-packets become a train, with their checksums.
    Split,
    /// The session grants keys and nonces.
    Session,
    /// The train is sealed.
    Seal,
    /// A received train is sorted, and opened.
    Open,
    /// The session accepts it, and the inner sources are checked.
    Accept,
    /// Neighbouring packets are joined.
    Coalesce,
}

impl Stage {
    /// All, in a packet's order.
    pub const ALL: [Stage; 6] =
        [Stage::Split, Stage::Session, Stage::Seal, Stage::Open, Stage::Accept, Stage::Coalesce];

    /// One word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Split => "split",
            Stage::Session => "session",
            Stage::Seal => "seal",
            Stage::Open => "open",
            Stage::Accept => "accept",
            Stage::Coalesce => "coalesce",
        }
    }

    /// How the name of the function ends that does it, and nothing else.
    #[must_use]
    pub fn function(self) -> &'static str {
        match self {
            Stage::Split => "halves::stages::split",
            Stage::Session => "halves::stages::session",
            Stage::Seal => "halves::stages::seal",
            Stage::Open => "halves::stages::open",
            Stage::Accept => "halves::stages::accept",
            Stage::Coalesce => "halves::stages::coalesce",
        }
    }
}

/// The sending half in stages.
pub struct StagedSending<'s, 'a> {
    sender: &'s mut Sender<'a>,
}

impl<'s, 'a> StagedSending<'s, 'a> {
    pub(super) fn new(sender: &'s mut Sender<'a>) -> Self {
        StagedSending { sender }
    }

    /// Sends `packets`, which must fit into one train and be for one peer. After each stage `done` is called.
    pub fn train(
        &mut self,
        packets: &[(VirtioNetHdr, &[u8])],
        mut done: impl FnMut(Stage),
        leave: impl FnMut(&[u8], usize),
    ) {
        split(self.sender, packets);
        done(Stage::Split);
        session(self.sender);
        done(Stage::Session);
        seal(self.sender);
        done(Stage::Seal);
        assert!(!self.sender.next.is_empty(), "the session has a key");
        send(&mut self.sender.next, &mut ToUdp(leave));
    }
}

#[inline(never)]
fn split(sender: &mut Sender<'_>, packets: &[(VirtioNetHdr, &[u8])]) {
    for (hdr, packet) in packets {
        sender.push(hdr, packet, &mut ToUdp(|_: &[u8], _| panic!("the packets fit into one train")));
    }
}

#[inline(never)]
fn session(sender: &mut Sender<'_>) {
    sender.close(&mut ToUdp(|_: &[u8], _| ()));
}

#[inline(never)]
fn seal(sender: &mut Sender<'_>) {
    sender.next.seal();
}

/// The receiving half in stages.
pub struct StagedReceiving<'a> {
    device: &'a Device,
    incoming: Incoming,
}

impl<'a> StagedReceiving<'a> {
    pub(super) fn new(device: &'a Device) -> Self {
        StagedReceiving { device, incoming: Incoming::default() }
    }

    /// Receives a train with messages of `stride` bytes. Before the first stage, with `None`, and after each stage `done` is
    /// called.
    pub fn train(
        &mut self,
        train: &[u8],
        stride: usize,
        mut done: impl FnMut(Option<Stage>),
        to_tun: impl FnMut(&Group<'_, '_>),
    ) {
        self.incoming.buffer.train_mut(train.len()).copy_from_slice(train);
        self.incoming.meta = Some(Received { from: ADDRESS, local: None, ecn: 0, len: train.len(), stride });
        done(None);
        open(&mut self.incoming, self.device);
        done(Some(Stage::Open));
        let mut inner = Vec::with_capacity(train.len().div_ceil(stride));
        accept(&mut self.incoming, self.device, &mut inner);
        done(Some(Stage::Accept));
        coalesce(self.device, &inner, ToTun(to_tun));
        done(Some(Stage::Coalesce));
        self.incoming.clear();
    }
}

#[inline(never)]
fn open(incoming: &mut Incoming, device: &Device) {
    incoming.open(device);
}

#[inline(never)]
fn accept<'b>(incoming: &'b mut Incoming, device: &Device, inner: &mut Vec<&'b [u8]>) {
    incoming.accept(device, inner);
}

#[inline(never)]
fn coalesce<F: FnMut(&Group<'_, '_>)>(device: &Device, inner: &[&[u8]], mut outlet: ToTun<F>) {
    deliver(device, inner, &mut outlet);
}
