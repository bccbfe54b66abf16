//! The ways to the peers. When one changes, or the machine has slept, a handshake begins at once, instead of after the
//! quarter of a minute that it takes to notice that nothing comes back. The control thread's.
//!
//! Only peers that somebody counts on are looked at and bothered, one after the other.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use adit_net::clock;
use adit_net::clock_watch::ClockWatch;
use adit_net::netlink::{Route, RouteLookup};
use adit_net::poll::TimerFd;
use adit_proto::time::Instant;

use crate::lock::{Lock, Shared};
use crate::peer::Peer;
use crate::state::Device;

/// Between the handshakes of two peers.
const PACE: Duration = Duration::from_millis(1);
/// How long to wait before looking again: changes come in swarms, and looking costs some for each peer.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_PER_PEER: Duration = Duration::from_millis(1);
/// The clocks cannot be read at one moment, and a sleep is longer than what lies between.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);

/// The way to an address, as last seen: `None` is none.
pub(crate) struct KnownWay {
    to: IpAddr,
    way: Option<Way>,
}

/// What of a route matters: another one of these, and NATs and firewalls on it know nothing of the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Way {
    ifindex: u32,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
}

impl From<Route> for Way {
    fn from(Route { ifindex, gateway, source, .. }: Route) -> Self {
        Way { ifindex, gateway, source }
    }
}

impl KnownWay {
    /// Whether it leads another way now. To where there is no way nothing has to be sent.
    fn has_turned(&self, now: &KnownWay) -> bool {
        self.to == now.to && now.way.is_some() && self.way != now.way
    }
}

pub(crate) struct Ways {
    lookup: RouteLookup,
    /// Runs until the routes may be looked at again.
    pub(crate) pause: TimerFd,
    is_pausing: bool,
    /// The routes have changed during the pause.
    is_due: bool,
    pub(crate) clock: ClockWatch,
    suspended: Duration,
}

impl Ways {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Ways {
            lookup: RouteLookup::open()?,
            pause: TimerFd::new()?,
            is_pausing: false,
            is_due: false,
            clock: ClockWatch::new()?,
            suspended: clock::suspended(),
        })
    }

    /// Links, addresses, routes or rules have changed.
    pub(crate) fn routes_changed(&mut self, device: &Device) -> io::Result<()> {
        if self.is_pausing {
            self.is_due = true;
            return Ok(());
        }
        let peers = self.look(device);
        let pause = PAUSE + PAUSE_PER_PEER * peers;
        self.pause.set((Device::now() + pause).as_nanos())?;
        self.is_pausing = true;
        Ok(())
    }

    /// The pause is over.
    pub(crate) fn pause_over(&mut self, device: &Device) -> io::Result<()> {
        self.pause.clear()?;
        self.is_pausing = false;
        if std::mem::take(&mut self.is_due) { self.routes_changed(device) } else { Ok(()) }
    }

    /// The wall clock has jumped. If that was because the machine slept, NATs have forgotten us and the network may be
    /// another.
    pub(crate) fn clock_jumped(&mut self, device: &Device) -> io::Result<()> {
        self.clock.clear()?;
        let suspended = clock::suspended();
        let Some(slept) = sleep(self.suspended, suspended) else { return Ok(()) };
        self.suspended = suspended;
        log::info!("the machine has slept for {} s", slept.as_secs());
        let now = Device::now();
        let before = Instant::from_nanos(now.as_nanos().saturating_sub(slept.as_nanos() as u64));
        let mut turn = Duration::ZERO;
        for peer in peers(device) {
            if peer.session.locked().is_in_use(before) {
                refresh(device, &peer, now + turn);
                turn += PACE;
            }
        }
        Ok(())
    }

    /// Has a handshake begin wherever the way is another now. Returns how many peers were looked at.
    fn look(&mut self, device: &Device) -> u32 {
        let now = Device::now();
        let fwmark = device.fwmark.load(Relaxed);
        let (mut looked_at, mut turn) = (0, Duration::ZERO);
        for peer in peers(device) {
            let session = peer.session.locked();
            let to = session.endpoint().map(|endpoint| endpoint.addr.ip()).filter(|_| session.is_in_use(now));
            drop(session);
            // What is known of the ways to the others would be out of date when they are in use again.
            let now_known = to.and_then(|to| {
                looked_at += 1;
                Some(KnownWay { to, way: self.lookup.route(to, None, fwmark).ok()?.map(Way::from) })
            });
            let mut known = peer.way.locked();
            let has_turned =
                known.as_ref().zip(now_known.as_ref()).is_some_and(|(was, is)| was.has_turned(is));
            *known = now_known;
            drop(known);
            if has_turned {
                refresh(device, &peer, now + turn);
                turn += PACE;
            }
        }
        looked_at
    }
}

fn peers(device: &Device) -> Vec<Arc<Peer>> {
    device.peers.shared().values().cloned().collect()
}

fn refresh(device: &Device, peer: &Arc<Peer>, at: Instant) {
    let mut session = peer.session.locked();
    if peer.is_removed() {
        return;
    }
    log::debug!("{peer}: the way there may be another, a handshake is due");
    session.refresh(at);
    device.schedule(peer, &mut session);
    drop(session);
    device.look_up_name(peer, at);
}

/// How long the machine has slept between these two totals, if it has.
fn sleep(before: Duration, after: Duration) -> Option<Duration> {
    after.checked_sub(before).filter(|slept| *slept > SHORTEST_SLEEP)
}

impl Device {
    /// Notes which way leads to `peer`, from which a handshake came, unless that is known.
    pub(crate) fn note_way(&self, peer: &Peer, to: IpAddr) {
        let mut known = peer.way.locked();
        if known.as_ref().is_some_and(|known| known.to == to) {
            return;
        }
        let route = self.route_lookup.locked().route(to, None, self.fwmark.load(Relaxed));
        *known = route.ok().map(|route| KnownWay { to, way: route.map(Way::from) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_way_turns_where_interface_router_or_source_are_others() {
        let to = |to, way| KnownWay { to: ip(to), way };
        let way = Way { ifindex: 1, gateway: Some(ip("10.0.0.1")), source: Some(ip("10.0.0.2")) };
        let known = to("192.0.2.1", Some(way));
        assert!(!known.has_turned(&to("192.0.2.1", Some(way))));
        for other in [
            Way { ifindex: 2, ..way },
            Way { gateway: None, ..way },
            Way { source: Some(ip("10.0.0.3")), ..way },
        ] {
            assert!(known.has_turned(&to("192.0.2.1", Some(other))));
            assert!(!known.has_turned(&to("192.0.2.2", Some(other))), "the peer is elsewhere");
        }
        assert!(!known.has_turned(&to("192.0.2.1", None)));
        assert!(to("192.0.2.1", None).has_turned(&known), "it is back");
    }

    #[test]
    fn a_clock_that_is_set_is_no_sleep() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(sleep(seconds(5.0), seconds(5.0001)), None);
        assert_eq!(sleep(seconds(5.0), seconds(4.9999)), None);
        assert_eq!(sleep(seconds(5.0), seconds(65.0)), Some(seconds(60.0)));
    }
}
