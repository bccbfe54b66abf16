//! What a service manager is told that waits for it (sd_notify(3)). Without one, all of this is nothing.

use std::process::Command;

use sd_notify::NotifyState;

pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// It works from here on, and this is its state.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It takes up a changed configuration, and will be ready again.
pub(crate) fn reloading() {
    // Newer managers want the time, to tell several reloads apart.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It is about to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Nobody but this process speaks for the service.
pub(crate) fn keep_from(command: &mut Command) -> &mut Command {
    command.env_remove(NOTIFY_SOCKET)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told: {error}");
    }
}
