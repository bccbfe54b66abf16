//! ChaCha20-Poly1305: decides which code serves a call.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::{Backend, aws_lc};
use crate::{KEY_LEN, Rejected, TAG_LEN};

/// A ChaCha20-Poly1305 key.
pub(crate) struct AeadKey {
    library: aws_lc::AeadKey,
    #[cfg(target_arch = "x86_64")]
    own: Option<avx512::Key>,
}

impl AeadKey {
    /// Panics if this CPU cannot run `backend`.
    pub(crate) fn new(key: &[u8; KEY_LEN], backend: Backend) -> Self {
        assert!(backend.is_available(), "this CPU cannot run the {backend} backend");
        Self {
            library: aws_lc::AeadKey::new(key),
            #[cfg(target_arch = "x86_64")]
            own: if backend == Backend::Avx512 { avx512::Key::new(key) } else { None },
        }
    }

    /// Encrypts `text` in place and writes its tag.
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &mut [u8; TAG_LEN]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(own) = &self.own
            && aad.is_empty()
        {
            return own.seal(counter, text, tag);
        }
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
        #[cfg(target_arch = "x86_64")]
        if let Some(own) = &self.own
            && aad.is_empty()
        {
            return own.open(counter, text, tag);
        }
        self.library.open(nonce(counter), aad, text, tag).inspect_err(|_| text.fill(0))
    }

    /// Seals a train that [`crate::aead::seal_train`] has checked.
    pub(crate) fn seal_train(&self, first_counter: u64, train: &mut [u8], stride: usize, header: usize) {
        let whole = train.len() / stride;
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if let Some(own) = &self.own {
            while whole - done > 4 {
                let count = (whole - done).min(16);
                let packets = &mut train[done * stride..(done + count) * stride];
                let counters: [u64; 16] =
                    core::array::from_fn(|i| first_counter.wrapping_add((done + i) as u64));
                own.seal_group(&counters[..count], avx512::Group { packets, stride, header });
                done += count;
            }
        }
        let rest = train[done * stride..].chunks_mut(stride);
        for (counter, packet) in (first_counter.saturating_add(done as u64)..=u64::MAX).zip(rest) {
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
        let whole = if stride >= header + TAG_LEN { train.len() / stride } else { 0 };
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if let Some(own) = &self.own {
            while whole - done > 4 {
                let count = (whole - done).min(16);
                let range = done..done + count;
                let packets = &mut train[done * stride..(done + count) * stride];
                own.open_group(
                    &counters[range.clone()],
                    avx512::Group { packets, stride, header },
                    &mut opened[range],
                );
                done += count;
            }
        }
        let rest = train[done * stride..].chunks_mut(stride);
        for ((packet, &counter), verdict) in rest.zip(&counters[done..]).zip(&mut opened[done..]) {
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
