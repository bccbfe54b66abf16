//! Received messages: a checked header, then attributes on demand.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLA_TYPE_MASK, NetlinkBuffer, NlasIterator};

/// `struct ifinfomsg`: family, type, index, flags, change mask.
pub(super) const LINK_HEADER_LEN: usize = 16;
/// What kind of link it is and more about it (`linux/if_link.h`).
pub(super) const IFLA_LINKINFO: u16 = 18;
/// The name of the kind.
pub(super) const IFLA_INFO_KIND: u16 = 1;

/// One message of a datagram.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// The messages of one datagram; ends at the first that is cut short.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
        Some(Message {
            kind: message.message_type(),
            flags: message.flags(),
            sequence: message.sequence_number(),
            payload: message.payload(),
        })
    })
}

impl<'a> Message<'a> {
    /// The outcome that an `NLMSG_ERROR` message carries, of which code 0 is success; `None` for other messages.
    pub fn acknowledgement(&self) -> Option<io::Result<()>> {
        let code = (libc::c_int::from(self.kind) == libc::NLMSG_ERROR).then(|| self.code())??;
        Some(outcome(code))
    }

    /// The outcome of a request if this message ends its answer. A dump may end in an error as well.
    pub fn end(&self) -> Option<io::Result<()>> {
        let done = libc::c_int::from(self.kind) == libc::NLMSG_DONE;
        if done { Some(outcome(self.code().unwrap_or(0))) } else { self.acknowledgement() }
    }

    fn code(&self) -> Option<i32> {
        self.payload.first_chunk().copied().map(i32::from_ne_bytes)
    }

    /// The fixed part of the payload, `N` bytes; `None` if it is shorter.
    pub fn header<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.payload.first_chunk()
    }

    /// The attributes behind a fixed part of `header_len` bytes.
    pub fn attributes(&self, header_len: usize) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        attributes(self.payload.get(header_len..).unwrap_or_default())
    }
}

/// Of a code that is zero or a negative errno.
fn outcome(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) }
}

/// The type and value of each attribute; ends at the first that is cut short.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        // The value borrows from `bytes`, not from the short-lived wrapper.
        let length = attribute.value_length();
        let kind = attribute.kind() & NLA_TYPE_MASK;
        (kind, &attribute.into_inner()[4..4 + length])
    })
}

/// The value of the first attribute of a type.
pub(super) fn find<'a>(
    attributes: impl IntoIterator<Item = (u16, &'a [u8])>,
    wanted: u16,
) -> Option<&'a [u8]> {
    attributes.into_iter().find_map(|(kind, value)| (kind == wanted).then_some(value))
}

/// A number in host order.
pub(super) fn u32_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// A zero-terminated name; whatever is not UTF-8 in it is replaced.
pub(super) fn name_of(value: &[u8]) -> Option<String> {
    CStr::from_bytes_until_nul(value).ok().map(|name| name.to_string_lossy().into_owned())
}

/// An address, whose length tells the family.
pub(super) fn ip_of(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((16 + payload.len() as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(9u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn two_messages_in_a_datagram() {
        let datagram = [message(16, &[1, 2, 3, 4, 5]), message(2, &(-libc::ENODEV).to_ne_bytes())].concat();
        let found: Vec<_> = messages(&datagram).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].kind, found[0].sequence, found[0].payload), (16, 9, &[1, 2, 3, 4, 5][..]));
        assert!(found[0].acknowledgement().is_none());
        let error = found[1].acknowledgement().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn a_dump_ends_well_or_in_an_error() {
        let datagram = [
            message(16, &[]),
            message(3, &0_i32.to_ne_bytes()),
            message(3, &[]),
            message(3, &(-libc::ENODEV).to_ne_bytes()),
        ]
        .concat();
        let ends: Vec<_> = messages(&datagram).map(|message| message.end()).collect();
        assert!(matches!(&ends[..], [None, Some(Ok(())), Some(Ok(())), Some(Err(_))]), "{ends:?}");
    }

    #[test]
    fn attributes_without_their_flags() {
        let mut bytes = vec![8, 0, 4, 0x80];
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend([7, 0, 3, 0, b'w', b'g', 0, 0]);
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found[0].0, 4);
        assert_eq!(u32_of(found[0].1), Some(7));
        assert_eq!(name_of(found[1].1).as_deref(), Some("wg"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = (message.acknowledgement(), message.end());
                for (_, value) in message.attributes(16) {
                    let _ = (u32_of(value), name_of(value), ip_of(value));
                }
            }
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
