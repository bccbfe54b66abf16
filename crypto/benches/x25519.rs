//! Shared secrets for many at once, against AWS-LC one by one.
//!
//! `cargo bench -p adit-crypto --bench x25519` prints the table. Both take turns, and of the ratios of their times in each turn
//! the median counts, so a busy neighbour does little harm.

use std::hint::black_box;
use std::time::Instant;

use adit_crypto::x25519::{self, PrivateKey, ZeroShared};
use adit_crypto::{Backend, Secret, preferred_backend};

const ROUNDS: usize = 101;

fn main() {
    println!("X25519 in batches, {} against {}", preferred_backend(), Backend::AwsLc);
    println!("{:>6} {:>14} {:>18}   times AWS-LC", "batch", "µs/operation", "µs/operation, AWS-LC");
    for batch in (1..=8).chain([9, 10, 11, 16, 24, 32]) {
        let keys: Vec<_> = (1..=batch).map(|i| PrivateKey::new([i as u8; 32])).collect();
        let points: Vec<_> = keys.iter().rev().map(x25519::public_key).collect();
        let pairs: Vec<_> = keys.iter().zip(&points).collect();
        let mut results = vec![Ok(Secret::zero()); batch];
        let mut times: Vec<[f64; 2]> = (0..ROUNDS)
            .map(|_| [preferred_backend(), Backend::AwsLc].map(|backend| time(&pairs, &mut results, backend)))
            .collect();
        let median = |times: &mut Vec<[f64; 2]>, value: fn(&[f64; 2]) -> f64| {
            times.sort_by(|a, b| value(a).total_cmp(&value(b)));
            value(&times[times.len() / 2])
        };
        let own = median(&mut times, |times| times[0]) * 1e6;
        let library = median(&mut times, |times| times[1]) * 1e6;
        let ratio = median(&mut times, |times| times[1] / times[0]);
        println!("{batch:>6} {own:>14.2} {library:>18.2}   {ratio:>12.2}");
    }
}

/// Seconds for one of the batch.
fn time(
    pairs: &[(&PrivateKey, &[u8; 32])],
    results: &mut [Result<Secret<32>, ZeroShared>],
    backend: Backend,
) -> f64 {
    let start = Instant::now();
    x25519::shared_batch_with(black_box(pairs), results, backend);
    let elapsed = start.elapsed();
    assert!(black_box(results).iter().all(Result::is_ok));
    elapsed.as_secs_f64() / pairs.len() as f64
}
