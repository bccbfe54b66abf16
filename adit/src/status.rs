//! `adit status`: how running engines get on with the kernel's offloads.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use adit_control::status::{FIELDS, Status, Value};
use adit_control::uapi::{AnswerError, STATUS_REQUEST, parse_status};
use adit_device::uapi::{DIRECTORY, socket_path};
use serde_json::{Map, json};

use crate::client;

/// What `adit status` takes.
#[derive(clap::Args)]
#[command(after_long_help = keys_help())]
pub(crate) struct Args {
    /// Print one JSON object with one member for each interface; --help lists their keys
    #[arg(long)]
    json: bool,
    /// The interface; without one, every interface that an engine of this kind serves
    #[arg(value_name = "INTERFACE")]
    interface: Option<String>,
}

/// Prints the status of one engine, or of all. An error is one line.
pub(crate) fn run(args: &Args) -> ExitCode {
    let result = match &args.interface {
        Some(interface) => ask(interface).map(|status| vec![(interface.clone(), status)]),
        // Sockets that nobody answers on, and other programs', are not what was asked for.
        None => interfaces().and_then(ask_all),
    };
    let printed = result.and_then(|engines| {
        let text = if args.json { json(&engines) } else { page(&engines) };
        let done = io::stdout().write_all(text.as_bytes());
        done.map_err(|error| format!("cannot print: {error}"))
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adit status: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Asks all of them. Who may ask none is told so, instead of that there is none.
fn ask_all(names: Vec<String>) -> Result<Vec<(String, Status)>, String> {
    let mut engines = Vec::new();
    let mut forbidden = None;
    for name in names {
        match ask(&name) {
            Ok(status) => engines.push((name, status)),
            Err(error) if error.ends_with(FORBIDDEN) => forbidden = Some(error),
            Err(_) => {}
        }
    }
    match forbidden {
        Some(error) if engines.is_empty() => Err(error),
        _ => Ok(engines),
    }
}

const FORBIDDEN: &str = "permission denied; run this as root";

/// The interfaces that have a UAPI socket, sorted.
fn interfaces() -> Result<Vec<String>, String> {
    let mut names = client::interfaces().map_err(|error| format!("cannot read {DIRECTORY}: {error}"))?;
    names.sort_unstable();
    Ok(names)
}

/// Asks the engine that serves `interface`.
pub(crate) fn ask(interface: &str) -> Result<Status, String> {
    let path = socket_path(interface);
    let answer = client::request(&path, STATUS_REQUEST).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("no userspace engine serves {interface}: {} is not there", path.display())
        }
        io::ErrorKind::ConnectionRefused => {
            format!("no userspace engine serves {interface}: {} is left over", path.display())
        }
        io::ErrorKind::PermissionDenied => {
            format!("{} may not be opened: {FORBIDDEN}", path.display())
        }
        _ => format!("{interface} does not answer: {error}"),
    })?;
    parse_status(&answer).map_err(|error| match error {
        AnswerError::Malformed { .. } => format!("{interface}: {error}"),
        AnswerError::Refused { .. } | AnswerError::Truncated => {
            format!("{interface} is served by a program that knows no status, not by adit: {error}")
        }
    })
}

/// For programs.
fn json(engines: &[(String, Status)]) -> String {
    let object = |status: &Status| -> Map<String, serde_json::Value> {
        let value = |field: &adit_control::status::Field| match field.get(*status) {
            Value::State(state) => json!(state.to_string()),
            Value::Count(count) => json!(count),
        };
        FIELDS.iter().map(|field| (field.key.to_owned(), value(field))).collect()
    };
    let all: Map<_, _> = engines.iter().map(|(name, status)| (name.clone(), object(status).into())).collect();
    format!("{}\n", serde_json::Value::from(all))
}

/// For people.
fn page(engines: &[(String, Status)]) -> String {
    let pages: Vec<String> = engines.iter().map(|(name, status)| engine_page(name, status)).collect();
    pages.join("\n")
}

fn engine_page(name: &str, status: &Status) -> String {
    let s = status;
    let rows = [
        ("tun-vnet-hdr", s.tun_vnet_hdr, String::new(), None),
        (
            "tun-tcp",
            s.tun_tcp,
            format!("{} read, {} written", s.tun_tcp_read, s.tun_tcp_written),
            Some(s.tun_tcp_refused),
        ),
        (
            "tun-udp",
            s.tun_udp,
            format!("{} read, {} written", s.tun_udp_read, s.tun_udp_written),
            Some(s.tun_udp_refused),
        ),
        ("udp-gso", s.udp_gso, format!("{} sent", s.udp_gso_sent), Some(s.udp_gso_refused)),
        ("udp-gro", s.udp_gro, format!("{} received", s.udp_gro_received), None),
    ];
    let mut page = format!(
        "interface: {name}\n  workers: {}\n  packet buffers: {:.1} MiB at most\n  queues: {}\n",
        s.workers,
        s.buffer_bytes as f64 / f64::from(1 << 20),
        s.tun_queues
    );
    for (offload, state, used, refused) in rows {
        let refused = refused.map_or_else(String::new, |count| format!("{count} refused"));
        let row = format!("  {offload:<12}  {state:<8}  {used:<32}  {refused}");
        let _ = writeln!(page, "{}", row.trim_end());
    }
    if s.endpoint_names > 0 {
        let _ = writeln!(page, "  endpoints that are looked up again: {}", s.endpoint_names);
    }
    if s.udp_gso_avoided > 0 {
        let _ = writeln!(page, "  addresses to which udp-gso is not tried for now: {}", s.udp_gso_avoided);
    }
    let _ = writeln!(
        page,
        "  packets the interface got or gave singly: {} written, {} read",
        s.tun_written, s.tun_read
    );
    let _ = writeln!(
        page,
        "  dropped: {} on sending, {} on receiving, {} by a full socket, {} by the interface",
        s.udp_send_dropped, s.udp_receive_dropped, s.udp_receive_overflows, s.tun_dropped
    );
    let _ = writeln!(page, "  confined by: {}", s.confinement());
    page
}

/// What `adit status --help` ends with.
fn keys_help() -> String {
    let width = FIELDS.iter().map(|field| field.key.len()).max().unwrap_or(0);
    let mut help = "States are on, off (by an option), refused (by the kernel at the start) and given-up (after failures).\n\nKeys:".to_owned();
    for field in FIELDS {
        let _ = write!(help, "\n  {:width$}  {}", field.key, field.meaning);
    }
    help
}

#[cfg(test)]
mod tests {
    use adit_control::OffloadState;

    use super::*;

    fn engines() -> Vec<(String, Status)> {
        let status = Status {
            workers: 1,
            tun_queues: 4,
            buffer_bytes: 5 << 19,
            tun_vnet_hdr: OffloadState::On,
            tun_tcp: OffloadState::GivenUp,
            tun_tcp_read: 120,
            tun_tcp_written: 87,
            tun_tcp_refused: 8,
            udp_gso: OffloadState::Refused,
            ..Status::default()
        };
        vec![("wg0".into(), status), ("wg1".into(), Status::default())]
    }

    #[test]
    fn the_page_tells_state_use_and_failures() {
        let page = page(&engines());
        assert!(
            page.starts_with(
                "interface: wg0\n  workers: 1\n  packet buffers: 2.5 MiB at most\n  queues: 4\n  tun-vnet-hdr  on\n"
            ),
            "{page}"
        );
        assert!(
            page.contains("\n  tun-tcp       given-up  120 read, 87 written              8 refused\n"),
            "{page}"
        );
        assert!(page.contains("\n\ninterface: wg1\n"), "{page}");
        assert!(page.lines().all(|line| line == line.trim_end()), "{page}");
    }

    #[test]
    fn json_has_every_key() {
        let json: serde_json::Value = serde_json::from_str(&json(&engines())).unwrap();
        for field in FIELDS {
            assert!(!json["wg1"][field.key].is_null(), "{}", field.key);
        }
        assert_eq!(json["wg0"]["tun_tcp"], "given-up");
        assert_eq!(json["wg0"]["tun_tcp_read"], 120);
    }
}
