//! The control thread: it starts the others, applies configurations, follows the interface and the routes, serves the UAPI
//! socket, and ends it all.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use adit_control::SecretText;
use adit_control::uapi::{Operation, Request, write_get, write_status, write_why};
use adit_crypto::SelfTestFailure;
use adit_net::netlink::RouteMonitor;
use adit_net::poll::{Event, Events, Interest, Poller};
use adit_net::process::SignalFd;
use adit_net::tun::Tun;

use crate::configure::Configuration;
use crate::key_log::KeyLogFile;
use crate::link::{Change, Link};
use crate::state::Device;
use crate::uapi::{Client, Listener, MAX_CLIENTS, Turn};
use crate::ways::Ways;
use crate::{slow_path, worker};

const TOKEN_END: u64 = 0;
const TOKEN_SIGNAL: u64 = 1;
const TOKEN_LINK: u64 = 2;
const TOKEN_ROUTES: u64 = 3;
const TOKEN_LISTENER: u64 = 4;
const TOKEN_SOCKET_FILE: u64 = 5;
const TOKEN_PAUSE: u64 = 6;
const TOKEN_CLOCK: u64 = 7;
const TOKEN_FIRST_CLIENT: u64 = 8;

/// Pause after an error.
const RESPITE: Duration = Duration::from_millis(10);

/// How to run the engine.
#[derive(Debug)]
pub struct Options {
    /// Threads that move packets. Each has UDP sockets of its own, and its share of the TUN device's queues.
    pub workers: NonZeroUsize,
    /// What to ask of the UDP sockets. Those of the interface are its opener's to choose.
    pub udp_offloads: UdpOffloads,
    /// For debugging: a file to which every handshake's secrets are appended, in Wireshark's form.
    pub key_log: Option<PathBuf>,
}

/// Which work the UDP sockets hand over in bulk, where the kernel can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOffloads {
    /// Send trains by one call (`UDP_SEGMENT`).
    pub gso: bool,
    /// Receive trains as one (`UDP_GRO`).
    pub gro: bool,
}

impl Default for UdpOffloads {
    /// Both.
    fn default() -> Self {
        Self { gso: true, gro: true }
    }
}

/// Why the engine did not start.
#[derive(Debug)]
pub enum StartError {
    /// The cryptography does not compute what it should: nothing may run on it.
    SelfTest(SelfTestFailure),
    /// The key log cannot be written.
    KeyLog(PathBuf, io::Error),
    /// The system refused what the words say.
    System(&'static str, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfTest(failure) => write!(f, "this program or this processor is broken: {failure}"),
            Self::KeyLog(path, error) => {
                write!(f, "the key log {} cannot be written: {error}", path.display())
            }
            Self::System(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Says what could not be done.
fn cannot(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::System(what, error)
}

/// A running engine.
pub struct Engine {
    device: Arc<Device>,
    tun: Arc<Tun>,
    threads: Vec<JoinHandle<()>>,
    configuration: Configuration,
    poller: Poller,
    link: Link,
    routes: RouteMonitor,
    ways: Ways,
    signals: SignalFd,
    listener: Listener,
    clients: BTreeMap<u64, Client>,
    /// Tokens count up; the smallest is the client that was silent for the longest, for each turn gives a new one.
    next_token: u64,
}

impl Engine {
    /// Starts the engine on `tun`: the self-test is passed and all threads run when this returns.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(
        tun: Tun,
        listener: Listener,
        signals: SignalFd,
        options: &Options,
    ) -> Result<Self, StartError> {
        test_cryptography()?;
        let (device, tun) = (Arc::new(new_device(options)?), Arc::new(tun));
        let (link, changes) = Link::follow(&tun).map_err(cannot("follow the interface"))?;
        let mut engine = Engine {
            threads: Vec::new(),
            configuration: Configuration::new(options.workers, options.udp_offloads),
            poller: Poller::new().map_err(cannot("poll"))?,
            link,
            routes: RouteMonitor::open().map_err(cannot("follow the routes"))?,
            ways: Ways::new().map_err(cannot("follow the routes"))?,
            signals,
            listener,
            clients: BTreeMap::new(),
            next_token: TOKEN_FIRST_CLIENT,
            device,
            tun,
        };
        if let Ok(name) = engine.tun.name() {
            // It is set once, here.
            let _ = engine.device.resolver.interface.set(name);
        }
        engine.watch().map_err(cannot("poll"))?;
        engine.start_threads(options.workers.get()).map_err(cannot("start threads"))?;
        engine.apply_changes(&changes);
        Ok(engine)
    }

    /// Runs until a signal comes, the interface or the UAPI socket is removed.
    ///
    /// # Errors
    /// What makes going on impossible.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        while !self.device.is_ending() {
            self.poller.wait(&mut events, None)?;
            for event in events.iter() {
                if let Err(error) = self.handle(event) {
                    // Never a reason to take the tunnel down. What lasts must not occupy the processor either.
                    log::error!("going on in spite of: {error}");
                    thread::sleep(RESPITE);
                }
            }
        }
        Ok(())
    }

    fn watch(&self) -> io::Result<()> {
        self.poller.add(&self.device.end, TOKEN_END, Interest::Read)?;
        self.poller.add(&self.signals, TOKEN_SIGNAL, Interest::Read)?;
        self.poller.add(&self.link, TOKEN_LINK, Interest::Read)?;
        self.poller.add(&self.routes, TOKEN_ROUTES, Interest::Read)?;
        self.poller.add(&self.ways.pause, TOKEN_PAUSE, Interest::Read)?;
        self.poller.add(&self.ways.clock, TOKEN_CLOCK, Interest::Read)?;
        self.poller.add(&self.listener, TOKEN_LISTENER, Interest::Read)?;
        match self.listener.watch() {
            Some(watch) => self.poller.add(watch, TOKEN_SOCKET_FILE, Interest::Read),
            None => Ok(()),
        }
    }

    fn start_threads(&mut self, workers: usize) -> io::Result<()> {
        let tun = self.tun.clone();
        self.start_thread("slow path".to_owned(), move |device| slow_path::run(device, &tun))?;
        for number in 0..workers {
            let tun = self.tun.clone();
            self.start_thread(format!("worker {number}"), move |device| worker::run(device, &tun, number))?;
        }
        Ok(())
    }

    fn start_thread(
        &mut self,
        name: String,
        run: impl Fn(&Device) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let device = self.device.clone();
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            let ending = Ending(device);
            if let Err(error) = run(&ending.0) {
                log::error!("the {name} failed: {error}");
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event.token {
            TOKEN_END => {}
            TOKEN_SIGNAL => {
                if let Some(signal) = self.signals.read()? {
                    log::info!("ending: {signal:?} received");
                    self.device.end();
                }
            }
            TOKEN_LINK => self.follow_link()?,
            TOKEN_ROUTES => {
                if self.routes.drain()? {
                    self.device.routes_changed.fetch_add(1, Relaxed);
                    self.ways.routes_changed(&self.device)?;
                }
            }
            TOKEN_PAUSE => self.ways.pause_over(&self.device)?,
            TOKEN_CLOCK => self.ways.clock_jumped(&self.device)?,
            TOKEN_LISTENER => self.accept()?,
            TOKEN_SOCKET_FILE => {
                if self.listener.is_removed() {
                    log::info!("ending: the UAPI socket was removed");
                    self.device.end();
                }
            }
            token => self.serve(token)?,
        }
        Ok(())
    }
}

/// The interface.
impl Engine {
    fn follow_link(&mut self) -> io::Result<()> {
        let (changes, is_another) = self.link.changes(&self.tun)?;
        if is_another {
            self.poller.add(&self.link, TOKEN_LINK, Interest::Read)?;
        }
        self.apply_changes(&changes);
        Ok(())
    }

    fn apply_changes(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Up => self.configuration.interface_up(&self.device),
                Change::Down => self.configuration.interface_down(&self.device),
                Change::Mtu(mtu) => self.device.mtu.store(*mtu as usize, Relaxed),
                Change::Gone => {
                    log::info!("ending: the interface was deleted");
                    self.device.end();
                }
            }
        }
    }
}

/// The UAPI socket.
impl Engine {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let client = match self.listener.accept() {
                Ok(client) => client,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Out of descriptors: the one who waits would wake this thread for ever.
                Err(_) if !self.clients.is_empty() => {
                    self.clients.pop_first();
                    continue;
                }
                Err(error) => return Err(error),
            };
            if self.clients.len() >= MAX_CLIENTS {
                self.clients.pop_first();
            }
            let token = self.new_token();
            self.poller.add(&client, token, Interest::Read)?;
            self.clients.insert(token, client);
        }
    }

    fn serve(&mut self, token: u64) -> io::Result<()> {
        // Gone for another's sake in this very round.
        let Some(mut client) = self.clients.remove(&token) else { return Ok(()) };
        let turn = client.turn(|request| answer(&mut self.configuration, &self.device, &self.tun, request));
        let interest = match turn {
            Turn::Reading => Interest::Read,
            Turn::Writing => Interest::Write,
            Turn::Over => return Ok(()),
        };
        let token = self.new_token();
        self.poller.modify(&client, token, interest)?;
        self.clients.insert(token, client);
        Ok(())
    }

    fn new_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

/// A thread that stops, and be it by a panic, takes the others with it: half an engine serves nobody.
struct Ending(Arc<Device>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn answer(configuration: &mut Configuration, device: &Device, tun: &Tun, request: Request) -> SecretText {
    match request {
        Request::Get => write_get(&configuration.get(device)),
        Request::Status => write_status(configuration.status(device, tun)),
        Request::Why => write_why(&configuration.why(device)),
        Request::Set(set) => {
            let errno = match configuration.apply(device, set) {
                Ok(()) => 0,
                Err(error) => {
                    log::error!("{error}");
                    error.errno()
                }
            };
            text(&Operation::Set.answer(errno))
        }
        Request::Refuse(refusal) => {
            log::error!("{refusal}");
            text(&refusal.answer())
        }
    }
}

fn text(answer: &str) -> SecretText {
    let mut text = SecretText::with_capacity(answer.len());
    text.push(answer.as_bytes());
    text
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.device.end();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// Says what seals packets, and loudly if it is not what should.
fn test_cryptography() -> Result<(), StartError> {
    let tested = adit_crypto::self_test().map_err(StartError::SelfTest)?;
    if let Some(rejected) = tested.rejected {
        log::error!(
            "the cryptography for {rejected} computes wrongly here and is not used; please report this"
        );
    }
    log::info!("packets are sealed and opened by {}", tested.aead);
    Ok(())
}

fn new_device(options: &Options) -> Result<Device, StartError> {
    let key_log = match &options.key_log {
        Some(path) => {
            log::warn!("every session's secrets are written to {}", path.display());
            Some(KeyLogFile::open(path).map_err(|error| StartError::KeyLog(path.clone(), error))?)
        }
        None => None,
    };
    Device::new(options.workers, key_log).map_err(cannot("set up the device"))
}
