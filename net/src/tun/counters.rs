//! What a queue has moved, by kind of packet, and which kinds of super-packets the kernel has shown not to take.

use std::fmt;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::{Offloads, VirtioNetHdr};

/// Refused super-packets of one kind, with none taken in between, after which no more are built for a while. One odd packet
/// is refused alone, and those taken around it make the count start again.
const PATIENCE: u32 = 8;

/// How many packets are written one by one then, before it is tried again: a thousand super-packets or so. `EINVAL` may say
/// that this kernel's driver does not know the kind (UDP before Linux 6.2), which stays so, and one refused call in so many
/// packets is not worth avoiding. Or it found fault with eight packets in a row that somebody sent us: that ends.
const REFUSED_PACKETS: u32 = 50_000;

/// What is moved at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Single,
    Tcp,
    Udp,
}

impl Kind {
    const COUNT: usize = 3;

    pub fn of(hdr: &VirtioNetHdr) -> Self {
        match hdr.gso_type & !VirtioNetHdr::GSO_ECN {
            VirtioNetHdr::GSO_TCPV4 | VirtioNetHdr::GSO_TCPV6 => Self::Tcp,
            VirtioNetHdr::GSO_UDP_L4 => Self::Udp,
            _ => Self::Single,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "single",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Live counters of a queue, relaxed, since nothing is ordered by them. Each worker writes its own queue's, on cache
/// lines of their own (two, since processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counters {
    read: [AtomicU64; Kind::COUNT],
    written: [AtomicU64; Kind::COUNT],
    refused: [AtomicU64; Kind::COUNT],
    dropped: AtomicU64,
}

impl Counters {
    pub fn read(&self, kind: Kind) {
        self.read[kind as usize].fetch_add(1, Relaxed);
    }

    pub fn written(&self, kind: Kind) {
        self.written[kind as usize].fetch_add(1, Relaxed);
    }

    pub fn refused(&self, kind: Kind) {
        self.refused[kind as usize].fetch_add(1, Relaxed);
    }

    pub fn dropped(&self, packets: usize) {
        self.dropped.fetch_add(packets as u64, Relaxed);
    }

    pub fn stats(&self) -> TunStats {
        let of = |kind| KindStats {
            read: self.read[kind as usize].load(Relaxed),
            written: self.written[kind as usize].load(Relaxed),
            refused: self.refused[kind as usize].load(Relaxed),
        };
        TunStats {
            single: of(Kind::Single),
            tcp: of(Kind::Tcp),
            udp: of(Kind::Udp),
            dropped: self.dropped.load(Relaxed),
        }
    }
}

/// How much a device or a queue has moved since it was opened. Add those of several queues with `+=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunStats {
    /// Packets that went alone.
    pub single: KindStats,
    /// Super-packets of TCP segments.
    pub tcp: KindStats,
    /// Super-packets of UDP datagrams.
    pub udp: KindStats,
    /// Packets that the interface did not take: it was down, or they were not IP. Not those of refused super-packets
    /// that passed one by one.
    pub dropped: u64,
}

/// How many of one kind were moved, a system call each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    /// From the interface.
    pub read: u64,
    /// To the interface.
    pub written: u64,
    /// Not taken by the interface.
    pub refused: u64,
}

impl AddAssign for TunStats {
    fn add_assign(&mut self, other: Self) {
        self.single += other.single;
        self.tcp += other.tcp;
        self.udp += other.udp;
        self.dropped += other.dropped;
    }
}

impl AddAssign for KindStats {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.written += other.written;
        self.refused += other.refused;
    }
}

/// Which super-packets may be written to a device, known to all of its queues.
#[derive(Debug)]
pub(super) struct Joining {
    agreed: Offloads,
    tcp: Trust,
    udp: Trust,
}

impl Joining {
    pub fn new(agreed: Offloads) -> Self {
        Self { agreed, tcp: Trust::default(), udp: Trust::default() }
    }

    pub fn agreed(&self) -> Offloads {
        self.agreed
    }

    pub fn allowed(&self) -> Offloads {
        let Offloads { tcp, udp, vnet_hdr } = self.agreed;
        Offloads { tcp: tcp && self.tcp.lasts(), udp: udp && self.udp.lasts(), vnet_hdr }
    }

    pub fn taken(&self, kind: Kind) {
        match self.trust(kind) {
            Some(trust) => trust.confirm(),
            None => [&self.tcp, &self.udp].into_iter().for_each(Trust::count_single),
        }
    }

    pub fn refused(&self, kind: Kind) {
        if let Some(trust) = self.trust(kind)
            && trust.doubt()
        {
            log::warn!(
                "the kernel keeps refusing {kind} super-packets: packets are written one by one for now"
            );
        }
    }

    fn trust(&self, kind: Kind) -> Option<&Trust> {
        match kind {
            Kind::Single => None,
            Kind::Tcp => Some(&self.tcp),
            Kind::Udp => Some(&self.udp),
        }
    }
}

/// Trust in one kind of super-packet.
#[derive(Debug, Default)]
struct Trust {
    refused_in_a_row: AtomicU32,
    /// Packets to be written one by one before the next super-packet.
    lost_for: AtomicU32,
}

impl Trust {
    fn lasts(&self) -> bool {
        self.lost_for.load(Relaxed) == 0
    }

    fn confirm(&self) {
        // Nearly always it is zero already, and a cache line that is only read is shared by all workers.
        if self.refused_in_a_row.load(Relaxed) != 0 {
            self.refused_in_a_row.store(0, Relaxed);
        }
    }

    /// Counts a refusal; true for the one that ends the trust. Once it has ended, one refusal ends it again, until a
    /// super-packet is taken.
    fn doubt(&self) -> bool {
        let refused = self.refused_in_a_row.load(Relaxed).saturating_add(1);
        self.refused_in_a_row.store(refused, Relaxed);
        if refused >= PATIENCE {
            self.lost_for.store(REFUSED_PACKETS, Relaxed);
        }
        refused == PATIENCE
    }

    /// Counts a packet that was written alone.
    fn count_single(&self) {
        let left = self.lost_for.load(Relaxed);
        if left > 0 {
            // A lost race means that another worker counted its packet instead: it lasts one packet longer.
            let _ = self.lost_for.compare_exchange(left, left - 1, Relaxed, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_the_header() {
        let kind = |gso_type| Kind::of(&VirtioNetHdr { gso_type, ..VirtioNetHdr::default() });
        assert_eq!(kind(VirtioNetHdr::GSO_NONE), Kind::Single);
        assert_eq!(kind(VirtioNetHdr::GSO_TCPV4 | VirtioNetHdr::GSO_ECN), Kind::Tcp);
        assert_eq!(kind(VirtioNetHdr::GSO_TCPV6), Kind::Tcp);
        assert_eq!(kind(VirtioNetHdr::GSO_UDP_L4), Kind::Udp);
    }

    const WITHOUT_UDP: Offloads = Offloads { udp: false, ..Offloads::ALL };

    /// How many packets are written alone before UDP super-packets are tried again.
    fn packets_without_udp(joining: &Joining) -> usize {
        let is_without = || joining.allowed() == WITHOUT_UDP;
        std::iter::from_fn(|| is_without().then(|| joining.taken(Kind::Single))).count()
    }

    fn given_up() -> Joining {
        let joining = Joining::new(Offloads::ALL);
        (1..PATIENCE).for_each(|_| joining.refused(Kind::Udp));
        assert_eq!(joining.allowed(), Offloads::ALL);
        joining.refused(Kind::Udp);
        joining
    }

    #[test]
    fn a_kind_is_given_up_alone_and_then_tried_again() {
        let joining = given_up();
        assert_eq!(joining.allowed(), WITHOUT_UDP);
        joining.taken(Kind::Tcp);
        assert_eq!(joining.agreed(), Offloads::ALL);
        assert_eq!(packets_without_udp(&joining), REFUSED_PACKETS as usize);
        assert_eq!(joining.allowed(), Offloads::ALL);
    }

    #[test]
    fn a_kind_that_was_given_up_has_one_try_until_it_is_taken() {
        let joining = given_up();
        packets_without_udp(&joining);
        joining.refused(Kind::Udp);
        assert_eq!(packets_without_udp(&joining), REFUSED_PACKETS as usize);
        joining.taken(Kind::Udp);
        (1..PATIENCE).for_each(|_| joining.refused(Kind::Udp));
        assert_eq!(joining.allowed(), Offloads::ALL);
    }

    #[test]
    fn what_the_kernel_never_agreed_to_is_not_tried() {
        let joining = Joining::new(WITHOUT_UDP);
        (0..2 * REFUSED_PACKETS).for_each(|_| joining.taken(Kind::Single));
        assert_eq!(joining.allowed(), WITHOUT_UDP);
    }

    #[test]
    fn only_refusals_in_a_row_count() {
        let joining = Joining::new(Offloads::ALL);
        for _ in 0..3 * PATIENCE {
            joining.refused(Kind::Tcp);
            joining.taken(Kind::Udp);
            if joining.tcp.refused_in_a_row.load(Relaxed) == PATIENCE - 1 {
                joining.taken(Kind::Tcp);
            }
        }
        assert_eq!(joining.allowed(), Offloads::ALL);
    }
}
