//! One after the other: what two processes must not change at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use adit_device::uapi::DIRECTORY;
use nix::fcntl::OFlag;

use super::record::make_directory;

/// Held by one process at a time, and by none that has ended.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits until nobody else has the lock of this name.
    pub(super) fn take(name: &str) -> io::Result<Lock> {
        make_directory()?;
        let path = Path::new(DIRECTORY).join(format!("{name}.lock"));
        loop {
            let file = open(&path)?;
            file.lock()?;
            if is_still(&path, &file) {
                return Ok(Lock { path, _file: file });
            }
        }
    }

    /// None if somebody else has it.
    fn try_take(name: &str) -> io::Result<Option<Lock>> {
        make_directory()?;
        let path = Path::new(DIRECTORY).join(format!("{name}.lock"));
        loop {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) if is_still(&path, &file) => return Ok(Some(Lock { path, _file: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// That of an interface, for what changes one that is up or takes it down, but not for the user's commands, which may do
    /// such things themselves.
    pub(super) fn of_interface(interface: &str) -> io::Result<Lock> {
        Self::take(&format!("{interface}.quick"))
    }

    /// That of whoever brings an interface up or stays with it, for as long as they do, the user's commands included. None
    /// if somebody does.
    pub(super) fn of_keeper(interface: &str) -> io::Result<Option<Lock>> {
        Self::try_take(&format!("{interface}.up"))
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Who cannot open it cannot hold it. The directory may be a user's who starts engines: no link leads elsewhere.
    let flags = OFlag::O_NOFOLLOW.bits();
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

/// Whoever held it has removed it; only the file that has the name now is the lock.
fn is_still(path: &Path, file: &File) -> bool {
    fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()))
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
