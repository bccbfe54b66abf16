use super::*;

#[test]
fn numbers() {
    assert_eq!(port("0"), Ok(0));
    assert_eq!(port("65535"), Ok(65535));
    assert_eq!(port("00080"), Ok(80));
    assert_eq!(port(" \t80"), Ok(80));
    for bad in ["", " ", "- 1", "65536", "99999999999999999999", "-1", "+1", "0x10", "http", "1 "] {
        assert!(port(bad).is_err(), "{bad}");
    }
    for (text, expected) in [
        ("off", 0),
        ("OFF", 0),
        ("0", 0),
        ("0xFFffFFff", u32::MAX),
        ("4294967295", u32::MAX),
        ("010", 10),
        ("0x1", 1),
    ] {
        assert_eq!(fwmark(text), Ok(expected), "{text}");
    }
    for bad in ["", "0x", "0X1", "ff", "0x100000000", "4294967296", "-1", "0x+1", "0x 1", "on"] {
        assert!(fwmark(bad).is_err(), "{bad}");
    }
    assert_eq!(persistent_keepalive("Off"), Ok(0));
    assert_eq!(persistent_keepalive("65535"), Ok(65535));
    assert_eq!(port(" \t80"), Ok(80));
    for bad in ["", " ", "- 1", "65536", "-1", "0x1", "25s"] {
        assert!(persistent_keepalive(bad).is_err(), "{bad}");
    }
}

#[test]
fn lists_of_allowed_ips() {
    let mut warnings = Vec::new();
    let mut allowed_ips = |value| super::allowed_ips(value, &mut warnings);
    let list = allowed_ips("10.1.2.3/8,fd00::1,0.0.0.0/0,192.0.2.1/032").unwrap();
    let prefixes: Vec<_> = list.changes.iter().map(|change| format!("{change:?}")).collect();
    assert_eq!(prefixes, ["Add(10.0.0.0/8)", "Add(fd00::1/128)", "Add(0.0.0.0/0)", "Add(192.0.2.1/32)"]);
    assert!(list.replace);
    let change = allowed_ips("+10.0.0.0/8,-fd00::/8,192.0.2.0/24").unwrap();
    assert!(!change.replace);
    assert_eq!(format!("{:?}", change.changes), "[Add(10.0.0.0/8), Remove(fd00::/8), Add(192.0.2.0/24)]");
    assert_eq!(allowed_ips(""), Ok(AllowedIps { replace: true, ..AllowedIps::default() }));

    for (bad, message, offset) in [
        ("10.0.0.0/8,", "Unable to parse IP address: `'", 11),
        ("10.0.0.0/8,+host/8", "Unable to parse IP address: `host'", 12),
        ("10.0.0.0/33", "AllowedIP is not in the correct format: `10.0.0.0/33'", 9),
        ("-10.0.0.0/-1", "AllowedIP is not in the correct format: `10.0.0.0/-1'", 10),
        ("::/129", "AllowedIP is not in the correct format: `::/129'", 3),
        ("10.0.0.0/", "AllowedIP is not in the correct format: `10.0.0.0/'", 9),
        ("++10.0.0.1", "Unable to parse IP address: `+10.0.0.1'", 1),
        ("010.0.0.1", "Unable to parse IP address: `010.0.0.1'", 0),
        ("10.0.0.1/8,x", "Unable to parse IP address: `x'", 11),
    ] {
        let fault = allowed_ips(bad).unwrap_err();
        assert_eq!((fault.message.as_str(), fault.offset), (message, offset), "{bad}");
    }
    let of = |text: &str| format!("Warning: AllowedIP has nonzero host part: {text}");
    assert_eq!(warnings, [of("10.1.2.3/8"), of("10.0.0.1/8")]);
}

#[test]
fn endpoints() {
    for (text, host, port, address) in [
        ("192.0.2.1:51820", "192.0.2.1", "51820", Some("192.0.2.1:51820")),
        ("[2001:db8::1]:1", "2001:db8::1", "1", Some("[2001:db8::1]:1")),
        ("2001:db8::1:51820", "2001:db8::1", "51820", Some("[2001:db8::1]:51820")),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", "1", None),
        ("vpn.example.com:51820", "vpn.example.com", "51820", None),
        ("vpn.example.com:http", "vpn.example.com", "http", None),
    ] {
        let endpoint = endpoint(text).unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port.as_str()), (host, port));
        assert_eq!(endpoint.address(), address.map(|address| address.parse().unwrap()), "{text}");
    }
    for (bad, message) in [
        ("", "Unable to parse empty endpoint"),
        ("host", "Unable to find port of endpoint: `host'"),
        ("host:", "Unable to find port of endpoint: `host:'"),
        ("192.0.2.1:65536", "Servname not supported for ai_socktype: `192.0.2.1:65536'"),
        ("[::1", "Unable to find matching brace of endpoint: `[::1'"),
        ("[::1]", "Unable to find port of endpoint: `[::1]'"),
        ("[::1]1", "Unable to find port of endpoint: `[::1]1'"),
    ] {
        assert_eq!(endpoint(bad).unwrap_err().message, message);
    }
}

#[test]
fn files_with_a_key() {
    let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    let key = secret_key(text).unwrap();
    assert!(key.is_some());
    assert_eq!(key_file(format!("{text} \r\n\n").as_bytes()), Ok(key));
    assert_eq!(key_file(b""), Ok(None));
    assert_eq!(key_file(format!("{}=", "A".repeat(43)).as_bytes()), Ok(None));
    for bad in ["\n", &text[..43], &format!("{text}\0"), &format!("{text}\n#"), &format!(" {text}")] {
        let message = key_file(bad.as_bytes()).unwrap_err().message;
        assert!(!message.contains("xTIB"), "{message}");
    }
}
