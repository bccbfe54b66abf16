//! Shapes for packets of equal length, one a lane: sixteen with one block of each at a time, eight with two.
//!
//! ChaCha20 makes a column of keystream, 64 bytes for each packet, which is transposed once to be combined with the texts.
//! What is ciphertext is transposed again, into Poly1305's lanes, while it is in registers.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::BLOCK_LEN;
use super::chacha20::{Upright, one_time_keys};
use super::memory::{Column, Lanes, load, store};
use super::poly1305::{Limbs, PacketLanes, Tags, equal};
use super::transpose::blocks;
use crate::TAG_LEN;
use crate::backend::Group;

/// Seals up to sixteen packets, packet `i` with `nonces[i]`.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn seal(key: &[u32; 8], nonces: &[u64], group: Group<'_>) {
    let Group { packets, stride, header } = group;
    let computed = crypt::<true>(key, nonces, Group { packets, stride, header });
    let mut tags = [[0; BLOCK_LEN]; 4];
    for (bytes, four) in tags.iter_mut().zip(computed.as_flattened()) {
        store(bytes, *four);
    }
    for (packet, tag) in packets.chunks_exact_mut(stride).zip(tags.as_flattened().as_chunks::<TAG_LEN>().0) {
        packet[stride - TAG_LEN..].copy_from_slice(tag);
    }
}

/// Opens up to sixteen packets, packet `i` with `nonces[i]`, says in `opened` which are authentic and wipes the others.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn open(key: &[u32; 8], nonces: &[u64], group: Group<'_>, opened: &mut [bool]) {
    let Group { packets, stride, header } = group;
    // Without a verdict a forged packet would stay decrypted.
    assert_eq!(opened.len(), nonces.len(), "a verdict for each packet");
    let mut tags = [[[0; TAG_LEN]; 4]; 4];
    for (tag, packet) in tags.as_flattened_mut().iter_mut().zip(packets.chunks_exact(stride)) {
        tag.copy_from_slice(&packet[stride - TAG_LEN..]);
    }
    let computed = crypt::<false>(key, nonces, Group { packets, stride, header });
    let mut verdicts = [[false; 4]; 4];
    for ((verdicts, computed), received) in verdicts.iter_mut().zip(computed.as_flattened()).zip(&tags) {
        *verdicts =
            equal(*computed, load(received.as_flattened().as_array().expect("four tags are 64 bytes")));
    }
    for ((packet, verdict), &authentic) in
        packets.chunks_exact_mut(stride).zip(opened).zip(verdicts.as_flattened())
    {
        *verdict = authentic;
        if !authentic {
            packet[header..stride - TAG_LEN].fill(0);
        }
    }
}

/// Encrypts or decrypts up to sixteen packets, and returns the tags that the ciphertexts have.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn crypt<const SEALING: bool>(key: &[u32; 8], nonces: &[u64], group: Group<'_>) -> [Tags; 2] {
    assert_eq!(group.packets.len(), nonces.len() * group.stride, "a nonce for each packet");
    let mut spare = [0; BLOCK_LEN];
    // Those of lanes without a packet do not matter.
    let mut lane_nonces = [u64::MAX; 16];
    lane_nonces[..nonces.len()].copy_from_slice(nonces);
    let tags = if nonces.len() > 8 {
        sixteen::<SEALING>(key, &lane_nonces, &mut Lanes::new(group, &mut spare))
    } else {
        [eight::<SEALING>(key, &lane_nonces, &mut Lanes::new(group, &mut spare)), [_mm512_setzero_si512(); 2]]
    };
    spare.zeroize();
    tags
}

/// Up to sixteen packets. Encrypts or decrypts, and returns the tags that the ciphertexts have.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn sixteen<const SEALING: bool>(
    key: &[u32; 8],
    nonces: &[u64; 16],
    lanes: &mut Lanes<'_, 16>,
) -> [Tags; 2] {
    let chacha = Upright::new(key, nonces);
    let words = chacha.words(_mm512_setzero_si512());
    let macs =
        [PacketLanes::new(&one_time_keys::<false>(&words)), PacketLanes::new(&one_time_keys::<true>(&words))];

    let text_len = lanes.text_len();
    let (whole, columns) = (text_len / BLOCK_LEN, text_len.div_ceil(BLOCK_LEN));
    let one = _mm512_set1_epi32(1);
    let mut counters = one;
    let mut h = [Limbs::zero(); 2];
    let mut keystream = halves(blocks(chacha.words(counters)));
    for column in 0..whole {
        let mut text = lanes.column(column);
        let rows = [
            combine::<SEALING, 16>(&mut text, 0, keystream.0),
            combine::<SEALING, 16>(&mut text, 8, keystream.1),
        ];
        counters = _mm512_add_epi32(counters, one);
        if column + 1 < columns {
            (h, keystream) = next(&chacha, counters, &macs, h, rows);
        } else {
            h = [macs[0].absorb(h[0], rows[0]), macs[1].absorb(h[1], rows[1])];
        }
    }

    let mut rest = [[_mm512_setzero_si512(); 8]; 2];
    if whole < columns {
        let mut column = lanes.last_column();
        rest = [
            combine::<SEALING, 16>(&mut column, 0, keystream.0),
            combine::<SEALING, 16>(&mut column, 8, keystream.1),
        ];
    }
    [macs[0].finish(h[0], rest[0], text_len), macs[1].finish(h[1], rest[1], text_len)]
}

/// The next column of keystream, while Poly1305 takes the column before.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn next(
    chacha: &Upright,
    counters: __m512i,
    macs: &[PacketLanes; 2],
    mut h: [Limbs; 2],
    rows: [[__m512i; 8]; 2],
) -> ([Limbs; 2], ([__m512i; 8], [__m512i; 8])) {
    let mut pass = chacha.begin(counters);
    for half in 0..2 {
        let mut four = macs[half].begin(rows[half]);
        for i in 1..4 {
            pass.double_round();
            four.take(i);
        }
        pass.double_round();
        h[half] = four.finish(h[half]);
    }
    pass.double_round();
    (h, halves(blocks(pass.words())))
}

/// Up to eight packets. Encrypts or decrypts, and returns the tags that the ciphertexts have.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn eight<const SEALING: bool>(
    key: &[u32; 8],
    nonces: &[u64; 16],
    lanes: &mut Lanes<'_, 8>,
) -> Tags {
    let [n0, n1, n2, n3, n4, n5, n6, n7, ..] = *nonces;
    let chacha = Upright::new(key, &[n0, n1, n2, n3, n4, n5, n6, n7, n0, n1, n2, n3, n4, n5, n6, n7]);
    let two = _mm512_set1_epi32(2);
    let mut counters = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    let words = chacha.words(counters);
    let mac = PacketLanes::new(&one_time_keys::<false>(&words));

    let text_len = lanes.text_len();
    let mut h = Limbs::zero();
    let mut rest = [_mm512_setzero_si512(); 8];
    let mut take = |column, keystream| {
        if column < text_len / BLOCK_LEN {
            h = mac.absorb(h, combine::<SEALING, 8>(&mut lanes.column(column), 0, keystream));
        } else {
            rest = combine::<SEALING, 8>(&mut lanes.last_column(), 0, keystream);
        }
    };
    let columns = text_len.div_ceil(BLOCK_LEN);
    // The lower half is the one-time keys.
    let (_, upper) = halves(blocks(words));
    if columns > 0 {
        take(0, upper);
    }
    for column in (1..columns).step_by(2) {
        counters = _mm512_add_epi32(counters, two);
        let (lower, upper) = halves(blocks(chacha.words(counters)));
        take(column, lower);
        if column + 1 < columns {
            take(column + 1, upper);
        }
    }
    mac.finish(h, rest, text_len)
}

/// Adds the keystream to eight texts, the first that of lane `first`, and returns their ciphertexts.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn combine<const SEALING: bool, const P: usize>(
    column: &mut Column<'_, '_, P>,
    first: usize,
    keystream: [__m512i; 8],
) -> [__m512i; 8] {
    let mut ciphertext = keystream;
    for (i, row) in ciphertext.iter_mut().enumerate() {
        let before = column.load(first + i);
        let after = _mm512_xor_si512(before, *row);
        column.store(first + i, after);
        *row = if SEALING { column.trim(after) } else { before };
    }
    ciphertext
}

fn halves([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: [__m512i; 16]) -> ([__m512i; 8], [__m512i; 8]) {
    ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p])
}
