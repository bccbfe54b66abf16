//! Key material that is wiped when it goes out of scope, and hard to show by accident.

use core::fmt;

use zeroize::Zeroize;

use crate::ct;

/// `N` secret bytes: wiped on drop, absent from `Debug`, compared in constant time.
///
/// Moving a value may leave a copy behind on the stack, as any move in Rust may; keep long-lived secrets
/// where they are made and lend them.
#[derive(Clone)]
#[repr(transparent)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes `bytes` over. The caller's own copy, if it keeps one, is the caller's to wipe.
    #[must_use]
    pub const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// All zeros: the preshared key of a peer that has none (whitepaper, section 5.2).
    #[must_use]
    pub const fn zero() -> Self {
        Self([0; N])
    }

    /// The bytes themselves. Copies made of them are not wiped.
    #[must_use]
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes themselves, to be filled in place.
    pub const fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// Whether every byte is zero, in constant time.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        ct::eq(&self.0, &[0; N])
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> Default for Secret<N> {
    fn default() -> Self {
        Self::zero()
    }
}

impl<const N: usize> From<[u8; N]> for Secret<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self::new(bytes)
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        ct::eq(&self.0, &other.0)
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
