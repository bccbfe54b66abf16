//! The halves with helpers that dawdle: however long each takes, nothing overtakes, is lost, doubled or damaged.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use adit_net::segment::Group;
use adit_net::tun::Read;
use adit_proto::message::DataHeader;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::lane::Worked;
use super::*;

const FLOWS: usize = 3;
/// Packets and super-packets that are sent.
const READS: usize = 4000;

fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    rng.next_u32() as usize % bound
}

fn dawdle(rng: &mut ChaCha8Rng) {
    match below(rng, 16) {
        0 => thread::sleep(Duration::from_micros(below(rng, 400) as u64)),
        1..8 => thread::yield_now(),
        _ => {}
    }
}

/// Seals and opens like a worker that helps, but takes its time while it has a job in its hands.
fn help_slowly(device: &Device, number: usize, helped: [&AtomicUsize; 2]) {
    let mut rng = ChaCha8Rng::seed_from_u64(number as u64);
    let owner = device.crew.member(0);
    // Whoever sleeps is called, and then thought to be there.
    device.crew.sleeps(number);
    while !device.is_ending() {
        let sealed = owner.tx.work(|outgoing| {
            dawdle(&mut rng);
            outgoing.seal();
            dawdle(&mut rng);
        });
        let opened = owner.rx.work(|incoming| {
            dawdle(&mut rng);
            incoming.open(device);
            dawdle(&mut rng);
        });
        for (worked, helped) in [sealed, opened].into_iter().zip(helped) {
            helped.fetch_add(usize::from(worked != Worked::Nothing), Relaxed);
        }
        thread::yield_now();
    }
}

/// What is sent: packets of several flows at random, each numbered within its flow.
struct Source {
    rng: ChaCha8Rng,
    left: usize,
    sent: [u64; FLOWS],
}

impl Source {
    fn read(&mut self, buffer: &mut [u8]) -> Option<Read> {
        self.left = self.left.checked_sub(1)?;
        let flow = below(&mut self.rng, FLOWS);
        let payload = 16 + below(&mut self.rng, 1285);
        let segments = if below(&mut self.rng, 4) == 0 { 1 } else { 1 + below(&mut self.rng, 50) };
        let mut packet = Packet::new(Transport::Udp, flow, payload, segments);
        for segment in packet.payload_mut().chunks_mut(payload) {
            write_payload(segment, flow, self.sent[flow]);
            self.sent[flow] += 1;
        }
        buffer[..packet.bytes.len()].copy_from_slice(&packet.bytes);
        Some(Read { hdr: packet.hdr, len: packet.bytes.len() })
    }
}

/// Flow, number, and bytes that depend on it.
fn write_payload(payload: &mut [u8], flow: usize, number: u64) {
    payload[..8].copy_from_slice(&(flow as u64).to_be_bytes());
    payload[8..16].copy_from_slice(&number.to_be_bytes());
    for (i, byte) in payload[16..].iter_mut().enumerate() {
        *byte = (number as usize * 7 + i) as u8;
    }
}

/// What was delivered so far.
#[derive(Default)]
struct Delivered([u64; FLOWS]);

impl Delivered {
    fn check(&mut self, group: &Group<'_, '_>) {
        for packet in group.packets() {
            let payload = &packet[Transport::Udp.header_len()..];
            let flow = usize::from(payload[7]);
            let mut expected = vec![0; payload.len()];
            write_payload(&mut expected, flow, self.0[flow]);
            assert!(payload == expected, "flow {flow}: the next is packet {}", self.0[flow]);
            self.0[flow] += 1;
        }
    }
}

/// The trains between the halves.
#[derive(Default)]
struct Wire {
    trains: VecDeque<(Vec<u8>, usize)>,
    /// For each session, by the index that names it.
    counters: std::collections::HashMap<u32, u64>,
    passed: usize,
}

impl Wire {
    fn put(&mut self, train: &[u8], stride: usize) {
        for message in train.chunks(stride) {
            let header = DataHeader::parse(message).expect("sealed messages are transport data");
            let next = self.counters.entry(header.receiver).or_default();
            assert_eq!(header.counter, *next, "counters leave in order, and none is left out");
            *next += 1;
        }
        self.trains.push_back((train.to_vec(), stride));
        self.passed += 1;
    }

    fn take(&mut self, buffer: &mut [u8]) -> Option<(usize, usize)> {
        let (train, stride) = self.trains.pop_front()?;
        buffer[..train.len()].copy_from_slice(&train);
        Some((train.len(), stride))
    }
}

#[test]
fn whoever_dawdles_changes_nothing() {
    let (sealed, opened) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let workers = NonZeroUsize::new(4).unwrap();
    let helper = |device: &Device, number, ready| {
        drop(ready);
        help_slowly(device, number, [&sealed, &opened]);
    };
    let mut source = Source { rng: ChaCha8Rng::seed_from_u64(99), left: READS, sent: [0; FLOWS] };
    let mut delivered = Delivered::default();
    let mut wire = Wire::default();
    with_helpers(FLOWS, workers, helper, |mut sending, mut receiving| {
        let mut rng = ChaCha8Rng::seed_from_u64(100);
        while source.left > 0 {
            sending.turn(|buffer| source.read(buffer), |train, stride| wire.put(train, stride));
            dawdle(&mut rng);
            for _ in 0..below(&mut rng, 8) {
                receiving.turn(|buffer| wire.take(buffer), |group| delivered.check(group));
            }
        }
        sending.finish(|train, stride| wire.put(train, stride));
        while receiving.turn(|buffer| wire.take(buffer), |group| delivered.check(group)) {
            dawdle(&mut rng);
        }
        receiving.finish(|group| delivered.check(group));
    })
    .unwrap();
    assert_eq!(delivered.0, source.sent, "all has arrived");
    for (what, helped) in [("sealed", &sealed), ("opened", &opened)] {
        let helped = helped.load(Relaxed);
        // On a busy machine they come late, and most is done without them.
        assert!(helped > wire.passed / 100, "the helpers {what} {helped} of {} trains", wire.passed);
    }
}

#[test]
fn stages_do_what_the_halves_do() {
    with(1, NonZeroUsize::MIN, |mut sending, mut receiving| {
        let mut source = Source { rng: ChaCha8Rng::seed_from_u64(5), left: 0, sent: [0; FLOWS] };
        let mut packet = Packet::new(Transport::Udp, 0, 1200, 40);
        let mut delivered = Delivered::default();
        let mut stages = Vec::new();
        for _ in 0..10 {
            for segment in packet.payload_mut().chunks_mut(1200) {
                write_payload(segment, 0, source.sent[0]);
                source.sent[0] += 1;
            }
            let mut wire = Wire { counters: [].into(), ..Wire::default() };
            let packets = [(packet.hdr, &packet.bytes[..])];
            sending.staged().train(
                &packets,
                |stage| stages.push(stage),
                |train, stride| {
                    wire.trains.push_back((train.to_vec(), stride));
                },
            );
            let (train, stride) = wire.trains.pop_front().expect("one train leaves");
            let mut done = |stage: Option<Stage>| stages.extend(stage);
            receiving.staged().train(&train, stride, &mut done, |group| delivered.check(group));
        }
        assert_eq!(delivered.0, source.sent);
        assert_eq!(stages, Stage::ALL.repeat(10));
    })
    .unwrap();
}
