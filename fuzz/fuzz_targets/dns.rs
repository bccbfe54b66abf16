//! Answers of name servers, which anybody may forge, and the files that name servers and hosts.
//!
//! The input is flags, a host's name up to the first zero, and the answer, or the file. An answer that was put right carries
//! the number and the question, so that its records are read.

#![no_main]

use std::net::IpAddr;

use adit_fuzz::exact;
use adit_net::dns::{fuzzing, in_hosts, servers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let (host, rest) = (String::from_utf8_lossy(&rest[..end]), rest.get(end + 1..).unwrap_or_default());
    files(&host, &String::from_utf8_lossy(rest));
    let (v6, id) = (flags & 1 != 0, u16::from(flags >> 2) << 9 | 5);
    let Some(question) = fuzzing::question(&host, v6, id) else {
        assert!(!is_name(&host), "no question for {host:?}");
        return;
    };
    assert!(is_name(&host), "a question for {host:?}");
    assert_eq!(name_in(&question), host.strip_suffix('.').unwrap_or(&host).as_bytes());
    let mut answer = rest.to_vec();
    if flags & 2 == 0 {
        put_right(&mut answer, &question);
    }
    check(&host, v6, id, &question, &answer);
});

/// A header of an answer and the question before what is there.
fn put_right(answer: &mut Vec<u8>, question: &[u8]) {
    let mut whole = question.to_vec();
    let [code, count, rest @ ..] = &answer[..] else { return };
    (whole[2], whole[3], whole[7]) = (0x81, *code, *count);
    whole.extend(rest);
    *answer = whole;
}

fn check(host: &str, v6: bool, id: u16, question: &[u8], answer: &[u8]) {
    let found = fuzzing::answer(host, v6, id, &exact(answer));
    let repeats = answer.len() >= question.len()
        && answer[..2] == question[..2]
        && answer[2] & 0x80 != 0
        && answer[4..6] == [0, 1]
        && answer[12..question.len()].eq_ignore_ascii_case(&question[12..]);
    assert_eq!(found.is_some(), repeats);
    let Some(Some(addresses)) = found else { return };
    assert!(addresses.len() <= usize::from(answer[6]) << 8 | usize::from(answer[7]));
    // Each stands there, after a name of a byte at least, ten bytes about it, and its length.
    let records = &answer[question.len()..];
    assert!(addresses.len() * 15 <= records.len());
    let stands = |address: &IpAddr| match address {
        IpAddr::V4(ip) => records.windows(6).any(|at| at[..2] == [0, 4] && at[2..] == ip.octets()),
        IpAddr::V6(ip) => records.windows(18).any(|at| at[..2] == [0, 16] && at[2..] == ip.octets()),
    };
    assert!(addresses.iter().all(stands), "an address from nowhere");
    // A part of an answer has the first of its addresses.
    let part = &answer[..question.len() + records.len() / 2];
    if let Some(Some(fewer)) = fuzzing::answer(host, v6, id, part) {
        assert!(addresses.starts_with(&fewer));
    }
}

/// Labels of 1 to 63 bytes, 255 in all with their lengths and the end.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.split('.').all(|label| (1..=63).contains(&label.len())) && host.len() + 2 <= 255
}

/// The name in a question, read back.
fn name_in(question: &[u8]) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut rest = &question[12..];
    while let [len, after @ ..] = rest
        && *len > 0
    {
        let (label, after) = after.split_at(usize::from(*len));
        labels.push(label);
        rest = after;
    }
    assert_eq!(rest.len(), 5, "the end of the name, type and class");
    labels.join(&b'.')
}

fn files(host: &str, content: &str) {
    let lines = content.lines().count();
    assert!(servers(content).len() <= lines);
    let found = in_hosts(content, host);
    assert!(found.len() <= lines);
    for address in found {
        let line = format!("{address} {host}");
        let is_word = !host.is_empty() && !host.contains(|char: char| char.is_whitespace() || char == '#');
        assert!(!is_word || in_hosts(&line, host) == [address]);
    }
}
