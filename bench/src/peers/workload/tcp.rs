//! TCP streams through the tunnel, by iperf3.

use std::fs;
use std::time::Duration;

use lab::Netns;

use crate::peers::contender::Contender;
use crate::peers::sample::{Outcome, Sample, figures};
use crate::peers::topology::{Tunnel, inner};
use crate::peers::usage::Meter;

/// Where streams go, and how many.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// iperf3's arguments beside the duration.
    arguments: &'static str,
    /// Whether they go from the far end to the near one.
    is_reverse: bool,
}

/// One stream.
pub const ONE: Shape = Shape { arguments: "", is_reverse: false };
/// One stream from the far end to the near one.
pub const REVERSE: Shape = Shape { arguments: "-R", is_reverse: true };
/// Four streams.
pub const FOUR: Shape = Shape { arguments: "-P 4", is_reverse: false };

/// One round.
///
/// # Errors
/// When the tunnel does not work, or an engine does not survive.
pub fn stream(contender: &Contender, duration: Duration, shape: Shape) -> Outcome {
    let tunnel = Tunnel::new(contender)?;
    let receiver = if shape.is_reverse { &tunnel.site.a } else { &tunnel.site.b };
    let address = inner(2).to_string();
    let _server = tunnel.site.b.iperf_server(&address);
    let out_of_order = out_of_order(receiver)?;
    let meter = Meter::start(&tunnel)?;
    let arguments = format!("-t {} {}", duration.as_secs(), shape.arguments);
    let measured = tunnel.site.a.try_iperf(&address, &arguments)?;

    let mut sample = Sample::of(figures::GIGABITS, measured.bits_per_second / 1e9);
    sample.put(figures::RETRANSMITS, measured.retransmits as f64);
    sample.put(figures::OUT_OF_ORDER, (self::out_of_order(receiver)? - out_of_order) as f64);
    meter.finish(measured.bytes, &mut sample)?;
    Ok(sample)
}

/// Segments that TCP in `ns` has received out of order so far.
fn out_of_order(ns: &Netns) -> Result<u64, String> {
    ns.enter(|| fs::read_to_string("/proc/thread-self/net/netstat"))
        .ok()
        .and_then(|text| counter(&text, "TcpExt:", "TCPOFOQueue"))
        .ok_or_else(|| "the kernel does not count segments out of order (TcpExt: TCPOFOQueue)".to_owned())
}

/// A counter of `/proc/net/netstat`: for each group a line of names and a line of values.
fn counter(netstat: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(n, _)| *n == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_by_group_and_name() {
        let text = "TcpExt: SyncookiesSent TCPOFOQueue X\nTcpExt: 1 42 3\nIpExt: TCPOFOQueue\nIpExt: 7\n";
        assert_eq!(counter(text, "TcpExt:", "TCPOFOQueue"), Some(42));
        assert_eq!(counter(text, "IpExt:", "TCPOFOQueue"), Some(7));
        assert_eq!(counter(text, "TcpExt:", "TCPOFO"), None);
        assert_eq!(counter("TcpExt: A\n", "TcpExt:", "A"), None);
    }
}
