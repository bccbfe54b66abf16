use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const PRIVATE: &str = "QMXDOFZ0HYnXMIYJPNUxyV1FVaXyyhPXbGtyBtRlrFs=";
const PSK: &str = "DMzOVnGR0nxLI1lgq1oFMQ6rhFiNHd5YUeIm5bRYE1I=";
const ONE: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const TWO: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";
const NO_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn look(text: &str) -> Report {
    check(text.as_bytes(), |_| None)
}

/// A file, of its `[Interface]` without the key, and its peers. What they leave out is there.
fn file(interface: &str, peers: &[&str]) -> String {
    let mut text = format!("[Interface]\n{interface}\n");
    if !interface.contains("PrivateKey") {
        let _ = writeln!(text, "PrivateKey = {PRIVATE}");
    }
    if !interface.contains("Address") {
        text += "Address = 10.0.0.1/24\n";
    }
    for (peer, key) in peers.iter().zip([ONE, TWO]) {
        let _ = writeln!(text, "[Peer]\n{peer}");
        if !peer.contains("PublicKey") {
            let _ = writeln!(text, "PublicKey = {key}");
        }
    }
    text
}

fn codes(text: &str) -> Vec<&'static str> {
    let report = look(text);
    let shown: String = report.findings.iter().map(|finding| finding.display("x").to_string()).collect();
    assert!(![PRIVATE, PSK].iter().any(|key| shown.contains(&key[..20])), "{shown}");
    report.findings.iter().map(|finding| finding.code).collect()
}

const CALLED: &str = "ListenPort = 51820";
const HOST: &str = "AllowedIPs = 10.0.0.2/32";
const FULL: &str = "AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 192.0.2.1:51820\nPersistentKeepalive = 25";

#[test]
fn what_is_fine() {
    for text in [
        file(CALLED, &[HOST, "AllowedIPs = 10.0.0.3/32, fd00::3/128"]),
        file("DNS = 9.9.9.9, corp.example", &[FULL]),
        file(CALLED, &["AllowedIPs = 0.0.0.0/0"]).replace("Address", "Table = 5\nAddress"),
        file("MTU = 1420\nTable = 5\nFwMark = 7", &["AllowedIPs = 10.2.0.0/16\nEndpoint = 10.7.0.1:1"]),
        // The key comes from elsewhere.
        file("ListenPort = 1\nPostUp = wg set %i private-key /etc/key\nAddress = 10.0.0.1", &[HOST])
            .replace(&format!("PrivateKey = {PRIVATE}"), ""),
    ] {
        let found = codes(&text);
        assert!(found.is_empty() || found == ["no-dns"], "{found:?} in {text}");
    }
}

#[test]
fn each_finding() {
    let documentation = include_str!("../../../docs/check.md");
    for (code, text) in [
        ("syntax", file("Address = 10.0.0.1/33", &[HOST])),
        ("host-bits", file(CALLED, &["AllowedIPs = 10.0.0.2/24"])),
        ("duplicate-allowed-ip", file(CALLED, &[HOST, HOST])),
        ("duplicate-allowed-ip", file(CALLED, &["AllowedIPs = 10.0.0.2/32, 10.0.0.2"])),
        ("nested-allowed-ips", file(CALLED, &[HOST, "AllowedIPs = 10.0.0.0/24"])),
        ("own-address", file(CALLED, &["AllowedIPs = 10.0.0.1/32"])),
        ("endpoint-in-tunnel", file(CALLED, &["AllowedIPs = 10.0.0.2/32\nEndpoint = 10.0.0.7:5"])),
        ("endpoint-in-tunnel", file(CALLED, &["AllowedIPs = 128.0.0.0/1\nEndpoint = 192.0.2.1:5"])),
        (
            "endpoint-in-tunnel",
            file(CALLED, &["AllowedIPs = 0.0.0.0/1, 128.0.0.0/1\nEndpoint = a.example:5"]),
        ),
        ("ipv6-leak", file(CALLED, &["AllowedIPs = 0.0.0.0/0"])),
        ("ipv6-leak", file(CALLED, &["AllowedIPs = 0.0.0.0/1, 128.0.0.0/1"])),
        ("ipv4-leak", file(CALLED, &["AllowedIPs = ::/0"])),
        ("no-dns", file(CALLED, &[FULL])),
        ("dns-leak", file("DNS = 2001:db8::1", &["AllowedIPs = 0.0.0.0/0"])),
        ("dns-unreachable", file("DNS = 10.3.0.1", &[HOST])),
        ("table-off", file("Table = off", &[FULL])),
        ("repeated-key", file(CALLED, &[&format!("{HOST}\nPublicKey = {ONE}\nPublicKey = {TWO}")])),
        ("no-private-key", file(&format!("PrivateKey = {NO_KEY}"), &[FULL])),
        ("no-peers", file(CALLED, &[])),
        ("peer-twice", file(CALLED, &[HOST, &format!("PublicKey = {ONE}\nAllowedIPs = 10.0.0.3/32")])),
        ("no-allowed-ips", file(CALLED, &[""])),
        ("own-key", {
            let own = look(&file("", &[])).outline.public_key.unwrap();
            file(CALLED, &[&format!("PublicKey = {own}\n{HOST}")])
        }),
        ("zero-key", file(CALLED, &[&format!("PublicKey = {NO_KEY}\n{HOST}")])),
        ("preshared-private-key", file(CALLED, &[&format!("PresharedKey = {PRIVATE}\n{HOST}")])),
        ("no-such-endpoint", file(CALLED, &[&format!("Endpoint = 0.0.0.0:5\n{HOST}")])),
        ("no-such-endpoint", file(CALLED, &[&format!("Endpoint = example.com:0\n{HOST}")])),
        ("endpoint-name", file(CALLED, &[&format!("Endpoint = example.com:5\n{HOST}")])),
        ("no-keepalive", file("", &[&format!("Endpoint = 192.0.2.1:5\n{HOST}")])),
        ("no-address", file(CALLED, &[HOST]).replace("Address = 10.0.0.1/24", "")),
        ("address-twice", file("Address = 10.0.0.1/24, 10.0.0.1/24", &[HOST])),
        ("address-everywhere", file("Address = 10.0.0.1/0", &[HOST])),
        ("reserved-address", file("Address = 10.0.0.255/24", &[HOST])),
        ("reserved-address", file("Address = 10.0.0.0/24", &[HOST])),
        ("small-mtu", file("MTU = 1279", &["AllowedIPs = fd00::/64"])),
        ("large-mtu", file("MTU = 1500", &[HOST])),
        ("nobody-begins", file("", &[HOST])),
        ("save-config", file("SaveConfig = true", &[HOST])),
    ] {
        assert!(codes(&text).contains(&code), "{code}: {:?} in\n{text}", codes(&text));
        assert!(documentation.contains(&format!("| `{code}` |")), "{code} is not in docs/check.md");
    }
}

#[test]
fn all_errors_at_once_and_where() {
    let text = format!(
        "[Interface]\nPrivateKee = {PRIVATE}\nAddress = 10.0.0.1/33\nMTU = x\n[Peer]\nAllowedIP = 10.0.0.2\n\
        PublicKey = {}\nEndpoint = example.com\nAllowedIPs = 10.0.0.2/32, 10.0.0.3/x\n[Peer]\nDNS = 10.0.0.1\n",
        &PRIVATE[..40]
    );
    let report = look(&text);
    let places: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.place.as_ref().map(|place| (place.line, place.column)).unwrap())
        .collect();
    assert_eq!(places, [(2, 1), (3, 11), (4, 7), (6, 1), (7, 13), (8, 23), (9, 36), (10, 1), (11, 1)]);
    assert!(report.findings[0].advice.ends_with("did you mean PrivateKey?"), "{:?}", report.findings[0]);
    assert!(report.findings[3].advice.ends_with("did you mean AllowedIPs?"));
    let shown = report.findings[2].display("x").to_string();
    assert!(shown.ends_with("\n  4 | MTU = x\n    |       ^\n  Expected bytes."), "{shown}");
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Error));
    let shown: String = report.findings.iter().map(|finding| finding.display("x").to_string()).collect();
    assert!(!shown.contains(&PRIVATE[..8]) || shown.matches(&PRIVATE[..8]).count() == 2, "{shown}");
}

#[test]
fn keys_are_hidden_in_commands_and_paths_are_not() {
    let hex = "c53201039adba14be71f886da1d8dbe9eebded08cb111b75340078999aa9f038";
    let path = "/usr/local/lib/wireguard/scripts/wg0-post-up";
    let report = look(&file(&format!("PostUp = {path} {PRIVATE} {hex} key={PSK}"), &[HOST]));
    assert_eq!(report.outline.hooks, [("PostUp", format!("{path} (hidden) (hidden) (hidden)"))]);
}

#[test]
fn keys_are_hidden_where_names_belong() {
    let text = file(
        &format!("DNS = {PRIVATE}, lan.example\nTable = auto"),
        &[&format!("Endpoint = {PSK}:51820\nAllowedIPs = 10.0.0.2"), "Endpoint = vpn.example.com:0"],
    );
    let report = look(&text);
    codes(&text);
    let outline = format!("{} {:?}", report.outline, report.outline);
    assert!(![PRIVATE, PSK].iter().any(|key| outline.contains(&key[..20])), "{outline}");
    assert_eq!(report.outline.search, ["(hidden)", "lan.example"]);
    assert_eq!(report.outline.peers[0].endpoint.as_deref(), Some("(hidden):51820"));
    assert_eq!(report.outline.peers[1].endpoint.as_deref(), Some("vpn.example.com:0"));
}

/// `adit qr` and `adit new` print findings as they are.
#[test]
fn findings_do_not_move_the_cursor() {
    for peer in ["Endpoint = a\u{1b}[2J.example:1", "AllowedIPs = \u{7}\u{202e}", "Endpoint = \u{9b}x"] {
        let report = look(&file("MTU = 1\u{1b}\nDNS = x\u{1b}", &[peer]));
        let shown: String = report.findings.iter().map(|finding| finding.display("x").to_string()).collect();
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}']), "{shown:?}");
    }
    let shown = look(&file("", &["Endpoint = a\u{1b}[2J.example:1\nAllowedIPs = 10.0.0.2"])).findings;
    assert!(
        shown.iter().any(|finding| finding.code == "endpoint-name" && !finding.message.contains('\u{1b}'))
    );
}

#[test]
fn headings_with_a_slip() {
    let whole = file(CALLED, &[HOST]);
    for (heading, slip) in
        [("[Interface]", "[Interfaces] # x"), ("[Interface]", "[interface"), ("[Peer]", "[Peers]")]
    {
        let report = look(&whole.replace(heading, slip));
        let advice: Vec<&str> = report.findings.iter().map(|finding| finding.advice.as_str()).collect();
        assert_eq!(advice, [format!("did you mean {heading}?")], "{slip}");
    }
    let report = look(&format!("\u{feff}{whole}"));
    let advice: Vec<&str> = report.findings.iter().map(|finding| finding.advice.as_str()).collect();
    assert_eq!(advice, ["the file starts with a byte order mark: save it without one"]);
}

/// As files are that people have.
#[test]
fn routes_of_ones_own() {
    let halves = "AllowedIPs = 128.0.0.0/1\nEndpoint = 192.0.2.1:5";
    let hook = format!("{CALLED}\nPostUp = ip route add 192.0.2.1 via 192.168.1.1");
    assert!(!codes(&file(&hook, &[halves])).contains(&"endpoint-in-tunnel"));
    let whole = "AllowedIPs = 0.0.0.0/0, 0.0.0.0/1, 128.0.0.0/2\nEndpoint = a.example:5";
    assert!(!codes(&file(CALLED, &[whole])).contains(&"endpoint-in-tunnel"));
    let report = look(&file(&format!("{CALLED}\nTable = off"), &["AllowedIPs = 0.0.0.0/0, ::/0"]));
    assert!(!report.findings.is_empty());
    assert!(
        report.findings.iter().all(|finding| finding.severity == Severity::Note),
        "{:?}",
        report.findings
    );
}

#[test]
fn where_and_why() {
    let report = look(&file(CALLED, &["AllowedIPs = fd00::/64,\t10.0.0.2/24 # laptop"]));
    let finding = &report.findings[0];
    let shown = finding.display("wg0.conf").to_string();
    let start = "wg0.conf:6:25: warning: 10.0.0.2/24 means 10.0.0.0/24: all of that network goes to this peer \
        [host-bits]\n  6 | AllowedIPs = fd00::/64,\t10.0.0.2/24 # laptop\n    |                        \t^\n  Why: ";
    assert!(shown.starts_with(start), "{shown}");
    assert!(
        shown.ends_with("\n  Do: write 10.0.0.2/32 for the machine, or 10.0.0.0/24 for its network."),
        "{shown}"
    );
}

#[test]
fn the_last_of_two_peers_wins_and_nested_ones_are_told() {
    let report = look(&file(
        CALLED,
        &[
            "AllowedIPs = 10.0.0.0/8, 10.1.0.0/16, 10.2.0.0/16",
            "AllowedIPs = 10.1.0.0/16, 10.1.2.0/24, 10.9.0.0/16",
        ],
    ));
    let told: Vec<_> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "10.1.0.0/16 is this peer's (TrMv…XX0) and that of line 6 (xTIB…8Dg): the last one, this, gets it, and the \
             other does not",
            "10.9.0.0/16 goes to this peer (TrMv…XX0), the rest of 10.0.0.0/8 to that of line 6 (xTIB…8Dg)",
        ]
        .map(|text| text.replace("XX0", "WXX0").replace("8Dg", "p8Dg"))
    );
}

/// A client of a provider, as these hand out files.
#[test]
fn a_client_that_only_calls_has_no_warnings() {
    let report =
        look(&file("DNS = 10.64.0.1", &["AllowedIPs = 0.0.0.0/0,::0/0\nEndpoint = 192.0.2.1:51820"]));
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.code, finding.severity)).collect();
    assert_eq!(found, [("no-keepalive", Severity::Note)]);
}

#[test]
fn in_words() {
    let report = look(&file(
        "DNS = 10.0.0.53, lan\nPostUp = echo hello\nPostDown = wg set %i peer x preshared-key DMzOVnGR0nxLI1lgq1oFMQ6rhFiNHd5YUeIm5bRYE1I=",
        &[&format!("PresharedKey = {PSK}\n{FULL}"), HOST],
    ));
    let own = report.outline.public_key.unwrap();
    let expected = format!(
        "  This machine's public key is {own}.
  In the tunnel it is 10.0.0.1/24.
  It calls from any free UDP port.
  Peer {ONE}, at 192.0.2.1:51820, gets 0.0.0.0/0, ::/0; with a preshared key, and a packet every 25 s
  Peer {TWO}, which calls this machine, gets 10.0.0.2/32; without a preshared key
  All traffic goes into the tunnel (a full tunnel).
  Names are looked up at 10.0.0.53, instead of the system's servers.
  Names are searched in lan.
  PostUp runs as root: echo hello
  PostDown runs as root: wg set %i peer x preshared-key (hidden)
"
    );
    assert_eq!(report.outline.to_string(), expected);
}

proptest! {
    /// Whatever a file is like, keys in their places are shown by nothing that is said about it.
    #[test]
    fn any_file_is_judged_and_no_key_is_shown(
        lines in prop::collection::vec((any::<prop::sample::Index>(), "[ -~\t]{0,20}"), 0..4),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let whole = file(
            "DNS = 10.3.0.1, lan\nMTU = 1200\nPostUp = echo a\nTable = auto",
            &[&format!("PresharedKey = {PSK}\n{FULL}"), &format!("{HOST}, 10.0.0.0/8, 10.0.0.1/8"), HOST],
        );
        let mut all: Vec<&str> = whole.lines().collect();
        for index in &removed {
            all.remove(index.index(all.len()));
        }
        for (index, line) in &lines {
            all.insert(index.index(all.len() + 1), line);
        }
        let report = look(&all.join("\n"));
        let mut said = report.outline.to_string();
        for finding in &report.findings {
            said += &finding.display("x").to_string();
        }
        for key in [PRIVATE, PSK] {
            prop_assert!(!said.contains(&key[..20]), "{}", said);
        }
    }
}
