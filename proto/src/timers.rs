//! The five timers of a peer (whitepaper 6) as plain deadlines, and what each does when it is reached.
//!
//! | timer | armed by | then |
//! | --- | --- | --- |
//! | retransmit handshake | an initiation sent | send it again, or give up |
//! | send keepalive | data received | an empty packet, so that the peer knows we are here |
//! | new handshake | data sent | nothing came back: initiate |
//! | zero key material | keys derived | forget all of them |
//! | persistent keepalive | any authenticated packet | an empty packet, so that a NAT remembers us |
//!
//! The functions have the kernel's names without the prefix: what "any authenticated packet" includes matters.

use core::time::Duration;

use rand_core::CryptoRng;

use crate::limits::{
    ERASE_KEYS_AFTER, KEEPALIVE_TIMEOUT, MAX_TIMER_HANDSHAKES, REKEY_TIMEOUT, REKEY_TIMEOUT_JITTER_MAX_MS,
};
use crate::time::Instant;

/// What the timers that were reached ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expired {
    /// Send an initiation.
    pub initiate: Option<Attempt>,
    /// The last initiation was not answered: it is sent again, or the peer given up.
    pub unanswered: bool,
    /// Send a keepalive, or what is staged.
    pub keepalive: bool,
    /// The peer does not answer: drop what is staged.
    pub give_up: bool,
    /// Forget every key, the pending initiation's too.
    pub zero_key_material: bool,
}

/// Why an initiation is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// Something wants a session: the count of retries starts anew.
    First,
    /// The last initiation was not answered.
    Retry,
    /// The way to the peer has changed, which says nothing against the source address.
    Asked,
}

/// A peer's deadlines. While the interface is down none is armed.
#[derive(Default)]
pub struct Timers {
    is_running: bool,
    retransmit_handshake: Option<Instant>,
    send_keepalive: Option<Instant>,
    new_handshake: Option<Instant>,
    zero_key_material: Option<Instant>,
    persistent_keepalive: Option<Instant>,
    /// Not the paper's: when somebody has asked for a new handshake, whatever is received until then.
    asked_for: Option<Instant>,
    handshake_attempts: u32,
    keepalive_interval: Option<Duration>,
}

fn jitter(rng: &mut dyn CryptoRng) -> Duration {
    Duration::from_millis(u64::from(rng.next_u32() % REKEY_TIMEOUT_JITTER_MAX_MS))
}

impl Timers {
    /// The interface came up.
    pub fn start(&mut self) {
        self.is_running = true;
    }

    /// The interface went down: nothing is due any more.
    pub fn stop(&mut self) {
        *self = Timers { keepalive_interval: self.keepalive_interval, ..Timers::default() };
    }

    /// Whether the interface is up.
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// The persistent keepalive's interval, `None` when it is off.
    pub fn keepalive_interval(&self) -> Option<Duration> {
        self.keepalive_interval
    }

    /// Sets the persistent keepalive's interval. A running timer keeps its deadline, as the kernel's does; when it is
    /// reached after the keepalive was switched off nothing is sent.
    pub fn set_keepalive_interval(&mut self, interval: Option<Duration>) {
        self.keepalive_interval = interval;
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Instant> {
        let deadlines = [
            self.retransmit_handshake,
            self.send_keepalive,
            self.new_handshake,
            self.zero_key_material,
            self.persistent_keepalive,
            self.asked_for,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn arm(&self, at: Instant) -> Option<Instant> {
        self.is_running.then_some(at)
    }

    /// Data (not an empty packet) was sent.
    pub fn data_sent(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        if self.new_handshake.is_none() {
            self.new_handshake = self.arm(now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter(rng));
        }
    }

    /// Data (not an empty packet) was received.
    pub fn data_received(&mut self, now: Instant) {
        // The kernel also remembers that more came meanwhile and arms the timer again when it sends the keepalive; that
        // very keepalive then disarms it.
        if self.send_keepalive.is_none() {
            self.send_keepalive = self.arm(now + KEEPALIVE_TIMEOUT);
        }
    }

    /// Any authenticated packet was sent: data, keepalive or handshake.
    pub fn any_authenticated_packet_sent(&mut self) {
        self.send_keepalive = None;
    }

    /// Any authenticated packet was received: data, keepalive or handshake.
    pub fn any_authenticated_packet_received(&mut self) {
        self.new_handshake = None;
    }

    /// Any authenticated packet went either way.
    pub fn any_authenticated_packet_traversal(&mut self, now: Instant) {
        if let Some(interval) = self.keepalive_interval {
            self.persistent_keepalive = self.arm(now + interval);
        }
    }

    /// Something other than the retransmission timer wants a handshake.
    pub fn handshake_wanted(&mut self) {
        self.handshake_attempts = 0;
    }

    /// A new handshake is asked for, to begin `at`.
    pub fn handshake_asked_for(&mut self, at: Instant) {
        self.asked_for = self.arm(self.asked_for.map_or(at, |earlier| earlier.min(at)));
    }

    /// Whether an initiation was sent that may still be answered.
    pub fn awaits_response(&self) -> bool {
        self.retransmit_handshake.is_some()
    }

    /// An initiation was sent.
    pub fn handshake_initiated(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        self.asked_for = None;
        self.retransmit_handshake = self.arm(now + REKEY_TIMEOUT + jitter(rng));
    }

    /// The session stands: its response was consumed, or its first data received.
    pub fn handshake_complete(&mut self) {
        self.retransmit_handshake = None;
        self.handshake_attempts = 0;
    }

    /// New keys were derived.
    pub fn session_derived(&mut self, now: Instant) {
        self.zero_key_material = self.arm(now + ERASE_KEYS_AFTER);
    }

    /// Takes the deadlines that are reached at `now`.
    pub fn expire(&mut self, now: Instant) -> Expired {
        let mut expired = Expired::default();
        if take_due(&mut self.asked_for, now) {
            expired.initiate = Some(Attempt::Asked);
        }
        if take_due(&mut self.retransmit_handshake, now) {
            expired.unanswered = true;
            if self.handshake_attempts > MAX_TIMER_HANDSHAKES {
                expired.give_up = true;
                self.send_keepalive = None;
                // What is left of the exchange must not stay for ever.
                if self.zero_key_material.is_none() {
                    self.zero_key_material = self.arm(now + ERASE_KEYS_AFTER);
                }
            } else {
                self.handshake_attempts += 1;
                expired.initiate = Some(Attempt::Retry);
            }
        }
        if take_due(&mut self.send_keepalive, now) {
            expired.keepalive = true;
        }
        if take_due(&mut self.new_handshake, now) {
            expired.initiate = Some(Attempt::First);
        }
        if take_due(&mut self.zero_key_material, now) {
            expired.zero_key_material = true;
        }
        if take_due(&mut self.persistent_keepalive, now) {
            expired.keepalive |= self.keepalive_interval.is_some();
        }
        expired
    }
}

fn take_due(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|at| *at <= now).is_some()
}
