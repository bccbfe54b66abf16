//! What `show --why` prints: for each interface and each of its peers how it stands, what went wrong, how often, how long
//! ago, and what to do about it. [`page`] is for people, [`value`] for programs.
//!
//! How it stands is worked out from what every WireGuard tells; what went wrong only this project's engines know.

mod json;

use std::fmt::{self, Display};
use std::io;
use std::time::Duration;

pub use json::value;

use super::{BOLD, GREEN, GREEN_BOLD, Paint, RED, ScopeName, YELLOW, YELLOW_BOLD, endpoint};
use crate::why::{Event, Reason, Tally, Why};
use crate::{Get, GetPeer, PublicKey};

/// A session lives this long.
const SESSION: u64 = 180;

/// How a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There was a handshake so many seconds ago, and its session lives.
    Connected(u64),
    /// There was a handshake so many seconds ago, and nothing was to be sent since.
    Idle(u64),
    /// Where it is is not known, and it has not called.
    WithoutEndpoint,
    /// Nothing was to be sent to it yet.
    NeverTried,
    /// It was called, and there was never a handshake.
    NeverAnswered,
}

impl Standing {
    /// Of `peer`, with `now` on the wall clock in seconds since the Unix epoch.
    #[must_use]
    pub fn of(peer: &GetPeer, now: u64) -> Self {
        match (peer.last_handshake, peer.endpoint) {
            (Some((then @ 1.., _)), _) => match now.saturating_sub(then) {
                age @ ..SESSION => Self::Connected(age),
                age => Self::Idle(age),
            },
            (_, None) => Self::WithoutEndpoint,
            (_, Some(_)) if peer.tx_bytes > 0 => Self::NeverAnswered,
            (_, Some(_)) => Self::NeverTried,
        }
    }

    /// Its name for programs.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Connected(_) => "connected",
            Self::Idle(_) => "idle",
            Self::WithoutEndpoint => "no_endpoint",
            Self::NeverTried => "never_tried",
            Self::NeverAnswered => "never_answered",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Connected(_) => "",
            Self::Idle(_) => "the next packet to it begins another one",
            Self::WithoutEndpoint => "set its Endpoint here, or have it call: it has to know this machine's",
            Self::NeverTried => "send something through the tunnel, or set PersistentKeepalive",
            Self::NeverAnswered => {
                "is it switched on, are address and port right, does its firewall let UDP in, do both sides have each \
                 other's public key?"
            }
        }
    }
}

impl Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected(age) => write!(f, "connected: the latest handshake was {}", ago(*age)),
            Self::Idle(age) => write!(f, "no session: the latest handshake was {}", ago(*age)),
            Self::WithoutEndpoint => f.write_str("never heard of, and its endpoint is not known"),
            Self::NeverTried => f.write_str("never tried: nothing was to be sent to it yet"),
            Self::NeverAnswered => f.write_str("called, and there was never a handshake"),
        }
    }
}

/// What only the interface's reasons tell: of those of its peers that are still there, their own tell.
fn without_peers(get: &Get, why: &Why) -> Vec<Tally> {
    let by_peer = why.by_peer();
    let mut of_peers = [0_u64; Reason::COUNT];
    for tally in get.peers.iter().filter_map(|peer| by_peer.get(&peer.public_key)).copied().flatten() {
        let sum = &mut of_peers[tally.reason as usize];
        *sum = sum.saturating_add(tally.count);
    }
    let rest = why.tallies.iter().map(|tally| {
        let count = tally.count.saturating_sub(of_peers[tally.reason as usize]);
        // With peers' among them the last time may have been one of theirs.
        let age = last_without_peer(get, why, tally.reason).map_or(tally.age, |event| event.age);
        Tally { count, age, ..*tally }
    });
    rest.filter(|tally| tally.count > 0).collect()
}

fn last_without_peer<'a>(get: &Get, why: &'a Why, reason: Reason) -> Option<&'a Event> {
    let is_peer = |key: &PublicKey| get.peers.iter().any(|peer| peer.public_key == *key);
    why.events.iter().find(|event| event.reason == reason && !event.peer.as_ref().is_some_and(is_peer))
}

/// Prints the interface `name` for people. `now` is the wall clock in whole seconds since the Unix epoch. `why` is `None`
/// where the engine keeps no reasons.
#[must_use]
pub fn page(
    name: &str,
    get: &Get,
    why: Option<&Why>,
    now: u64,
    color: bool,
    scope_name: ScopeName,
) -> String {
    let mut page = Page { out: String::new(), paint: Paint(color), scope_name };
    page.heading("interface", GREEN_BOLD, GREEN, &name);
    page.interface(get, why);
    let by_peer = why.map(Why::by_peer).unwrap_or_default();
    for peer in &get.peers {
        page.out.push('\n');
        page.heading("peer", YELLOW_BOLD, YELLOW, &peer.public_key);
        page.peer(peer, why, by_peer.get(&peer.public_key).copied().unwrap_or_default(), now);
    }
    page.out
}

struct Page {
    out: String,
    paint: Paint,
    scope_name: ScopeName,
}

impl Page {
    fn interface(&mut self, get: &Get, why: Option<&Why>) {
        if get.private_key.is_none() {
            self.say(RED, &"it has no private key: no handshake is possible", "set one");
        }
        if get.peers.is_empty() {
            self.say(RED, &"it has no peers", "add one");
        }
        let Some(why) = why else {
            return self.say("", &"its engine keeps no reasons: this is what can be told without", "");
        };
        if !why.is_listening {
            let advice = "bring it up (ip link set up); if it is, another program has its port";
            self.say(RED, &"it has no socket open: nothing is sent or received", advice);
        }
        let tallies = without_peers(get, why);
        if tallies.is_empty() {
            self.say("", &"nothing went wrong that is of no peer's making", "");
        }
        for tally in &tallies {
            self.tally(tally, last_without_peer(get, why, tally.reason));
        }
    }

    fn peer(&mut self, peer: &GetPeer, why: Option<&Why>, tallies: &[Tally], now: u64) {
        let standing = Standing::of(peer, now);
        let color = if matches!(standing, Standing::NeverAnswered) { RED } else { "" };
        self.say(color, &standing, standing.advice());
        if peer.allowed_ips.is_empty() {
            self.say(
                RED,
                &"it has no allowed IPs: nothing goes to it, and nothing is taken from it",
                "add some",
            );
        }
        for tally in tallies {
            let last = why.and_then(|why| why.last(tally.reason, Some(&peer.public_key)));
            self.tally(tally, last);
        }
    }

    fn tally(&mut self, tally: &Tally, last: Option<&Event>) {
        let described = tally.reason.described();
        let times = self.paint.with(BOLD, format_args!("{} × {}", tally.count, described.key)).to_string();
        let mut text = format!("{times}, last {}: {}", ago(tally.age.as_secs()), described.meaning);
        if let Some(event) = last {
            text += &self.circumstances(event);
        }
        let advice = last.and_then(|event| event.errno).and_then(advice_on_errno).unwrap_or(described.advice);
        self.say("", &text, advice);
    }

    /// What is known of the last time.
    fn circumstances(&self, event: &Event) -> String {
        let mut known = Vec::new();
        if let Some(at) = &event.endpoint {
            known.push(format!("endpoint {}", endpoint(at, self.scope_name)));
        }
        if let (Some(key), Reason::UnknownPeer) = (&event.peer, event.reason) {
            known.push(format!("public key {key}"));
        }
        known.extend(event.address.map(|address| format!("address {address}")));
        known.extend(event.errno.map(errno_text));
        known.extend(event.clock_off.map(|off| match event.reason {
            Reason::ClockWasAhead => format!("{} ahead of this machine's clock", span(off)),
            _ => format!("{} behind this machine's clock", span(off)),
        }));
        if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
    }

    fn heading(&mut self, kind: &str, kind_color: &'static str, color: &'static str, name: &dyn Display) {
        let paint = self.paint;
        self.out += &format!("{}: {}\n", paint.with(kind_color, kind), paint.with(color, name));
    }

    /// What is so, and what to do about it.
    fn say(&mut self, color: &'static str, what: &dyn Display, advice: &str) {
        match color {
            "" => self.out += &format!("  {what}\n"),
            _ => self.out += &format!("  {}\n", self.paint.with(color, what)),
        }
        if !advice.is_empty() {
            self.out += &format!("      {advice}\n");
        }
    }
}

/// In one unit, rounded down.
fn ago(seconds: u64) -> String {
    match seconds {
        0 => "just now".to_owned(),
        _ => format!("{} ago", span(Duration::from_secs(seconds))),
    }
}

fn span(of: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match of.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds if seconds < 2 * HOUR => format!("{} min", seconds / MINUTE),
        seconds if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        seconds => format!("{} days", seconds / DAY),
    }
}

/// In words, without the number.
fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.rfind(" (os error ").map_or(text.as_str(), |end| &text[..end]).to_owned()
}

/// What to do about a refusal to send, where the error tells: numbers of Linux.
fn advice_on_errno(errno: i32) -> Option<&'static str> {
    const EPERM: i32 = 1;
    const EACCES: i32 = 13;
    const EMSGSIZE: i32 = 90;
    const EAFNOSUPPORT: i32 = 97;
    const ENETUNREACH: i32 = 101;
    const EHOSTUNREACH: i32 = 113;
    match errno {
        EPERM | EACCES => Some("a firewall rule on this machine forbids it"),
        EMSGSIZE => Some("its packets are too long for the way: lower the interface's MTU"),
        EAFNOSUPPORT => Some("this machine lacks that kind of address: is IPv6 switched off?"),
        ENETUNREACH | EHOSTUNREACH => Some(
            "there is no way to the endpoint: look at the routes (ip route get) and at the network below",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(reason: Reason, count: u64) -> Tally {
        Tally { reason, count, age: Duration::from_millis(3_900) }
    }

    fn peer(number: u8) -> GetPeer {
        let allowed_ips = vec!["10.0.0.0/8".parse().unwrap()];
        GetPeer { allowed_ips, ..GetPeer::new(PublicKey::new([number; 32])) }
    }

    fn get() -> Get {
        Get { peers: vec![peer(1), peer(2)], ..Get::default() }
    }

    fn event(reason: Reason, peer: Option<u8>) -> Event {
        Event {
            reason,
            count: 1,
            age: Duration::from_secs(3),
            first_age: Duration::from_secs(3),
            peer: peer.map(|number| PublicKey::new([number; 32])),
            endpoint: Some("192.0.2.1:7".parse().unwrap()),
            address: None,
            errno: None,
            clock_off: None,
        }
    }

    #[test]
    fn peers_stand_as_what_every_wireguard_tells_says() {
        let now = 1_000_000;
        let at = |last_handshake, endpoint, tx_bytes| {
            let peer = GetPeer { last_handshake, endpoint, tx_bytes, ..peer(1) };
            Standing::of(&peer, now)
        };
        let endpoint = Some("192.0.2.1:7".parse().unwrap());
        assert_eq!(at(Some((now - 5, 0)), endpoint, 9), Standing::Connected(5));
        assert_eq!(at(Some((now + 5, 0)), endpoint, 9), Standing::Connected(0), "the clock was set back");
        assert_eq!(at(Some((now - 500, 0)), endpoint, 9), Standing::Idle(500));
        assert_eq!(at(None, None, 0), Standing::WithoutEndpoint);
        assert_eq!(at(None, endpoint, 0), Standing::NeverTried);
        assert_eq!(at(None, endpoint, 148), Standing::NeverAnswered);
    }

    #[test]
    fn each_reason_is_told_once_where_it_belongs() {
        let why = Why {
            is_listening: true,
            tallies: vec![
                tally(Reason::BadMac1, 3),
                tally(Reason::UnknownPeer, 1),
                tally(Reason::BadHandshake, 5),
                tally(Reason::PskMismatch, 2),
            ],
            peers: vec![crate::why::PeerWhy {
                public_key: PublicKey::new([1; 32]),
                tallies: vec![tally(Reason::BadHandshake, 4), tally(Reason::PskMismatch, 2)],
            }],
            events: vec![event(Reason::PskMismatch, Some(1)), event(Reason::UnknownPeer, Some(9))],
        };
        let page = page("wg0", &get(), Some(&why), 0, false, |_| None);
        let parts: Vec<&str> = page.split("\n\n").collect();
        assert_eq!(parts.len(), 3, "{page}");
        assert!(parts[0].contains("  3 × bad_mac1, last 3 s ago: "), "{page}");
        assert!(parts[0].contains("public key CQkJ"), "{page}");
        assert!(parts[0].contains("  1 × bad_handshake"), "{page}");
        assert!(!parts[0].contains("psk"), "{page}");
        let psk = "  2 × psk_mismatch, last 3 s ago: answers to our handshakes that do not fit the preshared key \
                   (endpoint 192.0.2.1:7)\n      its preshared key probably differs: compare it on both sides";
        assert!(parts[1].contains(psk), "{page}");
        assert!(parts[1].contains("  4 × bad_handshake"), "{page}");
        assert!(parts[2].ends_with("have it call: it has to know this machine's\n"), "{page}");
        assert!(page.lines().all(|line| line == line.trim_end()), "{page}");
    }

    #[test]
    fn without_reasons_it_says_so() {
        let page = page("wg0", &get(), None, 0, false, |_| None);
        assert!(page.contains("keeps no reasons") && page.contains("never heard of"), "{page}");
    }

    #[test]
    fn what_the_system_said_decides_what_to_do() {
        let refused = Event { errno: Some(101), ..event(Reason::EndpointUnreachable, Some(1)) };
        let tallies = vec![tally(Reason::EndpointUnreachable, 1)];
        let peers =
            vec![crate::why::PeerWhy { public_key: PublicKey::new([1; 32]), tallies: tallies.clone() }];
        let why = Why { is_listening: true, tallies, peers, events: vec![refused] };
        let page = page("wg0", &get(), Some(&why), 0, false, |_| None);
        assert!(page.contains("Network is unreachable)\n      there is no way to the endpoint"), "{page}");
    }
}
