//! `bench sets`: random configurations while data flow both ways: what is lost, and how long data are held up.
//!
//! How long a datagram is under way includes what the machine does beside: the same flow without any sets is measured first.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lab::beat::Tally;
use lab::sets::{Live, Sets};
use lab::{Beat, Pace, Uapi};

use crate::soak::scene::{self, INNER, PORT, Scene, set};

/// What a datagram may be held up by.
const LIMIT: Duration = Duration::from_millis(50);
/// How long may be waited for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// One datagram in this time, both ways.
const EVERY: Duration = Duration::from_millis(1);
/// Peers in one set, when all are added beforehand.
const SECTION: usize = 1000;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// How many sets
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sets: usize,
    /// The engine, with %i for the interface's name [default: the adit beside this program, built anew]
    #[arg(long, value_name = "COMMAND")]
    engine: Option<String>,
    /// Other peers that are there at the start
    #[arg(long, value_name = "N", default_value_t = 0)]
    peers: u32,
    /// Other peers that the sets are about
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    crowd: u16,
    /// Which sets
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How long the flow is watched without sets
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    idle_seconds: u64,
}

/// Sets, and reports.
///
/// # Errors
/// When something is lost, overtaken or held up, the configuration is not what it should be, or nothing can be measured here.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    crate::isolate::enter()?;
    let command = scene::command(args.engine.as_deref())?;
    let scene = Scene::new(&command)?;
    let mut uapi = scene.inside.uapi();
    let flows = || Flows::start(&scene);

    let idle = flows();
    std::thread::sleep(Duration::from_secs(args.idle_seconds));
    report("without sets", &idle.stop());

    let mut sets = Sets::new(args.seed, live(&scene), usize::from(args.crowd), "10.77.0");
    let peer = scene.outside.public();
    if uapi.set(&format!("public_key={peer}\nupdate_only=true\nallowed_ip=-192.0.2.1/32\n")) != 0 {
        println!("it cannot remove a single allowed IP: no set does");
        sets = sets.without_taking_back();
        uapi = scene.inside.uapi();
    }
    let busy = flows();
    add_peers(&mut uapi, args.peers);
    let start = Instant::now();
    let (mut slowest, mut lines) = (Duration::ZERO, 0);
    for _ in 0..args.sets {
        let next = sets.next();
        if next.reroutes {
            busy.hold()?;
        }
        let before = Instant::now();
        set(&mut uapi, &next.lines);
        slowest = slowest.max(before.elapsed());
        lines += next.lines.lines().count();
        if next.reroutes {
            busy.go_on()?;
        }
    }
    let elapsed = start.elapsed();
    remove_peers(&mut uapi, args.peers);
    let tallies = busy.stop();
    println!(
        "{} sets of {lines} lines in {:.1} s, the slowest {:.1} ms",
        args.sets,
        elapsed.as_secs_f64(),
        slowest.as_secs_f64() * 1e3
    );
    report("with sets", &tallies);
    if let Some(difference) = sets.differs(&uapi.get()) {
        return Err(difference.into());
    }
    judge(&tallies).map_err(Into::into)
}

struct Flows {
    out: Beat,
    back: Beat,
}

impl Flows {
    fn start(scene: &Scene) -> Flows {
        let pace = Pace { every: EVERY, window: 256 };
        let [a, b] = [(&scene.inside.ns, INNER[0].into()), (&scene.outside.ns, INNER[1].into())];
        Flows { out: Beat::start(a, b, pace), back: Beat::start(b, a, pace) }
    }

    /// Lets all arrive that is under way.
    fn hold(&self) -> Result<(), String> {
        let is_over = self.back.pause(PATIENCE) && self.out.pause(PATIENCE);
        if is_over { Ok(()) } else { Err("data do not arrive".to_owned()) }
    }

    /// The peer hears of a new way by what comes that way.
    fn go_on(&self) -> Result<(), String> {
        self.out.resume();
        let arrives = self.out.arrives(PATIENCE);
        self.back.resume();
        if arrives { Ok(()) } else { Err("data do not arrive by another way".to_owned()) }
    }

    fn stop(self) -> [Tally; 2] {
        [self.out.stop(), self.back.stop()]
    }
}

fn live(scene: &Scene) -> Live {
    let addresses = ["10.77.0.2", "10.77.0.3", "[fd77::2]"];
    Live {
        private_key: scene.inside.private(),
        public_key: scene.outside.public(),
        allowed_ips: vec![format!("{}/32", INNER[1])],
        endpoints: addresses.map(|address| format!("{address}:{PORT}")).into(),
    }
}

fn peer(number: u32) -> (String, Ipv4Addr) {
    (format!("{:064x}", u64::from(number) + 0x1000), Ipv4Addr::from_bits(0x0b00_0000 + number))
}

fn add_peers(uapi: &mut Uapi, count: u32) {
    let all: Vec<u32> = (0..count).collect();
    for part in all.chunks(SECTION) {
        let section = |&number: &u32| {
            let (key, address) = peer(number);
            format!("public_key={key}\nallowed_ip={address}/32\nendpoint=10.77.0.99:9\n")
        };
        set(uapi, &part.iter().map(section).collect::<String>());
    }
}

fn remove_peers(uapi: &mut Uapi, count: u32) {
    let all: Vec<u32> = (0..count).collect();
    let section = |&number: &u32| format!("public_key={}\nremove=true\n", peer(number).0);
    set(uapi, &all.iter().map(section).collect::<String>());
}

fn report(what: &str, tallies: &[Tally; 2]) {
    println!("\n| {what} | sent | lost | out of order | p50 ms | p99 ms | p99.9 ms | max ms |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (direction, tally) in ["from the engine", "to the engine"].iter().zip(tallies) {
        let mut delays = tally.delays.clone();
        delays.sort_unstable();
        let at = |part: f64| {
            let place = ((delays.len() as f64 * part) as usize).min(delays.len().saturating_sub(1));
            delays.get(place).map_or(0.0, |&micros| f64::from(micros) / 1e3)
        };
        println!(
            "| {direction} | {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
            tally.sent,
            tally.lost(),
            tally.disordered,
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}

fn judge(tallies: &[Tally; 2]) -> Result<(), String> {
    for tally in tallies {
        if tally.lost() > 0 || tally.disordered > 0 {
            return Err(format!("{} datagrams are lost, {} out of order", tally.lost(), tally.disordered));
        }
        let most = tally.delays.iter().max().copied().unwrap_or(0);
        if Duration::from_micros(most.into()) > LIMIT {
            return Err(format!("a datagram was held up for {:.1} ms", f64::from(most) / 1e3));
        }
    }
    Ok(())
}
