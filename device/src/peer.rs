//! A peer as the threads share it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use adit_control::{LastHandshake, Prefix, PublicKey};
use adit_proto::handshake::{Handshake, Timestamps};
use adit_proto::session::Session;
use adit_proto::staged::Room;
use adit_proto::time::Tai64n;

use crate::endpoint::Endpoint;
use crate::names::Name;
use crate::outside;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::ways::KnownWay;
use crate::why::PeerRecord;

const NANOS: u64 = 1_000_000_000;

pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    /// Peers are listed in the order in which they were added.
    pub(crate) order: u64,
    /// Apart from the session, so that a rekey's multiplications never stall data.
    pub(crate) handshake: Mutex<Handshake>,
    pub(crate) session: Mutex<Session<Endpoint>>,
    /// Set under the session's lock; whoever holds that and sees it leaves the peer alone.
    pub(crate) is_removed: AtomicBool,
    /// The prefixes that lead here in the routing table, in the order in which they were added. The control thread's.
    pub(crate) allowed_ips: Mutex<BTreeMap<u64, Prefix>>,
    /// Taken before the session's lock, never within.
    pub(crate) name: Mutex<Option<Name>>,
    pub(crate) way: Mutex<Option<KnownWay>>,
    pub(crate) rx_bytes: AtomicU64,
    pub(crate) tx_bytes: AtomicU64,
    /// Wall clock, nanoseconds since the epoch; zero for never.
    last_handshake: AtomicU64,
    /// When its clock was last complained about, in minutes since boot.
    clock_reported: AtomicU64,
    /// What came to nothing, and why.
    pub(crate) record: PeerRecord,
    /// The last initiation was answered, but the answer was of no use.
    pub(crate) answered_in_vain: AtomicBool,
}

impl Peer {
    /// What waits for its session is kept in `room`.
    pub(crate) fn new(public_key: PublicKey, order: u64, timestamps: Timestamps, room: Arc<Room>) -> Self {
        Peer {
            public_key,
            order,
            handshake: Mutex::new(Handshake::new(*public_key.as_bytes(), timestamps)),
            session: Mutex::new(Session::within(room)),
            is_removed: AtomicBool::new(false),
            allowed_ips: Mutex::default(),
            name: Mutex::default(),
            way: Mutex::default(),
            rx_bytes: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
            last_handshake: AtomicU64::new(0),
            clock_reported: AtomicU64::new(0),
            record: PeerRecord::default(),
            answered_in_vain: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.is_removed.load(Relaxed)
    }

    pub(crate) fn handshake_completed(&self) {
        let (seconds, nanos) = outside::realtime();
        self.last_handshake.store(seconds * NANOS + u64::from(nanos), Relaxed);
    }

    pub(crate) fn last_handshake(&self) -> Option<LastHandshake> {
        match self.last_handshake.load(Relaxed) {
            0 => None,
            at => Some((at / NANOS, (at % NANOS) as u32)),
        }
    }

    /// An initiation was refused for its timestamp. When the greatest one lies ahead, it was made by a clock that ran
    /// ahead, and what the right clock says now is refused until that time comes (CVE-2021-46873): the administrator must
    /// know. Once a minute at most, since anybody can send an old initiation again.
    pub(crate) fn report_clock(&self, latest: Tai64n) {
        let (seconds, _) = outside::realtime();
        let minute = outside::boottime_ns() / NANOS / 60 + 1;
        if latest > Tai64n::from_unix(seconds + 60, 0) && self.clock_reported.swap(minute, Relaxed) != minute
        {
            log::warn!(
                "{self}: refused, for it has sent a timestamp that lies ahead before: its clock was wrong. Start this \
                 program anew, or give the peer another key"
            );
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.rx_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.tx_bytes.fetch_add(bytes as u64, Relaxed);
    }
}

/// As logs name it: by the ends of its public key.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer({:?})", self.public_key)
    }
}
