//! The train under construction: packets for one peer, back to back, with room for headers and tags.

use std::sync::Arc;

use adit_proto::keypair::{MAX_TRAIN, padded_len};
use adit_proto::limits::PADDING_MULTIPLE;
use adit_proto::message::{DATA_HEADER_LEN, DATA_OVERHEAD};

use crate::peer::Peer;

/// The longest train: what one UDP datagram before segmentation can be over IPv4.
const MAX_BYTES: usize = 65_507;

/// A single packet may be as long as IP allows, and padded past that while the MTU is being lowered.
pub(super) const BUFFER_LEN: usize = 65_535 + PADDING_MULTIPLE + DATA_OVERHEAD;

pub(super) struct Train {
    buffer: Box<[u8]>,
    len: usize,
    stride: usize,
    /// The packets' lengths without padding, which staging needs.
    packet_lens: [usize; MAX_TRAIN],
    count: usize,
    /// Who it is for, and the ECN bits of its packets, which become those of the outer headers.
    bound_for: Option<(Arc<Peer>, u8)>,
}

impl Default for Train {
    fn default() -> Self {
        Train {
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            len: 0,
            stride: 0,
            packet_lens: [0; MAX_TRAIN],
            count: 0,
            bound_for: None,
        }
    }
}

impl Train {
    /// Whether a packet of `len` bytes can be appended. All messages are of one size, but the last may be shorter.
    pub(super) fn takes(&self, peer: &Arc<Peer>, ecn: u8, len: usize, mtu: usize) -> bool {
        let Some((bound_for, its_ecn)) = &self.bound_for else { return true };
        let message = padded_len(len, mtu) + DATA_OVERHEAD;
        Arc::ptr_eq(bound_for, peer)
            && *its_ecn == ecn
            && self.count < MAX_TRAIN
            && message <= self.stride
            && self.len == self.count * self.stride
            && self.len + message <= MAX_BYTES
    }

    /// Appends a packet of `len` bytes, which `write` puts into its place. It must be one that the train
    /// [takes](Self::takes).
    pub(super) fn push(
        &mut self,
        peer: &Arc<Peer>,
        ecn: u8,
        len: usize,
        mtu: usize,
        write: impl FnOnce(&mut [u8]),
    ) {
        if self.bound_for.is_none() {
            self.bound_for = Some((peer.clone(), ecn));
            self.stride = padded_len(len, mtu) + DATA_OVERHEAD;
        }
        let padded = padded_len(len, mtu);
        let message = &mut self.buffer[self.len..self.len + padded + DATA_OVERHEAD];
        let plaintext = &mut message[DATA_HEADER_LEN..DATA_HEADER_LEN + padded];
        write(&mut plaintext[..len]);
        plaintext[len..].fill(0);
        self.packet_lens[self.count] = len;
        self.count += 1;
        self.len += padded + DATA_OVERHEAD;
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// In bytes, headers and tags included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bound_for(&self) -> Option<&(Arc<Peer>, u8)> {
        self.bound_for.as_ref()
    }

    /// The messages, and their size.
    pub(super) fn messages(&mut self) -> (&mut [u8], usize) {
        (&mut self.buffer[..self.len], self.stride)
    }

    /// The packets, unpadded and not yet sealed.
    pub(super) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let messages = self.buffer[..self.len].chunks(self.stride.max(1));
        messages
            .zip(&self.packet_lens[..self.count])
            .map(|(message, len)| &message[DATA_HEADER_LEN..][..*len])
    }

    pub(super) fn clear(&mut self) {
        (self.len, self.count, self.bound_for) = (0, 0, None);
    }
}
