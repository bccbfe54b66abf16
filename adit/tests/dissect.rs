//! A second opinion on the packets: Wireshark's dissector, and its decryption with a key log that the daemon writes
//! to the file `ADIT_KEYLOGFILE` names.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::{adit, against_each_peer};
use lab::pair::CABLE;
use lab::probe::Capture;
use lab::wg::genpsk;
use lab::{Cmd, Netns, Outer, Pair, Program, needs, seconds, within};

against_each_peer! { dissects_as_wireguard, decrypts_with_the_key_log }

/// `tshark` on a capture: one line for each packet that matches `filter`, the fields separated by tabs.
fn tshark(pcap: &Path, keys: Option<&Path>, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut line = format!("tshark -n -r {} -T fields", pcap.display());
    if let Some(keys) = keys {
        line += &format!(" -o wg.keylog_file:{}", keys.display());
    }
    for field in fields {
        line += &format!(" -e {field}");
    }
    // Wireshark knows UDP port 51820 and, without a port it knows, the shape of the first packets.
    let text = Cmd::new(&line).arg("-Y").arg(filter).limit(seconds(60)).ok();
    text.lines().map(str::to_owned).collect()
}

fn dissects_as_wireguard(peer: &Program) {
    needs!("tshark");
    let pair = Pair::new(&adit(), peer);
    let mut capture = Capture::start(&pair.a.ns, CABLE, "dissect", "udp");
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    // A keepalive, which has no content, is a type of its own to the reader.
    pair.a.set_peer(&pair.b, "persistent-keepalive 1");
    assert!(within(seconds(4), || pair.a.peer(&pair.b).tx % 128 != 148 % 128));
    let pcap = capture.stop();
    let types = tshark(pcap, None, "wg", &["wg.type", "wg.reserved", "udp.length"]);
    assert!(types.len() >= 6, "{types:?}");
    assert_eq!(types[..2], ["1\t000000\t156", "2\t000000\t100"], "a handshake comes first");
    assert!(types[2..].iter().all(|t| t.starts_with("4\t000000")), "{types:?}");
    assert!(tshark(pcap, None, "wg && _ws.malformed", &["frame.number"]).is_empty());
    assert!(!tshark(pcap, None, "wg.keepalive", &["frame.number"]).is_empty());
    let counters = tshark(pcap, None, "wg.type == 4 && ip.src == 10.77.0.1", &["wg.counter"]);
    let expected = (0..counters.len()).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(counters, expected, "counters start at zero and leave out none");
}

/// The file of secrets, removed when dropped.
struct KeyLog(PathBuf);

impl Drop for KeyLog {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn decrypts_with_the_key_log(peer: &Program) {
    needs!("tshark");
    let log = KeyLog(std::env::temp_dir().join(format!("{}.keys", lab::netns::interface_name())));
    let keys = &log.0;
    for preshared in [false, true] {
        let _ = std::fs::remove_file(keys);
        let pair = Pair::with_env(&adit(), peer, &[("ADIT_KEYLOGFILE", keys.to_str().unwrap())]);
        if preshared {
            let psk = genpsk();
            pair.a.engine.set_preshared_key(&pair.b.keys.public, &psk);
            pair.b.engine.set_preshared_key(&pair.a.keys.public, &psk);
        }
        // Once as the initiator, once as the responder.
        for initiator_is_a in [true, false] {
            let mut capture = Capture::start(&pair.a.ns, CABLE, "decrypt", "udp");
            if initiator_is_a {
                pair.a_knows_b(Outer::V4);
                pair.a.reaches(&pair.b);
            } else {
                greet_again(&pair);
            }
            let pcap = capture.stop();
            let inner = tshark(pcap, Some(keys), "wg && icmp", &["icmp.type"]);
            assert!(inner.contains(&"8".into()) && inner.contains(&"0".into()), "psk {preshared}: {inner:?}");
            let valid = tshark(pcap, Some(keys), "wg.handshake_ok == 1", &["wg.type"]);
            assert_eq!(valid, ["2"], "psk {preshared}: the response authenticates");
        }
    }
}

/// Secrets are not appended to what others may read; nothing runs then.
#[test]
fn a_key_log_that_others_may_read_is_refused() {
    needs!("netns", "tun");
    let log = KeyLog(std::env::temp_dir().join(format!("{}.keys", lab::netns::interface_name())));
    std::fs::write(&log.0, "before").unwrap();
    std::fs::set_permissions(&log.0, Permissions::from_mode(0o644)).unwrap();
    let (ns, interface) = (Netns::new(), lab::netns::interface_name());
    let output = ns.cmd(&adit().foreground(&interface)).env("ADIT_KEYLOGFILE", &log.0).run();
    assert!(!output.success() && !ns.has(&interface), "{}", output.text());
    let line = format!("{} cannot be written: others may read it; give it mode 0600", log.0.display());
    assert!(output.stderr.contains(&line), "{}", output.text());
    assert_eq!(std::fs::read_to_string(&log.0).unwrap(), "before");
}

/// Makes `b` forget its session and start a new one.
fn greet_again(pair: &Pair) {
    let (interface, address) = (pair.b.interface(), pair.a.inner4());
    let psk = pair.b.peer(&pair.a).preshared_key;
    pair.b.engine.set(&format!("peer {} remove", pair.a.keys.public));
    let endpoint = pair.a.endpoint(Outer::V4);
    pair.b
        .set_peer(&pair.a, &format!("endpoint {endpoint} allowed-ips {address}/32,{}/128", pair.a.inner6()));
    if let Some(psk) = psk {
        pair.b.engine.set_preshared_key(&pair.a.keys.public, &psk);
    }
    assert!(pair.b.ns.reaches(&address, seconds(30)), "{interface} does not reach {address}");
}
