//! `adit demo`: two peers, a tunnel and what it can do, without configuration and without touching this machine's
//! network.
//!
//! The process moves itself into a new network namespace (as an ordinary user into a new user namespace as well), lays a
//! cable to a second one, and starts the daemon once in each: this very program, as anybody would start it, configured
//! through its UAPI socket. All of that lives only as long as the process: the namespaces hold the interfaces, the
//! sockets have no files, and the daemons die with their parent, whatever kills it.

mod error;
mod interrupt;
mod peer;
mod report;
mod screen;
mod site;
mod transfer;

use std::process::ExitCode;
use std::time::Duration;

use adit_net::clock;
use adit_net::ping::Pinger;

use error::{Stop, cannot};
use interrupt::Interrupt;
use peer::Peer;
use report::{Pings, Report};
use screen::Screen;
use site::{Side, Site};
use transfer::transfer;

/// Pings that measure the round trip, after the first one, which waits for the handshake.
const PINGS: usize = 20;
const PING_INTERVAL: Duration = Duration::from_millis(40);
/// How long one answer is waited for.
const PING_PATIENCE: Duration = Duration::from_secs(1);
/// How often the first answer is waited for: longer than it takes to repeat a lost initiation.
const FIRST_PINGS: usize = 8;
/// How long TCP runs from A to B, and then from B to A.
const FORWARD: Duration = Duration::from_secs(4);
const BACKWARD: Duration = Duration::from_secs(2);

/// What `adit demo` takes.
#[derive(clap::Args)]
#[command(after_long_help = report::JSON_KEYS)]
pub(crate) struct Args {
    /// Print one JSON object at the end, and nothing else; --help lists its keys
    #[arg(long)]
    json: bool,
}

/// Shows the tunnel. An error is one line; a signal's exit code is 128 and its number.
pub(crate) fn run(args: &Args) -> ExitCode {
    let mut screen = if args.json { Screen::silent() } else { Screen::new() };
    let result = perform(&mut screen).and_then(|report| match args.json {
        true => screen.print(format_args!("{}", report.json())),
        false => report.print(&mut screen),
    });
    screen.end_progress();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Signal(signal)) => {
            eprintln!("adit demo: interrupted; nothing is left behind");
            ExitCode::from(signal.exit_code())
        }
        Err(Stop::Failure(message)) => {
            eprintln!("adit demo: {message}");
            ExitCode::FAILURE
        }
    }
}

/// From the empty machine to the results. The peers are gone when it returns, either way.
fn perform(screen: &mut Screen) -> Result<Report, Stop> {
    // Before there is anything to take back, and before threads start.
    let interrupt = Interrupt::watch()?;
    let site = Site::enter()?;
    screen.heading(site.as_user)?;
    let a = Peer::start(&site, Side::A)?;
    let b = Peer::start(&site, Side::B)?;
    site.bring_up_tunnel()?;
    a.wait_until_up(&interrupt)?;
    b.wait_until_up(&interrupt)?;
    a.configure(&b, Some(Side::B.endpoint()))?;
    // B learns where A is when A speaks first, as a server learns of a roaming client.
    b.configure(&a, None)?;

    let mut pinger = Pinger::new(Side::B.inner()).map_err(cannot("ping"))?;
    let handshake = shake_hands(&a, &mut pinger, &interrupt)?;
    screen.step("handshake", format_args!("{}", report::millis(handshake)))?;
    let pings = ping(&mut pinger, &interrupt)?;
    screen.step("ping", format_args!("{} of {} answered", pings.answers.len(), pings.sent))?;

    let idle = [a.cpu_time()?, b.cpu_time()?];
    let mut show = |samples: &[f64]| screen.progress("A to B", samples);
    let forward = transfer(&site, Side::A, FORWARD, &interrupt, &mut show)?;
    let mut show = |samples: &[f64]| screen.progress("B to A", samples);
    let backward = transfer(&site, Side::B, BACKWARD, &interrupt, &mut show)?;
    let busy = [a.cpu_time()?, b.cpu_time()?];
    Ok(Report {
        as_user: site.as_user,
        handshake,
        pings,
        forward,
        backward,
        cpu: [busy[0].saturating_sub(idle[0]), busy[1].saturating_sub(idle[1])],
        peak_memory: [a.peak_memory()?, b.peak_memory()?],
        state: a.state()?,
    })
}

/// Lets A ask for a handshake by sending a first packet, and returns the time from that packet to A's session.
fn shake_hands(a: &Peer, pinger: &mut Pinger, interrupt: &Interrupt) -> Result<Duration, Stop> {
    let (seconds, nanos) = clock::realtime();
    let start = Duration::new(seconds, nanos);
    for _ in 0..FIRST_PINGS {
        interrupt.sleep(Duration::ZERO)?;
        if pinger.ping(PING_PATIENCE).map_err(cannot("ping"))?.is_some() {
            let peer = a.state()?.peers.into_iter().next();
            let Some((seconds, nanos)) = peer.and_then(|peer| peer.last_handshake) else {
                return Err(Stop::failure("a packet came through, but the engine knows of no handshake"));
            };
            return Ok(Duration::new(seconds, nanos).saturating_sub(start));
        }
    }
    Err(Stop::failure("no packet comes through the tunnel"))
}

fn ping(pinger: &mut Pinger, interrupt: &Interrupt) -> Result<Pings, Stop> {
    let mut answers = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        interrupt.sleep(PING_INTERVAL)?;
        answers.extend(pinger.ping(PING_PATIENCE).map_err(cannot("ping"))?);
    }
    match answers.is_empty() {
        true => Err(Stop::failure("after the handshake, no ping is answered")),
        false => Ok(Pings { sent: PINGS, answers }),
    }
}
