//! What the subcommands that draw have in common: whether they may, colours, and bars.

use std::env;
use std::io::{self, IsTerminal as _};

pub(crate) const BOLD: &str = "\x1b[1m";
pub(crate) const DIM: &str = "\x1b[2m";
pub(crate) const RED: &str = "\x1b[31m";
pub(crate) const GREEN: &str = "\x1b[32m";
pub(crate) const YELLOW: &str = "\x1b[33m";
pub(crate) const CYAN: &str = "\x1b[36m";
pub(crate) const RESET: &str = "\x1b[0m";

/// What [`plot`] draws with.
pub(crate) const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Whether standard output is a terminal that can do more than print lines.
pub(crate) fn is_output() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether the user wants no colours anywhere (<https://no-color.org>).
pub(crate) fn no_color() -> bool {
    env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// A bar for each sample; one as high as `top` is full.
pub(crate) fn plot(samples: &[f64], top: f64) -> String {
    let top = top.max(f64::MIN_POSITIVE);
    let bar = |sample: &f64| BARS[((sample / top * BARS.len() as f64) as usize).min(BARS.len() - 1)];
    samples.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        assert_eq!(plot(&[0.0, 1.0, 2.0, 4.0], 4.0), "▁▃▅█");
        assert_eq!(plot(&[1.0, 5.0], 2.0), "▅█");
        assert_eq!(plot(&[0.0, 0.0], 0.0), "▁▁");
        assert_eq!(plot(&[], 1.0), "");
    }
}
