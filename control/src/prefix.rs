//! An IP prefix, the unit of cryptokey routing (whitepaper, section 2).

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address and the number of its leading bits that count. The other bits are zero: `10.1.2.3/8` becomes
/// `10.0.0.0/8` when it is made, so equal prefixes are equal values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// The prefix of `len` bits that `addr` lies in; `None` if an address of its family has fewer bits.
    #[must_use]
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        // Shifting by the whole width (a /0) is what the checked shift catches.
        let addr = match addr {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(len.into())?).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128_u32.checked_sub(len.into())?).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Some(Self { addr, len })
    }

    /// The prefix that holds `addr` alone: a /32 or a /128.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, len: if addr.is_ipv4() { 32 } else { 128 } }
    }

    /// The lowest address of the prefix.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The number of bits that count, up to 32 or 128.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "the length of a prefix is the field's word, no prefix is empty"
    )]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether `addr` lies in the prefix. An address of the other family never does, mapped or not.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && Self::new(addr, self.len) == Some(*self)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    /// Reads `address/length`. The length is required, in decimal without sign or leading zero; bits of the
    /// address beyond it are dropped.
    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        let (addr, len) = text.split_once('/').ok_or(ParsePrefixError)?;
        let canonical = len == "0" || (len.starts_with(|c: char| ('1'..='9').contains(&c)));
        if !canonical {
            return Err(ParsePrefixError);
        }
        let addr = addr.parse().map_err(|_| ParsePrefixError)?;
        let len = len.parse().map_err(|_| ParsePrefixError)?;
        Self::new(addr, len).ok_or(ParsePrefixError)
    }
}

/// The text is not an IP address, a slash and a length that fits the address's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePrefixError;

impl fmt::Display for ParsePrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an IP prefix (address/length)")
    }
}

impl Error for ParsePrefixError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(addr: IpAddr) -> Vec<bool> {
        let octets = match addr {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        octets.iter().flat_map(|octet| (0..8).rev().map(move |i| octet >> i & 1 == 1)).collect()
    }

    #[test]
    fn text() {
        for (text, expected) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/32", "10.1.2.3/32"),
            ("255.255.255.255/0", "0.0.0.0/0"),
            ("fd00::1/64", "fd00::/64"),
            ("ffff::/0", "::/0"),
            ("::1/128", "::1/128"),
            ("::ffff:1.2.3.4/120", "::ffff:1.2.3.0/120"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), expected);
        }
        for bad in [
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "::/256",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/8 ",
            " 10.0.0.0/8",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/8/8",
            "fe80::1%1/64",
            "host/8",
            "-10.0.0.0/8",
            "/8",
            "",
        ] {
            assert_eq!(bad.parse::<Prefix>(), Err(ParsePrefixError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn masks_and_contains_like_bit_strings(addr: IpAddr, other: IpAddr, near: bool, len in 0..=129_u8) {
            let width = bits(addr).len();
            let Some(prefix) = Prefix::new(addr, len) else {
                prop_assert!(usize::from(len) > width);
                return Ok(());
            };
            let len = usize::from(len);
            let mut masked = bits(addr);
            masked[len..].fill(false);
            prop_assert_eq!(bits(prefix.addr()), masked);

            // A random address almost never lies in a long prefix, so half of them are made from it.
            let other = if near { Prefix::new(addr, prefix.len().saturating_sub(1)).unwrap().addr() } else { other };
            let expected = bits(other).len() == width && bits(other)[..len] == bits(addr)[..len];
            prop_assert_eq!(prefix.contains(other), expected);
            prop_assert!(prefix.contains(addr));
            prop_assert_eq!(prefix.to_string().parse::<Prefix>(), Ok(prefix));
        }
    }
}
