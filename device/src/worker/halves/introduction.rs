//! Two devices become each other's peers: real handshakes, carried by hand.

use std::net::IpAddr;
use std::sync::Arc;

use adit_control::PublicKey;
use adit_crypto::Secret;
use adit_proto::handshake::{Env, Identity, Timestamps};

use super::memory::ADDRESS;
use super::{far_address, near_address};
use crate::endpoint::Endpoint;
use crate::lock::{Lock, Shared};
use crate::outside::rng;
use crate::peer::Peer;
use crate::state::{Device, Indexed, OwnKey, Route};

/// Gives `near` and `far` keys, and `peers` tunnels between them with sessions that `near` has initiated.
///
/// A device has one key, so all peers of the other have the same. Only handshakes look at it; packets have sessions and
/// routes, and these are each peer's own.
pub(super) fn introduce(near: &Device, far: &Device, peers: usize) {
    for (device, seed) in [(near, 1), (far, 2)] {
        *device.own_key.exclusive() = Some(Arc::new(OwnKey::new(Identity::new(&Secret::new([seed; 32])))));
    }
    for number in 0..peers {
        let near_peer = add_peer(near, far, number, far_address(number).into());
        let far_peer = add_peer(far, near, number, near_address(number).into());
        shake_hands((near, &near_peer), (far, &far_peer));
    }
}

fn own_key(device: &Device) -> Arc<OwnKey> {
    device.own_key().expect("it was given one")
}

fn add_peer(device: &Device, other: &Device, number: usize, address: IpAddr) -> Arc<Peer> {
    let key = PublicKey::new(*own_key(other).identity.public_key());
    let peer = Arc::new(Peer::new(key, number as u64, Timestamps::default(), Arc::default()));
    let mut session = peer.session.locked();
    session.start();
    session.set_endpoint(Endpoint::configured(ADDRESS));
    drop(session);
    let route = Route { peer: peer.clone(), order: number as u64 };
    device.routes.exclusive().insert(address, if address.is_ipv4() { 32 } else { 128 }, route);
    peer
}

fn shake_hands((near, near_peer): (&Device, &Arc<Peer>), (far, far_peer): (&Device, &Arc<Peer>)) {
    const HONEST: &str = "honest devices shake hands";
    let (near_id, far_id) = (&own_key(near).identity, &own_key(far).identity);
    let mut rng = rng();
    let near_index = near.indices.exclusive().insert(Indexed::Handshake(near_peer.clone()), &mut rng);
    let far_index = far.indices.exclusive().insert(Indexed::Handshake(far_peer.clone()), &mut rng);
    let now = Device::now();
    let mut env = Env { now, timestamp: Device::timestamp(), rng: &mut rng, key_log: None };
    let (mut initiator, mut responder) = (near_peer.handshake.locked(), far_peer.handshake.locked());
    let (initiation, _) = initiator.create_initiation(near_id, near_index, &mut env).expect(HONEST);
    let opened = far_id.open_initiation(&initiation).expect(HONEST);
    let consumed = responder.consume_initiation(far_id, opened, now).expect(HONEST);
    let (response, far_keypair) =
        responder.create_response(far_id, consumed, far_index, &mut env).expect(HONEST);
    let near_keypair = initiator.consume_response(near_id, &response, now).expect(HONEST);

    let (near_keypair, far_keypair) = (Arc::new(near_keypair), Arc::new(far_keypair));
    near.retire(near_peer.session.locked().response_received(near_keypair.clone(), now));
    near.indices.exclusive().replace(near_index, Indexed::Keypair(near_peer.clone(), near_keypair));
    far.retire(far_peer.session.locked().response_sent(far_keypair.clone(), now));
    far.indices.exclusive().replace(far_index, Indexed::Keypair(far_peer.clone(), far_keypair));
}
