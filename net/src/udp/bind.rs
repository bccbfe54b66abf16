//! Binding: IPv4 and IPv6 sockets on one port, a pair for each worker.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use super::socket::{Family, UdpSocket, UdpStats};

/// Tries to find a port that is free in both families, when the kernel picks it.
const MAX_TRIES: usize = 100;

/// How to open the sockets.
#[derive(Clone, Debug)]
pub struct BindOptions {
    /// Routing mark of sent packets (`SO_MARK`); 0 is none.
    pub fwmark: u32,
    /// Pairs of sockets to open. More than one share the port by `SO_REUSEPORT`: the kernel spreads peers over them by
    /// a hash of addresses and ports.
    pub workers: NonZeroUsize,
    /// Send trains by `UDP_SEGMENT`, where supported.
    pub gso: bool,
    /// Receive trains by `UDP_GRO`, where supported.
    pub gro: bool,
    /// Kernel buffer of each socket and direction in bytes; exceeds `net.core.{r,w}mem_max` only with `CAP_NET_ADMIN`.
    pub buffer_bytes: usize,
    /// Have the kernel sort, where it can: what is no transport data comes to [`Bound::handshakes`].
    pub sorts: bool,
}

impl Default for BindOptions {
    /// One worker, no mark, all offloads, 7 MiB buffers, one socket for all messages.
    fn default() -> Self {
        Self {
            fwmark: 0,
            workers: NonZeroUsize::MIN,
            gso: true,
            gro: true,
            buffer_bytes: 7 << 20,
            sorts: false,
        }
    }
}

/// The sockets of a tunnel.
#[derive(Debug)]
pub struct Bound {
    /// The port of all sockets, never 0.
    pub port: u16,
    /// One pair for each worker.
    pub sockets: Vec<Pair>,
    /// If the kernel sorts, what is not transport data comes here: first the pair for those who claim to show a cookie, then that for
    /// all others. Data may come here as well, behind a handshake message that the kernel has joined it to.
    pub handshakes: Vec<Pair>,
}

impl Bound {
    /// Sets the routing mark on every socket; 0 is none.
    ///
    /// # Errors
    ///
    /// Those of [`UdpSocket::set_fwmark`]; privileges are the same for all sockets, so either all change or none.
    pub fn set_fwmark(&self, fwmark: u32) -> io::Result<()> {
        self.iter().try_for_each(|socket| socket.set_fwmark(fwmark))
    }

    /// The counters of all sockets together.
    pub fn stats(&self) -> UdpStats {
        let mut total = UdpStats::default();
        for socket in self.iter() {
            total += socket.stats();
        }
        total
    }

    /// Every socket, both families.
    pub fn iter(&self) -> impl Iterator<Item = &UdpSocket> {
        self.sockets.iter().chain(&self.handshakes).flat_map(|pair| pair.v4.iter().chain(&pair.v6))
    }
}

/// The sockets of one worker. A family that the host does not have is `None`; at least one is there.
#[derive(Debug)]
pub struct Pair {
    /// The IPv4 socket.
    pub v4: Option<UdpSocket>,
    /// The IPv6 socket.
    pub v6: Option<UdpSocket>,
}

impl Pair {
    /// The socket that can send to `addr`, if the host has its family.
    pub fn for_addr(&self, addr: &SocketAddr) -> Option<&UdpSocket> {
        if addr.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }
}

/// Opens sockets for IPv4 and IPv6 on the same `port`; 0 lets the kernel pick one that is free in both.
///
/// Sockets that hold the port already, also this process's own, make it fail: drop the old ones first. A host without
/// one of the families gets sockets of the other only.
///
/// # Errors
///
/// [`BindError`], of which `EADDRINUSE` is the usual one. Nothing stays open then.
pub fn bind(port: u16, options: &BindOptions) -> Result<Bound, BindError> {
    let tries = if port == 0 { MAX_TRIES } else { 1 };
    let mut result = bind_once(port, options);
    for _ in 1..tries {
        match &result {
            Err(error) if error.is_address_in_use() => result = bind_once(port, options),
            _ => break,
        }
    }
    result
}

fn bind_once(port: u16, options: &BindOptions) -> Result<Bound, BindError> {
    let shared = options.workers.get() > 1 || options.sorts;
    let v4 = bind_first(Family::V4, port, options, shared)?;
    let port = match &v4 {
        Some(socket) => {
            socket.port().map_err(|source| BindError { step: "read the port of", port, source })?
        }
        None => port,
    };
    let v6 = bind_first(Family::V6, port, options, shared)?;
    let port = match &v6 {
        Some(socket) => {
            socket.port().map_err(|source| BindError { step: "read the port of", port, source })?
        }
        None => port,
    };
    if v4.is_none() && v6.is_none() {
        let error = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
        return Err(BindError::when("open a socket for", port)(error));
    }
    let families = (v4.is_some(), v6.is_some());
    let mut sockets = vec![Pair { v4, v6 }];
    let join = || -> Result<Pair, BindError> {
        Ok(Pair {
            v4: families.0.then(|| join(Family::V4, port, options)).transpose()?,
            v6: families.1.then(|| join(Family::V6, port, options)).transpose()?,
        })
    };
    for _ in 1..options.workers.get() {
        sockets.push(join()?);
    }
    let handshakes = if options.sorts { sort([join()?, join()?], options.workers.get()) } else { Vec::new() };
    Ok(Bound { port, sockets, handshakes })
}

/// Has the kernel sort for these, the last of their group to join: for messages without and with a mac2. One that cannot leaves
/// all to the workers.
fn sort([without, with]: [Pair; 2], workers: usize) -> Vec<Pair> {
    for socket in [&with.v4, &with.v6].into_iter().flatten() {
        if let Err(error) = socket.sort(workers) {
            log::info!("handshakes share the sockets of data: the kernel does not sort: {error}");
            return Vec::new();
        }
    }
    vec![with, without]
}

/// Binds the first socket of a family; `None` if the host lacks the family.
///
/// It is bound *before* it gets `SO_REUSEPORT`, otherwise a second instance of this program would silently take half
/// of the first one's packets.
fn bind_first(
    family: Family,
    port: u16,
    options: &BindOptions,
    shared: bool,
) -> Result<Option<UdpSocket>, BindError> {
    let socket = match open(family, port, options) {
        Err(error) if lacks_family(&error.source) => return Ok(None),
        result => result?,
    };
    match socket.bind(port) {
        Err(error) if lacks_family(&error) => return Ok(None),
        result => result.map_err(BindError::when("bind", port))?,
    }
    if shared {
        socket.set_reuse_port().map_err(BindError::when("share", port))?;
    }
    Ok(Some(socket))
}

/// Binds one more socket to a shared port.
fn join(family: Family, port: u16, options: &BindOptions) -> Result<UdpSocket, BindError> {
    let socket = open(family, port, options)?;
    socket.set_reuse_port().and_then(|()| socket.bind(port)).map_err(BindError::when("share", port))?;
    Ok(socket)
}

fn open(family: Family, port: u16, options: &BindOptions) -> Result<UdpSocket, BindError> {
    let socket = UdpSocket::open(family, options).map_err(BindError::when("open a socket for", port))?;
    if options.fwmark != 0 {
        socket.set_fwmark(options.fwmark).map_err(BindError::when("set the fwmark of", port))?;
    }
    Ok(socket)
}

/// Without the module, there is no family; with `ipv6.disable_ipv6=1` there is one, but no address in it.
fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::ENETUNREACH))
}

/// Why the sockets could not be opened.
#[derive(Debug)]
pub struct BindError {
    step: &'static str,
    port: u16,
    source: io::Error,
}

impl BindError {
    fn when(step: &'static str, port: u16) -> impl Fn(io::Error) -> Self {
        move |source| Self { step, port, source }
    }

    /// Another socket holds the port.
    pub fn is_address_in_use(&self) -> bool {
        self.errno() == libc::EADDRINUSE
    }

    /// The system's error number.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} UDP port {}: {}", self.step, self.port, self.source)
    }
}

impl Error for BindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        error.source
    }
}
