//! Keys come and go while workers send and receive with them.

use std::sync::Arc;
use std::time::Duration;

use adit_control::Set;
use adit_crypto::Secret;

use super::scene::{Scene, Side, nonces};
use super::{explore, go, join};
use crate::outside::take_sent;
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// After that whoever has begun a session renews it.
const OLD: Duration = Duration::from_secs(121);

#[test]
fn two_workers_never_take_the_same_nonces() {
    explore("two workers send", || {
        let scene = Scene::talking(Side::Near);
        let workers = [[1, 2], [3, 4]].map(|numbers| {
            let near = scene.near.clone();
            go(move || near.send(&numbers))
        });
        join(workers);
        let sent = take_sent();
        let counters: Vec<_> = nonces(&sent).into_iter().map(|(_, counter)| counter).collect();
        assert_eq!(counters.iter().max().unwrap() - counters.iter().min().unwrap(), 3, "none is left out");
        assert_eq!(scene.deliver(sent).len(), 4);
    });
}

/// Our initiation is answered while a worker sends and another receives.
#[test]
fn a_rekey_that_we_began_loses_nothing() {
    explore("a rekey that we began", || {
        let mut scene = Scene::talking(Side::Near);
        scene.later(OLD);
        scene.near.send(&[1]);
        scene.near.work();
        for message in take_sent() {
            scene.far.receive(&message);
        }
        scene.far.work();
        let response = take_sent().pop().expect("it answers");
        scene.far.send(&[9]);
        let data = take_sent().pop().expect("it sends on the old key");

        let sender = scene.near.clone();
        let sender = go(move || [2, 3].iter().for_each(|number| sender.send(&[*number])));
        let slow_path = scene.near.clone();
        let slow_path = go(move || {
            slow_path.receive(&response);
            slow_path.work();
        });
        let receiver = scene.near.clone();
        let receiver = go(move || receiver.receive(&data));
        join([sender, slow_path]);
        assert_eq!(receiver.join().unwrap(), [9]);
        let sent = take_sent();
        nonces(&sent);
        let arrived: Vec<_> = scene.deliver(sent).into_iter().map(|(_, number)| number).collect();
        assert_eq!(arrived, [2, 3]);
    });
}

/// The first message on a key that the peer has asked for is received, and a late one on the key before, while a
/// worker sends.
#[test]
fn a_rekey_that_the_peer_began_loses_nothing() {
    explore("a rekey that the peer began", || {
        let mut scene = Scene::talking(Side::Far);
        scene.later(OLD);
        scene.far.send(&[8]);
        let mut sent = take_sent();
        let initiation = sent.pop().expect("it begins");
        let late = sent.pop().expect("what made it begin");
        scene.near.receive(&initiation);
        scene.near.work();
        scene.far.receive(&take_sent().pop().expect("we answer"));
        scene.far.work();
        let first = take_sent().pop().expect("it confirms");

        let sender = scene.near.clone();
        let sender = go(move || [2, 3].iter().for_each(|number| sender.send(&[*number])));
        let receiver = scene.near.clone();
        let confirming = go(move || receiver.receive(&first));
        let receiver = scene.near.clone();
        let receiving = go(move || receiver.receive(&late));
        join([sender]);
        assert_eq!(join([confirming, receiving]).concat(), [8]);
        let sent = take_sent();
        nonces(&sent);
        let arrived: Vec<_> = scene.deliver(sent).into_iter().map(|(_, number)| number).collect();
        assert_eq!(arrived, [2, 3]);
    });
}

/// The administrator sets another key while a session that was made with the old one is about to begin.
#[test]
fn nothing_is_sent_on_keys_of_a_private_key_that_was_replaced() {
    explore("the private key is replaced", || {
        let mut scene = Scene::talking(Side::Near);
        scene.later(OLD);
        scene.near.send(&[1]);
        scene.near.work();
        for message in take_sent() {
            scene.far.receive(&message);
        }
        scene.far.work();
        let response = take_sent().pop().expect("it answers");
        take_sent();

        let is_set = Arc::new(AtomicBool::new(false));
        let (near, sees) = (scene.near.clone(), is_set.clone());
        let sender = go(move || {
            near.send(&[2]);
            if sees.load(SeqCst) {
                near.send(&[3]);
            }
        });
        let near = scene.near.clone();
        let slow_path = go(move || {
            near.receive(&response);
            near.work();
        });
        let device = scene.near.device.clone();
        let mut control = scene.configuration;
        let control = go(move || {
            let private_key = Some(Some(Secret::new([3; 32])));
            control.apply(&device, Set { private_key, ..Set::default() }).expect("nothing can fail");
            is_set.store(true, SeqCst);
            control
        });
        join([sender, slow_path]);
        scene.configuration = control.join().expect("the control thread");
        let sent = take_sent();
        nonces(&sent);
        let arrived = scene.deliver(sent);
        assert!(arrived.iter().all(|(_, number)| *number == 2), "sent on a key that is void: {arrived:?}");
        take_sent();
        scene.near.send(&[4]);
        scene.near.work();
        assert!(nonces(&take_sent()).is_empty(), "a key that is void is left");
    });
}
