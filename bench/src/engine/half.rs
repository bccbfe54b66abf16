//! A half at work: how long it takes for many packets.

use std::time::{Duration, Instant};

use adit_device::halves::{Receiving, Sending};

use super::workload::{Source, Workload};

/// Bytes within the tunnel that one sample moves, and packets at most.
const SAMPLE_BYTES: usize = 8 << 20;
const SAMPLE_PACKETS: usize = 1 << 14;

/// What one sample took.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub time: Duration,
    pub packets: usize,
}

impl Sample {
    /// Nanoseconds.
    pub fn per_packet(&self) -> f64 {
        self.time.as_nanos() as f64 / self.packets as f64
    }
}

/// Both halves of one pair of engines, and what they move.
pub struct Halves<'a> {
    sending: Sending<'a>,
    receiving: Receiving<'a>,
    source: Source,
    trains: Trains,
    segments: usize,
    reads: usize,
}

/// Sealed trains.
#[derive(Default)]
struct Trains {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Trains {
    fn push(&mut self, train: &[u8], stride: usize) {
        self.bytes.extend_from_slice(train);
        self.ends.push((self.bytes.len(), stride));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts.zip(&self.ends).map(|(start, (end, stride))| (&self.bytes[start..*end], *stride))
    }
}

impl<'a> Halves<'a> {
    pub fn new(workload: &Workload, sending: Sending<'a>, receiving: Receiving<'a>) -> Self {
        let packets = (SAMPLE_BYTES / workload.packet_len()).min(SAMPLE_PACKETS);
        Halves {
            sending,
            receiving,
            source: Source::new(workload),
            trains: Trains::default(),
            segments: workload.segments,
            reads: packets.div_ceil(workload.segments),
        }
    }

    /// Seals a sample's packets; the trains are dropped.
    pub fn send(&mut self) -> Sample {
        let start = Instant::now();
        self.seal(|_, _, _| ());
        Sample { time: start.elapsed(), packets: self.packets() }
    }

    /// Opens a sample's packets, which are sealed before the clock runs.
    ///
    /// # Errors
    /// When not all of them are delivered.
    pub fn receive(&mut self) -> Result<Sample, String> {
        self.trains.bytes.clear();
        self.trains.ends.clear();
        self.seal(Trains::push);
        let mut waiting = self.trains.iter();
        let mut receive = |buffer: &mut [u8]| {
            let (train, stride) = waiting.next()?;
            buffer[..train.len()].copy_from_slice(train);
            Some((train.len(), stride))
        };
        let mut delivered = 0;
        let start = Instant::now();
        while self.receiving.turn(&mut receive, |group| delivered += group.packets().len()) {}
        self.receiving.finish(|group| delivered += group.packets().len());
        let time = start.elapsed();
        let packets = self.packets();
        match delivered == packets {
            true => Ok(Sample { time, packets }),
            false => Err(format!("{delivered} of {packets} packets were delivered")),
        }
    }

    fn packets(&self) -> usize {
        self.reads * self.segments
    }

    fn seal(&mut self, mut leave: impl FnMut(&mut Trains, &[u8], usize)) {
        let Halves { sending, source, trains, .. } = self;
        source.left = self.reads;
        while source.left > 0 {
            sending.turn(|buffer| source.read(buffer), |train, stride| leave(trains, train, stride));
        }
        sending.finish(|train, stride| leave(trains, train, stride));
    }
}
