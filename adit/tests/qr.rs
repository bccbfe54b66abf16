//! `adit qr`: what a scanner reads from the terminal, from PNG and from SVG is the file.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::common::adit;
use lab::{Cmd, Output, needs};

/// A directory that goes when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("adit-qr-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn qr(args: &str, path: &Path) -> Output {
    Cmd::new(&format!("{} qr {args}", adit().0.display())).arg(path).run()
}

/// What a scanner reads.
#[track_caller]
fn scan(picture: &Path) -> String {
    Cmd::new("zbarimg --quiet --raw -Sdisable -Sqrcode.enable").arg(picture).ok()
}

const PRIVATE_KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

/// As phones take it: nothing is to be changed.
fn file(peers: usize) -> String {
    let mut text = format!(
        "[Interface]\nPrivateKey = {PRIVATE_KEY}\nAddress = 10.7.4.2/32, fd00:7::2/128\nDNS = 9.9.9.9, lan\n\
        MTU = 1400\nListenPort = 5\n"
    );
    for number in 0..peers {
        text += &format!(
            "\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D{}=\n\
            PresharedKey = DMzOVnGR0nxLI1lgq1oFMQ6rhFiNHd5YUeIm5bRYE1I=\nAllowedIPs = 10.{id}.0.0/16, fd00:{id}::/64\n\
            Endpoint = vpn.example.org:51820\nPersistentKeepalive = 25\n",
            ["g", "k", "o", "s", "w", "0", "4", "8"][number],
            id = number + 1
        );
    }
    text
}

/// The characters of a terminal as a picture of so many pixels a module.
fn rendered(text: &str, scale: usize) -> Vec<u8> {
    let mut rows: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        // Black on white, whatever the terminal's colours.
        let line = line.strip_prefix("\x1b[38;5;16;48;5;231m").and_then(|line| line.strip_suffix("\x1b[0m"));
        let halves = line.expect("a line with its colours").chars().map(|char| match char {
            '█' => (0, 0),
            '▀' => (0, 255),
            '▄' => (255, 0),
            ' ' => (255, 255),
            other => panic!("{other:?}"),
        });
        let (upper, lower): (Vec<u8>, Vec<u8>) = halves.unzip();
        rows.extend([upper, lower]);
    }
    let (width, height) = (rows[0].len() * scale, rows.len() * scale);
    let mut picture = format!("P5 {width} {height} 255\n").into_bytes();
    for row in rows {
        let wide: Vec<u8> = row.iter().flat_map(|pixel| vec![*pixel; scale]).collect();
        picture.extend(wide.repeat(scale));
    }
    picture
}

#[test]
fn scanners_read_the_file() {
    needs!("zbarimg", "rsvg-convert");
    let directory = Directory::new("scan");
    for peers in [0, 1, 8] {
        let text = file(peers);
        let path = directory.write("phone.conf", &text);
        let shown = qr("", &path);
        assert!(shown.success(), "{}", shown.text());
        assert_eq!(
            scan(&directory.write("terminal.pgm", rendered(&shown.stdout, 5))).trim_end(),
            text.trim_end()
        );

        let [png, svg, drawn] = ["a.png", "a.svg", "drawn.png"].map(|name| directory.0.join(name));
        let options = format!("--png {} --svg {}", png.display(), svg.display());
        let written = qr(&options, &path);
        assert!(written.success() && written.text().is_empty(), "{}", written.text());
        Cmd::new(&format!("rsvg-convert -o {} {}", drawn.display(), svg.display())).ok();
        for picture in [&png, &drawn] {
            assert_eq!(scan(picture).trim_end(), text.trim_end());
        }
        for picture in [&png, &svg] {
            assert_eq!(fs::metadata(picture).unwrap().permissions().mode() & 0o777, 0o600);
            fs::remove_file(picture).unwrap();
        }
    }
}

#[test]
fn what_phones_refuse_is_left_out() {
    needs!("zbarimg");
    let directory = Directory::new("refuse");
    let more = file(1).replace("MTU", "Table = off\nPostUp = true # all\nFwMark = 7\nSaveConfig = true\nMTU");
    let shown = qr("", &directory.write("phone.conf", more));
    let told =
        "adit qr: phones take no file with FwMark, Table, PostUp, SaveConfig, so the code is without\n";
    assert_eq!(shown.stderr, told);
    let picture = directory.write("terminal.pgm", rendered(&shown.stdout, 5));
    assert_eq!(scan(&picture).trim_end(), file(1).trim_end());
}

#[test]
fn errors_are_told_and_nothing_is_overwritten() {
    let directory = Directory::new("errors");
    let path = directory.write("phone.conf", file(1).replace("= 10.1.0.0/16", "= 10.1.0.0/33"));
    let refused = qr("", &path);
    assert_eq!((refused.code(), refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("phone.conf:11:23: error: AllowedIP is not"), "{}", refused.text());
    assert!(!refused.stderr.contains(PRIVATE_KEY));

    let many: Vec<String> =
        (0..400).map(|number| format!("10.{}.{}.0/24", number / 256, number % 256)).collect();
    let path = directory.write("phone.conf", file(1).replace("10.1.0.0/16", &many.join(", ")));
    let refused = qr("", &path);
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("is too large for a QR code"), "{}", refused.text());

    let path = directory.write("phone.conf", file(1));
    let target = directory.write("target", "mine");
    let link = directory.0.join("link.png");
    symlink(&target, &link).unwrap();
    for there in [&target, &link] {
        let refused = qr(&format!("--png {}", there.display()), &path);
        assert!(refused.stderr.ends_with("is there already, and stays as it is\n"), "{}", refused.text());
    }
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 3);
}
