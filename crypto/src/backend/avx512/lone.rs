//! A packet on its own: the lanes of ChaCha20 and of Poly1305 are consecutive blocks.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::BLOCK_LEN;
use super::chacha20::{Upright, lying};
use super::memory::{load, load_window, store, store_prefix};
use super::poly1305::{BlockLanes, equal};
use super::transpose::blocks;
use crate::backend::poly1305::{OneTimeKey, tags};
use crate::{Rejected, TAG_LEN};

/// Blocks that one call of [`Upright`] makes.
const UPRIGHT: usize = 16;

/// Seals `text`, whatever its length.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn seal(key: &[u32; 8], nonce: u64, text: &mut [u8], tag: &mut [u8; TAG_LEN]) {
    match fours(text.len()) {
        1 => seal_short(key, nonce, text, tag),
        2 => seal_with::<2>(key, nonce, text, tag),
        3 => seal_with::<3>(key, nonce, text, tag),
        4 => seal_with::<4>(key, nonce, text, tag),
        5 => seal_with::<5>(key, nonce, text, tag),
        _ => seal_with::<6>(key, nonce, text, tag),
    }
}

/// Opens `text`, whatever its length, or wipes it.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn open(key: &[u32; 8], nonce: u64, text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), Rejected> {
    match fours(text.len()) {
        1 => open_short(key, nonce, text, tag),
        2 => open_with::<2>(key, nonce, text, tag),
        3 => open_with::<3>(key, nonce, text, tag),
        4 => open_with::<4>(key, nonce, text, tag),
        5 => open_with::<5>(key, nonce, text, tag),
        _ => open_with::<6>(key, nonce, text, tag),
    }
}

/// How many times four blocks of keystream a text takes, with the block of its one-time key.
fn fours(text_len: usize) -> usize {
    (text_len.div_ceil(BLOCK_LEN) + 1).div_ceil(4)
}

/// Like [`seal_with`], for a text so short that powers of r would cost more than they save.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn seal_short(key: &[u32; 8], nonce: u64, text: &mut [u8], tag: &mut [u8; TAG_LEN]) {
    let [mut keystream] = lying::<1>(key, nonce, 0);
    add_keystream(text, &keystream[1..]);
    let [mac] = tags(&[one_time_key(keystream[0])], [text]);
    *tag = mac.to_le_bytes();
    keystream.zeroize();
}

/// Like [`open_with`], for a text so short that powers of r would cost more than they save.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn open_short(key: &[u32; 8], nonce: u64, text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), Rejected> {
    let [mut keystream] = lying::<1>(key, nonce, 0);
    let [mac] = tags(&[one_time_key(keystream[0])], [text]);
    let [authentic, ..] = equal(load_window(&mac.to_le_bytes(), 0), load_window(tag, 0));
    if authentic {
        add_keystream(text, &keystream[1..]);
    } else {
        text.fill(0);
    }
    keystream.zeroize();
    if authentic { Ok(()) } else { Err(Rejected) }
}

/// The first 32 bytes of the block that is made for it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn one_time_key(block: __m512i) -> OneTimeKey {
    let half = |vector| {
        let mut bytes = [0; 16];
        store_prefix(&mut bytes, vector);
        u128::from_le_bytes(bytes)
    };
    OneTimeKey::new(half(block), half(_mm512_alignr_epi64::<2>(block, block)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn seal_with<const N: usize>(key: &[u32; 8], nonce: u64, text: &mut [u8], tag: &mut [u8; TAG_LEN]) {
    let mut keystream = lying::<N>(key, nonce, 0);
    let mac = BlockLanes::new(keystream[0][0]);
    encrypt(key, nonce, text, keystream.as_flattened());
    store_prefix(tag, mac.tag(text));
    keystream.zeroize();
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn open_with<const N: usize>(
    key: &[u32; 8],
    nonce: u64,
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), Rejected> {
    let mut keystream = lying::<N>(key, nonce, 0);
    let mac = BlockLanes::new(keystream[0][0]);
    let [authentic, ..] = equal(mac.tag(text), load_window(tag, 0));
    if authentic {
        encrypt(key, nonce, text, keystream.as_flattened());
    } else {
        text.fill(0);
    }
    keystream.zeroize();
    if authentic { Ok(()) } else { Err(Rejected) }
}

/// Encrypts, or decrypts, with the first blocks of keystream at hand, the one-time key's among them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn encrypt(key: &[u32; 8], nonce: u64, text: &mut [u8], keystream: &[__m512i]) {
    let at_hand = (keystream.len() - 1) * BLOCK_LEN;
    if text.len() <= at_hand {
        add_keystream(text, &keystream[1..]);
    } else {
        let (start, rest) = text.split_at_mut(at_hand);
        add_keystream(start, &keystream[1..]);
        encrypt_rest(key, nonce, rest, keystream.len() as u32);
    }
}

/// Encrypts, or decrypts, from block number `counter` on.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn encrypt_rest(key: &[u32; 8], nonce: u64, text: &mut [u8], mut counter: u32) {
    let chacha = Upright::new(key, &[nonce; UPRIGHT]);
    for text in text.chunks_mut(UPRIGHT * BLOCK_LEN) {
        if text.len() > 8 * BLOCK_LEN {
            let counters = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let counters = _mm512_add_epi32(counters, _mm512_set1_epi32(counter.cast_signed()));
            add_keystream(text, &blocks(chacha.words(counters)));
        } else {
            add_keystream(text, lying::<2>(key, nonce, counter).as_flattened());
        }
        counter += UPRIGHT as u32;
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn add_keystream(text: &mut [u8], keystream: &[__m512i]) {
    assert!(text.len() <= size_of_val(keystream), "keystream for all of the text");
    let (whole, rest) = text.as_chunks_mut();
    for (bytes, block) in whole.iter_mut().zip(keystream) {
        store(bytes, _mm512_xor_si512(load(bytes), *block));
    }
    if !rest.is_empty() {
        store_prefix(rest, _mm512_xor_si512(load_window(rest, 0), keystream[whole.len()]));
    }
}
