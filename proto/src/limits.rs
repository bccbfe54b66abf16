//! The protocol's constants (whitepaper 6.1), with the names it gives them. To change a timing, change it here.

use core::time::Duration;

/// After this many messages on one key, sending initiates a new handshake (whitepaper 6.2).
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// From this counter on, a key neither sends nor receives (whitepaper 6.2). The slack of 2^13 keeps the replay window's
/// arithmetic away from the end of the 64-bit range.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// The initiator of a session that sends on it at this age initiates a new one (whitepaper 6.2).
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// A key of this age neither sends nor receives (whitepaper 6.2).
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// All keys of a peer are erased this long after the last one was made (whitepaper 6.3).
pub const ERASE_KEYS_AFTER: Duration = Duration::from_secs(180 * 3);
/// An unanswered initiation is sent again after this time plus jitter, and never sooner (whitepaper 6.4).
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// The random part of a retransmission's delay lies below this (whitepaper 6.1), in milliseconds.
pub const REKEY_TIMEOUT_JITTER_MAX_MS: u32 = 334;
/// Retransmissions stop after this time since the first initiation (whitepaper 6.4).
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// The retransmission timer gives up once it has counted more tries than this.
pub const MAX_TIMER_HANDSHAKES: u32 = (REKEY_ATTEMPT_TIME.as_secs() / REKEY_TIMEOUT.as_secs()) as u32;
/// Data received and nothing sent for this long: send a keepalive (whitepaper 6.5).
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer's initiations are consumed at most this often, so that one peer cannot occupy the processor.
pub const INITIATIONS_PER_SECOND: u32 = 50;
/// The responder's cookie secret is replaced at this age (whitepaper 5.4.7).
pub const COOKIE_SECRET_MAX_AGE: Duration = Duration::from_secs(120);
/// A received cookie is used this much less than [`COOKIE_SECRET_MAX_AGE`], for it was on its way for a while.
pub const COOKIE_SECRET_LATENCY: Duration = Duration::from_secs(5);

/// Packets a peer holds while it waits for a session; then the oldest is dropped.
pub const MAX_STAGED_PACKETS: usize = 128;
/// Bytes a peer holds while it waits for a session: room for 128 packets of 8 KiB, so that an interface with an MTU of
/// 65,000 cannot hold 8 MiB for each unreachable peer.
pub const MAX_STAGED_BYTES: usize = 1 << 20;
/// Bytes that all peers of a device together hold while they wait for sessions, 64 for each packet included; who wants more
/// gives up what it has.
pub const MAX_STAGED_IN_ALL: usize = 64 << 20;
/// Handshake messages a device holds unprocessed; more are dropped.
pub const MAX_QUEUED_HANDSHAKES: usize = 4096;
/// Those of them that show a cookie are held besides.
pub const MAX_QUEUED_PROVEN: usize = 1024;
/// Cookie replies a device holds unprocessed: each peer expects one at a time, and few at once.
pub const MAX_QUEUED_REPLIES: usize = 128;
/// Cookies a second that a device under load hands out, shared by the addresses that ask for one.
pub const COOKIES_PER_SECOND: u32 = 32_768;
/// With this many handshake messages waiting, the device is under load (whitepaper 5.3)...
pub const UNDER_LOAD_HANDSHAKES: usize = MAX_QUEUED_HANDSHAKES / 8;
/// ...and stays so for this long after the last such moment.
pub const UNDER_LOAD_STICKY: Duration = Duration::from_secs(1);

/// Transport data is padded with zeros to a multiple of this many bytes (whitepaper 5.4.6).
pub const PADDING_MULTIPLE: usize = 16;

/// The DSCP and ECN byte of handshake messages on the outer IP header: AF41, not ECN-capable.
pub const HANDSHAKE_DSCP: u8 = 0x88;
