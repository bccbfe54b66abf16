//! The table, the JSON, and the comparison that `docs/conformance.md` shows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Report};

/// One line of the table.
pub fn line(report: &Report) -> String {
    let Report { check, outcome, time } = report;
    let (word, detail) = words(outcome);
    let mut line = format!("{word}  {:<40} {:>5.1} s  {}", check.name, time.as_secs_f64(), check.why);
    if !detail.is_empty() {
        line.push_str(&format!("\n      {detail}"));
    }
    line
}

/// How many passed, failed and were skipped.
pub fn counts(reports: &[Report]) -> [usize; 3] {
    let of = |word| reports.iter().filter(|report| words(&report.outcome).0 == word).count();
    [of("PASS"), of("FAIL"), of("SKIP")]
}

fn words(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Pass => ("PASS", ""),
        Outcome::Fail(detail) => ("FAIL", detail),
        Outcome::Skip(detail) => ("SKIP", detail),
    }
}

/// All of it for machines.
pub fn json(engine: &str, reports: &[Report]) -> Value {
    let [passed, failed, skipped] = counts(reports);
    let checks: Vec<Value> = reports
        .iter()
        .map(|Report { check, outcome, time }| {
            let (word, detail) = words(outcome);
            json!({
                "name": check.name, "why": check.why, "outcome": word, "detail": detail,
                "seconds": (time.as_secs_f64() * 10.0).round() / 10.0,
            })
        })
        .collect();
    json!({ "engine": engine, "passed": passed, "failed": failed, "skipped": skipped, "checks": checks })
}

/// A table in Markdown: a line for each check, a column for each engine. `results` are names and what [`json()`] made.
pub fn comparison(checks: &[Check], results: &[(String, Value)]) -> String {
    let mut table = String::from("| check | rule |");
    results.iter().for_each(|(name, _)| table.push_str(&format!(" {name} |")));
    table.push_str("\n| --- | --- |");
    results.iter().for_each(|_| table.push_str(" --- |"));
    let outcomes: Vec<BTreeMap<&str, &str>> = results.iter().map(|(_, value)| outcomes(value)).collect();
    for check in checks {
        table.push_str(&format!("\n| `{}` | {} |", check.name, check.why.replace('|', "\\|")));
        for outcomes in &outcomes {
            let word = match outcomes.get(check.name).copied() {
                Some("PASS") => "pass",
                Some("FAIL") => "**FAIL**",
                Some("SKIP") => "skip",
                _ => "",
            };
            table.push_str(&format!(" {word} |"));
        }
    }
    table.push_str("\n| **passed** | |");
    for outcomes in &outcomes {
        let of = |word| outcomes.values().filter(|outcome| **outcome == word).count();
        table.push_str(&format!(" {} of {} |", of("PASS"), of("PASS") + of("FAIL")));
    }
    table.push('\n');
    table
}

fn outcomes(value: &Value) -> BTreeMap<&str, &str> {
    let checks = value["checks"].as_array().map_or(&[][..], Vec::as_slice);
    checks.iter().filter_map(|check| Some((check["name"].as_str()?, check["outcome"].as_str()?))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reports() -> Vec<Report> {
        let outcomes = [Outcome::Pass, Outcome::Fail("it did not".into()), Outcome::Skip("no time".into())];
        let names = ["group/a", "group/b", "group/c"];
        let report = |(name, outcome)| Report {
            check: Check::new(name, "a | rule", |_| ()),
            outcome,
            time: Duration::from_millis(1234),
        };
        names.into_iter().zip(outcomes).map(report).collect()
    }

    #[test]
    fn what_failed_says_what_was_seen() {
        let reports = reports();
        assert_eq!(counts(&reports), [1, 1, 1]);
        assert!(line(&reports[0]).starts_with("PASS  group/a "));
        assert!(line(&reports[1]).ends_with("\n      it did not"));
        let value = json("engine %i", &reports);
        assert_eq!((&value["failed"], &value["checks"][1]["detail"]), (&json!(1), &json!("it did not")));
    }

    #[test]
    fn engines_stand_beside_each_other() {
        let reports = reports();
        let checks: Vec<Check> = reports.iter().map(|report| report.check).collect();
        let results = [("one".to_owned(), json("one %i", &reports)), ("two".to_owned(), json("two %i", &[]))];
        let table = comparison(&checks, &results);
        assert!(table.contains("| check | rule | one | two |\n"), "{table}");
        assert!(table.contains("| `group/b` | a \\| rule | **FAIL** |  |\n"), "{table}");
        assert!(table.ends_with("| **passed** | | 1 of 2 | 0 of 0 |\n"), "{table}");
    }
}
