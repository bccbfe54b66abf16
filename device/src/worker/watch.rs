//! Who watches the descriptors: each worker its own; but while little comes, the first one those of all.
//!
//! What this host answers to a packet comes to another worker's queue as often as not, and to wake another thread takes
//! longer than all that is computed for a packet. So a lone packet and the answer to it are one worker's, whose code and
//! data one processor has at hand; and the others are not disturbed. When there is a *rush*, the first worker gives back
//! what it watches for others. Who finds it calm again lets itself be relieved.
//!
//! Nothing overtakes: whoever hands descriptors over has sent and delivered what it had read from them.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use adit_net::poll::{Interest, Poller};

use super::crew::FIRST;
use super::{Worker, places};
use crate::sync::EventFd;

/// How long descriptors that could not be watched wait until that is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(100);

/// A turn of so many packets or trains, or of so many bytes, is a rush.
const RUSH_PACKETS: usize = 8;
const RUSH_BYTES: usize = 16 << 10;

/// Whether a turn brought much.
pub(super) fn is_rush(packets: usize, bytes: usize) -> bool {
    packets >= RUSH_PACKETS || bytes >= RUSH_BYTES
}

/// What an event tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// Sockets or watches have changed, or work waits in another's lane.
    Waker,
    /// A TUN queue of the device's.
    Queue(usize),
    /// The socket of a worker.
    V4(usize),
    /// The same for IPv6.
    V6(usize),
}

impl Source {
    const KINDS: u64 = 4;

    fn token(self) -> u64 {
        let (kind, number) = match self {
            Source::Waker => (0, 0),
            Source::Queue(number) => (1, number),
            Source::V4(number) => (2, number),
            Source::V6(number) => (3, number),
        };
        number as u64 * Self::KINDS + kind
    }

    pub(super) fn of(token: u64) -> Self {
        let number = (token / Self::KINDS) as usize;
        match token % Self::KINDS {
            0 => Source::Waker,
            1 => Source::Queue(number),
            2 => Source::V4(number),
            _ => Source::V6(number),
        }
    }
}

/// What a worker waits with, before it watches any descriptor.
pub(super) fn poller(waker: &EventFd) -> io::Result<Poller> {
    let poller = Poller::new()?;
    poller.add(waker, Source::Waker.token(), Interest::Read)?;
    Ok(poller)
}

impl Worker<'_> {
    /// Takes up the device's sockets when they were changed, and descriptors that were handed over. Old sockets close when
    /// the last worker has let go.
    pub(super) fn follow(&mut self) {
        self.device.crew.member(self.number).waker.clear();
        let sockets = self.device.sockets();
        if self.sockets.as_ref().map(Arc::as_ptr) != sockets.as_ref().map(Arc::as_ptr) {
            self.watch(0);
            self.sockets = sockets;
        }
        self.watch(self.device.crew.watch_of(self.number));
    }

    pub(super) fn watches(&self, owner: usize) -> bool {
        self.watched & 1 << owner != 0
    }

    /// Whose queue this is; none if it was handed over since the events were fetched.
    pub(super) fn owner_of(&self, index: usize) -> Option<usize> {
        let (queues, workers) = (self.tun.queues().len(), self.device.crew.len());
        (0..workers).find(|owner| self.watches(*owner) && places(queues, *owner, workers).contains(&index))
    }

    /// To be called after each turn of a queue or socket.
    pub(super) fn turned(&mut self, is_rush: bool) {
        let crew = &self.device.crew;
        if crew.len() == 1 {
            return;
        }
        if is_rush {
            crew.rushes();
            if self.watched != 1 << self.number {
                self.finish();
                self.watch(1 << self.number);
                crew.relieve_nobody();
            }
        } else if self.number != FIRST && crew.is_calm() {
            self.finish();
            self.watch(0);
            crew.relieve(self.number);
        }
    }

    /// Sends and delivers all that was read.
    pub(super) fn finish(&mut self) {
        let (sender, receiver, _, mut ports) = self.parts();
        sender.finish(&mut ports);
        receiver.finish(&mut ports);
    }

    /// Watches the descriptors of these workers, and of no others.
    fn watch(&mut self, wanted: u64) {
        let changed = self.watched ^ wanted;
        self.watched = wanted;
        self.watch_again(changed);
    }

    /// Tries again what has failed of that.
    pub(super) fn watch_rightly(&mut self) {
        self.watches_wrongly = false;
        self.watch_again(u64::MAX);
    }

    fn watch_again(&mut self, changed: u64) {
        for owner in (0..self.device.crew.len()).filter(|owner| changed & 1 << owner != 0) {
            if let Err(error) = self.watch_those_of(owner, self.watches(owner)) {
                self.watches_wrongly = true;
                self.trouble.failed("having the kernel tell of packets", &error);
            }
        }
    }

    /// Tries all of them, whatever becomes of one, so that none stays that nobody would read.
    fn watch_those_of(&self, owner: usize, is_gained: bool) -> io::Result<()> {
        // Without sockets packets wait in the interface: what is sent right after it came up must not be lost.
        let interest = if self.sockets.is_some() { Interest::Read } else { Interest::Trouble };
        let queues = self.tun.queues();
        let mut result = Ok(());
        for index in places(queues.len(), owner, self.device.crew.len()) {
            let source = Source::Queue(index);
            result = result.and(match is_gained {
                true => self.gain(&queues[index], source, interest),
                false => self.lose(&queues[index]),
            });
        }
        let Some(bound) = &self.sockets else { return result };
        let pair = &bound.sockets[owner];
        for (socket, source) in [(&pair.v4, Source::V4(owner)), (&pair.v6, Source::V6(owner))] {
            let Some(socket) = socket else { continue };
            result = result.and(match is_gained {
                true => self.gain(socket, source, Interest::Read),
                false => self.lose(socket),
            });
        }
        result
    }

    fn gain(&self, fd: impl AsFd + Copy, source: Source, interest: Interest) -> io::Result<()> {
        match self.poller.add(fd, source.token(), interest) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.poller.modify(fd, source.token(), interest)
            }
            result => result,
        }
    }

    fn lose(&self, fd: impl AsFd) -> io::Result<()> {
        match self.poller.remove(fd) {
            // It could not be gained.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_has_a_token_of_its_own() {
        let sources =
            (0..70).flat_map(|number| [Source::Queue(number), Source::V4(number), Source::V6(number)]);
        for source in sources.chain([Source::Waker]) {
            assert_eq!(Source::of(source.token()), source);
        }
    }
}
