//! `bench peers`: Adit, other userspace WireGuards and the copy limit, one after the other, round after round.
//!
//! Both ends of a tunnel are on this machine, in two network namespaces with a cable between them. Only ratios taken
//! within one round are worth quoting: they are what the report shows first.
//!
//! | file | is |
//! | --- | --- |
//! | `contender` | who is measured |
//! | `topology`, `usage` | the namespaces, the engines in them, what those consume |
//! | `workload/` | what is measured: a file for each kind |
//! | `sink`, `sequence` | datagrams that arrive, counted by flow and number |
//! | `crowd` | 1,000 peers in one process |
//! | `sample`, `report`, `record`, `plot` | figures; as tables, as JSON, as a picture |

pub(crate) mod contender;
pub(crate) mod crowd;
mod plot;
pub(crate) mod record;
mod report;
mod sample;
mod sequence;
mod sink;
pub(crate) mod topology;
mod usage;
mod workload;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use contender::Contender;
use sample::Results;
use workload::{Scale, Workload};

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// The adit to measure [default: the one beside this program]
    #[arg(long, value_name = "PROGRAM")]
    adit: Option<PathBuf>,
    /// Another engine to compare with; it is started as `COMMAND -f INTERFACE`, as wireguard-go is. May be repeated
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<String>,
    /// Measure only these
    #[arg(long, value_name = "WORKLOADS", value_delimiter = ',', value_enum)]
    only: Vec<Workload>,
    /// Leave out these contenders, by the names that the tables show
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    without: Vec<String>,
    /// Rounds, in each of which every contender has its turn
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long a stream lasts
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u64).range(2..=40))]
    seconds: u64,
    /// How long idle engines are watched
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=3600))]
    idle_seconds: u64,
    /// Write every sample to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the medians into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// When something that was asked for cannot be measured here.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    crate::isolate::enter()?;
    for program in ["ip", "sysctl", "ping", "iperf3"] {
        lab::require::find(program).ok_or_else(|| format!("{program} is not installed, and is needed"))?;
    }
    let contenders = contender::gather(args.adit.as_deref(), &args.peer, &args.without)?;
    let scale = Scale {
        rounds: args.rounds,
        stream: Duration::from_secs(args.seconds),
        idle: Duration::from_secs(args.idle_seconds),
    };
    println!("{}", report::heading(&contenders, args.rounds));
    let mut all = Vec::new();
    // A file that cannot be written should not be found out at the end.
    write(args, &contenders, &all)?;
    for workload in Workload::selection(&args.only) {
        let results = measure(workload, &contenders, &scale);
        println!("{}", report::table(&results));
        all.push(results);
        // After each, so that an interrupted run leaves what it has.
        write(args, &contenders, &all)?;
    }
    Ok(())
}

fn measure(workload: Workload, contenders: &[Contender], scale: &Scale) -> Results {
    let able: Vec<&Contender> = contenders.iter().filter(|contender| workload.suits(contender)).collect();
    let mut results = Results::new(workload, &able);
    workload.measure(&able, scale, &mut |who, outcome| {
        report::progress(workload, &able[who].name, &outcome);
        results.add(who, outcome);
    });
    results
}

fn write(args: &Args, contenders: &[Contender], all: &[Results]) -> Result<(), String> {
    let put = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        Some(path) => {
            fs::write(path, text()).map_err(|error| format!("cannot write {}: {error}", path.display()))
        }
        None => Ok(()),
    };
    put(&args.json, &|| record::json(contenders, all))?;
    put(&args.plot, &|| plot::svg(all))
}
