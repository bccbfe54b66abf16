//! A netlink socket: requests out, datagrams in.
//!
//! Either may hold keys, so both are wiped from memory when they have been dealt with.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use zeroize::{Zeroize, Zeroizing};

use super::message::{Message, messages};

/// The kernel sends datagrams of at most 32 KiB, whatever the receiver's buffer.
const BUFFER_LEN: usize = 64 << 10;

/// The kernel's own port.
const KERNEL: u32 = 0;

/// Overruns of one emptying of a socket: the kernel tells of each once.
const MAX_OVERRUNS: usize = 16;

/// Dumps asked for before something that changes all the time is given up.
const DUMPS: usize = 100;

/// Whether an error says that the kernel had to drop news. Where it says so again and again, as it never should, that is an
/// error, too: who empties the socket would not come to an end.
pub(super) fn is_overrun(error: &io::Error, overruns: &mut usize) -> bool {
    *overruns += 1;
    error.raw_os_error() == Some(libc::ENOBUFS) && *overruns <= MAX_OVERRUNS
}

pub(super) struct NetlinkSocket {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl NetlinkSocket {
    /// A blocking socket of a protocol of the netlink family, in the network namespace of the calling thread.
    pub fn open(protocol: isize) -> io::Result<Self> {
        Self::open_with_groups(protocol, 0)
    }

    /// A socket that also hears the multicast groups in this bit mask (group *n* is bit *n* − 1).
    pub fn open_with_groups(protocol: isize, groups: u32) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER_LEN), sequence: 0 })
    }

    pub fn set_non_blocking(&self) -> io::Result<()> {
        self.socket.set_non_blocking(true)
    }

    /// Hears the groups of every network namespace that has a number in this socket's.
    pub fn listen_everywhere(&self) -> io::Result<()> {
        self.socket.set_listen_all_namespaces(true)
    }

    /// The sequence number of the last request.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Sends a request and returns its sequence number.
    pub fn send(&mut self, request: impl NetlinkSerializable, flags: u16) -> io::Result<u32> {
        // Zero is for what the kernel sends unasked.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let mut message =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(request));
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = Zeroizing::new(vec![0; message.buffer_len()]);
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(KERNEL, 0), 0)?;
        Ok(self.sequence)
    }

    /// The next datagram. Those of other processes are passed over: only the kernel is believed.
    pub fn recv(&mut self) -> io::Result<&[u8]> {
        loop {
            self.forget();
            match self.socket.recv_from(&mut self.buffer, 0) {
                Ok((_, from)) if from.port_number() == KERNEL => return Ok(&self.buffer),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Wipes the last datagram.
    fn forget(&mut self) {
        self.buffer.as_mut_slice().zeroize();
        self.buffer.clear();
    }

    /// Asks for a change and waits for the kernel's yes or no. For blocking sockets.
    pub fn change(&mut self, request: impl NetlinkSerializable, flags: u16) -> io::Result<()> {
        self.exchange(request, NLM_F_ACK | flags, |_| {}).map(drop)
    }

    /// Asks for one object, which answers in place of an acknowledgement. For blocking sockets.
    pub fn get<T>(
        &mut self,
        request: impl NetlinkSerializable,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut found = None;
        // The acknowledgement asked for follows the answer, which keeps the socket empty for the next request.
        self.exchange(request, NLM_F_ACK, |message| found = found.take().or_else(|| read(message)))?;
        Ok(found)
    }

    /// Asks for all objects of a kind, and again from the beginning if they changed meanwhile. For blocking sockets.
    pub fn dump<T: Default>(
        &mut self,
        request: &(impl NetlinkSerializable + Clone),
        mut read: impl FnMut(&mut T, &Message<'_>),
    ) -> io::Result<T> {
        for _ in 0..DUMPS {
            let mut found = T::default();
            let whole = self.exchange(request.clone(), NLM_F_DUMP, |message| read(&mut found, message))?;
            if whole {
                return Ok(found);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINTR))
    }

    /// Sends a request and hands over every answer up to its end, `NLMSG_DONE` or an acknowledgement. Returns whether
    /// the answers are of one moment, so that none is missing.
    fn exchange(
        &mut self,
        request: impl NetlinkSerializable,
        flags: u16,
        mut each: impl FnMut(&Message<'_>),
    ) -> io::Result<bool> {
        let sequence = self.send(request, flags)?;
        let mut whole = true;
        loop {
            for message in messages(self.recv()?).filter(|message| message.sequence == sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.end() {
                    Some(outcome) => return outcome.map(|()| whole),
                    None => each(&message),
                }
            }
        }
    }
}

impl Drop for NetlinkSocket {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
