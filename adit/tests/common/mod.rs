//! What the integration tests share: the program under test and its peers.

#![allow(dead_code, reason = "each test file uses a part of this")]

pub mod link;
pub mod machine;
pub mod stranger;
pub mod traffic;

use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lab::{Program, Vm};

/// The fields that `wg show` prints alone.
pub const FIELDS: [&str; 12] = [
    "public-key",
    "private-key",
    "listen-port",
    "fwmark",
    "peers",
    "preshared-keys",
    "endpoints",
    "allowed-ips",
    "latest-handshakes",
    "transfer",
    "persistent-keepalive",
    "dump",
];

/// The daemon under test. `LAB_PROGRAM` names another one, to see what it makes of the same tests.
pub fn adit() -> Program {
    Program::new(env::var("LAB_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_adit").into()))
}

/// The virtual machine without an interface of the kernel's WireGuard, and nobody else who makes one while this is held.
pub fn vm_alone(vm: &Vm) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    vm.ok("for wg in $(wg show interfaces); do ip link del $wg; done; rm -rf /ours");
    turn
}

/// For each function `f(peer: &Program)`, a test against adit itself and one against wireguard-go.
#[allow(unused_macros, reason = "not every test file has peers")]
macro_rules! against_each_peer {
    ($($(#[$attribute:meta])* $check:ident),* $(,)?) => { $(
        mod $check {
            #[test]
            $(#[$attribute])*
            fn with_adit() {
                lab::needs!("netns", "tun", "wg", "ping", "iperf3", "tcpdump");
                super::$check(&crate::common::adit());
            }

            #[test]
            $(#[$attribute])*
            fn with_wireguard_go() {
                lab::needs!("netns", "tun", "wg", "ping", "iperf3", "tcpdump", "wireguard-go");
                super::$check(&lab::Program::wireguard_go());
            }
        }
    )* };
}
#[allow(unused_imports, reason = "not every test file has peers")]
pub(crate) use against_each_peer;
