//! Writing a file as a whole: whoever reads it sees what was there before or all of what is there now. Used for all files that
//! may hold keys.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process;

/// Puts a file of this content and mode at `path`. What is there, even if it is a symbolic link, is replaced and not
/// followed; a file beside it has the content first, and only its owner can open that.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (beside, file) = create_beside(path)?;
    let written = write(file, content, mode).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
        return written;
    }
    sync_directory(path)
}

/// Puts a file of this content and mode at `path` if nothing is there, not even a symbolic link that leads nowhere.
pub(crate) fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (beside, file) = create_beside(path)?;
    // A second name, unlike a new one, never takes the place of another file.
    let linked = write(file, content, mode).and_then(|()| fs::hard_link(&beside, path));
    fs::remove_file(&beside)?;
    linked?;
    sync_directory(path)
}

/// A name is to last as the content does.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
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
    let mut number = 0;
    loop {
        let beside = beside(path, number);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            result => return result.map(|file| (beside, file)),
        }
    }
}

fn write(mut file: fs::File, content: &[u8], mode: u32) -> io::Result<()> {
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
}
