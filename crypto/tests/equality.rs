//! Every backend against the reference, over the whole range of lengths, batches, last packets and counters.
//! One of the backends is aws-lc-rs, so all three implementations agree.

mod support;

use std::thread;

use adit_crypto::{Backend, TAG_LEN, aead};
use support::{FIRST_COUNTERS, Guarded, KEY, Reference, Shape, bytes, counters, for_each_backend};

/// The longest text and the most packets of the full product.
const LONGEST: usize = 2100;
const MOST: usize = 64;

for_each_backend! {
    every_length_and_every_batch,
    #[ignore = "half a minute unless optimized"]
    every_length_with_every_batch,
    every_length_of_the_last_packet,
    lengths_up_to_the_longest_packet,
    counters_in_any_order,
    associated_data,
}

/// A part of the product below that visits each of its rows and each of its columns.
fn every_length_and_every_batch(backend: Backend) {
    for len in 0..=LONGEST {
        lengths_agree(backend, len, [1, 2 + len % 63, MOST]);
    }
    for len in [0, 1, 15, 16, 17, 63, 64, 65, 128, 200, 1280, 1420] {
        lengths_agree(backend, len, 1..=MOST);
    }
}

/// The whole product: 2,101 lengths, each in trains of 1 to 64 packets.
fn every_length_with_every_batch(backend: Backend) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for len in (thread..=LONGEST).step_by(threads) {
                    lengths_agree(backend, len, 1..=MOST);
                }
            });
        }
    });
}

/// Seals and opens trains of `len` bytes of text, with as many packets as `batches` says. The reference seals
/// only the longest train: all others are the beginning of it.
fn lengths_agree(backend: Backend, len: usize, batches: impl IntoIterator<Item = usize>) {
    let key = aead::Key::with_backend(&KEY, backend);
    let longest = Shape::new(len % 41, len, MOST);
    let counters = counters(FIRST_COUNTERS[len % FIRST_COUNTERS.len()], MOST);
    let plain = bytes(longest.bytes(), len);
    let sealed = longest.reference_seal(&KEY, &counters, &plain);
    for packets in batches {
        let shape = Shape { packets, ..longest };
        let end = ..shape.bytes();
        train_agrees(&key, shape, &counters[..packets], &plain[end], &sealed[end], len * 7 + packets);
    }
}

/// Seals a train, opens it, and opens it with one packet forged; `salt` decides where it lies and what is
/// forged.
fn train_agrees(key: &aead::Key, shape: Shape, counters: &[u64], plain: &[u8], sealed: &[u8], salt: usize) {
    let mut buf = Guarded::new(plain, salt);
    shape.seal(key, counters[0], buf.content());
    assert!(buf.intact() == sealed, "sealed otherwise: {shape:?}");

    assert!(shape.open(key, counters, buf.content()).iter().all(|&opened| opened), "not opened: {shape:?}");
    let mut expected = sealed.to_vec();
    for i in 0..shape.all_packets() {
        expected[shape.text(i)].copy_from_slice(&plain[shape.text(i)]);
    }
    assert!(buf.intact() == expected, "opened otherwise: {shape:?}");

    let forged = salt % shape.all_packets();
    let touched = shape.sealed(forged).start + salt * 13 % shape.sealed(forged).len();
    let mut buf = Guarded::new(sealed, salt);
    buf.content()[touched] ^= 1 << (salt % 8);
    expected[shape.sealed(forged)].copy_from_slice(&buf.content()[shape.sealed(forged)]);
    expected[shape.text(forged)].fill(0);
    let opened = shape.open(key, counters, buf.content());
    assert!(opened.iter().enumerate().all(|(i, &opened)| opened == (i != forged)), "{opened:?}: {shape:?}");
    assert!(buf.intact() == expected, "beside a forged packet {forged}: {shape:?}");
}

/// The last packet of a train may have any length from none to the others'.
fn every_length_of_the_last_packet(backend: Backend) {
    let key = aead::Key::with_backend(&KEY, backend);
    let short = (0..=MOST).map(|packets| (192, packets));
    let long = [1, 3, 4, 7, 8, 15, 16, 17, 31, 44, 48].map(|packets| (1420, packets));
    for (len, packets) in short.chain(long) {
        let counters = counters(FIRST_COUNTERS[packets % FIRST_COUNTERS.len()], packets + 1);
        let whole = Shape { last: Some(len), ..Shape::new(16, len, packets) };
        let plain = bytes(whole.bytes(), packets);
        let all_but_last = Shape { last: None, ..whole }.reference_seal(&KEY, &counters[..packets], &plain);
        // Every length where it is cheap, else those around which something changes.
        for last in
            (0..=len).filter(|last| len < 200 || last % 16 < 2 || last % 64 > 61 || last % 37 == packets % 37)
        {
            let shape = Shape { last: Some(last), ..whole };
            let end = ..shape.bytes();
            let mut sealed = all_but_last[end].to_vec();
            Reference::new(&KEY).seal(counters[packets], &[], &mut sealed[shape.sealed(packets)]);
            train_agrees(&key, shape, &counters, &plain[end], &sealed, last * 5 + packets);
        }
    }
}

/// 65,519 bytes of text are a UDP datagram's most, less header and tag; the crate itself knows no limit.
fn lengths_up_to_the_longest_packet(backend: Backend) {
    let key = aead::Key::with_backend(&KEY, backend);
    let random = |i: usize| (i * i * 40_503 + i * 12_345) % 65_519;
    let edges =
        [4095, 4096, 4097, 8191, 8192, 16_384, 32_767, 32_768, 65_503, 65_518, 65_519, 65_520, 70_001];
    for (i, len) in edges.into_iter().chain((0..60).map(random)).enumerate() {
        let packets = [1, 1, 2, 3, 5, 9][i % 6];
        let shape = Shape { last: (i % 3 == 0).then_some(len / (1 + i)), ..Shape::new(16, len, packets) };
        let counters = counters(FIRST_COUNTERS[i % FIRST_COUNTERS.len()], shape.all_packets());
        let plain = bytes(shape.bytes(), i);
        let sealed = shape.reference_seal(&KEY, &counters, &plain);
        train_agrees(&key, shape, &counters, &plain, &sealed, i * 97);
    }
}

/// The network decides with which counters packets come, and in which order.
fn counters_in_any_order(backend: Backend) {
    let key = aead::Key::with_backend(&KEY, backend);
    let edges = [0, 1, u32::MAX.into(), 1 << 32, (1 << 32) + 1, 1 << 63, u64::MAX - 1, u64::MAX];
    for packets in 1..=MOST {
        for (len, last) in [(48, None), (81, Some(33)), (1420, Some(1419))] {
            let shape = Shape { last, ..Shape::new(16, len, packets) };
            let mut state = packets as u64;
            let counters: Vec<u64> = (0..shape.all_packets())
                .map(|i| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    match (i + packets) % 4 {
                        0 => edges[i / 4 % edges.len()],
                        1 => state,
                        2 => state >> 32,
                        // The same one again: a replay is not the AEAD's concern.
                        _ => 7,
                    }
                })
                .collect();
            let plain = bytes(shape.bytes(), packets);
            let mut buf = Guarded::new(&shape.reference_seal(&KEY, &counters, &plain), packets);
            assert!(shape.open(&key, &counters, buf.content()).iter().all(|&opened| opened), "{shape:?}");
            for i in 0..shape.all_packets() {
                assert!(buf.intact()[shape.text(i)] == plain[shape.text(i)], "packet {i} of {shape:?}");
            }
        }
    }
}

/// The handshake authenticates a hash beside its text; cookies a MAC.
fn associated_data(backend: Backend) {
    let key = aead::Key::with_backend(&KEY, backend);
    let reference = Reference::new(&KEY);
    for aad_len in (0..=66).chain([127, 128, 129, 1000]) {
        for len in (0..=66).chain([127, 128, 129, 500, 1420]) {
            let (counter, aad, plain) = (aad_len as u64, bytes(aad_len, 5), bytes(len + TAG_LEN, aad_len));
            let mut sealed = plain.clone();
            reference.seal(counter, &aad, &mut sealed);

            let mut buf = Guarded::new(&plain, aad_len);
            aead::seal(&key, counter, &aad, buf.content());
            assert!(buf.intact() == sealed, "{len} bytes with {aad_len} associated");
            assert!(aead::open(&key, counter, &aad, buf.content()).is_ok_and(|text| text == &plain[..len]));
            if aad_len > 0 {
                let mut other = aad;
                other[len % aad_len] ^= 0x10;
                let mut buf = Guarded::new(&sealed, aad_len);
                assert!(aead::open(&key, counter, &other, buf.content()).is_err());
                assert!(
                    buf.intact()[..len].iter().all(|&byte| byte == 0) && buf.intact()[len..] == sealed[len..]
                );
            }
        }
    }
}
