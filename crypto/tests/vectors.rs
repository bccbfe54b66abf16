//! Published vectors of each primitive, and values computed by other implementations where none are
//! published.

use adit_crypto::x25519::{self, PrivateKey};
use adit_crypto::{blake2s, self_test};

#[test]
fn self_test_passes() {
    self_test().unwrap();
}

/// RFC 7748, section 5.2. The second coordinate has its top bit set.
#[test]
fn x25519_of_given_scalars_and_coordinates() {
    for (scalar, coordinate, shared) in [
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
    ] {
        let result = x25519::shared(&PrivateKey::new(hex(scalar)), &hex(coordinate)).unwrap();
        assert_eq!(*result.expose(), hex(shared));
    }
}

/// RFC 7748, section 5.2: each result is the next scalar, each scalar the next coordinate.
#[test]
fn x25519_iterated() {
    let (mut scalar, mut coordinate) = ([0; 32], [0; 32]);
    scalar[0] = 9;
    coordinate[0] = 9;
    for iteration in 1..=1000 {
        let result = *x25519::shared(&PrivateKey::new(scalar), &coordinate).unwrap().expose();
        (scalar, coordinate) = (result, scalar);
        if iteration == 1 {
            assert_eq!(result, hex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
        }
    }
    assert_eq!(scalar, hex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

/// RFC 7748, section 6.1.
#[test]
fn x25519_between_two() {
    let alice = PrivateKey::new(hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    let bob = PrivateKey::new(hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    let (alice_public, bob_public) = (x25519::public_key(&alice), x25519::public_key(&bob));
    assert_eq!(alice_public, hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
    assert_eq!(bob_public, hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));

    let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(*x25519::shared(&alice, &bob_public).unwrap().expose(), shared);
    assert_eq!(*x25519::shared(&bob, &alice_public).unwrap().expose(), shared);
}

#[test]
fn private_keys_are_clamped() {
    let mut clamped = [0xff; 32];
    (clamped[0], clamped[31]) = (0xf8, 0x7f);
    assert_eq!(*PrivateKey::new([0xff; 32]).expose(), clamped);
    assert_eq!(PrivateKey::new([0; 32]).expose()[31], 0x40);
    assert_eq!(*PrivateKey::new(clamped).expose(), clamped);
}

/// From Python's `hashlib.blake2s` with a key and `digest_size=16`.
#[test]
fn mac_of_every_kind_of_key() {
    let long = counting::<200>();
    assert_eq!(blake2s::mac(&counting::<32>(), &[b"abc"]), hex("61ba5f165c194692e09d12520cc4c74a"));
    assert_eq!(blake2s::mac(&counting::<16>(), &[b"abc"]), hex("75296c2d2c0f51210b383f386bc8b1ff"));
    assert_eq!(blake2s::mac(&counting::<32>(), &[&long]), hex("42a6f8ff590af21b512e9e088257aa34"));
}

/// From Python's `hmac` with `hashlib.blake2s`.
#[test]
fn hmac_of_every_kind_of_length() {
    let (key, long) = (counting::<32>(), counting::<200>());
    for (input, digest) in [
        (&[][..], "e2641d24dfa8dd89e8cb77f1cdc77d8c006e5bebdfc4d6a3a3a6f8d5b7586fb0"),
        (b"abc", "82623be5bc0a391b24dce53e67d028eff92d586de0485ac37822e597d049c74f"),
        (&long, "543eec9b22646365ef782d72dae137cc761d018005f8d33d0f20bfbd01e62974"),
    ] {
        assert_eq!(blake2s::hmac(&key, &[input]), hex(digest));
    }
}

/// From Python, as HKDF over its `hmac`. The shorter KDFs are prefixes of the longer.
#[test]
fn kdfs() {
    let chaining_key = counting::<32>();
    let input: [u8; 32] = core::array::from_fn(|i| 32 + i as u8);
    let (t1, t2, t3) = blake2s::kdf3(&chaining_key, &input);
    assert_eq!(*t1.expose(), hex("6a96444e20e8d4c1cee974416acae1c10b3c92886010e54ed94dafb2c3b80ea0"));
    assert_eq!(*t2.expose(), hex("57af120b0de7acbe7907ec149c5ae870a2dbb74232b65777ba4123f1f7f888f5"));
    assert_eq!(*t3.expose(), hex("0926c7caabb6e8d73beda759e6f4f0d324ce5b5000bcf8cd784b26db3049faa9"));
    assert_eq!(blake2s::kdf2(&chaining_key, &input), (t1.clone(), t2));
    assert_eq!(blake2s::kdf1(&chaining_key, &input), t1);
}

#[test]
fn parts_hash_as_if_concatenated() {
    let (key, input) = (counting::<32>(), counting::<200>());
    for (first, second) in [(0, 0), (0, 200), (1, 64), (63, 65), (64, 128), (100, 100)] {
        let parts = [&input[..first], &input[first..second.max(first)], &input[second.max(first)..]];
        assert_eq!(blake2s::hash(&parts), blake2s::hash(&[&input]));
        assert_eq!(blake2s::mac(&key, &parts), blake2s::mac(&key, &[&input]));
        assert_eq!(blake2s::hmac(&key, &parts), blake2s::hmac(&key, &[&input]));
    }
}

fn counting<const N: usize>() -> [u8; N] {
    core::array::from_fn(|i| i as u8)
}

fn hex<const N: usize>(digits: &str) -> [u8; N] {
    assert_eq!(digits.len(), 2 * N);
    core::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
}
