//! What was seen, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use lab::beat::Tally;
use serde_json::{Value, json};

use super::Record;
use super::stage::Deeds;
use super::verdict::{Kind, course};
use super::vitals::{Held, Sample};
use crate::peers::record::machine;

/// A line while it runs.
pub fn progress(elapsed: Duration, record: &Record) -> String {
    let held = record.rests.last().map(|sample| sample.held.clone()).unwrap_or_default();
    let of = |held: &Held| format!("{} KiB, {} descriptors, {} threads", held.rss, held.fds, held.threads);
    let all: Vec<_> =
        record.names.iter().zip(&held).map(|(name, held)| format!("{name}: {}", of(held))).collect();
    format!("{:>5} s  {}", elapsed.as_secs(), all.join("; "))
}

/// What is not as it should be; nothing, if all is well.
pub fn wrong(record: &Record) -> Vec<String> {
    let mut wrong = Vec::new();
    for (process, name) in record.names.iter().enumerate() {
        for kind in Kind::ALL {
            let Some(course) = course(&record.rests, process, kind) else { continue };
            if !course.is_flat {
                let (before, after) = (course.second_quarter, course.last_quarter);
                wrong.push(format!("{name}: {} went from {before} to {after}", kind.name()));
            }
        }
    }
    for (name, log) in record.names.iter().zip(&record.logs) {
        if log.contains("panicked") || log.contains("panic:") {
            wrong.push(format!("{name} panicked"));
        }
    }
    wrong
}

/// Everything, for people.
pub fn text(record: &Record) -> String {
    let mut text = format!("{}, seed {}\n\n", record.command, record.seed);
    let _ = writeln!(text, "| at rest | first | 2nd quarter | last quarter | most ever | an hour | |");
    let _ = writeln!(text, "| --- | ---: | ---: | ---: | ---: | ---: | --- |");
    for (process, name) in record.names.iter().enumerate() {
        for kind in Kind::ALL {
            let Some(c) = course(&record.rests, process, kind) else { continue };
            let flat = if c.is_flat { "flat" } else { "**not flat**" };
            let _ = writeln!(
                text,
                "| {name}: {} | {} | {} | {} | {} | {:+.0} | {flat} |",
                kind.name(),
                c.first,
                c.second_quarter,
                c.last_quarter,
                c.most,
                c.per_hour
            );
        }
    }
    let _ = writeln!(text);
    for (name, count) in &record.deeds.counts {
        let _ = writeln!(text, "{count:>12}  {name}");
    }
    let traffic = &record.traffic;
    let _ = writeln!(
        text,
        "{:>12}  megabytes of TCP; {} connections made anew",
        traffic.stream / 1_000_000,
        traffic.broken
    );
    for (direction, tally) in ["to the peer", "from the peer"].iter().zip(&traffic.beats) {
        let _ = writeln!(
            text,
            "{:>12}  datagrams {direction}, {} lost, {} out of order",
            tally.sent,
            tally.lost(),
            tally.disordered
        );
        for (cause, count) in causes(tally, &record.deeds) {
            let _ = writeln!(text, "{count:>16}  lost beside: {cause}");
        }
    }
    let _ = writeln!(text, "              pings: {}", traffic.pings);
    for (name, log) in record.names.iter().zip(&record.logs) {
        let _ = writeln!(text, "{:>12}  lines logged by {name}", log.lines().count());
        for (line, count) in messages(log).into_iter().take(12) {
            let _ = writeln!(text, "{count:>16}  {line}");
        }
    }
    text
}

/// Everything, for programs.
pub fn json(record: &Record) -> String {
    let sample = |sample: &Sample| json!({ "at": sample.at.as_secs_f64(), "held": sample.held.iter().map(held).collect::<Vec<_>>() });
    let samples = |all: &[Sample]| all.iter().map(sample).collect::<Vec<_>>();
    let beats: Vec<_> = record.traffic.beats.iter().map(|tally| flow(tally, &record.deeds)).collect();
    let logs = record
        .logs
        .iter()
        .map(|log| messages(log).into_iter().map(|(line, count)| json!({ "line": line, "count": count })));
    let run = json!({
        "machine": machine(),
        "command": record.command,
        "seed": record.seed,
        "processes": record.names,
        "is_flat": wrong(record).is_empty(),
        "deeds": record.deeds.counts,
        "tcp_bytes": record.traffic.stream,
        "tcp_broken": record.traffic.broken,
        "flows": beats,
        "pings": record.traffic.pings,
        "logs": logs.map(Iterator::collect::<Vec<_>>).collect::<Vec<_>>(),
        "rests": samples(&record.rests),
        "samples": samples(&record.samples),
    });
    format!("{run:#}\n")
}

fn held(held: &Held) -> Value {
    json!({
        "rss_kib": held.rss,
        "anonymous_kib": held.anonymous,
        "pss_kib": held.pss,
        "descriptors": held.fds,
        "threads": held.threads,
        "cpu_ms": held.cpu,
        "context_switches": held.switches,
    })
}

fn flow(tally: &Tally, deeds: &Deeds) -> Value {
    json!({
        "sent": tally.sent,
        "lost": tally.lost(),
        "out_of_order": tally.disordered,
        "lost_beside": causes(tally, deeds),
    })
}

/// What was going on when datagrams were lost.
fn causes(tally: &Tally, deeds: &Deeds) -> BTreeMap<&'static str, u64> {
    let mut causes = BTreeMap::new();
    for gap in &tally.gaps {
        *causes.entry(deeds.cause(gap.after, gap.before)).or_default() += gap.count;
    }
    causes
}

/// Lines that differ in more than numbers, the most frequent first.
fn messages(log: &str) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::<String, usize>::new();
    for line in log.lines() {
        let mut plain = String::new();
        for c in line.chars() {
            match c {
                '0'..='9' if plain.ends_with('#') => {}
                '0'..='9' => plain.push('#'),
                c => plain.push(c),
            }
        }
        *counts.entry(plain).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_whatever_their_numbers() {
        let log = "port 17 is taken\nother\nport 4711 is taken\n";
        assert_eq!(messages(log), [("port # is taken".to_owned(), 2), ("other".to_owned(), 1)]);
    }
}
