//! While the engine runs, a kind of call fails for a moment: afterwards all works as before, and meanwhile nothing spins.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::table::{Case, RUNNING, running_cases};
use super::{is_whole, try_all};
use crate::common::adit;
use crate::common::traffic::{Inner, stream};
use lab::faults::{Count, Failing, Fault, Times, descriptors, resident, threads, ticks};
use lab::pair::{CABLE, Side};
use lab::{Outer, Pair, Program, needs, seconds, within};
use nix::sys::socket::{setsockopt, sockopt};

/// Engines at a time: they wait more than they compute.
const PAIRS: usize = 8;
/// For how long it is watched whether anything spins.
const IDLE: Duration = Duration::from_millis(500);
/// Calls a second while it idles and they fail: whoever spins makes far more, even under strace.
const MAX_CALLS: f64 = 2000.0;
/// Lines of the log that one fault may cost.
const MAX_LINES: usize = 20;

#[test]
fn every_call_may_fail_while_it_runs() {
    needs!("netns", "tun", "wg", "ping", "strace");
    let cases = running_cases(is_whole());
    assert!(cases.len() >= RUNNING.len());
    try_all(&cases, PAIRS, Ground::new, Ground::attempt);
}

/// Two engines, of which the first is under test, and what goes between them.
struct Ground {
    pair: Pair,
    ends: Vec<[End; 2]>,
    /// Sends several datagrams as one.
    trains: UdpSocket,
    resident: u64,
}

/// A socket within the tunnel.
struct End {
    socket: UdpSocket,
    other: SocketAddr,
}

impl Ground {
    fn new() -> Ground {
        // Without segmentation trains are sent by `sendmmsg`; with it, `offloads.rs` has sending fail.
        let program = Program::new(format!("{} --workers 2 --no-offload udp-gso", adit().0.display()));
        let pair = Pair::new(&program, &adit());
        let wg = pair.a.interface();
        // Otherwise IPv6 addresses go when the interface goes down.
        pair.a.ns.sysctl(&format!("net/ipv6/conf/{wg}/keep_addr_on_down"), "1");
        pair.a_knows_b(Outer::V4);
        pair.b_knows_a(Outer::V4);
        pair.a.set_peer(&pair.b, "persistent-keepalive 1");
        pair.a.reaches(&pair.b);
        let ends = [Inner::V4, Inner::V6].map(|inner| ends(&pair, inner)).into();
        let trains = pair.a.ns.enter(|| UdpSocket::bind((pair.a.inner4(), 0))).expect("an address");
        setsockopt(&trains, sockopt::UdpGsoSegment, &100).expect("segmentation");
        let resident = resident(pair.a.engine.pid());
        Ground { pair, ends, trains, resident }
    }

    fn attempt(&mut self, case: &Case) -> Result<(), String> {
        let begin = Instant::now();
        let result = self.try_one(case);
        println!("{case}: {}, {:.1} s", result.as_deref().unwrap_or("FAILED"), begin.elapsed().as_secs_f64());
        if result.is_err() || self.pair.a.engine.exited().is_some() {
            *self = Ground::new();
        }
        result.map(drop)
    }

    fn try_one(&mut self, case: &Case) -> Result<String, String> {
        let pid = self.pair.a.engine.pid();
        let (log, fds, tasks) = (self.pair.a.engine.log().len(), descriptors(pid).len(), threads(pid));
        let failed = |what: &str, ground: &Ground| {
            Err(format!("{case}: {what}\n{}", ground.pair.a.engine.log().get(log..).unwrap_or_default()))
        };
        let Some(failing) = Failing::attach(pid, &case.fault) else {
            return failed("there is no such descriptor", self);
        };
        self.stir();
        let spinning = if case.fault.times == Times::Always { self.spins(&failing) } else { None };
        if case.may_end && case.fault.times == Times::Always && failing.count().failed > 0 {
            // Then it does so after a while; there is no point in interrupting it at just that moment.
            within(seconds(5), || self.pair.a.engine.exited().is_some());
        }
        if !case.may_miss {
            // A busy machine takes its time to come to it.
            within(seconds(20), || failing.count().failed > 0 || self.pair.a.engine.exited().is_some());
        }
        let Count { made, failed: count } = failing.stop();
        if self.pair.a.engine.exited().is_some() {
            return if case.may_end { self.has_ended(log) } else { failed("the engine has ended", self) };
        }
        if let Some(what) = spinning {
            return failed(&what, self);
        }
        if count == 0 && !case.may_miss {
            return failed(&format!("of {made} calls none has failed"), self);
        }
        let begin = Instant::now();
        if let Err(what) = self.heals() {
            return failed(&what, self);
        }
        let healed = begin.elapsed();
        if !within(seconds(30), || descriptors(pid).len() <= fds && threads(pid) <= tasks)
            || threads(pid) < tasks
        {
            let (now, threads) = (descriptors(pid).len(), threads(pid));
            return failed(&format!("{fds} descriptors have become {now}, {tasks} threads {threads}"), self);
        }
        let more = self.pair.a.engine.log()[log..].to_owned();
        if more.lines().count() > MAX_LINES || more.contains("panicked") {
            return failed("the log", self);
        }
        if resident(pid) > self.resident + 16_384 {
            return failed(&format!("{} KiB have become {}", self.resident, resident(pid)), self);
        }
        Ok(format!(
            "{count} failed, well after {:.1} s, {} lines",
            healed.as_secs_f64(),
            more.lines().count()
        ))
    }

    /// It said in one line why, and has left nothing behind.
    fn has_ended(&mut self, log: usize) -> Result<String, String> {
        let engine = &mut self.pair.a.engine;
        let code = engine.exited().map(lab::cmd::code);
        let last = engine.log()[log..].lines().last().unwrap_or_default().to_owned();
        let is_told = code != Some(0) && !last.is_empty() && !engine.log().contains("panicked");
        let is_gone = !self.pair.a.ns.has(self.pair.a.interface());
        let account = format!("ended with {code:?}: {last}");
        if is_told && is_gone { Ok(account) } else { Err(account) }
    }

    /// Has the engine do all that it does. What becomes of it while calls fail is nobody's business.
    fn stir(&self) {
        let Side { ns, .. } = &self.pair.a;
        let wg = self.pair.a.interface();
        self.send(5);
        self.ask();
        // It may have ended, and the interface be gone.
        let ip = |args: &str| ns.run(&format!("ip {args}"));
        ip(&format!("route add 10.98.0.0/16 dev {CABLE}"));
        ip("route del 10.98.0.0/16");
        self.send(5);
        ip(&format!("link set {wg} down"));
        ip(&format!("link set {wg} up"));
        self.send(5);
        self.ask();
        thread::sleep(Duration::from_millis(100));
        self.send(20);
    }

    /// Sends so many datagrams in every direction.
    fn send(&self, count: usize) {
        for _ in 0..count {
            for end in self.ends.iter().flatten() {
                let _ = end.socket.send_to(b"stir", end.other);
            }
            let _ = self.trains.send_to(&[0; 1000], self.ends[0][0].other);
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A client that changes something and asks for everything.
    fn ask(&self) {
        let Ok(mut stream) = UnixStream::connect(self.pair.a.engine.socket()) else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
        let _ = stream.write_all(b"set=1\nfwmark=0\n\nget=1\n\nstatus=1\n\n");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }

    /// What spins, if anything does.
    fn spins(&self, failing: &Failing) -> Option<String> {
        let pid = self.pair.a.engine.pid();
        let (calls, time, begin) = (failing.count().made, ticks(pid), Instant::now());
        thread::sleep(IDLE);
        let (calls, time, span) =
            (failing.count().made - calls, ticks(pid) - time, begin.elapsed().as_secs_f64());
        let is_busy = calls as f64 > MAX_CALLS * span || time as f64 > 50.0 * span + 5.0;
        is_busy.then(|| format!("{calls} calls and {} ms of processor time in {span:.1} s", time * 10))
    }

    fn heals(&self) -> Result<(), String> {
        for [here, there] in &self.ends {
            if !within(seconds(30), || here.reaches(there) && there.reaches(here)) {
                return Err(format!("no way from {:?} to {:?}", there.other, here.other));
            }
        }
        stream(&self.pair, Inner::V4);
        let mut uapi = self.pair.a.engine.uapi();
        match uapi.get().all("public_key").len() {
            1 => Ok(()),
            peers => Err(format!("{peers} peers")),
        }
    }
}

impl End {
    /// Whether what is sent here arrives there. What was on its way before does not count.
    fn reaches(&self, there: &End) -> bool {
        let question = Instant::now().elapsed().as_nanos().to_string() + "?" + &lab::netns::interface_name();
        let _ = self.socket.send_to(question.as_bytes(), self.other);
        let mut buffer = [0; 64];
        loop {
            match there.socket.recv(&mut buffer) {
                Ok(len) if buffer[..len] == *question.as_bytes() => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

fn ends(pair: &Pair, inner: Inner) -> [End; 2] {
    let address = |side: &Side| match inner {
        Inner::V4 => side.inner4(),
        Inner::V6 => side.inner6(),
    };
    let [here, there] = [&pair.a, &pair.b].map(|side| {
        let socket = side.ns.enter(|| UdpSocket::bind((address(side), 0))).expect("an address of the tunnel");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a time limit");
        socket
    });
    let [to_here, to_there] = [&here, &there].map(|socket| socket.local_addr().expect("an address"));
    [End { socket: here, other: to_there }, End { socket: there, other: to_here }]
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { call, on, outcome, times } = self.fault;
        write!(f, "{call} {on:?} {outcome:?} {times:?}")
    }
}
