//! ChaCha20-Poly1305 for trains of short packets, on x86-64 with AVX2.
//!
//! A library seals one packet after the other, and what a short packet costs is mostly setting up: lanes stay empty. Here the
//! blocks of several packets fill them. Of long packets the library is the quicker one, for it adds up Poly1305's products
//! while the lanes are at work.

mod chacha20;
#[expect(unsafe_code, reason = "plain code calls what needs CPU features")]
mod key;
#[expect(unsafe_code, reason = "loads and stores")]
mod memory;
mod train;

pub(super) use key::{Key, is_available};

/// Bytes in a block of ChaCha20.
const BLOCK_LEN: usize = 64;

/// Packets in a group at most.
pub(super) const MAX_GROUP: usize = 8;

/// Bytes of text in a packet of a group at most.
const MAX_TEXT: usize = 256;

/// From how many packets on a group takes at most 1/1.25 of the library's time: up to that many bytes of text. Measured.
const GROUP_PAYS: [(usize, usize); 3] = [(64, 3), (192, 4), (MAX_TEXT, 6)];

/// How many of `packets` packets are best taken as the next group, if any are.
pub(super) fn group_len(packets: usize, text_len: usize) -> Option<usize> {
    let (_, pays) = GROUP_PAYS.into_iter().find(|&(up_to, _)| text_len <= up_to)?;
    match packets {
        _ if packets < pays => None,
        // A fifth packet of four blocks would have the lanes to itself.
        5 if text_len > 128 => Some(4),
        _ => Some(packets.min(MAX_GROUP)),
    }
}
