//! Instruments: ping, iperf3, tcpdump.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cmd::{Background, Output};
use crate::netns::Netns;
use crate::{seconds, within};

impl Netns {
    /// `ping ARGS`; an answer is waited for one second.
    ///
    /// # Panics
    /// If ping does not end within 20 seconds.
    #[track_caller]
    pub fn ping(&self, args: &str) -> Output {
        self.run(&format!("ping -n -W 1 {args}"))
    }

    /// Whether `address` answers one ping of a series, within `limit`.
    #[must_use]
    pub fn reaches(&self, address: &str, limit: Duration) -> bool {
        within(limit, || self.ping(&format!("-c 1 {address}")).success())
    }

    /// Starts an iperf3 server for one test on `address`.
    ///
    /// # Panics
    /// If it is not listening within half a minute.
    #[track_caller]
    #[must_use]
    pub fn iperf_server(&self, address: &str) -> Background {
        let server = self.spawn(&format!("iperf3 -s -1 --forceflush -B {address}"));
        server.expect_log("Server listening", seconds(30));
        server
    }

    /// Runs an iperf3 client against a server that is listening; `args` as of iperf3 (`-t 2`, `-R`, `-u -b 100M`).
    ///
    /// # Panics
    /// If iperf3 fails.
    #[track_caller]
    pub fn iperf(&self, address: &str, args: &str) -> Throughput {
        self.try_iperf(address, args).unwrap_or_else(|error| panic!("iperf3 -c {address} {args}: {error}"))
    }

    /// Like [`Netns::iperf`], for those who go on without.
    ///
    /// # Errors
    /// What iperf3 says.
    ///
    /// # Panics
    /// If it does not end within 60 seconds.
    #[track_caller]
    pub fn try_iperf(&self, address: &str, args: &str) -> Result<Throughput, String> {
        let output = self.cmd(&format!("iperf3 -J -c {address} {args}")).limit(seconds(60)).run();
        let report: Value = serde_json::from_str(&output.stdout).map_err(|_| output.text())?;
        match &report["error"] {
            Value::Null => Ok(Throughput::of(&report["end"])),
            error => Err(error.as_str().unwrap_or_default().to_owned()),
        }
    }
}

/// What iperf3 measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Bits per second at the receiver.
    pub bits_per_second: f64,
    /// Bytes that reached the receiver.
    pub bytes: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// UDP datagrams lost, of those sent, in percent.
    pub lost_percent: f64,
    /// UDP datagrams that an earlier sent one arrived after.
    pub out_of_order: u64,
}

impl Throughput {
    fn of(end: &Value) -> Throughput {
        // TCP reports both ends; UDP one sum that counts what was lost.
        let sum = if end["sum_received"].is_null() { &end["sum"] } else { &end["sum_received"] };
        Throughput {
            bits_per_second: sum["bits_per_second"].as_f64().unwrap_or(0.0),
            bytes: sum["bytes"].as_u64().unwrap_or(0),
            retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
            lost_percent: end["sum"]["lost_percent"].as_f64().unwrap_or(0.0),
            out_of_order: end["streams"][0]["udp"]["out_of_order"].as_u64().unwrap_or(0),
        }
    }
}

/// A tcpdump that is recording.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Background,
    file: PathBuf,
}

impl Capture {
    /// Records what passes `interface` of `ns` and matches `filter`, to a temporary file named after `name`.
    ///
    /// # Panics
    /// If tcpdump is not recording within half a minute.
    #[track_caller]
    #[must_use]
    pub fn start(ns: &Netns, interface: &str, name: &str, filter: &str) -> Capture {
        let file = std::env::temp_dir().join(format!("{}-{name}.pcap", ns.name()));
        // -Z root: tcpdump would give up root and then lack the permission to write the file.
        let line =
            format!("tcpdump -n -U -Z root --immediate-mode -i {interface} -w {} {filter}", file.display());
        let tcpdump = ns.spawn(&line);
        tcpdump.expect_log("listening on", seconds(30));
        Capture { tcpdump, file }
    }

    /// Stops recording; the file stays until the capture is dropped.
    ///
    /// # Panics
    /// If tcpdump does not end within half a minute.
    #[track_caller]
    pub fn stop(&mut self) -> &Path {
        self.tcpdump.signal(Signal::SIGINT);
        assert!(self.tcpdump.wait(seconds(30)).is_some(), "tcpdump does not end");
        &self.file
    }

    /// Stops recording and returns a line of text for each packet, as `tcpdump -v` prints it.
    ///
    /// # Panics
    /// If tcpdump fails.
    #[track_caller]
    pub fn read(&mut self, args: &str) -> String {
        let file = self.stop().display().to_string();
        crate::Cmd::new(&format!("tcpdump -n -r {file} {args}")).ok()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_iperf3_reports() {
        let tcp = serde_json::json!({
            "sum_sent": { "retransmits": 3 },
            "sum_received": { "bits_per_second": 8e9, "bytes": 1000 },
        });
        let read = Throughput::of(&tcp);
        assert_eq!((read.bytes, read.retransmits), (1000, 3));
        let udp = serde_json::json!({ "sum": { "bits_per_second": 8e6, "bytes": 10, "lost_percent": 2.5 } });
        assert!((Throughput::of(&udp).lost_percent - 2.5).abs() < f64::EPSILON);
    }
}
