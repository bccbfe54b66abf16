//! Generic netlink: families of commands that have names, but numbers only while the system runs.

use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::NetlinkSerializable;
use netlink_sys::protocols::NETLINK_GENERIC;

use super::message::find;
use super::socket::NetlinkSocket;

/// `struct genlmsghdr`: command, version, two bytes reserved.
const HEADER_LEN: usize = 4;

// The family that knows the others (linux/genetlink.h).
const CONTROLLER: u16 = libc::GENL_ID_CTRL as u16;
const CONTROLLER_VERSION: u8 = 2;
const GET_FAMILY: u8 = libc::CTRL_CMD_GETFAMILY as u8;
const FAMILY_ID: u16 = libc::CTRL_ATTR_FAMILY_ID as u16;
const FAMILY_NAME: u16 = libc::CTRL_ATTR_FAMILY_NAME as u16;

/// Commands of one family, over one socket, in the network namespace that it was opened in.
///
/// What is sent and received may hold keys: it is wiped from the memory that is used here.
pub struct Generic {
    socket: NetlinkSocket,
    family: u16,
    version: u8,
}

impl Generic {
    /// Opens the socket in the network namespace of the calling thread and finds the family of this name. The kernel
    /// loads the module that has it, if need be and if the caller may.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound), with an explanation, if the kernel has no such family; `EMFILE`, `ENFILE`,
    /// `ENOMEM`.
    pub fn open(family: &str, version: u8) -> io::Result<Self> {
        let mut socket = NetlinkSocket::open(NETLINK_GENERIC)?;
        let missing = || {
            let text = format!("the kernel has no {family} (its module is missing or may not be loaded)");
            io::Error::new(io::ErrorKind::NotFound, text)
        };
        let attributes = name_attribute(family).ok_or_else(missing)?;
        let request = Request {
            family: CONTROLLER,
            command: GET_FAMILY,
            version: CONTROLLER_VERSION,
            attributes: &attributes,
        };
        let answer = socket.get(request, |message| {
            find(message.attributes(HEADER_LEN), FAMILY_ID)?.try_into().ok().map(u16::from_ne_bytes)
        });
        match answer {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            answer => {
                answer.ok().flatten().map(|family| Self { socket, family, version }).ok_or_else(missing)
            }
        }
    }

    /// Gives a command that changes something, with these attributes, and waits for the kernel's yes or no.
    ///
    /// # Errors
    ///
    /// Those of the command. The ones of WireGuard's `WG_CMD_SET_DEVICE`: `ENODEV` if there is no such interface,
    /// `EOPNOTSUPP` if it is another kind of interface, `EPERM` without `CAP_NET_ADMIN`, `EADDRINUSE` if the port is
    /// taken, `EINVAL` for what it does not know.
    pub fn change(&mut self, command: u8, attributes: &[u8]) -> io::Result<()> {
        self.socket.change(self.request(command, attributes), 0)
    }

    /// Gives a command that asks for something, with these attributes, and hands the attributes of each message of the
    /// answer to `read`. If what was asked for changed while the kernel told it, everything begins anew, with a fresh `T`.
    ///
    /// # Errors
    ///
    /// Those of the command. The ones of WireGuard's `WG_CMD_GET_DEVICE`: `ENODEV` if there is no such interface,
    /// `EOPNOTSUPP` if it is another kind of interface, `EPERM` without `CAP_NET_ADMIN`. And `EINTR` if it changes all
    /// the time.
    pub fn dump<T: Default>(
        &mut self,
        command: u8,
        attributes: &[u8],
        mut read: impl FnMut(&mut T, &[u8]),
    ) -> io::Result<T> {
        let (request, family) = (self.request(command, attributes), self.family);
        self.socket.dump(&request, |found, message| {
            if message.kind == family {
                read(found, message.payload.get(HEADER_LEN..).unwrap_or_default());
            }
        })
    }

    fn request<'a>(&self, command: u8, attributes: &'a [u8]) -> Request<'a> {
        Request { family: self.family, command, version: self.version, attributes }
    }
}

impl std::fmt::Debug for Generic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generic")
            .field("socket", &self.socket.as_fd())
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

/// The attribute that names a family; `None` if that can't be the name of one.
fn name_attribute(name: &str) -> Option<Vec<u8>> {
    // GENL_NAMSIZ, with the zero at the end.
    if name.len() >= 16 {
        return None;
    }
    let length = 4 + name.len() + 1;
    let mut attribute = (length as u16).to_ne_bytes().to_vec();
    attribute.extend(FAMILY_NAME.to_ne_bytes());
    attribute.extend(name.bytes());
    attribute.resize(length.next_multiple_of(4), 0);
    Some(attribute)
}

#[derive(Clone, Copy)]
struct Request<'a> {
    family: u16,
    command: u8,
    version: u8,
    attributes: &'a [u8],
}

impl NetlinkSerializable for Request<'_> {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, rest) = buffer.split_at_mut(HEADER_LEN);
        header.copy_from_slice(&[self.command, self.version, 0, 0]);
        rest.copy_from_slice(self.attributes);
    }
}
