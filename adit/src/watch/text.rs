//! Numbers as people read them at a glance, and lines that fit.

use crate::terminal::{BARS, RESET};

/// Bits in a second, to three digits that count.
pub(super) fn rate(bits: f32) -> String {
    let units = ["b/s", "kb/s", "Mb/s", "Gb/s", "Tb/s"];
    let (mut number, mut unit) = (f64::from(bits), 0);
    // What would be rounded to 1000 is of the next unit.
    while number >= 999.5 && unit + 1 < units.len() {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    let decimals = match number {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {}", units[unit])
}

/// A time in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A line of at most so many columns. What is put into it is printed as it is, or as a question mark: a name cannot move
/// the cursor.
#[derive(Debug)]
pub(super) struct Line {
    text: String,
    left: usize,
    color: bool,
}

impl Line {
    pub(super) fn new(width: usize, color: bool) -> Self {
        Self { text: String::new(), left: width, color }
    }

    /// Appends text in a style, as far as there is room.
    pub(super) fn put(&mut self, style: &str, text: &str) {
        let text: String = text.chars().map(printable).take(self.left).collect();
        self.left -= text.chars().count();
        if self.color && !style.is_empty() && !text.is_empty() {
            self.text += &format!("{style}{text}{RESET}");
        } else {
            self.text += &text;
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// Every character here takes one column.
fn printable(char: char) -> char {
    let is_printable = char == ' ' || char.is_ascii_graphic() || BARS.contains(&char) || char == '…';
    if is_printable { char } else { '?' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        for (bits, text) in [
            (0.0, "0 b/s"),
            (999.4, "999 b/s"),
            (999.6, "1.00 kb/s"),
            (9_994.0, "9.99 kb/s"),
            (9_996.0, "10.0 kb/s"),
            (123_456.0, "123 kb/s"),
            (999_600.0, "1.00 Mb/s"),
            (6.58e9, "6.58 Gb/s"),
            (2e15, "2000 Tb/s"),
        ] {
            assert_eq!(rate(bits), text);
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (7322, "2 h 2 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn lines_end_where_the_screen_does() {
        let mut line = Line::new(9, true);
        line.put("\x1b[1m", "wg\x1b[2J");
        line.put("", "äb▁…");
        line.put("\x1b[1m", "more");
        assert_eq!(line.finish(), "\x1b[1mwg?[2J\x1b[0m?b▁");
        let mut line = Line::new(3, false);
        line.put("\x1b[1m", "a\tb\n");
        assert_eq!(line.finish(), "a?b");
    }
}
