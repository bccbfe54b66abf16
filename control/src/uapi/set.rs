//! The set operation: lines into a [`Set`], and back.

use std::fmt::{Display, Write as _};

use adit_crypto::Secret;
use zeroize::Zeroizing;

use super::{Fault, ScopeResolver, value};
use crate::{AllowedIpChange, SecretText, Set, SetPeer, key};

/// A set under construction: what the lines so far have said.
#[derive(Debug)]
pub(super) struct SetLines {
    set: Set,
    resolve_scope: ScopeResolver,
}

impl SetLines {
    pub(super) fn new(resolve_scope: ScopeResolver) -> Self {
        Self { set: Set::default(), resolve_scope }
    }

    pub(super) fn finish(self) -> Set {
        self.set
    }

    /// Takes one line, without its newline.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let line = str::from_utf8(line).map_err(|_| Fault::invalid("not text"))?;
        let (key, value) =
            line.split_once('=').ok_or_else(|| Fault::protocol("not of the form key=value"))?;
        if key == "public_key" {
            self.set.peers.push(SetPeer::new(value::public_key(value)?));
            return Ok(());
        }
        match self.set.peers.last_mut() {
            None => device_line(&mut self.set, key, value),
            Some(peer) => peer_line(peer, key, value, self.resolve_scope),
        }
    }
}

fn device_line(set: &mut Set, key: &str, value: &str) -> Result<(), Fault> {
    match key {
        "private_key" => set.private_key = Some(value::secret(key, value)?),
        "listen_port" => set.listen_port = Some(value::number(key, value)?),
        "fwmark" => set.fwmark = Some(value::number(key, value)?),
        "replace_peers" => set.replace_peers = value::truth(key, value)?,
        _ => return Err(Fault::unknown_key(key, "device")),
    }
    Ok(())
}

fn peer_line(peer: &mut SetPeer, key: &str, value: &str, resolve_scope: ScopeResolver) -> Result<(), Fault> {
    match key {
        "remove" => peer.remove = value::truth(key, value)?,
        "update_only" => peer.update_only = value::truth(key, value)?,
        "preshared_key" => peer.preshared_key = Some(value::secret(key, value)?),
        "endpoint" => {
            peer.endpoint = Some(value::endpoint(value, resolve_scope)?);
            peer.endpoint_name = None;
        }
        "endpoint_name" if peer.endpoint.is_some() => peer.endpoint_name = Some(value::endpoint_name(value)?),
        "endpoint_name" => return Err(Fault::invalid("endpoint_name has no endpoint before it")),
        "persistent_keepalive_interval" => peer.persistent_keepalive = Some(value::number(key, value)?),
        "replace_allowed_ips" => {
            peer.replace_allowed_ips = value::truth(key, value)?;
            // The lines that follow replace all there was: also what earlier lines of the section added.
            peer.allowed_ips.clear();
        }
        "allowed_ip" => peer.allowed_ips.push(value::allowed_ip(value)?),
        "protocol_version" if value == "1" => {}
        "protocol_version" => return Err(Fault::invalid("protocol_version can only be 1")),
        _ => return Err(Fault::unknown_key(key, "peer")),
    }
    Ok(())
}

/// Spells a whole set operation, up to and including its blank line.
#[must_use]
pub fn write_set(set: &Set) -> SecretText {
    let mut out = SecretText::with_capacity(256 + 256 * set.peers.len());
    out.push(b"set=1\n");
    if let Some(private_key) = &set.private_key {
        write_secret(&mut out, "private_key", private_key.as_ref());
    }
    if let Some(port) = set.listen_port {
        write_line(&mut out, "listen_port", port);
    }
    if let Some(fwmark) = set.fwmark {
        write_line(&mut out, "fwmark", fwmark);
    }
    if set.replace_peers {
        write_line(&mut out, "replace_peers", true);
    }
    for peer in &set.peers {
        write_peer(&mut out, peer);
    }
    out.push(b"\n");
    out
}

fn write_peer(out: &mut SecretText, peer: &SetPeer) {
    write_key(out, "public_key", peer.public_key.as_bytes());
    // Before anything that a device which applies line by line would do to a peer it should not have made.
    if peer.update_only {
        write_line(out, "update_only", true);
    }
    if peer.remove {
        return write_line(out, "remove", true);
    }
    if let Some(preshared_key) = &peer.preshared_key {
        write_secret(out, "preshared_key", preshared_key.as_ref());
    }
    if let Some(endpoint) = peer.endpoint {
        write_line(out, "endpoint", endpoint);
        if let Some(name) = &peer.endpoint_name {
            write_line(out, "endpoint_name", name);
        }
    }
    if let Some(seconds) = peer.persistent_keepalive {
        write_line(out, "persistent_keepalive_interval", seconds);
    }
    if peer.replace_allowed_ips {
        write_line(out, "replace_allowed_ips", true);
    }
    for change in &peer.allowed_ips {
        match change {
            AllowedIpChange::Add(prefix) => write_line(out, "allowed_ip", prefix),
            AllowedIpChange::Remove(prefix) => write_line(out, "allowed_ip", format_args!("-{prefix}")),
        }
    }
}

pub(super) fn write_line(out: &mut SecretText, key: &str, value: impl Display) {
    let written = writeln!(out, "{key}={value}");
    debug_assert!(written.is_ok(), "memory takes all that is written to it");
}

pub(super) fn write_key(out: &mut SecretText, name: &str, bytes: &[u8; 32]) {
    let digits = Zeroizing::new(key::encode_hex(bytes));
    for part in [name.as_bytes(), b"=", &digits[..], b"\n"] {
        out.push(part);
    }
}

pub(super) fn write_secret(out: &mut SecretText, name: &str, secret: Option<&Secret<32>>) {
    write_key(out, name, secret.map_or(&[0; 32], Secret::expose));
}
