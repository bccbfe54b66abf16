//! What the devices told, and the rates that follow from it. Times are passed in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use adit_control::{Get, GetPeer, PublicKey};

use super::ask::{News, What};

/// Seconds of which rates are kept.
pub(super) const SECONDS: usize = 60;
/// How long an interface that is gone is told of, unless it was asked for.
const REMEMBERED: Duration = Duration::from_secs(60);

/// All that is known.
#[derive(Debug)]
pub(super) struct History {
    /// The interface that was asked for, if not all of them.
    only: Option<String>,
    /// By name.
    pub(super) interfaces: BTreeMap<String, Interface>,
    /// Why it is not known which there are.
    pub(super) trouble: Option<String>,
}

/// One interface.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) state: State,
    pub(super) listen_port: u16,
    pub(super) peers: HashMap<PublicKey, Peer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not been heard of, since then.
    Silent(Duration),
    /// It has told, then.
    Here(Duration),
    /// It is not there, or cannot be asked, since then; and why.
    Gone(Duration, String),
}

/// One peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) endpoint: Option<SocketAddr>,
    /// Seconds since the Unix epoch.
    pub(super) last_handshake: Option<u64>,
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
    pub(super) persistent_keepalive: u16,
    /// One for each second, the latest last.
    pub(super) rates: VecDeque<Rate>,
}

/// Bits in a second. More digits would not be seen, and there may be thousands of peers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) rx: f32,
    pub(super) tx: f32,
}

impl Rate {
    pub(super) fn sum(self) -> f64 {
        f64::from(self.rx) + f64::from(self.tx)
    }
}

impl History {
    pub(super) fn new(only: Option<&str>) -> Self {
        let mut interfaces = BTreeMap::new();
        interfaces.extend(only.map(|name| (name.to_owned(), Interface::new(State::Silent(Duration::ZERO)))));
        Self { only: only.map(str::to_owned), interfaces, trouble: None }
    }

    /// Keeps what was heard.
    pub(super) fn take(&mut self, News { at: now, what }: News) {
        match what {
            What::Listed(Ok(names)) => self.listed(&names, now),
            What::Listed(Err(trouble)) => self.trouble = Some(trouble),
            What::Told(interface, told) => {
                let interface =
                    self.interfaces.entry(interface).or_insert_with(|| Interface::new(State::Silent(now)));
                match told {
                    Ok(get) => interface.told(&get, now),
                    Err(why) => interface.gone(why, now),
                }
            }
        }
    }

    fn listed(&mut self, names: &[String], now: Duration) {
        self.trouble = None;
        for name in names {
            self.interfaces.entry(name.clone()).or_insert_with(|| Interface::new(State::Silent(now)));
        }
        for (name, interface) in &mut self.interfaces {
            if !names.contains(name) {
                interface.gone("it is not there any more".to_owned(), now);
            }
        }
        let is_asked_for = |name: &String| self.only.as_ref() == Some(name);
        self.interfaces.retain(|name, interface| match interface.state {
            State::Gone(since, _) => is_asked_for(name) || now.saturating_sub(since) < REMEMBERED,
            _ => true,
        });
    }
}

impl Interface {
    fn new(state: State) -> Self {
        Self { state, listen_port: 0, peers: HashMap::new() }
    }

    fn gone(&mut self, why: String, now: Duration) {
        let since = if let State::Gone(since, _) = self.state { since } else { now };
        // What comes back later may be another one of that name, which counts anew.
        *self = Self::new(State::Gone(since, why));
    }

    fn told(&mut self, get: &Get, now: Duration) {
        let elapsed = match self.state {
            State::Here(then) => now.saturating_sub(then),
            _ => Duration::ZERO,
        };
        self.state = State::Here(now);
        self.listen_port = get.listen_port;
        let mut before = std::mem::take(&mut self.peers);
        self.peers = get
            .peers
            .iter()
            .map(|peer| {
                let before = before.remove(&peer.public_key);
                (peer.public_key, before.map_or_else(|| Peer::new(peer), |before| before.told(peer, elapsed)))
            })
            .collect();
    }

    /// What all peers do together.
    pub(super) fn rate(&self) -> Rate {
        self.peers
            .values()
            .filter_map(Peer::rate)
            .fold(Rate::default(), |sum, rate| Rate { rx: sum.rx + rate.rx, tx: sum.tx + rate.tx })
    }

    /// The peers, those with most traffic in the last minute first.
    pub(super) fn sorted(&self) -> Vec<(&PublicKey, &Peer)> {
        let mut peers: Vec<_> = self.peers.iter().map(|(key, peer)| (peer.activity(), key, peer)).collect();
        peers.sort_by(|(one, one_key, one_peer), (other, other_key, other_peer)| {
            let by_activity = other.total_cmp(one);
            let by_handshake = || other_peer.last_handshake.cmp(&one_peer.last_handshake);
            by_activity.then_with(by_handshake).then_with(|| one_key.as_bytes().cmp(other_key.as_bytes()))
        });
        peers.into_iter().map(|(_, key, peer)| (key, peer)).collect()
    }
}

impl Peer {
    fn new(peer: &GetPeer) -> Self {
        Self {
            endpoint: peer.endpoint,
            last_handshake: peer.last_handshake.map(|(seconds, _)| seconds).filter(|&seconds| seconds != 0),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            persistent_keepalive: peer.persistent_keepalive,
            rates: VecDeque::new(),
        }
    }

    /// What was told now, `elapsed` after what was told before.
    fn told(self, peer: &GetPeer, elapsed: Duration) -> Self {
        // Less than before: it was removed and added meanwhile.
        let is_same = peer.rx_bytes >= self.rx_bytes && peer.tx_bytes >= self.tx_bytes;
        let mut told = Self { rates: self.rates, ..Self::new(peer) };
        if !is_same || elapsed.is_zero() {
            return told;
        }
        let rate = |now: u64, before: u64| ((now - before) as f64 * 8.0 / elapsed.as_secs_f64()) as f32;
        let rate = Rate { rx: rate(peer.rx_bytes, self.rx_bytes), tx: rate(peer.tx_bytes, self.tx_bytes) };
        // A late answer is one for several seconds.
        let seconds = (elapsed.as_secs_f64().round() as usize).clamp(1, SECONDS);
        told.rates.extend(std::iter::repeat_n(rate, seconds));
        told.rates.drain(..told.rates.len().saturating_sub(SECONDS));
        told
    }

    /// The latest rate, once there are two states to tell it from.
    pub(super) fn rate(&self) -> Option<Rate> {
        self.rates.back().copied()
    }

    fn activity(&self) -> f64 {
        self.rates.iter().map(|rate| rate.sum()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PublicKey = PublicKey::new([7; 32]);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn get(rx_bytes: u64, tx_bytes: u64) -> Get {
        let peer = GetPeer { rx_bytes, tx_bytes, ..GetPeer::new(KEY) };
        Get { peers: vec![peer], ..Get::default() }
    }

    fn told(history: &mut History, at: Duration, told: Result<Get, String>) {
        history.take(News { at, what: What::Told("wg0".into(), told) });
    }

    fn listed(history: &mut History, at: Duration, names: &[&str]) {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        history.take(News { at, what: What::Listed(Ok(names)) });
    }

    fn rates(history: &History) -> Vec<(f32, f32)> {
        history.interfaces["wg0"].peers[&KEY].rates.iter().map(|rate| (rate.rx, rate.tx)).collect()
    }

    #[test]
    fn rates_are_bits_by_time() {
        let mut history = History::new(None);
        told(&mut history, seconds(5), Ok(get(1000, 0)));
        assert_eq!(rates(&history), []);
        told(&mut history, seconds(6), Ok(get(2000, 500)));
        assert_eq!(rates(&history), [(8000.0, 4000.0)]);
        // An answer that came late stands for the time that it took.
        told(&mut history, seconds(9), Ok(get(5000, 500)));
        assert_eq!(rates(&history)[1..], [(8000.0, 0.0); 3]);
        told(&mut history, seconds(9 + 500), Ok(get(5000, 500)));
        assert_eq!(rates(&history), [(0.0, 0.0); SECONDS]);
        assert_eq!(history.interfaces["wg0"].rate(), Rate::default());
    }

    #[test]
    fn a_peer_that_counts_anew_has_no_rate() {
        let mut history = History::new(None);
        told(&mut history, seconds(1), Ok(get(1000, 1000)));
        told(&mut history, seconds(2), Ok(get(100, 2000)));
        assert_eq!(rates(&history), []);
        told(&mut history, seconds(3), Ok(get(200, 2000)));
        assert_eq!(rates(&history), [(800.0, 0.0)]);
        told(&mut history, seconds(4), Ok(Get::default()));
        assert!(history.interfaces["wg0"].peers.is_empty());
    }

    #[test]
    fn what_goes_is_told_of_and_comes_back() {
        let mut history = History::new(None);
        listed(&mut history, seconds(1), &["wg0"]);
        told(&mut history, seconds(1), Ok(get(1000, 0)));
        listed(&mut history, seconds(2), &[]);
        listed(&mut history, seconds(3), &[]);
        let State::Gone(since, _) = &history.interfaces["wg0"].state else { panic!("{history:?}") };
        assert_eq!(*since, seconds(2));
        told(&mut history, seconds(4), Ok(get(9000, 0)));
        assert_eq!(history.interfaces["wg0"].state, State::Here(seconds(4)));
        assert_eq!(rates(&history), [], "another one, perhaps");
        listed(&mut history, seconds(5), &[]);
        listed(&mut history, seconds(65), &[]);
        assert!(history.interfaces.is_empty());
    }

    #[test]
    fn what_was_asked_for_is_not_forgotten() {
        let mut history = History::new(Some("wg0"));
        assert_eq!(history.interfaces["wg0"].state, State::Silent(Duration::ZERO));
        told(&mut history, seconds(1), Err("No such device".into()));
        listed(&mut history, seconds(500), &["wg0"]);
        assert_eq!(history.interfaces["wg0"].state, State::Gone(seconds(1), "No such device".into()));
    }

    #[test]
    fn the_busiest_peer_is_first() {
        let mut history = History::new(None);
        let key = |n: u8| PublicKey::new([n; 32]);
        for second in 1..=3 {
            let peer = |n: u8, rx_bytes, at| GetPeer {
                rx_bytes,
                last_handshake: Some((at, 0)),
                ..GetPeer::new(key(n))
            };
            let peers = vec![
                peer(1, 0, 5),
                peer(2, second * 10, 1),
                peer(3, second * 1000, 1),
                peer(4, 0, 6),
                peer(5, 0, 6),
            ];
            told(&mut history, seconds(second), Ok(Get { peers, ..Get::default() }));
        }
        let order: Vec<PublicKey> =
            history.interfaces["wg0"].sorted().into_iter().map(|(key, _)| *key).collect();
        assert_eq!(order, [3, 2, 4, 5, 1].map(key));
    }
}
