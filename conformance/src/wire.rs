//! The messages on the wire (whitepaper 5.4), as bytes: what is wrong in them must be possible to write.

use adit_crypto::{blake2s, xaead};

/// Message types; also the first byte of a message.
pub const INITIATION: u8 = 1;
/// The second message of a handshake.
pub const RESPONSE: u8 = 2;
/// What is sent under load.
pub const COOKIE_REPLY: u8 = 3;
/// Transport data.
pub const DATA: u8 = 4;

/// The Noise protocol's name.
pub const CONSTRUCTION: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// The prologue.
pub const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// Bytes of transport data that are not plaintext.
pub const DATA_OVERHEAD: usize = 32;

/// Type, reserved bytes, sender's index.
pub fn header(kind: u8, sender: u32) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(sender.to_le_bytes());
    message
}

/// The `N` bytes at `at`.
pub fn field<const N: usize>(message: &[u8], at: usize) -> [u8; N] {
    message[at..at + N].try_into().expect("as many bytes as asked for")
}

/// The number at `at`.
pub fn index(message: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(message, at))
}

/// `message`, which ends where mac1 begins, with mac1 for the device of this public key, and a mac2 of zeros.
pub fn with_mac1(mut message: Vec<u8>, receiver: &[u8; 32]) -> Vec<u8> {
    let mac1 = mac1(&message, receiver);
    message.extend(mac1);
    message.extend([0; 16]);
    message
}

/// `message` with its MACs replaced: for one that was changed after it was made.
pub fn again_with_mac1(message: &[u8], receiver: &[u8; 32]) -> Vec<u8> {
    with_mac1(message[..message.len() - 32].to_vec(), receiver)
}

/// `message` with a mac2 made of `cookie`.
pub fn with_mac2(message: &[u8], cookie: &[u8; 16]) -> Vec<u8> {
    let before = &message[..message.len() - 16];
    [before, &blake2s::mac(cookie, &[before])].concat()
}

/// mac1 over the whole of `before`.
pub fn mac1(before: &[u8], receiver: &[u8; 32]) -> [u8; 16] {
    blake2s::mac(&blake2s::hash(&[b"mac1----", receiver]), &[before])
}

/// The mac1 in `message`.
pub fn mac1_of(message: &[u8]) -> [u8; 16] {
    field(message, message.len() - 32)
}

/// The mac2 in `message`.
pub fn mac2_of(message: &[u8]) -> [u8; 16] {
    field(message, message.len() - 16)
}

/// A cookie reply of the device with this public key, to the message whose index and mac1 are given.
pub fn cookie_reply(sender: &[u8; 32], receiver: u32, mac1: &[u8; 16], cookie: &[u8; 16]) -> Vec<u8> {
    let nonce = random::<24>();
    let mut sealed = [&cookie[..], &[0; 16]].concat();
    xaead::seal(&cookie_key(sender), &nonce, mac1, &mut sealed);
    let mut message = header(COOKIE_REPLY, receiver);
    message.extend(nonce);
    message.extend(sealed);
    message
}

/// The cookie in `reply`, which the device with this public key made for the message with this mac1.
pub fn open_cookie_reply(reply: &[u8], sender: &[u8; 32], mac1: &[u8; 16]) -> Option<[u8; 16]> {
    let mut sealed: [u8; 32] = field(reply, 32);
    let cookie = xaead::open(&cookie_key(sender), &field(reply, 8), mac1, &mut sealed).ok()?;
    Some(field(cookie, 0))
}

fn cookie_key(public_key: &[u8; 32]) -> [u8; 32] {
    blake2s::hash(&[b"cookie--", public_key])
}

/// Noise as WireGuard uses it, by snow: an initiator when the responder's key is given.
pub fn snow(
    private_key: &[u8; 32],
    responder: Option<&[u8; 32]>,
    preshared_key: &[u8; 32],
) -> snow::HandshakeState {
    let builder = snow::Builder::new(CONSTRUCTION.parse().expect("a name that Noise has"))
        .prologue(IDENTIFIER)
        .and_then(|builder| builder.local_private_key(private_key))
        .and_then(|builder| builder.psk(2, preshared_key))
        .expect("each of these is set once");
    match responder {
        Some(key) => builder.remote_public_key(key).and_then(snow::Builder::build_initiator),
        None => builder.build_responder(),
    }
    .expect("everything that the pattern needs is set")
}

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's generator works");
    bytes
}

/// Bytes as the UAPI spells keys.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
