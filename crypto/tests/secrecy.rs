//! What must not be left lying about: secrets in memory, in logs, and the plaintext of forgeries.

#![allow(unsafe_code)]

mod support;

use std::mem::MaybeUninit;

use adit_crypto::x25519::PrivateKey;
use adit_crypto::{Backend, Rejected, Secret, TAG_LEN, aead, ct, xaead};

support::for_each_backend! {
    a_rejected_packet_leaves_no_plaintext,
    nothing_opens_with_another_key_counter_or_associated_data,
}

/// The first audit of GotaTun, 3.5: keys stay in memory.
#[test]
fn a_secret_is_wiped_when_dropped() {
    let mut slot = MaybeUninit::uninit();
    slot.write(Secret::new([0xa5; 32]));
    let bytes = slot.as_ptr().cast::<[u8; 32]>();
    // SAFETY: `Secret` is a transparent wrapper of these 32 initialized bytes, and `slot` outlives both
    // accesses.
    assert_eq!(unsafe { bytes.read_volatile() }, [0xa5; 32]);
    // SAFETY: `slot` was written above and is not dropped by anyone else.
    unsafe { slot.assume_init_drop() };
    // SAFETY: dropping writes to the bytes but does not uninitialize them; `slot` still owns them.
    assert_eq!(unsafe { slot.as_ptr().cast::<[u8; 32]>().read_volatile() }, [0; 32]);
}

#[test]
fn debug_shows_no_secret() {
    let key = [0xa5; 32];
    for shown in [
        format!("{:?}", Secret::new(key)),
        format!("{:#?}", Some(Secret::new(key))),
        format!("{:?}", PrivateKey::new(key)),
        format!("{:?}", aead::Key::new(&key)),
    ] {
        let lowercase = shown.to_lowercase();
        assert!(!["a5", "165", "a0", "160"].iter().any(|byte| lowercase.contains(byte)), "{shown}");
        assert!(shown.contains(".."), "{shown}");
    }
}

/// A packet on its own; `forgeries.rs` has those in trains.
fn a_rejected_packet_leaves_no_plaintext(backend: Backend) {
    let key = aead::Key::with_backend(&[7; 32], backend);
    for len in [1, 15, 16, 63, 64, 65, 191, 192, 193, 500, 1420, 9000] {
        for aad in [&b""[..], b"aad"] {
            let mut sealed = vec![0x55; len + TAG_LEN];
            aead::seal(&key, 1, aad, &mut sealed);
            for touched in [0, len / 2, len, len + TAG_LEN - 1] {
                let mut forged = sealed.clone();
                forged[touched] ^= 0x80;
                let tag = forged[len..].to_vec();
                assert_eq!(aead::open(&key, 1, aad, &mut forged), Err(Rejected));
                assert!(forged[..len].iter().all(|&byte| byte == 0));
                assert_eq!(forged[len..], tag);
            }
        }
    }
}

#[test]
fn a_rejected_cookie_leaves_no_plaintext() {
    let (key, nonce) = ([7; 32], [9; xaead::NONCE_LEN]);
    for len in [1, 15, 16, 63, 64, 65, 191, 192, 193, 500] {
        let mut forged = vec![0x55; len + TAG_LEN];
        xaead::seal(&key, &nonce, b"aad", &mut forged);
        assert_eq!(xaead::open(&key, &nonce, b"other", &mut forged), Err(Rejected));
        assert!(forged[..len].iter().all(|&byte| byte == 0));
    }
}

fn nothing_opens_with_another_key_counter_or_associated_data(backend: Backend) {
    let key = aead::Key::with_backend(&[7; 32], backend);
    let mut sealed = [0; 64];
    aead::seal(&key, 5, b"aad", &mut sealed);
    assert!(aead::open(&key, 5, b"aad", &mut sealed.clone()).is_ok());
    assert_eq!(
        aead::open(&aead::Key::with_backend(&[8; 32], backend), 5, b"aad", &mut sealed.clone()),
        Err(Rejected)
    );
    assert_eq!(aead::open(&key, 5 + (1 << 32), b"aad", &mut sealed.clone()), Err(Rejected));
    assert_eq!(aead::open(&key, 5, b"", &mut sealed.clone()), Err(Rejected));
}

#[test]
fn secrets_compare_by_value() {
    assert_eq!(Secret::new([1; 32]), Secret::from([1; 32]));
    for i in 0..32 {
        let mut bytes = [0; 32];
        bytes[i] = 0x10;
        assert_ne!(Secret::new(bytes), Secret::zero());
        assert!(!Secret::new(bytes).is_zero());
    }
    assert!(Secret::<32>::default().is_zero());
    assert!(ct::eq(b"", b"") && ct::eq(b"ab", b"ab") && !ct::eq(b"ab", b"ac") && !ct::eq(b"ab", b"a"));
}
