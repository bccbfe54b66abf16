//! Reading a file.

use zeroize::Zeroizing;

use super::error::Error;
use super::line::{Line, harmless};
use super::value::{self, Fault};
use super::{Draft, DraftEndpoint, PARSING_ERROR};
use crate::{PublicKey, SetPeer};

/// What a file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `wg setconf` and `wg syncconf`: the whole configuration. What it does not mention is unset.
    Whole,
    /// `wg addconf`: what it does not mention stays.
    Addition,
}

/// Reads a configuration file.
///
/// # Errors
/// For the first line that is wrong, or a peer without a public key.
pub fn read(content: &[u8], mode: Mode) -> Result<Draft, Error> {
    let mut reader = Reader::new(mode);
    for (number, raw) in (1..).zip(content.split(|&byte| byte == b'\n')) {
        if let Err(error) = reader.raw_line(number, raw) {
            return Err(Error { warnings: reader.draft.warnings, ..error });
        }
    }
    let without_key = reader.without_key(content).next();
    match without_key {
        Some(error) => Err(Error { warnings: reader.draft.warnings, ..error }),
        None => Ok(reader.draft),
    }
}

/// All that is wrong with a configuration file, and not only what comes first. The errors have no warnings in them.
#[must_use]
pub fn errors(content: &[u8]) -> Vec<Error> {
    let mut reader = Reader::new(Mode::Whole);
    let lines = (1..).zip(content.split(|&byte| byte == b'\n'));
    let mut errors: Vec<Error> =
        lines.filter_map(|(number, raw)| reader.raw_line(number, raw).err()).collect();
    errors.extend(reader.without_key(content));
    errors
}

/// Longer than any line with a thousand peers' allowed IPs.
const MAX_LINE: usize = 1 << 20;

fn too_long(number: usize) -> Error {
    Error {
        message: format!("Line {number} is longer than 1 MiB"),
        summary: PARSING_ERROR,
        place: None,
        hint: "this is no configuration; a list of allowed IPs may go on in another AllowedIPs line",
        warnings: Vec::new(),
    }
}

/// Calls `read` with a line as text. Comments may be in any encoding, and nothing else has more than ASCII.
pub(crate) fn decoded<T>(raw: &[u8], read: impl FnOnce(&str) -> T) -> T {
    if let Ok(text) = str::from_utf8(raw) {
        return read(text);
    }
    // With room for all of it: a text that grows leaves its old bytes behind in freed memory.
    let room = raw.len() * char::REPLACEMENT_CHARACTER.len_utf8();
    let mut text = Zeroizing::new(String::with_capacity(room));
    for chunk in raw.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    read(&text)
}

fn at(line: &Line<'_>, fault: Fault) -> Error {
    // What is said of a line repeats its value. An unrecognized one has been seen to already.
    let message = match fault.message.split_once('`') {
        Some((what, _)) if line.hides() && fault.offset > 0 => format!("{what}`(hidden)'"),
        _ => fault.message,
    };
    Error {
        message: harmless(&message),
        summary: PARSING_ERROR,
        place: Some(line.place(fault.offset)),
        hint: fault.expected,
        warnings: Vec::new(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    None,
    Interface,
    Peer,
    /// Below a heading that is not understood, which is an error already: no line there is one for that.
    Unknown,
}

struct Reader {
    draft: Draft,
    section: Section,
    /// The number of each peer's first line, and whether its key was named.
    peers: Vec<(usize, bool)>,
}

/// Stands for a key that has not been read yet.
const NO_KEY: PublicKey = PublicKey::new([0; 32]);

impl Reader {
    fn new(mode: Mode) -> Self {
        let mut draft = Draft::default();
        if mode == Mode::Whole {
            draft.set.private_key = Some(None);
            draft.set.listen_port = Some(0);
            draft.set.fwmark = Some(0);
            draft.set.replace_peers = true;
        }
        Reader { draft, section: Section::None, peers: Vec::new() }
    }

    fn raw_line(&mut self, number: usize, raw: &[u8]) -> Result<(), Error> {
        if raw.len() > MAX_LINE {
            return Err(too_long(number));
        }
        decoded(raw, |raw| {
            let line = Line::new(number, raw);
            if line.text().is_empty() {
                return Ok(());
            }
            self.line(&line).map_err(|fault| at(&line, fault))
        })
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), Fault> {
        let text = line.text();
        if text.eq_ignore_ascii_case("[Interface]") {
            self.section = Section::Interface;
            return Ok(());
        }
        if text.eq_ignore_ascii_case("[Peer]") {
            self.section = Section::Peer;
            let peer = SetPeer { replace_allowed_ips: true, ..SetPeer::new(NO_KEY) };
            self.draft.set.peers.push(peer);
            self.peers.push((line.number(), false));
            return Ok(());
        }
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), value),
            None if self.section == Section::Unknown => return Ok(()),
            None => {
                let fault = self.unrecognized(line);
                if text.trim_start_matches(|char: char| !char.is_ascii_graphic()).starts_with('[') {
                    self.section = Section::Unknown;
                }
                return Err(fault);
            }
        };
        let known = match self.section {
            Section::Unknown => return Ok(()),
            // For wireguard-tools that is no line, but for the one list that may be empty.
            _ if value.is_empty() && key != "allowedips" => None,
            Section::None => None,
            Section::Interface => self.interface(&key, value),
            Section::Peer => self.peer(&key, value, line),
        };
        let read = known.ok_or_else(|| self.unrecognized(line))?;
        read.map_err(|fault| Fault { offset: key.len() + 1 + fault.offset, ..fault })
    }

    /// `None` if there is no such key.
    fn interface(&mut self, key: &str, value: &str) -> Option<Result<(), Fault>> {
        let set = &mut self.draft.set;
        Some(match key {
            "listenport" => value::port(value).map(|port| set.listen_port = Some(port)),
            "fwmark" => value::fwmark(value).map(|mark| set.fwmark = Some(mark)),
            "privatekey" => value::secret_key(value).map(|key| set.private_key = Some(key)),
            _ => return None,
        })
    }

    /// `None` if there is no such key.
    fn peer(&mut self, key: &str, value: &str, line: &Line<'_>) -> Option<Result<(), Fault>> {
        let number = self.peers.len() - 1;
        let peer = &mut self.draft.set.peers[number];
        Some(match key {
            "publickey" => {
                // Also if it is wrong, which is an error of its own.
                self.peers[number].1 = true;
                value::public_key(value).map(|key| peer.public_key = key)
            }
            "presharedkey" => value::secret_key(value).map(|key| peer.preshared_key = Some(key)),
            "persistentkeepalive" => {
                value::persistent_keepalive(value).map(|seconds| peer.persistent_keepalive = Some(seconds))
            }
            "endpoint" => value::endpoint(value).map(|endpoint| {
                let place = line.place(key.len() + 1);
                self.draft.endpoints.push(DraftEndpoint { peer: number, endpoint, place });
            }),
            "allowedips" => value::allowed_ips(value, &mut self.draft.warnings).map(|list| {
                peer.replace_allowed_ips = list.replace;
                peer.allowed_ips.extend(list.changes);
            }),
            _ => return None,
        })
    }

    fn unrecognized(&self, line: &Line<'_>) -> Fault {
        let text = line.text();
        let (key, value) = text.split_once('=').unwrap_or((text, "-"));
        // A key of base64 ends with = itself.
        let has_no_value = value.is_empty();
        let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(key));
        let expected = match self.section {
            _ if text.starts_with(BYTE_ORDER_MARK) => {
                "the file starts with a byte order mark: save it without one"
            }
            _ if line.number() == 1 && text.starts_with(UTF_16) => {
                "the file is in UTF-16, or no text at all: save it as UTF-8"
            }
            _ if has_no_value && (is(&INTERFACE) || is(&PEER)) => "expected a value behind =",
            Section::None if is(&INTERFACE) => "this key belongs below [Interface], which is missing",
            Section::None if is(&PEER) => "this key belongs below [Peer], which is missing",
            Section::None if is(&WG_QUICK) => {
                "this key is wg-quick's, and belongs below [Interface], which is missing"
            }
            Section::Peer if is(&WG_QUICK) => "this key is wg-quick's, and belongs below [Interface]",
            _ if is(&WG_QUICK) => {
                "this key is wg-quick's: strip it with wg-quick strip, or bring the interface up with wg-quick"
            }
            Section::None | Section::Unknown => "expected [Interface] or [Peer]",
            Section::Interface if is(&PEER) => "this key belongs below [Peer]",
            Section::Peer if is(&INTERFACE) => "this key belongs below [Interface]",
            Section::Interface => "expected PrivateKey, ListenPort or FwMark, and =, or [Peer]",
            Section::Peer => {
                "expected PublicKey, PresharedKey, AllowedIPs, Endpoint or PersistentKeepalive, and =, or [Peer]"
            }
        };
        let message = format!("Line unrecognized: `{}'", line.shown());
        Fault { message, offset: 0, expected }
    }

    /// An error for each peer whose key nobody named.
    fn without_key<'a>(&'a self, content: &'a [u8]) -> impl Iterator<Item = Error> + 'a {
        let peers = self.peers.iter().filter(|(_, has_key)| !has_key);
        peers.map(|&(number, _)| {
            let raw = content.split(|&byte| byte == b'\n').nth(number - 1).unwrap_or_default();
            Error {
                message: "A peer is missing a public key".to_owned(),
                summary: "Invalid configuration",
                place: Some(decoded(raw, |raw| Line::new(number, raw).place(0))),
                hint: "every [Peer] needs a PublicKey",
                warnings: Vec::new(),
            }
        })
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';
/// What the byte order mark of UTF-16 is read as.
const UTF_16: &str = "\u{fffd}\u{fffd}";
const INTERFACE: [&str; 3] = ["PrivateKey", "ListenPort", "FwMark"];
const PEER: [&str; 5] = ["PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"];
/// What wg-quick takes out before `wg` sees a file.
const WG_QUICK: [&str; 9] =
    ["Address", "DNS", "MTU", "Table", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig"];

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
