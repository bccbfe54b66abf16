//! The words of `wg` as they are told to people and completed. They are read by `wg`'s own rules, not by these.

use adit_control::show::fields::Field;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, Command};

use super::SUBCOMMANDS;
use super::show_options::OPTIONS;

/// The value names by which completions know what to offer.
const INTERFACE: &str = "INTERFACE";
const FILE: &str = "FILE";
/// The argument of `set` that is a language of its own: [`SET_WORDS`].
pub(crate) const CHANGE: &str = "CHANGE";

/// The interface of `wg`.
pub(crate) fn program() -> Command {
    Command::new("wg")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Show and change WireGuard interfaces")
        .long_about(
            "Shows and changes WireGuard interfaces of any kind: those that Adit or another userspace engine\n\
            serves, and the Linux kernel's own. Without a command it does what show does. Addresses, routes\n\
            and the state of the interface are not its business, but that of ip(8) or wg-quick(8).",
        )
        .override_usage("wg [COMMAND] [ARGUMENTS]...")
        .disable_help_subcommand(true)
        .subcommands(subcommands())
}

/// Its subcommands, which are those of `adit`, too.
pub(crate) fn subcommands() -> impl Iterator<Item = Command> {
    SUBCOMMANDS.iter().map(|subcommand| {
        let command = Command::new(subcommand.name).about(subcommand.about);
        match subcommand.name {
            "show" => show(command),
            "showconf" => command.arg(interface()),
            "set" => set(command),
            "setconf" | "addconf" | "syncconf" => command.long_about(of_file(subcommand.name)).args([
                interface(),
                required(FILE).help(
                    "A file with sections [Interface] and [Peer], without what only wg-quick understands",
                ),
            ]),
            _ => command,
        }
    })
}

fn required(name: &'static str) -> Arg {
    Arg::new(name).value_name(name).required(true)
}

fn interface() -> Arg {
    required(INTERFACE).help("The interface")
}

fn show(command: Command) -> Command {
    let fields = Field::NAMES.map(|(name, field)| PossibleValue::new(name).help(meaning(field)));
    command.args([
        Arg::new(INTERFACE)
            .value_name(INTERFACE)
            .help("The interface, or all of them, which is what is shown without it, or interfaces, for nothing but their names"),
        Arg::new("FIELD")
            .value_name("FIELD")
            .value_parser(PossibleValuesParser::new(fields))
            .help("Prints this alone, for programs: a line for the interface, or one for each peer after its public key"),
    ])
    .args(OPTIONS.iter().map(|option| {
        let name = option.name.trim_start_matches('-');
        Arg::new(name).long(name).help(option.about).action(ArgAction::SetTrue)
    }))
}

fn meaning(field: Field) -> &'static str {
    match field {
        Field::PublicKey => "The interface's public key",
        Field::PrivateKey => "Its private key",
        Field::ListenPort => "The UDP port that it listens on",
        Field::Fwmark => "The mark of its outgoing packets, or off",
        Field::Peers => "The peers' public keys",
        Field::PresharedKeys => "Their preshared keys, or (none)",
        Field::Endpoints => "Where packets for them are sent to, or (none)",
        Field::AllowedIps => "What may come from them and is sent to them",
        Field::LatestHandshakes => "When their last handshakes were completed, in seconds since 1970, or 0",
        Field::Transfer => "The bytes that came from them and went to them",
        Field::PersistentKeepalive => "The seconds between keepalives for them, or off",
        Field::Dump => "All of that, separated by tabs: a line for the interface, and one for each peer",
    }
}

/// What `set` is told.
pub(crate) struct SetWord {
    /// A word and, where something follows it, what that is.
    form: &'static str,
    pub(crate) meaning: &'static str,
    /// Whether it stands after `peer`.
    pub(crate) of_peer: bool,
}

impl SetWord {
    pub(crate) fn word(&self) -> &'static str {
        self.form.split_once(' ').map_or(self.form, |(word, _)| word)
    }

    /// What follows the word.
    pub(crate) fn value(&self) -> Option<&'static str> {
        self.form.split_once(' ').map(|(_, value)| value)
    }
}

#[rustfmt::skip]
pub(crate) static SET_WORDS: [SetWord; 9] = [
    SetWord { form: "private-key FILE", of_peer: false, meaning: "The file with the interface's private key" },
    SetWord { form: "listen-port PORT", of_peer: false, meaning: "The UDP port to listen on, 0 for any" },
    SetWord { form: "fwmark MARK", of_peer: false, meaning: "The mark of outgoing packets, 0 or off for none" },
    SetWord { form: "peer KEY", of_peer: false, meaning: "A public key. What follows is about this peer, who is added where there is no such peer" },
    SetWord { form: "remove", of_peer: true, meaning: "The peer is removed" },
    SetWord { form: "preshared-key FILE", of_peer: true, meaning: "The file with the key shared with the peer; an empty one removes it" },
    SetWord { form: "endpoint HOST:PORT", of_peer: true, meaning: "Where packets for the peer are sent to, until it roams" },
    SetWord { form: "persistent-keepalive SECONDS", of_peer: true, meaning: "The seconds between keepalives, 0 or off for none" },
    SetWord { form: "allowed-ips LIST", of_peer: true, meaning: "What may come from the peer and is sent to it, separated by commas. With + or - before an element, what there is stays but for these" },
];

fn set(command: Command) -> Command {
    let words = SET_WORDS.iter().map(|word| PossibleValue::new(word.form).help(word.meaning));
    command.long_about(
        "Changes what is named, and nothing else. Everything is read before anything is changed. Keys come from files, never from \
        the command line, which others can read; a file may be a pipe.",
    )
    .args([
        interface(),
        required(CHANGE)
            .num_args(1..)
            .allow_hyphen_values(true)
            .trailing_var_arg(true)
            .value_parser(PossibleValuesParser::new(words))
            .help("What to change: words for the interface, then for one peer after the other"),
    ])
}

fn of_file(subcommand: &str) -> &'static str {
    match subcommand {
        "setconf" => {
            "Makes the interface what the file says, and nothing else: what it does not name is removed. Sessions end."
        }
        "addconf" => "Adds what the file says to what the interface has.",
        _ => {
            "Makes the interface what the file says, like setconf, but the sessions of peers that stay do not end."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usages_name_the_same_words() {
        for (name, _) in Field::NAMES {
            assert!(super::super::show::USAGE.contains(name), "{name}");
        }
        for word in &SET_WORDS {
            let end = if word.value().is_some() { ' ' } else { ']' };
            assert!(super::super::set::USAGE.contains(&format!("{}{end}", word.word())), "{}", word.form);
        }
    }
}
