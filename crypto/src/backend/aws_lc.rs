//! ChaCha20-Poly1305 and X25519 by AWS-LC.
//!
//! Keys live on AWS-LC's heap; its `OPENSSL_free` wipes every block it releases, so they are gone when these
//! types drop.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};

use crate::x25519::ZeroShared;
use crate::{KEY_LEN, Rejected, Secret, TAG_LEN};

/// A ChaCha20-Poly1305 key.
pub(crate) struct AeadKey(LessSafeKey);

impl AeadKey {
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes are a key");
        Self(LessSafeKey::new(key))
    }

    /// Encrypts `text` in place and writes its tag.
    #[inline]
    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &mut [u8; TAG_LEN]) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_scatter(nonce, Aad::from(aad), text, &[], tag)
            .expect("the text is shorter than 256 GiB");
    }

    /// Decrypts `text` in place; what it holds after [`Rejected`] is unspecified.
    #[inline]
    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Rejected> {
        // Of the ways to open this one alone does not move the plaintext afterwards, not even onto itself.
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place_separate_tag(nonce, Aad::from(aad), tag, text).map(|_| ()).map_err(|_| Rejected)
    }
}

/// An X25519 private key with its public key.
pub(crate) struct X25519Key(agreement::PrivateKey);

impl X25519Key {
    pub(crate) fn new(scalar: &[u8; KEY_LEN]) -> Self {
        Self(
            agreement::PrivateKey::from_private_key(&X25519, scalar).expect("any 32 bytes are a private key"),
        )
    }

    pub(crate) fn public_key(&self) -> [u8; KEY_LEN] {
        let public_key = self.0.compute_public_key().expect("a private key has a public key");
        public_key.as_ref().try_into().expect("a public key is 32 bytes")
    }

    pub(crate) fn shared(&self, public_key: &[u8; KEY_LEN]) -> Result<Secret<KEY_LEN>, ZeroShared> {
        agreement::agree(&self.0, UnparsedPublicKey::new(&X25519, public_key), ZeroShared, |shared| {
            Ok(Secret::new(shared.try_into().expect("a shared secret is 32 bytes")))
        })
    }
}
