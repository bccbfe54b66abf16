//! What packages install beside the program: man pages and completions. And what those ask for.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap_complete::engine::CompletionCandidate;

use super::{Program, complete, man};
use crate::wg;

#[derive(clap::Subcommand)]
pub(crate) enum Invocation {
    /// Print what makes a shell complete command lines, for the shell's start-up file
    #[command(after_help = HOW_TO_LOAD)]
    Completions {
        /// Which shell
        shell: Shell,
        /// What it is to complete
        #[arg(default_value = "adit")]
        program: Program,
    },
    /// Write the man pages and completions below a directory, for packages
    #[command(hide = true)]
    Generate {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print what may stand in place of the last word, for those completions
    #[command(hide = true)]
    Complete {
        shell: Shell,
        program: Program,
        #[arg(last = true)]
        words: Vec<OsString>,
    },
}

const HOW_TO_LOAD: &str = "\
To have it in every new shell:
  bash  echo 'source <(adit completions bash)' >>~/.bashrc
  zsh   echo 'source <(adit completions zsh)' >>~/.zshrc    # after compinit
  fish  adit completions fish >~/.config/fish/completions/adit.fish";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Invocation {
    pub(crate) fn run(&self) -> ExitCode {
        let done = match self {
            Invocation::Completions { shell, program } => print(&shell.script(*program)),
            Invocation::Generate { directory } => generate(directory).map_err(|(path, error)| {
                wg::tell(format_args!("adit: {}: {}", path.display(), wg::reason(&error)));
            }),
            Invocation::Complete { shell, program, words } => print(&shell.complete(*program, words)),
        };
        done.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
    }
}

fn print(text: &str) -> Result<(), ()> {
    wg::print(text.as_bytes()).map_err(|_| ())
}

/// Writes `man/*.8` and `completions/SHELL/*`, each under the name that it is installed by.
fn generate(directory: &Path) -> Result<(), (PathBuf, io::Error)> {
    let write = |place: PathBuf, text: &str| {
        let parent = place.parent().unwrap_or(directory);
        fs::create_dir_all(parent).and_then(|()| fs::write(&place, text)).map_err(|error| (place, error))
    };
    for program in Program::ALL {
        write(directory.join(format!("man/{}.8", program.file())), &man::page(program))?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            write(directory.join("completions").join(shell.file(program)), &shell.script(program))?;
        }
    }
    Ok(())
}

impl Program {
    /// A name for its files that no file of wireguard-tools has.
    pub(super) fn file(self) -> String {
        match self {
            Program::Adit => self.name().to_owned(),
            Program::Wg | Program::WgQuick => format!("adit-{}", self.name()),
        }
    }
}

impl Shell {
    fn file(self, program: Program) -> String {
        let name = program.file();
        match self {
            Shell::Bash => format!("bash/{name}"),
            Shell::Zsh => format!("zsh/_{name}"),
            Shell::Fish => format!("fish/{name}.fish"),
        }
    }

    /// What the shell loads. It asks this program at each completion.
    fn script(self, program: Program) -> String {
        let template = match self {
            Shell::Bash => include_str!("completion.bash"),
            Shell::Zsh => include_str!("completion.zsh"),
            Shell::Fish => include_str!("completion.fish"),
        };
        // zsh looks for a function by the name of the file.
        template.replace("FUNCTION", &format!("_{}", program.file())).replace("PROGRAM", program.name())
    }

    /// A line for each candidate, as the script expects it.
    fn complete(self, program: Program, words: &[OsString]) -> String {
        let mut lines = String::new();
        let kept = words.last().map_or(0, |word| kept_by_bash(word));
        for candidate in complete::candidates(program, words) {
            let value = candidate.get_value().to_string_lossy();
            let help = help(&candidate);
            let _ = match (self, help) {
                (Shell::Bash, _) => writeln!(lines, "{}", value.get(kept..).unwrap_or_default()),
                (Shell::Zsh, Some(help)) => writeln!(lines, "{}:{help}", value.replace(':', "\\:")),
                (Shell::Zsh, None) => writeln!(lines, "{}", value.replace(':', "\\:")),
                (Shell::Fish, Some(help)) => writeln!(lines, "{value}\t{help}"),
                (Shell::Fish, None) => writeln!(lines, "{value}"),
            };
        }
        lines
    }
}

fn help(candidate: &CompletionCandidate) -> Option<String> {
    candidate.get_help().and_then(|help| help.to_string().lines().next().map(str::to_owned))
}

/// How much of a word bash takes for words of their own, and keeps: all up to the last `=` or `:`.
fn kept_by_bash(word: &OsStr) -> usize {
    word.as_encoded_bytes().iter().rposition(|byte| b"=:".contains(byte)).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bash_gets_the_rest_of_a_word() {
        for (word, expected) in [("adit up --engine=k", "kernel\n"), ("adit up --en", "--engine\n")] {
            let words: Vec<OsString> = word.split(' ').map(OsString::from).collect();
            assert_eq!(Shell::Bash.complete(Program::Adit, &words), expected);
        }
    }
}
