//! What is seen meanwhile: on a terminal a line that is drawn again and again, elsewhere a line per second.

use std::fmt::{self, Display};
use std::io::{self, Write};

use super::error::{Stop, cannot};
use super::transfer::SAMPLE_INTERVAL;
use crate::terminal::{self, BOLD, CYAN, RESET, plot};

/// To the line's beginning, and clear it.
const REDRAW: &str = "\r\x1b[2K";
/// Columns of the first word of a line.
const LABEL_WIDTH: usize = 12;
/// Samples that the plot shows, a column each.
const PLOT_WIDTH: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Lines may be drawn again.
    Terminal,
    /// A file or a pipe.
    Lines,
    /// Only results.
    Silent,
}

/// Standard output.
pub(super) struct Screen {
    kind: Kind,
    /// Whether there are colours.
    pub(super) color: bool,
    /// The label of the progress line that the cursor is still on.
    open: Option<&'static str>,
}

impl Screen {
    /// As standard output allows, and NO_COLOR (<https://no-color.org>).
    pub(super) fn new() -> Self {
        let terminal = terminal::is_output();
        let kind = if terminal { Kind::Terminal } else { Kind::Lines };
        Self { kind, color: terminal && !terminal::no_color(), open: None }
    }

    /// Shows nothing but what is [printed](Screen::print).
    pub(super) fn silent() -> Self {
        Self { kind: Kind::Silent, color: false, open: None }
    }

    /// What is about to happen.
    pub(super) fn heading(&mut self, as_user: bool) -> Result<(), Stop> {
        let (who, kind) = match as_user {
            true => ("an ordinary user", "user and network"),
            false => ("root", "network"),
        };
        self.report(format_args!(
            "Two peers, a tunnel between them, in {kind} namespaces of their own, as {who}.\n\
             This machine's network stays as it is, and nothing remains.\n"
        ))
    }

    /// Something is done.
    pub(super) fn step(&mut self, label: &str, result: impl Display) -> Result<(), Stop> {
        let label = self.label(label);
        self.report(format_args!("{label}{result}"))
    }

    /// The throughputs of a transfer so far, in Gb/s, the last one being new.
    pub(super) fn progress(&mut self, label: &'static str, samples: &[f64]) -> Result<(), Stop> {
        match self.kind {
            Kind::Silent => Ok(()),
            Kind::Terminal => self.redraw(label, samples),
            Kind::Lines => {
                let per_second = (1000 / SAMPLE_INTERVAL.as_millis()) as usize;
                match samples.len() % per_second {
                    0 => {
                        self.second(label, samples.len() / per_second, &samples[samples.len() - per_second..])
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn redraw(&mut self, label: &'static str, samples: &[f64]) -> Result<(), Stop> {
        if self.open.is_some_and(|open| open != label) {
            self.end_progress();
        }
        self.open = Some(label);
        let shown = &samples[samples.len().saturating_sub(PLOT_WIDTH)..];
        let top = shown.iter().copied().fold(0.0, f64::max);
        let plot = self.paint(CYAN, plot(shown, top));
        let now = samples.last().unwrap_or(&0.0);
        write(format_args!("{REDRAW}{}{plot} {now:.2} Gb/s", self.label(label)))
    }

    fn second(&mut self, label: &str, second: usize, samples: &[f64]) -> Result<(), Stop> {
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        write(format_args!("{}{mean:.2} Gb/s in second {second}\n", self.label(label)))
    }

    /// Leaves the progress line as it is.
    pub(super) fn end_progress(&mut self) {
        if self.open.take().is_some() {
            // Whoever writes next to a terminal that is gone will hear of it.
            let _ = write(format_args!("\n"));
        }
    }

    fn report(&mut self, text: fmt::Arguments<'_>) -> Result<(), Stop> {
        match self.kind {
            Kind::Silent => Ok(()),
            Kind::Terminal | Kind::Lines => self.print(text),
        }
    }

    /// Prints a result and a newline.
    pub(super) fn print(&mut self, text: fmt::Arguments<'_>) -> Result<(), Stop> {
        self.end_progress();
        write(format_args!("{text}\n"))
    }

    /// `text` as the first word of a line.
    pub(super) fn label(&self, text: &str) -> String {
        self.paint(BOLD, format!("{text:LABEL_WIDTH$}"))
    }

    fn paint(&self, color: &str, text: String) -> String {
        if self.color { format!("{color}{text}{RESET}") } else { text }
    }
}

fn write(text: fmt::Arguments<'_>) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    stdout.write_fmt(text).and_then(|()| stdout.flush()).map_err(cannot("write the output"))
}
