//! Cryptokey routing (whitepaper 2): a device-wide table from IP prefixes to peers, asked by longest prefix.
//!
//! It answers both questions with the same table: to which peer does a packet go, and may a packet with this source
//! have come from that peer. A binary trie with compressed paths, one for each address family; nodes live in one vector
//! and name each other by position, freed ones are used again.

use alloc::vec::Vec;
use core::net::IpAddr;

/// A table from prefixes to `T`.
pub struct AllowedIps<T> {
    v4: Trie<u32, T>,
    v6: Trie<u128, T>,
}

impl<T> Default for AllowedIps<T> {
    fn default() -> Self {
        AllowedIps { v4: Trie::default(), v6: Trie::default() }
    }
}

impl<T> AllowedIps<T> {
    /// Maps `ip/len` to `value`; returns what it mapped to before. Host bits do not count. A `len` beyond the address
    /// means the whole address.
    pub fn insert(&mut self, ip: IpAddr, len: u8, value: T) -> Option<T> {
        match ip {
            IpAddr::V4(ip) => self.v4.insert(ip.to_bits(), len, value),
            IpAddr::V6(ip) => self.v6.insert(ip.to_bits(), len, value),
        }
    }

    /// Forgets `ip/len`; returns what it mapped to.
    pub fn remove(&mut self, ip: IpAddr, len: u8) -> Option<T> {
        match ip {
            IpAddr::V4(ip) => self.v4.remove(ip.to_bits(), len),
            IpAddr::V6(ip) => self.v6.remove(ip.to_bits(), len),
        }
    }

    /// What exactly `ip/len` maps to.
    pub fn get(&self, ip: IpAddr, len: u8) -> Option<&T> {
        match ip {
            IpAddr::V4(ip) => self.v4.get(ip.to_bits(), len),
            IpAddr::V6(ip) => self.v6.get(ip.to_bits(), len),
        }
    }

    /// What the longest prefix that contains `ip` maps to.
    pub fn longest_match(&self, ip: IpAddr) -> Option<&T> {
        match ip {
            IpAddr::V4(ip) => self.v4.longest_match(ip.to_bits()),
            IpAddr::V6(ip) => self.v6.longest_match(ip.to_bits()),
        }
    }

    /// How many nodes both tries have: bounded by twice the number of prefixes, whatever was removed.
    pub fn nodes(&self) -> usize {
        self.v4.in_use() + self.v6.in_use()
    }
}

/// An address as a bit string, most significant bit first.
trait Bits: Copy + Eq {
    const LEN: u8;
    /// The first `len` bits, the others zero.
    fn mask(self, len: u8) -> Self;
    /// How many leading bits are equal.
    fn common(self, other: Self) -> u8;
    /// The bit after the first `at`.
    fn bit(self, at: u8) -> usize;
}

macro_rules! bits {
    ($int:ty) => {
        impl Bits for $int {
            const LEN: u8 = <$int>::BITS as u8;
            fn mask(self, len: u8) -> Self {
                match len {
                    0 => 0,
                    len => self & <$int>::MAX << (Self::LEN - len),
                }
            }
            fn common(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }
            fn bit(self, at: u8) -> usize {
                (self >> (Self::LEN - 1 - at)) as usize & 1
            }
        }
    };
}
bits!(u32);
bits!(u128);

const NONE: u32 = u32::MAX;

struct Node<K, T> {
    key: K,
    len: u8,
    value: Option<T>,
    children: [u32; 2],
}

/// Where a node hangs: at the root, or below a node at one of its two sides.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Child(u32, usize),
}

struct Trie<K, T> {
    root: u32,
    nodes: Vec<Node<K, T>>,
    free: Vec<u32>,
}

impl<K, T> Default for Trie<K, T> {
    fn default() -> Self {
        Trie { root: NONE, nodes: Vec::new(), free: Vec::new() }
    }
}

impl<K: Bits, T> Trie<K, T> {
    fn longest_match(&self, ip: K) -> Option<&T> {
        let mut best = None;
        let mut at = self.root;
        while let Some(node) = self.nodes.get(at as usize) {
            if node.key.common(ip) < node.len {
                break;
            }
            best = node.value.as_ref().or(best);
            if node.len == K::LEN {
                break;
            }
            at = node.children[ip.bit(node.len)];
        }
        best
    }

    fn get(&self, key: K, len: u8) -> Option<&T> {
        let len = len.min(K::LEN);
        let (_, at) = self.find(key.mask(len), len);
        self.exact(at, key.mask(len), len)?.value.as_ref()
    }

    fn insert(&mut self, key: K, len: u8, value: T) -> Option<T> {
        let len = len.min(K::LEN);
        let key = key.mask(len);
        let (link, at) = self.find(key, len);
        if self.exact(at, key, len).is_some() {
            return self.node(at).value.replace(value);
        }
        let new = self.allocate(Node { key, len, value: Some(value), children: [NONE; 2] });
        if at == NONE {
            self.set(link, new);
            return None;
        }
        let (below_key, below_len) = (self.node(at).key, self.node(at).len);
        let common = key.common(below_key).min(len).min(below_len);
        let top = match common == len {
            true => new,
            false => {
                self.allocate(Node { key: key.mask(common), len: common, value: None, children: [NONE; 2] })
            }
        };
        self.node(top).children[below_key.bit(common)] = at;
        if top != new {
            self.node(top).children[key.bit(common)] = new;
        }
        self.set(link, top);
        None
    }

    fn remove(&mut self, key: K, len: u8) -> Option<T> {
        let len = len.min(K::LEN);
        let key = key.mask(len);
        let (link, at) = self.find(key, len);
        self.exact(at, key, len)?;
        let value = self.node(at).value.take()?;
        self.prune(link, at);
        // Without this one its parent may join nothing any more.
        if let Link::Child(parent, _) = link {
            let (key, len) = (self.node(parent).key, self.node(parent).len);
            let (link, parent) = self.find(key, len);
            self.prune(link, parent);
        }
        Some(value)
    }

    /// Takes out a node that has neither a value nor two children.
    fn prune(&mut self, link: Link, at: u32) {
        let node = self.node(at);
        let (None, [child, NONE] | [NONE, child]) = (&node.value, node.children) else { return };
        self.set(link, child);
        self.free.push(at);
    }

    /// Goes down to the first node that is `key/len` or not a prefix of it: where that hangs and which it is.
    fn find(&self, key: K, len: u8) -> (Link, u32) {
        let (mut link, mut at) = (Link::Root, self.root);
        while let Some(node) = self.nodes.get(at as usize) {
            if node.len >= len || node.key.common(key) < node.len {
                break;
            }
            let side = key.bit(node.len);
            (link, at) = (Link::Child(at, side), node.children[side]);
        }
        (link, at)
    }

    fn exact(&self, at: u32, key: K, len: u8) -> Option<&Node<K, T>> {
        self.nodes.get(at as usize).filter(|node| node.len == len && node.key == key)
    }

    fn node(&mut self, at: u32) -> &mut Node<K, T> {
        &mut self.nodes[at as usize]
    }

    fn set(&mut self, link: Link, to: u32) {
        match link {
            Link::Root => self.root = to,
            Link::Child(parent, side) => self.node(parent).children[side] = to,
        }
    }

    fn allocate(&mut self, node: Node<K, T>) -> u32 {
        if let Some(at) = self.free.pop() {
            *self.node(at) = node;
            return at;
        }
        // 2^32 nodes of 40 bytes do not fit any memory that a prefix list comes from.
        let at = u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes");
        self.nodes.push(node);
        at
    }

    fn in_use(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    /// The rule itself: of all prefixes that contain the address, the longest.
    #[derive(Default)]
    struct Naive(BTreeMap<(IpAddr, u8), u32>);

    fn mask(ip: IpAddr, len: u8) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => {
                Ipv4Addr::from(u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)).into()
            }
            IpAddr::V6(ip) => {
                Ipv6Addr::from(u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0))
                    .into()
            }
        }
    }

    impl Naive {
        fn longest_match(&self, ip: IpAddr) -> Option<&u32> {
            let containing = |((net, len), _): &(&(IpAddr, u8), &u32)| {
                net.is_ipv4() == ip.is_ipv4() && mask(ip, *len) == *net
            };
            self.0.iter().filter(containing).max_by_key(|((_, len), _)| *len).map(|(_, value)| value)
        }
    }

    /// Few distinct bits, so that prefixes nest and collide.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u32..16, 0u32..4).prop_map(|(high, low)| Ipv4Addr::from(high << 28 | low).into()),
            (0u128..16, 0u128..4).prop_map(|(high, low)| Ipv6Addr::from(high << 124 | low).into()),
        ]
    }

    fn len_of(ip: IpAddr, len: u8) -> u8 {
        let full = if ip.is_ipv4() { 32 } else { 128 };
        [0, 1, 2, 3, 4, 8, full - 2, full - 1, full][usize::from(len) % 9]
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_table(
            steps in proptest::collection::vec((address(), any::<u8>(), any::<u32>(), 0u8..3), 1..200),
            queries in proptest::collection::vec(address(), 30),
        ) {
            let (mut trie, mut naive) = (AllowedIps::default(), Naive::default());
            for (ip, len, value, action) in steps {
                let len = len_of(ip, len);
                if action == 0 {
                    prop_assert_eq!(trie.remove(ip, len), naive.0.remove(&(mask(ip, len), len)));
                } else {
                    prop_assert_eq!(trie.insert(ip, len, value), naive.0.insert((mask(ip, len), len), value));
                }
                prop_assert!(trie.nodes() <= 2 * naive.0.len());
            }
            for ip in queries {
                prop_assert_eq!(trie.longest_match(ip), naive.longest_match(ip));
            }
            for ((ip, len), value) in &naive.0 {
                prop_assert_eq!(trie.get(*ip, *len), Some(value));
            }
            for (ip, len) in naive.0.keys() {
                trie.remove(*ip, *len);
            }
            prop_assert_eq!(trie.nodes(), 0);
        }
    }

    /// tailscale issue 20954: peers that came and went left nodes behind.
    #[test]
    fn churn_leaks_nothing() {
        let mut trie = AllowedIps::default();
        for round in 0..100u32 {
            for i in 0..100u32 {
                trie.insert(Ipv4Addr::from(i.wrapping_mul(0x9e37_79b9)).into(), 32, round);
            }
            for i in 0..100u32 {
                assert!(trie.remove(Ipv4Addr::from(i.wrapping_mul(0x9e37_79b9)).into(), 32).is_some());
            }
            assert_eq!(trie.nodes(), 0);
        }
        assert!(trie.v4.nodes.len() <= 200);
    }
}
