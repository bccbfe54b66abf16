//! Asking every interface at once, and waiting for none longer than a scraper waits: whoever does not answer in time is
//! told of as that, and asked again only when its last question was answered or given up.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use adit_control::why::Why;
use adit_control::{Get, Status};

use super::exposition;
use crate::wg::{device, why};
use crate::{client, status};

/// How long interfaces may take: scrapers wait for ten seconds as a rule.
const PATIENCE: Duration = Duration::from_secs(4);

/// Who serves an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Adit,
    Kernel,
    Other,
}

/// What an interface told.
pub(super) struct Told {
    pub(super) get: Get,
    pub(super) engine: Engine,
    pub(super) status: Option<Status>,
    pub(super) why: Option<Why>,
}

/// An interface, and what it told if it did.
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) told: Option<Box<Told>>,
}

/// What came of a question.
enum Came {
    /// The interfaces that there are, and whether each is the kernel's own.
    Names(io::Result<BTreeMap<String, bool>>),
    Told(String, Answer),
}

/// What an interface answered.
enum Answer {
    Told(Box<Told>),
    Nothing,
    /// Nobody serves it: its socket was left behind.
    Gone,
}

#[derive(Default)]
pub(super) struct Collector {
    /// What is being asked: interfaces, and under an empty name which there are.
    pending: Arc<Mutex<HashSet<String>>>,
    turn: Mutex<()>,
}

impl Collector {
    /// Asks, and spells what was told.
    ///
    /// # Errors
    /// One line, if it cannot be known which interfaces there are.
    pub(super) fn collect(&self) -> Result<String, String> {
        // Two at a time would take each other's questions for ones that are not answered.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = mpsc::channel();
        let end = Instant::now() + PATIENCE;
        let too_long = || "it takes too long to find out which interfaces there are".to_owned();
        if !self.ask(String::new(), &sender, || Came::Names(names())) {
            return Err(too_long());
        }
        let mut interfaces: Vec<Interface> = Vec::new();
        let mut are_known = false;
        let mut waiting = 1;
        while waiting > 0 {
            let left = end.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                Ok(Came::Names(names)) => {
                    are_known = true;
                    waiting -= 1;
                    let names = names.map_err(|error| format!("interfaces cannot be listed: {error}"))?;
                    for (name, is_kernel) in names {
                        waiting += usize::from(self.ask_interface(&name, is_kernel, &sender));
                        interfaces.push(Interface { name, told: None });
                    }
                }
                Ok(Came::Told(name, answer)) => {
                    waiting -= 1;
                    let is_its = |interface: &&mut Interface| interface.name == name;
                    match (answer, interfaces.iter_mut().find(is_its)) {
                        (Answer::Told(told), Some(interface)) => interface.told = Some(told),
                        (Answer::Gone, _) => interfaces.retain(|interface| interface.name != name),
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        if !are_known {
            return Err(too_long());
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
        Ok(exposition::spell(interfaces, now))
    }

    fn ask_interface(&self, name: &str, is_kernel: bool, sender: &Sender<Came>) -> bool {
        let interface = name.to_owned();
        self.ask(name.to_owned(), sender, move || {
            let answer = if is_kernel || device::is_userspace(&interface) {
                tell(&interface).map_or(Answer::Nothing, |told| Answer::Told(Box::new(told)))
            } else {
                Answer::Gone
            };
            Came::Told(interface, answer)
        })
    }

    /// Asks in a thread of its own; false if an earlier question has not been answered yet.
    fn ask(
        &self,
        name: String,
        sender: &Sender<Came>,
        question: impl FnOnce() -> Came + Send + 'static,
    ) -> bool {
        if !pending(&self.pending).insert(name.clone()) {
            return false;
        }
        let (asked, sender) = (Asked { all: self.pending.clone(), name }, sender.clone());
        let asking = thread::Builder::new().name("question".to_owned()).spawn(move || {
            let came = question();
            drop(asked);
            // Whoever asked may have given up.
            let _ = sender.send(came);
        });
        asking.is_ok()
    }
}

fn pending(all: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A question that is pending.
struct Asked {
    all: Arc<Mutex<HashSet<String>>>,
    name: String,
}

impl Drop for Asked {
    fn drop(&mut self) {
        pending(&self.all).remove(&self.name);
    }
}

/// Without asking who serves them: one that does not answer would hold up the others.
fn names() -> io::Result<BTreeMap<String, bool>> {
    let mut names: BTreeMap<_, _> = client::interfaces()?.into_iter().map(|name| (name, false)).collect();
    names.extend(device::kernel_names()?.into_iter().map(|name| (name, true)));
    Ok(names)
}

fn tell(name: &str) -> Option<Told> {
    let get = device::get(name).ok()?;
    if !device::is_userspace(name) {
        return Some(Told { get, engine: Engine::Kernel, status: None, why: None });
    }
    let status = status::ask(name).ok();
    // Who knows no status knows no reasons either.
    let why = status.and_then(|_| why::ask(name));
    let engine = if status.is_some() { Engine::Adit } else { Engine::Other };
    Some(Told { get, engine, status, why })
}
