//! ChaCha20-Poly1305 for trains, on x86-64 with AVX-512 and IFMA.

mod chacha20;
#[expect(unsafe_code, reason = "plain code calls what needs CPU features")]
mod key;
mod lone;
#[expect(unsafe_code, reason = "loads and stores")]
mod memory;
mod poly1305;
mod train;

pub(super) use key::{Key, is_available};

/// Bytes in a block of ChaCha20, and in a vector.
const BLOCK_LEN: usize = 64;

/// Packets in a group at most.
pub(super) const MAX_GROUP: usize = 16;

/// Packets of one length, back to back: each a header, the text, and the tag.
pub(super) struct Group<'a> {
    pub(super) packets: &'a mut [u8],
    /// Bytes of a packet, of which `packets` are a multiple.
    pub(super) stride: usize,
    pub(super) header: usize,
}

/// How many of `packets` packets are best taken as the next group, if any are.
pub(super) fn group_len(packets: usize, text_len: usize) -> Option<usize> {
    let worthwhile = if text_len > 256 { 7 } else { 4 };
    (packets >= worthwhile).then_some(match packets {
        9..14 => 8,
        _ => packets.min(MAX_GROUP),
    })
}

/// Whether a text on its own is better taken here than by the library.
pub(super) fn takes_alone(text_len: usize) -> bool {
    text_len > 192
}
