//! Adit: WireGuard, whole, in Rust. This is the program; the subcommands are its modules.

mod check;
mod cli;
mod client;
mod confine;
mod crypto;
mod daemon;
mod demo;
mod logger;
mod metrics;
mod new;
mod offloads;
mod qr;
mod quick;
mod replace;
mod service;
mod status;
mod switches;
mod terminal;
mod watch;
mod wg;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use cli::Command;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    if args.first().is_some_and(|name| wg::is_called(name)) {
        return wg::main(&args);
    }
    if args.first().is_some_and(|name| quick::is_called(name)) {
        return quick::main(&args);
    }
    let cli = match cli::parse(&args) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match (cli.command, &cli.daemon.interface) {
        (Some(Command::Check(args)), _) => check::run(&args),
        (Some(Command::Demo(args)), _) => demo::run(&args),
        (Some(Command::Metrics(args)), _) => metrics::run(&args),
        (Some(Command::New(args)), _) => new::run(&args),
        (Some(Command::Qr(args)), _) => qr::run(&args),
        (Some(Command::Status(args)), _) => status::run(&args),
        (Some(Command::Quick(invocation)), _) => invocation.run(),
        (Some(Command::Texts(invocation)), _) => invocation.run(),
        (Some(Command::Wg(invocation)), _) => invocation.run(),
        (None, Some(interface)) => daemon::run(interface, &cli.daemon),
        (None, None) => {
            eprintln!("adit: name an interface, such as wg0; see adit --help");
            ExitCode::FAILURE
        }
    }
}
