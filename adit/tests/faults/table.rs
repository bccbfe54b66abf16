//! The calls of the engine, and how they fail.

use lab::faults::{
    Fault, On,
    Outcome::{self, Error, Returns},
    Times,
};

/// A kind of call while the engine runs.
pub struct Running {
    pub call: &'static str,
    on: On,
    /// For a while at the end of which it must not have become busy, and once.
    lasting: &'static [Outcome],
    /// Some times only: it would rightly go on trying.
    passing: &'static [Outcome],
    /// It may be given up, in one line.
    may_end: bool,
    /// Whether it is made depends on luck.
    may_miss: bool,
}

/// A fault of a running engine.
pub struct Case {
    pub fault: Fault,
    pub may_end: bool,
    pub may_miss: bool,
}

const TUN: On = On::Named("/dev/net/tun");
const WAKER: On = On::Named("anon_inode:[eventfd]");

const fn row(
    call: &'static str,
    on: On,
    lasting: &'static [Outcome],
    passing: &'static [Outcome],
) -> Running {
    Running { call, on, lasting, passing, may_end: false, may_miss: false }
}

impl Running {
    const fn may_miss(self) -> Running {
        Running { may_miss: true, ..self }
    }

    const fn may_end(self) -> Running {
        Running { may_end: true, ..self }
    }
}

const OUT_OF_MEMORY: &[Outcome] = &[Error("ENOMEM")];
const INTERRUPTED: &[Outcome] = &[Error("EINTR")];

/// What fails while the engine runs.
pub const RUNNING: &[Running] = &[
    row("epoll_wait", On::Any, &[], &[Error("EINTR"), Error("ENOMEM")]),
    row("epoll_ctl", On::Any, &[Error("ENOMEM"), Error("ENOSPC"), Error("EIO")], &[]),
    row(
        "recvmmsg",
        On::Any,
        &[
            Error("ENOMEM"),
            Error("EIO"),
            Error("ENOBUFS"),
            Error("EPERM"),
            Error("ENETDOWN"),
            Error("ECONNREFUSED"),
            Error("EINVAL"),
        ],
        &[Error("EINTR"), Error("EAGAIN"), Returns(0)],
    ),
    row(
        "readv",
        TUN,
        &[Error("EIO"), Error("ENOMEM"), Error("EPERM"), Error("EINVAL"), Returns(3), Returns(0)],
        &[Error("EINTR"), Error("EAGAIN")],
    ),
    row(
        "writev",
        TUN,
        &[
            Error("ENOBUFS"),
            Error("EIO"),
            Error("ENOMEM"),
            Error("EPERM"),
            Error("EINVAL"),
            Error("EAGAIN"),
            Returns(1),
        ],
        INTERRUPTED,
    ),
    row(
        "sendmsg",
        On::Any,
        &[
            Error("ENOBUFS"),
            Error("EPERM"),
            Error("EAGAIN"),
            Error("EIO"),
            Error("EINVAL"),
            Error("EMSGSIZE"),
            Error("ENETUNREACH"),
            Error("EHOSTUNREACH"),
            Error("ENETDOWN"),
            Error("ENOMEM"),
            Error("ECONNREFUSED"),
            Error("EACCES"),
            Returns(0),
        ],
        INTERRUPTED,
    ),
    row(
        "sendmmsg",
        On::Any,
        &[Returns(0), Error("ENOBUFS"), Error("EPERM"), Error("EIO"), Error("ENOMEM")],
        INTERRUPTED,
    ),
    row("write", WAKER, &[], &[Error("EINTR"), Error("EIO")]),
    row("read", WAKER, &[], &[Error("EINTR"), Error("EIO")]),
    row("timerfd_settime", On::Any, &[Error("ENOMEM"), Error("EIO")], INTERRUPTED),
    row(
        "socket",
        On::Any,
        &[Error("EMFILE"), Error("ENFILE"), Error("ENOMEM"), Error("ENOBUFS"), Error("EPERM")],
        &[],
    ),
    row("setsockopt", On::Any, &[Error("ENOMEM"), Error("ENOPROTOOPT"), Error("EPERM")], &[]),
    row("bind", On::Any, &[Error("EADDRINUSE"), Error("EACCES"), Error("ENOMEM")], &[]),
    row("getsockname", On::Any, &[Error("ENOBUFS")], &[]),
    row("getsockopt", On::Any, &[Error("ENOPROTOOPT")], &[]),
    row(
        "accept4",
        On::Any,
        &[Error("EMFILE"), Error("ENFILE"), Error("ENOMEM"), Error("ENOBUFS"), Error("EPERM")],
        &[Error("ECONNABORTED"), Error("EINTR")],
    ),
    row("recvfrom", On::Netlink, &[Error("ENOBUFS"), Error("ENOMEM"), Error("EIO")], INTERRUPTED),
    row("recvfrom", On::Any, &[Error("ECONNRESET")], &[]),
    row("sendto", On::Netlink, &[Error("ENOBUFS"), Error("ENOMEM"), Error("EPERM")], INTERRUPTED).may_miss(),
    row("sendto", On::Any, &[Error("EPIPE"), Error("ENOBUFS")], INTERRUPTED),
    row("ioctl", On::Any, &[Error("EIO"), Error("EPERM")], &[]),
    row("getrandom", On::Any, &[Error("EIO")], INTERRUPTED).may_end(),
    row("futex", On::Any, &[], &[Error("EINTR"), Error("EAGAIN")]).may_miss(),
    row("munmap", On::Any, OUT_OF_MEMORY, &[]).may_miss(),
    row("madvise", On::Any, OUT_OF_MEMORY, &[]).may_miss(),
    row("mprotect", On::Any, OUT_OF_MEMORY, &[]).may_miss().may_end(),
    row("mmap", On::Any, OUT_OF_MEMORY, &[]).may_miss().may_end(),
    row("clock_nanosleep", On::Any, &[], INTERRUPTED).may_miss(),
];

/// All of `RUNNING`; or, unless the whole is wanted, each kind of call as it fails first.
pub fn running_cases(is_whole: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for Running { call, on, lasting, passing, may_end, may_miss } in RUNNING {
        let mut add = |outcome: &Outcome, times| {
            let fault = Fault { call, on: *on, outcome: *outcome, times };
            cases.push(Case { fault, may_end: *may_end, may_miss: *may_miss });
        };
        for (index, outcome) in lasting.iter().enumerate().filter(|(index, _)| is_whole || *index == 0) {
            add(outcome, Times::Always);
            if is_whole {
                add(outcome, Times::Once);
                if index == 0 {
                    add(outcome, Times::Some(5));
                }
            }
        }
        for outcome in passing.iter().filter(|_| is_whole || lasting.is_empty()) {
            add(outcome, Times::Some(10));
        }
    }
    cases
}

/// What fails at the start, the likeliest error first.
pub const START: &[(&str, &[&str])] = &[
    ("openat", &["EMFILE", "EACCES", "ENOENT", "ENFILE", "EIO"]),
    ("ioctl", &["EPERM", "ENOMEM", "EINVAL", "EBUSY", "EIO"]),
    ("bpf", &["EPERM", "ENOSYS", "EINVAL", "ENOMEM"]),
    ("socket", &["EMFILE", "EAFNOSUPPORT", "ENOMEM", "EPERM"]),
    ("bind", &["EACCES", "EADDRINUSE", "ENOSPC", "EROFS"]),
    ("listen", &["EADDRINUSE", "EOPNOTSUPP"]),
    ("link", &["ENOSPC", "EPERM"]),
    ("linkat", &["ENOSPC", "EPERM"]),
    ("mkdir", &["EACCES", "EROFS", "ENOSPC"]),
    ("unlink", &["EACCES", "EROFS"]),
    ("connect", &["EACCES"]),
    ("setsockopt", &["ENOPROTOOPT", "ENOMEM"]),
    ("getsockname", &["ENOBUFS"]),
    ("fcntl", &["EMFILE", "EPERM"]),
    ("fcntl64", &["EMFILE"]),
    ("epoll_create1", &["EMFILE", "ENOMEM"]),
    ("epoll_ctl", &["ENOSPC", "ENOMEM"]),
    ("eventfd2", &["EMFILE", "ENFILE"]),
    ("timerfd_create", &["EMFILE", "ENOMEM"]),
    ("timerfd_settime", &["EINVAL"]),
    ("signalfd4", &["EMFILE", "ENOMEM"]),
    ("inotify_init1", &["EMFILE", "ENOMEM"]),
    ("inotify_add_watch", &["ENOSPC", "ENOMEM"]),
    ("sendto", &["ENOBUFS", "ENOMEM"]),
    ("recvfrom", &["ENOBUFS", "ENOMEM", "EINTR"]),
    ("clone3", &["EAGAIN", "ENOSYS"]),
    ("clone", &["EAGAIN", "ENOMEM"]),
    ("getrandom", &["EINTR", "ENOSYS"]),
    ("madvise", &["ENOMEM"]),
    ("munmap", &["ENOMEM"]),
    ("sched_getaffinity", &["EPERM"]),
    ("prctl", &["EPERM"]),
    ("prlimit64", &["EPERM"]),
    ("mlockall", &["ENOMEM", "EPERM"]),
    ("landlock_create_ruleset", &["ENOSYS", "EOPNOTSUPP", "EMFILE"]),
    ("landlock_add_rule", &["ENOMEM"]),
    ("landlock_restrict_self", &["E2BIG", "EPERM"]),
    ("capget", &["EPERM"]),
    ("capset", &["EPERM"]),
    ("seccomp", &["ENOSYS", "EINVAL", "EPERM", "ENOMEM"]),
    ("readlink", &["EACCES"]),
    ("readlinkat", &["EACCES"]),
    ("statx", &["EACCES", "ENOSYS"]),
    ("newfstatat", &["EACCES"]),
    ("fstat", &["EIO"]),
    ("read", &["EINTR"]),
    ("lseek", &["EIO"]),
    ("chdir", &["EACCES"]),
    ("setsid", &["EPERM"]),
    ("pipe2", &["EMFILE"]),
    ("dup2", &["EBUSY"]),
    ("dup3", &["EBUSY"]),
    ("getdents64", &["EIO"]),
    ("write", &["EIO"]),
];

/// What is not tried at the start or not at all, and why.
const NOT_TRIED: &[(&str, &str)] = &[
    ("execve", "then there is no program"),
    ("close", "it closes even where it fails, and nobody asks; here it would not close"),
    ("uname", "the resolver's, cannot fail"),
    ("arch_prctl", "the loader's"),
    ("access", "the loader's"),
    ("pread64", "the loader's"),
    ("brk", "fails by an answer that is no error; `limits.rs` has it fail"),
    ("mmap", "the loader's and the libraries', who end in their own words; `limits.rs` has it fail"),
    ("mprotect", "as mmap"),
    ("set_tid_address", "cannot fail"),
    ("set_robust_list", "cannot fail"),
    ("rseq", "the C library does without"),
    ("gettid", "cannot fail"),
    ("getpid", "cannot fail"),
    ("umask", "cannot fail"),
    ("exit", "cannot fail"),
    ("exit_group", "cannot fail"),
    ("sched_yield", "cannot fail"),
    ("rt_sigaction", "fails for signals that do not exist alone"),
    ("rt_sigprocmask", "fails for bad pointers alone"),
    ("sigaltstack", "fails for bad pointers alone; the standard library goes on"),
    ("poll", "the standard library's first; later the link monitor's start, and the resolver's"),
    ("ppoll", "poll, elsewhere"),
    ("rt_sigreturn", "cannot fail"),
    ("restart_syscall", "the kernel's own"),
    ("wait4", "fails without a child alone"),
];

/// Whether nobody gains by its failing at the start.
pub fn not_tried(name: &str) -> bool {
    NOT_TRIED.iter().any(|(known, _)| *known == name)
}

pub fn is_known(name: &str) -> bool {
    not_tried(name)
        || START.iter().any(|(known, _)| *known == name)
        || RUNNING.iter().any(|running| running.call == name)
}
