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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn checks_have_names_of_their_own_and_say_why() {
        let names: BTreeSet<&str> = all().map(|check| check.name).collect();
        assert_eq!(names.len(), all().count());
        for check in all() {
            assert!(check.name.split('/').count() == 2 && !check.name.contains(' '), "{}", check.name);
            assert!(!check.why.is_empty() && !check.why.contains('\n'), "{}", check.name);
        }
    }
}
