//! What is told of a command line that is wrong: one line.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::wg;

/// What a wrong command line ends with.
const MISUSED: u8 = 2;

/// Prints what was asked for (help, the version), or what is wrong.
///
/// `subcommand` is whose command line it is, if it is one's.
pub(super) fn tell(error: &clap::Error, subcommand: Option<&str>) -> ExitCode {
    if !error.use_stderr() {
        return match wg::print(error.to_string().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => wg::tell(error.to_string().trim_end()),
        _ => wg::tell(line(error, subcommand)),
    }
    ExitCode::from(MISUSED)
}

/// The first paragraph of what clap says, which is the mistake; its usage is in the manual.
fn line(error: &clap::Error, subcommand: Option<&str>) -> String {
    let text = error.to_string();
    let paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let what = paragraph.join(" ");
    let mut line = format!("adit: {}", what.strip_prefix("error: ").unwrap_or(&what));
    let similar = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue]
        .into_iter()
        .find_map(|kind| error.get(kind));
    match similar {
        Some(ContextValue::String(word)) => line += &format!("; did you mean `{word}'?"),
        Some(ContextValue::Strings(words)) if !words.is_empty() => {
            line += &format!("; did you mean `{}'?", words.join("' or `"));
        }
        _ => match subcommand {
            Some(name) => line += &format!("; see adit {name} --help"),
            None => line += "; see adit --help",
        },
    }
    line
}

/// Refuses a misspelt subcommand, which would otherwise be taken for the name of an interface to create.
///
/// # Errors
/// With what to exit with, having said why.
pub(super) fn refuse_misspelt(definition: &clap::Command, args: &[OsString]) -> Result<(), ExitCode> {
    let [program, word, rest @ ..] = args else { return Ok(()) };
    let Some(word) = word.to_str().filter(|word| !word.starts_with('-')) else { return Ok(()) };
    let mut names = definition.get_subcommands().filter(|command| !command.is_hide_set());
    if definition.find_subcommand(word).is_some() || word == "help" || is_called_by_a_program(program) {
        return Ok(());
    }
    let similar = names.find(|command| is_misspelt(word, command.get_name()));
    let said = match similar {
        // wg has it as a subcommand.
        _ if word == "version" => "there is no command `version'; did you mean `--version'?".to_owned(),
        Some(meant) => format!("there is no command `{word}'; did you mean `{}'?", meant.get_name()),
        // Of an interface nothing else is told but options.
        None if rest.first().is_some_and(|next| !next.to_string_lossy().starts_with('-')) => {
            format!("there is no command `{word}'; see adit --help")
        }
        None => return Ok(()),
    };
    // That is how the engine is told of an interface which is called like a subcommand.
    let hint = match rest.iter().all(|next| next.to_string_lossy().starts_with('-')) {
        true => format!(" To create an interface of that name: adit -- {word}"),
        false => String::new(),
    };
    wg::tell(format_args!("adit: {said}{hint}"));
    Err(ExitCode::from(MISUSED))
}

/// wg-quick of wireguard-tools starts the engine that this variable names with nothing but the interface, and so do those who
/// call it wireguard-go. None of them misspells a subcommand.
fn is_called_by_a_program(program: &OsStr) -> bool {
    env::var_os("WG_QUICK_USERSPACE_IMPLEMENTATION").is_some()
        || Path::new(program).file_name().is_some_and(|name| name != "adit")
}

/// Whether `word` is `meant` but for one slip: a letter too many, missing or wrong, or two in the wrong order. Interfaces are
/// called by short names and by ones with digits, so those slip only if letters changed places or their case.
fn is_misspelt(word: &str, meant: &str) -> bool {
    let (word, meant): (Vec<char>, Vec<char>) = (word.chars().collect(), meant.chars().collect());
    let start = word.iter().zip(&meant).take_while(|(a, b)| a == b).count();
    let (w, m) = (&word[start..], &meant[start..]);
    let lower = |chars: &[char]| chars.iter().collect::<String>().to_lowercase();
    let changed_places = w.len() >= 2 && m.len() >= 2 && w[0] == m[1] && w[1] == m[0] && w[2..] == m[2..];
    if changed_places || lower(&word) == lower(&meant) {
        return true;
    }
    if meant.len() < 4 || word.iter().any(char::is_ascii_digit) {
        return false;
    }
    match (w, m) {
        ([_, w @ ..], [_, m @ ..]) if w == m => true,
        ([_, rest @ ..], m) if rest == m => true,
        (w, [_, rest @ ..]) if w == rest => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip() {
        for word in ["shwo", "sho", "shows", "shaw", "hsow", "Show", "SHOW", "show"] {
            assert!(is_misspelt(word, "show"), "{word}");
        }
        for word in ["wg0", "s", "shw0", "show0", "showconf", "tunnel", "wohs", "", "shwoo"] {
            assert!(!is_misspelt(word, "show"), "{word}");
        }
        assert!(is_misspelt("pu", "up") && is_misspelt("UP", "up") && is_misspelt("ste", "set"));
        assert!(!is_misspelt("us", "up") && !is_misspelt("net", "set") && !is_misspelt("ups", "up"));
    }

    /// Names that people give to interfaces.
    #[test]
    fn names_of_interfaces_are_none() {
        let definition = super::super::Program::Adit.definition();
        for name in [
            "wg0",
            "wg1",
            "home",
            "work",
            "office",
            "vpn",
            "vpn0",
            "us",
            "mullvad",
            "tun0",
            "wg-server",
            "utun",
            "wt0",
        ] {
            for command in definition.get_subcommands() {
                assert!(!is_misspelt(name, command.get_name()), "{name} {}", command.get_name());
            }
        }
    }
}
