//! Every sample as JSON, and what machine it was taken on.

use std::fs;
use std::thread::available_parallelism;

use serde_json::{Map, Value, json};

use crate::stats::Summary;

use super::contender::Contender;
use super::sample::{Outcome, Results, Row};

/// The whole run.
#[must_use]
pub fn json(contenders: &[Contender], all: &[Results]) -> String {
    let contenders =
        contenders.iter().map(|contender| json!({ "name": contender.name, "version": contender.version }));
    let run = json!({
        "machine": machine(),
        "contenders": contenders.collect::<Vec<_>>(),
        "workloads": all.iter().map(workload).collect::<Vec<_>>(),
    });
    format!("{run:#}\n")
}

/// What it ran on.
pub fn machine() -> Value {
    let first_line = |path: &str| fs::read_to_string(path).ok()?.lines().next().map(str::to_owned);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    json!({
        "processor": model.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim()),
        "cores": available_parallelism().map_or(0, usize::from),
        "kernel": first_line("/proc/sys/kernel/osrelease"),
    })
}

fn workload(results: &Results) -> Value {
    let row = |row: &Row| {
        let ratios = results.rows.iter().filter(|other| other.name != row.name);
        let ratios =
            ratios.filter_map(|other| Some((other.name.clone(), summary(results.ratio(row, other)?))));
        json!({
            "name": row.name,
            "rounds": row.rounds.iter().map(outcome).collect::<Vec<_>>(),
            "headline": row.summary(results.workload.headline()).map(summary),
            "ratios": ratios.collect::<Map<_, _>>(),
        })
    };
    json!({
        "name": results.workload.name(),
        "title": results.workload.title(),
        "headline": results.workload.headline().key,
        "contenders": results.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn outcome(outcome: &Outcome) -> Value {
    match outcome {
        Ok(sample) => sample.iter().map(|(figure, value)| (figure.key.to_owned(), json!(value))).collect(),
        Err(why) => json!({ "error": why }),
    }
}

fn summary(summary: Summary) -> Value {
    json!({ "median": summary.median, "min": summary.min, "max": summary.max })
}

#[cfg(test)]
mod tests {
    use super::super::contender::Role;
    use super::super::sample::tests::results;
    use super::super::workload::Workload;
    use super::*;

    #[test]
    fn every_sample_and_every_ratio_is_there() {
        let rows: [(&str, Role, &[Option<f64>]); 2] =
            [("adit", Role::Adit, &[Some(8.0), None]), ("peer", Role::Peer, &[Some(2.0), Some(4.0)])];
        let read: Value = serde_json::from_str(&json(&[], &[results(Workload::Tcp, &rows)])).unwrap();
        let adit = &read["workloads"][0]["contenders"][0];
        assert_eq!(adit["rounds"], json!([{ "gigabits_per_second": 8.0 }, { "error": "it broke" }]));
        assert_eq!(adit["ratios"]["peer"], json!({ "median": 4.0, "min": 4.0, "max": 4.0 }));
        assert_eq!(read["workloads"][0]["contenders"][1]["headline"]["median"], 3.0);
        assert!(read["machine"]["cores"].as_u64().unwrap() > 0);
    }
}
