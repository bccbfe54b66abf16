//! The devices: userspace ones by their UAPI sockets, the kernel's by generic netlink.

use std::fs;
use std::io;

use adit_control::uapi::{AnswerError, parse_get, parse_set_answer, write_set};
use adit_control::{Get, Set};
use adit_device::uapi::{DIRECTORY, socket_path};
use adit_net::netlink::if_index;

use crate::client;

/// The names of all devices: the kernel's, then those of userspace programs that answer.
pub(crate) fn list() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        result => result?,
    };
    for entry in entries {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".sock"));
        names.extend(name.filter(|name| !name.is_empty() && is_userspace(name)).map(str::to_owned));
    }
    Ok(names)
}

/// What a device says about itself.
pub(crate) fn get(name: &str) -> io::Result<Get> {
    if !is_userspace(name) {
        return kernel(name);
    }
    let answer = client::request(&socket_path(name), b"get=1\n\n")?;
    parse_get(&answer, |scope| if_index(scope).ok()).map_err(refused)
}

/// Asks a device for a change.
pub(crate) fn set(name: &str, set: &Set) -> io::Result<()> {
    if !is_userspace(name) {
        return kernel(name);
    }
    let answer = client::request(&socket_path(name), &write_set(set))?;
    parse_set_answer(&answer).map_err(refused)
}

/// Whether somebody serves the device's socket. One that nobody serves any more is removed.
fn is_userspace(name: &str) -> bool {
    !name.contains('/') && client::is_served(&socket_path(name))
}

fn refused(error: AnswerError) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

fn kernel<T>(_name: &str) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(93))
}
