//! How many handshakes a second the slow path does when they queue up: the cryptography and the engine's part, without
//! sockets.

use std::error::Error;

use adit_device::rush::{MAX_PEERS, Rush};

/// How much is measured.
#[derive(clap::Args)]
pub struct Args {
    /// Peers that call, or are called, at once
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=MAX_PEERS as i64))]
    peers: u16,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Leave all cryptography to the library, to compare with
    #[arg(long)]
    library: bool,
}

/// Prints handshakes a second, by one core.
///
/// # Errors
/// When a device cannot be set up.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if args.library {
        adit_crypto::use_library();
    }
    let peers = usize::from(args.peers);
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..args.rounds {
        let new = || Rush::new(peers);
        let mut answering = new()?;
        let times = [answering.answer(), answering.answer(), new()?.call()];
        for (rates, time) in rates.iter_mut().zip(times) {
            rates.push(peers as f64 / time.as_secs_f64());
        }
    }
    for (what, rates) in ["answered, peers never met", "answered, peers met before", "begun, peers never met"]
        .iter()
        .zip(&mut rates)
    {
        rates.sort_by(f64::total_cmp);
        println!("{what:<28}{:>10.0} handshakes/s", rates[rates.len() / 2]);
    }
    Ok(())
}
