//! A buffer for text that may hold private keys: wiped when dropped, and when it outgrows its memory.

use std::fmt;
use std::io;
use std::ops::Deref;

use zeroize::Zeroize;

/// Bytes of text with secrets in them. A `Vec` that grows leaves its old bytes behind in freed memory; this
/// one wipes them first.
#[derive(Default)]
pub struct SecretText {
    bytes: Vec<u8>,
}

impl SecretText {
    /// An empty text with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// Appends bytes.
    pub fn push(&mut self, more: &[u8]) {
        let needed = self.bytes.len().saturating_add(more.len());
        if needed > self.bytes.capacity() {
            let mut bigger = Vec::with_capacity(needed.max(2 * self.bytes.capacity()));
            bigger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = bigger;
        }
        self.bytes.extend_from_slice(more);
    }

    /// The bytes so far, to be changed in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Wipes the text and keeps its memory.
    pub fn clear(&mut self) {
        // Only the text: wiping unused capacity too would make short lines cost as much as long ones.
        self.bytes.as_mut_slice().zeroize();
        self.bytes.clear();
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Deref for SecretText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Write for SecretText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl io::Write for SecretText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn growth_keeps_the_text() {
        let mut text = SecretText::with_capacity(3);
        let mut expected = String::new();
        for i in 0..1000 {
            write!(text, "{i},").unwrap();
            write!(expected, "{i},").unwrap();
        }
        assert_eq!(&*text, expected.as_bytes());
        text.clear();
        assert!(text.is_empty());
        assert_eq!(format!("{text:?}"), "SecretText(0 bytes)");
    }
}
