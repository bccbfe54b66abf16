//! What vector code takes at once.

#[cfg_attr(
    any(not(target_arch = "x86_64"), adit_elsewhere),
    allow(dead_code, reason = "only vector code reads it")
)]
/// Packets of one length, back to back: each a header, the text, and the tag.
pub(super) struct Group<'a> {
    pub(super) packets: &'a mut [u8],
    /// Bytes of a packet, of which `packets` are a multiple.
    pub(super) stride: usize,
    pub(super) header: usize,
}
