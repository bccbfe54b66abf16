//! The man pages as the programs that show them see them, and what is told of a wrong command line.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::common::adit;
use lab::netns::interface_name;
use lab::{Cmd, Netns, needs};

/// What `adit generate` writes.
struct Generated(PathBuf);

impl Generated {
    fn new(test: &str) -> Generated {
        let directory = std::env::temp_dir().join(format!("adit-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        generate(&directory);
        Generated(directory)
    }

    fn pages(&self) -> Vec<PathBuf> {
        let mut pages: Vec<_> =
            fs::read_dir(self.0.join("man")).unwrap().map(|page| page.unwrap().path()).collect();
        pages.sort_unstable();
        pages
    }
}

impl Drop for Generated {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn generate(directory: &Path) {
    Cmd::new(&format!("{} generate", adit().0.display()))
        .arg(directory)
        .env("SOURCE_DATE_EPOCH", "1767225600")
        .ok();
}

#[test]
fn pages_have_no_faults() {
    needs!("man", "groff", "mandoc");
    let generated = Generated::new("pages");
    let pages = generated.pages();
    let names: Vec<_> = pages.iter().map(|page| page.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["adit-wg-quick.8", "adit-wg.8", "adit.8"]);
    for page in &pages {
        for check in [
            "man --warnings -E UTF-8 -l -Tutf8 -Z",
            "groff -ww -man -Tutf8 -K utf8 -Z",
            "mandoc -T lint -W warning",
        ] {
            let output = Cmd::new(check).arg(page).env("LC_ALL", "C.UTF-8").run();
            let said = if check.starts_with("mandoc") { output.text() } else { output.stderr.clone() };
            assert!(output.success() && said.is_empty(), "{check} {}: {said}", page.display());
        }
    }
}

#[test]
fn pages_read_well() {
    needs!("man");
    let generated = Generated::new("read");
    let read = |name: &str| {
        let page = generated.0.join("man").join(name);
        Cmd::new("man -l")
            .arg(page)
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8")
            .env("MAN_KEEP_FORMATTING", "")
            .ok()
    };
    let adit = read("adit.8");
    for text in [
        "\nNAME\n       adit - a userspace WireGuard",
        "       adit [OPTIONS] INTERFACE\n",
        "       up [--dry-run] [--engine ENGINE] ",
        "\nEXIT STATUS\n",
        "ADIT(8)",
        "2026-01-01",
    ] {
        assert!(adit.contains(text), "{text:?} is not in\n{adit}");
    }
    assert!(read("adit-wg.8").contains("\nNAME\n       adit-wg, wg - "));
    assert!(read("adit-wg-quick.8").contains("\nNAME\n       adit-wg-quick, wg-quick - "));
}

#[test]
fn the_same_source_makes_the_same_files() {
    let (one, other) = (Generated::new("one"), Generated::new("other"));
    Cmd::new("diff -r").arg(&one.0).arg(&other.0).ok();
}

/// Who asks gets it on standard output and by whatever name; each subcommand has it.
#[test]
fn help() {
    let program = adit().0;
    let run = |args: &str| Cmd::new(&format!("{} {args}", program.display())).run();
    let overview = run("--help").stdout;
    for text in
        ["\nTunnels up and down:\n  up ", "\nLooking:\n  show ", "\nEnvironment:\n", "\nExit status:\n"]
    {
        assert!(overview.contains(text), "{text:?} is not in\n{overview}");
    }
    assert!(overview.lines().all(|line| line.chars().count() <= 130), "{overview}");
    for subcommand in ["up", "show", "set", "syncconf", "status", "demo", "completions"] {
        for asked in [format!("{subcommand} --help"), format!("help {subcommand}")] {
            let output = run(&asked);
            let usage = format!("Usage: adit {subcommand}");
            assert!(output.success() && output.stdout.contains(&usage), "{asked}: {}", output.text());
        }
    }
}

#[test]
fn mistakes_take_one_line() {
    let program = adit().0;
    for (args, expected) in [
        ("--bogus", "adit: unexpected argument '--bogus' found; see adit --help\n"),
        ("--foregroun wg0", "adit: unexpected argument '--foregroun' found; did you mean `--foreground'?\n"),
        ("statsu --json", "adit: there is no command `statsu'; did you mean `status'?"),
        ("version", "adit: there is no command `version'; did you mean `--version'?"),
        ("frobnicate wg0", "adit: there is no command `frobnicate'; see adit --help\n"),
        ("demo --jsno", "adit: unexpected argument '--jsno' found; did you mean `--json'?\n"),
        ("up", "adit: the following required arguments were not provided: <NAME|FILE>; see adit up --help\n"),
        ("up --engine kernl wg0", "adit: invalid value 'kernl' for '--engine <ENGINE>'"),
        ("--workers 0 wg0", "adit: invalid value '0' for '--workers <N>': a number from 1 to 16 is needed"),
    ] {
        let output = Cmd::new(&format!("{} {args}", program.display())).run();
        assert_eq!((output.code(), &*output.stdout), (2, ""), "{args}: {}", output.text());
        assert!(output.stderr.starts_with(expected), "{args}: {}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
}

/// What is nearly a subcommand creates no interface, unless that is asked for, or a program asks for it.
#[test]
fn a_misspelt_subcommand_is_no_interface() {
    needs!("netns", "tun");
    let ns = Netns::new();
    let program = adit().0;
    let output = ns.run(&format!("{} shwo", program.display()));
    assert_eq!(output.code(), 2);
    assert_eq!(
        output.stderr,
        "adit: there is no command `shwo'; did you mean `show'? To create an interface of that name: adit -- shwo\n"
    );
    assert!(!ns.has("shwo"));
    // Sockets are of all namespaces, so nobody else's test may have that name.
    let name = interface_name();
    let link = std::env::temp_dir().join(format!("wireguard-go-{name}"));
    let _ = fs::remove_file(&link);
    symlink(&program, &link).unwrap();
    let program = program.display();
    for (number, start) in [
        format!("{program} -- shwo"),
        format!("env WG_QUICK_USERSPACE_IMPLEMENTATION=adit {program} shwo"),
        format!("{} shwo", link.display()),
        format!("{program} {name}"),
    ]
    .iter()
    .enumerate()
    {
        let interface = if number == 3 { &name } else { "shwo" };
        ns.ok(start);
        assert!(ns.has(interface), "{start}");
        ns.ip(&format!("link del {interface}"));
        lab::within(lab::seconds(20), || !lab::engine::socket(interface).exists());
    }
    fs::remove_file(&link).unwrap();
}
