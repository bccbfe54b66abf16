//! Remembering why packets and handshakes came to nothing: counters by reason, for the device and for each peer, and what
//! happened last.
//!
//! Called only where something is given up anyway, so that what passes costs nothing. Under a flood a note is a look at
//! the clock, four stores without a lock, and a place among the events that it has already; of threads that note something
//! at the same moment only one touches the events, and the others go on without: the counters are exact, an event's count
//! may be short of some.

use std::array;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, TryLockError};
use std::time::Duration;

use adit_control::why::REASONS;
use adit_control::why::{Event, PeerWhy, Tally, Why};
use adit_control::{PublicKey, Reason};
use adit_proto::time::{Instant, Tai64n};

use crate::lock::Lock;
use crate::peer::Peer;
use crate::state::Device;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Mutex, OnceLock};

/// Events that are remembered; then the one that is over for the longest is forgotten. About 16 KiB.
const MAX_EVENTS: usize = 64;
/// What happens again within this time is the same event: a flood is one, and so are initiations that nobody answers.
const SAME_EVENT: Duration = Duration::from_secs(60);
/// A timestamp that lies further ahead of this machine's clock was made by one that is wrong.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// What there is to note.
#[derive(Clone, Copy)]
pub(crate) struct Note<'a> {
    reason: Reason,
    count: u64,
    peer: Option<&'a Peer>,
    stranger: Option<PublicKey>,
    endpoint: Option<SocketAddr>,
    address: Option<IpAddr>,
    errno: Option<i32>,
    clock_off: Option<Duration>,
}

impl<'a> Note<'a> {
    pub(crate) fn new(reason: Reason) -> Self {
        Note {
            reason,
            count: 1,
            peer: None,
            stranger: None,
            endpoint: None,
            address: None,
            errno: None,
            clock_off: None,
        }
    }

    /// It happened so many times at once.
    pub(crate) fn times(self, count: usize) -> Self {
        Note { count: count as u64, ..self }
    }

    /// It is known which peer it is about.
    pub(crate) fn peer(self, peer: &'a Peer) -> Self {
        Note { peer: Some(peer), ..self }
    }

    /// Somebody who is no peer claims to have this key.
    pub(crate) fn stranger(self, key: PublicKey) -> Self {
        Note { stranger: Some(key), ..self }
    }

    /// Where the message came from, or was to go.
    pub(crate) fn at(self, endpoint: SocketAddr) -> Self {
        Note { endpoint: Some(endpoint), ..self }
    }

    /// The address within the tunnel.
    pub(crate) fn about(self, address: IpAddr) -> Self {
        Note { address: Some(address), ..self }
    }

    /// What the system said.
    pub(crate) fn errno(self, errno: Option<i32>) -> Self {
        Note { errno, ..self }
    }

    fn clock_off(self, by: Duration) -> Self {
        Note { clock_off: Some(by), ..self }
    }

    /// What makes it the same event as another: not what a sender can choose, or a flood would wash everything else away.
    fn identity(&self) -> (Reason, u64) {
        (self.reason, self.peer.map_or(0, |peer| peer.order))
    }
}

/// How often, and when last, in nanoseconds since boot.
#[derive(Default)]
struct Counter {
    count: AtomicU64,
    last: AtomicU64,
}

/// By reason.
struct Counters([Counter; Reason::COUNT]);

impl Default for Counters {
    fn default() -> Self {
        Counters(array::from_fn(|_| Counter::default()))
    }
}

impl Counters {
    fn add(&self, reason: Reason, count: u64, now: Instant) {
        let counter = &self.0[reason as usize];
        counter.count.fetch_add(count, Relaxed);
        counter.last.store(now.as_nanos(), Relaxed);
    }

    fn tallies(&self, now: Instant) -> Vec<Tally> {
        let tallies = self.0.iter().zip(REASONS).map(|(counter, described)| Tally {
            reason: described.reason,
            count: counter.count.load(Relaxed),
            age: now.since(Instant::from_nanos(counter.last.load(Relaxed))),
        });
        tallies.filter(|tally| tally.count > 0).collect()
    }
}

/// What a peer keeps of this.
#[derive(Default)]
pub(crate) struct PeerRecord {
    /// Most peers give no reason, ever.
    counters: OnceLock<Box<Counters>>,
    /// The timestamp that was last refused: one that comes again is a recorded one.
    refused: Mutex<Tai64n>,
}

/// An event, as it is remembered.
struct Row {
    identity: (Reason, u64),
    count: u64,
    first: Instant,
    last: Instant,
    peer: Option<PublicKey>,
    endpoint: Option<SocketAddr>,
    address: Option<IpAddr>,
    errno: Option<i32>,
    clock_off: Option<Duration>,
}

impl Row {
    fn new(note: &Note<'_>, now: Instant) -> Self {
        Row {
            identity: note.identity(),
            count: note.count,
            first: now,
            last: now,
            peer: note.peer.map(|peer| peer.public_key).or(note.stranger),
            endpoint: note.endpoint,
            address: note.address,
            errno: note.errno,
            clock_off: note.clock_off,
        }
    }

    fn again(&mut self, note: &Note<'_>, now: Instant) {
        let before = Row { first: self.first, count: self.count + note.count, ..Row::new(note, now) };
        *self = before;
    }

    fn event(&self, now: Instant) -> Event {
        Event {
            reason: self.identity.0,
            count: self.count,
            age: now.since(self.last),
            first_age: now.since(self.first),
            peer: self.peer,
            endpoint: self.endpoint,
            address: self.address,
            errno: self.errno,
            clock_off: self.clock_off,
        }
    }
}

/// What the device keeps of this.
pub(crate) struct Record {
    counters: Counters,
    rows: Mutex<Vec<Row>>,
}

impl Default for Record {
    fn default() -> Self {
        // All of it now: nothing is allocated where packets pass.
        Record { counters: Counters::default(), rows: Mutex::new(Vec::with_capacity(MAX_EVENTS)) }
    }
}

impl Record {
    fn note(&self, note: &Note<'_>, now: Instant) {
        self.counters.add(note.reason, note.count, now);
        if let Some(peer) = note.peer {
            peer.record.counters.get_or_init(Box::default).add(note.reason, note.count, now);
        }
        let mut rows = match self.rows.try_lock() {
            Ok(rows) => rows,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let identity = note.identity();
        let is_same = |row: &&mut Row| row.identity == identity && !now.has_reached(row.last, SAME_EVENT);
        if let Some(row) = rows.iter_mut().find(is_same) {
            return row.again(note, now);
        }
        if rows.len() == MAX_EVENTS
            && let Some((oldest, _)) = rows.iter().enumerate().min_by_key(|(_, row)| row.last)
        {
            rows.swap_remove(oldest);
        }
        rows.push(Row::new(note, now));
    }

    fn events(&self, now: Instant) -> Vec<Event> {
        let rows = self.rows.locked();
        let mut newest_first: Vec<&Row> = rows.iter().collect();
        newest_first.sort_by_key(|row| std::cmp::Reverse(row.last));
        newest_first.into_iter().map(|row| row.event(now)).collect()
    }
}

impl Device {
    /// Something came to nothing.
    #[cold]
    #[inline(never)]
    pub(crate) fn note(&self, note: Note<'_>) {
        self.record.note(&note, Self::now());
    }

    /// An initiation of `peer` with the timestamp `refused` was refused, for one with `greatest` was taken before.
    pub(crate) fn note_clock(&self, peer: &Peer, from: SocketAddr, refused: Tai64n, greatest: Tai64n) {
        let before = std::mem::replace(&mut *peer.record.refused.locked(), refused);
        let here = Self::timestamp();
        let (behind, ahead) = (here.since(&refused), greatest.since(&here));
        let note = if refused == greatest || refused == before {
            Note::new(Reason::ReplayedInitiation)
        } else if ahead > CLOCKS_DIFFER {
            Note::new(Reason::ClockWasAhead).clock_off(ahead)
        } else {
            Note::new(Reason::ClockBehind).clock_off(behind)
        };
        self.note(note.peer(peer).at(from));
    }

    /// What the device and `peers` have to say.
    pub(crate) fn why(&self, peers: &[Arc<Peer>]) -> Why {
        let now = Self::now();
        let of_peer = |peer: &Arc<Peer>| {
            let tallies = peer.record.counters.get()?.tallies(now);
            Some(PeerWhy { public_key: peer.public_key, tallies })
        };
        Why {
            is_listening: self.sockets().is_some(),
            tallies: self.record.counters.tallies(now),
            peers: peers.iter().filter_map(of_peer).collect(),
            events: self.record.events(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use adit_proto::handshake::Timestamps;

    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    fn peer(number: u8) -> Peer {
        Peer::new(PublicKey::new([number; 32]), number.into(), Timestamps::default(), Arc::default())
    }

    #[test]
    fn a_flood_is_one_event_whatever_its_sender_chooses() {
        let record = Record::default();
        let quiet = peer(1);
        record.note(&Note::new(Reason::SourceNotAllowed).peer(&quiet), START);
        for n in 0..200_000_u32 {
            let from = (std::net::Ipv4Addr::from(n), n as u16).into();
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let now = START + Duration::from_micros(n.into());
            record.note(&Note::new(Reason::BadMac1).at(from), now);
            record.note(&Note::new(Reason::UnknownPeer).at(from).stranger(PublicKey::new(key)), now);
        }
        let now = START + Duration::from_secs(1);
        let events = record.events(now);
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].count, 200_000);
        assert_eq!((events[2].reason, events[2].peer), (Reason::SourceNotAllowed, Some(quiet.public_key)));
        let tallies = record.counters.tallies(now);
        assert_eq!(tallies.iter().map(|tally| tally.count).collect::<Vec<_>>(), [200_000, 200_000, 1]);
        assert_eq!(quiet.record.counters.get().unwrap().tallies(now).len(), 1);
    }

    #[test]
    fn what_happens_again_later_is_another_event_and_the_oldest_are_forgotten() {
        let record = Record::default();
        for minute in 0..100 {
            record.note(&Note::new(Reason::NoAnswer), START + Duration::from_secs(120 * minute));
            record.note(&Note::new(Reason::NoAnswer), START + Duration::from_secs(120 * minute + 5));
        }
        let events = record.events(START + Duration::from_secs(120 * 100));
        assert_eq!(events.len(), MAX_EVENTS);
        assert_eq!((events[0].count, events[0].age), (2, Duration::from_secs(115)));
        assert_eq!(events[0].first_age, Duration::from_secs(120));
        assert!(events.is_sorted_by_key(|event| event.age));
        assert_eq!(record.rows.locked().capacity(), MAX_EVENTS);
    }

    /// Nobody waits for whoever reads the events.
    #[test]
    fn counters_are_exact_when_the_events_are_taken() {
        let record = Record::default();
        let rows = record.rows.locked();
        record.note(&Note::new(Reason::NoRoute).times(5), START);
        drop(rows);
        assert_eq!(record.counters.tallies(START)[0].count, 5);
        assert!(record.events(START).is_empty());
    }

    #[test]
    fn recorded_initiations_and_wrong_clocks_are_told_apart() {
        let device = Device::new(std::num::NonZeroUsize::MIN, None).unwrap();
        let (peer, from) = (peer(1), (std::net::Ipv4Addr::LOCALHOST, 1).into());
        let (now, _) = adit_net::clock::realtime();
        let at = |seconds: u64| Tai64n::from_unix(seconds, 0);
        device.note_clock(&peer, from, at(now - 100), at(now - 100));
        // Its clock was set back by an hour, and goes on from there.
        device.note_clock(&peer, from, at(now - 3700), at(now - 100));
        device.note_clock(&peer, from, at(now - 3695), at(now - 100));
        device.note_clock(&peer, from, at(now - 3695), at(now - 100));
        // It was ahead by an hour, and is right now.
        device.note_clock(&peer, from, at(now), at(now + 3600));
        let why = device.why(&[Arc::new(peer)]);
        let counts: Vec<_> = why.peers[0].tallies.iter().map(|tally| (tally.reason, tally.count)).collect();
        let expected =
            [(Reason::ReplayedInitiation, 2), (Reason::ClockBehind, 2), (Reason::ClockWasAhead, 1)];
        assert_eq!(counts, expected);
        let off = |reason| why.events.iter().find(|event| event.reason == reason).unwrap().clock_off.unwrap();
        assert!((3690..3800).contains(&off(Reason::ClockBehind).as_secs()));
        assert!((3500..=3600).contains(&off(Reason::ClockWasAhead).as_secs()));
    }
}
