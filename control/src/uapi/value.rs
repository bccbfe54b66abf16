//! The values of the text protocol, checked as strictly as it allows: what `wg` would misread is refused here.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use adit_crypto::Secret;

use super::{Fault, ScopeResolver};
use crate::{AllowedIpChange, EndpointName, Prefix, PublicKey, key};

/// The only truth is `true`; there is no way to say false but silence.
pub(super) fn truth(key: &str, value: &str) -> Result<bool, Fault> {
    if value == "true" { Ok(true) } else { Err(Fault::invalid(format!("{key} can only be true"))) }
}

/// Decimal digits and nothing else: no sign, no space, no other base.
pub(super) fn number<T: FromStr>(key: &str, value: &str) -> Result<T, Fault> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { value.parse().ok() } else { None };
    number.ok_or_else(|| Fault::invalid(format!("{key} is not a decimal number in range")))
}

pub(super) fn public_key(value: &str) -> Result<PublicKey, Fault> {
    PublicKey::from_hex(value).ok_or_else(|| not_a_key("public_key"))
}

/// A secret key; zeros say that there is none.
pub(super) fn secret(key: &str, value: &str) -> Result<Option<Secret<32>>, Fault> {
    let secret = key::secret_from_hex(value).ok_or_else(|| not_a_key(key))?;
    Ok((!secret.is_zero()).then_some(secret))
}

fn not_a_key(key: &str) -> Fault {
    Fault::invalid(format!("{key} is not 64 hexadecimal digits"))
}

pub(super) fn prefix(value: &str) -> Result<Prefix, Fault> {
    value.parse().map_err(|error| Fault::invalid(format!("allowed_ip is {error}")))
}

/// A prefix to add, or after a minus sign to remove.
pub(super) fn allowed_ip(value: &str) -> Result<AllowedIpChange, Fault> {
    match value.strip_prefix('-') {
        None => prefix(value).map(AllowedIpChange::Add),
        Some(value) => prefix(value).map(AllowedIpChange::Remove),
    }
}

/// `192.0.2.1:51820`, `[2001:db8::1]:51820`, `[fe80::1%2]:51820` or `[fe80::1%eth0]:51820`; host names never.
pub(super) fn endpoint(value: &str, resolve_scope: ScopeResolver) -> Result<SocketAddr, Fault> {
    value
        .parse()
        .ok()
        .or_else(|| scoped_by_name(value, resolve_scope))
        .ok_or_else(|| Fault::invalid("endpoint is not an IP address and a port"))
}

/// `vpn.example.com:51820`, never an address of IPv6.
pub(super) fn endpoint_name(value: &str) -> Result<EndpointName, Fault> {
    value.parse().map_err(|()| Fault::invalid("endpoint_name is not a name and a port"))
}

fn scoped_by_name(value: &str, resolve_scope: ScopeResolver) -> Option<SocketAddr> {
    let (host, port) = value.strip_prefix('[')?.split_once("]:")?;
    let (addr, name) = host.split_once('%')?;
    let addr: Ipv6Addr = addr.parse().ok()?;
    let port = number("endpoint", port).ok()?;
    Some(SocketAddrV6::new(addr, port, 0, resolve_scope(name)?).into())
}
