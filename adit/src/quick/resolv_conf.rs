//! `/etc/resolv.conf` where nobody looks after it: it is replaced, and what was there comes back.
//!
//! What was there is kept under another name, itself and not its content: a symbolic link stays one. In a container it is
//! often mounted, and can neither be moved nor replaced; then the content is what is kept and put back.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use adit_control::quick::dns::{kept, kept_for, made_for};

use super::replace::replace;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Name servers are no secret: every program reads them.
const MODE: u32 = 0o644;

/// Whether it was, and what was there has not come back.
pub(super) fn is_replaced_for(interface: &str) -> bool {
    fs::symlink_metadata(kept(interface)).is_ok() || is_made_for(Path::new(RESOLV_CONF), interface)
}

fn is_made_for(path: &Path, interface: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|content| made_for(&content) == Some(interface))
}

pub(super) fn set(interface: &str, content: &str) -> io::Result<()> {
    let kept = kept(interface);
    match fs::hard_link(RESOLV_CONF, &kept) {
        // There was none.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if is_mounted(&error) => replace(Path::new(&kept), &fs::read(RESOLV_CONF)?, MODE)?,
        result => result?,
    }
    put(content.as_bytes()).inspect_err(|_| {
        let _ = fs::remove_file(&kept);
    })
}

fn put(content: &[u8]) -> io::Result<()> {
    match replace(Path::new(RESOLV_CONF), content, MODE) {
        Err(error) if is_mounted(&error) => {
            let mut file = fs::OpenOptions::new().write(true).truncate(true).open(RESOLV_CONF)?;
            file.write_all(content)
        }
        result => result,
    }
}

/// A file that is mounted cannot be linked to from outside of it, nor be renamed.
fn is_mounted(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::CrossesDevices | ErrorKind::ResourceBusy)
}

/// Takes back what was done for an interface. If another one came later, the file is that one's, and what was kept for this
/// interface is what was kept for that one from now on. A file that somebody else has put there meanwhile stays.
pub(super) fn restore(interface: &str) -> io::Result<()> {
    let own = PathBuf::from(kept(interface));
    let replaced = [PathBuf::from(RESOLV_CONF)].into_iter().chain(others(interface)?);
    let Some(replaced) = replaced.into_iter().find(|path| is_made_for(path, interface)) else {
        return ignore_absence(fs::remove_file(&own));
    };
    match fs::rename(&own, &replaced) {
        // There was none before.
        Err(error) if error.kind() == ErrorKind::NotFound => fs::remove_file(&replaced),
        Err(error) if is_mounted(&error) => {
            put(&fs::read(&own)?)?;
            fs::remove_file(&own)
        }
        result => result,
    }
}

/// What is kept for other interfaces.
fn others(interface: &str) -> io::Result<Vec<PathBuf>> {
    let mut others = Vec::new();
    for entry in fs::read_dir("/etc")? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().and_then(kept_for).is_some_and(|other| other != interface) {
            others.push(entry.path());
        }
    }
    Ok(others)
}

fn ignore_absence(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
