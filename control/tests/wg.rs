//! The text protocol and the pages against `wg` of wireguard-tools: a device that does not exist is served on
//! a socket where `wg` looks for it. Needs root and `wg`; without them the tests say so and do nothing.

mod common;

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;
use std::{env, fs, process};

use adit_control::show::{Style, show};
use adit_control::uapi::{
    Connection, EINVAL, Operation, Request, parse_get, write_get, write_status, write_why,
};
use adit_control::{AllowedIpChange, Get, GetPeer, Prefix, PublicKey, Set, SetPeer, Status, Why, key};
use adit_crypto::Secret;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

const DIRECTORY: &str = "/var/run/wireguard";

/// The device behind the socket: what it tells, what it was told, and the errno it answers with.
#[derive(Default)]
struct Device {
    get: Get,
    sets: Vec<Set>,
    errno: i32,
    stop: bool,
}

/// A socket served by a thread until dropped.
struct Served {
    name: String,
    path: PathBuf,
    device: Arc<Mutex<Device>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// `None` where the test cannot run.
    fn start() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if fs::metadata("/proc/self").map(|process| process.uid()).ok() != Some(0) {
            lab::skip("needs root");
            return None;
        }
        lab::require(&["wg"]).ok()?;
        let name = format!("adt{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        fs::create_dir_all(DIRECTORY).unwrap();
        let path = PathBuf::from(format!("{DIRECTORY}/{name}.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        let device = Arc::new(Mutex::new(Device::default()));
        let served = Arc::clone(&device);
        let thread = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.lock().unwrap().stop {
                    return;
                }
                // `wg` tries whether somebody listens before it asks, so a broken connection is normal.
                let _ = serve(stream.unwrap(), &served);
            }
        }));
        Some(Self { name, path, device, thread })
    }

    /// A failed assertion elsewhere is no reason to leave the socket behind.
    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wg(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let arguments =
            arguments.iter().map(|&argument| if argument == "IFACE" { &self.name } else { argument });
        let mut command = Command::new("wg");
        command.args(arguments).env_remove("WG_HIDE_KEYS").env("WG_COLOR_MODE", "never");
        command.envs(variables.iter().copied()).output().unwrap()
    }

    /// What the next call of `wg` says to the device.
    fn told(&self, arguments: &[&str]) -> Set {
        let output = self.wg(arguments, &[]);
        assert!(output.status.success(), "{output:?}");
        self.device().sets.pop().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.device().stop = true;
        let woken = UnixStream::connect(&self.path);
        fs::remove_file(&self.path).unwrap();
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            thread.join().unwrap();
        }
    }
}

fn serve(mut stream: UnixStream, device: &Mutex<Device>) -> io::Result<()> {
    let mut connection = Connection::default();
    // Small, so that a chunk's end falls anywhere.
    let mut chunk = [0; 7];
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            length => connection.feed(&chunk[..length]),
        }
        while let Some(request) = connection.next_request() {
            let mut device = device.lock().unwrap();
            let errno = device.errno;
            match request {
                Request::Get if errno == 0 => stream.write_all(&write_get(&device.get))?,
                Request::Get => stream.write_all(Operation::Get.answer(errno).as_bytes())?,
                Request::Set(set) => {
                    device.sets.push(set);
                    stream.write_all(Operation::Set.answer(errno).as_bytes())?;
                }
                Request::Refuse(refusal) => stream.write_all(refusal.answer().as_bytes())?,
                Request::Status => stream.write_all(&write_status(Status::default()))?,
                Request::Why => stream.write_all(&write_why(&Why::default()))?,
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Compares the pages in all styles. `wg` reads the clock itself, and a coarser one that may lag by a tick, so the second
/// before and the one after do.
fn compare_pages(served: &Served, get: &Get) {
    served.device().get = get.clone();
    for style in [(false, false), (false, true), (true, false), (true, true)] {
        let (color, show_keys) = style;
        let variables = [
            ("WG_COLOR_MODE", if color { "always" } else { "never" }),
            ("WG_HIDE_KEYS", if show_keys { "never" } else { "always" }),
        ];
        let before = now();
        let output = served.wg(&["show", "IFACE"], &variables);
        assert!(output.status.success(), "{output:?} for {get:?}");
        let expected = String::from_utf8(output.stdout).unwrap();
        let style = Style { color, show_keys };
        let pages = (before - 1..=now()).map(|now| show(&served.name, get, now, style, |_| None));
        let pages: Vec<String> = pages.map(|page| String::from_utf8(page.to_vec()).unwrap()).collect();
        assert!(pages.contains(&expected), "wg prints\n{expected}\nhere\n{}", pages[0]);
    }
}

fn secret(byte: u8) -> Secret<32> {
    Secret::new([byte; 32])
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

#[test]
fn pages_by_example() {
    let Some(served) = Served::start() else { return };
    compare_pages(&served, &Get::default());
    let handshakes =
        [None, Some((now() - 62, 5)), Some((now(), 0)), Some((now() + 100, 0)), Some((1, 1)), Some((0, 1))];
    let peers = handshakes.into_iter().zip(1_u8..).map(|(last_handshake, i)| GetPeer {
        last_handshake,
        preshared_key: (i % 2 == 0).then(|| secret(i)),
        endpoint: (i > 2).then(|| SocketAddr::from(([192, 0, 2, i], 51820))),
        rx_bytes: (u64::from(i) - 1) << (10 * i),
        tx_bytes: 1 << (5 * i),
        persistent_keepalive: u16::from(i - 1) * 30,
        allowed_ips: vec![prefix("10.0.0.0/8"), prefix("fd00::/64"), prefix("0.0.0.0/0")]
            [..usize::from(i % 4)]
            .to_vec(),
        ..GetPeer::new(PublicKey::new([i; 32]))
    });
    let get =
        Get { private_key: Some(secret(0x40)), listen_port: 51820, fwmark: 0xca6c, peers: peers.collect() };
    compare_pages(&served, &get);
}

#[test]
fn pages_of_arbitrary_devices() {
    let Some(served) = Served::start() else { return };
    let mut runner = TestRunner::deterministic();
    for _ in 0..50 {
        let mut get = common::get().new_tree(&mut runner).unwrap().current();
        for (peer, i) in get.peers.iter_mut().zip(1..) {
            // `wg` prints a scope by name if there is such an interface; its seconds are signed; equal times
            // are in an order of its own.
            peer.endpoint = peer.endpoint.map(|endpoint| SocketAddr::new(endpoint.ip(), endpoint.port()));
            peer.last_handshake = peer.last_handshake.map(|(seconds, _)| (seconds >> 24, i));
        }
        compare_pages(&served, &get);
    }
}

#[test]
fn dump_and_showconf() {
    let Some(served) = Served::start() else { return };
    let peer = GetPeer {
        preshared_key: Some(secret(3)),
        endpoint: Some("[2001:db8::1]:5".parse().unwrap()),
        last_handshake: Some((1_700_000_000, 1)),
        rx_bytes: u64::MAX,
        tx_bytes: 7,
        persistent_keepalive: 65535,
        allowed_ips: vec![prefix("10.0.0.0/8"), prefix("fd00::/64")],
        ..GetPeer::new(PublicKey::new([2; 32]))
    };
    let get =
        Get { private_key: Some(secret(0x40)), listen_port: 1, fwmark: 0xff, peers: vec![peer.clone()] };
    served.device().get = get.clone();
    let base64 = |byte| PublicKey::new([byte; 32]).to_base64();
    let expected = format!(
        "{}\t{}\t1\t0xff\n{}\t{}\t[2001:db8::1]:5\t10.0.0.0/8,fd00::/64\t1700000000\t{}\t7\t65535\n",
        base64(0x40),
        get.public_key().unwrap(),
        peer.public_key,
        base64(3),
        u64::MAX
    );
    let output = served.wg(&["show", "IFACE", "dump"], &[]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    // What the device tells, and what `wg` makes of that as a change.
    let directory = env::temp_dir().join(&served.name);
    fs::create_dir(&directory).unwrap();
    let conf = directory.join("conf");
    fs::write(&conf, served.wg(&["showconf", "IFACE"], &[]).stdout).unwrap();
    let set = served.told(&["setconf", "IFACE", conf.to_str().unwrap()]);
    fs::remove_dir_all(&directory).unwrap();
    let section = SetPeer {
        preshared_key: Some(peer.preshared_key),
        endpoint: peer.endpoint,
        persistent_keepalive: Some(peer.persistent_keepalive),
        replace_allowed_ips: true,
        allowed_ips: peer.allowed_ips.into_iter().map(AllowedIpChange::Add).collect(),
        ..SetPeer::new(peer.public_key)
    };
    let expected = Set {
        private_key: Some(get.private_key),
        listen_port: Some(1),
        fwmark: Some(0xff),
        replace_peers: true,
        peers: vec![section],
    };
    assert_eq!(set, expected);
}

#[test]
fn what_wg_sets() {
    let Some(served) = Served::start() else { return };
    let peer = PublicKey::new([2; 32]);
    let base64 = peer.to_base64();
    let set = served.told(&["set", "IFACE", "private-key", "/dev/null", "listen-port", "0", "fwmark", "off"]);
    let expected = Set { private_key: Some(None), listen_port: Some(0), fwmark: Some(0), ..Set::default() };
    assert_eq!(set, expected);
    let set = served.told(&[
        "set",
        "IFACE",
        "peer",
        &base64,
        "remove",
        "peer",
        &base64,
        "allowed-ips",
        "10.1.2.3/8",
    ]);
    let removal = SetPeer { remove: true, ..SetPeer::new(peer) };
    let fresh = SetPeer {
        replace_allowed_ips: true,
        allowed_ips: vec![AllowedIpChange::Add(prefix("10.0.0.0/8"))],
        ..SetPeer::new(peer)
    };
    assert_eq!(set.peers, [removal, fresh]);
    let set = served.told(&[
        "set",
        "IFACE",
        "peer",
        &base64,
        "preshared-key",
        "/dev/null",
        "persistent-keepalive",
        "off",
    ]);
    let cleared = SetPeer { preshared_key: Some(None), persistent_keepalive: Some(0), ..SetPeer::new(peer) };
    assert_eq!(set.peers, [cleared]);
}

#[test]
fn wg_understands_refusals() {
    let Some(served) = Served::start() else { return };
    served.device().errno = EINVAL;
    let stderr = |arguments: &[&str]| {
        let output = served.wg(arguments, &[]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(stderr(&["set", "IFACE", "fwmark", "1"]), "Unable to modify interface: Invalid argument\n");
    assert_eq!(stderr(&["show", "IFACE"]), "Unable to access interface: Invalid argument\n");
}

#[test]
fn keys_as_wg_makes_them() {
    if Served::start().is_none() {
        return;
    }
    let made = Command::new("wg").arg("genkey").output().unwrap().stdout;
    let text = String::from_utf8(made).unwrap();
    let private_key = key::secret_from_base64(text.trim_end()).unwrap();
    let get = Get { private_key: Some(private_key), ..Get::default() };
    let mut pubkey =
        Command::new("wg").arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    pubkey.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let expected = String::from_utf8(pubkey.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(get.public_key().unwrap().to_base64(), expected.trim_end());
    assert_eq!(parse_get(&write_get(&get), |_| None), Ok(get));
}
