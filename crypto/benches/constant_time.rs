//! Whether time tells secrets apart, by the method of dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant
//! time?", 2017): one operation on inputs of two classes, in random order, and Welch's t-test of the two means.
//!
//! `cargo bench -p adit-crypto --bench constant_time`; a number of seconds for each line may follow after `--`. The first
//! lines are comparisons that leak, to show what that looks like.
//!
//! What |t| says: if time does not depend on the class it stays where chance puts it, below 4.5 nearly always, however
//! long the run; if it does, |t| grows with the square root of the number of measurements. As interrupts are not
//! distributed as chance would have it, the field believes in a leak from 10 on. The difference in nanoseconds beside it
//! says how much there would be to measure.

use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

use adit_crypto::x25519::{self, PrivateKey};
use adit_crypto::{Backend, Secret, TAG_LEN, aead, ct};

const HEADER: usize = 16;
/// So many inputs of each class are prepared, and used again and again: all fit into the cache, and no branch predictor
/// learns them by heart.
const INPUTS: usize = 64;

fn main() {
    let seconds = env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(2.0);
    let measure = Measure { time: Duration::from_secs_f64(seconds), random: Random(0x9e37_79b9_7f4a_7c15) };
    println!("{:<72}{:>9}{:>9}{:>11}{:>9}", "", "measured", "ns", "difference", "|t|");
    controls(measure);
    comparisons(measure);
    for backend in Backend::available() {
        println!("{backend}");
        for (packets, text_len) in [(1, 64), (1, 256), (1, 1420), (5, 256), (16, 64), (16, 1420)] {
            let shape = Shape { packets, text_len };
            received_tags(measure, backend, shape);
            plaintexts(measure, backend, shape);
            keys(measure, backend, shape);
        }
        scalars(measure, backend);
    }
}

/// Eight at once, each set up anew, as in [`keys`].
fn scalars(measure: Measure, backend: Backend) {
    const BATCH: usize = 8;
    let keys = |bytes: &[u8]| -> Vec<_> {
        bytes.as_chunks().0.iter().map(|scalar| PrivateKey::new(*scalar)).collect()
    };
    let points: [[u8; 32]; BATCH] = std::array::from_fn(|i| [i as u8 + 2; 32]);
    measure.run_prepared(
        "  X25519, 8 at once, zeros or random scalars",
        &[vec![vec![0; 32 * BATCH]; INPUTS], measure.random.clone_inputs(32 * BATCH)],
        (Vec::new(), [const { Ok(Secret::zero()) }; BATCH]),
        |(slot, _), bytes| {
            slot.clear();
            slot.extend(keys(bytes));
        },
        |(slot, results)| {
            let pairs: [_; BATCH] = std::array::from_fn(|i| (&slot[i], &points[i]));
            x25519::shared_batch_with(&pairs, results, backend);
            results[0].is_ok()
        },
    );
}

/// What this method finds.
fn controls(measure: Measure) {
    let tag = [0x5a; TAG_LEN];
    println!("controls that leak");
    measure.run(
        "comparison up to the first difference, in the first or the last byte",
        &[differing_tags(&tag, 0), differing_tags(&tag, 15)],
        |received| black_box(received.iter().zip(&tag).all(|(a, b)| black_box(a) == b)),
    );
    measure.run(
        "a table of 64 KiB, looked up at a fixed or a random place",
        &[vec![vec![0; 2]; INPUTS], measure.random.clone_inputs(2)],
        {
            let table = vec![1_u8; 1 << 16];
            move |at| table[usize::from(u16::from_le_bytes([at[0], at[1]]))] == 1
        },
    );
}

fn comparisons(measure: Measure) {
    let tag = [0x5a; TAG_LEN];
    println!("adit_crypto::ct");
    measure.run(
        "eq, a difference in the first or the last byte",
        &[differing_tags(&tag, 0), differing_tags(&tag, 15)],
        |received| ct::eq(received, &tag),
    );
}

/// Whoever forges wants to know how much of a tag was right.
fn received_tags(measure: Measure, backend: Backend, shape: Shape) {
    let key = aead::Key::with_backend(&[0x42; 32], backend);
    let mut sealed = shape.train(&[0x11]);
    shape.seal(&key, &mut sealed);
    let forged = |byte: usize| {
        let mut train = sealed.clone();
        for packet in train.chunks_mut(shape.stride()) {
            let tag = packet.len() - TAG_LEN;
            packet[tag + byte] ^= 1;
        }
        vec![train; INPUTS]
    };
    let mut opened = vec![false; shape.packets];
    // The second shows what comes of where the inputs lie: its classes do not differ.
    for (what, classes) in [
        ("tags differ in the first or last byte", [forged(0), forged(15)]),
        ("no difference, for comparison", [forged(0), forged(0)]),
    ] {
        measure.run(&format!("  opening {shape}, {what}"), &classes, |train| {
            shape.open(&key, train, &mut opened);
            opened[0]
        });
    }
}

fn plaintexts(measure: Measure, backend: Backend, shape: Shape) {
    let key = aead::Key::with_backend(&[0x42; 32], backend);
    let random =
        measure.random.clone_inputs(shape.text_len.max(1)).into_iter().map(|text| shape.train(&text));
    measure.run(
        &format!("  sealing {shape}, zeros or random text"),
        &[vec![shape.train(&[0]); INPUTS], random.collect()],
        |train| {
            shape.seal(&key, train);
            train[0] == 0
        },
    );
}

/// Each key is set up anew where the last one was, so that neither class has the better half of memory.
fn keys(measure: Measure, backend: Backend, shape: Shape) {
    let key = |bytes: &[u8]| aead::Key::with_backend(bytes.try_into().expect("32 bytes"), backend);
    measure.run_prepared(
        &format!("  sealing {shape}, zeros or random keys"),
        &[vec![vec![0; 32]; INPUTS], measure.random.clone_inputs(32)],
        (Some(key(&[0; 32])), shape.train(&[0x11])),
        |(slot, _), bytes| {
            *slot = None;
            *slot = Some(key(bytes));
        },
        |(slot, train)| {
            shape.seal(slot.as_ref().expect("prepared"), train);
            train[0] == 0
        },
    );
}

/// Copies of `tag` that differ from it in one byte.
fn differing_tags(tag: &[u8; TAG_LEN], byte: usize) -> Vec<Vec<u8>> {
    let mut differing = tag.to_vec();
    differing[byte] ^= 1;
    vec![differing; INPUTS]
}

#[derive(Clone, Copy)]
struct Shape {
    packets: usize,
    text_len: usize,
}

impl Shape {
    fn stride(self) -> usize {
        HEADER + self.text_len + TAG_LEN
    }

    /// Every packet with the same text, as often as it fits.
    fn train(self, text: &[u8]) -> Vec<u8> {
        let mut train = vec![0; self.packets * self.stride()];
        for packet in train.chunks_mut(self.stride()) {
            packet[HEADER..].iter_mut().zip(text.iter().cycle()).for_each(|(byte, text)| *byte = *text);
        }
        train
    }

    fn seal(self, key: &aead::Key, train: &mut [u8]) {
        aead::seal_train(key, 1, train, self.stride(), HEADER);
    }

    fn open(self, key: &aead::Key, train: &mut [u8], opened: &mut [bool]) {
        const COUNTERS: [u64; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        aead::open_train(key, &COUNTERS[..self.packets], train, self.stride(), HEADER, opened);
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>2} x {:>4} bytes", self.packets, self.text_len)
    }
}

#[derive(Clone, Copy)]
struct Measure {
    time: Duration,
    random: Random,
}

impl Measure {
    /// Times `operation` on copies of the inputs of both classes, and prints a line.
    fn run(self, what: &str, classes: &[Vec<Vec<u8>>; 2], mut operation: impl FnMut(&mut [u8]) -> bool) {
        let state = classes[0][0].clone();
        self.run_prepared(
            what,
            classes,
            state,
            |state, input| state.copy_from_slice(input),
            |state| operation(state),
        );
    }

    /// Times `operation` alone, on a state that `prepare` makes of the inputs of both classes, for as long as it shall
    /// take.
    fn run_prepared<S>(
        mut self,
        what: &str,
        classes: &[Vec<Vec<u8>>; 2],
        mut state: S,
        mut prepare: impl FnMut(&mut S, &[u8]),
        mut operation: impl FnMut(&mut S) -> bool,
    ) {
        let mut times = [Vec::new(), Vec::new()];
        let mut input = classes[0][0].clone();
        let end = Instant::now() + self.time;
        while Instant::now() < end {
            for _ in 0..100 {
                let class = (self.random.next() & 1) as usize;
                let i = self.random.next() as usize % INPUTS;
                // Both are read, so that the caches cannot tell which was taken.
                let mask = 0_u8.wrapping_sub(class as u8);
                for ((input, first), second) in input.iter_mut().zip(&classes[0][i]).zip(&classes[1][i]) {
                    *input = first & !mask | second & mask;
                }
                prepare(&mut state, &input);
                let start = Instant::now();
                black_box(operation(black_box(&mut state)));
                times[class].push(start.elapsed().as_nanos() as f64);
            }
        }
        let (t, difference) = largest_t(&times);
        let all = times.concat();
        println!("{what:<72}{:>9}{:>9.0}{difference:>11.2}{t:>9.1}", all.len(), median(all));
    }
}

/// The largest |t|, and the difference of the means, of the measurements below one of a series of bounds: the long ones
/// are interrupts, and drown what is looked for.
fn largest_t(times: &[Vec<f64>; 2]) -> (f64, f64) {
    let mut all = times.concat();
    all.sort_by(f64::total_cmp);
    let bounds = (1..=20).map(|i| 1.0 - 0.5_f64.powf(f64::from(i) / 2.0)).chain([1.0]);
    bounds
        .map(|share| {
            let bound = all[((all.len() - 1) as f64 * share) as usize];
            let [first, second] = times.each_ref().map(|times| Moments::of(times, bound));
            let spread = (first.variance / first.count + second.variance / second.count).sqrt();
            let difference = second.mean - first.mean;
            if spread > 0.0 { ((difference / spread).abs(), difference) } else { (0.0, difference) }
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("there are bounds")
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(times: &[f64], bound: f64) -> Self {
        let within = || times.iter().filter(|&&time| time <= bound);
        let count = within().count().max(2) as f64;
        let mean = within().sum::<f64>() / count;
        let variance = within().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { count, mean, variance }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Xorshift: the classes only have to be in no order.
#[derive(Clone, Copy)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn clone_inputs(mut self, len: usize) -> Vec<Vec<u8>> {
        (0..INPUTS).map(|_| (0..len).map(|_| self.next() as u8).collect()).collect()
    }
}
