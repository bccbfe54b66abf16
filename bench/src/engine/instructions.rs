//! How many instructions a packet takes, stage by stage, by callgrind: what no neighbour can disturb.
//!
//! The program runs itself under valgrind with a fixed number of trains, one thread and no clock. Of a stage's function
//! callgrind knows what it took with all that it calls. Valgrind does without AVX-512; the numbers are for x86-64 with
//! AVX2, and for the compiler and the libraries that the lock file and the toolchain fix.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs, process};

use adit_device::halves::Stage;

use super::stages;
use super::workload::{self, Source, Workload};

/// What is compared with.
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
/// How far a number may be off, as a part of it: indices and keys are random, and lead hash tables and branches astray.
const TOLERANCE: f64 = 0.03;
/// How far it may be off besides: a change anywhere can have the compiler inline a function of a stage another way, which is worth
/// some thirty instructions a packet in either direction, and says nothing of the code.
const SLACK: f64 = 40.0;

/// Packets of each workload, at least.
const PACKETS: usize = 2048;

type Result<T> = std::result::Result<T, String>;

/// Instructions a packet, of each workload and stage.
type Counts = Vec<(&'static str, Stage, f64)>;

/// What runs under valgrind.
///
/// # Errors
/// Those of the engine.
pub fn counted(workload: &Workload) -> Result<()> {
    let workload = &workload.for_stages();
    stages::with(workload.peers, |sending, receiving| {
        let mut source = Source::new(workload);
        stages::pass((sending, receiving), (workload, &mut source), trains(workload), |_| ()).map(|_| ())
    })
}

fn trains(workload: &Workload) -> usize {
    PACKETS.div_ceil(workload.reads_a_train * workload.segments)
}

/// Counts, prints and compares with the baseline.
///
/// # Errors
/// Without valgrind or a baseline, and when a number is not what it was.
pub fn compare() -> Result<()> {
    let baseline = fs::read_to_string(BASELINE).map_err(|error| format!("{BASELINE}: {error}"))?;
    let expected = parse_baseline(&baseline)?;
    let counts = count_all()?;
    print!("{}", table(&counts));
    let mut differences = String::new();
    for (workload, stage, count) in &counts {
        let before = expected.get(&(*workload, stage.name())).copied();
        let is_same = before.is_some_and(|before| (count - before).abs() <= before * TOLERANCE + SLACK);
        if !is_same {
            let before = before.map_or("unknown".to_owned(), |before| format!("{before:.0}"));
            let _ = write!(differences, "\n  {workload} {}: {count:.0}, was {before}", stage.name());
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!(
        "instructions a packet have changed:{differences}\nif that is meant: cargo run --release -p bench -- engine --baseline"
    ))
}

/// Counts, and makes that the baseline.
///
/// # Errors
/// Without valgrind, or if the file cannot be written.
pub fn make_baseline() -> Result<()> {
    let table = table(&count_all()?);
    print!("{table}");
    fs::write(BASELINE, table).map_err(|error| format!("{BASELINE}: {error}"))
}

fn count_all() -> Result<Counts> {
    let mut counts = Counts::new();
    for workload in &workload::ALL {
        counts.extend(count(workload)?);
    }
    Ok(counts)
}

fn count(workload: &Workload) -> Result<Counts> {
    let out = env::temp_dir().join(format!("bench-engine-{}.callgrind", process::id()));
    let result = run_callgrind(workload, &out)
        .and_then(|()| fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display())));
    let _ = fs::remove_file(&out);
    let profile = result?;
    let for_stages = workload.for_stages();
    let packets = trains(&for_stages) * for_stages.reads_a_train * for_stages.segments;
    let costs = inclusive_costs(&profile);
    let of = |stage: Stage| match costs
        .iter()
        .filter(|(name, _)| name.contains(stage.function()))
        .map(|(_, cost)| cost)
        .sum::<u64>()
    {
        0 => Err(format!("callgrind has not seen {}", stage.function())),
        cost => Ok((workload.name, stage, cost as f64 / packets as f64)),
    };
    Stage::ALL.into_iter().map(of).collect()
}

fn run_callgrind(workload: &Workload, out: &Path) -> Result<()> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut out_file = std::ffi::OsString::from("--callgrind-out-file=");
    out_file.push(out);
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(out_file)
        .arg(program)
        .args(["engine", "--counted", workload.name])
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("valgrind: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

/// What each function took with all that it called, by its callers' records in callgrind's format: a name is written once
/// and then stands by its number.
fn inclusive_costs(profile: &str) -> HashMap<&str, u64> {
    let (mut names, mut costs) = (HashMap::new(), HashMap::new());
    let (mut callee, mut is_cost_of_call) = ("", false);
    for line in profile.lines() {
        if let Some(function) = line.strip_prefix("cfn=") {
            callee = resolve(function, &mut names);
        } else if let Some(function) = line.strip_prefix("fn=") {
            resolve(function, &mut names);
        } else if line.starts_with("calls=") {
            is_cost_of_call = true;
        } else if is_cost_of_call {
            is_cost_of_call = false;
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
            *costs.entry(callee).or_default() += cost;
        }
    }
    costs
}

/// `(7) name` tells what `(7)` stands for from then on.
fn resolve<'p>(function: &'p str, names: &mut HashMap<&'p str, &'p str>) -> &'p str {
    let (number, name) = function.split_once(' ').unwrap_or((function, ""));
    if !name.is_empty() {
        names.insert(number, name);
    }
    names.get(number).copied().unwrap_or_default()
}

fn table(counts: &Counts) -> String {
    let mut table =
        "# Instructions a packet: workload, stage, count. Made by `bench engine --baseline`.\n".to_owned();
    for (workload, stage, count) in counts {
        let _ = writeln!(table, "{workload:12} {:9} {count:7.0}", stage.name());
    }
    table
}

fn parse_baseline(text: &str) -> Result<HashMap<(&str, &str), f64>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|(number, line)| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [workload, stage, count] => match count.parse() {
                Ok(count) => Ok(((workload, stage), count)),
                Err(_) => Err(format!("{BASELINE}:{}: {count} is no number", number + 1)),
            },
            _ => Err(format!("{BASELINE}:{}: a line is workload, stage and count", number + 1)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_for_the_callee() {
        let profile = "\
            fn=(1) main\n16 400\ncfi=(2) b.rs\ncfn=(2) stages::seal\ncalls=3 50\n16 300\n+1 5\n\
            cfn=(3) other\ncalls=1 9\n* 7\n\nfn=(2)\n50 20\ncfn=(3)\ncalls=1 9\n* 8\n\n\
            fn=(4) later\ncfn=(2)\ncalls=1 50\n18 1000\n";
        let costs = inclusive_costs(profile);
        assert_eq!((costs["stages::seal"], costs["other"]), (1300, 15));
    }

    #[test]
    fn the_baseline_is_what_the_table_says() {
        let table = table(&vec![("tcp", Stage::Split, 123.4), ("crowd", Stage::Coalesce, 9.0)]);
        let parsed = parse_baseline(&table).unwrap();
        assert_eq!(
            (parsed.len(), parsed[&("tcp", "split")], parsed[&("crowd", "coalesce")]),
            (2, 123.0, 9.0)
        );
        assert!(parse_baseline("tcp split").unwrap_err().contains(":1: "));
        assert!(parse_baseline("tcp split many").unwrap_err().contains("many is no number"));
    }
}
