//! What is written is what is read, however it is cut up on the way.

mod common;

use adit_control::uapi::{
    Connection, Request, STATUS_REQUEST, WHY_REQUEST, parse_get, parse_status, parse_why, write_get,
    write_set, write_status, write_why,
};
use adit_control::{Set, SetPeer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::string::string_regex;

fn requests(connection: &mut Connection) -> Vec<Request> {
    std::iter::from_fn(|| connection.next_request()).collect()
}

fn at_once(bytes: &[u8]) -> Vec<Request> {
    let mut connection = Connection::default();
    connection.feed(bytes);
    connection.end();
    requests(&mut connection)
}

fn in_chunks(bytes: &[u8], cuts: &[Index]) -> Vec<Request> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let mut connection = Connection::default();
    let mut all = Vec::new();
    for ends in cuts.windows(2) {
        connection.feed(&bytes[ends[0]..ends[1]]);
        all.extend(requests(&mut connection));
    }
    connection.end();
    all.extend(requests(&mut connection));
    all
}

fn byte_by_byte(bytes: &[u8]) -> Vec<Request> {
    let mut connection = Connection::default();
    for byte in bytes {
        connection.feed(std::slice::from_ref(byte));
    }
    connection.end();
    requests(&mut connection)
}

/// Lines that are neither empty nor contain a newline: sensible, nearly so, garbage, and too long.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let keys = "private_key|listen_port|fwmark|replace_peers|public_key|remove|update_only|preshared_key|endpoint|endpoint_name\
                |persistent_keepalive_interval|replace_allowed_ips|allowed_ip|protocol_version|errno|get|set|status|why";
    let values = "true|false|0|1|65535|65536|[0-9a-fA-F]{64}|-?10\\.0\\.0\\.0/8|fd00::/8|\\[::1\\]:1|1\\.2\\.3\\.4:5|a\\.b:5|";
    prop_oneof![
        8 => string_regex(&format!("({keys})=({values})")).expect("a regex").prop_map(String::into_bytes),
        2 => "[ -~]{1,20}".prop_map(String::into_bytes),
        2 => vec(any::<u8>().prop_map(|byte| if byte == b'\n' { 0 } else { byte }), 1..40),
        1 => (4090..4110_usize).prop_map(|length| vec![b'x'; length]),
    ]
}

/// An operation's lines, with its blank line.
fn operation() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![4 => Just(b"set=1".to_vec()), 2 => Just(b"get=1".to_vec()), 1 => Just(b"status=1".to_vec()), 1 => Just(b"why=1".to_vec()), 1 => line()];
    (first, vec(line(), 0..6)).prop_map(|(first, lines)| {
        let mut lines = [vec![first], lines, vec![vec![]]].concat();
        lines.push(Vec::new());
        lines.join(&b'\n')
    })
}

/// Of a section that removes a peer the rest has no effect, and is not written.
fn without_effect_gone(mut set: Set) -> Set {
    for peer in set.peers.iter_mut().filter(|peer| peer.remove) {
        let update_only = peer.update_only;
        *peer = SetPeer { remove: true, update_only, ..SetPeer::new(peer.public_key) };
    }
    set
}

proptest! {
    #[test]
    fn set(sets in vec(common::set(), 1..4)) {
        let written: Vec<u8> = sets.iter().flat_map(|set| write_set(set).to_vec()).collect();
        let expected: Vec<Request> = sets.into_iter().map(without_effect_gone).map(Request::Set).collect();
        prop_assert_eq!(at_once(&written), expected);
    }

    #[test]
    fn get(get in common::get()) {
        prop_assert_eq!(parse_get(&write_get(&get), |_| None), Ok(get));
    }

    #[test]
    fn status(status in common::status()) {
        prop_assert_eq!(parse_status(&write_status(status)), Ok(status));
    }

    #[test]
    fn why(why in common::why()) {
        prop_assert_eq!(parse_why(&write_why(&why)), Ok(why));
    }

    #[test]
    fn a_why_answer_cut_short_is_no_answer(why in common::why(), cut: Index) {
        let written = write_why(&why);
        prop_assert!(parse_why(&written[..cut.index(written.len())]).is_err());
    }

    #[test]
    fn a_get_answer_cut_short_is_no_answer(get in common::get(), cut: Index) {
        let written = write_get(&get);
        prop_assert!(parse_get(&written[..cut.index(written.len())], |_| None).is_err());
    }

    #[test]
    fn a_set_cut_short_is_refused(set in common::set(), cut: Index) {
        let written = write_set(&set);
        let requests = at_once(&written[..1 + cut.index(written.len() - 1)]);
        prop_assert_eq!(requests.len(), 1);
        prop_assert!(matches!(&requests[0], Request::Refuse(refusal) if refusal.answer() == "errno=-71\n\n"));
    }

    #[test]
    fn every_operation_gets_one_answer(operations in vec(operation(), 0..6)) {
        let requests = at_once(&operations.concat());
        prop_assert_eq!(requests.len(), operations.len());
        for (request, operation) in requests.iter().zip(&operations) {
            let asks = [&b"get="[..], b"status=", b"why="].iter().any(|key| operation.starts_with(key));
            match request {
                Request::Get => prop_assert_eq!(operation.as_slice(), b"get=1\n\n"),
                Request::Status => prop_assert_eq!(operation.as_slice(), STATUS_REQUEST),
                Request::Why => prop_assert_eq!(operation.as_slice(), WHY_REQUEST),
                Request::Set(_) => prop_assert!(operation.starts_with(b"set=1\n")),
                Request::Refuse(refusal) => prop_assert_eq!(refusal.answer().starts_with("errno=-"), !asks),
            }
        }
    }

    #[test]
    fn chunks_do_not_matter(operations in vec(operation(), 0..6), tail in line(), cuts in vec(any::<Index>(), 0..20)) {
        let mut bytes = operations.concat();
        bytes.extend(tail);
        let expected = at_once(&bytes);
        prop_assert_eq!(&in_chunks(&bytes, &cuts), &expected);
        prop_assert_eq!(&byte_by_byte(&bytes), &expected);
    }

    #[test]
    fn garbage_does_no_harm(bytes: Vec<u8>, cuts in vec(any::<Index>(), 0..20)) {
        prop_assert_eq!(at_once(&bytes), in_chunks(&bytes, &cuts));
        // What an answer of garbage means is the fuzzer's business; that it is no panic is ours.
        let _ = parse_get(&bytes, |_| None);
        let _ = parse_why(&bytes);
    }
}
