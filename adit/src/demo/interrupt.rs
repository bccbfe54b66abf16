//! Ctrl-C and its like: looked for wherever the demonstration waits, so that everything is taken back in order.

use std::time::{Duration, Instant};

use adit_net::poll::{Events, Interest, Poller};
use adit_net::process::{Signal, SignalFd};

use super::error::{Stop, cannot};

/// The signals that end the demonstration.
pub(super) struct Interrupt {
    signals: SignalFd,
    poller: Poller,
}

impl Interrupt {
    /// From now on signals are seen only by those who sleep here. Call it before any thread is started.
    pub(super) fn watch() -> Result<Self, Stop> {
        let signals = SignalFd::new(&[Signal::Interrupt, Signal::Terminate, Signal::Hangup])
            .map_err(cannot("wait for signals"))?;
        let poller = Poller::new().map_err(cannot("poll"))?;
        poller.add(&signals, 0, Interest::Read).map_err(cannot("poll"))?;
        Ok(Self { signals, poller })
    }

    /// Sleeps, unless a signal comes, or came before: then that is what is returned, at once.
    pub(super) fn sleep(&self, duration: Duration) -> Result<(), Stop> {
        let end = Instant::now() + duration;
        let mut events = Events::with_capacity(1);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            self.poller.wait(&mut events, Some(left)).map_err(cannot("poll"))?;
            if let Some(signal) = self.signals.read().map_err(cannot("read signals"))? {
                return Err(Stop::Signal(signal));
            }
            if left.is_zero() {
                return Ok(());
            }
        }
    }
}
