//! Real devices, each test in a network namespace of its own. Without the right to make one they are skipped.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::netlink::{Config, LinkMonitor, if_index};
use crate::netns;

/// Runs `test` in a new network namespace.
pub(crate) fn isolated(test: impl FnOnce() + Send) {
    let permitted = netns::run_in_new(|| match Tun::open(&TunOptions::new("probe%d")) {
        Err(error @ (TunError::NoDriver(_) | TunError::NoAccess(_) | TunError::NotPermitted(_))) => {
            Err(error.to_string())
        }
        _ => Ok(()),
    });
    match permitted {
        Ok(Ok(())) => netns::run_in_new(test).expect("a second namespace"),
        Ok(Err(reason)) => drop(lab::skip(&reason)),
        Err(error) => drop(lab::skip(&format!("no network namespace: {error}"))),
    }
}

fn options(name: &str, queues: usize) -> TunOptions {
    TunOptions { queues, ..TunOptions::new(name) }
}

fn mtu(name: &str) -> u32 {
    let ifindex = if_index(name).expect("the interface");
    LinkMonitor::open(None, ifindex).expect("its state").state().mtu
}

fn set_persistent(tun: &Tun, on: bool) {
    // SAFETY: TUNSETPERSIST takes its argument by value.
    let result = unsafe {
        libc::ioctl(tun.queues()[0].as_fd().as_raw_fd(), libc::TUNSETPERSIST, libc::c_ulong::from(on))
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// A descriptor as another program would have set it up.
fn foreign(name: &str, flags: i32) -> OwnedFd {
    let fd: OwnedFd =
        std::fs::File::options().read(true).write(true).open("/dev/net/tun").expect("a device").into();
    sys::attach(&fd, name, flags).expect("attached");
    fd
}

fn inode(fd: &OwnedFd) -> u64 {
    std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("open").ino()
}

#[test]
fn creates_what_was_asked_for() {
    isolated(|| {
        let tun = Tun::open(&TunOptions::new("wg%d")).expect("a device");
        assert_eq!(tun.name().expect("a name"), "wg0");
        assert_eq!(mtu("wg0"), DEFAULT_MTU);
        assert!(tun.offloads().tcp && tun.offloads().vnet_hdr && tun.queues()[0].has_vnet_hdr());

        let second = Tun::open(&TunOptions { mtu: 9000, ..options("wg%d", 3) }).expect("another");
        assert_eq!(second.name().expect("a name"), "wg1");
        assert_eq!((mtu("wg1"), second.queues().len()), (9000, 3));

        drop(tun);
        assert!(if_index("wg0").is_err(), "the interface goes with its descriptor");
    });
}

#[test]
fn each_offload_can_be_switched_off() {
    isolated(|| {
        let open = |offloads| {
            Tun::open(&TunOptions { offloads, ..TunOptions::new("wg0") }).expect("a device").offloads()
        };
        let udp = open(Offloads::ALL).udp;
        for wanted in [
            Offloads { udp, ..Offloads::ALL },
            Offloads { tcp: false, udp, vnet_hdr: true },
            Offloads { tcp: true, udp: false, vnet_hdr: true },
            Offloads { tcp: false, udp: false, vnet_hdr: true },
            Offloads::NONE,
        ] {
            assert_eq!(open(wanted), wanted);
        }
        assert_eq!(open(Offloads { vnet_hdr: false, ..Offloads::ALL }), Offloads::NONE);
    });
}

#[test]
fn nobody_else_gets_in() {
    isolated(|| {
        for queues in [1, 2] {
            let tun = Tun::open(&options("wg0", queues)).expect("a device");
            for second in [1, 2] {
                let error = Tun::open(&options("wg0", second)).expect_err("taken");
                assert!(matches!(error, TunError::InUse(_)), "{error}");
                assert_eq!(error.to_string(), "interface wg0 is already in use by another process");
            }
            assert!(!tun.is_gone());
        }
    });
}

#[test]
fn an_unserved_persistent_device_is_taken_over() {
    isolated(|| {
        for queues in [1, 2] {
            let tun = Tun::open(&TunOptions { mtu: 1300, ..options("wg0", queues) }).expect("a device");
            set_persistent(&tun, true);
            drop(tun);
            for wanted in [1, 2] {
                let tun = Tun::open(&options("wg0", wanted)).expect("a device that nobody serves");
                assert_eq!(tun.queues().len(), wanted.min(queues));
                assert_eq!(mtu("wg0"), 1300, "its MTU is its owner's");
                let error = Tun::open(&options("wg0", wanted)).expect_err("taken");
                assert!(matches!(error, TunError::InUse(_)), "{error}");
            }
            let tun =
                Tun::open(&TunOptions { offloads: Offloads::NONE, ..options("wg0", 1) }).expect("again");
            assert!(!tun.queues()[0].has_vnet_hdr(), "the framing is ours, not that of the last opener");
            set_persistent(&tun, false);
        }
    });
}

#[test]
fn other_interfaces_are_left_alone() {
    isolated(|| {
        let _tap = foreign("tap0", libc::IFF_TAP | libc::IFF_NO_PI);
        for name in ["lo", "tap0"] {
            let error = Tun::open(&TunOptions::new(name)).expect_err("not ours");
            assert!(matches!(error, TunError::NotTun(_)), "{name}: {error}");
        }
    });
}

#[test]
fn down_refused_and_gone_are_told_apart() {
    isolated(|| {
        let tun = Tun::open(&TunOptions::new("wg0")).expect("a device");
        let ifindex = if_index("wg0").expect("the interface");
        let mut config = Config::open().expect("netlink");
        let queue = &tun.queues()[0];
        let write = |bytes: &[u8]| {
            let result = queue.write(&VirtioNetHdr::default(), &[io::IoSlice::new(bytes)]);
            result.map_err(|error| Fault::of(&error))
        };
        let mut packet = [0; 28];
        packet[..10].copy_from_slice(&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17]);

        assert_eq!(write(&packet), Err(Fault::Down));
        assert!(queue.read(&mut [0; 100]).expect("no error").is_none());

        config.set_up(ifindex, true).expect("up");
        assert_eq!(write(&packet), Ok(()));
        assert_eq!(write(&[0; 28]), Err(Fault::Refused));

        config.delete_link(ifindex).expect("deleted");
        assert!(tun.is_gone());
        assert_eq!(write(&packet), Err(Fault::Gone));
        let error = queue.read(&mut [0; 100]).expect_err("gone");
        assert_eq!(Fault::of(&error), Fault::Gone);
        assert_eq!(Fault::of(&tun.name().expect_err("gone")), Fault::Gone);
    });
}

#[test]
fn the_descriptor_follows_a_device_that_moves() {
    isolated(|| {
        let tun = Tun::open(&TunOptions::new("wg0")).expect("a device");
        let ifindex = if_index("wg0").expect("the interface");
        let mut config = Config::open().expect("netlink");
        config.rename(ifindex, "tunnel").expect("renamed");
        assert_eq!(tun.name().expect("a name"), "tunnel");

        let home = netns::current().expect("a namespace");
        assert_eq!(inode(&tun.netns_fd().expect("a namespace")), inode(&home));
        let away = netns::create().expect("a namespace");
        config.move_to(ifindex, &away).expect("moved");
        assert_eq!(inode(&tun.netns_fd().expect("a namespace")), inode(&away));
        assert_eq!(tun.name().expect("a name"), "tunnel");
        assert!(!tun.is_gone());
    });
}

#[test]
fn takes_over_a_descriptor() {
    isolated(|| {
        let flags = libc::IFF_TUN | libc::IFF_NO_PI;
        let fd = foreign("wg0", flags | libc::IFF_VNET_HDR);
        sys::set_vnet_hdr_len(&fd, 12).expect("a longer header");
        let tun = Tun::from_fd(fd, Offloads::ALL).expect("a device");
        assert!(tun.offloads().tcp && tun.queues()[0].has_vnet_hdr());
        Config::open().expect("netlink").set_up(if_index("wg0").expect("it"), true).expect("up");
        let mut packet = [0; 28];
        packet[..10].copy_from_slice(&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17]);
        let write = tun.queues()[0].write(&VirtioNetHdr::default(), &[io::IoSlice::new(&packet)]);
        assert!(write.is_ok(), "the header has its short form again: {write:?}");
        // IPv6 announces itself on a new interface; a blocking descriptor would hang behind that.
        while tun.queues()[0].read(&mut [0; 2000]).expect("a packet or none").is_some() {}

        let bare = Tun::from_fd(foreign("wg1", flags), Offloads::ALL).expect("a device");
        assert_eq!(bare.offloads(), Offloads::NONE);
        let hdr = VirtioNetHdr { gso_type: 1, ..VirtioNetHdr::default() };
        let error = bare.queues()[0].write(&hdr, &[]).expect_err("no way to say that");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);

        for unfit in [
            foreign("tap2", libc::IFF_TAP | libc::IFF_NO_PI),
            std::fs::File::open("/dev/null").expect("null").into(),
            std::fs::File::open("/dev/net/tun").expect("unattached").into(),
        ] {
            let error = Tun::from_fd(unfit, Offloads::ALL).expect_err("unfit");
            assert!(matches!(error, TunError::BadDescriptor(_)), "{error}");
        }
    });
}

#[test]
fn too_many_parts_are_an_error() {
    isolated(|| {
        let tun = Tun::open(&TunOptions::new("wg0")).expect("a device");
        let parts = [io::IoSlice::new(&[0x45]); MAX_PARTS + 1];
        let write =
            |n: usize| tun.queues()[0].write(&VirtioNetHdr::default(), &parts[..n]).expect_err("down");
        assert_eq!(write(MAX_PARTS + 1).kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Fault::of(&write(MAX_PARTS)), Fault::Down);
    });
}
