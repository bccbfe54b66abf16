//! Which files remain in reach (landlock(7)), beside those that are open.

use std::env;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use adit_device::uapi::DIRECTORY;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, NetPort, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Purpose;
use crate::service::NOTIFY_SOCKET;

/// What this program knows to name. Where the kernel knows less, the rest is left out.
const KNOWN: ABI = ABI::V7;

/// What looking up a name reads: which files, services and servers to ask, and the modules of the C library that do. Those in
/// `/etc` are replaced at any time by other ones, which only a rule for the whole directory holds for.
const OF_NAMES: [&str; 12] = [
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share",
    "/nix/store",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/nscd",
];
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where what nobody wants to see goes, and where programs read that want to read nothing.
const NULL: &str = "/dev/null";
/// The port of name servers, which the C library asks over TCP where an answer is too long for UDP.
const DOMAIN: u16 = 53;

/// Leaves in reach what that takes.
pub(super) fn restrict(purpose: Purpose<'_>) -> Result<(), String> {
    match restrict_to(purpose) {
        Ok(RestrictionStatus { ruleset: RulesetStatus::NotEnforced, .. }) => {
            Err("the kernel has no landlock, or has it switched off".to_owned())
        }
        Ok(status) => {
            log::debug!("landlock: {:?}", status.ruleset);
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn restrict_to(purpose: Purpose<'_>) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(scope())?
        .create()?
        .add_rules(path_beneath_rules([NULL], AccessFs::ReadFile | AccessFs::WriteFile))?;
    let ruleset = match purpose {
        Purpose::Engine => ruleset
            .add_rules(path_beneath_rules(of_names(), read))?
            .add_rules(path_beneath_rules([DIRECTORY], AccessFs::RemoveFile))?
            .add_rule(NetPort::new(DOMAIN, AccessNet::ConnectTcp))?,
        Purpose::Metrics(socket) => ruleset
            // The directory of the engines' sockets may be made later.
            .add_rules(path_beneath_rules(Path::new(DIRECTORY).parent(), AccessFs::ReadDir))?
            // What engines have left behind is removed, and at last what is its own.
            .add_rules(path_beneath_rules(
                [Path::new(DIRECTORY)].into_iter().chain(socket),
                AccessFs::RemoveFile,
            ))?,
    };
    ruleset.restrict_self()
}

fn of_names() -> impl Iterator<Item = PathBuf> {
    // Wherever whoever manages name servers keeps it.
    let elsewhere =
        Path::new(RESOLV_CONF).canonicalize().ok().and_then(|file| Some(file.parent()?.to_owned()));
    OF_NAMES.into_iter().map(PathBuf::from).chain(elsewhere.filter(|directory| *directory != Path::new("/")))
}

/// Whom it could send signals, and which sockets without a file it could reach: none but the service manager's.
fn scope() -> BitFlags<Scope> {
    let is_abstract = env::var_os(NOTIFY_SOCKET).is_some_and(|path| path.as_bytes().starts_with(b"@"));
    if is_abstract { Scope::Signal.into() } else { Scope::from_all(KNOWN) }
}
