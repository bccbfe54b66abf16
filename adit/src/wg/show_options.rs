//! What `show` takes beside wg's words.

/// The options of one call. Without any, `show` is wg's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Print one JSON object instead.
    pub(super) json: bool,
    /// What goes wrong, and what to do about it.
    pub(super) why: bool,
    /// Stay, and show what changes.
    pub(super) watch: bool,
}

/// An option: how it is spelled, what it does, and where that is kept.
pub(crate) struct ShowOption {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    of: fn(&mut Options) -> &mut bool,
}

/// All there are; help texts, completions and manual pages are made from this.
#[rustfmt::skip]
pub(crate) static OPTIONS: [ShowOption; 3] = [
    ShowOption { name: "--json", about: "Prints one JSON object instead, also of a field", of: |options| &mut options.json },
    ShowOption { name: "--why", about: "Prints what goes wrong and what to do about it", of: |options| &mut options.why },
    ShowOption { name: "--watch", about: "Shows rates, handshakes and endpoints on the terminal, renewed each second, until q is pressed", of: |options| &mut options.watch },
];

impl Options {
    /// Takes the options out of `words`, wherever they stand; the rest is for wg's rules.
    pub(super) fn split<'a>(words: impl IntoIterator<Item = &'a str>) -> (Options, Vec<&'a str>) {
        let mut options = Options::default();
        let rest = words.into_iter().filter(|word| {
            let option = OPTIONS.iter().find(|option| option.name == *word);
            if let Some(option) = option {
                *(option.of)(&mut options) = true;
            }
            option.is_none()
        });
        let rest = rest.collect();
        (options, rest)
    }

    /// An option that there is not. No interface is called like one, but wg asks for such an interface.
    pub(super) fn unknown<'a>(words: &[&'a str]) -> Option<&'a str> {
        words.iter().copied().find(|word| word.starts_with("--") && *word != "--help")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_anywhere() {
        let json = Options { json: true, ..Options::default() };
        assert_eq!(Options::split(["wg0", "dump"]), (Options::default(), vec!["wg0", "dump"]));
        for words in [["--json", "wg0", "dump"], ["wg0", "--json", "dump"], ["wg0", "dump", "--json"]] {
            assert_eq!(Options::split(words), (json, vec!["wg0", "dump"]));
        }
        assert_eq!(Options::split(["--json", "--json"]), (json, vec![]));
        assert_eq!(Options::split(["--jsonx", "-json"]), (Options::default(), vec!["--jsonx", "-json"]));
    }
}
