//! `wg-quick`, as wireguard-tools has it (wg-quick(8)): an interface from one file, and back.
//!
//! `adit` is `wg-quick` when it is called by that name, through a link; `adit up` and so on are the same. What is done is
//! decided by `adit_control::quick`; this reads the system and carries the plans out.

mod credentials;
mod engine;
pub(crate) mod file;
mod foreground;
mod lock;
mod look;
mod programs;
mod record;
mod reload;
mod repair;
mod resolv_conf;
mod run;
mod save;

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use adit_control::Get;
use adit_control::conf::Draft;
use adit_control::quick::{Step, plan};
use adit_net::netlink::if_index;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use self::engine::Engine;
use self::file::File;
use self::lock::Lock;
use self::record::Stage;
use self::run::Runner;
use crate::cli::Program;
use crate::replace;
use crate::wg;

/// Set up a WireGuard interface from one file
///
/// Makes of one file an interface with its keys and peers, its addresses, routes, name servers and
/// MTU, and takes all of that back. When a step fails, the steps before it are undone. A tunnel that
/// takes all traffic gets a routing table of its own, and packets for its addresses come through it
/// alone.
#[derive(Parser)]
#[command(name = "wg-quick", verbatim_doc_comment, override_usage = "wg-quick <COMMAND> [OPTIONS] NAME|FILE")]
struct Cli {
    #[command(subcommand)]
    invocation: Invocation,
}

/// How `wg-quick` is called.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

/// A subcommand of `adit`, or of `wg-quick`.
#[derive(Subcommand)]
pub(crate) enum Invocation {
    /// Bring an interface up as its file says: wg-quick up
    Up(Up),
    /// Take it down, and undo all of that
    Down(Change),
    /// Apply a file that has changed; peers that stay keep their sessions
    Reload(Change),
    /// Write an interface's state into its file
    Save(Which),
    /// Print a file without what only wg-quick understands
    Strip(Which),
}

#[derive(Args)]
pub(crate) struct Up {
    #[command(flatten)]
    change: Change,
    /// Who moves the packets
    #[arg(long, value_enum, default_value_t)]
    engine: Engine,
    /// Stay until asked to end, and take it down then: for service managers, which are told when it is up
    #[arg(long, conflicts_with = "dry_run")]
    foreground: bool,
}

#[derive(Args)]
pub(crate) struct Change {
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(crate) struct Which {
    /// The interface: NAME for the file /etc/wireguard/NAME.conf, or a file called NAME.conf
    #[arg(value_name = "NAME|FILE")]
    name: String,
}

/// What `up --foreground` exits with when its file cannot be used: `EX_CONFIG` of sysexits.h.
const UNUSABLE: u8 = 78;

/// It failed, and standard error says why. It carries what to exit with.
struct Failed(u8);

impl Failed {
    /// Says why, as this program.
    fn because(why: impl std::fmt::Display) -> Failed {
        wg::tell(format_args!("{}: {why}", program()));
        Failed(1)
    }
}

impl From<wg::Failed> for Failed {
    fn from(_: wg::Failed) -> Failed {
        Failed(1)
    }
}

/// The program's name as it was called.
fn program() -> String {
    let name = env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().unwrap_or(OsStr::new("adit")).display().to_string()
}

/// Whether the program was called as `wg-quick`.
pub(crate) fn is_called(argv0: &OsStr) -> bool {
    Path::new(argv0).file_name().is_some_and(|name| name == "wg-quick")
}

/// Runs `wg-quick` with all its arguments, the first of which is its name.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let asks = args.len() == 2 && args.last().is_some_and(|arg| arg == "help");
    match Cli::try_parse_from(args) {
        Ok(cli) => cli.invocation.run(),
        Err(error) if asks || error.kind() == clap::error::ErrorKind::DisplayHelp => {
            wg::tell(Program::WgQuick.definition().render_long_help().to_string().trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            wg::tell(error.to_string().trim_end());
            ExitCode::FAILURE
        }
    }
}

impl Invocation {
    pub(crate) fn run(&self) -> ExitCode {
        let done = self.become_root().and_then(|()| match self {
            Invocation::Up(up) => bring_up(up),
            Invocation::Down(change) => {
                File::read(&change.which.name).and_then(|file| take_down(&file, change.dry_run))
            }
            Invocation::Reload(change) => reload::reload(change),
            Invocation::Save(which) => save_it(which),
            Invocation::Strip(which) => strip(which),
        });
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failed(code)) => ExitCode::from(code),
        }
    }

    /// Starts the program once more, through sudo, unless this is root or only looks.
    fn become_root(&self) -> Result<(), Failed> {
        let only_looks = match self {
            Invocation::Up(Up { change, .. }) | Invocation::Down(change) | Invocation::Reload(change) => {
                change.dry_run
            }
            Invocation::Save(_) => false,
            Invocation::Strip(which) => file::is_readable(&which.name),
        };
        if only_looks || programs::is_root() {
            return Ok(());
        }
        let prompt =
            format!("{} must be run as root. Please enter the password for %u to continue: ", program());
        let own = env::current_exe().map_err(|error| Failed::because(wg::reason(&error)))?;
        let mut sudo = Command::new("sudo");
        sudo.args(["-p", &prompt, "--"]).arg(own).args(env::args_os().skip(1));
        let error = sudo.exec();
        Err(Failed::because(format_args!("this takes root, and sudo cannot be run: {}", wg::reason(&error))))
    }
}

fn bring_up(Up { change, engine, foreground }: &Up) -> Result<(), Failed> {
    // A reload that is asked for too early comes when it is up.
    let is_service = *foreground && foreground::hold_hangups()?;
    // What is wrong with a file is so the next time, too, and who starts services had better know.
    let unusable = |Failed(code)| Failed(if *foreground { UNUSABLE } else { code });
    let mut file = File::read(&change.which.name).map_err(unusable)?;
    let draft = file.draft().map_err(unusable)?;
    if change.dry_run {
        return show_up(&file, draft, *engine);
    }
    let _keeper = repair::begin_up(&mut file, &change.which.name)?;
    let interface = &file.interface;
    let begin = plan::begin(interface, &file.config, engine.program().as_deref());
    let mut runner = match foreground {
        true => Runner::in_foreground(&file, is_service)?,
        false => Runner::new(&file)?,
    };
    let up = runner.all_or_nothing(|runner| {
        runner.run(&begin)?;
        let device = get(interface)?;
        let system = look::system(interface, &device)?;
        runner.run(&plan::finish(interface, &file.config, &device, &system))?;
        record::finish(interface, *foreground).map_err(|error| repair::not_noted(interface, &error))
    });
    // What of it stays in spite of all is the next one's to clear away; what is somebody else's is not.
    if up.is_err() && !(runner.has_made_link && if_index(interface).is_ok()) {
        record::forget(interface);
    }
    let engine = runner.engine.take();
    match up {
        Ok(()) if *foreground => foreground::stay(change, &file, engine),
        up => {
            foreground::end(engine);
            up
        }
    }
}

/// Only prints what would be done.
fn show_up(file: &File, draft: Draft, engine: Engine) -> Result<(), Failed> {
    let File { interface, path, config } = file;
    if if_index(interface).is_ok() {
        return Err(exists(interface));
    }
    let device = plan::predicted(&wg::endpoint::resolve_all(draft, path)?);
    let system = look::system(interface, &device)?;
    run::show(interface, &plan::begin(interface, config, engine.program().as_deref()));
    run::show(interface, &plan::finish(interface, config, &device, &system));
    Ok(())
}

fn exists(interface: &str) -> Failed {
    Failed::because(format_args!("`{interface}' already exists"))
}

fn take_down(file: &File, dry_run: bool) -> Result<(), Failed> {
    let File { interface, config, .. } = file;
    if !dry_run {
        replace::sweep(&file.path);
        repair::settle(interface);
    }
    let is_up = is_device(interface)?;
    if !is_up && !look::is_left(interface, &look::remains(interface, false)) {
        return Err(not_a_device(interface));
    }
    let record = record::read(interface);
    let stage = record.unwrap_or_default().stage;
    // Half an interface is not what the file is to say.
    let begin = plan::begin_down(interface, config, is_up && stage.is_whole());
    let end = plan::end_down(interface, config);
    if dry_run {
        run::show(interface, &[begin, removal(file)?, end].concat());
        return Ok(());
    }
    if !is_up {
        wg::tell(format_args!("{}: `{interface}' has gone without being taken down", program()));
    } else if config.save && !stage.is_whole() {
        wg::tell(format_args!("{}: `{interface}' is only half there, and not saved", program()));
    }
    // Who brings it up meanwhile would find it half removed.
    let keeper = Lock::of_keeper(interface);
    let again = stage != Stage::Whole;
    let note = |stage| if is_up { record::set_stage(interface, stage) } else { Ok(()) };
    if !again {
        let _ = note(Stage::GoingDown);
    }
    let mut runner = Runner::new(file)?;
    // Of one that is gone there is nothing that had better stay.
    let mut run = |steps: &[Step]| match is_up || again {
        true => runner.run_down(steps, again),
        false => runner.run_whatever_fails(steps),
    };
    let begun = run(&begin);
    if is_up && begun.is_err() {
        match record {
            Some(_) => drop(note(stage)),
            // What whoever else has brought up is none of ours to clear away later.
            None => record::forget(interface),
        }
        return begun;
    }
    // What a reload would put there meanwhile would stay. Where there is no lock to be had, it has to go all the same.
    let lock = Lock::of_interface(interface).ok();
    let _ = note(Stage::HalfRemoved);
    let removed = run(&removal(file)?);
    // Whatever else has failed: it is not asked for again, and neither are the user's commands.
    if if_index(interface).is_err() {
        record::forget(interface);
    }
    drop((lock, keeper));
    run(&end).and(removed).and(begun)
}

/// What is to be removed, as things are now: the user's commands may have changed them.
fn removal(file: &File) -> Result<Vec<Step>, Failed> {
    let File { interface, config, .. } = file;
    let device = is_device(interface)?.then(|| get(interface)).transpose()?;
    let remains = look::remains(interface, device.is_some());
    let system = look::system(interface, &Get::default())?;
    Ok(plan::remove(interface, config, device.as_ref(), &system, &remains))
}

fn save_it(which: &Which) -> Result<(), Failed> {
    let file = File::read(&which.name)?;
    if !is_device(&file.interface)? {
        return Err(not_a_device(&file.interface));
    }
    file.check_savable()?;
    repair::refuse_half(&file, &which.name)?;
    // A reload is waited for. Where there is no lock to be had, there is no reload either.
    let _lock = Lock::of_interface(&file.interface);
    repair::refuse_half_reloaded(&file, &which.name)?;
    Runner::new(&file)?.run(&[Step::Save])
}

fn strip(which: &Which) -> Result<(), Failed> {
    let file = File::read(&which.name)?;
    wg::print(&file.config.stripped)?;
    Ok(wg::print(b"\n")?)
}

/// Whether there is such a device, here: userspace ones of all network namespaces have their sockets in one directory, and
/// an interface of the same name may be of another kind.
fn is_device(interface: &str) -> Result<bool, Failed> {
    let devices = wg::device::list();
    let devices = devices.map_err(|error| {
        Failed::because(format_args!("Unable to list interfaces: {}", wg::reason(&error)))
    })?;
    Ok(devices.iter().any(|device| device == interface) && look::is_tunnel(interface))
}

fn get(interface: &str) -> Result<Get, Failed> {
    wg::device::get(interface)
        .map_err(|error| Failed::because(format_args!("Unable to access interface: {error}")))
}

fn not_a_device(interface: &str) -> Failed {
    Failed::because(format_args!("`{interface}' is not a WireGuard interface"))
}
