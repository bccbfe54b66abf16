//! Known-answer tests of every primitive, fast enough (under a millisecond) for every program start: they
//! catch a broken build, a miscompiled backend, or a CPU on which run-time dispatch chose wrongly, before a
//! key is used.

use core::fmt;

use crate::{Backend, KEY_LEN, Rejected, TAG_LEN, aead, aead_backend, blake2s, x25519, xaead};

/// Every primitive gave the known answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTest {
    /// What ChaCha20-Poly1305 keys made from now on use.
    pub aead: Backend,
    /// The backend that would have served them, but gave wrong answers and is not used any more.
    pub rejected: Option<Backend>,
}

/// A primitive did not give the known answer. Nothing it computes may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTestFailure {
    /// The primitive's name, for people.
    pub primitive: &'static str,
}

impl fmt::Display for SelfTestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "self-test of {} failed", self.primitive)
    }
}

impl core::error::Error for SelfTestFailure {}

/// Runs every primitive against known answers.
///
/// # Errors
/// [`SelfTestFailure`] names the first primitive that failed.
pub fn self_test() -> Result<SelfTest, SelfTestFailure> {
    let checks = [
        ("BLAKE2s", blake2s_answers as fn() -> bool),
        ("HMAC-BLAKE2s and its KDFs", kdf_answers),
        ("X25519", x25519_answers),
        ("ChaCha20-Poly1305", aead_answers),
        ("ChaCha20-Poly1305 on trains", train_answers),
        ("XChaCha20-Poly1305", xaead_answers),
    ];
    match checks.into_iter().find(|(_, answers)| !answers()) {
        None => Ok(SelfTest { aead: aead_backend(), rejected: None }),
        Some((primitive, _)) => Err(SelfTestFailure { primitive }),
    }
}

/// 0, 1, 2, …: the key of every check that has no published one.
const COUNTING: [u8; KEY_LEN] = hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");

/// RFC 7693, appendix B; the hash that begins every handshake (whitepaper, section 5.4.2); a 16-byte keyed
/// MAC.
fn blake2s_answers() -> bool {
    let construction = blake2s::hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
    blake2s::hash(&[b"a", b"bc"]) == hex("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982")
        && blake2s::hash(&[&construction, b"WireGuard v1 zx2c4 Jason@zx2c4.com"])
            == hex("2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3")
        && blake2s::mac(&COUNTING, &[b"abc"]) == hex("61ba5f165c194692e09d12520cc4c74a")
}

fn kdf_answers() -> bool {
    let (t1, t2, t3) = blake2s::kdf3(&COUNTING, b"");
    *t1.expose() == hex("7a38c34bf2b8738d7374ca77c44ecb309a11d2b2528304fa86052c365e722624")
        && *t2.expose() == hex("1a17621f346abdc520746a9fb64d8eb03231d674fc15687537b0780fd9c060fd")
        && *t3.expose() == hex("4eaf02809ac4b930ef63479de62275f1c55656e61f78a3cc653c18a2223d6c5f")
        && blake2s::hmac(&COUNTING, &[b"ab", b"c"])
            == hex("82623be5bc0a391b24dce53e67d028eff92d586de0485ac37822e597d049c74f")
}

/// RFC 7748, section 6.1, and the refusal of a point of low order.
fn x25519_answers() -> bool {
    let alice =
        x25519::PrivateKey::new(hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    let bob = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    x25519::public_key(&alice) == hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
        && x25519::shared(&alice, &bob).is_ok_and(|secret| *secret.expose() == shared)
        && x25519::shared(&alice, &[0; KEY_LEN]) == Err(x25519::ZeroShared)
}

/// RFC 8439, appendix A.5. The tag vouches for the ciphertext, which is therefore not repeated here.
fn aead_answers() -> bool {
    const TEXT: &[u8; 265] = b"Internet-Drafts are draft documents valid for a maximum of six months and \
        may be updated, replaced, or obsoleted by other documents at any time. It is inappropriate to use \
        Internet-Drafts as reference material or to cite them other than as /\xe2\x80\x9cwork in \
        progress./\xe2\x80\x9d";
    let key = aead::Key::new(&hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0"));
    let aad: [u8; 12] = hex("f33388860000000000004e91");
    let tag: [u8; TAG_LEN] = hex("eead9d67890cbb22392336fea1851f38");
    let counter = 0x0807_0605_0403_0201;

    let mut buf = [0; TEXT.len() + TAG_LEN];
    buf[..TEXT.len()].copy_from_slice(TEXT);
    aead::seal(&key, counter, &aad, &mut buf);
    let mut forged = buf;
    forged[0] ^= 1;

    buf.ends_with(&tag)
        && aead::open(&key, counter, &aad, &mut buf).is_ok_and(|text| text == TEXT)
        && aead::open(&key, counter, &aad, &mut forged) == Err(Rejected)
}

/// 17 packets and a shorter one: more than any SIMD width and no multiple of one. The counters pass 2³²,
/// where a backend that counted in 32-bit lanes would go wrong. The digest is that of another
/// implementation's ciphertext.
fn train_answers() -> bool {
    const STRIDE: usize = 288;
    const HEADER: usize = 16;
    const FIRST: u64 = (1 << 32) - 5;
    const FORGED: usize = 3;
    let key = aead::Key::new(&COUNTING);
    let plain: [u8; 17 * STRIDE + 72] = core::array::from_fn(|i| (i * 7 + 3) as u8);

    let mut train = plain;
    aead::seal_train(&key, FIRST, &mut train, STRIDE, HEADER);
    let sealed = blake2s::hash(&[&train]);
    train[FORGED * STRIDE + HEADER] ^= 1;
    let counters: [u64; 18] = core::array::from_fn(|i| FIRST + i as u64);
    let mut opened = [false; 18];
    aead::open_train(&key, &counters, &mut train, STRIDE, HEADER, &mut opened);

    let packets = train.chunks(STRIDE).zip(plain.chunks(STRIDE)).zip(opened).enumerate();
    sealed == hex("be34df9047d7aa670f7f0d29ba8d699eb597e1a79d333cf12d1f497973b078be")
        && packets.into_iter().all(|(i, ((packet, plain), opened))| {
            let text = HEADER..plain.len() - TAG_LEN;
            let packet_is =
                if opened { packet[text.clone()] == plain[text] } else { packet[text] == [0; 256] };
            opened == (i != FORGED) && packet_is
        })
}

/// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
fn xaead_answers() -> bool {
    const TEXT: &[u8; 114] =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
        future, sunscreen would be it.";
    let key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let nonce = hex("404142434445464748494a4b4c4d4e4f5051525354555657");
    let aad: [u8; 12] = hex("50515253c0c1c2c3c4c5c6c7");
    let tag: [u8; TAG_LEN] = hex("c0875924c1c7987947deafd8780acf49");

    let mut buf = [0; TEXT.len() + TAG_LEN];
    buf[..TEXT.len()].copy_from_slice(TEXT);
    xaead::seal(&key, &nonce, &aad, &mut buf);
    let mut forged = buf;
    forged[0] ^= 1;

    buf.ends_with(&tag)
        && xaead::open(&key, &nonce, &aad, &mut buf).is_ok_and(|text| text == TEXT)
        && xaead::open(&key, &nonce, &aad, &mut forged) == Err(Rejected)
}

/// The `N` bytes that `digits` spell.
const fn hex<const N: usize>(digits: &str) -> [u8; N] {
    let digits = digits.as_bytes();
    assert!(digits.len() == 2 * N, "two digits a byte");
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        bytes[i] = nibble(digits[2 * i]) << 4 | nibble(digits[2 * i + 1]);
        i += 1;
    }
    bytes
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => panic!("not a lowercase hexadecimal digit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One by one, so that a failure here names more than the first.
    #[test]
    fn each_primitive_gives_its_known_answer() {
        assert!(blake2s_answers());
        assert!(kdf_answers());
        assert!(x25519_answers());
        assert!(aead_answers());
        assert!(train_answers());
        assert!(xaead_answers());
        assert_eq!(self_test(), Ok(SelfTest { aead: aead_backend(), rejected: None }));
    }
}
