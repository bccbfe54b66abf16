//! The field's operations on limbs that random points never meet, against another implementation of integers.

extern crate std;

use std::vec::Vec;

use num_bigint::BigUint;

use super::super::is_available;
use super::field::{Number, Wide};
use super::*;

type Limbs = [[u64; LANES]; 5];

/// The largest limb that counts as reduced.
const LARGEST: u64 = (1 << 51) + (1 << 16) - 1;
/// The largest that counts as folded.
const LARGEST_FOLDED: u64 = (1 << 59) + (1 << 57);
/// Around zero, p's limbs, and what a limb may be at most.
const LIMBS: [u64; 12] = [
    0,
    1,
    18,
    19,
    20,
    (1 << 51) - 20,
    (1 << 51) - 19,
    (1 << 51) - 18,
    (1 << 51) - 1,
    1 << 51,
    (1 << 51) + 1,
    LARGEST,
];

fn p() -> BigUint {
    (BigUint::from(1_u8) << 255) - 19_u8
}

fn value(limbs: &Limbs, lane: usize) -> BigUint {
    limbs.iter().rev().fold(BigUint::ZERO, |value, limb| (value << 51) + limb[lane])
}

/// Every lane another number; among them all that have the same of [`LIMBS`] five times, or one that differs.
fn numbers() -> Vec<Limbs> {
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut lanes: Vec<[u64; 5]> = Vec::new();
    for usual in LIMBS {
        lanes.push([usual; 5]);
        for (place, other) in (0..5).flat_map(|place| LIMBS.map(|other| (place, other))) {
            let mut limbs = [usual; 5];
            limbs[place] = other;
            lanes.push(limbs);
        }
    }
    lanes.extend((0..1000).map(|_| core::array::from_fn(|_| LIMBS[random(LIMBS.len())])));
    lanes
        .as_chunks::<LANES>()
        .0
        .iter()
        .map(|lanes| core::array::from_fn(|limb| lanes.map(|lane| lane[limb])))
        .collect()
}

#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn load_limbs(limbs: &Limbs) -> [__m512i; 5] {
    limbs.map(|limb| {
        let mut bytes = [0; 64];
        bytes.as_chunks_mut().0.iter_mut().zip(limb).for_each(|(bytes, limb)| *bytes = limb.to_le_bytes());
        load(&bytes)
    })
}

#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn store_lanes<const N: usize>(vectors: [__m512i; N]) -> [[u64; LANES]; N] {
    vectors.map(|vector| {
        let mut bytes = [0; 64];
        store(&mut bytes, vector);
        core::array::from_fn(|lane| u64::from_le_bytes(bytes.as_chunks().0[lane]))
    })
}

/// Whether `wide` is folded, and what it is once carried.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn folded(wide: Wide) -> Limbs {
    assert!(store_lanes(wide.0).as_flattened().iter().all(|&limb| limb <= LARGEST_FOLDED), "folded");
    carried(wide)
}

#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn carried(wide: Wide) -> Limbs {
    let limbs = store_lanes(wide.carry().0);
    assert!(limbs.as_flattened().iter().all(|&limb| limb <= LARGEST), "reduced");
    limbs
}

#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn check(a: &Limbs, b: &Limbs) {
    let (x, y) = (Number(load_limbs(a)), Number(load_limbs(b)));
    let (product, square) = (folded(x.times(&y)), folded(x.square()));
    let (sum, difference) = (carried(x.wide().plus(&y.wide())), carried(x.wide().minus(&y.wide())));
    let plus_product = folded(y.wide().plus_product(&x, 121_665));
    let canonical = store_lanes(x.to_words());
    let chosen = store_lanes(x.select(0b0101_1010, &y).0);
    for lane in 0..LANES {
        let (a, b, p) = (value(a, lane), value(b, lane), p());
        assert_eq!(value(&product, lane) % &p, &a * &b % &p);
        assert_eq!(value(&square, lane) % &p, &a * &a % &p);
        assert_eq!(value(&sum, lane) % &p, (&a + &b) % &p);
        assert_eq!((value(&difference, lane) + &b) % &p, &a % &p);
        assert_eq!(value(&plus_product, lane) % &p, (&b + &a * 121_665_u32) % &p);
        let words = canonical.iter().rev().fold(BigUint::ZERO, |value, word| (value << 64) + word[lane]);
        assert_eq!(words, &a % &p, "canonical");
        assert_eq!(value(&chosen, lane), if 0b0101_1010 >> lane & 1 == 1 { b } else { a });
    }
}

/// What [`Wide`] promises to take at most.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn check_wide(a: &Limbs, b: &Limbs) {
    let (x, y) = (Wide(load_limbs(a)), Wide(load_limbs(b)));
    let (carry, sum, difference) = (carried(x), carried(x.plus(&y)), carried(x.minus(&y)));
    for lane in 0..LANES {
        let (a, b, p) = (value(a, lane), value(b, lane), p());
        assert_eq!(value(&carry, lane) % &p, &a % &p);
        assert_eq!(value(&sum, lane) % &p, (&a + &b) % &p);
        assert_eq!((value(&difference, lane) + &b) % &p, a % p);
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512ifma")]
fn check_inverse(a: &Limbs) {
    let inverse = store_lanes(Number(load_limbs(a)).inverse().0);
    for lane in 0..LANES {
        let p = p();
        assert_eq!(value(&inverse, lane) % &p, value(a, lane).modpow(&(&p - 2_u8), &p));
    }
}

#[test]
fn limbs_at_their_bounds() {
    if !is_available() {
        return;
    }
    let numbers = numbers();
    for (i, a) in numbers.iter().enumerate() {
        for b in [a, &numbers[(i * 7 + 3) % numbers.len()], &[[LARGEST; LANES]; 5], &[[0; LANES]; 5]] {
            // SAFETY: the features were detected.
            unsafe { check(a, b) };
            // SAFETY: the features were detected.
            unsafe { check(b, a) };
        }
        // SAFETY: the features were detected.
        unsafe { check_inverse(a) };
    }
    let wides = [0, 1, 1 << 51, LARGEST, LARGEST_FOLDED - 1, LARGEST_FOLDED].map(|limb| [[limb; LANES]; 5]);
    for (a, b) in wides.iter().flat_map(|a| wides.iter().map(move |b| (a, b))) {
        // SAFETY: the features were detected.
        unsafe { check_wide(a, b) };
    }
}
