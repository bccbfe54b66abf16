//! What goes through the halves.

use adit_device::halves::{Packet, Transport};
use adit_net::tun::{Read, VirtioNetHdr};

/// Packets of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// One word, as in the baseline.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// Each packet is for the next one.
    pub peers: usize,
    transport: Transport,
    /// Of each packet, in bytes.
    payload: usize,
    /// Packets that one read gives: a super-packet, if it is more than one.
    pub segments: usize,
    /// Reads that fill a train, for the stages.
    pub reads_a_train: usize,
}

/// All workloads. TCP super-packets are as long as Linux makes them at an MTU of 1420.
pub const ALL: [Workload; 5] = [
    Workload::new("tcp", "TCP super-packets of 64 KB", Transport::Tcp, 1380, 47),
    Workload::new("udp", "UDP super-packets of 64 KB, 1,200 B each", Transport::Udp, 1200, 54),
    Workload {
        reads_a_train: 51,
        ..Workload::new("single-1200", "Packets of 1,200 B", Transport::Udp, 1200, 1)
    },
    Workload { reads_a_train: 64, ..Workload::new("single-64", "Packets of 64 B", Transport::Udp, 64, 1) },
    Workload {
        peers: 1000,
        ..Workload::new("crowd", "Packets of 1,200 B, to 1,000 peers in turn", Transport::Udp, 1200, 1)
    },
];

impl Workload {
    const fn new(
        name: &'static str,
        title: &'static str,
        transport: Transport,
        payload: usize,
        segments: usize,
    ) -> Self {
        Workload { name, title, peers: 1, transport, payload, segments, reads_a_train: 1 }
    }

    /// The same with super-packets that fit into one train.
    pub fn for_stages(self) -> Self {
        let segments = if self.segments > 1 { 45 } else { 1 };
        Workload { segments, ..self }
    }

    /// The length of each packet within the tunnel, in bytes.
    pub fn packet_len(&self) -> usize {
        self.transport.header_len() + self.payload
    }

    /// One packet, or super-packet, for each peer.
    pub fn packets(&self) -> Vec<Packet> {
        let packet = |peer| {
            let mut packet = Packet::new(self.transport, peer, self.payload, self.segments);
            packet.payload_mut().iter_mut().zip((0..=250_u8).cycle()).for_each(|(byte, value)| *byte = value);
            packet
        };
        (0..self.peers).map(packet).collect()
    }
}

/// Packets that wait to be read: each peer's in turn.
pub struct Source {
    packets: Vec<Packet>,
    next: usize,
    /// How often it can still be read.
    pub left: usize,
}

impl Source {
    pub fn new(workload: &Workload) -> Self {
        Source { packets: workload.packets(), next: 0, left: 0 }
    }

    /// The next one, `count` times.
    pub fn take(&mut self, count: usize) -> Vec<(VirtioNetHdr, &[u8])> {
        let Packet { hdr, bytes, .. } = self.advance();
        vec![(*hdr, &bytes[..]); count]
    }

    fn advance(&mut self) -> &Packet {
        let at = self.next;
        self.next = (at + 1) % self.packets.len();
        self.packets[at].advance();
        &self.packets[at]
    }

    /// Puts the next one into `buffer`, if it may still be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<Read> {
        self.left = self.left.checked_sub(1)?;
        let Packet { hdr, bytes, .. } = self.advance();
        buffer[..bytes.len()].copy_from_slice(bytes);
        Some(Read { hdr: *hdr, len: bytes.len() })
    }
}
