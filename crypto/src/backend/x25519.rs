//! X25519: decides which code serves a call.

use core::array;

use super::avx512::{self, LANES};
use super::{Backend, aws_lc};
use crate::x25519::{PrivateKey, ZeroShared};
use crate::{KEY_LEN, Secret};

/// From how many multiplications on eight lanes cost less than the library. Measured.
const LANES_PAY: usize = 3;

/// A clamped private key.
pub(crate) struct X25519Key {
    scalar: Secret<KEY_LEN>,
    library: aws_lc::X25519Key,
}

impl X25519Key {
    pub(crate) fn new(scalar: Secret<KEY_LEN>) -> Self {
        let library = aws_lc::X25519Key::new(scalar.expose());
        Self { scalar, library }
    }

    pub(crate) fn scalar(&self) -> &[u8; KEY_LEN] {
        self.scalar.expose()
    }

    pub(crate) fn public_key(&self) -> [u8; KEY_LEN] {
        self.library.public_key()
    }

    pub(crate) fn shared(&self, public_key: &[u8; KEY_LEN]) -> Result<Secret<KEY_LEN>, ZeroShared> {
        self.library.shared(public_key)
    }
}

/// A shared secret for each pair.
pub(crate) fn shared_batch(
    mut pairs: &[(&PrivateKey, &[u8; KEY_LEN])],
    mut results: &mut [Result<Secret<KEY_LEN>, ZeroShared>],
    backend: Backend,
) {
    assert_eq!(pairs.len(), results.len(), "a result for each pair");
    while backend == Backend::Avx512 && pairs.len() >= LANES_PAY {
        let group = pairs.split_off(..pairs.len().min(LANES)).expect("a group is within the pairs");
        let results = results.split_off_mut(..group.len()).expect("a result for each pair");
        // A lane for which there is nothing repeats the first one.
        let of_lane = |lane| *group.get(lane).unwrap_or(&group[0]);
        let shared = avx512::shared(
            array::from_fn(|lane| of_lane(lane).0.expose()),
            array::from_fn(|lane| of_lane(lane).1),
        );
        results.iter_mut().zip(shared).for_each(|(result, shared)| *result = shared);
    }
    for (result, (private_key, public_key)) in results.iter_mut().zip(pairs) {
        *result = crate::x25519::shared(private_key, public_key);
    }
}
