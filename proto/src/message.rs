//! The four messages (whitepaper 5.4), checked once and then read by accessors that cannot fail.
//!
//! The first byte is the type, the next three are reserved and must be zero; that is one little-endian `u32`. All
//! integers are little-endian. Handshake messages have exact sizes, transport data has a least size.

/// Bytes of a handshake initiation.
pub const INITIATION_LEN: usize = 148;
/// Bytes of a handshake response.
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Bytes of transport data before the encrypted packet: type, receiver index, counter.
pub const DATA_HEADER_LEN: usize = 16;
/// Bytes that transport data adds to the padded packet: the header and the AEAD's tag.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + adit_crypto::TAG_LEN;
/// Bytes of the shortest transport data message, a keepalive.
pub const KEEPALIVE_LEN: usize = DATA_OVERHEAD;

const TYPE_INITIATION: u32 = 1;
const TYPE_RESPONSE: u32 = 2;
const TYPE_COOKIE_REPLY: u32 = 3;
const TYPE_DATA: u32 = 4;

/// The bytes that carry mac1 and mac2 at the end of an initiation and a response.
pub(crate) const MACS_LEN: usize = 32;

/// A datagram that has the form of a message.
#[derive(Debug)]
pub enum Message {
    /// A handshake message: for the slow path.
    Handshake(HandshakeMessage),
    /// Transport data: for the data path, in place.
    Data(DataHeader),
}

/// A handshake message, copied out of the receive buffer.
#[derive(Clone, Debug)]
pub enum HandshakeMessage {
    /// First message, initiator to responder (5.4.2).
    Initiation(Initiation),
    /// Second message, responder to initiator (5.4.3).
    Response(Response),
    /// Sent under load instead of an answer (5.4.7).
    CookieReply(CookieReply),
}

impl Message {
    /// What `datagram` is, or `None` when it is nothing of WireGuard's: reserved bytes set, a wrong size, unknown type.
    pub fn parse(datagram: &[u8]) -> Option<Message> {
        match kind(datagram)? {
            TYPE_DATA => Some(Message::Data(DataHeader::parse(datagram)?)),
            _ => Some(Message::Handshake(HandshakeMessage::parse(datagram)?)),
        }
    }
}

impl HandshakeMessage {
    fn parse(datagram: &[u8]) -> Option<HandshakeMessage> {
        Some(match kind(datagram)? {
            TYPE_INITIATION => Self::Initiation(Initiation { bytes: datagram.try_into().ok()? }),
            TYPE_RESPONSE => Self::Response(Response { bytes: datagram.try_into().ok()? }),
            TYPE_COOKIE_REPLY => Self::CookieReply(CookieReply { bytes: datagram.try_into().ok()? }),
            _ => return None,
        })
    }

    /// The message, if it is of a kind that ends in MACs.
    pub fn with_macs(&self) -> Option<&dyn WithMacs> {
        match self {
            Self::Initiation(message) => Some(message),
            Self::Response(message) => Some(message),
            Self::CookieReply(_) => None,
        }
    }
}

fn kind(datagram: &[u8]) -> Option<u32> {
    datagram.first_chunk::<4>().map(|b| u32::from_le_bytes(*b))
}

/// The `N` bytes at `at`. Offsets are constants below the array's length, so the conversion cannot fail.
fn field<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().expect("offset and size are constants within the message")
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Handshake initiation: type, sender, ephemeral 32, static 32+16, timestamp 12+16, mac1 16, mac2 16.
#[derive(Clone, Debug)]
pub struct Initiation {
    bytes: [u8; INITIATION_LEN],
}

impl Initiation {
    pub(crate) fn new(sender: u32, ephemeral: &[u8; 32], static_: &[u8; 48], timestamp: &[u8; 28]) -> Self {
        let mut bytes = [0; INITIATION_LEN];
        put(&mut bytes, 0, &TYPE_INITIATION.to_le_bytes());
        put(&mut bytes, 4, &sender.to_le_bytes());
        put(&mut bytes, 8, ephemeral);
        put(&mut bytes, 40, static_);
        put(&mut bytes, 88, timestamp);
        Initiation { bytes }
    }

    /// The sender's index, which answers must carry.
    pub fn sender(&self) -> u32 {
        u32::from_le_bytes(*field(&self.bytes, 4))
    }

    pub(crate) fn unencrypted_ephemeral(&self) -> &[u8; 32] {
        field(&self.bytes, 8)
    }

    pub(crate) fn encrypted_static(&self) -> &[u8; 48] {
        field(&self.bytes, 40)
    }

    pub(crate) fn encrypted_timestamp(&self) -> &[u8; 28] {
        field(&self.bytes, 88)
    }
}

/// Handshake response: type, sender, receiver, ephemeral 32, nothing 0+16, mac1 16, mac2 16.
#[derive(Clone, Debug)]
pub struct Response {
    bytes: [u8; RESPONSE_LEN],
}

impl Response {
    pub(crate) fn new(sender: u32, receiver: u32, ephemeral: &[u8; 32], nothing: &[u8; 16]) -> Self {
        let mut bytes = [0; RESPONSE_LEN];
        put(&mut bytes, 0, &TYPE_RESPONSE.to_le_bytes());
        put(&mut bytes, 4, &sender.to_le_bytes());
        put(&mut bytes, 8, &receiver.to_le_bytes());
        put(&mut bytes, 12, ephemeral);
        put(&mut bytes, 44, nothing);
        Response { bytes }
    }

    /// The sender's index, which transport data to it must carry.
    pub fn sender(&self) -> u32 {
        u32::from_le_bytes(*field(&self.bytes, 4))
    }

    /// The index of the initiation that this answers.
    pub fn receiver(&self) -> u32 {
        u32::from_le_bytes(*field(&self.bytes, 8))
    }

    pub(crate) fn unencrypted_ephemeral(&self) -> &[u8; 32] {
        field(&self.bytes, 12)
    }

    pub(crate) fn encrypted_nothing(&self) -> &[u8; 16] {
        field(&self.bytes, 44)
    }
}

/// Cookie reply: type, receiver, nonce 24, cookie 16+16.
#[derive(Clone, Debug)]
pub struct CookieReply {
    bytes: [u8; COOKIE_REPLY_LEN],
}

impl CookieReply {
    pub(crate) fn new(receiver: u32, nonce: &[u8; 24], cookie: &[u8; 32]) -> Self {
        let mut bytes = [0; COOKIE_REPLY_LEN];
        put(&mut bytes, 0, &TYPE_COOKIE_REPLY.to_le_bytes());
        put(&mut bytes, 4, &receiver.to_le_bytes());
        put(&mut bytes, 8, nonce);
        put(&mut bytes, 32, cookie);
        CookieReply { bytes }
    }

    /// The index of the handshake message that this answers.
    pub fn receiver(&self) -> u32 {
        u32::from_le_bytes(*field(&self.bytes, 4))
    }

    pub(crate) fn nonce(&self) -> &[u8; 24] {
        field(&self.bytes, 8)
    }

    pub(crate) fn encrypted_cookie(&self) -> &[u8; 32] {
        field(&self.bytes, 32)
    }

    /// The message as it is on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A message that ends in mac1 and mac2 (whitepaper 5.4.4).
pub trait WithMacs {
    /// The message as it is on the wire, both MACs included.
    fn as_bytes(&self) -> &[u8];
    /// The sender's index.
    fn sender(&self) -> u32;
    #[doc(hidden)]
    fn bytes_mut(&mut self) -> &mut [u8];

    /// What mac1 is over.
    fn before_mac1(&self) -> &[u8] {
        &self.as_bytes()[..self.as_bytes().len() - MACS_LEN]
    }

    /// What mac2 is over.
    fn before_mac2(&self) -> &[u8] {
        &self.as_bytes()[..self.as_bytes().len() - MACS_LEN / 2]
    }

    /// The first MAC.
    fn mac1(&self) -> &[u8; 16] {
        field(self.as_bytes(), self.as_bytes().len() - MACS_LEN)
    }

    /// The second MAC, zeros when its sender had no cookie.
    fn mac2(&self) -> &[u8; 16] {
        field(self.as_bytes(), self.as_bytes().len() - MACS_LEN / 2)
    }
}

macro_rules! with_macs {
    ($message:ty) => {
        impl WithMacs for $message {
            fn as_bytes(&self) -> &[u8] {
                &self.bytes
            }
            fn sender(&self) -> u32 {
                self.sender()
            }
            fn bytes_mut(&mut self) -> &mut [u8] {
                &mut self.bytes
            }
        }
    };
}
with_macs!(Initiation);
with_macs!(Response);

pub(crate) fn set_macs(message: &mut dyn WithMacs, mac1: &[u8; 16], mac2: &[u8; 16]) {
    let bytes = message.bytes_mut();
    let at = bytes.len() - MACS_LEN;
    put(bytes, at, mac1);
    put(bytes, at + 16, mac2);
}

/// The header of transport data (5.4.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataHeader {
    /// The receiver's index of the keypair.
    pub receiver: u32,
    /// The nonce.
    pub counter: u64,
}

impl DataHeader {
    /// The header of `datagram` when that has the form of transport data.
    pub fn parse(datagram: &[u8]) -> Option<DataHeader> {
        if datagram.len() < KEEPALIVE_LEN || kind(datagram)? != TYPE_DATA {
            return None;
        }
        Some(DataHeader {
            receiver: u32::from_le_bytes(*field(datagram, 4)),
            counter: u64::from_le_bytes(*field(datagram, 8)),
        })
    }

    pub(crate) fn write(self, message: &mut [u8]) {
        put(message, 0, &TYPE_DATA.to_le_bytes());
        put(message, 4, &self.receiver.to_le_bytes());
        put(message, 8, &self.counter.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn sizes_are_exact_and_reserved_bytes_zero() {
        for (kind, len) in [(1u8, 148), (2, 92), (3, 64), (4, 32)] {
            let mut datagram = vec![0; len];
            datagram[0] = kind;
            assert!(Message::parse(&datagram).is_some(), "type {kind}");
            for reserved in 1..4 {
                let mut bad = datagram.clone();
                bad[reserved] = 1;
                assert!(Message::parse(&bad).is_none(), "type {kind}, reserved byte {reserved}");
            }
            assert!(Message::parse(&datagram[..len - 1]).is_none(), "type {kind}, short");
            datagram.push(0);
            assert_eq!(Message::parse(&datagram).is_some(), kind == 4, "type {kind}, long");
        }
        for kind in [0u8, 5, 255] {
            let mut datagram = vec![0; 148];
            datagram[0] = kind;
            assert!(Message::parse(&datagram).is_none());
        }
        assert!(Message::parse(&[]).is_none() && Message::parse(&[4, 0, 0]).is_none());
    }
}
