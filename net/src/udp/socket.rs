//! One UDP socket of the tunnel: its options and its counters.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::LocalAddr;
use super::addr::RawAddr;
use super::bind::BindOptions;
use super::gso::GsoState;
use super::recv::{self, RecvBatch};
use super::send::{Outbound, SendReport, Transmission};
use super::send_all::send_all;
use super::sort::Sorting;

/// A bound, non-blocking UDP socket of one address family. Made by [`bind`](super::bind()).
///
/// Sending and receiving take `&self`, so that a slow path may send on a worker's socket.
pub struct UdpSocket {
    fd: OwnedFd,
    family: Family,
    gro: bool,
    pub(super) gso: GsoState,
    pub(super) counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn domain(self) -> libc::c_int {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }

    /// The IP address 0 of the family at `port`.
    fn any(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => (std::net::Ipv4Addr::UNSPECIFIED, port).into(),
            Self::V6 => (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
        }
    }

    pub fn matches(self, addr: &SocketAddr) -> bool {
        addr.is_ipv6() == (self == Self::V6)
    }
}

impl UdpSocket {
    /// Receives up to one train per slot of `batch`; returns how many slots hold one.
    ///
    /// A datagram whose size or ancillary data did not fit is dropped and counted, so 0 does not mean that the socket
    /// is empty.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is queued. Of others, pass over those that [`is_transient`](super::is_transient).
    pub fn recv(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        recv::receive(self, batch)
    }

    /// Sends a train: datagrams of `stride` bytes, back to back, the last one perhaps shorter.
    ///
    /// `from` pins the source address and `tos` is the whole TOS or traffic class byte. Nothing is returned as an
    /// `Err`, since a part may be sent: see [`SendReport`]. When the kernel refuses the source, the same packets are
    /// sent again without; when it refuses segmentation, packet by packet; when its buffer is full, this waits for at
    /// most 5 ms in total and then drops.
    pub fn send(
        &self,
        to: &SocketAddr,
        from: Option<&LocalAddr>,
        tos: u8,
        train: &[u8],
        stride: usize,
    ) -> SendReport {
        Transmission::new(self, &Outbound { to, from, tos, train, stride }).run()
    }

    /// Sends several trains, in order, by as few calls as possible: each of `items` is one, as `outbound` tells. What
    /// became of it is reported to `done`, as [`send`](Self::send) would: the kernel's refusal of one train does not
    /// concern the others.
    pub fn send_all<'a, T>(
        &self,
        items: &'a [T],
        outbound: impl Fn(&'a T) -> Outbound<'a>,
        done: impl FnMut(&'a T, SendReport),
    ) {
        send_all(self, items, outbound, done);
    }

    /// Sets the routing mark (`SO_MARK`) of packets sent from now on; 0 is none.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_ADMIN` (or, since Linux 5.17, `CAP_NET_RAW`).
    pub fn set_fwmark(&self, fwmark: u32) -> io::Result<()> {
        self.set_option(libc::SOL_SOCKET, libc::SO_MARK, fwmark.cast_signed())
    }

    /// Whether the socket is of IPv6 (and of IPv6 only).
    pub fn is_ipv6(&self) -> bool {
        self.family == Family::V6
    }

    /// Whether the kernel may deliver coalesced trains here.
    pub fn has_gro(&self) -> bool {
        self.gro
    }

    /// Whether trains are sent with segmentation offload: switched on and supported.
    pub fn has_gso(&self) -> bool {
        self.gso.is_available()
    }

    /// Whether segmentation offload, though there, has been refused so often that it is hardly tried any more.
    pub fn gave_up_gso(&self) -> bool {
        self.gso.is_given_up()
    }

    /// Addresses (of the last few that mattered) to which segmentation was refused, and is not tried for now.
    pub fn gso_refused_addresses(&self) -> usize {
        self.gso.refused_addresses()
    }

    /// What happened so far.
    pub fn stats(&self) -> UdpStats {
        UdpStats { recv_overflows: self.overflows(), ..self.counters.read() }
    }

    /// What the kernel counts as dropped (`SK_MEMINFO_DROPS`, Linux 4.12); 0 if it does not tell.
    fn overflows(&self) -> u64 {
        const DROPS: usize = 8;
        let mut meminfo = [0u32; DROPS + 1];
        let mut len = mem::size_of_val(&meminfo) as libc::socklen_t;
        // SAFETY: `meminfo` has room for `len` bytes, and both live through the call.
        let result = unsafe {
            let meminfo = meminfo.as_mut_ptr().cast();
            libc::getsockopt(self.fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, meminfo, &raw mut len)
        };
        if result < 0 { 0 } else { meminfo[DROPS].into() }
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// A new socket with every option set, not yet bound.
    pub(super) fn open(family: Family, options: &BindOptions) -> io::Result<Self> {
        let flags = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: socket(2) takes no pointers.
        let fd = unsafe { libc::socket(family.domain(), flags, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut socket =
            Self { fd, family, gro: false, gso: GsoState::new(false), counters: Counters::default() };
        socket.set_ip_options()?;
        socket.set_buffer_sizes(options.buffer_bytes);
        socket.set_offloads(options);
        Ok(socket)
    }

    fn set_ip_options(&self) -> io::Result<()> {
        match self.family {
            Family::V4 => {
                self.set_option(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
                self.set_option(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
                // An outer packet may be fragmented, as the kernel's WireGuard allows: the inner path MTU is the
                // tunnel's business, and a black hole outside must not become one inside.
                self.set_option(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
            }
            Family::V6 => {
                self.set_option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
                self.set_option(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
                self.set_option(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
                self.set_option(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
            }
        }
    }

    /// Above the administrator's limit where privileges allow, else up to it; a smaller buffer is no error.
    fn set_buffer_sizes(&self, bytes: usize) {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        for (forced, capped) in
            [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
        {
            if self.set_option(libc::SOL_SOCKET, forced, bytes).is_err() {
                let _ = self.set_option(libc::SOL_SOCKET, capped, bytes);
            }
        }
    }

    /// Offloads are asked for, never required.
    fn set_offloads(&mut self, options: &BindOptions) {
        self.gro = options.gro && self.set_option(libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        // A segment size of 0 is "none" for the socket; accepting it shows that the kernel knows the option (4.18).
        let supported = self.set_option(libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        self.gso = GsoState::new(options.gso && supported);
    }

    pub(super) fn set_reuse_port(&self) -> io::Result<()> {
        self.set_option(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
    }

    /// Has the kernel sort what comes to the group: see `sort.rs`.
    pub(super) fn sort(&self, workers: usize) -> io::Result<()> {
        Sorting::new(self.is_ipv6(), workers)?
            .attach(|program| self.set(libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, program))
    }

    pub(super) fn bind(&self, port: u16) -> io::Result<()> {
        let (addr, len) = RawAddr::encode(&self.family.any(port));
        // SAFETY: `addr` is a socket address of `len` bytes that lives through the call.
        let result = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const addr).cast(), len) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The port that the socket is bound to.
    pub(super) fn port(&self) -> io::Result<u16> {
        let (mut addr, mut len) = (RawAddr::unset(), RawAddr::CAPACITY);
        // SAFETY: `addr` has room for `len` bytes, and both live through the call.
        let result = unsafe { libc::getsockname(self.fd.as_raw_fd(), (&raw mut addr).cast(), &raw mut len) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        addr.decode().map(|addr| addr.port()).ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
    }

    fn set_option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        self.set(level, name, &value)
    }

    fn set<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        let len = mem::size_of_val(value) as libc::socklen_t;
        let value: *const T = value;
        // SAFETY: the option value is of `len` bytes and lives through the call, as does what it leads to: of a program, the
        // statements, which the caller holds; of anything else nothing.
        let result = unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, name, value.cast(), len) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpSocket")
            .field("fd", &self.fd)
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

/// Live counters of a socket; relaxed, since nothing is ordered by them.
#[derive(Default)]
pub(super) struct Counters {
    pub gso_sends: AtomicU64,
    pub gso_fallbacks: AtomicU64,
    pub gro_trains: AtomicU64,
    pub send_drops: AtomicU64,
    pub recv_drops: AtomicU64,
}

impl Counters {
    pub fn add(counter: &AtomicU64, n: u64) {
        if n > 0 {
            counter.fetch_add(n, Relaxed);
        }
    }

    fn read(&self) -> UdpStats {
        UdpStats {
            gso_sends: self.gso_sends.load(Relaxed),
            gso_fallbacks: self.gso_fallbacks.load(Relaxed),
            gro_trains: self.gro_trains.load(Relaxed),
            send_drops: self.send_drops.load(Relaxed),
            recv_drops: self.recv_drops.load(Relaxed),
            recv_overflows: 0,
        }
    }
}

/// What happened to a socket's packets since it was opened. Add those of several sockets with `+=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpStats {
    /// Calls that sent a train by segmentation offload.
    pub gso_sends: u64,
    /// Times that segmentation was refused and packets went out one by one instead.
    pub gso_fallbacks: u64,
    /// Received trains of more than one datagram.
    pub gro_trains: u64,
    /// Packets not sent: buffer full, refused, or no route.
    pub send_drops: u64,
    /// Datagrams or trains discarded because they did not fit a slot.
    pub recv_drops: u64,
    /// Datagrams that the kernel dropped, mostly because its buffer was full: nobody read fast enough.
    pub recv_overflows: u64,
}

impl AddAssign for UdpStats {
    fn add_assign(&mut self, other: Self) {
        self.gso_sends += other.gso_sends;
        self.gso_fallbacks += other.gso_fallbacks;
        self.gro_trains += other.gro_trains;
        self.send_drops += other.send_drops;
        self.recv_drops += other.recv_drops;
        self.recv_overflows += other.recv_overflows;
    }
}
