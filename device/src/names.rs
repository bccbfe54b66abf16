//! Endpoints that were given by name: when a peer does not answer, its name is looked up again.
//!
//! A lookup may take half a minute, so it has a thread of its own, which exists only meanwhile. What it finds changes
//! nothing by itself: the next initiation to a peer that still does not answer goes to another address of the name. So an
//! address that works is never replaced, whatever the name says, and all addresses have their turn, of both families.

use std::collections::VecDeque;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use adit_control::EndpointName;
use adit_control::quick::dns::kept;
use adit_net::netlink::if_index;
use adit_net::{dns, resolve};
use adit_proto::time::Instant;
use rand_core::Rng as _;

use crate::endpoint::Endpoint;
use crate::lock::Lock;
use crate::outside::rng;
use crate::peer::Peer;
use crate::state::Device;
use crate::sync::Mutex;

/// Between a peer's lookups, the first time; twice as long each time after.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What was found longer ago than this was of other troubles.
const FRESH: Duration = Duration::from_secs(90);
/// Of the addresses of a name so many are tried; each is a question to the kernel, too, and some answers have thousands.
const MAX_ADDRESSES: usize = 16;
/// One name server that does not answer must not hold up all other names.
const MAX_THREADS: usize = 4;

/// The name that a peer's endpoint was given by.
pub(crate) struct Name {
    name: EndpointName,
    /// Its addresses as last looked up, the families by turns.
    found: Vec<SocketAddr>,
    found_at: Instant,
    /// What was left for one of these, and is none of them. It has its turn, too: the name may be what is out of date.
    left: Option<SocketAddr>,
    next_lookup: Instant,
    pause: Duration,
    is_being_looked_up: bool,
    /// It could not be looked up, and that was told.
    has_failed: bool,
}

impl Name {
    pub(crate) fn new(name: EndpointName) -> Self {
        Name {
            name,
            found: Vec::new(),
            found_at: Instant::default(),
            left: None,
            next_lookup: Instant::default(),
            pause: FIRST_PAUSE,
            is_being_looked_up: false,
            has_failed: false,
        }
    }

    pub(crate) fn is(&self, name: &EndpointName) -> bool {
        self.name == *name
    }

    /// Whether to look it up now; if so, that has begun.
    fn begin_lookup(&mut self, now: Instant, random: u32) -> bool {
        if self.is_being_looked_up || now < self.next_lookup {
            return false;
        }
        self.is_being_looked_up = true;
        // Up to a quarter less, so that a thousand peers of one server do not ask at one moment.
        let jitter = self.pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 4.0);
        self.next_lookup = now + (self.pause - jitter);
        self.pause = LONGEST_PAUSE.min(2 * self.pause);
        true
    }

    fn looked_up(&mut self, addresses: Vec<SocketAddr>, now: Instant) {
        self.found = by_turns(addresses);
        self.found.truncate(MAX_ADDRESSES);
        self.found_at = now;
    }

    /// The peer was heard, at whatever address it now has.
    fn works(&mut self) {
        self.pause = FIRST_PAUSE;
        self.left = None;
    }

    /// The address to try after `current`, of those that can be reached. One lost packet is no reason to leave an address
    /// of the name; it is one to leave an address that is none.
    fn next(
        &mut self,
        current: Option<SocketAddr>,
        unanswered: u32,
        now: Instant,
        can_reach: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        if now.since(self.found_at) > FRESH {
            return None;
        }
        let is_found = |addr: &SocketAddr| self.found.contains(addr);
        let all: Vec<_> =
            self.found.iter().copied().chain(self.left.filter(|left| !is_found(left))).collect();
        let place = all.iter().position(|addr| Some(*addr) == current);
        let patience = if place.is_some() { 2 } else { 1 };
        if unanswered < patience {
            return None;
        }
        let (before, after) = all.split_at(place.map_or(0, |place| place + 1));
        let next =
            after.iter().chain(before).copied().filter(|addr| Some(*addr) != current).find(can_reach)?;
        if place.is_none() {
            self.left = current;
        }
        Some(next)
    }
}

/// One of the first one's family, one of the other, and so on.
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(is_first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (first, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|addr| addr.is_ipv6() == is_first);
    let mut places: Vec<(usize, SocketAddr)> = Vec::new();
    places.extend(first.into_iter().enumerate().map(|(turn, addr)| (2 * turn, addr)));
    places.extend(other.into_iter().enumerate().map(|(turn, addr)| (2 * turn + 1, addr)));
    places.sort_by_key(|(place, _)| *place);
    places.into_iter().map(|(_, addr)| addr).collect()
}

impl Device {
    /// To be called when an initiation is about to be sent: to one who does not answer it may go to another address.
    pub(crate) fn turn_to_name(&self, peer: &Arc<Peer>, now: Instant) {
        let mut slot = peer.name.locked();
        let Some(name) = &mut *slot else { return };
        let session = peer.session.locked();
        let (unanswered, current) = (session.unanswered_initiations(), session.endpoint().map(|at| at.addr));
        drop(session);
        if unanswered == 0 {
            return name.works();
        }
        let fwmark = self.fwmark.load(Relaxed);
        let own = self.resolver.interface.get().and_then(|interface| if_index(interface).ok());
        let can_reach = |addr: &SocketAddr| {
            let route = self.route_lookup.locked().route(addr.ip(), None, fwmark);
            // What is sent into the tunnel itself goes round in it. An error tells nothing; the send will.
            route.map_or(true, |route| route.is_some_and(|route| Some(route.ifindex) != own))
        };
        let next = name.next(current, unanswered, now, can_reach);
        self.begin_lookup(peer, name, now);
        // With the name still locked: whoever sets another endpoint does so before or after this, name and address both.
        let mut session = peer.session.locked();
        if let Some(addr) = next
            && session.unanswered_initiations() > 0
        {
            log::info!("{peer}: does not answer; trying {addr} for {}", name.name);
            session.set_endpoint(Endpoint::configured(addr));
        }
    }

    /// Looks the name of `peer` up now, if it has one: it may soon be needed.
    pub(crate) fn look_up_name(&self, peer: &Arc<Peer>, now: Instant) {
        if let Some(name) = &mut *peer.name.locked() {
            self.begin_lookup(peer, name, now);
        }
    }

    fn begin_lookup(&self, peer: &Arc<Peer>, name: &mut Name, now: Instant) {
        if name.begin_lookup(now, rng().next_u32()) {
            name.is_being_looked_up =
                self.resolver.ask(peer.clone(), name.name.clone(), self.fwmark.load(Relaxed));
        }
    }
}

/// Names that wait to be looked up, and the threads that do so; there are none while none waits.
#[derive(Default)]
pub(crate) struct Resolver {
    waiting: Arc<Mutex<Waiting>>,
    /// The interface's name, as it was at the start.
    pub(crate) interface: OnceLock<String>,
}

#[derive(Default)]
struct Waiting {
    /// Each peer is here once at most.
    names: VecDeque<Request>,
    threads: usize,
}

struct Request {
    peer: Arc<Peer>,
    name: EndpointName,
    /// The mark of the device's own packets.
    fwmark: u32,
    interface: String,
}

impl Resolver {
    /// False if there is nobody to look it up.
    fn ask(&self, peer: Arc<Peer>, name: EndpointName, fwmark: u32) -> bool {
        let interface = self.interface.get().cloned().unwrap_or_default();
        let mut waiting = self.waiting.locked();
        waiting.names.push_back(Request { peer, name, fwmark, interface });
        if waiting.threads == MAX_THREADS {
            return true;
        }
        let names = self.waiting.clone();
        let thread = thread::Builder::new().name("resolver".to_owned());
        match thread.spawn(move || while look_up_next(&names) {}) {
            Ok(_) => waiting.threads += 1,
            Err(error) => {
                log::error!("names cannot be looked up: {error}; that is tried again");
                if waiting.threads == 0 {
                    // Nobody would take it, and its peer would wait for ever. It asks again when the time has come.
                    waiting.names.pop_back();
                    return false;
                }
            }
        }
        true
    }
}

/// False when there is none; then this thread does not count any more.
fn look_up_next(waiting: &Mutex<Waiting>) -> bool {
    let mut locked = waiting.locked();
    let Some(request) = locked.names.pop_front() else {
        locked.threads -= 1;
        return false;
    };
    drop(locked);
    let is_wanted = |slot: &Option<Name>| slot.as_ref().is_some_and(|current| current.is(&request.name));
    // Those that nobody wants any more must not hold up the others.
    if request.peer.is_removed() || !is_wanted(&request.peer.name.locked()) {
        return true;
    }
    let result = look_up(&request);
    let Request { peer, name, .. } = request;
    let mut slot = peer.name.locked();
    // Another one may have been set meanwhile.
    let Some(current) = slot.as_mut().filter(|current| current.is(&name)) else { return true };
    current.is_being_looked_up = false;
    match result {
        Ok(addresses) => {
            log::debug!("{peer}: {name} is {addresses:?}");
            current.looked_up(addresses, Device::now());
            current.has_failed = false;
        }
        // Once is enough; it will be asked again and again.
        Err(error) => {
            if !current.has_failed {
                log::warn!("{peer}: {name} cannot be looked up: {error}. Its last address stays");
            }
            current.has_failed = true;
        }
    }
    true
}

fn look_up(
    Request { name, fwmark, interface, .. }: &Request,
) -> Result<Vec<SocketAddr>, resolve::LookupError> {
    match past_the_tunnel(name.host(), *fwmark, interface) {
        Some(addresses) => Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, name.port())).collect()),
        None => resolve::lookup(name.host(), &name.port().to_string()),
    }
}

/// Where the device's packets are marked, the tunnel may well take all others, name lookups among them, and it does not
/// work. So the question is marked as well, and put to the name servers of before the tunnel was there.
fn past_the_tunnel(host: &str, fwmark: u32, interface: &str) -> Option<Vec<IpAddr>> {
    if fwmark == 0 {
        return None;
    }
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let known = dns::in_hosts(&hosts, host);
    if !known.is_empty() {
        return Some(known);
    }
    // A name without a dot is for the search domains.
    let servers = host.contains('.').then(|| servers(interface))?;
    dns::lookup(host, &servers, fwmark).ok()
}

fn servers(interface: &str) -> Vec<IpAddr> {
    let before = dns::servers_of(Path::new(&kept(interface)));
    if !before.is_empty() {
        return before;
    }
    let now = dns::servers_of(Path::new("/etc/resolv.conf"));
    // systemd-resolved is asked on this host, and asks others, without a mark: those are listed here.
    let real = match now.iter().all(IpAddr::is_loopback) {
        true => dns::servers_of(Path::new("/run/systemd/resolve/resolv.conf")),
        false => Vec::new(),
    };
    if real.is_empty() { now } else { real }
}

#[cfg(test)]
mod tests {
    use adit_control::PublicKey;
    use adit_proto::handshake::Timestamps;

    use super::*;

    const NOW: Instant = Instant::from_nanos(1 << 60);

    fn name() -> Name {
        Name::new("a.test:1".parse().unwrap())
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lookups_are_further_and_further_apart() {
        let mut name = name();
        let (mut now, mut gaps) = (NOW, Vec::new());
        for _ in 0..6 {
            assert!(name.begin_lookup(now, 0));
            assert!(!name.begin_lookup(now + LONGEST_PAUSE, 0), "one at a time");
            name.is_being_looked_up = false;
            gaps.push(name.next_lookup.since(now).as_secs());
            assert!(!name.begin_lookup(now + Duration::from_secs(9), 0));
            now = name.next_lookup;
        }
        assert_eq!(gaps, [10, 20, 40, 60, 60, 60]);
        assert!(name.begin_lookup(now, u32::MAX));
        assert_eq!(name.next_lookup.since(now).as_secs(), 45);
    }

    #[test]
    fn a_thread_looks_names_up_and_ends() {
        let peer = Arc::new(Peer::new(PublicKey::new([1; 32]), 1, Timestamps::default(), Arc::default()));
        let resolver = Resolver::default();
        for (text, is_known) in [("localhost:5", true), ("a..test:5", false)] {
            let mut name = Name::new(text.parse().unwrap());
            assert!(name.begin_lookup(NOW, 0));
            *peer.name.locked() = Some(name);
            resolver.ask(peer.clone(), text.parse().unwrap(), 0);
            while resolver.waiting.locked().threads > 0 {
                thread::sleep(Duration::from_millis(1));
            }
            let slot = peer.name.locked();
            let name = slot.as_ref().unwrap();
            assert_eq!((name.found.is_empty(), name.has_failed), (!is_known, !is_known), "{text}");
            assert!(!name.is_being_looked_up);
        }
    }

    #[test]
    fn names_that_nobody_wants_any_more_are_not_looked_up() {
        let peer = Arc::new(Peer::new(PublicKey::new([1; 32]), 1, Timestamps::default(), Arc::default()));
        let ask = |is_removed: bool, current: &str| {
            peer.is_removed.store(is_removed, Relaxed);
            *peer.name.locked() = Some(Name::new(current.parse().unwrap()));
            let (peer, name) = (peer.clone(), "localhost:5".parse().unwrap());
            let names = [Request { peer: peer.clone(), name, fwmark: 0, interface: String::new() }].into();
            assert!(look_up_next(&Mutex::new(Waiting { names, threads: 1 })));
            let slot = peer.name.locked();
            !slot.as_ref().unwrap().found.is_empty()
        };
        assert!(ask(false, "localhost:5"));
        assert!(!ask(false, "localhost:6"));
        assert!(!ask(true, "localhost:5"));
    }

    #[test]
    fn the_families_take_turns() {
        let [a, b, c] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(addr);
        let [x, y] = ["[2001:db8::1]:1", "[2001:db8::2]:1"].map(addr);
        assert_eq!(by_turns(vec![a, b, c, x]), [a, x, b, c]);
        assert_eq!(by_turns(vec![x, y, a, b]), [x, a, y, b]);
        assert_eq!(by_turns(vec![]), []);
    }

    #[test]
    fn every_address_has_its_turn_but_those_out_of_reach() {
        let [old, a, b] = ["192.0.2.9:1", "192.0.2.1:1", "192.0.2.2:1"].map(addr);
        let x = addr("[2001:db8::1]:1");
        let mut name = name();
        assert_eq!(name.next(Some(old), 9, NOW, |_| true), None, "nothing is known");
        name.looked_up(vec![a, b, x], NOW);
        let mut current = Some(old);
        let tried = [(); 5].map(|()| {
            current = name.next(current, 2, NOW, |_| true);
            current.unwrap()
        });
        assert_eq!(tried, [a, x, b, old, a]);
        name.works();
        assert_eq!(name.next(Some(a), 2, NOW, SocketAddr::is_ipv4), Some(b));
        assert_eq!(name.next(Some(a), 2, NOW, |_| false), None);
        assert_eq!(name.next(None, 1, NOW, |_| true), Some(a));
        name.looked_up(vec![a; 5000], NOW);
        assert_eq!(name.found.len(), MAX_ADDRESSES);
        name.looked_up(vec![a], NOW);
        assert_eq!(name.next(Some(a), 9, NOW, |_| true), None, "there is no other");
    }

    #[test]
    fn what_works_is_not_left_for_one_lost_packet() {
        let [old, a, b] = ["192.0.2.9:1", "192.0.2.1:1", "192.0.2.2:1"].map(addr);
        let mut name = name();
        name.looked_up(vec![a, b], NOW);
        assert_eq!(name.next(Some(a), 1, NOW, |_| true), None);
        assert_eq!(name.next(Some(a), 2, NOW, |_| true), Some(b));
        assert_eq!(name.next(Some(old), 0, NOW, |_| true), None);
        assert_eq!(name.next(Some(old), 1, NOW, |_| true), Some(a));
        assert_eq!(name.next(Some(old), 9, NOW + FRESH + Duration::from_secs(1), |_| true), None);
    }
}
