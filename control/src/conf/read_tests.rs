use proptest::prelude::*;

use super::*;

const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const HEX: &str = "c53201039adba14be71f886da1d8dbe9eebded08cb111b75340078999aa9f038";
const OTHER: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";

fn whole(text: &str) -> Result<Draft, Error> {
    read(text.as_bytes(), Mode::Whole)
}

#[test]
fn a_file() {
    let text = format!(
        "# comment\n[interface] # again\r\nprivatekey = {KEY}\nListenPort=518 20\nFwMark = 0x10\n\
         [PEER]\nPublicKey={OTHER}\nAllowedIPs = 10.0.0.0/8\nAllowedIPs=fd00::/8, 192.0.2.1\n\
         Endpoint = [2001:db8::1]:51820\nPersistentKeepalive = off\n\
         [Interface]\nFwMark = off\n[Peer]\nPublicKey = {KEY}\nAllowedIPs =\nEndpoint = host.example:1"
    );
    let draft = whole(&text).unwrap();
    let set = &draft.set;
    assert!(set.replace_peers && set.private_key.as_ref().is_some_and(Option::is_some));
    assert_eq!((set.listen_port, set.fwmark), (Some(51820), Some(0)));
    assert_eq!(set.peers.len(), 2);
    assert_eq!(set.peers[0].allowed_ips.len(), 3);
    assert!(set.peers.iter().all(|peer| peer.replace_allowed_ips));
    assert_eq!(set.peers[0].persistent_keepalive, Some(0));
    assert_eq!(set.peers[1].persistent_keepalive, None);
    let hosts: Vec<_> = draft.endpoints.iter().map(|e| (e.peer, e.endpoint.host.as_str())).collect();
    assert_eq!(hosts, [(0, "2001:db8::1"), (1, "host.example")]);

    let unknown = |text: &str| format!("Name or service not known: `{text}'");
    let resolved =
        draft.clone().resolve(|endpoint| endpoint.address().ok_or_else(|| unknown(&endpoint.text)));
    assert_eq!(
        resolved.unwrap_err().display("x").to_string(),
        "Name or service not known: `host.example:1'\nConfiguration parsing error\n\
         x:17:12: cannot be looked up\n  17 | Endpoint = host.example:1\n     |            ^"
    );
    let resolved = draft.resolve(|endpoint| Ok(endpoint.address().unwrap_or(([192, 0, 2, 9], 9).into())));
    assert_eq!(resolved.unwrap().peers[1].endpoint, Some(([192, 0, 2, 9], 9).into()));
}

#[test]
fn what_is_not_mentioned() {
    let set = whole("").unwrap().set;
    assert_eq!((set.private_key, set.listen_port, set.fwmark), (Some(None), Some(0), Some(0)));
    let set = read(b"[Interface]", Mode::Addition).unwrap().set;
    assert_eq!(set, crate::Set::default());
}

#[test]
fn errors_say_where_and_what() {
    for (text, message, place, hint) in [
        (
            "[Interface]\n  PrivateKeey = x",
            "Line unrecognized: `PrivateKeey=x'",
            (2, 3),
            "PrivateKey, ListenPort or FwMark",
        ),
        (
            "ListenPort = 1",
            "Line unrecognized: `ListenPort=1'",
            (1, 1),
            "below [Interface], which is missing",
        ),
        ("MTU = 1", "Line unrecognized: `MTU=1'", (1, 1), "below [Interface], which is missing"),
        ("Port = 1", "Line unrecognized: `Port=1'", (1, 1), "[Interface] or [Peer]"),
        (
            "[Peer]\nPrivateKey = YQ==",
            "Line unrecognized: `PrivateKey = (hidden)'",
            (2, 1),
            "below [Interface]",
        ),
        ("[Interface]\nx\u{1b}[2J = 1", "Line unrecognized: `x\u{fffd}[2J=1'", (2, 1), "PrivateKey"),
        ("[Interface]\nPublicKey = x", "Line unrecognized: `PublicKey=x'", (2, 1), "below [Peer]"),
        ("[Peer]\nFwMark = 1", "Line unrecognized: `FwMark=1'", (2, 1), "below [Interface]"),
        (
            "[Interface]\nAddress = 10.0.0.1/24",
            "Line unrecognized: `Address=10.0.0.1/24'",
            (2, 1),
            "wg-quick",
        ),
        ("[Interface]\nListenPort", "Line unrecognized: `ListenPort'", (2, 1), "and ="),
        ("[Interface]\nListenPort =", "Line unrecognized: `ListenPort='", (2, 1), "a value behind ="),
        (
            "[Peer]\nAllowedIPs = 10.0.0.0/8, 10.0.0.0/33",
            "AllowedIP is not in the correct format: `10.0.0.0/33'",
            (2, 35),
            "bits",
        ),
        ("[Peer]\nEndpoint = host # :1", "Unable to find port of endpoint: `host'", (2, 16), "NAME:PORT"),
        ("\u{feff}[Interface]", "Line unrecognized: `\u{feff}[Interface]'", (1, 1), "byte order mark"),
    ] {
        let error = whole(text).unwrap_err();
        assert_eq!(error.message, message);
        assert_eq!(error.summary, "Configuration parsing error");
        let at = error.place.as_ref().unwrap();
        assert_eq!((at.line, at.column), place, "{text}");
        assert!(error.hint.contains(hint), "{}", error.hint);
    }
    let error = whole("[Peer]\n\tEndpoint = host").unwrap_err();
    assert_eq!(
        error.display("wg0.conf").to_string(),
        "Unable to find port of endpoint: `host'\nConfiguration parsing error\n\
         wg0.conf:2:17: expected ADDRESS:PORT, [IPv6 ADDRESS]:PORT or NAME:PORT\n  2 | \tEndpoint = host\n    | \t               ^"
    );
    let error = whole(&format!("[Peer]\nPublicKey={KEY}\n [Peer]\n[Peer]")).unwrap_err();
    assert_eq!(
        error.display("x").to_string(),
        "A peer is missing a public key\nInvalid configuration\n\
         x:3:2: every [Peer] needs a PublicKey\n  3 |  [Peer]\n    |  ^"
    );
}

#[test]
fn warnings_come_before_errors() {
    let warning = "Warning: AllowedIP has nonzero host part: 10.0.0.1/8\n";
    for rest in ["[Interface]\nx", "AllowedIPs = x", ""] {
        let error = whole(&format!("[Peer]\nAllowedIPs = 10.0.0.1/8\n{rest}")).unwrap_err();
        assert!(error.display("x").to_string().starts_with(warning), "{error:?}");
    }
}

#[test]
fn lines_have_a_limit() {
    let line = |len| format!("[Interface]\n#{}\nListenPort = 5", "x".repeat(len));
    assert!(whole(&line(MAX_LINE - 1)).is_ok());
    let error = whole(&line(MAX_LINE)).unwrap_err();
    assert!(error.display("x").to_string().starts_with("Line 2 is longer than 1 MiB\n"), "{error:?}");
}

#[test]
fn errors_do_not_repeat_secrets() {
    let cut = &KEY[..42];
    for text in [
        format!("[Interface]\nPrivateKey = {cut}=="),
        format!("[Interface]\nPrivateKeey = {KEY}"),
        format!("[Peer]\nPreshared Key = {KEY} {KEY}"),
        format!("[Peer]\nPrivateKey = {KEY}"),
        format!("[Interface]\nPrivateKey {KEY}"),
        format!("[Interface]\nPrivateKey = {KEY}\u{e4}"),
        format!("[Interface]\nPrivate key: {KEY}"),
        format!("[Peer]\nPresharedKeyy = {} {}", &KEY[..10], &KEY[10..]),
        format!("[Peer]\nPresharedKkey = {}-{}", &KEY[..20], &KEY[20..]),
        format!("[Interface]\nPrivateKey = {HEX}"),
        format!("[Interface]\nKey = {HEX}"),
        format!("[Interface]\nKey = {KEY}{KEY}"),
        format!("[Interface]\nKey = {}!{}", &KEY[..20], &KEY[20..]),
        format!("[Interface]\nListenPort = {KEY}"),
        format!("[Peer]\nEndpoint = {KEY}"),
        format!("[Peer]\nAllowedIPs = 10.0.0.1, {KEY}"),
        format!("[Peer]\nPublicKey = {OTHER} PresharedKey = {KEY}"),
        format!("[Peer] # {KEY}"),
        KEY.to_owned(),
    ] {
        let shown = whole(&text).unwrap_err().display("x").to_string();
        for secret in [&KEY[..8], &KEY[21..29], &HEX[..8]] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    let shown = whole(&format!("[Peer]\nPublicKey = {cut}==")).unwrap_err().display("x").to_string();
    assert_eq!(shown.matches(cut).count(), 2, "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes, Mode::Whole);
    }

    #[test]
    fn any_lines_are_read_without_panic(lines in proptest::collection::vec(
        "(\\[Peer\\]|\\[Interface\\]|(AllowedIPs|Endpoint|PublicKey|FwMark|ListenPort)[ =]{0,3}[0-9a-f:./,+#\u{e4} -]{0,20})", 0..8
    )) {
        if let Err(error) = whole(&lines.join("\n")) {
            let _ = error.display("x").to_string();
        }
    }
}

/// What is below a heading that is not understood is wrong for that only.
#[test]
fn a_heading_is_one_error() {
    for heading in ["\u{feff}[Interface]", "[Interfaces]", "[Interface", "[Peers]"] {
        let text =
            format!("{heading}\nPrivateKey = {KEY}\nListenPort\nMTU = x\n[Peer]\nPublicKey = {KEY}\nx");
        let lines: Vec<usize> =
            errors(text.as_bytes()).iter().map(|error| error.place.as_ref().unwrap().line).collect();
        assert_eq!(lines, [1, 7], "{heading}");
    }
}

/// As an editor may save it: said once, and without the key.
#[test]
fn a_file_in_utf_16() {
    let text = format!("\u{feff}[Interface]\r\nPrivateKey = {KEY}\r\n[Peer]\r\nPublicKey = {KEY}\r\n");
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let content: Vec<u8> = text.encode_utf16().flat_map(bytes).collect();
        let errors = errors(&content);
        assert!(errors.len() == 1 && errors[0].hint.contains("UTF-16"), "{errors:?}");
        // Without a mark each line is wrong.
        for error in super::errors(&content[2..]) {
            let shown: String =
                error.display("x").to_string().chars().filter(char::is_ascii_graphic).collect();
            assert!(!shown.contains(&KEY[..8]), "{shown}");
        }
    }
}
