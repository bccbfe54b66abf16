//! `show --why`: what goes wrong, and what to do about it.

use adit_control::Get;
use adit_control::show::why;
use adit_control::uapi::{WHY_REQUEST, parse_why};
use adit_control::why::Why;
use adit_device::uapi::socket_path;
use adit_net::netlink::if_name;
use serde_json::{Map, Value, json};

use super::show::{ask_all, get, has_color, now};
use super::{Call, Failed, device, print};
use crate::client;

/// What an engine keeps of reasons; `None` for one that keeps none: the kernel's own, and other programs.
pub(crate) fn ask(interface: &str) -> Option<Why> {
    if !device::is_userspace(interface) {
        return None;
    }
    let answer = client::request(&socket_path(interface), WHY_REQUEST).ok()?;
    parse_why(&answer).ok()
}

pub(super) fn show(call: &Call<'_>, words: &[&str], as_json: bool) -> Result<(), Failed> {
    let interfaces = match words {
        [] | ["all"] => ask_all()?,
        [interface] if *interface != "interfaces" => vec![((*interface).to_owned(), Ok(get(interface)?))],
        _ => return call.misused("[ <interface> | all ] --why"),
    };
    let is_success = interfaces.is_empty() || interfaces.iter().any(|(_, told)| told.is_ok());
    if as_json {
        let members: Map<String, Value> = interfaces.iter().map(|(name, told)| member(name, told)).collect();
        print(format!("{}\n", Value::Object(members)).as_bytes())?;
    } else {
        let told = interfaces.iter().filter_map(|(name, told)| Some((name, told.as_ref().ok()?)));
        let pages =
            told.map(|(name, get)| why::page(name, get, ask(name).as_ref(), now(), has_color(), if_name));
        print(pages.collect::<Vec<_>>().join("\n").as_bytes())?;
    }
    if is_success { Ok(()) } else { Err(Failed) }
}

fn member(name: &str, told: &Result<Get, String>) -> (String, Value) {
    let value = match told {
        Ok(get) => json!({ "why": why::value(get, ask(name).as_ref(), now(), if_name) }),
        Err(error) => json!({ "error": error }),
    };
    (name.to_owned(), value)
}
