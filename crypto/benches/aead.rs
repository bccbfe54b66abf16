//! Sealing and opening trains, against AWS-LC and ring in one run.
//!
//! `cargo bench -p adit-crypto` prints the table, and `-- 1420x16 64x4` such cells of it (bytes, packets); `-- --sweep` prints
//! where lengths from 0 to 65,519 bytes and trains of 1 to 64 packets compare worst with AWS-LC. With `--avx2` before, this
//! backend is measured where another one is preferred. All candidates take turns, and of the ratios of their times in each
//! turn the median counts, so a busy neighbour does little harm. Trains are laid out as the data path has them.

use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

use adit_crypto::{Backend, TAG_LEN, aead, preferred_backend};
use ring::aead as ring_aead;

/// Bytes of a transport message before its text.
const HEADER: usize = 16;
/// Trains are copied as often as fits these bytes, and each copy is opened once: they stay in the first-level cache.
const CACHE: usize = 32 << 10;
const KEY: [u8; 32] = [0x42; 32];

const LENGTHS: [usize; 5] = [0, 64, 256, 576, 1420];
const BATCHES: [usize; 8] = [1, 2, 4, 8, 16, 32, 45, 48];

fn main() {
    // cargo adds `--bench`.
    let mut args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let backend = match args.first() {
        Some(arg) if arg == "--avx2" => {
            args.remove(0);
            Backend::Avx2
        }
        _ => preferred_backend(),
    };
    println!("ChaCha20-Poly1305 in trains by {backend}");
    if args == ["--sweep"] {
        return sweep(backend);
    }
    let cells: Option<Vec<_>> = args.iter().map(|arg| cell(arg)).collect();
    match cells {
        Some(cells) if !cells.is_empty() => table(backend, cells),
        Some(_) => table(backend, LENGTHS.into_iter().flat_map(|len| BATCHES.map(|packets| (len, packets)))),
        None => eprintln!("say nothing, --sweep, or bytes and packets, such as 1420x16"),
    }
}

/// A text's bytes and a train's packets, at most 64.
fn cell(arg: &str) -> Option<(usize, usize)> {
    let (len, packets) = arg.split_once('x')?;
    let (len, packets) = (len.parse().ok()?, packets.parse().ok()?);
    (len <= 1 << 20 && (1..=64).contains(&packets)).then_some((len, packets))
}

fn table(backend: Backend, cells: impl IntoIterator<Item = (usize, usize)>) {
    let effort = Effort { rounds: 15, round: Duration::from_micros(500) };
    println!("{:>24}{:^44}{:^44}", "", "sealing", "opening");
    let columns = format!("{:>8} {:>9} {:>12} {:>11}", "GB/s", "ns/packet", "times AWS-LC", "times ring");
    println!("{:>10} {:>10}   {columns}   {columns}", "bytes", "packets");
    for (text_len, packets) in cells {
        let [sealing, opening] = [Work::Seal, Work::Open].map(|work| {
            let layout = Layout { text_len, packets, work };
            let own = Own(aead::Key::with_backend(&KEY, backend));
            let library = Own(aead::Key::with_backend(&KEY, Backend::AwsLc));
            let times = compare(&[&own, &library, &Ring::new()], layout, effort);
            let seconds = median(times.iter().map(|round| round[0]).collect());
            let bytes = (text_len * packets) as f64;
            format!(
                "{:>8.2} {:>9.0} {:>12.2} {:>11.2}",
                bytes / seconds / 1e9,
                seconds / packets as f64 * 1e9,
                ratio(&times, 1),
                ratio(&times, 2)
            )
        });
        println!("{text_len:>10} {packets:>10}   {sealing}   {opening}");
    }
}

fn sweep(backend: Backend) {
    let effort = Effort { rounds: 5, round: Duration::from_micros(100) };
    let careful = Effort { rounds: 21, round: Duration::from_micros(500) };
    let candidates =
        (Own(aead::Key::with_backend(&KEY, backend)), Own(aead::Key::with_backend(&KEY, Backend::AwsLc)));
    let measure = |layout, effort| ratio(&compare(&[&candidates.0, &candidates.1], layout, effort), 1);
    let mut cells = Vec::new();
    for text_len in swept_lengths() {
        for packets in (1..=20).chain([24, 31, 32, 33, 45, 47, 48, 63, 64]) {
            for work in [Work::Seal, Work::Open] {
                let layout = Layout { text_len, packets, work };
                cells.push((measure(layout, effort), layout));
            }
        }
    }
    cells.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    println!("{} cells; the worst, measured again with more care:", cells.len());
    println!("{:>10} {:>10} {:>6}   times AWS-LC", "bytes", "packets", "");
    for (_, layout) in &cells[..cells.len().min(30)] {
        let Layout { text_len, packets, work } = *layout;
        println!("{text_len:>10} {packets:>10} {work:>6?}   {:.2}", measure(*layout, careful));
    }
}

/// Around the ends of blocks, and then ever fewer.
fn swept_lengths() -> Vec<usize> {
    let small = (0..=1536).step_by(32).flat_map(|len| [len, len + 1, len + 17]);
    let large =
        (0..).map(|step| 1600 * 5_usize.pow(step) / 4_usize.pow(step)).take_while(|&len| len < 65_519);
    small.chain(large).chain([65_519]).collect()
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Seal,
    Open,
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    text_len: usize,
    packets: usize,
    work: Work,
}

/// What one measurement costs.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    /// For each candidate.
    round: Duration,
}

trait Candidate {
    fn seal(&self, train: &mut [u8], stride: usize);
    /// Every packet has to be authentic.
    fn open(&self, counters: &[u64], train: &mut [u8], stride: usize);
}

/// Each candidate's seconds for a train, in each round.
fn compare(candidates: &[&dyn Candidate], layout: Layout, effort: Effort) -> Vec<Vec<f64>> {
    let Layout { text_len, packets, work } = layout;
    let stride = HEADER + text_len + TAG_LEN;
    let len = packets * stride;
    let counters: Vec<u64> = (0..packets as u64).collect();
    let mut sealed: Vec<u8> = (0..len).map(|i| i as u8).collect();
    candidates[0].seal(&mut sealed, stride);
    let mut trains = sealed.repeat((CACHE / len).max(1));

    let mut pass = |candidate: &dyn Candidate| {
        for train in trains.chunks_exact_mut(len) {
            train.copy_from_slice(&sealed);
        }
        let start = Instant::now();
        for train in black_box(&mut trains).chunks_exact_mut(len) {
            match work {
                Work::Seal => candidate.seal(train, stride),
                Work::Open => candidate.open(&counters, train, stride),
            }
        }
        start.elapsed()
    };
    let count = (CACHE / len).max(1);
    let passes = |pass: Duration| (effort.round.as_nanos() / pass.as_nanos().max(1)).clamp(1, 10_000) as u32;
    let passes: Vec<u32> =
        candidates.iter().map(|candidate| passes(pass(*candidate).min(pass(*candidate)))).collect();
    let mut round = |(candidate, &passes): (&&dyn Candidate, &u32)| {
        let total: Duration = (0..passes).map(|_| pass(*candidate)).sum();
        total.as_secs_f64() / f64::from(passes) / count as f64
    };
    (0..effort.rounds).map(|_| candidates.iter().zip(&passes).map(&mut round).collect()).collect()
}

/// The median of the ratios of candidate `other`'s time to the first one's.
fn ratio(times: &[Vec<f64>], other: usize) -> f64 {
    median(times.iter().map(|round| round[other] / round[0]).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Own(aead::Key);

impl Candidate for Own {
    fn seal(&self, train: &mut [u8], stride: usize) {
        aead::seal_train(&self.0, 0, train, stride, HEADER);
    }

    fn open(&self, counters: &[u64], train: &mut [u8], stride: usize) {
        let mut opened = [false; 64];
        let opened = &mut opened[..counters.len()];
        aead::open_train(&self.0, counters, train, stride, HEADER, opened);
        assert!(opened.iter().all(|&opened| opened));
    }
}

struct Ring(ring_aead::LessSafeKey);

impl Ring {
    fn new() -> Self {
        let key = ring_aead::UnboundKey::new(&ring_aead::CHACHA20_POLY1305, &KEY);
        Self(ring_aead::LessSafeKey::new(key.expect("32 bytes are a key")))
    }

    fn nonce(counter: u64) -> ring_aead::Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        ring_aead::Nonce::assume_unique_for_key(nonce)
    }
}

impl Candidate for Ring {
    fn seal(&self, train: &mut [u8], stride: usize) {
        for (counter, packet) in (0..).zip(train.chunks_mut(stride)) {
            let (text, tag) = packet[HEADER..].split_last_chunk_mut::<TAG_LEN>().expect("room for the tag");
            let sealed =
                self.0.seal_in_place_separate_tag(Self::nonce(counter), ring_aead::Aad::empty(), text);
            tag.copy_from_slice(sealed.expect("the text is not too long").as_ref());
        }
    }

    fn open(&self, counters: &[u64], train: &mut [u8], stride: usize) {
        for (&counter, packet) in counters.iter().zip(train.chunks_mut(stride)) {
            let opened =
                self.0.open_in_place(Self::nonce(counter), ring_aead::Aad::empty(), &mut packet[HEADER..]);
            assert!(opened.is_ok());
        }
    }
}
