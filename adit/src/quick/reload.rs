//! Applying a file that has changed to an interface that is up.

use std::time::SystemTime;

use adit_control::conf;
use adit_control::quick::reload::{self, Present};
use adit_control::quick::{Step, plan};
use adit_control::{Get, Set};
use adit_net::resolve::lookup;

use super::file::File;
use super::lock::Lock;
use super::record::{self, Stage};
use super::run::{self, Runner};
use super::{Change, Failed, get, is_device, look, repair};
use crate::wg;

pub(super) fn reload(change: &Change) -> Result<(), Failed> {
    let file = File::read(&change.which.name)?;
    let File { interface, config, .. } = &file;
    let draft = file.draft()?;
    if !is_device(interface)? {
        return Err(Failed::because(format_args!(
            "`{interface}' is not up; `adit up {}` brings it up",
            change.which.name
        )));
    }
    repair::refuse_half(&file, &change.which.name)?;
    let mut runner = Runner::new(&file)?;
    // Before anything else: it may take long, and fail.
    let mut set = runner.look_up(draft)?;
    leave_what_works(&mut set, &get(interface)?);
    // From here on nobody else changes it or takes it down.
    let lock = (!change.dry_run).then(|| Lock::of_interface(interface)).transpose();
    let lock = lock.map_err(|error| {
        Failed::because(format_args!("`{interface}' cannot be locked: {}", wg::reason(&error)))
    })?;
    let device = get(interface)?;
    // The mark that it has now is what gets past it.
    let mut wanted = Get { fwmark: device.fwmark, ..plan::predicted(&set) };
    let system = look::system(interface, &wanted)?;
    let present = look::present(interface, device, config)?;
    wanted.fwmark = reload::mark(config, set.fwmark, &present, &system);
    let steps = reload::plan(interface, config, &wanted, &present, &system).map_err(|why| {
        Failed::because(format_args!(
            "`{interface}' cannot be reloaded: {why}. Nothing was changed; take it down and up"
        ))
    })?;
    let has_hooks = [&config.pre_up, &config.post_up, &config.pre_down, &config.post_down];
    if has_hooks.iter().any(|hooks| !hooks.is_empty()) {
        wg::tell(format_args!(
            "{}: the commands of the file (PreUp, PostUp, …) are not run",
            super::program()
        ));
    }
    if change.dry_run {
        let steps: Vec<Step> = steps.into_iter().map(|reversible| reversible.step).collect();
        run::show(interface, &steps);
        return Ok(());
    }
    runner.synchronize_with(difference(set, wanted.fwmark, &present));
    let is_noted = record::read(interface).is_some();
    // Whoever else has brought it up knows no notes.
    let note = |stage| if is_noted { record::set_stage(interface, stage) } else { Ok(()) };
    note(Stage::Reloading).map_err(|error| repair::not_noted(interface, &error))?;
    let done = runner.all_or_nothing(|runner| runner.run_reversible(steps));
    let noted = note(Stage::Whole);
    drop(lock);
    done.and(noted.map_err(|error| repair::not_noted(interface, &error)))
}

/// Of a name's addresses the one that works stays, whichever comes first today.
fn leave_what_works(set: &mut Set, device: &Get) {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    for section in &mut set.peers {
        let peer = device.peers.iter().find(|peer| peer.public_key == section.public_key);
        let Some((peer, name)) = peer.zip(section.endpoint_name.as_ref()) else { continue };
        let is_alive = peer.last_handshake.is_some_and(|(at, _)| now.saturating_sub(at) < SESSION);
        if is_alive
            && let Some(works) = peer.endpoint.filter(|endpoint| section.endpoint != Some(*endpoint))
            && lookup(name.host(), &name.port().to_string()).is_ok_and(|all| all.contains(&works))
        {
            section.endpoint = Some(works);
        }
    }
}

/// How old a handshake can be whose keys still serve, in seconds (whitepaper 6.1, `REJECT_AFTER_TIME`).
const SESSION: u64 = 180;

/// What to tell the device. What the file does not say of the interface stays: its key may come from a command, and any
/// port is as good as the one it has.
fn difference(mut set: Set, fwmark: u32, Present { device, .. }: &Present) -> Set {
    set.fwmark = (fwmark != device.fwmark).then_some(fwmark);
    set.replace_peers = true;
    conf::synchronize(&mut set, device);
    set
}
