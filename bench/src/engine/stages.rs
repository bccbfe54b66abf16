//! The stages of a packet's way, one after the other on one core.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use adit_device::halves::{self, Receiving, Sending, Stage};

use super::workload::{Source, Workload};

/// Packets between two looks at the sums.
const SAMPLE_PACKETS: usize = 4096;

/// Sends `trains` trains through all stages; returns how many packets that were. After each stage, and with `None`
/// before the first of a half, `done` is called.
///
/// # Errors
/// When a packet is lost.
pub fn pass(
    (sending, receiving): (&mut Sending<'_>, &mut Receiving<'_>),
    (workload, source): (&Workload, &mut Source),
    trains: usize,
    mut done: impl FnMut(Option<Stage>),
) -> Result<usize, String> {
    let (mut staged, mut sealed) = (receiving.staged(), Vec::new());
    let mut delivered = 0;
    for _ in 0..trains {
        let packets = source.take(workload.reads_a_train);
        let mut stride = 0;
        done(None);
        sending.staged().train(
            &packets,
            |stage| done(Some(stage)),
            |train, len| {
                sealed.clear();
                sealed.extend_from_slice(train);
                stride = len;
            },
        );
        staged.train(&sealed, stride, &mut done, |group| delivered += group.packets().len());
    }
    let sent = trains * workload.reads_a_train * workload.segments;
    if delivered == sent { Ok(sent) } else { Err(format!("{delivered} of {sent} packets were delivered")) }
}

/// Runs `measure` with the halves of an engine with one worker.
///
/// # Errors
/// When it cannot be set up, and those of `measure`.
pub fn with<R>(
    peers: usize,
    measure: impl FnOnce(&mut Sending<'_>, &mut Receiving<'_>) -> Result<R, String>,
) -> Result<R, String> {
    let run = |mut sending: Sending<'_>, mut receiving: Receiving<'_>| measure(&mut sending, &mut receiving);
    halves::with(peers, NonZeroUsize::MIN, run).map_err(|error| error.to_string())?
}

/// Nanoseconds a packet of each stage, in each of `rounds` rounds.
///
/// # Errors
/// Those of [`pass`] and [`with`].
pub fn measure(workload: &Workload, rounds: usize) -> Result<Vec<[f64; Stage::ALL.len()]>, String> {
    let workload = &workload.for_stages();
    let trains = SAMPLE_PACKETS.div_ceil(workload.reads_a_train * workload.segments);
    let clock = clock_cost();
    with(workload.peers, |sending, receiving| {
        let mut source = Source::new(workload);
        let mut round = || {
            let (mut sums, mut last) = ([Duration::ZERO; Stage::ALL.len()], Instant::now());
            let packets = pass((sending, receiving), (workload, &mut source), trains, |stage| {
                if let Some(stage) = stage {
                    sums[stage as usize] += last.elapsed().saturating_sub(clock);
                }
                last = Instant::now();
            })?;
            Ok(sums.map(|sum| sum.as_nanos() as f64 / packets as f64))
        };
        // The first warms the caches, and confirms the sessions.
        round()?;
        (0..rounds).map(|_| round()).collect()
    })
}

/// What looking at the clock adds to each stage.
fn clock_cost() -> Duration {
    let look = || Instant::now().elapsed();
    let mut looks: Vec<_> = (0..1001).map(|_| look()).collect();
    looks.sort_unstable();
    looks[looks.len() / 2]
}
