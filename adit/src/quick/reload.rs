//! Applying a file that has changed to an interface that is up.

use adit_control::Set;
use adit_control::conf;
use adit_control::quick::reload::{self, Present};
use adit_control::quick::{Step, plan};

use super::file::File;
use super::run::{self, Runner};
use super::{Change, Failed, get, is_device, look};
use crate::wg;

pub(super) fn reload(change: &Change) -> Result<(), Failed> {
    let file = File::read(&change.which.name)?;
    let File { interface, config, .. } = &file;
    let draft = file.draft()?;
    if !is_device(interface)? {
        return Err(Failed::because(format_args!(
            "`{interface}' is not up; `adit up {interface}` brings it up"
        )));
    }
    let mut runner = Runner::new(&file)?;
    // Before anything else: it may take long, and fail.
    let set = runner.look_up(draft)?;
    let device = get(interface)?;
    let mut wanted = plan::predicted(&set);
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
    runner.all_or_nothing(|runner| runner.run_reversible(steps))
}

/// What to tell the device. What the file does not say of the interface stays: its key may come from a command, and any
/// port is as good as the one it has.
fn difference(mut set: Set, fwmark: u32, Present { device, .. }: &Present) -> Set {
    set.fwmark = (fwmark != device.fwmark).then_some(fwmark);
    set.replace_peers = true;
    conf::synchronize(&mut set, device);
    set
}
