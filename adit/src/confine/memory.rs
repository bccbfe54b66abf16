//! Keys stay in memory: they are neither in a core dump nor swapped, and nobody without privileges reads along.

use std::io;

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
    let once_used = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let all = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | once_used;
    let lifted = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    if lifted.is_ok() || !is_limited() {
        return Ok(mlockall(all)?);
    }
    // With a limit, an allocation fails some day, unless the capability counts: better no lock. In a user namespace of its own a
    // process has it, and it does not count. So the kernel is asked, which without it lets nothing be locked where the limit is zero.
    let (limit, most) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, 0, most)?;
    mlockall(all).map_err(|_| {
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, limit, most);
        io::Error::other("memory may be swapped, for little may be locked (ulimit -l, CAP_IPC_LOCK)")
    })
}

/// Whether locked memory goes on counting, so that locking takes a capability for good: in containers root cannot lift the
/// limit, as a rule.
pub(super) fn is_limited() -> bool {
    getrlimit(Resource::RLIMIT_MEMLOCK).map_or(true, |(limit, _)| limit != RLIM_INFINITY)
}
