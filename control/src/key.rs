//! Keys as text: 64 hexadecimal digits in the text protocol, base64 (RFC 4648, section 4) everywhere else.
//!
//! Both codecs work without tables and without branches on the key's bits, since private keys pass through
//! them. Only canonical base64 is read: 44 characters, the last `=`, the two bits left over zero, so that two
//! texts never name one key.

use std::fmt;

use adit_crypto::Secret;
use zeroize::{Zeroize, Zeroizing};

/// The length of a key in hexadecimal digits.
pub const HEX_LEN: usize = 64;
/// The length of a key in base64, with its one `=`.
pub const BASE64_LEN: usize = 44;

/// A Curve25519 point that names a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these bytes. Any 32 bytes are a public key.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads exactly 64 hexadecimal digits of either case.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        decode_hex(text.as_bytes()).map(Self)
    }

    /// Reads canonical base64.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        decode_base64(text.as_bytes()).map(Self)
    }

    /// The key as 64 lowercase hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        encode_hex(&self.0).map(char::from).iter().collect()
    }

    /// The key as 44 characters of base64, the form people know it by.
    #[must_use]
    pub fn to_base64(&self) -> String {
        encode_base64(&self.0).map(char::from).iter().collect()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_base64())
    }
}

/// Abbreviated as the kernel abbreviates it in its log.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_base64();
        write!(f, "{}…{}", &text[..4], &text[39..43])
    }
}

/// Reads a secret key of exactly 64 hexadecimal digits of either case.
#[must_use]
pub fn secret_from_hex(text: &str) -> Option<Secret<32>> {
    decode_hex(text.as_bytes()).map(into_secret)
}

/// A secret key as 44 characters of base64, in memory that is wiped.
#[must_use]
pub fn secret_to_base64(secret: &Secret<32>) -> Zeroizing<String> {
    let text = Zeroizing::new(encode_base64(secret.expose()));
    // In one piece: a string that grows leaves its beginnings behind.
    Zeroizing::new(str::from_utf8(&text[..]).unwrap_or_default().to_owned())
}

/// Reads a secret key in canonical base64.
#[must_use]
pub fn secret_from_base64(text: &str) -> Option<Secret<32>> {
    decode_base64(text.as_bytes()).map(into_secret)
}

fn into_secret(mut bytes: [u8; 32]) -> Secret<32> {
    let secret = Secret::new(bytes);
    bytes.zeroize();
    secret
}

/// Consecutive values spelled by consecutive characters: a part of an alphabet.
struct Run {
    value: u8,
    char: u8,
    count: u8,
}

const BASE64: &[Run] = &[
    Run { value: 0, char: b'A', count: 26 },
    Run { value: 26, char: b'a', count: 26 },
    Run { value: 52, char: b'0', count: 10 },
    Run { value: 62, char: b'+', count: 1 },
    Run { value: 63, char: b'/', count: 1 },
];

/// The last run is for reading only: values are spelled by the first run they are in.
const HEX: &[Run] = &[
    Run { value: 0, char: b'0', count: 10 },
    Run { value: 10, char: b'a', count: 6 },
    Run { value: 10, char: b'A', count: 6 },
];

/// All ones if `first <= x < first + count`, else zero; no branch.
fn within(x: u8, first: u8, count: u8) -> u8 {
    let below = i16::from(x) - i16::from(first);
    let above = i16::from(first) + i16::from(count) - 1 - i16::from(x);
    // Either difference is negative outside the range; its sign fills the high byte.
    !((below | above) >> 8) as u8
}

fn spell(alphabet: &[Run], value: u8) -> u8 {
    alphabet.iter().fold(0, |char, run| {
        let unspelled = within(char, 0, 1);
        char | (unspelled
            & within(value, run.value, run.count)
            & value.wrapping_sub(run.value).wrapping_add(run.char))
    })
}

/// The value of `char`, and all ones in the second place if it has one.
fn read(alphabet: &[Run], char: u8) -> (u8, u8) {
    alphabet.iter().fold((0, 0), |(value, known), run| {
        let matches = within(char, run.char, run.count);
        (value | (matches & char.wrapping_sub(run.char).wrapping_add(run.value)), known | matches)
    })
}

/// Spells `key` as 64 lowercase hexadecimal digits.
#[must_use]
pub fn encode_hex(key: &[u8; 32]) -> [u8; HEX_LEN] {
    std::array::from_fn(|i| {
        let byte = key[i / 2];
        spell(HEX, if i % 2 == 0 { byte >> 4 } else { byte & 15 })
    })
}

/// Spells `key` in canonical base64.
#[must_use]
pub fn encode_base64(key: &[u8; 32]) -> [u8; BASE64_LEN] {
    let byte = |i: usize| key.get(i).copied().map_or(0, u32::from);
    std::array::from_fn(|i| {
        if i == BASE64_LEN - 1 {
            return b'=';
        }
        let group = i / 4 * 3;
        let bits = byte(group) << 16 | byte(group + 1) << 8 | byte(group + 2);
        spell(BASE64, (bits >> (18 - 6 * (i % 4))) as u8 & 63)
    })
}

fn decode_hex(text: &[u8]) -> Option<[u8; 32]> {
    let text: &[u8; HEX_LEN] = text.try_into().ok()?;
    let mut key = [0; 32];
    let mut known = 0xff;
    for (byte, digits) in key.iter_mut().zip(text.as_chunks::<2>().0) {
        let (high, high_known) = read(HEX, digits[0]);
        let (low, low_known) = read(HEX, digits[1]);
        *byte = high << 4 | low;
        known &= high_known & low_known;
    }
    (known == 0xff).then_some(key)
}

fn decode_base64(text: &[u8]) -> Option<[u8; 32]> {
    let text: &[u8; BASE64_LEN] = text.try_into().ok()?;
    let mut key = [0; 32];
    let mut known = within(text[BASE64_LEN - 1], b'=', 1);
    let mut left_over = 0;
    for (group, chars) in text.as_chunks::<4>().0.iter().enumerate() {
        let mut bits = 0_u32;
        for (i, &char) in chars.iter().enumerate() {
            let padding = group * 4 + i == BASE64_LEN - 1;
            let (value, value_known) = if padding { (0, 0xff) } else { read(BASE64, char) };
            bits = bits << 6 | u32::from(value);
            known &= value_known;
        }
        for (i, &byte) in bits.to_be_bytes()[1..].iter().enumerate() {
            // The last group's third byte is no byte of the key but the bits left over and the padding.
            match key.get_mut(group * 3 + i) {
                Some(slot) => *slot = byte,
                None => left_over |= byte,
            }
        }
    }
    (known == 0xff && left_over == 0).then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 4648 by table and bit string, to compare with.
    fn naive_base64(bytes: &[u8]) -> String {
        let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
        let mut bits: String = bytes.iter().map(|b| format!("{b:08b}")).collect();
        while !bits.len().is_multiple_of(6) {
            bits.push('0');
        }
        let digits = bits.as_bytes().chunks(6).map(|six| std::str::from_utf8(six).unwrap());
        let mut text: String = digits.map(|six| alphabet[usize::from_str_radix(six, 2).unwrap()]).collect();
        while !text.len().is_multiple_of(4) {
            text.push('=');
        }
        text
    }

    #[test]
    fn every_byte_value_in_the_alphabets() {
        for char in 0..=255_u8 {
            let hex = char::from(char).to_digit(16);
            assert_eq!(read(HEX, char), hex.map_or((0, 0), |v| (v as u8, 0xff)), "{char}");
            let known = char.is_ascii_alphanumeric() || char == b'+' || char == b'/';
            assert_eq!(read(BASE64, char).1 == 0xff, known, "{char}");
        }
    }

    /// VPP d9d7707: malformed base64 was taken for a key.
    #[test]
    fn only_canonical_base64_is_read() {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let key = PublicKey::from_base64(text).unwrap();
        assert_eq!(key.to_hex(), "c53201039adba14be71f886da1d8dbe9eebded08cb111b75340078999aa9f038");
        assert_eq!(format!("{key}"), text);
        assert_eq!(format!("{key:?}"), "xTIB…p8Dg");
        for bad in [
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh=", // a left-over bit is set
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg",  // no padding
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8DgA",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D==",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8_g=",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg= ",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg\n=",
            "",
        ] {
            assert_eq!(PublicKey::from_base64(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn keys_survive_both_spellings(bytes: [u8; 32]) {
            let key = PublicKey::new(bytes);
            prop_assert_eq!(key.to_base64(), naive_base64(&bytes));
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            prop_assert_eq!(key.to_hex(), hex.clone());
            prop_assert_eq!(PublicKey::from_base64(&key.to_base64()), Some(key));
            prop_assert_eq!(PublicKey::from_hex(&hex.to_uppercase()), Some(key));
            prop_assert_eq!(PublicKey::from_hex(&hex), Some(key));
        }

        #[test]
        fn one_wrong_character_is_refused(bytes: [u8; 32], at in 0..43_usize, wrong in "[^A-Za-z0-9+/]") {
            let key = PublicKey::new(bytes);
            let replace = |text: String, at: usize| format!("{}{wrong}{}", &text[..at], &text[at + 1..]);
            prop_assert_eq!(PublicKey::from_base64(&replace(key.to_base64(), at)), None);
            prop_assert_eq!(PublicKey::from_hex(&replace(key.to_hex(), at)), None);
        }
    }
}
