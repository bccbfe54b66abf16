//! The Debian package, installed, used and purged in a small Debian; and the units in it.
//!
//! `packaging/build` makes it.

use std::fs;
use std::path::{Path, PathBuf};

use lab::{Cmd, Debian, needs, skip};

/// Links where `wg` is adit, each with what it leads to.
const LINKS: [(&str, &str); 8] = [
    ("/usr/bin/wg", "/usr/bin/adit"),
    ("/usr/bin/wg-quick", "/usr/bin/adit"),
    ("/usr/share/man/man8/wg.8.gz", "/usr/share/man/man8/adit-wg.8.gz"),
    ("/usr/share/man/man8/wg-quick.8.gz", "/usr/share/man/man8/adit-wg-quick.8.gz"),
    ("/usr/share/bash-completion/completions/wg", "/usr/share/adit/completions/bash/adit-wg"),
    ("/usr/share/bash-completion/completions/wg-quick", "/usr/share/adit/completions/bash/adit-wg-quick"),
    ("/usr/share/zsh/vendor-completions/_adit-wg", "/usr/share/adit/completions/zsh/_adit-wg"),
    ("/usr/share/fish/vendor_completions.d/wg.fish", "/usr/share/adit/completions/fish/adit-wg.fish"),
];

/// How exposed `systemd-analyze security` may find each unit, in tenths.
const EXPOSURE: [(&str, u32); 3] =
    [("adit@.service", 24), ("adit-metrics.service", 19), ("adit-reload@.service", 15)];

/// The repository.
fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A Debian, and the package to install.
fn debian() -> Option<(Debian, PathBuf)> {
    if lab::require(lab::debian::NEEDS).is_err() {
        return None;
    }
    let files = fs::read_dir(top().join("target/debian")).into_iter().flatten().flatten();
    let mut files = files.map(|entry| entry.path());
    let Some(package) = files.find(|path| path.extension().is_some_and(|extension| extension == "deb"))
    else {
        skip("no package: packaging/build makes it");
        return None;
    };
    Some((Debian::new().ok()?, package))
}

/// All files but those that every package changes.
fn files(debian: &Debian) -> String {
    debian.ok("find / -xdev \\( -path /var/cache/man -o -path /var/lib/dpkg -o -path /var/log -o -path /tmp \
         -o -path /var/lib/systemd -o -path /var/cache/ldconfig -o -path /run \\) -prune -o -print | sort")
}

#[track_caller]
fn assert_links_are_ours(debian: &Debian) {
    for (link, target) in LINKS {
        assert_eq!(debian.ok(&format!("readlink -e {link}")).trim(), target, "{link}");
    }
    assert!(debian.ok("wg --version").contains("by adit"));
}

#[track_caller]
fn assert_links_are_theirs(debian: &Debian) {
    for file in ["/usr/bin/wg", "/usr/bin/wg-quick", "/usr/share/man/man8/wg.8.gz"] {
        debian
            .ok(&format!("test -f {file} && ! test -L {file} && dpkg -S {file} | grep -q ^wireguard-tools:"));
    }
    assert!(!debian.ok("wg --version").contains("adit"));
    debian.ok("dpkg --verify wireguard-tools");
}

#[test]
fn it_is_installed_used_and_purged() {
    let Some((debian, package)) = debian() else { return };
    let before = files(&debian);
    debian.install(&package);
    assert!(debian.ok("adit --version").starts_with("adit "));
    assert_links_are_ours(&debian);
    for page in ["adit", "adit-wg", "adit-wg-quick", "wg", "wg-quick"] {
        debian.ok(&format!("man -w {page} && man --warnings {page} >/dev/null"));
    }
    for file in [
        "bash-completion/completions/adit",
        "zsh/vendor-completions/_adit",
        "fish/vendor_completions.d/adit.fish",
        "doc/adit/copyright",
        "doc/adit/changelog.Debian.gz",
    ] {
        debian.ok(&format!("test -s /usr/share/{file}"));
    }
    debian.ok("systemd-analyze verify adit@wg0.service adit@wg0.path adit-reload@wg0.service adit-metrics.service 2>&1");

    // It works, goes on while a new version comes, and is what the file says.
    let key = debian.ok("adit genkey");
    let conf = format!(
        "[Interface]\nPrivateKey = {key}Address = 10.7.0.1/24\n[Peer]\nPublicKey = {key}AllowedIPs = 0.0.0.0/0\n"
    );
    debian.write("etc/wireguard/wg0.conf", conf, 0o600);
    debian.ok("adit up wg0 && wg show wg0 && ip -4 rule | grep suppress_prefixlength && ip address show wg0 | grep 10.7.0.1");
    debian.install(&package);
    assert_links_are_ours(&debian);
    debian.ok("wg show wg0 && wg-quick down wg0 && ! ip link show wg0");

    // As if somebody had enabled units.
    debian.ok("cd /etc/systemd/system && mkdir -p multi-user.target.wants adit@wg0.service.wants \
         && ln -s /usr/lib/systemd/system/adit@.service multi-user.target.wants/adit@wg0.service \
         && ln -s /usr/lib/systemd/system/adit@.path adit@wg0.service.wants/adit@wg0.path");
    debian.ok("dpkg --remove adit 2>&1 && ! command -v wg && ! command -v adit && dpkg --purge adit 2>&1");
    assert_eq!(debian.ok("cd /etc/wireguard && ls"), "wg0.conf\n");
    debian.ok(
        "rm -r /etc/wireguard; rmdir --ignore-fail-on-non-empty /etc/systemd/system/multi-user.target.wants",
    );
    assert_same(&before, &files(&debian));
}

/// Whichever comes first, and whichever goes first.
#[test]
fn it_stands_beside_wireguard_tools() {
    let Some((debian, package)) = debian() else { return };
    let tools = Debian::wireguard_tools();
    let before = files(&debian);
    debian.install(&package);
    let said = debian.install(&tools);
    assert!(!said.contains("warning"), "{said}");
    assert_links_are_theirs(&debian);
    debian.ok("dpkg --purge wireguard-tools 2>&1");
    assert_links_are_ours(&debian);
    debian.install(&tools);
    debian.ok("dpkg --purge adit 2>&1");
    assert_links_are_theirs(&debian);
    let said = debian.install(&package);
    assert!(!said.contains("warning"), "{said}");
    assert_links_are_theirs(&debian);
    debian.install(&package);
    assert_links_are_theirs(&debian);
    debian.ok("dpkg --purge wireguard-tools 2>&1");
    assert_links_are_ours(&debian);
    debian.ok("dpkg --purge adit 2>&1");
    assert_same(&before, &files(&debian));
}

/// Somebody's own `wg` is not touched either.
#[test]
fn a_program_of_that_name_stays() {
    let Some((debian, package)) = debian() else { return };
    debian.write("usr/bin/wg", "#!/bin/sh\necho mine\n", 0o755);
    debian.install(&package);
    assert_eq!(debian.ok("wg"), "mine\n");
    assert_eq!(debian.ok("readlink -e /usr/bin/wg-quick"), "/usr/bin/adit\n");
    debian.ok("dpkg --purge adit 2>&1");
    assert_eq!(debian.ok("wg"), "mine\n");
}

const CONF: &str = "[Interface]\nAddress = 10.7.0.1/24\n\
    PostUp = echo up >> /run/wireguard/hook\nPostUp = ! touch /etc/hook 2>/dev/null\n";
const PEER: &str =
    "[Peer]\nPublicKey = O/KPIQT6MI4Q1fmNEVZGKjlUlhXKJFNb+Jr2hTy1Ngs=\nAllowedIPs = 0.0.0.0/0\n";

const ASK_METRICS: &str = r#"perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new("/run/adit/metrics.sock") or die $!; print $s "GET /metrics HTTP/1.1\r\n\r\n"; print <$s>'"#;

/// With systemd, in the virtual machine: nothing else shows that the sandbox leaves what is needed.
#[test]
#[ignore = "a minute or two until Debian has booted without hardware acceleration"]
fn services() {
    if lab::require(lab::vm::NEEDS).is_err() || lab::require(&["mkfs.ext4"]).is_err() {
        return;
    }
    let Some((debian, package)) = debian() else { return };
    debian.install(&package);
    let key = debian.ok("adit genkey");
    let conf = |rest: &str| format!("{CONF}PrivateKey = {key}{PEER}{rest}");
    debian.write("etc/wireguard/wg0.conf", conf(""), 0o600);
    debian.write(
        "root/changed.conf",
        conf("[Peer]\nPublicKey = 3T9mCmb/R5DEk3lhGHHnWfBkIQ0yzbFUfKh+UrEkJH4=\n"),
        0o600,
    );
    let vm = match lab::Vm::boot_debian(&debian) {
        Ok(vm) => vm,
        Err(reason) => {
            skip(&format!("no virtual machine: {reason}"));
            return;
        }
    };

    // Metrics are there before anything else, and end last.
    vm.ok("systemctl start adit-metrics || { journalctl -u adit-metrics; false; }");

    // It comes up: full tunnel, rules of nftables, a setting in /proc/sys, a command of the user's.
    vm.ok("systemctl start adit@wg0 || { journalctl -u adit@wg0; false; }");
    vm.ok("wg show wg0 peers | grep O/KPIQ && ip rule | grep suppress && nft list ruleset | grep wg0");
    assert_eq!(vm.ok("cat /run/wireguard/hook /proc/sys/net/ipv4/conf/all/src_valid_mark"), "up\n1\n");
    // CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_BROADCAST and CAP_BPF, no new privileges, filtered system calls; and with
    // CAP_BPF every flow has its queue.
    let status = vm.ok("cat /proc/$(systemctl show -P MainPID adit@wg0)/status");
    for line in ["CapBnd:\t0000008000001c00", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{status}");
    }
    assert!(vm.ok("adit status wg0").contains("queues: 4"));
    let metrics = vm.ok(ASK_METRICS);
    assert!(metrics.contains("wireguard_interface_answered{interface=\"wg0\"} 1"), "{metrics}");
    if vm.run("ip link add wg9 type wireguard").0 == 0 {
        let metrics = vm.ok(ASK_METRICS);
        assert!(metrics.contains("interface=\"wg9\",engine=\"kernel\""), "{metrics}");
        vm.ok("ip link delete wg9");
    }

    // What somebody has brought up by hand is not the service's to take down.
    vm.ok("systemctl stop adit@wg0; cd /etc/wireguard && (umask 077; grep -v -e Post -e Pre wg0.conf >wg3.conf) && adit up wg3");
    vm.ok("! systemctl start adit@wg3; systemctl stop adit@wg3; wg show wg3 peers | grep O/KPIQ");
    vm.ok("adit down wg3 && systemctl start adit@wg0");

    // Whatever dies, nothing stays, and it starts again.
    vm.ok("kill -KILL $(cat /proc/$(systemctl show -P MainPID adit@wg0)/task/*/children)");
    vm.ok("until systemctl show -P NRestarts adit@wg0 | grep -x 1 && systemctl is-active adit@wg0; do sleep 1; done");
    vm.ok("systemctl kill --signal=KILL adit@wg0");
    vm.ok("until systemctl show -P NRestarts adit@wg0 | grep -x 2 && systemctl is-active adit@wg0; do sleep 1; done");

    // A changed file is applied, to the same engine.
    vm.ok("systemctl start adit@wg0.path");
    let before = vm.ok("systemctl show -P MainPID adit@wg0");
    vm.ok("cp /root/changed.conf /etc/wireguard/wg0.conf");
    vm.ok("until wg show wg0 peers | grep 3T9m; do sleep 1; done");
    assert_eq!(vm.ok("systemctl show -P MainPID adit@wg0"), before);
    vm.ok("systemctl stop adit@wg0 && ! ip link show wg0 && ! ip rule | grep suppress");
    assert_eq!(vm.ok("nft list ruleset; cat /proc/sys/net/ipv4/conf/all/src_valid_mark"), "0\n");
    vm.ok("! systemctl is-active adit@wg0.path && ! systemctl is-failed adit@wg0");

    // Nor of the sockets of those that were killed.
    assert!(!vm.ok(ASK_METRICS).contains("interface=\"wg"));
    vm.ok("systemctl stop adit-metrics && ! systemctl is-failed adit-metrics && ! test -e /run/adit");

    // The key alone as a credential, encrypted.
    vm.ok(
        "cd /etc/wireguard && sed -n 's/PrivateKey = //p' wg0.conf >/root/key && sed -i /PrivateKey/d wg0.conf \
         && systemd-creds encrypt --name=wg0.private-key /root/key key.cred && mkdir /etc/systemd/system/adit@wg0.service.d \
         && printf '[Service]\\nLoadCredentialEncrypted=wg0.private-key:/etc/wireguard/key.cred\\n' \
            >/etc/systemd/system/adit@wg0.service.d/override.conf && systemctl daemon-reload",
    );
    vm.ok("systemctl start adit@wg0 || { journalctl -u adit@wg0; false; }");
    vm.ok("test $(wg show wg0 public-key) = $(adit pubkey </root/key)");

    // A file that cannot be used is no reason to try again.
    vm.ok(
        "echo nonsense >/etc/wireguard/wg1.conf; ! systemctl start adit@wg1 && systemctl is-failed adit@wg1",
    );
    assert_eq!(vm.ok("systemctl show -P NRestarts -P ExecMainStatus adit@wg1"), "0\n78\n");

    // Removing the package takes down what it has brought up.
    vm.ok("dpkg --remove adit && ! ip link show wg0 && ! ip rule | grep suppress");
}

#[test]
fn services_are_confined() {
    needs!("systemd-analyze");
    for (unit, limit) in EXPOSURE {
        let path = top().join("packaging/systemd").join(unit);
        let line = format!("systemd-analyze security --no-pager --offline=yes --threshold={limit}");
        let output = Cmd::new(&line).arg(path).run();
        if output.stderr.contains("unrecognized option") {
            skip("systemd-analyze is older than 250");
            return;
        }
        assert!(output.success(), "{unit}: {}", output.text());
    }
}

#[track_caller]
fn assert_same(before: &str, after: &str) {
    let new: Vec<_> = after.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    let gone: Vec<_> = before.lines().filter(|line| !after.lines().any(|now| now == *line)).collect();
    assert!(new.is_empty() && gone.is_empty(), "left: {new:?}\ngone: {gone:?}");
}
