//! What is measured on: TUN devices with and without offload and sockets joined by the loopback interface, all in the
//! calling thread's network namespace.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use adit_net::checksum;
use adit_net::netlink::{Config, if_index};
use adit_net::tun::{Offloads, Tun, TunOptions, VirtioNetHdr};

use super::{BATCH, MAX_LEN, Result};

const IPV4_LEN: usize = 20;
/// Of the IPv4 and the UDP header.
pub(super) const HEADERS_LEN: usize = IPV4_LEN + 8;
/// Of the UDP checksum, after the start of its header.
const CSUM_OFFSET: u16 = 6;

/// A TUN device and a socket whose packets leave through it.
pub(super) struct Tunnel {
    pub(super) tun: Tun,
    pub(super) socket: UdpSocket,
    here: Ipv4Addr,
    there: Ipv4Addr,
}

impl Tunnel {
    /// `net` distinguishes the tunnels of one namespace.
    pub(super) fn open(net: u8, offloads: Offloads) -> Result<Self> {
        let (here, there) = (Ipv4Addr::new(10, 0, net, 1), Ipv4Addr::new(10, 0, net, 2));
        let name = format!("uring{net}");
        let tun = Tun::open(&TunOptions { offloads, ..TunOptions::new(&name) })?;
        let (mut config, ifindex) = (Config::open()?, if_index(&name)?);
        config.add_address(ifindex, here.into(), 24)?;
        config.set_up(ifindex, true)?;
        let socket = UdpSocket::bind((here, 0))?;
        socket.connect((there, 9))?;
        socket.set_nonblocking(true)?;
        Ok(Self { tun, socket, here, there })
    }

    /// Makes `packets` with a payload of `len` bytes wait to be read, and nothing else.
    pub(super) fn fill(&self, len: usize, packets: usize) -> Result<()> {
        // The kernel itself sends a little when an interface comes up.
        while self.tun.queues()[0].read(&mut [0; MAX_LEN])?.is_some() {}
        (0..packets).try_for_each(|_| self.socket.send(&[0; MAX_LEN][..len]).map(drop)).map_err(Into::into)
    }

    /// A packet that [`Self::socket`] receives, its UDP checksum left to the header that it comes with.
    pub(super) fn packet_for_socket(&self, payload_len: usize) -> Result<(VirtioNetHdr, Vec<u8>)> {
        let udp_len = u16::try_from(HEADERS_LEN - IPV4_LEN + payload_len)?;
        let mut packet = vec![0x45, 0];
        packet.extend((IPV4_LEN as u16 + udp_len).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        packet.extend(self.there.octets());
        packet.extend(self.here.octets());
        let sum = checksum::checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let pseudo =
            checksum::fold(checksum::pseudo_header(self.there.into(), self.here.into(), 17, udp_len));
        let port = self.socket.local_addr()?.port();
        for field in [9, port, udp_len, pseudo] {
            packet.extend(field.to_be_bytes());
        }
        packet.resize(HEADERS_LEN + payload_len, 0);
        let hdr = VirtioNetHdr {
            flags: VirtioNetHdr::NEEDS_CSUM,
            hdr_len: HEADERS_LEN as u16,
            csum_start: IPV4_LEN as u16,
            csum_offset: CSUM_OFFSET,
            ..VirtioNetHdr::default()
        };
        Ok((hdr, packet))
    }

    /// The same for a device without such headers: the checksum is left out.
    pub(super) fn bare_packet_for_socket(&self, payload_len: usize) -> Result<Vec<u8>> {
        let (hdr, mut packet) = self.packet_for_socket(payload_len)?;
        let checksum = usize::from(hdr.csum_start + hdr.csum_offset);
        packet[checksum..checksum + 2].fill(0);
        Ok(packet)
    }
}

/// Two connected, non-blocking sockets.
pub(super) fn socket_pair() -> Result<[UdpSocket; 2]> {
    Config::open()?.set_up(if_index("lo")?, true)?;
    let pair = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
    for (socket, peer) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
        socket.connect(peer.local_addr()?)?;
        socket.set_nonblocking(true)?;
    }
    Ok(pair)
}

/// Passes on `time`, which is only worth something if a whole batch has arrived at `socket`; empties it.
pub(super) fn arrive_at(socket: &UdpSocket, time: Duration) -> Result<Duration> {
    let mut buf = [0; MAX_LEN];
    match std::iter::from_fn(|| socket.recv(&mut buf).ok()).count() {
        BATCH => Ok(time),
        arrived => Err(format!("{arrived} packets arrived, not {BATCH}").into()),
    }
}
