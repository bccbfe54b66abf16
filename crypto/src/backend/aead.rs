//! ChaCha20-Poly1305: decides which code serves a call.

use super::{Backend, aws_lc};
use crate::{KEY_LEN, Rejected, TAG_LEN};

/// A ChaCha20-Poly1305 key.
pub(crate) struct AeadKey {
    library: aws_lc::AeadKey,
}

impl AeadKey {
    /// Panics if this CPU cannot run `backend`.
    pub(crate) fn new(key: &[u8; KEY_LEN], backend: Backend) -> Self {
        assert!(backend.is_available(), "this CPU cannot run the {backend} backend");
        Self { library: aws_lc::AeadKey::new(key) }
    }

    /// Encrypts `text` in place and writes its tag.
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &mut [u8; TAG_LEN]) {
        self.library.seal(nonce(counter), aad, text, tag);
    }

    /// Decrypts `text` in place, or wipes it.
    pub(crate) fn open(
        &self,
        counter: u64,
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Rejected> {
        self.library.open(nonce(counter), aad, text, tag).inspect_err(|_| text.fill(0))
    }

    /// Seals a train that [`crate::aead::seal_train`] has checked.
    pub(crate) fn seal_train(&self, first_counter: u64, train: &mut [u8], stride: usize, header: usize) {
        for (counter, packet) in (first_counter..=u64::MAX).zip(train.chunks_mut(stride)) {
            let (text, tag) =
                packet[header..].split_last_chunk_mut().expect("checked: there is room for the tag");
            self.seal(counter, &[], text, tag);
        }
    }

    /// Opens a train whose number of packets [`crate::aead::open_train`] has checked.
    pub(crate) fn open_train(
        &self,
        counters: &[u64],
        train: &mut [u8],
        stride: usize,
        header: usize,
        opened: &mut [bool],
    ) {
        for ((packet, &counter), verdict) in train.chunks_mut(stride).zip(counters).zip(opened) {
            let parts = packet.get_mut(header..).and_then(<[u8]>::split_last_chunk_mut);
            *verdict = parts.is_some_and(|(text, tag)| self.open(counter, &[], text, tag).is_ok());
        }
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}
