//! A file for secrets: whoever else could read it, or chose where it is, keeps them from being written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// The bits of a mode that are about others.
const OTHERS: u32 = 0o077;

/// Opens the file at `path` to append to it; one that is made is its owner's alone. Pipes and devices have their own rules,
/// and are opened as they are.
///
/// Why the mode of a file that is there is not changed: whoever has it open already would go on reading.
///
/// # Errors
/// Of the system; [`ErrorKind::PermissionDenied`] when others may read or replace the file, or when the path is a symbolic
/// link that somebody else made, who could have anything appended to.
pub fn append_private(path: &Path) -> io::Result<File> {
    let open = |flags: OFlag| {
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags.bits()).open(path)
    };
    let is_ours = |owner: u32| owner == geteuid().as_raw();
    let file = match open(OFlag::O_NOFOLLOW) {
        // Links are also what /dev/stderr and the like are.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => {
            let owner = fs::symlink_metadata(path)?.uid();
            if !is_ours(owner) && owner != 0 {
                return Err(refusal("it is a link that another user made; name the file itself"));
            }
            open(OFlag::empty())?
        }
        result => result?,
    };
    let metadata = file.metadata()?;
    if metadata.is_file() && (metadata.mode() & OTHERS != 0 || !is_ours(metadata.uid())) {
        return Err(refusal(
            "others may read it; give it mode 0600 and this user as its owner, or name another",
        ));
    }
    Ok(file)
}

fn refusal(why: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
    use std::path::PathBuf;

    use super::*;

    /// A folder that is removed in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("private-{name}-{}", std::process::id()));
            fs::create_dir(&path).expect("a new folder");
            Folder(path)
        }

        fn file(&self, mode: u32) -> PathBuf {
            let path = self.0.join(format!("{mode:o}"));
            fs::write(&path, "before\n").expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[track_caller]
    fn assert_refused(path: &Path, why: &str) {
        let error = append_private(path).expect_err("it is not private");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(why), "{error}");
    }

    #[test]
    fn new_files_are_private_and_private_ones_go_on() {
        let folder = Folder::new("new");
        let new = folder.0.join("new");
        append_private(&new).unwrap().write_all(b"one\n").unwrap();
        append_private(&new).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&new).unwrap(), "one\ntwo\n");
        assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, 0o600);
        append_private(&folder.file(0o400 | 0o200)).unwrap();
    }

    #[test]
    fn what_others_may_read_is_left_alone() {
        let folder = Folder::new("open");
        for mode in [0o644, 0o640, 0o602, 0o660] {
            let path = folder.file(mode);
            assert_refused(&path, "others may read it");
            assert_eq!(fs::read_to_string(&path).unwrap(), "before\n");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
        }
        let path = folder.file(0o600);
        // Who is not root cannot give files away, and nobody can then have given him one.
        if chown(&path, Some(65_534), None).is_ok() {
            assert_refused(&path, "others may read it");
        }
    }

    #[test]
    fn links_of_others_are_not_followed() {
        let folder = Folder::new("links");
        let (link, file) = (folder.0.join("link"), folder.file(0o600));
        symlink(&file, &link).unwrap();
        append_private(&link).unwrap();
        if lchown(&link, Some(65_534), None).is_ok() {
            assert_refused(&link, "another user made");
        }
    }

    #[test]
    fn devices_and_pipes_are_as_they_are() {
        append_private(Path::new("/dev/null")).unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
        append_private(Path::new(&path)).unwrap().write_all(b"secret").unwrap();
    }
}
