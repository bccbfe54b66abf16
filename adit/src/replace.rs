//! Writing a file as a whole: whoever reads it sees what was there before or all of what is there now. Used for all files that
//! may hold keys.
//!
//! What is written first stays beside it when this is killed. Whoever writes the same file next removes that: it is locked
//! for as long as its writer lives.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process;

/// Puts a file of this content and mode at `path`. What is there, even if it is a symbolic link, is replaced and not
/// followed; a file beside it has the content first, and only its owner can open that.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (beside, mut file) = create_beside(path)?;
    let written = write(&mut file, content, mode).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
        return written;
    }
    sync_directory(path)
}

/// Puts a file of this content and mode at `path` if nothing is there, not even a symbolic link that leads nowhere.
pub(crate) fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (beside, mut file) = create_beside(path)?;
    // A second name, unlike a new one, never takes the place of another file.
    let linked = write(&mut file, content, mode).and_then(|()| fs::hard_link(&beside, path));
    fs::remove_file(&beside)?;
    linked?;
    sync_directory(path)
}

/// Why a file cannot be written, and what to do about it.
pub(crate) fn advice(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there (see df and df -i)",
        io::ErrorKind::ReadOnlyFilesystem => "mount it for writing",
        io::ErrorKind::PermissionDenied => "run this as root, and see lsattr for what even root may not do",
        _ => return crate::wg::reason(error),
    };
    format!("{}; {advice}, and try again", crate::wg::reason(error))
}

/// A name is to last as the content does.
fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What such a name ends with, unlike any interface's: after a sudden end it may stay.
pub(crate) const BESIDE: &str = ".tmp~";

fn beside(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{number}{BESIDE}", process::id()));
    name.into()
}

/// A new file of a name that nobody has: `create_new` touches neither somebody's file nor what a symbolic link leads to.
fn create_beside(path: &Path) -> io::Result<(PathBuf, fs::File)> {
    sweep(path);
    let mut number = 0;
    loop {
        let beside = beside(path, number);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
            Ok(file) => {
                // Where there are no locks, nobody removes what is left behind.
                let _ = file.lock();
                // Somebody may have taken it for such a one before.
                if is_still(&beside, &file) {
                    return Ok((beside, file));
                }
            }
        }
    }
}

/// Removes what was left beside the file at `path` by those who were killed while they wrote it.
pub(crate) fn sweep(path: &Path) {
    let Some(name) = path.file_name() else { return };
    for entry in fs::read_dir(directory_of(path)).into_iter().flatten().flatten() {
        if is_beside(name, &entry.file_name()) {
            let _ = remove_abandoned(&entry.path());
        }
    }
}

/// Whether a file of that name may stand beside the one called `name`.
fn is_beside(name: &OsStr, file: &OsStr) -> bool {
    let rest = file.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
    let numbers = rest.and_then(|rest| rest.strip_suffix(BESIDE.as_bytes()));
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    numbers.is_some_and(|numbers| {
        let mut parts = numbers.split(|byte| *byte == b'-');
        parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number) && parts.next().is_none()
    })
}

fn remove_abandoned(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    // Ours are like that; a link's target, or a pipe, is nothing to open.
    if !metadata.is_file() || metadata.uid() != fs::metadata("/proc/self")?.uid() {
        return Ok(());
    }
    let file = fs::File::open(path)?;
    file.try_lock().map_err(|_| io::ErrorKind::WouldBlock)?;
    if is_still(path, &file) { fs::remove_file(path) } else { Ok(()) }
}

/// Whether it is this file that has the name.
fn is_still(path: &Path, file: &fs::File) -> bool {
    let [named, open] = [fs::symlink_metadata(path), file.metadata()];
    named.is_ok_and(|named| open.is_ok_and(|open| (named.dev(), named.ino()) == (open.dev(), open.ino())))
}

fn write(file: &mut fs::File, content: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_overwritten() {
        let directory = std::env::temp_dir().join(format!("adit-create-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let [path, link] = ["new", "link"].map(|name| directory.join(name));
        create(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        symlink(directory.join("missing"), &link).unwrap();
        for there in [&path, &link] {
            assert_eq!(create(there, b"newer", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn links_are_replaced_and_not_followed() {
        let directory = std::env::temp_dir().join(format!("adit-replace-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let [path, target] = ["wg0.conf", "target"].map(|name| directory.join(name));
        fs::write(&target, "target").unwrap();
        for link in [&path, &beside(&path, 0)] {
            symlink(&target, link).unwrap();
        }
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"target");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600);
        assert!(!beside(&path, 1).exists());
        // Somebody's own file, whatever its name, is left alone.
        assert_eq!(fs::read_link(beside(&path, 0)).unwrap(), target);
        fs::remove_dir_all(&directory).unwrap();
    }
    #[test]
    fn what_the_killed_left_is_removed_and_nothing_else() {
        let directory = std::env::temp_dir().join(format!("adit-sweep-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("wg0.conf");
        let [left, locked] = [7, 8].map(|number| beside(&path, number));
        let others = ["wg0.conf.1-x.tmp~", "wg0.conf.1-2-3.tmp~", "wg0.conf.tmp~", "wg1.conf.1-2.tmp~"];
        let others = others.map(|name| directory.join(name));
        for file in others.iter().chain([&left, &locked]) {
            fs::write(file, "half").unwrap();
        }
        let writer = fs::File::open(&locked).unwrap();
        writer.lock().unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert!(!left.exists() && locked.exists() && others.iter().all(|other| other.exists()));
        drop(writer);
        sweep(&path);
        assert!(!locked.exists());
        fs::remove_dir_all(&directory).unwrap();
    }
}
