//! One round: calm, then a flood, and what both let through.

use std::time::{Duration, Instant};

use adit_net::child::{cpu_time, peak_memory};
use lab::barrage::{Barrage, Kind};
use lab::{Netns, seconds, within};

use super::scene::{Scene, inner};

/// How long a newcomer is waited for: some retransmissions.
const PATIENCE: Duration = seconds(35);
/// The time between two pings.
const PING_SECONDS: f64 = 0.05;
/// After a flood, until nothing of it waits any more and TCP has recovered.
const RECOVERY: Duration = seconds(2);

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// What the peer transferred, 10^9 bits a second, while nobody attacked.
    pub calm: f64,
    /// The same during the flood.
    pub flooded: f64,
    /// Datagrams of the flood.
    pub sent: u64,
    /// Thousand of them a second.
    pub rate: f64,
    /// Pings of the peer through the tunnel without an answer in a second, percent.
    pub pings_lost: f64,
    /// Seconds until the newcomer had a session, if it had one.
    pub newcomer: Option<f64>,
    /// Processors that the engine used.
    pub processors: f64,
    /// What the engine's resident set peaked at above what it was before the flood, 2^20 bytes.
    pub growth: f64,
    /// Packets that went back to the flooder.
    pub answers: u64,
    /// Datagrams that the kernel dropped, for the sockets' buffers were full.
    pub overflows: u64,
    /// Lines that the engine logged.
    pub lines: u64,
}

/// A round of `kind`: at least `count` datagrams, and for at least `duration`.
///
/// # Errors
/// When the engine does not survive, or somebody does not start.
pub fn run(scene: &Scene, kind: Kind, count: u64, duration: Duration) -> Result<Round, String> {
    let ammunition = kind.ammunition(&scene.known);
    let newcomer = scene.newcomer()?;
    let _server = scene.target.ns.iperf_server(&inner(1).to_string());
    let length = 3 * duration + PATIENCE + seconds(10);
    let line = format!("iperf3 -c {} -t {}", inner(1), length.as_secs());
    let _client = scene.peer.ns.spawn(&line);
    std::thread::sleep(RECOVERY);

    let calm = throughput(scene, duration);
    let before = Account::of(scene)?;
    let start = Instant::now();
    let barrage = Barrage::start(&scene.flooder, ammunition, u64::MAX);
    let mut round = std::thread::scope(|scope| {
        let pings = scope.spawn(|| pings_lost(&scene.peer.ns, duration));
        let arrival = scope.spawn(|| -> Result<Option<f64>, String> {
            // Not at the very beginning: a flood needs a moment to fill what it fills.
            std::thread::sleep(seconds(1));
            let began = Instant::now();
            newcomer.greet()?;
            let has_met = within(PATIENCE, || newcomer.station.has_met());
            Ok(has_met.then(|| began.elapsed().as_secs_f64()))
        });
        let flooded = throughput(scene, duration);
        within(PATIENCE, || barrage.sent() >= count);
        let pings_lost = pings.join().map_err(|_| "the pings failed")?;
        let newcomer = arrival.join().map_err(|_| "the newcomer failed")??;
        Ok::<_, String>(Round { calm, flooded, pings_lost, newcomer, ..Round::default() })
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    round.sent = barrage.sent();
    drop(barrage);
    let after = Account::of(scene)?;
    round.rate = round.sent as f64 / elapsed / 1e3;
    round.processors = (after.cpu - before.cpu).as_secs_f64() / elapsed;
    round.growth = (after.peak - before.peak) as f64 / f64::from(1 << 20);
    round.answers = after.answers - before.answers;
    round.overflows = after.overflows - before.overflows;
    round.lines = after.lines - before.lines;
    Ok(round)
}

/// What the peer's transfer brings in, 10^9 bits a second.
fn throughput(scene: &Scene, duration: Duration) -> f64 {
    let (start, before) = (Instant::now(), scene.received());
    std::thread::sleep(duration);
    (scene.received() - before) as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9
}

/// Percent.
fn pings_lost(ns: &Netns, duration: Duration) -> f64 {
    let count = (duration.as_secs_f64() / PING_SECONDS) as usize;
    let line = format!("ping -n -W 1 -c {count} -i {PING_SECONDS} {}", inner(1));
    let printed = ns.cmd(&line).limit(duration + seconds(20)).run().stdout;
    let answered = printed.lines().filter(|line| line.contains(" time=")).count();
    100.0 * (count - answered.min(count)) as f64 / count as f64
}

/// What is counted from the beginning of a flood to its end.
struct Account {
    cpu: Duration,
    peak: u64,
    answers: u64,
    overflows: u64,
    lines: u64,
}

impl Account {
    fn of(scene: &Scene) -> Result<Account, String> {
        let pid = scene.target.engine.pid();
        let gone = |error| format!("the engine is gone: {error}\n{}", scene.target.engine.log());
        Ok(Account {
            cpu: cpu_time(pid).map_err(gone)?,
            peak: peak_memory(pid).map_err(gone)?,
            answers: scene.answers(),
            overflows: scene.overflows(),
            lines: scene.target.engine.log().lines().count() as u64,
        })
    }
}
