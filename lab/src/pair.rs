//! The smallest network: two engines in two namespaces, one cable between them.
//!
//! ```text
//!   namespace a                                        namespace b
//!   engine 192.168.241.1/24, fd00::1/64     engine 192.168.241.2/24, fd00::2/64
//!   cable   10.77.0.1/24, fd77::1/64  ────────  cable 10.77.0.2/24, fd77::2/64
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::engine::{Engine, Program};
use crate::netns::Netns;
use crate::seconds;
use crate::wg::{Keypair, Peer};

/// The interface name of the cable's end in either namespace.
pub const CABLE: &str = "cable";

/// Which addresses the encrypted packets travel between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outer {
    /// 10.77.0.1 and 10.77.0.2.
    V4,
    /// fd77::1 and fd77::2.
    V6,
}

/// One end of a [`Pair`].
#[derive(Debug)]
pub struct Side {
    /// The daemon. Dropped before its namespace.
    pub engine: Engine,
    /// Where it runs.
    pub ns: Netns,
    /// Its keys.
    pub keys: Keypair,
    /// Its listening port at the start.
    pub port: u16,
    number: u8,
}

/// Two peers that know each other's keys and allowed IPs, but no endpoints yet.
#[derive(Debug)]
pub struct Pair {
    /// The side that the tests are about.
    pub a: Side,
    /// Its peer.
    pub b: Side,
}

impl Side {
    #[track_caller]
    fn new(program: &Program, number: u8, env: &[(&str, &str)]) -> Side {
        let ns = Netns::new();
        let engine = Engine::start_with(program, &ns, env);
        let side = Side { engine, ns, keys: Keypair::generate(), port: 10_000 * u16::from(number), number };
        let wg = side.interface();
        side.ns.address(wg, &format!("192.168.241.{number}/24"));
        side.ns.address(wg, &format!("fd00::{number}/64"));
        side.engine.set_private_key(&side.keys.private);
        side.engine.set(&format!("listen-port {}", side.port));
        side.ns.ip(&format!("link set {wg} up"));
        side
    }

    /// The engine's interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        self.engine.interface()
    }

    /// The inner IPv4 address.
    #[must_use]
    pub fn inner4(&self) -> String {
        format!("192.168.241.{}", self.number)
    }

    /// The inner IPv6 address.
    #[must_use]
    pub fn inner6(&self) -> String {
        format!("fd00::{}", self.number)
    }

    /// The address on the cable.
    #[must_use]
    pub fn outer(&self, outer: Outer) -> IpAddr {
        match outer {
            Outer::V4 => IpAddr::from([10, 77, 0, self.number]),
            Outer::V6 => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(self.number)]),
        }
    }

    /// Where the engine listens at the start.
    #[must_use]
    pub fn endpoint(&self, outer: Outer) -> SocketAddr {
        SocketAddr::new(self.outer(outer), self.port)
    }

    /// `wg set INTERFACE peer OTHER ARGS`.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn set_peer(&self, other: &Side, args: &str) {
        self.engine.set(&format!("peer {} {args}", other.keys.public));
    }

    /// What this side knows of `other`.
    ///
    /// # Panics
    /// If it knows nothing.
    #[track_caller]
    #[must_use]
    pub fn peer(&self, other: &Side) -> Peer {
        self.engine.dump().peer(&other.keys.public).clone()
    }

    /// Pings `other` through the tunnel, IPv4 and IPv6, patiently: it may take until the next handshake.
    ///
    /// # Panics
    /// If no answer comes within half a minute.
    #[track_caller]
    pub fn reaches(&self, other: &Side) {
        self.reaches_within(other, seconds(30));
    }

    /// Like [`Side::reaches`] with another limit.
    ///
    /// # Panics
    /// If no answer comes within `limit`.
    #[track_caller]
    pub fn reaches_within(&self, other: &Side, limit: Duration) {
        for inner in [other.inner4(), other.inner6()] {
            let reached = self.ns.reaches(&inner, limit);
            assert!(reached, "{inner} does not answer\n{}\n{}", self.engine.log(), other.engine.log());
        }
    }
}

impl Pair {
    /// Two engines, each the other's peer with both inner addresses allowed.
    ///
    /// # Panics
    /// If a daemon does not start or `wg` refuses.
    #[track_caller]
    #[must_use]
    pub fn new(a: &Program, b: &Program) -> Pair {
        Pair::with_env(a, b, &[])
    }

    /// Like [`Pair::new`], with environment variables for `a`.
    ///
    /// # Panics
    /// If a daemon does not start or `wg` refuses.
    #[track_caller]
    #[must_use]
    pub fn with_env(a: &Program, b: &Program, env: &[(&str, &str)]) -> Pair {
        let pair = Pair { a: Side::new(a, 1, env), b: Side::new(b, 2, &[]) };
        pair.a.ns.connect(CABLE, &pair.b.ns, CABLE);
        for side in [&pair.a, &pair.b] {
            side.ns.address(CABLE, &format!("{}/24", side.outer(Outer::V4)));
            side.ns.address(CABLE, &format!("{}/64", side.outer(Outer::V6)));
        }
        pair.a.set_peer(&pair.b, &format!("allowed-ips {}/32,{}/128", pair.b.inner4(), pair.b.inner6()));
        pair.b.set_peer(&pair.a, &format!("allowed-ips {}/32,{}/128", pair.a.inner4(), pair.a.inner6()));
        pair
    }

    /// Tells `a` where `b` is; `b` will learn where `a` is.
    ///
    /// # Panics
    /// If `wg` refuses.
    #[track_caller]
    pub fn a_knows_b(&self, outer: Outer) {
        self.a.set_peer(&self.b, &format!("endpoint {}", self.b.endpoint(outer)));
    }

    /// Tells `b` where `a` is; `a` will learn where `b` is.
    ///
    /// # Panics
    /// If `wg` refuses.
    #[track_caller]
    pub fn b_knows_a(&self, outer: Outer) {
        self.b.set_peer(&self.a, &format!("endpoint {}", self.a.endpoint(outer)));
    }

    /// Sets the MTU of both tunnels, and of the cable to what they need.
    ///
    /// # Panics
    /// If `ip` refuses.
    #[track_caller]
    pub fn set_mtu(&self, mtu: u32) {
        for side in [&self.a, &self.b] {
            side.ns.ip(&format!("link set {CABLE} mtu {}", (mtu + 80).clamp(1500, 65_535)));
            side.ns.ip(&format!("link set {} mtu {mtu}", side.interface()));
        }
    }
}
