//! Which files remain in reach (landlock(7)), beside those that are open.

use std::env;
use std::error::Error;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use adit_device::uapi::DIRECTORY;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, PathFdError,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
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

fn restrict_to(purpose: Purpose<'_>) -> Result<RestrictionStatus, Box<dyn Error>> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(scope())?
        .create()?
        .add_rules(allow([NULL.into()], AccessFs::ReadFile | AccessFs::WriteFile))?;
    let ruleset = match purpose {
        Purpose::Engine => ruleset
            .add_rules(allow(of_names(), read))?
            .add_rules(allow([DIRECTORY.into()], AccessFs::RemoveFile))?
            .add_rule(NetPort::new(DOMAIN, AccessNet::ConnectTcp))?,
        Purpose::Metrics(socket) => ruleset
            // The directory of the engines' sockets may be made later.
            .add_rules(allow(Path::new(DIRECTORY).parent().map(PathBuf::from), AccessFs::ReadDir))?
            // What engines have left behind is removed, and at last what is its own.
            .add_rules(allow(
                [DIRECTORY.into()].into_iter().chain(socket.map(PathBuf::from)),
                AccessFs::RemoveFile,
            ))?,
    };
    Ok(ruleset.restrict_self()?)
}

/// Rules for what there is of `paths`. Whatever else keeps one from being made, descriptors that have run out for one, keeps all
/// from being enforced: what is needed later would be out of reach.
fn allow(
    paths: impl IntoIterator<Item = PathBuf>,
    access: impl Into<BitFlags<AccessFs>>,
) -> impl Iterator<Item = Result<PathBeneath<PathFd>, Box<dyn Error>>> {
    let access = access.into();
    paths.into_iter().filter_map(move |path| match PathFd::new(path) {
        Ok(place) => Some(Ok(PathBeneath::new(place, access))),
        Err(PathFdError::OpenCall { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(error.into())),
    })
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
