//! The text protocol by example: what each line does, and which errno each mistake is answered with.

use std::time::{Duration, Instant};

use adit_control::uapi::{
    AnswerError, Connection, MAX_LINE, Operation, Refusal, Request, knows_endpoint_names, parse_get,
    parse_set_answer, parse_status, parse_why, write_get, write_set, write_status, write_why,
};
use adit_control::why::{Event, PeerWhy, Tally};
use adit_control::{
    AllowedIpChange, EndpointName, Get, GetPeer, OffloadState, PublicKey, Reason, Set, SetPeer, Status, Why,
};
use adit_crypto::Secret;

const KEY: &str = "c53201039adba14be71f886da1d8dbe9eebded08cb111b75340078999aa9f038";
const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn public_key() -> PublicKey {
    PublicKey::from_hex(KEY).unwrap()
}

fn secret() -> Secret<32> {
    Secret::new(*public_key().as_bytes())
}

fn requests(text: &str) -> Vec<Request> {
    let mut connection = Connection::new(|name| (name == "eth0").then_some(7));
    connection.feed(text.as_bytes());
    std::iter::from_fn(|| connection.next_request()).collect()
}

fn set(lines: &str) -> Result<Set, Refusal> {
    let mut requests = requests(&format!("set=1\n{lines}\n"));
    assert_eq!(requests.len(), 1, "{lines}");
    match requests.remove(0) {
        Request::Set(set) => Ok(set),
        Request::Refuse(refusal) => Err(refusal),
        other => panic!("{lines} is no {other:?}"),
    }
}

fn peer(lines: &str) -> Result<SetPeer, Refusal> {
    set(&format!("public_key={KEY}\n{lines}")).map(|mut set| set.peers.remove(0))
}

#[test]
fn device_keys() {
    let all = format!("private_key={KEY}\nlisten_port=51820\nfwmark=4294967295\nreplace_peers=true\n");
    let expected = Set {
        private_key: Some(Some(secret())),
        listen_port: Some(51820),
        fwmark: Some(u32::MAX),
        replace_peers: true,
        peers: vec![],
    };
    assert_eq!(set(&all), Ok(expected));
    assert_eq!(set(""), Ok(Set::default()));
    assert_eq!(set(&format!("private_key={ZERO}\n")).unwrap().private_key, Some(None));
    assert_eq!(
        set(&format!("private_key={}\n", KEY.to_uppercase())).unwrap().private_key,
        Some(Some(secret()))
    );
    assert_eq!(set("listen_port=1\nlisten_port=0\n").unwrap().listen_port, Some(0));
}

#[test]
fn peer_keys() {
    let all = format!(
        "update_only=true\nremove=true\npreshared_key={KEY}\nendpoint=192.0.2.1:51820\nprotocol_version=1\n\
         persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.1.2.3/8\nallowed_ip=-fd00::1/64\n"
    );
    let expected = SetPeer {
        public_key: public_key(),
        remove: true,
        update_only: true,
        preshared_key: Some(Some(secret())),
        endpoint: Some("192.0.2.1:51820".parse().unwrap()),
        endpoint_name: None,
        persistent_keepalive: Some(25),
        replace_allowed_ips: true,
        allowed_ips: vec![
            AllowedIpChange::Add("10.0.0.0/8".parse().unwrap()),
            AllowedIpChange::Remove("fd00::/64".parse().unwrap()),
        ],
    };
    assert_eq!(peer(&all), Ok(expected));
    assert_eq!(peer(""), Ok(SetPeer::new(public_key())));
    assert_eq!(peer(&format!("preshared_key={ZERO}\n")).unwrap().preshared_key, Some(None));
}

#[test]
fn replacing_allowed_ips_forgets_those_before() {
    let peer = peer("allowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/16\n").unwrap();
    assert!(peer.replace_allowed_ips);
    assert_eq!(peer.allowed_ips, [AllowedIpChange::Add("10.0.0.0/16".parse().unwrap())]);
}

#[test]
fn sections_stay_in_order() {
    let set = set(&format!("public_key={KEY}\nremove=true\npublic_key={ZERO}\npublic_key={KEY}\n")).unwrap();
    let zero = PublicKey::new([0; 32]);
    let removal = SetPeer { remove: true, ..SetPeer::new(public_key()) };
    assert_eq!(set.peers, [removal, SetPeer::new(zero), SetPeer::new(public_key())]);
}

#[test]
fn endpoints() {
    for (text, expected) in [
        ("1.2.3.4:5", "1.2.3.4:5"),
        ("[::1]:65535", "[::1]:65535"),
        ("[fe80::1%2]:5", "[fe80::1%2]:5"),
        ("[fe80::1%eth0]:5", "[fe80::1%7]:5"),
    ] {
        let endpoint = peer(&format!("endpoint={text}\n")).unwrap().endpoint.unwrap();
        assert_eq!(endpoint.to_string(), expected);
    }
    for bad in [
        "localhost:1",
        "1.2.3.4",
        "1.2.3.4:65536",
        "1.2.3.4:-1",
        "1.2.3.4:+1",
        "1.2.3:4",
        "::1:5",
        "[::1]",
        "[::1]:",
        "[::1%eth1]:5",
        "[::1%]:5",
        "[::1%eth0]:x",
        "[1.2.3.4]:5",
        "[1.2.3.4%eth0]:5",
        "1.2.3.4:5 ",
        "",
    ] {
        let refusal = peer(&format!("endpoint={bad}\n")).expect_err(bad);
        assert_eq!((refusal.errno, refusal.line_number), (22, 3), "{bad}");
    }
}

#[test]
fn mistakes_in_the_device_section() {
    let (short, long) = (&KEY[1..], &format!("{KEY}0"));
    for bad in [
        "private_key=",
        &format!("private_key={short}"),
        &format!("private_key={long}"),
        &format!("private_key=g{short}"),
        "listen_port=",
        "listen_port=65536",
        "listen_port=-1",
        "listen_port=+1",
        "listen_port=0x10",
        "listen_port= 1",
        "fwmark=4294967296",
        "fwmark=0x1",
        "fwmark=off",
        "replace_peers=false",
        "replace_peers=1",
        "replace_peers=True",
        "replace_peers=",
        "nonsense=1",
        "Listen_port=1",
        "listen_port =1",
        "=",
        "errno=0",
        "set=1",
        "get=1",
        "endpoint=1.2.3.4:5",
        "allowed_ip=10.0.0.0/8",
        "protocol_version=1",
        "remove=true",
        "listen_port=1\r",
        "public_key=",
        &format!("public_key={short}"),
    ] {
        let refusal = set(&format!("{bad}\n")).expect_err(bad);
        assert_eq!((refusal.errno, refusal.line_number), (22, 2), "{bad}");
        assert_eq!(refusal.answer(), "errno=-22\n\n");
    }
    for bad in ["nonsense", " ", "\r", "private_key"] {
        let refusal = set(&format!("{bad}\n")).expect_err(bad);
        assert_eq!((refusal.errno, refusal.line_number), (71, 2), "{bad:?}");
    }
}

#[test]
fn mistakes_in_a_peer_section() {
    for bad in [
        "listen_port=1",
        "fwmark=1",
        "replace_peers=true",
        &format!("private_key={KEY}"),
        "preshared_key=1",
        "allowed_ip=10.0.0.1",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=",
        "allowed_ip=-",
        "allowed_ip=--10.0.0.0/8",
        "allowed_ip=+10.0.0.0/8",
        "allowed_ip=example.org/24",
        "persistent_keepalive_interval=65536",
        "persistent_keepalive_interval=off",
        "remove=yes",
        "update_only=false",
        "replace_allowed_ips=",
        "protocol_version=2",
        "protocol_version=",
        "last_handshake_time_sec=1",
    ] {
        let refusal = peer(&format!("{bad}\n")).expect_err(bad);
        assert_eq!((refusal.errno, refusal.line_number), (22, 3), "{bad}");
    }
}

#[test]
fn the_log_line_holds_no_key() {
    let base64 = public_key().to_base64();
    for lines in [
        base64.clone(),
        format!("{base64}="),
        format!("private_key={base64}"),
        format!("private_key= {KEY}"),
        KEY.into(),
    ] {
        let refusal = set(&format!("{lines}\n")).unwrap_err();
        let logged = format!("{refusal} {refusal:?}");
        assert!(!logged.contains(&base64[..43]) && !logged.contains(KEY), "{logged}");
    }
    let refusal = peer("listen_port=1\n").unwrap_err();
    assert_eq!(refusal.to_string(), "UAPI set refused, line 3: no peer key \"listen_port\"");
    let debug = format!("{:?}", set(&format!("private_key={KEY}\n")).unwrap());
    assert!(!debug.contains(KEY) && !debug.contains("197, 50"), "{debug}");
}

#[test]
fn one_answer_to_many_mistakes_and_the_connection_stays_usable() {
    let text =
        format!("set=1\nbad=1\nworse\npublic_key={KEY}\n\nget=1\n\nget=1\nx=y\nz\n\nset=1\nfwmark=1\n\n");
    let requests = requests(&text);
    let [Request::Refuse(first), Request::Get, Request::Refuse(second), Request::Set(last)] = &requests[..]
    else {
        panic!("{requests:?}");
    };
    assert_eq!((first.line_number, first.answer().as_str()), (2, "errno=-22\n\n"));
    assert_eq!((second.line_number, second.answer().as_str()), (2, "errno=22\n\n"));
    assert_eq!(last.fwmark, Some(1));
}

#[test]
fn unknown_operations_are_answered_at_once_and_only_once() {
    for (operation, answer) in
        [("hello", "errno=-22\n\n"), ("set=2", "errno=-22\n\n"), ("get=2", "errno=22\n\n")]
    {
        let mut connection = Connection::default();
        connection.feed(operation.as_bytes());
        assert_eq!(connection.next_request(), None);
        connection.feed(b"\n");
        let Some(Request::Refuse(refusal)) = connection.next_request() else { panic!("{operation}") };
        assert_eq!((refusal.line_number, refusal.answer().as_str()), (1, answer));
        connection.feed(b"more=1\nget=1\n\n");
        assert_eq!(connection.next_request(), None);
        connection.feed(b"\n\nget=1\n\n");
        assert_eq!(connection.next_request(), Some(Request::Get));
        connection.end();
        assert_eq!(connection.next_request(), None);
    }
}

#[test]
fn long_lines() {
    let mut connection = Connection::default();
    // Between operations nobody has to send the line's end to learn that it is too long.
    connection.feed(&[b'x'; MAX_LINE]);
    assert_eq!(connection.next_request(), None);
    connection.feed(b"x");
    assert!(matches!(connection.next_request(), Some(Request::Refuse(refusal)) if refusal.errno == 71));
    connection.feed(&vec![b'x'; 10 * MAX_LINE]);
    connection.feed(b"\n\nset=1\n");
    connection.feed(&vec![b'x'; MAX_LINE + 1]);
    connection.feed(b"\n");
    assert_eq!(connection.next_request(), None);
    connection.feed(b"\n");
    let Some(Request::Refuse(refusal)) = connection.next_request() else { panic!("no refusal") };
    assert_eq!((refusal.errno, refusal.line_number), (71, 2));
    // The longest line is long enough for any number of zeros.
    connection
        .feed(format!("set=1\nfwmark={:0>width$}\n\n", 1, width = MAX_LINE - "fwmark=".len()).as_bytes());
    let expected = Set { fwmark: Some(1), ..Set::default() };
    assert_eq!(connection.next_request(), Some(Request::Set(expected)));
}

#[test]
fn an_operation_cut_short_is_refused() {
    for (text, answer) in [
        ("set=1\nlisten_port=1\n", Some("errno=-71\n\n")),
        ("set=1\nlisten_port=1", Some("errno=-71\n\n")),
        ("set=1", Some("errno=-71\n\n")),
        ("get=1\n", Some("errno=71\n\n")),
        ("set=1\nbad=1\n", Some("errno=-22\n\n")),
        ("", None),
        ("\n", None),
    ] {
        let mut connection = Connection::default();
        connection.feed(text.as_bytes());
        assert_eq!(connection.next_request(), None, "{text:?}");
        connection.end();
        let refused = connection.next_request().map(|request| match request {
            Request::Refuse(refusal) => refusal.answer(),
            other => panic!("{other:?}"),
        });
        assert_eq!(refused.as_deref(), answer, "{text:?}");
        assert_eq!(connection.next_request(), None);
    }
}

#[test]
fn get_answer_text() {
    let peer = GetPeer {
        preshared_key: None,
        endpoint: Some("[fe80::1%2]:5".parse().unwrap()),
        last_handshake: Some((1, 2)),
        rx_bytes: 3,
        tx_bytes: 4,
        persistent_keepalive: 25,
        allowed_ips: vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()],
        ..GetPeer::new(public_key())
    };
    let get = Get { private_key: Some(secret()), listen_port: 51820, fwmark: 255, peers: vec![peer] };
    let expected = format!(
        "private_key={KEY}\nlisten_port=51820\nfwmark=255\npublic_key={KEY}\npreshared_key={ZERO}\n\
         protocol_version=1\nendpoint=[fe80::1%2]:5\nlast_handshake_time_sec=1\nlast_handshake_time_nsec=2\n\
         tx_bytes=4\nrx_bytes=3\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=::/0\n\
         errno=0\n\n"
    );
    assert_eq!(str::from_utf8(&write_get(&get)), Ok(expected.as_str()));
    assert_eq!(&*write_get(&Get::default()), b"errno=0\n\n");
    let newer = expected.replace("fwmark", "color=blue\nfwmark").replace("tx_bytes", "color=red\ntx_bytes");
    assert_eq!(parse_get(newer.as_bytes(), |_| None), Ok(get));
}

#[test]
fn client_reads_errors_of_either_sign() {
    for text in ["errno=22\n\n", "errno=-22\n\n"] {
        assert_eq!(parse_get(text.as_bytes(), |_| None), Err(AnswerError::Refused { errno: 22 }));
        assert_eq!(parse_set_answer(text.as_bytes()), Err(AnswerError::Refused { errno: 22 }));
    }
    assert_eq!(parse_set_answer(Operation::Set.answer(0).as_bytes()), Ok(()));
    assert_eq!(Operation::Set.answer(i32::MIN), "errno=-2147483648\n\n");
    for (text, error) in [
        ("", AnswerError::Truncated),
        ("errno=0\n", AnswerError::Truncated),
        ("errno=0", AnswerError::Truncated),
        ("\n", AnswerError::Malformed { line_number: 1 }),
        ("errno=x\n\n", AnswerError::Malformed { line_number: 1 }),
        ("errno=-2147483648\n\n", AnswerError::Malformed { line_number: 1 }),
        ("listen_port=1\nfoo\n\n", AnswerError::Malformed { line_number: 2 }),
        ("listen_port=65536\nerrno=0\n\n", AnswerError::Malformed { line_number: 1 }),
    ] {
        assert_eq!(parse_get(text.as_bytes(), |_| None), Err(error), "{text:?}");
        assert_eq!(error.errno(), 71);
    }
}

#[test]
fn big_sets_take_linear_time() {
    let sections = (0..100_000_u32).map(|i| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&i.to_be_bytes());
        SetPeer { allowed_ips: vec![AllowedIpChange::Add(host(i))], ..SetPeer::new(PublicKey::new(key)) }
    });
    let mut set = Set { peers: sections.collect(), ..Set::default() };
    set.peers[0].allowed_ips = (0..130_560).map(|i| AllowedIpChange::Add(host(i))).collect();
    let start = Instant::now();
    let written = write_set(&set);
    let mut connection = Connection::default();
    for chunk in written.chunks(1000) {
        connection.feed(chunk);
    }
    assert_eq!(connection.next_request(), Some(Request::Set(set)));
    // A tenth of a second of work; anything quadratic takes minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

fn host(i: u32) -> adit_control::Prefix {
    adit_control::Prefix::host(std::net::Ipv4Addr::from_bits(i).into())
}

#[test]
fn names_of_endpoints() {
    let given = peer("endpoint=192.0.2.1:5\nendpoint_name=vpn.example.com:5\n").unwrap();
    assert_eq!(given.endpoint, Some("192.0.2.1:5".parse().unwrap()));
    assert_eq!(given.endpoint_name, EndpointName::new("vpn.example.com", 5));
    let cleared = peer("endpoint=192.0.2.1:5\nendpoint_name=a:5\nendpoint=192.0.2.1:5\n").unwrap();
    assert_eq!(cleared.endpoint_name, None);
    for wrong in [
        "endpoint_name=a:5\n",
        "endpoint=192.0.2.1:5\nendpoint_name=a\n",
        "endpoint=192.0.2.1:5\nendpoint_name=\n",
    ] {
        assert!(peer(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn who_knows_names_of_endpoints_says_so() {
    assert!(knows_endpoint_names(&write_status(Status::default())));
    for other in [&b"workers=1\nerrno=0\n\n"[..], b"errno=22\n\n", b"endpoint_names=0\nerrno=1\n\n", b""] {
        assert!(!knows_endpoint_names(other));
    }
}

#[test]
fn status_text() {
    let status = Status {
        workers: 2,
        tun_vnet_hdr: OffloadState::On,
        tun_tcp: OffloadState::GivenUp,
        tun_tcp_refused: 8,
        udp_gso: OffloadState::Refused,
        ..Status::default()
    };
    let text = String::from_utf8(write_status(status).to_vec()).unwrap();
    for line in [
        "workers=2",
        "tun_vnet_hdr=on",
        "tun_tcp=given-up",
        "tun_tcp_refused=8",
        "tun_udp=off",
        "udp_gso=refused",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("\nerrno=0\n\n"), "{text}");
    let newer = text.replace("tun_udp=", "color=blue\ntun_udp=");
    assert_eq!(parse_status(newer.as_bytes()), Ok(status));
    for bad in [text.replace("=given-up", "=maybe"), text.replace("workers=2", "workers=-2")] {
        assert!(matches!(parse_status(bad.as_bytes()), Err(AnswerError::Malformed { .. })), "{bad}");
    }
    assert_eq!(parse_status(b"errno=22\n\n"), Err(AnswerError::Refused { errno: 22 }));
}

#[test]
fn status_requests() {
    let [Request::Status, Request::Refuse(line), Request::Refuse(version)] =
        &requests("status=1\n\nstatus=1\nx=1\n\nstatus=2\n\n")[..]
    else {
        panic!("a status, and two refusals");
    };
    // Positive, as for a get.
    assert_eq!((line.line_number, line.answer().as_str()), (2, "errno=22\n\n"));
    assert_eq!((version.line_number, version.answer().as_str()), (1, "errno=22\n\n"));
    assert_eq!(line.to_string(), "UAPI status refused, line 2: a status has no lines of its own");
}

#[test]
fn why_text() {
    let tally = |reason, count| Tally { reason, count, age: Duration::from_millis(930) };
    let event = Event {
        reason: Reason::SourceNotAllowed,
        count: 12,
        age: Duration::from_millis(930),
        first_age: Duration::from_secs(7),
        peer: Some(PublicKey::new([7; 32])),
        endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
        address: Some("10.0.0.9".parse().unwrap()),
        errno: None,
        clock_off: None,
    };
    let why = Why {
        is_listening: true,
        tallies: vec![tally(Reason::BadMac1, 3), tally(Reason::SourceNotAllowed, 12)],
        peers: vec![PeerWhy {
            public_key: PublicKey::new([7; 32]),
            tallies: vec![tally(Reason::SourceNotAllowed, 12)],
        }],
        events: vec![event],
    };
    let text = String::from_utf8(write_why(&why).to_vec()).unwrap();
    assert!(
        text.starts_with("listening=true\nreason=bad_mac1\ncount=3\nage_ms=930\nreason=source_not_allowed\n"),
        "{text}"
    );
    assert!(text.ends_with("\nendpoint=[2001:db8::1]:51820\naddress=10.0.0.9\nerrno=0\n\n"), "{text}");
    assert_eq!(parse_why(text.as_bytes()).as_ref(), Ok(&why));
    // A newer engine has more keys, and more reasons, whose counts are nobody else's.
    let newer = text.replace("reason=bad", "reason=gremlins\ncount=99\nage_ms=1\nreason=bad");
    let newer =
        newer.replace("event=", "event=gremlins\ncount=x\nevent=").replace("address=", "mood=bad\naddress=");
    assert_eq!(parse_why(newer.as_bytes()).as_ref(), Ok(&why));
    for bad in [text.replace("count=3", "count=-3"), text.replace("address=10.0.0.9", "address=10.0.0")] {
        assert!(matches!(parse_why(bad.as_bytes()), Err(AnswerError::Malformed { .. })), "{bad}");
    }
    assert_eq!(parse_why(b"errno=22\n\n"), Err(AnswerError::Refused { errno: 22 }));
}

#[test]
fn why_requests() {
    let [Request::Why, Request::Refuse(line), Request::Refuse(version)] =
        &requests("why=1\n\nwhy=1\nx=1\n\nwhy=2\n\n")[..]
    else {
        panic!("a why, and two refusals");
    };
    assert_eq!((line.line_number, line.answer().as_str()), (2, "errno=22\n\n"));
    assert_eq!((version.line_number, version.answer().as_str()), (1, "errno=22\n\n"));
}
