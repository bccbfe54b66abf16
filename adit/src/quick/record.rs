//! What the system does not show of an interface that is up, noted beside its socket: that it was brought up, which
//! routing table its rules lead to, and whether marks count for source validation because of it.
//!
//! Interfaces of other network namespaces have their notes in the same directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use adit_device::uapi::{DIRECTORY, socket_path};
use adit_net::netlink::if_index;

use crate::client::is_served;
use crate::replace::replace;

const SRC_VALID_MARK: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";

/// A note on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Rules lead to this table.
    pub table: Option<u32>,
    /// Marks did not count before.
    pub src_valid_mark: bool,
}

const TABLE: &str = "table ";
const MARKED: &str = "src_valid_mark";

fn path(interface: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{interface}.quick"))
}

/// The note on an interface of this network namespace.
pub(super) fn read(interface: &str) -> Option<Record> {
    let text = fs::read_to_string(path(interface)).ok()?;
    let (namespace_then, rest) = text.split_once('\n')?;
    (Some(namespace_then) == namespace().ok().as_deref()).then(|| Record::parse(rest))
}

impl Record {
    fn parse(text: &str) -> Record {
        let table = text.lines().find_map(|line| line.strip_prefix(TABLE)?.parse().ok());
        Record { table, src_valid_mark: text.lines().any(|line| line == MARKED) }
    }

    fn format(self) -> String {
        let table = self.table.map_or(String::new(), |table| format!("{TABLE}{table}\n"));
        let marked = if self.src_valid_mark { format!("{MARKED}\n") } else { String::new() };
        table + &marked
    }
}

/// Whether the note is on an interface of another network namespace, whose daemon is alive.
pub(super) fn is_up_elsewhere(interface: &str) -> bool {
    path(interface).exists() && read(interface).is_none() && is_served(&socket_path(interface))
}

pub(super) fn write(interface: &str, record: Record) -> io::Result<()> {
    let text = format!("{}\n{}", namespace()?, record.format());
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

/// Whether they do because of another interface than this one, even of one that has gone without being taken down: once
/// it is, they will only count if this one needs it.
pub(super) fn is_src_valid_mark_noted(except: &str) -> bool {
    !noted_for_src_valid_mark(except).is_empty()
}

/// The interfaces but this one that have made marks count.
fn noted_for_src_valid_mark(except: &str) -> Vec<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let interfaces = names.filter_map(|name| name.strip_suffix(".quick").map(str::to_owned));
    let is_noted = |interface: &String| read(interface).is_some_and(|record| record.src_valid_mark);
    interfaces.filter(|interface| interface != except && is_noted(interface)).collect()
}

/// Notes the table that the interface's rules lead to.
pub(super) fn set_table(interface: &str, table: u32) -> io::Result<()> {
    let record = read(interface).unwrap_or_default();
    write(interface, Record { table: Some(table), ..record })
}

/// Makes marks count, and notes that they did not.
pub(super) fn set_src_valid_mark(interface: &str) -> io::Result<()> {
    let record = read(interface).unwrap_or_default();
    write(interface, Record { src_valid_mark: true, ..record })?;
    fs::write(SRC_VALID_MARK, "1")
}

/// Makes them count no more, unless another interface needs that.
pub(super) fn unset_src_valid_mark(interface: &str) -> io::Result<()> {
    let others = noted_for_src_valid_mark(interface);
    if !others.iter().any(|other| if_index(other).is_ok()) {
        fs::write(SRC_VALID_MARK, "0")?;
    }
    let record = read(interface).unwrap_or_default();
    write(interface, Record { src_valid_mark: false, ..record })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_are_written() {
        for (table, src_valid_mark, text) in [
            (None, false, ""),
            (None, true, "src_valid_mark\n"),
            (Some(51820), false, "table 51820\n"),
            (Some(u32::MAX), true, "table 4294967295\nsrc_valid_mark\n"),
        ] {
            let record = Record { table, src_valid_mark };
            assert_eq!(record.format(), text);
            assert_eq!(Record::parse(text), record);
        }
    }
}
