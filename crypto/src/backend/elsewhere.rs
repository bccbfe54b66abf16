//! What stands for `avx2` and `avx512` where the CPU is another: there is no key.

use super::Group;
use crate::x25519::ZeroShared;
use crate::{KEY_LEN, Rejected, Secret, TAG_LEN};

pub(super) const MAX_GROUP: usize = 1;

pub(super) enum Key {}

impl Key {
    pub(super) fn new(_: &[u8; KEY_LEN]) -> Option<Self> {
        None
    }

    pub(super) fn seal_group(&self, _: &[u64], _: Group<'_>) {
        match *self {}
    }

    pub(super) fn open_group(&self, _: &[u64], _: Group<'_>, _: &mut [bool]) {
        match *self {}
    }

    pub(super) fn seal(&self, _: u64, _: &mut [u8], _: &mut [u8; TAG_LEN]) {
        match *self {}
    }

    pub(super) fn open(&self, _: u64, _: &mut [u8], _: &[u8; TAG_LEN]) -> Result<(), Rejected> {
        match *self {}
    }
}

pub(super) fn is_available() -> bool {
    false
}

pub(super) fn group_len(_: usize, _: usize) -> Option<usize> {
    None
}

pub(super) const LANES: usize = 8;

pub(super) fn shared(
    _: [&[u8; KEY_LEN]; LANES],
    _: [&[u8; KEY_LEN]; LANES],
) -> [Result<Secret<KEY_LEN>, ZeroShared>; LANES] {
    panic!("this CPU has AVX-512 and IFMA")
}
