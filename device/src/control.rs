//! The control thread: it starts the others, applies configurations, follows the interface and the routes, serves the UAPI
//! socket, and ends it all.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use adit_control::SecretText;
use adit_control::status::Confinement;
use adit_control::uapi::{Operation, Request, write_get, write_status, write_why};
use adit_crypto::SelfTestFailure;
use adit_net::netlink::RouteMonitor;
use adit_net::poll::{Event, Events, Interest, Poller};
use adit_net::process::SignalFd;
use adit_net::tun::Tun;
use adit_net::unix::is_out_of_room;

use crate::configure::Configuration;
use crate::key_log::KeyLogFile;
use crate::link::{Change, Link};
use crate::state::Device;
use crate::trouble::Trouble;
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

/// What was left undone by an error is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// How to run the engine.
#[derive(Debug)]
pub struct Options {
    /// Threads that move packets. Each has UDP sockets of its own, and its share of the TUN device's queues.
    pub workers: NonZeroUsize,
    /// What to ask of the UDP sockets. Those of the interface are its opener's to choose.
    pub udp_offloads: UdpOffloads,
    /// For debugging.
    pub key_log: Option<KeyLogFile>,
    /// How the process has confined itself, for the status.
    pub confinement: Confinement,
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
    /// The system refused what the words say.
    System(&'static str, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfTest(failure) => write!(f, "this program or this processor is broken: {failure}"),
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
    threads: Vec<JoinHandle<io::Result<()>>>,
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
    trouble: Trouble,
    /// Something was left undone, which is to be tried again then.
    again: Option<Instant>,
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
        options: Options,
    ) -> Result<Self, StartError> {
        test_cryptography()?;
        let (device, tun) = (Arc::new(new_device(options.workers, options.key_log)?), Arc::new(tun));
        let (link, changes) = Link::follow(&tun).map_err(cannot("follow the interface"))?;
        let mut engine = Engine {
            threads: Vec::new(),
            configuration: Configuration::new(options.workers, options.udp_offloads, options.confinement),
            poller: Poller::new().map_err(cannot("poll"))?,
            link,
            routes: RouteMonitor::open().map_err(cannot("follow the routes"))?,
            ways: Ways::new().map_err(cannot("follow the routes"))?,
            signals,
            listener,
            clients: BTreeMap::new(),
            next_token: TOKEN_FIRST_CLIENT,
            trouble: Trouble::default(),
            again: None,
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
    /// What makes going on impossible, for any of the threads.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        while !self.device.is_ending() {
            let timeout = self.again.map(|at| at.saturating_duration_since(Instant::now()));
            self.trouble.wait(&self.poller, &mut events, timeout)?;
            for event in events.iter() {
                let result = self.handle(event);
                self.note(task(event.token), result);
            }
            if self.again.is_some_and(|at| at <= Instant::now()) {
                self.try_again();
            }
        }
        self.join()
    }

    /// An error is never a reason to take the tunnel down.
    fn note(&mut self, what: &'static str, result: io::Result<()>) {
        match result {
            Ok(()) => self.trouble.passed(),
            Err(error) => {
                self.trouble.tell(what, &error);
                self.trouble.failed(what, &error);
                self.is_to_be_tried_again();
            }
        }
    }

    fn is_to_be_tried_again(&mut self) {
        self.again.get_or_insert(Instant::now() + AGAIN);
    }

    /// Whatever an error may have kept it from.
    fn try_again(&mut self) {
        self.again = None;
        let result = self.follow_link();
        self.note(task(TOKEN_LINK), result);
        let result = self.ways.clock_jumped(&self.device);
        self.note(task(TOKEN_CLOCK), result);
        let result = self.follow_socket_file();
        self.note(task(TOKEN_SOCKET_FILE), result);
        if self.configuration.lacks_sockets(&self.device) {
            self.configuration.open_sockets(&self.device);
            if self.configuration.lacks_sockets(&self.device) {
                self.is_to_be_tried_again();
            }
        }
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

    /// What threads need of the system they get here: who started the engine learns of it when it is refused.
    fn start_threads(&mut self, workers: usize) -> io::Result<()> {
        let (tun, poller) = (self.tun.clone(), slow_path::poller(&self.device)?);
        self.start_thread("slow path".to_owned(), move |device| slow_path::run(device, &tun, &poller))?;
        for number in 0..workers {
            let (tun, poller) = (self.tun.clone(), worker::poller(&self.device, number)?);
            let run = move |device: &Device| worker::run(device, &tun, number, &poller);
            self.start_thread(format!("worker {number}"), run)?;
        }
        Ok(())
    }

    fn start_thread(
        &mut self,
        name: String,
        run: impl FnOnce(&Device) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let device = self.device.clone();
        let run = move || {
            let ending = Ending(device);
            run(&ending.0)
        };
        self.threads.push(thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    /// Ends all threads; returns what one of them could not go on for.
    fn join(&mut self) -> io::Result<()> {
        self.device.end();
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            // One that panicked has said so itself.
            if let Ok(Err(error)) = thread.join() {
                result = Err(io::Error::new(error.kind(), format!("the {name}: {error}")));
            }
        }
        result
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
            TOKEN_SOCKET_FILE => self.follow_socket_file()?,
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
                Change::Up => {
                    self.configuration.interface_up(&self.device);
                    if self.configuration.lacks_sockets(&self.device) {
                        self.is_to_be_tried_again();
                    }
                }
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
    fn follow_socket_file(&mut self) -> io::Result<()> {
        if self.listener.is_removed()? {
            log::info!("ending: the UAPI socket was removed");
            self.device.end();
        }
        Ok(())
    }

    /// Lets one in. Before the next, those that have asked something have their turn: who comes in a crowd turns out others who
    /// are silent, and not those who wait for an answer. And to try whether there is another would have the kernel complain of too
    /// few descriptors even where nobody waits.
    fn accept(&mut self) -> io::Result<()> {
        let client = match self.listener.accept() {
            Ok(client) => client,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // One who has left already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(()),
            Err(error) if is_out_of_room(&error) && !self.clients.is_empty() => {
                self.clients.pop_first();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.clients.len() >= MAX_CLIENTS {
            self.clients.pop_first();
        }
        let token = self.new_token();
        self.poller.add(&client, token, Interest::Read)?;
        self.clients.insert(token, client);
        Ok(())
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
        // Whoever wanted to know has asked.
        let _ = self.join();
    }
}

/// What an event is about, for people.
fn task(token: u64) -> &'static str {
    match token {
        TOKEN_END | TOKEN_SIGNAL => "being asked to end",
        TOKEN_LINK => "following the interface",
        TOKEN_ROUTES | TOKEN_PAUSE => "following the routes",
        TOKEN_CLOCK => "watching the clock",
        TOKEN_LISTENER => "accepting clients of the UAPI socket",
        TOKEN_SOCKET_FILE => "watching the UAPI socket",
        _ => "serving a client of the UAPI socket",
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

fn new_device(workers: NonZeroUsize, key_log: Option<KeyLogFile>) -> Result<Device, StartError> {
    Device::new(workers, key_log).map_err(cannot("set up the device"))
}
