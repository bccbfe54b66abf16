//! Why packets and handshakes came to nothing: what an engine counts and remembers, by reason.
//!
//! Like [`Status`](crate::Status) no part of the configuration, and nothing that the kernel's own WireGuard keeps.
//! [`REASONS`] is the one list of what there is; every spelling of a [`Why`] goes through it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::PublicKey;

/// A reason's name, and what to say about it.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// The reason.
    pub reason: Reason,
    /// Its key in the text protocol, in JSON and in metrics.
    pub key: &'static str,
    /// What it means, in a few words.
    pub meaning: &'static str,
    /// What to do about it; empty where nothing is to be done.
    pub advice: &'static str,
}

macro_rules! reasons {
    ($($name:ident $key:ident: $meaning:literal, $advice:literal;)*) => {
        /// What went wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        /// Every reason, in the order in which they are told; a reason's number is its place.
        pub const REASONS: &[Described] = &[$(Described {
            reason: Reason::$name,
            key: stringify!($key),
            meaning: $meaning,
            advice: $advice,
        }),*];
    };
}

reasons! {
    // Handshakes that come.
    BadMac1 bad_mac1: "handshake messages that were not made for this public key",
        "a peer has another public key for this machine than `wg show` tells here, or somebody probes the port";
    UnknownPeer unknown_peer: "handshakes of somebody who is not configured here",
        "if this is a peer of yours, add it by its public key; if it has new keys, replace the old public key";
    ReplayedInitiation replayed_initiation: "initiations that were taken before came again",
        "the network doubled them, or somebody sends recorded ones: nothing comes of it";
    ClockBehind clock_behind: "initiations older than one that was taken before",
        "the peer's clock was probably set back: set it right. Recorded or late messages look the same, and so does another machine with the peer's key";
    ClockWasAhead clock_was_ahead: "initiations refused because an earlier one came from the future: the peer's clock was wrong then, or this machine's is now",
        "set the clocks right; then restart this engine, or give the peer a new key";
    PskMismatch psk_mismatch: "answers to our handshakes that do not fit the preshared key",
        "its preshared key probably differs: compare it on both sides";
    Unconfirmed unconfirmed: "handshakes begun again, more than once in a row, by a peer that was answered and did not go on",
        "its preshared key probably differs: compare it on both sides. Else our answers do not arrive: look at firewalls and routes from here to there";
    BadHandshake bad_handshake: "handshake messages whose contents are not authentic",
        "a message was damaged on its way, or forged: nothing comes of it";
    BadPublicKey bad_public_key: "handshakes with a public key that no private key belongs to",
        "the peer's public key is wrong: ask for the right one";
    NoPrivateKey no_private_key: "handshakes that cannot be done without a private key",
        "set this interface's private key";
    // Handshakes in numbers.
    UnderLoad under_load: "handshake messages answered with a cookie, because too many were waiting",
        "this machine is being flooded with handshakes; peers get through by themselves";
    BadMac2 bad_mac2: "cookies that were too old or another's, while too many handshakes were waiting",
        "peers ask for a new one by themselves";
    RateLimited rate_limited: "handshake messages beyond what one address may send while too many are waiting",
        "look who sends them";
    TooSoon too_soon: "initiations of a peer beyond 50 a second",
        "two machines may be using the same private key";
    HandshakeQueueFull handshake_queue_full: "handshake messages dropped, because 4096 were waiting",
        "this machine is being flooded with handshakes";
    PeerUnderLoad peer_under_load: "handshakes of ours answered with a cookie: the peer is under load",
        "wait: the next one carries the cookie";
    // Handshakes of ours.
    NoAnswer no_answer: "initiations of ours that nobody answered in 5 s",
        "is it switched on, are address and port right, does its firewall let UDP in, does it have this machine's public key?";
    GaveUp gave_up: "peers given up after 90 s without a handshake, and what was to be sent with them",
        "it is tried again with the next packet";
    PeerSilent peer_silent: "sessions begun anew, because nothing came back for 15 s",
        "the peer went away or changed its address, or lets nothing back";
    // Data that comes.
    UnknownIndex unknown_index: "messages of sessions that are not known here",
        "after a restart of this side, and of late or doubled messages, that is so for some seconds; else somebody guesses";
    ExpiredKey expired_key: "packets on keys older than 180 s",
        "they were very late; if it goes on, the peer's handshakes do not get through";
    Undecryptable undecryptable: "packets that are not authentic",
        "they were damaged on their way, or forged";
    ReplayedData replayed_data: "packets that were received before, or very late",
        "the network doubles or delays them, or somebody sends recorded ones: nothing comes of it";
    SourceNotAllowed source_not_allowed: "packets out of the tunnel from addresses that are not the peer's",
        "add the address to the allowed IPs of this peer here, or have it send from its own";
    MalformedInner malformed_inner: "packets out of the tunnel that are not IP",
        "the peer's program is broken";
    NotWireguard not_wireguard: "packets to the port that are no messages of WireGuard",
        "somebody probes the port, or a program is set to the wrong one";
    // Data that goes.
    NoRoute no_route: "packets into the tunnel to addresses that no peer has",
        "add the address to the allowed IPs of the peer that it is behind";
    NoEndpoint no_endpoint: "packets to a peer whose endpoint is not known",
        "set its Endpoint, or wait until it calls";
    EndpointUnreachable endpoint_unreachable: "packets that the system refused to send to the peer's endpoint",
        "look at the routes to the endpoint (ip route get), at firewalls, and whether this machine has its kind of address";
    SendFull send_full: "packets that the system had no room to send",
        "this machine sends faster than its network takes";
    StagingFull staging_full: "packets dropped, because too many waited for a session with the peer",
        "";
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = REASONS.len();

    /// What to say about it.
    #[must_use]
    pub fn described(self) -> &'static Described {
        &REASONS[self as usize]
    }

    /// Its key.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.described().key
    }

    /// The reason of that key.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        REASONS.iter().find(|described| described.key == key).map(|described| described.reason)
    }

    /// Whether packets or messages were dropped for it. The others are states of things, told for what they explain.
    #[must_use]
    pub fn is_drop(self) -> bool {
        use Reason::{GaveUp, NoAnswer, PeerSilent, PeerUnderLoad, Unconfirmed};
        !matches!(self, Unconfirmed | PeerUnderLoad | NoAnswer | GaveUp | PeerSilent)
    }
}

/// How often something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What.
    pub reason: Reason,
    /// How often since the engine was started, or the peer added.
    pub count: u64,
    /// How long ago it was the last time.
    pub age: Duration,
}

/// The tallies of one peer, those that are not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerWhy {
    /// Which.
    pub public_key: PublicKey,
    /// In the order of [`REASONS`].
    pub tallies: Vec<Tally>,
}

/// What happened, once or again and again: an engine remembers a bounded number of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub reason: Reason,
    /// How often in a row; what follows is of the last time.
    pub count: u64,
    /// How long ago it was the last time.
    pub age: Duration,
    /// How long ago it was the first time of this row.
    pub first_age: Duration,
    /// The peer; with [`Reason::UnknownPeer`] the key that the caller claims to have.
    pub peer: Option<PublicKey>,
    /// Where the message came from, or was to be sent.
    pub endpoint: Option<SocketAddr>,
    /// The address within the tunnel that it is about.
    pub address: Option<IpAddr>,
    /// The system's error.
    pub errno: Option<i32>,
    /// By how much the clocks differ: with [`Reason::ClockBehind`] how far the initiation's time lies behind this machine's,
    /// with [`Reason::ClockWasAhead`] how far the earlier one's lies ahead of it.
    pub clock_off: Option<Duration>,
}

/// What an engine has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Why {
    /// Whether it has sockets open: it has none while the interface is down, or when the port is taken.
    pub is_listening: bool,
    /// Of all, peers that were removed included, those that are not zero, in the order of [`REASONS`].
    pub tallies: Vec<Tally>,
    /// Of peers, those that have any, in the order of a get.
    pub peers: Vec<PeerWhy>,
    /// What happened last, the last first.
    pub events: Vec<Event>,
}

impl Why {
    /// The tallies of each peer that has any. There may be very many peers: to be made once and asked for each.
    #[must_use]
    pub fn by_peer(&self) -> HashMap<PublicKey, &[Tally]> {
        self.peers.iter().map(|peer| (peer.public_key, &peer.tallies[..])).collect()
    }

    /// The last time that `reason` was given, with a certain peer or none, if it is still remembered.
    #[must_use]
    pub fn last(&self, reason: Reason, peer: Option<&PublicKey>) -> Option<&Event> {
        self.events.iter().find(|event| event.reason == reason && event.peer.as_ref() == peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reasons_number_is_its_place_and_keys_lead_back() {
        for (number, described) in REASONS.iter().enumerate() {
            assert_eq!(described.reason as usize, number);
            assert_eq!(Reason::of(described.key), Some(described.reason));
            assert!(!described.meaning.is_empty());
        }
        assert_eq!(Reason::of("gremlins"), None);
    }

    #[test]
    fn the_document_lists_every_reason() {
        let document = include_str!("../../docs/why.md");
        for Described { key, meaning, advice, .. } in REASONS {
            let row = format!("| `{key}` | {meaning} | {advice} |\n");
            assert!(document.contains(&row), "docs/why.md lacks:\n{row}");
        }
    }
}
