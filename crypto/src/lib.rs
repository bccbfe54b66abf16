//! The cryptographic primitives of WireGuard, called directly: no registry of algorithms, no negotiation,
//! nothing to set up first. Which primitive serves what is section 5.4 of the WireGuard whitepaper.
//!
//! | module | primitive | standard |
//! | --- | --- | --- |
//! | [`aead`] | ChaCha20-Poly1305 with a 64-bit counter, one packet or a train of them | RFC 8439 |
//! | [`xaead`] | XChaCha20-Poly1305 with a random nonce, for cookies | draft-irtf-cfrg-xchacha-03 |
//! | [`blake2s`] | hash, keyed MAC, HMAC, and the KDFs built of it | RFC 7693, RFC 2104, RFC 5869 |
//! | [`x25519`] | Diffie-Hellman on Curve25519 | RFC 7748 |
//! | [`ct`] | comparison in constant time | |
//!
//! [`Secret`] carries key material between them. [`self_test()`] runs each against known answers and is meant
//! for program start. Nothing here reads a clock, draws randomness or performs I/O; nothing allocates when a
//! packet is sealed or opened.

#![no_std]

pub mod aead;
mod backend;
pub mod blake2s;
pub mod ct;
mod secret;
mod self_test;
pub mod x25519;
pub mod xaead;

pub use backend::{Backend, preferred_backend, use_library};
pub use secret::Secret;
pub use self_test::{SelfTest, SelfTestFailure, self_test};

/// Bytes in every symmetric key, private key, public key and hash of WireGuard.
pub const KEY_LEN: usize = 32;

/// Bytes an AEAD appends to its plaintext.
pub const TAG_LEN: usize = 16;

/// Authentication failed: the packet, its counter, its associated data or the key is not what was sealed.
///
/// Deliberately says no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected;

impl core::fmt::Display for Rejected {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("authentication failed")
    }
}

impl core::error::Error for Rejected {}
