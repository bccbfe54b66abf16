//! `wg show` and `wg showconf`.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvError, channel};
use std::thread;
use std::time::SystemTime;

use adit_control::Get;
use adit_control::conf::write_conf;
use adit_control::show::fields::{self, Field};
use adit_control::show::json::{self, Shown, Told};
use adit_control::show::{self, Style};
use adit_net::netlink::if_name;

use super::device::Refusal;
use super::show_options::Options;
use super::{Call, Failed, device, print, reason};
use crate::watch::watch;

pub(super) const USAGE: &str = "{ <interface> | all | interfaces } [public-key | private-key | listen-port | fwmark | peers | preshared-keys | endpoints | allowed-ips | latest-handshakes | transfer | persistent-keepalive | dump]";

pub(super) fn show(call: &Call<'_>) -> Result<(), Failed> {
    let words = call.words();
    let (options, words) = Options::split(words.iter().map(|word| &**word));
    if call.program == "adit"
        && let Some(option) = Options::unknown(&words)
    {
        return Err(Failed::because(format_args!("Unknown option `{option}'; see `adit show --help'")));
    }
    match options {
        Options { json: true, watch: true, .. } => {
            Err(Failed::because("--json prints once, and --watch goes on: choose one of them"))
        }
        Options { why: true, watch: true, .. } => {
            Err(Failed::because("--why prints once, and --watch goes on: choose one of them"))
        }
        Options { why: true, json, .. } => match *words {
            ["-h" | "--help" | "help"] => show_text(call, &words),
            _ => super::why::show(call, &words, json),
        },
        Options { json: true, .. } => show_json(call, &words),
        Options { watch: true, .. } => match *words {
            [] | ["all"] => watch(None),
            ["interfaces"] | [_, _, ..] => call.misused(USAGE),
            ["-h" | "--help" | "help"] => show_text(call, &words),
            [interface] => watch(Some(interface)),
        },
        Options { json: false, watch: false, why: false } => show_text(call, &words),
    }
}

fn show_text(call: &Call<'_>, words: &[&str]) -> Result<(), Failed> {
    match *words {
        [] | ["all"] => show_all(call, None),
        ["all", field] => show_all(call, Some(field)),
        ["interfaces"] => interfaces(),
        ["interfaces", _] => call.misused(USAGE),
        ["-h" | "--help" | "help"] => {
            call.tell_usage(USAGE);
            Ok(())
        }
        [interface] => print(&page(interface, &get(interface)?)),
        [interface, name] => {
            let get = get(interface)?;
            print(&fields::print("", &get, field(call, name)?, if_name))
        }
        _ => call.misused(USAGE),
    }
}

/// The same words, and the same errors on standard error; what cannot be asked among others has a member that says why.
fn show_json(call: &Call<'_>, words: &[&str]) -> Result<(), Failed> {
    let shown = |name: Option<&&str>| match name {
        Some(name) => field(call, name).map(Shown::of),
        None => Ok(Shown::All { keys: shows_keys() }),
    };
    let (interfaces, shown) = match words {
        [] => (ask_all()?, shown(None)?),
        ["-h" | "--help" | "help"] => return show_text(call, words),
        ["interfaces"] => (list()?.into_iter().map(|name| (name, Ok(Get::default()))).collect(), Shown::Name),
        ["interfaces", ..] | [_, _, _, ..] => return call.misused(USAGE),
        ["all", name @ ..] => {
            let shown = shown(name.first())?;
            (ask_all()?, shown)
        }
        [interface, name @ ..] => {
            let get = get(interface)?;
            (vec![((*interface).to_owned(), Ok(get))], shown(name.first())?)
        }
    };
    print(&json::print(&interfaces, shown, if_name))?;
    let is_success = interfaces.is_empty() || interfaces.iter().any(|(_, told)| told.is_ok());
    if is_success { Ok(()) } else { Err(Failed) }
}

/// What each interface tells, or why it does not.
pub(super) fn ask_all() -> Result<Vec<Told>, Failed> {
    let mut all = Vec::new();
    ask_each(&list()?, |interface, told| {
        all.push((interface.to_owned(), told.map(|get| *get).map_err(|error| error.to_string())));
        Ok(())
    })?;
    Ok(all)
}

/// How many are asked at once: so many may be silent without others waiting for them, and the limits of descriptors and
/// threads allow it.
const AT_ONCE: usize = 64;

/// Asks many at once, lest each that does not answer be waited for after the others, and hands on what they tell in their
/// order. Why one tells nothing is told on standard error.
fn ask_each(
    interfaces: &[String],
    mut tell: impl FnMut(&str, Answer) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let answers = ask_in_any_order(interfaces);
    let mut early = BTreeMap::new();
    for (place, interface) in interfaces.iter().enumerate() {
        let told = loop {
            if let Some(told) = early.remove(&place) {
                break told;
            }
            match answers.recv() {
                Ok((place, told)) => drop(early.insert(place, told)),
                // Where there can be no threads, this one has time to ask.
                Err(RecvError) => break device::get(interface).map(Box::new),
            }
        };
        if let Err(error) = &told {
            super::tell(format_args!("Unable to access interface {interface}: {error}"));
        }
        tell(interface, told)?;
    }
    Ok(())
}

type Answer = Result<Box<Get>, Refusal>;

/// What they tell, each with its place. Who hears enough leaves the others alone: the threads end with the process.
fn ask_in_any_order(interfaces: &[String]) -> Receiver<(usize, Answer)> {
    let (sender, answers) = channel();
    let names: Arc<[String]> = interfaces.into();
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..names.len().min(AT_ONCE) {
        let (sender, names, next) = (sender.clone(), Arc::clone(&names), Arc::clone(&next));
        let asking = thread::Builder::new().spawn(move || {
            loop {
                let place = next.fetch_add(1, Relaxed);
                let Some(name) = names.get(place) else { break };
                if sender.send((place, device::get(name).map(Box::new))).is_err() {
                    break;
                }
            }
        });
        if asking.is_err() {
            break;
        }
    }
    answers
}

/// It is a success if there is none, or one of them can be shown.
fn show_all(call: &Call<'_>, name: Option<&str>) -> Result<(), Failed> {
    let interfaces = list()?;
    let mut result = if interfaces.is_empty() { Ok(()) } else { Err(Failed) };
    let last = interfaces.last().map(String::as_str);
    ask_each(&interfaces, |interface, told| {
        let Ok(get) = told else { return Ok(()) };
        match name {
            Some(name) => {
                let prefix = format!("{interface}\t");
                print(&fields::print(&prefix, &get, field(call, name)?, if_name))?;
            }
            None => {
                print(&page(interface, &get))?;
                if Some(interface) != last {
                    print(b"\n")?;
                }
            }
        }
        result = Ok(());
        Ok(())
    })?;
    result
}

fn interfaces() -> Result<(), Failed> {
    let interfaces = list()?;
    if interfaces.is_empty() { Ok(()) } else { print(format!("{}\n", interfaces.join(" ")).as_bytes()) }
}

fn list() -> Result<Vec<String>, Failed> {
    device::list()
        .map_err(|error| Failed::because(format_args!("Unable to list interfaces: {}", reason(&error))))
}

pub(super) fn get(interface: &str) -> Result<Get, Failed> {
    device::get(interface)
        .map_err(|error| Failed::because(format_args!("Unable to access interface: {error}")))
}

fn field(call: &Call<'_>, name: &str) -> Result<Field, Failed> {
    Field::of(name).ok_or_else(|| {
        super::tell(format_args!("Invalid parameter: `{name}'"));
        call.tell_usage(USAGE);
        Failed
    })
}

fn page(interface: &str, get: &Get) -> adit_control::SecretText {
    let style = Style { color: has_color(), show_keys: shows_keys() };
    show::show(interface, get, now(), style, if_name)
}

pub(super) fn has_color() -> bool {
    match env::var("WG_COLOR_MODE").as_deref() {
        Ok("always") => true,
        Ok("never") => false,
        _ => io::stdout().is_terminal(),
    }
}

/// The wall clock, in whole seconds since the Unix epoch.
pub(super) fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}

fn shows_keys() -> bool {
    env::var("WG_HIDE_KEYS").is_ok_and(|mode| mode == "never")
}

pub(super) fn showconf(call: &Call<'_>) -> Result<(), Failed> {
    match &call.words()[..] {
        [interface] if interface != "--help" => print(&write_conf(&get(interface)?, if_name)),
        _ => call.misused("<interface>"),
    }
}
