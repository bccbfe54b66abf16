//! `adit check`: what it says of files, what it exits with, and that it agrees with `adit up`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::common::adit;
use lab::wg::Keypair;
use lab::{Cmd, Output, needs};
use serde_json::Value;

/// A directory that goes when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("adit-check-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Directory(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(args: &str, path: &Path) -> Output {
    Cmd::new(&format!("{} {args}", adit().0.display())).arg(path).run()
}

fn content(keys: &Keypair) -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.0.0.1/24\nListenPort = 5555\n[Peer]\nPublicKey = {}\n\
        PresharedKey = {}\nAllowedIPs = 10.0.0.2/32\n",
        keys.private,
        Keypair::generate().public,
        lab::wg::genpsk()
    )
}

/// A command is not hidden by what a terminal makes of it, neither in words nor where it would be run.
#[test]
fn nothing_moves_the_cursor() {
    needs!("wg");
    let directory = Directory::new("cursor");
    let hook = "PostUp = evil # \u{1b}[1A\u{1b}[2K\rPostUp = fine \u{202e}";
    let text = content(&Keypair::generate()).replace("ListenPort", &format!("{hook}\nListenPort"));
    let path = directory.write("wg0.conf", &text);
    for args in ["check", "up --dry-run"] {
        let output = run(args, &path);
        assert!(output.success() && output.stdout.contains("evil"), "{args}: {}", output.text());
        let is_harmful = |char: char| char == '\u{202e}' || char.is_control() && char != '\n';
        assert!(!output.stdout.contains(is_harmful), "{args}: {:?}", output.stdout);
    }
}

#[test]
fn a_file_in_words_and_as_json() {
    needs!("wg");
    let directory = Directory::new("words");
    let keys = Keypair::generate();
    let path = directory.write("wg0.conf", &content(&keys));
    let output = run("check --strict", &path);
    assert!(output.success() && output.stdout.ends_with("wg0.conf: fine\n"), "{}", output.text());
    assert!(output.stdout.contains(&format!("public key is {}.", keys.public)), "{}", output.text());
    assert!(!output.stdout.contains(&keys.private));

    let path = directory.write("wg1.conf", &content(&keys).replace("2/32", "2/24"));
    assert!(run("check", &path).success());
    assert_eq!(run("check --strict", &path).code(), 1);
    let output = run("check --json", &path);
    assert!(!output.stdout.contains(&keys.private));
    let json: Value = serde_json::from_str(&output.stdout).unwrap();
    let file = &json[0];
    assert_eq!(
        (&file["interface"], &file["errors"], &file["warnings"]),
        (&"wg1".into(), &0.into(), &1.into())
    );
    let finding = &file["findings"][0];
    let place = (&finding["code"], &finding["line"], &finding["column"]);
    assert_eq!(place, (&"host-bits".into(), &8.into(), &14.into()));
    let configuration = &file["configuration"];
    assert_eq!(configuration["public_key"], keys.public);
    assert_eq!(configuration["peers"][0]["allowed_ips"], Value::from(vec!["10.0.0.0/24"]));
    assert_eq!(configuration["peers"][0]["preshared_key"], true);
}

#[test]
fn who_may_read_and_change_a_file() {
    needs!("wg");
    let directory = Directory::new("access");
    let path = directory.write("wg0.conf", &content(&Keypair::generate()));
    let codes = |path: &Path| -> Vec<String> {
        let json: Value = serde_json::from_str(&run("check --json", path).stdout).unwrap();
        let findings = json[0]["findings"].as_array().unwrap();
        findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
    };
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!(codes(&path), [""; 0]);
    // Nobody but root is in root's group.
    let group = |group| [&path, &directory.0].iter().all(|path| chown(path, None, Some(group)).is_ok());
    if group(0) {
        mode(&directory.0, 0o770);
        mode(&path, 0o660);
        assert_eq!(codes(&path), [""; 0]);
        assert!(group(12345));
    }
    for (bits, expected) in
        [(0o640, "readable"), (0o604, "readable"), (0o620, "writable"), (0o666, "writable")]
    {
        mode(&path, bits);
        mode(&directory.0, 0o755);
        assert_eq!(codes(&path), [expected], "{bits:o}");
        // Others cannot get to it.
        mode(&directory.0, 0o700);
        assert_eq!(codes(&path), [""; 0], "{bits:o}");
    }
    mode(&path, 0o600);
    mode(&directory.0, 0o770);
    assert_eq!(codes(&path), ["writable"]);
    mode(&directory.0, 0o1777);
    assert_eq!(codes(&path), [""; 0]);
    if chown(&path, Some(12345), None).is_ok() {
        assert_eq!(codes(&path), ["owner"]);
    }
    assert_eq!(codes(&directory.write("no interface.conf", &content(&Keypair::generate()))), ["file-name"]);
    let missing = run("check", &directory.0.join("missing.conf"));
    assert_eq!(missing.code(), 1);
    assert!(missing.stdout.contains("No such file or directory [unreadable]"), "{}", missing.text());
}

/// What does not come up has errors, and what comes up has none.
#[test]
fn it_agrees_with_up() {
    needs!("netns", "wg");
    let directory = Directory::new("agrees");
    let good = content(&Keypair::generate());
    for (number, (from, to)) in [
        ("", ""),
        ("24", "33"),
        ("5555", "65536"),
        ("[Interface]", "[Interfaces]"),
        ("[Peer]\n", "[Peer]\n[Peer]\n"),
        ("AllowedIPs =", "AllowedIPs"),
        ("10.0.0.2/32", ""),
        ("PublicKey = ", "PublicKey = x"),
        ("Address", "MTU = big\nAddress"),
        ("Address", "SaveConfig = maybe\nAddress"),
        ("Address", "Table = none\nAddress"),
        ("Address", "Nothing = 1\nAddress"),
        ("AllowedIPs", "Endpoint = 192.0.2.1\nAllowedIPs"),
        ("AllowedIPs", "PersistentKeepalive = 1m\nAllowedIPs"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = directory.write(&format!("no-{number}.conf"), &good.replacen(from, to, 1));
        let (check, up) = (run("check", &path), run("up --dry-run", &path));
        assert_eq!(check.code(), up.code(), "{from} {to}: {}{}", check.text(), up.text());
    }
}
