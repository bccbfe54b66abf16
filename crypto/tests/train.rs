//! Trains of any shape against the reference: what nobody thought to list in the other tests.

mod support;

use adit_crypto::{Backend, Rejected, TAG_LEN, aead};
use proptest::prelude::*;
use proptest::sample::Index;
use support::Reference;

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

    fn sealed(&self, backend: Backend) -> Vec<u8> {
        let mut train = self.bytes.clone();
        let key = aead::Key::with_backend(&self.key, backend);
        aead::seal_train(&key, self.first_counter, &mut train, self.stride, self.header);
        train
    }

    /// The train after opening, and the verdicts.
    fn opened(&self, backend: Backend, mut train: Vec<u8>, counters: &[u64]) -> (Vec<u8>, Vec<bool>) {
        let key = aead::Key::with_backend(&self.key, backend);
        // Neither verdict is the initial one everywhere, so each has to be written.
        let mut opened: Vec<bool> = (0..counters.len()).map(|i| i % 2 == 0).collect();
        aead::open_train(&key, counters, &mut train, self.stride, self.header, &mut opened);
        (train, opened)
    }
}

fn backends() -> impl Strategy<Value = Backend> {
    prop::sample::select(Backend::available().collect::<Vec<_>>())
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
        let reference = Reference::new(&layout.key);
        for (packet, counter) in expected.chunks_mut(layout.stride).zip(layout.first_counter..) {
            reference.seal(counter, &[], &mut packet[layout.header..]);
        }
        for backend in Backend::available() {
            prop_assert_eq!(layout.sealed(backend), &expected[..], "{}", backend);
        }
    }

    #[test]
    fn opened_to_what_was_sealed(layout in layouts(), backend in backends()) {
        let counters = layout.counters();
        let (train, opened) = layout.opened(backend, layout.sealed(Backend::AwsLc), &counters);
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
        backend in backends(),
    ) {
        prop_assume!(!layout.bytes.is_empty());
        let mut counters = layout.counters();
        let mut train = layout.sealed(Backend::AwsLc);
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

        let (train, opened) = layout.opened(backend, train, &counters);
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
        backend in backends(),
    ) {
        let packets = train.len().div_ceil(stride);
        let mut opened = vec![true; packets];
        let key = aead::Key::with_backend(&[7; 32], backend);
        aead::open_train(&key, &vec![0; packets], &mut train, stride, header, &mut opened);
        prop_assert!(opened.iter().all(|&opened| !opened));
    }
}

support::for_each_backend!(a_packet_without_a_tag_is_rejected, a_train_that_does_not_fit_is_refused_whole);

fn a_packet_without_a_tag_is_rejected(backend: Backend) {
    let key = aead::Key::with_backend(&[7; 32], backend);
    for len in 0..TAG_LEN {
        assert_eq!(aead::open(&key, 0, &[], &mut vec![0; len]), Err(Rejected));
    }
}

fn a_train_that_does_not_fit_is_refused_whole(backend: Backend) {
    let key = aead::Key::with_backend(&[7; 32], backend);
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
