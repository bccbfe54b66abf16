//! The Linux kernel's own WireGuard as the peer: a virtual machine under QEMU, without hardware acceleration.
//!
//! It boots in some four seconds. A tap device in a namespace is its cable; commands travel over a serial line: a line
//! of shell there, and back what it printed, 0x1e, its exit status, 0x1e.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::cmd::{Background, Cmd};
use crate::debian::Debian;
use crate::image::Image;
use crate::netns::Netns;
use crate::require::{Skip, skip};
use crate::{seconds, within};

/// The tap device, on this side of the machine's cable.
pub const TAP: &str = "tap0";

/// The programs that [`Vm::shared`] needs, for [`require`](crate::require()).
pub const NEEDS: &[&str] = &[
    "netns",
    "tun",
    "qemu-system-x86_64",
    "busybox",
    "wg",
    "iperf3",
    "cpio",
    "gzip",
    "xz",
    "ldd",
    "depmod",
    "dpkg-deb",
];

/// Runs QEMU until the test process has ended, however it ended: then the pipe that is its standard input closes.
/// The machine may therefore live in a static, and is still gone afterwards, namespace, files and all.
const KEEPER: &str = r#"
namespace=$1 files=$2; shift 2
ip netns exec "$namespace" "$@" </dev/null & machine=$!
trap : TERM INT
read -r _
kill "$machine"; wait "$machine"
ip netns del "$namespace"; rm -f $files
"#;

/// A running virtual machine.
#[derive(Debug)]
pub struct Vm {
    /// The namespace with the other end of its cable: [`TAP`], 10.88.0.1/24 and fd88::1/64.
    pub ns: Netns,
    console: Mutex<UnixStream>,
    /// Where its programs beyond the usual ones came from.
    programs: Vec<PathBuf>,
    _keeper: Background,
}

impl Vm {
    /// The machine that all tests of this process share; the first call boots it.
    ///
    /// # Errors
    /// If there is no kernel to boot; the running test is then recorded as skipped.
    ///
    /// # Panics
    /// If there is one but it does not come up, or there is none and `LAB_REQUIRE_ALL` is 1.
    pub fn shared() -> Result<&'static Vm, Skip> {
        Vm::shared_with(&[])
    }

    /// The machine that all tests of this process share, with these programs of the host in it, as `/bin/NAME`. The first
    /// call boots it.
    ///
    /// # Errors
    /// Like [`Vm::shared`].
    ///
    /// # Panics
    /// Like [`Vm::shared`], and if an earlier call booted it without one of the programs.
    pub fn shared_with(programs: &[&Path]) -> Result<&'static Vm, Skip> {
        static VM: OnceLock<Result<Vm, String>> = OnceLock::new();
        let booted = VM.get_or_init(|| Vm::boot_with(programs));
        let vm = booted.as_ref().map_err(|reason| missing(reason))?;
        let has = |path: &&Path| vm.programs.iter().any(|program| program == path);
        assert!(programs.iter().all(has), "the machine was booted without one of {programs:?}");
        Ok(vm)
    }

    /// A machine for the running test alone, with these programs of the host in it, as `/bin/NAME`.
    ///
    /// # Errors
    /// Like [`Vm::shared`].
    ///
    /// # Panics
    /// Like [`Vm::shared`].
    pub fn alone_with(programs: &[&Path]) -> Result<Vm, Skip> {
        Vm::boot_with(programs).map_err(|reason| missing(&reason))
    }

    fn boot_with(programs: &[&Path]) -> Result<Vm, String> {
        let image = programs.iter().fold(Image::obtain()?, Image::with_program);
        Vm::boot(&image)
    }

    /// Its address on the cable; IPv6: `fd88::2`.
    pub const ADDRESS4: &'static str = "10.88.0.2";
    /// Its IPv6 address on the cable.
    pub const ADDRESS6: &'static str = "fd88::2";

    /// Boots a machine of its own, and returns when it takes commands.
    ///
    /// # Errors
    /// What its initramfs lacks, in words.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn boot(image: &Image) -> Result<Vm, String> {
        let initramfs = image.build_initramfs()?;
        let ns = Netns::new();
        ns.ip(&format!("tuntap add mode tap {TAP}"));
        ns.ip(&format!("link set {TAP} up"));
        ns.address(TAP, "10.88.0.1/24");
        ns.address(TAP, "fd88::1/64");
        let socket = std::env::temp_dir().join(format!("{}.console", ns.name()));
        let keeper = keeper(&ns, &image.kernel(), &initramfs, None, &socket);
        let console = connect(&socket, &keeper);
        let programs = image.programs().to_vec();
        let vm = Vm { ns, console: Mutex::new(console), programs, _keeper: keeper };
        vm.read_answer(&mut vm.console.lock().expect("nobody holds it yet"));
        vm.ok("ip link set eth0 up; echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad");
        vm.ok("ip addr add 10.88.0.2/24 dev eth0 && ip addr add fd88::2/64 dev eth0");
        Ok(vm)
    }

    /// Boots a Debian as it is now, with systemd, and returns when it takes commands: in a minute or two. What is done to
    /// it there is not done here.
    ///
    /// # Errors
    /// What there is no way to boot with, in words.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn boot_debian(debian: &Debian) -> Result<Vm, String> {
        let image = Image::obtain()?;
        let initramfs = image.build_disk_initramfs()?;
        let disk = debian.build_disk(&image.all_modules()?)?;
        let ns = Netns::new();
        ns.ip(&format!("tuntap add mode tap {TAP}"));
        let socket = std::env::temp_dir().join(format!("{}.console", ns.name()));
        let keeper = keeper(&ns, &image.kernel(), &initramfs, Some(&disk), &socket);
        let console = connect(&socket, &keeper);
        console.set_read_timeout(Some(seconds(300))).expect("a time limit");
        let vm = Vm { ns, console: Mutex::new(console), programs: Vec::new(), _keeper: keeper };
        vm.read_answer(&mut vm.console.lock().expect("nobody holds it yet"));
        Ok(vm)
    }

    /// Runs a line of shell in the machine: its exit status, and what it printed.
    ///
    /// # Panics
    /// If no answer comes within 60 seconds.
    #[track_caller]
    pub fn run(&self, line: &str) -> (i32, String) {
        // A test that panicked while it held the console has lost its answer, and the next one would read it.
        let mut console = self.console.lock().expect("no test has failed on the console");
        console.write_all(format!("{line}\n").as_bytes()).expect("writing to the console");
        self.read_answer(&mut console)
    }

    /// Runs a line of shell in the machine and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let (status, text) = self.run(line);
        assert_eq!(status, 0, "`{line}` in the virtual machine\n{text}");
        text
    }

    #[track_caller]
    fn read_answer(&self, console: &mut UnixStream) -> (i32, String) {
        let text = read_field(console);
        let status = read_field(console);
        (status.parse().unwrap_or_else(|_| panic!("no exit status: {status:?}")), text)
    }
}

/// The running test is skipped, or fails where nothing may be missing.
fn missing(reason: &str) -> Skip {
    assert!(std::env::var_os("LAB_REQUIRE_ALL").is_none_or(|v| v != "1"), "no virtual machine: {reason}");
    skip(&format!("no virtual machine: {reason}"))
}

fn read_field(console: &mut UnixStream) -> String {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    loop {
        console.read_exact(&mut byte).expect("an answer from the virtual machine");
        if byte[0] == 0x1e {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        bytes.push(byte[0]);
    }
}

fn keeper(ns: &Netns, kernel: &Path, initramfs: &Path, disk: Option<&Path>, socket: &Path) -> Background {
    let mut files = format!("{} {}", socket.display(), initramfs.display());
    let mut drive = String::new();
    if let Some(disk) = disk {
        files += &format!(" {}", disk.display());
        drive = format!("-drive file={},format=raw,if=virtio,cache=unsafe", disk.display());
    }
    let memory = if disk.is_some() { "512M" } else { "256M" };
    let machine = format!(
        "qemu-system-x86_64 -accel tcg -cpu max -m {memory} -display none -monitor none -no-reboot -nodefaults \
         {drive} -kernel {} -initrd {} -serial null -serial unix:{},server=on,wait=off \
         -nic tap,ifname={TAP},script=no,downscript=no,model=virtio-net-pci",
        kernel.display(),
        initramfs.display(),
        socket.display()
    );
    let mut keeper = Cmd::new("sh -c").arg(KEEPER).arg("keeper").arg(ns.name()).arg(files);
    for word in machine.split_whitespace() {
        keeper = keeper.arg(word);
    }
    keeper.arg("-append").arg("quiet panic=-1").hold_input().spawn()
}

fn connect(socket: &Path, keeper: &Background) -> UnixStream {
    let mut console = None;
    within(seconds(10), || {
        console = UnixStream::connect(socket).ok();
        console.is_some()
    });
    let console = console.unwrap_or_else(|| panic!("the virtual machine does not start\n{}", keeper.log()));
    console.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
    console
}
