//! The text protocol, whole and in pieces: what a client may write, and what a device may answer.
//!
//! The input is flags, how often to cut and where, and the text. What is accepted is written again, and must be read as the
//! same; by netlink too, where that can say it.

#![no_main]

use adit_control::netlink::{self, Reader};
use adit_control::show::{Style, show};
use adit_control::uapi::{
    AnswerError, Connection, MAX_LINE, Request, parse_get, parse_set_answer, parse_status, parse_why,
    write_get, write_set, write_status, write_why,
};
use adit_control::{AllowedIpChange, Get, GetPeer, Set, SetPeer, key};
use adit_fuzz::{is_canonical, pieces};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else { return };
    let (cuts, text) = rest.split_at(usize::from(flags >> 2 & 7).min(rest.len()));
    match flags & 3 {
        0 => answers(text),
        _ => requests(text, cuts),
    }
});

fn resolve_scope(name: &str) -> Option<u32> {
    (name == "wg0").then_some(7)
}

/// What a connection makes of a text that comes in these pieces.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Request> {
    let mut connection = Connection::new(resolve_scope);
    let mut requests = Vec::new();
    for piece in pieces {
        connection.feed(piece);
        requests.extend(std::iter::from_fn(|| connection.next_request()));
    }
    connection.end();
    requests.extend(std::iter::from_fn(|| connection.next_request()));
    requests
}

fn requests(text: &[u8], cuts: &[u8]) {
    let requests = read([text]);
    assert_eq!(read(pieces(text, cuts)), requests, "it depends on how it comes");
    if cuts.len() == 7 {
        assert_eq!(read(text.chunks(1)), requests, "it depends on how it comes");
    }
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    assert!(requests.len() <= lines.len());
    for request in &requests {
        match request {
            Request::Set(set) => {
                check_set(set);
                check_netlink(set);
            }
            Request::Refuse(refusal) => {
                assert!((1..=lines.len() as u64).contains(&refusal.line_number));
                let answer = refusal.answer();
                let refused = AnswerError::Refused { errno: refusal.errno };
                assert_eq!(parse_set_answer(answer.as_bytes()), Err(refused));
                let said = refusal.to_string();
                let longest = said.split(|char: char| !char.is_ascii_alphanumeric()).map(str::len).max();
                assert!(said.len() < 200 && longest < Some(33), "it might repeat a key");
                assert!(!said.contains(char::is_control));
            }
            Request::Get | Request::Status | Request::Why => {}
        }
    }
}

/// Of a section that removes a peer the rest has no effect, and is not written.
fn without_effect_gone(mut set: Set) -> Set {
    for peer in set.peers.iter_mut().filter(|peer| peer.remove) {
        let update_only = peer.update_only;
        *peer = SetPeer { remove: true, update_only, ..SetPeer::new(peer.public_key) };
    }
    set
}

fn check_set(set: &Set) {
    let written = write_set(set);
    assert!(written.split(|byte| *byte == b'\n').all(|line| line.len() <= MAX_LINE));
    assert_eq!(read([&written[..]]), [Request::Set(without_effect_gone(set.clone()))]);
    // Cut short it is refused, and nothing of it is done.
    let half = &written[..1 + written.len() / 2];
    assert!(half.len() == written.len() || matches!(read([half])[..], [Request::Refuse(_)]));
    for change in set.peers.iter().flat_map(|peer| &peer.allowed_ips) {
        let (AllowedIpChange::Add(prefix) | AllowedIpChange::Remove(prefix)) = change;
        assert!(is_canonical(prefix));
    }
}

/// The kernel's messages for it, read as if the kernel told its state so: the attributes have the same numbers.
fn check_netlink(set: &Set) {
    const LIMIT: usize = 8192;
    let messages = netlink::write_set(7, set);
    let mut reader = Reader::default();
    for message in &messages {
        assert!(message.len() <= LIMIT && message.len().is_multiple_of(4));
        reader.message(message);
    }
    let read = reader.finish().expect("what is written can be read");
    let is_addition = |change: &AllowedIpChange| matches!(change, AllowedIpChange::Add(_));
    let is_plain = |peer: &SetPeer| !peer.remove && peer.allowed_ips.iter().all(is_addition);
    let is_apart = set.peers.windows(2).all(|pair| pair[0].public_key != pair[1].public_key);
    if !is_apart || !set.peers.iter().all(is_plain) {
        return;
    }
    let peer = |section: &SetPeer| GetPeer {
        preshared_key: section.preshared_key.clone().flatten(),
        endpoint: section.endpoint,
        persistent_keepalive: section.persistent_keepalive.unwrap_or_default(),
        allowed_ips: section
            .allowed_ips
            .iter()
            .map(|change| match change {
                AllowedIpChange::Add(prefix) | AllowedIpChange::Remove(prefix) => *prefix,
            })
            .collect(),
        ..GetPeer::new(section.public_key)
    };
    let expected = Get {
        private_key: set.private_key.clone().flatten(),
        listen_port: set.listen_port.unwrap_or_default(),
        fwmark: set.fwmark.unwrap_or_default(),
        peers: set.peers.iter().map(peer).collect(),
    };
    assert_eq!(read, expected);
}

fn answers(text: &[u8]) {
    let _ = parse_set_answer(text);
    if let Ok(get) = parse_get(text, resolve_scope) {
        let written = write_get(&get);
        assert_eq!(parse_get(&written, |_| None), Ok(get.clone()));
        let cut = text.len() % written.len();
        assert!(parse_get(&written[..cut], |_| None).is_err(), "it was cut short");
        check_show(&get);
    }
    if let Ok(status) = parse_status(text) {
        assert_eq!(parse_status(&write_status(status)), Ok(status));
    }
    if let Ok(why) = parse_why(text) {
        assert_eq!(parse_why(&write_why(&why)), Ok(why));
    }
}

/// What people see of it has no key that is secret, and a line for each peer.
fn check_show(get: &Get) {
    let page = show("wg0", get, 1_700_000_000, Style::default(), |_| None);
    let page = str::from_utf8(&page).expect("it is text");
    assert_eq!(page.lines().filter(|line| line.starts_with("peer: ")).count(), get.peers.len());
    let secrets = get.peers.iter().filter_map(|peer| peer.preshared_key.as_ref()).chain(&get.private_key);
    let public = |text: &str| get.peers.iter().any(|peer| peer.public_key.to_string() == text);
    for secret in secrets {
        let text = key::secret_to_base64(secret);
        assert!(public(&text) || !page.contains(&**text), "a secret is shown");
    }
}
