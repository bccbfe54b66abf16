//! ChaCha20-Poly1305 for trains, and X25519 for eight at once, on x86-64 with AVX-512 and IFMA.

mod bounds;
mod chacha20;
#[expect(unsafe_code, reason = "plain code calls what needs CPU features")]
mod key;
mod lone;
#[expect(unsafe_code, reason = "loads and stores")]
mod memory;
mod poly1305;
mod train;
mod transpose;
mod x25519;

pub(super) use key::{Key, is_available, shared};
pub(super) use x25519::LANES;

/// Bytes in a block of ChaCha20, and in a vector.
const BLOCK_LEN: usize = 64;

/// Packets in a group at most.
pub(super) const MAX_GROUP: usize = 16;

/// From how many packets on a group of eight lanes costs less than as many packets alone: up to that many bytes of text.
/// Measured. A lane of eight costs the same whether there is a packet in it or not.
const EIGHT_PAYS: [(usize, usize); 6] =
    [(320, 3), (576, 4), (1100, 5), (1600, 6), (16_000, 7), (usize::MAX, 8)];

/// How many of `packets` packets are best taken as the next group, if any are.
pub(super) fn group_len(packets: usize, text_len: usize) -> Option<usize> {
    let (_, eight_pays) = EIGHT_PAYS.into_iter().find(|&(up_to, _)| text_len <= up_to)?;
    match packets {
        ..=8 => (packets >= eight_pays).then_some(packets),
        // Sixteen lanes cost a little less than twice eight.
        _ if packets < 8 + eight_pays => Some(8),
        _ => Some(packets.min(MAX_GROUP)),
    }
}
