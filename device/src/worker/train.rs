//! The train under construction: packets for one peer, back to back, with room for headers and tags.
//!
//! Behind it in the same buffer the next one may be begun, as long as they are short: several peers' trains are sealed by
//! one job then, and leave by one call. They are a *convoy*; nearly always it is of one train.

use std::ops::Range;
use std::sync::Arc;

use adit_proto::keypair::{Keypair, MAX_TRAIN, Nonces, padded_len};
use adit_proto::limits::PADDING_MULTIPLE;
use adit_proto::message::{DATA_HEADER_LEN, DATA_OVERHEAD};
use adit_proto::session::Grant;

use crate::endpoint::Endpoint;
use crate::peer::Peer;

/// The longest train: what one UDP datagram before segmentation can be over IPv4.
const MAX_BYTES: usize = 65_507;
/// What a convoy of several trains is at most, in bytes: more would gain little, and make the first ones wait.
const CONVOY_BYTES: usize = 16 << 10;

/// A single packet may be as long as IP allows, and padded past that while the MTU is being lowered.
pub(super) const BUFFER_LEN: usize = 65_535 + PADDING_MULTIPLE + DATA_OVERHEAD;

/// A train that has leave to be sent.
pub(crate) struct Train {
    pub(crate) peer: Arc<Peer>,
    pub(crate) endpoint: Endpoint,
    /// The ECN bits of its packets, which become those of the outer headers.
    pub(crate) ecn: u8,
    /// The size of its messages; the last one may be shorter.
    pub(crate) stride: usize,
    /// Where in the convoy's buffer it is.
    place: Range<usize>,
    keypair: Arc<Keypair>,
    nonces: Option<Nonces>,
}

impl Train {
    /// Where in the convoy's buffer it starts: later trains start later.
    pub(crate) fn start(&self) -> usize {
        self.place.start
    }

    /// Its messages; `buffer` is the convoy's.
    pub(crate) fn messages<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        &buffer[self.place.clone()]
    }

    fn seal(&mut self, buffer: &mut [u8]) {
        if let Some(nonces) = self.nonces.take() {
            self.keypair.seal_train(nonces, &mut buffer[self.place.clone()], self.stride);
        }
    }
}

/// Trains in one buffer.
pub(crate) struct Convoy {
    buffer: Box<[u8]>,
    /// Of all trains.
    len: usize,
    /// Those that have leave to be sent, and how many packets they have together.
    granted: Vec<Train>,
    granted_packets: usize,
    open: Option<Open>,
    /// The lengths of the open train's packets without padding, which staging needs.
    packet_lens: [u16; MAX_TRAIN],
}

/// The train under construction, the convoy's last.
struct Open {
    peer: Arc<Peer>,
    ecn: u8,
    start: usize,
    stride: usize,
    packets: usize,
}

impl Default for Convoy {
    fn default() -> Self {
        Convoy {
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            len: 0,
            granted: Vec::with_capacity(MAX_TRAIN),
            granted_packets: 0,
            open: None,
            packet_lens: [0; MAX_TRAIN],
        }
    }
}

/// Building it.
impl Convoy {
    /// Whether a packet of `len` bytes can be appended to the open train. All messages are of one size, but the last may
    /// be shorter.
    pub(super) fn takes(&self, peer: &Arc<Peer>, ecn: u8, len: usize, mtu: usize) -> bool {
        let Some(open) = &self.open else { return false };
        let message = padded_len(len, mtu) + DATA_OVERHEAD;
        let max_len = if self.granted.is_empty() { MAX_BYTES } else { CONVOY_BYTES };
        Arc::ptr_eq(&open.peer, peer)
            && open.ecn == ecn
            && message <= open.stride
            && self.len == open.start + open.packets * open.stride
            && self.packets() < MAX_TRAIN
            && self.len + message <= max_len
    }

    /// Whether a train that starts with a packet of `len` bytes may follow those that are granted.
    pub(super) fn has_room(&self, len: usize, mtu: usize) -> bool {
        let message = padded_len(len, mtu) + DATA_OVERHEAD;
        self.is_empty() || self.packets() < MAX_TRAIN && self.len + message <= CONVOY_BYTES
    }

    /// Begins a train that starts with a packet of `len` bytes. There must be [room](Self::has_room), and none open.
    pub(super) fn begin(&mut self, peer: Arc<Peer>, ecn: u8, len: usize, mtu: usize) {
        debug_assert!(self.open.is_none(), "one train is open at a time");
        let stride = padded_len(len, mtu) + DATA_OVERHEAD;
        self.open = Some(Open { peer, ecn, start: self.len, stride, packets: 0 });
    }

    /// Appends a packet of `len` bytes, which `write` puts into its place, to the open train. It must be one that the
    /// train was begun for or [takes](Self::takes).
    pub(super) fn push(&mut self, len: usize, mtu: usize, write: impl FnOnce(&mut [u8])) {
        let Some(open) = &mut self.open else { return };
        let padded = padded_len(len, mtu);
        let message = &mut self.buffer[self.len..self.len + padded + DATA_OVERHEAD];
        let plaintext = &mut message[DATA_HEADER_LEN..DATA_HEADER_LEN + padded];
        write(&mut plaintext[..len]);
        plaintext[len..].fill(0);
        self.packet_lens[open.packets] = len as u16;
        open.packets += 1;
        self.len += padded + DATA_OVERHEAD;
    }

    /// Who the open train is for, and how many packets it has.
    pub(super) fn open(&self) -> Option<(&Arc<Peer>, usize)> {
        self.open.as_ref().map(|open| (&open.peer, open.packets))
    }

    /// The open train's packets, unpadded.
    pub(super) fn open_packets(&self) -> impl Iterator<Item = &[u8]> {
        let open = self.open.iter();
        open.flat_map(|open| {
            let messages = self.buffer[open.start..self.len].chunks(open.stride);
            messages
                .zip(&self.packet_lens)
                .map(|(message, len)| &message[DATA_HEADER_LEN..][..usize::from(*len)])
        })
    }

    /// Closes the open train, which may be sent. Without an endpoint it goes nowhere.
    pub(super) fn grant(&mut self, grant: Grant<Endpoint>) {
        let Grant { keypair, nonces, endpoint: Some(endpoint), .. } = grant else { return self.discard() };
        let Some(Open { peer, ecn, start, stride, packets }) = self.open.take() else { return };
        self.granted_packets += packets;
        self.granted.push(Train {
            peer,
            endpoint,
            ecn,
            stride,
            place: start..self.len,
            keypair,
            nonces: Some(nonces),
        });
    }

    /// Drops the open train.
    pub(super) fn discard(&mut self) {
        if let Some(open) = self.open.take() {
            self.len = open.start;
        }
    }
}

/// On its way.
impl Convoy {
    /// Whether it has no train, neither granted nor open.
    pub(super) fn is_empty(&self) -> bool {
        self.granted.is_empty() && self.open.is_none()
    }

    pub(super) fn packets(&self) -> usize {
        self.granted_packets + self.open.as_ref().map_or(0, |open| open.packets)
    }

    /// In bytes, headers and tags included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Seals the granted trains.
    pub(super) fn seal(&mut self) {
        self.granted.iter_mut().for_each(|train| train.seal(&mut self.buffer));
    }

    /// The granted trains, in the order in which they are to leave, and their buffer.
    pub(super) fn trains(&mut self) -> (&mut [Train], &[u8]) {
        (&mut self.granted, &self.buffer)
    }

    /// Forgets the granted trains, which are gone.
    pub(super) fn clear_granted(&mut self) {
        self.granted.clear();
        self.granted_packets = 0;
        if self.open.is_none() {
            self.len = 0;
        }
    }
}
