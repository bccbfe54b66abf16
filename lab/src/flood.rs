//! A flood of handshake initiations, as §5.3 of the WireGuard whitepaper expects from an attacker: each has a valid
//! `mac1`, so each costs the responder a Diffie-Hellman computation until it is under load and asks for cookies.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::engine::{Engine, Program};
use crate::netns::Netns;
use crate::seconds;
use crate::wg::Keypair;

/// Size of a handshake initiation in bytes.
const INITIATION: usize = 148;

/// Size of a cookie reply in bytes; its first byte is 3.
const COOKIE_REPLY: usize = 64;

/// Initiations of a stranger, sent over and over until dropped.
#[derive(Debug)]
pub struct Flood {
    cookies: Arc<AtomicU64>,
    _thread: Ending,
}

impl Flood {
    /// Floods `target`, whose public key is given, from `ns`, with about `rate` packets a second. The initiation is
    /// genuine: an engine makes it.
    ///
    /// # Panics
    /// If that engine does not, or no socket can be had.
    #[track_caller]
    #[must_use]
    pub fn start(program: &Program, ns: &Netns, target: SocketAddr, public_key: &str, rate: u32) -> Flood {
        let message = initiation_to(program, public_key);
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = ns.enter(|| UdpSocket::bind(any)).expect("a socket");
        socket.connect(target).expect("a route to the target");
        socket.set_nonblocking(true).expect("a socket that does not block");
        let cookies = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cookies);
        let thread = Ending::spawn(move |stop| pour(&socket, &message, rate, stop, &counted));
        Flood { cookies, _thread: thread }
    }

    /// How many cookie replies came back so far.
    #[must_use]
    pub fn cookies(&self) -> u64 {
        self.cookies.load(Ordering::Relaxed)
    }
}

/// An engine that is held up again and again until this is dropped, so that it finds thousands of messages at once: a
/// flood alone does not bring a fast one under load.
#[derive(Debug)]
pub struct Stutter {
    _thread: Ending,
}

impl Stutter {
    /// Begins; it has to end before the engine is dropped.
    #[must_use]
    pub fn start(engine: &Engine) -> Stutter {
        let pid = Pid::from_raw(engine.pid().cast_signed());
        let thread = Ending::spawn(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                for (signal, pause) in [(Signal::SIGSTOP, 150), (Signal::SIGCONT, 300)] {
                    let _ = kill(pid, signal);
                    thread::sleep(Duration::from_millis(pause));
                }
            }
        });
        Stutter { _thread: thread }
    }
}

/// A thread that is told to stop, and waited for, when this is dropped.
#[derive(Debug)]
pub(crate) struct Ending {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ending {
    pub(crate) fn spawn(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Ending {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Ending { stop, thread: Some(thread::spawn(move || work(&told))) }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pour(socket: &UdpSocket, message: &[u8], rate: u32, stop: &AtomicBool, cookies: &AtomicU64) {
    let mut reply = [0; 256];
    // A minute is the most that a forgotten flood may last.
    let end = Instant::now() + seconds(60);
    let (start, mut sent) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) && Instant::now() < end {
        let due = start.elapsed().as_secs_f64() * f64::from(rate);
        while f64::from(sent) < due {
            sent += 1;
            // A full queue or an ICMP error in answer to an earlier packet: the flood goes on.
            let _ = socket.send(message);
        }
        while let Ok(n) = socket.recv(&mut reply) {
            cookies.fetch_add(u64::from(n == COOKIE_REPLY && reply[0] == 3), Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// What `program` sends to greet a peer of that public key.
fn initiation_to(program: &Program, public_key: &str) -> Vec<u8> {
    let ns = Netns::new();
    let engine = Engine::start(program, &ns);
    let inbox = ns.enter(|| UdpSocket::bind("127.0.0.1:0")).expect("a socket");
    inbox.set_read_timeout(Some(seconds(30))).expect("a time limit");
    engine.set_private_key(&Keypair::generate().private);
    ns.ip(&format!("link set {} up", engine.interface()));
    let endpoint = inbox.local_addr().expect("it is bound");
    engine.set(&format!("peer {public_key} endpoint {endpoint} persistent-keepalive 1"));
    let mut message = vec![0; 256];
    let n = inbox.recv(&mut message).expect("an initiation");
    assert_eq!(n, INITIATION, "the first message is an initiation");
    message.truncate(n);
    message
}
