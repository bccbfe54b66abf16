//! What `--help` and the man pages tell beside the definition of the command line, each thing once.

use super::Program::{self, Adit, Wg, WgQuick};

/// Something with a name, what it means, and to whose pages it belongs.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) meaning: &'static str,
    programs: &'static [Program],
}

/// Those of `entries` that belong to the pages of `program`.
pub(crate) fn entries_of(
    entries: &'static [Entry],
    program: Program,
) -> impl Iterator<Item = &'static Entry> {
    entries.iter().filter(move |entry| entry.programs.contains(&program))
}

/// A group of subcommands, in the order in which they are shown. Who is in no group stands at the end, under [`OTHERS`].
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) subcommands: &'static [&'static str],
}

#[rustfmt::skip]
pub(crate) static GROUPS: [Group; 4] = [
    Group { title: "Tunnels up and down", subcommands: &["up", "down", "reload", "save", "strip"] },
    Group { title: "Looking", subcommands: &["show", "showconf", "status", "metrics", "check"] },
    Group { title: "Changing a running interface", subcommands: &["set", "setconf", "addconf", "syncconf"] },
    Group { title: "Making keys and configurations", subcommands: &["new", "genkey", "genpsk", "pubkey", "qr"] },
];
pub(crate) const OTHERS: &str = "More";

#[rustfmt::skip]
pub(crate) static ENVIRONMENT: [Entry; 14] = [
    Entry { name: "LOG_LEVEL", programs: &[Adit, WgQuick],
        meaning: "What the engine tells on standard error: verbose, info, error or silent; without it, warnings and errors until it is in the background" },
    Entry { name: "WG_PROCESS_FOREGROUND", programs: &[Adit],
        meaning: "1 is the same as --foreground" },
    Entry { name: "WG_TUN_FD, WG_UAPI_FD", programs: &[Adit],
        meaning: "Descriptors of a TUN device and of a listening UAPI socket for the engine to take over" },
    Entry { name: "ADIT_NO_OFFLOAD", programs: &[Adit, WgQuick],
        meaning: "Offloads for the engine to do without, as --no-offload of adit" },
    Entry { name: "ADIT_NO_CONFINEMENT", programs: &[Adit, WgQuick],
        meaning: "Parts of the confinement to do without, of the engine as --no-confinement, and of metrics" },
    Entry { name: "ADIT_CRYPTO", programs: &[Adit, WgQuick],
        meaning: "library leaves the packets' cryptography to AWS-LC, whatever the processor" },
    Entry { name: "ADIT_KEYLOGFILE", programs: &[Adit, WgQuick],
        meaning: "For debugging only: a file that gets every session's secrets" },
    Entry { name: "WG_QUICK_USERSPACE_IMPLEMENTATION", programs: &[Adit, WgQuick],
        meaning: "For up: a program that serves the interface instead of this one" },
    Entry { name: "NOTIFY_SOCKET", programs: &[Adit],
        meaning: "In the foreground: where a service manager is told that the interface is up (sd_notify(3))" },
    Entry { name: "CREDENTIALS_DIRECTORY", programs: &[Adit, WgQuick],
        meaning: "Where NAME.conf is looked for first, and NAME.private-key where the file has no PrivateKey (systemd.exec(5))" },
    Entry { name: "WG_COLOR_MODE", programs: &[Adit, Wg],
        meaning: "For show: always or never; otherwise there are colours on a terminal" },
    Entry { name: "NO_COLOR", programs: &[Adit, Wg],
        meaning: "For show --watch and the demo: anything leaves colours out" },
    Entry { name: "WG_HIDE_KEYS", programs: &[Adit, Wg],
        meaning: "For show: with the value never, private and preshared keys are shown" },
    Entry { name: "WG_ENDPOINT_RESOLUTION_RETRIES", programs: &[Adit, Wg],
        meaning: "How often an endpoint's name is looked up again when that fails for now: a number, 15 without it, or infinity" },
];

#[rustfmt::skip]
pub(crate) static FILES: [Entry; 5] = [
    Entry { name: "/etc/wireguard/NAME.conf", programs: &[Adit, WgQuick],
        meaning: "The configuration of the interface NAME, with its private key: readable by root alone" },
    Entry { name: "/run/wireguard/NAME.sock", programs: &[Adit, Wg, WgQuick],
        meaning: "Where the userspace engine of NAME is asked and told" },
    Entry { name: "/run/wireguard/NAME.quick", programs: &[Adit, WgQuick],
        meaning: "What there is to put back when NAME goes down" },
    Entry { name: "/etc/resolv.conf.adit-NAME", programs: &[Adit, WgQuick],
        meaning: "What /etc/resolv.conf was, while NAME is up and nothing else manages name servers" },
    Entry { name: "/dev/net/tun", programs: &[Adit],
        meaning: "The kernel's side of every interface that this engine serves" },
];

#[rustfmt::skip]
pub(crate) static EXIT_STATUS: [Entry; 5] = [
    Entry { name: "0", programs: &[Adit, Wg, WgQuick],
        meaning: "It is done" },
    Entry { name: "1", programs: &[Adit, Wg, WgQuick],
        meaning: "It failed, and standard error says why" },
    Entry { name: "2", programs: &[Adit],
        meaning: "The command line is wrong; the commands of wg say 1 then" },
    Entry { name: "78", programs: &[Adit],
        meaning: "The configuration cannot be used: up --foreground says so to service managers" },
    Entry { name: "other", programs: &[Adit, WgQuick],
        meaning: "What a command of the configuration that failed has returned" },
];

#[rustfmt::skip]
pub(crate) static EXAMPLES: [Entry; 13] = [
    Entry { name: "adit up wg0", programs: &[Adit],
        meaning: "Brings the interface up that /etc/wireguard/wg0.conf describes" },
    Entry { name: "adit up --dry-run ./wg0.conf", programs: &[Adit],
        meaning: "Tells what that would do" },
    Entry { name: "adit reload wg0", programs: &[Adit],
        meaning: "Applies that file after a change, without interrupting the sessions of unchanged peers" },
    Entry { name: "adit new --endpoint vpn.example.org --clients laptop,phone home", programs: &[Adit],
        meaning: "Makes the directory home with the files of a server and two clients, which adit check explains" },
    Entry { name: "adit qr home/phone.conf", programs: &[Adit],
        meaning: "Shows one of them to a phone" },
    Entry { name: "adit show wg0 latest-handshakes", programs: &[Adit],
        meaning: "Prints when the last handshake with each peer was completed" },
    Entry { name: "adit show --watch", programs: &[Adit],
        meaning: "Shows who sends how much, until q is pressed" },
    Entry { name: "adit show --json | jq", programs: &[Adit],
        meaning: "Prints the state of all interfaces for programs" },
    Entry { name: "adit wg0", programs: &[Adit],
        meaning: "Creates an interface that has no configuration yet and goes to the background, as wireguard-go does" },
    Entry { name: "wg show", programs: &[Wg],
        meaning: "Shows all interfaces and their peers" },
    Entry { name: "wg genkey | (umask 077; tee private) | wg pubkey", programs: &[Wg],
        meaning: "Writes a new private key into a file, and prints its public key" },
    Entry { name: "wg syncconf wg0 <(wg-quick strip wg0)", programs: &[Wg, WgQuick],
        meaning: "Applies a changed file without interrupting the sessions of unchanged peers" },
    Entry { name: "wg-quick up wg0", programs: &[WgQuick],
        meaning: "Brings the interface up that /etc/wireguard/wg0.conf describes" },
];

/// Keys of configuration files. Those of `wg-quick` alone are taken out by strip.
#[rustfmt::skip]
pub(crate) static INTERFACE_KEYS: [Entry; 10] = [
    Entry { name: "PrivateKey", programs: &[Wg, WgQuick], meaning: "The interface's private key, in base64" },
    Entry { name: "ListenPort", programs: &[Wg, WgQuick], meaning: "The UDP port to listen on; without it, any" },
    Entry { name: "FwMark", programs: &[Wg, WgQuick], meaning: "A mark for outgoing packets, decimal or after 0x, or off" },
    Entry { name: "Address", programs: &[WgQuick], meaning: "Addresses of the interface, with their prefixes' lengths, separated by commas; may be repeated" },
    Entry { name: "DNS", programs: &[WgQuick], meaning: "Name servers while the interface is up, and domains to search; may be repeated" },
    Entry { name: "MTU", programs: &[WgQuick], meaning: "The interface's MTU; without it, what the routes to the endpoints leave" },
    Entry { name: "Table", programs: &[WgQuick], meaning: "The routing table for routes to the allowed IPs: a number or name, off for none, or auto" },
    Entry { name: "PreUp, PostUp", programs: &[WgQuick], meaning: "A command for bash, before or after the interface is set up; %i is its name; may be repeated" },
    Entry { name: "PreDown, PostDown", programs: &[WgQuick], meaning: "The same, before or after it is taken down" },
    Entry { name: "SaveConfig", programs: &[WgQuick], meaning: "true writes the interface's state into the file when it is taken down" },
];

#[rustfmt::skip]
pub(crate) static PEER_KEYS: [Entry; 5] = [
    Entry { name: "PublicKey", programs: &[Wg, WgQuick], meaning: "Whom it is about, in base64; needed" },
    Entry { name: "PresharedKey", programs: &[Wg, WgQuick], meaning: "A secret that both sides know besides, in base64" },
    Entry { name: "AllowedIPs", programs: &[Wg, WgQuick], meaning: "What may come from this peer and is sent to it: addresses with their prefixes' lengths, separated by commas; may be repeated" },
    Entry { name: "Endpoint", programs: &[Wg, WgQuick], meaning: "Where to send to, as ADDRESS:PORT, [ADDRESS]:PORT or NAME:PORT; it follows the peer as that roams" },
    Entry { name: "PersistentKeepalive", programs: &[Wg, WgQuick], meaning: "Seconds between empty packets that keep NAT and firewalls open, 25 as a rule; off without it" },
];

#[cfg(test)]
mod tests {
    use adit_control::conf::{self, Mode};
    use adit_control::quick;

    use super::*;

    /// Whether the file of `wg-quick`, or else `wg`'s, has such a key. No key may have this value.
    fn is_read(section: &str, key: &str, program: Program) -> bool {
        let text = format!("{section}\n{key} = ?\n");
        match program {
            WgQuick => quick::read(text.as_bytes(), |_| None)
                .map_or(true, |config| !String::from_utf8_lossy(&config.stripped).contains(key)),
            Adit | Wg => conf::read(text.as_bytes(), Mode::Whole)
                .is_err_and(|error| !error.display("").to_string().contains("unrecognized")),
        }
    }

    #[test]
    fn keys_are_read_by_whom_the_pages_name() {
        for (section, keys) in [("[Interface]", &INTERFACE_KEYS[..]), ("[Peer]", &PEER_KEYS[..])] {
            for entry in keys {
                for key in entry.name.split(", ") {
                    let is_wg = entry.programs.contains(&Wg);
                    assert!(is_read(section, key, if is_wg { Wg } else { WgQuick }), "{key}");
                    assert!(!is_read(section, key, if is_wg { WgQuick } else { Wg }), "{key}");
                }
            }
        }
    }
}
