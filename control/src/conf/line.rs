//! A line as `wg` sees it: without its comment and without any white space, even inside words.

/// What is left of a line, and where in the line each character of it was.
pub(super) struct Line<'a> {
    raw: &'a str,
    text: String,
    /// The column of each character of `text`, counted from 1.
    columns: Vec<usize>,
}

impl<'a> Line<'a> {
    /// Cuts `raw` at the first `#`.
    pub(super) fn new(raw: &'a str) -> Self {
        let mut line = Line { raw, text: String::with_capacity(raw.len()), columns: Vec::new() };
        for (column, char) in (1..).zip(raw.chars()) {
            if char == '#' {
                break;
            }
            if !is_space(char) {
                line.text.push(char);
                line.columns.push(column);
            }
        }
        line
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The column of the character that starts at byte `offset` of the text; at its end, the column behind it.
    pub(super) fn column(&self, offset: usize) -> usize {
        let index = self.text.get(..offset).map_or(0, |before| before.chars().count());
        let behind = self.columns.last().map_or(1, |last| last + 1);
        self.columns.get(index).copied().unwrap_or(behind)
    }

    /// The line as it stands in the file, to be shown.
    pub(super) fn raw(&self) -> &'a str {
        self.raw.trim_end()
    }
}

/// What is white space to C, whatever the locale.
fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t'..='\r')
}

/// `text` with everything that could be a key in base64 hidden.
pub(crate) fn without_keys(text: &str) -> String {
    let is_base64 = |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '/');
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find(is_base64) {
        let (before, word) = rest.split_at(start);
        let len = word.find(|char| !is_base64(char)).unwrap_or(word.len());
        out.push_str(before);
        // A mistyped key is a little shorter or longer than 43 characters.
        out.push_str(if (38..=48).contains(&len) { "(hidden)" } else { &word[..len] });
        rest = &word[len..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_comments_go_and_columns_stay() {
        let line = Line::new("  Allowed IPs\t= 10.0.0.0/8 # all = of it\r\n");
        assert_eq!(line.text(), "AllowedIPs=10.0.0.0/8");
        assert_eq!(line.column(0), 3);
        assert_eq!(line.column(7), 11);
        assert_eq!(line.column(line.text().len()), 27);
        assert_eq!(Line::new("# nothing").text(), "");
        assert_eq!(Line::new("\u{b}\u{c} \u{a0}x").text(), "\u{a0}x");
    }

    #[test]
    fn keys_are_hidden() {
        let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        assert_eq!(without_keys(&format!("PrivateKeey = {key}")), "PrivateKeey = (hidden)=");
        assert_eq!(without_keys(&format!("Private = {} # ü", &key[..40])), "Private = (hidden) # ü");
        assert_eq!(without_keys("Endpoint = vpn.example.com:51820"), "Endpoint = vpn.example.com:51820");
    }
}
