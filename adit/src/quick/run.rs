//! Carrying a plan out, step by step, and back if one fails.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use adit_control::Set;
use adit_control::conf::{Draft, harmless};
use adit_control::quick::reload::Reversible;
use adit_control::quick::{Address, Route, Rule, Step};
use adit_device::uapi::socket_path;
use adit_net::netlink::{self, Config, if_index};
use adit_net::process::{Signal, SignalFd};

use super::file::File;
use super::{Failed, engine, programs, record, resolv_conf, save};
use crate::client::{is_served, is_served_yet};
use crate::wg;

const MAIN: u32 = 254;
/// How often to look for a signal while a name is looked up.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a daemon may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints a plan instead of carrying it out, each command with what is given to it.
pub(super) fn show(interface: &str, steps: &[Step]) {
    for step in steps {
        let mut text = format!("[#] {}\n", step.command(interface));
        for line in step.input().lines() {
            text += &format!("    {line}\n");
        }
        if wg::print(harmless(&text).as_bytes()).is_err() {
            break;
        }
    }
}

/// Carries plans out for one interface.
pub(super) struct Runner<'a> {
    file: &'a File,
    system: Config,
    /// Those who ask to end are heard between steps.
    signals: SignalFd,
    /// What takes back what was done, the last last.
    undo: Vec<Step>,
    /// Whether an engine that is started stays a child of this process.
    in_foreground: bool,
    /// That one.
    pub engine: Option<Child>,
    /// Whether the interface is one that this has made.
    pub has_made_link: bool,
    /// What [`Step::Synchronize`] tells the device.
    change: Set,
}

/// Why a step failed.
enum Trouble {
    /// Standard error says it already.
    Told(u8),
    /// A system call.
    Error(io::Error),
    /// One of netlink.
    Netlink(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Error(error)
    }
}

impl<'a> Runner<'a> {
    pub(super) fn new(file: &'a File) -> Result<Runner<'a>, Failed> {
        let failed = |error: io::Error| Failed::because(wg::reason(&error));
        let system = Config::open().map_err(failed)?;
        let signals = signals(Signal::Hangup.is_ignored().map_err(failed)?).map_err(failed)?;
        Ok(Runner {
            file,
            system,
            signals,
            undo: Vec::new(),
            in_foreground: false,
            engine: None,
            has_made_link: false,
            change: Set::default(),
        })
    }

    /// For who stays with what is brought up. `is_service`: nobody can hang up.
    pub(super) fn in_foreground(file: &'a File, is_service: bool) -> Result<Runner<'a>, Failed> {
        let mut runner = Runner { in_foreground: true, ..Runner::new(file)? };
        if is_service {
            runner.signals = signals(true).map_err(|error| Failed::because(wg::reason(&error)))?;
        }
        Ok(runner)
    }

    /// Does `work`; if it fails, takes back all that it did, the last first.
    pub(super) fn all_or_nothing(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let result = work(self);
        if result.is_err() {
            let undo: Vec<Step> = self.undo.drain(..).rev().collect();
            let _ = self.run_whatever_fails(&undo);
        }
        result
    }

    /// Runs steps until one fails, or somebody asks to end.
    pub(super) fn run(&mut self, steps: &[Step]) -> Result<(), Failed> {
        for step in steps {
            self.step(step)?;
            self.undo.extend(step.undo());
            if let Some(signal) = self.signal() {
                return Err(Failed(signal.exit_code()));
            }
        }
        Ok(())
    }

    /// Runs steps until one fails, or somebody asks to end before the last is begun.
    pub(super) fn run_reversible(&mut self, steps: Vec<Reversible>) -> Result<(), Failed> {
        for Reversible { step, undo } in steps {
            if let Some(signal) = self.signal() {
                return Err(Failed(signal.exit_code()));
            }
            self.step(&step)?;
            self.undo.extend(undo.into_iter().rev());
        }
        Ok(())
    }

    /// What [`Step::Synchronize`] is to tell the device.
    pub(super) fn synchronize_with(&mut self, change: Set) {
        self.change = change;
    }

    /// Has the names of endpoints looked up.
    pub(super) fn look_up(&self, draft: Draft) -> Result<Set, Failed> {
        for warning in &draft.warnings {
            wg::tell(warning);
        }
        self.resolve(draft).map_err(|trouble| match trouble {
            Trouble::Told(code) => Failed(code),
            Trouble::Error(error) | Trouble::Netlink(error) => Failed::because(wg::reason(&error)),
        })
    }

    /// Takes an interface down. A command of the user's that fails stops it, and so does a file that cannot be saved;
    /// what else fails is left behind, and counts where traffic, or questions to name servers, would still take its way.
    /// `again`: who has tried before was killed, and commands have perhaps nothing left to do.
    pub(super) fn run_down(&mut self, steps: &[Step], again: bool) -> Result<(), Failed> {
        let mut result = Ok(());
        for step in steps {
            match (self.step(step), step) {
                (Err(_), Step::Hook(_)) if again => {}
                (Err(failed), Step::Hook(_) | Step::Save) => return Err(failed),
                (Err(failed), Step::DeleteRule(_) | Step::DeleteLink) => result = Err(failed),
                // Another try may put it back.
                (Err(failed), Step::RestoreResolvConf) if resolv_conf::is_kept_for(&self.file.interface) => {
                    result = Err(failed);
                }
                _ => {}
            }
        }
        result
    }

    /// Runs all steps.
    pub(super) fn run_whatever_fails(&mut self, steps: &[Step]) -> Result<(), Failed> {
        steps.iter().map(|step| self.step(step)).fold(Ok(()), Result::and)
    }

    fn signal(&self) -> Option<Signal> {
        self.signals.read().ok().flatten()
    }

    /// Runs one step, after saying so. If it fails, standard error says why.
    fn step(&mut self, step: &Step) -> Result<(), Failed> {
        wg::tell(format_args!("[#] {}", step.command(&self.file.interface)));
        self.perform(step).map_err(|trouble| match trouble {
            Trouble::Told(code) => Failed(code),
            Trouble::Netlink(error) => {
                wg::tell(format_args!("RTNETLINK answers: {}", wg::reason(&error)));
                Failed(2)
            }
            Trouble::Error(error) => Failed::because(wg::reason(&error)),
        })
    }

    fn perform(&mut self, step: &Step) -> Result<(), Trouble> {
        let interface = self.file.interface.as_str();
        let netlink = match step {
            Step::AddLink => return self.add_link(),
            Step::StartEngine(program) => return self.start_engine(program),
            Step::Hook(command) => {
                return told(programs::hook(command, &self.file.interface, &self.file.path)?);
            }
            Step::Configure => return self.configure(),
            Step::Synchronize => return self.set(&self.change),
            Step::SetFwmark(mark) => {
                return self.set(&Set { fwmark: Some(*mark), ..Set::default() });
            }
            Step::Run(program) => {
                let name = &program.words[0];
                return told(programs::run(program).map_err(|error| named(name, &error))?);
            }
            Step::SetSrcValidMark => return Ok(record::set_src_valid_mark(interface)?),
            Step::UnsetSrcValidMark => return Ok(record::unset_src_valid_mark(interface)?),
            Step::ReplaceResolvConf(content) => return Ok(resolv_conf::set(interface, content)?),
            Step::RestoreResolvConf => return Ok(resolv_conf::restore(interface)?),
            Step::Save => return Ok(save::save(self.file)?),
            Step::DeleteLink => self.delete_link(),
            Step::AddAddress(Address { ip, prefix_len, .. }) => {
                self.with_link(|system, link| system.add_address(link, *ip, *prefix_len))
            }
            Step::DeleteAddress(Address { ip, prefix_len, .. }) => {
                or_none(self.with_link(|system, link| system.delete_address(link, *ip, *prefix_len)))
            }
            Step::SetUp(mtu) => self.with_link(|system, link| {
                system.set_mtu(link, *mtu)?;
                system.set_up(link, true)
            }),
            Step::AddRoute(Route { prefix, table }) => {
                let table = table.as_ref().map_or(MAIN, |(_, number)| *number);
                self.with_link(|system, link| system.add_route_in(table, link, prefix.addr(), prefix.len()))
            }
            Step::DeleteRoute(Route { prefix, table }) => {
                let table = table.as_ref().map_or(MAIN, |(_, number)| *number);
                or_none(self.with_link(|system, link| {
                    system.delete_route_in(table, link, prefix.addr(), prefix.len())
                }))
            }
            Step::AddRule(rule) => {
                if rule.is_tunnel() {
                    record::set_table(interface, rule.table)?;
                }
                self.system.add_rule(&netlink_rule(rule))
            }
            Step::DeleteRule(rule) => or_none(self.system.delete_rule(&netlink_rule(rule))),
        };
        netlink.map_err(Trouble::Netlink)
    }

    fn with_link<T>(&mut self, change: impl FnOnce(&mut Config, u32) -> io::Result<T>) -> io::Result<T> {
        let link = if_index(&self.file.interface)?;
        change(&mut self.system, link)
    }

    fn add_link(&mut self) -> Result<(), Trouble> {
        let interface = &self.file.interface;
        self.system.add_wireguard(interface).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => {
                Trouble::Error(io::Error::other("the kernel has no WireGuard: use --engine adit"))
            }
            _ => Trouble::Netlink(error),
        })?;
        self.note_link()
    }

    /// Notes that the interface is one that this has made. What cannot be noted does not stay.
    fn note_link(&mut self) -> Result<(), Trouble> {
        self.has_made_link = true;
        record::set_link(&self.file.interface).map_err(|error| {
            self.undo.push(Step::DeleteLink);
            named("cannot be noted", &error).into()
        })
    }

    fn start_engine(&mut self, program: &str) -> Result<(), Trouble> {
        let interface = &self.file.interface;
        let mut command = engine::command(interface, self.in_foreground)?;
        let command = programs::prepare(&mut command);
        let cannot_start = |error| named(program, &error);
        if self.in_foreground {
            // That one would be taken for the new one.
            if is_served(&socket_path(interface)) {
                let why = format!("`{interface}' is served already, perhaps in another network namespace");
                return Err(Trouble::Error(io::Error::other(why)));
            }
            let mut engine = command.spawn().map_err(cannot_start)?;
            let ready = self.await_engine(&mut engine);
            self.engine = Some(engine);
            ready?;
        } else {
            let status = command.status().map_err(cannot_start)?;
            // One that was killed may have left another process that goes on.
            if status.signal().is_some() && if_index(interface).is_ok() {
                self.has_made_link = true;
                self.undo.push(Step::DeleteLink);
            }
            told(status)?;
        }
        if if_index(interface).is_err() {
            let why = format!("{program} has made no interface `{interface}'");
            return Err(Trouble::Error(io::Error::other(why)));
        }
        self.note_link()
    }

    /// Waits until an engine answers, or has ended, or somebody asks to end.
    fn await_engine(&self, engine: &mut Child) -> Result<(), Trouble> {
        let interface = &self.file.interface;
        while if_index(interface).is_err() || !is_served_yet(&socket_path(interface)) {
            if let Some(status) = engine.try_wait()? {
                told(status)?;
                // It has gone to the background all the same, or has nothing to say.
                return Ok(());
            }
            if let Some(signal) = self.signal() {
                let _ = engine.kill();
                return Err(Trouble::Told(signal.exit_code()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Gives the device what the file says. Names may take long to look up, and who asks to end is not kept waiting.
    fn configure(&self) -> Result<(), Trouble> {
        let draft = self.file.draft().map_err(|Failed(code)| Trouble::Told(code))?;
        for warning in &draft.warnings {
            wg::tell(warning);
        }
        let set = self.resolve(draft)?;
        self.set(&set)
    }

    fn set(&self, set: &Set) -> Result<(), Trouble> {
        wg::device::set(&self.file.interface, set).map_err(|error| {
            let why = format!("Unable to modify interface: {error}");
            Trouble::Error(io::Error::other(why))
        })
    }

    fn resolve(&self, draft: Draft) -> Result<Set, Trouble> {
        if draft.endpoints.is_empty() {
            return Ok(draft.set);
        }
        let (sender, result) = channel();
        let path = self.file.path.clone();
        thread::spawn(move || sender.send(wg::endpoint::resolve_all(draft, &path)));
        loop {
            match result.recv_timeout(PAUSE) {
                Ok(set) => return set.map_err(|wg::Failed| Trouble::Told(1)),
                Err(RecvTimeoutError::Disconnected) => return Err(Trouble::Told(1)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(signal) = self.signal() {
                return Err(Trouble::Told(signal.exit_code()));
            }
        }
    }

    /// Deletes the interface, and waits until its daemon, which hears of that, has ended.
    fn delete_link(&mut self) -> io::Result<()> {
        self.with_link(Config::delete_link)?;
        let end = Instant::now() + PATIENCE;
        while is_served(&socket_path(&self.file.interface)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Those that ask to end. Who hangs up asks for it too, but under `nohup`, or where that means something else.
fn signals(may_hang_up: bool) -> io::Result<SignalFd> {
    let mut signals = vec![Signal::Terminate, Signal::Interrupt];
    if !may_hang_up {
        signals.push(Signal::Hangup);
    }
    SignalFd::new(&signals)
}

/// A program that fails has said why. One that a signal ended counts as it does for a shell.
fn told(status: ExitStatus) -> Result<(), Trouble> {
    match status.code().or_else(|| Some(128 + status.signal()?)) {
        Some(0) => Ok(()),
        code => Err(Trouble::Told(code.and_then(|code| code.try_into().ok()).unwrap_or(1))),
    }
}

/// What somebody else has taken away is gone, as it should be.
fn or_none(deleted: io::Result<()>) -> io::Result<()> {
    match deleted {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AddrNotAvailable) => {
            Ok(())
        }
        // `ESRCH`: no such route.
        Err(error) if error.raw_os_error() == Some(NO_SUCH_ROUTE) => Ok(()),
        _ => deleted,
    }
}

/// `ESRCH` of Linux.
const NO_SUCH_ROUTE: i32 = 3;

/// An error in running a program, with its name.
fn named(program: &str, error: &io::Error) -> io::Error {
    io::Error::other(format!("{program}: {}", wg::reason(error)))
}

fn netlink_rule(rule: &Rule) -> netlink::Rule {
    netlink::Rule {
        v6: rule.v6,
        priority: rule.priority,
        fwmark: rule.not_fwmark,
        invert: rule.not_fwmark.is_some(),
        table: rule.table,
        suppress_prefix_len: rule.suppress_default.then_some(0),
    }
}
