//! Keeping each flow on one queue of a TUN device with several.
//!
//! The driver picks the queue of an outgoing packet by a hash of its addresses and ports, until it sees the flow's
//! answers: then the flow moves to the queue through which those are *written* (`tun_flow_update`). WireGuard's answers
//! arrive at whichever worker the outer addresses lead to, so a flow would change queues in mid-stream, and one worker
//! overtake another with its packets.
//!
//! A queue detached by `TUNSETQUEUE` (Documentation/networking/tuntap.rst) gets no packets, can still be written
//! through, and teaches the driver nothing. With all writing done through such queues the hash alone decides, and the
//! driver is spared computing it for what is written. Each worker has one of its own, since the driver accounts for
//! packets per queue: two processors that write through one fight over a cache line.

use std::os::fd::OwnedFd;

use super::{TunError, sys};

/// Most queues of one device, detached ones included (the kernel's `MAX_TAP_QUEUES`).
const MAX_QUEUES: usize = 256;

/// The queues of one device by their use.
pub(super) struct Queues {
    /// To read from, at least one.
    pub attached: Vec<OwnedFd>,
    /// To write through. None if the kernel refuses, or if there is but one to read from: no flow can leave that.
    pub detached: Vec<OwnedFd>,
}

impl Queues {
    pub(super) fn one(fd: OwnedFd) -> Self {
        Self { attached: vec![fd], detached: Vec::new() }
    }

    /// Gives the device of `first` `count` queues to read from, and as many to write through as there is room for.
    pub(super) fn several(
        first: OwnedFd,
        count: usize,
        attach: impl Fn() -> Result<OwnedFd, TunError>,
    ) -> Result<Self, TunError> {
        let detachable = if count > 1 { count.min(MAX_QUEUES.saturating_sub(count)) } else { 0 };
        let mut all = vec![first];
        for _ in 1..count {
            all.push(attach()?);
        }
        // Those to write through are a luxury.
        all.extend((0..detachable).map_while(|_| attach().ok()));
        let detachable = all.len() - count;
        // The oldest: what is written through a detached queue is still reported as received on the number that it
        // had, and receive packet steering complains about numbers that no queue has.
        let detached = all[..detachable].iter().take_while(|fd| detach(fd)).count();
        let mut attached = all.split_off(detached);
        attached.truncate(count);
        Ok(Self { attached, detached: all })
    }
}

fn detach(fd: &OwnedFd) -> bool {
    let result = sys::detach(fd);
    if let Err(error) = &result {
        log::debug!("no queue only to write through (TUNSETQUEUE): {error}");
    }
    result.is_ok()
}
