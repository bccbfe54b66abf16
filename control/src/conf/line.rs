//! A line as `wg` sees it: without its comment and without any white space, even inside words; and what of it may be shown.

use zeroize::Zeroizing;

use super::error::Place;

/// What is left of a line.
pub(crate) struct Line<'a> {
    number: usize,
    raw: &'a str,
    text: Zeroizing<String>,
}

impl<'a> Line<'a> {
    /// The line of that number, counted from 1. It ends at the first `#`.
    pub(crate) fn new(number: usize, raw: &'a str) -> Self {
        // With room for all of it: a text that grows leaves its old bytes behind in freed memory.
        let mut text = Zeroizing::new(String::with_capacity(raw.len()));
        text.extend(body(raw).chars().filter(|char| !is_space(*char)));
        Line { number, raw, text }
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text without keys.
    pub(super) fn shown(&self) -> String {
        if self.is_public_key() { self.text.to_string() } else { without_keys(&self.text) }
    }

    /// Whether the line holds what must not be shown.
    pub(super) fn hides(&self) -> bool {
        self.shown() != *self.text
    }

    /// Where in the file the character is that starts at byte `offset` of the text, and the line as it may be shown.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let hides = self.hides();
        let text = match self.is_public_key() {
            true => body(self.raw).trim_end().to_owned(),
            false => without_keys(self.raw.trim_end()),
        };
        // A key in front of the fault would take the column along.
        let column = self.column(if hides { 0 } else { offset });
        Place { line: self.number, column, text: harmless(&text) }
    }

    /// The column of the character that starts at byte `offset` of the text; at its end, the column behind it.
    fn column(&self, offset: usize) -> usize {
        let index = self.text.get(..offset).map_or(0, |before| before.chars().count());
        let mut columns = (1..).zip(body(self.raw).chars()).filter(|(_, char)| !is_space(*char));
        let last = columns.clone().last().map_or(0, |(column, _)| column);
        columns.nth(index).map_or(last + 1, |(column, _)| column)
    }

    /// A public key, and nothing that could be a second one behind it.
    fn is_public_key(&self) -> bool {
        const NAME: &str = "PublicKey=";
        const LONGEST: usize = 60;
        starts_with(&self.text, NAME) && self.text.len() <= NAME.len() + LONGEST
    }
}

fn body(raw: &str) -> &str {
    raw.split('#').next().unwrap_or_default()
}

/// What is white space to C, whatever the locale.
#[must_use]
pub fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t'..='\r')
}

/// A text as a terminal may show it: what would move the cursor, or turn the direction of what follows, becomes a mark.
#[must_use]
pub fn harmless(text: &str) -> String {
    let is_harmful = |char: char| {
        let turns = matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns || char.is_control() && char != '\t' && char != '\n'
    };
    text.chars().map(|char| if is_harmful(char) { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
}

const SECRETS: [&str; 2] = ["PrivateKey", "PresharedKey"];
const HIDDEN: &str = "(hidden)";

/// A line with everything hidden that could be a key, however mistyped: what is behind the first `=` or `:`, or all of it.
pub(crate) fn without_keys(line: &str) -> String {
    let body = body(line);
    let comment = &line[body.len()..];
    let comment = if holds_secret(&squeezed(comment)) { "# (hidden)" } else { comment };
    let indent = &body[..body.len() - body.trim_start_matches(is_space).len()];
    let text = squeezed(body);
    if let Some(name) = SECRETS.iter().find(|name| starts_with(&text, name)) {
        return format!("{indent}{} = {HIDDEN}{comment}", &text[..name.len()]);
    }
    if !holds_secret(&text) {
        return format!("{body}{comment}");
    }
    let name = body.split(['=', ':']).next().unwrap_or_default();
    if name.len() == body.len() || holds_secret(&squeezed(name)) {
        return format!("{indent}{HIDDEN}{comment}");
    }
    format!("{}{HIDDEN}{comment}", &body[..=name.len()])
}

/// Also without what is between the characters of UTF-16, and cannot be seen.
fn squeezed(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    let is_seen =
        |char: &char| !is_space(*char) && !char.is_control() && *char != char::REPLACEMENT_CHARACTER;
    out.extend(text.chars().filter(is_seen));
    out
}

/// Whether `text`, without white space, could hold a key: in base64 or hexadecimal, a few characters short, or with one
/// among them that does not belong there. Or it names one.
fn holds_secret(text: &str) -> bool {
    const SHORTEST: usize = 38;
    let is_base64 = |char: char| char.is_ascii_alphanumeric() || "+/-_".contains(char);
    let mut before = 0;
    let has_key = text.split(|char| !is_base64(char)).any(|run| {
        let both = before + run.len();
        before = run.len();
        both >= SHORTEST
    });
    let names = |name: &str| {
        text.as_bytes().windows(name.len()).any(|part| part.eq_ignore_ascii_case(name.as_bytes()))
    };
    has_key || SECRETS.into_iter().any(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_comments_go_and_columns_stay() {
        let line = Line::new(1, "  Allowed IPs\t= 10.0.0.0/8 # all = of it\r\n");
        assert_eq!(line.text(), "AllowedIPs=10.0.0.0/8");
        assert_eq!(line.column(0), 3);
        assert_eq!(line.column(7), 11);
        assert_eq!(line.column(line.text().len()), 27);
        assert_eq!(Line::new(1, "# nothing").text(), "");
        assert_eq!(Line::new(1, "\u{b}\u{c} \u{a0}x").text(), "\u{a0}x");
    }

    #[test]
    fn keys_are_hidden() {
        let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let hex = "c53201039adba14be71f886da1d8dbe9eebded08cb111b75340078999aa9f038";
        let (start, end) = key.split_at(10);
        for (line, shown) in [
            (format!("PrivateKeey = {key}"), "PrivateKeey =(hidden)"),
            (format!("PrivateKey {key}"), "PrivateKey = (hidden)"),
            (format!("  private key = x # {key}"), "  privatekey = (hidden)# (hidden)"),
            (format!("PresharedKeyy = {start} {end}"), "PresharedKey = (hidden)"),
            (format!("PresharedKKey = {start} {end}"), "PresharedKKey =(hidden)"),
            (format!("PrivateKeey {key}"), "(hidden)"),
            (format!("\tKey: {hex} # ours"), "\tKey:(hidden)# ours"),
            (format!("Key {hex}"), "(hidden)"),
            (format!("Key = {key}{key}"), "Key =(hidden)"),
            (format!("Key = {start}!{end}"), "Key =(hidden)"),
            (format!("Key = {start}={end}"), "Key =(hidden)"),
            (format!("Key = {start}ü{end}"), "Key =(hidden)"),
            (format!("Private = {} # ü", &key[..40]), "Private =(hidden)# ü"),
            (key.to_owned(), "(hidden)"),
            (format!("[Interface] PrivateKey = {key}"), "(hidden)"),
            (format!("Foo = 1 # PrivateKey = {start}"), "Foo = 1 # (hidden)"),
            (
                format!("PrivateKey={key}").chars().flat_map(|char| [char, '\0']).collect(),
                "PrivateKey = (hidden)",
            ),
            (format!("Key {key}").chars().flat_map(|char| ['\u{fffd}', char]).collect(), "(hidden)"),
        ] {
            assert_eq!(without_keys(&line), shown, "{line}");
        }
        for line in [
            "Endpoint = vpn.example.com:51820",
            "AllowedIPs = 10.0.0.0/8, 2001:0db8:0000:0000:0000:0000:0000:0001/128 # both",
            "SaveConfig = maybe # x",
            "PersistentKeepalive = 25s",
        ] {
            assert_eq!(without_keys(line), line);
        }
    }

    #[test]
    fn a_public_key_is_shown_and_what_stands_behind_it_is_not() {
        let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let raw = format!("Public Key = {key}x # {key}");
        let line = Line::new(7, &raw);
        assert_eq!(line.shown(), format!("PublicKey={key}x"));
        let place = line.place(10);
        assert_eq!((place.line, place.column, place.text), (7, 14, format!("Public Key = {key}x")));
        let raw = format!("PublicKey = {key} PrivateKey = {key}");
        let line = Line::new(1, &raw);
        assert!(line.hides() && !line.place(0).text.contains(&key[..8]));
    }
}
