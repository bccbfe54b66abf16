//! `adit new`: the files of a server and of clients that fit each other. What is in them is decided by `adit_control::new`;
//! this makes keys, and writes all files or none.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adit_control::SecretText;
use adit_control::check::{Severity, check};
use adit_control::conf::value;
use adit_control::new::{self, Client, Options, SERVER_HOST, Server, Subnets};
use adit_crypto::{Secret, x25519};
use clap::ValueHint;
use zeroize::Zeroizing;

use crate::quick::file;
use crate::replace::{create, replace};
use crate::wg;

/// The port that most servers have.
const PORT: u16 = 51820;
/// Nobody but the owner reads keys.
const MODE: u32 = 0o600;

const EXAMPLES: &str = "\
Examples:
  adit new --endpoint vpn.example.org home
      writes home/wg0.conf for the server and home/client.conf for a client
  adit new --endpoint 192.0.2.1:4500 --full-tunnel --dns 9.9.9.9 --clients laptop,phone home
  adit new --add tablet home/wg0.conf
      writes home/tablet.conf, and a section for it into home/wg0.conf";

/// What `adit new` takes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where clients call the server: a name or address, and a UDP port unless it is 51820, or with --add the server's
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "add")]
    endpoint: Option<String>,
    /// The inner networks, one of IPv4, one of IPv6, or one of them; without this, random ones of both
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',', value_parser = trimmed, conflicts_with = "add")]
    subnet: Vec<String>,
    /// Send all of the clients' traffic through the server, which forwards it
    #[arg(long)]
    full_tunnel: bool,
    /// Name servers for the clients, and domains to search
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = trimmed)]
    dns: Vec<String>,
    /// What the clients are called
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = trimmed,
        default_value = "client",
        conflicts_with = "add"
    )]
    clients: Vec<String>,
    /// What the server's interface is called
    #[arg(long, value_name = "NAME", default_value = "wg0", conflicts_with = "add")]
    interface: String,
    /// Add a client of this name to a server's file
    #[arg(long, value_name = "NAME")]
    add: Option<String>,
    /// The directory to write to; with --add, the server's file
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    path: PathBuf,
}

/// A word of a list, in which people put spaces behind commas.
fn trimmed(word: &str) -> Result<String, Infallible> {
    Ok(word.trim().to_owned())
}

/// Writes the files, and tells what comes next.
pub(crate) fn run(args: &Args) -> ExitCode {
    let done = match &args.add {
        Some(name) => add(args, name),
        None => make(args),
    };
    match done {
        Ok(told) if wg::print(told.as_bytes()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            wg::tell(format_args!("adit new: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn make(args: &Args) -> Result<String, String> {
    let (endpoint, port) = endpoint(args.endpoint.as_deref().unwrap_or_default(), PORT)?;
    let options = Options { endpoint, full_tunnel: args.full_tunnel, dns: dns(&args.dns)? };
    let subnets = match args.subnet.is_empty() {
        true => new::random(random()?),
        false => {
            let subnets = Subnets::read(args.subnet.iter().map(String::as_str));
            subnets.map_err(|error| format!("--subnet: {error}"))?
        }
    };
    let server = named(&args.path, &args.interface)?;
    let mut files = vec![server.clone()];
    for name in &args.clients {
        files.push(named(&args.path, name)?);
    }
    if files.iter().collect::<BTreeSet<_>>().len() < files.len() {
        return Err(format!("each file needs a name of its own, and so does {}", server.display()));
    }
    if args.clients.len() as u128 > subnets.last_host() - SERVER_HOST {
        let room = subnets.last_host() - SERVER_HOST;
        return Err(format!("the network has room for {room} clients: give a shorter prefix by --subnet"));
    }
    let private_key = private_key()?;
    let clients = args.clients.iter().zip(SERVER_HOST + 1..);
    let clients: Vec<Client> = clients.map(|(name, host)| client(name, host)).collect::<Result<_, _>>()?;
    let public_key = new::public_key(&private_key);
    let mut contents = vec![new::server_file(&options, &subnets, port, &private_key, &clients)];
    contents.extend(clients.iter().map(|client| new::client_file(&options, &subnets, public_key, client)));
    let files: Vec<(PathBuf, SecretText)> = files.into_iter().zip(contents).collect();
    warn(&files);
    write(&args.path, &files)?;
    let clients: Vec<&Path> = files[1..].iter().map(|(path, _)| path.as_path()).collect();
    Ok(told(&server, &clients, &options.endpoint, port))
}

fn add(args: &Args, name: &str) -> Result<String, String> {
    // What a symbolic link leads to is the server's file, and the link stays.
    let path = fs::canonicalize(&args.path).map_err(|error| cannot("read", &args.path, &error))?;
    // Whoever adds another client at the same time waits: both would take the same address, and one section would be lost.
    let turn = fs::File::open(path.parent().unwrap_or(Path::new("/")));
    let _turn = turn.and_then(|directory| directory.lock().map(|()| directory));
    let content = fs::File::open(&path).and_then(wg::setconf::read_from);
    let content = content.map_err(|error| cannot("read", &args.path, &error))?;
    let server = Server::read(&content, file::table_number)
        .map_err(|error| format!("{}: {error}", args.path.display()))?;
    let mut options = server.options;
    if let Some(text) = &args.endpoint {
        options.endpoint = endpoint(text, server.listen_port.unwrap_or(PORT))?.0;
    }
    if options.endpoint.is_empty() {
        let shown = args.path.display();
        return Err(format!("{shown} does not say where clients call it: add --endpoint HOST:PORT"));
    }
    options.full_tunnel |= args.full_tunnel;
    if !args.dns.is_empty() {
        options.dns = dns(&args.dns)?;
    }
    let client = client(name, server.free_host)?;
    let directory = args.path.parent().unwrap_or(Path::new(""));
    let client_path = named(directory, name)?;
    let mut longer = SecretText::with_capacity(content.len() + 512);
    longer.push(&content);
    if !content.is_empty() && !content.ends_with(b"\n") {
        longer.push(b"\n");
    }
    longer.push(&new::peer_section(&server.subnets, &client));
    let files = [(client_path, new::client_file(&options, &server.subnets, server.public_key, &client))];
    warn(&files);
    write(directory, &files)?;
    let [(client_path, _)] = files;
    if let Err(error) = replace(&path, &longer, MODE) {
        let _ = fs::remove_file(&client_path);
        return Err(cannot("write", &args.path, &error));
    }
    Ok(format!(
        "Wrote {client}, and a section for it into {server}.\n\n\
        On the server, if it is up:  adit reload {server}\n\
        To the client:               scp {client} CLIENT:\n\
        On the client, as root:      adit up ./{name}.conf\n\
        On a phone:                  scan what adit qr {client} shows\n",
        client = shown(&client_path),
        server = shown(&args.path),
    ))
}

/// The endpoint as clients write it, and its port, which is `otherwise` if `text` has none.
fn endpoint(text: &str, otherwise: u16) -> Result<(String, u16), String> {
    // An IPv6 address has colons of its own.
    let has_port = match text.parse::<std::net::Ipv6Addr>() {
        Ok(_) => false,
        Err(_) => text.rsplit_once(':').is_some() && !text.ends_with(']'),
    };
    let text = match text.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{otherwise}"),
        Err(_) if !has_port => format!("{text}:{otherwise}"),
        Err(_) => text.to_owned(),
    };
    let endpoint =
        value::endpoint(&text).map_err(|fault| format!("--endpoint: {fault}; {}", fault.expected))?;
    let host = |char: char| char.is_ascii_alphanumeric() || ".-_:%".contains(char);
    if endpoint.host.is_empty() || !endpoint.host.chars().all(host) {
        return Err(format!("--endpoint: `{}' is neither a name nor an address", endpoint.host));
    }
    // Not everybody finds the port without brackets.
    let text =
        if endpoint.host.contains(':') { format!("[{}]:{}", endpoint.host, endpoint.port) } else { text };
    match endpoint.port.parse() {
        Ok(port @ 1..) => Ok((text, port)),
        _ => Err(format!("--endpoint: `{}' is no UDP port, 1 to 65535", endpoint.port)),
    }
}

/// Servers and domains, none of which would end the line.
fn dns(words: &[String]) -> Result<Vec<String>, String> {
    let part = |char: char| char.is_ascii_alphanumeric() || ".:-_".contains(char);
    match words.iter().find(|word| word.is_empty() || !word.chars().all(part)) {
        Some(word) => Err(format!("--dns: `{word}' is neither an address nor a domain")),
        None => Ok(words.to_vec()),
    }
}

/// A file in the directory, called like an interface.
fn named(directory: &Path, name: &str) -> Result<PathBuf, String> {
    // The system takes no interface called like a directory.
    if !file::is_interface_name(name) || name == "." || name == ".." {
        return Err(format!("`{name}' cannot be a name: up to 15 letters, digits and _=+.- can"));
    }
    Ok(directory.join(format!("{name}.conf")))
}

fn client(name: &str, host: u128) -> Result<Client, String> {
    let preshared_key = Secret::new(*Zeroizing::new(random::<32>()?));
    Ok(Client { name: name.to_owned(), host, private_key: private_key()?, preshared_key })
}

fn private_key() -> Result<Secret<32>, String> {
    let bytes = Zeroizing::new(random::<32>()?);
    Ok(Secret::new(*x25519::PrivateKey::new(*bytes).expose()))
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system has no random numbers: {error}"))?;
    Ok(bytes)
}

/// What the options lead to that is probably not meant.
fn warn(files: &[(PathBuf, SecretText)]) {
    for (path, content) in files {
        let report = check(content, file::table_number);
        for finding in report.findings.iter().filter(|finding| finding.severity >= Severity::Warning) {
            wg::tell(finding.display(&path.to_string_lossy()));
        }
    }
}

/// Writes all of them or none.
fn write(directory: &Path, files: &[(PathBuf, SecretText)]) -> Result<(), String> {
    let is_new = !directory.as_os_str().is_empty() && !directory.exists();
    if is_new {
        let made = DirBuilder::new().mode(0o700).create(directory);
        made.map_err(|error| cannot("make", directory, &error))?;
    }
    for (index, (path, content)) in files.iter().enumerate() {
        if let Err(error) = create(path, content, MODE) {
            for (path, _) in &files[..index] {
                let _ = fs::remove_file(path);
            }
            if is_new {
                let _ = fs::remove_dir(directory);
            }
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!("{} is there already, and stays as it is; nothing was written", path.display())
                }
                _ => cannot("write", path, &error),
            });
        }
    }
    Ok(())
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {}", path.display(), wg::reason(error))
}

/// As the other subcommands take it: without a slash it would be the name of an interface.
fn shown(path: &Path) -> String {
    let shown = path.display().to_string();
    if shown.contains('/') { shown } else { format!("./{shown}") }
}

fn told(server: &Path, clients: &[&Path], endpoint: &str, port: u16) -> String {
    let list = clients.iter().map(|path| shown(path)).collect::<Vec<_>>().join(", ");
    let first = clients.first().map(|path| shown(path)).unwrap_or_default();
    format!(
        "Wrote {server} for the server, and {list} for its clients.\n\n\
        On the server, as root:  adit up {server}\n\
        To the client:           scp {first} CLIENT:\n\
        On the client, as root:  adit up ./{name}\n\
        On a phone:              scan what adit qr {first} shows\n\n\
        The server has to be reachable as {endpoint}, by UDP at its port {port}.\n",
        server = shown(server),
        name = clients.first().and_then(|path| path.file_name()).unwrap_or_default().display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_with_and_without_a_port() {
        for (text, expected, port) in [
            ("vpn.example.org", "vpn.example.org:51820", 51820),
            ("vpn.example.org:1", "vpn.example.org:1", 1),
            ("192.0.2.1", "192.0.2.1:51820", 51820),
            ("2001:db8::1", "[2001:db8::1]:51820", 51820),
            ("[2001:db8::1]", "[2001:db8::1]:51820", 51820),
            ("[2001:db8::1]:7", "[2001:db8::1]:7", 7),
            ("2001:db8::1:51821", "[2001:db8::1]:51821", 51821),
        ] {
            assert_eq!(endpoint(text, 51820), Ok((expected.to_owned(), port)), "{text}");
        }
        for bad in ["", ":1", "a:", "a:0", "a:65536", "a:http", "a b:1", "a\nb:1", "[::1:5", "a#b"] {
            assert!(endpoint(bad, PORT).is_err(), "{bad}");
        }
    }
}
