use super::*;
use crate::check::{Severity, check};

fn client(name: &str, host: u128, byte: u8) -> Client {
    Client {
        name: name.to_owned(),
        host,
        private_key: Secret::new([byte; 32]),
        preshared_key: Secret::new([byte + 1; 32]),
    }
}

fn subnets(texts: &[&str]) -> Subnets {
    Subnets::read(texts.iter().copied()).unwrap()
}

#[test]
fn files_that_fit_each_other_and_have_no_warnings() {
    let server_key = Secret::new([7; 32]);
    let dns = vec!["9.9.9.9".to_owned(), "lan".to_owned()];
    for (subnets, full_tunnel, dns) in [
        (random([3; 9]), false, vec![]),
        (random([200; 9]), true, dns.clone()),
        (subnets(&["fd00:1::/64"]), true, vec!["fd00:1::1".to_owned()]),
        (subnets(&["192.168.7.0/30"]), false, dns),
    ] {
        let options = Options { endpoint: "[2001:db8::1]:5".to_owned(), full_tunnel, dns };
        let laptop = client("laptop", 2, 20);
        let text = server_file(&options, &subnets, 5, &server_key, &[laptop]);
        let laptop = client("laptop", 2, 20);
        let server = public_key(&server_key);
        for text in [&text, &client_file(&options, &subnets, server, &laptop)] {
            let report = check(text, |_| None);
            assert_eq!(
                report.count(Severity::Warning) + report.count(Severity::Error),
                0,
                "{:?}",
                report.findings
            );
        }
        match Server::read(&text, |_| None) {
            Ok(read) => {
                assert_eq!((read.options, read.public_key, read.subnets), (options, server, subnets));
                assert_eq!(read.free_host, 3);
            }
            Err(error) => assert!(matches!(error, ReadServerError::Full) && subnets.last_host() == 2),
        }
    }
}

#[test]
fn a_client_more() {
    let text = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nAddress = 10.7.4.9/24\n\
        Address = 10.9.9.9/32, fd00::1/64\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n\
        AllowedIPs = 10.7.4.0/30, fd00::4/128, 0.0.0.0/0, 10.7.4.5/32\n";
    let server = Server::read(text.as_bytes(), |_| None).unwrap();
    assert_eq!(server.options, Options::default());
    assert_eq!(server.free_host, 6);
    let section = peer_section(&server.subnets, &client("tv", server.free_host, 1));
    assert!(str::from_utf8(&section).unwrap().ends_with("\nAllowedIPs = 10.7.4.6/32, fd00::6/128\n"));

    for (from, to, expected) in [
        ("10.7.4.0/30", "10.7.4.0/25, 10.7.4.128/25", "all addresses of its network are taken"),
        ("PrivateKey = y", "# y", "it has no PrivateKey"),
        ("PrivateKey", "Private", "it has an error"),
        ("/24", "/33", "it has an error"),
        ("Address = 10.7.4.9/24\nAddress = 10.9.9.9/32, fd00::1/64", "", "it has no Address"),
    ] {
        let error = Server::read(text.replace(from, to).as_bytes(), |_| None).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn networks() {
    assert_eq!(
        random([0xab; 9]).prefixes().map(|p| p.to_string()).collect::<Vec<_>>(),
        ["10.171.171.0/24", "fdab:abab:abab:abab::/64"]
    );
    let both = subnets(&["fd00::/64", "10.0.0.0/24"]);
    assert_eq!(both.networks(1).collect::<Vec<_>>(), ["10.0.0.1/24", "fd00::1/64"]);
    assert_eq!((both.last_host(), subnets(&["fd00::/126"]).last_host()), (254, 3));
    for (texts, expected) in [
        (&["10.0.0.0"][..], "`10.0.0.0' is no network, such as"),
        (&["10.0.0.1/24"], "`10.0.0.1/24' is no network: write 10.0.0.0/24"),
        (&["10.0.0.0/31"], "10.0.0.0/31 has no room"),
        (&["0.0.0.0/0"], "0.0.0.0/0 is too large"),
        (&["224.0.0.0/24"], "224.0.0.0/24 has no addresses for machines"),
        (&["127.0.0.0/24"], "127.0.0.0/24 has no addresses for machines"),
        (&["fe80::/64"], "fe80::/64 has no addresses for machines"),
        (&["10.0.0.0/24", "10.0.1.0/24"], "10.0.1.0/24 is the second"),
    ] {
        let error = Subnets::read(texts.iter().copied()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
