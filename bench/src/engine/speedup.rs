//! One core against two, for each half; and what two cores reach that have nothing to do with each other.

use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use adit_device::halves::{self, Receiving, Sending};

use super::half::Halves;
use super::workload::Workload;

const ONE: NonZeroUsize = NonZeroUsize::MIN;
const TWO: NonZeroUsize = ONE.saturating_add(1);

/// What one round gave, sending and receiving, in nanoseconds a packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// By one worker.
    pub one: [f64; 2],
    /// By two.
    pub two: [f64; 2],
    /// By one, while another engine does the same on the other core: the mean of both, as if they shared the packets.
    pub apart: [f64; 2],
}

type Result<T> = std::result::Result<T, String>;

/// Measures alternately, `rounds` times.
///
/// # Errors
/// When an engine cannot be set up, or lost a packet.
pub fn measure(workload: &Workload, rounds: usize) -> Result<Vec<Round>> {
    let (ask, asked) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || with(workload, ONE, |mut halves| serve(&mut halves, &asked, &answer)));
        // The other engine ends when `ask` does.
        with(workload, ONE, move |mut one| {
            with(workload, TWO, move |mut two| {
                // The first warms the caches, and confirms the sessions.
                round(&mut one, &mut two, &ask, &answered)?;
                (0..rounds).map(|_| round(&mut one, &mut two, &ask, &answered)).collect()
            })
        })
    })
}

fn with<R>(
    workload: &Workload,
    workers: NonZeroUsize,
    measure: impl FnOnce(Halves<'_>) -> Result<R>,
) -> Result<R> {
    let run =
        |sending: Sending<'_>, receiving: Receiving<'_>| measure(Halves::new(workload, sending, receiving));
    halves::with(workload.peers, workers, run).map_err(|error| error.to_string())?
}

/// The engine on the other core.
fn serve(halves: &mut Halves<'_>, asked: &Receiver<usize>, answer: &Sender<Result<f64>>) -> Result<()> {
    for half in asked {
        // Nobody listens any more when the others have failed.
        let _ = answer.send(per_packet(halves, half));
    }
    Ok(())
}

fn round(
    one: &mut Halves<'_>,
    two: &mut Halves<'_>,
    ask: &Sender<usize>,
    answered: &Receiver<Result<f64>>,
) -> Result<Round> {
    let mut taken = Round::default();
    for half in 0..2 {
        taken.one[half] = per_packet(one, half)?;
        taken.two[half] = per_packet(two, half)?;
        let _ = ask.send(half);
        let own = per_packet(one, half)?;
        let other = answered.recv().map_err(|_| "the other engine could not be set up")??;
        taken.apart[half] = (own + other) / 4.0;
    }
    Ok(taken)
}

fn per_packet(halves: &mut Halves<'_>, half: usize) -> Result<f64> {
    let sample = if half == 0 { halves.send() } else { halves.receive()? };
    Ok(sample.per_packet())
}
