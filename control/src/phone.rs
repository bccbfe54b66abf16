//! A file as the apps for phones take it.
//!
//! The official ones for Android and iOS refuse a file with a key that they do not know, and know neither `wg-quick`'s keys for
//! commands, routes and saving nor marks of packets. Nor do they know all spellings of values.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use crate::conf::{self, Endpoint, Mode};
use crate::quick::{self, Config};
use crate::{AllowedIpChange, PublicKey, SecretText, SetPeer, key};

/// A file for a phone.
#[derive(Debug)]
pub struct Phone {
    /// What the app reads.
    pub text: SecretText,
    /// The keys of the file that it would refuse, each once.
    pub left_out: Vec<&'static str>,
}

/// Why there can be no file for a phone.
#[derive(Debug)]
pub enum PhoneError {
    /// The file has an error.
    Wrong(conf::Error),
    /// There is no private key.
    NoKey,
    /// Two sections are about one peer.
    PeerTwice(PublicKey),
    /// A port is a name, which is not looked up.
    NamedPort(String),
}

impl fmt::Display for PhoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PhoneError::Wrong(_) => f.write_str("it has an error; see adit check"),
            PhoneError::NoKey => f.write_str("it has no PrivateKey, and phones take no file without one"),
            PhoneError::PeerTwice(peer) => {
                write!(
                    f,
                    "it has two sections about the peer {peer}, and phones take one: put all of it into one"
                )
            }
            PhoneError::NamedPort(endpoint) => {
                write!(
                    f,
                    "the port of its endpoint {endpoint} is no number, and phones take no names of ports"
                )
            }
        }
    }
}

impl std::error::Error for PhoneError {}

/// Makes of a file what phones take.
///
/// # Errors
/// When the file has an error, or phones cannot do what it says.
pub fn phone(content: &[u8], tables: impl Fn(&str) -> Option<u32>) -> Result<Phone, PhoneError> {
    let config = quick::read(content, tables).map_err(PhoneError::Wrong)?;
    let draft = conf::read(&config.rest, Mode::Whole).map_err(PhoneError::Wrong)?;
    let private_key = draft.set.private_key.as_ref().and_then(Option::as_ref).ok_or(PhoneError::NoKey)?;
    let mut text = SecretText::with_capacity(content.len() + 256);
    put(&mut text, format_args!("[Interface]\nPrivateKey = {}\n", *key::secret_to_base64(private_key)));
    if !config.addresses.is_empty() {
        let addresses =
            config.addresses.iter().map(|address| format!("{}/{}", address.ip, address.prefix_len));
        put(&mut text, format_args!("Address = {}\n", addresses.collect::<Vec<_>>().join(", ")));
    }
    if !config.dns.is_empty() || !config.search.is_empty() {
        put(&mut text, format_args!("DNS = {}\n", [&config.dns[..], &config.search].concat().join(", ")));
    }
    if let Some(mtu) = config.mtu {
        put(&mut text, format_args!("MTU = {mtu}\n"));
    }
    if let Some(port @ 1..) = draft.set.listen_port {
        put(&mut text, format_args!("ListenPort = {port}\n"));
    }
    let mut peers = HashSet::new();
    for (index, peer) in draft.set.peers.iter().enumerate() {
        if !peers.insert(peer.public_key) {
            return Err(PhoneError::PeerTwice(peer.public_key));
        }
        // The last one counts.
        let endpoint = draft.endpoints.iter().rfind(|endpoint| endpoint.peer == index);
        let endpoint = endpoint.map(|endpoint| &endpoint.endpoint);
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.port.parse::<u16>().is_err()) {
            return Err(PhoneError::NamedPort(endpoint.text.clone()));
        }
        put_peer(&mut text, peer, endpoint.map(spelt).as_deref());
    }
    let has_mark = draft.set.fwmark.is_some_and(|mark| mark != 0);
    Ok(Phone { text, left_out: left_out(&config, has_mark) })
}

/// Phones find the port behind an IPv6 address in brackets only.
fn spelt(endpoint: &Endpoint) -> String {
    let Endpoint { text, host, port } = endpoint;
    if host.contains(':') { format!("[{host}]:{port}") } else { text.clone() }
}

fn put_peer(text: &mut SecretText, peer: &SetPeer, endpoint: Option<&str>) {
    put(text, format_args!("\n[Peer]\nPublicKey = {}\n", peer.public_key));
    if let Some(preshared_key) = peer.preshared_key.as_ref().and_then(Option::as_ref) {
        put(text, format_args!("PresharedKey = {}\n", *key::secret_to_base64(preshared_key)));
    }
    let allowed_ips = peer.allowed_ips.iter().filter_map(|change| match change {
        AllowedIpChange::Add(prefix) => Some(prefix.to_string()),
        AllowedIpChange::Remove(_) => None,
    });
    let allowed_ips: Vec<String> = allowed_ips.collect();
    if !allowed_ips.is_empty() {
        put(text, format_args!("AllowedIPs = {}\n", allowed_ips.join(", ")));
    }
    if let Some(endpoint) = endpoint {
        put(text, format_args!("Endpoint = {endpoint}\n"));
    }
    if let Some(seconds @ 1..) = peer.persistent_keepalive {
        put(text, format_args!("PersistentKeepalive = {seconds}\n"));
    }
}

fn left_out(config: &Config, has_mark: bool) -> Vec<&'static str> {
    let keys = [
        ("FwMark", has_mark),
        ("Table", config.table.spelling().is_some()),
        ("PreUp", !config.pre_up.is_empty()),
        ("PostUp", !config.post_up.is_empty()),
        ("PreDown", !config.pre_down.is_empty()),
        ("PostDown", !config.post_down.is_empty()),
        ("SaveConfig", config.save),
    ];
    keys.into_iter().filter_map(|(key, is_there)| is_there.then_some(key)).collect()
}

fn put(out: &mut SecretText, text: fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "memory takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_phones_know_is_left_in_their_spelling() {
        let text = "# mine\n[interface]\nprivatekey=yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk= # secret\n\
            Address = 10.7.4.2/255.255.255.0,fd00::2\nDNS=lan 9.9.9.9\nMTU = 1400\nListenPort = 0\nTable = off\n\
            FwMark = 0x1\nPostUp = true\nPostUp = true\nSaveConfig = true\n[Peer]\n\
            PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = +10.7.4.1/24\n\
            AllowedIPs=::/0\nEndpoint = a.example:1\nEndpoint = b.example:2\nPersistentKeepalive = off\n";
        let phone = phone(text.as_bytes(), |_| None).unwrap();
        let expected = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n\
            Address = 10.7.4.2/24, fd00::2/128\nDNS = 9.9.9.9, lan\nMTU = 1400\n\n[Peer]\n\
            PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = 10.7.4.0/24, ::/0\n\
            Endpoint = b.example:2\n";
        assert_eq!(str::from_utf8(&phone.text).unwrap(), expected);
        assert_eq!(phone.left_out, ["FwMark", "Table", "PostUp", "SaveConfig"]);
    }

    #[test]
    fn brackets_where_phones_need_them() {
        let key = "PrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n";
        let peer = "[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n";
        for endpoint in ["2001:db8::1:51820", "[2001:db8::1]:51820"] {
            let text = format!("[Interface]\n{key}{peer}Endpoint = {endpoint}\n");
            let phone = phone(text.as_bytes(), |_| None).unwrap();
            assert!(str::from_utf8(&phone.text).unwrap().ends_with("\nEndpoint = [2001:db8::1]:51820\n"));
        }
    }

    #[test]
    fn what_phones_cannot_do() {
        let key = "PrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n";
        let peer =
            "[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nEndpoint = a.example:http\n";
        for (text, expected) in [
            ("[Interface]\n".to_owned(), "it has no PrivateKey"),
            (format!("[Interface]\n{key}MTU = x\n"), "it has an error"),
            (format!("[Interface]\n{key}Mtuu = 1\n"), "it has an error"),
            (
                format!("[Interface]\n{key}{0}{0}", peer.replace("http", "1")),
                "it has two sections about the peer xTIB",
            ),
            (format!("[Interface]\n{key}{peer}"), "the port of its endpoint a.example:http is no number"),
        ] {
            let error = phone(text.as_bytes(), |_| None).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
