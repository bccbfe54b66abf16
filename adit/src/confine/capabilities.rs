//! Which capabilities remain (capabilities(7)).

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

use super::Purpose;

/// What an engine may come to need at any time.
const OF_ENGINES: [Capability; 3] = [
    // A mark for its packets, sockets' buffers beyond the system's limit, where the interface has been moved to.
    Capability::CAP_NET_ADMIN,
    // A listen port below 1024 may be set at any time.
    Capability::CAP_NET_BIND_SERVICE,
    // Hearing of the interface in another namespace. It serves for nothing else.
    Capability::CAP_NET_BROADCAST,
];

/// The kernel's own interfaces tell nobody with less.
const OF_METRICS: [Capability; 1] = [Capability::CAP_NET_ADMIN];

/// Gives up all others for good: also no program that this process might start has them. `locks` says that memory is locked
/// against a limit, which takes one more.
pub(super) fn reduce(purpose: Purpose<'_>, locks: bool) -> Result<(), CapsError> {
    let mut needed: CapsHashSet = match purpose {
        Purpose::Engine => OF_ENGINES.into(),
        Purpose::Metrics(_) => OF_METRICS.into(),
    };
    needed.extend(locks.then_some(Capability::CAP_IPC_LOCK));
    // Before Linux 4.3 there is no such set.
    let _ = caps::clear(None, CapSet::Ambient);
    keep(CapSet::Inheritable, &CapsHashSet::new())?;
    // Who has none to drop from this set (CAP_SETPCAP) cannot gain any by starting a program either (no_new_privs).
    for other in caps::runtime::thread_all_supported().difference(&needed) {
        let _ = caps::drop(None, CapSet::Bounding, *other);
    }
    keep(CapSet::Effective, &needed)?;
    keep(CapSet::Permitted, &needed)
}

/// Where nothing is to be given up, nothing is asked: a service manager may have forbidden the call, having done it itself.
fn keep(set: CapSet, needed: &CapsHashSet) -> Result<(), CapsError> {
    let had = caps::read(None, set)?;
    let kept: CapsHashSet = had.intersection(needed).copied().collect();
    if kept == had { Ok(()) } else { caps::set(None, set, &kept) }
}
