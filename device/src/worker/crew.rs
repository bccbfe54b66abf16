//! The workers as they see each other: who sleeps, who lends a hand, and the lanes where a hand is wanted.

use std::io;
use std::num::NonZeroUsize;

use super::lane::{Lane, Worked};
use super::rx::{self, Incoming};
use super::train::Convoy;
use super::tx;
use crate::outside;
use crate::state::Device;
use crate::sync::EventFd;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Workers at most. Each is a bit in a word; and their buffers are bounded, see [`buffer_bytes`](crate::buffer_bytes).
pub const MAX_WORKERS: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// A job of fewer bytes is done sooner than another processor is woken and has fetched it.
pub(super) const WORTH_A_CALL: usize = 16 << 10;
/// How many bytes of a long packet take as long as each packet does besides its bytes.
const PACKET_BYTES: usize = 256;

/// Whoever comes this late after being called, in nanoseconds, had to wait for a processor: all are busy.
const LATE: u64 = 100_000;
/// For how long nobody is called then, in nanoseconds.
const RESPITE: u64 = 20_000_000;

/// The worker that watches the descriptors of those who are relieved.
pub(super) const FIRST: usize = 0;
/// For how long there must have been no rush before anybody is relieved, in nanoseconds.
const CALM: u64 = 200_000_000;

/// All workers of a device.
pub(crate) struct Crew {
    members: Vec<Member>,
    /// Bit `i`: worker `i` waits for events.
    asleep: AtomicU64,
    /// Bit `i`: worker `i` looks for work in the others' lanes.
    helping: AtomicU64,
    /// Until when nobody is to be called, in nanoseconds since boot.
    quiet_until: AtomicU64,
    /// When there was much to do, to within [`CALM`], in nanoseconds since boot.
    rushed_at: AtomicU64,
}

/// What others may do with a worker: wake it, and work in its lanes.
pub(crate) struct Member {
    pub(crate) waker: EventFd,
    /// When it was last called, in nanoseconds since boot.
    called_at: AtomicU64,
    /// The first worker watches its descriptors; see `watch.rs`.
    is_relieved: AtomicBool,
    pub(super) tx: Lane<Convoy>,
    pub(super) rx: Lane<Incoming>,
}

impl Crew {
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub(crate) fn new(workers: NonZeroUsize) -> io::Result<Self> {
        let member = |number| {
            let (tx, rx) = (Lane::default(), Lane::default());
            let is_relieved = AtomicBool::new(number != FIRST);
            Ok(Member { waker: EventFd::new()?, called_at: AtomicU64::new(0), is_relieved, tx, rx })
        };
        let members = (0..workers.get()).map(member).collect::<io::Result<_>>()?;
        let zero = || AtomicU64::new(0);
        Ok(Crew { members, asleep: zero(), helping: zero(), quiet_until: zero(), rushed_at: zero() })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn wake_all(&self) {
        self.members.iter().for_each(|member| member.waker.wake());
    }

    pub(super) fn member(&self, number: usize) -> &Member {
        &self.members[number]
    }

    /// Calls a sleeping worker for a job of `packets` and `bytes` that is to be put into a lane. True when somebody is
    /// there to do it; false when its owner had better do it now.
    pub(super) fn call(&self, packets: usize, bytes: usize) -> bool {
        if self.members.len() == 1 || bytes + packets * PACKET_BYTES < WORTH_A_CALL {
            return false;
        }
        let asleep = self.asleep.load(SeqCst);
        if asleep == 0 {
            return self.is_helping();
        }
        let now = outside::boottime_ns();
        if now < self.quiet_until.load(SeqCst) {
            return false;
        }
        let number = asleep.trailing_zeros() as usize;
        let was_asleep = self.asleep.fetch_and(!(1 << number), SeqCst) & 1 << number != 0;
        if was_asleep {
            let member = &self.members[number];
            // Before it counts as helping: see `awakes`.
            member.called_at.store(now, SeqCst);
            self.set(&self.helping, number, true);
            member.waker.wake();
        }
        true
    }

    /// Whether somebody looks for work in the others' lanes.
    pub(super) fn is_helping(&self) -> bool {
        self.helping.load(SeqCst) != 0
    }

    /// Whether a job waits in a lane of another than worker `number`.
    pub(super) fn wants_help(&self, number: usize) -> bool {
        self.others(number).any(|member| member.rx.waiting() > 0 || member.tx.waiting() > 0)
    }

    /// Worker `number` does one job of another's; false if none waits.
    pub(super) fn help(&self, device: &Device, number: usize) -> bool {
        for member in self.others(number) {
            let worked = match rx::work(device, &member.rx) {
                Worked::Nothing => tx::work(&member.tx),
                worked => worked,
            };
            match worked {
                Worked::Nothing => continue,
                Worked::Done => {}
                Worked::OwnerSleeps => member.waker.wake(),
            }
            self.set(&self.helping, number, true);
            return true;
        }
        false
    }

    /// All but worker `number`.
    fn others(&self, number: usize) -> impl Iterator<Item = &Member> {
        let all = self.members.iter().enumerate();
        all.filter(move |(other, _)| *other != number).map(|(_, member)| member)
    }

    /// Worker `number` is about to wait for events.
    pub(super) fn sleeps(&self, number: usize) {
        if self.members.len() > 1 {
            self.set(&self.helping, number, false);
            self.set(&self.asleep, number, true);
        }
    }

    /// Worker `number` has something of its own to do.
    pub(super) fn helps_no_more(&self, number: usize) {
        self.set(&self.helping, number, false);
    }

    /// Sets or clears a worker's bit; the cache line stays shared if nothing changes.
    fn set(&self, bits: &AtomicU64, number: usize, value: bool) {
        let bit = 1 << number;
        match (bits.load(SeqCst) & bit != 0, value) {
            (false, true) => bits.fetch_or(bit, SeqCst),
            (true, false) => bits.fetch_and(!bit, SeqCst),
            _ => return,
        };
    }

    /// Worker `number` has events, or was called.
    pub(super) fn awakes(&self, number: usize) {
        if self.members.len() == 1 {
            return;
        }
        self.set(&self.asleep, number, false);
        if self.helping.load(SeqCst) & 1 << number != 0 {
            let now = outside::boottime_ns();
            if now.saturating_sub(self.members[number].called_at.load(SeqCst)) > LATE {
                self.quiet_until.store(now + RESPITE, SeqCst);
            }
        }
    }

    /// Bit `i`: worker `number` is to watch the descriptors of worker `i`.
    pub(super) fn watch_of(&self, number: usize) -> u64 {
        let members = self.members.iter().enumerate();
        let watched = members.filter(|(other, member)| match member.is_relieved.load(SeqCst) {
            true => number == FIRST,
            false => number == *other,
        });
        watched.fold(0, |bits, (other, _)| bits | 1 << other)
    }

    /// The first worker watches the descriptors of worker `number` from now on.
    pub(super) fn relieve(&self, number: usize) {
        self.members[number].is_relieved.store(true, SeqCst);
        self.members[FIRST].waker.wake();
    }

    /// All watch their own descriptors from now on.
    pub(super) fn relieve_nobody(&self) {
        for member in self.members.iter().filter(|member| member.is_relieved.swap(false, SeqCst)) {
            member.waker.wake();
        }
    }

    /// There is much to do.
    pub(super) fn rushes(&self) {
        let now = outside::boottime_ns();
        // Not for each train: the others read it.
        if now.saturating_sub(self.rushed_at.load(SeqCst)) > CALM / 4 {
            self.rushed_at.store(now, SeqCst);
        }
    }

    /// Whether there has been little to do for a while.
    pub(super) fn is_calm(&self) -> bool {
        outside::boottime_ns().saturating_sub(self.rushed_at.load(SeqCst)) > CALM
    }
}
