//! Keys stay in memory: they are neither in a core dump nor swapped, and nobody without privileges reads along.

use std::io;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// No core dump, and neither `ptrace` nor `/proc/PID/mem` for other processes of the same user. The limit is for kernels
/// that dump all the same (`fs.suid_dumpable`).
pub(super) fn keep_from_dumps() -> Result<(), Errno> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)
}

/// Locks what there is and what will be, each page once it is used: stacks and arenas take no more than without.
///
/// All memory, and not only what has keys in it: they are also on stacks, in registers that were saved there, and in
/// buffers of the allocator's.
pub(super) fn keep_from_swap() -> io::Result<()> {
    // With a limit, an allocation fails some day: better no lock.
    let lifted = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    if lifted.is_err() && is_limited() && !may_lock() {
        let why = "memory may be swapped, for little may be locked (ulimit -l, CAP_IPC_LOCK)";
        return Err(io::Error::other(why));
    }
    let once_used = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | once_used)?)
}

/// Whether locked memory goes on counting, so that locking takes a capability for good: in containers root cannot lift the
/// limit, as a rule.
pub(super) fn is_limited() -> bool {
    getrlimit(Resource::RLIMIT_MEMLOCK).map_or(true, |(limit, _)| limit != RLIM_INFINITY)
}

fn may_lock() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_IPC_LOCK).unwrap_or(false)
}
