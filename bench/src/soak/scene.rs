//! Two engines with a cable between them, and what goes on between them all the time: datagrams both ways, a TCP stream, pings.
//!
//! ```text
//!   namespace inside                                  namespace outside
//!   engine 192.168.241.1/24                engine 192.168.241.2/24
//!   cable  10.77.0.1, fd77::1  ──────────  cable 10.77.0.2, 10.77.0.3, fd77::2, all of 10.78.0.0/16 for strangers
//! ```

use std::env;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::beat::Tally;
use lab::netns::interface_name;
use lab::{Background, Beat, Cmd, Engine, Netns, Pace, Uapi, within};

use crate::peers::topology::{CABLE, Keys, hex};

/// Where the engine under test listens.
pub const PORT: u16 = 51_820;
/// The inner addresses of the engines.
pub const INNER: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 241, 1), Ipv4Addr::new(192, 168, 241, 2)];
/// Where datagrams come back from, in the tunnel of the engine under test.
pub const ECHO: u16 = 7;
/// The inner network of strangers.
pub const STRANGERS: &str = "10.64.0.0/16";
/// What the TCP stream brings at most, in bytes a second.
const STREAM_RATE: usize = 12_500_000;
const STREAM_CHUNK: usize = 25_000;
/// How long an inner TCP connection may stand still before it is made anew.
const STILL: Duration = Duration::from_secs(3);
/// How long the tunnel may take to carry packets once all rest. A handshake is tried again after five seconds.
const RECOVERY: Duration = Duration::from_secs(20);

/// How long `ip` may take.
const IP: Duration = Duration::from_secs(120);

/// The command that starts an engine: the adit of this build, unless one is named.
///
/// # Errors
/// When it has no place for the interface's name, or there is no such program.
pub fn command(named: Option<&str>) -> Result<String, String> {
    let command = match named {
        Some(command) => command.to_owned(),
        None => {
            let this = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
            format!("{} -f %i", crate::peers::contender::beside(&this)?.display())
        }
    };
    let program = command.split_whitespace().next().unwrap_or_default();
    if !command.contains("%i") {
        return Err(format!("--engine {command}: say where the interface's name goes, with %i"));
    }
    lab::require::find(program).ok_or_else(|| format!("--engine: there is no program {program}"))?;
    Ok(command)
}

/// One of the two.
pub struct End {
    /// The daemon. Dropped before its namespace.
    pub engine: Engine,
    /// Where it runs.
    pub ns: Netns,
    /// Its keys.
    pub keys: Keys,
}

impl End {
    fn new(command: &str) -> Result<End, String> {
        let (ns, interface) = (Netns::new(), interface_name());
        let line = ns.cmd(&command.replace("%i", &interface)).env("WG_PROCESS_FOREGROUND", "1");
        let engine = Engine::adopt(interface, line);
        ns.run(&format!("sysctl -q -w net/ipv6/conf/{}/disable_ipv6=1", engine.interface()));
        ns.ip(&format!("link set {} mtu 1420", engine.interface()));
        Ok(End { engine, ns, keys: Keys::generate()? })
    }

    /// Sets what must be possible to set, by a connection of its own.
    pub fn set(&self, lines: &str) {
        set(&mut self.uapi(), lines);
    }

    /// A connection to its UAPI socket.
    pub fn uapi(&self) -> Uapi {
        self.engine.uapi()
    }

    /// Its public key, in hexadecimal.
    pub fn public(&self) -> String {
        hex(&self.keys.public)
    }

    /// Its private key, in hexadecimal.
    pub fn private(&self) -> String {
        hex(self.keys.secret.expose())
    }

    /// `ip ARGS` in its namespace, however long that takes: all namespaces of a machine wait for each other there.
    pub fn ip(&self, args: &str) {
        Cmd::new(&format!("ip -n {} {args}", self.ns.name())).limit(IP).ok();
    }

    /// What an interface loses when it goes down.
    pub fn bring_up(&self) {
        let name = self.engine.interface();
        self.ip(&format!("link set {name} up"));
        self.ip(&format!("route replace {STRANGERS} dev {name}"));
    }
}

/// Sets what must be possible to set.
///
/// # Panics
/// If it is not.
pub fn set(uapi: &mut Uapi, lines: &str) {
    let errno = uapi.set(lines);
    assert!(errno == 0, "the engine refuses what is right, errno {errno}: {lines}");
}

/// The whole.
pub struct Scene {
    /// The engine under test.
    pub inside: End,
    /// Its peer.
    pub outside: End,
    /// `adit metrics`, where the engine is Adit.
    metrics: Option<Background>,
}

impl Scene {
    /// Starts both engines; the tunnel carries packets when this returns.
    ///
    /// # Errors
    /// When it does not.
    pub fn new(command: &str) -> Result<Scene, String> {
        let (inside, outside) = (End::new(command)?, End::new(command)?);
        inside.ns.connect(CABLE, &outside.ns, CABLE);
        for address in ["10.77.0.1/24", "fd77::1/64"] {
            inside.ns.address(CABLE, address);
        }
        for address in ["10.77.0.2/24", "10.77.0.3/24", "fd77::2/64"] {
            outside.ns.address(CABLE, address);
        }
        inside.ns.ip("route add 10.78.0.0/16 via 10.77.0.2");
        outside.ns.ip("route add local 10.78.0.0/16 dev lo");
        let metrics = metrics(command, &inside.ns);
        let scene = Scene { inside, outside, metrics };
        for (end, inner) in [(&scene.inside, INNER[0]), (&scene.outside, INNER[1])] {
            end.set(&format!("private_key={}\nlisten_port={PORT}\n", end.private()));
            end.ns.address(end.engine.interface(), &format!("{inner}/24"));
            end.bring_up();
        }
        scene.inside.set(&scene.far_peer());
        scene.outside.set(&format!("public_key={}\nallowed_ip={}/32\n", scene.inside.public(), INNER[0]));
        scene.reaches()?;
        Ok(scene)
    }

    /// What the engine under test has to know of the other one.
    pub fn far_peer(&self) -> String {
        let mut lines = format!("public_key={}\n", self.outside.public());
        let _ = writeln!(lines, "endpoint=10.77.0.2:{PORT}\nallowed_ip={}/32", INNER[1]);
        lines
    }

    /// Where the engine under test is for strangers.
    pub fn target(&self) -> SocketAddr {
        (Ipv4Addr::new(10, 77, 0, 1), PORT).into()
    }

    /// Waits for a ping that is answered.
    ///
    /// # Errors
    /// When none is in time.
    pub fn reaches(&self) -> Result<(), String> {
        let reached = self.inside.ns.reaches(&INNER[1].to_string(), RECOVERY);
        if reached { Ok(()) } else { Err("the tunnel carries nothing any more".to_owned()) }
    }

    /// When the engines last completed a handshake with each other.
    pub fn handshakes(&self) -> String {
        let answer = self.outside.uapi().get();
        ["last_handshake_time_sec", "last_handshake_time_nsec"]
            .map(|key| answer.first(key).unwrap_or("").to_owned())
            .join(".")
    }

    /// Who is watched.
    pub fn names(&self) -> Vec<String> {
        let names = ["engine", "its peer", "adit metrics"].into_iter().take(self.pids().len());
        names.map(str::to_owned).collect()
    }

    /// Their processes.
    pub fn pids(&self) -> Vec<u32> {
        let ends = [&self.inside, &self.outside].map(|end| end.engine.pid());
        ends.into_iter().chain(self.metrics.as_ref().map(Background::pid)).collect()
    }

    /// What they logged.
    pub fn logs(&self) -> Vec<String> {
        let ends = [&self.inside, &self.outside].map(|end| end.engine.log());
        ends.into_iter().chain(self.metrics.as_ref().map(Background::log)).collect()
    }

    /// Asks for the metrics, where they are served; how many bytes came.
    pub fn scrape(&self) -> Option<usize> {
        self.metrics.as_ref()?;
        let asked = self.inside.ns.enter(|| -> std::io::Result<usize> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)
        });
        Some(asked.unwrap_or(0))
    }
}

const METRICS: u16 = 9586;

fn metrics(command: &str, ns: &Netns) -> Option<Background> {
    let program = command.split_whitespace().next()?;
    let version = Command::new(program).arg("--version").output().ok()?;
    if !version.stdout.starts_with(b"adit ") {
        return None;
    }
    let name = Path::new(program).display();
    let metrics = ns.spawn(&format!("{name} metrics 127.0.0.1:{METRICS}"));
    let is_there = || ns.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS))).is_ok();
    within(Duration::from_secs(10), is_there).then_some(metrics)
}

/// What went through the tunnel.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// Datagrams to the other engine, and from it.
    pub beats: [Tally; 2],
    /// Bytes of TCP.
    pub stream: u64,
    /// TCP connections that stood still, and were made anew.
    pub broken: u64,
    /// What `ping` says in the end.
    pub pings: String,
}

/// Goes on until it is stopped.
pub struct Traffic {
    beats: [Beat; 2],
    ping: Background,
    is_over: Arc<AtomicBool>,
    stream: Arc<AtomicU64>,
    threads: Vec<JoinHandle<u64>>,
}

impl Traffic {
    /// Starts.
    pub fn start(scene: &Scene) -> Traffic {
        let pace = Pace { every: Duration::from_millis(1), window: 256 };
        let [a, b] = [(&scene.inside.ns, INNER[0].into()), (&scene.outside.ns, INNER[1].into())];
        let (is_over, stream) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let listener = scene.outside.ns.enter(|| TcpListener::bind((INNER[1], 0))).expect("an inner address");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let to = listener.local_addr().expect("it is bound");
        let echo = scene.inside.ns.enter(|| UdpSocket::bind((INNER[0], ECHO))).expect("an inner address");
        echo.set_read_timeout(Some(Duration::from_millis(100))).expect("a time limit");
        let ns = scene.inside.ns.name().to_owned();
        let flag = || Arc::clone(&is_over);
        let (over, counted) = (flag(), Arc::clone(&stream));
        let mut threads = vec![thread::spawn(move || receive_stream(&listener, &over, &counted))];
        let over = flag();
        threads.push(thread::spawn(move || send_stream(&ns, to, &over)));
        let over = flag();
        threads.push(thread::spawn(move || return_datagrams(&echo, &over)));
        Traffic {
            beats: [Beat::start(a, b, pace), Beat::start(b, a, pace)],
            ping: scene.inside.ns.spawn(&format!("ping -q -n -i 0.2 {}", INNER[1])),
            is_over,
            stream,
            threads,
        }
    }

    /// Stops, and says what came through.
    pub fn stop(mut self) -> Moved {
        self.ping.signal(nix::sys::signal::Signal::SIGINT);
        let _ = self.ping.wait(Duration::from_secs(5));
        let log = self.ping.log();
        let pings =
            log.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default().to_owned();
        let beats = self.beats.map(Beat::stop);
        self.is_over.store(true, Ordering::Relaxed);
        let ended: Vec<u64> =
            self.threads.into_iter().map(|thread| thread.join().expect("traffic")).collect();
        Moved { beats, stream: self.stream.load(Ordering::Relaxed), broken: ended[1], pings }
    }
}

fn receive_stream(listener: &TcpListener, is_over: &AtomicBool, count: &AtomicU64) -> u64 {
    let mut buffer = vec![0; 1 << 16];
    let mut current: Option<TcpStream> = None;
    while !is_over.load(Ordering::Relaxed) {
        // A new connection means that the sender has given up the old one.
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).expect("a stream that blocks");
            stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time limit");
            current = Some(stream);
        }
        match current.as_mut().map(|stream| stream.read(&mut buffer)) {
            Some(Ok(len)) if len > 0 => drop(count.fetch_add(len as u64, Ordering::Relaxed)),
            Some(Err(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Some(_) => current = None,
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
    0
}

/// Returns how many connections stood still.
fn send_stream(ns: &str, to: SocketAddr, is_over: &AtomicBool) -> u64 {
    let chunk = vec![0x55; STREAM_CHUNK];
    let every = Duration::from_secs(1) * STREAM_CHUNK as u32 / STREAM_RATE as u32;
    let mut broken = 0;
    let handle = std::fs::File::open(format!("/var/run/netns/{ns}")).expect("the namespace has a handle");
    nix::sched::setns(handle, nix::sched::CloneFlags::CLONE_NEWNET).expect("entering a namespace");
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect_timeout(&to, STILL) else { continue };
        stream.set_write_timeout(Some(STILL)).expect("a time limit");
        let mut due = Instant::now();
        while !is_over.load(Ordering::Relaxed) {
            if stream.write_all(&chunk).is_err() {
                broken += 1;
                break;
            }
            due = (due + every).max(Instant::now() - Duration::from_millis(20));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    broken
}

fn return_datagrams(socket: &UdpSocket, is_over: &AtomicBool) -> u64 {
    let mut datagram = [0; 2048];
    while !is_over.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..len], from);
        }
    }
    0
}
