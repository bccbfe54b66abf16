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

/// Messages whose MACs are computed at once.
const LANES: usize = 8;

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

    /// The same for several messages, at most 64: bit `i` tells of the `i`th. Together they take much less time.
    pub fn verifies_all(&self, messages: &[&dyn WithMacs]) -> u64 {
        let mut valid = 0;
        for (group, messages) in messages.chunks(LANES).enumerate() {
            let mut inputs = [&[][..]; LANES];
            for (input, message) in inputs.iter_mut().zip(messages) {
                *input = message.before_mac1();
            }
            let macs = blake2s::macs([self.0.expose(); LANES].map(|key| &key[..]), inputs);
            for (lane, (mac, message)) in macs.iter().zip(messages).enumerate() {
                valid |= u64::from(ct::eq(mac, message.mac1())) << (group * LANES + lane);
            }
        }
        valid
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
    pub fn mac2_is_valid(&self, message: &dyn WithMacs, source: SocketAddr, now: Instant) -> bool {
        self.has_given(now)
            && ct::eq(
                &blake2s::mac(self.cookie_of(source).expose(), &[message.before_mac2()]),
                message.mac2(),
            )
    }

    /// The same for several messages, at most 64, each with its source: bit `i` tells of the `i`th. Together they take much
    /// less time.
    pub fn mac2s_are_valid(&self, messages: &[(&dyn WithMacs, SocketAddr)], now: Instant) -> u64 {
        if !self.has_given(now) {
            return 0;
        }
        let mut valid = 0;
        for (group, messages) in messages.chunks(LANES).enumerate() {
            let mut sources = [[0; SOURCE_LEN]; LANES];
            let (mut inputs, mut signed) = ([&[][..]; LANES], [&[][..]; LANES]);
            for ((source, input), (_, from)) in sources.iter_mut().zip(&mut inputs).zip(messages) {
                *input = spell(*from, source);
            }
            for (signed, (message, _)) in signed.iter_mut().zip(messages) {
                *signed = message.before_mac2();
            }
            let cookies =
                blake2s::macs([self.secret.expose(); LANES].map(|key| &key[..]), inputs).map(Cookie::new);
            let macs = blake2s::macs(cookies.each_ref().map(|cookie| &cookie.expose()[..]), signed);
            for (lane, (mac, (message, _))) in macs.iter().zip(messages).enumerate() {
                valid |= u64::from(ct::eq(mac, message.mac2())) << (group * LANES + lane);
            }
        }
        valid
    }

    /// Of a secret that is still to be made nobody has a cookie.
    fn has_given(&self, now: Instant) -> bool {
        self.secret_birth.is_some_and(|birth| !now.has_reached(birth, COOKIE_SECRET_MAX_AGE))
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
        self.cookie_of(source)
    }

    fn cookie_of(&self, source: SocketAddr) -> Cookie {
        let mut spelled = [0; SOURCE_LEN];
        Cookie::new(blake2s::mac(self.secret.expose(), &[spell(source, &mut spelled)]))
    }
}

/// Bytes of an IPv6 address and a port.
const SOURCE_LEN: usize = 16 + 2;

/// What a cookie is the MAC of: the address, in network order, and the port.
fn spell(source: SocketAddr, into: &mut [u8; SOURCE_LEN]) -> &[u8] {
    let port = source.port().to_be_bytes();
    match source.ip() {
        IpAddr::V4(ip) => {
            into[..4].copy_from_slice(&ip.octets());
            into[4..6].copy_from_slice(&port);
            &into[..6]
        }
        IpAddr::V6(ip) => {
            into[..16].copy_from_slice(&ip.octets());
            into[16..].copy_from_slice(&port);
            into
        }
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

    /// What was last found.
    pub fn was_under_load(&self) -> bool {
        self.last.is_some()
    }
}

#[cfg(test)]
mod tests;
