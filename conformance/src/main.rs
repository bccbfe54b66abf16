//! Asks any userspace WireGuard, from outside, whether it keeps the protocol's rules.
//!
//! `cargo run -p conformance -- --engine 'COMMAND %i'` starts `COMMAND` with the name of an interface in network
//! namespaces of its own, once for each check, and speaks raw WireGuard to it. See `docs/conformance.md`.
//!
//! | module | is |
//! | --- | --- |
//! | [`checks`] | the rules, one function each |
//! | [`check`] | what a check is, and how it is run |
//! | [`scene`] | the engine, its namespaces, what passes its TUN device |
//! | [`peer`] | a peer that says what it is told to |
//! | [`wire`], [`noise`], [`inner`] | messages, handshakes that no library makes, packets |
//! | [`report`] | what is printed |

mod check;
mod checks;
mod inner;
mod noise;
mod peer;
mod report;
mod scene;
mod wire;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::check::{Check, Outcome};

/// Asks any userspace WireGuard whether it keeps the protocol's rules: one line for each, PASS, FAIL or SKIP.
#[derive(Parser)]
#[command(name = "conformance", version)]
struct Args {
    /// The command that runs the engine in the foreground on interface %i; it is split at white space
    #[arg(long, value_name = "COMMAND", required_unless_present_any = ["list", "compare"])]
    engine: Option<String>,
    /// Only checks whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Also what waits for timers of minutes
    #[arg(long)]
    slow: bool,
    /// Writes the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many checks run at a time
    #[arg(long, value_name = "N", default_value_t = 12)]
    jobs: usize,
    /// Lists the checks and ends
    #[arg(long)]
    list: bool,
    /// Prints results of several engines side by side, in Markdown, and ends
    #[arg(long, value_name = "NAME=FILE", num_args = 1..)]
    compare: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing failed.
fn run(args: &Args) -> Result<bool, String> {
    let checks: Vec<Check> = checks::all().filter(|check| is_wanted(check.name, &args.only)).collect();
    if checks.is_empty() {
        return Err(format!("no check is called {}; --list shows them", args.only.join(" or ")));
    }
    if args.list {
        let slow = |check: &Check| if check.slow { "(slow) " } else { "" };
        let line = |check: &Check| format!("{:<40} {}{}\n", check.name, slow(check), check.why);
        // Whoever has seen enough may stop reading.
        let _ = std::io::stdout().write_all(checks.iter().map(line).collect::<String>().as_bytes());
        return Ok(true);
    }
    if !args.compare.is_empty() {
        let results: Result<Vec<_>, String> = args.compare.iter().map(|argument| read(argument)).collect();
        print!("{}", report::comparison(&checks, &results?));
        return Ok(true);
    }
    judge(args, args.engine.as_deref().unwrap_or_default(), &checks)
}

fn judge(args: &Args, engine: &str, checks: &[Check]) -> Result<bool, String> {
    if !engine.contains("%i") {
        return Err("--engine needs %i where the interface's name goes, as in 'wireguard-go -f %i'".into());
    }
    if cfg!(panic = "abort") {
        return Err("a check that fails unwinds: build with panic = \"unwind\", as without --release".into());
    }
    if let Err(reason) = lab::require(&["netns", "tun", "ip"]) {
        println!("0 passed, 0 failed, {} skipped: {reason}", checks.len());
        return Ok(true);
    }
    check::catch_panics();
    check::try_start(engine).map_err(|error| format!("`{engine}` serves no interface: {error}"))?;
    let (now, later): (Vec<Check>, Vec<Check>) = checks.iter().partition(|check| args.slow || !check.slow);
    let mut reports =
        check::run_all(&now, engine, args.jobs.max(1), |report| println!("{}", report::line(report)));
    let outcome = Outcome::Skip("it waits for minutes: ask for it with --slow".into());
    reports.extend(later.into_iter().map(|check| check::Report {
        check,
        outcome: outcome.clone(),
        time: std::time::Duration::ZERO,
    }));
    let [passed, failed, skipped] = report::counts(&reports);
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report::json(engine, &reports));
        fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    for report in reports.iter().filter(|report| matches!(report.outcome, Outcome::Fail(_))) {
        println!("{}", report::line(report));
    }
    println!("{engine}: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

fn is_wanted(name: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
}

/// A name and the results in a file, from `NAME=FILE`.
fn read(argument: &str) -> Result<(String, serde_json::Value), String> {
    let (name, path) =
        argument.split_once('=').ok_or(format!("--compare takes NAME=FILE, not {argument}"))?;
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let value = serde_json::from_str(&text).map_err(|e| format!("{path}: {e}"))?;
    Ok((name.to_owned(), value))
}
