//! The ioctls of the TUN driver (linux/if_tun.h), each as a safe function.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// An interface's name as the kernel's fixed-size field.
type Name = [libc::c_char; libc::IFNAMSIZ];

/// What `TUNGETIFF` tells about the device behind a descriptor.
pub(super) struct Interface {
    pub name: String,
    /// `IFF_*` bits.
    pub flags: c_int,
}

/// `TUNSETIFF`: makes this descriptor a queue of the device `name`, which is created if it is missing.
///
/// Returns the name in use, which differs if `name` holds `%d`. The caller has checked `name`.
pub(super) fn attach(fd: &OwnedFd, name: &str, flags: c_int) -> io::Result<String> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(to_string(&request.ifr_name))
}

/// `TUNSETSTEERINGEBPF`: the program chooses the queue of each packet from now on, in place of the driver's hash. The
/// device keeps it; the descriptor is not needed any more.
///
/// `EINVAL` before Linux 4.16.
pub(super) fn set_steering(fd: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    let program: c_int = program.as_raw_fd();
    // SAFETY: TUNSETSTEERINGEBPF reads one int, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETSTEERINGEBPF, &raw const program) })?;
    Ok(())
}

/// `TUNGETIFF`. `EBADFD` once the device is deleted, wherever it lived.
pub(super) fn interface(fd: impl AsFd) -> io::Result<Interface> {
    let mut request = request("");
    // SAFETY: TUNGETIFF writes one ifreq, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    // SAFETY: the kernel filled in the flags, and every bit pattern is a valid c_short.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(Interface { name: to_string(&request.ifr_name), flags: c_int::from(flags as u16) })
}

/// `TUNSETOFFLOAD`: which unfinished packets (`TUN_F_*`) the device may hand to its reader.
pub(super) fn set_offload(fd: &OwnedFd, offload: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offload)) })?;
    Ok(())
}

/// `TUNSETVNETHDRSZ`: the length of the virtio-net header, which whoever opened the device first may have changed.
pub(super) fn set_vnet_hdr_len(fd: &OwnedFd, len: usize) -> io::Result<()> {
    let len = len as c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) })?;
    Ok(())
}

/// `TUNGETDEVNETNS` (Linux 5.2): the network namespace that the device lives in now.
pub(super) fn netns(fd: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: TUNGETDEVNETNS has no argument.
    let netns = check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNGETDEVNETNS, 0) })?;
    // SAFETY: on success the return value is a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(netns) })
}

/// `SIOCSIFMTU`, for the interface of that name in the calling thread's network namespace.
pub(super) fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .or_else(|_| socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None))?;
    let mut request = request(name);
    request.ifr_ifru.ifru_mtu = c_int::try_from(mtu).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: SIOCSIFMTU reads one ifreq, which lives through the call.
    check(unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFMTU, &raw mut request) })?;
    Ok(())
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn request(name: &str) -> libc::ifreq {
    let mut field: Name = [0; libc::IFNAMSIZ];
    for (to, from) in field[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: ifreq is a C structure of integers and pointers, for which all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name = field;
    request
}

fn to_string(name: &Name) -> String {
    let bytes: Vec<u8> = name.iter().map(|c| *c as u8).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
