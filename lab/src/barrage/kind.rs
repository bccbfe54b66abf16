//! What is sent: everything that costs a WireGuard something, by those who have no session with it.

use std::net::SocketAddrV4;

use adit_crypto::blake2s;

use super::Ammunition;

/// Forged addresses that a flood of many comes from.
const MANY: u32 = 20_000;
/// Different messages of a flood from one address.
const DIFFERENT: u32 = 1_000;
/// The longest payload of a UDP datagram over IPv4.
const LONGEST: usize = 65_507;
/// Bytes of a data message that fills an MTU of 1,500.
const FULL: usize = 1_452;
/// Datagrams of a train that offload joins, and the bytes of each.
const TRAIN: usize = 40;

/// A flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Initiations with a wrong mac1, to a port with a socket that nobody reads: what the kernel takes for any flood.
    Unread,
    /// Initiations with a wrong mac1, from many addresses.
    BadMac1,
    /// Initiations with the right mac1 and nothing else right, from one address.
    OneAddress,
    /// The same from many addresses.
    ManyAddresses,
    /// The same, with a mac2 made up.
    BadMac2,
    /// Responses with the right mac1 and nothing else right.
    Responses,
    /// A peer's own initiation, recorded.
    Replay,
    /// Cookie replies to nobody.
    Cookies,
    /// Cookie replies with an index in use.
    CookiesToIndex,
    /// Data to random indices.
    Data,
    /// Data with an index in use, which nobody sealed.
    DataToIndex,
    /// Datagrams of no bytes.
    Empty,
    /// Datagrams of 65,507 bytes, in fragments.
    Oversized,
    /// Garbage that offload joins to trains.
    Joined,
}

/// Every kind.
pub const KINDS: [Kind; 14] = [
    Kind::Unread,
    Kind::BadMac1,
    Kind::OneAddress,
    Kind::ManyAddresses,
    Kind::BadMac2,
    Kind::Responses,
    Kind::Replay,
    Kind::Cookies,
    Kind::CookiesToIndex,
    Kind::Data,
    Kind::DataToIndex,
    Kind::Empty,
    Kind::Oversized,
    Kind::Joined,
];

/// What the flooder knows of its target.
#[derive(Clone, Debug)]
pub struct Knowledge {
    /// Where it receives.
    pub target: SocketAddrV4,
    /// A port of its host with a socket that nobody reads.
    pub unread: u16,
    /// Its public key.
    pub public_key: [u8; 32],
    /// An initiation that a peer sent it before.
    pub initiation: Vec<u8>,
    /// An index that it has in use.
    pub index: u32,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unread => "unread",
            Kind::BadMac1 => "bad-mac1",
            Kind::OneAddress => "one-address",
            Kind::ManyAddresses => "many-addresses",
            Kind::BadMac2 => "bad-mac2",
            Kind::Responses => "responses",
            Kind::Replay => "replay",
            Kind::Cookies => "cookies",
            Kind::CookiesToIndex => "cookies-to-index",
            Kind::Data => "data",
            Kind::DataToIndex => "data-to-index",
            Kind::Empty => "empty",
            Kind::Oversized => "oversized",
            Kind::Joined => "joined",
        }
    }

    /// Whether nothing of it may be answered: none of it has a mac1, or what has one is no initiation of a peer.
    #[must_use]
    pub fn is_answered(self) -> bool {
        matches!(
            self,
            Kind::OneAddress | Kind::ManyAddresses | Kind::BadMac2 | Kind::Responses | Kind::Replay
        )
    }

    /// Its datagrams, again and again the same ones.
    #[must_use]
    pub fn ammunition(self, known: &Knowledge) -> Ammunition {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let to = match self {
            Kind::Unread => SocketAddrV4::new(*known.target.ip(), known.unread),
            _ => known.target,
        };
        let initiation = |random: &mut Random| random.message(1, 148);
        match self {
            Kind::Unread | Kind::BadMac1 => Ammunition::forged(to, MANY, |_| initiation(&mut random)),
            Kind::OneAddress => {
                Ammunition::from_one(to, DIFFERENT, |_| with_mac1(initiation(&mut random), known, &[0; 16]))
            }
            Kind::ManyAddresses => {
                Ammunition::forged(to, MANY, |_| with_mac1(initiation(&mut random), known, &[0; 16]))
            }
            Kind::BadMac2 => Ammunition::forged(to, MANY, |_| {
                let mac2 = random.bytes(16);
                with_mac1(initiation(&mut random), known, &mac2)
            }),
            Kind::Responses => {
                Ammunition::forged(to, MANY, |_| with_mac1(random.message(2, 92), known, &[0; 16]))
            }
            Kind::Replay => Ammunition::forged(to, MANY, |_| known.initiation.clone()),
            Kind::Cookies => Ammunition::forged(to, MANY, |_| random.message(3, 64)),
            Kind::CookiesToIndex => {
                Ammunition::forged(to, MANY, |_| with_receiver(random.message(3, 64), known.index))
            }
            Kind::Data => Ammunition::forged(to, MANY, |_| random.message(4, 128)),
            Kind::DataToIndex => {
                Ammunition::forged(to, DIFFERENT, |_| with_receiver(random.message(4, FULL), known.index))
            }
            Kind::Empty => Ammunition::forged(to, MANY, |_| Vec::new()),
            Kind::Oversized => Ammunition::forged(to, 64, |_| random.message(4, LONGEST)),
            Kind::Joined => {
                let train = (0..TRAIN).flat_map(|_| random.message(4, FULL)).collect();
                Ammunition::train(to, train, FULL)
            }
        }
    }
}

fn with_receiver(mut message: Vec<u8>, index: u32) -> Vec<u8> {
    message[4..8].copy_from_slice(&index.to_le_bytes());
    message
}

/// Whoever knows the public key can do this.
fn with_mac1(mut message: Vec<u8>, known: &Knowledge, mac2: &[u8]) -> Vec<u8> {
    let end = message.len() - 32;
    let key = blake2s::hash(&[b"mac1----", &known.public_key]);
    let mac1 = blake2s::mac(&key, &[&message[..end]]);
    message[end..end + 16].copy_from_slice(&mac1);
    message[end + 16..].copy_from_slice(mac2);
    message
}

/// Numbers that nothing depends on but that they differ.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(len).collect()
    }

    /// Of a type, and random otherwise.
    fn message(&mut self, kind: u8, len: usize) -> Vec<u8> {
        let mut message = self.bytes(len);
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        message
    }
}
