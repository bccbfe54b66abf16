//! Ancillary data (`cmsg(3)`): local address, TOS and segment size beside each train.

use std::mem;
use std::net::IpAddr;

use super::addr::{LocalAddr, decode_v4, decode_v6, encode_v4, encode_v6};

/// Room for every control message that these sockets send or ask for, with slack, in 8-byte words (so that `cmsghdr`
/// is aligned). The largest set is IPv6: address (40 bytes), traffic class (24), segment size (24).
const WORDS: usize = 24;

/// Storage that the kernel writes control messages into.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct ControlBuffer([u64; WORDS]);

impl ControlBuffer {
    pub const CAPACITY: usize = mem::size_of::<Self>();

    pub const fn new() -> Self {
        Self([0; WORDS])
    }

    pub fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }
}

/// Control messages to send.
pub(super) struct ControlWriter {
    buffer: ControlBuffer,
    len: usize,
}

impl ControlWriter {
    /// The source address (if pinned) and TOS of a packet; a TOS of 0 is the socket's default and takes no message.
    pub fn new(is_ipv6: bool, from: Option<&LocalAddr>, tos: u8) -> Self {
        let mut control = Self { buffer: ControlBuffer::new(), len: 0 };
        if let Some(from) = from {
            control.push_source(from);
        }
        match (tos, is_ipv6) {
            (0, _) => {}
            (_, false) => control.push(libc::IPPROTO_IP, libc::IP_TOS, libc::c_int::from(tos)),
            (_, true) => control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, libc::c_int::from(tos)),
        }
        control
    }

    /// Asks for segmentation into datagrams of `stride` bytes.
    pub fn push_segment_size(&mut self, stride: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, stride);
    }

    /// The interface stays free, so that a better route may be taken; only a link-local source means nothing without.
    fn push_source(&mut self, from: &LocalAddr) {
        match from.ip {
            IpAddr::V4(ip) => {
                let any = libc::in_addr { s_addr: 0 };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: encode_v4(ip), ipi_addr: any };
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            IpAddr::V6(ip) => {
                let ipi6_ifindex = if ip.is_unicast_link_local() { from.ifindex } else { 0 };
                let info = libc::in6_pktinfo { ipi6_addr: encode_v6(ip), ipi6_ifindex };
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
    }

    fn push<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let size = mem::size_of::<T>() as libc::c_uint;
        // SAFETY: these two only compute lengths.
        let (space, cmsg_len) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size)) };
        assert!(self.len + space <= ControlBuffer::CAPACITY, "control messages exceed their buffer");
        // SAFETY: the assertion leaves `space` bytes at `len`, which is a multiple of the alignment of `cmsghdr` since
        // CMSG_SPACE rounds up and the buffer is aligned; CMSG_DATA lies within them. The buffer is zeroed, so padding
        // fields of the header have a value.
        unsafe {
            let header = self.buffer.0.as_mut_ptr().byte_add(self.len).cast::<libc::cmsghdr>();
            (*header).cmsg_len = cmsg_len as _;
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.len += space;
    }

    /// Points `message` at these control messages; it must not outlive them.
    pub fn attach(&mut self, message: &mut libc::msghdr) {
        let empty = self.len == 0;
        message.msg_control = if empty { std::ptr::null_mut() } else { self.buffer.as_mut_ptr() };
        message.msg_controllen = self.len as _;
    }
}

/// What the kernel said beside a received train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    pub local: Option<LocalAddr>,
    pub tos: u8,
    /// The datagram size of a coalesced train.
    pub segment_size: Option<usize>,
}

impl Control {
    /// Reads the control messages of a received message.
    ///
    /// # Safety
    ///
    /// `message.msg_control` must point to `message.msg_controllen` readable, initialised bytes.
    pub unsafe fn parse(message: &libc::msghdr) -> Self {
        let mut control = Self::default();
        // SAFETY: by this function's contract the messages lie in readable memory; CMSG_FIRSTHDR and CMSG_NXTHDR keep
        // within `msg_controllen`, and `read` checks each payload's length before it reads.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while let Some(h) = header.as_ref() {
                control.take(h);
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
        control
    }

    /// Notes one control message; those that nobody asked for are passed over.
    ///
    /// # Safety
    ///
    /// `header` must be followed by the payload that its `cmsg_len` announces.
    unsafe fn take(&mut self, header: &libc::cmsghdr) {
        // SAFETY: the caller vouches for the payload, and `read` reads no more than `cmsg_len` announces.
        unsafe {
            match (header.cmsg_level, header.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // `ipi_spec_dst`, not `ipi_addr`: a broadcast address is no source.
                    self.local = read::<libc::in_pktinfo>(header).map(|info| LocalAddr {
                        ip: decode_v4(info.ipi_spec_dst).into(),
                        ifindex: info.ipi_ifindex.cast_unsigned(),
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    self.local = read::<libc::in6_pktinfo>(header).map(|info| LocalAddr {
                        ip: decode_v6(info.ipi6_addr).into(),
                        ifindex: info.ipi6_ifindex,
                    });
                }
                // The kernel sends one byte, unlike for IPv6.
                (libc::IPPROTO_IP, libc::IP_TOS) => self.tos = read::<u8>(header).unwrap_or(0),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    self.tos = read::<libc::c_int>(header).map_or(0, |class| class as u8);
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    self.segment_size = read::<libc::c_int>(header).and_then(|size| size.try_into().ok());
                }
                _ => {}
            }
        }
    }
}

/// The payload of a control message, if it is long enough for a `T`.
///
/// # Safety
///
/// `header` must be followed by the payload that its `cmsg_len` announces, and any bytes must be a value of `T`.
unsafe fn read<T: Copy>(header: &libc::cmsghdr) -> Option<T> {
    // SAFETY: CMSG_LEN only computes a length.
    let needed = unsafe { libc::CMSG_LEN(mem::size_of::<T>() as libc::c_uint) };
    if header.cmsg_len < needed as _ {
        return None;
    }
    // SAFETY: the payload is at least a `T` long, and readable by the caller's promise.
    Some(unsafe { libc::CMSG_DATA(header).cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads back what was written, as the kernel would deliver it.
    fn parse(control: &mut ControlWriter) -> Control {
        // SAFETY: an all-zero msghdr is an empty message.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        control.attach(&mut message);
        // SAFETY: `attach` pointed the message at the writer's live buffer.
        unsafe { Control::parse(&message) }
    }

    #[test]
    fn everything_at_once_fits_and_reads_back() {
        for (ip, is_ipv6) in [("192.0.2.1", false), ("2001:db8::1", true)] {
            let local = LocalAddr { ip: ip.parse().unwrap(), ifindex: 0 };
            let mut control = ControlWriter::new(is_ipv6, Some(&local), 0x8a);
            control.push_segment_size(1452);
            let read = parse(&mut control);
            assert_eq!(read.local, Some(local));
            assert_eq!(read.tos, 0x8a);
        }
    }

    #[test]
    fn nothing_to_say_is_no_control_data() {
        assert_eq!(parse(&mut ControlWriter::new(true, None, 0)), Control::default());
    }

    #[test]
    fn only_link_local_sources_name_their_interface() {
        for (ip, ifindex) in [("fe80::1", 7), ("2001:db8::1", 0)] {
            let local = LocalAddr { ip: ip.parse().unwrap(), ifindex: 7 };
            let read = parse(&mut ControlWriter::new(true, Some(&local), 0));
            assert_eq!(read.local.unwrap().ifindex, ifindex);
        }
    }

    #[test]
    fn a_short_payload_is_ignored() {
        let mut control = ControlWriter::new(false, None, 0);
        control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, 0u32);
        control.push(libc::SOL_UDP, libc::UDP_GRO, 0u16);
        assert_eq!(parse(&mut control), Control::default());
    }

    #[test]
    fn a_negative_segment_size_is_ignored() {
        let mut control = ControlWriter::new(false, None, 0);
        control.push(libc::SOL_UDP, libc::UDP_GRO, -1i32);
        assert_eq!(parse(&mut control).segment_size, None);
    }
}
