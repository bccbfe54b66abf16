//! The threads that ask the devices. One that does not answer holds up nobody but itself.

use std::collections::HashSet;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use adit_control::Get;
use adit_net::poll::EventFd;

use super::INTERVAL;
use crate::wg::{device, reason};

/// What was heard, and when: the time since the start.
pub(super) struct News {
    pub(super) at: Duration,
    pub(super) what: What,
}

pub(super) enum What {
    /// The interfaces that are there, or why that is not known.
    Listed(Result<Vec<String>, String>),
    /// What an interface told, but for the secret keys, or why it did not.
    Told(String, Result<Get, String>),
}

/// Asks from now on, once a second, until it is dropped.
pub(super) struct Asker {
    pub(super) news: Receiver<News>,
    /// Readable when there may be news.
    pub(super) bell: Arc<EventFd>,
}

impl Asker {
    pub(super) fn begin(start: Instant, only: Option<&str>) -> io::Result<Self> {
        let (sender, news) = mpsc::channel();
        let bell = Arc::new(EventFd::new()?);
        let line = Line { start, sender, bell: Arc::clone(&bell), asked: Arc::default() };
        let only = only.map(str::to_owned);
        thread::Builder::new().name("watch".into()).spawn(move || ask_all(only.as_deref(), &line))?;
        Ok(Self { news, bell })
    }
}

/// What the threads share.
#[derive(Clone)]
struct Line {
    start: Instant,
    sender: Sender<News>,
    bell: Arc<EventFd>,
    /// The interfaces that have been asked and have not answered yet.
    asked: Arc<Mutex<HashSet<String>>>,
}

impl Line {
    /// Returns whether anybody listens.
    fn tell(&self, what: What) -> bool {
        let is_heard = self.sender.send(News { at: self.start.elapsed(), what }).is_ok();
        self.bell.wake();
        is_heard
    }

    fn asked(&self) -> MutexGuard<'_, HashSet<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask_all(only: Option<&str>, line: &Line) {
    let mut next = Instant::now();
    loop {
        let names = match only {
            Some(name) => Ok(vec![name.to_owned()]),
            None => device::names().map_err(|error| reason(&error)),
        };
        for name in names.iter().flatten() {
            if line.asked().insert(name.clone()) {
                let (name, line) = (name.clone(), line.clone());
                // Where there can be no more threads, this one has time to ask.
                let asking = thread::Builder::new().spawn({
                    let (name, line) = (name.clone(), line.clone());
                    move || ask(name, &line)
                });
                if asking.is_err() {
                    ask(name, &line);
                }
            }
        }
        if !line.tell(What::Listed(names)) {
            return;
        }
        // Not as often as missed, if the machine slept.
        next = (next + INTERVAL).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn ask(interface: String, line: &Line) {
    let mut told = device::get(&interface).map_err(|error| error.to_string());
    if let Ok(get) = &mut told {
        // Wiped where they are: a channel leaves copies of what went through it.
        get.private_key = None;
        get.peers.iter_mut().for_each(|peer| peer.preshared_key = None);
    }
    line.asked().remove(&interface);
    line.tell(What::Told(interface, told));
}
