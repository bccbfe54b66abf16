//! `show --watch` on a real terminal, tmux's: what it shows, and that the terminal is as before, however it ends.

use std::env;
use std::fs;
use std::path::PathBuf;

use crate::common::adit;
use adit_net::terminal::FullScreen;
use lab::netns::interface_name;
use lab::wg::Keypair;
use lab::{Background, Cmd, Engine, Netns, Outer, Pair, needs, seconds, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A shell on a terminal, and a file.
struct Terminal {
    name: String,
}

impl Terminal {
    #[track_caller]
    fn new(width: usize, height: usize) -> Terminal {
        let terminal = Terminal { name: interface_name() };
        let session =
            format!("-f /dev/null new-session -d -x {width} -y {height} env -u NO_COLOR PS1=ready: sh");
        terminal.tmux(&session).env("TERM", "xterm-256color").ok();
        terminal.expect("ready:");
        // The screen as it was is recognized by this, and the terminal's settings are in the file.
        terminal.enter(&format!("clear; echo as before; stty -g >{}", terminal.file().display()));
        terminal.expect("as before");
        terminal
    }

    fn tmux(&self, args: &str) -> Cmd {
        Cmd::new(&format!("tmux -L {} -u {args}", self.name))
    }

    fn file(&self) -> PathBuf {
        env::temp_dir().join(format!("{}.watch", self.name))
    }

    fn key(&self, key: &str) {
        self.tmux("send-keys").arg(key).ok();
    }

    /// A line for the shell.
    fn enter(&self, line: &str) {
        self.tmux("send-keys -l").arg(line).ok();
        self.key("Enter");
    }

    /// Starts watching, by a process whose id is then known.
    fn watch(&self, before: &str, interface: &str) {
        let program = adit().0;
        let file = self.file();
        self.enter(&format!(
            "{before} sh -c 'echo $$ >{}.pid; exec {} show --watch {interface}'; echo code $?",
            file.display(),
            program.display()
        ));
    }

    fn pid(&self) -> Pid {
        let pid = fs::read_to_string(format!("{}.pid", self.file().display())).unwrap();
        Pid::from_raw(pid.trim().parse().unwrap())
    }

    fn screen(&self) -> String {
        self.tmux("capture-pane -p").ok()
    }

    /// Waits for a screen that is as it should be.
    #[track_caller]
    fn expect_screen(&self, what: &str, is_right: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let found = within(seconds(20), || {
            screen = self.screen();
            is_right(&screen)
        });
        assert!(found, "{what} is not to be seen:\n{screen}");
        screen
    }

    #[track_caller]
    fn expect(&self, text: &str) -> String {
        self.expect_screen(text, |screen| screen.contains(text))
    }

    /// The program has ended with this code, and the terminal is what it was.
    #[track_caller]
    fn expect_as_before(&self, code: u8) {
        let screen = self.expect(&format!("code {code}"));
        assert!(screen.starts_with("as before\n"), "{screen}");
        self.expect_modes_as_before();
    }

    #[track_caller]
    fn expect_modes_as_before(&self) {
        let flags = "#{alternate_on} #{cursor_flag} #{wrap_flag}";
        assert_eq!(self.tmux("display-message -p").arg(flags).ok(), "0 1 1\n");
        self.enter(&format!("stty -g | cmp - {} && echo modes as before", self.file().display()));
        self.expect("\nmodes as before");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux("kill-server").run();
        let _ = fs::remove_file(self.file());
        let _ = fs::remove_file(format!("{}.pid", self.file().display()));
    }
}

/// A tunnel in which packets go both ways.
fn busy_tunnel() -> (Pair, Background) {
    let pair = Pair::new(&adit(), &adit());
    pair.a_knows_b(Outer::V4);
    pair.a.set_peer(&pair.b, "persistent-keepalive 25");
    pair.a.reaches(&pair.b);
    let pings = pair.a.ns.spawn(&format!("ping -q -i 0.01 -s 1000 {}", pair.b.inner4()));
    (pair, pings)
}

/// The rate in the line that begins with `label`, if it is not zero.
fn rate<'a>(screen: &'a str, label: &str) -> Option<&'a str> {
    let mut words = screen.lines().find_map(|line| line.trim().strip_prefix(label))?.split_whitespace();
    let (number, unit, plot) = (words.next()?, words.next()?, words.next()?);
    let is_rate = number.parse::<f64>().is_ok_and(|number| number > 0.0) && unit.ends_with("b/s");
    (is_rate && plot.ends_with(['▅', '▆', '▇', '█'])).then_some(number)
}

#[test]
fn a_tunnel_in_use() {
    needs!("netns", "tun", "wg", "ping", "tmux");
    let (pair, _pings) = busy_tunnel();
    let terminal = Terminal::new(100, 24);
    let i = pair.a.interface();
    terminal.watch("", i);
    let screen = terminal
        .expect_screen("a rate", |screen| rate(screen, "in ").is_some() && rate(screen, "out ").is_some());
    let lines: Vec<&str> = screen.lines().collect();
    assert!(lines[0].starts_with(&format!("{i}  port 10000  1 peer  in ")), "{screen}");
    let peer = format!("  {}  {}", pair.b.keys.public, pair.b.endpoint(Outer::V4));
    assert_eq!(lines[1], peer, "{screen}");
    assert!(lines[2].ends_with(" KiB") && lines[3].ends_with(" KiB"), "{screen}");
    assert!(
        lines[4].starts_with("    handshake ") && lines[4].ends_with(" s ago, keepalive every 25 s"),
        "{screen}"
    );
    assert_eq!(lines[23], "q quits");
    assert_eq!(terminal.tmux("display-message -p").arg("#{alternate_on} #{cursor_flag}").ok(), "1 0\n");

    // Another size is taken at once, and nothing of the larger screen remains.
    terminal.tmux("resize-window -x 60 -y 12").ok();
    let screen = terminal.expect_screen("the last line", |screen| {
        screen.lines().nth(11).is_some_and(|line| line == "q quits")
    });
    let lines: Vec<&str> = screen.lines().collect();
    assert!(
        lines[1].contains('…') && lines[1].ends_with(&pair.b.endpoint(Outer::V4).to_string()),
        "{screen}"
    );
    assert!(lines[5..11].iter().all(|line| line.is_empty()), "{screen}");
    terminal.tmux("resize-window -x 120 -y 4").ok();
    terminal.expect_screen("titles", |screen| screen.starts_with("peer ") && screen.contains("…"));

    terminal.key("q");
    terminal.tmux("resize-window -x 100 -y 24").ok();
    terminal.expect_as_before(0);
}

#[test]
fn colours() {
    needs!("netns", "tun", "wg", "tmux");
    let ns = Netns::new();
    let engine = Engine::start(&adit(), &ns);
    engine.set(&format!("peer {}", Keypair::generate().public));
    let terminal = Terminal::new(80, 24);
    for (before, is_colored) in [
        ("", true),
        ("NO_COLOR=1", false),
        ("WG_COLOR_MODE=never", false),
        ("NO_COLOR=1 WG_COLOR_MODE=always", true),
    ] {
        terminal.watch(before, engine.interface());
        terminal.expect("  no endpoint");
        let escaped = terminal.tmux("capture-pane -p -e").ok();
        assert_eq!(escaped.contains("\x1b[33m"), is_colored, "{before}: {escaped:?}");
        terminal.key("q");
        terminal.expect("code 0");
        terminal.enter("clear");
        terminal.expect_screen("a cleared screen", |screen| !screen.contains("code"));
    }
}

/// Whoever ends it finds the terminal as it was.
#[test]
fn signals() {
    needs!("netns", "tun", "wg", "tmux");
    let ns = Netns::new();
    let engine = Engine::start(&adit(), &ns);
    let start = || {
        let terminal = Terminal::new(80, 24);
        terminal.watch("", engine.interface());
        terminal.expect("q quits");
        terminal
    };
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let terminal = start();
        kill(terminal.pid(), signal).unwrap();
        terminal.expect_as_before(code);
    }
    let terminal = start();
    terminal.key("C-c");
    terminal.expect_as_before(0);

    // Ctrl-Z, a look around, and back.
    let terminal = start();
    terminal.key("C-z");
    let screen = terminal.expect("code 147");
    assert!(screen.starts_with("as before\n"), "{screen}");
    terminal.expect_modes_as_before();
    terminal.enter("fg");
    terminal.expect("q quits");

    // Who is stopped by others cannot give the terminal back, but finds it as it needs it.
    kill(terminal.pid(), Signal::SIGSTOP).unwrap();
    terminal.expect_screen("the shell", |screen| screen.contains("Stopped"));
    // This shell takes the terminal as it is, where Enter is no end of a line.
    terminal.tmux("send-keys -l fg").ok();
    terminal.key("C-j");
    terminal
        .expect_screen("a new screen", |screen| screen.contains("q quits") && !screen.contains("Stopped"));
    terminal.key("q");
    terminal.expect("\nmodes as before");
    terminal.expect_modes_as_before();
}

#[test]
fn it_goes_and_comes_back() {
    needs!("netns", "tun", "wg", "tmux");
    let (ns, i) = (Netns::new(), interface_name());
    let start = || Engine::adopt(i.clone(), ns.cmd(&adit().foreground(&i)));
    let terminal = Terminal::new(100, 24);
    terminal.watch("", &i);
    terminal.expect(&format!("{i}  not to be seen for "));
    let engine = start();
    terminal.expect(&format!("{i}  0 peers"));
    let key = Keypair::generate().public;
    engine.set(&format!("peer {key}"));
    terminal.expect(&key);
    drop(engine);
    let screen = terminal.expect(&format!("{i}  not to be seen for "));
    assert!(!screen.contains(&key) && screen.contains(", waiting for it: "), "{screen}");
    let mut engine = start();
    terminal.expect(&format!("{i}  0 peers"));

    // One that is there and says nothing: an engine that is stopped.
    engine.signal(Signal::SIGSTOP);
    terminal.expect(&format!("{i}  no answer for "));
    terminal.key("q");
    // It does not wait for who does not answer.
    terminal.expect_as_before(0);
    engine.signal(Signal::SIGCONT);
}

const PANIC: &str = "ADIT_TEST_PANIC";

/// The program's release profile runs no destructors then; only the hook does.
#[test]
fn a_panic_gives_the_terminal_back() {
    if env::var_os(PANIC).is_some() {
        let screen = FullScreen::take().unwrap();
        std::mem::forget(screen);
        panic!("at the disco");
    }
    needs!("tmux");
    let terminal = Terminal::new(100, 40);
    let this = env::current_exe().unwrap();
    let test = "watch::a_panic_gives_the_terminal_back --exact --nocapture";
    terminal.enter(&format!("{PANIC}=1 RUST_BACKTRACE=0 {} {test}; echo code $?", this.display()));
    let screen = terminal.expect("code 101");
    assert!(screen.starts_with("as before\n") && screen.contains("\nat the disco"), "{screen}");
    terminal.expect_modes_as_before();
}

#[test]
fn where_there_is_no_terminal() {
    for args in ["show --watch", "show wg0 --watch"] {
        let output = Cmd::new(&format!("{} {args}", adit().0.display())).run();
        assert_eq!((output.code(), output.stdout.as_str()), (1, ""));
        assert_eq!(output.stderr, "--watch needs a terminal; for programs, there is --json\n");
    }
    let output = Cmd::new(&format!("{} show --watch --json", adit().0.display())).run();
    assert_eq!(output.stderr, "--json prints once, and --watch goes on: choose one of them\n");
    for args in ["show --watch interfaces", "show --watch wg0 dump"] {
        let output = Cmd::new(&format!("{} {args}", adit().0.display())).run();
        assert!(output.code() == 1 && output.stderr.starts_with("Usage: adit show {"), "{}", output.stderr);
    }
}
