//! Writing the state of an interface into its file.

use std::io;

use adit_control::conf::write_conf;
use adit_control::quick::{self, Current};
use adit_net::netlink::{Config, if_index, if_name};

use super::file::File;
use super::look;
use crate::replace::{advice, replace};
use crate::wg;

pub(super) fn save(file: &File) -> io::Result<()> {
    let device = wg::device::get(&file.interface).map_err(|error| io::Error::other(error.to_string()))?;
    let ifindex = if_index(&file.interface)?;
    let mut config = Config::open()?;
    let current = Current {
        addresses: &config.addresses(ifindex)?,
        dns: look::name_servers(&file.interface),
        mtu: config.mtu(ifindex)?,
        conf: &write_conf(&device, if_name),
    };
    replace(&file.path, &quick::save(&file.config, &current), 0o600).map_err(|error| {
        let why = advice(&error);
        io::Error::other(format!("{}: cannot be saved to, and stays as it is: {why}", file.path.display()))
    })
}
