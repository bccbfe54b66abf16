//! Following the TUN interface: up and down, MTU, its move to another network namespace, its end.
//!
//! The interface may be moved while the sockets stay in the namespace where the engine was started: that is how a
//! container gets a tunnel as its only way out. So it is asked for by descriptor, and listened to where it is.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use adit_net::netlink::{LinkEvent, LinkMonitor, if_index, if_index_in};
use adit_net::netns;
use adit_net::tun::Tun;

/// Tries to find the interface while it is being moved or renamed, 10 ms apart.
const TRIES: usize = 100;

/// What changed about the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Up,
    Down,
    /// In bytes.
    Mtu(u32),
    /// Deleted.
    Gone,
}

pub(crate) struct Link {
    monitor: LinkMonitor,
    /// It went away from where it is listened to, and was not found anywhere else yet.
    is_lost: bool,
}

impl Link {
    /// Starts to follow the interface; also returns how it is now.
    pub(crate) fn follow(tun: &Tun) -> io::Result<(Self, Vec<Change>)> {
        let monitor = open(tun)?;
        let state = state(&monitor);
        Ok((Link { monitor, is_lost: false }, state))
    }

    /// What happened since. After a move, what is listened to is another descriptor: `true` asks to poll it anew.
    ///
    /// # Errors
    /// To be called again then, after a while.
    pub(crate) fn changes(&mut self, tun: &Tun) -> io::Result<(Vec<Change>, bool)> {
        let mut changes = Vec::new();
        if self.is_lost {
            return self.follow_away(tun, changes);
        }
        for event in self.monitor.poll()? {
            match event {
                LinkEvent::Up => changes.push(Change::Up),
                LinkEvent::Down => changes.push(Change::Down),
                LinkEvent::Mtu(mtu) => changes.push(Change::Mtu(mtu)),
                LinkEvent::Renamed(_) => {}
                LinkEvent::Gone => return self.follow_away(tun, changes),
            }
        }
        Ok((changes, false))
    }

    /// Not here any more: deleted, or moved.
    fn follow_away(&mut self, tun: &Tun, mut changes: Vec<Change>) -> io::Result<(Vec<Change>, bool)> {
        let found = open(tun);
        self.is_lost = found.is_err();
        match found {
            Ok(monitor) => {
                changes.extend(state(&monitor));
                self.monitor = monitor;
                Ok((changes, true))
            }
            Err(_) if tun.is_gone() => {
                changes.push(Change::Gone);
                Ok((changes, false))
            }
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }
}

fn state(monitor: &LinkMonitor) -> Vec<Change> {
    let state = monitor.state();
    vec![Change::Mtu(state.mtu), if state.up { Change::Up } else { Change::Down }]
}

fn open(tun: &Tun) -> io::Result<LinkMonitor> {
    let mut result = try_open(tun);
    for _ in 1..TRIES {
        if result.is_ok() || tun.is_gone() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        result = try_open(tun);
    }
    result
}

fn try_open(tun: &Tun) -> io::Result<LinkMonitor> {
    let name = tun.name()?;
    match elsewhere(tun) {
        Some(netns) => {
            let index = if_index_in(netns.as_fd(), &name)?;
            LinkMonitor::open(Some(netns.as_fd()), index)
        }
        None => LinkMonitor::open(None, if_index(&name)?),
    }
}

/// The interface's namespace, if it is not this thread's. Where one may not ask, it has not been moved either.
fn elsewhere(tun: &Tun) -> Option<OwnedFd> {
    let (theirs, ours) = (tun.netns_fd().ok()?, netns::current().ok()?);
    let inode = |fd: &OwnedFd| Some(File::from(fd.try_clone().ok()?).metadata().ok()?.ino());
    (inode(&theirs) != inode(&ours)).then_some(theirs)
}
