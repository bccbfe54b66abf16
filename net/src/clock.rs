//! The two clocks of WireGuard: one for its timers, one for its timestamps (whitepaper §6.1, §5.1).

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Nanoseconds since boot, with the time spent suspended: `CLOCK_BOOTTIME`.
///
/// A laptop that slept for an hour thus finds its keys expired and rekeys at once, instead of sending on keys that the
/// other side dropped long ago.
pub fn boottime_ns() -> u64 {
    let (seconds, nanos) = read(ClockId::CLOCK_BOOTTIME);
    seconds * NANOS_PER_SEC + u64::from(nanos)
}

/// How long the machine has been suspended since it was booted, to within the time between two system calls.
pub fn suspended() -> Duration {
    let monotonic = read(ClockId::CLOCK_MONOTONIC);
    let running = monotonic.0 * NANOS_PER_SEC + u64::from(monotonic.1);
    Duration::from_nanos(boottime_ns().saturating_sub(running))
}

/// Seconds and nanoseconds since 1970 UTC: `CLOCK_REALTIME`, which the administrator may set back.
pub fn realtime() -> (u64, u32) {
    read(ClockId::CLOCK_REALTIME)
}

fn read(clock: ClockId) -> (u64, u32) {
    // Linux has had both clocks since 2.6.39 and fails only for clocks that it does not have.
    let now = clock_gettime(clock).expect("the kernel has this clock");
    // A wall clock before 1970 is as good as one that stands at 1970.
    (u64::try_from(now.tv_sec()).unwrap_or(0), u32::try_from(now.tv_nsec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boottime_advances_with_real_time() {
        let before = boottime_ns();
        std::thread::sleep(std::time::Duration::from_millis(5));
        let elapsed = boottime_ns() - before;
        assert!((5_000_000..5_000_000_000).contains(&elapsed), "{elapsed} ns");
    }

    #[test]
    fn realtime_is_std_system_time() {
        let std = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let (seconds, nanos) = realtime();
        assert!(seconds.abs_diff(std) <= 1 && nanos < 1_000_000_000);
    }
}
