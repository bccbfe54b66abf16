//! Applying a [`Set`] and answering a [`Get`]. The control thread's.
//!
//! A set is applied whole or not at all: what can fail, the port and the mark, is done first, and what follows cannot.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use adit_control::status::Confinement;
use adit_control::{
    AllowedIpChange, EndpointName, Get, GetPeer, Prefix, PublicKey, Set, SetPeer, Status, Why,
};
use adit_crypto::Secret;
use adit_net::tun::Tun;
use adit_net::udp::{BindError, BindOptions, Bound, UdpStats};
use adit_proto::allowed_ips::AllowedIps;
use adit_proto::handshake::{Identity, Timestamps};

use crate::control::UdpOffloads;
use crate::endpoint::Endpoint;
use crate::lock::{Lock, Shared};
use crate::names::Name;
use crate::outside;
use crate::peer::Peer;
use crate::state::{Device, OwnKey, Route};
use crate::sync::sleep;

/// Removed peers whose timestamps are remembered, for when they are added again: about 26 MiB at most, and then
/// whoever was removed first is forgotten.
const MAX_REMEMBERED: usize = 131_072;
/// Prefixes changed under one lock of the routing table. Packets wait for it.
const ROUTES_AT_A_TIME: usize = 256;

/// Why a set was refused.
#[derive(Debug)]
pub(crate) enum SetError {
    Bind(BindError),
    Fwmark(io::Error),
}

impl SetError {
    pub(crate) fn errno(&self) -> i32 {
        match self {
            SetError::Bind(error) => error.errno(),
            SetError::Fwmark(error) => error.raw_os_error().unwrap_or(adit_control::uapi::EINVAL),
        }
    }
}

impl std::fmt::Display for SetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SetError::Bind(error) => write!(f, "the listen port was not changed: {error}"),
            SetError::Fwmark(error) => write!(f, "the firewall mark was not changed: {error}"),
        }
    }
}

/// The configuration, as far as only the control thread needs it.
pub(crate) struct Configuration {
    is_up: bool,
    listen_port: u16,
    workers: NonZeroUsize,
    udp_offloads: UdpOffloads,
    confinement: Confinement,
    /// What sockets counted that are closed.
    closed: UdpStats,
    added: u64,
    remembered: Remembered,
}

/// Timestamps of removed peers, by the time of their removal.
#[derive(Default)]
struct Remembered {
    timestamps: HashMap<PublicKey, (u64, Timestamps)>,
    order: BTreeMap<u64, PublicKey>,
    removed: u64,
}

impl Remembered {
    fn insert(&mut self, key: PublicKey, timestamps: Timestamps) {
        if timestamps == Timestamps::default() {
            return;
        }
        self.removed += 1;
        if let Some((earlier, _)) = self.timestamps.insert(key, (self.removed, timestamps)) {
            self.order.remove(&earlier);
        }
        self.order.insert(self.removed, key);
        if self.order.len() > MAX_REMEMBERED
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.timestamps.remove(&oldest);
        }
    }

    /// For a peer that is added again: from now on it keeps them itself.
    fn take(&mut self, key: &PublicKey) -> Timestamps {
        let Some((removed, timestamps)) = self.timestamps.remove(key) else { return Timestamps::default() };
        self.order.remove(&removed);
        timestamps
    }
}

impl Configuration {
    pub(crate) fn new(workers: NonZeroUsize, udp_offloads: UdpOffloads, confinement: Confinement) -> Self {
        Configuration {
            is_up: false,
            listen_port: 0,
            workers,
            udp_offloads,
            confinement,
            closed: UdpStats::default(),
            added: 0,
            remembered: Remembered::default(),
        }
    }

    /// Applies `set`; on an error nothing is changed.
    pub(crate) fn apply(&mut self, device: &Device, set: Set) -> Result<(), SetError> {
        self.apply_sockets(device, set.listen_port, set.fwmark)?;
        if set.replace_peers {
            self.remove_all_peers(device);
        }
        if let Some(private_key) = set.private_key {
            self.set_private_key(device, private_key.as_ref());
        }
        for section in set.peers {
            self.apply_peer(device, &section);
        }
        Ok(())
    }

    /// The interface came up: sockets are opened and peers started. Nobody asked for this and nobody gets an answer, so
    /// a port that is taken is logged, and tried again once a second until it is free, or another one is set.
    pub(crate) fn interface_up(&mut self, device: &Device) {
        if self.is_up {
            return;
        }
        self.is_up = true;
        if let Err(error) = self.bind(device, self.listen_port, device.fwmark.load(Relaxed)) {
            let advice = match error.is_address_in_use() {
                true => "free the port or set another listen-port",
                false => "it is tried again",
            };
            log::error!("no packets can pass: {error}; {advice}");
        }
        self.start_peers(device);
    }

    fn start_peers(&self, device: &Device) {
        for peer in self.peers(device) {
            let mut session = peer.session.locked();
            session.start();
            let has_keepalive = session.keepalive_interval().is_some();
            drop(session);
            if has_keepalive {
                device.send_keepalive(&peer);
            }
        }
    }

    /// Whether the interface is up, and the sockets could not be opened.
    pub(crate) fn lacks_sockets(&self, device: &Device) -> bool {
        self.is_up && device.sockets.shared().is_none()
    }

    /// Tries again to open them. That it does not work was told, and is no news.
    pub(crate) fn open_sockets(&mut self, device: &Device) {
        if self.bind(device, self.listen_port, device.fwmark.load(Relaxed)).is_ok() {
            log::warn!("packets can pass now, at port {}", self.listen_port);
            self.start_peers(device);
        }
    }

    /// The interface went down: nothing is sent or received, keys are dropped.
    pub(crate) fn interface_down(&mut self, device: &Device) {
        if !self.is_up {
            return;
        }
        self.is_up = false;
        self.replace_sockets(device, None);
        device.inbox.clear_arrivals();
        for peer in self.peers(device) {
            device.stop_peer(&peer);
        }
    }

    /// The state of the device and its peers.
    pub(crate) fn get(&self, device: &Device) -> Get {
        Get {
            private_key: device.own_key().map(|own| Secret::new(*own.identity.private_key().expose())),
            listen_port: self.listen_port,
            fwmark: device.fwmark.load(Relaxed),
            peers: self.peers(device).iter().map(|peer| get_peer(peer)).collect(),
        }
    }

    /// How the device gets on with the kernel.
    pub(crate) fn status(&self, device: &Device, tun: &Tun) -> Status {
        device.status(tun, self.workers, self.udp_offloads, self.closed).confined(self.confinement)
    }

    /// What came to nothing, and why.
    pub(crate) fn why(&self, device: &Device) -> Why {
        device.why(&self.peers(device))
    }

    fn peers(&self, device: &Device) -> Vec<Arc<Peer>> {
        let mut peers: Vec<_> = device.peers.shared().values().cloned().collect();
        peers.sort_unstable_by_key(|peer| peer.order);
        peers
    }
}

/// Port and mark.
impl Configuration {
    fn apply_sockets(
        &mut self,
        device: &Device,
        port: Option<u16>,
        fwmark: Option<u32>,
    ) -> Result<(), SetError> {
        let is_bound = device.sockets().is_some();
        let mark = fwmark.unwrap_or(device.fwmark.load(Relaxed));
        let new_port = port.filter(|port| *port != self.listen_port || (self.is_up && !is_bound));
        match new_port {
            Some(port) if self.is_up => self.bind(device, port, mark).map_err(SetError::Bind)?,
            _ => {
                if let (Some(bound), Some(mark)) = (device.sockets(), fwmark) {
                    bound.set_fwmark(mark).map_err(SetError::Fwmark)?;
                }
                self.listen_port = new_port.unwrap_or(self.listen_port);
            }
        }
        device.fwmark.store(mark, Relaxed);
        if new_port.is_some() || fwmark.is_some() {
            // Another port or mark may lead another way.
            self.peers(device).iter().for_each(|peer| peer.session.locked().clear_source());
        }
        Ok(())
    }

    fn bind(&mut self, device: &Device, port: u16, fwmark: u32) -> Result<(), BindError> {
        let UdpOffloads { gso, gro } = self.udp_offloads;
        let options =
            BindOptions { fwmark, workers: self.workers, gso, gro, sorts: true, ..BindOptions::default() };
        let bound = outside::bind(port, &options)?;
        self.listen_port = bound.port;
        self.replace_sockets(device, Some(bound));
        Ok(())
    }

    /// Returns once the old sockets are closed, so that whoever changed the port may use the old one.
    fn replace_sockets(&mut self, device: &Device, new: Option<Bound>) {
        let old = std::mem::replace(&mut *device.sockets.exclusive(), new.map(Arc::new));
        device.crew.wake_all();
        device.slow_path.wake();
        let Some(old) = old else { return };
        for _ in 0..1000 {
            if Arc::strong_count(&old) == 1 {
                break;
            }
            sleep(Duration::from_micros(200));
        }
        self.closed += old.stats();
    }
}

/// Keys and peers.
impl Configuration {
    /// A new key makes every session and everything precomputed invalid; the same key again changes nothing.
    fn set_private_key(&mut self, device: &Device, private_key: Option<&Secret<32>>) {
        let identity = private_key.map(Identity::new);
        let old = device.own_key().map(|own| *own.identity.public_key());
        if identity.as_ref().map(|identity| *identity.public_key()) == old {
            return;
        }
        if let Some(identity) = &identity {
            self.remove_peer(device, &PublicKey::new(*identity.public_key()));
        }
        *device.own_key.exclusive() = identity.map(|identity| Arc::new(OwnKey::new(identity)));
        for peer in self.peers(device) {
            let pending = peer.handshake.locked().forget_identity();
            peer.session.locked().expire_keypairs();
            device.retire(pending);
        }
    }

    fn apply_peer(&mut self, device: &Device, section: &SetPeer) {
        let key = section.public_key;
        if section.remove {
            return self.remove_peer(device, &key);
        }
        let existing = device.peers.shared().get(&key).cloned();
        let peer = match existing {
            Some(peer) => peer,
            None if section.update_only => return,
            // One's own key is no peer's. Silently, so that one configuration can serve all of a group.
            None if device.own_key().is_some_and(|own| own.identity.public_key() == key.as_bytes()) => return,
            None => self.add_peer(device, key),
        };
        if let Some(preshared_key) = &section.preshared_key {
            peer.handshake.locked().set_preshared_key(preshared_key.clone().unwrap_or_default());
        }
        self.apply_allowed_ips(device, &peer, section);

        if section.endpoint.is_some() {
            set_name(&peer, section.endpoint_name.as_ref());
        }
        let mut session = peer.session.locked();
        if let Some(addr) = section.endpoint {
            session.set_endpoint(Endpoint::configured(addr));
        }
        if let Some(seconds) = section.persistent_keepalive {
            let interval = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
            if session.set_keepalive_interval(interval) {
                session.keepalive();
            }
        }
        drop(session);
        if self.is_up {
            device.flush(&peer);
        }
    }

    fn add_peer(&mut self, device: &Device, key: PublicKey) -> Arc<Peer> {
        self.added += 1;
        let peer = Arc::new(Peer::new(key, self.added, self.remembered.take(&key), device.staged.clone()));
        if self.is_up {
            peer.session.locked().start();
        }
        device.peers.exclusive().insert(key, peer.clone());
        peer
    }

    fn remove_peer(&mut self, device: &Device, key: &PublicKey) {
        // Apart: within `if let` the map would stay locked.
        let removed = device.peers.exclusive().remove(key);
        if let Some(peer) = removed {
            self.dispose(device, &peer);
        }
    }

    fn remove_all_peers(&mut self, device: &Device) {
        let peers = std::mem::take(&mut *device.peers.exclusive());
        for peer in peers.into_values() {
            self.dispose(device, &peer);
        }
    }

    /// Whoever still holds the peer finds it removed, and its keys gone.
    fn dispose(&mut self, device: &Device, peer: &Arc<Peer>) {
        clear_allowed_ips(device, peer);
        let session = peer.session.locked();
        peer.is_removed.store(true, Relaxed);
        drop(session);
        device.stop_peer(peer);
        self.remembered.insert(peer.public_key, peer.handshake.locked().timestamps());
    }

    /// Prefixes that a replacement leaves as they are stay in force all the while: those that are given come first, and then
    /// what is left of the old ones goes.
    fn apply_allowed_ips(&mut self, device: &Device, peer: &Arc<Peer>, section: &SetPeer) {
        let replaced = if section.replace_allowed_ips {
            std::mem::take(&mut *peer.allowed_ips.locked())
        } else {
            BTreeMap::new()
        };
        let since = self.added;
        let mut changes = section.allowed_ips.iter().peekable();
        while changes.peek().is_some() {
            // Packets wait meanwhile, so let them pass now and then.
            let mut routes = device.routes.exclusive();
            for change in changes.by_ref().take(ROUTES_AT_A_TIME) {
                let is_kept = |order| !section.replace_allowed_ips || order > since;
                self.apply_allowed_ip(&mut routes, peer, change, is_kept);
            }
        }
        remove_routes(device, &replaced);
    }

    /// `is_kept` tells by its order whether a prefix that the peer has is not about to be replaced.
    fn apply_allowed_ip(
        &mut self,
        routes: &mut AllowedIps<Route>,
        peer: &Arc<Peer>,
        change: &AllowedIpChange,
        is_kept: impl Fn(u64) -> bool,
    ) {
        let (AllowedIpChange::Add(prefix) | AllowedIpChange::Remove(prefix)) = change;
        let owner = routes.get(prefix.addr(), prefix.len());
        let is_own = owner.is_some_and(|route| Arc::ptr_eq(&route.peer, peer) && is_kept(route.order));
        match change {
            AllowedIpChange::Add(prefix) if !is_own => {
                self.added += 1;
                let route = Route { peer: peer.clone(), order: self.added };
                if let Some(moved) = routes.insert(prefix.addr(), prefix.len(), route) {
                    moved.peer.allowed_ips.locked().remove(&moved.order);
                }
                peer.allowed_ips.locked().insert(self.added, *prefix);
            }
            AllowedIpChange::Remove(prefix) if is_own => {
                if let Some(removed) = routes.remove(prefix.addr(), prefix.len()) {
                    peer.allowed_ips.locked().remove(&removed.order);
                }
            }
            _ => {}
        }
    }
}

/// The same one again keeps what is known of it.
fn set_name(peer: &Peer, name: Option<&EndpointName>) {
    let mut slot = peer.name.locked();
    if !slot.as_ref().zip(name).is_some_and(|(old, new)| old.is(new)) {
        *slot = name.cloned().map(Name::new);
    }
}

fn clear_allowed_ips(device: &Device, peer: &Peer) {
    let prefixes = std::mem::take(&mut *peer.allowed_ips.locked());
    remove_routes(device, &prefixes);
}

/// Removes those that are still what `prefixes` says, by their order.
fn remove_routes(device: &Device, prefixes: &BTreeMap<u64, Prefix>) {
    let mut prefixes = prefixes.iter().peekable();
    while prefixes.peek().is_some() {
        let mut routes = device.routes.exclusive();
        for (order, prefix) in prefixes.by_ref().take(ROUTES_AT_A_TIME) {
            if routes.get(prefix.addr(), prefix.len()).is_some_and(|route| route.order == *order) {
                routes.remove(prefix.addr(), prefix.len());
            }
        }
    }
}

fn get_peer(peer: &Peer) -> GetPeer {
    let preshared_key = peer.handshake.locked().preshared_key().clone();
    let session = peer.session.locked();
    GetPeer {
        public_key: peer.public_key,
        preshared_key: (!preshared_key.is_zero()).then_some(preshared_key),
        endpoint: session.endpoint().map(|endpoint| endpoint.addr),
        last_handshake: peer.last_handshake(),
        rx_bytes: peer.rx_bytes.load(Relaxed),
        tx_bytes: peer.tx_bytes.load(Relaxed),
        persistent_keepalive: session
            .keepalive_interval()
            .map_or(0, |interval| u16::try_from(interval.as_secs()).unwrap_or(u16::MAX)),
        allowed_ips: peer.allowed_ips.locked().values().copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use adit_proto::time::Tai64n;

    use super::*;

    fn key(number: usize) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        PublicKey::new(bytes)
    }

    #[test]
    fn who_was_removed_first_is_forgotten_first() {
        let mut remembered = Remembered::default();
        let sent_at = |seconds| Timestamps { sent: Tai64n::from_unix(seconds, 0), ..Timestamps::default() };
        let (early, late) = (sent_at(1), sent_at(2));
        for number in 0..MAX_REMEMBERED {
            remembered.insert(key(number), early);
        }
        // Added and removed again: the last one now.
        assert_eq!(remembered.take(&key(0)), early);
        assert_eq!(remembered.take(&key(0)), Timestamps::default(), "it keeps them itself");
        remembered.insert(key(0), late);
        // Nothing to remember takes no place.
        remembered.insert(key(MAX_REMEMBERED), Timestamps::default());
        for number in 1..=3 {
            remembered.insert(key(MAX_REMEMBERED + number), late);
        }
        assert_eq!((remembered.timestamps.len(), remembered.order.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        for number in 1..=3 {
            assert!(
                remembered.take(&key(number)) == Timestamps::default(),
                "peer {number} was the first to go"
            );
            assert_eq!(remembered.take(&key(MAX_REMEMBERED + number)), late);
        }
        assert_eq!((remembered.take(&key(4)), remembered.take(&key(0))), (early, late));
    }
}
