//! `wg` beside the one of wireguard-tools: the same arguments, the same device, the same output and exit code.
//!
//! Where Debian's is of 2021 and the current one differs, the current one's way is expected.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::SystemTime;

use crate::common::machine::Machine;
use crate::common::{FIELDS, adit};
use lab::wg::{Keypair, genpsk};
use lab::{Cmd, Engine, Netns, Program, needs, seconds};

/// Both programs, called by the same name, and a directory for files.
struct Sides {
    directory: PathBuf,
    path: String,
}

/// What one of them did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Sides {
    fn new(test: &str) -> Sides {
        let directory = std::env::temp_dir().join(format!("adit-wg-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        symlink(adit().0, directory.join("wg")).unwrap();
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
        Sides { directory, path }
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn ours(&self, args: &str, input: &str, env: &[(&str, &str)]) -> Outcome {
        run(Cmd::new(&format!("wg {args}")).env("PATH", &self.path), input, env)
    }

    fn theirs(args: &str, input: &str, env: &[(&str, &str)]) -> Outcome {
        run(Cmd::new(&format!("wg {args}")), input, env)
    }

    /// Runs both, theirs first, and expects the same. Ours may say more on standard error.
    #[track_caller]
    fn agree(&self, args: &str) -> Outcome {
        self.agree_on(args, "", &[])
    }

    #[track_caller]
    fn agree_on(&self, args: &str, input: &str, env: &[(&str, &str)]) -> Outcome {
        let theirs = Self::theirs(args, input, env);
        let ours = self.ours(args, input, env);
        assert_eq!((ours.code, &ours.stdout), (theirs.code, &theirs.stdout), "wg {args}: {}", ours.stderr);
        assert!(
            ours.stderr.starts_with(&theirs.stderr),
            "wg {args}\n{}\ninstead of\n{}",
            ours.stderr,
            theirs.stderr
        );
        ours
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn run(mut command: Cmd, input: &str, env: &[(&str, &str)]) -> Outcome {
    for (name, value) in env {
        command = command.env(name, value);
    }
    let output = command.input(input).run();
    Outcome { code: output.code(), stdout: output.stdout, stderr: output.stderr }
}

/// Everything about `interface` that can be asked for.
fn compare_state(sides: &Sides, interface: &str) {
    for field in FIELDS.into_iter().chain(["", "nonsense"]) {
        sides.agree(&format!("show {interface} {field}"));
    }
    sides.agree(&format!("showconf {interface}"));
    for env in [("WG_COLOR_MODE", "always"), ("WG_HIDE_KEYS", "never"), ("WG_COLOR_MODE", "Always")] {
        sides.agree_on(&format!("show {interface}"), "", &[env, ("WG_COLOR_MODE", "always")]);
        sides.agree_on(&format!("show {interface}"), "", &[env]);
    }
}

/// `with`: a daemon to be configured; wireguard-go shows that other engines are as welcome as our own.
fn same_as_the_original(program: &Program, name: &str) {
    let (ns, sides) = (Netns::new(), Sides::new(name));
    let engine = Engine::start(program, &ns);
    let i = engine.interface();
    compare_state(&sides, i);

    let (own, peer, psk) = (Keypair::generate(), Keypair::generate(), genpsk());
    let key_file = sides.file("key", &format!("{}\n", own.private));
    let psk_file = sides.file("psk", &psk);
    let empty = sides.file("empty", "");
    let p = &peer.public;
    for change in [
        format!("private-key {key_file} listen-port 12345 fwmark 0xff"),
        format!(
            "peer {p} preshared-key {psk_file} endpoint 192.0.2.1:5 persistent-keepalive 3661 allowed-ips 10.0.0.0/8,fd00::/8"
        ),
        format!("peer {p} allowed-ips 10.1.2.3/8"),
        format!("peer {p} endpoint [fe80::1%lo]:7 persistent-keepalive off"),
        format!("peer {p} endpoint 127.1:7"),
        format!("peer {p} endpoint [::1.2.3.4]:7 allowed-ips ::1.2.3.4/128,::ffff:1.2.3.4/128,::1/128"),
        format!("peer {p} preshared-key {empty}"),
        "fwmark off listen-port 0".to_owned(),
        format!("peer {p} remove"),
        format!("private-key {empty}"),
    ] {
        // Ours and theirs, each from the same state on.
        let before = sides.file("before", &Sides::theirs(&format!("showconf {i}"), "", &[]).stdout);
        let theirs = Sides::theirs(&format!("set {i} {change}"), "", &[]);
        let state = Sides::theirs(&format!("show {i} dump"), "", &[]);
        Sides::theirs(&format!("setconf {i} {before}"), "", &[]);
        let ours = sides.ours(&format!("set {i} {change}"), "", &[]);
        let random_port = change.contains("listen-port 0");
        assert_eq!(ours, theirs, "{change}");
        if !random_port {
            assert_eq!(Sides::theirs(&format!("show {i} dump"), "", &[]), state, "{change}");
        }
        compare_state(&sides, i);
    }
    for wrong in [
        "listen-port x",
        "listen-port",
        "fwmark 0x",
        "fwmark x",
        "peer x",
        "remove",
        "nonsense",
        "private-key /nonexistent",
        &format!("peer {p} allowed-ips 10.0.0.0/33"),
        &format!("peer {p} allowed-ips 10.0.0.0/8,x"),
        &format!("peer {p} endpoint x"),
        &format!("peer {p} endpoint [::1"),
        &format!("peer {p} endpoint x:"),
        &format!("peer {p} persistent-keepalive 65536"),
        &format!("peer {p} listen-port 5"),
    ] {
        assert_eq!(sides.agree(&format!("set {i} {wrong}")).code, 1, "{wrong}");
    }
}

#[test]
fn same_as_the_original_with_adit() {
    needs!("netns", "tun", "wg");
    same_as_the_original(&adit(), "adit");
}

#[test]
fn same_as_the_original_with_wireguard_go() {
    needs!("netns", "tun", "wg", "wireguard-go");
    same_as_the_original(&Program::wireguard_go(), "go");
}

#[test]
fn files() {
    needs!("netns", "tun", "wg");
    let (ns, sides) = (Netns::new(), Sides::new("files"));
    let engine = Engine::start(&adit(), &ns);
    let i = engine.interface();
    let (own, one, two) =
        (Keypair::generate().private, Keypair::generate().public, Keypair::generate().public);
    let psk = genpsk();
    let a = sides.file("a.conf", &format!(
        "# first\n[Interface]\nPrivate Key = {own} # mine\nListenPort=4444\nFwMark=0x10\n[Peer]\nPublicKey = {one}\n\
         AllowedIPs=10.1.0.0/16, 10.2.0.0/16\nPresharedKey={psk}\nEndpoint=127.0.0.1:99\nPersistentKeepalive=25\n\
         [peer]\npublickey={two}\nALLOWEDIPS = 10.3.0.0/16\n"
    ));
    let swapped = sides.file("swapped.conf", &format!(
        "[Interface]\nPrivateKey={own}\nListenPort=4444\n[Peer]\nPublicKey={one}\nAllowedIPs=10.3.0.0/16\n[Peer]\n\
         PublicKey={two}\nAllowedIPs=10.1.0.0/16\nAllowedIPs=fd00::/8\n"
    ));
    let alone = sides.file("alone.conf", &format!("[Peer]\nPublicKey={two}\n"));
    for (command, file) in [
        ("setconf", &a),
        ("addconf", &swapped),
        ("setconf", &swapped),
        ("addconf", &a),
        ("syncconf", &swapped),
        ("syncconf", &a),
        ("syncconf", &alone),
        ("setconf", &a),
        ("setconf", &alone),
    ] {
        let before = sides.file("before", &Sides::theirs(&format!("showconf {i}"), "", &[]).stdout);
        let theirs = Sides::theirs(&format!("{command} {i} {file}"), "", &[]);
        let expected = Sides::theirs(&format!("showconf {i}"), "", &[]);
        Sides::theirs(&format!("setconf {i} {before}"), "", &[]);
        let ours = sides.ours(&format!("{command} {i} {file}"), "", &[]);
        assert_eq!(ours, theirs, "{command} {file}");
        let found = Sides::theirs(&format!("showconf {i}"), "", &[]);
        let is_same =
            match (command, expected.stdout.contains("Preshared") || expected.stdout.contains("Keepalive")) {
                // The original of 2021 forgets to clear these on syncconf.
                ("syncconf", true) if file != &a => {
                    !found.stdout.contains("Preshared") && !found.stdout.contains("Keepalive")
                }
                // Any port is as good as another.
                _ if file == &alone => found.stdout.contains(&two) && !found.stdout.contains(&one),
                _ => found == expected,
            };
        assert!(is_same, "{command} {file}\n{}\ninstead of\n{}", found.stdout, expected.stdout);
    }
}

#[test]
fn wrong_files_say_where_and_change_nothing() {
    needs!("netns", "tun", "wg");
    let (ns, sides) = (Netns::new(), Sides::new("wrong"));
    let engine = Engine::start(&adit(), &ns);
    let i = engine.interface();
    let key = Keypair::generate().public;
    engine.set(&format!("peer {key}"));
    for (content, line) in [
        ("x", 1),
        ("[Interface]\nAddress=10.0.0.1/24\n", 2),
        ("[Peer]\nPublicKey=x\n", 2),
        ("[Interface]\n\nListenPort=\n", 3),
        ("[Interface]\nListenPort=x\n", 2),
        ("[Interface]\nFwMark=x\n", 2),
        ("[Peer]\nEndpoint=\n", 2),
        ("[Peer]\nEndpoint=x\n", 2),
        ("[Peer]\nAllowedIPs=1/2\n", 2),
        ("[Peer]\nPersistentKeepalive=-1\n", 2),
        ("[Interface]\n[Peer]\n", 2),
        (&format!("[Peer]\nPublicKey={key}\nEndpoint=127.0.0.1:no-such-service\n"), 3),
        ("[Peer]\nAllowedIPs=10.0.0.1/8\nx\n", 3),
    ] {
        let file = sides.file("x.conf", content);
        let at_once = [("WG_ENDPOINT_RESOLUTION_RETRIES", "0")];
        let ours = sides.agree_on(&format!("setconf {i} {file}"), "", &at_once);
        assert_eq!(ours.code, 1);
        assert!(ours.stderr.contains(&format!("{file}:{line}:")), "{}", ours.stderr);
        assert!(sides.ours(&format!("show {i} peers"), "", &[]).stdout.contains(&key), "{content}");
    }
    sides.agree(&format!("setconf {i} /nonexistent"));
    sides.agree(&format!("setconf {i}"));
}

/// A peer may have several sections, and what one of them says stays.
#[test]
fn syncconf_with_several_sections_of_a_peer() {
    needs!("netns", "tun", "wg");
    let (ns, sides) = (Netns::new(), Sides::new("sections"));
    let engine = Engine::start(&adit(), &ns);
    let (i, key, psk) = (engine.interface(), Keypair::generate().public, genpsk());
    let file = sides.file(
        "x.conf",
        &format!(
            "[Peer]\nPublicKey={key}\nPresharedKey={psk}\nPersistentKeepalive=25\nAllowedIPs=10.0.0.0/8\n\
             [Peer]\nPublicKey={key}\nAllowedIPs=+10.0.0.0/8\n"
        ),
    );
    for _ in 0..2 {
        assert_eq!(sides.ours(&format!("syncconf {i} {file}"), "", &[]).code, 0);
        let shown = sides.ours(&format!("showconf {i}"), "", &[]).stdout;
        assert!(shown.contains(&psk) && shown.contains("PersistentKeepalive = 25"), "{shown}");
    }
}

/// Paths are of any bytes but zero.
#[test]
fn paths_that_are_no_text() {
    needs!("netns", "tun", "wg");
    let (ns, sides) = (Netns::new(), Sides::new("paths"));
    let engine = Engine::start(&adit(), &ns);
    let script = "cd \"$1\" && f=$(printf 'x\\377') && printf '[Interface]\\nListenPort = 4711\\n' >\"$f.conf\" || exit 9
        wg genkey >\"$f\"
        wg set $I private-key \"$f\" && \"$ADIT\" setconf $I \"$f.conf\" && wg show $I listen-port || exit 8
        \"$ADIT\" set $I private-key \"$f\" && wg show $I private-key | cmp - \"$f\" && wg addconf $I \"$f.conf\" || exit 7
        wg \"$f\"; wg show \"$f\"; wg set $I \"$f\"; true";
    let output = Cmd::new("sh -c")
        .arg(script)
        .arg("sh")
        .arg(sides.directory.to_str().unwrap())
        .env("PATH", &sides.path)
        .env("ADIT", adit().0)
        .env("I", engine.interface())
        .run();
    assert_eq!((output.code(), output.stdout.as_str()), (0, "4711\n"), "{}", output.stderr);
}

#[test]
fn allowed_ips_are_added_and_removed() {
    needs!("netns", "tun", "wg");
    let (ns, sides) = (Netns::new(), Sides::new("incremental"));
    let engine = Engine::start(&adit(), &ns);
    let (i, key) = (engine.interface(), Keypair::generate().public);
    let allowed = |change: &str| {
        let ours = sides.ours(&format!("set {i} peer {key} allowed-ips {change}"), "", &[]);
        assert_eq!((ours.code, ours.stderr.as_str()), (0, ""));
        let shown = sides.ours(&format!("show {i} allowed-ips"), "", &[]).stdout;
        let (_, ips) = shown.trim().split_once('\t').unwrap();
        let mut ips: Vec<String> = ips.split(' ').map(str::to_owned).collect();
        ips.sort();
        ips.join(" ")
    };
    assert_eq!(allowed("10.0.0.0/8,fd00::/8"), "10.0.0.0/8 fd00::/8");
    assert_eq!(allowed("+192.0.2.0/24"), "10.0.0.0/8 192.0.2.0/24 fd00::/8");
    assert_eq!(allowed("-10.0.0.0/8,+10.1.0.0/16"), "10.1.0.0/16 192.0.2.0/24 fd00::/8");
    assert_eq!(allowed("198.51.100.0/24"), "198.51.100.0/24");
}

#[test]
fn keys() {
    needs!("wg");
    let sides = Sides::new("keys");
    let private = sides.ours("genkey", "", &[]).stdout;
    let bytes = lab::wg::hex(private.trim());
    let (first, last) =
        (u8::from_str_radix(&bytes[..2], 16).unwrap(), u8::from_str_radix(&bytes[62..], 16).unwrap());
    assert_eq!((first & 7, last & 0xc0), (0, 0x40), "clamped");
    let psks: Vec<String> = (0..8).map(|_| sides.ours("genpsk", "", &[]).stdout).collect();
    assert!(
        psks.iter()
            .any(|psk| u8::from_str_radix(&lab::wg::hex(psk.trim())[62..], 16).unwrap() & 0xc0 != 0x40)
    );
    for input in [
        private.clone(),
        format!("{}\0 \n\t", private.trim()),
        String::new(),
        "x".to_owned(),
        private[..43].to_owned(),
        format!("{private}x"),
        format!(" {private}"),
    ] {
        sides.agree_on("pubkey", &input, &[]);
    }
    sides.agree("genkey x");
    sides.agree("pubkey x");
    for (umask, warns) in [("022", true), ("077", false)] {
        let file = sides.directory.join(umask);
        let line = format!("umask {umask}; wg genkey > {}", file.display());
        let output = Cmd::new("sh -c").arg(line).env("PATH", &sides.path).run();
        assert_eq!(output.stderr.starts_with("Warning: writing to world accessible file.\n"), warns);
        assert_eq!(fs::read_to_string(file).unwrap().len(), 45);
    }
}

#[test]
fn misuse() {
    needs!("wg");
    let sides = Sides::new("misuse");
    for args in [
        "show nope",
        "show nope dump",
        "show a b c",
        "show interfaces x",
        "show --help",
        "showconf nope",
        "showconf",
        "setconf x",
        "nonsense",
        "help",
        "--help",
    ] {
        sides.agree(args);
    }
    for args in ["set", "set nope"] {
        let ours = sides.ours(args, "", &[]);
        assert_eq!(ours.code, 1);
        assert!(
            ours.stderr.starts_with("Usage: wg set <interface> [listen-port <port>] "),
            "{}",
            ours.stderr
        );
    }
    assert_eq!(sides.ours("--version", "", &[]).code, 0);
    // A reader that stops early is no reason to complain.
    let output = Cmd::new("sh -c").arg("{ sleep 0.2; wg help; } | true").env("PATH", &sides.path).run();
    assert!(output.stderr.is_empty());
}

#[test]
fn names_of_endpoints_are_looked_up_with_patience() {
    needs!("netns", "tun", "wg");
    let (ns, sides) = (Netns::new(), Sides::new("names"));
    let engine = Engine::start(&adit(), &ns);
    let i = engine.interface();
    let change = format!("set {i} peer {} endpoint", Keypair::generate().public);
    let ours = sides.ours(&format!("{change} localhost:5"), "", &[]);
    assert_eq!(ours.code, 0, "{}", ours.stderr);
    assert!(sides.ours(&format!("show {i} endpoints"), "", &[]).stdout.trim().ends_with(":5"));
    for retries in ["x", "", " ", " 1", "+1", "-1", "1 "] {
        let env = [("WG_ENDPOINT_RESOLUTION_RETRIES", retries)];
        sides.agree_on(&format!("{change} 127.0.0.1:5"), "", &env);
    }

    // A server that never answers: the resolver's answer is worth another question.
    let script = format!(
        "mount -t tmpfs none /mnt && echo nameserver 127.0.0.1 >/mnt/r && echo options timeout:1 attempts:1 >>/mnt/r \
         && mount --bind /mnt/r /etc/resolv.conf && wg {change} vpn.example.com:5"
    );
    let started = SystemTime::now();
    let output = Cmd::new("unshare -m sh -c")
        .arg(script)
        .env("PATH", &sides.path)
        .env("WG_ENDPOINT_RESOLUTION_RETRIES", "1")
        .run();
    let log = &output.stderr;
    assert_eq!(output.code(), 1);
    assert_eq!(log.matches("`vpn.example.com:5'. Trying again in 1.00 seconds...\n").count(), 1, "{log}");
    assert!(log.trim_end().ends_with(": `vpn.example.com:5'"), "{log}");
    assert!(started.elapsed().unwrap().as_millis() >= 1000);
}

/// All interfaces at once: where no other test's are.
#[test]
fn all_interfaces() {
    needs!("netns", "tun", "wg");
    let sides = Sides::new("all");
    let script = "mount -t tmpfs none /run && mkdir /run/wireguard || exit 9
        ours() { PATH=$OURS wg \"$@\"; }
        compare() { wg \"$@\" >/run/theirs 2>&1; a=$?; ours \"$@\" >/run/ours 2>&1; b=$?
            if [ $a != $b ] || ! cmp -s /run/theirs /run/ours; then echo \"wg $*: $a, $b\"; diff /run/theirs /run/ours; fi; }
        for args in '' show 'show all' 'show interfaces' 'show all dump'; do compare $args; done
        $ADIT -f one & one=$!; $ADIT -f two & two=$!
        for i in 1 2 3 4 5 6 7 8 9; do [ -S /run/wireguard/one.sock ] && [ -S /run/wireguard/two.sock ] && break; sleep 0.2; done
        wg set one peer $(wg genkey | wg pubkey) allowed-ips 10.0.0.0/8,fd00::/8
        wg set two private-key /dev/stdin fwmark 7 <<EOF
$(wg genkey)
EOF
        wg set two peer $(wg genkey | wg pubkey)
        for args in '' show 'show all' 'show interfaces' 'show all dump' 'show all peers' 'show all allowed-ips' 'show all fwmark' \
            'show all nonsense'; do compare $args; done
        # What a killed engine leaves behind is nobody's interface.
        kill -9 $one; wait $one 2>/dev/null
        ours show interfaces
        [ -e /run/wireguard/one.sock ] && echo 'still there'
        kill $two; wait $two";
    let output =
        Netns::new().cmd("unshare -m sh -c").arg(script).env("OURS", &sides.path).env("ADIT", adit().0).run();
    assert_eq!(output.stdout, "two\n", "{}", output.stderr);
}

/// Interfaces of the Linux kernel's own WireGuard, in the virtual machine.
#[test]
fn kernel_interfaces() {
    if lab::require(lab::vm::NEEDS).is_err() {
        return;
    }
    let adit = adit().0;
    let Ok(vm) = lab::Vm::alone_with(&[&adit]) else { return };
    vm.ok("mkdir -p /ours && ln -s $(which adit) /ours/wg && ip link add one type wireguard && ip link add two type wireguard");
    let compare = |args: &str| {
        let theirs = vm.run(&format!("wg {args} 2>&1"));
        let ours = vm.run(&format!("PATH=/ours:$PATH wg {args} 2>&1"));
        assert_eq!(ours, theirs, "wg {args}");
    };
    let ours = |args: &str| vm.ok(&format!("PATH=/ours:$PATH wg {args} 2>&1"));
    let (private, psk) = (Keypair::generate().private, genpsk());
    let peers: Vec<String> = (0..3).map(|_| Keypair::generate().public).collect();
    vm.ok(&format!("echo {private} >/private; echo {psk} >/psk"));
    ours("set one private-key /private listen-port 5555 fwmark 0x7");
    ours(&format!(
        "set one peer {} preshared-key /psk endpoint [fe80::1%one]:5 persistent-keepalive 25 allowed-ips 10.0.0.0/8,fd00::/8",
        peers[0]
    ));
    ours(&format!(
        "set one peer {} endpoint 192.0.2.1:5 allowed-ips 192.0.2.0/24 peer {}",
        peers[1], peers[2]
    ));
    for args in [
        "",
        "show",
        "show all",
        "show interfaces",
        "show all dump",
        "show one",
        "show two",
        "show one dump",
        "showconf one",
        "show one endpoints",
        "show lo",
        "show three",
    ] {
        compare(args);
    }
    ours("showconf one >/one.conf");
    ours("setconf two /one.conf");
    compare("show two allowed-ips");
    vm.ok(&format!(
        "(cat /one.conf; echo '[Peer]'; echo 'PublicKey = {}') >/more.conf",
        Keypair::generate().public
    ));
    ours(&format!("set two peer {} remove", peers[0]));
    ours("syncconf two /more.conf");
    ours("addconf two /one.conf");
    assert_eq!(ours("show two peers").lines().count(), 4);
    compare("showconf two");
    // This kernel cannot, and the error says which can.
    let (code, said) =
        vm.run(&format!("PATH=/ours:$PATH wg set one peer {} allowed-ips -10.0.0.0/8 2>&1", peers[0]));
    assert!(
        code == 1 && said.contains("Unable to modify interface: Invalid argument\n") && said.contains("6.16"),
        "{said}"
    );
}

/// Two engines that answer only when both have been asked: none is asked after another.
#[test]
fn all_are_asked_at_once() {
    needs!("netns", "unshare");
    let machine = Machine::new();
    let both = Arc::new(Barrier::new(2));
    for name in ["one", "two"] {
        let listener = UnixListener::bind(machine.path(&format!("run/wireguard/{name}.sock"))).unwrap();
        let both = Arc::clone(&both);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, both) = (connection.unwrap(), Arc::clone(&both));
                thread::spawn(move || {
                    let mut line = String::new();
                    let mut reader = BufReader::new(&connection);
                    // Who only wants to know whether it is served asks nothing.
                    if reader.read_line(&mut line).is_ok_and(|len| len > 0) {
                        both.wait();
                        (&connection).write_all(b"listen_port=7\nerrno=0\n\n").unwrap();
                    }
                });
            }
        });
    }
    for (args, expected) in
        [("show all listen-port", "one\t7\ntwo\t7\n"), ("show --json all listen-port", "7")]
    {
        let output = machine.cmd(&format!("OURS {args}")).limit(seconds(60)).run();
        let mut lines: Vec<_> = output.stdout.split_inclusive('\n').collect();
        lines.sort_unstable();
        assert!(output.success() && lines.concat().contains(expected), "{}", output.text());
        assert_eq!(output.stderr, "");
    }
}
