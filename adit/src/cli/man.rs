//! The man pages: a page for each name by which the program is called.

use std::env;
use std::time::{Duration, SystemTime};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::texts::{ENVIRONMENT, EXAMPLES, EXIT_STATUS, Entry, FILES, INTERFACE_KEYS, PEER_KEYS, entries_of};
use super::{Program, groups};

const SECTION: &str = "8";

/// The page, in roff.
pub(super) fn page(program: Program) -> String {
    let mut command = program.definition();
    // Otherwise each has a line for --help, and there is a `help` for each.
    command =
        command.disable_help_subcommand(true).mut_subcommands(|command| command.disable_help_flag(true));
    command.build();
    let mut page = Page { program, told: Vec::new(), roff: Roff::default(), done: String::new() };
    page.roff.control("TH", [&*program.name().to_uppercase(), SECTION, &date(), SOURCE, "Adit"]);
    page.name(&command);
    page.synopsis(&command);
    page.section("DESCRIPTION");
    // It begins with what is in NAME already.
    let about = text(command.get_long_about());
    page.paragraphs(about.strip_prefix(&text(command.get_about())).unwrap_or(&about).trim_start());
    page.commands(&command);
    page.options(&command);
    if program != Program::Adit {
        page.configuration();
    }
    page.entries("ENVIRONMENT", &ENVIRONMENT);
    page.entries("FILES", &FILES);
    page.entries("EXIT STATUS", &EXIT_STATUS);
    page.entries("EXAMPLES", &EXAMPLES);
    page.see_also();
    page.finish();
    page.done
}

const SOURCE: &str = concat!("adit ", env!("CARGO_PKG_VERSION"));

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

struct Page {
    program: Program,
    /// What arguments of subcommands are, which is told once.
    told: Vec<String>,
    /// What comes after `done`.
    roff: Roff,
    done: String,
}

impl Page {
    fn finish(&mut self) {
        let rendered = std::mem::take(&mut self.roff).render();
        self.append(&rendered);
    }

    /// Appends rendered roff, each piece of which begins with the same definitions. Once is enough.
    fn append(&mut self, rendered: &str) {
        let is_definition = |line: &str| line.starts_with(".ie ") || line.starts_with(".el ");
        let is_first = self.done.is_empty();
        for line in rendered.lines().filter(|line| is_first || !is_definition(line)) {
            self.done.push_str(line.trim_end());
            self.done.push('\n');
        }
    }

    fn section(&mut self, title: &str) {
        self.roff.control("SH", [title]);
    }

    /// A tag, and below it, indented, what it means.
    fn tagged(&mut self, tag: Vec<Inline>, meaning: &str) {
        self.roff.control("TP", []);
        self.roff.text(tag);
        self.roff.text([roman(sentence(meaning))]);
    }

    fn paragraphs(&mut self, text: &str) {
        for (number, paragraph) in text.split("\n\n").enumerate() {
            if number > 0 {
                self.roff.control("PP", []);
            }
            self.roff.text([roman(sentence(&paragraph.replace('\n', " ")))]);
        }
    }

    fn name(&mut self, command: &Command) {
        let (file, name) = (self.program.file(), self.program.name());
        let names = if file == name { file } else { format!("{file}, {name}") };
        self.section("NAME");
        let about = text(command.get_about());
        self.roff.text([roman(format!("{names} - {}", lower(&about)))]);
    }

    /// The ways to call it, as `--help` tells them.
    fn synopsis(&mut self, command: &Command) {
        self.section("SYNOPSIS");
        let usage = command.clone().render_usage().to_string();
        let forms = usage.trim_start_matches("Usage:").lines().map(str::trim);
        for (number, form) in forms.filter(|form| !form.is_empty()).enumerate() {
            if number > 0 {
                self.roff.control("br", []);
            }
            self.roff.text(form_of(form));
        }
    }

    /// The subcommands in their groups. Those of `wg` have a page on which there is more.
    fn commands(&mut self, command: &Command) {
        let groups = groups(command);
        self.section("COMMANDS");
        for (title, members) in &groups {
            if groups.len() > 1 {
                self.roff.control("SS", [*title]);
            }
            for member in members {
                self.command(member);
            }
        }
    }

    fn command(&mut self, command: &Command) {
        let is_elsewhere = self.program == Program::Adit
            && Program::Wg.definition().find_subcommand(command.get_name()).is_some();
        let about = command.get_long_about().filter(|_| !is_elsewhere).or(command.get_about());
        self.roff.control("TP", []);
        self.roff.text(call(command));
        let about = text(about);
        let (first, rest) = about.split_once("\n\n").unwrap_or((&about, ""));
        self.paragraphs(first);
        if is_elsewhere {
            return;
        }
        let after = text(command.get_after_long_help().or(command.get_after_help()));
        let has_arguments = self.untold(command).get_arguments().any(|arg| !arg.is_hide_set());
        if rest.is_empty() && after.is_empty() && !has_arguments {
            return;
        }
        self.roff.control("RS", []);
        if !rest.is_empty() {
            self.roff.control("PP", []);
            self.paragraphs(rest);
        }
        if has_arguments {
            let untold = self.untold(command);
            self.arguments(&untold);
            self.told.extend(untold.get_positionals().map(|arg| text(arg.get_help())));
        }
        if !after.is_empty() {
            self.lists(&after);
        }
        self.roff.control("RE", []);
    }

    /// The command without those arguments that have been told of in the same words.
    fn untold(&self, command: &Command) -> Command {
        command.clone().mut_args(|arg| {
            let is_told = arg.is_positional() && self.told.contains(&text(arg.get_help()));
            if is_told { arg.hide(true) } else { arg }
        })
    }

    /// Text for `--help`: paragraphs, and indented lines of a name and, after two spaces or more, what it means.
    fn lists(&mut self, text: &str) {
        self.roff.control("PP", []);
        for line in text.lines() {
            match line.strip_prefix("  ").map(|line| line.split_once("  ").unwrap_or((line, ""))) {
                Some((name, meaning)) => {
                    self.roff.control("TP", []);
                    self.roff.text([bold(name)]);
                    self.roff.text([roman(meaning.trim_start())]);
                }
                None if line.is_empty() => {
                    self.roff.control("PP", []);
                }
                None => {
                    self.roff.text([roman(line)]);
                }
            }
        }
    }

    fn options(&mut self, command: &Command) {
        self.section("OPTIONS");
        if self.program == Program::Adit {
            self.roff.text([roman("Of the engine, when there is no command:")]);
        }
        self.arguments(command);
    }

    /// Options and other arguments, as clap_mangen has them.
    fn arguments(&mut self, command: &Command) {
        let mut rendered = Vec::new();
        let done = Man::new(command.clone()).render_options_section(&mut rendered);
        debug_assert!(done.is_ok(), "a Vec takes everything");
        let rendered = String::from_utf8_lossy(&rendered);
        let mut list: Vec<&str> = rendered.lines().skip_while(|line| !line.starts_with(".TP")).collect();
        // One break is enough.
        list.retain(|line| !line.trim().is_empty());
        list.dedup_by(|next, line| *next == ".br" && *line == ".br");
        self.finish();
        self.append(&list.join("\n"));
    }

    fn configuration(&mut self) {
        self.section("CONFIGURATION FILE");
        self.roff.text([roman(
            "Lines KEY = VALUE, whose keys' case does not matter, below the lines [Interface] or [Peer]. \
            There may be many peers. From # to the end of a line is a comment.",
        )]);
        let program = self.program;
        for (title, keys) in [("[Interface]", &INTERFACE_KEYS[..]), ("[Peer]", &PEER_KEYS[..])] {
            self.roff.control("SS", [title]);
            for Entry { name, meaning, .. } in entries_of(keys, program) {
                self.tagged(vec![bold(*name)], meaning);
            }
        }
    }

    fn entries(&mut self, title: &str, entries: &'static [Entry]) {
        self.section(title);
        for Entry { name, meaning, .. } in entries_of(entries, self.program) {
            self.tagged(vec![bold(*name)], meaning);
        }
    }

    fn see_also(&mut self) {
        let others = Program::ALL.into_iter().filter(|other| *other != self.program);
        let mut names: Vec<String> = others.map(Program::file).collect();
        names.extend(["ip".to_owned(), "wireguard".to_owned()]);
        self.section("SEE ALSO");
        let mut line = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let section = if name == "wireguard" { "7" } else { SECTION };
            line.extend([bold(name), roman(format!("({section})"))]);
            line.push(roman(if number + 1 < names.len() { ", " } else { "" }));
        }
        self.roff.text(line);
    }
}

/// A form of calling a program: what is to be written as it stands is bold, what stands for something else is not.
fn form_of(form: &str) -> Vec<Inline> {
    let mut inlines = Vec::new();
    for word in form.split(' ') {
        if !inlines.is_empty() {
            inlines.push(roman(" "));
        }
        let is_placeholder = word.chars().any(char::is_uppercase) || word.starts_with(['[', '<']);
        inlines.push(if is_placeholder { italic(word) } else { bold(word) });
    }
    inlines
}

/// How a subcommand is called: its name, its options, and what follows.
fn call(command: &Command) -> Vec<Inline> {
    let mut inlines = vec![bold(command.get_name())];
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional()) {
        let names = [
            arg.get_short().map(|short| format!("-{short}")),
            arg.get_long().map(|long| format!("--{long}")),
        ];
        let names: Vec<String> = names.into_iter().flatten().collect();
        inlines.extend([roman(" ["), bold(names.join("|"))]);
        if arg.get_action().takes_values() {
            inlines.extend([roman(" "), italic(value_name(arg))]);
        }
        inlines.push(roman("]"));
    }
    for arg in command.get_positionals().filter(|arg| !arg.is_hide_set()) {
        let many = if arg.get_num_args().is_some_and(|number| number.max_values() > 1) { "..." } else { "" };
        let (open, close) = if arg.is_required_set() { (" ", "") } else { (" [", "]") };
        inlines.extend([roman(open), italic(value_name(arg)), roman(format!("{many}{close}"))]);
    }
    inlines
}

fn value_name(arg: &clap::Arg) -> String {
    arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default()
}

fn sentence(text: &str) -> String {
    if text.is_empty() || text.ends_with(['.', ':']) { text.to_owned() } else { format!("{text}.") }
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

/// The day, or that of SOURCE_DATE_EPOCH: the same source makes the same pages.
fn date() -> String {
    let given = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO).as_secs();
    let (year, month, day) = civil(given.unwrap_or_else(now) / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// The date of a day since 1970.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(19_722), (2023, 12, 31));
        assert_eq!(civil(19_723), (2024, 1, 1));
        assert_eq!(civil(20_818), (2026, 12, 31));
    }

    /// Whoever adds a subcommand, an option or a word to the definition, adds it to the page.
    #[test]
    fn pages_have_everything() {
        for program in Program::ALL {
            let page =
                page(program).replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "");
            let mut definition = program.definition();
            definition.build();
            let commands = std::iter::once(&definition).chain(definition.get_subcommands());
            for command in commands.filter(|command| !command.is_hide_set() && command.get_name() != "help") {
                assert!(page.contains(command.get_name()), "{program:?}: {}", command.get_name());
                for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                    let long = arg.get_long().map(|long| format!("--{long}"));
                    let name = long.unwrap_or_else(|| value_name(arg));
                    assert!(page.contains(&name), "{program:?}: {} {name}", command.get_name());
                    for value in arg.get_possible_values().iter().filter(|_| program != Program::Adit) {
                        assert!(page.contains(value.get_name()), "{program:?}: {}", value.get_name());
                    }
                }
            }
        }
    }
}
