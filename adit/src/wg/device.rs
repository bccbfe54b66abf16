//! The devices: userspace ones by their UAPI sockets, the kernel's by generic netlink.

use std::fmt;
use std::io;
use std::path::Path;

use adit_control::netlink::{self, FAMILY, GET_DEVICE, Reader, SET_DEVICE, VERSION};
use adit_control::uapi::{
    AnswerError, STATUS_REQUEST, knows_endpoint_names, parse_get, parse_set_answer, write_set,
};
use adit_control::{Get, Set};
use adit_device::uapi::socket_path;
use adit_net::netlink::{Config, Generic, if_index};

use super::reason;
use crate::client;

/// Why a device cannot be shown or changed.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: io::Error,
    /// What the system's number does not say.
    hint: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&reason(&self.error))?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n{hint}"))
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal { error, hint: None }
    }
}

impl From<AnswerError> for Refusal {
    fn from(error: AnswerError) -> Self {
        io::Error::from_raw_os_error(error.errno()).into()
    }
}

/// The names of all devices: the kernel's, then those of userspace programs that answer.
pub(crate) fn list() -> io::Result<Vec<String>> {
    let mut names = kernel_names()?;
    names.extend(client::interfaces()?.into_iter().filter(|name| is_userspace(name)));
    Ok(names)
}

/// The names of all devices, without asking who serves them, which may take long.
pub(crate) fn names() -> io::Result<Vec<String>> {
    let mut names = kernel_names()?;
    names.extend(client::interfaces()?);
    Ok(names)
}

/// The names of the kernel's own.
pub(crate) fn kernel_names() -> io::Result<Vec<String>> {
    Ok(Config::open()?.wireguards()?.into_iter().map(|link| link.name).collect())
}

/// What a device says about itself.
pub(crate) fn get(name: &str) -> Result<Get, Refusal> {
    if is_userspace(name) {
        let answer = client::request(&socket_path(name), b"get=1\n\n")?;
        return Ok(parse_get(&answer, |scope| if_index(scope).ok())?);
    }
    let (mut kernel, index) = kernel(name)?;
    let request = netlink::get_request(index);
    let reader: Reader =
        kernel.dump(GET_DEVICE, &request, |reader: &mut Reader, part| reader.message(part))?;
    reader.finish().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error).into())
}

/// Asks a device for a change.
pub(crate) fn set(name: &str, set: &Set) -> Result<(), Refusal> {
    if is_userspace(name) {
        let path = socket_path(name);
        let plain = (set.has_endpoint_names() && !knows_names(&path)).then(|| set.without_endpoint_names());
        let answer = client::request(&path, &write_set(plain.as_ref().unwrap_or(set)))?;
        return Ok(parse_set_answer(&answer)?);
    }
    let (mut kernel, index) = kernel(name)?;
    for message in netlink::write_set(index, set) {
        kernel.change(SET_DEVICE, &message).map_err(|error| {
            let hint = netlink::explain(set, error.raw_os_error().unwrap_or_default());
            Refusal { error, hint: hint.map(str::to_owned) }
        })?;
    }
    Ok(())
}

/// Whether the engine looks names up again. Whoever else serves the socket would refuse the whole change for them.
fn knows_names(path: &Path) -> bool {
    client::request(path, STATUS_REQUEST).is_ok_and(|answer| knows_endpoint_names(&answer))
}

/// Whether somebody serves the device's socket. One that nobody serves any more is removed.
pub(crate) fn is_userspace(name: &str) -> bool {
    !name.contains('/') && client::is_served(&socket_path(name))
}

/// The kernel's WireGuard, and the number of the interface.
fn kernel(name: &str) -> Result<(Generic, u32), Refusal> {
    let kernel = Generic::open(FAMILY, VERSION).map_err(|error| match error.kind() {
        // What wireguard-tools says then.
        io::ErrorKind::NotFound => Refusal {
            error: io::Error::from_raw_os_error(PROTOCOL_NOT_SUPPORTED),
            hint: Some(format!(
                "No program serves {}, and the kernel has no WireGuard of its own.",
                socket_path(name).display()
            )),
        },
        _ => error.into(),
    })?;
    Ok((kernel, if_index(name)?))
}

/// `EPROTONOSUPPORT` of Linux.
const PROTOCOL_NOT_SUPPORTED: i32 = 93;
