//! `adit up --foreground`, for service managers: the interface is there for as long as this process is.

use std::env;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use adit_net::netlink::{LinkEvent, LinkMonitor, if_index};
use adit_net::poll::{Events, Interest, Poller};
use adit_net::process::{Signal, SignalFd};

use super::file::File;
use super::{Change, Failed, look, programs, repair};
use crate::service;
use crate::wg;

/// How long somebody else may take to take an interface down, or an engine to end.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// Why it ends.
enum End {
    /// Somebody asked this process to end.
    Asked,
    /// Somebody has removed the interface.
    Removed,
    /// The engine has failed.
    Died(ExitStatus),
}

/// Has `SIGHUP` wait until somebody reads it, if it asks for a reload: returns whether it does. Who hangs up asks to end;
/// without a terminal nobody can, and the signal means what it means to services.
pub(super) fn hold_hangups() -> Result<bool, Failed> {
    let is_service = !io::stdin().is_terminal();
    if is_service {
        // It stays blocked without the descriptor.
        SignalFd::new(&[Signal::Hangup]).map_err(|error| Failed::because(wg::reason(&error)))?;
    }
    Ok(is_service)
}

/// Keeps an interface that is up, until it ends, and takes it down if nobody else has.
pub(super) fn stay(change: &Change, file: &File, mut engine: Option<Child>) -> Result<(), Failed> {
    let failed = |error: io::Error| Failed::because(wg::reason(&error));
    let interface = &file.interface;
    let end = Watch::new(file, &change.which.name, engine.as_mut()).and_then(|mut watch| {
        service::ready(&is_up(interface));
        watch.wait()
    });
    service::stopping();
    let result = match end {
        Ok(End::Removed) if is_taken_down(interface) => Ok(()),
        Ok(End::Asked | End::Removed) => take_down(change, file),
        Ok(End::Died(status)) => {
            let failed = Failed::because(format_args!("the engine of `{interface}' has failed: {status}"));
            take_down(change, file).and(Err(failed))
        }
        Err(error) => {
            let failed = failed(error);
            take_down(change, file).and(Err(failed))
        }
    };
    self::end(engine);
    result
}

/// Waits for whoever has removed the interface to be done with the rest, if they care for it.
fn is_taken_down(interface: &str) -> bool {
    let end = Instant::now() + PATIENCE;
    while look::is_noted(interface) && Instant::now() < end {
        thread::sleep(PAUSE);
    }
    !look::is_noted(interface)
}

/// Nothing stays behind: where a command of the user's fails, which `down` would stop for, the rest is done all the same.
fn take_down(change: &Change, file: &File) -> Result<(), Failed> {
    // The file may have changed meanwhile. That it has become wrong is no reason to stay.
    let now = File::read(&change.which.name);
    let result = super::take_down(now.as_ref().unwrap_or(file), false);
    if result.is_err() {
        repair::clear_away(file)?;
    }
    result
}

/// An engine ends with its interface, and what was asked to ends soon; or else by force.
pub(super) fn end(child: Option<Child>) {
    let Some(mut child) = child else { return };
    let end = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > end {
            let _ = child.kill();
        }
        thread::sleep(PAUSE);
    }
}

/// What a service manager shows.
fn is_up(interface: &str) -> String {
    format!("{interface} is up")
}

/// `adit reload`, which says itself what is wrong: the interface then stays as it is. It may take long, with names to look
/// up, and whoever asks to end meanwhile is not kept waiting.
struct Reload<'a> {
    /// As the interface was named.
    name: &'a str,
    interface: &'a str,
    running: Option<Child>,
    /// Asked for while one runs, which may have read the file already.
    is_wanted: bool,
}

impl<'a> Reload<'a> {
    fn new(name: &'a str, interface: &'a str) -> Self {
        Reload { name, interface, running: None, is_wanted: false }
    }

    fn begin(&mut self) {
        if self.running.is_some() {
            self.is_wanted = true;
            return;
        }
        service::reloading();
        let reload = || {
            let mut own = Command::new(env::current_exe()?);
            programs::prepare(own.arg0("adit").args(["reload", "--", self.name])).spawn()
        };
        match reload() {
            Ok(child) => self.running = Some(child),
            Err(error) => {
                wg::tell(format_args!("adit reload: {}", wg::reason(&error)));
                service::ready(&is_up(self.interface));
            }
        }
    }

    /// To be called when a child has ended.
    fn follow(&mut self) {
        if self.running.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
            self.running = None;
            service::ready(&is_up(self.interface));
            if std::mem::take(&mut self.is_wanted) {
                self.begin();
            }
        }
    }
}

impl Drop for Reload<'_> {
    /// It takes back what it has done so far.
    fn drop(&mut self) {
        if let Some(child) = &self.running {
            let _ = Signal::Terminate.send(child);
        }
        end(self.running.take());
    }
}

/// What ends it.
struct Watch<'a> {
    /// None when the kernel is.
    engine: Option<&'a mut Child>,
    monitor: LinkMonitor,
    signals: SignalFd,
    /// Who hangs up asks to end; without a terminal nobody can, and `SIGHUP` means what it means to services.
    has_terminal: bool,
    reload: Reload<'a>,
}

impl<'a> Watch<'a> {
    fn new(file: &'a File, name: &'a str, engine: Option<&'a mut Child>) -> io::Result<Watch<'a>> {
        let mut signals = vec![Signal::Terminate, Signal::Interrupt, Signal::Child];
        if !Signal::Hangup.is_ignored()? {
            signals.push(Signal::Hangup);
        }
        let signals = SignalFd::new(&signals)?;
        let monitor = LinkMonitor::open(None, if_index(&file.interface)?)?;
        let has_terminal = io::stdin().is_terminal();
        Ok(Watch { engine, monitor, signals, has_terminal, reload: Reload::new(name, &file.interface) })
    }

    fn wait(&mut self) -> io::Result<End> {
        let poller = Poller::new()?;
        poller.add(&self.signals, 0, Interest::Read)?;
        poller.add(&self.monitor, 1, Interest::Read)?;
        let mut events = Events::with_capacity(2);
        loop {
            while let Some(signal) = self.signals.read()? {
                match signal {
                    Signal::Hangup if !self.has_terminal => self.reload.begin(),
                    Signal::Child => self.reload.follow(),
                    _ => return Ok(End::Asked),
                }
            }
            if let Some(end) = self.end()? {
                return Ok(end);
            }
            poller.wait(&mut events, None)?;
        }
    }

    /// Whether there is nothing to wait for any more.
    fn end(&mut self) -> io::Result<Option<End>> {
        let is_gone = self.monitor.poll()?.iter().any(|event| matches!(event, LinkEvent::Gone));
        let Some(engine) = &mut self.engine else { return Ok(is_gone.then_some(End::Removed)) };
        // An engine ends by itself when its interface or its socket is removed.
        Ok(engine.try_wait()?.map(|status| match status.success() {
            true => End::Removed,
            false => End::Died(status),
        }))
    }
}
