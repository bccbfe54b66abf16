//! Noticing that the machine has slept, without waking up now and then to look.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// A descriptor that becomes readable when the wall clock jumps: somebody has set it, or the machine has slept.
#[derive(Debug)]
pub struct ClockWatch(TimerFd);

impl ClockWatch {
    /// Watches from now on.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let watch = Self(TimerFd::new(ClockId::CLOCK_REALTIME, flags)?);
        watch.arm()?;
        Ok(watch)
    }

    /// Forgets the jumps up to now.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn clear(&self) -> io::Result<()> {
        match nix::unistd::read(&self.0, &mut [0; 8]) {
            Ok(_) | Err(Errno::EAGAIN | Errno::ECANCELED) => self.arm(),
            Err(error) => Err(error.into()),
        }
    }

    /// A deadline that never comes, and is cancelled when the clock jumps.
    fn arm(&self) -> io::Result<()> {
        let never = Expiration::OneShot(TimeSpec::new(libc::time_t::MAX, 0));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(self.0.set(never, flags)?)
    }
}

impl AsFd for ClockWatch {
    /// Readable when the clock has jumped.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::poll::{Events, Interest, Poller};

    /// That it is readable afterwards takes a clock that may be set: the virtual machine of the integration tests has one.
    #[test]
    fn a_clock_that_nobody_sets_wakes_nobody() {
        let (poller, watch) = (Poller::new().unwrap(), ClockWatch::new().unwrap());
        poller.add(&watch, 1, Interest::Read).unwrap();
        watch.clear().unwrap();
        let mut events = Events::with_capacity(1);
        poller.wait(&mut events, Some(Duration::from_millis(20))).unwrap();
        assert!(events.is_empty());
    }
}
