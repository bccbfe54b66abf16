//! What may stand where the cursor is. Shells ask for it, by the scripts of `adit completions`, at each completion, so that
//! interfaces, configurations and keys are those that are there at that moment.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use clap::Arg;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter, complete,
};

use super::Program;
use crate::quick::file::is_interface_name;
use crate::switches::Switches;
use crate::wg::definition::{CHANGE, SET_WORDS, SetWord};
use crate::{client, confine, offloads, wg};

/// Where configurations are that are called by their names.
const CONFIGURATIONS: &str = "/etc/wireguard";

/// What may stand in place of the last of `words`, the first of which is the program's name, with what it means.
pub(super) fn candidates(program: Program, words: &[OsString]) -> Vec<CompletionCandidate> {
    let Some(last) = words.len().checked_sub(1) else { return Vec::new() };
    let mut definition = with_values(program.definition(), words);
    let mut found = complete(&mut definition, words.to_vec(), last, std::env::current_dir().ok().as_deref())
        .unwrap_or_default();
    let is_option =
        |candidate: &CompletionCandidate| candidate.get_value().as_encoded_bytes().starts_with(b"-");
    // Who looks for an option begins with its dash.
    if words[last].is_empty() {
        found.retain(|candidate| !is_option(candidate));
    }
    found
}

/// The command line, in which each value knows what it may be.
fn with_values(program: clap::Command, words: &[OsString]) -> clap::Command {
    let words = words.to_vec();
    program.mut_args(|arg| with_value("", arg, &[])).mut_subcommands(move |command| {
        let name = command.get_name().to_owned();
        let rest = words.iter().position(|word| *word == *name).map_or(&[][..], |at| &words[at + 1..]);
        command.mut_args(|arg| with_value(&name, arg, rest))
    })
}

/// By the name of the value, and by the subcommand where that is not enough. `rest` is what follows the subcommand.
fn with_value(subcommand: &str, arg: Arg, rest: &[OsString]) -> Arg {
    let is_known = arg.get::<ArgValueCompleter>().is_some() || arg.get::<ArgValueCandidates>().is_some();
    let takes_values = arg.is_positional() || arg.get_action().takes_values();
    let value = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    let has = |name: &str| value.split('|').any(|word| word == name);
    match subcommand {
        _ if is_known || !takes_values => arg,
        // Names that are to be given.
        "new" => arg,
        "check" | "qr" if arg.is_positional() => arg.add(ArgValueCompleter::new(configuration)),
        "" if has("LIST") => arg.value_delimiter(',').add(switches(&offloads::SWITCHES)),
        "" if has("PARTS") => arg.value_delimiter(',').add(switches(&confine::SWITCHES)),
        // That one is to be created.
        "" => arg,
        "set" if value == CHANGE => arg.add(ArgValueCompleter::new(Change(rest.to_vec()))),
        "show" if has("INTERFACE") => arg.add(ArgValueCandidates::new(|| {
            let mut names = named(interfaces());
            names.extend(["all", "interfaces"].map(CompletionCandidate::new));
            names
        })),
        "down" | "save" if has("NAME") => arg.add(ArgValueCandidates::new(|| match interfaces() {
            none if none.is_empty() => named(configurations()),
            names => named(names),
        })),
        _ if has("INTERFACE") => arg.add(ArgValueCandidates::new(|| named(interfaces()))),
        _ if has("NAME") => arg.add(ArgValueCompleter::new(configuration)),
        _ if has("DIR") => arg.add(ArgValueCompleter::new(PathCompleter::dir())),
        _ if has("FILE") || value.ends_with(".conf") => arg.add(ArgValueCompleter::new(PathCompleter::any())),
        _ => arg,
    }
}

fn named(names: Vec<String>) -> Vec<CompletionCandidate> {
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn switches<W>(switches: &'static Switches<W>) -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        switches.names.iter().map(|(name, _)| CompletionCandidate::new(name)).collect()
    })
}

/// The WireGuard interfaces. Who may not look at the sockets is told of all TUN devices instead.
fn interfaces() -> Vec<String> {
    let sockets = client::interfaces();
    let is_tunnel = |name: &str| {
        let device = Path::new("/sys/class/net").join(name);
        let kind = fs::read_to_string(device.join("uevent")).unwrap_or_default();
        kind.lines().any(|line| line == "DEVTYPE=wireguard")
            || (sockets.is_err() && device.join("tun_flags").exists())
    };
    let devices = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> = devices
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_tunnel(name))
        .collect();
    names.extend(sockets.into_iter().flatten());
    names.sort_unstable();
    names.dedup();
    names
}

/// The names of the configurations.
fn configurations() -> Vec<String> {
    let files = fs::read_dir(CONFIGURATIONS).into_iter().flatten().flatten();
    let mut names: Vec<String> = files
        .filter_map(|file| file.file_name().to_str()?.strip_suffix(".conf").map(str::to_owned))
        .collect();
    names.sort_unstable();
    names
}

/// The names of configurations, and files that may be one.
fn configuration(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = starting(current, named(configurations()));
    let is_one = |path: &Path| path.extension().is_some_and(|extension| extension == "conf");
    let files = PathCompleter::any().filter(is_one).complete(current);
    found.extend(files.into_iter().filter_map(|candidate| here(current, candidate)));
    found
}

/// A file of this directory as commands take it: without a slash it would be the name of an interface. What is to be completed
/// cannot get one in front of it.
fn here(current: &OsStr, candidate: CompletionCandidate) -> Option<CompletionCandidate> {
    match candidate.get_value().to_str() {
        Some(name) if is_interface_name(name) => {
            current.is_empty().then(|| CompletionCandidate::new(format!("./{name}")))
        }
        _ => Some(candidate),
    }
}

fn starting(current: &OsStr, candidates: Vec<CompletionCandidate>) -> Vec<CompletionCandidate> {
    let current = current.as_encoded_bytes();
    let fits =
        |candidate: &CompletionCandidate| candidate.get_value().as_encoded_bytes().starts_with(current);
    candidates.into_iter().filter(fits).collect()
}

/// What `set` may go on with after these words, of which the first is the interface and the last is to be completed.
struct Change(Vec<OsString>);

impl ValueCompleter for Change {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let [interface, words @ .., _current] = &self.0[..] else { return Vec::new() };
        match Expected::after(words) {
            Expected::Word { of_peer } => starting(current, set_words(of_peer)),
            Expected::Value("FILE") => PathCompleter::any().complete(current),
            Expected::Value("KEY") => starting(current, named(peers(&interface.to_string_lossy()))),
            Expected::Value(_) => Vec::new(),
        }
    }
}

/// What comes next in the arguments of `set`.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Word { of_peer: bool },
    Value(&'static str),
}

impl Expected {
    fn after(words: &[OsString]) -> Expected {
        let mut of_peer = false;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(known) = SET_WORDS.iter().find(|known| *word == *known.word()) else { continue };
            of_peer |= known.word() == "peer";
            if let Some(value) = known.value()
                && words.next().is_none()
            {
                return Expected::Value(value);
            }
        }
        Expected::Word { of_peer }
    }
}

fn set_words(of_peer: bool) -> Vec<CompletionCandidate> {
    let fits = |word: &&SetWord| word.of_peer == of_peer || word.word() == "peer";
    let candidate = |word: &SetWord| CompletionCandidate::new(word.word()).help(Some(word.meaning.into()));
    SET_WORDS.iter().filter(fits).map(candidate).collect()
}

/// The public keys of the peers of an interface, if it tells.
fn peers(interface: &str) -> Vec<String> {
    let peers = wg::device::get(interface).map(|get| get.peers).unwrap_or_default();
    peers.iter().map(|peer| peer.public_key.to_base64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(program: Program, line: &str) -> Vec<String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let found = candidates(program, &words);
        found.iter().map(|candidate| candidate.get_value().display().to_string()).collect()
    }

    #[test]
    fn files_here_have_a_slash() {
        let offered = |current: &str, name: &str| {
            let candidate = here(OsStr::new(current), CompletionCandidate::new(name))?;
            candidate.get_value().to_str().map(str::to_owned)
        };
        assert_eq!(offered("", "wg0.conf").as_deref(), Some("./wg0.conf"));
        assert_eq!(offered("w", "wg0.conf"), None);
        for (current, name) in [("./w", "./wg0.conf"), ("", "home/"), ("a", "a-name-that-is-longer.conf")] {
            assert_eq!(offered(current, name).as_deref(), Some(name));
        }
    }

    #[test]
    fn subcommands_and_options() {
        assert_eq!(offered(Program::Adit, "adit sho"), ["show", "showconf"]);
        assert_eq!(offered(Program::Wg, "wg sy"), ["syncconf"]);
        assert_eq!(offered(Program::WgQuick, "wg-quick d"), ["down"]);
        assert_eq!(offered(Program::Adit, "adit up --e"), ["--engine"]);
        assert_eq!(offered(Program::WgQuick, "wg-quick up --engine k"), ["kernel"]);
        assert_eq!(offered(Program::Adit, "adit --no-offload tun-tcp,udp-gs"), ["tun-tcp,udp-gso"]);
        assert!(offered(Program::Adit, "adit ").iter().all(|word| word != "generate" && word != "complete"));
    }

    #[test]
    fn words_of_show_and_set() {
        assert_eq!(
            offered(Program::Adit, "adit show no-such-interface pr"),
            ["private-key", "preshared-keys"]
        );
        assert_eq!(offered(Program::Wg, "wg set x "), ["private-key", "listen-port", "fwmark", "peer"]);
        assert_eq!(offered(Program::Wg, "wg set x listen-port 1 pe"), ["peer"]);
        assert_eq!(offered(Program::Wg, "wg set x peer abc remove pe"), ["peer", "persistent-keepalive"]);
        assert!(offered(Program::Wg, "wg set x listen-port ").is_empty());
        assert_eq!(offered(Program::Wg, "wg set x peer abc allowed-ips -10.0.0.0/8 en"), ["endpoint"]);
    }

    #[test]
    fn values_of_set_are_no_words_of_it() {
        let after = |line: &str| {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            Expected::after(&words)
        };
        assert_eq!(after(""), Expected::Word { of_peer: false });
        assert_eq!(after("private-key"), Expected::Value("FILE"));
        assert_eq!(after("private-key peer"), Expected::Word { of_peer: false });
        assert_eq!(after("peer remove"), Expected::Word { of_peer: true });
        assert_eq!(after("peer x preshared-key"), Expected::Value("FILE"));
    }
}
