//! Name servers: who looks after them, and how they are told.

use super::config::Config;
use super::step::{Program, Step};

/// Who looks after `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// `resolvconf`, to which interfaces are known with this before their names.
    Resolvconf(String),
    /// `resolvectl`, for systemd-resolved.
    Resolvectl,
    /// Nobody: the file is replaced, and put back.
    #[default]
    File,
}

/// What replaced files start with, before the interface's name and the end of the line.
const MADE_FOR: &str = "# Made by adit for ";

/// Where the file of before is kept.
#[must_use]
pub fn kept(interface: &str) -> String {
    format!("/etc/resolv.conf.adit-{interface}")
}

/// The interface whose name the directory entry of a kept file carries.
#[must_use]
pub fn kept_for(file_name: &str) -> Option<&str> {
    file_name.strip_prefix("resolv.conf.adit-")
}

/// The interface for which a file was made.
#[must_use]
pub fn made_for(content: &str) -> Option<&str> {
    content.lines().next()?.strip_prefix(MADE_FOR)
}

/// Tells the manager. Nothing if there are no name servers.
pub(super) fn set(interface: &str, config: &Config, manager: &Manager) -> Vec<Step> {
    let Config { dns, search, .. } = config;
    if dns.is_empty() {
        return Vec::new();
    }
    let mut content: String = dns.iter().map(|server| format!("nameserver {server}\n")).collect();
    if !search.is_empty() {
        content += &format!("search {}\n", search.join(" "));
    }
    match manager {
        Manager::Resolvconf(prefix) => {
            let add = Program::new(&format!("resolvconf -a {prefix}{interface} -m 0 -x"), content);
            vec![Step::Run(add.undone_by(resolvconf_delete(interface, prefix)))]
        }
        Manager::Resolvectl => {
            let servers = Program::new(&format!("resolvectl dns {interface} {}", dns.join(" ")), "");
            // ~. has all other names asked for here too.
            let domains: Vec<&str> = ["~."].into_iter().chain(search.iter().map(String::as_str)).collect();
            let domains = Program::new(&format!("resolvectl domain {interface} {}", domains.join(" ")), "");
            vec![Step::Run(servers.undone_by(resolvectl_revert(interface))), Step::Run(domains)]
        }
        Manager::File => vec![Step::ReplaceResolvConf(format!("{MADE_FOR}{interface}\n{content}"))],
    }
}

/// What takes back [`set`], where the interface had these `servers` before, or none.
pub(super) fn reset(interface: &str, servers: &[String], manager: &Manager) -> Vec<Step> {
    if !servers.is_empty() {
        return set(interface, &Config { dns: servers.to_vec(), ..Config::default() }, manager);
    }
    vec![match manager {
        Manager::Resolvconf(prefix) => Step::Run(resolvconf_delete(interface, prefix)),
        Manager::Resolvectl => Step::Run(resolvectl_revert(interface)),
        Manager::File => Step::RestoreResolvConf,
    }]
}

/// Tells the manager that the interface is gone.
pub(super) fn unset(interface: &str, config: &Config, manager: &Manager, replaced: bool) -> Option<Step> {
    match manager {
        _ if replaced => Some(Step::RestoreResolvConf),
        _ if config.dns.is_empty() => None,
        Manager::Resolvconf(prefix) => Some(Step::Run(resolvconf_delete(interface, prefix))),
        // It forgets an interface that is deleted.
        Manager::Resolvectl | Manager::File => None,
    }
}

fn resolvconf_delete(interface: &str, prefix: &str) -> Program {
    Program::new(&format!("resolvconf -d {prefix}{interface} -f"), "")
}

fn resolvectl_revert(interface: &str) -> Program {
    Program::new(&format!("resolvectl revert {interface}"), "")
}
