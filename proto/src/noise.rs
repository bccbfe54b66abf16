//! The symmetric state of Noise_IKpsk2 (whitepaper 5.4; Noise specification, revision 34, section 5.2).

use alloc::boxed::Box;

use adit_crypto::{Rejected, Secret, TAG_LEN, aead, blake2s};

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// The chaining key and the transcript hash. Clone, so that a message can be tried without spoiling the state.
#[derive(Clone, Debug)]
pub(crate) struct Symmetric {
    /// In a place of its own: states wait in lists, and what is moved leaves a copy behind that nobody wipes.
    chaining_key: Box<Secret<32>>,
    hash: [u8; 32],
}

impl Symmetric {
    /// The state before the first token; `responder` is the responder's static public key (the `<- s` pre-message).
    pub(crate) fn new(responder: &[u8; 32]) -> Self {
        let chaining_key = blake2s::hash(&[CONSTRUCTION]);
        let hash = blake2s::hash(&[&chaining_key, IDENTIFIER]);
        let mut state = Symmetric { chaining_key: Box::new(Secret::new(chaining_key)), hash };
        state.mix_hash(responder);
        state
    }

    pub(crate) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = blake2s::hash(&[&self.hash, data]);
    }

    /// Token `e`: the ephemeral goes into the hash and, as a pre-shared-key pattern demands, into the key too.
    pub(crate) fn mix_ephemeral(&mut self, ephemeral: &[u8; 32]) {
        self.mix_hash(ephemeral);
        *self.chaining_key = blake2s::kdf1(self.chaining_key.expose(), ephemeral);
    }

    /// A DH token whose key no message needs.
    pub(crate) fn mix_key(&mut self, shared: &Secret<32>) {
        *self.chaining_key = blake2s::kdf1(self.chaining_key.expose(), shared.expose());
    }

    /// A DH token, and the key for the field that follows it.
    pub(crate) fn mix_key_for_field(&mut self, shared: &Secret<32>) -> Secret<32> {
        let (chaining_key, key) = blake2s::kdf2(self.chaining_key.expose(), shared.expose());
        *self.chaining_key = chaining_key;
        key
    }

    /// Token `psk`.
    pub(crate) fn mix_psk(&mut self, preshared_key: &Secret<32>) -> Secret<32> {
        let (chaining_key, temp, key) = blake2s::kdf3(self.chaining_key.expose(), preshared_key.expose());
        *self.chaining_key = chaining_key;
        self.mix_hash(temp.expose());
        key
    }

    /// Seals `plaintext` under `key` with the hash as associated data. `N` is the plaintext's length plus the tag's.
    pub(crate) fn encrypt_and_hash<const N: usize>(&mut self, key: &Secret<32>, plaintext: &[u8]) -> [u8; N] {
        let mut field = [0; N];
        field[..N - TAG_LEN].copy_from_slice(plaintext);
        aead::seal(&aead::Key::from(key), 0, &self.hash, &mut field);
        self.mix_hash(&field);
        field
    }

    /// Opens `field`; the state is unchanged when that fails. `N` is the plaintext's length.
    pub(crate) fn decrypt_and_hash<const N: usize>(
        &mut self,
        key: &Secret<32>,
        field: &[u8],
    ) -> Result<[u8; N], Rejected> {
        let mut buffer = [0; 48];
        let buffer = &mut buffer[..field.len()];
        buffer.copy_from_slice(field);
        let plaintext = aead::open(&aead::Key::from(key), 0, &self.hash, buffer)?;
        let plaintext = plaintext.try_into().map_err(|_| Rejected)?;
        self.mix_hash(field);
        Ok(plaintext)
    }

    /// The two transport keys, initiator's sending key first (whitepaper 5.4.5). The state is used up.
    pub(crate) fn split(self) -> (Secret<32>, Secret<32>) {
        blake2s::kdf2(self.chaining_key.expose(), &[])
    }
}
