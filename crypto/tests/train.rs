//! Trains against something dumber: RustCrypto's ChaCha20-Poly1305, one packet at a time.

use std::iter::repeat_n;

use adit_crypto::{Rejected, TAG_LEN, aead};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use proptest::prelude::*;
use proptest::sample::Index;

/// A train as the data path makes them, with text that is different in every packet.
#[derive(Clone, Debug)]
struct Layout {
    key: [u8; 32],
    first_counter: u64,
    stride: usize,
    header: usize,
    bytes: Vec<u8>,
}

impl Layout {
    fn counters(&self) -> Vec<u64> {
        (self.first_counter..).take(self.bytes.len().div_ceil(self.stride)).collect()
    }

    fn sealed(&self) -> Vec<u8> {
        let mut train = self.bytes.clone();
        aead::seal_train(
            &aead::Key::new(&self.key),
            self.first_counter,
            &mut train,
            self.stride,
            self.header,
        );
        train
    }

    /// The train after opening, and the verdicts.
    fn opened(&self, mut train: Vec<u8>, counters: &[u64]) -> (Vec<u8>, Vec<bool>) {
        let key = aead::Key::new(&self.key);
        // Neither verdict is the initial one everywhere, so each has to be written.
        let mut opened: Vec<bool> = (0..counters.len()).map(|i| i % 2 == 0).collect();
        aead::open_train(&key, counters, &mut train, self.stride, self.header, &mut opened);
        (train, opened)
    }
}

prop_compose! {
    fn layouts()(
        text in prop_oneof![0..80_usize, 0..1500_usize],
        header in 0..40_usize,
        whole in 0..70_usize,
    )(
        key in any::<[u8; 32]>(),
        first_counter in prop_oneof![0..4_u64, (u64::from(u32::MAX) - 70)..=(1 << 32), any::<u64>()],
        last in prop::option::of(0..=text),
        seed in any::<u8>(),
        (text, header, whole) in Just((text, header, whole)),
    ) -> Layout {
        let stride = header + text + TAG_LEN;
        let len = whole * stride + last.map_or(0, |text| header + text + TAG_LEN);
        let bytes = (0..len).map(|i| (i / 251 + i) as u8 ^ seed).collect();
        // The transport never comes near the end of the counters, and `seal_train` refuses to pass it.
        Layout { key, first_counter: first_counter.min(u64::MAX - 71), stride, header, bytes }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn sealed_as_the_reference_seals(layout in layouts()) {
        let mut expected = layout.bytes.clone();
        for (packet, counter) in expected.chunks_mut(layout.stride).zip(layout.first_counter..) {
            reference_seal(&layout.key, counter, &mut packet[layout.header..]);
        }
        prop_assert_eq!(layout.sealed(), expected);
    }

    #[test]
    fn opened_to_what_was_sealed(layout in layouts()) {
        let counters = layout.counters();
        let (train, opened) = layout.opened(layout.sealed(), &counters);
        prop_assert!(opened.iter().all(|&opened| opened));
        for (packet, plain) in train.chunks(layout.stride).zip(layout.bytes.chunks(layout.stride)) {
            let text = ..plain.len() - TAG_LEN;
            prop_assert_eq!(&packet[text], &plain[text]);
        }
    }

    /// Each packet stands for itself: those touched are rejected and wiped, the others open.
    #[test]
    fn only_what_was_touched_is_rejected(
        layout in layouts(),
        touched in prop::collection::vec((any::<Index>(), any::<Index>(), 0..8_u32), 0..6),
        misnumbered in prop::option::of(any::<Index>()),
    ) {
        prop_assume!(!layout.bytes.is_empty());
        let mut counters = layout.counters();
        let mut train = layout.sealed();
        let mut intact = vec![true; counters.len()];
        for (packet, byte, bit) in touched {
            let packet = packet.index(counters.len());
            if std::mem::replace(&mut intact[packet], false) {
                let sealed = train.chunks_mut(layout.stride).nth(packet).unwrap()[layout.header..].as_mut();
                sealed[byte.index(sealed.len())] ^= 1_u8 << bit;
            }
        }
        if let Some(packet) = misnumbered {
            let packet = packet.index(counters.len());
            counters[packet] ^= 1 << 33;
            intact[packet] = false;
        }

        let (train, opened) = layout.opened(train, &counters);
        prop_assert_eq!(&opened, &intact);
        let packets = train.chunks(layout.stride).zip(layout.bytes.chunks(layout.stride));
        for ((packet, plain), opened) in packets.zip(opened) {
            let (header, text) = (..layout.header, layout.header..plain.len() - TAG_LEN);
            prop_assert_eq!(&packet[header], &plain[header]);
            if opened {
                prop_assert_eq!(&packet[text.clone()], &plain[text]);
            } else {
                prop_assert!(packet[text].iter().all(|&byte| byte == 0));
            }
        }
    }

    /// What comes off the wire has whatever lengths it likes.
    #[test]
    fn no_layout_from_the_network_panics(
        mut train in prop::collection::vec(any::<u8>(), 0..400),
        stride in 1..120_usize,
        header in 0..60_usize,
    ) {
        let packets = train.len().div_ceil(stride);
        let mut opened = vec![true; packets];
        let key = aead::Key::new(&[7; 32]);
        aead::open_train(&key, &vec![0; packets], &mut train, stride, header, &mut opened);
        prop_assert!(opened.iter().all(|&opened| !opened));
    }

    #[test]
    fn packets_with_associated_data_agree_with_the_reference(
        key in any::<[u8; 32]>(),
        counter in any::<u64>(),
        aad in prop::collection::vec(any::<u8>(), 0..100),
        plain in prop::collection::vec(any::<u8>(), 0..1700),
    ) {
        let mut buf: Vec<u8> = plain.iter().copied().chain(repeat_n(0, TAG_LEN)).collect();
        aead::seal(&aead::Key::new(&key), counter, &aad, &mut buf);

        let (text, tag) = buf.split_last_chunk_mut::<TAG_LEN>().unwrap();
        let (reference, nonce) = (ChaCha20Poly1305::new(&key.into()), nonce(counter).into());
        let opened = reference.decrypt_inout_detached(&nonce, &aad, text.into(), (&*tag).into());
        prop_assert!(opened.is_ok());
        prop_assert_eq!(&*text, &plain[..]);
    }
}

fn reference_seal(key: &[u8; 32], counter: u64, buf: &mut [u8]) {
    let (text, tag) = buf.split_last_chunk_mut::<TAG_LEN>().unwrap();
    let reference = ChaCha20Poly1305::new(key.into());
    *tag = reference.encrypt_inout_detached(&nonce(counter).into(), &[], text.into()).unwrap().into();
}

fn nonce(counter: u64) -> [u8; 12] {
    (u128::from(counter) << 32).to_le_bytes()[..12].try_into().unwrap()
}

#[test]
fn a_packet_without_a_tag_is_rejected() {
    let key = aead::Key::new(&[7; 32]);
    for len in 0..TAG_LEN {
        assert_eq!(aead::open(&key, 0, &[], &mut vec![0; len]), Err(Rejected));
    }
}

#[test]
fn a_train_that_does_not_fit_is_refused_whole() {
    let key = aead::Key::new(&[7; 32]);
    for (first_counter, len) in [(0, 2 * 64 + 16 + TAG_LEN - 1), (u64::MAX - 1, 3 * 64)] {
        let mut train = vec![0x55; len];
        let sealing =
            std::panic::AssertUnwindSafe(|| aead::seal_train(&key, first_counter, &mut train, 64, 16));
        assert!(std::panic::catch_unwind(sealing).is_err());
        assert_eq!(train, vec![0x55; len]);
    }
    aead::seal_train(&key, u64::MAX - 1, &mut [0; 2 * 64], 64, 16);
    aead::seal_train(&key, u64::MAX, &mut [], 64, 16);
}
