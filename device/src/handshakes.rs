//! Handshake messages in and out (whitepaper 5.4), as far as they concern the device: who is meant, which keys, which
//! index, what to answer. The slow path's thread runs this.

use std::sync::Arc;

use adit_control::PublicKey;
use adit_net::udp::Bound;
use adit_proto::cookie::Load;
use adit_proto::handshake::{ConsumedInitiation, Env, HandshakeError, KeyLog};
use adit_proto::limits::HANDSHAKE_DSCP;
use adit_proto::message::{
    CookieReply, HandshakeMessage, INITIATION_LEN, Initiation, RESPONSE_LEN, Response, WithMacs,
};
use adit_proto::ratelimit::RateLimiter;
use adit_proto::session::Session;
use adit_proto::time::Instant;

use crate::endpoint::Endpoint;
use crate::lock::{Lock, Shared};
use crate::peer::Peer;
use crate::queue::Arrival;
use crate::state::{Device, Indexed, OwnKey, SystemRng, rng};

/// What decides whether a handshake message is worth a multiplication.
#[derive(Default)]
pub(crate) struct Admission {
    load: Load,
    limiter: RateLimiter,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Process,
    DemandCookie,
    Drop,
}

impl Admission {
    /// mac1 was valid, or the message would not be here. Under load mac2 has to be, and the source's rate counts
    /// (whitepaper 5.3). Cheap, and before anything else.
    fn judge(
        &mut self,
        own: &OwnKey,
        message: &dyn WithMacs,
        arrival: &Arrival,
        waiting: usize,
        now: Instant,
    ) -> Verdict {
        if !self.load.is_under_load(waiting, now) {
            return Verdict::Process;
        }
        if !own.checker.locked().mac2_is_valid(message, arrival.from, now, &mut rng()) {
            return Verdict::DemandCookie;
        }
        match self.limiter.allow(arrival.from.ip(), now) {
            true => Verdict::Process,
            false => Verdict::Drop,
        }
    }
}

impl Device {
    /// Takes one message off the inbox, when `waiting` were in it.
    pub(crate) fn handle_arrival(&self, arrival: &Arrival, waiting: usize, admission: &mut Admission) {
        let Some(own) = self.own_key() else { return };
        let now = Self::now();
        let message: &dyn WithMacs = match &arrival.message {
            HandshakeMessage::CookieReply(reply) => return self.handle_cookie_reply(reply, now),
            HandshakeMessage::Initiation(message) => message,
            HandshakeMessage::Response(message) => message,
        };
        match admission.judge(&own, message, arrival, waiting, now) {
            Verdict::Drop => return,
            Verdict::DemandCookie => return self.demand_cookie(&own, message, arrival, now),
            Verdict::Process => {}
        }
        let result = match &arrival.message {
            HandshakeMessage::Initiation(message) => self.handle_initiation(&own, message, arrival),
            HandshakeMessage::Response(message) => self.handle_response(&own, message, arrival, now),
            HandshakeMessage::CookieReply(_) => Ok(()),
        };
        if let Err(error) = result {
            log::debug!("a handshake message from {} was refused: {error:?}", arrival.from);
        }
    }

    fn demand_cookie(&self, own: &OwnKey, message: &dyn WithMacs, arrival: &Arrival, now: Instant) {
        let reply = own.checker.locked().reply(message, arrival.from, now, &mut rng());
        if let Some(sockets) = self.sockets()
            && let Some(socket) = sockets.sockets[0].for_addr(&arrival.from)
        {
            let bytes = reply.as_bytes();
            socket.send(&arrival.from, arrival.local.as_ref(), 0, bytes, bytes.len());
        }
    }

    fn handle_cookie_reply(&self, reply: &CookieReply, now: Instant) {
        let Some(entry) = self.indices.shared().get(reply.receiver()).cloned() else { return };
        if entry.peer().handshake.locked().consume_cookie_reply(reply, now) {
            log::debug!("{}: is under load and sent a cookie", entry.peer());
        }
    }

    /// Answers an initiation: the session's keys exist from here on, and wait for the peer to use them.
    fn handle_initiation(
        &self,
        own: &Arc<OwnKey>,
        message: &Initiation,
        arrival: &Arrival,
    ) -> Result<(), HandshakeError> {
        let opened = own.identity.open_initiation(message)?;
        let key = PublicKey::new(*opened.remote_static());
        let Some(peer) = self.peers.shared().get(&key).cloned() else {
            return Err(HandshakeError::Unauthenticated);
        };
        let now = Self::now();
        let mut handshake = peer.handshake.locked();
        let initiation = handshake.consume_initiation(&own.identity, opened, now);
        let latest_timestamp = handshake.timestamps().received;
        drop(handshake);
        if let Err(HandshakeError::StaleTimestamp) = initiation {
            peer.report_clock(latest_timestamp);
        }
        let initiation = initiation?;
        peer.received(INITIATION_LEN);
        self.respond(own, &peer, initiation, arrival)
    }

    fn respond(
        &self,
        own: &Arc<OwnKey>,
        peer: &Arc<Peer>,
        initiation: ConsumedInitiation,
        arrival: &Arrival,
    ) -> Result<(), HandshakeError> {
        let mut rng = rng();
        let index = self.indices.exclusive().insert(Indexed::Handshake(peer.clone()), &mut rng);
        let mut env = self.env(&mut rng);
        let response = peer.handshake.locked().create_response(&own.identity, initiation, index, &mut env);
        let (message, keypair) = response.inspect_err(|_| self.retire([index]))?;
        let keypair = Arc::new(keypair);

        let endpoint = self.endpoint_of(arrival);
        let mut session = peer.session.locked();
        if !self.may_begin(own, peer, &session) {
            drop(session);
            self.retire([index]);
            return Ok(());
        }
        session.handshake_received(endpoint.clone(), env.now);
        let retired = session.response_sent(keypair.clone(), env.now);
        self.schedule(peer, &mut session);
        drop(session);
        // Before the response is out, or the first data would find nobody.
        self.indices.exclusive().replace(index, Indexed::Keypair(peer.clone(), keypair));
        self.retire(retired);
        log::debug!("{peer}: initiation received from {}, sending the response", arrival.from);
        self.send_handshake(peer, endpoint, message.as_bytes());
        Ok(())
    }

    /// Takes the answer to our initiation: the session is in use from here on.
    fn handle_response(
        &self,
        own: &Arc<OwnKey>,
        message: &Response,
        arrival: &Arrival,
        now: Instant,
    ) -> Result<(), HandshakeError> {
        let Some(Indexed::Handshake(peer)) = self.indices.shared().get(message.receiver()).cloned() else {
            return Err(HandshakeError::Unauthenticated);
        };
        let keypair = peer.handshake.locked().consume_response(&own.identity, message, now)?;
        let (index, keypair) = (keypair.local_index(), Arc::new(keypair));
        peer.received(RESPONSE_LEN);

        let mut session = peer.session.locked();
        if !self.may_begin(own, &peer, &session) {
            drop(session);
            self.retire([index]);
            return Ok(());
        }
        session.handshake_received(self.endpoint_of(arrival), now);
        let retired = session.response_received(keypair.clone(), now);
        // What is staged confirms the session; if nothing is, a keepalive does at once.
        session.keepalive();
        self.schedule(&peer, &mut session);
        drop(session);
        self.indices.exclusive().replace(index, Indexed::Keypair(peer.clone(), keypair));
        self.retire(retired);
        peer.handshake_completed();
        log::debug!("{peer}: response received from {}", arrival.from);
        self.flush(&peer);
        Ok(())
    }

    /// Sends an initiation that the session asked for.
    pub(crate) fn send_initiation(&self, peer: &Arc<Peer>) {
        if !peer.session.locked().begin_initiation(Self::now()) {
            return;
        }
        let Some(own) = self.own_key() else { return };
        let mut rng = rng();
        let index = self.indices.exclusive().insert(Indexed::Handshake(peer.clone()), &mut rng);
        let mut env = self.env(&mut rng);
        let created = peer.handshake.locked().create_initiation(&own.identity, index, &mut env);
        let now = env.now;
        let (message, replaced) = match created {
            Ok(created) => created,
            Err(error) => {
                self.retire([index]);
                log::warn!("{peer}: no handshake is possible with this public key: {error:?}");
                return;
            }
        };
        self.retire(replaced);
        let mut session = peer.session.locked();
        if peer.is_removed() || !session.is_running() {
            drop(session);
            return self.retire(peer.handshake.locked().forget_pending());
        }
        session.initiation_sent(now, &mut rng);
        self.schedule(peer, &mut session);
        let endpoint = session.endpoint().cloned();
        drop(session);
        if let Some(endpoint) = endpoint {
            log::debug!("{peer}: sending an initiation to {}", endpoint.addr);
            self.send_handshake(peer, endpoint, message.as_bytes());
        }
    }

    /// Whether a session made with `own` may begin, asked with its lock held: the control thread may have removed the
    /// peer, taken the interface down, or set another key meanwhile. If it does so only after this, it finds the keypair
    /// that is put into the session now.
    fn may_begin(&self, own: &Arc<OwnKey>, peer: &Peer, session: &Session<Endpoint>) -> bool {
        let is_own = self.own_key().is_some_and(|current| Arc::ptr_eq(&current, own));
        is_own && !peer.is_removed() && session.is_running()
    }

    fn send_handshake(&self, peer: &Arc<Peer>, endpoint: Endpoint, message: &[u8]) {
        if let Some(sockets) = self.sockets() {
            let sockets: (&Bound, usize) = (&sockets, 0);
            self.send(peer, endpoint, sockets, message, message.len(), HANDSHAKE_DSCP);
        }
    }

    fn endpoint_of(&self, arrival: &Arrival) -> Endpoint {
        self.endpoint_from(arrival.from, arrival.local)
    }

    fn env<'a>(&'a self, rng: &'a mut SystemRng) -> Env<'a> {
        let key_log = self.key_log.as_ref().map(|log| log as &dyn KeyLog);
        Env { now: Self::now(), timestamp: Self::timestamp(), rng, key_log }
    }
}

#[cfg(test)]
mod tests;
