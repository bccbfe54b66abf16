//! `bench soak`: hours compressed. Two engines, a transfer between them, and everything that wears an engine out at once;
//! every few seconds all of it rests, and what the engines then hold must be what they held before.
//!
//! | file | is |
//! | --- | --- |
//! | `scene` | the namespaces, the engines, the traffic that goes on all the time |
//! | `stage` | when the actors act and when they rest; what each did |
//! | `actors`, `strangers`, `clients` | who does what to the engines |
//! | `vitals` | memory, descriptors, threads, processor time |
//! | `verdict` | what counts as flat |
//! | `report`, `plot` | text and JSON; a picture |

mod actors;
mod clients;
mod plot;
mod report;
pub(crate) mod scene;
mod stage;
mod strangers;
mod verdict;
mod vitals;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use lab::Dice;

use actors::Cast;
use scene::{Scene, Traffic};
use stage::Stage;
use vitals::{Sample, Vitals};

/// How long everything happens between two rests.
const ROUND: Duration = Duration::from_secs(10);
/// How long the engines are watched at rest before what they hold counts.
const REST: Duration = Duration::from_secs(2);
/// The time between two samples.
const TICK: Duration = Duration::from_secs(1);

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// How long: seconds, or with a unit as in 90s, 10m, 2h
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = parse_time)]
    time: Duration,
    /// The engine, with %i for the interface's name [default: the adit beside this program, built anew]
    #[arg(long, value_name = "COMMAND")]
    engine: Option<String>,
    /// What the actors choose is decided by it; when they do it is not
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write every sample to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw what the engines held into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// All that was seen.
pub struct Record {
    command: String,
    seed: u64,
    names: Vec<String>,
    /// Second by second.
    samples: Vec<Sample>,
    /// At the end of every round.
    rests: Vec<Sample>,
    traffic: scene::Moved,
    deeds: stage::Deeds,
    /// What each engine logged.
    logs: Vec<String>,
}

/// Runs, and reports.
///
/// # Errors
/// When something grew, an engine ended, or nothing can be measured here.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    crate::isolate::enter()?;
    for program in ["ip", "sysctl", "ping", "wg"] {
        lab::require::find(program).ok_or_else(|| format!("{program} is not installed, and is needed"))?;
    }
    let command = scene::command(args.engine.as_deref())?;
    let record = soak(args, command)?;
    let put = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        Some(path) => {
            fs::write(path, text()).map_err(|error| format!("cannot write {}: {error}", path.display()))
        }
        None => Ok(()),
    };
    put(&args.json, &|| report::json(&record))?;
    put(&args.plot, &|| plot::svg(&record))?;
    print!("{}", report::text(&record));
    let wrong = report::wrong(&record);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ").into()) }
}

fn soak(args: &Args, command: String) -> Result<Record, String> {
    let scene = Scene::new(&command)?;
    let stage = Stage::new();
    let traffic = Traffic::start(&scene);
    let mut cast = Cast::new(&scene, Dice::new(args.seed))?;
    let mut record = Record {
        command,
        seed: args.seed,
        names: scene.names(),
        samples: Vec::new(),
        rests: Vec::new(),
        traffic: scene::Moved::default(),
        deeds: stage::Deeds::default(),
        logs: Vec::new(),
    };
    let mut vitals = Vitals::new(scene.pids());
    let watched = thread::scope(|scope| {
        let actors = cast.start(scope, &stage);
        let watched = watch(args.time, &scene, &stage, actors, &mut vitals, &mut record);
        stage.end();
        watched
    });
    record.traffic = traffic.stop();
    record.deeds = stage.deeds();
    record.logs = scene.logs();
    watched.map(|()| record)
}

/// Round after round, until the time is over or an engine.
fn watch(
    time: Duration,
    scene: &Scene,
    stage: &Stage,
    actors: usize,
    vitals: &mut Vitals,
    record: &mut Record,
) -> Result<(), String> {
    let start = Instant::now();
    let mut tick = Ticks { next: start };
    while start.elapsed() < time {
        stage.act();
        let round = Instant::now();
        while round.elapsed() < ROUND {
            tick.wait();
            record.samples.push(vitals.sample(start)?);
            stage.note_handshakes(scene.handshakes());
        }
        stage.rest(actors)?;
        record.rests.push(at_rest(vitals, start)?);
        scene.reaches()?;
        if record.rests.len().is_multiple_of(6) {
            eprintln!("{}", report::progress(start.elapsed(), record));
        }
    }
    Ok(())
}

/// The least of what the engines hold within a moment: threads end and descriptors are closed a little later.
fn at_rest(vitals: &mut Vitals, start: Instant) -> Result<Sample, String> {
    let rest = Instant::now();
    let mut least = vitals.sample(start)?;
    while rest.elapsed() < REST {
        thread::sleep(Duration::from_millis(100));
        let sample = vitals.sample(start)?;
        least.lessen(&sample);
    }
    Ok(least)
}

struct Ticks {
    next: Instant,
}

impl Ticks {
    fn wait(&mut self) {
        self.next = (self.next + TICK).max(Instant::now());
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("give it as 90s, 10m or 2h".to_owned()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    match seconds {
        Some(seconds) if (60..=30 * 24 * 3600).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err("it takes a minute at least, and thirty days at most".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "m", "5", "59s", "1d", "10 m", "99999999999999999999h", "800h"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
