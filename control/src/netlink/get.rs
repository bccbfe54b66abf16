//! `WG_CMD_GET_DEVICE`: the question, and its answer's messages into a [`Get`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use adit_crypto::Secret;

use super::attribute::{Writer, attributes, size};
use super::{AF_INET, AF_INET6, Malformed, allowed_ip, device, peer};
use crate::{Get, GetPeer, LastHandshake, Prefix, PublicKey, SecretText};

/// The attributes that ask for the device with this index.
#[must_use]
pub fn get_request(ifindex: u32) -> SecretText {
    let mut request = Writer::with_capacity(size(4));
    request.put(device::IFINDEX, &ifindex.to_ne_bytes());
    request.finish()
}

/// Makes one state of the messages in which the kernel tells it.
///
/// Attributes of future kernels are passed over.
#[derive(Debug, Default)]
pub struct Reader {
    get: Get,
    malformed: bool,
}

impl Reader {
    /// Takes the attributes of the next message.
    pub fn message(&mut self, attributes: &[u8]) {
        self.malformed |= self.read(attributes).is_err();
    }

    /// The whole state, when all messages have been taken.
    ///
    /// # Errors
    ///
    /// If one of them made no sense.
    pub fn finish(self) -> Result<Get, Malformed> {
        if self.malformed { Err(Malformed) } else { Ok(self.get) }
    }

    fn read(&mut self, message: &[u8]) -> Result<(), Malformed> {
        for attribute in attributes(message) {
            match attribute? {
                (device::PRIVATE_KEY, value) => self.get.private_key = secret(value)?,
                (device::LISTEN_PORT, value) => self.get.listen_port = u16_of(value)?,
                (device::FWMARK, value) => self.get.fwmark = u32_of(value)?,
                (device::PEERS, list) => {
                    for item in attributes(list) {
                        self.peer(item?.1)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a peer, or more of the last one: a peer that is cut goes on in the next message under the same key.
    fn peer(&mut self, item: &[u8]) -> Result<(), Malformed> {
        let mut public_key = None;
        for attribute in attributes(item) {
            if let (peer::PUBLIC_KEY, value) = attribute? {
                public_key = Some(PublicKey::new(*exactly(value)?));
            }
        }
        let public_key = public_key.ok_or(Malformed)?;
        if self.get.peers.last().is_none_or(|last| last.public_key != public_key) {
            self.get.push_peer(public_key);
        }
        let found = self.get.peers.last_mut().ok_or(Malformed)?;
        attributes(item).try_for_each(|attribute| peer_attribute(found, attribute?))
    }
}

fn peer_attribute(found: &mut GetPeer, (kind, value): (u16, &[u8])) -> Result<(), Malformed> {
    match kind {
        peer::PRESHARED_KEY => found.preshared_key = secret(value)?,
        peer::ENDPOINT => found.endpoint = Some(endpoint(value)?),
        peer::PERSISTENT_KEEPALIVE_INTERVAL => found.persistent_keepalive = u16_of(value)?,
        peer::LAST_HANDSHAKE_TIME => found.last_handshake = last_handshake(value)?,
        peer::RX_BYTES => found.rx_bytes = u64_of(value)?,
        peer::TX_BYTES => found.tx_bytes = u64_of(value)?,
        peer::ALLOWEDIPS => {
            for item in attributes(value) {
                found.allowed_ips.push(allowed_ip(item?.1)?);
            }
        }
        _ => {}
    }
    Ok(())
}

fn exactly<const N: usize>(value: &[u8]) -> Result<&[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed)
}

fn u16_of(value: &[u8]) -> Result<u16, Malformed> {
    exactly(value).copied().map(u16::from_ne_bytes)
}

fn u32_of(value: &[u8]) -> Result<u32, Malformed> {
    exactly(value).copied().map(u32::from_ne_bytes)
}

fn u64_of(value: &[u8]) -> Result<u64, Malformed> {
    exactly(value).copied().map(u64::from_ne_bytes)
}

/// A secret key; zeros say that there is none.
fn secret(value: &[u8]) -> Result<Option<Secret<32>>, Malformed> {
    let mut secret = Secret::zero();
    secret.expose_mut().copy_from_slice(exactly::<32>(value)?);
    Ok((!secret.is_zero()).then_some(secret))
}

/// A `struct sockaddr_in` or `struct sockaddr_in6`.
fn endpoint(value: &[u8]) -> Result<SocketAddr, Malformed> {
    let (&[f0, f1, p0, p1], rest) = value.split_first_chunk().ok_or(Malformed)?;
    let port = u16::from_be_bytes([p0, p1]);
    match u16::from_ne_bytes([f0, f1]) {
        AF_INET => {
            let ip: &[u8; 4] = rest.first_chunk().ok_or(Malformed)?;
            Ok((*ip, port).into())
        }
        AF_INET6 => {
            let rest: &[u8; 24] = rest.first_chunk().ok_or(Malformed)?;
            let [_, _, _, _, ip @ .., s0, s1, s2, s3] = rest;
            let ip: &[u8; 16] = ip;
            let scope = u32::from_ne_bytes([*s0, *s1, *s2, *s3]);
            Ok(SocketAddrV6::new(Ipv6Addr::from(*ip), port, 0, scope).into())
        }
        _ => Err(Malformed),
    }
}

/// A `struct __kernel_timespec`. A clock that stood before 1970 tells no time.
fn last_handshake(value: &[u8]) -> Result<Option<LastHandshake>, Malformed> {
    let [seconds, nanoseconds] = exactly::<16>(value)?.as_chunks::<8>().0 else { return Err(Malformed) };
    let seconds = u64::try_from(i64::from_ne_bytes(*seconds));
    let nanoseconds = u32::try_from(i64::from_ne_bytes(*nanoseconds)).map_err(|_| Malformed)?;
    Ok(seconds.ok().map(|seconds| (seconds, nanoseconds)).filter(|&at| at != (0, 0)))
}

fn allowed_ip(item: &[u8]) -> Result<Prefix, Malformed> {
    let (mut family, mut addr, mut len) = (None, None, None);
    for attribute in attributes(item) {
        match attribute? {
            (allowed_ip::FAMILY, value) => family = Some(u16_of(value)?),
            (allowed_ip::IPADDR, value) => addr = Some(value),
            (allowed_ip::CIDR_MASK, value) => len = Some(u8::from_ne_bytes(*exactly(value)?)),
            _ => {}
        }
    }
    let addr = addr.ok_or(Malformed)?;
    let addr: IpAddr = match family {
        Some(AF_INET) => Ipv4Addr::from(*exactly::<4>(addr)?).into(),
        Some(AF_INET6) => Ipv6Addr::from(*exactly::<16>(addr)?).into(),
        _ => return Err(Malformed),
    };
    Prefix::new(addr, len.ok_or(Malformed)?).ok_or(Malformed)
}
