//! The two messages of Noise_IKpsk2 by hand, with every secret for the caller to choose (whitepaper 5.4).
//!
//! The peers of this suite use [`snow`], which is no code of Adit's, for whatever is to succeed. What is to fail is made
//! here: no library multiplies with a point of low order, or claims a static key that is not its own.

use adit_crypto::{Secret, TAG_LEN, aead, blake2s, x25519};

use crate::wire;

/// Public keys whose product with any private key is zero: orders 1, 2, 4 and 8, and spellings that are not canonical.
pub const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    point(1, 0, 0),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    point(0xec, 0xff, 0x7f),
    point(0xed, 0xff, 0x7f),
    point(0xee, 0xff, 0x7f),
];

/// 2²⁵⁵ − 20 and its neighbours, or a small number.
const fn point(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// What a forger chooses of an initiation.
pub struct Forgery {
    /// The responder's public key.
    pub responder: [u8; 32],
    /// The ephemeral public key that is sent.
    pub ephemeral: [u8; 32],
    /// What is taken for its product with the responder's key.
    pub es: [u8; 32],
    /// The static public key that is claimed.
    pub claimed: [u8; 32],
    /// What is taken for its product with the responder's key.
    pub ss: [u8; 32],
}

impl Forgery {
    /// The initiation, complete with mac1.
    pub fn initiation(&self, index: u32, timestamp: &[u8; 12]) -> Vec<u8> {
        let mut symmetric = Symmetric::new(&self.responder);
        symmetric.mix_ephemeral(&self.ephemeral);
        let key = symmetric.mix_key(&self.es);
        let claimed = symmetric.seal(&key, &self.claimed);
        let key = symmetric.mix_key(&self.ss);
        let timestamp = symmetric.seal(&key, timestamp);
        let mut message = wire::header(wire::INITIATION, index);
        message.extend([&self.ephemeral[..], &claimed, &timestamp].concat());
        wire::with_mac1(message, &self.responder)
    }
}

/// A response to `initiation` with an ephemeral key of low order, so that ee and se are zero.
pub fn low_order_response(
    initiation: &[u8],
    private: &[u8; 32],
    initiator: &[u8; 32],
    ephemeral: &[u8; 32],
    index: u32,
) -> Vec<u8> {
    let private = x25519::PrivateKey::new(*private);
    let mut symmetric = Symmetric::new(&x25519::public_key(&private));
    let theirs = wire::field::<32>(initiation, 8);
    symmetric.mix_ephemeral(&theirs);
    let es = x25519::shared(&private, &theirs).expect("the engine's ephemeral key is good");
    symmetric.mix_key(es.expose());
    symmetric.mix_hash(&initiation[40..88]);
    let ss = x25519::shared(&private, initiator).expect("the engine's public key is good");
    symmetric.mix_key(ss.expose());
    symmetric.mix_hash(&initiation[88..116]);
    symmetric.mix_ephemeral(ephemeral);
    symmetric.mix_key(&[0; 32]);
    symmetric.mix_key(&[0; 32]);
    let key = symmetric.mix_psk(&[0; 32]);
    let nothing = symmetric.seal(&key, &[]);
    let mut message = wire::header(wire::RESPONSE, index);
    message.extend([&initiation[4..8], ephemeral, &nothing].concat());
    wire::with_mac1(message, initiator)
}

/// Chaining key and transcript hash.
struct Symmetric {
    chaining_key: [u8; 32],
    hash: [u8; 32],
}

impl Symmetric {
    fn new(responder: &[u8; 32]) -> Self {
        let chaining_key = blake2s::hash(&[wire::CONSTRUCTION.as_bytes()]);
        let hash = blake2s::hash(&[&chaining_key, wire::IDENTIFIER]);
        Symmetric { chaining_key, hash: blake2s::hash(&[&hash, responder]) }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = blake2s::hash(&[&self.hash, data]);
    }

    fn mix_ephemeral(&mut self, ephemeral: &[u8; 32]) {
        self.mix_hash(ephemeral);
        self.chaining_key = *blake2s::kdf1(&self.chaining_key, ephemeral).expose();
    }

    fn mix_key(&mut self, shared: &[u8; 32]) -> Secret<32> {
        let (chaining_key, key) = blake2s::kdf2(&self.chaining_key, shared);
        self.chaining_key = *chaining_key.expose();
        key
    }

    fn mix_psk(&mut self, preshared_key: &[u8; 32]) -> Secret<32> {
        let (chaining_key, temp, key) = blake2s::kdf3(&self.chaining_key, preshared_key);
        self.chaining_key = *chaining_key.expose();
        self.mix_hash(temp.expose());
        key
    }

    fn seal(&mut self, key: &Secret<32>, plaintext: &[u8]) -> Vec<u8> {
        let mut field = [plaintext, &[0; TAG_LEN]].concat();
        aead::seal(&aead::Key::from(key), 0, &self.hash, &mut field);
        self.mix_hash(&field);
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Keys;

    /// Else a forgery would be refused for another reason than the one it is made for.
    #[test]
    fn what_is_forged_with_the_true_secrets_is_genuine() {
        let (ours, theirs, ephemeral) = (Keys::new(), Keys::new(), Keys::new());
        let product = |keys: &Keys| {
            *x25519::shared(&x25519::PrivateKey::new(keys.private), &theirs.public).unwrap().expose()
        };
        let forgery = Forgery {
            responder: theirs.public,
            ephemeral: ephemeral.public,
            es: product(&ephemeral),
            claimed: ours.public,
            ss: product(&ours),
        };
        let message = forgery.initiation(7, &[9; 12]);
        let mut state = wire::snow(&theirs.private, None, &[0; 32]);
        let mut timestamp = [0; 12];
        assert_eq!(state.read_message(&message[8..116], &mut timestamp).unwrap(), 12);
        assert_eq!(timestamp, [9; 12]);
        assert_eq!(state.get_remote_static(), Some(&ours.public[..]));
    }

    #[test]
    fn points_of_low_order_give_zero() {
        let private = x25519::PrivateKey::new(Keys::new().private);
        for point in LOW_ORDER {
            assert!(x25519::shared(&private, &point).is_err(), "{point:x?}");
        }
    }
}
