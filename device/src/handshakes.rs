//! Handshake messages in and out (whitepaper 5.4), as far as they concern the device: who is meant, which keys, which
//! index, what to answer. The slow path's thread runs this.
//!
//! Messages come in groups, and every step is taken with all of a group, so that the shared secrets that it needs are
//! computed together. Of a peer's locks none is held meanwhile, and never two peers' at a time; what may have changed is
//! asked again afterwards.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_control::{PublicKey, Reason};
use adit_net::udp::Bound;
use adit_proto::cookie::Load;
use adit_proto::dh::{self, Ready};
use adit_proto::handshake::{
    Completing, Env, HandshakeError, Initiating, KeyLog, OpenedInitiation, Responding,
};
use adit_proto::limits::HANDSHAKE_DSCP;
use adit_proto::message::{
    CookieReply, HandshakeMessage, INITIATION_LEN, Initiation, RESPONSE_LEN, Response, WithMacs,
};
use adit_proto::ratelimit::{CookieShares, RateLimiter};
use adit_proto::session::Session;
use adit_proto::time::Instant;

use crate::endpoint::Endpoint;
use crate::lock::{Lock, Shared};
use crate::outside::{self, SystemRng, rng};
use crate::peer::Peer;
use crate::queue::{Arrival, Lane};
use crate::state::{Device, Indexed, OwnKey};
use crate::why::Note;

/// A peer that asks again once may have lost our response, or we what confirmed it.
const LOST_BY_CHANCE: u32 = 1;

/// What decides whether a handshake message is worth a multiplication.
#[derive(Default)]
pub(crate) struct Admission {
    load: Load,
    limiter: RateLimiter,
    cookies: CookieShares,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Process,
    DemandCookie,
    Drop,
}

impl Admission {
    /// mac1 was valid, or the message would not be here. Under load it has to come from those who have shown a cookie, and
    /// the source's rate counts (whitepaper 5.3). Cheap, and before anything else.
    fn judge(&mut self, lane: Lane, from: IpAddr, waiting: usize, now: Instant) -> Verdict {
        if !self.load.is_under_load(waiting, now) {
            return Verdict::Process;
        }
        match lane {
            Lane::Proven if self.limiter.allow(from, now) => Verdict::Process,
            Lane::Unproven if self.cookies.allow(from, now, &mut rng()) => Verdict::DemandCookie,
            _ => Verdict::Drop,
        }
    }

    /// Whether messages without a cookie were turned away when it was last asked: they cost little then.
    pub(crate) fn turns_away(&self) -> bool {
        self.load.was_under_load()
    }
}

impl Device {
    /// Handles messages from a lane of the inbox, each with how many were waiting, and has done together what they need
    /// computed.
    pub(crate) fn handle_arrivals(
        &self,
        lane: Lane,
        arrivals: &[(Arrival, usize)],
        admission: &mut Admission,
    ) {
        let Some(own) = self.own_key() else { return };
        let now = Self::now();
        let (mut initiations, mut responses) = (Vec::new(), Vec::new());
        let (mut refused, mut last) = (0, None);
        for (arrival, waiting) in arrivals {
            let message: &dyn WithMacs = match &arrival.message {
                HandshakeMessage::CookieReply(reply) => {
                    self.handle_cookie_reply(reply, arrival, now);
                    continue;
                }
                HandshakeMessage::Initiation(message) => message,
                HandshakeMessage::Response(message) => message,
            };
            match (admission.judge(lane, arrival.from.ip(), *waiting, now), &arrival.message) {
                (Verdict::DemandCookie, _) => {
                    let has_cookie = *message.mac2() != [0; 16];
                    let reason = if has_cookie { Reason::BadMac2 } else { Reason::UnderLoad };
                    self.note(Note::new(reason).at(arrival.from));
                    self.demand_cookie(&own, message, arrival, now);
                }
                (Verdict::Process, HandshakeMessage::Initiation(message)) => {
                    initiations.push((arrival, message));
                }
                (Verdict::Process, HandshakeMessage::Response(message)) => responses.push((arrival, message)),
                (Verdict::Drop, _) => {
                    refused += 1;
                    last = Some(arrival.from);
                }
                (Verdict::Process, HandshakeMessage::CookieReply(_)) => {}
            }
        }
        if let Some(from) = last {
            self.note(Note::new(Reason::RateLimited).times(refused).at(from));
        }
        self.handle_initiations(&own, &initiations);
        self.handle_responses(&own, &responses, now);
    }

    fn demand_cookie(&self, own: &OwnKey, message: &dyn WithMacs, arrival: &Arrival, now: Instant) {
        let reply = own.checker.locked().reply(message, arrival.from, now, &mut rng());
        if let Some(sockets) = self.sockets() {
            let bytes = reply.as_bytes();
            outside::send(&sockets.sockets[0], &arrival.from, arrival.local.as_ref(), 0, bytes, bytes.len());
        }
    }

    fn handle_cookie_reply(&self, reply: &CookieReply, arrival: &Arrival, now: Instant) {
        let Some(entry) = self.indices.shared().get(reply.receiver()).cloned() else { return };
        let peer = entry.peer();
        let reason = if peer.handshake.locked().consume_cookie_reply(reply, now) {
            log::debug!("{peer}: is under load and sent a cookie");
            peer.answered_in_vain.store(true, Relaxed);
            Reason::PeerUnderLoad
        } else {
            Reason::BadHandshake
        };
        self.note(Note::new(reason).peer(peer).at(arrival.from));
    }

    /// Answers initiations: the sessions' keys exist from here on, and wait for the peers to use them.
    fn handle_initiations(&self, own: &Arc<OwnKey>, initiations: &[(&Arrival, &Initiation)]) {
        let openings = initiations.iter().map(|(_, message)| own.identity.opening(message)).collect();
        let mut claims = Vec::new();
        for (opening, (arrival, _)) in dh::ready_all(openings).zip(initiations) {
            if let Some(opened) = self.accepted(arrival, None, opening.open())
                && let Some(peer) = self.claimant(arrival, &opened)
            {
                claims.push((*arrival, peer, opened));
            }
        }
        self.introduce(own, claims.iter().map(|(_, peer, _)| peer));
        let (mut proved, mut responses) = (Vec::new(), Vec::new());
        for (arrival, peer, opened) in claims {
            let response = self.consume_initiation(own, &peer, opened);
            // Before it is proved that the peer has made it, nothing of it is put down to the peer: whoever knows public
            // keys would fill the peers' records.
            let is_proved = !matches!(response, Err(HandshakeError::Unauthenticated));
            if let Some(response) = self.accepted(arrival, is_proved.then_some(&*peer), response) {
                proved.push((arrival, peer));
                responses.push(response);
            }
        }
        for (response, (arrival, peer)) in dh::ready_all(responses).zip(&proved) {
            self.accepted(arrival, Some(peer), self.respond(own, peer, response, arrival));
        }
    }

    fn claimant(&self, arrival: &Arrival, opened: &OpenedInitiation) -> Option<Arc<Peer>> {
        let key = PublicKey::new(*opened.remote_static());
        let found = self.peers.shared().get(&key).cloned();
        if found.is_none() {
            log::debug!("a handshake message from {} is of no peer: {key:?}", arrival.from);
            self.note(Note::new(Reason::UnknownPeer).stranger(key).at(arrival.from));
        }
        found
    }

    /// Makes up for what has to be computed once for each peer.
    fn introduce<'a>(&self, own: &Arc<OwnKey>, peers: impl Iterator<Item = &'a Arc<Peer>>) {
        let (mut strangers, mut introductions) = (Vec::new(), Vec::new());
        for peer in peers {
            if let Some(introduction) = peer.handshake.locked().introduction(&own.identity) {
                strangers.push(peer);
                introductions.push(introduction);
            }
        }
        for (introduction, peer) in dh::ready_all(introductions).zip(strangers) {
            let mut handshake = peer.handshake.locked();
            // Of a key that was replaced meanwhile nothing is to stay.
            if self.is_current(own) {
                handshake.introduce(introduction);
            }
        }
    }

    fn consume_initiation(
        &self,
        own: &OwnKey,
        peer: &Peer,
        opened: OpenedInitiation,
    ) -> Result<Responding, HandshakeError> {
        let mut rng = rng();
        let mut env = self.env(&mut rng);
        let mut handshake = peer.handshake.locked();
        let initiation = handshake.consume_initiation(&own.identity, opened, env.now);
        if let Err(HandshakeError::StaleTimestamp(_)) = initiation {
            let latest_timestamp = handshake.timestamps().received;
            drop(handshake);
            peer.report_clock(latest_timestamp);
            return initiation.map(|_| unreachable!("it was refused"));
        }
        let responding = handshake.begin_response(&own.identity, initiation?, &mut env);
        peer.received(INITIATION_LEN);
        Ok(responding)
    }

    fn respond(
        &self,
        own: &Arc<OwnKey>,
        peer: &Arc<Peer>,
        responding: Ready<Responding, 2>,
        arrival: &Arrival,
    ) -> Result<(), HandshakeError> {
        let now = Self::now();
        let index = self.indices.exclusive().insert(Indexed::Handshake(peer.clone()), &mut rng());
        let response = peer.handshake.locked().finish_response(responding, index, now);
        let (message, keypair) = response.inspect_err(|_| self.retire([index]))?;
        let keypair = Arc::new(keypair);

        let endpoint = self.endpoint_of(arrival);
        let mut session = peer.session.locked();
        if !self.may_begin(own, peer, &session) {
            drop(session);
            self.retire([index]);
            return Ok(());
        }
        session.handshake_received(endpoint.clone(), now);
        let retired = session.response_sent(keypair.clone(), now);
        let is_unconfirmed = session.untaken_responses() > LOST_BY_CHANCE;
        self.schedule(peer, &mut session);
        drop(session);
        if is_unconfirmed {
            self.note(Note::new(Reason::Unconfirmed).peer(peer).at(arrival.from));
        }
        // Before the response is out, or the first data would find nobody.
        self.indices.exclusive().replace(index, Indexed::Keypair(peer.clone(), keypair));
        self.retire(retired);
        log::debug!("{peer}: initiation received from {}, sending the response", arrival.from);
        self.send_handshake(peer, endpoint, message.as_bytes());
        self.note_way(peer, arrival.from.ip());
        Ok(())
    }

    /// Takes the answers to our initiations: the sessions are in use from here on.
    fn handle_responses(&self, own: &Arc<OwnKey>, responses: &[(&Arrival, &Response)], now: Instant) {
        let (mut answered, mut completions) = (Vec::new(), Vec::new());
        for (arrival, message) in responses {
            let begun = self.begin_completion(own, message, now);
            if let Some((peer, completion)) = self.accepted(arrival, None, begun) {
                answered.push((*arrival, peer));
                completions.push(completion);
            }
        }
        for (completion, (arrival, peer)) in dh::ready_all(completions).zip(&answered) {
            self.accepted(arrival, Some(peer), self.complete(own, peer, completion, arrival, now));
        }
    }

    fn begin_completion<'a>(
        &self,
        own: &'a OwnKey,
        message: &'a Response,
        now: Instant,
    ) -> Result<(Arc<Peer>, Completing<'a>), HandshakeError> {
        let Some(Indexed::Handshake(peer)) = self.indices.shared().get(message.receiver()).cloned() else {
            return Err(HandshakeError::NotAwaited);
        };
        let completion = peer.handshake.locked().begin_completion(&own.identity, message, now)?;
        Ok((peer, completion))
    }

    fn complete(
        &self,
        own: &Arc<OwnKey>,
        peer: &Arc<Peer>,
        completion: Ready<Completing<'_>, 2>,
        arrival: &Arrival,
        now: Instant,
    ) -> Result<(), HandshakeError> {
        let keypair = peer.handshake.locked().complete(completion, now)?;
        let (index, keypair) = (keypair.local_index(), Arc::new(keypair));
        peer.received(RESPONSE_LEN);

        let mut session = peer.session.locked();
        if !self.may_begin(own, peer, &session) {
            drop(session);
            self.retire([index]);
            return Ok(());
        }
        session.handshake_received(self.endpoint_of(arrival), now);
        let retired = session.response_received(keypair.clone(), now);
        // What is staged confirms the session; if nothing is, a keepalive does at once.
        session.keepalive();
        self.schedule(peer, &mut session);
        drop(session);
        self.indices.exclusive().replace(index, Indexed::Keypair(peer.clone(), keypair));
        self.retire(retired);
        peer.handshake_completed();
        self.note_way(peer, arrival.from.ip());
        log::debug!("{peer}: response received from {}", arrival.from);
        self.flush(peer);
        Ok(())
    }

    /// Sends the initiations that sessions asked for.
    pub(crate) fn send_initiations(&self, mut peers: Vec<Arc<Peer>>) {
        peers.retain(|peer| peer.session.locked().begin_initiation(Self::now()));
        let Some(own) = self.own_key() else {
            return peers.iter().for_each(|peer| self.note(Note::new(Reason::NoPrivateKey).peer(peer)));
        };
        self.introduce(&own, peers.iter());
        let mut rng = rng();
        let mut env = self.env(&mut rng);
        let begun =
            peers.iter().map(|peer| peer.handshake.locked().begin_initiation(&own.identity, &mut env));
        for (initiating, peer) in dh::ready_all(begun.collect()).zip(&peers) {
            self.send_initiation(&own, peer, initiating);
        }
    }

    fn send_initiation(&self, own: &Arc<OwnKey>, peer: &Arc<Peer>, initiating: Ready<Initiating, 1>) {
        let mut rng = rng();
        let index = self.indices.exclusive().insert(Indexed::Handshake(peer.clone()), &mut rng);
        let env = self.env(&mut rng);
        let mut handshake = peer.handshake.locked();
        if !self.is_current(own) {
            drop(handshake);
            return self.retire([index]);
        }
        let created = handshake.finish_initiation(&own.identity, initiating, index, &env);
        drop(handshake);
        let now = env.now;
        let (message, replaced) = match created {
            Ok(created) => created,
            Err(error) => {
                self.retire([index]);
                log::warn!("{peer}: no handshake is possible with this public key: {error:?}");
                self.note(Note::new(Reason::BadPublicKey).peer(peer));
                return;
            }
        };
        self.retire(replaced);
        self.turn_to_name(peer, now);
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
        self.is_current(own) && !peer.is_removed() && session.is_running()
    }

    /// Whether `own` is still the device's key. The control thread first replaces that and then has every peer forget what
    /// came of it: asked with a peer's lock held, yes means that what is put there now will be forgotten, too.
    fn is_current(&self, own: &Arc<OwnKey>) -> bool {
        self.own_key().is_some_and(|current| Arc::ptr_eq(&current, own))
    }

    fn send_handshake(&self, peer: &Arc<Peer>, endpoint: Endpoint, message: &[u8]) {
        if let Some(sockets) = self.sockets() {
            let sockets: (&Bound, usize) = (&sockets, 0);
            self.send(peer, endpoint, sockets, message, message.len(), HANDSHAKE_DSCP);
        }
    }

    /// What a step of a handshake gave, or a note why nothing.
    fn accepted<T>(
        &self,
        arrival: &Arrival,
        peer: Option<&Peer>,
        result: Result<T, HandshakeError>,
    ) -> Option<T> {
        result.inspect_err(|error| self.refused(arrival, peer, *error)).ok()
    }

    fn refused(&self, arrival: &Arrival, peer: Option<&Peer>, error: HandshakeError) {
        log::debug!("a handshake message from {} was refused: {error:?}", arrival.from);
        let is_response = matches!(arrival.message, HandshakeMessage::Response(_));
        let reason = match (error, peer) {
            (HandshakeError::StaleTimestamp(refused), Some(peer)) => {
                let greatest = peer.handshake.locked().timestamps().received;
                return self.note_clock(peer, arrival.from, refused, greatest);
            }
            // All that it depends on was right, or no mac1 would have been: but the preshared key.
            (HandshakeError::Unauthenticated, Some(peer)) if is_response => {
                peer.answered_in_vain.store(true, Relaxed);
                Reason::PskMismatch
            }
            (HandshakeError::Unauthenticated | HandshakeError::StaleTimestamp(_), _) => Reason::BadHandshake,
            (HandshakeError::NotAwaited, _) => Reason::UnknownIndex,
            (HandshakeError::ZeroSharedSecret, _) => Reason::BadPublicKey,
            (HandshakeError::TooSoon, _) => Reason::TooSoon,
        };
        let note = Note::new(reason).at(arrival.from);
        self.note(peer.map_or(note, |peer| note.peer(peer)));
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
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use adit_crypto::Secret;
    use adit_proto::cookie::{Checker, Mac1Key};
    use adit_proto::handshake::{Handshake, Identity, Timestamps};
    use adit_proto::limits::UNDER_LOAD_HANDSHAKES;

    use super::*;
    use crate::sync::Mutex;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    /// A device under load, and what it decides.
    struct Responder {
        own: OwnKey,
        admission: Admission,
        waiting: usize,
    }

    impl Responder {
        fn new(waiting: usize) -> Self {
            let identity = Identity::new(&Secret::new([1; 32]));
            let checker = Mutex::new(Checker::new(identity.public_key()));
            let mac1_key = Mac1Key::new(identity.public_key());
            Responder {
                own: OwnKey { identity, mac1_key, checker },
                admission: Admission::default(),
                waiting,
            }
        }

        fn judge(&mut self, message: &Initiation, from: SocketAddr, now: Instant) -> Verdict {
            let lane = if self.own.knows(message, from, now) { Lane::Proven } else { Lane::Unproven };
            self.admission.judge(lane, from.ip(), self.waiting, now)
        }
    }

    struct Initiator {
        identity: Identity,
        handshake: Handshake,
        at: SocketAddr,
    }

    impl Initiator {
        fn new(host: u8, responder: &Responder) -> Self {
            Initiator {
                identity: Identity::new(&Secret::new([host; 32])),
                handshake: Handshake::new(*responder.own.identity.public_key(), Timestamps::default()),
                at: (Ipv4Addr::new(192, 0, 2, host), 51820).into(),
            }
        }

        fn initiation(&mut self, now: Instant) -> Initiation {
            let mut rng = rng();
            let mut env = Env { now, timestamp: Device::timestamp(), rng: &mut rng, key_log: None };
            self.handshake.create_initiation(&self.identity, 7, &mut env).expect("a good key").0
        }

        /// Asks, is given a cookie, and returns an initiation that carries it.
        fn with_cookie(&mut self, responder: &mut Responder, now: Instant) -> Initiation {
            let message = self.initiation(now);
            assert_eq!(responder.judge(&message, self.at, now), Verdict::DemandCookie);
            let reply = responder.own.checker.locked().reply(&message, self.at, now, &mut rng());
            assert!(self.handshake.consume_cookie_reply(&reply, now));
            self.initiation(now)
        }
    }

    #[test]
    fn without_load_nobody_is_asked_for_a_cookie() {
        let mut responder = Responder::new(UNDER_LOAD_HANDSHAKES - 1);
        let mut initiator = Initiator::new(2, &responder);
        let message = initiator.initiation(START);
        for _ in 0..100 {
            assert_eq!(responder.judge(&message, initiator.at, START), Verdict::Process);
        }
    }

    /// GotaTun's load is counted for each source: forged ones, each below the limit, are never under load together.
    #[test]
    fn forged_sources_are_under_load_together() {
        let mut responder = Responder::new(UNDER_LOAD_HANDSHAKES);
        let message = Initiator::new(2, &responder).initiation(START);
        for host in 0..10_000 {
            let forged = (Ipv4Addr::from(0x0a00_0000 + host), 51820).into();
            assert_eq!(responder.judge(&message, forged, START), Verdict::DemandCookie);
        }
    }

    /// GotaTun before 0.4.1: a flood shut out those who can show a cookie. VPP before 95e90b4: whoever could show one was let
    /// through without limit.
    #[test]
    fn a_cookie_leads_past_the_load_at_each_sources_own_rate() {
        let mut responder = Responder::new(UNDER_LOAD_HANDSHAKES);
        let (mut flooder, mut honest) = (Initiator::new(2, &responder), Initiator::new(3, &responder));
        let flood = flooder.with_cookie(&mut responder, START);
        let verdicts = [(); 1000].map(|()| responder.judge(&flood, flooder.at, START));
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Process).count(), 5);
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Drop).count(), 995);

        let message = honest.with_cookie(&mut responder, START);
        assert_eq!(responder.judge(&message, honest.at, START), Verdict::Process);
        assert_eq!(responder.judge(&message, flooder.at, START), Verdict::DemandCookie, "another's cookie");
        let later = START + Duration::from_secs(1);
        assert_eq!(responder.judge(&flood, flooder.at, later), Verdict::Process, "in time, again");
    }
}
