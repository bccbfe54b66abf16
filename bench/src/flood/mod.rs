//! `bench flood`: what a stranger at full speed takes from an engine, on this machine, with everything on the same cores.
//!
//! A peer transfers by TCP and pings; a new one connects; meanwhile a thread sends what it can from forged addresses. The
//! flooder and the kernel's part of every packet take processors, too, whoever is flooded: the first flood goes to a socket that
//! nobody reads, and what it leaves is what any engine could have at most. Both ratios are shown.

mod round;
mod scene;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lab::barrage::{KINDS, Kind};
use serde_json::{Value, json};

use crate::peers::contender::beside;
use crate::peers::record::machine;
use crate::stats::Summary;
use round::Round;
use scene::Scene;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// The engine to flood, with %i for its interface, as in `wireguard-go -f %i` [default: the adit beside this program]
    #[arg(long, value_name = "COMMAND")]
    engine: Option<String>,
    /// Only these floods
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = kind)]
    only: Vec<Kind>,
    /// Datagrams of a flood at least
    #[arg(long, value_name = "N", default_value = "1000000")]
    count: u64,
    /// Rounds of each kind
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long the transfer is measured before a flood, and during it
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Write every round to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn kind(name: &str) -> Result<Kind, String> {
    KINDS.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name()).collect();
        format!("there is only {}", names.join(", "))
    })
}

/// Measures and prints.
///
/// # Errors
/// When an engine does not work here.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    crate::isolate::enter()?;
    for program in ["ip", "sysctl", "ping", "iperf3"] {
        lab::require::find(program).ok_or_else(|| format!("{program} is not installed, and is needed"))?;
    }
    let adit = format!("{} -f %i", beside(&std::env::current_exe()?)?.display());
    let engine = args.engine.as_deref().unwrap_or(&adit);
    if !engine.contains("%i") {
        return Err(format!(
            "--engine {engine}: say where the interface's name goes, as in `{engine} -f %i`"
        )
        .into());
    }
    println!("{engine}\n\n{}", heading());
    let mut all: Vec<(Kind, Vec<Round>)> = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| args.only.is_empty() || args.only.contains(kind)) {
        // An engine of its own for each, so that memory is what this flood has taken.
        let scene = Scene::new(engine, &adit)?;
        let rounds = (0..args.rounds)
            .map(|_| round::run(&scene, kind, args.count, Duration::from_secs(args.seconds)))
            .collect::<Result<Vec<_>, _>>()?;
        all.push((kind, rounds));
        let unread = all.iter().find(|(kind, _)| *kind == Kind::Unread).and_then(|(_, rounds)| left(rounds));
        let (kind, rounds) = &all[all.len() - 1];
        println!("{}", row(*kind, rounds, unread));
        if let Some(path) = &args.json {
            fs::write(path, record(engine, &all))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

fn heading() -> String {
    let titles = [
        "flood",
        "calm Gb/s",
        "flooded",
        "left",
        "of unread",
        "flood kpkt/s",
        "pings lost %",
        "new peer s",
        "worst",
        "CPUs",
        "grows MiB",
        "answers",
        "overflows",
        "lines",
    ];
    format!("| {} |\n|{}", titles.join(" | "), " --- |".repeat(titles.len()))
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    Summary::of(&rounds.iter().map(of).collect::<Vec<_>>()).map_or(f64::NAN, |summary| summary.median)
}

/// What part of the throughput a flood leaves, compared round by round.
fn left(rounds: &[Round]) -> Option<f64> {
    let of = |of: fn(&Round) -> f64| rounds.iter().map(|round| Some(of(round))).collect::<Vec<_>>();
    Summary::of_ratios(&of(|round| round.flooded), &of(|round| round.calm)).map(|summary| summary.median)
}

fn row(kind: Kind, rounds: &[Round], unread: Option<f64>) -> String {
    let percent = |part: Option<f64>| part.map_or_else(String::new, |part| format!("{:.0} %", 100.0 * part));
    let left = left(rounds);
    let times: Vec<_> = rounds.iter().map(|round| round.newcomer.unwrap_or(f64::INFINITY)).collect();
    let times = Summary::of(&times);
    let worst = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    let sum = |of: fn(&Round) -> u64| rounds.iter().map(of).sum::<u64>();
    let cells = [
        kind.name().to_owned(),
        format!("{:.2}", median(rounds, |round| round.calm)),
        format!("{:.2}", median(rounds, |round| round.flooded)),
        percent(left),
        percent(left.zip(unread).map(|(left, unread)| left / unread)),
        format!("{:.0}", median(rounds, |round| round.rate)),
        format!("{:.1}", median(rounds, |round| round.pings_lost)),
        times.map_or_else(String::new, |times| format!("{:.2}", times.median)),
        times.map_or_else(String::new, |times| format!("{:.2}", times.max)),
        format!("{:.2}", median(rounds, |round| round.processors)),
        format!("{:.1}", worst(|round| round.growth)),
        sum(|round| round.answers).to_string(),
        sum(|round| round.overflows).to_string(),
        sum(|round| round.lines).to_string(),
    ];
    format!("| {} |", cells.join(" | "))
}

fn record(engine: &str, all: &[(Kind, Vec<Round>)]) -> String {
    let of_round = |round: &Round| -> Value {
        json!({
            "calm_gigabits_per_second": round.calm,
            "flooded_gigabits_per_second": round.flooded,
            "sent": round.sent,
            "kilopackets_per_second": round.rate,
            "pings_lost_percent": round.pings_lost,
            "new_peer_seconds": round.newcomer,
            "processors": round.processors,
            "peak_growth_mebibytes": round.growth,
            "answers": round.answers,
            "overflows": round.overflows,
            "lines": round.lines,
        })
    };
    let of_kind = |(kind, rounds): &(Kind, Vec<Round>)| -> Value {
        json!({
            "flood": kind.name(),
            "left": left(rounds),
            "rounds": rounds.iter().map(of_round).collect::<Vec<_>>(),
        })
    };
    let run = json!({ "machine": machine(), "engine": engine, "floods": all.iter().map(of_kind).collect::<Vec<_>>() });
    format!("{run:#}\n")
}
