//! The Diffie-Hellman of handshake steps (whitepaper 5.4), of several at once where several wait.
//!
//! A step that needs shared secrets has two halves. The first makes a [`Step`], which knows of whose keys; the second takes
//! it [`Ready`], with the secrets. Nothing but [`ready`] and [`ready_all`] makes one ready, so no step can be given another
//! one's secrets. One that is alone is a batch of one.

use alloc::vec;
use alloc::vec::Vec;
use core::array;

use adit_crypto::Secret;
use adit_crypto::x25519::{self, PrivateKey, ZeroShared};

type Shared = Result<Secret<32>, ZeroShared>;

/// What needs `N` shared secrets to go on.
pub trait Step<const N: usize> {
    /// The keys whose they are.
    fn pairs(&self) -> [(&PrivateKey, &[u8; 32]); N];
}

/// A step and its shared secrets.
pub struct Ready<S, const N: usize> {
    pub(crate) step: S,
    pub(crate) shared: [Shared; N],
}

/// Makes one step ready.
pub fn ready<S: Step<N>, const N: usize>(step: S) -> Ready<S, N> {
    let mut shared = [const { Ok(Secret::zero()) }; N];
    x25519::shared_batch(&step.pairs(), &mut shared);
    Ready { step, shared }
}

/// Makes many ready, which costs less than one by one.
pub fn ready_all<S: Step<N>, const N: usize>(steps: Vec<S>) -> impl Iterator<Item = Ready<S, N>> {
    let pairs: Vec<_> = steps.iter().flat_map(Step::pairs).collect();
    // Of what is moved out of a vector a copy stays there: secrets are lent, and dropped where they are.
    let mut shared = vec![Ok(Secret::zero()); pairs.len()];
    x25519::shared_batch(&pairs, &mut shared);
    steps
        .into_iter()
        .enumerate()
        .map(move |(i, step)| Ready { step, shared: array::from_fn(|j| shared[N * i + j].clone()) })
}
