//! `wg setconf`, `wg addconf`, `wg syncconf`.

use std::fs::File;
use std::io::Read as _;

use adit_control::SecretText;
use adit_control::conf::{self, Draft, Mode};
use zeroize::Zeroizing;

use super::{Call, Failed, device, endpoint, reason};

const USAGE: &str = "<interface> <configuration filename>";
/// A million peers.
const MAX_FILE: u64 = 256 << 20;

pub(super) fn setconf(call: &Call<'_>) -> Result<(), Failed> {
    let (interface, draft) = configuration(call, Mode::Whole)?;
    apply(interface, draft, |_| Ok(()))
}

pub(super) fn addconf(call: &Call<'_>) -> Result<(), Failed> {
    let (interface, draft) = configuration(call, Mode::Addition)?;
    apply(interface, draft, |_| Ok(()))
}

pub(super) fn syncconf(call: &Call<'_>) -> Result<(), Failed> {
    let (interface, draft) = configuration(call, Mode::Whole)?;
    apply(interface, draft, |set| {
        if set.peers.is_empty() {
            return Ok(());
        }
        let current = device::get(interface).map_err(|error| {
            Failed::because(format_args!("Unable to retrieve current interface configuration: {error}"))
        })?;
        conf::synchronize(set, &current);
        Ok(())
    })
}

/// The interface, and what the file says.
fn configuration<'a>(call: &'a Call<'_>, mode: Mode) -> Result<(&'a str, Draft), Failed> {
    let [interface, path] = call.args else {
        call.misused(USAGE)?;
        return Err(Failed);
    };
    let content = read(path)?;
    let draft = conf::read(&content, mode).map_err(|error| Failed::because(error.display(path)))?;
    Ok((interface, draft))
}

pub(crate) fn read(path: &str) -> Result<SecretText, Failed> {
    let mut file =
        File::open(path).map_err(|error| Failed::because(format_args!("fopen: {}", reason(&error))))?;
    let mut content = SecretText::default();
    let mut piece = Zeroizing::new([0; 16 << 10]);
    loop {
        match file.read(&mut *piece) {
            Ok(0) => return Ok(content),
            Ok(len) => content.push(&piece[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failed::because(format_args!("{path}: {}", reason(&error)))),
        }
        if content.len() as u64 > MAX_FILE {
            return Err(Failed::because(format_args!(
                "{path}: larger than 256 MiB, which is no configuration"
            )));
        }
    }
}

fn apply(
    interface: &str,
    draft: Draft,
    finish: impl FnOnce(&mut adit_control::Set) -> Result<(), Failed>,
) -> Result<(), Failed> {
    for warning in &draft.warnings {
        eprintln!("{warning}");
    }
    let mut set = draft.resolve(endpoint::resolve)?;
    finish(&mut set)?;
    device::set(interface, &set)
        .map_err(|error| Failed::because(format_args!("Unable to modify interface: {error}")))
}
