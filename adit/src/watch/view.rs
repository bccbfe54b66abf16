//! From what is known to the lines of the screen. Nothing here asks or draws.

use std::time::Duration;

use adit_control::PublicKey;
use adit_control::show::{self, ScopeName};

use super::history::{History, Interface, Peer, Rate, SECONDS, State};
use super::text::{Line, duration, rate};
use crate::terminal::{BOLD, CYAN, DIM, GREEN, RED, YELLOW, plot};

/// After that long without a handshake no packet is taken (`REJECT_AFTER_TIME`, whitepaper section 6.1).
const REJECT_AFTER_SECONDS: u64 = 180;
/// How long an answer is waited for before that is told.
const PATIENCE: Duration = Duration::from_secs(3);
/// A bar as high as the line is at least that many bits in a second, so that keepalives do not look like a rush.
const LEAST_TOP: f64 = 8000.0;
/// Lines of a peer where there is room for all of it.
const BLOCK: usize = 4;

/// How it is seen.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Rows that are above the screen.
    pub(super) scroll: usize,
    pub(super) color: bool,
    /// The time since the start.
    pub(super) now: Duration,
    /// Seconds since the Unix epoch, against which handshakes are dated.
    pub(super) wall: u64,
    pub(super) scope_name: ScopeName,
}

/// What is seen.
pub(super) struct Frame {
    pub(super) lines: Vec<String>,
    /// The rows above the screen: no more than there are.
    pub(super) scroll: usize,
}

/// A line of all that there is to see.
#[derive(Clone, Copy)]
enum Row<'a> {
    Blank,
    Titles,
    Interface(&'a str, &'a Interface),
    /// A line of a peer's block.
    Part(usize, &'a PublicKey, &'a Peer),
    /// A peer in one line.
    Peer(&'a PublicKey, &'a Peer),
}

impl View {
    /// Peers in blocks if all of them fit, else one in a line, as many as fit.
    pub(super) fn frame(&self, history: &History) -> Frame {
        let room = self.height.saturating_sub(1);
        let sections = history.interfaces.values().map(|interface| 2 + BLOCK * interface.peers.len());
        let is_dense = sections.sum::<usize>() > room + 1;
        let rows = rows(history, !is_dense);
        // The titles stay where they are.
        let titles = usize::from(is_dense && room > 1);
        let scroll = self.scroll.min(rows.len().saturating_sub(room - titles));
        let seen = &rows[scroll..rows.len().min(scroll + room - titles)];
        let columns = Columns::new(self.width, seen.iter().map(|row| self.endpoint_width(row)).max());
        let mut lines = Vec::with_capacity(self.height);
        lines.extend((titles == 1).then(|| self.row(Row::Titles, &columns)));
        lines.extend(seen.iter().map(|row| self.row(*row, &columns)));
        if self.height > 0 {
            lines.resize(room, String::new());
            lines.push(self.footer(history, seen, rows.len() > seen.len()));
        }
        Frame { lines, scroll }
    }

    fn row(&self, row: Row<'_>, columns: &Columns) -> String {
        let mut line = Line::new(self.width, self.color);
        match row {
            Row::Blank => {}
            Row::Titles => columns.titles(&mut line),
            Row::Interface(name, interface) => self.interface(&mut line, name, interface),
            Row::Part(part, key, peer) => self.part(&mut line, part, key, peer),
            Row::Peer(key, peer) => self.peer(&mut line, columns, key, peer),
        }
        line.finish()
    }

    fn interface(&self, line: &mut Line, name: &str, interface: &Interface) {
        line.put(GREEN, name);
        let then = match &interface.state {
            State::Gone(since, why) => {
                // Where there are two lines, the second one explains the first.
                let why = why.lines().last().unwrap_or_default();
                let gone = duration(self.now.saturating_sub(*since).as_secs());
                return line.put(RED, &format!("  not to be seen for {gone}, waiting for it: {why}"));
            }
            State::Silent(then) | State::Here(then) => *then,
        };
        let silence = self.now.saturating_sub(then);
        if silence > PATIENCE {
            return line.put(RED, &format!("  no answer for {}", duration(silence.as_secs())));
        }
        if let State::Silent(_) = interface.state {
            return;
        }
        if interface.listen_port != 0 {
            line.put("", &format!("  port {}", interface.listen_port));
        }
        let peers = interface.peers.len();
        line.put("", &format!("  {} {}", grouped(peers), if peers == 1 { "peer" } else { "peers" }));
        let total = interface.rate();
        line.put("", &format!("  in {}  out {}", rate(total.rx), rate(total.tx)));
    }

    /// One line of a peer's block.
    fn part(&self, line: &mut Line, part: usize, key: &PublicKey, peer: &Peer) {
        match part {
            0 => {
                // Where not both fit, it is the key of which a part is enough.
                let endpoint = self.endpoint(peer);
                let room = self.width.saturating_sub(4 + endpoint.len()).max(Columns::SHORT_KEY);
                line.put(YELLOW, &format!("  {}", shortened(key, room)));
                line.put("", &format!("  {endpoint}"));
            }
            1 | 2 => {
                let is_in = part == 1;
                let pick = |rate: Rate| if is_in { rate.rx } else { rate.tx };
                let (label, total) = if is_in { ("in", peer.rx_bytes) } else { ("out", peer.tx_bytes) };
                let now = rate(peer.rate().map_or(0.0, pick));
                let plot_width = self.width.saturating_sub(33).min(SECONDS);
                let samples: Vec<f64> = peer.rates.iter().map(|rate| f64::from(pick(*rate))).collect();
                let top = peer.rates.iter().map(|rate| f64::from(rate.rx.max(rate.tx)));
                line.put("", &format!("    {label:<3}  {now:>9}  "));
                line.put(CYAN, &latest(&samples, plot_width, top.fold(LEAST_TOP, f64::max)));
                line.put("", &format!("  {:>10}", show::bytes(total)));
            }
            _ => {
                line.put("", "    handshake ");
                let (text, style) = self.handshake(peer);
                let ago = if peer.last_handshake.is_some_and(|at| at <= self.wall) { " ago" } else { "" };
                line.put(style, &format!("{text}{ago}"));
                match peer.persistent_keepalive {
                    0 => line.put(DIM, ", no keepalive"),
                    seconds => line.put("", &format!(", keepalive every {seconds} s")),
                }
            }
        }
    }

    /// A peer in one line.
    fn peer(&self, line: &mut Line, columns: &Columns, key: &PublicKey, peer: &Peer) {
        let now = peer.rate().unwrap_or_default();
        let (handshake, style) = self.handshake(peer);
        line.put(YELLOW, &shortened(key, columns.key));
        line.put("", &format!("  {:>9}  {:>9}", rate(now.rx), rate(now.tx)));
        line.put(style, &format!("  {handshake:>12}"));
        if columns.endpoint > 0 {
            line.put("", &format!("  {:<1$}", self.endpoint(peer), columns.endpoint));
        }
        if columns.plot > 0 {
            let samples: Vec<f64> = peer.rates.iter().map(|rate| rate.sum()).collect();
            let top = samples.iter().copied().fold(LEAST_TOP, f64::max);
            line.put("", "  ");
            line.put(CYAN, &latest(&samples, columns.plot, top));
        }
        if columns.totals {
            line.put(
                "",
                &format!("  {:>11}  {:>11}", show::bytes(peer.rx_bytes), show::bytes(peer.tx_bytes)),
            );
        }
        if columns.keepalive {
            let keepalive = match peer.persistent_keepalive {
                0 => "off".to_owned(),
                seconds => format!("{seconds} s"),
            };
            line.put("", &format!("  {keepalive:>9}"));
        }
    }

    /// The age of the latest handshake, and its colour.
    fn handshake(&self, peer: &Peer) -> (String, &'static str) {
        let sends = peer.rates.iter().any(|rate| rate.tx > 0.0);
        let (text, is_old) = match peer.last_handshake {
            None => ("never".to_owned(), true),
            Some(at) if at > self.wall => ("in future".to_owned(), false),
            Some(at) => (duration(self.wall - at), self.wall - at > REJECT_AFTER_SECONDS),
        };
        // It is old and something is sent: nobody answers.
        let style = match (is_old, sends) {
            (false, _) => "",
            (true, false) => DIM,
            (true, true) => RED,
        };
        (text, style)
    }

    fn endpoint(&self, peer: &Peer) -> String {
        peer.endpoint
            .as_ref()
            .map_or_else(|| "no endpoint".to_owned(), |addr| show::endpoint(addr, self.scope_name))
    }

    fn endpoint_width(&self, row: &Row<'_>) -> usize {
        match row {
            Row::Peer(_, peer) => self.endpoint(peer).chars().count(),
            _ => 0,
        }
    }

    fn footer(&self, history: &History, seen: &[Row<'_>], scrolls: bool) -> String {
        let mut line = Line::new(self.width, self.color);
        if let Some(trouble) = &history.trouble {
            line.put(RED, &format!("cannot list interfaces: {trouble}  "));
        } else if history.interfaces.is_empty() {
            line.put("", "no WireGuard interface is there; it is shown as soon as one is  ");
        }
        let all: usize = history.interfaces.values().map(|interface| interface.peers.len()).sum();
        let shown = seen.iter().filter(|row| matches!(row, Row::Part(0, ..) | Row::Peer(..))).count();
        if all > shown {
            line.put(BOLD, &format!("{} more peers", grouped(all - shown)));
            line.put("", "  ");
        }
        line.put(DIM, if scrolls { "q quits, arrows scroll" } else { "q quits" });
        line.finish()
    }
}

/// All there is to see, whether it fits or not.
fn rows(history: &History, in_blocks: bool) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (name, interface) in &history.interfaces {
        if !rows.is_empty() {
            rows.push(Row::Blank);
        }
        rows.push(Row::Interface(name, interface));
        for (key, peer) in interface.sorted() {
            if in_blocks {
                rows.extend((0..BLOCK).map(|part| Row::Part(part, key, peer)));
            } else {
                rows.push(Row::Peer(key, peer));
            }
        }
    }
    rows
}

/// The columns of a peer's line besides those that are always there: the more important ones where there is no room for
/// all.
#[derive(Debug, Default, PartialEq, Eq)]
struct Columns {
    /// Columns of the public key; all of it is 44.
    key: usize,
    /// None if 0, as with those below.
    endpoint: usize,
    plot: usize,
    totals: bool,
    keepalive: bool,
}

impl Columns {
    const SHORT_KEY: usize = 9;
    const KEY: usize = 44;
    /// Rates and handshake.
    const ALWAYS: usize = 11 + 11 + 14;
    const LEAST_PLOT: usize = 10;
    const TOTALS: usize = 13 + 13;
    const KEEPALIVE: usize = 11;

    fn new(width: usize, endpoint: Option<usize>) -> Self {
        let mut left = width.saturating_sub(Self::SHORT_KEY + Self::ALWAYS);
        let mut fits = |columns: usize| {
            let fits = columns <= left;
            left -= if fits { columns } else { 0 };
            fits
        };
        let endpoint = endpoint.unwrap_or_default().clamp("endpoint".len(), 47);
        let endpoint = if fits(endpoint + 2) { endpoint } else { 0 };
        let mut plot = if fits(Self::LEAST_PLOT + 2) { Self::LEAST_PLOT } else { 0 };
        let totals = fits(Self::TOTALS);
        let keepalive = fits(Self::KEEPALIVE);
        // What is left makes the plot longer, and then the key.
        let mut grow = |from: usize, to: usize| {
            let more = left.min(to - from);
            left -= more;
            from + more
        };
        plot = if plot > 0 { grow(plot, SECONDS) } else { 0 };
        Self { key: grow(Self::SHORT_KEY, Self::KEY), endpoint, plot, totals, keepalive }
    }

    fn titles(&self, line: &mut Line) {
        line.put(
            DIM,
            &format!("{:<1$}  {2:>9}  {3:>9}  {4:>12}", "peer", self.key, "in", "out", "handshake"),
        );
        if self.endpoint > 0 {
            line.put(DIM, &format!("  {:<1$}", "endpoint", self.endpoint));
        }
        if self.plot > 0 {
            line.put(DIM, &format!("  {:<1$}", "in + out", self.plot));
        }
        if self.totals {
            line.put(DIM, &format!("  {:>11}  {:>11}", "received", "sent"));
        }
        if self.keepalive {
            line.put(DIM, &format!("  {:>9}", "keepalive"));
        }
    }
}

/// A plot of the latest samples, which ends at the right.
fn latest(samples: &[f64], width: usize, top: f64) -> String {
    let samples = &samples[samples.len().saturating_sub(width)..];
    format!("{:>width$}", plot(samples, top))
}

/// A key, or its beginning, in so many columns.
fn shortened(key: &PublicKey, width: usize) -> String {
    let key = key.to_base64();
    if width < key.len() { format!("{}…", &key[..width - 1]) } else { key }
}

/// `12,345`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use adit_control::{Get, GetPeer};

    use super::super::ask::{News, What};
    use super::*;

    const WALL: u64 = 1_800_000_000;

    fn key(n: u16) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        PublicKey::new(bytes)
    }

    fn tell(history: &mut History, at: u64, name: &str, told: Result<Get, String>) {
        history.take(News { at: Duration::from_secs(at), what: What::Told(name.to_owned(), told) });
    }

    /// A peer that got 125,000 bytes and sent 1,250 in each second.
    fn busy(at: u64) -> GetPeer {
        GetPeer {
            endpoint: Some("192.0.2.1:51820".parse().unwrap()),
            last_handshake: Some((WALL - 7, 0)),
            rx_bytes: 125_000 * at,
            tx_bytes: 1250 * at,
            persistent_keepalive: 25,
            ..GetPeer::new(key(9))
        }
    }

    /// `idle` peers and a busy one, seen for three seconds.
    fn history(idle: u16) -> History {
        let mut history = History::new(None);
        for at in 1..=3 {
            let mut peers: Vec<GetPeer> = (100..100 + idle).map(|n| GetPeer::new(key(n))).collect();
            peers.push(busy(at));
            tell(&mut history, at, "wg0", Ok(Get { peers, listen_port: 51820, ..Get::default() }));
        }
        history
    }

    fn view(width: usize, height: usize) -> View {
        let now = Duration::from_secs(3);
        View {
            width,
            height,
            scroll: 0,
            color: false,
            now,
            wall: WALL,
            scope_name: |_| Some("eth0".to_owned()),
        }
    }

    fn frame(view: View, history: &History) -> Vec<String> {
        view.frame(history).lines.iter().map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn everything_where_there_is_room() {
        let lines = frame(view(80, 9), &history(0));
        assert_eq!(
            lines,
            [
                "wg0  port 51820  1 peer  in 1.00 Mb/s  out 10.0 kb/s",
                "  AAkAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=  192.0.2.1:51820",
                "    in   1.00 Mb/s                                               ██  366.21 KiB",
                "    out  10.0 kb/s                                               ▁▁    3.66 KiB",
                "    handshake 7 s ago, keepalive every 25 s",
                "",
                "",
                "",
                "q quits",
            ]
        );
    }

    #[test]
    fn a_line_for_each_of_many() {
        let lines = frame(view(80, 6), &history(3000));
        assert_eq!(lines[0], "peer              in        out     handshake  endpoint         in + out");
        assert_eq!(lines[1], "wg0  port 51820  3,001 peers  in 1.00 Mb/s  out 10.0 kb/s");
        assert_eq!(
            lines[2],
            "AAkAAAAA…  1.00 Mb/s  10.0 kb/s           7 s  192.0.2.1:51820                ██"
        );
        assert_eq!(
            lines[3],
            "AGQAAAAA…      0 b/s      0 b/s         never  no endpoint                    ▁▁"
        );
        assert_eq!(lines[5], "2,998 more peers  q quits, arrows scroll");
        let wide = frame(view(200, 6), &history(3000));
        assert!(wide[0].ends_with("   received         sent  keepalive"), "{wide:?}");
        assert!(wide[2].ends_with("██   366.21 KiB     3.66 KiB       25 s"), "{wide:?}");
    }

    #[test]
    fn scrolling_ends_with_the_last_peer() {
        let history = history(50);
        for (scroll, top, first) in [(0, 0, "wg0"), (1, 1, "AAk"), (2, 2, "AGQ"), (5000, 48, "AJI")] {
            let frame = View { scroll, ..view(80, 6) }.frame(&history);
            assert_eq!(frame.scroll, top);
            assert!(frame.lines[1].starts_with(first), "{scroll}: {:?}", frame.lines);
        }
    }

    #[test]
    fn no_line_is_longer_than_the_screen_nor_more_of_them() {
        let mut history = history(5);
        let long = GetPeer {
            endpoint: Some("[fe80::1234:5678:9abc:def0%7]:51820".parse().unwrap()),
            ..GetPeer::new(key(7))
        };
        tell(&mut history, 3, "wg1", Ok(Get { peers: vec![long], ..Get::default() }));
        tell(&mut history, 3, "wg2", Err("x".repeat(300)));
        for width in 0..220 {
            for height in [0, 1, 2, 3, 5, 8, 24, 60] {
                let lines = View { scroll: width, ..view(width, height) }.frame(&history).lines;
                assert_eq!(lines.len(), height);
                assert!(lines.iter().all(|line| line.chars().count() <= width), "{width} {lines:?}");
            }
        }
    }

    #[test]
    fn names_cannot_break_the_screen() {
        let mut history = History::new(None);
        tell(&mut history, 1, "a\x1b[2J\r\nb\u{9b}", Err("\x1b]0;x\x07".into()));
        let scope: ScopeName = |_| Some("\x1b[H".to_owned());
        let scoped = GetPeer { endpoint: Some("[fe80::1%3]:7".parse().unwrap()), ..GetPeer::new(key(1)) };
        tell(&mut history, 1, "wg1", Ok(Get { peers: vec![scoped], ..Get::default() }));
        for height in [4, 24] {
            let lines = View { scope_name: scope, ..view(100, height) }.frame(&history).lines;
            assert!(!lines.iter().any(|line| line.contains(char::is_control)), "{lines:?}");
            assert!(
                lines
                    .iter()
                    .any(|line| line.starts_with("a?[2J??b?  not to be seen for 2 s, waiting for it: ?]0;x?")),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn what_is_not_there_and_what_is_silent() {
        assert_eq!(
            frame(view(80, 1), &History::new(None)),
            ["no WireGuard interface is there; it is shown as soon as one is  q quits"]
        );
        let mut history = History::new(Some("wg0"));
        assert_eq!(frame(view(80, 2), &history)[0], "wg0");
        let later = View { now: Duration::from_secs(9), ..view(80, 2) };
        assert_eq!(frame(later, &history)[0], "wg0  no answer for 9 s");
        tell(&mut history, 2, "wg0", Err("No such device".into()));
        assert_eq!(frame(later, &history)[0], "wg0  not to be seen for 7 s, waiting for it: No such device");
        let trouble = What::Listed(Err("Permission denied".into()));
        history.take(News { at: Duration::ZERO, what: trouble });
        assert_eq!(frame(later, &history)[1], "cannot list interfaces: Permission denied  q quits");
    }

    #[test]
    fn nobody_answers() {
        let stale = |sends: u64| {
            let mut history = History::new(None);
            for at in 1..=2 {
                let peer = GetPeer {
                    last_handshake: Some((WALL - 200, 0)),
                    tx_bytes: sends * at,
                    ..GetPeer::new(key(1))
                };
                tell(&mut history, at, "wg0", Ok(Get { peers: vec![peer], ..Get::default() }));
            }
            View { color: true, ..view(80, 24) }.frame(&history).lines[4].clone()
        };
        assert!(stale(148).contains("handshake \x1b[31m3 min 20 s ago\x1b[0m"), "{}", stale(148));
        assert!(stale(0).contains("handshake \x1b[2m3 min 20 s ago\x1b[0m"), "{}", stale(0));
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
