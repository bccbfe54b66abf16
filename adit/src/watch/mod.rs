//! `adit show --watch`: what the devices do, on the terminal, renewed each second.
//!
//! Threads ask ([`ask`]), what they heard is kept ([`history`]), and drawn ([`view`]): the latter two without a clock and
//! without a terminal of their own.

mod ask;
mod history;
mod keys;
mod text;
mod view;

use std::env;
use std::io::{self, IsTerminal as _};
use std::process;
use std::time::{Duration, Instant};

use adit_net::clock;
use adit_net::netlink::if_name;
use adit_net::poll::{Events, Interest, Poller};
use adit_net::process::{Signal, SignalFd};
use adit_net::terminal::FullScreen;

use crate::terminal;
use crate::wg::{Failed, device, reason};
use ask::Asker;
use history::History;
use keys::Key;
use view::View;

/// How often the devices are asked, and what is shown is dated.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows one interface, or all there are, until the user has seen enough.
pub(crate) fn watch(only: Option<&str>) -> Result<(), Failed> {
    if !terminal::is_output() || !io::stdin().is_terminal() {
        return Err(Failed::because("--watch needs a terminal; for programs, there is --json"));
    }
    if only.is_none() {
        // Who may not list them would only see an empty screen.
        let listed = device::names();
        listed.map_err(|error| {
            Failed::because(format_args!("Unable to list interfaces: {}", reason(&error)))
        })?;
    }
    let ended = show(only);
    match ended
        .map_err(|error| Failed::because(format_args!("Unable to use the terminal: {}", reason(&error))))?
    {
        None => Ok(()),
        // As whoever sent it expects; the terminal is as before.
        Some(signal) => process::exit(signal.exit_code().into()),
    }
}

/// Returns when the user wants no more, or with the signal that says so.
fn show(only: Option<&str>) -> io::Result<Option<Signal>> {
    // Before threads are started, and before there is anything to put back.
    let signals = SignalFd::new(&[
        Signal::Terminate,
        Signal::Interrupt,
        Signal::Hangup,
        Signal::Resize,
        Signal::Continue,
    ])?;
    let start = Instant::now();
    let asker = Asker::begin(start, only)?;
    let poller = Poller::new()?;
    poller.add(&signals, 0, Interest::Read)?;
    poller.add(&asker.bell, 1, Interest::Read)?;
    poller.add(io::stdin(), 2, Interest::Read)?;
    let mut events = Events::with_capacity(4);
    let mut history = History::new(only);
    let mut canvas = Canvas::take()?;
    loop {
        asker.bell.clear();
        asker.news.try_iter().for_each(|news| history.take(news));
        canvas.draw(&history, start.elapsed())?;
        poller.wait(&mut events, Some(INTERVAL))?;
        while let Some(signal) = signals.read()? {
            match signal {
                Signal::Resize => {}
                Signal::Continue => canvas.retake()?,
                signal => return Ok(Some(signal)),
            }
        }
        if events.iter().any(|event| event.token == 2) && !canvas.handle_keys()? {
            return Ok(None);
        }
    }
}

/// The screen, and which part of it all is on it.
struct Canvas {
    screen: FullScreen,
    color: bool,
    size: (usize, usize),
    /// The lines that are on the screen now.
    lines: Vec<String>,
    scroll: usize,
}

impl Canvas {
    fn take() -> io::Result<Self> {
        let color = match env::var("WG_COLOR_MODE").as_deref() {
            Ok("always") => true,
            Ok("never") => false,
            _ => !terminal::no_color(),
        };
        Ok(Self { screen: FullScreen::take()?, color, size: (0, 0), lines: Vec::new(), scroll: 0 })
    }

    /// Begins again on an empty screen, whatever the shell has made of it meanwhile.
    fn retake(&mut self) -> io::Result<()> {
        self.size = (0, 0);
        self.screen.retake()
    }

    /// Writes the lines that are not there yet.
    fn draw(&mut self, history: &History, now: Duration) -> io::Result<()> {
        let size = self.screen.size();
        let mut text = String::new();
        if self.size != size {
            self.size = size;
            self.lines.clear();
            text += "\x1b[0m\x1b[2J";
        }
        let (width, height) = size;
        let (wall, _) = clock::realtime();
        let view =
            View { width, height, scroll: self.scroll, color: self.color, now, wall, scope_name: if_name };
        let frame = view.frame(history);
        self.scroll = frame.scroll;
        for (number, line) in frame.lines.iter().enumerate() {
            if self.lines.get(number) != Some(line) {
                text += &format!("\x1b[{};1H\x1b[2K{line}", number + 1);
            }
        }
        if frame.lines.len() < self.lines.len() {
            text += &format!("\x1b[{};1H\x1b[J", frame.lines.len() + 1);
        }
        self.lines = frame.lines;
        self.screen.write(text.as_bytes())
    }

    /// Does what was typed; returns whether to go on.
    fn handle_keys(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 64];
        let typed = self.screen.read(&mut buffer)?;
        if typed.is_empty() {
            // The terminal is gone.
            return Ok(false);
        }
        let page = self.size.1.saturating_sub(2).max(1);
        for key in keys::of(typed) {
            self.scroll = match key {
                Key::Quit => return Ok(false),
                Key::Up => self.scroll.saturating_sub(1),
                Key::Down => self.scroll + 1,
                Key::PageUp => self.scroll.saturating_sub(page),
                Key::PageDown => self.scroll + page,
                Key::Top => 0,
                Key::Bottom => usize::MAX / 2,
                Key::Redraw | Key::Suspend => {
                    if key == Key::Suspend {
                        self.screen.suspend()?;
                    }
                    self.size = (0, 0);
                    self.scroll
                }
            };
        }
        Ok(true)
    }
}
