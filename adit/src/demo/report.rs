//! What came out, for people and for programs.

use std::thread;
use std::time::Duration;

use adit_control::Get;
use adit_control::show::{Style, show};
use adit_net::clock;
use serde_json::json;

use super::error::Stop;
use super::screen::Screen;
use super::site::INTERFACE;
use super::transfer::Transfer;

/// Shown by `adit demo --help`.
pub(super) const JSON_KEYS: &str = "\
Keys of the JSON object; arrays are of peer A, who starts the handshake, and peer B:
  version                      of this program
  user_namespace               true if it ran without privileges, in a user namespace
  processors                   that both engines and both ends of TCP share
  handshake_ms                 from A's first packet to A's session
  pings_sent, pings_answered   through the tunnel, after the handshake
  rtt_min_ms, rtt_avg_ms, rtt_max_ms
  tcp_gbit_per_s               payload of one connection from A to B
  tcp_reverse_gbit_per_s       payload of one connection from B to A
  tcp_bytes                    payload of both connections
  cpu_seconds                  of each engine for both connections
  cpu_seconds_per_gigabyte     of both engines together, for 10^9 bytes of payload
  peak_memory_bytes            of each engine, resident
  wg_show                      A's state, as wg show prints it";

/// The pings after the handshake.
#[derive(Debug)]
pub(super) struct Pings {
    pub(super) sent: usize,
    /// The round trips of those that were answered, at least one.
    pub(super) answers: Vec<Duration>,
}

impl Pings {
    fn min(&self) -> Duration {
        self.answers.iter().copied().min().unwrap_or_default()
    }

    fn max(&self) -> Duration {
        self.answers.iter().copied().max().unwrap_or_default()
    }

    fn average(&self) -> Duration {
        self.answers.iter().sum::<Duration>() / u32::try_from(self.answers.len().max(1)).unwrap_or(u32::MAX)
    }
}

/// The results of a demonstration. Arrays are of A and B.
pub(super) struct Report {
    /// In a user namespace, without privileges.
    pub(super) as_user: bool,
    /// From A's first packet to A's session.
    pub(super) handshake: Duration,
    pub(super) pings: Pings,
    /// From A to B.
    pub(super) forward: Transfer,
    /// From B to A.
    pub(super) backward: Transfer,
    /// Processor time of the engines during both transfers.
    pub(super) cpu: [Duration; 2],
    /// Bytes.
    pub(super) peak_memory: [u64; 2],
    /// What A says about itself.
    pub(super) state: Get,
}

impl Report {
    /// For people.
    pub(super) fn print(&self, screen: &mut Screen) -> Result<(), Stop> {
        let pings = &self.pings;
        let [a, b] = self.peak_memory.map(|bytes| bytes as f64 / 1e6);
        let lines = [
            ("Handshake", format!("{} from the first packet to the session", millis(self.handshake))),
            (
                "Round trip",
                format!(
                    "{} on average of {} pings, {} at best",
                    millis(pings.average()),
                    pings.sent,
                    millis(pings.min())
                ),
            ),
            (
                "TCP",
                format!(
                    "{:.2} Gb/s from A to B, {:.2} Gb/s from B to A: payload of one connection",
                    self.forward.gbit_per_s(),
                    self.backward.gbit_per_s()
                ),
            ),
            (
                "CPU",
                format!(
                    "{:.2} s per gigabyte in both engines together, on {} processors that they share with TCP",
                    self.cpu_per_gigabyte(),
                    processors()
                ),
            ),
            ("Memory", format!("{a:.1} MB and {b:.1} MB at the engines' peaks")),
        ];
        screen.print(format_args!(""))?;
        for (label, text) in lines {
            let label = screen.label(label);
            screen.print(format_args!("{label}{text}"))?;
        }
        screen.print(format_args!("\n{}", self.wg_show(screen.color).trim_end()))
    }

    /// For programs: the keys are [`JSON_KEYS`].
    pub(super) fn json(&self) -> String {
        let pings = &self.pings;
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "user_namespace": self.as_user,
            "processors": processors(),
            "handshake_ms": millis(self.handshake),
            "pings_sent": pings.sent,
            "pings_answered": pings.answers.len(),
            "rtt_min_ms": millis(pings.min()),
            "rtt_avg_ms": millis(pings.average()),
            "rtt_max_ms": millis(pings.max()),
            "tcp_gbit_per_s": thousandths(self.forward.gbit_per_s()),
            "tcp_reverse_gbit_per_s": thousandths(self.backward.gbit_per_s()),
            "tcp_bytes": self.tcp_bytes(),
            "cpu_seconds": self.cpu.map(|cpu| cpu.as_secs_f64()),
            "cpu_seconds_per_gigabyte": thousandths(self.cpu_per_gigabyte()),
            "peak_memory_bytes": self.peak_memory,
            "wg_show": self.wg_show(false),
        })
        .to_string()
    }

    fn tcp_bytes(&self) -> u64 {
        self.forward.bytes + self.backward.bytes
    }

    fn cpu_per_gigabyte(&self) -> f64 {
        self.cpu.iter().sum::<Duration>().as_secs_f64() / (self.tcp_bytes() as f64 / 1e9)
    }

    fn wg_show(&self, color: bool) -> String {
        let (now, _) = clock::realtime();
        let page = show(INTERFACE, &self.state, now, Style { color, show_keys: false }, |_| None);
        String::from_utf8_lossy(&page).into_owned()
    }
}

/// A duration in milliseconds, to three digits that count.
pub(super) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    let decimals = match millis {
        ..1.0 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{millis:.decimals$} ms")
}

/// Rounded: what is measured here has no more digits that mean anything.
fn thousandths(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_digits() {
        for (micros, text) in [
            (87, "0.087 ms"),
            (456, "0.456 ms"),
            (1_500, "1.50 ms"),
            (23_456, "23.5 ms"),
            (1_234_567, "1235 ms"),
        ] {
            assert_eq!(millis(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn every_key_is_documented() {
        let transfer = Transfer { bytes: 5_000_000_000, elapsed: Duration::from_secs(8) };
        let report = Report {
            as_user: true,
            handshake: Duration::from_micros(700),
            pings: Pings { sent: 3, answers: vec![Duration::from_millis(1), Duration::from_millis(3)] },
            forward: transfer,
            backward: transfer,
            cpu: [Duration::from_secs(6), Duration::from_secs(4)],
            peak_memory: [1, 2],
            state: Get::default(),
        };
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        for key in json.as_object().unwrap().keys() {
            assert!(JSON_KEYS.split([' ', ',', '\n']).any(|word| word == key), "{key}");
        }
        assert_eq!(json["rtt_avg_ms"], 2.0);
        assert_eq!(json["tcp_gbit_per_s"], 5.0);
        assert_eq!(json["cpu_seconds_per_gigabyte"], 1.0);
    }
}
