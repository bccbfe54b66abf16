//! `/etc/resolv.conf` where nobody looks after it: it is replaced, and what was there comes back.
//!
//! What was there is kept under another name, itself and not its content: a symbolic link stays one. In a container it is
//! often mounted, and can neither be moved nor replaced; then the content is what is kept and put back.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use adit_control::quick::dns::{kept, kept_for, made_for};

use super::lock::Lock;
use crate::replace::{BESIDE, advice, replace};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Name servers are no secret: every program reads them.
const MODE: u32 = 0o644;
/// What a link leads to that is kept where there was nothing to keep. Without it, a kept file that is missing is one that
/// somebody has removed.
const NONE: &str = "there was none";

/// Whether it was, and what was there has not come back.
pub(super) fn is_replaced_for(interface: &str) -> bool {
    is_kept_for(interface) || is_made_for(Path::new(RESOLV_CONF), interface)
}

/// Whether something is kept, to come back.
pub(super) fn is_kept_for(interface: &str) -> bool {
    fs::symlink_metadata(kept(interface)).is_ok()
}

fn is_made_for(path: &Path, interface: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|content| made_for(&content) == Some(interface))
}

pub(super) fn set(interface: &str, content: &str) -> io::Result<()> {
    try_set(interface, content).map_err(|error| explained(&error))
}

/// Says which file it is, and what to do.
fn explained(error: &io::Error) -> io::Error {
    io::Error::other(format!("{RESOLV_CONF}: {}", advice(error)))
}

fn try_set(interface: &str, content: &str) -> io::Result<()> {
    // Interfaces come and go one after the other, as far as this file is concerned.
    let _lock = Lock::take("resolv.conf")?;
    let own = PathBuf::from(kept(interface));
    // What an earlier try has left is the one to come back.
    if !(is_kept_for(interface) && is_ours(interface)) {
        ignore_absence(fs::remove_file(&own))?;
        keep(&own)?;
    }
    put(content.as_bytes()).inspect_err(|_| {
        // A file that is mounted has perhaps half of the new content. Where that stays, the kept one is the only one.
        let _ = put_back(&own, Path::new(RESOLV_CONF));
    })
}

fn keep(own: &Path) -> io::Result<()> {
    match fs::hard_link(RESOLV_CONF, own) {
        Err(error) if error.kind() == ErrorKind::NotFound => symlink(NONE, own),
        Err(error) if is_mounted(&error) => replace(own, &fs::read(RESOLV_CONF)?, MODE),
        result => result,
    }
}

/// Whether `/etc/resolv.conf` has what was put there for an interface, or nothing, as if that had been cut off.
fn is_ours(interface: &str) -> bool {
    is_made_for(Path::new(RESOLV_CONF), interface)
        || fs::metadata(RESOLV_CONF).is_ok_and(|file| file.len() == 0)
}

fn put(content: &[u8]) -> io::Result<()> {
    match replace(Path::new(RESOLV_CONF), content, MODE) {
        Err(error) if is_mounted(&error) => overwrite(content),
        result => result,
    }
}

/// Of a file that is mounted, only the content can change. It is never empty meanwhile, whatever ends this.
fn overwrite(content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(RESOLV_CONF)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

/// A file that is mounted cannot be linked to from outside of it, nor be renamed.
fn is_mounted(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::CrossesDevices | ErrorKind::ResourceBusy)
}

/// Takes back what was done for an interface. If another one came later, the file is that one's, and what was kept for this
/// interface is what was kept for that one from now on. A file that somebody else has put there meanwhile stays.
pub(super) fn restore(interface: &str) -> io::Result<()> {
    // Where there is no lock to be had, it has to come back all the same.
    let _lock = Lock::take("resolv.conf");
    let own = PathBuf::from(kept(interface));
    let resolv_conf = PathBuf::from(RESOLV_CONF);
    let replaced = [resolv_conf.clone()].into_iter().chain(others(interface)?);
    let replaced = replaced.into_iter().find(|path| is_made_for(path, interface));
    let Some(replaced) = replaced.or_else(|| is_ours(interface).then_some(resolv_conf)) else {
        return ignore_absence(fs::remove_file(&own));
    };
    match put_back(&own, &replaced) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let why = format!("{} stays as it is: what was there before is gone", replaced.display());
            Err(io::Error::other(why))
        }
        result => result.map_err(|error| explained(&error)),
    }
}

/// Puts what is kept where it was, or where it is kept for a later interface.
fn put_back(own: &Path, place: &Path) -> io::Result<()> {
    let is_none = fs::read_link(own).is_ok_and(|target| target == Path::new(NONE));
    if is_none && place == Path::new(RESOLV_CONF) {
        let removed = ignore_absence(fs::remove_file(place));
        return removed.and(fs::remove_file(own));
    }
    match fs::rename(own, place) {
        Err(error) if is_mounted(&error) => {
            overwrite(&fs::read(own)?)?;
            fs::remove_file(own)
        }
        // Two names of one file stay, both.
        result => result.and_then(|()| ignore_absence(fs::remove_file(own))),
    }
}

/// What is kept for other interfaces.
fn others(interface: &str) -> io::Result<Vec<PathBuf>> {
    let mut others = Vec::new();
    for entry in fs::read_dir("/etc")? {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .to_str()
            .filter(|name| !name.ends_with(BESIDE))
            .and_then(kept_for)
            .is_some_and(|other| other != interface)
        {
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
