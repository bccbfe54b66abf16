//! No packet and no train costs an allocation: all buffers are there when the first one comes.
#![expect(unsafe_code, reason = "the trait of an allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use adit_device::halves::{self, Packet, Receiving, Sending, Transport};
use adit_net::tun::Read;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Counts an allocation, but not what the process's first thread does, which notes meanwhile that a test has begun.
fn count() {
    // SAFETY: neither call can fail, nor touch memory.
    let is_first = unsafe { libc::gettid() == libc::getpid() };
    ALLOCATIONS.fetch_add(usize::from(!is_first), Relaxed);
}

// SAFETY: every call is passed on as it is to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the block is one of the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Packets or super-packets in one burst: more than a queue's turn takes, so that helpers are called.
const BURST: usize = 4;
/// Bursts before anything counts, and those that do.
const WARM_UP: usize = 100;
const BURSTS: usize = 2500;

/// Sealed trains, in memory that is there from the start.
struct Wire {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Wire {
    fn new() -> Self {
        Wire { bytes: Vec::with_capacity(1 << 20), ends: Vec::with_capacity(256) }
    }

    fn put(&mut self, train: &[u8], stride: usize) {
        self.bytes.extend_from_slice(train);
        self.ends.push((self.bytes.len(), stride));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Sends a burst through both halves; returns how many packets arrived.
fn burst(
    packet: &Packet,
    wire: &mut Wire,
    sending: &mut Sending<'_>,
    receiving: &mut Receiving<'_>,
) -> usize {
    wire.clear();
    let mut left = BURST;
    while left > 0 {
        let read = |buffer: &mut [u8]| {
            left = left.checked_sub(1)?;
            buffer[..packet.bytes.len()].copy_from_slice(&packet.bytes);
            Some(Read { hdr: packet.hdr, len: packet.bytes.len() })
        };
        sending.turn(read, |train, stride| wire.put(train, stride));
    }
    sending.finish(|train, stride| wire.put(train, stride));
    let (mut start, mut next, mut delivered) = (0, 0, 0);
    let mut receive = |buffer: &mut [u8]| {
        let (end, stride) = *wire.ends.get(next)?;
        let train = &wire.bytes[start..end];
        (start, next) = (end, next + 1);
        buffer[..train.len()].copy_from_slice(train);
        Some((train.len(), stride))
    };
    while receiving.turn(&mut receive, |group| delivered += group.packets().len()) {}
    receiving.finish(|group| delivered += group.packets().len());
    delivered
}

/// Packets that arrived, and allocations meanwhile.
fn measure(segments: usize, workers: usize) -> (usize, usize) {
    let packet = Packet::new(Transport::Udp, 0, 1200, segments);
    let workers = NonZeroUsize::new(workers).unwrap();
    let result = halves::with(1, workers, |mut sending, mut receiving| {
        let mut wire = Wire::new();
        let mut bursts = |count: usize| -> usize {
            (0..count).map(|_| burst(&packet, &mut wire, &mut sending, &mut receiving)).sum()
        };
        bursts(WARM_UP);
        let before = ALLOCATIONS.load(Relaxed);
        let delivered = bursts(BURSTS);
        assert!(before > 0, "allocations are counted");
        (delivered, ALLOCATIONS.load(Relaxed) - before)
    });
    result.unwrap()
}

#[test]
fn nothing_is_allocated_once_it_runs() {
    for workers in [1, 2] {
        for segments in [1, 54] {
            let measured = thread::spawn(move || measure(segments, workers)).join();
            let (delivered, allocations) = measured.unwrap();
            assert_eq!(delivered, BURSTS * BURST * segments);
            assert_eq!(allocations, 0, "{workers} workers, {segments} packets at a time");
        }
    }
}
