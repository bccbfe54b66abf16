//! Loads and stores. All of this backend's `unsafe` is here, but for the one way in.
//!
//! Everything takes slices or arrays, or pointers that [`Lanes`] has made of slices, so callers cannot reach outside.

use core::arch::x86_64::{
    __m512i, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi8,
    _mm512_storeu_si512,
};
use core::marker::PhantomData;

use super::BLOCK_LEN;
use crate::TAG_LEN;
use crate::backend::Group;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn load(bytes: &[u8; BLOCK_LEN]) -> __m512i {
    // SAFETY: reads the 64 bytes that `bytes` is, of any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn store(bytes: &mut [u8; BLOCK_LEN], vector: __m512i) {
    // SAFETY: writes the 64 bytes that `bytes` is, of any alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

/// The 64 bytes from `start` on as if `bytes` were surrounded by zeros on both sides.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn load_window(bytes: &[u8], start: isize) -> __m512i {
    let len = bytes.len().cast_signed();
    let before = (-start).clamp(0, 64) as u32;
    let within = (len - start).clamp(0, 64) as u32;
    let mask = low_bits(within) & !low_bits(before);
    // SAFETY: reads only the bytes whose bit of `mask` is set: byte i, at `start + i` of `bytes`, where
    // `-start <= i < len - start`, that is, within `bytes`. The address itself may be outside.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().wrapping_offset(start).cast()) }
}

/// Writes the first bytes of `vector`, as many as `bytes` has.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn store_prefix(bytes: &mut [u8], vector: __m512i) {
    let mask = low_bits(bytes.len().min(64) as u32);
    // SAFETY: writes only the bytes whose bit of `mask` is set: the first `bytes.len()`.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask, vector) }
}

/// The lowest `count` of 64 bits.
fn low_bits(count: u32) -> u64 {
    u64::MAX.checked_shr(64 - count).unwrap_or(0)
}

/// The texts of up to `P` packets of a train, all of one length, one a lane.
pub(super) struct Lanes<'a, const P: usize> {
    /// Where each lane's text begins. A lane without packet has the spare block instead.
    starts: [*mut u8; P],
    /// All ones for a lane that has a packet, zero for one that stays on the spare block.
    advances: [usize; P],
    text_len: usize,
    texts: PhantomData<&'a mut [u8]>,
}

impl<'a, const P: usize> Lanes<'a, P> {
    /// Of up to `P` packets. Lanes without one read and write `spare`, which holds keystream afterwards.
    ///
    /// Panics if there are more, or parts of one, or no room for header and tag.
    #[inline]
    pub(super) fn new(group: Group<'a>, spare: &'a mut [u8; BLOCK_LEN]) -> Self {
        let Group { packets, stride, header } = group;
        assert!(
            packets.len() <= P * stride && packets.len().is_multiple_of(stride),
            "whole packets, one a lane"
        );
        let text_len = stride.checked_sub(header + TAG_LEN).expect("a packet has room for header and tag");
        let mut starts = [spare.as_mut_ptr(); P];
        let mut advances = [0; P];
        let there = packets.len() / stride;
        let first = packets.as_mut_ptr().wrapping_add(header);
        for lane in 0..there {
            starts[lane] = first.wrapping_add(lane * stride);
            advances[lane] = usize::MAX;
        }
        Self { starts, advances, text_len, texts: PhantomData }
    }

    /// Bytes in every text.
    pub(super) fn text_len(&self) -> usize {
        self.text_len
    }

    /// The whole 64 bytes number `column` of each text.
    ///
    /// Panics if the texts end before.
    #[inline]
    pub(super) fn column(&mut self, column: usize) -> Column<'_, 'a, P> {
        assert!(column < self.text_len / BLOCK_LEN, "a column is within the texts");
        Column { offset: column * BLOCK_LEN, mask: u64::MAX, lanes: self }
    }

    /// What of each text the whole columns leave, zero-padded: fewer than 64 bytes.
    #[inline]
    pub(super) fn last_column(&mut self) -> Column<'_, 'a, P> {
        let rest = self.text_len % BLOCK_LEN;
        let offset = self.text_len - rest;
        Column { lanes: self, offset, mask: low_bits(rest as u32) }
    }
}

/// 64 bytes of each text at one offset. Invariant: `offset` and the number of bits in `mask` together are within the
/// texts.
pub(super) struct Column<'c, 'a, const P: usize> {
    lanes: &'c mut Lanes<'a, P>,
    offset: usize,
    /// A bit for each byte that is there.
    mask: u64,
}

impl<const P: usize> Column<'_, '_, P> {
    #[inline]
    fn address(&self, lane: usize) -> *mut u8 {
        self.lanes.starts[lane].wrapping_add(self.offset & self.lanes.advances[lane])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn load(&self, lane: usize) -> __m512i {
        // SAFETY: reads only bytes whose bit of `mask` is set. A lane that advances has them in its text by the
        // invariant of `Column`; any other has 64 of them, and its offset is zero. `Lanes` borrows both.
        unsafe { _mm512_maskz_loadu_epi8(self.mask, self.address(lane).cast()) }
    }

    /// Zeroes what a load would have zeroed.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn trim(&self, vector: __m512i) -> __m512i {
        _mm512_maskz_mov_epi8(self.mask, vector)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn store(&mut self, lane: usize, vector: __m512i) {
        // SAFETY: as for `load`; the borrow is mutable, and only this thread uses it.
        unsafe { _mm512_mask_storeu_epi8(self.address(lane).cast(), self.mask, vector) }
    }
}
