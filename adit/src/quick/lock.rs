//! One after the other: what two processes must not change at a time.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use adit_device::uapi::DIRECTORY;

/// Held by one process at a time, and by none that has ended.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits until nobody else has the lock of this name.
    pub(super) fn take(name: &str) -> io::Result<Lock> {
        fs::create_dir_all(DIRECTORY)?;
        let path = Path::new(DIRECTORY).join(format!("{name}.lock"));
        loop {
            // Who cannot open it cannot hold it.
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            file.lock()?;
            // Whoever held it has removed it; only the file that has the name now is the lock.
            if fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino())) {
                return Ok(Lock { path, _file: file });
            }
        }
    }

    /// That of an interface, for what changes one that is up or takes it down, but not for the user's commands, which may do
    /// such things themselves.
    pub(super) fn of_interface(interface: &str) -> io::Result<Lock> {
        Self::take(&format!("{interface}.quick"))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
