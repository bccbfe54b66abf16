//! The command line, defined once: parsing, `--help`, the man pages and the completions all come from here.

use std::num::NonZeroUsize;

use adit_device::MAX_WORKERS;
use clap::{Args, Parser, Subcommand};

use crate::{demo, quick, status, wg};

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
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show a real tunnel between two network namespaces of its own, and leave nothing behind
    Demo(demo::Args),
    /// Tell which offloads of the kernel running engines use, and how often each served and failed
    Status(status::Args),
    #[command(flatten)]
    Quick(quick::Invocation),
    #[command(flatten)]
    Wg(wg::Invocation),
}

/// Without a subcommand: serve an interface.
#[derive(Args)]
pub(crate) struct DaemonArgs {
    /// Stay in the foreground instead of going to the background once the interface is ready
    #[arg(short, long)]
    pub(crate) foreground: bool,
    /// Threads that move packets, at most 16; without this one for each processor, up to 8
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(crate) workers: Option<NonZeroUsize>,
    /// Offloads to do without: tun-tcp, tun-udp, tun-vnet-hdr (which takes the former two along), udp-gso, udp-gro, all
    #[arg(long, value_name = "LIST")]
    pub(crate) no_offload: Vec<String>,
    /// The interface to create, such as wg0
    #[arg(value_name = "INTERFACE")]
    pub(crate) interface: Option<String>,
}

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number| *number <= MAX_WORKERS);
    number.ok_or_else(|| format!("a number from 1 to {MAX_WORKERS} is needed"))
}
