//! A debugging aid: the secrets of every handshake, in the form that Wireshark reads (`wg.keylog_file`).

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use adit_control::key;
use adit_net::private_file::append_private;
use adit_proto::handshake::{KeyLog, LoggedKeys};

/// A file to which every handshake's secrets are appended, in Wireshark's form.
#[derive(Debug)]
pub struct KeyLogFile(File);

impl KeyLogFile {
    /// Appends to the file at `path`, which only this user may read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: PathBuf) -> Result<Self, KeyLogError> {
        log::warn!("every session's secrets are written to {}", path.display());
        append_private(&path).map(KeyLogFile).map_err(|error| KeyLogError(path, error))
    }
}

/// The key log cannot be written.
#[derive(Debug)]
pub struct KeyLogError(PathBuf, io::Error);

impl fmt::Display for KeyLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key log {} cannot be written: {}", self.0.display(), self.1)
    }
}

impl std::error::Error for KeyLogError {}

impl KeyLog for KeyLogFile {
    fn handshake(&self, keys: &LoggedKeys<'_>) {
        let line =
            |name: &str, bytes: &[u8; 32]| format!("{name} = {}\n", key::PublicKey::new(*bytes).to_base64());
        let text = [
            line("LOCAL_STATIC_PRIVATE_KEY", keys.local_static_private),
            line("REMOTE_STATIC_PUBLIC_KEY", keys.remote_static_public),
            line("LOCAL_EPHEMERAL_PRIVATE_KEY", keys.local_ephemeral_private),
            line("PRESHARED_KEY", keys.preshared_key),
        ]
        .concat();
        // One write: several handshakes must not mix their lines.
        if let Err(error) = (&self.0).write_all(text.as_bytes()) {
            log::error!("the key log cannot be written: {error}");
        }
    }
}
