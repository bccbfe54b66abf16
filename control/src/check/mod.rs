//! `adit check`: what a file of `wg-quick` will do, and what about it is wrong or probably not meant.
//!
//! An error is what keeps the file from being brought up. A warning is what brings up something else than people mostly want;
//! a note is what they may want to know. Every finding says why it matters and what to do, and has a name that stays the same.
//! No finding and no outline has a secret key in it.

mod outline;
mod routes;
mod rules;
mod source;

use std::fmt;

use crate::conf::{self, Place};
use crate::quick;

pub use outline::{Outline, OutlinePeer};
use source::Source;

/// What there is to say about a file.
#[derive(Debug)]
pub struct Report {
    /// From the first line to the last; what is about no line comes last.
    pub findings: Vec<Finding>,
    /// What the file says, as far as it could be read.
    pub outline: Outline,
}

/// Something about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its name, for programs.
    pub code: &'static str,
    /// Where it is, if it is in one place.
    pub place: Option<Place>,
    /// What it is.
    pub message: String,
    /// Why that matters. Of an error that is clear.
    pub why: &'static str,
    /// What to do.
    pub advice: String,
}

impl Finding {
    /// All of it, with the file's name.
    #[must_use]
    pub fn display<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            let Finding { severity, code, place, message, why, advice } = self;
            write!(f, "{file}:")?;
            if let Some(place) = place {
                write!(f, "{}:{}:", place.line, place.column)?;
            }
            writeln!(f, " {}: {message} [{code}]", severity.name())?;
            if let Some(place) = place {
                writeln!(f, "{}", place.excerpt())?;
            }
            if why.is_empty() {
                return write!(f, "  {}", sentence(advice));
            }
            write!(f, "  Why: {why}.\n  Do: {advice}.")
        })
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if text.ends_with('?') { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not meant.
    Warning,
    /// It cannot be brought up.
    Error,
}

impl Severity {
    /// As people and programs read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl Report {
    /// How many findings are so bad.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether the file cannot be brought up.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }
}

/// Looks at the content of a file; `tables` knows routing tables by name.
#[must_use]
pub fn check(content: &[u8], tables: impl Fn(&str) -> Option<u32>) -> Report {
    let (config, errors) = quick::read_all(content, tables);
    let mut findings: Vec<Finding> = errors.into_iter().map(misread).collect();
    findings.extend(conf::errors(&config.rest).into_iter().map(misread));
    let outline = conf::decoded(content, |text| {
        let source = Source::new(text, config);
        // Lines that are not understood are missing in it: what seems to be missing may be in them.
        if findings.is_empty() {
            rules::apply(&source, &mut findings);
            routes::apply(&source, &mut findings);
        }
        Outline::new(&source)
    });
    for finding in &mut findings {
        finding.message = conf::harmless(&finding.message);
        finding.advice = conf::harmless(&finding.advice);
    }
    findings.sort_by_key(|finding| {
        finding.place.as_ref().map_or((usize::MAX, 0), |place| (place.line, place.column))
    });
    Report { findings, outline }
}

/// What a reader says.
fn misread(error: conf::Error) -> Finding {
    let typo = error.place.as_ref().and_then(|place| rules::likely_key(&place.text));
    let advice = match typo {
        Some(key) if error.message.starts_with("Line unrecognized") && !error.hint.contains("byte order") => {
            format!("did you mean {key}?")
        }
        _ => error.hint.to_owned(),
    };
    let message = error.message.trim_start_matches("Error: ").trim_end_matches(['.', ':']).to_owned();
    Finding { severity: Severity::Error, code: "syntax", place: error.place, message, why: "", advice }
}

#[cfg(test)]
mod tests;
