//! Comparison whose duration does not depend on where two values differ.

use subtle::ConstantTimeEq;

/// Whether `a` and `b` hold the same bytes. Time depends only on their lengths, which are not secret: slices
/// of different lengths are unequal at once.
#[must_use]
pub fn eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Says that `verdict` need not be secret from here on: whether a packet is authentic shows in what becomes of it.
///
/// Does nothing, but for the check that nothing else which depends on a secret decides a branch or an address: there,
/// secrets are memory that MemorySanitizer takes for undefined, and this defines it (docs/cryptography.md).
#[cfg(all(target_arch = "x86_64", not(adit_elsewhere)))]
#[inline(always)]
#[cfg_attr(feature = "constant-time-check", allow(unsafe_code))]
pub(crate) fn declassify(verdict: bool) -> bool {
    #[cfg(feature = "constant-time-check")]
    let verdict = {
        unsafe extern "C" {
            fn __msan_unpoison(address: *const core::ffi::c_void, size: usize);
        }
        let mut verdict = verdict;
        // SAFETY: only changes what MemorySanitizer notes about the one byte that `verdict` is.
        unsafe { __msan_unpoison((&raw mut verdict).cast(), size_of_val(&verdict)) };
        verdict
    };
    verdict
}
