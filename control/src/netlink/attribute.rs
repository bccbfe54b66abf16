//! Netlink attributes (RFC 3549, section 2.2 on TLVs): length and type of 16 bits each in host order, the value, padding
//! to a multiple of four bytes. A value may be attributes in turn.

use super::Malformed;
use crate::SecretText;

pub(super) const HEADER_LEN: usize = 4;
const ALIGNMENT: usize = 4;

/// Says that the value is attributes. Kernels since Linux 5.2 insist on it.
const NESTED: u16 = 1 << 15;
/// The bits of the type that are no flags.
const TYPE_MASK: u16 = !(3 << 14);

/// How much an attribute with a value of this length takes.
pub(super) const fn size(value_len: usize) -> usize {
    (HEADER_LEN + value_len).next_multiple_of(ALIGNMENT)
}

/// Attributes being written, into memory that is wiped.
pub(super) struct Writer(SecretText);

/// Where an attribute begins whose value is being written.
#[must_use]
pub(super) struct Nest(usize);

impl Writer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self(SecretText::with_capacity(capacity))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn finish(self) -> SecretText {
        self.0
    }

    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let nest = self.begin(kind);
        self.0.push(value);
        self.close(nest);
        self.0.push(&[0; ALIGNMENT][..self.0.len().next_multiple_of(ALIGNMENT) - self.0.len()]);
    }

    /// Begins an attribute of attributes: those written until it is closed.
    pub fn open(&mut self, kind: u16) -> Nest {
        self.begin(kind | NESTED)
    }

    pub fn close(&mut self, Nest(start): Nest) {
        let length = self.0.len() - start;
        debug_assert!(u16::try_from(length).is_ok(), "whoever writes keeps messages short");
        self.0.bytes_mut()[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    fn begin(&mut self, kind: u16) -> Nest {
        let start = self.0.len();
        self.0.push(&[0; 2]);
        self.0.push(&kind.to_ne_bytes());
        Nest(start)
    }
}

/// The type and value of each attribute, without flags. One that is cut short is an error, and the last.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let all = std::mem::take(&mut bytes);
        let Some(&[l0, l1, k0, k1]) = all.first_chunk() else { return Some(Err(Malformed)) };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let kind = u16::from_ne_bytes([k0, k1]) & TYPE_MASK;
        // The last one's padding may be missing.
        bytes = all.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some(all.get(HEADER_LEN..length).map(|value| (kind, value)).ok_or(Malformed))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_is_not_of_the_value_and_nests_end_where_they_are_closed() {
        let mut writer = Writer::with_capacity(0);
        let outer = writer.open(8);
        writer.put(1, &[0xaa]);
        writer.put(2, &[]);
        writer.close(outer);
        writer.put(3, &[1, 2, 3, 4, 5]);
        assert_eq!(writer.len(), size(size(1) + size(0)) + size(5));
        let written = writer.finish();
        let found: Vec<_> = attributes(&written).map(Result::unwrap).collect();
        assert_eq!(found[1], (3, &[1, 2, 3, 4, 5][..]));
        let (kind, nest) = found[0];
        let found: Vec<_> = attributes(nest).collect();
        assert_eq!((kind, found), (8, vec![Ok((1, &[0xaa][..])), Ok((2, &[][..]))]));
    }

    #[test]
    fn what_is_cut_short_is_an_error_and_the_end() {
        let bytes = |length: u16| [&length.to_ne_bytes()[..], &[1, 0, 9, 9, 9]].concat();
        for length in [0, 3, 8, u16::MAX] {
            let bytes = bytes(length);
            let found: Vec<_> = attributes(&bytes).take(9).collect();
            assert_eq!(found.first(), Some(&Err(Malformed)), "{length}");
        }
        assert_eq!(attributes(&bytes(7)).collect::<Vec<_>>(), [Ok((1, &[9, 9, 9][..]))]);
        assert_eq!(attributes(&[1, 2, 3]).collect::<Vec<_>>(), [Err(Malformed)]);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes: Vec<u8>) {
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
