//! Following one interface: up and down, MTU, name, and its end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::config::if_index;
use super::message::{LINK_HEADER_LEN, Message, messages, name_of, u32_of};
use super::socket::{NetlinkSocket, is_overrun};
use crate::netns;

const RTMGRP_LINK: u32 = 1;

/// `struct rtgenmsg`, padded.
const NAMESPACE_HEADER_LEN: usize = 4;
/// The number of a namespace.
const NETNSA_NSID: u16 = 1;
/// Asks for any number, and means that there is none.
const UNNUMBERED: i32 = -1;

/// Polls of the socket at start, of 100 ms each, before the kernel's answer counts as missing.
const PATIENCE: usize = 50;

/// What changed about the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It was set up (`IFF_UP`).
    Up,
    /// It was set down.
    Down,
    /// Its MTU is now this many bytes.
    Mtu(u32),
    /// It has this name now.
    Renamed(String),
    /// It is no longer in this namespace: deleted, or moved to another one. Nothing follows.
    Gone,
}

/// An interface as last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its name.
    pub name: String,
    /// Whether it is set up (`IFF_UP`).
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// Follows one interface by its index.
pub struct LinkMonitor {
    socket: NetlinkSocket,
    ifindex: u32,
    /// The number of the interface's network namespace as seen from the socket's, if that is another.
    elsewhere: Option<i32>,
    state: LinkState,
    gone: bool,
    /// News may have been lost or are of another namespace: the interface is to be asked for.
    ask: bool,
}

impl LinkMonitor {
    /// Follows interface `ifindex` in the network namespace `netns`; `None` is the one of the calling thread.
    ///
    /// The caller stays where it is, and nothing is kept open in `netns`: a namespace that nobody else uses any more goes
    /// away, and the interface with it. (Where the kernel or the caller's rights do not allow that, before Linux 4.15 or
    /// without CAP_NET_BROADCAST, the socket is opened inside and keeps it.) What happens from this call on is in
    /// [`state`](Self::state) or comes as an event, nothing falls in between.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no such interface; those of [`netns::run_in`]; `TimedOut` if the kernel does not answer.
    pub fn open(netns: Option<BorrowedFd<'_>>, ifindex: u32) -> io::Result<Self> {
        let Some(netns) = netns else {
            return Self::start(NetlinkSocket::open_with_groups(NETLINK_ROUTE, RTMGRP_LINK)?, None, ifindex);
        };
        match listen_to(netns) {
            Ok((socket, number)) => Self::start(socket, Some(number), ifindex),
            Err(_) => {
                let socket =
                    netns::run_in(netns, || NetlinkSocket::open_with_groups(NETLINK_ROUTE, RTMGRP_LINK))??;
                Self::start(socket, None, ifindex)
            }
        }
    }

    fn start(mut socket: NetlinkSocket, elsewhere: Option<i32>, ifindex: u32) -> io::Result<Self> {
        socket.set_non_blocking()?;
        socket.send(request(ifindex, elsewhere), 0)?;
        let state = LinkState { name: String::new(), up: false, mtu: 0 };
        let mut monitor = Self { socket, ifindex, elsewhere, state, gone: false, ask: false };
        for _ in 0..PATIENCE {
            if monitor.drain(&mut Vec::new())? {
                return if monitor.gone { Err(no_device()) } else { Ok(monitor) };
            }
            let mut fds = [PollFd::new(monitor.socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(100u8))?;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// The interface as last heard of, after the events that [`poll`](Self::poll) returned.
    pub fn state(&self) -> &LinkState {
        &self.state
    }

    /// The index of the interface.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The events that came since; does not block. To be called when the descriptor is readable.
    ///
    /// If the kernel had to drop some, it is asked for the state again, so that the events may be fewer than the
    /// changes but always lead to the truth.
    ///
    /// # Errors
    ///
    /// None in practice. What was to be done then is done by the next call, whether the descriptor is readable or not.
    pub fn poll(&mut self) -> io::Result<Vec<LinkEvent>> {
        let mut events = Vec::new();
        self.drain(&mut events)?;
        Ok(events)
    }

    /// Reads all there is; returns whether the interface was heard of.
    fn drain(&mut self, events: &mut Vec<LinkEvent>) -> io::Result<bool> {
        let (mut heard, mut overruns) = (false, 0);
        loop {
            let asked = self.socket.sequence();
            let datagram = match self.socket.recv() {
                Ok(datagram) => datagram,
                // Only an emptied socket has room for the answer.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.ask => {
                    self.socket.send(request(self.ifindex, self.elsewhere), 0)?;
                    self.ask = false;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(error) if is_overrun(&error, &mut overruns) => {
                    self.ask = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for message in messages(datagram) {
                // News of several namespaces arrive together and do not say which they are of: only an answer does.
                if self.elsewhere.is_some() && message.sequence != asked {
                    self.ask = true;
                    continue;
                }
                let Some(news) = News::read(&message, self.ifindex) else { continue };
                heard = true;
                if !self.gone {
                    self.gone = matches!(news, News::Gone);
                    self.state.apply(news, events);
                }
            }
        }
    }
}

impl AsFd for LinkMonitor {
    /// Readable when there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for LinkMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkMonitor")
            .field("ifindex", &self.ifindex)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

fn request(ifindex: u32, elsewhere: Option<i32>) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    link.attributes.extend(elsewhere.map(LinkAttribute::IfNetnsId));
    RouteNetlinkMessage::GetLink(link)
}

/// Index of the interface called `name` in the network namespace `netns`, which the caller does not enter where the kernel
/// tells from outside (Linux 4.15): that takes CAP_NET_ADMIN, where entering takes CAP_SYS_ADMIN.
///
/// # Errors
///
/// `ENODEV` if there is none; those of [`netns::run_in`].
pub fn if_index_in(netns: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let Ok(number) = number_of(netns) else { return netns::run_in(netns, || if_index(name))? };
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::IfNetnsId(number)];
    let found = NetlinkSocket::open(NETLINK_ROUTE)?.get(RouteNetlinkMessage::GetLink(link), |message| {
        let header: &[u8; LINK_HEADER_LEN] = message.header()?;
        u32_of(&header[4..8])
    })?;
    found.ok_or_else(no_device)
}

/// A socket here that hears of links everywhere, and the number by which `netns` is known here.
fn listen_to(netns: BorrowedFd<'_>) -> io::Result<(NetlinkSocket, i32)> {
    let number = number_of(netns)?;
    let socket = NetlinkSocket::open_with_groups(NETLINK_ROUTE, RTMGRP_LINK)?;
    socket.listen_everywhere()?;
    Ok((socket, number))
}

/// The number by which `netns` is known here; it gets one if it has none.
fn number_of(netns: BorrowedFd<'_>) -> io::Result<i32> {
    let mut socket = NetlinkSocket::open(NETLINK_ROUTE)?;
    let question = |number| {
        let mut message = NsidMessage::default();
        let fd = u32::try_from(netns.as_raw_fd()).unwrap_or_default();
        message.attributes = vec![NsidAttribute::Id(number), NsidAttribute::Fd(fd)];
        message
    };
    match socket.change(RouteNetlinkMessage::NewNsId(question(UNNUMBERED)), 0) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    let number = socket.get(RouteNetlinkMessage::GetNsId(question(UNNUMBERED)), |message| {
        let mut attributes = message.attributes(NAMESPACE_HEADER_LEN);
        attributes.find_map(|(kind, value)| (kind == NETNSA_NSID).then(|| u32_of(value))?)
    })?;
    number.map(u32::cast_signed).filter(|number| *number >= 0).ok_or_else(no_device)
}

fn no_device() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}

/// What one message says about the interface.
pub(super) enum News {
    State(LinkState),
    Gone,
}

impl News {
    pub(super) fn read(message: &Message<'_>, ifindex: u32) -> Option<Self> {
        if let Some(outcome) = message.acknowledgement() {
            // The only request that this socket makes is for the interface.
            return outcome.is_err().then_some(Self::Gone);
        }
        let header: &[u8; LINK_HEADER_LEN] = message.header()?;
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        // Another family speaks of something else: an interface that leaves a bridge is "deleted" as a bridge port.
        if libc::c_int::from(header[0]) != libc::AF_UNSPEC || word(4) != ifindex {
            return None;
        }
        match message.kind {
            libc::RTM_NEWLINK => {
                let attribute = |wanted: u16| {
                    message
                        .attributes(LINK_HEADER_LEN)
                        .find_map(|(kind, value)| (kind == wanted).then_some(value))
                };
                Some(Self::State(LinkState {
                    name: attribute(libc::IFLA_IFNAME).and_then(name_of)?,
                    up: word(8) & libc::IFF_UP as u32 != 0,
                    mtu: attribute(libc::IFLA_MTU).and_then(u32_of)?,
                }))
            }
            libc::RTM_DELLINK => Some(Self::Gone),
            _ => None,
        }
    }
}

impl LinkState {
    /// Becomes what the news say, and tells what that changed. An MTU comes before the `Up` that makes it matter.
    pub(super) fn apply(&mut self, news: News, events: &mut Vec<LinkEvent>) {
        let News::State(new) = news else { return events.push(LinkEvent::Gone) };
        if new.name != self.name {
            events.push(LinkEvent::Renamed(new.name.clone()));
        }
        if new.mtu != self.mtu {
            events.push(LinkEvent::Mtu(new.mtu));
        }
        if new.up != self.up {
            events.push(if new.up { LinkEvent::Up } else { LinkEvent::Down });
        }
        *self = new;
    }
}
