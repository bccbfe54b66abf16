//! What service managers rely on: `adit up --foreground`, readiness, credentials.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use crate::common::adit;
use crate::common::machine::{Machine, OURS, assert_same};
use lab::cmd::code;
use lab::wg::Keypair;
use lab::{Background, Cmd, Netns, needs, seconds, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const UP: &str = "OURS up --foreground wg0";

/// A machine with a full tunnel to bring up, and a service manager that listens.
struct Service {
    machine: Machine,
    socket: PathBuf,
    manager: UnixDatagram,
}

impl Service {
    fn new(conf: &str) -> Service {
        let machine = Machine::new();
        machine.configure(conf);
        let socket = machine.path("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(seconds(20))).unwrap();
        Service { machine, socket, manager }
    }

    fn cmd(&self, line: &str) -> Cmd {
        self.machine.cmd(line).env("NOTIFY_SOCKET", &self.socket)
    }

    /// Starts it, and waits until it is ready.
    #[track_caller]
    fn start(&self) -> Background {
        let up = self.cmd(UP).spawn();
        let heard = self.heard();
        assert_eq!(heard.as_deref(), Ok("READY=1\nSTATUS=wg0 is up\n"), "{}", up.log());
        up
    }

    /// What it is told next.
    fn heard(&self) -> Result<String, ErrorKind> {
        heard(&self.manager)
    }
}

/// What a service manager is told next. Signals, such as those of programs that end, are nothing.
fn heard(manager: &UnixDatagram) -> Result<String, ErrorKind> {
    let mut message = [0; 1000];
    loop {
        match manager.recv(&mut message) {
            Ok(len) => return Ok(String::from_utf8_lossy(&message[..len]).into_owned()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.kind()),
        }
    }
}

fn key() -> String {
    Keypair::generate().private
}

fn full_tunnel(more: &str) -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.0.0.1/24\nDNS = 192.0.2.1\n{more}\n\
         [Peer]\nPublicKey = {}\nEndpoint = peer.test:51820\nAllowedIPs = 0.0.0.0/0, ::/0\n",
        key(),
        Keypair::generate().public
    )
}

#[track_caller]
fn ends(up: &mut Background, expected: i32) {
    let status = up.wait(seconds(20)).unwrap_or_else(|| panic!("it goes on\n{}", up.log()));
    assert_eq!(code(status), expected, "{}", up.log());
}

#[test]
fn it_is_up_for_as_long_as_the_process_is() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let hook = "echo $NOTIFY_SOCKET >> /run/asked";
    let service = Service::new(&full_tunnel(&format!("PostUp = {hook}\nPreDown = {hook}")));
    let before = service.machine.state();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut up = service.start();
        assert!(service.machine.ok("wg show wg0").stdout.contains("fwmark"));
        up.signal(signal);
        assert_eq!(service.heard().as_deref(), Ok("STOPPING=1\n"));
        ends(&mut up, 0);
        // Nobody but the service speaks for it.
        assert_eq!(fs::read_to_string(service.machine.path("run/asked")).unwrap(), "\n\n");
        fs::remove_file(service.machine.path("run/asked")).unwrap();
        assert_same(&before, &service.machine.state(), "as before");
    }
}

/// A changed file is applied, by whoever sends the signal that services know for that.
#[test]
fn it_is_reloaded() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let service = Service::new(&full_tunnel(""));
    let before = service.machine.state();
    let mut up = service.start();
    let conf = fs::read_to_string(service.machine.path("etc/wireguard/wg0.conf")).unwrap();
    let public = Keypair::generate().public;
    service.machine.configure(&format!("{conf}[Peer]\nPublicKey = {public}\nAllowedIPs = 10.3.0.0/16\n"));
    up.signal(Signal::SIGHUP);
    let heard = service.heard().unwrap();
    assert!(heard.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard}");
    assert_eq!(service.heard().as_deref(), Ok("READY=1\nSTATUS=wg0 is up\n"), "{}", up.log());
    assert!(service.machine.ok("wg show wg0 peers").stdout.contains(&public), "{}", up.log());
    // One that cannot be used changes nothing.
    service.machine.configure("nonsense\n");
    up.signal(Signal::SIGHUP);
    assert!(service.heard().unwrap().starts_with("RELOADING=1"));
    assert_eq!(service.heard().as_deref(), Ok("READY=1\nSTATUS=wg0 is up\n"), "{}", up.log());
    assert!(service.machine.ok("wg show wg0 peers").stdout.contains(&public), "{}", up.log());
    up.signal(Signal::SIGTERM);
    assert_eq!(service.heard().as_deref(), Ok("STOPPING=1\n"));
    ends(&mut up, 0);
    assert_same(&before, &service.machine.state(), "as before");
}

/// Who asks for it too early is not forgotten, and ends nothing.
#[test]
fn it_is_reloaded_once_it_is_up() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let waits = "PostUp = touch /run/asked; until [ -e /run/go ]; do sleep 0.05; done";
    let service = Service::new(&full_tunnel(waits));
    let before = service.machine.state();
    let mut up = service.cmd(UP).spawn();
    assert!(within(seconds(60), || service.machine.path("run/asked").exists()), "{}", up.log());
    let conf = fs::read_to_string(service.machine.path("etc/wireguard/wg0.conf")).unwrap();
    let public = Keypair::generate().public;
    service.machine.configure(&format!("{conf}[Peer]\nPublicKey = {public}\nAllowedIPs = 10.3.0.0/16\n"));
    up.signal(Signal::SIGHUP);
    service.machine.write("run/go", "", 0o600);
    for expected in ["READY=1", "RELOADING=1", "READY=1"] {
        assert!(service.heard().is_ok_and(|heard| heard.starts_with(expected)), "{expected}: {}", up.log());
    }
    assert!(service.machine.ok("wg show wg0 peers").stdout.contains(&public), "{}", up.log());
    up.signal(Signal::SIGTERM);
    ends(&mut up, 0);
    assert_same(&before, &service.machine.state(), "as before");
}

/// Without a service manager, and with a file that has become wrong meanwhile.
#[test]
fn nobody_needs_to_wait_for_it() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let machine = Machine::new();
    machine.configure(&full_tunnel(""));
    let before = machine.state();
    let mut up = machine.cmd(UP).spawn();
    assert!(within(seconds(20), || machine.run("ip rule").stdout.contains("suppress")), "{}", up.log());
    machine.configure("[Interface]\nAddress = nonsense\n");
    up.signal(Signal::SIGTERM);
    // Bringing it up may not have been over.
    let status = up.wait(seconds(20)).map(code);
    assert!(matches!(status, Some(0 | 143)), "{status:?}\n{}", up.log());
    assert_same(&before, &machine.state(), "as before");
}

#[test]
fn the_engine_dies() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let service = Service::new(&full_tunnel(""));
    let before = service.machine.state();
    let mut up = service.start();
    let children = format!("/proc/{0}/task/{0}/children", up.pid());
    let engine = fs::read_to_string(children).unwrap().trim().parse().expect("one child, the engine");
    kill(Pid::from_raw(engine), Signal::SIGKILL).unwrap();
    ends(&mut up, 1);
    assert!(up.log().contains("the engine of `wg0' has failed: signal: 9"), "{}", up.log());
    assert_same(&before, &service.machine.state(), "as before");
}

#[test]
fn somebody_else_takes_it_down() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let service = Service::new(&full_tunnel("PostDown = echo down >> /run/asked"));
    let before = service.machine.state();
    for (command, times) in [("OURS down wg0", 1), ("ip link delete wg0", 2)] {
        let mut up = service.start();
        service.machine.ok(command);
        assert_eq!(service.heard().as_deref(), Ok("STOPPING=1\n"));
        ends(&mut up, 0);
        // Whoever takes it down runs the commands, once.
        let asked = fs::read_to_string(service.machine.path("run/asked")).unwrap();
        assert_eq!(asked.lines().count(), times, "{command}");
    }
    fs::remove_file(service.machine.path("run/asked")).unwrap();
    assert_same(&before, &service.machine.state(), "as before");
}

/// `down` stops where a command of the user's fails. A service that is to end cannot.
#[test]
fn nothing_stays_whatever_fails() {
    needs!("netns", "tun", "wg", "nft", "unshare");
    let service = Service::new(&full_tunnel("PreDown = exit 3"));
    let before = service.machine.state();
    let mut up = service.start();
    up.signal(Signal::SIGTERM);
    ends(&mut up, 3);
    assert_same(&before, &service.machine.state(), "as before");
}

/// What does not get better by starting it again has an exit code of its own.
#[test]
fn what_cannot_come_up() {
    needs!("netns", "tun", "wg", "unshare");
    let service = Service::new("[Interface]\nAddress = nonsense\n");
    let before = service.machine.state();
    assert_eq!(service.machine.run(UP).code(), 78);
    assert_eq!(service.machine.run("OURS up --foreground wg7").code(), 78);
    service.machine.configure(&full_tunnel("PostUp = exit 5"));
    let output = service.cmd(UP).run();
    assert_eq!(output.code(), 5, "{}", output.text());
    assert_same(&before, &service.machine.state(), "as before");
}

#[test]
fn an_engine_on_its_own_says_when_it_is_ready() {
    needs!("netns", "tun");
    let (ns, interface) = (Netns::new(), lab::netns::interface_name());
    let socket = std::env::temp_dir().join(format!("adit-notify-{}", ns.name()));
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(seconds(20))).unwrap();
    let mut engine = ns.cmd(&adit().foreground(&interface)).env("NOTIFY_SOCKET", &socket).spawn();
    let told = heard(&manager);
    fs::remove_file(&socket).unwrap();
    assert_eq!(told, Ok(format!("READY=1\nSTATUS=serving {interface}\n")), "{}", engine.log());
    engine.signal(Signal::SIGTERM);
    ends(&mut engine, 0);
}

/// The service manager keeps the whole file, or the key.
#[test]
fn credentials() {
    needs!("netns", "tun", "wg", "unshare");
    let Keypair { private, public } = Keypair::generate();
    let conf = |more: &str| format!("[Interface]\nListenPort = 5555\n{more}\n");
    let cases = [
        ("wg0.conf", conf(&format!("PrivateKey = {private}")), None),
        ("wg0.private-key", format!("{private}\n"), Some(conf(""))),
    ];
    for (name, content, file) in cases {
        let machine = Machine::new();
        fs::create_dir(machine.path("credentials")).unwrap();
        machine.write(&format!("credentials/{name}"), &content, 0o400);
        if let Some(file) = &file {
            machine.configure(file);
        }
        let before = machine.state();
        let cmd = |line: &str| machine.cmd(line).env("CREDENTIALS_DIRECTORY", machine.path("credentials"));
        cmd("OURS up wg0").ok();
        assert_eq!(machine.ok("wg show wg0 public-key").stdout.trim(), public);
        let saved = cmd("OURS save wg0").run();
        assert!(saved.code() == 1 && saved.stderr.contains("cannot be saved to"), "{}", saved.text());
        cmd("OURS down wg0").ok();
        assert_same(&before, &machine.state(), "as before");
        // A file that is to be written cannot be one of these, nor get the key.
        let saves = |content: &str| content.replace("[Interface]", "[Interface]\nSaveConfig = true");
        match &file {
            Some(file) => machine.configure(&saves(file)),
            None => machine.write(&format!("credentials/{name}"), &saves(&content), 0o400),
        }
        let refused = cmd("OURS up wg0").run();
        assert!(refused.code() == 1 && refused.stderr.contains("leave SaveConfig out"), "{}", refused.text());
        assert!(!format!("{}{}", saved.text(), refused.text()).contains(&private));
        assert_same(&before, &machine.state(), "as before");
    }
    // No file at all, and a key that is none.
    let machine = Machine::new();
    fs::create_dir(machine.path("credentials")).unwrap();
    machine.write("credentials/wg0.private-key", "nonsense\n", 0o400);
    machine.configure(&conf(""));
    let up = machine.cmd(&format!("{OURS} up wg0")).env("CREDENTIALS_DIRECTORY", machine.path("credentials"));
    let refused = up.run();
    assert_eq!(refused.code(), 1, "{}", refused.text());
    assert!(!machine.ns.has("wg0"));
}

/// Without a terminal, who hangs up asks for a reload. Names may take for ever, and nobody waits for them who asks to end.
#[test]
fn a_reload_that_takes_long_holds_up_nobody() {
    needs!("netns", "tun", "unshare", "nft");
    let service = Service::new(&full_tunnel(""));
    let untouched = service.machine.state();
    let up = service
        .cmd(UP)
        .env("WG_ENDPOINT_RESOLUTION_RETRIES", "infinity")
        .stdin(File::open("/dev/null").unwrap());
    let mut up = up.spawn();
    assert!(service.heard().is_ok_and(|heard| heard.starts_with("READY=1")), "{}", up.log());
    up.signal(Signal::SIGHUP);
    assert!(service.heard().is_ok_and(|heard| heard.starts_with("RELOADING=1")));
    assert!(service.heard().is_ok_and(|heard| heard.starts_with("READY=1")), "{}", up.log());
    let lost = full_tunnel("").replace("peer.test", "nowhere.test");
    service.machine.configure(&lost);
    up.signal(Signal::SIGHUP);
    assert!(service.heard().is_ok_and(|heard| heard.starts_with("RELOADING=1")));
    up.expect_log("Trying again", seconds(60));
    up.signal(Signal::SIGTERM);
    ends(&mut up, 0);
    assert_same(&untouched, &service.machine.state(), "before up, after the end");
}
