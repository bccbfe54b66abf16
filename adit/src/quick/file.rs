//! The file of an interface: where it is, and what it says.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use adit_control::conf::{self, Draft, Mode};
use adit_control::quick::{self, Config};

use super::{Failed, credentials};
use crate::wg;

/// Everybody who is neither the owner nor of the group.
const OTHERS: u32 = 0o007;
/// Where routing tables have names, the files in the order in which they count.
const TABLE_NAMES: [&str; 3] =
    ["/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables", "/usr/lib/iproute2/rt_tables"];

/// An interface's file.
pub(super) struct File {
    /// The name of the interface, which the file's name says.
    pub interface: String,
    /// Where it is, through all symbolic links.
    pub path: PathBuf,
    pub config: Config,
}

impl File {
    /// Reads the file of an interface or path.
    pub(super) fn read(name: &str) -> Result<File, Failed> {
        let path = path(name);
        let shown = path.display();
        if !path.exists() {
            let failed = Failed::because(format_args!("`{shown}' does not exist"));
            if is_interface_name(name) && Path::new(name).is_file() {
                wg::tell(format_args!("The file in this directory is named ./{name}"));
            }
            return Err(failed);
        }
        let interface = interface(&path).ok_or_else(|| {
            Failed::because("The config file must be a valid interface name, followed by .conf")
        })?;
        let unreadable =
            |error: &std::io::Error| Failed::because(format_args!("{shown}: {}", wg::reason(error)));
        let path = fs::canonicalize(&path).map_err(|error| unreadable(&error))?;
        if is_world_accessible(&path) {
            wg::tell(format_args!("Warning: `{}' is world accessible", path.display()));
        }
        let content = wg::setconf::read(&path)?;
        let config = quick::read(&content, table_number).map_err(|error| {
            wg::tell(error.display(&path.to_string_lossy()));
            Failed(1)
        })?;
        let file = File { interface, path, config };
        if file.config.save {
            file.check_savable()?;
        }
        Ok(file)
    }

    /// What saving would write must not be what somebody else keeps, or keeps secret.
    pub(super) fn check_savable(&self) -> Result<(), Failed> {
        let File { interface, path, config } = self;
        let why = if credentials::holds(path) {
            "it is a credential, and not to be written"
        } else if credentials::has_private_key(interface) && !has_private_key(config) {
            "the private key would go into it, which a credential keeps"
        } else {
            return Ok(());
        };
        Err(Failed::because(format_args!(
            "{}: cannot be saved to: {why}; leave SaveConfig out",
            path.display()
        )))
    }

    /// What the file says to `wg`.
    pub(super) fn draft(&self) -> Result<Draft, Failed> {
        let mut draft = conf::read(&self.config.rest, Mode::Addition).map_err(|error| {
            wg::tell(error.display(&self.path.to_string_lossy()));
            Failed(1)
        })?;
        if draft.set.private_key.is_none() {
            draft.set.private_key = credentials::private_key(&self.interface)?.map(Some);
        }
        Ok(draft)
    }
}

fn has_private_key(config: &Config) -> bool {
    conf::read(&config.rest, Mode::Addition).is_ok_and(|draft| draft.set.private_key.is_some())
}

/// Whether the file of an interface or path can be read without more rights, if there is one.
pub(super) fn is_readable(name: &str) -> bool {
    let path = path(name);
    !matches!(fs::File::open(path), Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The file of an interface, or the file of that name.
pub(crate) fn path(name: &str) -> PathBuf {
    match is_interface_name(name) {
        true => {
            let file = || PathBuf::from(format!("/etc/wireguard/{name}.conf"));
            credentials::conf(name).unwrap_or_else(file)
        }
        false => PathBuf::from(name),
    }
}

/// The interface that a file of this name is for.
pub(crate) fn interface(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(".conf")?;
    is_interface_name(name).then(|| name.to_owned())
}

/// Whether wg-quick takes it for the name of an interface.
pub(crate) fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_=+.-".contains(&byte))
}

fn is_world_accessible(path: &Path) -> bool {
    let others = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.mode() & OTHERS);
    others(path) & path.parent().map_or(OTHERS, others) != 0
}

/// The number of a routing table of that name.
pub(crate) fn table_number(name: &str) -> Option<u32> {
    let builtin = match name {
        "main" => 254,
        "default" => 253,
        "local" => 255,
        _ => return TABLE_NAMES.iter().find_map(|path| number_in(&fs::read_to_string(path).ok()?, name)),
    };
    Some(builtin)
}

/// Each line is a number and a name.
fn number_in(file: &str, wanted: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let number = words.next()?.parse().ok()?;
        (words.next()? == wanted).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_interfaces() {
        assert_eq!(path("wg0"), Path::new("/etc/wireguard/wg0.conf"));
        assert_eq!(path("./wg0.conf"), Path::new("./wg0.conf"));
        // A short name of a file is one of an interface too.
        assert_eq!(path("wg0.conf"), Path::new("/etc/wireguard/wg0.conf.conf"));
        assert_eq!(interface(Path::new("/x/wg-0_=+..conf")).as_deref(), Some("wg-0_=+."));
        for wrong in ["/x/.conf", "/x/wg0", "/x/sixteen-letters-.conf", "/x/w g.conf", "/x/wg0.conf.bak"] {
            assert_eq!(interface(Path::new(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_tables() {
        let file = "# reserved\n255\tlocal\n 100 vpn # mine\n101 vpn2\n";
        assert_eq!(number_in(file, "vpn"), Some(100));
        assert_eq!(number_in(file, "mine"), None);
    }
}
