//! Whether io_uring moves packets cheaper than the plain calls that the engine makes, and by how much.
//!
//! One thread in a network namespace of its own makes a batch wait. Only moving it is timed, as processor time of the
//! process, which includes any helpers that the kernel adds to it. All but the rows with few packets waiting favour
//! io_uring: its batches are full, descriptors and buffers are registered, and nothing has to be waited for.

mod calls;
mod paths;
mod ring;
mod world;

use std::error::Error;
use std::time::Duration;

use adit_net::netns;
use adit_net::tun::Offloads;
use nix::time::{ClockId, clock_gettime};

use crate::stats::Summary;
use world::{Tunnel, socket_pair};

/// Packets moved by one system call of io_uring, or of those plain calls that take several.
const BATCH: usize = 32;
/// Batches in one sample.
const BATCHES: usize = 64;
/// Longest packet in bytes.
const MAX_LEN: usize = 1500;
/// Payloads in bytes: as calls and games send them, and as QUIC does.
const PAYLOADS: [usize; 2] = [64, 1200];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The options.
#[derive(clap::Args)]
pub struct Args {
    /// How often to take each figure
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

/// Moves a batch and returns the processor time that this took.
type Way<'a> = Box<dyn FnMut() -> Result<Duration> + 'a>;

/// Two ways to do the same, the first of them the plain one.
struct Comparison<'a> {
    what: String,
    packets: usize,
    ways: [Way<'a>; 2],
}

/// Prints one table.
///
/// # Errors
/// Without the right to create network namespaces and TUN devices, or on a kernel that refuses io_uring.
pub fn run(args: &Args) -> Result<()> {
    netns::run_in_new(|| compare_all(args.rounds.into()).map_err(|error| error.to_string()))?
        .map_err(Into::into)
}

fn compare_all(rounds: usize) -> Result<()> {
    println!("Processor time in ns a packet: median of {rounds} rounds (least to most)");
    println!("{:48} {:24} {:24} second/first", "", "first", "second");
    let bare = Tunnel::open(1, Offloads::NONE)?;
    let offloading = Tunnel::open(2, Offloads::ALL)?;
    let (sockets, train_sockets) = (socket_pair()?, socket_pair()?);
    for waiting in [1, 4, 16] {
        calls::tun_read(&bare, PAYLOADS[0], waiting)?.run(rounds)?;
    }
    for len in PAYLOADS {
        calls::tun_read(&bare, len, BATCH)?.run(rounds)?;
        calls::tun_write(&bare, len)?.run(rounds)?;
        calls::udp_receive(&sockets, len)?.run(rounds)?;
        calls::udp_send(&sockets, len)?.run(rounds)?;
        paths::out(&bare, &train_sockets, len)?.run(rounds)?;
        paths::back(&bare, &train_sockets, len)?.run(rounds)?;
        if offloading.tun.offloads().udp {
            calls::tun_super_packet(&offloading, len)?.run(rounds)?;
        }
    }
    Ok(())
}

impl Comparison<'_> {
    /// Takes the samples, alternating, and prints a line.
    fn run(mut self, rounds: usize) -> Result<()> {
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (way, samples) in self.ways.iter_mut().zip(&mut samples) {
                let mut time = Duration::ZERO;
                for _ in 0..BATCHES {
                    time += way()?;
                }
                samples.push(Some(time.as_nanos() as f64 / (BATCHES * self.packets) as f64));
            }
        }
        let [first, second] = samples.each_ref().map(|samples| {
            let taken: Vec<f64> = samples.iter().copied().flatten().collect();
            let summary = Summary::of(&taken);
            summary.map_or_else(String::new, |s| format!("{:.0} ({:.0} to {:.0})", s.median, s.min, s.max))
        });
        let ratio = Summary::of_ratios(&samples[1], &samples[0]).map_or(f64::NAN, |ratio| ratio.median);
        println!("{:48} {first:24} {second:24} {ratio:.2}", self.what);
        Ok(())
    }
}

/// Runs `work`, which has to move `packets`.
fn timed(packets: usize, work: impl FnOnce() -> Result<usize>) -> Result<Duration> {
    let now = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from);
    let start = now()?;
    let moved = work()?;
    let time = now()? - start;
    if moved == packets { Ok(time) } else { Err(format!("{moved} packets moved, not {packets}").into()) }
}
