//! Comparison whose duration does not depend on where two values differ.

use subtle::ConstantTimeEq;

/// Whether `a` and `b` hold the same bytes. Time depends only on their lengths, which are not secret: slices
/// of different lengths are unequal at once.
#[must_use]
pub fn eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
