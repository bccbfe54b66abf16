//! The benchmarks of Adit. Every one is a subcommand; `bench --help` lists them.

mod copy_limit;
mod crowd_limit;
mod engine;
mod flood;
mod isolate;
mod peers;
mod rush;
mod sets;
mod soak;
mod stats;
mod uring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures Adit: against other WireGuards, against the machine's limit.
#[derive(Parser)]
#[command(name = "bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare Adit with other userspace WireGuards and with the copy limit, through a tunnel on this machine
    Peers(peers::Args),
    /// Forward packets between a TUN device and UDP without any cryptography: what `peers` measures as the limit
    CopyLimit(copy_limit::Args),
    /// Measure the halves of the engine alone, from memory to memory
    Engine(engine::Args),
    /// Flood an engine with what strangers may send, while one peer transfers and another connects
    Flood(flood::Args),
    /// Measure how many handshakes the engine does when they queue up
    Rush(rush::Args),
    /// Wear two engines out in as little time as possible, and see whether memory, descriptors and threads stay what they were
    Soak(soak::Args),
    /// Change the configuration at random while data flow, and see what is lost and how long data are held up
    Sets(sets::Args),
    /// Compare io_uring with the plain system calls that the engine makes for a packet
    Uring(uring::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Peers(args) => peers::run(&args),
        Command::CopyLimit(args) => copy_limit::run(&args),
        Command::Engine(args) => engine::run(&args),
        Command::Flood(args) => flood::run(&args),
        Command::Rush(args) => rush::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Sets(args) => sets::run(&args),
        Command::Uring(args) => uring::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
