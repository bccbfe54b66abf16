//! The medians as a picture: a group of bars for each workload, in an SVG that follows the reader's light or dark theme.

use std::fmt::Write as _;

use super::contender::Role;
use super::sample::{Results, Row};

/// Sizes in pixels.
const WIDTH: usize = 760;
const MARGIN: usize = 24;
const NAME_WIDTH: usize = 120;
const VALUE_WIDTH: usize = 150;
const BAR: usize = 18;
const GAP: usize = 6;
const TITLE: usize = 34;
const BETWEEN: usize = 18;

const STYLE: &str = "\
  <style>
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .title { font-weight: 600 }
    .value { font-variant-numeric: tabular-nums }
    .adit { fill: #0969da } .peer { fill: #8c959f } .limit { fill: none; stroke: #8c959f; stroke-dasharray: 4 3 }
    .spread { stroke: #24292f; stroke-width: 1.5 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .adit { fill: #4493f8 } .peer { fill: #6e7681 } .limit { stroke: #8b949e }
      .spread { stroke: #e6edf3 }
    }
  </style>
";

/// Draws every workload that has a figure.
#[must_use]
pub fn svg(all: &[Results]) -> String {
    let mut body = String::new();
    let mut y = MARGIN;
    for results in all.iter().filter(|results| greatest(results) > 0.0) {
        y = panel(&mut body, results, y) + BETWEEN;
    }
    let height = y + MARGIN - BETWEEN.min(y);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Medians of every workload\">\n{STYLE}{body}</svg>\n"
    )
}

/// The greatest value of a workload, which its longest bar or spread stands for.
fn greatest(results: &Results) -> f64 {
    let maxima = results.rows.iter().filter_map(|row| row.summary(results.workload.headline()));
    maxima.map(|summary| summary.max).fold(0.0, f64::max)
}

/// Draws one workload from `y` downwards; returns where it ends.
fn panel(body: &mut String, results: &Results, mut y: usize) -> usize {
    let workload = results.workload;
    let direction = if workload.more_is_better() { "more is better" } else { "less is better" };
    let title = escape(workload.title());
    let unit = escape(workload.headline().title);
    let _ = writeln!(
        body,
        "  <text class=\"title\" x=\"{MARGIN}\" y=\"{}\">{title}</text>\n  \
         <text x=\"{}\" y=\"{0}\" text-anchor=\"end\">{unit}, {direction}</text>",
        y + 14,
        WIDTH - MARGIN,
    );
    y += TITLE;
    let scale = (WIDTH - 2 * MARGIN - NAME_WIDTH - VALUE_WIDTH) as f64 / greatest(results);
    for row in &results.rows {
        bar(body, results, row, y, scale);
        y += BAR + GAP;
    }
    y
}

fn bar(body: &mut String, results: &Results, row: &Row, y: usize, scale: f64) {
    let left = MARGIN + NAME_WIDTH;
    let text_y = y + BAR - 5;
    let _ = writeln!(body, "  <text x=\"{MARGIN}\" y=\"{text_y}\">{}</text>", escape(&row.name));
    let figure = results.workload.headline();
    let Some(summary) = row.summary(figure) else {
        let _ = writeln!(body, "  <text x=\"{left}\" y=\"{text_y}\">failed</text>");
        return;
    };
    let class = match row.role {
        Role::Adit => "adit",
        Role::Peer => "peer",
        Role::CopyLimit => "limit",
    };
    let at = |value: f64| left as f64 + value * scale;
    let middle = y + BAR / 2;
    let _ = writeln!(
        body,
        "  <rect class=\"{class}\" x=\"{left}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>\n  \
         <line class=\"spread\" x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\"/>\n  \
         <text class=\"value\" x=\"{:.1}\" y=\"{text_y}\">{:.*}</text>",
        summary.median * scale,
        at(summary.min),
        at(summary.max),
        at(summary.max) + 8.0,
        figure.digits,
        summary.median,
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::results;
    use super::super::workload::Workload;
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let rows: [(&str, Role, &[Option<f64>]); 3] = [
            ("a<b", Role::Adit, &[Some(10.0)]),
            ("half", Role::Peer, &[Some(5.0)]),
            ("gone", Role::Peer, &[None]),
        ];
        let picture = svg(&[results(Workload::Tcp, &rows)]);
        let whole = (WIDTH - 2 * MARGIN - NAME_WIDTH - VALUE_WIDTH) as f64;
        assert!(picture.contains(&format!("width=\"{whole:.1}\"")), "{picture}");
        assert!(picture.contains(&format!("width=\"{:.1}\"", whole / 2.0)), "{picture}");
        assert!(picture.contains("a&lt;b") && picture.contains(">failed<"));
        assert_eq!(picture.matches("<rect").count(), 2);
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        let nothing = results(Workload::Tcp, &[("a", Role::Adit, &[None])]);
        assert!(!svg(&[nothing]).contains("<rect"));
    }
}
