//! An rtnetlink socket: requests out, datagrams in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::message::{Message, messages};

/// The kernel sends datagrams of at most 32 KiB, whatever the receiver's buffer.
const BUFFER_LEN: usize = 64 << 10;

/// The kernel's own port.
const KERNEL: u32 = 0;

pub(super) struct RouteSocket {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl RouteSocket {
    /// A blocking socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        Self::open_with_groups(0)
    }

    /// A socket that also hears the multicast groups in this bit mask (group *n* is bit *n* − 1).
    pub fn open_with_groups(groups: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
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
    pub fn send(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<u32> {
        // Zero is for what the kernel sends unasked.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(KERNEL, 0), 0)?;
        Ok(self.sequence)
    }

    /// The next datagram. Those of other processes are passed over: only the kernel is believed.
    pub fn recv(&mut self) -> io::Result<&[u8]> {
        loop {
            self.buffer.clear();
            match self.socket.recv_from(&mut self.buffer, 0) {
                Ok((_, from)) if from.port_number() == KERNEL => return Ok(&self.buffer),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks for a change and waits for the kernel's yes or no. For blocking sockets.
    pub fn change(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(request, NLM_F_ACK | flags, |_| {})
    }

    /// Asks for one object, which answers in place of an acknowledgement. For blocking sockets.
    pub fn get<T>(
        &mut self,
        request: RouteNetlinkMessage,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut found = None;
        // The acknowledgement asked for follows the answer, which keeps the socket empty for the next request.
        self.exchange(request, NLM_F_ACK, |message| found = found.take().or_else(|| read(message)))?;
        Ok(found)
    }

    /// Asks for all objects of a kind. For blocking sockets.
    pub fn dump(&mut self, request: RouteNetlinkMessage, each: impl FnMut(&Message<'_>)) -> io::Result<()> {
        self.exchange(request, NLM_F_DUMP, each)
    }

    /// Sends a request and hands over every answer until its end, `NLMSG_DONE` or an acknowledgement.
    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        let sequence = self.send(request, flags)?;
        loop {
            for message in messages(self.recv()?).filter(|message| message.sequence == sequence) {
                if let Some(outcome) = message.acknowledgement() {
                    return outcome;
                }
                if libc::c_int::from(message.kind) == libc::NLMSG_DONE {
                    return Ok(());
                }
                each(&message);
            }
        }
    }
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
