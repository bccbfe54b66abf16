//! X25519 (RFC 7748), the `DH` of the WireGuard whitepaper (section 5.4).

use core::fmt;

use crate::{Backend, KEY_LEN, Secret, backend, preferred_backend};

/// A private key: 32 bytes, clamped (RFC 7748, section 5), wiped on drop.
pub struct PrivateKey(backend::X25519Key);

impl PrivateKey {
    /// Makes a private key of any 32 bytes by clamping them. Multiplies the base point, about 10 µs.
    #[must_use]
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        let mut scalar = Secret::new(bytes);
        let [first, .., last] = scalar.expose_mut();
        *first &= 0b1111_1000;
        *last = *last & 0b0111_1111 | 0b0100_0000;
        Self(backend::X25519Key::new(scalar))
    }

    /// The clamped bytes. Copies made of them are not wiped.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        self.0.scalar()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A shared secret came out as all zeros: the public key is one of the points of low order, and its owner
/// knows every secret that follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroShared;

impl fmt::Display for ZeroShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the public key is of low order")
    }
}

impl core::error::Error for ZeroShared {}

/// The public key that belongs to `private_key`.
#[must_use]
pub fn public_key(private_key: &PrivateKey) -> [u8; KEY_LEN] {
    private_key.0.public_key()
}

/// `DH(private, public)`, about 30 µs. The top bit of `public_key` is ignored and non-canonical coordinates
/// are accepted, both as RFC 7748 asks.
///
/// # Errors
/// [`ZeroShared`] if the result is all zeros.
pub fn shared(private_key: &PrivateKey, public_key: &[u8; KEY_LEN]) -> Result<Secret<KEY_LEN>, ZeroShared> {
    private_key.0.shared(public_key)
}

/// [`shared`] for each pair of a private and a public key. Where the processor has the vectors for it, eight cost as
/// much as two.
///
/// # Panics
/// If there are more or fewer results than pairs.
pub fn shared_batch(
    pairs: &[(&PrivateKey, &[u8; KEY_LEN])],
    results: &mut [Result<Secret<KEY_LEN>, ZeroShared>],
) {
    shared_batch_with(pairs, results, preferred_backend());
}

/// [`shared_batch`] by a backend of the caller's choice: tests and benchmarks compare them.
///
/// # Panics
/// Also if `backend` is none of [`Backend::available`].
pub fn shared_batch_with(
    pairs: &[(&PrivateKey, &[u8; KEY_LEN])],
    results: &mut [Result<Secret<KEY_LEN>, ZeroShared>],
    backend: Backend,
) {
    backend::shared_batch(pairs, results, backend);
}
