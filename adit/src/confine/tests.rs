//! The confinement from inside. Each test runs in a process of its own, which confines itself as the daemon does and then
//! tries what it should be kept from, and what it needs.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, IsTerminal as _, Read as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::thread;

use adit_device::uapi::DIRECTORY;
use adit_net::poll::{EventFd, Events, Interest, Poller, TimerFd};
use adit_net::{netlink, resolve, udp};
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{Pid, Uid, chown, execv, setfsuid};

use super::*;

/// What the process that a test starts is to do.
const INSIDE: &str = "ADIT_TEST_INSIDE";

/// Runs the test `name` again in a process of its own, in which [`is_inside`] is true.
fn inside(name: &str, what: &str) -> Output {
    let mut own = Command::new(env::current_exe().unwrap());
    let name = format!("confine::tests::{name}");
    own.args(["--exact", &name, "--nocapture", "--test-threads=1"]).env(INSIDE, what).output().unwrap()
}

fn is_inside() -> Option<String> {
    env::var(INSIDE).ok()
}

/// Whether this is the process that a test has to itself. Where it is not, that process is started, and has to succeed.
#[track_caller]
fn is_inside_for(name: &str) -> bool {
    if is_inside().is_some() {
        return true;
    }
    if can_confine() {
        let output = inside(name, "all");
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
    false
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As the engine, with nothing left out.
fn confine_all() {
    let confinement = confine(Purpose::Engine, Wanted::ALL);
    let parts = confinement.parts();
    assert!(parts.iter().all(|(_, state)| *state == OffloadState::On), "{confinement}");
}

fn refused<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Whether the kernel, and the rights of whoever tests, allow all of it; otherwise the test is skipped.
fn can_confine() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    let can = *CAN.get_or_init(|| inside("all_parts_can_be_had", "all").status.success());
    if !can {
        lab::skip("needs root and a kernel with landlock and seccomp");
    }
    can
}

/// As a debugger would.
fn read_memory(process: Pid) -> nix::Result<usize> {
    let (mut buffer, remote) = ([0; 8], RemoteIoVec { base: 0x1000, len: 8 });
    process_vm_readv(process, &mut [IoSliceMut::new(&mut buffer)], &[remote])
}

#[test]
fn all_parts_can_be_had() {
    match is_inside() {
        Some(_) => confine_all(),
        None => drop(can_confine()),
    }
}

fn kernel_is_at_least(wanted: (u32, u32)) -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= wanted
}

#[test]
fn files_are_out_of_reach() {
    if !is_inside_for("files_are_out_of_reach") {
        return;
    }
    let own = env::current_exe().unwrap();
    let before = File::open(&own).unwrap();
    let written = env::temp_dir().join(format!("adit-confined-{}", std::process::id()));
    fs::write(&written, "").unwrap();
    confine_all();
    for path in [own.as_path(), &env::temp_dir(), "/root".as_ref(), "/proc/self/environ".as_ref()] {
        assert_eq!(refused(File::open(path)), Some(libc::EACCES), "{}", path.display());
    }
    let append = |path: &str| OpenOptions::new().append(true).open(path);
    for path in ["/etc/hosts", "/etc/passwd", written.to_str().unwrap()] {
        assert_eq!(refused(append(path)), Some(libc::EACCES), "{path}");
    }
    assert_eq!(refused(File::create(format!("{DIRECTORY}/x"))), Some(libc::EACCES));
    assert_eq!(refused(fs::remove_file(&written)), Some(libc::EACCES));
    assert_eq!(refused(fs::create_dir("/tmp/adit-confined")), Some(libc::ENOSYS));
    // What is open stays open, and what names are looked up in can be read.
    before.metadata().unwrap();
    fs::read("/etc/hosts").unwrap();
    append("/dev/null").unwrap();
}

#[test]
fn nobody_else_can_be_become() {
    if !is_inside_for("nobody_else_can_be_become") {
        return;
    }
    confine(Purpose::Engine, Wanted { seccomp: false, ..Wanted::ALL });
    // Not by setuid(3), which would have the threads do it that this test program has besides.
    let other = Uid::from_raw(65534);
    assert_eq!((setfsuid(other), setfsuid(other)), (Uid::from_raw(0), Uid::from_raw(0)));
    assert_eq!(chown("/etc/hosts", Some(other), None), Err(Errno::EPERM));
    assert_eq!(unshare(CloneFlags::CLONE_NEWNET), Err(Errno::EPERM));
    let tmpfs = Some("tmpfs");
    assert_eq!(mount(tmpfs, "/mnt", tmpfs, MsFlags::empty(), None::<&str>), Err(Errno::EPERM));
    if kernel_is_at_least((6, 12)) {
        assert_eq!(kill(Pid::parent(), None), Err(Errno::EPERM));
    }
    assert_eq!(read_memory(Pid::parent()), Err(Errno::EPERM));
    assert_eq!(setrlimit(Resource::RLIMIT_CORE, 1, 1), Err(Errno::EPERM));
    // Nor by starting a program, of which landlock lets it start none.
    assert_eq!(refused(Command::new("/bin/true").status()), Some(libc::EACCES));
}

#[test]
fn calls_with_arguments_that_nobody_needs_are_not_permitted() {
    if !is_inside_for("calls_with_arguments_that_nobody_needs_are_not_permitted") {
        return;
    }
    // Without the rest: it is the filters that refuse.
    confine(Purpose::Engine, Wanted { seccomp: true, ..Wanted::NOTHING });
    let open = |family, kind, protocol: Option<SockProtocol>| {
        socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).map(drop)
    };
    assert_eq!(open(AddressFamily::Packet, SockType::Raw, None), Err(Errno::EPERM));
    assert_eq!(open(AddressFamily::Inet, SockType::Raw, Some(SockProtocol::Icmp)), Err(Errno::EPERM));
    assert_eq!(open(AddressFamily::Inet6, SockType::Raw, Some(SockProtocol::IcmpV6)), Err(Errno::EPERM));
    assert_eq!(open(AddressFamily::Vsock, SockType::Stream, None), Err(Errno::EPERM));
    let netfilter = Some(SockProtocol::NetlinkNetFilter);
    assert_eq!(open(AddressFamily::Netlink, SockType::Raw, netfilter), Err(Errno::EPERM));
    let route = Some(SockProtocol::NetlinkRoute);
    assert_eq!(open(AddressFamily::Netlink, SockType::Raw, route), Ok(()));
    let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    assert_eq!(setsockopt(&stream, sockopt::ReuseAddr, &true), Ok(()));
    assert_eq!(prctl::set_dumpable(true), Err(Errno::EPERM));
    assert_eq!(prctl::set_pdeathsig(Signal::SIGTERM), Err(Errno::EPERM));
    assert_eq!(setrlimit(Resource::RLIMIT_NOFILE, 1, 1), Err(Errno::EPERM));
    assert!(!io::stdin().is_terminal() && Errno::last() == Errno::EPERM, "{}", Errno::last());
    assert_eq!(kill(Pid::this(), None), Err(Errno::ENOSYS));
    assert_eq!(nix::unistd::mkfifo("/tmp/adit-fifo", nix::sys::stat::Mode::S_IRWXU), Err(Errno::ENOSYS));
    assert_eq!(unshare(CloneFlags::CLONE_NEWNET), Err(Errno::ENOSYS));
}

/// Each in a process that does not live to tell.
#[test]
fn what_only_attackers_do_is_the_end() {
    type Attack = fn() -> bool;
    let attacks: [(&str, Attack); 5] = [
        ("execve", || execv(c"/bin/true", &[c"/bin/true"]).is_ok()),
        ("process_vm_readv", || read_memory(Pid::parent()).is_ok()),
        ("setfsuid", || setfsuid(Uid::from_raw(65534)).is_root()),
        ("mount", || mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REMOUNT, None::<&str>).is_ok()),
        ("chroot", || nix::unistd::chroot("/tmp").is_ok()),
    ];
    if let Some(what) = is_inside() {
        confine_all();
        let (_, attack) = attacks.iter().find(|(name, _)| *name == what).unwrap();
        println!("{}", attack());
        return;
    }
    if !can_confine() {
        return;
    }
    for (name, _) in attacks {
        let output = inside("what_only_attackers_do_is_the_end", name);
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{name}: {:?}", output.status);
        assert!(!output.status.core_dumped(), "{name}");
    }
}

/// What an engine does is possible: the tests of the daemon, which is confined in all of them, ask for the rest.
#[test]
fn what_is_needed_works() {
    if !is_inside_for("what_is_needed_works") {
        return;
    }
    confine_all();
    let options = udp::BindOptions { fwmark: 0x1234, sorts: true, ..Default::default() };
    let bound = udp::bind(0, &options).unwrap();
    bound.set_fwmark(0x4321).unwrap();
    assert!(!bound.handshakes.is_empty(), "the kernel may not sort");
    let low = (1..1024).rev().find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok());
    assert!(low.is_some(), "no port below 1024");
    let started = thread::Builder::new().name("confined".to_owned()).spawn(|| {
        // With all that the C library reads, and modules that it loads.
        resolve::lookup("localhost", "5").map(|found| found.len())
    });
    assert!(started.unwrap().join().unwrap().unwrap() > 0);
    let localhost: IpAddr = [127, 0, 0, 1].into();
    netlink::RouteLookup::open().unwrap().route(localhost, None, 1).unwrap();
    netlink::RouteMonitor::open().unwrap();
    assert!(netlink::if_index("lo").unwrap() > 0);
    let (poller, timer, event) = (Poller::new().unwrap(), TimerFd::new().unwrap(), EventFd::new().unwrap());
    poller.add(&timer, 1, Interest::Read).unwrap();
    poller.add(&event, 2, Interest::Read).unwrap();
    timer.set(1).unwrap();
    let mut events = Events::with_capacity(1);
    poller.wait(&mut events, None).unwrap();
    let mut large = vec![0_u8; 64 << 20];
    large.fill(1);
    drop(large);
    io::stdout().as_fd().try_clone_to_owned().unwrap();
    File::open("/dev/null").unwrap().read_to_end(&mut Vec::new()).unwrap();
    // TCP is for name servers alone.
    if kernel_is_at_least((6, 7)) {
        assert_eq!(refused(TcpListener::bind("127.0.0.1:0")), Some(libc::EACCES));
        assert_eq!(refused(TcpStream::connect("127.0.0.1:54")), Some(libc::EACCES));
    }
    assert_ne!(refused(TcpStream::connect("127.0.0.1:53")), Some(libc::EACCES));
}

#[test]
fn parts_can_be_left_out() {
    let without = |list: &str| {
        let mut wanted = Wanted::default();
        SWITCHES.switch_off(&mut wanted, "--no-confinement", list).map(|()| wanted)
    };
    assert_eq!(without(""), Ok(Wanted::ALL));
    assert_eq!(without("mlock"), Ok(Wanted { mlock: false, ..Wanted::ALL }));
    assert_eq!(without("dumps,mlock,landlock,capabilities,seccomp"), Ok(Wanted::NOTHING));
    assert_eq!(without("all"), Ok(Wanted::NOTHING));
    let error = without("seccom").unwrap_err();
    assert_eq!(
        error,
        "--no-confinement: no part of the confinement is called \"seccom\"; \
         there are dumps, mlock, landlock, capabilities, seccomp, all"
    );
}
