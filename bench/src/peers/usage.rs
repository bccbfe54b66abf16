//! What an engine consumes: processor time, memory, context switches (`proc_pid_stat(5)`, `proc_pid_status(5)`).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use adit_net::child::{cpu_time, peak_memory};

use super::sample::{Sample, figures};
use super::topology::Tunnel;

/// Bytes in the gigabyte that processor time is counted for.
const GIGABYTE: f64 = 1e9;

/// Watches both engines of a tunnel from now on.
pub struct Meter<'a> {
    tunnel: &'a Tunnel,
    start: [Duration; 2],
}

impl<'a> Meter<'a> {
    /// Starts.
    ///
    /// # Errors
    /// When an engine is gone.
    pub fn start(tunnel: &'a Tunnel) -> Result<Meter<'a>, String> {
        Ok(Meter { tunnel, start: [cpu(tunnel.near.pid())?, cpu(tunnel.far.pid())?] })
    }

    /// Adds what the engines consumed to carry `bytes` of payload, from the near one to the far one.
    ///
    /// # Errors
    /// When an engine is gone, as one that crashed is.
    pub fn finish(self, bytes: u64, sample: &mut Sample) -> Result<(), String> {
        let stations = [&self.tunnel.near, &self.tunnel.far];
        let cpu_figures = [figures::NEAR_CPU, figures::FAR_CPU];
        for ((station, start), figure) in stations.iter().zip(self.start).zip(cpu_figures) {
            let used = cpu(station.pid())?.saturating_sub(start);
            if bytes > 0 {
                sample.put(figure, used.as_secs_f64() / (bytes as f64 / GIGABYTE));
            }
        }
        for (station, figure) in stations.iter().zip([figures::NEAR_MEMORY, figures::FAR_MEMORY]) {
            let peak = peak_memory(station.pid()).map_err(gone)?;
            sample.put(figure, peak as f64 / f64::from(1 << 20));
        }
        Ok(())
    }
}

fn cpu(pid: u32) -> Result<Duration, String> {
    cpu_time(pid).map_err(gone)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn gone(error: io::Error) -> String {
    format!("the engine is gone: {error}")
}

/// The context switches of a process, thread by thread: each is a time that it was woken up or interrupted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Switches(HashMap<String, u64>);

impl Switches {
    /// So far.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> Result<Switches, String> {
        let mut switches = Switches::default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)?.flatten() {
            // A thread may end in between.
            if let Ok(status) = fs::read_to_string(task.path().join("status")) {
                switches.0.insert(task.file_name().to_string_lossy().into_owned(), count_switches(&status));
            }
        }
        Ok(switches)
    }

    /// How many there were since `earlier`. Threads that started since count in full, those that ended not at all.
    #[must_use]
    pub fn since(&self, earlier: &Switches) -> u64 {
        let before = |thread: &String| earlier.0.get(thread).copied().unwrap_or(0);
        self.0.iter().map(|(thread, count)| count.saturating_sub(before(thread))).sum()
    }
}

/// Voluntary and involuntary ones.
fn count_switches(status: &str) -> u64 {
    let values = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
    values.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_of_both_kinds_count() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(count_switches(status), 42);
        assert_eq!(count_switches("Name:\tx\n"), 0);
    }

    #[test]
    fn threads_come_and_go() {
        let switches =
            |pairs: &[(&str, u64)]| Switches(pairs.iter().map(|&(t, n)| (t.to_owned(), n)).collect());
        let earlier = switches(&[("1", 10), ("2", 100)]);
        let later = switches(&[("1", 13), ("3", 5)]);
        assert_eq!(later.since(&earlier), 8);
    }

    #[test]
    fn sleeping_is_a_switch() {
        let pid = std::process::id();
        let before = Switches::of(pid).unwrap();
        (0..5).for_each(|_| std::thread::sleep(Duration::from_millis(1)));
        assert!(Switches::of(pid).unwrap().since(&before) >= 5);
        assert!(Switches::of(u32::MAX).is_err());
    }
}
