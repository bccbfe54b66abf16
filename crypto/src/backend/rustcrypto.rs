//! XChaCha20-Poly1305 by RustCrypto, whose `zeroize` feature wipes the key copy, the subkey and the one-time
//! Poly1305 key.

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};

use crate::{KEY_LEN, Rejected, TAG_LEN};

/// Encrypts `text` in place and returns its tag.
pub(crate) fn xaead_seal(
    key: &[u8; KEY_LEN],
    nonce: &[u8; 24],
    aad: &[u8],
    text: &mut [u8],
) -> [u8; TAG_LEN] {
    XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(nonce.into(), aad, text.into())
        .expect("the text is shorter than 256 GiB")
        .into()
}

/// Decrypts `text` in place; what it holds after [`Rejected`] is unspecified.
pub(crate) fn xaead_open(
    key: &[u8; KEY_LEN],
    nonce: &[u8; 24],
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), Rejected> {
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(nonce.into(), aad, text.into(), tag.into())
        .map_err(|_| Rejected)
}
