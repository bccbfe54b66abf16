//! `wg`, as wireguard-tools has it (wg(8)): what it prints, what it returns, what it asks of a device.
//!
//! `adit` is `wg` when it is called by that name, through a link; `adit show` and so on are the same.

pub(crate) mod definition;
pub(crate) mod device;
pub(crate) mod endpoint;
mod keys;
pub(crate) mod set;
pub(crate) mod setconf;
mod show;
pub(crate) mod show_options;
pub(crate) mod why;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// A subcommand: its name, what it does, and what runs it.
struct Subcommand {
    name: &'static str,
    about: &'static str,
    run: fn(&Call<'_>) -> Result<(), Failed>,
}

#[rustfmt::skip]
static SUBCOMMANDS: [Subcommand; 9] = [
    Subcommand { name: "show", about: "Shows the current configuration and device information", run: show::show },
    Subcommand { name: "showconf", about: "Shows the current configuration of a given WireGuard interface, for use with `setconf'", run: show::showconf },
    Subcommand { name: "set", about: "Change the current configuration, add peers, remove peers, or change peers", run: set::set },
    Subcommand { name: "setconf", about: "Applies a configuration file to a WireGuard interface", run: setconf::setconf },
    Subcommand { name: "addconf", about: "Appends a configuration file to a WireGuard interface", run: setconf::addconf },
    Subcommand { name: "syncconf", about: "Synchronizes a configuration file to a WireGuard interface", run: setconf::syncconf },
    Subcommand { name: "genkey", about: "Generates a new private key and writes it to stdout", run: keys::genkey },
    Subcommand { name: "genpsk", about: "Generates a new preshared key and writes it to stdout", run: keys::genpsk },
    Subcommand { name: "pubkey", about: "Reads a private key from stdin and writes a public key to stdout", run: keys::pubkey },
];

/// How a subcommand was called.
struct Call<'a> {
    /// The program's name as it was called.
    program: &'a str,
    name: &'static str,
    /// What follows the subcommand: paths, which may be of any bytes, and words.
    args: &'a [OsString],
}

impl Call<'_> {
    /// The arguments of a subcommand that takes no paths.
    fn words(&self) -> Vec<Cow<'_, str>> {
        self.args.iter().map(|word| word.to_string_lossy()).collect()
    }

    /// Tells how to call it, which is an error.
    fn misused(&self, usage: &str) -> Result<(), Failed> {
        self.tell_usage(usage);
        Err(Failed)
    }

    fn tell_usage(&self, usage: &str) {
        let usage = format!("Usage: {} {} {usage}", self.program, self.name);
        tell(usage.trim_end());
    }
}

/// It failed, and standard error says why.
pub(crate) struct Failed;

impl Failed {
    /// Says why, in one line or more.
    pub(crate) fn because(why: impl std::fmt::Display) -> Failed {
        tell(why);
        Failed
    }
}

/// Whether the program was called as `wg`.
pub(crate) fn is_called(argv0: &OsStr) -> bool {
    Path::new(argv0).file_name().is_some_and(|name| name == "wg")
}

/// Runs `wg` with all its arguments, the first of which is its name.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let (program, args) = args.split_first().map_or((OsStr::new("wg"), &[][..]), |(name, args)| (name, args));
    let program = &*program.to_string_lossy();
    let is_only = |words: &[&str]| args.len() == 1 && words.iter().any(|word| args[0] == *word);
    match args {
        [] => run(program, "show", &[]),
        _ if is_only(&["-v", "--version", "version"]) => {
            say(format!("wireguard-tools v{TOOLS_VERSION} - by adit {}\n", env!("CARGO_PKG_VERSION"))
                .as_bytes())
        }
        _ if is_only(&["-h", "--help", "help"]) => say(usage(program).as_bytes()),
        [name, args @ ..] => run(program, &name.to_string_lossy(), args),
    }
}

/// The wireguard-tools whose behaviour this is.
const TOOLS_VERSION: &str = "1.0.20260223";

/// Runs one subcommand.
fn run(program: &str, name: &str, args: &[OsString]) -> ExitCode {
    let Some(subcommand) = SUBCOMMANDS.iter().find(|subcommand| subcommand.name == name) else {
        tell(format_args!("Invalid subcommand: `{name}'"));
        tell(usage(program).trim_end());
        return ExitCode::FAILURE;
    };
    match (subcommand.run)(&Call { program, name: subcommand.name, args }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed) => ExitCode::FAILURE,
    }
}

fn usage(program: &str) -> String {
    let mut usage = format!("Usage: {program} <cmd> [<args>]\n\nAvailable subcommands:\n");
    for Subcommand { name, about, .. } in &SUBCOMMANDS {
        usage += &format!("  {name}: {about}\n");
    }
    usage + "You may pass `--help' to any of these subcommands to view usage.\n"
}

/// A subcommand of `adit`. Its words are read as wireguard-tools reads them, and not by another parser's rules.
pub(crate) struct Invocation {
    name: String,
    words: Vec<OsString>,
}

impl Invocation {
    /// If that is what `args`, the first of which is the program's name, ask for.
    pub(crate) fn of(args: &[OsString]) -> Option<Invocation> {
        let [_, name, words @ ..] = args else { return None };
        let subcommand = SUBCOMMANDS.iter().find(|subcommand| *name == *subcommand.name)?;
        Some(Invocation { name: subcommand.name.to_owned(), words: words.to_vec() })
    }

    /// Whether it is only to be told what there is.
    pub(crate) fn asks_for_help(&self) -> bool {
        matches!(&self.words[..], [word] if word == "-h" || word == "--help")
    }

    pub(crate) fn run(&self) -> ExitCode {
        run("adit", &self.name, &self.words)
    }
}

fn say(text: &[u8]) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed) => ExitCode::FAILURE,
    }
}

/// Prints to standard output. A reader that has gone away is told nothing.
pub(crate) fn print(text: &[u8]) -> Result<(), Failed> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failed,
        _ => Failed::because(format_args!("cannot print: {}", reason(&error))),
    })
}

/// Says something on standard error, and goes on if nobody listens: what was begun is to be finished or undone.
pub(crate) fn tell(text: impl std::fmt::Display) {
    // In one piece, so that lines of several programs do not mix.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// An error as C programs tell it: without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.rfind(" (os error ").map_or(text.as_str(), |end| &text[..end]).to_owned()
}
