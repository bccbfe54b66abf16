//! Which offloads the kernel is asked for: all but those that are switched off.

use adit_device::UdpOffloads;
use adit_net::tun::Offloads;

use crate::switches::Switches;

/// What `--no-offload` and the environment name.
pub(crate) static SWITCHES: Switches<Wanted> = Switches {
    thing: "offload",
    names: &[
        ("tun-tcp", |wanted| wanted.tun.tcp = false),
        ("tun-udp", |wanted| wanted.tun.udp = false),
        ("tun-vnet-hdr", |wanted| wanted.tun = Offloads::NONE),
        ("udp-gso", |wanted| wanted.udp.gso = false),
        ("udp-gro", |wanted| wanted.udp.gro = false),
        ("all", |wanted| {
            *wanted = Wanted { tun: Offloads::NONE, udp: UdpOffloads { gso: false, gro: false } }
        }),
    ],
    option: "--no-offload",
    variable: "ADIT_NO_OFFLOAD",
};

/// The offloads to ask the kernel for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tun: Offloads,
    pub(crate) udp: UdpOffloads,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(list: &str) -> Result<Wanted, String> {
        let mut wanted = Wanted::default();
        SWITCHES.switch_off(&mut wanted, "--no-offload", list).map(|()| wanted)
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
