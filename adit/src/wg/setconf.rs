//! `wg setconf`, `wg addconf`, `wg syncconf`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use adit_control::conf::{self, Mode};
use adit_control::{SecretText, Set};
use zeroize::Zeroizing;

use super::{Call, Failed, device, endpoint, reason};

const USAGE: &str = "<interface> <configuration filename>";
/// A million peers.
const MAX_FILE: u64 = 256 << 20;

pub(super) fn setconf(call: &Call<'_>) -> Result<(), Failed> {
    apply(call, Mode::Whole, |_, _| Ok(()))
}

pub(super) fn addconf(call: &Call<'_>) -> Result<(), Failed> {
    apply(call, Mode::Addition, |_, _| Ok(()))
}

pub(super) fn syncconf(call: &Call<'_>) -> Result<(), Failed> {
    apply(call, Mode::Whole, |interface, set| {
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

pub(crate) fn read(path: &Path) -> Result<SecretText, Failed> {
    let file =
        File::open(path).map_err(|error| Failed::because(format_args!("fopen: {}", reason(&error))))?;
    read_from(file).map_err(|error| Failed::because(format_args!("{}: {}", path.display(), reason(&error))))
}

/// The content of a file that may hold keys.
pub(crate) fn read_from(mut file: File) -> io::Result<SecretText> {
    let mut content = SecretText::default();
    let mut piece = Zeroizing::new([0; 16 << 10]);
    loop {
        match file.read(&mut *piece) {
            Ok(0) => return Ok(content),
            Ok(len) => content.push(&piece[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if content.len() as u64 > MAX_FILE {
            return Err(io::Error::other("larger than 256 MiB, which is no configuration"));
        }
    }
}

/// Makes of the file a change of the interface, which `finish` completes.
fn apply(
    call: &Call<'_>,
    mode: Mode,
    finish: impl FnOnce(&str, &mut Set) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let [interface, path] = call.args else { return call.misused(USAGE) };
    let (interface, path) = (interface.to_string_lossy(), Path::new(path));
    let content = read(path)?;
    let draft = conf::read(&content, mode)
        .map_err(|error| Failed::because(error.display(&path.to_string_lossy())))?;
    for warning in &draft.warnings {
        super::tell(warning);
    }
    let mut set = endpoint::resolve_all(draft, path)?;
    finish(&interface, &mut set)?;
    device::set(&interface, &set)
        .map_err(|error| Failed::because(format_args!("Unable to modify interface: {error}")))
}
