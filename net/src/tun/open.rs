//! Creating, attaching to and inheriting TUN devices.

use std::ffi::c_int;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

use super::counters::Joining;
use super::steering::Steering;
use super::{Offloads, Tun, TunError, TunOptions, TunQueue, VirtioNetHdr, check_name, sys};
use crate::netlink::tun_info;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// A descriptor with its device, before it is a [`Tun`].
struct First {
    fd: OwnedFd,
    name: String,
    multi_queue: bool,
}

pub(super) fn open(options: &TunOptions) -> Result<Tun, TunError> {
    check_name(&options.name)?;
    let steering = if options.queues > 1 { Steering::load() } else { None };
    match open_framed(options, steering.as_ref(), options.offloads.vnet_hdr) {
        Err(TunError::Failed(step, error))
            if options.offloads.vnet_hdr && error.raw_os_error() == Some(libc::EINVAL) =>
        {
            log::debug!("{step} failed: {error}; trying without the virtio-net header");
            open_framed(options, steering.as_ref(), false)
        }
        result => result,
    }
}

/// Opens the device with or without virtio-net headers; with several queues only if there is steering.
fn open_framed(options: &TunOptions, steering: Option<&Steering>, vnet_hdr: bool) -> Result<Tun, TunError> {
    let base = base_flags(vnet_hdr);
    let (first, created) = match create(options, base, steering.is_some())? {
        Some(first) => (first, true),
        None => (attach_existing(&options.name, base)?, false),
    };
    if created {
        let failed =
            |error| TunError::Failed(format!("setting the MTU of {} to {}", first.name, options.mtu), error);
        sys::set_mtu(&first.name, options.mtu).map_err(failed)?;
    }
    let is_steered = first.multi_queue && steering.is_some_and(|steering| steering.attach_to(&first.fd));
    let mut fds = vec![first.fd];
    for _ in 1..if is_steered { options.queues } else { 1 } {
        fds.push(attach(&first.name, base | libc::IFF_MULTI_QUEUE)?.0);
    }
    finish(fds, options.offloads)
}

pub(super) fn from_fd(fd: OwnedFd, offloads: Offloads) -> Result<Tun, TunError> {
    let nonblock = || -> nix::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        Ok(())
    };
    nonblock().map_err(|_| TunError::BadDescriptor("it cannot be made non-blocking"))?;
    finish(vec![fd], offloads)
}

/// `IFF_TUN_EXCL` makes sure that the device is new; `None` if one of that name exists.
fn create(options: &TunOptions, base: c_int, multi_queue: bool) -> Result<Option<First>, TunError> {
    let flags = base | libc::IFF_TUN_EXCL | if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
    match attach(&options.name, flags) {
        Ok((fd, name)) => Ok(Some(First { fd, name, multi_queue })),
        Err(TunError::InUse(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attaches to a device that was there before, unless somebody serves it.
fn attach_existing(name: &str, base: c_int) -> Result<First, TunError> {
    let query =
        || tun_info(name).map_err(|error| TunError::Failed(format!("looking up interface {name}"), error));
    let existing = query()?.ok_or_else(|| TunError::NotTun(name.to_owned()))?;
    // Looked up first, since joining would already divert packets from the other process. A kernel that does not
    // count queues cannot tell a device with several apart from one in use: better not to join.
    let unserved = existing.queues.map_or(!existing.multi_queue, |n| n == 0);
    if !unserved {
        return Err(TunError::InUse(name.to_owned()));
    }
    let multi_queue = existing.multi_queue;
    let attached = attach(name, base | if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 });
    let (fd, name) = attached.map_err(|error| match error {
        // TAP devices call themselves "tun" too.
        TunError::Failed(_, error) if error.raw_os_error() == Some(libc::EINVAL) => {
            TunError::NotTun(name.to_owned())
        }
        other => other,
    })?;
    // Two processes may have got this far together; then both see two queues, and both withdraw.
    if multi_queue && query()?.and_then(|now| now.queues) != Some(1) {
        return Err(TunError::InUse(name));
    }
    Ok(First { fd, name, multi_queue })
}

/// Opens the clone device and attaches it to `name`.
fn attach(name: &str, flags: c_int) -> Result<(OwnedFd, String), TunError> {
    let fd = open_clone_device()?;
    match sys::attach(&fd, name, flags) {
        Ok(name) => Ok((fd, name)),
        Err(error) => Err(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EBUSY) => TunError::InUse(name.to_owned()),
            Some(Errno::EPERM | Errno::EACCES) => TunError::NotPermitted(name.to_owned()),
            _ => TunError::Failed(format!("opening interface {name} (TUNSETIFF)"), error),
        }),
    }
}

fn open_clone_device() -> Result<OwnedFd, TunError> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    match options.open(CLONE_DEVICE) {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV | Errno::ENXIO) => TunError::NoDriver(error),
            Some(Errno::EACCES | Errno::EPERM) => TunError::NoAccess(error),
            _ => TunError::Failed(format!("opening {CLONE_DEVICE}"), error),
        }),
    }
}

const fn base_flags(vnet_hdr: bool) -> c_int {
    libc::IFF_TUN | libc::IFF_NO_PI | if vnet_hdr { libc::IFF_VNET_HDR } else { 0 }
}

/// Reads back what the device is and agrees with it on offloads, which are the device's, not a queue's.
fn finish(fds: Vec<OwnedFd>, wanted: Offloads) -> Result<Tun, TunError> {
    let first = &fds[0];
    let interface =
        sys::interface(first).map_err(|_| TunError::BadDescriptor("it is not an attached TUN device"))?;
    if interface.flags & libc::IFF_TUN == 0 {
        return Err(TunError::BadDescriptor("it is a TAP device, open it with IFF_TUN"));
    }
    // Whether IFF_NO_PI is set cannot be asked: in this answer its bit means IFF_NOFILTER, which is always set.
    let vnet_hdr = interface.flags & libc::IFF_VNET_HDR != 0;
    if vnet_hdr {
        let failed =
            |error| TunError::Failed(format!("setting the header length of {}", interface.name), error);
        sys::set_vnet_hdr_len(first, VirtioNetHdr::LEN).map_err(failed)?;
    }
    let offloads = if vnet_hdr { negotiate(first, wanted) } else { Offloads::NONE };
    let joining = Arc::new(Joining::new(offloads));
    let queues = fds.into_iter().map(|fd| TunQueue::new(fd, joining.clone())).collect();
    Ok(Tun { queues, wanted, joining })
}

/// Asks for the offloads wanted, then for ever less, until the kernel agrees.
fn negotiate(fd: &OwnedFd, wanted: Offloads) -> Offloads {
    let tso = libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let uso = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let steps = [(true, true), (true, false), (false, true), (false, false)]
        .map(|(tcp, udp)| (tcp && wanted.tcp, udp && wanted.udp))
        .map(|(tcp, udp)| Offloads { tcp, udp, vnet_hdr: true });
    for step in steps {
        let bits = libc::TUN_F_CSUM | if step.tcp { tso } else { 0 } | if step.udp { uso } else { 0 };
        // Without TSO_ECN the kernel itself cuts up the super-packets whose first segment answers congestion.
        let ecn = if step.tcp { libc::TUN_F_TSO_ECN } else { 0 };
        if sys::set_offload(fd, bits | ecn).is_ok() || sys::set_offload(fd, bits).is_ok() {
            return step;
        }
    }
    // The default of a new device; for an inherited one it takes back what its opener asked for.
    if let Err(error) = sys::set_offload(fd, 0) {
        log::debug!("TUNSETOFFLOAD: {error}");
    }
    Offloads { tcp: false, udp: false, vnet_hdr: true }
}
