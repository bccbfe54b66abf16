//! Transport keys, and sealing and opening trains with them (whitepaper 5.4.5, 5.4.6).
//!
//! Two types keep the rules. [`Nonces`] is a range that is used up by sealing: it cannot be copied, and only a session
//! hands one out. [`Opened`] says what the AEAD has authenticated: only [`Keypair::open_train`] makes one, and without one
//! no replay window, timer or endpoint moves.

use alloc::sync::Arc;

use adit_crypto::{Secret, TAG_LEN, aead};

use crate::limits::{REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME};
use crate::message::{DATA_HEADER_LEN, DataHeader, KEEPALIVE_LEN};
use crate::time::Instant;

/// Packets in a train at most: what one send with UDP segmentation offload may carry on every kernel that has it.
pub const MAX_TRAIN: usize = 64;

/// The keys of one session, both directions. Shared by the threads that seal and open with it; what changes (counters,
/// the replay window) is the session's.
pub struct Keypair {
    sending: aead::Key,
    receiving: aead::Key,
    local_index: u32,
    remote_index: u32,
    birth: Instant,
    is_initiator: bool,
}

impl core::fmt::Debug for Keypair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Keypair({:08x} -> {:08x})", self.local_index, self.remote_index)
    }
}

/// A range of consecutive counters, each to be used once.
#[derive(Debug)]
pub struct Nonces {
    first: u64,
    count: usize,
}

impl Nonces {
    pub(crate) fn new(first: u64, count: usize) -> Self {
        Nonces { first, count }
    }

    /// Takes the first `count` of them, for a train of its own.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn take(&mut self, count: usize) -> Nonces {
        assert!(count <= self.count, "no more nonces than were handed out");
        let taken = Nonces { first: self.first, count };
        self.first += count as u64;
        self.count -= count;
        taken
    }
}

/// One message that the AEAD has authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Authentic {
    pub(crate) position: usize,
    pub(crate) counter: u64,
    pub(crate) is_keepalive: bool,
}

/// What of a train the AEAD has authenticated.
#[derive(Debug)]
pub struct Opened {
    keypair: Arc<Keypair>,
    /// Bit `i`: the message at position `i` is authentic.
    authentic: u64,
    /// Bit `i`: it has no text.
    keepalives: u64,
    counters: [u64; MAX_TRAIN],
}

impl Opened {
    /// The keypair that opened the train.
    pub fn keypair(&self) -> &Arc<Keypair> {
        &self.keypair
    }

    /// Whether the message at `position` is authentic.
    pub fn is_authentic(&self, position: usize) -> bool {
        self.authentic >> position & 1 != 0
    }

    /// The authentic messages, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Authentic> {
        let mut left = self.authentic;
        core::iter::from_fn(move || {
            let position = left.trailing_zeros() as usize;
            let counter = *self.counters.get(position)?;
            left &= left - 1;
            Some(Authentic { position, counter, is_keepalive: self.keepalives & 1 << position != 0 })
        })
    }
}

impl Keypair {
    pub(crate) fn initiator(keys: (Secret<32>, Secret<32>), local: u32, remote: u32, birth: Instant) -> Self {
        let (sending, receiving) = keys;
        Self::new(&sending, &receiving, local, remote, birth, true)
    }

    pub(crate) fn responder(keys: (Secret<32>, Secret<32>), local: u32, remote: u32, birth: Instant) -> Self {
        let (receiving, sending) = keys;
        Self::new(&sending, &receiving, local, remote, birth, false)
    }

    fn new(
        sending: &Secret<32>,
        receiving: &Secret<32>,
        local_index: u32,
        remote_index: u32,
        birth: Instant,
        is_initiator: bool,
    ) -> Self {
        Keypair {
            sending: aead::Key::from(sending),
            receiving: aead::Key::from(receiving),
            local_index,
            remote_index,
            birth,
            is_initiator,
        }
    }

    /// Our index: what the peer's messages carry.
    pub fn local_index(&self) -> u32 {
        self.local_index
    }

    /// The peer's index: what messages to it carry.
    pub(crate) fn remote_index(&self) -> u32 {
        self.remote_index
    }

    /// When the keys were derived.
    pub fn birth(&self) -> Instant {
        self.birth
    }

    /// Whether we sent the initiation.
    pub fn is_initiator(&self) -> bool {
        self.is_initiator
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        now.has_reached(self.birth, REJECT_AFTER_TIME)
    }

    /// Seals a train in place: messages of `stride` bytes back to back, the last perhaps shorter, each with its plaintext
    /// after [`DATA_HEADER_LEN`] bytes and before [`TAG_LEN`] bytes, both of which are filled in.
    ///
    /// # Panics
    /// When the train has another number of messages than `nonces`, or one too short for header and tag.
    #[expect(clippy::needless_pass_by_value, reason = "sealing uses the nonces up")]
    pub fn seal_train(&self, nonces: Nonces, train: &mut [u8], stride: usize) {
        let Nonces { first, count } = nonces;
        assert_eq!(train.len().div_ceil(stride), count, "a nonce for each message");
        for (message, counter) in train.chunks_mut(stride).zip(first..=u64::MAX) {
            DataHeader { receiver: self.remote_index, counter }.write(message);
        }
        aead::seal_train(&self.sending, first, train, stride, DATA_HEADER_LEN);
    }

    /// Opens a received train in place: transport data of `stride` bytes for this keypair, the last perhaps shorter, at
    /// most [`MAX_TRAIN`]. What could not be authenticated is wiped. `None` when the key is too old to be used.
    ///
    /// # Panics
    /// When there are more than [`MAX_TRAIN`] messages.
    pub fn open_train(self: &Arc<Self>, train: &mut [u8], stride: usize, now: Instant) -> Option<Opened> {
        if self.is_expired(now) {
            return None;
        }
        let count = train.len().div_ceil(stride);
        let (mut counters, mut authentic) = ([0; MAX_TRAIN], [false; MAX_TRAIN]);
        for (message, counter) in train.chunks(stride).zip(&mut counters) {
            // A message that is no transport data cannot authenticate: its counter is at the limit.
            *counter = DataHeader::parse(message).map_or(u64::MAX, |header| header.counter);
        }
        aead::open_train(
            &self.receiving,
            &counters[..count],
            train,
            stride,
            DATA_HEADER_LEN,
            &mut authentic[..count],
        );
        let mut opened = Opened { keypair: self.clone(), authentic: 0, keepalives: 0, counters };
        for (position, message) in train.chunks(stride).enumerate() {
            let is_authentic = authentic[position] && counters[position] < REJECT_AFTER_MESSAGES;
            opened.authentic |= u64::from(is_authentic) << position;
            opened.keepalives |= u64::from(message.len() == KEEPALIVE_LEN) << position;
        }
        Some(opened)
    }
}

/// The plaintext within an opened message, padding included.
pub fn plaintext(message: &[u8]) -> &[u8] {
    &message[DATA_HEADER_LEN..message.len() - TAG_LEN]
}

/// [`plaintext`], to be changed in place.
pub fn plaintext_mut(message: &mut [u8]) -> &mut [u8] {
    let end = message.len() - TAG_LEN;
    &mut message[DATA_HEADER_LEN..end]
}

/// The length to which a packet of `len` bytes is padded (whitepaper 5.4.6): a multiple of 16, but not past `mtu` (zero
/// when there is none), for then the outer packet would not fit where the inner one did.
pub fn padded_len(len: usize, mtu: usize) -> usize {
    let align = |len: usize| len.next_multiple_of(crate::limits::PADDING_MULTIPLE);
    if mtu == 0 {
        return align(len);
    }
    // A packet larger than the MTU happens while the MTU is being lowered: its last MTU-sized unit is padded.
    let last_unit = if len > mtu { len % mtu } else { len };
    len - last_unit + align(last_unit).min(mtu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::START;
    use alloc::vec;

    /// How many of one message with `counter` are authentic after `damage`.
    fn opened(counter: u64, damage: impl Fn(&mut [u8])) -> usize {
        let keys = || (Secret::new([1; 32]), Secret::new([2; 32]));
        let sender = Keypair::initiator(keys(), 1, 2, START);
        let receiver = Arc::new(Keypair::responder(keys(), 2, 1, START));
        let mut message = vec![0; KEEPALIVE_LEN];
        sender.seal_train(Nonces::new(counter, 1), &mut message, KEEPALIVE_LEN);
        damage(&mut message);
        receiver.open_train(&mut message, KEEPALIVE_LEN, START).map_or(0, |opened| opened.messages().count())
    }

    /// boringtun accepts counter 2^64 - 1.
    #[test]
    fn what_was_sealed_with_a_counter_at_the_limit_is_not_authentic() {
        for (counter, expected) in
            [(0, 1), (REJECT_AFTER_MESSAGES - 1, 1), (REJECT_AFTER_MESSAGES, 0), (u64::MAX, 0)]
        {
            assert_eq!(opened(counter, |_| ()), expected, "counter {counter}");
        }
    }

    /// GotaTun ignores the reserved bytes, which no tag covers.
    #[test]
    fn what_is_not_transport_data_is_not_authentic() {
        for counter in [0, u64::MAX] {
            for at in 0..4 {
                assert_eq!(opened(counter, |message| message[at] ^= 1), 0, "byte {at}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "no more nonces than were handed out")]
    fn nonces_cannot_be_stretched() {
        Nonces::new(0, 2).take(3);
    }

    /// The first audit of GotaTun, 3.3: packets were not padded, and showed their lengths.
    #[test]
    fn padding_is_to_sixteen_and_never_past_the_mtu() {
        assert_eq!(padded_len(0, 1420), 0);
        assert_eq!(padded_len(1, 1420), 16);
        assert_eq!(padded_len(84, 1420), 96);
        assert_eq!(padded_len(1419, 1420), 1420);
        assert_eq!(padded_len(1420, 1420), 1420);
        assert_eq!(padded_len(1430, 1420), 1420 + 16);
        assert_eq!(padded_len(2840, 1420), 2840);
        assert_eq!(padded_len(1500, 0), 1504);
        for len in 0..3000 {
            for mtu in [0, 576, 1280, 1420, 1421, 9000] {
                let padded = padded_len(len, mtu);
                assert!(padded >= len && padded - len < 16);
            }
        }
    }
}
