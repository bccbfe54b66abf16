//! Calls that fail without a reason that this thread could do something about: they are tried again, for they pass; but what
//! lasts must neither occupy the processor nor fill the log.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use adit_net::poll::{Events, Poller};

/// So many failures in a row are taken as they come.
const FREE: u32 = 8;
/// After each of those that follow there is a pause; it grows.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// Waiting for events, without which nothing goes on, may fail so often in a row: for ten seconds.
const MAX_WAITS: u32 = 1000;
/// The same trouble is told of once in this time.
const SILENCE: Duration = Duration::from_secs(60);

/// What goes wrong for a thread.
#[derive(Default)]
pub(crate) struct Trouble {
    in_a_row: u32,
    /// Of waiting, which may go well while nothing else does.
    waits_in_a_row: u32,
    told: Vec<(&'static str, Instant)>,
}

impl Trouble {
    /// Something went as it should.
    pub(crate) fn passed(&mut self) {
        self.in_a_row = 0;
    }

    /// `what`, which will be tried again, has failed once more. When it has done so often, that is told, and this pauses.
    pub(crate) fn failed(&mut self, what: &'static str, error: &io::Error) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.bear(what, error, self.in_a_row);
    }

    fn bear(&mut self, what: &'static str, error: &io::Error, in_a_row: u32) {
        log::debug!("{what} has failed: {error}");
        if in_a_row > FREE {
            self.tell(what, error);
            thread::sleep(LONGEST_PAUSE.min(Duration::from_millis(u64::from(in_a_row - FREE))));
        }
    }

    /// Tells that `what` fails, unless that was told lately.
    pub(crate) fn tell(&mut self, what: &'static str, error: &io::Error) {
        let now = Instant::now();
        self.told.retain(|(_, at)| now.duration_since(*at) < SILENCE);
        if self.told.iter().all(|(told, _)| *told != what) {
            self.told.push((what, now));
            log::error!("{what} fails: {error}; it is tried again and again");
        }
    }

    /// Waits as [`Poller::wait`] does, and where that fails, goes on without events.
    ///
    /// # Errors
    /// When it fails all the time.
    pub(crate) fn wait(
        &mut self,
        poller: &Poller,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match poller.wait(events, timeout) {
            Ok(()) => {
                self.waits_in_a_row = 0;
                Ok(())
            }
            Err(error) if self.waits_in_a_row >= MAX_WAITS => Err(error),
            Err(error) => {
                self.waits_in_a_row += 1;
                self.bear("waiting for events", &error, self.waits_in_a_row);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_slows_down() {
        let mut trouble = Trouble::default();
        let error = io::Error::from_raw_os_error(libc::ENOMEM);
        for _ in 0..FREE {
            trouble.failed("reading", &error);
        }
        assert!(trouble.told.is_empty());
        let begin = Instant::now();
        for _ in 0..5 {
            trouble.failed("reading", &error);
        }
        assert!(begin.elapsed() >= Duration::from_millis(1 + 2 + 3 + 4 + 5));
        assert_eq!(trouble.told.len(), 1);
        trouble.tell("writing", &error);
        assert_eq!(trouble.told.len(), 2);
        trouble.passed();
        assert_eq!(trouble.in_a_row, 0);
    }
}
