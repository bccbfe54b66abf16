//! What is wrong with a file, and where.

use std::fmt;

/// What is wrong with a configuration, in wireguard-tools' words, and where it is if it is in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What wireguard-tools says.
    pub message: String,
    /// How wireguard-tools sums it up.
    pub summary: &'static str,
    /// Where it is.
    pub place: Option<Place>,
    /// What would have been right, or what to do.
    pub hint: &'static str,
    /// What is probably a mistake in the lines before, a line each.
    pub warnings: Vec<String>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line, without secrets.
    pub text: String,
}

impl Error {
    /// All of it, with the file's name: wireguard-tools' lines, then the place, the line itself, and a mark below it.
    #[must_use]
    pub fn display<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            for line in self.warnings.iter().chain([&self.message]) {
                writeln!(f, "{line}")?;
            }
            writeln!(f, "{}", self.summary)?;
            let Some(place) = &self.place else { return write!(f, "{file}: {}", self.hint) };
            let Place { line, column, .. } = place;
            writeln!(f, "{file}:{line}:{column}: {}", self.hint)?;
            write!(f, "{}", place.excerpt())
        })
    }
}

impl Place {
    /// The line, and a mark below it.
    pub(crate) fn excerpt(&self) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            let Place { line, column, text } = self;
            writeln!(f, "  {line} | {text}")?;
            // Tabs stay tabs, so that the mark is where the eye looks for it.
            let indent: String =
                text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "  {:width$} | {indent}^", "", width = line.to_string().len())
        })
    }
}
