//! The tables.

use std::fmt::Write as _;

use crate::stats::Summary;

use super::contender::{Contender, Role};
use super::sample::{Figure, Outcome, Results, Row};
use super::workload::Workload;

/// Who takes part, in which versions.
#[must_use]
pub fn heading(contenders: &[Contender], rounds: u32) -> String {
    let width = contenders.iter().map(|contender| contender.name.len()).max().unwrap_or(0);
    let mut text = format!(
        "Medians of {rounds} rounds (and the least and the greatest). Streams go from the near engine to the far one, \
         reverse ones back.\n\n"
    );
    for contender in contenders.iter().filter(|contender| contender.role != Role::CopyLimit) {
        let _ = writeln!(text, "{:width$}  {}", contender.name, contender.version);
    }
    text
}

/// Says on standard error what a round gave.
pub fn progress(workload: Workload, name: &str, outcome: &Outcome) {
    let figure = workload.headline();
    let value = match outcome {
        Ok(sample) => sample
            .get(figure)
            .map_or_else(String::new, |value| format!("{} {}", number(value, figure), figure.title)),
        Err(why) => why.clone(),
    };
    eprintln!("{}: {name}: {value}", workload.name());
}

/// One workload: a table of everybody's figures, and the ratios.
#[must_use]
pub fn table(results: &Results) -> String {
    let figures = results.figures();
    let headline = results.workload.headline();
    let mut lines = vec![header(&figures, headline)];
    for row in &results.rows {
        let cells = figures.iter().map(|&figure| cell(row, figure, headline));
        lines.push(std::iter::once(row.name.clone()).chain(cells).collect());
    }
    let mut text = format!("## {}\n\n{}", results.workload.title(), align(&lines));
    for row in &results.rows {
        if let Some(why) = row.failure() {
            let _ = writeln!(text, "{} failed: {why}", row.name);
        }
    }
    text + &ratios(results)
}

fn header(figures: &[Figure], headline: Figure) -> Vec<String> {
    let title = |figure: &Figure| match *figure == headline {
        true => format!("{} (min..max)", figure.title),
        false => figure.title.to_owned(),
    };
    std::iter::once(String::new()).chain(figures.iter().map(title)).collect()
}

fn cell(row: &Row, figure: Figure, headline: Figure) -> String {
    let Some(summary) = row.summary(figure) else { return "-".to_owned() };
    match figure == headline {
        true => spread(summary, |value| number(value, figure)),
        false => number(summary.median, figure),
    }
}

fn number(value: f64, figure: Figure) -> String {
    format!("{value:.*}", figure.digits)
}

fn spread(summary: Summary, show: impl Fn(f64) -> String) -> String {
    format!("{} ({}..{})", show(summary.median), show(summary.min), show(summary.max))
}

/// Columns that line up, the first to the left, the others to the right.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "{cell:width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

/// Adit to each peer, to the best one, and to the copy limit; and the peers to the copy limit.
fn ratios(results: &Results) -> String {
    let rows = &results.rows;
    let mut text = String::new();
    let mut line = |row: &Row, other: &Row, title: &str| {
        if let Some(ratio) = results.ratio(row, other) {
            let _ =
                writeln!(text, "{} / {title}: {}", row.name, spread(ratio, |value| format!("{value:.2}")));
        }
    };
    let adit = rows.iter().find(|row| row.role == Role::Adit);
    let limit = rows.iter().find(|row| row.role == Role::CopyLimit);
    if let Some(adit) = adit {
        for peer in rows.iter().filter(|row| row.role == Role::Peer) {
            line(adit, peer, &peer.name);
        }
        if let Some(best) = results.best_peer() {
            line(adit, best, &format!("the best peer, {}", best.name));
        }
    }
    if let Some(limit) = limit {
        for row in rows.iter().filter(|row| row.role != Role::CopyLimit) {
            line(row, limit, &limit.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::results;
    use super::*;

    #[test]
    fn a_table_with_its_ratios() {
        let rows: [(&str, Role, &[Option<f64>]); 4] = [
            ("adit", Role::Adit, &[Some(8.0), Some(4.0), Some(6.0)]),
            ("peer", Role::Peer, &[Some(2.0), Some(1.0), Some(3.0)]),
            ("wreck", Role::Peer, &[None, None, None]),
            ("copy limit", Role::CopyLimit, &[Some(16.0), Some(8.0), Some(12.0)]),
        ];
        let expected = "\
## TCP, one stream

              Gb/s (min..max)
adit         6.00 (4.00..8.00)
peer         2.00 (1.00..3.00)
wreck                        -
copy limit  12.00 (8.00..16.00)
wreck failed: it broke
adit / peer: 4.00 (2.00..4.00)
adit / the best peer, peer: 4.00 (2.00..4.00)
adit / copy limit: 0.50 (0.50..0.50)
peer / copy limit: 0.12 (0.12..0.25)
";
        let squeeze = |text: &str| {
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeeze(&table(&results(Workload::Tcp, &rows))), squeeze(expected));
    }

    #[test]
    fn columns_line_up() {
        let lines = [vec!["".to_owned(), "x".to_owned()], vec!["ab".to_owned(), "123".to_owned()]];
        assert_eq!(align(&lines), "      x\nab  123\n");
    }
}
