//! The checks, by what they are about. A group's file starts with its list.

mod config;
mod cookies;
mod daemon;
mod data;
mod handshake;
mod messages;
mod roaming;
mod routing;
mod timers;
mod uapi;

use crate::check::Check;

/// All of them; those that wait the longest first within their group, as they run side by side.
pub fn all() -> impl Iterator<Item = Check> {
    let groups: &[&[Check]] = &[
        timers::CHECKS,
        handshake::CHECKS,
        messages::CHECKS,
        data::CHECKS,
        routing::CHECKS,
        roaming::CHECKS,
        cookies::CHECKS,
        config::CHECKS,
        uapi::CHECKS,
        daemon::CHECKS,
    ];
    groups.iter().copied().flatten().copied()
}
