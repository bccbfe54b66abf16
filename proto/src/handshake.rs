//! The handshake, Noise_IKpsk2 (whitepaper 5.4.1–5.4.5).
//!
//! ```text
//! IKpsk2:
//!   <- s
//!   ...
//!   -> e, es, s, ss, {t}
//!   <- e, ee, se, psk, {}
//! ```
//!
//! A [`Handshake`] is one peer's state. The initiator calls [`Handshake::create_initiation`] and
//! [`Handshake::consume_response`]; the responder calls [`Identity::open_initiation`] (which tells who is calling),
//! [`Handshake::consume_initiation`] and [`Handshake::create_response`]. Each step's result is the next one's argument, so
//! that none can be left out, and state is touched only once a message has authenticated.
//!
//! These are what to call for one message. Whoever has several calls the halves that they consist of, and has the
//! multiplications in between done together ([`crate::dh`]). A handshake's lock need not be held meanwhile: the second half
//! looks again at what it relies on.
//!
//! A pending initiation survives the consumption of the peer's own: when both sides start at the same moment both
//! sessions come up, where forgetting one's own would leave each waiting for its retransmission timer.

use alloc::sync::Arc;
use core::time::Duration;

use adit_crypto::Secret;
use adit_crypto::x25519::{self, PrivateKey};
use rand_core::CryptoRng;

use crate::cookie::Jar;
use crate::dh::{Ready, Step, ready};
use crate::keypair::Keypair;
use crate::limits::{INITIATIONS_PER_SECOND, REKEY_ATTEMPT_TIME};
use crate::message::{CookieReply, Initiation, Response};
use crate::noise::Symmetric;
use crate::time::{Instant, Tai64n};

/// What a handshake step needs from outside.
pub struct Env<'a> {
    /// The device's clock.
    pub now: Instant,
    /// The wall clock, for initiations.
    pub timestamp: Tai64n,
    /// Ephemeral keys come from here.
    pub rng: &'a mut dyn CryptoRng,
    /// A debugging aid: told every ephemeral key made. `None` but when somebody asked for it.
    pub key_log: Option<&'a dyn KeyLog>,
}

/// Receives what is needed to decrypt a capture of the traffic.
pub trait KeyLog {
    /// A handshake message was made with these keys.
    fn handshake(&self, keys: &LoggedKeys<'_>);
}

/// The secrets of one handshake, in the terms of Wireshark's key log.
pub struct LoggedKeys<'a> {
    /// This device's private key.
    pub local_static_private: &'a [u8; 32],
    /// The peer's public key.
    pub remote_static_public: &'a [u8; 32],
    /// This handshake's ephemeral private key.
    pub local_ephemeral_private: &'a [u8; 32],
    /// The preshared key, zeros when there is none.
    pub preshared_key: &'a [u8; 32],
}

/// Why a handshake message was not taken or made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeError {
    /// The AEAD rejected a field. In a response to our initiation the only one is nothing, sealed with what the preshared key
    /// was mixed into.
    Unauthenticated,
    /// The message answers no pending initiation.
    NotAwaited,
    /// A Diffie-Hellman result was zero: one of the public keys is of low order.
    ZeroSharedSecret,
    /// The timestamp, this one, is not greater than the greatest seen: a replay, or the peer's clock went backwards.
    StaleTimestamp(Tai64n),
    /// Another initiation of this peer was consumed within the last 20 ms.
    TooSoon,
}

impl From<adit_crypto::Rejected> for HandshakeError {
    fn from(_: adit_crypto::Rejected) -> Self {
        HandshakeError::Unauthenticated
    }
}

impl From<x25519::ZeroShared> for HandshakeError {
    fn from(_: x25519::ZeroShared) -> Self {
        HandshakeError::ZeroSharedSecret
    }
}

/// A device's static key.
pub struct Identity {
    private: PrivateKey,
    public: [u8; 32],
}

/// An initiation whose static key has been decrypted; who sent it is claimed, not yet proved.
pub struct OpenedInitiation {
    symmetric: Symmetric,
    remote_static: [u8; 32],
    remote_ephemeral: [u8; 32],
    remote_index: u32,
    encrypted_timestamp: [u8; 28],
}

/// An authentic, fresh initiation: what a response answers.
pub struct ConsumedInitiation {
    symmetric: Symmetric,
    remote_ephemeral: [u8; 32],
    remote_index: u32,
}

impl Identity {
    /// The identity of this private key, which is clamped.
    pub fn new(private_key: &Secret<32>) -> Self {
        let private = PrivateKey::new(*private_key.expose());
        let public = x25519::public_key(&private);
        Identity { private, public }
    }

    /// The public key.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    /// The clamped private key.
    pub fn private_key(&self) -> &PrivateKey {
        &self.private
    }

    /// First half of consuming an initiation (5.4.2): decrypts the sender's static key, by which the peer is found.
    pub fn open_initiation(&self, message: &Initiation) -> Result<OpenedInitiation, HandshakeError> {
        ready(self.opening(message)).open()
    }

    /// What has to be computed before `message` can be opened.
    pub fn opening<'a>(&'a self, message: &'a Initiation) -> Opening<'a> {
        Opening { identity: self, message }
    }
}

/// An initiation that waits for es.
pub struct Opening<'a> {
    identity: &'a Identity,
    message: &'a Initiation,
}

impl Step<1> for Opening<'_> {
    fn pairs(&self) -> [(&PrivateKey, &[u8; 32]); 1] {
        [(&self.identity.private, self.message.unencrypted_ephemeral())]
    }
}

impl Ready<Opening<'_>, 1> {
    /// As [`Identity::open_initiation`].
    pub fn open(self) -> Result<OpenedInitiation, HandshakeError> {
        let Ready { step: Opening { identity, message }, shared: [es] } = self;
        let mut symmetric = Symmetric::new(&identity.public);
        let remote_ephemeral = *message.unencrypted_ephemeral();
        // e
        symmetric.mix_ephemeral(&remote_ephemeral);
        // es
        let key = symmetric.mix_key_for_field(&es?);
        // s
        let remote_static = symmetric.decrypt_and_hash(&key, message.encrypted_static())?;
        Ok(OpenedInitiation {
            symmetric,
            remote_static,
            remote_ephemeral,
            remote_index: message.sender(),
            encrypted_timestamp: *message.encrypted_timestamp(),
        })
    }
}

impl OpenedInitiation {
    /// The public key that the sender claims.
    pub fn remote_static(&self) -> &[u8; 32] {
        &self.remote_static
    }
}

/// Our initiation, until it is answered or replaced.
struct Pending {
    symmetric: Symmetric,
    ephemeral: Arc<PrivateKey>,
    index: u32,
    created: Instant,
}

/// An initiation of ours that waits for es.
pub struct Initiating {
    remote_static: [u8; 32],
    ephemeral: Arc<PrivateKey>,
}

impl Step<1> for Initiating {
    fn pairs(&self) -> [(&PrivateKey, &[u8; 32]); 1] {
        [(&self.ephemeral, &self.remote_static)]
    }
}

/// A response of ours that waits for ee and se.
pub struct Responding {
    initiation: ConsumedInitiation,
    remote_static: [u8; 32],
    ephemeral: Arc<PrivateKey>,
}

impl Step<2> for Responding {
    fn pairs(&self) -> [(&PrivateKey, &[u8; 32]); 2] {
        [(&self.ephemeral, &self.initiation.remote_ephemeral), (&self.ephemeral, &self.remote_static)]
    }
}

/// A response to us that waits for ee and se.
pub struct Completing<'a> {
    identity: &'a Identity,
    message: &'a Response,
    /// That of the pending initiation.
    ephemeral: Arc<PrivateKey>,
}

impl Step<2> for Completing<'_> {
    fn pairs(&self) -> [(&PrivateKey, &[u8; 32]); 2] {
        let remote_ephemeral = self.message.unencrypted_ephemeral();
        [(&self.ephemeral, remote_ephemeral), (&self.identity.private, remote_ephemeral)]
    }
}

/// A peer whose ss is not known yet.
pub struct Introduction<'a> {
    identity: &'a Identity,
    remote_static: [u8; 32],
}

impl Step<1> for Introduction<'_> {
    fn pairs(&self) -> [(&PrivateKey, &[u8; 32]); 1] {
        [(&self.identity.private, &self.remote_static)]
    }
}

/// The result of both static keys, the same for every handshake of this peer: one multiplication saved in each.
struct StaticStatic {
    /// Of the identity that it was computed with: one that is being replaced must not leave its result behind.
    local_static: [u8; 32],
    /// `None` when it is zero.
    shared: Option<Secret<32>>,
}

/// The greatest timestamps of initiations either way. They outlive the peer's removal: once it is added again, no replay
/// may be accepted from it, and nothing sent to it may look like one, even if the wall clock was set back meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timestamps {
    /// Received from the peer.
    pub received: Tai64n,
    /// Sent to it.
    pub sent: Tai64n,
}

/// One peer's handshake state.
pub struct Handshake {
    remote_static: [u8; 32],
    preshared_key: Secret<32>,
    /// `None` until it is needed: ten thousand peers may be configured at once and most never call.
    static_static: Option<StaticStatic>,
    pending: Option<Pending>,
    timestamps: Timestamps,
    last_initiation_consumed: Option<Instant>,
    jar: Jar,
}

impl Handshake {
    /// The state for the peer with this public key. `timestamps` are those of its earlier life, if it had one.
    pub fn new(remote_static: [u8; 32], timestamps: Timestamps) -> Self {
        Handshake {
            remote_static,
            preshared_key: Secret::default(),
            static_static: None,
            pending: None,
            timestamps,
            last_initiation_consumed: None,
            jar: Jar::new(&remote_static),
        }
    }

    /// The peer's public key.
    pub fn remote_static(&self) -> &[u8; 32] {
        &self.remote_static
    }

    /// The preshared key, zeros when there is none.
    pub fn preshared_key(&self) -> &Secret<32> {
        &self.preshared_key
    }

    /// Sets the preshared key. It counts from the next handshake on; a live session stays.
    pub fn set_preshared_key(&mut self, key: Secret<32>) {
        self.preshared_key = key;
    }

    /// The greatest timestamps either way.
    pub fn timestamps(&self) -> Timestamps {
        self.timestamps
    }

    /// The device's private key was changed: what was computed with the old one goes. Returns the index of the pending
    /// initiation, to be taken out of the index table.
    pub fn forget_identity(&mut self) -> Option<u32> {
        self.static_static = None;
        self.forget_pending()
    }

    /// Drops the pending initiation and its ephemeral key. Returns its index, to be taken out of the index table.
    pub fn forget_pending(&mut self) -> Option<u32> {
        self.pending.take().map(|pending| pending.index)
    }

    /// Takes the cookie out of a reply; says whether it was one for us.
    pub fn consume_cookie_reply(&mut self, reply: &CookieReply, now: Instant) -> bool {
        self.jar.consume_reply(reply, now)
    }

    /// Makes an initiation (5.4.2) with `index` as our index, replacing the pending one, whose index is returned too.
    pub fn create_initiation(
        &mut self,
        identity: &Identity,
        index: u32,
        env: &mut Env<'_>,
    ) -> Result<(Initiation, Option<u32>), HandshakeError> {
        let initiating = self.begin_initiation(identity, env);
        self.finish_initiation(identity, ready(initiating), index, env)
    }

    /// First half of [`Handshake::create_initiation`].
    pub fn begin_initiation(&self, identity: &Identity, env: &mut Env<'_>) -> Initiating {
        Initiating { remote_static: self.remote_static, ephemeral: self.new_ephemeral(identity, env) }
    }

    /// Second half of [`Handshake::create_initiation`].
    pub fn finish_initiation(
        &mut self,
        identity: &Identity,
        initiating: Ready<Initiating, 1>,
        index: u32,
        env: &Env<'_>,
    ) -> Result<(Initiation, Option<u32>), HandshakeError> {
        let Ready { step: Initiating { ephemeral, .. }, shared: [es] } = initiating;
        let static_static = self.static_static(identity)?;
        let mut symmetric = Symmetric::new(&self.remote_static);
        // e
        let ephemeral_public = x25519::public_key(&ephemeral);
        symmetric.mix_ephemeral(&ephemeral_public);
        // es
        let key = symmetric.mix_key_for_field(&es?);
        // s
        let encrypted_static = symmetric.encrypt_and_hash(&key, &identity.public);
        // ss
        let key = symmetric.mix_key_for_field(&static_static);
        // {t}
        let timestamp = self.next_timestamp(env.timestamp);
        let encrypted_timestamp = symmetric.encrypt_and_hash(&key, timestamp.as_bytes());

        let mut message = Initiation::new(index, &ephemeral_public, &encrypted_static, &encrypted_timestamp);
        self.jar.add_macs(&mut message, env.now);
        let replaced = self.pending.replace(Pending { symmetric, ephemeral, index, created: env.now });
        Ok((message, replaced.map(|pending| pending.index)))
    }

    /// Second half of consuming an initiation (5.4.2): proves the sender and refuses replays.
    pub fn consume_initiation(
        &mut self,
        identity: &Identity,
        opened: OpenedInitiation,
        now: Instant,
    ) -> Result<ConsumedInitiation, HandshakeError> {
        let mut symmetric = opened.symmetric;
        // ss
        let key = symmetric.mix_key_for_field(&self.static_static(identity)?);
        // {t}
        let timestamp = symmetric.decrypt_and_hash(&key, &opened.encrypted_timestamp)?;
        let timestamp = Tai64n::from_bytes(timestamp);
        if timestamp <= self.timestamps.received {
            return Err(HandshakeError::StaleTimestamp(timestamp));
        }
        let interval = Duration::from_secs(1) / INITIATIONS_PER_SECOND;
        if self.last_initiation_consumed.is_some_and(|last| !now.has_reached(last, interval)) {
            return Err(HandshakeError::TooSoon);
        }
        self.timestamps.received = timestamp;
        self.last_initiation_consumed = Some(now);
        Ok(ConsumedInitiation {
            symmetric,
            remote_ephemeral: opened.remote_ephemeral,
            remote_index: opened.remote_index,
        })
    }

    /// Answers an initiation (5.4.3) with `index` as our index. The keypair may send only once the peer has confirmed it.
    pub fn create_response(
        &mut self,
        identity: &Identity,
        initiation: ConsumedInitiation,
        index: u32,
        env: &mut Env<'_>,
    ) -> Result<(Response, Keypair), HandshakeError> {
        let responding = self.begin_response(identity, initiation, env);
        self.finish_response(ready(responding), index, env.now)
    }

    /// First half of [`Handshake::create_response`].
    pub fn begin_response(
        &self,
        identity: &Identity,
        initiation: ConsumedInitiation,
        env: &mut Env<'_>,
    ) -> Responding {
        let ephemeral = self.new_ephemeral(identity, env);
        Responding { initiation, remote_static: self.remote_static, ephemeral }
    }

    /// Second half of [`Handshake::create_response`].
    pub fn finish_response(
        &mut self,
        responding: Ready<Responding, 2>,
        index: u32,
        now: Instant,
    ) -> Result<(Response, Keypair), HandshakeError> {
        let Ready { step: Responding { initiation, ephemeral, .. }, shared: [ee, se] } = responding;
        let ConsumedInitiation { mut symmetric, remote_index, .. } = initiation;
        // e
        let ephemeral_public = x25519::public_key(&ephemeral);
        symmetric.mix_ephemeral(&ephemeral_public);
        // ee
        symmetric.mix_key(&ee?);
        // se
        symmetric.mix_key(&se?);
        // psk
        let key = symmetric.mix_psk(&self.preshared_key);
        // {}
        let encrypted_nothing = symmetric.encrypt_and_hash(&key, &[]);

        let mut message = Response::new(index, remote_index, &ephemeral_public, &encrypted_nothing);
        self.jar.add_macs(&mut message, now);
        Ok((message, Keypair::responder(symmetric.split(), index, remote_index, now)))
    }

    /// Takes the answer to our initiation (5.4.3). A bad one leaves the pending initiation as it was.
    pub fn consume_response(
        &mut self,
        identity: &Identity,
        message: &Response,
        now: Instant,
    ) -> Result<Keypair, HandshakeError> {
        let completing = self.begin_completion(identity, message, now)?;
        self.complete(ready(completing), now)
    }

    /// First half of [`Handshake::consume_response`].
    pub fn begin_completion<'a>(
        &self,
        identity: &'a Identity,
        message: &'a Response,
        now: Instant,
    ) -> Result<Completing<'a>, HandshakeError> {
        let pending = self.pending.as_ref().ok_or(HandshakeError::NotAwaited)?;
        // Nobody waits this long for an answer, but somebody may have kept one back.
        let is_stale = now.has_reached(pending.created, REKEY_ATTEMPT_TIME);
        if is_stale || pending.index != message.receiver() {
            return Err(HandshakeError::NotAwaited);
        }
        Ok(Completing { identity, message, ephemeral: pending.ephemeral.clone() })
    }

    /// Second half of [`Handshake::consume_response`].
    pub fn complete(
        &mut self,
        completing: Ready<Completing<'_>, 2>,
        now: Instant,
    ) -> Result<Keypair, HandshakeError> {
        let Ready { step: Completing { message, ephemeral, .. }, shared: [ee, se] } = completing;
        // The initiation may have been answered, forgotten or replaced meanwhile.
        let pending = self.pending.as_ref().filter(|pending| Arc::ptr_eq(&pending.ephemeral, &ephemeral));
        let pending = pending.ok_or(HandshakeError::NotAwaited)?;
        let mut symmetric = pending.symmetric.clone();
        // e
        symmetric.mix_ephemeral(message.unencrypted_ephemeral());
        // ee
        symmetric.mix_key(&ee?);
        // se
        symmetric.mix_key(&se?);
        // psk
        let key = symmetric.mix_psk(&self.preshared_key);
        // {}
        let [] = symmetric.decrypt_and_hash(&key, message.encrypted_nothing())?;

        let index = pending.index;
        self.pending = None;
        Ok(Keypair::initiator(symmetric.split(), index, message.sender(), now))
    }

    /// What is left to be computed before any message can be made or consumed: once for each peer. Whoever leaves it out
    /// has it done by the first step that needs it.
    pub fn introduction<'a>(&self, identity: &'a Identity) -> Option<Introduction<'a>> {
        let is_known = self.static_static.as_ref().is_some_and(|known| known.local_static == identity.public);
        (!is_known).then_some(Introduction { identity, remote_static: self.remote_static })
    }

    /// Keeps it for all later handshakes.
    pub fn introduce(&mut self, introduction: Ready<Introduction<'_>, 1>) {
        let Ready { step: Introduction { identity, .. }, shared: [ss] } = introduction;
        self.static_static = Some(StaticStatic { local_static: identity.public, shared: ss.ok() });
    }

    fn static_static(&mut self, identity: &Identity) -> Result<Secret<32>, HandshakeError> {
        if let Some(introduction) = self.introduction(identity) {
            self.introduce(ready(introduction));
        }
        let known = self.static_static.as_ref().and_then(|known| known.shared.clone());
        known.ok_or(HandshakeError::ZeroSharedSecret)
    }

    fn new_ephemeral(&self, identity: &Identity, env: &mut Env<'_>) -> Arc<PrivateKey> {
        let mut bytes = Secret::<32>::default();
        env.rng.fill_bytes(bytes.expose_mut());
        let ephemeral = Arc::new(PrivateKey::new(*bytes.expose()));
        if let Some(log) = env.key_log {
            log.handshake(&LoggedKeys {
                local_static_private: identity.private.expose(),
                remote_static_public: &self.remote_static,
                local_ephemeral_private: ephemeral.expose(),
                preshared_key: self.preshared_key.expose(),
            });
        }
        ephemeral
    }

    /// Greater than the last one sent even when the wall clock stood still or went backwards meanwhile: the responder
    /// would take it for a replay.
    fn next_timestamp(&mut self, wall_clock: Tai64n) -> Tai64n {
        let timestamp = wall_clock.max(self.timestamps.sent.successor());
        self.timestamps.sent = timestamp;
        timestamp
    }
}

#[cfg(test)]
mod tests;
