//! Waiting: epoll, and the two descriptors that end a wait — [`EventFd`] for another thread, [`TimerFd`] for time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{self, EfdFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{self, ClockId, Expiration, TimerFlags, TimerSetTimeFlags};

/// What to wait for on a descriptor, level-triggered. Errors and hang-ups always wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Room to write.
    Write,
    /// Either.
    ReadWrite,
    /// Neither: only errors and hang-ups, which a deleted interface shows.
    Trouble,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::Write => EpollFlags::EPOLLOUT,
            Self::ReadWrite => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
            // A TUN device announces its end as "readable", which would not wake for nothing at all.
            Self::Trouble => EpollFlags::EPOLLPRI,
        }
    }
}

/// How often another thread is woken, if that fails.
const WAKING_TRIES: usize = 16;

/// A set of descriptors to wait for, each known by a token of the caller's choice.
///
/// A closed descriptor leaves the set by itself, unless it was duplicated; tokens need not be unique.
#[derive(Debug)]
pub struct Poller(Epoll);

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Adds a descriptor.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it is in the set, `EPERM` if it can't be waited for (a regular file).
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(interest.flags(), token))?)
    }

    /// Changes what to wait for on a descriptor of the set.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it is not in the set.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.modify(fd, &mut EpollEvent::new(interest.flags(), token))?)
    }

    /// Removes a descriptor.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it is not in the set.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(fd)?)
    }

    /// Waits until a descriptor is ready or `timeout` has passed (`None`: for ever), and fills `events`.
    ///
    /// The timeout is rounded up to milliseconds. A signal ends the wait early with no events.
    ///
    /// # Errors
    ///
    /// None that a valid set produces.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.filled = 0;
        events.filled = match self.0.wait(&mut events.buffer, epoll_timeout(timeout)) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        Ok(())
    }
}

/// Rounded up, so that a wait for a deadline does not end just before it and spin.
fn epoll_timeout(timeout: Option<Duration>) -> EpollTimeout {
    let Some(timeout) = timeout else { return EpollTimeout::NONE };
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    EpollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
}

/// Room for the events of one wait.
#[derive(Debug)]
pub struct Events {
    buffer: Vec<EpollEvent>,
    filled: usize,
}

impl Events {
    /// Room for `capacity` events (at least one); more are reported by the next wait.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: vec![EpollEvent::empty(); capacity.max(1)], filled: 0 }
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        self.buffer[..self.filled].iter().map(|event| {
            let flags = event.events();
            let broken = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            Event {
                token: event.data(),
                readable: broken || flags.contains(EpollFlags::EPOLLIN),
                writable: broken || flags.contains(EpollFlags::EPOLLOUT),
            }
        })
    }

    /// Whether the last wait ended without an event.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

/// A descriptor that became ready. One in error or hung up is both readable and writable: the call that follows
/// tells why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The token that the descriptor was added with.
    pub token: u64,
    /// A read would not block.
    pub readable: bool,
    /// A write would not block.
    pub writable: bool,
}

/// A descriptor that threads wake each other with: readable from [`wake`](Self::wake) until
/// [`clear`](Self::clear).
#[derive(Debug)]
pub struct EventFd(eventfd::EventFd);

impl EventFd {
    /// A descriptor that is not yet readable.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(eventfd::EventFd::from_flags(flags)?))
    }

    /// Makes it readable. Waking twice is waking once.
    pub fn wake(&self) {
        for _ in 0..WAKING_TRIES {
            match self.0.write(1) {
                // At its maximum the counter is readable all the same.
                Ok(_) | Err(Errno::EAGAIN) => return,
                // Nothing else has a reason to fail; but whoever is not woken sleeps for ever.
                Err(_) => {}
            }
        }
    }

    /// Makes it unreadable; returns whether it was readable.
    ///
    /// Clear before looking for work, not after: what is queued in between then wakes again.
    pub fn clear(&self) -> bool {
        self.0.read().is_ok()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that becomes readable at a moment on [`boottime_ns`](crate::clock::boottime_ns)'s clock, also if the
/// machine slept through it.
#[derive(Debug)]
pub struct TimerFd(timerfd::TimerFd);

impl TimerFd {
    /// A timer with no deadline.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self(timerfd::TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?))
    }

    /// Replaces the deadline, in nanoseconds since boot; one in the past makes it readable at once.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn set(&self, deadline_ns: u64) -> io::Result<()> {
        // A deadline of zero would mean "none" to the kernel.
        let deadline = TimeSpec::from_duration(Duration::from_nanos(deadline_ns.max(1)));
        Ok(self.0.set(Expiration::OneShot(deadline), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    /// Takes the deadline away, also one that has passed: it is not readable afterwards.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn clear(&self) -> io::Result<()> {
        Ok(self.0.unset()?)
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::boottime_ns;

    fn tokens(poller: &Poller, timeout: Duration) -> Vec<u64> {
        let mut events = Events::with_capacity(8);
        poller.wait(&mut events, Some(timeout)).unwrap();
        events.iter().map(|event| event.token).collect()
    }

    #[test]
    fn waking_twice_is_waking_once() {
        let (poller, event) = (Poller::new().unwrap(), EventFd::new().unwrap());
        poller.add(&event, 7, Interest::Read).unwrap();
        assert!(tokens(&poller, Duration::ZERO).is_empty());
        event.wake();
        event.wake();
        assert_eq!(tokens(&poller, Duration::ZERO), [7]);
        assert!(event.clear());
        assert!(!event.clear());
        assert!(tokens(&poller, Duration::ZERO).is_empty());
    }

    #[test]
    fn a_wake_from_another_thread_ends_an_endless_wait() {
        let (poller, event) = (Poller::new().unwrap(), EventFd::new().unwrap());
        poller.add(&event, 1, Interest::Read).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| event.wake());
            let mut events = Events::with_capacity(1);
            poller.wait(&mut events, None).unwrap();
            assert_eq!(events.iter().count(), 1);
        });
    }

    #[test]
    fn a_timer_fires_at_its_deadline_and_not_before() {
        let (poller, timer) = (Poller::new().unwrap(), TimerFd::new().unwrap());
        poller.add(&timer, 3, Interest::Read).unwrap();
        let deadline = boottime_ns() + 20_000_000;
        timer.set(deadline).unwrap();
        assert!(tokens(&poller, Duration::ZERO).is_empty());
        assert_eq!(tokens(&poller, Duration::from_secs(5)), [3]);
        assert!(boottime_ns() >= deadline);
        timer.clear().unwrap();
        assert!(tokens(&poller, Duration::ZERO).is_empty());
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once() {
        let (poller, timer) = (Poller::new().unwrap(), TimerFd::new().unwrap());
        poller.add(&timer, 3, Interest::Read).unwrap();
        timer.set(0).unwrap();
        assert_eq!(tokens(&poller, Duration::from_secs(5)), [3]);
    }

    #[test]
    fn removed_and_modified_descriptors() {
        let (poller, event) = (Poller::new().unwrap(), EventFd::new().unwrap());
        poller.add(&event, 1, Interest::Read).unwrap();
        poller.modify(&event, 2, Interest::ReadWrite).unwrap();
        assert_eq!(tokens(&poller, Duration::ZERO), [2]);
        poller.remove(&event).unwrap();
        assert!(tokens(&poller, Duration::ZERO).is_empty());
        assert_eq!(poller.remove(&event).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn timeouts_round_up() {
        assert_eq!(epoll_timeout(Some(Duration::from_micros(1))), EpollTimeout::from(1u8));
        assert_eq!(epoll_timeout(Some(Duration::MAX)), EpollTimeout::MAX);
        assert_eq!(epoll_timeout(None), EpollTimeout::NONE);
    }
}
