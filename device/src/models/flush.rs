//! What is staged is sent by one thread at a time, in order, and none of it stays behind.

use super::scene::{Scene, Side, nonces};
use super::{explore, go, join};
use crate::lock::Lock;
use crate::outside::take_sent;

fn is_in_order(arrived: &[u8], one: u8, other: u8) -> bool {
    let place = |number| arrived.iter().position(|arrived| *arrived == number);
    place(one) < place(other)
}

/// Two workers stage while the slow path brings the key.
#[test]
fn what_is_staged_leaves_in_order_and_none_of_it_stays() {
    explore("two workers stage", || {
        let scene = Scene::new();
        scene.near.send(&[0]);
        scene.near.work();
        scene.far.receive(&take_sent().pop().expect("it begins"));
        scene.far.work();
        let response = take_sent().pop().expect("it answers");

        let workers = [[1, 2], [3, 4]].map(|numbers| {
            let near = scene.near.clone();
            go(move || numbers.iter().for_each(|number| near.send(&[*number])))
        });
        let near = scene.near.clone();
        let slow_path = go(move || {
            near.receive(&response);
            near.work();
        });
        join(workers.into_iter().chain([slow_path]));
        scene.near.work();
        assert_eq!(scene.near.peer().session.locked().staged(), 0);
        let sent = take_sent();
        nonces(&sent);
        let arrived: Vec<_> = scene.deliver(sent).into_iter().map(|(_, number)| number).collect();
        assert_eq!(arrived.len(), 5, "{arrived:?}");
        for (one, other) in [(0, 1), (1, 2), (0, 3), (3, 4)] {
            assert!(is_in_order(&arrived, one, other), "{other} has overtaken {one}: {arrived:?}");
        }
    });
}

/// The peer begins and confirms a session while a worker stages a packet for which it wanted to begin one.
#[test]
fn a_key_that_the_peer_brings_meanwhile_is_used() {
    explore("the peer brings a key", || {
        let scene = Scene::new();
        scene.far.send(&[9]);
        let initiation = take_sent().pop().expect("it begins");

        let near = scene.near.clone();
        let worker = go(move || near.send(&[1]));
        let (near, far) = (scene.near.clone(), scene.far.clone());
        let other = go(move || {
            near.receive(&initiation);
            near.work();
            for message in take_sent().iter().filter(|sent| sent.to == Side::Far.address()) {
                far.receive(message);
            }
            far.work();
            for message in take_sent().iter().filter(|sent| sent.to == Side::Near.address()) {
                near.receive(message);
            }
        });
        join([worker, other]);
        scene.near.work();
        let left = scene.near.peer().session.locked().staged();
        assert_eq!(left, 0, "a packet stays behind, though there is a key");
    });
}
