//! What is measured.

mod idle;
mod many;
mod ping;
mod tcp;
mod udp;

use std::time::Duration;

use clap::ValueEnum;

use super::contender::{Contender, Role};
use super::sample::{Figure, Outcome, figures};

/// A kind of traffic, and what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// One TCP stream
    Tcp,
    /// One TCP stream, from the server to the client
    Reverse,
    /// Four TCP streams
    Tcp4,
    /// UDP datagrams of 1,200 bytes, from a sender that uses segmentation offload
    UdpGso,
    /// UDP datagrams of 64 bytes, each sent by a call of its own
    Udp64,
    /// UDP datagrams of 1,200 bytes, each sent by a call of its own
    Udp1200,
    /// Small packets from and to 1,000 peers in turn, against as many from and to one
    Many,
    /// Round trips through an idle tunnel
    Ping,
    /// Round trips while a TCP stream saturates the tunnel
    LoadPing,
    /// Context switches of an engine that has 1,000 peers and nothing to do
    Idle,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Rounds, in each of which every contender has its turn.
    pub rounds: u32,
    /// How long a stream lasts.
    pub stream: Duration,
    /// How long idle engines are watched.
    pub idle: Duration,
}

/// Takes the outcome of a round of the contender at that position.
pub type Report<'a> = &'a mut dyn FnMut(usize, Outcome);

impl Workload {
    /// Those in `only`, or all if there are none, each once and in the order of the tables.
    pub fn selection(only: &[Workload]) -> Vec<Workload> {
        let wanted = |workload: &&Workload| only.is_empty() || only.contains(workload);
        Workload::value_variants().iter().filter(wanted).copied().collect()
    }

    /// Its name, as the command line spells it.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Its title in tables and plots.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Workload::Tcp => "TCP, one stream",
            Workload::Reverse => "TCP, one stream, reverse",
            Workload::Tcp4 => "TCP, four streams",
            Workload::UdpGso => "UDP with segmentation offload, 1,200 bytes",
            Workload::Udp64 => "UDP without offload, 64 bytes",
            Workload::Udp1200 => "UDP without offload, 1,200 bytes",
            Workload::Many => "1,000 peers in turn, packets of 128 bytes",
            Workload::Ping => "Round trip, idle",
            Workload::LoadPing => "Round trip beside a TCP stream",
            Workload::Idle => "Idle with 1,000 peers",
        }
    }

    /// The figure that contenders are compared by.
    #[must_use]
    pub fn headline(self) -> Figure {
        match self {
            Workload::Tcp | Workload::Reverse | Workload::Tcp4 => figures::GIGABITS,
            Workload::UdpGso | Workload::Udp64 | Workload::Udp1200 => figures::PACKETS,
            Workload::Many => figures::MANY_IN,
            Workload::Ping | Workload::LoadPing => figures::RTT_MEDIAN,
            Workload::Idle => figures::SWITCHES,
        }
    }

    /// Whether the greater headline figure is the better.
    #[must_use]
    pub fn more_is_better(self) -> bool {
        !matches!(self, Workload::Ping | Workload::LoadPing | Workload::Idle)
    }

    /// Whether `contender` can take part: the copy limit knows no peers, but for sending to many.
    #[must_use]
    pub fn suits(self, contender: &Contender) -> bool {
        contender.role != Role::CopyLimit || self != Workload::Idle
    }

    /// Measures everybody, round after round.
    pub fn measure(self, contenders: &[&Contender], scale: &Scale, report: Report<'_>) {
        let stream = scale.stream;
        let round: &dyn Fn(&Contender) -> Outcome = match self {
            Workload::Tcp => &|who| tcp::stream(who, stream, tcp::ONE),
            Workload::Reverse => &|who| tcp::stream(who, stream, tcp::REVERSE),
            Workload::Tcp4 => &|who| tcp::stream(who, stream, tcp::FOUR),
            Workload::UdpGso => &|who| udp::flow(who, stream, udp::OFFLOADED),
            Workload::Udp64 => &|who| udp::flow(who, stream, udp::SMALL),
            Workload::Udp1200 => &|who| udp::flow(who, stream, udp::LARGE),
            Workload::LoadPing => &|who| ping::under_load(who, stream),
            Workload::Many => &many::compare,
            Workload::Ping => return ping::idle(contenders, scale.rounds, report),
            Workload::Idle => return idle::watch(contenders, scale.idle, report),
        };
        // A B C A B C …
        for _ in 0..scale.rounds {
            for (who, contender) in contenders.iter().enumerate() {
                report(who, round(contender));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_in_order_and_without_repetition() {
        assert_eq!(Workload::selection(&[]).len(), Workload::value_variants().len());
        let picked = [Workload::Idle, Workload::Tcp, Workload::Idle];
        assert_eq!(Workload::selection(&picked), [Workload::Tcp, Workload::Idle]);
        assert_eq!([Workload::Tcp4.name(), Workload::UdpGso.name()], ["tcp4", "udp-gso"]);
    }
}
