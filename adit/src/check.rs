//! `adit check`: what a file will do, and what about it is wrong or probably not meant. What the content says is judged by
//! `adit_control::check`; who may read and change the file is seen here.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adit_control::check::{Finding, Outline, OutlinePeer, Report, Severity, check};
use adit_control::conf::harmless;
use clap::ValueHint;
use serde_json::{Value, json};

use crate::quick::file;
use crate::wg;

/// What `adit check` takes.
#[derive(clap::Args)]
#[command(
    after_help = "It exits with 1 if there is an error, or with --strict a warning; docs/check.md lists the findings."
)]
pub(crate) struct Args {
    /// Print one JSON array with one object for each file
    #[arg(long)]
    json: bool,
    /// Fail if there are warnings
    #[arg(long)]
    strict: bool,
    /// Interfaces, whose files are /etc/wireguard/INTERFACE.conf, or files
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    files: Vec<String>,
}

/// A file, and what there is to say about it.
pub(crate) struct Checked {
    path: PathBuf,
    interface: Option<String>,
    pub(crate) report: Report,
}

/// Checks all files, and tells.
pub(crate) fn run(args: &Args) -> ExitCode {
    let checked: Vec<Checked> = args.files.iter().map(|name| look_at(&file::path(name))).collect();
    let text = match args.json {
        true => format!("{}\n", Value::from(checked.iter().map(object).collect::<Vec<_>>())),
        false => checked.iter().map(page).collect::<Vec<_>>().join("\n"),
    };
    let worst =
        checked.iter().flat_map(|checked| &checked.report.findings).map(|finding| finding.severity).max();
    let limit = if args.strict { Severity::Warning } else { Severity::Error };
    match wg::print(text.as_bytes()) {
        Ok(()) if worst < Some(limit) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// A file that cannot be read is one with an error.
fn look_at(path: &Path) -> Checked {
    match fs::File::open(path).and_then(wg::setconf::read_from) {
        Ok(content) => checked(path, &content),
        Err(error) => {
            let mut report = check(&[], |_| None);
            report.findings = vec![unreadable(path, &error)];
            Checked { path: path.to_owned(), interface: file::interface(path), report }
        }
    }
}

/// What there is to say about a file with this content.
pub(crate) fn checked(path: &Path, content: &[u8]) -> Checked {
    let mut report = check(content, file::table_number);
    let interface = file::interface(path);
    report.findings.extend(interface.is_none().then(unnamed));
    report.findings.extend(access(path, &report.outline));
    Checked { path: path.to_owned(), interface, report }
}

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    let advice = match error.kind() {
        io::ErrorKind::NotFound if path.starts_with("/etc/wireguard") => {
            "name a file that is there; a file in this directory is named ./FILE"
        }
        io::ErrorKind::NotFound => "name a file that is there",
        io::ErrorKind::PermissionDenied => "run this as root, or as the file's owner",
        _ => "name a configuration file",
    };
    Finding {
        severity: Severity::Error,
        code: "unreadable",
        place: None,
        message: wg::reason(error),
        why: "",
        advice: advice.to_owned(),
    }
}

fn warning(code: &'static str, message: String, why: &'static str, advice: String) -> Finding {
    Finding { severity: Severity::Warning, code, place: None, message, why, advice }
}

fn unnamed() -> Finding {
    warning(
        "file-name",
        "the name of the file is not that of an interface and .conf".to_owned(),
        "the interface is called like the file; a name has up to 15 letters, digits and _=+.-",
        "call it wg0.conf, for instance".to_owned(),
    )
}

const ENTERED_BY_OTHERS: u32 = 0o011;
const READ_BY_OTHERS: u32 = 0o044;
const WRITTEN_BY_OTHERS: u32 = 0o022;
/// In such a directory nobody can replace others' files.
const STICKY: u32 = 0o1000;

/// What others than the owner may do. In the group of root is nobody else.
fn others(metadata: &fs::Metadata) -> u32 {
    metadata.mode() & if metadata.gid() == 0 { 0o007 } else { 0o077 }
}

/// Who can read the keys, and who can make root run commands.
fn access(path: &Path, outline: &Outline) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What counts is what a symbolic link leads to.
    let Ok(path) = fs::canonicalize(path) else { return findings };
    let Ok(file) = fs::metadata(&path) else { return findings };
    let Some((directory, its)) = path.parent().and_then(|parent| Some((parent, fs::metadata(parent).ok()?)))
    else {
        return findings;
    };
    if !file.is_file() {
        return findings;
    }
    // Whoever cannot enter the directory, such as /etc/wireguard, does not get to the file.
    let bits = if others(&its) & ENTERED_BY_OTHERS == 0 { 0 } else { others(&file) };
    let has_secrets = outline.public_key.is_some() || outline.peers.iter().any(|peer| peer.has_preshared_key);
    if bits & WRITTEN_BY_OTHERS != 0 {
        findings.push(writable(&path, "the file"));
    } else if has_secrets && bits & READ_BY_OTHERS != 0 {
        findings.push(warning(
            "readable",
            format!("others than its owner may read the file (its mode is {:o})", file.mode() & 0o777),
            "who has the private key is this machine to all its peers",
            format!("run chmod 600 {}, and make new keys if somebody has read it", path.display()),
        ));
    }
    let own = fs::metadata("/proc/self").map_or(0, |process| process.uid());
    if file.uid() != 0 && file.uid() != own {
        findings.push(warning(
            "owner",
            format!("the file belongs to user {}, not to root", file.uid()),
            "its owner can have any command run as root, by PostUp",
            format!("run chown root {}", path.display()),
        ));
    }
    if others(&its) & WRITTEN_BY_OTHERS != 0 && its.mode() & STICKY == 0 {
        findings.push(writable(directory, "the file's directory"));
    }
    findings
}

fn writable(path: &Path, what: &str) -> Finding {
    warning(
        "writable",
        format!("others than its owner may change {what}"),
        "whoever can change what the file says can have any command run as root, by PostUp",
        format!("run chmod go-w {}", path.display()),
    )
}

/// For people.
fn page(checked: &Checked) -> String {
    let Checked { path, interface, report } = checked;
    let file = path.to_string_lossy();
    let mut page = String::new();
    if !report.has_errors() {
        let interface = interface.as_deref().unwrap_or("the interface");
        page += &format!("{file} brings up {interface}:\n{}", report.outline);
    }
    for finding in &report.findings {
        page += &format!("{}\n", finding.display(&file));
    }
    page += &format!("{file}: {}\n", verdict(report));
    // Whoever wrote the file may want a command in it not to be seen.
    harmless(&page)
}

fn verdict(report: &Report) -> String {
    let counts = [Severity::Error, Severity::Warning, Severity::Note].map(|severity| {
        let count = report.count(severity);
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {}{plural}", severity.name()))
    });
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    if counts.is_empty() { "fine".to_owned() } else { counts.join(", ") }
}

/// For programs.
fn object(checked: &Checked) -> Value {
    let Checked { path, interface, report } = checked;
    json!({
        "file": path.to_string_lossy(),
        "interface": interface,
        "errors": report.count(Severity::Error),
        "warnings": report.count(Severity::Warning),
        "notes": report.count(Severity::Note),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "configuration": (!report.has_errors()).then(|| configuration(&report.outline)),
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.name(),
        "code": finding.code,
        "line": finding.place.as_ref().map(|place| place.line),
        "column": finding.place.as_ref().map(|place| place.column),
        "message": finding.message,
        "why": finding.why,
        "advice": finding.advice,
    })
}

fn configuration(outline: &Outline) -> Value {
    let addresses = outline.addresses.iter().map(|address| format!("{}/{}", address.ip, address.prefix_len));
    let hooks = outline.hooks.iter().map(|(key, command)| json!({"key": key, "command": command}));
    json!({
        "public_key": outline.public_key.map(|key| key.to_base64()),
        "addresses": addresses.collect::<Vec<_>>(),
        "listen_port": outline.listen_port,
        "fwmark": outline.fwmark,
        "mtu": outline.mtu,
        "dns": outline.dns,
        "search": outline.search,
        "table": outline.table,
        "full_ipv4": outline.full_ipv4,
        "full_ipv6": outline.full_ipv6,
        "hooks": hooks.collect::<Vec<_>>(),
        "save": outline.save,
        "peers": outline.peers.iter().map(peer).collect::<Vec<_>>(),
    })
}

fn peer(peer: &OutlinePeer) -> Value {
    json!({
        "public_key": peer.public_key.to_base64(),
        "preshared_key": peer.has_preshared_key,
        "endpoint": peer.endpoint,
        "persistent_keepalive": peer.persistent_keepalive,
        "allowed_ips": peer.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
