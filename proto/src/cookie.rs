//! MACs, cookies and load (whitepaper 5.3, 5.4.4, 5.4.7).
//!
//! [`Mac1Key`] and [`Checker`] are the responder's side, one a device: they verify mac1 and mac2, and make cookie replies. A
//! [`Jar`] is the initiator's side, one a peer: it puts the MACs on what is sent and keeps the cookie it was given. [`Load`]
//! decides when cookies are asked for.

use core::net::{IpAddr, SocketAddr};

use adit_crypto::{Secret, blake2s, ct, xaead};
use rand_core::CryptoRng;

use crate::limits::{COOKIE_SECRET_LATENCY, COOKIE_SECRET_MAX_AGE, UNDER_LOAD_HANDSHAKES, UNDER_LOAD_STICKY};
use crate::message::{CookieReply, WithMacs, set_macs};
use crate::time::Instant;

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

type Cookie = Secret<16>;

fn labelled_key(label: &[u8], public_key: &[u8; 32]) -> Secret<32> {
    Secret::new(blake2s::hash(&[label, public_key]))
}

/// Verifies mac1, the first thing asked of a handshake message. It needs no state, so any thread can do it, and what fails
/// costs one hash and never reaches a queue.
pub struct Mac1Key(Secret<32>);

impl Mac1Key {
    /// The key for messages to the device with this public key.
    pub fn new(public_key: &[u8; 32]) -> Self {
        Mac1Key(labelled_key(LABEL_MAC1, public_key))
    }

    /// Whether the sender of `message` knows our public key.
    pub fn verifies(&self, message: &dyn WithMacs) -> bool {
        ct::eq(&self.mac1(message), message.mac1())
    }

    fn mac1(&self, message: &dyn WithMacs) -> [u8; 16] {
        blake2s::mac(self.0.expose(), &[message.before_mac1()])
    }
}

/// The responder's side.
pub struct Checker {
    cookie_key: Secret<32>,
    secret: Secret<32>,
    secret_birth: Option<Instant>,
}

impl Checker {
    /// A checker for the device with this public key.
    pub fn new(public_key: &[u8; 32]) -> Self {
        Checker {
            cookie_key: labelled_key(LABEL_COOKIE, public_key),
            secret: Secret::default(),
            secret_birth: None,
        }
    }

    /// Whether mac2 shows that the sender of `message` receives at `source`, where it came from.
    pub fn mac2_is_valid(
        &mut self,
        message: &dyn WithMacs,
        source: SocketAddr,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> bool {
        let cookie = self.cookie(source, now, rng);
        ct::eq(&blake2s::mac(cookie.expose(), &[message.before_mac2()]), message.mac2())
    }

    /// The reply that hands `source` its cookie. Only for messages whose mac1 is valid.
    pub fn reply(
        &mut self,
        message: &dyn WithMacs,
        source: SocketAddr,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> CookieReply {
        let mut nonce = [0; xaead::NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let mut sealed = [0; 32];
        sealed[..16].copy_from_slice(self.cookie(source, now, rng).expose());
        xaead::seal(self.cookie_key.expose(), &nonce, message.mac1(), &mut sealed);
        CookieReply::new(message.sender(), &nonce, &sealed)
    }

    /// MAC of the source's address *and* port under a secret of at most two minutes: behind one NAT address, one
    /// customer's cookie is of no use to another.
    fn cookie(&mut self, source: SocketAddr, now: Instant, rng: &mut dyn CryptoRng) -> Cookie {
        if self.secret_birth.is_none_or(|birth| now.has_reached(birth, COOKIE_SECRET_MAX_AGE)) {
            let mut secret = [0; 32];
            rng.fill_bytes(&mut secret);
            self.secret = Secret::new(secret);
            self.secret_birth = Some(now);
        }
        let port = source.port().to_be_bytes();
        Secret::new(match source.ip() {
            IpAddr::V4(ip) => blake2s::mac(self.secret.expose(), &[&ip.octets(), &port]),
            IpAddr::V6(ip) => blake2s::mac(self.secret.expose(), &[&ip.octets(), &port]),
        })
    }
}

/// The initiator's side, for one peer.
pub struct Jar {
    mac1_key: Mac1Key,
    cookie_key: Secret<32>,
    cookie: Option<(Cookie, Instant)>,
    /// mac1 of the last message sent, until one cookie reply has used it.
    last_mac1: Option<[u8; 16]>,
}

impl Jar {
    /// An empty jar for the peer with this public key.
    pub fn new(peer: &[u8; 32]) -> Self {
        Jar {
            mac1_key: Mac1Key::new(peer),
            cookie_key: labelled_key(LABEL_COOKIE, peer),
            cookie: None,
            last_mac1: None,
        }
    }

    /// Completes `message`: mac1 always, mac2 while a fresh cookie is at hand.
    pub(crate) fn add_macs(&mut self, message: &mut dyn WithMacs, now: Instant) {
        let mac1 = self.mac1_key.mac1(message);
        set_macs(message, &mac1, &[0; 16]);
        self.last_mac1 = Some(mac1);
        if let Some((cookie, birth)) = &self.cookie
            && !now.has_reached(*birth, COOKIE_SECRET_MAX_AGE - COOKIE_SECRET_LATENCY)
        {
            let mac2 = blake2s::mac(cookie.expose(), &[message.before_mac2()]);
            set_macs(message, &mac1, &mac2);
        }
    }

    /// Takes the cookie out of `reply` if it answers the last message sent; says whether it did. The cookie is used when
    /// the retransmission timer next fires, not at once: the other side is under load.
    pub fn consume_reply(&mut self, reply: &CookieReply, now: Instant) -> bool {
        let Some(mac1) = self.last_mac1 else { return false };
        let mut sealed = *reply.encrypted_cookie();
        let Ok(cookie) = xaead::open(self.cookie_key.expose(), reply.nonce(), &mac1, &mut sealed) else {
            return false;
        };
        let Ok(cookie) = <[u8; 16]>::try_from(&*cookie) else { return false };
        self.cookie = Some((Secret::new(cookie), now));
        self.last_mac1 = None;
        true
    }
}

/// Whether the device is under load: measured over all sources together, so that forged source addresses cannot stay
/// below it, and sticky, so that it does not flicker.
#[derive(Default)]
pub struct Load {
    last: Option<Instant>,
}

impl Load {
    /// Whether cookies are demanded now, with `waiting` handshake messages in the queue.
    pub fn is_under_load(&mut self, waiting: usize, now: Instant) -> bool {
        if waiting >= UNDER_LOAD_HANDSHAKES {
            self.last = Some(now);
        } else if self.last.is_some_and(|last| now.has_reached(last, UNDER_LOAD_STICKY)) {
            self.last = None;
        }
        self.last.is_some()
    }
}

#[cfg(test)]
mod tests;
