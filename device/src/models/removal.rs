//! A peer is removed, or the interface goes down, in the middle of everything.

use std::sync::{Arc, Weak};
use std::time::Duration;

use adit_control::{Set, SetPeer};

use super::scene::{Engine, Scene, Side, nonces};
use super::{explore, go, join};
use crate::configure::Configuration;
use crate::lock::Shared;
use crate::outside::{Sent, take_sent};
use crate::peer::Peer;
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// What the control thread does.
fn remove(control: &mut Configuration, near: &Engine) {
    let peers = vec![SetPeer { remove: true, ..SetPeer::new(Side::Far.key()) }];
    control.apply(&near.device, Set { peers, ..Set::default() }).expect("nothing can fail");
}

/// Runs `act` as the control thread, while a worker sends and another thread does `other`. What begins after `act` comes
/// to nothing.
fn run(
    scene: Scene,
    act: fn(&mut Configuration, &Engine),
    other: impl FnOnce(&Engine) + Send + 'static,
) -> (Scene, Weak<Peer>) {
    let peer = Arc::downgrade(&scene.near.peer());
    let is_over = Arc::new(AtomicBool::new(false));
    let (near, sees) = (scene.near.clone(), is_over.clone());
    let sender = go(move || {
        near.send(&[2]);
        if sees.load(SeqCst) {
            near.send(&[3]);
        }
    });
    let near = scene.near.clone();
    let other = go(move || other(&near));
    let near = scene.near.clone();
    let mut scene = scene;
    let mut control = scene.configuration;
    let control = go(move || {
        act(&mut control, &near);
        is_over.store(true, SeqCst);
        control
    });
    join([sender, other]);
    scene.configuration = control.join().expect("the control thread");
    let sent = take_sent();
    nonces(&sent);
    let to_far = scene.deliver(sent).into_iter().filter(|(to, _)| *to == Side::Far);
    assert!(to_far.into_iter().all(|(_, number)| number == 2), "sent after the end");
    (scene, peer)
}

/// Nothing of the peer is left, now or later.
fn is_gone((mut scene, peer): (Scene, Weak<Peer>), late: &[Sent]) {
    let device = scene.near.device.clone();
    take_sent();
    scene.near.work();
    assert!(device.inbox.is_empty());
    assert_eq!(device.indices.shared().len(), 0, "indices are left");
    assert!(peer.upgrade().is_none(), "somebody keeps the peer");
    for datagram in late {
        assert!(scene.near.receive(datagram).is_empty(), "delivered after the end");
    }
    scene.near.send(&[4]);
    scene.later(Duration::from_secs(3600));
    scene.near.work();
    assert!(take_sent().is_empty(), "something is sent for a peer that is gone");
    assert_eq!(device.deadlines.pending().1, 0);
}

/// An initiation of ours that the peer has answered, in a session that is old; the answer.
fn answered() -> (Scene, Sent) {
    let mut scene = Scene::talking(Side::Near);
    scene.later(Duration::from_secs(121));
    scene.near.send(&[1]);
    scene.near.work();
    for message in take_sent() {
        scene.far.receive(&message);
    }
    scene.far.work();
    let response = take_sent().pop().expect("it answers");
    (scene, response)
}

#[test]
fn a_peer_is_removed_while_its_response_comes() {
    explore("removal and a response", || {
        let (scene, response) = answered();
        scene.far.send(&[9]);
        let late = take_sent();
        let removed = run(scene, remove, move |near| {
            near.receive(&response);
            near.work();
        });
        is_gone(removed, &late);
    });
}

#[test]
fn a_peer_is_removed_while_its_initiation_comes() {
    explore("removal and an initiation", || {
        let mut scene = Scene::talking(Side::Far);
        scene.later(Duration::from_secs(121));
        scene.far.send(&[8]);
        let mut late = take_sent();
        let initiation = late.pop().expect("it begins");
        let removed = run(scene, remove, move |near| {
            near.receive(&initiation);
            near.work();
        });
        is_gone(removed, &late);
    });
}

#[test]
fn a_peer_is_removed_while_its_data_come() {
    explore("removal and data", || {
        let scene = Scene::talking(Side::Near);
        scene.far.send(&[8]);
        scene.far.send(&[9]);
        let mut late = take_sent();
        let data = late.remove(0);
        let removed = run(scene, remove, move |near| {
            near.receive(&data);
        });
        is_gone(removed, &late);
    });
}

/// The slow path finds that nothing has come back, and begins a handshake.
#[test]
fn a_peer_is_removed_while_its_timer_fires() {
    explore("removal and a timer", || {
        let mut scene = Scene::talking(Side::Near);
        scene.near.send(&[1]);
        take_sent();
        scene.later(Duration::from_secs(16));
        let removed = run(scene, remove, Engine::work);
        is_gone(removed, &[]);
    });
}

/// What the control thread does when the interface goes down.
fn down(control: &mut Configuration, near: &Engine) {
    control.interface_down(&near.device);
}

/// Neither key nor index is left; and when the interface comes up again, they talk.
fn is_down((mut scene, _): (Scene, Weak<Peer>)) {
    take_sent();
    scene.near.work();
    assert_eq!(scene.near.device.indices.shared().len(), 0, "indices are left");
    scene.near.send(&[4]);
    assert!(nonces(&take_sent()).is_empty(), "a key is left");
    scene.later(Duration::from_secs(10));
    scene.configuration.interface_up(&scene.near.device);
    scene.near.send(&[5]);
    scene.near.work();
    assert!(scene.arrived().contains(&5));
}

#[test]
fn the_interface_goes_down_while_a_response_comes() {
    explore("down and a response", || {
        let (scene, response) = answered();
        is_down(run(scene, down, move |near| {
            near.receive(&response);
            near.work();
        }));
    });
}

/// An initiation is being made.
#[test]
fn the_interface_goes_down_while_a_timer_fires() {
    explore("down and a timer", || {
        let mut scene = Scene::talking(Side::Near);
        scene.near.send(&[1]);
        take_sent();
        scene.later(Duration::from_secs(16));
        is_down(run(scene, down, Engine::work));
    });
}
