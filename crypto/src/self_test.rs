//! Known-answer tests of every primitive, fast enough (under a millisecond) for every program start: they
//! catch a broken build, a miscompiled backend, or a CPU on which run-time dispatch chose wrongly, before a
//! key is used.

use core::fmt;

use crate::{
    Backend, KEY_LEN, Rejected, Secret, TAG_LEN, aead, blake2s, preferred_backend, use_library, x25519, xaead,
};

/// Every primitive gave the known answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTest {
    /// What ChaCha20-Poly1305 keys made from now on use, and batches of X25519.
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

const AEAD: &str = "ChaCha20-Poly1305";

impl fmt::Display for SelfTestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "self-test of {} failed", self.primitive)
    }
}

impl core::error::Error for SelfTestFailure {}

/// Runs every primitive against known answers. If [`preferred_backend`] gives wrong ones, this calls [`use_library`].
///
/// # Errors
/// [`SelfTestFailure`] names the first primitive that failed, for which there is no other.
pub fn self_test() -> Result<SelfTest, SelfTestFailure> {
    let checks = [
        ("BLAKE2s", blake2s_answers as fn() -> bool),
        ("HMAC-BLAKE2s and its KDFs", kdf_answers),
        ("X25519", x25519_answers),
        ("XChaCha20-Poly1305", xaead_answers),
    ];
    if let Some((primitive, _)) = checks.into_iter().find(|(_, answers)| !answers()) {
        return Err(SelfTestFailure { primitive });
    }
    let tested = test_backend(preferred_backend(), first_wrong)?;
    if tested.rejected.is_some() {
        use_library();
    }
    Ok(tested)
}

/// The first of `backend`'s primitives that gives a wrong answer.
fn first_wrong(backend: Backend) -> Option<&'static str> {
    match () {
        () if !aead_answers(backend) => Some(AEAD),
        () if !x25519_batch_answers(backend) => Some("X25519 in batches"),
        () => None,
    }
}

/// Tests `backend`, and the library if `backend` is another and fails.
fn test_backend(
    backend: Backend,
    first_wrong: impl Fn(Backend) -> Option<&'static str>,
) -> Result<SelfTest, SelfTestFailure> {
    let Some(primitive) = first_wrong(backend) else {
        return Ok(SelfTest { aead: backend, rejected: None });
    };
    if backend == Backend::AwsLc {
        return Err(SelfTestFailure { primitive });
    }
    match first_wrong(Backend::AwsLc) {
        None => Ok(SelfTest { aead: Backend::AwsLc, rejected: Some(backend) }),
        Some(primitive) => Err(SelfTestFailure { primitive }),
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

/// RFC 7748, sections 5.2 and 6.1: a batch of eight that are all different, one of them refused.
fn x25519_batch_answers(backend: Backend) -> bool {
    let base = hex("0900000000000000000000000000000000000000000000000000000000000000");
    let alice_public = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let bob_public = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    let [alice, bob, third, fourth] = [
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
    ]
    .map(|scalar| x25519::PrivateKey::new(hex(scalar)));
    let third_coordinate = hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
    let third_result = hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
    let fourth_coordinate = hex("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493");
    let fourth_result = hex("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957");
    let known = [
        (&alice, bob_public, Some(shared)),
        (&third, third_coordinate, Some(third_result)),
        (&bob, [0; KEY_LEN], None),
        (&alice, base, Some(alice_public)),
        (&fourth, fourth_coordinate, Some(fourth_result)),
        (&bob, alice_public, Some(shared)),
        (&bob, base, Some(bob_public)),
        (
            &third,
            [0xff; KEY_LEN],
            Some(hex("76b00406ce7e87774c0038dd8d89b188047977f8828ca1dcb8f98bb5d5d0cf48")),
        ),
    ];
    let mut results = [const { Ok(Secret::zero()) }; 8];
    x25519::shared_batch_with(&known.each_ref().map(|(key, point, _)| (*key, point)), &mut results, backend);
    known
        .iter()
        .zip(results)
        .all(|((_, _, known), result)| result.ok().map(|secret| *secret.expose()) == *known)
}

fn aead_answers(backend: Backend) -> bool {
    packet_answers(backend) && TRAINS.iter().all(|train| train.answers(backend))
}

/// RFC 8439, appendix A.5. The tag vouches for the ciphertext, which is therefore not repeated here.
fn packet_answers(backend: Backend) -> bool {
    const TEXT: &[u8; 265] = b"Internet-Drafts are draft documents valid for a maximum of six months and \
        may be updated, replaced, or obsoleted by other documents at any time. It is inappropriate to use \
        Internet-Drafts as reference material or to cite them other than as /\xe2\x80\x9cwork in \
        progress./\xe2\x80\x9d";
    let key = hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
    let key = aead::Key::with_backend(&key, backend);
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

/// A train that every backend has to seal alike.
struct KnownTrain {
    packets: usize,
    text_len: usize,
    /// By how much the last packet is shorter.
    shorter: usize,
    /// BLAKE2s of the sealed train, by another implementation: OpenSSL's.
    digest: [u8; 32],
}

const fn known(packets: usize, text_len: usize, shorter: usize, digest: &str) -> KnownTrain {
    KnownTrain { packets, text_len, shorter, digest: hex(digest) }
}

/// Together they make every backend take every one of its ways.
const TRAINS: [KnownTrain; 18] = [
    known(1, 40, 0, "291940be18db61f2ebbefd5274a1f5d45aa5f37431156f191c4da10ea69b3267"),
    known(1, 150, 0, "f73893a9483d7b2e0dc506f11498e5dfb26d7ed3e3f3c3998e94ccf4ae0a8551"),
    known(1, 400, 0, "4864171fa727116f9cf83f4f1899bdb507478abae82be43fb75e845ba48103de"),
    known(1, 650, 0, "364deaf168181fa3f03ddf227d2d41dea6bb5e9252856e0a9219c015c796bddf"),
    known(1, 900, 0, "ad308bf892f60989b80fb1fd5ccf74056b02dd133564086505391cc9d44d7018"),
    known(1, 1150, 0, "fd25876ce764efb90ef38756dfdd865b2b8739388ec9fa0c72ca405de4089533"),
    known(1, 1420, 0, "fc33b8d3c8456c60cc18a8b7f6e00c4b891027790619a8ec2d8ffa50fad27a25"),
    known(1, 1900, 0, "a5647925a07a5c152bfda887eab0a4c2c931e918c65554eddeda01b98f355bec"),
    known(1, 3100, 0, "aa1740383ffe4073267e1021a0716e6b715c5d592e4aee6ce5a34f00f3c030c3"),
    known(3, 5, 0, "6d294d200862e94f46dc5b483cf61bd5800099f4f9e32a0deab6d4c1f4e83c37"),
    known(7, 77, 0, "b5f1cf9bd330c405cd2347fd0c7c72a73534bcc3c2a5d5d5f3853c2970b79d28"),
    known(15, 208, 0, "a4716d241b7a5493601ffabb967e22ee598e9cda393e114711f24a6b7bab16b3"),
    known(4, 100, 0, "5a9362886c995e789dfeddd06cfdc62337eccee499dd1c5b33dedc2e538be9e2"),
    known(8, 333, 0, "1b6dcadffb7e8af252587b504917b75352430b65404bbb6ba7b96e188ed80de9"),
    known(16, 64, 0, "abe5aea239e8104e1a5a6ae29bc8cff54757060881cbf1995b449e284e4c7921"),
    known(16, 576, 0, "7822059eb43c8e08c37802b5e642299427d4d2a7bcf722806ed39eef2b09a2c8"),
    known(18, 256, 216, "be34df9047d7aa670f7f0d29ba8d699eb597e1a79d333cf12d1f497973b078be"),
    known(30, 500, 1, "0401eb09b43121ec71475d2573eb5240b5473ff685b355b41d66808193cca8c3"),
];

impl KnownTrain {
    const HEADER: usize = 16;
    const MAX_PACKETS: usize = 30;
    const MAX_LEN: usize = 16 << 10;
    /// The counters pass 2³², where a backend that counted in 32-bit lanes would go wrong.
    const FIRST_COUNTER: u64 = (1 << 32) - 5;

    /// Seals, forges a packet in the middle, and opens.
    fn answers(&self, backend: Backend) -> bool {
        let key = aead::Key::with_backend(&COUNTING, backend);
        let stride = Self::HEADER + self.text_len + TAG_LEN;
        let mut plain = [0; Self::MAX_LEN];
        let plain = &mut plain[..self.packets * stride - self.shorter];
        for (i, byte) in plain.iter_mut().enumerate() {
            *byte = (i * 7 + 3) as u8;
        }

        let mut train = [0; Self::MAX_LEN];
        let train = &mut train[..plain.len()];
        train.copy_from_slice(plain);
        aead::seal_train(&key, Self::FIRST_COUNTER, train, stride, Self::HEADER);
        let digest = blake2s::hash(&[train]);
        let forged = self.packets / 2;
        train[forged * stride + Self::HEADER] ^= 1;
        let counters: [u64; Self::MAX_PACKETS] = core::array::from_fn(|i| Self::FIRST_COUNTER + i as u64);
        let mut opened = [false; Self::MAX_PACKETS];
        let opened = &mut opened[..self.packets];
        aead::open_train(&key, &counters[..self.packets], train, stride, Self::HEADER, opened);

        let packets = train.chunks(stride).zip(plain.chunks(stride)).zip(opened).enumerate();
        digest == self.digest
            && packets.into_iter().all(|(i, ((packet, plain), opened))| {
                let text = Self::HEADER..plain.len() - TAG_LEN;
                let is_right = match opened {
                    true => packet[text.clone()] == plain[text],
                    false => packet[text].iter().all(|&byte| byte == 0),
                };
                *opened == (i != forged) && is_right
            })
    }
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
        assert!(xaead_answers());
        for backend in Backend::available() {
            assert!(x25519_batch_answers(backend), "{backend}");
            assert!(packet_answers(backend), "{backend}");
            for train in TRAINS {
                let KnownTrain { packets, text_len, .. } = train;
                assert!(train.answers(backend), "{backend}: {packets} packets of {text_len} bytes");
            }
        }
        assert_eq!(self_test(), Ok(SelfTest { aead: preferred_backend(), rejected: None }));
    }

    #[test]
    fn a_wrong_answer_is_noticed() {
        let mut train = known(1, 40, 0, "291940be18db61f2ebbefd5274a1f5d45aa5f37431156f191c4da10ea69b3267");
        train.digest[31] ^= 1;
        assert!(!train.answers(Backend::AwsLc));
    }

    #[test]
    fn a_backend_that_fails_gives_way_to_the_library() {
        let fell_back = SelfTest { aead: Backend::AwsLc, rejected: Some(Backend::Avx512) };
        let wrong = |wrong: bool| wrong.then_some(AEAD);
        assert_eq!(test_backend(Backend::Avx512, |backend| wrong(backend == Backend::Avx512)), Ok(fell_back));
        let failure = Err(SelfTestFailure { primitive: AEAD });
        assert_eq!(test_backend(Backend::Avx512, |_| wrong(true)), failure);
        assert_eq!(test_backend(Backend::AwsLc, |backend| wrong(backend == Backend::AwsLc)), failure);
    }
}
