//! Configuration files, as `wg`, `wg-quick`, `adit check` and `adit qr` read them.
//!
//! The input is the file; bytes that no file has stand for a secret key, for one that was broken by a space, and for a public
//! key. What is accepted is printed and must be read as the same, and no message may have a part of the secret key in it.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use adit_control::check::{Severity, check};
use adit_control::conf::{self, Draft, Error, Mode, write_conf};
use adit_control::quick::{self, Config, Current};
use adit_control::{Get, phone};
use adit_fuzz::applied;
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const BROKEN: &str = "yAnz5TF+lXXJte14tji3z lMNq+hd2rYUIgJBgB3fBmk=";
const PUBLIC: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
/// So much of the secret in a row gives it away.
const PART: usize = 12;
/// The longer part of the broken one.
const HALF: usize = 23;

fuzz_target!(|input: &[u8]| {
    let file = expanded(input);
    let secret = Secret::in_file(input, &file);
    wg(&file, secret);
    let config = wg_quick(&file, secret);
    wg_check(&file, secret);
    if let Some(config) = config {
        saved(&config);
    }
    phones(&file);
});

fn tables(name: &str) -> Option<u32> {
    (name == "vpn").then_some(7)
}

fn expanded(input: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for byte in input {
        match byte {
            1 => file.extend(SECRET.bytes()),
            2 => file.extend(BROKEN.bytes()),
            3 => file.extend(PUBLIC.bytes()),
            other => file.push(*other),
        }
    }
    file
}

/// Whether so many characters of the secret stand in a row. Byte by byte: libFuzzer looks into each comparison of slices.
fn has_part(text: &str, len: usize) -> bool {
    let mut runs = [0; SECRET.len() + 1];
    text.bytes().any(|byte| {
        for at in (0..SECRET.len()).rev() {
            runs[at + 1] = if SECRET.as_bytes()[at] == byte { runs[at] + 1 } else { 0 };
        }
        runs.iter().any(|run| *run >= len)
    })
}

#[derive(Clone, Copy)]
struct Secret {
    watch: bool,
}

impl Secret {
    /// A part of the secret that the input spells out is any text to the readers, and what stands for a public key is one.
    fn in_file(input: &[u8], file: &[u8]) -> Self {
        let is_public = |line: &[u8]| {
            let line: String = String::from_utf8_lossy(line).split_whitespace().collect();
            line.to_ascii_lowercase().contains("publickey=") && has_part(&line, PART)
        };
        let is_spelt = has_part(&String::from_utf8_lossy(input), PART / 2);
        Secret { watch: !is_spelt && !file.split(|byte| *byte == b'\n').any(is_public) }
    }

    fn is_not_in(self, message: &str) {
        assert!(!self.watch || !has_part(message, PART), "the secret is in: {message:?}");
    }

    /// Where a half of it is any word.
    fn is_not_whole_in(self, message: &str) {
        assert!(!self.watch || !has_part(message, HALF + 1), "the secret is in: {message:?}");
    }
}

fn check_error(error: &Error, file: &[u8], secret: Secret) {
    let shown = error.display("wg0.conf").to_string();
    secret.is_not_in(&shown);
    check_text(&shown);
    if let Some(place) = &error.place {
        check_place(place, file);
    }
}

/// Nothing in it moves the cursor.
fn check_text(shown: &str) {
    assert!(!shown.contains(|char: char| char.is_control() && char != '\n' && char != '\t'), "{shown:?}");
}

fn check_place(place: &conf::Place, file: &[u8]) {
    let line = file.split(|byte| *byte == b'\n').nth(place.line.wrapping_sub(1)).expect("a line of the file");
    assert!((1..=String::from_utf8_lossy(line).chars().count() + 1).contains(&place.column));
}

fn resolved(draft: Draft) -> Get {
    let set = draft.resolve(|endpoint| {
        let address = endpoint.address().unwrap_or_else(|| SocketAddr::from(([192, 0, 2, 7], 7)));
        Ok(address)
    });
    applied(&set.expect("all names are found"))
}

/// `wg setconf`, `addconf` and `showconf`.
fn wg(file: &[u8], secret: Secret) {
    let errors = conf::errors(file);
    let whole = conf::read(file, Mode::Whole);
    assert_eq!(whole.is_ok(), errors.is_empty());
    assert_eq!(conf::read(file, Mode::Addition).is_ok(), errors.is_empty());
    errors.iter().for_each(|error| check_error(error, file, secret));
    match whole {
        Err(error) => {
            assert_eq!(Error { warnings: Vec::new(), ..error.clone() }, errors[0]);
            check_error(&error, file, secret);
        }
        Ok(draft) => {
            draft.warnings.iter().for_each(|warning| secret.is_not_in(warning));
            let get = resolved(draft);
            let written = write_conf(&get, |_| None);
            let again = conf::read(&written, Mode::Whole).expect("what is written can be read");
            assert!(again.warnings.is_empty());
            assert_eq!(resolved(again), get);
        }
    }
}

/// What is for `wg-quick`, and what it leaves for `wg`. `None` if there is an error.
fn wg_quick(file: &[u8], secret: Secret) -> Option<Config> {
    let (config, errors) = quick::read_all(file, tables);
    errors.iter().for_each(|error| check_error(error, file, secret));
    assert_eq!(quick::read(file, tables).err().as_ref(), errors.first());
    let lines: Vec<&[u8]> = file.strip_suffix(b"\n").unwrap_or(file).split(|byte| *byte == b'\n').collect();
    let kept: Vec<&[u8]> = config.rest[..config.rest.len() - 1].split(|byte| *byte == b'\n').collect();
    assert_eq!(kept.len(), lines.len(), "each line in its place");
    assert!(kept.iter().zip(&lines).all(|(kept, line)| kept.is_empty() || kept == line));
    // Nothing is left for wg-quick, and `wg` reads the same without the gaps.
    let (left, left_errors) = quick::read_all(&config.stripped, tables);
    assert!(left_errors.is_empty() && is_empty(&left));
    match (conf::read(&config.rest, Mode::Whole), conf::read(&config.stripped, Mode::Whole)) {
        (Ok(one), Ok(other)) => assert_eq!(one.set, other.set),
        (Err(one), Err(other)) => assert_eq!(one.message, other.message),
        _ => panic!("stripped it is another file"),
    }
    errors.is_empty().then_some(config)
}

fn is_empty(config: &Config) -> bool {
    let commands = [&config.pre_up, &config.post_up, &config.pre_down, &config.post_down];
    config.addresses.is_empty()
        && config.dns.is_empty()
        && config.search.is_empty()
        && config.mtu.is_none()
        && config.table.spelling().is_none()
        && commands.iter().all(|commands| commands.is_empty())
        && !config.save
}

/// `adit check`.
fn wg_check(file: &[u8], secret: Secret) {
    let report = check(file, tables);
    let can_be_read =
        quick::read(file, tables).is_ok_and(|config| conf::read(&config.rest, Mode::Whole).is_ok());
    assert!(can_be_read || report.has_errors());
    for finding in &report.findings {
        let shown = finding.display("wg0.conf").to_string();
        secret.is_not_in(&shown);
        check_text(&shown);
        assert!(!finding.message.is_empty() && !finding.advice.is_empty());
        assert_eq!(finding.why.is_empty(), finding.severity == Severity::Error, "{finding:?}");
        if let Some(place) = &finding.place {
            check_place(place, file);
        }
    }
    secret.is_not_whole_in(&format!("{:?}", report.outline));
    secret.is_not_whole_in(&report.outline.to_string());
}

/// The file that is written when the interface goes down says the same to `wg-quick`.
fn saved(config: &Config) {
    let addresses: Vec<(IpAddr, u8)> =
        config.addresses.iter().map(|address| (address.ip, address.prefix_len)).collect();
    let current = Current {
        addresses: &addresses,
        dns: None,
        mtu: config.mtu.unwrap_or(1420),
        conf: b"[Interface]\nListenPort = 5\n",
    };
    let again = quick::read(&quick::save(config, &current), tables).expect("what is saved can be read");
    let of = |config: &Config| {
        let mut addresses: Vec<(IpAddr, u8)> =
            config.addresses.iter().map(|address| (address.ip, address.prefix_len)).collect();
        addresses.sort_unstable();
        (
            addresses,
            config.mtu,
            [config.dns.clone(), config.search.clone()],
            config.table.clone(),
            [&config.pre_up, &config.post_up, &config.pre_down, &config.post_down].map(Clone::clone),
            config.save,
        )
    };
    assert_eq!(of(&again), of(config));
}

/// What phones are given is a file, with the same peers.
fn phones(file: &[u8]) {
    let Ok(phone) = phone::phone(file, tables) else { return };
    let read = |file: &[u8]| {
        let config = quick::read(file, tables).expect("it is a file");
        let set = conf::read(&config.rest, Mode::Whole).expect("it is a file").set;
        let peers: Vec<_> =
            set.peers.iter().map(|peer| (peer.public_key, peer.preshared_key.clone().flatten())).collect();
        (set.private_key, peers, config.addresses.len(), config.mtu)
    };
    assert_eq!(read(&phone.text), read(file));
}
