//! Under load (WireGuard whitepaper §5.3): floods of initiations, cookies, and the Linux kernel on the other end.
//!
//! These tests use up the machine, so they have a process of their own and run one after the other.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::common::{adit, link::kernel_link};
use lab::flood::{Flood, Stutter};
use lab::{seconds, within};

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn kernel_under_load_asks_for_cookies() {
    let link = kernel_link!(1);
    let _alone = alone();
    let target = SocketAddr::from(([10, 88, 0, 2], link.kernel_port()));
    let flood = Flood::start(&adit(), &link.vm.ns, target, &link.kernel.public, 4_000);
    assert!(within(seconds(50), || flood.cookies() > 100), "the kernel was never under load");
    let before = flood.cookies();
    link.meet();
    let reached = link.vm.ns.reaches(&link.inner(2), seconds(30));
    assert!(reached, "no handshake with a cookie\n{}", link.engine.log());
    assert!(flood.cookies() > before, "the load was over before the handshake");
}

/// boringtun issue 294: under load, making the first cookie reply was the end of it.
///
/// A flood alone does not bring a fast processor under load: an initiation of a stranger costs it some microseconds. So
/// the engine is held up again and again, and finds more of them waiting than it takes at once.
#[test]
fn adit_under_load_asks_for_cookies() {
    let link = kernel_link!(2);
    let _alone = alone();
    // From inside the namespace, where packets come far faster than through the virtual network card.
    let target = SocketAddr::from(([10, 88, 0, 1], link.engine_port()));
    let flood = Flood::start(&adit(), &link.vm.ns, target, &link.keys.public, 40_000);
    let _stutter = Stutter::start(&link.engine);
    assert!(within(seconds(50), || flood.cookies() > 100), "never under load\n{}", link.engine.log());
    let before = flood.cookies();
    link.kernel_set(&format!("endpoint {target}"));
    let reached = within(seconds(30), || link.vm.run(&format!("ping -c 1 -W 1 {}", link.inner(1))).0 == 0);
    assert!(reached, "the kernel's cookie was not accepted\n{}", link.engine.log());
    assert!(flood.cookies() > before, "the load was over before the handshake");
}
