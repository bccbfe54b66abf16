//! The command line, defined once: parsing, `--help`, the man pages and the completions all come from here.

mod complete;
mod generate;
mod man;
mod mistake;
mod texts;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use adit_device::MAX_WORKERS;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{check, demo, metrics, new, qr, quick, status, wg};
use texts::{ENVIRONMENT, EXIT_STATUS, Entry, FILES, GROUPS, OTHERS, entries_of};

/// A userspace WireGuard, with wg and wg-quick
///
/// Adit is WireGuard, whole, in one program: the engine that serves an interface, and what people
/// use to set one up, change it and look at it. The commands of wg(8) and of wg-quick(8) are its own
/// commands, too; called as wg or wg-quick, through a link, it is these programs. They serve Adit's
/// own interfaces, those of any other userspace engine and the kernel's alike.
///
/// With nothing but the name of an interface it creates that and goes to the background once it is
/// ready. The interface is there until it is deleted or its socket is removed.
#[derive(Parser)]
#[command(
    name = "adit",
    version,
    verbatim_doc_comment,
    override_usage = "adit COMMAND [ARGUMENTS]...\n       adit [OPTIONS] INTERFACE",
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
}

/// The subcommands. In the overview they stand where `texts::GROUPS` puts them.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tell what a wg-quick file will do, and what about it is wrong or probably not meant
    Check(check::Args),
    /// Show a real tunnel between two network namespaces of its own, and leave nothing behind
    Demo(demo::Args),
    /// Make the files of a server and of clients that fit each other, or add a client
    New(new::Args),
    /// Show a file as a QR code, for a phone
    Qr(qr::Args),
    /// Tell which offloads of the kernel running engines use, and how often each served and failed
    Status(status::Args),
    /// Answer over HTTP what all WireGuard interfaces count, in OpenMetrics, for Prometheus and others
    Metrics(metrics::Args),
    #[command(flatten)]
    Quick(quick::Invocation),
    #[command(flatten)]
    Texts(generate::Invocation),
    /// They read their words themselves.
    #[command(skip)]
    Wg(wg::Invocation),
}

/// Without a subcommand: serve an interface.
#[derive(Args, Default)]
pub(crate) struct DaemonArgs {
    /// Stay in the foreground instead of going to the background once the interface is ready
    #[arg(short, long)]
    pub(crate) foreground: bool,
    /// Threads that move packets, at most 16; without this one for each processor, up to 8
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(crate) workers: Option<NonZeroUsize>,
    /// Offloads to do without: tun-tcp, tun-udp, tun-vnet-hdr (which takes the former two along), udp-gso, udp-gro, all
    #[arg(long, value_name = "LIST")]
    pub(crate) no_offload: Vec<String>,
    /// Parts of its confinement to do without: dumps, mlock, landlock, capabilities, seccomp, all
    #[arg(long, value_name = "PARTS")]
    pub(crate) no_confinement: Vec<String>,
    /// The interface to create, such as wg0
    #[arg(value_name = "INTERFACE")]
    pub(crate) interface: Option<String>,
}

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number| *number <= MAX_WORKERS);
    number.ok_or_else(|| format!("a number from 1 to {MAX_WORKERS} is needed"))
}

/// Reads the command line of `adit`. If there is nothing to run, it has said why, and this is what to exit with.
pub(crate) fn parse(args: &[OsString]) -> Result<Cli, ExitCode> {
    if let Some(invocation) = wg::Invocation::of(args).filter(|invocation| !invocation.asks_for_help()) {
        return Ok(Cli { command: Some(Command::Wg(invocation)), daemon: DaemonArgs::default() });
    }
    let definition = Program::Adit.definition();
    mistake::refuse_misspelt(&definition, args)?;
    let word = args.get(1).and_then(|word| word.to_str());
    let subcommand =
        word.and_then(|word| definition.find_subcommand(word)).map(|found| found.get_name().to_owned());
    let matches = definition.try_get_matches_from(args);
    matches
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| mistake::tell(&error, subcommand.as_deref()))
}

/// Each name by which the program is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Program {
    Adit,
    Wg,
    WgQuick,
}

impl Program {
    pub(crate) const ALL: [Program; 3] = [Program::Adit, Program::Wg, Program::WgQuick];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Adit => "adit",
            Program::Wg => "wg",
            Program::WgQuick => "wg-quick",
        }
    }

    /// Everything about its command line, for people as well as for parsing.
    pub(crate) fn definition(self) -> clap::Command {
        let command = match self {
            Program::Adit => Cli::command().subcommands(wg::definition::subcommands()),
            Program::Wg => wg::definition::program(),
            Program::WgQuick => quick::definition(),
        };
        let groups = overview(&command);
        command
            .help_template(format!(
                "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}{{after-help}}"
            ))
            .after_long_help(
                [
                    table("Environment", &ENVIRONMENT, self),
                    table("Files", &FILES, self),
                    table("Exit status", &EXIT_STATUS, self),
                ]
                .join("\n"),
            )
    }
}

/// The subcommands that people are told of, in their groups.
fn groups(command: &clap::Command) -> Vec<(&'static str, Vec<&clap::Command>)> {
    let visible = || command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    let is_grouped = |name| GROUPS.iter().any(|group| group.subcommands.contains(&name));
    let mut groups: Vec<(&str, Vec<_>)> = GROUPS
        .iter()
        .map(|group| {
            let named = |name: &&str| visible().find(|subcommand| subcommand.get_name() == *name);
            (group.title, group.subcommands.iter().filter_map(named).collect())
        })
        .collect();
    groups.push((OTHERS, visible().filter(|subcommand| !is_grouped(subcommand.get_name())).collect()));
    groups.retain(|(_, members)| !members.is_empty());
    groups
}

fn overview(command: &clap::Command) -> String {
    let groups = groups(command);
    let mut text = String::new();
    for (title, members) in &groups {
        let _ = writeln!(text, "{title}:");
        for member in members {
            let about = member.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:12} {about}", member.get_name());
        }
        text.push('\n');
    }
    text
}

/// Names in a column, and what they mean beside it.
fn table(title: &str, entries: &'static [Entry], program: Program) -> String {
    let mut text = format!("{title}:\n");
    for Entry { name, meaning, .. } in entries_of(entries, program) {
        let mut tag = format!("  {name}");
        if tag.len() >= COLUMN {
            let _ = writeln!(text, "{tag}");
            tag.clear();
        }
        for line in lines(meaning, WIDTH - COLUMN) {
            let _ = writeln!(text, "{tag:COLUMN$}{line}");
            tag.clear();
        }
    }
    text
}

const COLUMN: usize = 30;
const WIDTH: usize = 100;

fn lines(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
