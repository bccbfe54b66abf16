//! A machine whose files and network are its own, for programs that change them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use lab::{Cmd, Netns, Output, seconds, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::adit;

/// The programs under test. Theirs takes Adit as its engine.
pub const OURS: &str = "OURS";
pub const THEIRS: &str = "THEIRS";

/// A machine of its own: a network with a way out, and an `/etc` and a `/run` of its own.
pub struct Machine {
    pub ns: Netns,
    /// Who answers for the way out.
    pub outside: Netns,
    directory: PathBuf,
    /// What else is mounted before a command runs.
    mounts: String,
    /// Where programs are looked for, besides its own.
    path: String,
}

/// What programs read in `/etc`, where it is there.
const PROGRAMS_READ: [&str; 9] = [
    "alternatives",
    "group",
    "hosts",
    "iproute2",
    "ld.so.cache",
    "nsswitch.conf",
    "passwd",
    "protocols",
    "services",
];

pub const RESOLV_CONF: &str = "nameserver 192.0.2.53\n";

impl Machine {
    pub fn new() -> Machine {
        let (ns, outside) = (Netns::new(), Netns::new());
        ns.connect("eth0", &outside, "eth0");
        for (address, route) in
            [("192.0.2.2/24", "default via 192.0.2.1"), ("2001:db8::2/64", "default via 2001:db8::1")]
        {
            ns.address("eth0", address);
            ns.ip(&format!("{} route add {route}", if address.contains(':') { "-6" } else { "-4" }));
        }
        ns.ip("route add 198.51.100.0/24 via 192.0.2.1 mtu 1400");
        let directory = std::env::temp_dir().join(format!("adit-quick-{}", ns.name()));
        for name in ["", "bin", "etc", "run", "run/wireguard"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        for name in PROGRAMS_READ {
            Cmd::new(&format!("cp -a /etc/{name} {}/etc/", directory.display())).run();
        }
        let path = std::env::var("PATH").unwrap();
        let mut machine = Machine { ns, outside, directory, mounts: String::new(), path };
        if lab::require::find("resolvconf").is_some() {
            machine.hide("resolvconf");
        }
        fs::create_dir_all(machine.path("etc/wireguard")).unwrap();
        machine.write("etc/resolv.conf", RESOLV_CONF, 0o644);
        let hosts = fs::read_to_string(machine.path("etc/hosts")).unwrap_or_default();
        machine.write("etc/hosts", &format!("{hosts}\n198.51.100.1 peer.test\n"), 0o644);
        machine
    }

    /// From now on there are all programs but this one.
    fn hide(&mut self, program: &str) {
        let programs = self.path("programs");
        fs::create_dir(&programs).unwrap();
        for directory in std::env::split_paths(&self.path) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_name() != program {
                    // What comes first counts.
                    let _ = symlink(entry.path(), programs.join(entry.file_name()));
                }
            }
        }
        self.path = programs.to_str().unwrap().to_owned();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.path(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// From now on `/etc/resolv.conf` is mounted, as containers have it.
    pub fn mount_resolv_conf(&mut self) {
        self.write("mounted", RESOLV_CONF, 0o644);
        self.mounts = format!("mount --bind {} /etc/resolv.conf &&", self.path("mounted").display());
    }

    /// From now on there are only these programs.
    pub fn leave_only(&mut self, programs: &[&str]) {
        for program in programs {
            let path = lab::require::find(program).unwrap_or_else(|| panic!("{program} is missing"));
            symlink(path, self.path("bin").join(program)).unwrap();
        }
        self.path.clear();
    }

    /// The file of interface `wg0`.
    pub fn configure(&self, content: &str) {
        self.write("etc/wireguard/wg0.conf", content, 0o600);
    }

    pub fn cmd(&self, line: &str) -> Cmd {
        let program = adit().0;
        let line = line.replace(OURS, program.to_str().unwrap()).replace(THEIRS, "wg-quick");
        let directory = self.directory.display();
        // Every command has mounts of its own, of the same directories.
        let mounts = format!("mount --rbind {directory}/etc /etc && mount --rbind {directory}/run /run &&");
        let path = format!("{directory}/bin:{}", self.path);
        let script = format!("{mounts} {} exec {line}", self.mounts);
        self.ns
            .cmd("unshare --mount sh -c")
            .arg(script)
            .env("WG_QUICK_USERSPACE_IMPLEMENTATION", program)
            .env("PATH", path)
            // Some wait for others, and the machine may be busy.
            .limit(seconds(60))
    }

    pub fn run(&self, line: &str) -> Output {
        self.cmd(line).run()
    }

    #[track_caller]
    pub fn ok(&self, line: &str) -> Output {
        let output = self.run(line);
        assert!(output.success(), "`{line}`: {}", output.text());
        output
    }

    /// All that bringing an interface up may change.
    pub fn state(&self) -> String {
        let mut state = String::new();
        for command in [
            "ip -d -4 route show table all",
            "ip -d -6 route show table all",
            "ip -d -4 rule",
            "ip -d -6 rule",
            "nft list ruleset",
            "cat /proc/sys/net/ipv4/conf/all/src_valid_mark /etc/resolv.conf",
            "ls -A /etc /etc/wireguard /run/wireguard",
            "ip -o link show",
            "ip -o address show",
        ] {
            // Why a command fails is worth to be shown, too.
            state += &format!("{command}\n{}\n", without_chance(&self.run(command).text()));
        }
        state
    }

    pub fn resolv_conf(&self) -> String {
        fs::read_to_string(self.path("etc/resolv.conf")).unwrap()
    }

    /// Kills every process in the network.
    pub fn kill_all(&self) {
        let pids = Cmd::new(&format!("ip netns pids {}", self.ns.name())).run().stdout;
        for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        assert!(within(seconds(20), || !self.ns.has("wg0")), "the interface goes with its daemon");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.kill_all();
        }
        let pids = Cmd::new(&format!("ip netns pids {}", self.ns.name())).run().stdout;
        for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A link-local address of a TUN device is another one each time; numbers and the order of interfaces say nothing.
fn without_chance(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains("fe80:") && !line.ends_with(".conf"));
    let lines = lines.map(|line| match line.split_once(": ") {
        Some((number, rest))
            if number.bytes().all(|byte| byte.is_ascii_digit()) && !rest.starts_with("from") =>
        {
            rest
        }
        _ => line,
    });
    lines.filter(|line| !line.contains("eth0@")).map(|line| format!("{line}\n")).collect()
}

/// What one says and the other does not is shown.
#[track_caller]
pub fn assert_same(one: &str, other: &str, context: &str) {
    let missing = |from: &str, what: &str, sign: &str| -> String {
        let lines = what.lines().filter(|line| !from.lines().any(|other| other == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    assert!(one == other, "{context}\n{}{}", missing(other, one, "-"), missing(one, other, "+"));
}
