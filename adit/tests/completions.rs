//! Completion as people have it: in real shells, on a real terminal, with interfaces and configurations that are there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::common::adit;
use crate::common::machine::Machine;
use lab::netns::interface_name;
use lab::wg::Keypair;
use lab::{Cmd, needs, seconds, within};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// A machine with the program under all its names, and an interface in use.
struct Place {
    machine: Machine,
    interface: String,
    peer: String,
}

impl Place {
    fn new() -> Place {
        let (machine, interface) = (Machine::new(), interface_name());
        for name in ["adit", "wg", "wg-quick"] {
            symlink(adit().0, machine.path("bin").join(name)).unwrap();
        }
        let (own, peer) = (Keypair::generate().private, Keypair::generate().public);
        let file = format!("[Interface]\nPrivateKey = {own}\n[Peer]\nPublicKey = {peer}\n");
        machine.write(&format!("etc/wireguard/{interface}.conf"), &file, 0o600);
        machine.write("etc/wireguard/of-the-office.conf", &file, 0o600);
        machine.ok(&format!("OURS up {interface}"));
        Place { machine, interface, peer }
    }
}

/// A shell on a terminal, with completions.
struct Terminal<'a> {
    place: &'a Place,
    /// tmux's, which is the machine's and goes with it.
    socket: PathBuf,
}

impl Terminal<'_> {
    fn new<'a>(place: &'a Place, shell: &str) -> Terminal<'a> {
        let terminal = Terminal { place, socket: place.machine.path(&format!("tmux-{shell}")) };
        let start = match shell {
            "bash" => "bash --norc --noprofile".to_owned(),
            "zsh" => "zsh -f".to_owned(),
            _ => "fish --no-config".to_owned(),
        };
        let home = place.machine.path("home");
        let _ = fs::create_dir(&home);
        let session = format!(
            "tmux -S {} -f /dev/null -u new-session -d -x 160 -y 60 {start}",
            terminal.socket.display()
        );
        place.machine.cmd(&session).env("HOME", &home).env("TERM", "xterm-256color").ok();
        let mut sourced = ["adit", "wg", "wg-quick"].to_vec();
        if shell == "zsh" {
            // These two as a package installs them: loaded when they are needed for the first time.
            place.machine.ok(&format!("OURS generate {}", home.display()));
            let directory = home.join("completions/zsh");
            terminal.enter(&format!(
                "fpath=({} $fpath); autoload -U compinit; compinit -u -D",
                directory.display()
            ));
            sourced = vec!["wg"];
        }
        for program in sourced {
            let script = home.join(format!("{program}.{shell}"));
            let text = Cmd::new(&format!("{} completions {shell} {program}", adit().0.display())).ok();
            fs::write(&script, text).unwrap();
            terminal.enter(&format!("source {}", script.display()));
        }
        terminal.enter("echo rea''dy");
        terminal.expect("ready");
        terminal
    }

    fn tmux(&self, args: &str) -> Cmd {
        Cmd::new(&format!("tmux -S {} -u {args}", self.socket.display()))
    }

    fn key(&self, key: &str) {
        self.tmux("send-keys").arg(key).ok();
    }

    fn write(&self, text: &str) {
        self.tmux("send-keys -l").arg(text).ok();
    }

    fn enter(&self, line: &str) {
        self.write(line);
        self.key("Enter");
    }

    #[track_caller]
    fn expect(&self, text: &str) {
        let mut screen = String::new();
        let found = within(seconds(20), || {
            screen = self.tmux("capture-pane -p -J").ok();
            screen.contains(text)
        });
        assert!(found, "{text:?} is not to be seen:\n{screen}");
    }

    /// What is begun is offered all of these, and gets one that is the only one.
    #[track_caller]
    fn offers(&self, begun: &str, offered: &[&str]) {
        let begun = begun.replace("INTERFACE", &self.place.interface);
        self.key("C-l");
        self.write(&begun);
        self.key("Tab");
        match offered {
            [only] => self.expect(&format!("{}{only}", begun.trim_end_matches(|c| c != ' '))),
            _ => {
                // Some list at once, some when asked twice for nothing.
                self.key("Tab");
                self.key("Tab");
                for candidate in offered {
                    self.expect(candidate);
                }
            }
        }
        // Not by C-c: a signal may come late, and takes along what is written meanwhile.
        self.key("C-u");
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.tmux("kill-server").run();
    }
}

fn completes(shell: &str) {
    needs!("netns", "tun", "wg", "unshare", "tmux", shell);
    let place = Place::new();
    let terminal = Terminal::new(&place, shell);
    let (interface, peer) = (&*place.interface, &*place.peer);
    let begun = &interface[..interface.len() - 1];
    for (line, offered) in [
        ("adit statu", &["status"][..]),
        ("adit sho", &["show", "showconf"]),
        ("adit up --dr", &["--dry-run"]),
        ("adit check of-", &["of-the-office"]),
        ("adit show --js", &["--json"]),
        ("adit up --engine k", &["kernel"]),
        ("adit up --engine=k", &["--engine=kernel"]),
        ("adit up of-", &["of-the-office"]),
        (&format!("adit down {begun}"), &[interface]),
        (&format!("adit show {begun}"), &[interface]),
        ("adit show INTERFACE latest", &["latest-handshakes"]),
        ("wg sync", &["syncconf"]),
        (&format!("wg show {begun}"), &[interface]),
        ("wg set INTERFACE list", &["listen-port"]),
        (&format!("wg set INTERFACE peer {}", &peer[..2]), &[peer]),
        (&format!("wg set INTERFACE peer {peer} allow"), &["allowed-ips"]),
        ("wg set INTERFACE private-key /etc/wireguard/of-", &["/etc/wireguard/of-the-office.conf"]),
        ("wg-quick u", &["up"]),
        ("wg-quick strip of-", &["of-the-office"]),
        ("wg-quick strip /etc/wireguard/of-", &["/etc/wireguard/of-the-office.conf"]),
    ] {
        terminal.offers(line, offered);
    }
}

#[test]
fn in_bash() {
    completes("bash");
}

#[test]
fn in_zsh() {
    completes("zsh");
}

#[test]
fn in_fish() {
    completes("fish");
}

/// Where a package puts them, shells find them by themselves.
#[test]
fn files_of_the_package() {
    needs!("netns", "unshare", "bash", "zsh", "fish");
    let machine = Machine::new();
    let directory = machine.path("generated");
    machine.ok(&format!("OURS generate {}", directory.display()));
    symlink(adit().0, machine.path("bin/adit")).unwrap();
    let files = directory.join("completions");
    for (shell, names) in SHELLS.iter().zip([
        ["adit", "adit-wg", "adit-wg-quick"],
        ["_adit", "_adit-wg", "_adit-wg-quick"],
        ["adit.fish", "adit-wg.fish", "adit-wg-quick.fish"],
    ]) {
        let mut found: Vec<_> = fs::read_dir(files.join(shell))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort_unstable();
        let mut names = names.map(str::to_owned);
        names.sort_unstable();
        assert_eq!(found, names);
        for name in names {
            Cmd::new(&format!("{shell} -n")).arg(files.join(shell).join(name)).ok();
        }
    }
    let fish = format!("source {}/fish/adit.fish; complete -C 'adit showc'", files.display());
    assert!(machine.cmd(&format!("fish --no-config -c \"{fish}\"")).ok().starts_with("showconf\tShows "));
    // compinit has them called by the first word of the file, and then they define themselves.
    let zsh = format!(
        "fpath=({}/zsh $fpath); autoload -U compinit; compinit -u -D; print $_comps[adit] $_comps[wg] $_comps[wg-quick]",
        files.display()
    );
    assert_eq!(machine.cmd(&format!("zsh -f -c '{zsh}'")).ok(), "_adit _adit-wg _adit-wg-quick\n");
}
