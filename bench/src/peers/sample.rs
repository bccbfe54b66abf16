//! Figures: what a workload finds out about a contender in one round, and the rounds together.

use crate::stats::Summary;

use super::contender::{Contender, Role};
use super::workload::Workload;

/// A kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name in the JSON.
    pub key: &'static str,
    /// Its name in the tables, with the unit.
    pub title: &'static str,
    /// Decimal places worth showing.
    pub digits: usize,
}

/// Every figure there is.
pub mod figures {
    use super::Figure;

    const fn figure(key: &'static str, title: &'static str, digits: usize) -> Figure {
        Figure { key, title, digits }
    }

    /// Payload, 10^9 bits a second at the receiver.
    pub const GIGABITS: Figure = figure("gigabits_per_second", "Gb/s", 2);
    /// Thousand datagrams a second at the receiver.
    pub const PACKETS: Figure = figure("kilopackets_per_second", "kpkt/s", 0);
    /// Thousand datagrams a second that the sender offered.
    pub const OFFERED: Figure = figure("offered_kilopackets_per_second", "offered", 0);
    /// Datagrams that never arrived, percent of those sent.
    pub const LOST: Figure = figure("lost_percent", "lost %", 1);
    /// The same of what one peer sent.
    pub const ONE_LOST: Figure = figure("one_peer_lost_percent", "1 peer", 1);
    /// Packets that arrived after one that was sent later.
    pub const REORDERED: Figure = figure("reordered", "reordered", 0);
    /// Datagrams that arrived again.
    pub const DUPLICATES: Figure = figure("duplicates", "twice", 0);
    /// TCP segments that the receiver's kernel found out of order (`TcpExtTCPOFOQueue`).
    pub const OUT_OF_ORDER: Figure = figure("tcp_out_of_order", "out of order", 0);
    /// TCP segments sent again.
    pub const RETRANSMITS: Figure = figure("retransmits", "retransmits", 0);
    /// Processor time of the engine in namespace a, seconds for each 10^9 bytes of payload.
    pub const NEAR_CPU: Figure = figure("near_cpu_seconds_per_gigabyte", "CPU s/GB near", 2);
    /// The same of the engine in namespace b.
    pub const FAR_CPU: Figure = figure("far_cpu_seconds_per_gigabyte", "far", 2);
    /// Greatest resident set of the engine in namespace a so far, 2^20 bytes.
    pub const NEAR_MEMORY: Figure = figure("near_peak_mebibytes", "peak MiB near", 1);
    /// The same of the engine in namespace b.
    pub const FAR_MEMORY: Figure = figure("far_peak_mebibytes", "far", 1);
    /// Round trip, milliseconds, the median of one round.
    pub const RTT_MEDIAN: Figure = figure("rtt_median_milliseconds", "RTT ms median", 3);
    /// Its mean.
    pub const RTT_MEAN: Figure = figure("rtt_mean_milliseconds", "mean", 3);
    /// What 95 percent do not exceed.
    pub const RTT_P95: Figure = figure("rtt_p95_milliseconds", "p95", 3);
    /// Pings without an answer.
    pub const PINGS_LOST: Figure = figure("pings_lost", "unanswered", 0);
    /// Round trip before the load, the median.
    pub const IDLE_RTT: Figure = figure("idle_rtt_median_milliseconds", "idle median", 3);
    /// Times that a thread of the engine was switched to.
    pub const SWITCHES: Figure = figure("context_switches", "context switches", 0);
    /// From 1,000 peers to the engine, thousand packets a second that it delivered.
    pub const MANY_IN: Figure = figure("in_1000_peers_kilopackets_per_second", "in, 1000 peers", 0);
    /// The same from one peer.
    pub const ONE_IN: Figure = figure("in_1_peer_kilopackets_per_second", "1 peer", 0);
    /// The first divided by the second.
    pub const RATIO_IN: Figure = figure("in_ratio", "ratio", 2);
    /// From the engine to 1,000 peers, thousand packets a second that it sent.
    pub const MANY_OUT: Figure = figure("out_1000_peers_kilopackets_per_second", "out, 1000 peers", 0);
    /// The same to one peer.
    pub const ONE_OUT: Figure = figure("out_1_peer_kilopackets_per_second", "1 peer", 0);
    /// The first divided by the second.
    pub const RATIO_OUT: Figure = figure("out_ratio", "ratio", 2);
}

/// What one round found out about one contender.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample(Vec<(Figure, f64)>);

impl Sample {
    /// With one figure.
    #[must_use]
    pub fn of(figure: Figure, value: f64) -> Sample {
        Sample(vec![(figure, value)])
    }

    /// Adds a figure.
    pub fn put(&mut self, figure: Figure, value: f64) {
        self.0.push((figure, value));
    }

    /// A figure's value.
    #[must_use]
    pub fn get(&self, figure: Figure) -> Option<f64> {
        self.0.iter().find(|(has, _)| *has == figure).map(|&(_, value)| value)
    }

    /// All figures, in the order in which they were put.
    pub fn iter(&self) -> impl Iterator<Item = (Figure, f64)> {
        self.0.iter().copied()
    }
}

/// A sample, or why there is none.
pub type Outcome = Result<Sample, String>;

/// One contender's rounds.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its part.
    pub role: Role,
    /// Its outcomes, round by round.
    pub rounds: Vec<Outcome>,
}

impl Row {
    /// A figure of every round.
    #[must_use]
    pub fn values(&self, figure: Figure) -> Vec<Option<f64>> {
        self.rounds.iter().map(|round| round.as_ref().ok()?.get(figure)).collect()
    }

    /// A figure over all rounds that have it.
    #[must_use]
    pub fn summary(&self, figure: Figure) -> Option<Summary> {
        Summary::of(&self.values(figure).into_iter().flatten().collect::<Vec<_>>())
    }

    /// Why a round failed, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.rounds.iter().find_map(|round| round.as_ref().err()).map(String::as_str)
    }
}

/// What a workload found out about everybody.
#[derive(Clone, Debug)]
pub struct Results {
    /// The workload.
    pub workload: Workload,
    /// The contenders, in their order.
    pub rows: Vec<Row>,
}

impl Results {
    /// Nothing yet.
    #[must_use]
    pub fn new(workload: Workload, contenders: &[&Contender]) -> Results {
        let row = |contender: &&Contender| Row {
            name: contender.name.clone(),
            role: contender.role,
            rounds: Vec::new(),
        };
        Results { workload, rows: contenders.iter().map(row).collect() }
    }

    /// Adds a round of the contender at `who`.
    pub fn add(&mut self, who: usize, outcome: Outcome) {
        self.rows[who].rounds.push(outcome);
    }

    /// The figures that any round of anybody has, in their order.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let samples = self.rows.iter().flat_map(|row| &row.rounds).flatten();
        for (figure, _) in samples.flat_map(Sample::iter) {
            if !figures.contains(&figure) {
                figures.push(figure);
            }
        }
        figures
    }

    /// The headline figure of `row` as a ratio to that of `other`, round by round.
    #[must_use]
    pub fn ratio(&self, row: &Row, other: &Row) -> Option<Summary> {
        let figure = self.workload.headline();
        Summary::of_ratios(&row.values(figure), &other.values(figure))
    }

    /// The peer with the best median.
    #[must_use]
    pub fn best_peer(&self) -> Option<&Row> {
        let median = |row: &&Row| row.summary(self.workload.headline()).map(|summary| summary.median);
        let peers = self.rows.iter().filter(|row| row.role == Role::Peer && median(row).is_some());
        let by_median = |a: &&Row, b: &&Row| {
            let (a, b) = (median(a).unwrap_or_default(), median(b).unwrap_or_default());
            if self.workload.more_is_better() { a.total_cmp(&b) } else { b.total_cmp(&a) }
        };
        peers.max_by(by_median)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Results of `workload` with these headline figures, round by round; `None` failed.
    pub fn results(workload: Workload, rows: &[(&str, Role, &[Option<f64>])]) -> Results {
        let outcome = |value: &Option<f64>| {
            value.map(|v| Sample::of(workload.headline(), v)).ok_or_else(|| "it broke".to_owned())
        };
        let rows = rows.iter().map(|(name, role, values)| Row {
            name: (*name).to_owned(),
            role: *role,
            rounds: values.iter().map(outcome).collect(),
        });
        Results { workload, rows: rows.collect() }
    }

    #[test]
    fn the_best_peer_is_no_limit_and_has_worked() {
        let rows: [(&str, Role, &[Option<f64>]); 5] = [
            ("adit", Role::Adit, &[Some(9.0)]),
            ("slow", Role::Peer, &[Some(1.0), Some(1.0)]),
            ("fast", Role::Peer, &[Some(2.0), None]),
            ("broken", Role::Peer, &[None]),
            ("copy limit", Role::CopyLimit, &[Some(10.0)]),
        ];
        let tcp = results(Workload::Tcp, &rows);
        assert_eq!(tcp.best_peer().unwrap().name, "fast");
        assert_eq!(tcp.rows[2].failure(), Some("it broke"));
        assert_eq!(tcp.ratio(&tcp.rows[0], &tcp.rows[2]).unwrap().median, 4.5);
        assert_eq!(results(Workload::Ping, &rows).best_peer().unwrap().name, "slow");
        assert!(results(Workload::Tcp, &rows[..1]).best_peer().is_none());
    }
}
