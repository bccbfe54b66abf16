//! Packets of equal length: first the keystream of all, a block a lane whoever's it is, then their tags, some in turn.

use core::arch::x86_64::*;
use core::array;

use zeroize::Zeroize;

use super::chacha20::{Block, LANES, Numbers, eight_blocks};
use super::memory::{load, store};
use super::{BLOCK_LEN, MAX_GROUP, MAX_TEXT};
use crate::backend::Group;
use crate::backend::poly1305::{OneTimeKey, tags};
use crate::{TAG_LEN, ct};

/// Seals up to eight packets, packet `i` with `nonces[i]`.
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn seal(key: &[u32; 8], nonces: &[u64], group: Group<'_>) {
    let mut keystream = Keystream::empty();
    let mut rest = Rest::new(&mut keystream, key, nonces, group);
    while rest.seal::<4>() {}
    while rest.seal::<2>() {}
    while rest.seal::<1>() {}
}

/// Opens up to eight packets, packet `i` with `nonces[i]`, says in `opened` which are authentic and wipes the others.
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn open(key: &[u32; 8], nonces: &[u64], group: Group<'_>, mut opened: &mut [bool]) {
    assert_eq!(opened.len(), nonces.len(), "a verdict for each packet");
    let mut keystream = Keystream::empty();
    let mut rest = Rest::new(&mut keystream, key, nonces, group);
    while rest.open::<4>(&mut opened) {}
    while rest.open::<2>(&mut opened) {}
    while rest.open::<1>(&mut opened) {}
}

/// A packet's text and tag.
type Sealed<'a> = (&'a mut [u8], &'a mut [u8; TAG_LEN]);

/// The packets of a group that are not done yet.
struct Rest<'a> {
    group: Group<'a>,
    keystream: &'a Keystream,
    /// How many are done.
    done: usize,
}

impl<'a> Rest<'a> {
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn new(keystream: &'a mut Keystream, key: &[u32; 8], nonces: &[u64], group: Group<'a>) -> Self {
        let Group { ref packets, stride, header } = group;
        assert_eq!(packets.len(), nonces.len() * stride, "a nonce for each packet");
        let text_len = stride.checked_sub(header + TAG_LEN).expect("a packet has room for header and tag");
        keystream.make(key, nonces, text_len);
        Self { group, keystream, done: 0 }
    }

    /// The next `N` packets, if there are so many, and the number of the first.
    fn next<const N: usize>(&mut self) -> Option<(usize, [Sealed<'a>; N])> {
        let Group { packets, stride, header } = &mut self.group;
        let packets = packets.split_off_mut(..N * *stride)?;
        let mut packets = packets.chunks_exact_mut(*stride);
        let first = self.done;
        self.done += N;
        let sealed = array::from_fn(|_| {
            let packet = packets.next().expect("as many as were split off");
            packet[*header..].split_last_chunk_mut().expect("a packet has room for header and tag")
        });
        Some((first, sealed))
    }

    /// Seals the next `N` packets, if there are so many.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn seal<const N: usize>(&mut self) -> bool {
        let Some((first, mut packets)) = self.next::<N>() else { return false };
        for (i, (text, _)) in packets.iter_mut().enumerate() {
            add_keystream(text, self.keystream.of_text(first + i));
        }
        let computed = self.tags(first, &packets);
        for ((_, tag), computed) in packets.into_iter().zip(computed) {
            *tag = computed.to_le_bytes();
        }
        true
    }

    /// Opens the next `N` packets, or wipes them, if there are so many.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn open<const N: usize>(&mut self, opened: &mut &mut [bool]) -> bool {
        let Some((first, packets)) = self.next::<N>() else { return false };
        let verdicts = opened.split_off_mut(..N).expect("a verdict for each packet");
        let computed = self.tags(first, &packets);
        for (i, ((text, tag), verdict)) in packets.into_iter().zip(verdicts).enumerate() {
            *verdict = ct::declassify(u128::from_le_bytes(*tag) ^ computed[i] == 0);
            if *verdict {
                add_keystream(text, self.keystream.of_text(first + i));
            } else {
                text.fill(0);
            }
        }
        true
    }

    /// The tags that ciphertexts have.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn tags<const N: usize>(&self, first: usize, packets: &[Sealed<'_>; N]) -> [u128; N] {
        let keys = array::from_fn(|i| self.keystream.one_time_key(first + i));
        tags(&keys, array::from_fn(|i| &*packets[i].0))
    }
}

/// A group's, packet after packet: the block that the one-time key is in, and those for the text.
struct Keystream {
    blocks: [Block; MAX_GROUP * (1 + MAX_TEXT / BLOCK_LEN)],
    each: usize,
    /// Blocks in use.
    made: usize,
}

impl Keystream {
    /// To be filled where it is, so that no copy remains that is not wiped.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn empty() -> Self {
        Self { blocks: [[_mm256_setzero_si256(); 2]; _], each: 0, made: 0 }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn make(&mut self, key: &[u32; 8], nonces: &[u64], text_len: usize) {
        self.each = 1 + text_len.div_ceil(BLOCK_LEN);
        self.made = (nonces.len() * self.each).next_multiple_of(LANES);
        let (mut packet, mut block) = (0, 0);
        for eight in self.blocks[..self.made].as_chunks_mut::<LANES>().0 {
            let mut numbers = Numbers { blocks: [0; LANES], nonces: [[0; LANES]; 2] };
            for lane in 0..LANES {
                // That of lanes without a block does not matter.
                let nonce = nonces.get(packet).copied().unwrap_or(u64::MAX);
                numbers.blocks[lane] = block as u32;
                numbers.nonces[0][lane] = nonce as u32;
                numbers.nonces[1][lane] = (nonce >> 32) as u32;
                block += 1;
                if block == self.each {
                    (packet, block) = (packet + 1, 0);
                }
            }
            *eight = eight_blocks(key, &numbers);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn one_time_key(&self, packet: usize) -> OneTimeKey {
        let [r, s] = halves(self.blocks[packet * self.each][0]);
        OneTimeKey::new(r, s)
    }

    fn of_text(&self, packet: usize) -> &[Block] {
        &self.blocks[packet * self.each + 1..][..self.each - 1]
    }
}

impl Drop for Keystream {
    fn drop(&mut self) {
        self.blocks[..self.made].iter_mut().for_each(Zeroize::zeroize);
    }
}

#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn add_keystream(text: &mut [u8], keystream: &[Block]) {
    let keystream = keystream.as_flattened();
    assert!(text.len() <= size_of_val(keystream), "keystream for all of the text");
    let (whole, rest) = text.as_chunks_mut();
    for (bytes, vector) in whole.iter_mut().zip(keystream) {
        store(bytes, _mm256_xor_si256(load(bytes), *vector));
    }
    if rest.is_empty() {
        return;
    }
    for (bytes, mut half) in rest.chunks_mut(16).zip(halves(keystream[whole.len()])) {
        if let Some(bytes) = bytes.as_mut_array() {
            *bytes = (u128::from_le_bytes(*bytes) ^ half).to_le_bytes();
            continue;
        }
        for byte in bytes {
            *byte ^= half as u8;
            half >>= 8;
        }
    }
}

/// As little-endian numbers. They stay in registers: a buffer would have to be wiped, byte by byte.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn halves(vector: __m256i) -> [u128; 2] {
    let half = |low: i64, high: i64| u128::from(high.cast_unsigned()) << 64 | u128::from(low.cast_unsigned());
    [
        half(_mm256_extract_epi64::<0>(vector), _mm256_extract_epi64::<1>(vector)),
        half(_mm256_extract_epi64::<2>(vector), _mm256_extract_epi64::<3>(vector)),
    ]
}
