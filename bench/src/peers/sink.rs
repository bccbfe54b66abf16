//! A socket that counts the datagrams that arrive, flow by flow.
//!
//! A datagram starts with its label: its number in its flow (8 bytes) and the flow (4 bytes), little-endian.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use adit_net::poll::{Events, Interest, Poller};
use adit_net::udp::{self, BindOptions, Bound, RecvBatch, UdpSocket};

use super::sequence::Sequence;

/// The port that datagrams go to.
pub const PORT: u16 = 5001;
/// Bytes of a datagram's label.
pub const LABEL_LEN: usize = 12;
/// Datagrams, or trains, that one call receives.
const SLOTS: usize = 32;
/// How soon the end is noticed when nothing arrives.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a sink without offload sleeps when nothing is there. Woken for every packet, it would cost the engine more
/// than it measures; and in this time less arrives than its buffer can hold.
const NAP: Duration = Duration::from_micros(200);

/// Writes a datagram's label.
pub fn label(datagram: &mut [u8], flow: u32, number: u64) {
    datagram[..8].copy_from_slice(&number.to_le_bytes());
    datagram[8..LABEL_LEN].copy_from_slice(&flow.to_le_bytes());
}

fn read_label(datagram: &[u8]) -> Option<(u32, u64)> {
    let (number, rest) = datagram.split_first_chunk()?;
    Some((u32::from_le_bytes(*rest.first_chunk()?), u64::from_le_bytes(*number)))
}

/// What arrived, and when.
pub struct Arrivals {
    flows: Vec<Sequence>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Arrivals {
    fn new(flows: usize) -> Arrivals {
        Arrivals { flows: vec![Sequence::default(); flows], first: None, last: None }
    }

    /// The flows, by their numbers.
    pub fn flows(&self) -> &[Sequence] {
        &self.flows
    }

    /// Different datagrams that arrived.
    pub fn arrived(&self) -> u64 {
        self.flows.iter().map(Sequence::arrived).sum()
    }

    /// Those that arrived after a later one of their flow.
    pub fn reordered(&self) -> u64 {
        self.flows.iter().map(Sequence::reordered).sum()
    }

    /// Datagrams that arrived again.
    pub fn duplicates(&self) -> u64 {
        self.flows.iter().map(Sequence::duplicates).sum()
    }

    /// Datagrams a second from the first arrival to the last.
    ///
    /// # Errors
    /// When there were not two at different times.
    pub fn rate(&self) -> Result<f64, String> {
        let elapsed = self.first.zip(self.last).map(|(first, last)| last - first);
        match elapsed.filter(|elapsed| !elapsed.is_zero()) {
            Some(elapsed) => Ok(self.arrived() as f64 / elapsed.as_secs_f64()),
            None => Err("no datagrams arrived".to_owned()),
        }
    }

    /// Takes datagrams of `stride` bytes. What is no flow's, since the sink's port is open to all, does not count.
    fn take(&mut self, train: &[u8], stride: usize) {
        for (flow, number) in train.chunks(stride.max(1)).filter_map(read_label) {
            if let Some(sequence) = self.flows.get_mut(flow as usize) {
                sequence.arrive(number);
            }
        }
    }
}

/// The socket.
pub struct Sink {
    socket: UdpSocket,
    poller: Poller,
}

impl Sink {
    /// Opens [`PORT`] in the present namespace, with receive offload or without.
    ///
    /// # Errors
    /// Of the socket.
    pub fn bind(with_offload: bool) -> io::Result<Sink> {
        let socket = v4(udp::bind(PORT, &BindOptions { gro: with_offload, ..BindOptions::default() })?)?;
        let poller = Poller::new()?;
        poller.add(&socket, 0, Interest::Read)?;
        Ok(Sink { socket, poller })
    }

    /// Receives datagrams of that many flows until `is_over`, and calls `arrived` whenever some arrived.
    ///
    /// # Errors
    /// Of the socket.
    pub fn receive(
        &self,
        flows: usize,
        is_over: &AtomicBool,
        arrived: impl Fn(&Arrivals),
    ) -> io::Result<Arrivals> {
        let mut arrivals = Arrivals::new(flows);
        let mut batch = RecvBatch::new(SLOTS);
        let mut events = Events::with_capacity(1);
        while !is_over.load(Relaxed) {
            match self.socket.recv(&mut batch) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.socket.has_gro() {
                        true => self.poller.wait(&mut events, Some(PATIENCE))?,
                        false => thread::sleep(NAP),
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            for (received, train) in batch.trains() {
                arrivals.take(train, received.stride);
            }
            let now = Instant::now();
            arrivals.first.get_or_insert(now);
            arrivals.last = Some(now);
            arrived(&arrivals);
        }
        Ok(arrivals)
    }
}

/// The IPv4 socket of those that were bound.
///
/// # Errors
/// When the host has no IPv4.
pub fn v4(bound: Bound) -> io::Result<UdpSocket> {
    let pair = bound.sockets.into_iter().next();
    pair.and_then(|pair| pair.v4).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(labels: &[(u32, u64)]) -> Vec<u8> {
        let mut train = vec![0; 64 * labels.len()];
        for (datagram, &(flow, number)) in train.chunks_mut(64).zip(labels) {
            label(datagram, flow, number);
        }
        train
    }

    #[test]
    fn datagrams_are_counted_by_flow_and_number() {
        let mut arrivals = Arrivals::new(2);
        arrivals.take(&train(&[(0, 3), (1, 3), (0, 4), (0, 2), (1, 3)]), 64);
        assert_eq!((arrivals.arrived(), arrivals.reordered(), arrivals.duplicates()), (4, 1, 1));
        assert_eq!(arrivals.flows()[0].next(), 5);
    }

    #[test]
    fn strangers_do_not_count() {
        let mut arrivals = Arrivals::new(1);
        arrivals.take(&train(&[(1, 0), (u32::MAX, 0)]), 64);
        arrivals.take(&[1; LABEL_LEN - 1], 64);
        arrivals.take(&[], 0);
        assert_eq!(arrivals.arrived(), 0);
        assert!(arrivals.rate().is_err());
    }

    #[test]
    fn the_rate_is_that_between_the_first_and_the_last() {
        let now = Instant::now();
        let mut arrivals = Arrivals::new(1);
        arrivals.take(&train(&[(0, 0), (0, 1), (0, 2)]), 64);
        arrivals.first = Some(now);
        arrivals.last = Some(now);
        assert!(arrivals.rate().is_err());
        arrivals.last = Some(now + Duration::from_millis(500));
        assert_eq!(arrivals.rate(), Ok(6.0));
    }
}
