//! A kernel that refuses: system calls of a program fail as they would on another kernel, or at a bad moment.
//!
//! [`refusing`] makes every call of some form fail, by a seccomp filter that programs inherit from the thread that starts
//! them: a kernel that lacks something. [`failing`] makes the n-th call of a thread fail, by strace: a kernel that
//! changes its mind. The program itself notices neither.

use std::collections::BTreeMap;
use std::thread;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use crate::engine::Program;

/// System calls that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `setsockopt` of this level and name, with `ENOPROTOOPT`.
    SocketOption(i32, i32),
    /// `ioctl` of this request, with `EINVAL`.
    Ioctl(u64),
    /// `ioctl` of this request with any of these bits in its argument, with `EINVAL`.
    IoctlBit(u64, u64),
    /// `writev` of this many parts or more, with `EINVAL`.
    WritevParts(u64),
    /// `bpf`, with `EPERM`.
    Bpf,
}

impl Refusal {
    fn install(self) {
        use SeccompCmpArgLen::{Dword, Qword};
        use SeccompCmpOp::{Eq, Ge, MaskedEq};
        let condition = |index, len, op, value| {
            SeccompCondition::new(index, len, op, value).expect("system calls have six arguments")
        };
        let (call, errno, conditions) = match self {
            Self::SocketOption(level, name) => {
                let conditions =
                    [(1, level), (2, name)].map(|(index, value)| condition(index, Dword, Eq, value as u64));
                (libc::SYS_setsockopt, libc::ENOPROTOOPT, conditions.to_vec())
            }
            Self::Ioctl(request) => (libc::SYS_ioctl, libc::EINVAL, vec![condition(1, Dword, Eq, request)]),
            Self::IoctlBit(request, bit) => {
                let conditions =
                    vec![condition(1, Dword, Eq, request), condition(2, Qword, MaskedEq(bit), bit)];
                (libc::SYS_ioctl, libc::EINVAL, conditions)
            }
            Self::WritevParts(parts) => {
                (libc::SYS_writev, libc::EINVAL, vec![condition(2, Dword, Ge, parts)])
            }
            Self::Bpf => (libc::SYS_bpf, libc::EPERM, Vec::new()),
        };
        let rules = match conditions.is_empty() {
            // Every call.
            true => Vec::new(),
            false => vec![SeccompRule::new(conditions).expect("there is a condition")],
        };
        let filter = SeccompFilter::new(
            BTreeMap::from([(call, rules)]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno.cast_unsigned()),
            std::env::consts::ARCH.try_into().expect("an architecture that seccomp knows"),
        );
        let program: BpfProgram = filter.expect("two different actions").try_into().expect("a short program");
        apply_filter(&program).expect("the kernel has seccomp");
    }
}

/// Runs `f` on a thread of its own; that thread's calls are refused, and those of programs that it starts.
///
/// # Panics
/// If the kernel has no seccomp, or `f` panics.
pub fn refusing<T: Send>(refusals: &[Refusal], f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            refusals.iter().for_each(|refusal| refusal.install());
            f()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// `program` under strace: in each of its threads `call` fails with `error` (a name of `errno.h`) whenever `when` says,
/// counting that thread's calls from 1: `30` is one, `30+` all from there, `30..40` some.
#[must_use]
pub fn failing(program: &Program, call: &str, error: &str, when: &str) -> Program {
    // -D: strace is a grandchild, and the process that a test starts and signals the program itself.
    Program::new(format!(
        "strace -D -f -qq --seccomp-bpf -o /dev/null -e trace={call} -e inject={call}:error={error}:when={when} {}",
        program.0.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cmd;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

    #[test]
    fn what_is_refused_fails_and_nothing_else() {
        let attempt = || {
            let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).unwrap();
            (setsockopt(&socket, sockopt::ReuseAddr, &true), setsockopt(&socket, sockopt::Broadcast, &true))
        };
        let refusals = [Refusal::SocketOption(libc::SOL_SOCKET, libc::SO_BROADCAST)];
        assert_eq!(refusing(&refusals, attempt), (Ok(()), Err(nix::errno::Errno::ENOPROTOOPT)));
        assert_eq!(attempt(), (Ok(()), Ok(())), "only on that thread");
    }

    #[test]
    fn the_nth_call_fails() {
        crate::needs!("strace");
        let cat = |when| failing(&Program::new("cat"), "openat", "EIO", when).0.display().to_string();
        let read = |when| Cmd::new(&format!("{} /proc/self/comm", cat(when))).run();
        assert!(read("1000").success());
        assert!(!read("1+").success());
    }
}
