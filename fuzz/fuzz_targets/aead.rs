//! Trains of any shape, forged in any way, through every backend, against RustCrypto one packet at a time.
//!
//! The input spells the layout and the forgeries; texts are made of what is left of it.

#![no_main]

use adit_crypto::{Backend, TAG_LEN, aead};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // Too little input is no case.
    if let Ok(case) = Case::read(input) {
        case.check();
    }
});

struct Case {
    key: [u8; 32],
    first_counter: u64,
    header: usize,
    stride: usize,
    /// The train's bytes lie so far behind the start of an allocation, and end with it.
    offset: usize,
    plain: Vec<u8>,
    aad: Vec<u8>,
    forgeries: Vec<Forgery>,
}

enum Forgery {
    Flip {
        place: usize,
        bit: u32,
    },
    Counter {
        packet: usize,
        counter: u64,
    },
    /// Bytes that are missing at the end.
    Cut(usize),
}

impl Case {
    fn read(input: &[u8]) -> Result<Self> {
        let mut input = Unstructured::new(input);
        let header = input.int_in_range(0..=40)?;
        let packets: usize = input.int_in_range(1..=64)?;
        // Long ones cost time, and few of them show more than one.
        let longest = if packets <= 2 { 9_000 } else { 1_500 };
        let len: usize = input.int_in_range(0..=longest)?;
        let last: usize = input.int_in_range(0..=len)?;
        let first_counter = match input.int_in_range(0..=3)? {
            0 => 0,
            1 => (1 << 32) - input.int_in_range(0..=64)?,
            2 => u64::MAX - 63,
            _ => input.arbitrary::<u64>()?.min(u64::MAX - 63),
        };
        let stride = header + len + TAG_LEN;
        let bytes = (packets - 1) * stride + header + last + TAG_LEN;
        let mut forgeries = Vec::new();
        for _ in 0..input.int_in_range(0..=6)? {
            forgeries.push(match input.int_in_range(0..=4)? {
                0 => Forgery::Counter { packet: input.choose_index(packets)?, counter: input.arbitrary()? },
                1 => Forgery::Cut(input.int_in_range(0..=bytes - 1)?),
                _ => Forgery::Flip { place: input.choose_index(bytes)?, bit: input.int_in_range(0..=7)? },
            });
        }
        let offset = input.int_in_range(0..=63)?;
        let key = input.arbitrary()?;
        let aad_len = input.int_in_range(0..=80)?;
        let aad = (0..aad_len).map(|i| i as u8 ^ 0x5a).collect();
        let seed = input.take_rest();
        let plain =
            (0..bytes).map(|i| (i / 64) as u8 ^ seed.get(i % seed.len().max(1)).unwrap_or(&0)).collect();
        Ok(Self { key, first_counter, header, stride, offset, plain, aad, forgeries })
    }

    fn check(&self) {
        let sealed = self.check_sealing();
        self.check_opening(sealed);
        self.check_with_associated_data();
    }

    fn keys(&self) -> impl Iterator<Item = aead::Key> {
        Backend::available().map(|backend| aead::Key::with_backend(&self.key, backend))
    }

    fn check_sealing(&self) -> Vec<u8> {
        let mut expected = self.plain.clone();
        for (packet, counter) in expected.chunks_mut(self.stride).zip(self.first_counter..=u64::MAX) {
            self.reference_seal(counter, &[], &mut packet[self.header..]);
        }
        for key in self.keys() {
            let mut train = self.placed(&self.plain);
            let train = &mut train[self.offset..];
            aead::seal_train(&key, self.first_counter, train, self.stride, self.header);
            assert!(train == expected, "sealed otherwise");
        }
        expected
    }

    fn check_opening(&self, mut sealed: Vec<u8>) {
        let mut counters: Vec<u64> =
            (self.first_counter..=u64::MAX).take(sealed.len().div_ceil(self.stride)).collect();
        for forgery in &self.forgeries {
            match *forgery {
                Forgery::Flip { place, bit } => {
                    if let Some(byte) = sealed.get_mut(place) {
                        *byte ^= 1 << bit;
                    }
                }
                Forgery::Counter { packet, counter } => {
                    if let Some(other) = counters.get_mut(packet) {
                        *other = counter;
                    }
                }
                Forgery::Cut(bytes) => {
                    sealed.truncate(sealed.len().saturating_sub(bytes).max(1));
                    counters.truncate(sealed.len().div_ceil(self.stride));
                }
            }
        }

        let mut expected = sealed.clone();
        let verdicts: Vec<bool> = expected
            .chunks_mut(self.stride)
            .zip(&counters)
            .map(|(packet, &counter)| {
                packet.get_mut(self.header..).is_some_and(|sealed| self.reference_open(counter, sealed))
            })
            .collect();
        for key in self.keys() {
            let mut train = self.placed(&sealed);
            let train = &mut train[self.offset..];
            let mut opened: Vec<bool> = verdicts.iter().map(|verdict| !verdict).collect();
            aead::open_train(&key, &counters, train, self.stride, self.header, &mut opened);
            assert_eq!(opened, verdicts);
            assert!(train == expected, "opened otherwise");
        }
    }

    /// The first packet on its own.
    fn check_with_associated_data(&self) {
        let packet = &self.plain[self.header..self.stride.min(self.plain.len())];
        let mut expected = packet.to_vec();
        self.reference_seal(self.first_counter, &self.aad, &mut expected);
        for key in self.keys() {
            let mut buf = self.placed(packet);
            let buf = &mut buf[self.offset..];
            aead::seal(&key, self.first_counter, &self.aad, buf);
            assert!(buf == expected, "sealed otherwise with associated data");
            let text = aead::open(&key, self.first_counter, &self.aad, buf);
            assert!(text.is_ok_and(|text| text == &packet[..packet.len() - TAG_LEN]), "opened otherwise");
        }
    }

    /// A copy that ends where its allocation does, so that AddressSanitizer sees what is touched beyond.
    fn placed(&self, bytes: &[u8]) -> Box<[u8]> {
        [&vec![0; self.offset], bytes].concat().into_boxed_slice()
    }

    fn reference_seal(&self, counter: u64, aad: &[u8], buf: &mut [u8]) {
        let (text, tag) = buf.split_last_chunk_mut::<TAG_LEN>().unwrap();
        let reference = ChaCha20Poly1305::new(&self.key.into());
        *tag = reference.encrypt_inout_detached(&nonce(counter).into(), aad, text.into()).unwrap().into();
    }

    /// As [`aead::open`]: what is not authentic is wiped.
    fn reference_open(&self, counter: u64, buf: &mut [u8]) -> bool {
        let Some((text, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else { return false };
        let reference = ChaCha20Poly1305::new(&self.key.into());
        let opened = reference.decrypt_inout_detached(
            &nonce(counter).into(),
            &[],
            (&mut *text).into(),
            (&*tag).into(),
        );
        if opened.is_err() {
            text.fill(0);
        }
        opened.is_ok()
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    (u128::from(counter) << 32).to_le_bytes()[..12].try_into().unwrap()
}
