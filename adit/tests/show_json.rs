//! `show --json`: real interfaces' real output against the documented schema, and against what the original prints.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::common::{FIELDS, adit, vm_alone};
use lab::wg::{Dump, Keypair, genpsk, parse_dump};
use lab::{Cmd, Engine, Netns, Output, Program, needs};
use serde_json::{Value, json};

fn show(args: &str) -> Output {
    Cmd::new(&format!("{} show {args}", adit().0.display())).run()
}

/// Several instances, each checked by a validator that is not ours.
struct Validator {
    directory: PathBuf,
    files: Vec<PathBuf>,
}

impl Validator {
    fn new() -> Validator {
        let directory = std::env::temp_dir().join(format!("{}.json", lab::netns::interface_name()));
        fs::create_dir(&directory).unwrap();
        Validator { directory, files: Vec::new() }
    }

    fn add(&mut self, instance: &Value) {
        let file = self.directory.join(format!("{}.json", self.files.len()));
        fs::write(&file, instance.to_string()).unwrap();
        self.files.push(file);
    }

    fn run(&self) -> Output {
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/show.schema.json");
        let instances = self.files.iter().fold(Cmd::new("jsonschema"), |cmd, file| cmd.arg("-i").arg(file));
        instances.arg(schema).run()
    }
}

impl Drop for Validator {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// One JSON object on one line, and nothing else. Some devices tell peers and prefixes in another order each time; here
/// they are sorted.
#[track_caller]
fn parse(output: &Output) -> Value {
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""));
    assert_eq!(output.stdout.lines().count(), 1);
    let mut json: Value = serde_json::from_str(&output.stdout).unwrap();
    for interface in json.as_object_mut().unwrap().values_mut() {
        let Some(peers) = interface.get_mut("peers").and_then(Value::as_array_mut) else { continue };
        peers.sort_by_key(|peer| peer["public_key"].to_string());
        for prefixes in peers.iter_mut().filter_map(|peer| peer.get_mut("allowed_ips")) {
            prefixes.as_array_mut().unwrap().sort_by_key(Value::to_string);
        }
    }
    json
}

/// What the JSON says is what the original's dump says.
fn check_state(json: &Value, mut dump: Dump) {
    dump.peers.sort_by(|one, other| one.public_key.cmp(&other.public_key));
    dump.peers.iter_mut().for_each(|peer| peer.allowed_ips.sort());
    assert_eq!(json["private_key"], json!(dump.private_key));
    assert_eq!(json["has_private_key"], dump.private_key.is_some());
    assert_eq!(json["listen_port"].as_u64().unwrap_or(0), u64::from(dump.listen_port));
    assert_eq!(json["fwmark"].as_u64().unwrap_or(0), u64::from(dump.fwmark));
    let peers = json["peers"].as_array().unwrap();
    assert_eq!(peers.len(), dump.peers.len());
    for (json, peer) in peers.iter().zip(&dump.peers) {
        assert_eq!(json["public_key"], peer.public_key);
        assert_eq!(json["preshared_key"], json!(peer.preshared_key));
        assert_eq!(json["endpoint"], json!(peer.endpoint.map(|addr| addr.to_string())));
        assert_eq!(json["allowed_ips"], json!(peer.allowed_ips));
        assert_eq!(json["latest_handshake_unix_seconds"].as_u64().unwrap_or(0), peer.latest_handshake);
        assert_eq!((json["rx_bytes"].as_u64(), json["tx_bytes"].as_u64()), (Some(peer.rx), Some(peer.tx)));
        assert_eq!(json["persistent_keepalive_seconds"].as_u64().unwrap_or(0), u64::from(peer.keepalive));
    }
}

/// Every form of the command about one interface.
fn check_every_form(interface: &str, dump: Dump, validator: &mut Validator) {
    let shown = parse(&show(&format!("{interface} dump --json")));
    check_state(&shown[interface], dump);
    validator.add(&shown);
    for field in FIELDS {
        let one = parse(&show(&format!("--json {interface} {field}")));
        assert_eq!(one, parse(&show(&format!("{interface} --json {field}"))));
        for (key, value) in one[interface].as_object().unwrap() {
            if key != "peers" {
                assert_eq!(*value, shown[interface][key], "{field} {key}");
            }
        }
        for (one, all) in one[interface]["peers"].as_array().into_iter().flatten().zip(0..) {
            for (key, value) in one.as_object().unwrap() {
                assert_eq!(*value, shown[interface]["peers"][all][key], "{field} {key}");
            }
        }
        validator.add(&one);
    }
    let hidden = show(&format!("{interface} --json"));
    assert!(!hidden.stdout.contains("private_key\":\"") && !hidden.stdout.contains("preshared_key\":\""));
    validator.add(&parse(&hidden));
    let command = Cmd::new(&format!("{} show --json {interface}", adit().0.display()));
    assert_eq!(parse(&command.env("WG_HIDE_KEYS", "never").run()), shown);
}

fn of_an_engine(program: &Program) {
    let ns = Netns::new();
    let engine = Engine::start(program, &ns);
    let i = engine.interface();
    let mut validator = Validator::new();
    check_every_form(i, engine.dump(), &mut validator);
    engine.set_private_key(&Keypair::generate().private);
    engine.set("listen-port 51820 fwmark 0xca6c");
    let peer = Keypair::generate().public;
    engine.set(&format!(
        "peer {peer} endpoint [2001:db8::1]:7 persistent-keepalive 25 allowed-ips 10.0.0.0/8,fd00::/8"
    ));
    engine.set_preshared_key(&peer, &genpsk());
    engine.set(&format!("peer {}", Keypair::generate().public));
    check_every_form(i, engine.dump(), &mut validator);
    let output = validator.run();
    assert!(output.success(), "{}", output.text());
}

#[test]
fn of_adit() {
    needs!("netns", "tun", "wg", "jsonschema");
    of_an_engine(&adit());
}

#[test]
fn of_wireguard_go() {
    needs!("netns", "tun", "wg", "wireguard-go", "jsonschema");
    of_an_engine(&Program::wireguard_go());
}

/// In the virtual machine.
#[test]
fn of_the_kernel() {
    needs!("jsonschema");
    if lab::require(lab::vm::NEEDS).is_err() {
        return;
    }
    let adit = adit().0;
    let Ok(vm) = lab::Vm::shared_with(&[&adit]) else { return };
    let _alone = vm_alone(vm);
    vm.ok("ip link add one type wireguard && ip link add two type wireguard");
    vm.ok(&format!("echo {} >/private; echo {} >/psk", Keypair::generate().private, genpsk()));
    vm.ok(&format!(
        "adit set one private-key /private listen-port 5555 fwmark 0x7 peer {} preshared-key /psk \
         endpoint 192.0.2.1:5 persistent-keepalive 25 allowed-ips 10.0.0.0/8,fd00::/8 peer {}",
        Keypair::generate().public,
        Keypair::generate().public
    ));
    let mut validator = Validator::new();
    let shown = |args: &str| {
        let (code, stdout) = vm.run(&format!("adit show --json {args}"));
        parse(&Output { status: ExitStatus::from_raw(code << 8), stdout, stderr: String::new() })
    };
    let all = shown("all dump");
    assert_eq!(all.as_object().unwrap().len(), 2);
    for name in ["one", "two"] {
        check_state(&all[name], parse_dump(&vm.ok(&format!("wg show {name} dump"))));
    }
    validator.add(&all);
    for args in ["", "interfaces", "one", "all transfer", "two peers"] {
        validator.add(&shown(args));
    }
    let output = validator.run();
    assert!(output.success(), "{}", output.text());
}

/// A tunnel that was used, so that there are a handshake and traffic.
#[test]
fn of_a_tunnel_in_use() {
    needs!("netns", "tun", "wg", "ping", "jsonschema");
    let pair = lab::Pair::new(&adit(), &Program::new(adit().0));
    pair.a_knows_b(lab::Outer::V4);
    pair.a.reaches(&pair.b);
    let mut validator = Validator::new();
    let shown = parse(&show(&format!("{} --json", pair.a.interface())));
    let peer = &shown[pair.a.interface()]["peers"][0];
    assert_eq!(peer["endpoint"], pair.b.endpoint(lab::Outer::V4).to_string());
    assert!(peer["latest_handshake_unix_seconds"].as_u64().unwrap() > 1_700_000_000, "{peer}");
    assert!(peer["rx_bytes"].as_u64().unwrap() > 0 && peer["tx_bytes"].as_u64().unwrap() > 0, "{peer}");
    validator.add(&shown);
    let output = validator.run();
    assert!(output.success(), "{}", output.text());
}

/// A schema that takes anything would prove nothing.
#[test]
fn the_schema_refuses_what_is_not_so() {
    needs!("jsonschema");
    let key = "yXrvxQB2jVSt1VMB7A8OPf0sv0xVKIDbyUiSzd+C3is=";
    let full =
        json!({"public_key": key, "has_private_key": true, "listen_port": 1, "fwmark": null, "peers": []});
    let peer = |member: &str, value: Value| {
        let mut peer = json!({"public_key": key});
        peer[member] = value;
        json!({"wg0": {"peers": [peer]}})
    };
    let mut good = Validator::new();
    for instance in [json!({}), json!({"wg0": {}}), json!({"wg0": full}), json!({"wg0": {"error": "x"}})] {
        good.add(&instance);
    }
    good.add(&peer("endpoint", json!("[fe80::1%eth0]:7")));
    let output = good.run();
    assert!(output.success(), "{}", output.text());
    for instance in [
        json!([]),
        json!({"wg0": {"error": "x", "fwmark": 1}}),
        json!({"wg0": {"has_private_key": true}}),
        json!({"wg0": {"public_key": "(hidden)"}}),
        json!({"wg0": {"listen_port": 0}}),
        json!({"wg0": {"surprise": 1}}),
        json!({"wg0": {"peers": [{}]}}),
        peer("endpoint", json!("(none)")),
        peer("rx_bytes", json!(5)),
        peer("persistent_keepalive_seconds", json!("off")),
        peer("latest_handshake_unix_seconds", json!(0)),
    ] {
        let mut bad = Validator::new();
        bad.add(&instance);
        assert!(!bad.run().success(), "{instance}");
    }
}

#[test]
fn mistakes() {
    for (args, says) in [
        ("nope --json", "Unable to access interface: "),
        ("--json a b c", "Usage: adit show { <interface> | all | interfaces } ["),
        ("--json interfaces x", "Usage: adit show { <interface> | all | interfaces } ["),
        ("--json all nonsense", "Invalid parameter: `nonsense'\n"),
        ("--jsn", "Unknown option `--jsn'; see `adit show --help'\n"),
    ] {
        let output = show(args);
        assert_eq!((output.code(), output.stdout.as_str()), (1, ""), "{args}");
        assert!(output.stderr.starts_with(says), "{args}: {}", output.stderr);
    }
    let help = show("--help");
    assert!(help.success() && help.stdout.contains(" --json"), "{}", help.text());
}

/// Several interfaces, one of which is served by nobody who answers well: where no other test's are.
#[test]
fn one_of_several_does_not_answer() {
    needs!("netns", "tun", "wg", "python3", "jsonschema");
    let script = "mount -t tmpfs none /run && mkdir /run/wireguard || exit 9
        $ADIT show --json; $ADIT -f one & one=$!
        python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.bind(\"/run/wireguard/bad.sock\"); s.listen()
while True:
    c, _ = s.accept()
    try: c.sendall(b\"nonsense\\n\\n\")
    except BrokenPipeError: pass
    c.close()' & bad=$!
        for i in 1 2 3 4 5 6 7 8 9; do [ -S /run/wireguard/one.sock ] && [ -S /run/wireguard/bad.sock ] && break; sleep 0.2; done
        $ADIT show --json; echo $?
        $ADIT show >/run/page; echo $?
        kill $one; wait $one 2>/dev/null
        $ADIT show --json all peers; echo $?
        kill $bad";
    let output = Netns::new().cmd("unshare -m sh -c").arg(script).env("ADIT", adit().0).run();
    let lines: Vec<&str> = output.stdout.lines().collect();
    let [empty, both, "0", "0", alone, "1"] = lines[..] else { panic!("{}", output.text()) };
    let [empty, both, alone] = [empty, both, alone].map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(empty, json!({}));
    assert_eq!(both["one"]["peers"], json!([]));
    let error = both["bad"]["error"].as_str().unwrap();
    assert_eq!(alone, json!({"bad": {"error": error}}));
    let told = format!("Unable to access interface bad: {error}\n");
    assert_eq!(output.stderr.matches(&told).count(), 3, "{}", output.stderr);
    let mut validator = Validator::new();
    [empty, both, alone].iter().for_each(|instance| validator.add(instance));
    let output = validator.run();
    assert!(output.success(), "{}", output.text());
}
