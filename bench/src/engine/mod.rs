//! The engine's halves alone in one process, from memory to memory: how fast each is, stage by stage, and with two cores
//! against one.

mod half;
mod instructions;
mod speedup;
mod stages;
mod workload;

use std::error::Error;

use adit_device::halves::Stage;

use crate::stats::Summary;
use speedup::Round;
use workload::Workload;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The options.
#[derive(clap::Args)]
pub struct Args {
    /// How often to take each figure
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Count instructions with callgrind instead, and compare them with bench/instructions.txt
    #[arg(long)]
    instructions: bool,

    /// Count instructions with callgrind, and write bench/instructions.txt
    #[arg(long, conflicts_with = "instructions")]
    baseline: bool,

    /// Pass a fixed number of trains through the stages
    #[arg(long, hide = true, conflicts_with_all = ["instructions", "baseline"])]
    counted: bool,

    /// Only these workloads
    #[arg(value_parser = workload::ALL.map(|workload| workload.name))]
    workloads: Vec<String>,
}

impl Args {
    fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        workload::ALL.iter().filter(|workload| {
            self.workloads.is_empty() || self.workloads.iter().any(|name| name == workload.name)
        })
    }
}

/// Prints the tables.
///
/// # Errors
/// When an engine cannot be set up, or does not deliver what it was given; when instructions cannot be counted, or are not
/// as many as they were.
pub fn run(args: &Args) -> Result<()> {
    if args.instructions {
        return Ok(instructions::compare()?);
    }
    if args.baseline {
        return Ok(instructions::make_baseline()?);
    }
    if args.counted {
        return args.workloads().try_for_each(|workload| Ok(instructions::counted(workload)?));
    }
    println!(
        "Nanoseconds a packet, and GB/s within the tunnel, by one core; how much faster two are, that share one half,"
    );
    println!(
        "and two that have nothing to do with each other. Medians of {} rounds (least to most).",
        args.rounds
    );
    args.workloads().try_for_each(|workload| measure(workload, args.rounds.into()))
}

fn measure(workload: &Workload, rounds: usize) -> Result<()> {
    let stages = stages::measure(workload, rounds)?;
    let stage = |stage: &Stage| {
        format!("{} {:.0}", stage.name(), summary(&stages, |times| times[*stage as usize]).median)
    };
    let stages = Stage::ALL.each_ref().map(stage);
    let rounds = speedup::measure(workload, rounds)?;
    println!("{}", workload.title);
    for (half, (name, stages)) in
        [("sending", &stages[..3]), ("receiving", &stages[3..])].into_iter().enumerate()
    {
        print_half(workload, name, half, &rounds);
        println!("    {}", stages.join(", "));
    }
    Ok(())
}

fn print_half(workload: &Workload, name: &str, half: usize, rounds: &[Round]) {
    let one = summary(rounds, |round| round.one[half]).median;
    let gb = workload.packet_len() as f64 / one;
    let [two, apart] = [
        summary(rounds, |round| round.one[half] / round.two[half]),
        summary(rounds, |round| round.one[half] / round.apart[half]),
    ]
    .map(|Summary { min, median, max }| format!("{median:.2}x ({min:.2} to {max:.2})"));
    println!("  {name:9} {one:6.0} ns  {gb:5.2} GB/s  two cores {two}  apart {apart}");
}

/// Of at least one round.
fn summary<R>(rounds: &[R], value: impl Fn(&R) -> f64) -> Summary {
    let values: Vec<f64> = rounds.iter().map(value).collect();
    Summary::of(&values).unwrap_or(Summary { min: f64::NAN, median: f64::NAN, max: f64::NAN })
}
