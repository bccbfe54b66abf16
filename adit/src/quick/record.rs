//! What the system does not show of an interface that is up, noted beside its socket: that it was brought up, and whether
//! marks count for source validation because of it.
//!
//! Interfaces of other network namespaces have their notes in the same directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use adit_device::uapi::DIRECTORY;
use adit_net::netlink::if_index;

use super::replace::replace;

const SRC_VALID_MARK: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";

/// A note on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Marks did not count before.
    pub src_valid_mark: bool,
}

const MARKED: &str = "src_valid_mark";

fn path(interface: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{interface}.quick"))
}

/// The note on an interface of this network namespace.
pub(super) fn read(interface: &str) -> Option<Record> {
    let text = fs::read_to_string(path(interface)).ok()?;
    let mut lines = text.lines();
    let is_here = lines.next() == namespace().ok().as_deref();
    is_here.then(|| Record { src_valid_mark: lines.any(|line| line == MARKED) })
}

pub(super) fn write(interface: &str, record: Record) -> io::Result<()> {
    let mut text = format!("{}\n", namespace()?);
    if record.src_valid_mark {
        text += &format!("{MARKED}\n");
    }
    fs::create_dir_all(DIRECTORY)?;
    replace(&path(interface), text.as_bytes(), 0o600)
}

/// Takes the note away.
pub(super) fn forget(interface: &str) {
    if read(interface).is_some() {
        let _ = fs::remove_file(path(interface));
    }
}

fn namespace() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/net")?.display().to_string())
}

/// Whether marks count now.
pub(super) fn src_valid_mark() -> bool {
    fs::read_to_string(SRC_VALID_MARK).is_ok_and(|value| value.trim() == "1")
}

/// Whether they do because of another interface than this one.
pub(super) fn is_src_valid_mark_ours(except: &str) -> bool {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let interface = name.to_str().and_then(|name| name.strip_suffix(".quick"));
        interface.is_some_and(|interface| {
            interface != except
                && if_index(interface).is_ok()
                && read(interface).is_some_and(|record| record.src_valid_mark)
        })
    })
}

/// Makes marks count, and notes that they did not.
pub(super) fn set_src_valid_mark(interface: &str) -> io::Result<()> {
    write(interface, Record { src_valid_mark: true })?;
    fs::write(SRC_VALID_MARK, "1")
}

/// Makes them count no more, unless another interface needs that.
pub(super) fn unset_src_valid_mark(interface: &str) -> io::Result<()> {
    if !is_src_valid_mark_ours(interface) {
        fs::write(SRC_VALID_MARK, "0")?;
    }
    write(interface, Record::default())
}
