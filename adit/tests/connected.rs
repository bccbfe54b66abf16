//! Staying connected: servers that move are found by their names, and where the way there changes a handshake begins at
//! once.

use crate::common::adit;
use crate::common::machine::Machine;
use lab::wg::Keypair;
use lab::{Engine, Netns, needs, seconds, within};

/// A machine with a tunnel to a server outside, whose endpoint has the name `server.test`.
struct Client {
    server: Option<Engine>,
    machine: Machine,
    keys: Keypair,
    server_keys: Keypair,
}

const INNER: &str = "10.0.0.2";

impl Client {
    /// `wg0.conf` has `more` in its peer's section.
    fn new(more: &str) -> Client {
        let machine = Machine::new();
        // All lines of a name in /etc/hosts count.
        machine.write("etc/host.conf", "multi on\n", 0o644);
        let [keys, server_keys] = [Keypair::generate(), Keypair::generate()];
        machine.configure(&format!(
            "[Interface]\nAddress = 10.0.0.1/24\nPrivateKey = {}\n\
            [Peer]\nPublicKey = {}\nEndpoint = server.test:51820\n{more}\n",
            keys.private, server_keys.public
        ));
        let mut client = Client { server: None, machine, keys, server_keys };
        client.start_server();
        client
    }

    /// Starts a server that knows of no session; one that was there is stopped.
    fn start_server(&mut self) {
        self.server = None;
        let outside = &self.machine.outside;
        let server = Engine::start(&adit(), outside);
        outside.address(server.interface(), &format!("{INNER}/24"));
        outside.ip(&format!("link set {} up", server.interface()));
        server.set_private_key(&self.server_keys.private);
        server.set(&format!("listen-port 51820 peer {} allowed-ips 10.0.0.1/32", self.keys.public));
        self.server = Some(server);
    }

    /// Where `server.test` is, for who reads `/etc/hosts`.
    fn hosts(&self, addresses: &[&str]) {
        let lines: Vec<String> = addresses.iter().map(|address| format!("{address} server.test\n")).collect();
        self.machine.write("etc/hosts", &lines.concat(), 0o644);
    }

    fn endpoint(&self) -> String {
        self.machine
            .ok("wg show wg0 endpoints")
            .stdout
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    }

    /// Pings until the tunnel works.
    #[track_caller]
    fn connects(&self) {
        assert!(self.machine.ns.reaches(INNER, seconds(60)), "{}", self.endpoint());
    }
}

/// The name has had another address when the interface came up.
#[test]
fn a_server_that_moved_is_found_by_its_name() {
    needs!("netns", "tun", "wg", "unshare", "ping");
    let client = Client::new("AllowedIPs = 10.0.0.2/32\nPersistentKeepalive = 5");
    client.machine.outside.address("eth0", "192.0.2.1/24");
    client.machine.outside.address("eth0", "2001:db8::7/64");
    client.hosts(&["192.0.2.99"]);
    client.machine.ok("OURS up wg0");
    assert_eq!(client.endpoint(), "192.0.2.99:51820");
    // No address of the first kind is right: the other family has its turn.
    client.hosts(&["192.0.2.98", "192.0.2.97", "2001:db8::7"]);
    client.connects();
    assert_eq!(client.endpoint(), "[2001:db8::7]:51820");
    // What works stays, whatever the name says.
    client.hosts(&["192.0.2.99"]);
    client.connects();
    assert_eq!(client.endpoint(), "[2001:db8::7]:51820");
}

/// A plain address takes the name away.
#[test]
fn who_sets_an_address_means_it() {
    needs!("netns", "tun", "wg", "unshare", "ping");
    let client = Client::new("AllowedIPs = 10.0.0.2/32\nPersistentKeepalive = 5");
    client.machine.outside.address("eth0", "192.0.2.1/24");
    client.hosts(&["192.0.2.99"]);
    client.machine.ok("OURS up wg0");
    let names = || client.machine.ok("OURS status --json wg0").stdout.contains("\"endpoint_names\":1");
    assert!(names());
    let peer = client.machine.ok("wg show wg0 peers").stdout;
    client.machine.ok(&format!("wg set wg0 peer {} endpoint 192.0.2.98:51820", peer.trim()));
    assert!(!names());
    client.machine.ok(&format!("OURS set wg0 peer {} endpoint server.test:51820", peer.trim()));
    assert!(names());
    assert_eq!(client.endpoint(), "192.0.2.99:51820");
}

/// Other engines get addresses only: they would refuse the whole change.
#[test]
fn other_engines_are_told_no_names() {
    needs!("netns", "tun", "wg", "wireguard-go");
    let ns = Netns::new();
    let engine = Engine::start(&lab::Program::wireguard_go(), &ns);
    let peer = Keypair::generate().public;
    let program = adit().0;
    ns.ok(&format!("{} set {} peer {peer} endpoint localhost:5", program.display(), engine.interface()));
    assert!(engine.dump().peer(&peer).endpoint.is_some_and(|endpoint| endpoint.ip().is_loopback()));
}

/// Two ways lead to the server. The client takes the other one, and says nothing by itself; the server hears of it all the
/// same. A peer that nobody counts on is left alone.
#[test]
fn a_handshake_begins_when_the_way_is_another() {
    needs!("netns", "tun", "wg", "ping");
    let (here, there) = (Netns::new(), Netns::new());
    for (cable, net) in [("up1", "10.1.0"), ("up2", "10.2.0")] {
        here.connect(cable, &there, cable);
        here.address(cable, &format!("{net}.1/24"));
        there.address(cable, &format!("{net}.2/24"));
    }
    there.address("lo", "203.0.113.1/32");
    here.ip("route add default via 10.1.0.2");
    let [client, server] = [&here, &there].map(|ns| Engine::start(&adit(), ns));
    let [own, other, idle] = [(); 3].map(|()| Keypair::generate());
    for (engine, ns, keys, number) in [(&client, &here, &own, 1), (&server, &there, &other, 2)] {
        ns.address(engine.interface(), &format!("10.0.0.{number}/24"));
        engine.set_private_key(&keys.private);
        ns.ip(&format!("link set {} up", engine.interface()));
    }
    server.set(&format!("listen-port 51820 peer {} allowed-ips 10.0.0.1/32", own.public));
    client.set(&format!("peer {} allowed-ips 10.0.0.2/32 endpoint 203.0.113.1:51820", other.public));
    client.set(&format!("peer {} allowed-ips 10.0.0.3/32 endpoint 203.0.113.1:51820", idle.public));
    assert!(here.reaches("10.0.0.2", seconds(30)));
    let heard_from = || server.dump().peer(&own.public).endpoint.map(|endpoint| endpoint.ip().to_string());
    assert_eq!(heard_from().as_deref(), Some("10.1.0.1"));

    here.ip("route replace default via 10.2.0.2");
    assert!(within(seconds(30), || heard_from().as_deref() == Some("10.2.0.1")), "{}", client.log());
    assert_eq!(client.dump().peer(&idle.public).tx, 0);

    // No way at all, and then one again.
    here.ip("route del default");
    let before = client.dump().peer(&other.public).tx;
    here.ip("route add default via 10.1.0.2");
    assert!(within(seconds(30), || heard_from().as_deref() == Some("10.1.0.1")), "{}", client.log());
    assert!(client.dump().peer(&other.public).tx > before);
    assert_eq!(client.dump().peer(&idle.public).tx, 0);
}

/// A tunnel that takes all traffic, the questions to name servers too; and those it was given are inside of it. The server
/// moves, first to another address, then to one of IPv6, and knows nothing of the session, or it would say so itself.
#[test]
fn a_tunnel_for_all_traffic_finds_its_server_again() {
    needs!("netns", "tun", "wg", "nft", "unshare", "ping", "dnsmasq");
    let mut client = Client::new("AllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 5");
    for address in ["192.0.2.1/24", "192.0.2.11/24", "192.0.2.12/24", "2001:db8::13/64"] {
        client.machine.outside.address("eth0", address);
    }
    let zone = client.machine.path("zone");
    let dns = |outside: &Netns, address: &str| {
        std::fs::write(&zone, format!("{address} server.test\n")).unwrap();
        let line = format!(
            "dnsmasq --keep-in-foreground --no-resolv --no-hosts --addn-hosts={} --no-daemon --port=53 \
            --local=/test/ --listen-address=203.0.113.53 --bind-interfaces --user=root --pid-file --local-ttl=0",
            zone.display()
        );
        let server = outside.spawn(&line);
        server.expect_log("read ", seconds(30));
        server
    };
    // Not on the same link, or no tunnel would take the questions to it.
    client.machine.outside.address("lo", "203.0.113.53/32");
    client.machine.write("etc/resolv.conf", "nameserver 203.0.113.53\n", 0o644);
    let conf = client.machine.path("etc/wireguard/wg0.conf");
    let text = std::fs::read_to_string(&conf).unwrap().replace("[Peer]", "DNS = 10.0.0.53\n[Peer]");
    client.machine.configure(&text);

    let server = dns(&client.machine.outside, "192.0.2.11");
    client.machine.ok("OURS up wg0");
    client.connects();
    assert_eq!(client.endpoint(), "192.0.2.11:51820");
    drop(server);
    for (old, new) in [("192.0.2.11", "192.0.2.12"), ("192.0.2.12", "2001:db8::13")] {
        let _server = dns(&client.machine.outside, new);
        client.server = None;
        client.machine.outside.ip(&format!("address del {old}/24 dev eth0"));
        client.start_server();
        client.connects();
        let expected = if new.contains(':') { format!("[{new}]:51820") } else { format!("{new}:51820") };
        assert!(within(seconds(60), || client.endpoint() == expected), "{}", client.endpoint());
        client.connects();
    }
    client.machine.ok("OURS down wg0");
}
