//! Network namespaces, and the cables (veth pairs) between them.

use std::fs;
use std::path::Path;
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::cmd::{Background, Cmd, Output};

/// Where `ip netns` keeps the handles of namespaces.
const HANDLES: &str = "/var/run/netns";

/// A network namespace with its loopback interface up; deleted when dropped, with all interfaces in it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace of a name that no other test uses.
    ///
    /// # Panics
    /// If that is not permitted: ask for `netns` with [`require`](crate::require()) first.
    #[track_caller]
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a namespace is no default value of anything")]
    pub fn new() -> Netns {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_abandoned);
        let ns = Netns { name: format!("lab-{}-{}", process::id(), serial()) };
        Cmd::new(&format!("ip netns add {}", ns.name)).ok();
        ns.ip("link set lo up");
        ns
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in the namespace; `line` is split at white space.
    #[must_use]
    pub fn cmd(&self, line: &str) -> Cmd {
        Cmd::new(&format!("ip netns exec {} {line}", self.name))
    }

    /// Runs a command in the namespace, successful or not.
    ///
    /// # Panics
    /// If it cannot be started or exceeds its time limit.
    #[track_caller]
    pub fn run(&self, line: &str) -> Output {
        self.cmd(line).run()
    }

    /// Runs a command in the namespace and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.cmd(line).ok()
    }

    /// `ip ARGS` in the namespace.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ip(&self, args: &str) -> String {
        Cmd::new(&format!("ip -n {} {args}", self.name)).ok()
    }

    /// Sets a kernel variable in the namespace; `name` is spelled with slashes.
    ///
    /// # Panics
    /// If there is no such variable.
    #[track_caller]
    pub fn sysctl(&self, name: &str, value: &str) {
        self.ok(&format!("sysctl -q -w {name}={value}"));
    }

    /// Starts a command in the namespace, in the background.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    #[must_use]
    pub fn spawn(&self, line: &str) -> Background {
        self.cmd(line).spawn()
    }

    /// Runs `f` on a thread inside the namespace. Sockets stay in the namespace where they were made.
    ///
    /// # Panics
    /// If the namespace cannot be entered, or `f` panics.
    #[track_caller]
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let handle = fs::File::open(Path::new(HANDLES).join(&self.name)).expect("the namespace has a handle");
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(handle, CloneFlags::CLONE_NEWNET).expect("entering a namespace");
                f()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Lays a cable to `other` and brings both ends up; `here` and `there` name the interface at either end.
    ///
    /// # Panics
    /// If `ip` refuses.
    #[track_caller]
    pub fn connect(&self, here: &str, other: &Netns, there: &str) {
        let far = &other.name;
        self.ip(&format!("link add {here} type veth peer name {there} netns {far}"));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    /// Adds an address with its prefix length; IPv6 ones are usable at once.
    ///
    /// # Panics
    /// If `ip` refuses.
    #[track_caller]
    pub fn address(&self, interface: &str, cidr: &str) {
        // Duplicate address detection would take a second or two.
        let nodad = if cidr.contains(':') { "nodad" } else { "" };
        self.ip(&format!("addr add {cidr} dev {interface} {nodad}"));
    }

    /// Whether an interface of that name is there.
    #[must_use]
    pub fn has(&self, interface: &str) -> bool {
        Cmd::new(&format!("ip -n {} link show dev {interface}", self.name)).run().success()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = process::Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// An interface name that no other test uses: the UAPI sockets of all namespaces share one directory.
#[must_use]
pub fn interface_name() -> String {
    format!("lt{}x{}", base36(process::id()), base36(serial()))
}

/// A number that this process has not used before.
fn serial() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn base36(mut n: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(n % 36, 36).expect("a remainder of 36 is a digit"));
        n /= 36;
        if n == 0 {
            return digits.iter().rev().collect();
        }
    }
}

/// Deletes namespaces of test processes that were killed before they could.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(HANDLES) else { return };
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
        let owner = name.strip_prefix("lab-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = process::Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn interface_names_are_short_and_unique() {
        let (a, b) = (interface_name(), interface_name());
        assert_ne!(a, b);
        assert!(a.len() <= 15 && b.len() <= 15);
        assert_eq!((base36(0), base36(35), base36(4_194_304)), ("0".into(), "z".into(), "2hwcg".into()));
    }

    #[test]
    fn cables_carry_packets_and_namespaces_vanish() {
        crate::needs!("netns");
        let (a, b) = (Netns::new(), Netns::new());
        a.connect("east", &b, "west");
        a.address("east", "10.9.0.1/24");
        b.address("west", "10.9.0.2/24");
        let inbox = b.enter(|| UdpSocket::bind("10.9.0.2:0")).unwrap();
        inbox.set_read_timeout(Some(crate::seconds(30))).unwrap();
        let to = inbox.local_addr().unwrap();
        a.enter(|| UdpSocket::bind("10.9.0.1:0").unwrap().send_to(b"hello", to)).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(inbox.recv(&mut bytes).unwrap(), 5);
        let handle = Path::new(HANDLES).join(a.name());
        assert!(handle.exists());
        drop(a);
        assert!(!handle.exists());
    }
}
