//! Forged packets in every place of a train: each is rejected and wiped, and nothing else is.

mod support;

use adit_crypto::{Backend, TAG_LEN, aead};
use support::{Guarded, KEY, Shape, bytes, counters, for_each_backend};

for_each_backend! {
    one_packet_in_every_place_of_every_batch,
    any_bit_of_a_tag,
    any_byte_of_a_text,
    several_packets,
    the_last_packet,
    a_counter_that_is_another,
    a_last_packet_too_short_for_a_tag,
}

/// A sealed train and what it is made of.
struct Train {
    key: aead::Key,
    shape: Shape,
    counters: Vec<u64>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Train {
    fn new(backend: Backend, shape: Shape) -> Self {
        let counters = counters((1 << 32) - 3, shape.all_packets());
        let plain = bytes(shape.bytes(), shape.len + shape.packets);
        let sealed = shape.reference_seal(&KEY, &counters, &plain);
        Self { key: aead::Key::with_backend(&KEY, backend), shape, counters, plain, sealed }
    }

    /// Opens the train after `forge` has changed it: exactly the packets that `forged` tells are rejected,
    /// their text is all zero, and every other byte is what it should be.
    fn check(&self, forge: impl FnOnce(&mut [u8]), forged: impl Fn(usize) -> bool) {
        self.check_with(&self.counters, forge, forged);
    }

    fn check_with(&self, counters: &[u64], forge: impl FnOnce(&mut [u8]), forged: impl Fn(usize) -> bool) {
        let mut buf = Guarded::new(&self.sealed, self.shape.len);
        forge(buf.content());
        let mut expected = buf.content().to_vec();
        let opened = self.shape.open(&self.key, counters, buf.content());
        for (i, &opened) in opened.iter().enumerate() {
            assert_eq!(opened, !forged(i), "packet {i} of {:?}", self.shape);
            let text = self.shape.text(i);
            if opened {
                expected[text.clone()].copy_from_slice(&self.plain[text]);
            } else {
                expected[text].fill(0);
            }
        }
        assert!(buf.intact() == expected, "{:?}", self.shape);
    }
}

/// The lengths around which a backend may change its ways.
const LENGTHS: [usize; 11] = [0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 300];

fn one_packet_in_every_place_of_every_batch(backend: Backend) {
    for packets in 1..=64 {
        for len in LENGTHS {
            let train = Train::new(backend, Shape::new(16, len, packets));
            for forged in 0..packets {
                let sealed = train.shape.sealed(forged);
                // The first and last byte, one in the middle; of the tag the first and the last.
                let places = [sealed.start, sealed.start + len / 2, sealed.end - TAG_LEN, sealed.end - 1];
                let place = places[(packets + forged + len) % 4];
                train.check(|train| train[place] ^= 1 << (forged % 8), |i| i == forged);
            }
        }
    }
}

/// 128 bits, in every lane of the widest group and of a narrow one.
fn any_bit_of_a_tag(backend: Backend) {
    for (len, packets) in [(0, 16), (64, 16), (100, 5), (1420, 1)] {
        let train = Train::new(backend, Shape::new(16, len, packets));
        for forged in 0..packets {
            for bit in 0..8 * TAG_LEN {
                let place = train.shape.text(forged).end + bit / 8;
                train.check(|train| train[place] ^= 1 << (bit % 8), |i| i == forged);
            }
        }
    }
}

fn any_byte_of_a_text(backend: Backend) {
    for (len, packets) in [(200, 16), (333, 8), (200, 3), (1420, 1)] {
        let train = Train::new(backend, Shape::new(16, len, packets));
        for forged in 0..packets {
            for place in train.shape.text(forged) {
                train.check(|train| train[place] ^= 0x80 >> (place % 8), |i| i == forged);
            }
        }
    }
}

/// None, all, all but one, every other, and one more pattern.
fn several_packets(backend: Backend) {
    for packets in 1..=64 {
        for len in LENGTHS {
            let train = Train::new(
                backend,
                Shape { last: (len > 1).then_some(len / 2), ..Shape::new(16, len, packets) },
            );
            let patterns: [&dyn Fn(usize) -> bool; 6] = [
                &|_| false,
                &|_| true,
                &|i| i != (len + packets) % train.shape.all_packets(),
                &|i| i % 2 == 0,
                &|i| i % 2 == 1,
                &|i| i * i * 7 % 11 < 5,
            ];
            for forged in patterns {
                let forge = |bytes: &mut [u8]| {
                    for i in (0..train.shape.all_packets()).filter(|&i| forged(i)) {
                        let sealed = &mut bytes[train.shape.sealed(i)];
                        let place = i * 31 % sealed.len();
                        sealed[place] ^= 1;
                    }
                };
                train.check(forge, forged);
            }
        }
    }
}

fn the_last_packet(backend: Backend) {
    for packets in 1..=33 {
        for last in (0..=130).step_by(13) {
            let train = Train::new(backend, Shape { last: Some(last), ..Shape::new(16, 130, packets) });
            for place in [train.shape.sealed(packets).start, train.shape.sealed(packets).end - 1] {
                train.check(|train| train[place] ^= 4, |i| i == packets);
            }
        }
    }
}

/// Bits of both halves, so that a lane that takes its neighbour's counter, or the low half only, shows.
fn a_counter_that_is_another(backend: Backend) {
    for packets in [1, 2, 4, 8, 13, 16, 17, 45, 64] {
        let train = Train::new(backend, Shape::new(16, 77, packets));
        for forged in 0..packets {
            for bit in [0, 1, 31, 32, 33, 63] {
                let mut counters = train.counters.clone();
                counters[forged] ^= 1 << bit;
                train.check_with(&counters, |_| (), |i| i == forged);
            }
        }
        let mut rotated = train.counters.clone();
        rotated.rotate_left(1);
        train.check_with(&rotated, |_| (), |_| packets > 1);
    }
}

/// The end of a datagram that was cut off. What is too short to be a packet is left as it is.
fn a_last_packet_too_short_for_a_tag(backend: Backend) {
    const HEADER: usize = 16;
    for packets in 0..=33 {
        for len in [0, 40, 200] {
            let whole = Train::new(backend, Shape::new(HEADER, len, packets));
            for rest in 1..HEADER + TAG_LEN {
                let mut buf = Guarded::new(&[&whole.sealed[..], &bytes(rest, packets)].concat(), rest);
                let mut expected = buf.content().to_vec();
                for i in 0..packets {
                    expected[whole.shape.text(i)].copy_from_slice(&whole.plain[whole.shape.text(i)]);
                }
                let counters = [&whole.counters[..], &[5]].concat();
                let opened = whole.shape.open(&whole.key, &counters, buf.content());
                assert!(opened.iter().enumerate().all(|(i, &opened)| opened == (i < packets)), "{opened:?}");
                assert!(buf.intact() == expected, "{packets} packets of {len} bytes, then {rest} bytes");
            }
        }
    }
}
