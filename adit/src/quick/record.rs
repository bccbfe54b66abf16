//! What the system does not show of an interface that is up, noted beside its socket: that it was brought up, which
//! routing table its rules lead to, and whether marks count for source validation because of it. And while it is brought up or
//! taken down, that it is: whoever finds that, and nobody at it, knows that somebody was killed.
//!
//! Interfaces of other network namespaces have their notes in the same directory.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
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
    /// How far it is.
    pub stage: Stage,
    /// Somebody stays with it, and takes it down.
    pub attended: bool,
    /// The index of the interface that this is on. Another one of its name has another.
    pub link: Option<u32>,
}

/// How far an interface is, for those who find nobody at it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Up.
    #[default]
    Whole,
    /// Half brought up.
    ComingUp,
    /// Whole, but some of the user's commands for the end may have been run.
    GoingDown,
    /// Half removed.
    HalfRemoved,
    /// A changed file is half applied.
    Reloading,
}

impl Stage {
    const ALL: [(Stage, &str); 5] = [
        (Stage::Whole, ""),
        (Stage::ComingUp, "coming up"),
        (Stage::GoingDown, "going down"),
        (Stage::HalfRemoved, "half removed"),
        (Stage::Reloading, "reloading"),
    ];

    /// Whether all of it is there, and as its file says or has said.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Stage::Whole | Stage::GoingDown)
    }

    fn word(self) -> &'static str {
        Stage::ALL.iter().find(|(stage, _)| *stage == self).map_or("", |(_, word)| word)
    }
}

const ATTENDED: &str = "attended";
const TABLE: &str = "table ";
const LINK: &str = "link ";
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
        let number = |what| text.lines().find_map(|line| line.strip_prefix(what)?.parse().ok());
        let says = |word| text.lines().any(|line| line == word);
        Record {
            table: number(TABLE),
            link: number(LINK),
            src_valid_mark: says(MARKED),
            stage: Stage::ALL
                .into_iter()
                .rfind(|(_, word)| says(word))
                .map(|(stage, _)| stage)
                .unwrap_or_default(),
            attended: says(ATTENDED),
        }
    }

    fn format(self) -> String {
        let number = |what, number: Option<u32>| number.map(|number| format!("{what}{number}\n"));
        let numbers = [number(TABLE, self.table), number(LINK, self.link)];
        let mut text: String = numbers.into_iter().flatten().collect();
        let marked = if self.src_valid_mark { MARKED } else { "" };
        let attended = if self.attended { ATTENDED } else { "" };
        for word in [marked, self.stage.word(), attended].into_iter().filter(|word| !word.is_empty()) {
            text += &format!("{word}\n");
        }
        text
    }
}

/// Whether the note is on an interface of another network namespace.
pub(super) fn is_of_another_namespace(interface: &str) -> bool {
    path(interface).exists() && read(interface).is_none()
}

/// Whether that one's daemon is alive.
pub(super) fn is_up_elsewhere(interface: &str) -> bool {
    is_of_another_namespace(interface) && is_served(&socket_path(interface))
}

fn write(interface: &str, record: Record) -> io::Result<()> {
    let text = format!("{}\n{}", namespace()?, record.format());
    make_directory()?;
    replace(&path(interface), text.as_bytes(), 0o600)
}

/// Notes and locks are believed: whatever the umask is, nobody else makes any.
pub(super) fn make_directory() -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY)
}

/// Notes that an interface is begun to be brought up.
pub(super) fn begin(interface: &str) -> io::Result<()> {
    // What starts will find that out, and whose note it is.
    if is_up_elsewhere(interface) {
        return Ok(());
    }
    write(interface, Record { stage: Stage::ComingUp, ..Record::default() })
}

/// Notes which interface was made.
pub(super) fn set_link(interface: &str) -> io::Result<()> {
    let link = Some(if_index(interface)?);
    change(interface, |record| Record { link, ..record })
}

/// Notes that it is up. `attended`: whether somebody stays with it.
pub(super) fn finish(interface: &str, attended: bool) -> io::Result<()> {
    change(interface, |record| Record { stage: Stage::Whole, attended, ..record })
}

/// How far it is.
pub(super) fn stage(interface: &str) -> Stage {
    read(interface).unwrap_or_default().stage
}

/// Notes how far it is.
pub(super) fn set_stage(interface: &str, stage: Stage) -> io::Result<()> {
    if is_of_another_namespace(interface) {
        return Ok(());
    }
    let now = if_index(interface).ok();
    change(interface, |record| Record { stage, link: record.link.or(now), ..record })
}

fn change(interface: &str, to: impl FnOnce(Record) -> Record) -> io::Result<()> {
    write(interface, to(read(interface).unwrap_or_default()))
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
    change(interface, |record| Record { table: Some(table), ..record })
}

/// Makes marks count, and notes that they did not.
pub(super) fn set_src_valid_mark(interface: &str) -> io::Result<()> {
    change(interface, |record| Record { src_valid_mark: true, ..record })?;
    fs::write(SRC_VALID_MARK, "1")
}

/// Makes them count no more, unless another interface needs that.
pub(super) fn unset_src_valid_mark(interface: &str) -> io::Result<()> {
    let others = noted_for_src_valid_mark(interface);
    if !others.iter().any(|other| if_index(other).is_ok()) {
        fs::write(SRC_VALID_MARK, "0")?;
    }
    change(interface, |record| Record { src_valid_mark: false, ..record })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_are_written() {
        let nothing = Record::default();
        for (record, text) in [
            (nothing, ""),
            (Record { src_valid_mark: true, ..nothing }, "src_valid_mark\n"),
            (Record { table: Some(51820), ..nothing }, "table 51820\n"),
            (Record { stage: Stage::HalfRemoved, link: Some(7), ..nothing }, "link 7\nhalf removed\n"),
            (
                Record { table: Some(u32::MAX), src_valid_mark: true, attended: true, ..nothing },
                "table 4294967295\nsrc_valid_mark\nattended\n",
            ),
        ] {
            assert_eq!(record.format(), text);
            assert_eq!(Record::parse(text), record);
        }
    }
}
