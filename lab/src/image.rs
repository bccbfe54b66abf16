//! What the virtual machine boots: Debian's cloud kernel as it is, and an initramfs made here.
//!
//! The kernel package is downloaded once, through apt, and unpacked beside the build's other products. The initramfs
//! holds the modules that WireGuard and the network card need, in loading order, busybox, `wg`, `iperf3` and what a test
//! asks for with their libraries, and an `init` that serves commands on the second serial line (see [`crate::vm`]).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cmd::{Cmd, Output};
use crate::require::find;
use crate::seconds;

/// The package that depends on the newest cloud kernel, whichever that is.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// Modules whose dependency trees make a machine with a network card, WireGuard and TUN devices.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_net", "wireguard", "tun"];

/// Programs of the host that the machine runs too.
const PROGRAMS: [&str; 3] = ["busybox", "wg", "iperf3"];

/// Loads the modules, then answers each line with what it printed, 0x1e, its exit status, 0x1e.
///
/// The first process only collects the dead: the end of a program that went to the background would interrupt a `read`
/// there and cost the line that is arriving.
const INIT: &str = "\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read module; do insmod /modules/$module; done < /modules/order
ip link set lo up
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
printf 'ready\\0360\\036' >&3
( while IFS= read -r line <&3; do
  ( eval \"$line\" ) </dev/null >&3 2>&1
  printf '\\036%d\\036' $? >&3
done ) &
while :; do wait; sleep 1; done
";

/// Modules for a machine that has its system on a disk.
const DISK_MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// Goes on with that system.
const DISK_INIT: &str = "\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read module; do insmod /modules/$module; done < /modules/order
mkdir /disk; mount -t ext4 /dev/vda /disk
umount /proc; umount /sys; mount --move /dev /disk/dev
exec switch_root /disk /sbin/init
";

/// What a virtual machine boots: a kernel, and the programs that it has besides those that every machine has.
#[derive(Debug, Clone)]
pub struct Image {
    /// The unpacked package of the kernel.
    tree: PathBuf,
    /// The kernel's version.
    version: String,
    programs: Vec<PathBuf>,
}

impl Image {
    /// Downloads the kernel if it is not there yet; takes some seconds the first time.
    ///
    /// # Errors
    /// What could not be had, in words.
    pub fn obtain() -> Result<Image, String> {
        let cache = cache();
        fs::create_dir_all(&cache).map_err(|e| format!("{}: {e}", cache.display()))?;
        let package = package()?;
        let tree = cache.join(&package);
        if !tree.exists() {
            unpack(&package, &cache, &tree)?;
        }
        let version = package.trim_start_matches("linux-image-").to_owned();
        Ok(Image { tree, version, programs: Vec::new() })
    }

    /// Puts a program of the host into the machine, as `/bin/NAME`, with the shared libraries that it needs.
    #[must_use]
    pub fn with_program(mut self, path: impl Into<PathBuf>) -> Image {
        self.programs.push(path.into());
        self
    }

    /// Where the programs put into it come from.
    pub(crate) fn programs(&self) -> &[PathBuf] {
        &self.programs
    }

    /// The compressed kernel.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.tree.join("boot").join(format!("vmlinuz-{}", self.version))
    }

    /// All modules of the kernel: the directory that stands in `/lib/modules`.
    pub(crate) fn all_modules(&self) -> Result<PathBuf, String> {
        // So that the directory has the list of them too.
        modules(&self.tree, &self.version, &DISK_MODULES)?;
        Ok(self.tree.join("lib/modules").join(&self.version))
    }

    /// Builds the initramfs: a file of its own, for whoever boots it to delete.
    pub(crate) fn build_initramfs(&self) -> Result<PathBuf, String> {
        build(|root| self.populate(root))
    }

    /// The same for a machine that has its system on a disk.
    pub(crate) fn build_disk_initramfs(&self) -> Result<PathBuf, String> {
        build(|root| {
            make_directories(root)?;
            let busybox = find("busybox").ok_or("busybox is not installed")?;
            copy(&busybox, &root.join("bin/busybox"))?;
            copy_libraries(&busybox, root)?;
            self.install(root, &DISK_MODULES, DISK_INIT)
        })
    }

    fn populate(&self, root: &Path) -> Result<(), String> {
        make_directories(root)?;
        for name in PROGRAMS {
            let program = find(name).ok_or_else(|| format!("{name} is not installed"))?;
            copy(&program, &root.join("bin").join(name))?;
            copy_libraries(&program, root)?;
        }
        for program in &self.programs {
            let name = program.file_name().ok_or("a program without a name")?;
            copy_stripped(program, &root.join("bin").join(name))?;
            copy_libraries(program, root)?;
        }
        self.install(root, &MODULES, INIT)
    }

    /// Puts modules, and what runs first.
    fn install(&self, root: &Path, names: &[&str], text: &str) -> Result<(), String> {
        let mut order = String::new();
        for module in modules(&self.tree, &self.version, names)? {
            let name = install_module(&module, &root.join("modules"))?;
            if !order.lines().any(|l| l == name) {
                order += &format!("{name}\n");
            }
        }
        fs::write(root.join("modules/order"), order).map_err(|e| e.to_string())?;
        let init = root.join("init");
        fs::write(&init, text).map_err(|e| e.to_string())?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())
    }
}

/// Packs what `populate` puts into a directory.
fn build(populate: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let archive = cache().join(format!("initramfs-{}-{number}.gz", std::process::id()));
    let root = archive.with_extension("d");
    let _ = fs::remove_dir_all(&root);
    let built = populate(&root).and_then(|()| {
        let pack = format!(
            "cd {} && find . | cpio -o -H newc --quiet | gzip -1 > {}",
            root.display(),
            archive.display()
        );
        succeed(&Cmd::new("sh -c").arg(pack).run())
    });
    let _ = fs::remove_dir_all(&root);
    built.map(|()| archive)
}

fn make_directories(root: &Path) -> Result<(), String> {
    let make = |dir: &str| fs::create_dir_all(root.join(dir)).map_err(|e| e.to_string());
    ["bin", "dev", "modules", "proc", "sys", "tmp"].into_iter().try_for_each(make)
}

pub(crate) fn cache() -> PathBuf {
    let target = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab");
    std::env::var_os("LAB_CACHE").map_or_else(target, PathBuf::from)
}

/// The newest cloud kernel's package, such as `linux-image-6.1.0-56-cloud-amd64`.
fn package() -> Result<String, String> {
    if find("apt-cache").is_none() {
        return Err("no apt to download a kernel with".into());
    }
    let depends = Cmd::new("apt-cache depends").arg(META_PACKAGE).run();
    let line = depends.stdout.lines().find(|l| l.contains("Depends: linux-image-"));
    let name = line.and_then(|l| l.split_whitespace().nth(1));
    name.map(str::to_owned).ok_or_else(|| format!("apt knows no {META_PACKAGE}: {}", depends.stderr.trim()))
}

fn unpack(package: &str, cache: &Path, tree: &Path) -> Result<(), String> {
    // A directory of its own: one download cannot be taken for another, and a half-done one has no name.
    let fresh = cache.join(format!("download-{}", std::process::id()));
    fs::create_dir_all(&fresh).map_err(|e| e.to_string())?;
    let download =
        format!("cd {} && apt-get -qq download {package} && dpkg-deb -x *.deb tree", fresh.display());
    let moved = succeed(&Cmd::new("sh -c").arg(download).limit(seconds(300)).run())
        .and_then(|()| fs::rename(fresh.join("tree"), tree).map_err(|e| e.to_string()));
    let _ = fs::remove_dir_all(&fresh);
    // Somebody else may have been first.
    if tree.exists() { Ok(()) } else { moved }
}

/// The modules' files in loading order, some of them more than once.
fn modules(tree: &Path, version: &str, names: &[&str]) -> Result<Vec<PathBuf>, String> {
    let kmod = |name: &str| {
        find(name).map(|p| p.display().to_string()).ok_or_else(|| format!("{name} is not installed"))
    };
    let (depmod, modprobe, tree) = (kmod("depmod")?, kmod("modprobe")?, tree.display());
    succeed(&Cmd::new(&format!("{depmod} -b {tree} {version}")).run())?;
    let mut files = Vec::new();
    for module in names {
        // Prints `insmod PATH` for each module and `builtin NAME` for what is in the kernel itself.
        let output = Cmd::new(&format!("{modprobe} -d {tree} -S {version} --show-depends {module}")).run();
        files
            .extend(output.stdout.lines().filter_map(|l| l.strip_prefix("insmod ")).map(|p| p.trim().into()));
        succeed(&output)?;
    }
    Ok(files)
}

/// Copies a module, decompressed, and returns its name.
fn install_module(file: &Path, to: &Path) -> Result<String, String> {
    let name = file.file_name().and_then(|n| n.to_str()).ok_or("a module without a name")?;
    let Some(plain) = name.strip_suffix(".xz") else {
        copy(file, &to.join(name))?;
        return Ok(name.to_owned());
    };
    let unpack = format!("xz -dc {} > {}", file.display(), to.join(plain).display());
    succeed(&Cmd::new("sh -c").arg(unpack).run())?;
    Ok(plain.to_owned())
}

/// The shared libraries of a program, its loader among them; none if it is static.
fn libraries(program: &Path) -> Vec<String> {
    let listed = Cmd::new("ldd").arg(program).run().stdout;
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

fn copy_libraries(program: &Path, root: &Path) -> Result<(), String> {
    libraries(program)
        .iter()
        .try_for_each(|library| copy(Path::new(library), &root.join(library.trim_start_matches('/'))))
}

/// Copies a program without its debugging information, which would take most of the machine's memory.
fn copy_stripped(from: &Path, to: &Path) -> Result<(), String> {
    let stripped = find("strip").map(|strip| {
        Cmd::new(&format!("{} --strip-debug -o", strip.display())).arg(to).arg(from).limit(seconds(60)).run()
    });
    if stripped.is_some_and(|output| output.success()) { Ok(()) } else { copy(from, to) }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let parent = to.parent().ok_or("no parent directory")?;
    fs::create_dir_all(parent).map_err(|e| e.to_string())?;
    fs::copy(from, to).map(drop).map_err(|e| format!("{}: {e}", from.display()))
}

fn succeed(output: &Output) -> Result<(), String> {
    if output.success() { Ok(()) } else { Err(output.stderr.trim().to_owned()) }
}
