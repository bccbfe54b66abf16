//! `adit metrics`: what all WireGuard interfaces of this machine count, in OpenMetrics, for whoever asks over HTTP on a
//! UNIX socket or a loopback address. A process of its own, which only asks: an engine knows nothing of it.

mod collect;
mod exposition;
mod http;
mod listen;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use adit_net::poll::{Events, Interest, Poller};
use adit_net::process::{Signal, SignalFd, give_back_large_blocks, ignore_sigpipe};

use crate::confine::{self, Purpose};
use crate::service;
use collect::Collector;
use http::Server;
use listen::{Listener, Place};

/// What `adit metrics` takes.
#[derive(clap::Args)]
#[command(after_long_help = "\
It runs until it is told to end (SIGTERM, SIGINT), and answers GET /metrics with all interfaces, the kernel's too. It needs \
to be root, as show does. Nobody has to prove who they are: the UNIX socket is its owner's alone, and a loopback address is \
open to every program of this machine. docs/metrics.md lists the metrics.")]
pub(crate) struct Args {
    // Not by a comment: rustdoc would take the address for a link.
    #[arg(
        value_name = "LISTEN",
        help = "Where to answer: unix:PATH, or a loopback address with a port, such as 127.0.0.1:9586 or [::1]:9586"
    )]
    listen: Place,
}

/// Answers until a signal ends it. An error is one line.
pub(crate) fn run(args: &Args) -> ExitCode {
    match serve(&args.listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adit metrics: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(place: &Place) -> Result<(), String> {
    let system = |error: io::Error| format!("cannot wait for requests: {error}");
    give_back_large_blocks();
    // Before there is another thread.
    let signals = SignalFd::new(&[Signal::Terminate, Signal::Interrupt]).map_err(system)?;
    ignore_sigpipe().map_err(system)?;
    let parts = confine::SWITCHES.without(&[])?;
    let listener = Listener::bind(place)?;
    confine::confine(Purpose::Metrics(place.directory()), parts);
    let poller = Poller::new().map_err(system)?;
    poller.add(&signals, 0, Interest::Read).map_err(system)?;
    poller.add(&listener, 1, Interest::Read).map_err(system)?;
    eprintln!("answering on {listener}");
    service::ready(&format!("answering on {listener}"));

    let server = Server::new(Arc::new(Collector::default()));
    let mut events = Events::with_capacity(2);
    loop {
        poller.wait(&mut events, None).map_err(system)?;
        if signals.read().map_err(system)?.is_some() {
            service::stopping();
            return Ok(());
        }
        // One at a time, or a flood of them would keep signals from being read.
        if let Some(stream) = listener.accept() {
            server.take(stream);
        }
    }
}
