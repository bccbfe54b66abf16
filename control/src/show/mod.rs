//! What `wg show` prints for one interface, byte for byte as wireguard-tools prints it: the page for people, with and without
//! colours, and the [`fields`] for scripts. The same as [`json`] is for programs.

mod address;
pub mod fields;
pub mod json;
pub mod why;

use std::cmp::Reverse;
use std::fmt::{self, Display, Write as _};

use adit_crypto::Secret;

pub use address::{ScopeName, endpoint};
pub(crate) use address::{address, prefix};

use crate::{Get, GetPeer, Prefix, SecretText, key};

/// How the page looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// With escape sequences for a terminal.
    pub color: bool,
    /// With private and preshared keys rather than `(hidden)`.
    pub show_keys: bool,
}

/// Prints the interface `name`. `now` is the wall clock in whole seconds since the Unix epoch, against which
/// handshakes are dated. Peers are sorted by their latest handshake, newest first, otherwise left in order.
#[must_use]
pub fn show(name: &str, get: &Get, now: u64, style: Style, scope_name: ScopeName) -> SecretText {
    let mut page = Page {
        out: SecretText::with_capacity(256 + 512 * get.peers.len()),
        paint: Paint(style.color),
        show_keys: style.show_keys,
        scope_name,
    };
    page.interface(name, get);
    let mut peers: Vec<&GetPeer> = get.peers.iter().collect();
    peers.sort_by_key(|peer| Reverse(peer.last_handshake));
    for peer in peers {
        page.print(format_args!("\n"));
        page.peer(peer, now);
    }
    page.out
}

/// A count of bytes as people read it: `1.21 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    Paint(false).bytes(count)
}

struct Page {
    out: SecretText,
    paint: Paint,
    show_keys: bool,
    scope_name: ScopeName,
}

impl Page {
    fn interface(&mut self, name: &str, get: &Get) {
        self.print(format_args!("{}", self.paint.start()));
        self.heading("interface", GREEN_BOLD, GREEN, &name);
        if let (Some(private_key), Some(public_key)) = (&get.private_key, get.public_key()) {
            self.field("public key", public_key);
            self.secret("private key", private_key);
        }
        if get.listen_port != 0 {
            self.field("listening port", get.listen_port);
        }
        if get.fwmark != 0 {
            self.field("fwmark", format_args!("{:#x}", get.fwmark));
        }
    }

    fn peer(&mut self, peer: &GetPeer, now: u64) {
        let paint = self.paint;
        self.heading("peer", YELLOW_BOLD, YELLOW, &peer.public_key);
        if let Some(preshared_key) = &peer.preshared_key {
            self.secret("preshared key", preshared_key);
        }
        if let Some(addr) = &peer.endpoint {
            self.field("endpoint", endpoint(addr, self.scope_name));
        }
        self.field("allowed ips", paint.prefixes(&peer.allowed_ips));
        if let Some((seconds @ 1.., _)) = peer.last_handshake {
            self.field("latest handshake", paint.ago(seconds, now));
        }
        if peer.rx_bytes != 0 || peer.tx_bytes != 0 {
            let (received, sent) = (paint.bytes(peer.rx_bytes), paint.bytes(peer.tx_bytes));
            self.field("transfer", format_args!("{received} received, {sent} sent"));
        }
        if peer.persistent_keepalive != 0 {
            self.field(
                "persistent keepalive",
                format_args!("every {}", paint.duration(peer.persistent_keepalive.into())),
            );
        }
    }

    fn heading(&mut self, kind: &str, kind_color: &'static str, color: &'static str, name: &dyn Display) {
        let paint = self.paint;
        self.print(format_args!("{}: {}\n", paint.with(kind_color, kind), paint.with(color, name)));
    }

    fn field(&mut self, label: &str, value: impl Display) {
        let label = self.paint.with(BOLD, label);
        self.print(format_args!("  {label}: {value}\n"));
    }

    fn secret(&mut self, label: &str, secret: &Secret<32>) {
        if self.show_keys {
            self.field(label, key::secret_to_base64(secret).as_str());
        } else {
            self.field(label, "(hidden)");
        }
    }

    fn print(&mut self, text: fmt::Arguments<'_>) {
        let written = self.out.write_fmt(text);
        debug_assert!(written.is_ok(), "memory takes all that is written to it");
    }
}

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const GREEN_BOLD: &str = "\x1b[32m\x1b[1m";
const YELLOW: &str = "\x1b[33m";
const YELLOW_BOLD: &str = "\x1b[33m\x1b[1m";
const CYAN: &str = "\x1b[36m";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// Whether there are colours.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    /// What a coloured page begins with, whatever the terminal was left in.
    fn start(self) -> &'static str {
        if self.0 { RESET } else { "" }
    }

    fn with<T: Display>(self, color: &'static str, text: T) -> Painted<T> {
        Painted { color: self.0.then_some(color), text }
    }

    fn prefixes(self, prefixes: &[Prefix]) -> String {
        if prefixes.is_empty() {
            return "(none)".into();
        }
        let slash = self.with(CYAN, "/");
        let prefixes =
            prefixes.iter().map(|prefix| format!("{}{slash}{}", address(prefix.addr()), prefix.len()));
        prefixes.collect::<Vec<_>>().join(", ")
    }

    fn ago(self, then: u64, now: u64) -> String {
        match now.checked_sub(then) {
            Some(0) => "Now".into(),
            Some(seconds) => format!("{} ago", self.duration(seconds)),
            None => {
                format!("({})", self.with(RED, "System clock wound backward; connection problems may ensue."))
            }
        }
    }

    /// `1 minute, 2 seconds`: every unit that is not zero.
    fn duration(self, seconds: u64) -> String {
        let parts = [
            (seconds / YEAR, "year"),
            (seconds % YEAR / DAY, "day"),
            (seconds % DAY / HOUR, "hour"),
            (seconds % HOUR / MINUTE, "minute"),
            (seconds % MINUTE, "second"),
        ];
        let parts = parts.into_iter().filter(|&(count, _)| count != 0).map(|(count, unit)| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {}", self.with(CYAN, format_args!("{unit}{plural}")))
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    fn bytes(self, count: u64) -> String {
        let (size, unit) = match count {
            TIB.. => (TIB, "TiB"),
            GIB.. => (GIB, "GiB"),
            MIB.. => (MIB, "MiB"),
            KIB.. => (KIB, "KiB"),
            _ => return format!("{count} {}", self.with(CYAN, "B")),
        };
        format!("{:.2} {}", count as f64 / size as f64, self.with(CYAN, unit))
    }
}

/// Text in a colour, if any.
struct Painted<T> {
    color: Option<&'static str>,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.color {
            Some(color) => write!(f, "{color}{}{RESET}", self.text),
            None => self.text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let plain = Paint(false);
        for (seconds, expected) in [
            (0, ""),
            (1, "1 second"),
            (62, "1 minute, 2 seconds"),
            (3600, "1 hour"),
            (2 * DAY + 3 * HOUR, "2 days, 3 hours"),
            (YEAR + DAY + 1, "1 year, 1 day, 1 second"),
        ] {
            assert_eq!(plain.duration(seconds), expected);
        }
        assert_eq!(plain.ago(5, 5), "Now");
        assert_eq!(plain.ago(5, 4), "(System clock wound backward; connection problems may ensue.)");
        assert_eq!(Paint(true).duration(2), "2 \x1b[36mseconds\x1b[0m");
    }

    #[test]
    fn sizes() {
        let plain = Paint(false);
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1239, "1.21 KiB"),
            (MIB - 1, "1024.00 KiB"),
            (GIB, "1.00 GiB"),
            (u64::MAX, "16777216.00 TiB"),
        ] {
            assert_eq!(plain.bytes(count), expected);
        }
    }
}
