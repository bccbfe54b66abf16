//! What the kernel says, read as any bytes: datagrams of rtnetlink by everything that reads them, and the messages in which
//! the kernel's own WireGuard tells its state.
//!
//! With the first bit set the input is put into one or several such messages; else it is a datagram. With the second, the
//! lengths of messages are put right.

#![no_main]

use adit_control::netlink::Reader;
use adit_control::uapi::{parse_get, write_get};
use adit_fuzz::{exact, is_canonical, without_flow};
use adit_net::netlink::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else { return };
    if flags & 1 != 0 {
        return state(rest, usize::from(flags >> 1));
    }
    let mut datagram = exact(rest);
    if flags & 2 != 0 {
        put_right(&mut datagram, usize::from(flags >> 2));
    }
    let found = fuzzing::read(&datagram, 7);
    assert!(found.messages * 16 <= datagram.len());
    // Each is looked for behind four headers, and has one of its own.
    assert!(found.attributes * 4 <= 4 * datagram.len());
    assert!(found.events <= 3 * found.messages);
});

/// One message, or two.
fn put_right(datagram: &mut [u8], first: usize) {
    let whole = datagram.len();
    let first = if first == 0 { whole } else { (16 + 4 * first).min(whole) };
    for (from, to) in [(0, first), (first, whole)] {
        if let Some(length) = datagram.get_mut(from..to).and_then(|message| message.first_chunk_mut()) {
            *length = ((to - from) as u32).to_ne_bytes();
        }
    }
}

fn state(bytes: &[u8], first: usize) {
    let mut reader = Reader::default();
    let (first, second) = bytes.split_at(if first == 0 { bytes.len() } else { (4 * first).min(bytes.len()) });
    for message in [first, second] {
        reader.message(&exact(message));
    }
    let Ok(mut get) = reader.finish() else { return };
    assert!(is_whole(first, &[8, 0, 9, 0]) && is_whole(second, &[8, 0, 9, 0]), "what is cut short was read");
    // A peer has its key, an allowed IP its address, and both headers.
    assert!(get.peers.len() * 36 <= bytes.len());
    let allowed_ips = || get.peers.iter().flat_map(|peer| &peer.allowed_ips);
    assert!(allowed_ips().count() * 20 <= bytes.len());
    assert!(allowed_ips().all(is_canonical));
    for peer in &mut get.peers {
        peer.endpoint = peer.endpoint.map(without_flow);
    }
    assert_eq!(parse_get(&write_get(&get), |_| None), Ok(get));
}

/// Whether each attribute ends within what it stands in; those of the first kind, those of the second in these, and so on, are
/// made of attributes.
fn is_whole(mut bytes: &[u8], nests: &[u16]) -> bool {
    while !bytes.is_empty() {
        let &[l0, l1, k0, k1, ..] = bytes else { return false };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        if !(4..=bytes.len()).contains(&length) {
            return false;
        }
        // The two highest bits are flags. The items of a list have any kind.
        let kind = u16::from_ne_bytes([k0, k1]) & 0x3fff;
        if let [nest, deeper @ ..] = nests
            && (*nest == 0 || *nest == kind)
            && !is_whole(&bytes[4..length], deeper)
        {
            return false;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}
