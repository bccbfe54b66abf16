//! `wg genkey`, `wg genpsk`, `wg pubkey`.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use adit_control::PublicKey;
use adit_control::conf::is_space;
use adit_control::key::{BASE64_LEN, encode_base64, secret_from_base64};
use adit_crypto::{Secret, x25519};
use zeroize::Zeroizing;

use super::{Call, Failed, print};

/// Everybody who is neither the owner nor of the group.
const OTHERS: u32 = 0o007;

pub(super) fn genkey(call: &Call<'_>) -> Result<(), Failed> {
    generate(call, |bytes| *x25519::PrivateKey::new(bytes).expose())
}

pub(super) fn genpsk(call: &Call<'_>) -> Result<(), Failed> {
    generate(call, |bytes| bytes)
}

fn generate(call: &Call<'_>, make: impl Fn([u8; 32]) -> [u8; 32]) -> Result<(), Failed> {
    if !call.args.is_empty() {
        return call.misused("");
    }
    if goes_to_everybody() {
        eprintln!(
            "Warning: writing to world accessible file.\nConsider setting the umask to 077 and trying again."
        );
    }
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| Failed::because(format_args!("getrandom: {error}")))?;
    print_key(&Zeroizing::new(make(*bytes)))
}

fn goes_to_everybody() -> bool {
    let metadata = io::stdout().as_fd().try_clone_to_owned().and_then(|stdout| File::from(stdout).metadata());
    metadata.is_ok_and(|metadata| metadata.is_file() && metadata.mode() & OTHERS != 0)
}

fn print_key(key: &[u8; 32]) -> Result<(), Failed> {
    let mut line = Zeroizing::new([b'\n'; BASE64_LEN + 1]);
    line[..BASE64_LEN].copy_from_slice(&*Zeroizing::new(encode_base64(key)));
    print(&line[..])
}

pub(super) fn pubkey(call: &Call<'_>) -> Result<(), Failed> {
    if !call.args.is_empty() {
        return call.misused("");
    }
    let wrong = || Failed::because(format_args!("{}: Key is not the correct length or format", call.program));
    let mut text = Zeroizing::new([0; BASE64_LEN]);
    io::stdin().read_exact(&mut *text).map_err(|_| wrong())?;
    if has_more().map_err(|_| wrong())? {
        return Err(Failed::because(format_args!("{}: Trailing characters found after key", call.program)));
    }
    let secret: Secret<32> = str::from_utf8(&*text).ok().and_then(secret_from_base64).ok_or_else(wrong)?;
    let public = x25519::public_key(&x25519::PrivateKey::new(*secret.expose()));
    print(format!("{}\n", PublicKey::new(public)).as_bytes())
}

/// Whether standard input goes on with anything but white space and zeros.
fn has_more() -> io::Result<bool> {
    for byte in io::stdin().lock().bytes() {
        let byte = byte?;
        if byte != 0 && !is_space(byte.into()) {
            return Ok(true);
        }
    }
    Ok(false)
}
