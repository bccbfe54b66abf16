//! Arbitrary configurations.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use adit_control::status::Confinement;
use adit_control::why::{Event, PeerWhy, REASONS, Tally};
use adit_control::{
    AllowedIpChange, EndpointName, Get, GetPeer, OffloadState, Prefix, PublicKey, Reason, Set, SetPeer,
    Status, Why,
};
use adit_crypto::Secret;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub fn public_key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey::new)
}

/// Zeros are how the protocol says that there is no key.
pub fn secret() -> impl Strategy<Value = Secret<32>> {
    any::<[u8; 32]>().prop_filter("zeros", |bytes| *bytes != [0; 32]).prop_map(Secret::new)
}

pub fn prefix() -> impl Strategy<Value = Prefix> {
    (any::<IpAddr>(), 0..=128_u8).prop_map(|(addr, len)| {
        let width = if addr.is_ipv4() { 32 } else { 128 };
        Prefix::new(addr, len.min(width)).expect("no longer than the address")
    })
}

pub fn endpoint() -> impl Strategy<Value = SocketAddr> {
    let scope = prop_oneof![Just(0), any::<u32>()];
    (any::<IpAddr>(), any::<u16>(), scope).prop_map(|(addr, port, scope)| match addr {
        IpAddr::V4(v4) => (v4, port).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
    })
}

fn get_peer() -> impl Strategy<Value = GetPeer> {
    let last_handshake =
        option::of((any::<u64>(), 0..1_000_000_000_u32)).prop_map(|at| at.filter(|&at| at != (0, 0)));
    (
        public_key(),
        option::of(secret()),
        option::of(endpoint()),
        last_handshake,
        any::<(u64, u64, u16)>(),
        vec(prefix(), 0..5),
    )
        .prop_map(|(public_key, preshared_key, endpoint, last_handshake, numbers, allowed_ips)| {
            let (rx_bytes, tx_bytes, persistent_keepalive) = numbers;
            GetPeer {
                preshared_key,
                endpoint,
                last_handshake,
                rx_bytes,
                tx_bytes,
                persistent_keepalive,
                allowed_ips,
                ..GetPeer::new(public_key)
            }
        })
}

pub fn get() -> impl Strategy<Value = Get> {
    let fwmark = prop_oneof![Just(0), any::<u32>()];
    (option::of(secret()), any::<u16>(), fwmark, vec(get_peer(), 0..4))
        .prop_map(|(private_key, listen_port, fwmark, peers)| Get { private_key, listen_port, fwmark, peers })
}

pub fn endpoint_name() -> impl Strategy<Value = EndpointName> {
    ("[a-z0-9.-]{1,253}", any::<u16>())
        .prop_map(|(host, port)| EndpointName::new(&host, port).expect("a name"))
}

fn change() -> impl Strategy<Value = AllowedIpChange> {
    prop_oneof![prefix().prop_map(AllowedIpChange::Add), prefix().prop_map(AllowedIpChange::Remove)]
}

fn set_peer() -> impl Strategy<Value = SetPeer> {
    (
        public_key(),
        any::<[bool; 3]>(),
        option::of(option::of(secret())),
        option::of((endpoint(), option::of(endpoint_name()))),
        any::<Option<u16>>(),
        vec(change(), 0..5),
    )
        .prop_map(|(public_key, flags, preshared_key, endpoint, persistent_keepalive, allowed_ips)| {
            let [remove, update_only, replace_allowed_ips] = flags;
            let (endpoint, endpoint_name) = endpoint.unzip();
            SetPeer {
                public_key,
                remove,
                update_only,
                preshared_key,
                endpoint,
                endpoint_name: endpoint_name.flatten(),
                persistent_keepalive,
                replace_allowed_ips,
                allowed_ips,
            }
        })
}

pub fn set() -> impl Strategy<Value = Set> {
    (
        option::of(option::of(secret())),
        any::<Option<u16>>(),
        any::<Option<u32>>(),
        any::<bool>(),
        vec(set_peer(), 0..4),
    )
        .prop_map(|(private_key, listen_port, fwmark, replace_peers, peers)| Set {
            private_key,
            listen_port,
            fwmark,
            replace_peers,
            peers,
        })
}

fn offload_state() -> impl Strategy<Value = OffloadState> {
    any::<[bool; 3]>().prop_map(|[wanted, agreed, works]| OffloadState::of(wanted, agreed, works))
}

pub fn status() -> impl Strategy<Value = Status> {
    (proptest::array::uniform10(offload_state()), any::<[u64; 20]>()).prop_map(|(states, counts)| {
        let [tun_vnet_hdr, tun_tcp, tun_udp, udp_gso, udp_gro, dumps, mlock, landlock, capabilities, seccomp] = states;
        let [workers, buffer_bytes, endpoint_names, tun_queues, rest @ ..] = counts;
        let [tun_read, tun_written, tun_dropped, rest @ ..] = rest;
        let [tun_tcp_read, tun_tcp_written, tun_tcp_refused, rest @ ..] = rest;
        let [tun_udp_read, tun_udp_written, tun_udp_refused, rest @ ..] = rest;
        let [udp_gso_sent, udp_gso_refused, udp_gso_avoided, udp_gro_received, rest @ ..] = rest;
        let [udp_send_dropped, udp_receive_dropped, udp_receive_overflows] = rest;
        Status {
            workers,
            buffer_bytes,
            endpoint_names,
            tun_queues,
            tun_vnet_hdr,
            tun_read,
            tun_written,
            tun_dropped,
            tun_tcp,
            tun_tcp_read,
            tun_tcp_written,
            tun_tcp_refused,
            tun_udp,
            tun_udp_read,
            tun_udp_written,
            tun_udp_refused,
            udp_gso,
            udp_gso_sent,
            udp_gso_refused,
            udp_gso_avoided,
            udp_gro,
            udp_gro_received,
            udp_send_dropped,
            udp_receive_dropped,
            udp_receive_overflows,
            ..Status::default()
        }
        .confined(Confinement { dumps, mlock, landlock, capabilities, seccomp })
    })
}

fn millis() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn reason() -> impl Strategy<Value = Reason> {
    (0..Reason::COUNT).prop_map(|number| REASONS[number].reason)
}

fn tally() -> impl Strategy<Value = Tally> {
    (reason(), any::<u64>(), millis()).prop_map(|(reason, count, age)| Tally { reason, count, age })
}

fn event() -> impl Strategy<Value = Event> {
    let about = (option::of(public_key()), option::of(endpoint()), any::<Option<IpAddr>>());
    let numbers = (option::of(0..i32::MAX), option::of(millis()));
    (reason(), any::<u64>(), millis(), millis(), about, numbers).prop_map(
        |(reason, count, age, first_age, (peer, endpoint, address), (errno, clock_off))| Event {
            reason,
            count,
            age,
            first_age,
            peer,
            endpoint,
            address,
            errno,
            clock_off,
        },
    )
}

pub fn why() -> impl Strategy<Value = Why> {
    let peer =
        (public_key(), vec(tally(), 0..4)).prop_map(|(public_key, tallies)| PeerWhy { public_key, tallies });
    (any::<bool>(), vec(tally(), 0..4), vec(peer, 0..4), vec(event(), 0..4))
        .prop_map(|(is_listening, tallies, peers, events)| Why { is_listening, tallies, peers, events })
}
