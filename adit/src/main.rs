//! Adit: WireGuard, whole, in Rust. This is the program; the subcommands are its modules.

mod check;
mod client;
mod crypto;
mod daemon;
mod demo;
mod logger;
mod new;
mod offloads;
mod qr;
mod quick;
mod replace;
mod status;
mod wg;

use std::env;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use adit_device::MAX_WORKERS;
use clap::{Args, Parser, Subcommand};

const ENVIRONMENT: &str = "\
Environment:
  LOG_LEVEL                  verbose, info, error or silent
  WG_PROCESS_FOREGROUND=1    the same as -f
  WG_QUICK_USERSPACE_IMPLEMENTATION
                             for up: a program that serves the interface instead of this one
  WG_TUN_FD, WG_UAPI_FD      descriptors of a TUN device and a listening UAPI socket to take over
  ADIT_NO_OFFLOAD            offloads to do without, as for --no-offload
  ADIT_CRYPTO=library        leave the packets' cryptography to AWS-LC, whatever the processor
  ADIT_KEYLOGFILE            for debugging only: a file that gets every session's secrets";

/// A userspace WireGuard.
#[derive(Parser)]
#[command(
    name = "adit",
    version,
    about,
    after_help = ENVIRONMENT,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Tell what a wg-quick file will do, and what about it is wrong or probably not meant
    Check(check::Args),
    /// Show a real tunnel between two network namespaces of its own, and leave nothing behind
    Demo(demo::Args),
    /// Make the files of a server and of clients that fit each other, or add a client
    New(new::Args),
    /// Show a file as a QR code, for a phone
    Qr(qr::Args),
    /// Tell which offloads of the kernel running engines use, and how often each served and failed
    Status(status::Args),
    #[command(flatten)]
    Quick(quick::Invocation),
    #[command(flatten)]
    Wg(wg::Invocation),
}

/// Without a subcommand: serve an interface.
#[derive(Args)]
struct DaemonArgs {
    /// Stay in the foreground instead of going to the background once the interface is ready
    #[arg(short, long)]
    foreground: bool,
    /// Threads that move packets, at most 16; without this one for each processor, up to 8
    #[arg(long, value_name = "N", value_parser = workers)]
    workers: Option<NonZeroUsize>,
    /// Offloads to do without: tun-tcp, tun-udp, tun-vnet-hdr (which takes the former two along), udp-gso, udp-gro, all
    #[arg(long, value_name = "LIST")]
    no_offload: Vec<String>,
    /// The interface to create, such as wg0
    #[arg(value_name = "INTERFACE")]
    interface: Option<String>,
}

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number| *number <= MAX_WORKERS);
    number.ok_or_else(|| format!("a number from 1 to {MAX_WORKERS} is needed"))
}

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    if args.first().is_some_and(|name| wg::is_called(name)) {
        return wg::main(&args);
    }
    if args.first().is_some_and(|name| quick::is_called(name)) {
        return quick::main(&args);
    }
    let cli = Cli::parse_from(args);
    match (cli.command, &cli.daemon.interface) {
        (Some(Command::Check(args)), _) => check::run(&args),
        (Some(Command::Demo(args)), _) => demo::run(&args),
        (Some(Command::New(args)), _) => new::run(&args),
        (Some(Command::Qr(args)), _) => qr::run(&args),
        (Some(Command::Status(args)), _) => status::run(&args),
        (Some(Command::Quick(invocation)), _) => invocation.run(),
        (Some(Command::Wg(invocation)), _) => invocation.run(),
        (None, Some(interface)) => daemon::run(interface, &cli.daemon),
        (None, None) => {
            eprintln!("adit: name an interface, such as wg0; see adit --help");
            ExitCode::FAILURE
        }
    }
}
