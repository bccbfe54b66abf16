//! Switching offloads off, by option and by environment: wg-quick starts the daemon with nothing but the interface.

use std::env;

use adit_device::UdpOffloads;
use adit_net::tun::Offloads;

/// A comma-separated list like that of `--no-offload`, to which it adds.
pub(crate) const ADIT_NO_OFFLOAD: &str = "ADIT_NO_OFFLOAD";

pub(crate) type SwitchOff = fn(&mut Wanted);

/// What the names switch off.
pub(crate) const NAMES: [(&str, SwitchOff); 6] = [
    ("tun-tcp", |wanted| wanted.tun.tcp = false),
    ("tun-udp", |wanted| wanted.tun.udp = false),
    ("tun-vnet-hdr", |wanted| wanted.tun = Offloads::NONE),
    ("udp-gso", |wanted| wanted.udp.gso = false),
    ("udp-gro", |wanted| wanted.udp.gro = false),
    ("all", |wanted| *wanted = Wanted { tun: Offloads::NONE, udp: UdpOffloads { gso: false, gro: false } }),
];

/// The offloads to ask the kernel for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tun: Offloads,
    pub(crate) udp: UdpOffloads,
}

impl Wanted {
    /// All but those that `lists`, of the option, and the environment name. The error is one line.
    pub(crate) fn without(lists: &[String]) -> Result<Self, String> {
        let mut wanted = Self::default();
        for list in lists {
            wanted.switch_off("--no-offload", list)?;
        }
        if let Some(list) = env::var_os(ADIT_NO_OFFLOAD) {
            wanted.switch_off(ADIT_NO_OFFLOAD, &list.to_string_lossy())?;
        }
        Ok(wanted)
    }

    /// `origin` is whom to blame. An empty list is none, and so is an empty place in one.
    fn switch_off(&mut self, origin: &str, list: &str) -> Result<(), String> {
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let (_, switch_off) = NAMES.iter().find(|(known, _)| *known == name).ok_or_else(|| {
                let known = NAMES.map(|(known, _)| known).join(", ");
                format!("{origin}: no offload is called {name:?}; there are {known}")
            })?;
            switch_off(self);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(list: &str) -> Result<Wanted, String> {
        let mut wanted = Wanted::default();
        wanted.switch_off("--no-offload", list).map(|()| wanted)
    }

    #[test]
    fn each_name_switches_its_own_off() {
        let all = Wanted::default();
        let tun = |tun| Wanted { tun, ..all };
        let udp = |gso, gro| Wanted { udp: UdpOffloads { gso, gro }, ..all };
        assert_eq!(without(""), Ok(all));
        assert_eq!(without("tun-tcp"), Ok(tun(Offloads { tcp: false, ..Offloads::ALL })));
        assert_eq!(without("tun-udp"), Ok(tun(Offloads { udp: false, ..Offloads::ALL })));
        assert_eq!(without("tun-vnet-hdr"), Ok(tun(Offloads::NONE)));
        assert_eq!(without("udp-gso"), Ok(udp(false, true)));
        assert_eq!(without("udp-gro"), Ok(udp(true, false)));
        assert_eq!(without("tun-vnet-hdr, udp-gso,,udp-gro,"), without("all"));
    }

    #[test]
    fn unknown_names_get_one_line() {
        for list in ["tso", "tun-tcp,TUN-UDP", "tun-tcp udp-gso", "line\nbreak"] {
            let error = without(list).expect_err(list);
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(
                error.starts_with("--no-offload: no offload is called ") && error.contains("udp-gro, all"),
                "{error}"
            );
        }
    }
}
