//! Handshakes that queue up, for measuring: a device in memory, without sockets, whose peers all call at once, or are all
//! called, served by the very code of the slow path.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use adit_control::PublicKey;
use adit_crypto::Secret;
use adit_proto::handshake::{Env, Handshake, Identity, Timestamps};
use adit_proto::limits::{INITIATIONS_PER_SECOND, UNDER_LOAD_HANDSHAKES};
use adit_proto::message::HandshakeMessage;
use rand_core::Rng;

use crate::endpoint::Endpoint;
use crate::handshakes::Admission;
use crate::lock::{Lock, Shared};
use crate::outside::rng;
use crate::peer::Peer;
use crate::queue::{Arrival, Lane};
use crate::slow_path;
use crate::state::{Device, OwnKey};

/// Peers at most: one more, and cookies are demanded.
pub const MAX_PEERS: usize = UNDER_LOAD_HANDSHAKES - 1;

/// A device, and peers that know it and each have never met it.
pub struct Rush {
    device: Device,
    admission: Admission,
    peers: Vec<(Arc<Peer>, Caller)>,
}

struct Caller {
    identity: Identity,
    handshake: Handshake,
}

impl Rush {
    /// With so many peers.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`: the device needs some descriptors.
    ///
    /// # Panics
    /// If `peers` is more than [`MAX_PEERS`].
    pub fn new(peers: usize) -> io::Result<Self> {
        assert!(peers <= MAX_PEERS, "no cookies");
        let device = Device::new(NonZeroUsize::MIN, None)?;
        let own = Arc::new(OwnKey::new(random_identity()));
        *device.own_key.exclusive() = Some(own.clone());
        let peers = (0..peers as u64).map(|order| {
            let identity = random_identity();
            let key = PublicKey::new(*identity.public_key());
            let peer = Arc::new(Peer::new(key, order, Timestamps::default(), device.staged.clone()));
            let mut session = peer.session.locked();
            session.start();
            session.set_endpoint(Endpoint::configured(address(order)));
            drop(session);
            device.peers.exclusive().insert(key, peer.clone());
            let handshake = Handshake::new(*own.identity.public_key(), Timestamps::default());
            (peer, Caller { identity, handshake })
        });
        let peers = peers.collect();
        Ok(Self { device, admission: Admission::default(), peers })
    }

    /// Every peer sends an initiation, and then the device answers them: how long that takes.
    ///
    /// # Panics
    /// If it does not answer all.
    pub fn answer(&mut self) -> Duration {
        // None may call again sooner.
        thread::sleep(Duration::from_secs(1) / INITIATIONS_PER_SECOND);
        let mut rng = rng();
        for (number, (_, caller)) in self.peers.iter_mut().enumerate() {
            let mut env =
                Env { now: Device::now(), timestamp: Device::timestamp(), rng: &mut rng, key_log: None };
            let made = caller.handshake.create_initiation(&caller.identity, number as u32, &mut env);
            let message = HandshakeMessage::Initiation(made.expect("a good key").0);
            let arrival = Arrival { message, from: address(number as u64), local: None };
            self.device
                .inbox
                .push_arrival(Lane::Unproven, arrival)
                .expect("the inbox has room for one of each");
        }
        let received = |(peer, _): &(Arc<Peer>, Caller)| peer.rx_bytes.load(Relaxed);
        let before: Vec<_> = self.peers.iter().map(received).collect();
        let elapsed = self.drain();
        assert!(
            self.peers.iter().map(received).zip(before).all(|(after, before)| after > before),
            "answered"
        );
        elapsed
    }

    /// The device sends an initiation to every peer: how long that takes.
    pub fn call(&mut self) -> Duration {
        for (peer, _) in &self.peers {
            self.device.inbox.push_initiation(peer.clone());
        }
        self.drain()
    }

    fn drain(&mut self) -> Duration {
        let start = Instant::now();
        while slow_path::work(&self.device, &mut self.admission) {}
        start.elapsed()
    }
}

fn random_identity() -> Identity {
    let mut private_key = Secret::default();
    rng().fill_bytes(private_key.expose_mut());
    Identity::new(&private_key)
}

fn address(number: u64) -> SocketAddr {
    (Ipv4Addr::from(0x0a00_0001 + number as u32), 51820).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many there are: groups that are whole, and not, and lone.
    #[test]
    fn everybody_is_answered_and_called() {
        for peers in [1, 2, 3, 7, 8, 9, 33, 100] {
            let mut rush = Rush::new(peers).expect("descriptors for a device");
            rush.answer();
            rush.answer();
            let mut rush = Rush::new(peers).expect("descriptors for a device");
            rush.call();
            assert!(rush.peers.iter().all(|(peer, _)| peer.handshake.locked().forget_pending().is_some()));
        }
    }
}
