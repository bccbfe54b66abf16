//! One peer's session: its keypairs, what is staged, its endpoint and its timers (whitepaper 5.4.6, 6).
//!
//! A worker takes the session's lock twice at most for a train, and briefly: [`Session::begin_send`] hands out keypair,
//! nonces and endpoint before it is sealed, [`Session::finish_recv`] takes what the AEAD has authenticated after it was
//! opened. Handshake state ([`crate::handshake`]) is apart, so that its multiplications never stall data.
//!
//! Every call that may move a deadline forward ends with [`Session::wake`]; it answers only when the slow path has to be
//! told of an earlier deadline than it knows, so that a busy session causes a wake-up every ten seconds or so and an idle
//! one none.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use rand_core::CryptoRng;

use crate::keypair::{Keypair, MAX_TRAIN, Nonces, Opened};
use crate::limits::{
    KEEPALIVE_TIMEOUT, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME,
    REKEY_TIMEOUT,
};
use crate::replay::ReplayWindow;
use crate::staged::{Room, Staged};
use crate::time::Instant;
use crate::timers::{Attempt, Timers};

/// Where a peer is, as the engine knows it.
pub trait Endpoint: Clone + PartialEq {
    /// Forget which local address reaches it: that may be what does not work any more.
    fn clear_source(&mut self);
}

/// A keypair with what changes while it is used.
struct Slot {
    keypair: Arc<Keypair>,
    next_counter: u64,
    may_send: bool,
    replay: ReplayWindow,
}

impl Slot {
    fn new(keypair: Arc<Keypair>) -> Box<Self> {
        Box::new(Slot { keypair, next_counter: 0, may_send: true, replay: ReplayWindow::default() })
    }
}

/// Leave to send: a keypair, as many nonces as asked for, and where to.
#[derive(Debug)]
pub struct Grant<E> {
    /// Seals with these keys.
    pub keypair: Arc<Keypair>,
    /// To be used up by [`Keypair::seal_train`].
    pub nonces: Nonces,
    /// Where to; `None` when the peer's endpoint is not known.
    pub endpoint: Option<E>,
    /// The key grows old: an initiation is to be sent.
    pub initiate: bool,
}

/// Why there is no [`Grant`]: the packets are to be staged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotReady {
    /// There is no key that may send. With `initiate`, an initiation is to be sent; else one is under way.
    NoKeypair {
        /// Whether an initiation is to be sent.
        initiate: bool,
    },
    /// Older packets are staged and a key is there: stage behind them and flush.
    Behind,
}

/// Staged packets and leave to send them.
pub struct Batch<E> {
    /// At most [`MAX_TRAIN`], oldest first; an empty one is a keepalive.
    pub packets: Vec<Box<[u8]>>,
    /// For exactly these.
    pub grant: Grant<E>,
}

/// The right to flush a peer's staged packets; there is one, so that they stay in order. [`Session::next_batch`] and
/// [`Session::end_flush`] take it back; lost, nothing would be sent to the peer any more.
#[derive(Debug)]
#[must_use]
pub struct Flush(());

/// What [`Session::finish_recv`] decided.
#[derive(Debug, Default)]
#[must_use]
pub struct Received {
    /// Bit `i`: the message at position `i` of the train is new, and may be delivered.
    pub accepted: u64,
    /// An initiation is to be sent.
    pub initiate: bool,
    /// The first message of a new session: it now may send, and staged packets are to be flushed.
    pub confirmed: bool,
    /// Indices that are no longer in use.
    pub retired: Vec<u32>,
}

/// What [`Session::on_deadline`] decided.
#[derive(Debug, Default)]
#[must_use]
pub struct Due {
    /// An initiation is to be sent.
    pub initiate: bool,
    /// An initiation was not answered in time, or the answer was not taken.
    pub unanswered: bool,
    /// The peer did not answer for a minute and a half.
    pub gave_up: bool,
    /// Data was sent, and nothing came back since.
    pub silent: bool,
    /// A keepalive was staged: flush.
    pub flush: bool,
    /// The pending initiation is to be forgotten too.
    pub zero_key_material: bool,
    /// Indices that are no longer in use.
    pub retired: Vec<u32>,
}

/// A peer's session state.
pub struct Session<E> {
    previous: Option<Box<Slot>>,
    current: Option<Box<Slot>>,
    next: Option<Box<Slot>>,
    staged: Staged,
    is_flushing: bool,
    endpoint: Option<E>,
    timers: Timers,
    /// When an initiation or a response was last sent.
    last_sent_handshake: Option<Instant>,
    last_sent_initiation: Option<Instant>,
    initiation_requested: bool,
    sent_lastminute_handshake: bool,
    /// Initiations sent since the peer was last heard.
    unanswered: u32,
    /// Responses in a row that the peer did not take.
    untaken: u32,
    /// The deadline that the slow path knows of.
    scheduled: Option<Instant>,
}

impl<E> Default for Session<E> {
    fn default() -> Self {
        Session {
            previous: None,
            current: None,
            next: None,
            staged: Staged::default(),
            is_flushing: false,
            endpoint: None,
            timers: Timers::default(),
            last_sent_handshake: None,
            last_sent_initiation: None,
            initiation_requested: false,
            sent_lastminute_handshake: false,
            unanswered: 0,
            untaken: 0,
            scheduled: None,
        }
    }
}

impl<E> Session<E> {
    /// A session that keeps what waits for it in a room that others share.
    pub fn within(room: Arc<Room>) -> Self {
        Session { staged: Staged::within(room), ..Session::default() }
    }
}

/// Configuration and state.
impl<E: Endpoint> Session<E> {
    /// Where the peer is.
    pub fn endpoint(&self) -> Option<&E> {
        self.endpoint.as_ref()
    }

    /// Sets the endpoint by configuration. A live session stays.
    pub fn set_endpoint(&mut self, endpoint: E) {
        self.endpoint = Some(endpoint);
    }

    /// Forgets which local address reaches the peer.
    pub fn clear_source(&mut self) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.clear_source();
        }
    }

    /// The persistent keepalive's interval, `None` when it is off.
    pub fn keepalive_interval(&self) -> Option<Duration> {
        self.timers.keepalive_interval()
    }

    /// Sets the persistent keepalive's interval; returns whether one is to be sent now because it was just switched on.
    pub fn set_keepalive_interval(&mut self, interval: Option<Duration>) -> bool {
        let was_off = self.timers.keepalive_interval().is_none();
        self.timers.set_keepalive_interval(interval);
        was_off && interval.is_some() && self.timers.is_running()
    }

    /// The interface came up.
    pub fn start(&mut self) {
        self.timers.start();
    }

    /// Whether the interface is up.
    pub fn is_running(&self) -> bool {
        self.timers.is_running()
    }

    /// The interface went down, or the peer is being removed: keys, timers and staged packets go. Returns the indices
    /// that are no longer in use; the pending initiation is to be forgotten too.
    pub fn stop(&mut self) -> Vec<u32> {
        self.timers.stop();
        self.staged.purge();
        self.last_sent_handshake = None;
        self.initiation_requested = false;
        self.unanswered = 0;
        self.untaken = 0;
        // Whoever drops the deadlines of a stopped peer is told the next one.
        self.scheduled = None;
        self.clear_keypairs()
    }

    /// The device's private key was changed: nothing more is sent on the keys made with the old one, and a new handshake
    /// may start at once. What is still under way can be received.
    pub fn expire_keypairs(&mut self) {
        self.last_sent_handshake = None;
        for slot in [&mut self.current, &mut self.next].into_iter().flatten() {
            slot.may_send = false;
        }
    }

    /// Whether somebody counts on the session, or did at `now`: it has a key, waits for one, or is to be kept alive.
    pub fn is_in_use(&self, now: Instant) -> bool {
        let has_key = self.current.as_ref().is_some_and(|slot| !slot.keypair.is_expired(now));
        let is_wanted = self.timers.keepalive_interval().is_some() || self.timers.awaits_response();
        self.timers.is_running() && (has_key || is_wanted)
    }

    /// The way to the peer may be another: asks for a handshake `at`, or as soon after that as one may be.
    pub fn refresh(&mut self, at: Instant) {
        let due = self.last_sent_handshake.map(|last| last + REKEY_TIMEOUT);
        self.timers.handshake_asked_for(due.map_or(at, |due| at.max(due)));
    }

    /// How many initiations were sent since the peer was last heard.
    pub fn unanswered_initiations(&self) -> u32 {
        self.unanswered
    }

    /// The next deadline, when it is earlier than the one that was last reported here.
    pub fn wake(&mut self) -> Option<Instant> {
        let next = self.timers.next()?;
        if self.scheduled.is_some_and(|scheduled| scheduled <= next) {
            return None;
        }
        self.scheduled = Some(next);
        Some(next)
    }

    /// How many of our responses in a row the peer did not take, but asked again.
    pub fn untaken_responses(&self) -> u32 {
        self.untaken
    }

    fn clear_keypairs(&mut self) -> Vec<u32> {
        let slots = [self.next.take(), self.previous.take(), self.current.take()];
        slots.into_iter().flatten().map(|slot| slot.keypair.local_index()).collect()
    }
}

/// Sending (whitepaper 6.2, 6.4).
impl<E: Endpoint> Session<E> {
    /// Asks to send `count` packets, of which some are not empty if `has_data`, right away.
    pub fn begin_send(
        &mut self,
        count: usize,
        has_data: bool,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Result<Grant<E>, NotReady> {
        if self.is_flushing || !self.staged.is_empty() {
            return Err(match self.may_send(now) {
                true => NotReady::Behind,
                false => NotReady::NoKeypair { initiate: self.request_initiation(Attempt::First, now) },
            });
        }
        self.grant(count, has_data, now, rng)
    }

    /// Keeps `packet` until there is a session; returns how many older ones were dropped for it.
    pub fn stage(&mut self, packet: &[u8]) -> usize {
        self.staged.push(packet)
    }

    /// How many packets wait for a session.
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Stages a keepalive, unless something is staged that will do as well. Flush afterwards.
    pub fn keepalive(&mut self) {
        if self.staged.is_empty() {
            self.staged.push(&[]);
        }
    }

    /// Begins to send what is staged, if there is something and no other thread does so already.
    pub fn begin_flush(&mut self) -> Option<Flush> {
        if self.is_flushing || self.staged.is_empty() {
            return None;
        }
        self.is_flushing = true;
        Some(Flush(()))
    }

    /// The next staged packets to send. Without any, or without a key, the flush is over; in the latter case an
    /// initiation may have to be sent.
    pub fn next_batch(
        &mut self,
        flush: Flush,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Flush, Batch<E>), NotReady> {
        let count = self.staged.len().min(MAX_TRAIN);
        self.is_flushing = false;
        if count == 0 {
            return Err(NotReady::Behind);
        }
        let has_data = self.staged.peek_len() != Some(0) || count > 1;
        let grant = self.grant(count, has_data, now, rng)?;
        self.is_flushing = true;
        let packets = (0..count).filter_map(|_| self.staged.pop()).collect();
        Ok((flush, Batch { packets, grant }))
    }

    /// Ends the flush before its time; returns whether packets are left, which someone has to flush.
    pub fn end_flush(&mut self, _: Flush) -> bool {
        self.is_flushing = false;
        !self.staged.is_empty()
    }

    fn may_send(&self, now: Instant) -> bool {
        self.current.as_ref().is_some_and(|slot| slot.may_send && !slot.keypair.is_expired(now))
    }

    fn grant(
        &mut self,
        count: usize,
        has_data: bool,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Result<Grant<E>, NotReady> {
        let Some((keypair, first)) = self.take_nonces(count, now) else {
            return Err(NotReady::NoKeypair { initiate: self.request_initiation(Attempt::First, now) });
        };
        self.timers.any_authenticated_packet_traversal(now);
        self.timers.any_authenticated_packet_sent();
        if has_data {
            self.timers.data_sent(now, rng);
        }
        let is_old = first + count as u64 > REKEY_AFTER_MESSAGES
            || (keypair.is_initiator() && now.has_reached(keypair.birth(), REKEY_AFTER_TIME));
        Ok(Grant {
            nonces: Nonces::new(first, count),
            endpoint: self.endpoint.clone(),
            initiate: is_old && self.request_initiation(Attempt::First, now),
            keypair,
        })
    }

    /// Takes counters on the current key: on that one even after late messages on the previous, and never on `next`,
    /// which the peer has not confirmed. A key that is used up stays so.
    fn take_nonces(&mut self, count: usize, now: Instant) -> Option<(Arc<Keypair>, u64)> {
        let slot = self.current.as_mut()?;
        let first = slot.next_counter;
        let end = first.saturating_add(count as u64);
        if !slot.may_send || slot.keypair.is_expired(now) || end > REJECT_AFTER_MESSAGES {
            slot.may_send = false;
            return None;
        }
        slot.next_counter = end;
        Some((slot.keypair.clone(), first))
    }
}

/// Handshakes, as far as the session is concerned (whitepaper 6.2, 6.4).
impl<E: Endpoint> Session<E> {
    /// Whether an initiation is to be sent now. At most one in [`REKEY_TIMEOUT`], whatever the traffic; and none to a
    /// peer whose endpoint is not known.
    fn request_initiation(&mut self, attempt: Attempt, now: Instant) -> bool {
        if attempt != Attempt::Retry {
            self.timers.handshake_wanted();
        }
        if self.initiation_requested || self.endpoint.is_none() || !self.handshake_is_due(now) {
            return false;
        }
        self.initiation_requested = true;
        true
    }

    fn handshake_is_due(&self, now: Instant) -> bool {
        self.last_sent_handshake.is_none_or(|last| now.has_reached(last, REKEY_TIMEOUT))
    }

    /// The slow path takes up a requested initiation; false when it is not to be made after all.
    pub fn begin_initiation(&mut self, now: Instant) -> bool {
        self.initiation_requested = false;
        if !self.timers.is_running() || !self.handshake_is_due(now) {
            return false;
        }
        self.last_sent_handshake = Some(now);
        true
    }

    /// The initiation is about to be sent.
    pub fn initiation_sent(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        self.timers.any_authenticated_packet_traversal(now);
        self.timers.any_authenticated_packet_sent();
        self.timers.handshake_initiated(now, rng);
        self.last_sent_initiation = Some(now);
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// A response is about to be sent: its keypair waits for confirmation. Returns the indices that are no longer in
    /// use.
    #[must_use]
    pub fn response_sent(&mut self, keypair: Arc<Keypair>, now: Instant) -> Vec<u32> {
        self.last_sent_handshake = Some(now);
        self.timers.session_derived(now);
        self.timers.any_authenticated_packet_traversal(now);
        self.timers.any_authenticated_packet_sent();
        self.count_untaken(now);
        // The previous one goes as well: a responder needs only the key in use and the one to come.
        let retired = [self.next.replace(Slot::new(keypair)), self.previous.take()];
        retired.into_iter().flatten().map(|slot| slot.keypair.local_index()).collect()
    }

    /// Whoever takes a response confirms it at once, by a keepalive if there is nothing else to send; whoever does not asks
    /// again when its retransmission timer says so. What comes sooner or much later is another story.
    fn count_untaken(&mut self, now: Instant) {
        let Some(unconfirmed) = &self.next else {
            self.untaken = 0;
            return;
        };
        let since = unconfirmed.keypair.birth();
        if now.has_reached(since, 4 * REKEY_TIMEOUT) {
            self.untaken = 0;
        } else if now.has_reached(since, REKEY_TIMEOUT * 4 / 5) {
            self.untaken = self.untaken.saturating_add(1);
        }
    }

    /// A response to our initiation was consumed: its keypair is in use from now on. Returns the indices that are no
    /// longer in use.
    #[must_use]
    pub fn response_received(&mut self, keypair: Arc<Keypair>, now: Instant) -> Vec<u32> {
        self.timers.session_derived(now);
        self.timers.handshake_complete();
        self.sent_lastminute_handshake = false;
        let next = match self.peer_wins_crossing(&keypair) {
            true => None,
            false => self.next.take(),
        };
        let current = self.current.replace(Slot::new(keypair));
        // Of the key in use until now and the unconfirmed one, the peer is more likely to use the younger.
        let birth = |slot: &Option<Box<Slot>>| slot.as_ref().map(|slot| slot.keypair.birth());
        let (younger, older) =
            if birth(&next) >= birth(&current) { (next, current) } else { (current, next) };
        let retired = [core::mem::replace(&mut self.previous, younger), older];
        retired.into_iter().flatten().map(|slot| slot.keypair.local_index()).collect()
    }

    /// When both sides initiated at the same moment there are two sessions. The one whose initiation had the greater index
    /// stays, on both sides: ours serves until the peer's is confirmed. If each went on with its own, each would renew it
    /// at the same age, and initiations would cross again and again.
    fn peer_wins_crossing(&self, ours: &Keypair) -> bool {
        self.next.as_ref().is_some_and(|next| {
            Some(next.keypair.birth()) >= self.last_sent_initiation
                && next.keypair.remote_index() > ours.local_index()
        })
    }

    /// An authentic handshake message came from `endpoint`.
    pub fn handshake_received(&mut self, endpoint: E, now: Instant) {
        self.endpoint = Some(endpoint);
        self.unanswered = 0;
        self.timers.any_authenticated_packet_received();
        self.timers.any_authenticated_packet_traversal(now);
    }
}

/// Receiving (whitepaper 5.4.6, 6.2).
impl<E: Endpoint> Session<E> {
    /// Takes what the AEAD has authenticated of a train that came from `endpoint`: replays are sorted out, and the rest
    /// moves endpoint, keypairs and timers.
    pub fn finish_recv(&mut self, opened: &Opened, endpoint: &E, now: Instant) -> Received {
        let mut received = Received::default();
        let Some(slot) = self.slot_of(opened.keypair()) else { return received };
        let mut has_data = false;
        for message in opened.messages() {
            if slot.replay.accept(message.counter) {
                received.accepted |= 1 << message.position;
                has_data |= !message.is_keepalive;
            }
        }
        if received.accepted == 0 {
            return received;
        }
        if self.endpoint.as_ref() != Some(endpoint) {
            self.endpoint = Some(endpoint.clone());
        }
        self.confirm(opened.keypair(), &mut received);
        received.initiate = self.keep_key_fresh(now);
        self.unanswered = 0;
        self.timers.any_authenticated_packet_received();
        self.timers.any_authenticated_packet_traversal(now);
        if has_data {
            self.timers.data_received(now);
        }
        received
    }

    fn slot_of(&mut self, keypair: &Arc<Keypair>) -> Option<&mut Slot> {
        let slots = [&mut self.current, &mut self.next, &mut self.previous];
        slots.into_iter().flatten().map(|slot| &mut **slot).find(|slot| Arc::ptr_eq(&slot.keypair, keypair))
    }

    /// The first message on `next` confirms it: it comes into use, and sessions two back die.
    fn confirm(&mut self, keypair: &Arc<Keypair>, received: &mut Received) {
        let Some(next) = self.next.take_if(|next| Arc::ptr_eq(&next.keypair, keypair)) else { return };
        let dropped = core::mem::replace(&mut self.previous, self.current.replace(next));
        received.retired.extend(dropped.map(|slot| slot.keypair.local_index()));
        received.confirmed = true;
        self.untaken = 0;
        self.sent_lastminute_handshake = false;
        self.timers.handshake_complete();
    }

    /// Whoever only receives renews the session too, shortly before it is refused, and once.
    fn keep_key_fresh(&mut self, now: Instant) -> bool {
        let age = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;
        let is_old = self.current.as_ref().is_some_and(|slot| {
            slot.may_send && slot.keypair.is_initiator() && now.has_reached(slot.keypair.birth(), age)
        });
        if !is_old || self.sent_lastminute_handshake {
            return false;
        }
        self.sent_lastminute_handshake = true;
        self.request_initiation(Attempt::First, now)
    }
}

/// Timers (whitepaper 6).
impl<E: Endpoint> Session<E> {
    /// The deadline `at`, of which [`Session::wake`] told, was reached. `None` when it was superseded by an earlier one
    /// and handled then.
    pub fn on_deadline(&mut self, at: Instant, now: Instant) -> Option<Due> {
        if self.scheduled != Some(at) {
            return None;
        }
        self.scheduled = None;
        let expired = self.timers.expire(now);
        let mut due = Due {
            unanswered: expired.unanswered,
            gave_up: expired.give_up,
            silent: expired.initiate == Some(Attempt::First),
            ..Due::default()
        };
        if expired.give_up {
            self.staged.purge();
        }
        if let Some(attempt) = expired.initiate {
            if attempt != Attempt::Asked {
                // The source address that was used so far may be the trouble.
                self.clear_source();
            }
            due.initiate = self.request_initiation(attempt, now);
        }
        if expired.zero_key_material {
            due.zero_key_material = true;
            due.retired = self.clear_keypairs();
        }
        if expired.keepalive {
            self.keepalive();
            due.flush = true;
        }
        Some(due)
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timer_tests;
