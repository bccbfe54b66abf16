//! At the start each call fails, one after the other: the engine works without it, or says in one line that it cannot, and
//! leaves nothing behind.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::table::{START, is_known, not_tried};
use super::{is_whole, try_all};
use crate::common::adit;
use lab::engine::socket;
use lab::faults::{Call, Trace, is_there};
use lab::netns::interface_name;
use lab::pair::CABLE;
use lab::wg::{Keypair, hex};
use lab::{Background, Engine, Netns, Program, Uapi, needs, seconds, within};
use nix::sys::signal::Signal;

/// Engines at a time.
const PLACES: usize = 6;

/// What an engine says that was started with hardly enough.
const NO_SOCKETS: &str = "no packets can pass: ";
const NO_CLIENTS: &str = "accepting clients of the UAPI socket fails: ";

/// A call that is to fail.
struct Case {
    call: Call,
    error: &'static str,
    is_background: bool,
}

#[test]
fn every_call_may_fail_at_the_start() {
    needs!("netns", "tun", "wg", "ping", "strace");
    let place = Place::new();
    let mut cases = Vec::new();
    let mut tried = BTreeSet::new();
    for is_background in [false, true] {
        for call in place.calls(is_background) {
            let is_first = tried.insert((call.name.clone(), call.about.clone()));
            // What is done before going to the background is done the same way in the foreground.
            if !is_first && (is_background || !is_whole()) {
                continue;
            }
            let Some((_, errors)) = START.iter().find(|(name, _)| *name == call.name) else { continue };
            let some = if is_whole() { errors.len() } else { 1 };
            cases.extend(errors[..some].iter().map(|error| Case {
                call: call.clone(),
                error,
                is_background,
            }));
        }
    }
    drop(place);
    println!("{} calls fail", cases.len());
    assert!(cases.len() > 50, "the trace is not understood");
    try_all(&cases, PLACES, Place::new, |place, case| place.attempt(case));
}

/// A new call has to be thought about: at its place in `table.rs`.
#[test]
fn no_call_is_unknown() {
    needs!("netns", "tun", "wg", "ping", "strace");
    let place = Place::new();
    let (program, trace) = Trace::of(&Program::new(format!("{} --workers 2", adit().0.display())));
    let (interface, mut engine) = place.start(&program, false);
    assert!(within(seconds(60), || serves(&interface)), "{}", engine.log());
    place.works(&interface, &engine).expect("nothing fails");
    place.a.ip("route add 10.98.0.0/16 dev cable");
    place.a.ip(&format!("link set {interface} mtu 1300 down"));
    place.a.ip(&format!("link set {interface} up"));
    // Nobody answers there, and the name is looked up.
    let lost = "endpoint=10.77.0.9:1\nendpoint_name=localhost:1\npersistent_keepalive_interval=1";
    assert_eq!(Uapi::connect(&interface).unwrap().set(&format!("{}{lost}\n", place.peer())), 0);
    let begins = |call: &Call| call.thread != 0 && call.name.starts_with("clone");
    assert!(within(seconds(30), || trace.calls().iter().any(begins)), "no name was looked up");
    engine.signal(Signal::SIGTERM);
    assert_eq!(engine.wait(seconds(60)).map(lab::cmd::code), Some(0), "{}", engine.log());
    let calls = trace.calls();
    assert!(calls.len() > 300, "the trace is not understood");
    let unknown: BTreeSet<_> =
        calls.iter().map(|call| call.name.as_str()).filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}: these calls are not in table.rs");
}

/// Two namespaces, a cable, and in the second one a peer.
pub struct Place {
    pub a: Netns,
    peer: Engine,
    keys: [Keypair; 2],
    // It goes after what is in it.
    _b: Netns,
}

impl Place {
    pub fn new() -> Place {
        let (a, b) = (Netns::new(), Netns::new());
        a.connect(CABLE, &b, CABLE);
        a.address(CABLE, "10.77.0.1/24");
        b.address(CABLE, "10.77.0.2/24");
        let peer = Engine::start(&adit(), &b);
        let keys = [Keypair::generate(), Keypair::generate()];
        peer.set_private_key(&keys[1].private);
        peer.set(&format!("listen-port 20000 peer {} allowed-ips 192.168.241.1/32", keys[0].public));
        b.address(peer.interface(), "192.168.241.2/24");
        b.ip(&format!("link set {} up", peer.interface()));
        Place { a, peer, keys, _b: b }
    }

    /// The calls from main to when it serves, of all its threads.
    fn calls(&self, is_background: bool) -> Vec<Call> {
        let (program, trace) = Trace::of(&adit());
        let (interface, mut process) = self.start(&program, is_background);
        assert!(within(seconds(60), || serves(&interface)), "{}", process.log());
        let calls = trace.calls();
        self.end(&interface, &mut process, is_background).expect("nothing fails");
        // The standard library's first call is to look whether the standard streams are open: before it the program is loaded.
        let begin =
            calls.iter().position(|call| matches!(call.name.as_str(), "poll" | "ppoll")).expect("a start");
        // The main thread's first wait is the end of the start; it is the daemon's, where there is one.
        let waits = |call: &Call| call.name == "epoll_wait" || call.name == "epoll_pwait";
        let main =
            calls.iter().filter(|call| call.name.starts_with("signalfd")).map(|call| call.thread).next();
        let end =
            calls.iter().position(|call| waits(call) && Some(call.thread) == main).unwrap_or(calls.len());
        calls[begin..end].iter().filter(|call| !waits(call) && !not_tried(&call.name)).cloned().collect()
    }

    pub fn start(&self, program: &Program, is_background: bool) -> (String, Background) {
        let interface = interface_name();
        let line = match is_background {
            true => format!("{} {interface}", program.0.display()),
            false => program.foreground(&interface),
        };
        let process = self.a.cmd(&line).spawn();
        (interface, process)
    }

    /// The section of its peer.
    pub fn peer(&self) -> String {
        format!("public_key={}\n", hex(&self.keys[1].public))
    }

    /// Has it serve: a key, a port, a peer, the interface up, and a ping there and back.
    pub fn works(&self, interface: &str, process: &Background) -> Result<(), String> {
        let section = format!("{}endpoint=10.77.0.2:20000\nallowed_ip=192.168.241.2/32\n", self.peer());
        let key = hex(&self.keys[0].private);
        let set = format!("set=1\nprivate_key={key}\nlisten_port=10000\nreplace_peers=true\n{section}\n");
        match ask(interface, &set, seconds(30)) {
            Ok(answer) if answer == "errno=0\n\n" => {}
            answer => return Err(format!("it is not to be configured: {answer:?}")),
        }
        // By then it may have ended.
        let ip = |args: &str| self.a.run(&format!("ip {args}")).success();
        let is_up = ip(&format!("addr add 192.168.241.1/24 dev {interface}"))
            && ip(&format!("link set {interface} up"));
        let mut reaches = false;
        within(seconds(60), || {
            reaches = is_up && self.a.ping("-c 1 192.168.241.2").success();
            reaches || !is_up || process.log().contains(NO_SOCKETS)
        });
        if reaches { Ok(()) } else { Err("no ping comes back".to_owned()) }
    }

    /// Ends it; nothing may be left.
    pub fn end(&self, interface: &str, process: &mut Background, is_background: bool) -> Result<(), String> {
        if is_background {
            self.a.ip(&format!("link del {interface}"));
        } else {
            process.signal(Signal::SIGTERM);
        }
        match process.wait(seconds(60)).map(lab::cmd::code) {
            Some(0) => self.is_clean(interface, process.pid()),
            code => Err(format!("it ends with {code:?}")),
        }
    }

    /// No interface, and no socket under either of its names.
    pub fn is_clean(&self, interface: &str, pid: u32) -> Result<(), String> {
        let first = Path::new("/var/run/wireguard").join(format!(".{pid}"));
        let is_clean = within(seconds(20), || {
            !self.a.has(interface) && !is_there(&socket(interface)) && !is_there(&first)
        });
        if is_clean { Ok(()) } else { Err("something is left behind".to_owned()) }
    }

    fn attempt(&self, case: &Case) -> Result<(), String> {
        let Case { call, error, is_background } = case;
        let program = lab::refusal::failing(&adit(), &call.name, error, &call.nth.to_string());
        self.try_start(
            &format!("{} {} ({}) {error}", call.name, call.about, call.nth),
            &program,
            *is_background,
        )
    }

    /// Starts `program`, which is to work and end well, or to say in one line why not; nothing may be left of it.
    pub fn try_start(&self, what: &str, program: &Program, is_background: bool) -> Result<(), String> {
        let (interface, mut process) = self.start(program, is_background);
        let is_decided = within(seconds(60), || {
            process.exited().is_some()
                || !is_background && (serves(&interface) || process.log().contains(NO_CLIENTS))
        });
        let result = match process.exited().map(lab::cmd::code) {
            _ if !is_decided => Err("it neither serves nor ends".to_owned()),
            Some(code) if code != 0 => self.has_told(&interface, &process, code),
            Some(_) if !is_background => Err("it ends as if all were well".to_owned()),
            _ => self.serves_and_ends(&interface, &mut process, is_background),
        };
        println!("{what}: {}", result.as_deref().unwrap_or("FAILED"));
        let log = || format!("{}{}", process.log(), self.peer.log());
        result.map(drop).map_err(|why| format!("{what}: {why}\n{}", log()))
    }

    fn serves_and_ends(
        &self,
        interface: &str,
        process: &mut Background,
        is_background: bool,
    ) -> Result<String, String> {
        let told = |process: &Background| {
            let log = process.log();
            [NO_CLIENTS, NO_SOCKETS].into_iter().find(|told| log.contains(told))
        };
        // With no room for a client there is no use in asking.
        let works = match told(process) {
            Some(_) => Err(String::new()),
            None => self.works(interface, process),
        };
        // A connection that breaks is heard of before the end.
        let status = match (&works, told(process)) {
            (Ok(()), _) => None,
            (Err(_), None) => process.wait(seconds(30)),
            (Err(_), Some(_)) => process.wait(seconds(1)),
        };
        match (status.map(lab::cmd::code), works) {
            (Some(code), _) if code != 0 => self.has_told(interface, process, code),
            (_, Ok(())) => self.end(interface, process, is_background).map(|()| "works".to_owned()),
            // It has told, and goes on trying.
            (_, Err(why)) => {
                let told = told(process).ok_or(why)?;
                self.end(interface, process, is_background).map(|()| told.to_owned())
            }
        }
    }

    /// It has ended with `code`.
    fn has_told(&self, interface: &str, process: &Background, code: i32) -> Result<String, String> {
        let line = told(process, code)?;
        // Who is out of memory leaves the socket's file, as who is killed does; the next one replaces it.
        if code > 0 {
            self.is_clean(interface, process.pid())?;
        } else if self.a.has(interface) {
            return Err("the interface is left behind".to_owned());
        }
        Ok(line)
    }
}

/// Whether it answers: its socket is there before it does.
pub fn serves(interface: &str) -> bool {
    ask(interface, "get=1\n\n", seconds(3)).is_ok_and(|answer| answer.ends_with("errno=0\n\n"))
}

fn ask(interface: &str, request: &str, patience: Duration) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket(interface))?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The one line that says why it did not start.
pub fn told(process: &Background, code: i32) -> Result<String, String> {
    // What it wrote arrives a moment after its end.
    within(seconds(20), || process.log().contains('\n'));
    let log = process.log();
    // The C and the standard library have words of their own when there is no memory.
    const OF_LIBRARIES: [&str; 5] = [
        "memory allocation of ",
        "fatal runtime error",
        "error while loading shared libraries",
        "cannot allocate",
        "failed to map segment",
    ];
    let told = |line: &&str| line.starts_with("adit: ");
    let lines: Vec<&str> = log.lines().filter(told).collect();
    match lines[..] {
        // An error of the system alone says nothing about what could not be done.
        [line]
            if log.lines().count() <= 2 && (line.matches(": ").count() > 1 || !line.contains("os error")) =>
        {
            Ok(format!("{line} ({code})"))
        }
        _ => match OF_LIBRARIES.iter().find(|words| log.contains(**words)) {
            Some(words) => Ok(format!("{words}… ({code})")),
            None => Err(format!("it ends with {code}, and says so in {} lines", lines.len())),
        },
    }
}
