//! What the engine under test held, as a picture: second by second a line, and a dot for each rest.

use std::fmt::Write as _;

use super::Record;
use super::verdict::Kind;
use super::vitals::Sample;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const PANEL: f64 = 130.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 30.0;

const STYLE: &str = "\
  <style>
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .title { font-weight: 600 }
    .axis { stroke: #d0d7de }
    .line { fill: none; stroke: #8c959f; stroke-width: 1 }
    .rest { fill: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .axis { stroke: #30363d } .line { stroke: #6e7681 } .rest { fill: #4493f8 }
    }
  </style>
";

/// Draws a panel for each kind.
pub fn svg(record: &Record) -> String {
    let mut body = String::new();
    for (place, kind) in Kind::ALL.into_iter().enumerate() {
        panel(&mut body, record, kind, place as f64 * (TOP + PANEL) + TOP);
    }
    let height = 3.0 * (TOP + PANEL) + BOTTOM;
    let seconds = end(record);
    let _ = writeln!(
        body,
        "  <text x=\"{LEFT}\" y=\"{:.0}\">0 s</text>\n  <text x=\"{:.0}\" y=\"{0:.0}\" text-anchor=\"end\">{seconds:.0} s</text>",
        height - 8.0,
        WIDTH - RIGHT
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"What the engine held\">\n{STYLE}{body}</svg>\n"
    )
}

fn end(record: &Record) -> f64 {
    record.rests.iter().chain(&record.samples).map(|sample| sample.at.as_secs_f64()).fold(1.0, f64::max)
}

fn panel(body: &mut String, record: &Record, kind: Kind, y: f64) {
    let value = |sample: &Sample| kind.of(&sample.held[0]) as f64;
    let greatest = record.samples.iter().chain(&record.rests).map(value).fold(1.0, f64::max);
    let (right, bottom) = (WIDTH - RIGHT, y + PANEL - 20.0);
    let seconds = end(record);
    let at = |sample: &Sample| {
        let x = LEFT + sample.at.as_secs_f64() / seconds * (right - LEFT);
        (x, bottom - value(sample) / greatest * (bottom - y))
    };
    let _ = writeln!(
        body,
        "  <text class=\"title\" x=\"{LEFT}\" y=\"{:.0}\">{}</text>\n  \
         <line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom:.0}\" x2=\"{right}\" y2=\"{bottom:.0}\"/>\n  \
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{greatest:.0}</text>\n  \
         <text x=\"{2:.0}\" y=\"{bottom:.0}\" text-anchor=\"end\">0</text>",
        y - 8.0,
        kind.name(),
        LEFT - 8.0,
        y + 10.0
    );
    let points: Vec<_> = record.samples.iter().map(at).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(body, "  <polyline class=\"line\" points=\"{}\"/>", points.join(" "));
    for (x, y) in record.rests.iter().map(at) {
        let _ = writeln!(body, "  <circle class=\"rest\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>");
    }
}
