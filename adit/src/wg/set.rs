//! `wg set`: its arguments are a change.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::slice::Iter;

use adit_control::conf::is_space;
use adit_control::conf::value::{self, Fault};
use adit_control::{Set, SetPeer};
use adit_crypto::Secret;
use zeroize::Zeroizing;

use super::{Call, Failed, device, endpoint, reason};

pub(super) const USAGE: &str = "<interface> [listen-port <port>] [fwmark <mark>] [private-key <file path>] [peer <base64 public key> [remove] [preshared-key <file path>] [endpoint <ip>:<port>] [persistent-keepalive <interval seconds>] [allowed-ips [+|-]<ip1>/<cidr1>[,[+|-]<ip2>/<cidr2>]...] ]...";
/// Longer than any file with one key.
const MAX_KEY_FILE: u64 = 64 << 10;

pub(super) fn set(call: &Call<'_>) -> Result<(), Failed> {
    let [interface, words @ ..] = call.args else { return call.misused(USAGE) };
    if words.is_empty() {
        return call.misused(USAGE);
    }
    let set = change(words)?;
    device::set(&interface.to_string_lossy(), &set)
        .map_err(|error| Failed::because(format_args!("Unable to modify interface: {error}")))
}

/// The change that the arguments ask for.
fn change(words: &[OsString]) -> Result<Set, Failed> {
    let mut set = Set::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let word = &*word.to_string_lossy();
        let done = match set.peers.last_mut() {
            _ if word == "peer" => {
                set.peers.push(SetPeer::new(read(value::public_key, word, &mut words)?));
                true
            }
            None => interface_word(&mut set, word, &mut words)?,
            Some(peer) => peer_word(peer, word, &mut words)?,
        };
        if !done {
            return Err(invalid(word));
        }
    }
    Ok(set)
}

/// False if there is no such word for the interface.
fn interface_word(set: &mut Set, word: &str, words: &mut Iter<'_, OsString>) -> Result<bool, Failed> {
    match word {
        "listen-port" => set.listen_port = Some(read(value::port, word, words)?),
        "fwmark" => set.fwmark = Some(read(value::fwmark, word, words)?),
        "private-key" => set.private_key = Some(key_file(Path::new(argument(word, words)?))?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// False if there is no such word for a peer.
fn peer_word(peer: &mut SetPeer, word: &str, words: &mut Iter<'_, OsString>) -> Result<bool, Failed> {
    match word {
        "remove" => peer.remove = true,
        "preshared-key" => peer.preshared_key = Some(key_file(Path::new(argument(word, words)?))?),
        "persistent-keepalive" => {
            peer.persistent_keepalive = Some(read(value::persistent_keepalive, word, words)?);
        }
        "endpoint" => {
            let endpoint = read(value::endpoint, word, words)?;
            let address = endpoint::resolve(&endpoint)?;
            peer.endpoint = Some(address);
            peer.endpoint_name = endpoint.name(address.port());
        }
        "allowed-ips" => {
            let text: String = text(word, words)?.split(is_space).collect();
            let mut warnings = Vec::new();
            let list = value::allowed_ips(&text, &mut warnings);
            for warning in &warnings {
                super::tell(warning);
            }
            let list = list.map_err(Failed::because)?;
            peer.replace_allowed_ips = list.replace;
            peer.allowed_ips.extend(list.changes);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn read<T>(
    read: impl Fn(&str) -> Result<T, Fault>,
    word: &str,
    words: &mut Iter<'_, OsString>,
) -> Result<T, Failed> {
    read(&text(word, words)?).map_err(Failed::because)
}

/// What follows `word`, if it is no path.
fn text<'a>(word: &str, words: &mut Iter<'a, OsString>) -> Result<Cow<'a, str>, Failed> {
    argument(word, words).map(OsStr::to_string_lossy)
}

/// What follows `word`.
fn argument<'a>(word: &str, words: &mut Iter<'a, OsString>) -> Result<&'a OsStr, Failed> {
    words.next().map(OsString::as_os_str).ok_or_else(|| invalid(word))
}

fn invalid(word: &str) -> Failed {
    Failed::because(format_args!("Invalid argument: {word}"))
}

/// The key that a file holds, which may be a pipe.
pub(crate) fn key_file(path: &Path) -> Result<Option<Secret<32>>, Failed> {
    let failed = |error| Failed::because(format_args!("fopen: {}", reason(&error)));
    let file = File::open(path).map_err(failed)?;
    let mut content = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_KEY_FILE).read_to_end(&mut content).map_err(failed)?;
    value::key_file(&content).map_err(|fault| Failed::because(format_args!("{fault} {}", path.display())))
}

#[cfg(test)]
mod tests {
    use adit_control::AllowedIpChange;

    use super::*;

    const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

    fn parse(words: &str) -> Option<Set> {
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        change(&words).ok()
    }

    #[test]
    fn words_in_order() {
        let set = parse(&format!(
            "fwmark 0x1 listen-port 5 peer {KEY} remove peer {KEY} endpoint [::1]:5 allowed-ips 10.0.0.1 persistent-keepalive off"
        ));
        let set = set.unwrap();
        assert_eq!((set.fwmark, set.listen_port, set.replace_peers), (Some(1), Some(5), false));
        assert!(set.peers[0].remove && !set.peers[1].remove && set.peers[1].replace_allowed_ips);
        assert_eq!(set.peers[1].persistent_keepalive, Some(0));
    }

    #[test]
    fn allowed_ips_are_replaced_or_changed() {
        let set = parse(&format!("peer {KEY} allowed-ips +10.0.0.1,-10.0.0.2/32")).unwrap();
        assert!(!set.peers[0].replace_allowed_ips);
        let changes = &set.peers[0].allowed_ips;
        assert!(matches!(changes[..], [AllowedIpChange::Add(_), AllowedIpChange::Remove(_)]));
        assert!(!parse(&format!("peer {KEY} persistent-keepalive 5")).unwrap().peers[0].replace_allowed_ips);
    }

    #[test]
    fn words_that_mean_nothing() {
        for words in [
            "".to_owned(),
            "listen-port".to_owned(),
            "remove".to_owned(),
            "peer".to_owned(),
            "peer x".to_owned(),
            format!("peer {KEY} listen-port 5"),
            format!("peer {KEY} endpoint"),
            format!("peer {KEY} Remove"),
            "listen-port 5 nonsense".to_owned(),
        ] {
            assert!(parse(&words).is_none(), "{words}");
        }
    }
}
