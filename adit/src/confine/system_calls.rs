//! Which system calls remain (seccomp(2)): three filters, of which the strictest answer counts.
//!
//! A call that only an attacker would make ends the process. What is merely not known to be needed fails as on a kernel that
//! lacks it (`ENOSYS`), so that the C library takes an older way and a forgotten call degrades instead of taking tunnels
//! down. A call with arguments that are not needed is not permitted (`EPERM`).
//!
//! Calls on the data path are allowed whatever their arguments: those the kernel answers from a bitmap, without running the
//! filters.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::process;

use nix::libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use super::Purpose;

/// What serving an interface takes.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Packets, requests and answers.
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_recvfrom, SYS_sendto, SYS_recvmsg, SYS_sendmsg, SYS_recvmmsg, SYS_sendmmsg,
    // Waiting, among threads too.
    SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_ppoll, SYS_pselect6, SYS_eventfd2, SYS_timerfd_create,
    SYS_timerfd_settime, SYS_timerfd_gettime, SYS_futex, SYS_sched_yield, SYS_nanosleep, SYS_clock_nanosleep,
    SYS_restart_syscall,
    // Sockets of another port, of a client, for asking about routes and names.
    SYS_socket, SYS_bind, SYS_connect, SYS_accept4, SYS_getsockname, SYS_getpeername, SYS_getsockopt, SYS_setsockopt,
    SYS_shutdown,
    // Files, of which landlock leaves few: those that names are looked up in, and the socket to be removed.
    SYS_openat, SYS_close, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_lseek, SYS_pread64, SYS_getdents64, SYS_faccessat,
    SYS_faccessat2, SYS_readlinkat, SYS_getcwd, SYS_fcntl, SYS_ioctl, SYS_dup, SYS_dup3, SYS_unlinkat,
    // Memory.
    SYS_mmap, SYS_mprotect, SYS_munmap, SYS_mremap, SYS_brk, SYS_madvise, SYS_membarrier,
    // Threads that come and go, and the end.
    SYS_clone, SYS_set_robust_list, SYS_rseq, SYS_set_tid_address, SYS_sigaltstack, SYS_rt_sigaction, SYS_rt_sigprocmask,
    SYS_rt_sigreturn, SYS_sched_getaffinity, SYS_prctl, SYS_tgkill, SYS_exit, SYS_exit_group,
    // Clocks, randomness, and who one is.
    SYS_clock_gettime, SYS_clock_getres, SYS_gettimeofday, SYS_getrandom, SYS_getpid, SYS_gettid, SYS_getuid, SYS_geteuid,
    SYS_getgid, SYS_getegid, SYS_uname, SYS_sysinfo, SYS_prlimit64, SYS_getrusage,
    // Giving up more: the filters after the first, too.
    SYS_seccomp,
];

/// The older spellings of some of these, which the C library still uses where they exist.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_OF_OLD: &[c_long] = &[
    SYS_epoll_wait, SYS_poll, SYS_select, SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_dup2, SYS_unlink, SYS_time,
    SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OF_OLD: &[c_long] = &[];

/// What no way through this program or its libraries leads to.
#[rustfmt::skip]
const DEADLY: &[c_long] = &[
    // Other programs, and other processes' memory.
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd,
    // Becoming somebody else.
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid, SYS_setgroups,
    SYS_capset, SYS_personality,
    // Large and seldom used parts of the kernel, where errors that help attackers are found.
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_keyctl,
    SYS_add_key, SYS_request_key,
    // What the machine is made of.
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsmount,
    SYS_open_by_handle_at, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_swapon,
    SYS_swapoff, SYS_acct, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime, SYS_sethostname,
    SYS_setdomainname, SYS_syslog,
];

#[cfg(target_arch = "x86_64")]
const DEADLY_OF_OLD: &[c_long] = &[SYS_fork, SYS_vfork, SYS_iopl, SYS_ioperm, SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const DEADLY_OF_OLD: &[c_long] = &[];

/// Requests about the interface, those of `std` and the C library for sockets, and an interface's index and name. Their type
/// depends on the C library.
#[rustfmt::skip]
const IOCTLS: [u32; 6] = [
    TUNGETIFF as u32, TUNGETDEVNETNS as u32, FIONBIO as u32, FIONREAD as u32,
    SIOCGIFINDEX as u32, SIOCGIFNAME as u32,
];
/// A thread's name, what memory is for, and giving up more.
const PRCTLS: [c_int; 4] = [PR_SET_NAME, PR_GET_NAME, PR_SET_VMA, PR_SET_NO_NEW_PRIVS];
const FAMILIES: [c_int; 4] = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];
/// Options of a socket by level, and of IP those from which on they are iptables'.
const LEVELS: [c_int; 6] = [SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, SOL_NETLINK];
const IPT_BASE_CTL: c_int = 64;
const IP6T_SO_SET: [c_int; 2] = [64, 65];
const SOCK_TYPE_MASK: u64 = 0xf;

/// From here on the system calls of this thread are filtered, and those of all that it starts.
pub(super) fn filter(purpose: Purpose<'_>) -> Result<(), String> {
    let arch = std::env::consts::ARCH;
    let arch = arch.try_into().map_err(|_| format!("there is no table of {arch}'s system calls"))?;
    let known = [ALLOWED, ALLOWED_OF_OLD].concat();
    let deadly = [DEADLY, DEADLY_OF_OLD].concat();
    let filters = [
        (every(deadly), SeccompAction::Allow, SeccompAction::KillProcess),
        (refused(purpose), SeccompAction::Allow, errno(EPERM)),
        (every(known), errno(ENOSYS), SeccompAction::Allow),
    ];
    // All are made before the first one is in force.
    let programs: Result<Vec<BpfProgram>, String> =
        filters.into_iter().map(|(rules, other, matching)| compile(rules, other, matching, arch)).collect();
    programs?.iter().try_for_each(|program| apply_filter(program).map_err(text))
}

fn compile(
    rules: Rules,
    other: SeccompAction,
    matching: SeccompAction,
    arch: TargetArch,
) -> Result<BpfProgram, String> {
    SeccompFilter::new(rules, other, matching, arch)
        .map_err(text)?
        .try_into()
        .map_err(text::<seccompiler::BackendError>)
}

fn text<E: Display>(error: E) -> String {
    error.to_string()
}

fn errno(code: c_int) -> SeccompAction {
    SeccompAction::Errno(code.cast_unsigned())
}

/// For each call the conditions, of which one has to hold; without any the call matches whatever its arguments.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn every(calls: Vec<c_long>) -> Rules {
    calls.into_iter().map(|call| (call, Vec::new())).collect()
}

/// The allowed calls' arguments that are not permitted.
fn refused(purpose: Purpose<'_>) -> Rules {
    let protocol = match purpose {
        Purpose::Engine => vec![NETLINK_ROUTE],
        Purpose::Metrics(_) => vec![NETLINK_ROUTE, NETLINK_GENERIC],
    };
    let not_netlink_of =
        all([(0, SeccompCmpOp::Eq, AF_NETLINK as u64)].into_iter().chain(none_of(2, protocol)));
    let raw = |family: c_int| {
        all([
            (0, SeccompCmpOp::Eq, family as u64),
            (1, SeccompCmpOp::MaskedEq(SOCK_TYPE_MASK), SOCK_RAW as u64),
        ])
    };
    let option =
        |level: c_int, op, name: c_int| all([(1, SeccompCmpOp::Eq, level as u64), (2, op, name as u64)]);
    let mut of_sockets = vec![all(none_of(1, LEVELS)), option(IPPROTO_IP, SeccompCmpOp::Ge, IPT_BASE_CTL)];
    of_sockets.extend(IP6T_SO_SET.map(|name| option(IPPROTO_IPV6, SeccompCmpOp::Eq, name)));
    // Programs for the kernel to run, but the one that sorts what comes to each new port.
    let sorts = purpose == Purpose::Engine;
    of_sockets.extend(
        [SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF]
            .into_iter()
            .chain((!sorts).then_some(SO_ATTACH_REUSEPORT_CBPF))
            .map(|name| option(SOL_SOCKET, SeccompCmpOp::Eq, name)),
    );
    let writable_code = (PROT_WRITE | PROT_EXEC) as u64;
    let code = PROT_EXEC as u64;
    let thread = CLONE_THREAD as u64;
    BTreeMap::from([
        (SYS_socket, vec![all(none_of(0, FAMILIES)), not_netlink_of, raw(AF_INET), raw(AF_INET6)]),
        (SYS_setsockopt, of_sockets),
        (SYS_ioctl, vec![all(none_of(1, IOCTLS))]),
        (SYS_prctl, vec![all(none_of(0, PRCTLS))]),
        // A process of its own. Of clone3, whose flags no filter sees, there is none, and the C library takes clone.
        (SYS_clone, vec![all([(0, SeccompCmpOp::MaskedEq(thread), 0)])]),
        // Memory that is or becomes code. A library's is mapped as such from its file.
        (SYS_mmap, vec![all([(2, SeccompCmpOp::MaskedEq(writable_code), writable_code)])]),
        (SYS_mprotect, vec![all([(2, SeccompCmpOp::MaskedEq(code), code)])]),
        // Signals to others.
        (SYS_tgkill, vec![all([(0, SeccompCmpOp::Ne, process::id().into())])]),
        // Setting limits.
        (SYS_prlimit64, vec![all_of_quads([(2, SeccompCmpOp::Ne, 0)])]),
    ])
}

type Condition = (u8, SeccompCmpOp, u64);

/// The argument is none of these.
fn none_of<N: TryInto<u64>>(
    argument: u8,
    values: impl IntoIterator<Item = N>,
) -> impl Iterator<Item = Condition> {
    values.into_iter().filter_map(move |value| Some((argument, SeccompCmpOp::Ne, value.try_into().ok()?)))
}

/// All of these conditions hold, for arguments of 32 bits.
fn all(conditions: impl IntoIterator<Item = Condition>) -> SeccompRule {
    rule(conditions, &SeccompCmpArgLen::Dword)
}

/// The same for pointers.
fn all_of_quads(conditions: impl IntoIterator<Item = Condition>) -> SeccompRule {
    rule(conditions, &SeccompCmpArgLen::Qword)
}

fn rule(conditions: impl IntoIterator<Item = Condition>, length: &SeccompCmpArgLen) -> SeccompRule {
    let conditions = conditions.into_iter().map(|(argument, op, value)| {
        SeccompCondition::new(argument, length.clone(), op, value).expect("a call has six arguments")
    });
    SeccompRule::new(conditions.collect()).expect("a rule has conditions")
}
