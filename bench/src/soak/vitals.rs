//! What processes hold and consume, by `/proc` (proc_pid_status(5), proc_pid_smaps(5)).

use std::fs;
use std::time::{Duration, Instant};

use adit_net::child::cpu_time;

use crate::peers::usage::Switches;

/// Of one process, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Memory in use, in KiB.
    pub rss: u64,
    /// Of that, what no file backs.
    pub anonymous: u64,
    /// Its share of memory in use, in KiB, where pages that others use too count in part.
    pub pss: u64,
    /// Open descriptors.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
    /// Processor time since the last sample, in milliseconds.
    pub cpu: u64,
    /// Context switches since the last sample.
    pub switches: u64,
}

/// All processes at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Since the start.
    pub at: Duration,
    /// One entry for each process.
    pub held: Vec<Held>,
}

impl Sample {
    /// Takes over what is less in `other`.
    pub fn lessen(&mut self, other: &Sample) {
        for (least, held) in self.held.iter_mut().zip(&other.held) {
            least.rss = least.rss.min(held.rss);
            least.anonymous = least.anonymous.min(held.anonymous);
            least.pss = least.pss.min(held.pss);
            least.fds = least.fds.min(held.fds);
            least.threads = least.threads.min(held.threads);
        }
    }
}

/// Watches processes.
pub struct Vitals {
    processes: Vec<Process>,
}

struct Process {
    pid: u32,
    cpu: Duration,
    switches: Switches,
}

impl Vitals {
    /// Of these processes.
    pub fn new(pids: Vec<u32>) -> Vitals {
        let process = |pid| Process { pid, cpu: Duration::ZERO, switches: Switches::default() };
        Vitals { processes: pids.into_iter().map(process).collect() }
    }

    /// What they hold now.
    ///
    /// # Errors
    /// When one has ended.
    pub fn sample(&mut self, start: Instant) -> Result<Sample, String> {
        let held = self.processes.iter_mut().map(Process::held).collect::<Result<_, _>>()?;
        Ok(Sample { at: start.elapsed(), held })
    }
}

impl Process {
    fn held(&mut self) -> Result<Held, String> {
        let pid = self.pid;
        let gone = |error| format!("an engine has ended: process {pid}: {error}");
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(gone);
        let status = read("status")?;
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).map_err(gone)?.count() as u64;
        let (cpu, switches) = (cpu_time(pid).map_err(gone)?, Switches::of(pid)?);
        let held = Held {
            rss: field(&status, "VmRSS:"),
            anonymous: field(&status, "RssAnon:"),
            pss: field(&read("smaps_rollup")?, "Pss:"),
            fds,
            threads: field(&status, "Threads:"),
            cpu: u64::try_from((cpu.saturating_sub(self.cpu)).as_millis()).unwrap_or(u64::MAX),
            switches: switches.since(&self.switches),
        };
        (self.cpu, self.switches) = (cpu, switches);
        Ok(held)
    }
}

/// The number after `name`; a process without it, as one that has just ended, holds nothing.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() {
        let mut vitals = Vitals::new(vec![std::process::id()]);
        let held = vitals.sample(Instant::now()).unwrap().held[0];
        assert!(held.rss >= held.anonymous && held.anonymous > 0 && held.pss > 0, "{held:?}");
        assert!(held.fds >= 3 && held.threads >= 1, "{held:?}");
        assert!(Vitals::new(vec![u32::MAX]).sample(Instant::now()).unwrap_err().contains("has ended"));
    }

    #[test]
    fn numbers_by_their_names() {
        let text = "VmRSS:\t  120 kB\nThreads:\t4\n";
        assert_eq!((field(text, "VmRSS:"), field(text, "Threads:"), field(text, "Pss:")), (120, 4, 0));
    }
}
