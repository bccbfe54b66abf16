//! The daemon as a process: how it starts, ends, and what it says.

use std::fs;

use lab::{seconds, within};
use nix::sys::signal::Signal;

use crate::check::Check;
use crate::inner;
use crate::peer::SOON;
use crate::scene::{Scene, marked};
use crate::wire;

/// The checks of this group.
pub const CHECKS: &[Check] = &[
    Check::new("daemon/sigterm", "SIGTERM ends it with status 0; interface and socket are gone", sigterm),
    Check::new("daemon/sigint", "So does SIGINT", sigint),
    Check::new("daemon/interface-deleted", "It ends when its interface is deleted", interface_deleted),
    Check::new("daemon/socket-removed", "And when its socket is removed", socket_removed),
    Check::new(
        "daemon/second-instance",
        "A second one for the same interface fails, and the first works on",
        second_instance,
    ),
    Check::new("daemon/stale-socket", "The socket of one that was killed is replaced", stale_socket),
    Check::new("daemon/keys-not-logged", "Nothing it prints has a key in it", keys_not_logged),
    Check::new("daemon/device-moves", "Its TUN device works in another network namespace, too", device_moves),
    Check::new(
        "daemon/offload-ttl",
        "Packets of one flow with different TTLs stay different (wireguard-go 052af4a)",
        offload_ttl,
    ),
    Check::new(
        "daemon/offload-whole",
        "A flow of TCP segments arrives whole and in order, joined or not",
        offload_whole,
    ),
    Check::new("daemon/many-peers-alive", "60 peers shake hands and are heard, each its own", many_peers),
];

/// Asserts that the daemon ends, and cleans up after itself.
fn ends(scene: &mut Scene, within_seconds: u64) -> Option<i32> {
    let status = scene.engine.wait(seconds(within_seconds)).expect("it does not end");
    let interface = scene.engine.interface().to_owned();
    assert!(within(seconds(2), || !scene.inside.has(&interface)), "the interface is left behind");
    assert!(!scene.engine.socket().exists(), "the socket is left behind");
    status.code()
}

fn sigterm(scene: &mut Scene) {
    scene.engine.signal(Signal::SIGTERM);
    assert_eq!(ends(scene, 5), Some(0), "the exit status");
}

fn sigint(scene: &mut Scene) {
    scene.engine.signal(Signal::SIGINT);
    assert_eq!(ends(scene, 5), Some(0), "the exit status");
}

fn interface_deleted(scene: &mut Scene) {
    scene.inside.ip(&format!("link del {}", scene.engine.interface()));
    ends(scene, 5);
}

fn socket_removed(scene: &mut Scene) {
    fs::remove_file(scene.engine.socket()).expect("the socket is there");
    ends(scene, 5);
}

fn second_instance(scene: &mut Scene) {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    let mut second = scene.second(scene.engine.interface());
    let status = second.wait(seconds(5)).expect("the second one runs on");
    assert!(!status.success(), "the second one says that all is well");
    scene.settle(&tap, &peer, &session);
    scene.reaches(&peer, &session);
    assert_eq!(scene.get().all("public_key"), [peer.hex().as_str()], "the first one's peers");
}

fn stale_socket(scene: &mut Scene) {
    scene.engine.signal(Signal::SIGKILL);
    scene.engine.wait(seconds(5)).expect("it was killed");
    let interface = scene.engine.interface().to_owned();
    assert!(scene.engine.socket().exists(), "who was killed could not clean up");
    let mut second = scene.second(&interface);
    let serves = within(seconds(5), || lab::Uapi::connect(&interface).is_ok());
    assert!(serves, "the next one does not serve: {}", second.log());
    second.signal(Signal::SIGTERM);
    second.wait(seconds(5));
}

fn keys_not_logged(scene: &mut Scene) {
    let (peer, tap, psk) = (scene.stranger(), scene.tun(), wire::random::<32>());
    peer.preshared_key.set(psk);
    scene.add(&peer, &format!("preshared_key={}\n", wire::hex(&psk)));
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    for line in [
        format!("private_key={}0", wire::hex(&scene.keys.private)),
        format!("public_key={}\npreshared_key={}zz", peer.hex(), wire::hex(&psk)),
    ] {
        scene.uapi().send(&format!("set=1\n{line}\n\n"));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let log = scene.engine.log().to_lowercase();
    for secret in [&scene.keys.private, &psk] {
        assert!(!log.contains(&wire::hex(secret)), "a key, in hexadecimal");
        assert!(!log.contains(&base64(secret).to_lowercase()), "a key, in base64");
    }
}

/// All but the last digits: enough to be found by.
fn base64(key: &[u8; 32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = key[..30].chunks(3).flat_map(|bytes| {
        let bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift & 63) as usize]))
    });
    digits.collect()
}

fn device_moves(scene: &mut Scene) {
    let peer = scene.known();
    let session = peer.connect();
    let (away, interface) = (lab::Netns::new(), scene.engine.interface().to_owned());
    scene.inside.ip(&format!("link set {interface} netns {}", away.name()));
    away.address(&interface, "192.168.241.1/24");
    away.ip(&format!("link set {interface} up"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let tap = crate::scene::Tap::new(&away, &interface);
    // It was down for a moment, which may have ended the session.
    drop(session);
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    peer.port.drain();
    let socket = away.enter(|| std::net::UdpSocket::bind("192.168.241.1:0")).expect("its address");
    socket
        .send_to(b"from afar", (std::net::Ipv4Addr::from(peer.inner4()), 9))
        .expect("the tunnel takes a packet");
    assert!(peer.hear_data(&session, SOON).is_some(), "nothing is sent");
}

/// A TCP segment from `from` to nobody.
fn segment(from: [u8; 4], ttl: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut tcp = [
        &[0x30, 0x39, 0x00, 0x50][..],
        &sequence.to_be_bytes(),
        &[0, 0, 0, 1, 0x50, 0x10, 0x10, 0, 0, 0, 0, 0],
    ]
    .concat();
    tcp.extend(payload);
    let pseudo = [&from[..], &inner::NOBODY4, &[0, 6], &(tcp.len() as u16).to_be_bytes()].concat();
    let sum = inner::checksum(&[pseudo, tcp.clone()].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut packet = inner::v4(from, inner::NOBODY4, &tcp);
    packet[8] = ttl;
    packet[9] = 6;
    inner::again(packet)
}

/// Sends segments of these TTLs, 100 bytes each, so that the engine finds them together; the bytes that come out, each
/// with the TTL that it had.
fn through(scene: &mut Scene, ttls: &[u8]) -> Vec<(u8, u8)> {
    let (peer, tap) = (scene.peer(), scene.tun());
    let session = peer.connect();
    scene.settle(&tap, &peer, &session);
    scene.engine.signal(Signal::SIGSTOP);
    for (n, ttl) in (0_u8..).zip(ttls) {
        let packet = segment(peer.inner4(), *ttl, 1_000 + u32::from(n) * 100, &[n; 100]);
        peer.port.send(&session.next(&inner::padded(packet)));
    }
    scene.engine.signal(Signal::SIGCONT);
    let last = marked(&peer);
    peer.port.send(&session.next(&inner::padded(last.clone())));
    assert!(tap.saw(&last, SOON), "what was sent last is not delivered");
    let segments =
        tap.all(seconds(0)).into_iter().filter(|packet| packet[9] == 6 && packet[12..16] == peer.inner4());
    segments
        .flat_map(|packet| packet[40..].iter().map(|byte| (packet[8], *byte)).collect::<Vec<_>>())
        .collect()
}

fn expected(ttls: &[u8]) -> Vec<(u8, u8)> {
    (0_u8..).zip(ttls).flat_map(|(n, ttl)| vec![(*ttl, n); 100]).collect()
}

fn offload_ttl(scene: &mut Scene) {
    let ttls = [64, 64, 63, 63, 64, 1, 255, 255];
    assert!(through(scene, &ttls) == expected(&ttls), "bytes came out with another TTL, or not at all");
}

fn offload_whole(scene: &mut Scene) {
    let ttls = [64; 60];
    assert!(through(scene, &ttls) == expected(&ttls), "bytes are missing, or out of order");
}

fn many_peers(scene: &mut Scene) {
    let tap = scene.tun();
    let peers: Vec<_> = (0..60).map(|_| scene.peer()).collect();
    let sessions: Vec<_> = peers.iter().map(|peer| peer.connect()).collect();
    for (peer, session) in peers.iter().zip(&sessions) {
        scene.settle(&tap, peer, session);
    }
}
