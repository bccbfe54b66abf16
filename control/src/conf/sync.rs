//! `wg syncconf`: from what a device has to what a file says, and nothing more.

use std::collections::{HashMap, HashSet};

use crate::{Get, GetPeer, PublicKey, Set, SetPeer};

/// Makes of `set`, a whole configuration, the change that leaves the peers alone that stay: sessions go on. What a peer had
/// and the file does not mention is unset.
pub fn synchronize(set: &mut Set, current: &Get) {
    if set.peers.is_empty() || current.peers.is_empty() {
        return;
    }
    set.replace_peers = false;
    let staying: HashSet<PublicKey> = set.peers.iter().map(|peer| peer.public_key).collect();
    let known: HashMap<PublicKey, &GetPeer> =
        current.peers.iter().map(|peer| (peer.public_key, peer)).collect();
    unset(&mut set.peers, &known);
    // First, so that what they had is free.
    let leaving = current.peers.iter().filter(|peer| !staying.contains(&peer.public_key));
    let leaving = leaving.map(|peer| SetPeer { remove: true, ..SetPeer::new(peer.public_key) });
    set.peers.splice(0..0, leaving.collect::<Vec<_>>());
}

/// Has unset what a peer has and none of its sections mentions. Its first section does so: one after it would undo another's.
fn unset(sections: &mut [SetPeer], known: &HashMap<PublicKey, &GetPeer>) {
    let mut mentioned: HashMap<PublicKey, (bool, bool)> = HashMap::new();
    for section in &*sections {
        let (preshared_key, keepalive) = mentioned.entry(section.public_key).or_default();
        *preshared_key |= section.preshared_key.is_some();
        *keepalive |= section.persistent_keepalive.is_some();
    }
    for section in sections {
        let Some((preshared_key, keepalive)) = mentioned.remove(&section.public_key) else { continue };
        let Some(known) = known.get(&section.public_key) else { continue };
        if known.preshared_key.is_some() && !preshared_key {
            section.preshared_key = Some(None);
        }
        if known.persistent_keepalive != 0 && !keepalive {
            section.persistent_keepalive = Some(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use adit_crypto::Secret;

    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::new([byte; 32])
    }

    #[test]
    fn peers_leave_and_what_is_not_mentioned_is_unset() {
        let mut had = GetPeer::new(key(1));
        had.preshared_key = Some(Secret::new([7; 32]));
        had.persistent_keepalive = 25;
        let current = Get { peers: vec![had, GetPeer::new(key(2))], ..Get::default() };
        let peers = vec![SetPeer::new(key(1)), SetPeer::new(key(3))];
        let mut set = Set { replace_peers: true, peers, ..Set::default() };
        synchronize(&mut set, &current);
        assert!(!set.replace_peers);
        let keys: Vec<_> = set.peers.iter().map(|peer| (peer.public_key, peer.remove)).collect();
        assert_eq!(keys, [(key(2), true), (key(1), false), (key(3), false)]);
        assert_eq!(set.peers[1].preshared_key, Some(None));
        assert_eq!(set.peers[1].persistent_keepalive, Some(0));
        assert_eq!((&set.peers[2].preshared_key, set.peers[2].persistent_keepalive), (&None, None));
    }

    #[test]
    fn a_peer_may_have_several_sections() {
        let mut had = GetPeer::new(key(1));
        had.preshared_key = Some(Secret::new([7; 32]));
        had.persistent_keepalive = 25;
        let current = Get { peers: vec![had], ..Get::default() };
        let change = |first: SetPeer, second: SetPeer| {
            let mut set = Set { replace_peers: true, peers: vec![first, second], ..Set::default() };
            synchronize(&mut set, &current);
            set.peers
        };
        let plain = || SetPeer::new(key(1));
        let full = || SetPeer {
            preshared_key: Some(Some(Secret::new([8; 32]))),
            persistent_keepalive: Some(5),
            ..plain()
        };
        assert_eq!(change(full(), plain()), [full(), plain()]);
        assert_eq!(change(plain(), full()), [plain(), full()]);
        let unset = SetPeer { preshared_key: Some(None), persistent_keepalive: Some(0), ..plain() };
        assert_eq!(change(plain(), plain()), [unset, plain()]);
        let keeps_alive = || SetPeer { persistent_keepalive: Some(5), ..plain() };
        let without_key = SetPeer { preshared_key: Some(None), ..plain() };
        assert_eq!(change(plain(), keeps_alive()), [without_key, keeps_alive()]);
    }

    #[test]
    fn without_peers_on_either_side_they_are_replaced() {
        let one = Get { peers: vec![GetPeer::new(key(1))], ..Get::default() };
        let mut none = Set { replace_peers: true, ..Set::default() };
        synchronize(&mut none, &one);
        assert!(none.replace_peers && none.peers.is_empty());
        let mut some = Set { replace_peers: true, peers: vec![SetPeer::new(key(1))], ..Set::default() };
        synchronize(&mut some, &Get::default());
        assert!(some.replace_peers);
    }
}
