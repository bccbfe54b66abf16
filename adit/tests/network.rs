//! The network and the interface under a tunnel in use: whatever happens to them, when that is over ping and TCP go on
//! without anyone's help. Only what the kernel forgets with an address or an interface that goes, routes and addresses, has to
//! be given again, as the kernel's own WireGuard has it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::adit;
use lab::pair::CABLE;
use lab::{Netns, Outer, Pair, needs, seconds, within};

/// What TCP may take to try again after a fault: it waits twice as long each time.
const PATIENCE: Duration = seconds(120);
/// How long a fault lasts.
const FAULT: Duration = Duration::from_millis(700);

/// A connection from `a` to `b` through the tunnel, never idle for long, whose bytes are checked where they arrive.
struct Stream {
    arrived: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    fn start(pair: &Pair) -> Stream {
        let address = format!("{}:0", pair.b.inner4());
        let listener = pair.b.ns.enter(|| TcpListener::bind(&address)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sender = pair.a.ns.enter(|| TcpStream::connect_timeout(&address, seconds(60))).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        sender.set_write_timeout(Some(PATIENCE)).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let arrived = Arc::new(AtomicU64::new(0));
        let (over, counter) = (Arc::clone(&is_over), Arc::clone(&arrived));
        let write = thread::spawn(move || {
            let mut number = 0u8;
            while !over.load(Relaxed) {
                sender.write_all(&[number; 1000]).expect("the stream goes on");
                number = number.wrapping_add(1);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let read = thread::spawn(move || {
            let (mut piece, mut number) = ([0; 1000], 0u8);
            loop {
                match receiver.read_exact(&mut piece) {
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return,
                    result => result.expect("the stream goes on"),
                }
                assert!(piece.iter().all(|byte| *byte == number), "it changed on its way");
                number = number.wrapping_add(1);
                counter.fetch_add(1, Relaxed);
            }
        });
        Stream { arrived, is_over, threads: vec![write, read] }
    }

    #[track_caller]
    fn goes_on(&self, context: &str) {
        let before = self.arrived.load(Relaxed);
        let goes_on = within(PATIENCE, || self.arrived.load(Relaxed) > before + 20 || self.has_failed());
        assert!(goes_on && !self.has_failed(), "{context}: the stream does not go on");
    }

    fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    fn end(self) {
        self.is_over.store(true, Relaxed);
        for thread in self.threads {
            thread.join().expect("the stream goes on to its end");
        }
    }
}

/// A tunnel in use.
struct Tunnel {
    pair: Pair,
    stream: Stream,
}

impl Tunnel {
    fn new(outer: Outer) -> Tunnel {
        let pair = Pair::new(&adit(), &adit());
        pair.a_knows_b(outer);
        pair.a.reaches_within(&pair.b, seconds(60));
        let stream = Stream::start(&pair);
        Tunnel { pair, stream }
    }

    /// The interface of side `a`.
    fn wg(&self) -> &str {
        self.pair.a.interface()
    }

    fn ip(&self, args: &str) {
        self.pair.a.ns.ip(args);
    }

    /// The fault lasts a while.
    fn wait(&self) {
        thread::sleep(FAULT);
    }

    /// What the kernel has taken from the interface comes back.
    fn addresses(&self) {
        self.addresses_of(self.wg());
    }

    fn addresses_of(&self, interface: &str) {
        for address in [format!("{}/24", self.pair.a.inner4()), format!("{}/64 nodad", self.pair.a.inner6())]
        {
            self.ip(&format!("address replace {address} dev {interface}"));
        }
    }

    /// All is well again.
    #[track_caller]
    fn goes_on(&self, fault: &str) {
        self.stream.goes_on(fault);
        for (from, to) in [(&self.pair.a, &self.pair.b), (&self.pair.b, &self.pair.a)] {
            for inner in [to.inner4(), to.inner6()] {
                let log = || format!("{}\n{}", from.engine.log(), to.engine.log());
                assert!(from.ns.reaches(&inner, PATIENCE), "{fault}: {inner} does not answer\n{}", log());
            }
        }
    }

    fn end(self) {
        self.stream.end();
    }
}

#[test]
fn the_interface() {
    needs!("netns", "tun", "wg", "ping");
    let tunnel = Tunnel::new(Outer::V4);
    let wg = tunnel.wg();

    tunnel.ip(&format!("link set {wg} down"));
    tunnel.wait();
    tunnel.ip(&format!("link set {wg} up"));
    tunnel.addresses();
    tunnel.goes_on("down and up");

    tunnel.ip(&format!("address flush dev {wg}"));
    tunnel.wait();
    tunnel.addresses();
    tunnel.goes_on("without addresses");

    tunnel.ip(&format!("route flush dev {wg}"));
    tunnel.wait();
    tunnel.ip(&format!("route add 192.168.241.0/24 dev {wg}"));
    tunnel.goes_on("without routes");

    for mtu in [1280, 576, 9000, 65_535, 68, 1420] {
        tunnel.ip(&format!("link set {wg} mtu {mtu}"));
        tunnel.wait();
        if mtu >= 1280 {
            tunnel.addresses();
            tunnel.goes_on(&format!("MTU {mtu}"));
        }
    }

    // Not every kernel renames what is up.
    for (old, new) in [(wg, "another"), ("another", wg)] {
        tunnel.ip(&format!("link set {old} down"));
        tunnel.ip(&format!("link set {old} name {new}"));
        tunnel.ip(&format!("link set {new} up"));
        tunnel.addresses_of(new);
        tunnel.goes_on("another name");
    }

    // No network under a bridge: the kernel refuses, and nothing comes of it.
    tunnel.ip("link add bridge type bridge");
    let refused = tunnel.pair.a.ns.run(&format!("ip link set {wg} master bridge"));
    assert!(!refused.success(), "{}", refused.text());
    tunnel.goes_on("no bridge");

    let away = Netns::new();
    tunnel.ip(&format!("link set {wg} netns {}", away.name()));
    away.ip(&format!("link set {wg} up"));
    tunnel.wait();
    away.ip(&format!("link set {wg} netns {}", tunnel.pair.a.ns.name()));
    tunnel.ip(&format!("link set {wg} up"));
    tunnel.addresses();
    tunnel.goes_on("away and back");
    tunnel.end();
}

/// What is under the tunnel, of either family.
#[test]
fn the_network() {
    needs!("netns", "tun", "wg", "ping", "nft");
    for outer in [Outer::V4, Outer::V6] {
        let tunnel = Tunnel::new(outer);
        let pair = &tunnel.pair;
        let address = |ns: &Netns, side: &lab::Side, command: &str| {
            let length = if outer == Outer::V4 { "24" } else { "64 nodad" };
            ns.ip(&format!("address {command} {}/{length} dev {CABLE}", side.outer(outer)));
        };

        address(&pair.a.ns, &pair.a, "del");
        tunnel.wait();
        address(&pair.a.ns, &pair.a, "add");
        tunnel.goes_on("its address goes and comes");

        for _ in 0..50 {
            tunnel.ip(&format!("link set {CABLE} down"));
            tunnel.ip(&format!("link set {CABLE} up"));
        }
        // The kernel takes IPv6 addresses with it.
        for side in [&pair.a, &pair.b] {
            side.ns.ip(&format!("address replace {}/64 dev {CABLE} nodad", side.outer(Outer::V6)));
        }
        tunnel.goes_on("it flaps");

        // What no longer fits is cut, and comes together on the other side.
        for side in [&pair.a, &pair.b] {
            side.ns.ip(&format!("link set {CABLE} mtu 1300"));
        }
        tunnel.goes_on("a smaller MTU");
        for side in [&pair.a, &pair.b] {
            side.ns.ip(&format!("link set {CABLE} mtu 1500"));
        }
        tunnel.goes_on("the old MTU");

        pair.a.ns.sysctl(&format!("net/ipv6/conf/{CABLE}/disable_ipv6"), "1");
        tunnel.wait();
        pair.a.ns.sysctl(&format!("net/ipv6/conf/{CABLE}/disable_ipv6"), "0");
        tunnel.ip(&format!("address replace {}/64 dev {CABLE} nodad", pair.a.outer(Outer::V6)));
        tunnel.goes_on("IPv6 goes and comes");

        // Sending fails with EPERM; then the other host says that nobody is there.
        for (side, hook, verdict) in [(&pair.a, "output", "drop"), (&pair.b, "input", "reject")] {
            side.ns.ok("nft add table inet fault");
            let chain = format!("add chain inet fault c {{ type filter hook {hook} priority 0; }}");
            side.ns.cmd("nft").arg(chain).ok();
            side.ns.ok(&format!("nft add rule inet fault c meta l4proto udp {verdict}"));
            tunnel.wait();
            side.ns.ok("nft delete table inet fault");
            tunnel.goes_on(&format!("{hook}: {verdict}"));
        }
        tunnel.end();
    }
}

/// Another program takes the port while the interface is down. Once it is free, the tunnel works.
#[test]
fn the_port() {
    needs!("netns", "tun", "wg", "ping");
    let tunnel = Tunnel::new(Outer::V4);
    let pair = &tunnel.pair;
    let taken = pair.a.ns.enter(|| UdpSocket::bind("0.0.0.0:7777")).unwrap();
    let refused = pair.a.ns.run(&format!("wg set {} listen-port 7777", tunnel.wg()));
    assert!(!refused.success());
    tunnel.goes_on("a port that is taken is asked for");
    drop(taken);

    tunnel.ip(&format!("link set {} down", tunnel.wg()));
    let port = pair.a.port;
    let bind = || pair.a.ns.enter(move || UdpSocket::bind(("0.0.0.0", port))).ok();
    let mut taken = None;
    assert!(within(seconds(20), || {
        taken = bind();
        taken.is_some()
    }));
    tunnel.ip(&format!("link set {} up", tunnel.wg()));
    tunnel.addresses();
    pair.a.engine.expect_log("no packets can pass", seconds(20));
    drop(taken);
    tunnel.goes_on("the port is free again");
    tunnel.end();
}
