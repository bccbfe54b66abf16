//! Reading a file.

use super::Draft;
use super::error::{Error, Place};
use super::line::{Line, without_keys};
use super::value::{self, Fault};
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
        // Comments may be in any encoding, and nothing else has more than ASCII.
        let raw = String::from_utf8_lossy(raw);
        let line = Line::new(&raw);
        if !line.text().is_empty() {
            reader.line(&line).map_err(|fault| at(number, &line, fault))?;
        }
    }
    reader.finish()
}

fn at(number: usize, line: &Line<'_>, fault: Fault) -> Error {
    let is_public = line.text().get(..10).is_some_and(|key| key.eq_ignore_ascii_case("PublicKey="));
    let text = if is_public { line.raw().to_owned() } else { without_keys(line.raw()) };
    // A key in front of the fault would take the column along.
    let column = if text == line.raw() { line.column(fault.offset) } else { line.column(0) };
    Error {
        message: fault.message,
        summary: "Configuration parsing error",
        place: Some(Place { line: number, column, text }),
        hint: fault.expected.to_owned(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    None,
    Interface,
    Peer,
}

struct Reader {
    draft: Draft,
    section: Section,
    /// Each peer's key, once it was named.
    keys: Vec<Option<PublicKey>>,
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
        Reader { draft, section: Section::None, keys: Vec::new() }
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
            self.keys.push(None);
            return Ok(());
        }
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), value),
            None => return Err(self.unrecognized(line)),
        };
        let known = match self.section {
            // For wireguard-tools that is no line, but for the one list that may be empty.
            _ if value.is_empty() && key != "allowedips" => None,
            Section::None => None,
            Section::Interface => self.interface(&key, value),
            Section::Peer => self.peer(&key, value),
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
    fn peer(&mut self, key: &str, value: &str) -> Option<Result<(), Fault>> {
        let number = self.keys.len() - 1;
        let peer = &mut self.draft.set.peers[number];
        Some(match key {
            "publickey" => value::public_key(value).map(|key| {
                peer.public_key = key;
                self.keys[number] = Some(key);
            }),
            "presharedkey" => value::secret_key(value).map(|key| peer.preshared_key = Some(key)),
            "persistentkeepalive" => {
                value::persistent_keepalive(value).map(|seconds| peer.persistent_keepalive = Some(seconds))
            }
            "endpoint" => {
                value::endpoint(value).map(|endpoint| self.draft.endpoints.push((number, endpoint)))
            }
            "allowedips" => value::allowed_ips(value).map(|list| {
                peer.replace_allowed_ips = list.replace;
                peer.allowed_ips.extend(list.changes);
                self.draft.warnings.extend(list.warnings);
            }),
            _ => return None,
        })
    }

    fn unrecognized(&self, line: &Line<'_>) -> Fault {
        let text = line.text();
        let key = text.split('=').next().unwrap_or_default();
        let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(key));
        let expected = match self.section {
            _ if text.starts_with('\u{feff}') => {
                "the file starts with a byte order mark: save it without one"
            }
            _ if text.ends_with('=') && (is(&INTERFACE) || is(&PEER)) => "expected a value behind =",
            _ if is(&WG_QUICK) => {
                "this key is wg-quick's: strip it with wg-quick strip, or bring the interface up with wg-quick"
            }
            Section::None => "expected [Interface] or [Peer]",
            Section::Interface if is(&PEER) => "this key belongs below [Peer]",
            Section::Peer if is(&INTERFACE) => "this key belongs below [Interface]",
            Section::Interface => "expected PrivateKey, ListenPort or FwMark, and =, or [Peer]",
            Section::Peer => {
                "expected PublicKey, PresharedKey, AllowedIPs, Endpoint or PersistentKeepalive, and =, or [Peer]"
            }
        };
        let message = format!("Line unrecognized: `{}'", without_keys(text));
        Fault { message, offset: 0, expected }
    }

    fn finish(self) -> Result<Draft, Error> {
        if self.keys.contains(&None) {
            return Err(Error {
                message: "A peer is missing a public key".to_owned(),
                summary: "Invalid configuration",
                place: None,
                hint: "every [Peer] needs a PublicKey".to_owned(),
            });
        }
        Ok(self.draft)
    }
}

const INTERFACE: [&str; 3] = ["PrivateKey", "ListenPort", "FwMark"];
const PEER: [&str; 5] = ["PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"];
/// What wg-quick takes out before `wg` sees a file.
const WG_QUICK: [&str; 9] =
    ["Address", "DNS", "MTU", "Table", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig"];

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
