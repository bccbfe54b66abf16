//! A small Debian, in which packages are installed: made once, by debootstrap, from the mirror that apt has here, and kept
//! beside the build's other products. What a test does to it is on a layer of its own, and gone afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cmd::{Background, Cmd, Output};
use crate::netns::Netns;
use crate::require::{Skip, skip};
use crate::seconds;

/// The programs that [`Debian::new`] needs, for [`require`](crate::require()).
pub const NEEDS: &[&str] = &["netns", "tun", "debootstrap", "unshare", "nsenter", "chroot", "mount"];

/// What it has beyond the least that Debian can have.
const PACKAGES: &str = "systemd-sysv,dbus,man-db,iproute2,nftables,procps,kmod,iputils-ping,bash-completion";
/// The package that has files of the names that ours would like.
const OTHER: &str = "wireguard-tools";

/// Mounts the layers, and waits until nobody needs them any more.
const KEEPER: &str = r#"
base=$1 own=$2
mount -t overlay overlay -o "lowerdir=$base,upperdir=$own/upper,workdir=$own/work" "$own/root" || exit
mount -t proc proc "$own/root/proc" && mount -t sysfs sys "$own/root/sys" && mount --rbind /dev "$own/root/dev" || exit
echo ready
read -r _
"#;

/// A Debian of its own, in a network namespace of its own.
#[derive(Debug)]
pub struct Debian {
    /// Its network.
    pub ns: Netns,
    own: PathBuf,
    keeper: Background,
}

impl Debian {
    /// Makes one.
    ///
    /// # Errors
    /// If there is none to be had; the running test is then recorded as skipped.
    ///
    /// # Panics
    /// If `LAB_REQUIRE_ALL` is 1 and there is none to be had.
    pub fn new() -> Result<Debian, Skip> {
        let base = base().map_err(|reason| unavailable(&reason))?;
        let ns = Netns::new();
        let own = std::env::temp_dir().join(format!("adit-debian-{}", ns.name()));
        for directory in ["", "upper", "work", "root"] {
            fs::create_dir(own.join(directory)).expect("a directory of its own");
        }
        let keeper = ns.cmd("unshare --mount --propagation private sh -c").arg(KEEPER).arg("keeper");
        let mut keeper = keeper.arg(base.join("root")).arg(&own).hold_input().spawn();
        crate::within(seconds(10), || keeper.log().contains("ready") || keeper.exited().is_some());
        let ended = keeper.exited().is_some();
        let debian = Debian { ns, own, keeper };
        if ended {
            return Err(unavailable(&format!("no layers: {}", debian.keeper.log())));
        }
        debian.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755);
        Ok(debian)
    }

    /// The package of wireguard-tools, to be installed by [`Debian::install`].
    ///
    /// # Panics
    /// If there is none, which there always is.
    #[must_use]
    pub fn wireguard_tools() -> PathBuf {
        let base = base().expect("it is there by now");
        find_package(&base, OTHER).expect("it is there with the rest")
    }

    /// Runs a line of shell in it.
    ///
    /// # Panics
    /// If it takes longer than two minutes.
    #[track_caller]
    pub fn run(&self, line: &str) -> Output {
        self.cmd(line).run()
    }

    /// Runs a line of shell in it, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.success(), "`{line}`: {}", output.text());
        output.stdout
    }

    /// Installs a package that is a file out here; returns what was said.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn install(&self, package: &Path) -> String {
        let name = package.file_name().expect("a file").display();
        self.write(&format!("tmp/{name}"), fs::read(package).expect("the package"), 0o644);
        self.ok(&format!(
            "dpkg --force-unsafe-io --install /tmp/{name} 2>&1; status=$?; rm /tmp/{name}; exit $status"
        ))
    }

    /// Writes a file in it.
    ///
    /// # Panics
    /// If it cannot be written.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl Into<Vec<u8>>, mode: u32) {
        let write = format!("umask 077; cat > /{path} && chmod {mode:o} /{path}");
        self.cmd(&write).input(content).ok();
    }

    fn cmd(&self, line: &str) -> Cmd {
        let namespaces = format!("/proc/{}/ns", self.keeper.pid());
        let enter = format!("nsenter --mount={namespaces}/mnt --net={namespaces}/net chroot");
        Cmd::new(&enter)
            .arg(self.own.join("root"))
            .arg("sh")
            .arg("-c")
            .arg(line)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .limit(seconds(120))
    }
}

/// Answers each line of the second serial port as [`crate::image`]'s machines do.
const CONSOLE: &str = "\
#!/bin/sh
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
printf 'ready\\0360\\036' >&3
while IFS= read -r line <&3; do
  ( eval \"$line\" ) </dev/null >&3 2>&1
  printf '\\036%d\\036' $? >&3
done
";

const CONSOLE_UNIT: &str = "\
[Service]
ExecStart=/usr/local/sbin/lab-console
Environment=LC_ALL=C
StandardOutput=null
";

impl Debian {
    /// Makes a disk of it as it is now, with these modules for a kernel: a file of its own, for whoever boots it to delete.
    pub(crate) fn build_disk(&self, modules: &Path) -> Result<PathBuf, String> {
        self.write("usr/local/sbin/lab-console", CONSOLE, 0o755);
        self.write("etc/systemd/system/lab-console.service", CONSOLE_UNIT, 0o644);
        self.ok("mkdir -p /etc/systemd/system/multi-user.target.wants && cd /etc/systemd/system/multi-user.target.wants \
            && ln -s ../lab-console.service . && mkdir -p /usr/lib/modules");
        let disk = crate::image::cache().join(format!("{}.disk", self.ns.name()));
        let script = r#"
            own=$1 modules=$2 disk=$3
            mkdir "$own/whole" && mount --bind "$own/root" "$own/whole" && cp -a "$modules" "$own/whole/usr/lib/modules/" &&
                mkfs.ext4 -q -d "$own/whole" "$disk" 800M
        "#;
        let enter = format!("nsenter --mount=/proc/{}/ns/mnt sh -c", self.keeper.pid());
        let make = Cmd::new(&enter).arg(script).arg("disk").arg(&self.own).arg(modules).arg(&disk);
        succeed(&make.limit(seconds(120)).run()).map(|()| disk)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        // Engines that a failed test has left.
        let pids = Cmd::new(&format!("ip netns pids {}", self.ns.name())).run().stdout;
        for pid in pids.lines().filter(|pid| *pid != self.keeper.pid().to_string()) {
            Cmd::new(&format!("kill -KILL {pid}")).run();
        }
        self.keeper.signal(nix::sys::signal::Signal::SIGKILL);
        let _ = self.keeper.wait(seconds(5));
        let _ = fs::remove_dir_all(&self.own);
    }
}

fn unavailable(reason: &str) -> Skip {
    let reason = format!("no Debian to install in: {reason}");
    assert!(std::env::var_os("LAB_REQUIRE_ALL").is_none_or(|v| v != "1"), "{reason}");
    skip(&reason)
}

/// The directory that has it, as `root`, and the other package.
fn base() -> Result<PathBuf, String> {
    // Several tests may ask at once; it takes a minute.
    static BASE: std::sync::OnceLock<Result<PathBuf, String>> = std::sync::OnceLock::new();
    BASE.get_or_init(obtain).clone()
}

fn obtain() -> Result<PathBuf, String> {
    let (suite, mirror) = source()?;
    let cache = crate::image::cache();
    let base = cache.join(format!("debian-{suite}"));
    if base.exists() {
        return Ok(base);
    }
    // Under a name of its own until it is whole.
    let fresh = cache.join(format!("debian-{suite}-{}", std::process::id()));
    fs::create_dir_all(&fresh).map_err(|e| e.to_string())?;
    let root = fresh.join("root");
    let make = format!("debootstrap --variant=minbase --include={PACKAGES} {suite}");
    let made = succeed(&Cmd::new(&make).arg(&root).arg(mirror).limit(seconds(600)).run())
        .and_then(|()| {
            let download = format!("cd {} && apt-get -qq download {OTHER}", fresh.display());
            succeed(&Cmd::new("sh -c").arg(download).limit(seconds(120)).run())
        })
        .and_then(|()| fs::rename(&fresh, &base).map_err(|e| e.to_string()));
    if made.is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    // Somebody else may have been first.
    if base.exists() { Ok(base) } else { made.map(|()| base) }
}

/// The release that this machine has, and where apt gets it from.
fn source() -> Result<(String, String), String> {
    let release = fs::read_to_string("/etc/os-release").map_err(|e| e.to_string())?;
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.ok_or("this is no Debian")?.trim_matches('"').to_owned();
    let targets = Cmd::new("apt-get indextargets --format $(CODENAME)|$(COMPONENT)|$(SITE)")
        .arg("Created-By: Packages")
        .run();
    let prefix = format!("{suite}|main|");
    let mirror = targets.stdout.lines().find_map(|line| line.strip_prefix(&prefix));
    Ok((suite, mirror.ok_or("apt knows no mirror")?.to_owned()))
}

fn find_package(directory: &Path, name: &str) -> Option<PathBuf> {
    let files = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str());
        file.is_some_and(|file| file.starts_with(&format!("{name}_")) && file.ends_with(".deb"))
    };
    files.into_iter().find(is_it)
}

fn succeed(output: &Output) -> Result<(), String> {
    if output.success() { Ok(()) } else { Err(output.text().lines().last().unwrap_or("failed").to_owned()) }
}
