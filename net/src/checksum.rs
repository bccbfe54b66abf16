//! The internet checksum (RFC 1071), alone and fused with a copy.
//!
//! Sums here are one's complement sums of big-endian 16-bit words, folded to 16 bits but kept in a `u32`, so that a
//! few of them (and single header fields) can be added with plain `+` before [`fold`] reduces the total. Only the last
//! part of what is summed may have an odd length: RFC 1071 pads it with a zero byte at the end.
//!
//! Inside, words are added in the machine's byte order, four bytes at a time into 64-bit lanes, which RFC 1071
//! section 2 (B) permits: swapping the bytes of the result equals swapping those of every addend.

#[cfg(target_arch = "x86_64")]
mod avx2;

use std::net::IpAddr;

/// The one's complement sum of `data`, at most `0xffff`; zero only if every byte is zero.
#[must_use]
#[inline]
pub fn sum(data: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if avx2::is_worth_it(data.len()) {
        let (steps, rest) = data.as_chunks();
        // SAFETY: the processor has AVX2, the only thing the function asks for.
        return reduce(unsafe { avx2::sum_steps(steps) } + sum_words(rest));
    }
    reduce(sum_words(data))
}

/// Copies `from` to `to` and returns the [`sum`] of it, touching each byte once.
///
/// # Panics
/// If the lengths differ.
#[must_use]
pub fn copy_and_sum(from: &[u8], to: &mut [u8]) -> u32 {
    assert_eq!(from.len(), to.len(), "a copy is as long as its source");
    #[cfg(target_arch = "x86_64")]
    if avx2::is_worth_it(from.len()) {
        let (steps, rest) = from.as_chunks();
        let (to_steps, to_rest) = to.as_chunks_mut();
        to_rest.copy_from_slice(rest);
        // SAFETY: the processor has AVX2, the only thing the function asks for.
        return reduce(unsafe { avx2::copy_and_sum_steps(steps, to_steps) } + sum_words(rest));
    }
    to.copy_from_slice(from);
    sum(from)
}

/// Reduces a total of sums to 16 bits, carries added back in. The checksum field is the complement of this.
#[must_use]
pub const fn fold(total: u32) -> u16 {
    let once = (total & 0xffff) + (total >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// The checksum of a header that contains its checksum field as zero: what belongs in that field.
#[must_use]
pub fn checksum(header: &[u8]) -> u16 {
    !fold(sum(header))
}

/// The sum of the pseudo-header that TCP and UDP add to their checksum (RFC 9293 section 3.1, RFC 8200 section 8.1).
///
/// `length` is that of the transport header and payload, in bytes. Both addresses are of one family.
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: u16) -> u32 {
    let address = |a: IpAddr| match a {
        IpAddr::V4(a) => sum(&a.octets()),
        IpAddr::V6(a) => sum(&a.octets()),
    };
    address(source) + address(destination) + u32::from(protocol) + u32::from(length)
}

/// The checksum after one 16-bit word that it covers changed from `old` to `new` (RFC 1624, equation 3).
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u32 + !old as u32 + new as u32)
}

/// The unreduced sum, word by word: of what is too short for a wide loop, or on processors that have none.
#[inline]
fn sum_words(data: &[u8]) -> u64 {
    let (words, tail) = data.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    if !tail.is_empty() {
        let mut word = [0; 4];
        word[..tail.len()].copy_from_slice(tail);
        total += u64::from(u32::from_ne_bytes(word));
    }
    total
}

/// Folds to 16 bits, since 2¹⁶ ≡ 1 (mod 2¹⁶ - 1), and gives the sum its network byte order.
const fn reduce(total: u64) -> u32 {
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff) + ((total >> 16) & 0xffff) + (total >> 32);
    u16::from_be(fold(total as u32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(data: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in data.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            total += u32::from(u16::from_be_bytes([pair[0], low]));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&data), 0xddf2);
        assert_eq!(checksum(&data), !0xddf2);
    }

    #[test]
    fn carries_survive_the_longest_packet() {
        for length in [0, 1, 2, 63, 64, 65, 65_534, 65_535] {
            let data = vec![0xff; length];
            assert_eq!(sum(&data), u32::from(naive(&data)), "{length} bytes of 0xff");
            assert_eq!(reduce(sum_words(&data)), u32::from(naive(&data)), "{length} bytes of 0xff, portable");
        }
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum(data in proptest::collection::vec(any::<u8>(), 0..3000), skip in 0usize..9) {
            let data = &data[skip.min(data.len())..];
            let expected = u32::from(naive(data));
            prop_assert_eq!(sum(data), expected);
            prop_assert_eq!(reduce(sum_words(data)), expected);

            let mut copy = vec![0; data.len()];
            prop_assert_eq!(copy_and_sum(data, &mut copy), expected);
            prop_assert_eq!(&copy, data);
        }

        #[test]
        fn parts_add_up(data in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..150) {
            let (head, tail) = data.split_at((cut * 2).min(data.len() & !1));
            prop_assert_eq!(fold(sum(head) + sum(tail)), naive(&data));
        }

        #[test]
        fn an_update_equals_a_new_checksum(mut header in any::<[u8; 20]>(), new in any::<u16>()) {
            // RFC 1624: the equation is exact unless every covered word is zero, and an IP header has its version.
            header[0] = 0x45;
            let before = checksum(&header);
            let old = u16::from_be_bytes([header[2], header[3]]);
            header[2..4].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, old, new), checksum(&header));
        }
    }
}
