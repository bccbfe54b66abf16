//! Answering the status operation: what the device, its queues and its sockets tell of the kernel's offloads.

use std::num::NonZeroUsize;

use adit_control::{OffloadState, Status};
use adit_net::tun::Tun;
use adit_net::udp::{Bound, UdpSocket, UdpStats};

use crate::control::UdpOffloads;
use crate::lock::{Lock as _, Shared as _};
use crate::state::Device;

impl Device {
    /// `closed` is what the sockets counted that were replaced since the start.
    pub(crate) fn status(
        &self,
        tun: &Tun,
        workers: NonZeroUsize,
        wanted: UdpOffloads,
        closed: UdpStats,
    ) -> Status {
        let sockets = self.sockets();
        let mut udp = closed;
        if let Some(bound) = &sockets {
            udp += bound.stats();
        }
        let (asked, agreed, works) = (tun.wanted_offloads(), tun.agreed_offloads(), tun.offloads());
        let queues = tun.queues().len() as u64;
        let tun = tun.stats();
        Status {
            workers: workers.get() as u64,
            buffer_bytes: crate::buffer_bytes(workers) as u64,
            endpoint_names: self.peers.shared().values().filter(|peer| peer.name.locked().is_some()).count()
                as u64,
            tun_queues: queues,
            tun_vnet_hdr: OffloadState::of(asked.vnet_hdr, agreed.vnet_hdr, works.vnet_hdr),
            tun_read: tun.single.read,
            tun_written: tun.single.written,
            tun_dropped: tun.dropped,
            tun_tcp: OffloadState::of(asked.tcp, agreed.tcp, works.tcp),
            tun_tcp_read: tun.tcp.read,
            tun_tcp_written: tun.tcp.written,
            tun_tcp_refused: tun.tcp.refused,
            tun_udp: OffloadState::of(asked.udp, agreed.udp, works.udp),
            tun_udp_read: tun.udp.read,
            tun_udp_written: tun.udp.written,
            tun_udp_refused: tun.udp.refused,
            udp_gso: gso_state(wanted.gso, sockets.as_deref()),
            udp_gso_sent: udp.gso_sends,
            udp_gso_refused: udp.gso_fallbacks,
            udp_gso_avoided: each(sockets.as_deref()).map(UdpSocket::gso_refused_addresses).sum::<usize>()
                as u64,
            udp_gro: gro_state(wanted.gro, sockets.as_deref()),
            udp_gro_received: udp.gro_trains,
            udp_send_dropped: udp.send_drops,
            udp_receive_dropped: udp.recv_drops,
            udp_receive_overflows: udp.recv_overflows,
            ..Status::default()
        }
    }
}

/// No sockets while the interface is down; then nothing is known to be refused.
fn each(bound: Option<&Bound>) -> impl Iterator<Item = &UdpSocket> {
    bound.into_iter().flat_map(Bound::iter)
}

/// One socket that gave up is what somebody who looks for the reason of a slow tunnel wants to know.
fn gso_state(wanted: bool, bound: Option<&Bound>) -> OffloadState {
    let agreed = wanted && each(bound).all(UdpSocket::has_gso);
    OffloadState::of(wanted, agreed, !each(bound).any(UdpSocket::gave_up_gso))
}

fn gro_state(wanted: bool, bound: Option<&Bound>) -> OffloadState {
    OffloadState::of(wanted, wanted && each(bound).all(UdpSocket::has_gro), true)
}
