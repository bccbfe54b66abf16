//! Writing a file, as `wg showconf` does.

use std::fmt::{self, Write as _};

use adit_crypto::Secret;

use crate::show::{ScopeName, endpoint, prefix};
use crate::{Get, GetPeer, SecretText, key};

/// Spells a device's configuration so that `wg setconf` takes it.
#[must_use]
pub fn write_conf(get: &Get, scope_name: ScopeName) -> SecretText {
    let mut out = SecretText::with_capacity(256 + 256 * get.peers.len());
    line(&mut out, format_args!("[Interface]"));
    if get.listen_port != 0 {
        line(&mut out, format_args!("ListenPort = {}", get.listen_port));
    }
    if get.fwmark != 0 {
        line(&mut out, format_args!("FwMark = {:#x}", get.fwmark));
    }
    if let Some(private_key) = &get.private_key {
        secret(&mut out, "PrivateKey", private_key);
    }
    line(&mut out, format_args!(""));
    for (number, peer) in get.peers.iter().enumerate() {
        if number > 0 {
            line(&mut out, format_args!(""));
        }
        write_peer(&mut out, peer, scope_name);
    }
    out
}

fn write_peer(out: &mut SecretText, peer: &GetPeer, scope_name: ScopeName) {
    line(out, format_args!("[Peer]\nPublicKey = {}", peer.public_key));
    if let Some(preshared_key) = &peer.preshared_key {
        secret(out, "PresharedKey", preshared_key);
    }
    if !peer.allowed_ips.is_empty() {
        let prefixes: Vec<String> = peer.allowed_ips.iter().map(|one| prefix(one).to_string()).collect();
        line(out, format_args!("AllowedIPs = {}", prefixes.join(", ")));
    }
    if let Some(addr) = &peer.endpoint {
        line(out, format_args!("Endpoint = {}", endpoint(addr, scope_name)));
    }
    if peer.persistent_keepalive != 0 {
        line(out, format_args!("PersistentKeepalive = {}", peer.persistent_keepalive));
    }
}

fn secret(out: &mut SecretText, name: &str, secret: &Secret<32>) {
    line(out, format_args!("{name} = {}", *key::secret_to_base64(secret)));
}

fn line(out: &mut SecretText, text: fmt::Arguments<'_>) {
    let written = writeln!(out, "{text}");
    debug_assert!(written.is_ok(), "memory takes all that is written to it");
}
