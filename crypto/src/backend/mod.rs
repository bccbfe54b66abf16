//! Who computes what. Only here are other crates' ciphers named; the modules above see these few items.
//!
//! | item | crate | why this one |
//! | --- | --- | --- |
//! | `AeadKey`, `X25519Key`, `shared_batch` | aws-lc-rs | fused AVX2 and NEON code for the AEAD; formally verified X25519 |
//! | `AeadKey` for packets, `shared_batch` for three and more | none: `avx512`, `avx2` | several packets, or points, fill the lanes of a vector |
//! | `blake2s` | blake2s_simd | the fastest on the short inputs of a handshake |
//! | `xaead_*` | chacha20poly1305 | aws-lc-rs has no XChaCha20; cookies are too rare for speed to matter |
//!
//! All choose their code for the CPU at run time.

mod aead;
#[cfg(all(target_arch = "x86_64", not(adit_elsewhere)))]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(adit_elsewhere)))]
mod avx512;
mod aws_lc;
mod blake2s_simd;
mod choice;
// `adit_elsewhere` is for `./check`, so that what other processors get is compiled where there are none.
#[cfg(any(not(target_arch = "x86_64"), adit_elsewhere))]
mod elsewhere;
mod group;
#[cfg(all(target_arch = "x86_64", not(adit_elsewhere)))]
mod poly1305;
mod rustcrypto;
mod x25519;

pub(crate) use aead::AeadKey;
pub(crate) use blake2s_simd::{blake2s, macs};
use group::Group;
#[cfg(any(not(target_arch = "x86_64"), adit_elsewhere))]
use {elsewhere as avx2, elsewhere as avx512};

pub use choice::{Backend, preferred_backend, use_library};
pub(crate) use rustcrypto::{xaead_open, xaead_seal};
pub(crate) use x25519::{X25519Key, shared_batch};

#[cfg(test)]
mod tests;
