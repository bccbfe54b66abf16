//! ChaCha20-Poly1305: decides which code serves a call.

use super::{Backend, Group, avx2, avx512, aws_lc};
use crate::{KEY_LEN, Rejected, TAG_LEN};

/// A ChaCha20-Poly1305 key.
pub(crate) struct AeadKey {
    library: aws_lc::AeadKey,
    vector: Vector,
}

/// Vector code with the key in its form, if any is to serve.
enum Vector {
    None,
    Avx2(avx2::Key),
    Avx512(avx512::Key),
}

/// Packets in a group at most.
const MAX_GROUP: usize =
    if avx2::MAX_GROUP > avx512::MAX_GROUP { avx2::MAX_GROUP } else { avx512::MAX_GROUP };

impl AeadKey {
    /// Panics if this CPU cannot run `backend`.
    pub(crate) fn new(key: &[u8; KEY_LEN], backend: Backend) -> Self {
        let vector = match backend {
            Backend::AwsLc => Some(Vector::None),
            Backend::Avx2 => avx2::Key::new(key).map(Vector::Avx2),
            Backend::Avx512 => avx512::Key::new(key).map(Vector::Avx512),
        };
        Self { library: aws_lc::AeadKey::new(key), vector: vector.expect("this CPU runs the backend") }
    }

    /// Encrypts `text` in place and writes its tag.
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &mut [u8; TAG_LEN]) {
        match &self.vector {
            Vector::Avx512(key) if aad.is_empty() => {
                key.seal(counter, text, tag);
            }
            _ => self.library.seal(nonce(counter), aad, text, tag),
        }
    }

    /// Decrypts `text` in place, or wipes it.
    pub(crate) fn open(
        &self,
        counter: u64,
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Rejected> {
        match &self.vector {
            Vector::Avx512(key) if aad.is_empty() => key.open(counter, text, tag),
            // The library may have decrypted before it compared tags and promises nothing about the buffer.
            _ => self.library.open(nonce(counter), aad, text, tag).inspect_err(|_| text.fill(0)),
        }
    }

    /// Seals a train that [`crate::aead::seal_train`] has checked.
    pub(crate) fn seal_train(&self, first_counter: u64, mut train: &mut [u8], stride: usize, header: usize) {
        let mut counter = first_counter;
        // After the last counter of all comes none that is used.
        let mut take = |count: usize| {
            let first = counter;
            counter = counter.wrapping_add(count as u64);
            first
        };
        while let Some(packets) = self.next_group(train.len(), stride, header) {
            let first = take(packets);
            let counters: [u64; MAX_GROUP] = core::array::from_fn(|i| first.wrapping_add(i as u64));
            let packets = train.split_off_mut(..packets * stride).expect("a group is within the train");
            self.vector.seal(&counters[..packets.len() / stride], Group { packets, stride, header });
        }
        for packet in train.chunks_mut(stride) {
            let sealed = packet[header..].split_last_chunk_mut();
            let (text, tag) = sealed.expect("the caller has checked that there is room for the tag");
            self.seal(take(1), &[], text, tag);
        }
    }

    /// Opens a train whose number of packets [`crate::aead::open_train`] has checked.
    pub(crate) fn open_train(
        &self,
        mut counters: &[u64],
        mut train: &mut [u8],
        stride: usize,
        header: usize,
        mut opened: &mut [bool],
    ) {
        while let Some(packets) = self.next_group(train.len(), stride, header) {
            let (first, rest) = counters.split_at(packets);
            counters = rest;
            let verdicts = opened.split_off_mut(..packets).expect("a verdict for each packet");
            let packets = train.split_off_mut(..packets * stride).expect("a group is within the train");
            self.vector.open(first, Group { packets, stride, header }, verdicts);
        }
        for ((packet, &counter), verdict) in train.chunks_mut(stride).zip(counters).zip(opened) {
            let parts = packet.get_mut(header..).and_then(<[u8]>::split_last_chunk_mut);
            *verdict = parts.is_some_and(|(text, tag)| self.open(counter, &[], text, tag).is_ok());
        }
    }

    /// How many of the next packets of a train of `len` bytes are a group.
    fn next_group(&self, len: usize, stride: usize, header: usize) -> Option<usize> {
        let text_len = stride.checked_sub(header)?.checked_sub(TAG_LEN)?;
        // The last packet may be shorter, and is no part of a group then.
        let packets = len / stride;
        match &self.vector {
            Vector::None => None,
            Vector::Avx2(_) => avx2::group_len(packets, text_len),
            Vector::Avx512(_) => avx512::group_len(packets, text_len),
        }
    }
}

impl Vector {
    fn seal(&self, counters: &[u64], group: Group<'_>) {
        match self {
            Self::None => unreachable!("without vector code there are no groups"),
            Self::Avx2(key) => key.seal_group(counters, group),
            Self::Avx512(key) => key.seal_group(counters, group),
        }
    }

    fn open(&self, counters: &[u64], group: Group<'_>, opened: &mut [bool]) {
        match self {
            Self::None => unreachable!("without vector code there are no groups"),
            Self::Avx2(key) => key.open_group(counters, group, opened),
            Self::Avx512(key) => key.open_group(counters, group, opened),
        }
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}
