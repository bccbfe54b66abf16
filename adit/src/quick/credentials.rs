//! What a service manager hands to an interface's service instead of files that anybody might read (systemd.exec(5),
//! "Credentials"): NAME.conf, or only NAME.private-key beside a file without one.

use std::env;
use std::path::{Path, PathBuf};

use adit_crypto::Secret;

use super::Failed;
use crate::wg;

/// Where they are, in a service that has some.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The file of an interface.
pub(super) fn conf(interface: &str) -> Option<PathBuf> {
    find(&format!("{interface}.conf"))
}

/// The private key of an interface.
pub(super) fn private_key(interface: &str) -> Result<Option<Secret<32>>, Failed> {
    match find(&format!("{interface}.private-key")) {
        Some(path) => Ok(wg::set::key_file(&path)?),
        None => Ok(None),
    }
}

pub(super) fn has_private_key(interface: &str) -> bool {
    find(&format!("{interface}.private-key")).is_some()
}

fn find(name: &str) -> Option<PathBuf> {
    // Only what is named from the root: whoever runs this may stand anywhere.
    let directory =
        env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from).filter(|path| path.is_absolute())?;
    Some(directory.join(name)).filter(|path| path.is_file())
}

/// Whether a file is one of them. The service manager alone writes those.
pub(super) fn holds(path: &Path) -> bool {
    let directory = env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from);
    let directory = directory.filter(|path| path.is_absolute()).and_then(|path| path.canonicalize().ok());
    directory.is_some_and(|directory| path.parent() == Some(&directory))
}
