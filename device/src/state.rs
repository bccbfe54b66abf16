//! What the threads share.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use adit_control::{PublicKey, Reason};
use adit_net::netlink::RouteLookup;
use adit_net::tun::DEFAULT_MTU;
use adit_net::udp::{Bound, LocalAddr};
use adit_proto::allowed_ips::AllowedIps;
use adit_proto::cookie::{Checker, Mac1Key};
use adit_proto::handshake::Identity;
use adit_proto::index::IndexTable;
use adit_proto::keypair::Keypair;
use adit_proto::message::{HandshakeMessage, WithMacs};
use adit_proto::session::Session;
use adit_proto::staged::Room;
use adit_proto::time::{Instant, Tai64n};

use crate::deadlines::Deadlines;
use crate::endpoint::Endpoint;
use crate::key_log::KeyLogFile;
use crate::lock::{Lock, Shared};
use crate::names::Resolver;
use crate::outside;
use crate::peer::Peer;
use crate::queue::{Arrival, Inbox, Lane};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{EventFd, Mutex, RwLock};
use crate::why::{Note, Record};
use crate::worker::Crew;

/// A prefix's peer.
pub(crate) struct Route {
    pub(crate) peer: Arc<Peer>,
    /// Its place in the peer's list.
    pub(crate) order: u64,
}

/// What an index stands for.
#[derive(Clone)]
pub(crate) enum Indexed {
    /// Our pending initiation.
    Handshake(Arc<Peer>),
    /// A session.
    Keypair(Arc<Peer>, Arc<Keypair>),
}

impl Indexed {
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        match self {
            Indexed::Handshake(peer) | Indexed::Keypair(peer, _) => peer,
        }
    }
}

/// The device's static key, and the keys for MACs that derive from it.
pub(crate) struct OwnKey {
    pub(crate) identity: Identity,
    pub(crate) mac1_key: Mac1Key,
    pub(crate) checker: Mutex<Checker>,
}

impl OwnKey {
    pub(crate) fn new(identity: Identity) -> Self {
        let checker = Mutex::new(Checker::new(identity.public_key()));
        let mac1_key = Mac1Key::new(identity.public_key());
        OwnKey { identity, mac1_key, checker }
    }

    /// Whether the sender of `message` shows the cookie of the address that it came from. Most show none.
    pub(crate) fn knows(&self, message: &dyn WithMacs, from: SocketAddr, now: Instant) -> bool {
        *message.mac2() != [0; 16] && self.checker.locked().mac2_is_valid(message, from, now)
    }
}

pub(crate) struct Device {
    pub(crate) own_key: RwLock<Option<Arc<OwnKey>>>,
    pub(crate) peers: RwLock<HashMap<PublicKey, Arc<Peer>>>,
    pub(crate) routes: RwLock<AllowedIps<Route>>,
    pub(crate) indices: RwLock<IndexTable<Indexed>>,
    /// What peers have staged.
    pub(crate) staged: Arc<Room>,
    /// While the interface is up.
    pub(crate) sockets: RwLock<Option<Arc<Bound>>>,
    /// Of the interface, in bytes.
    pub(crate) mtu: AtomicUsize,
    pub(crate) fwmark: AtomicU32,
    /// Counts the changes of the system's routes and addresses.
    pub(crate) routes_changed: AtomicU64,
    pub(crate) route_lookup: Mutex<RouteLookup>,
    pub(crate) resolver: Resolver,
    pub(crate) inbox: Inbox,
    pub(crate) deadlines: Deadlines,
    /// Wakes the slow path.
    pub(crate) slow_path: EventFd,
    /// To be woken when the sockets were changed.
    pub(crate) crew: Crew,
    /// Wakes the control thread: the end has come.
    pub(crate) end: EventFd,
    pub(crate) is_ending: AtomicBool,
    pub(crate) key_log: Option<KeyLogFile>,
    /// What came to nothing, and why.
    pub(crate) record: Record,
}

impl Device {
    /// A device without a key, peers or sockets; `key_log` gets the secrets of every handshake.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`: it needs some descriptors of its own.
    pub(crate) fn new(workers: NonZeroUsize, key_log: Option<KeyLogFile>) -> io::Result<Self> {
        Ok(Device {
            own_key: RwLock::default(),
            peers: RwLock::default(),
            routes: RwLock::default(),
            indices: RwLock::default(),
            staged: Arc::default(),
            sockets: RwLock::default(),
            mtu: AtomicUsize::new(DEFAULT_MTU as usize),
            fwmark: AtomicU32::new(0),
            routes_changed: AtomicU64::new(0),
            route_lookup: RouteLookup::open()?.into(),
            resolver: Resolver::default(),
            inbox: Inbox::default(),
            deadlines: Deadlines::new()?,
            slow_path: EventFd::new()?,
            crew: Crew::new(workers)?,
            end: EventFd::new()?,
            is_ending: AtomicBool::new(false),
            key_log,
            record: Record::default(),
        })
    }

    /// The device's clock.
    pub(crate) fn now() -> Instant {
        Instant::from_nanos(outside::boottime_ns())
    }

    /// The wall clock, for initiations.
    pub(crate) fn timestamp() -> Tai64n {
        let (seconds, nanos) = outside::realtime();
        Tai64n::from_unix(seconds, nanos)
    }

    pub(crate) fn own_key(&self) -> Option<Arc<OwnKey>> {
        self.own_key.shared().clone()
    }

    pub(crate) fn sockets(&self) -> Option<Arc<Bound>> {
        self.sockets.shared().clone()
    }

    pub(crate) fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed)
    }

    /// The endpoint that a packet from `from`, sent to our address `local`, speaks for.
    pub(crate) fn endpoint_from(&self, addr: SocketAddr, local: Option<LocalAddr>) -> Endpoint {
        Endpoint { addr, local, is_pinned: true, routes_seen: self.routes_changed.load(Ordering::Relaxed) }
    }

    /// Hands a handshake message to the slow path, if its mac1 is valid: whoever does not know our public key costs one
    /// hash, and takes nobody's place in the queue. A cookie reply has no mac1, but has to name an index in use.
    pub(crate) fn handshake_arrived(&self, arrival: Arrival) {
        let from = arrival.from;
        let queued = self
            .lane_of(&arrival)
            .and_then(|lane| self.inbox.push_arrival(lane, arrival).map_err(|_| Reason::HandshakeQueueFull));
        match queued {
            Ok(true) => self.slow_path.wake(),
            Ok(false) => {}
            Err(reason) => self.note(Note::new(reason).at(from)),
        }
    }

    fn lane_of(&self, arrival: &Arrival) -> Result<Lane, Reason> {
        let Some(message) = arrival.message.with_macs() else { return self.lane_of_reply(&arrival.message) };
        let own = self.own_key().ok_or(Reason::NoPrivateKey)?;
        match own.mac1_key.verifies(message) {
            true if own.knows(message, arrival.from, Self::now()) => Ok(Lane::Proven),
            true => Ok(Lane::Unproven),
            false => Err(Reason::BadMac1),
        }
    }

    fn lane_of_reply(&self, message: &HandshakeMessage) -> Result<Lane, Reason> {
        let HandshakeMessage::CookieReply(reply) = message else { return Err(Reason::BadHandshake) };
        let is_known = self.indices.shared().get(reply.receiver()).is_some();
        if is_known { Ok(Lane::Replies) } else { Err(Reason::UnknownIndex) }
    }

    /// The same for several messages, at most 64, which are mostly a flood's: what can be done once for all is.
    pub(crate) fn handshakes_arrived(&self, arrivals: &mut Vec<Arrival>) {
        let (with_macs, replies): (Vec<Arrival>, Vec<Arrival>) =
            arrivals.drain(..).partition(|arrival| arrival.message.with_macs().is_some());
        replies.into_iter().for_each(|reply| self.handshake_arrived(reply));
        let Some(last) = with_macs.last().map(|arrival| arrival.from) else { return };
        let note = |reason, count: usize| {
            if count > 0 {
                self.note(Note::new(reason).times(count).at(last));
            }
        };
        let Some(own) = self.own_key() else { return note(Reason::NoPrivateKey, with_macs.len()) };
        let messages: Vec<_> = with_macs.iter().filter_map(|arrival| arrival.message.with_macs()).collect();
        let valid = own.mac1_key.verifies_all(&messages);
        note(Reason::BadMac1, messages.len() - valid.count_ones() as usize);
        if valid == 0 {
            return;
        }
        // Most show no cookie, and need not be asked about it.
        let shows = |at: &usize| valid & 1 << at != 0 && *messages[*at].mac2() != [0; 16];
        let shown: Vec<usize> = (0..messages.len()).filter(shows).collect();
        let claims: Vec<_> = shown.iter().map(|at| (messages[*at], with_macs[*at].from)).collect();
        let mut proven = 0_u64;
        if !claims.is_empty() {
            let true_claims = own.checker.locked().mac2s_are_valid(&claims, Self::now());
            for (claim, at) in shown.iter().enumerate() {
                proven |= (true_claims >> claim & 1) << at;
            }
        }
        let taken = with_macs.into_iter().enumerate().filter(|(at, _)| valid & 1 << at != 0);
        let in_lanes = taken.map(|(at, arrival)| {
            let lane = if proven & 1 << at != 0 { Lane::Proven } else { Lane::Unproven };
            (lane, arrival)
        });
        let (has_to_be_woken, dropped) = self.inbox.push_arrivals(in_lanes);
        if has_to_be_woken {
            self.slow_path.wake();
        }
        note(Reason::HandshakeQueueFull, dropped);
    }

    /// Has the slow path send an initiation, which the session has asked for.
    pub(crate) fn initiate(&self, peer: &Arc<Peer>) {
        self.inbox.push_initiation(peer.clone());
        self.slow_path.wake();
    }

    /// To be called, with its lock still held, whenever the session's timers may have moved.
    pub(crate) fn schedule(&self, peer: &Arc<Peer>, session: &mut Session<Endpoint>) {
        if let Some(at) = session.wake()
            && !self.deadlines.add(at, peer)
        {
            self.slow_path.wake();
        }
    }

    /// Frees indices that a session no longer uses.
    pub(crate) fn retire(&self, indices: impl IntoIterator<Item = u32>) {
        let mut indices = indices.into_iter().peekable();
        if indices.peek().is_some() {
            let mut table = self.indices.exclusive();
            indices.for_each(|index| drop(table.remove(index)));
        }
    }

    /// Takes keys, timers and what is staged from `peer`: the interface went down, or the peer is removed.
    pub(crate) fn stop_peer(&self, peer: &Peer) {
        let retired = peer.session.locked().stop();
        // After that: an initiation that is being made meanwhile finds the session stopped, or is found here.
        let pending = peer.handshake.locked().forget_pending();
        self.retire(pending.into_iter().chain(retired));
    }

    /// Ends the engine, from any thread.
    pub(crate) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.end.wake();
        self.slow_path.wake();
        self.crew.wake_all();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }
}
