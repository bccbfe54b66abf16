//! Nothing outside the buffers is read or written, wherever they lie: at every offset from a cache line, and
//! with a page that cannot be touched right before or behind.

#![allow(unsafe_code)]

mod support;

use std::ptr::NonNull;

use adit_crypto::{Backend, TAG_LEN, aead};
use support::{Guarded, KEY, Shape, bytes, counters, for_each_backend};

for_each_backend! {
    every_alignment,
    buffers_between_pages_that_cannot_be_touched,
    headers_of_every_length,
}

fn every_alignment(backend: Backend) {
    let key = aead::Key::with_backend(&KEY, backend);
    for packets in [1, 2, 4, 7, 8, 16, 17, 45] {
        for len in [0, 1, 16, 63, 64, 65, 200, 1420] {
            let shape = Shape { last: Some(len / 2), ..Shape::new(16, len, packets) };
            let counters = counters(packets as u64, packets + 1);
            let plain = bytes(shape.bytes(), len);
            let sealed = shape.reference_seal(&KEY, &counters, &plain);
            for offset in 0..64 {
                let mut buf = Guarded::new(&plain, offset);
                shape.seal(&key, counters[0], buf.content());
                assert!(buf.intact() == sealed, "offset {offset}, {shape:?}");
                assert!(shape.open(&key, &counters, buf.content()).iter().all(|&opened| opened));
                for i in 0..=packets {
                    assert!(
                        buf.intact()[shape.text(i)] == plain[shape.text(i)],
                        "offset {offset}, {shape:?}"
                    );
                }
            }
        }
    }
}

/// So that the distance between packets takes every value of a cache line, and headers are left alone.
fn headers_of_every_length(backend: Backend) {
    let key = aead::Key::with_backend(&KEY, backend);
    for header in (0..=130).chain([1000]) {
        for (len, packets) in [(33, 1), (64, 4), (100, 16), (65, 21)] {
            let shape = Shape { last: Some(7), ..Shape::new(header, len, packets) };
            let counters = counters(3, packets + 1);
            let plain = bytes(shape.bytes(), header);
            let mut buf = Guarded::new(&plain, header);
            shape.seal(&key, 3, buf.content());
            assert!(buf.intact() == shape.reference_seal(&KEY, &counters, &plain), "{shape:?}");
            assert!(shape.open(&key, &counters, buf.content()).iter().all(|&opened| opened));
            for i in 0..=packets {
                let packet = shape.text(i).start - header..shape.text(i).end;
                assert!(buf.intact()[packet.clone()] == plain[packet], "{shape:?}");
            }
        }
    }
}

/// A read beyond a slice does no harm that could be seen, so here it ends the process. Counters and verdicts
/// lie at such an edge too.
fn buffers_between_pages_that_cannot_be_touched(backend: Backend) {
    let key = aead::Key::with_backend(&KEY, backend);
    let (mut bytes_at_end, mut bytes_at_start) = (Fenced::new(), Fenced::new());
    let (mut counters_at_end, mut verdicts_at_end) = (Fenced::new(), Fenced::new());
    for packets in 1..=20 {
        for len in (0..=150).chain([255, 256, 257, 639, 960, 1023, 1024, 1025, 1420]) {
            let shape =
                Shape { last: (len % 3 > 0).then_some(len / 3), ..Shape::new(len % 17, len, packets) };
            let plain = bytes(shape.bytes(), len);
            let counters: &[u64] = counters_at_end.end(&counters(9, shape.all_packets()));
            let opened: &mut [bool] = verdicts_at_end.end(&vec![false; counters.len()]);

            for train in [bytes_at_end.end(&plain), bytes_at_start.start(&plain)] {
                shape.seal(&key, 9, train);
                // One forged packet, since a rejection has code of its own.
                let forged = len % counters.len();
                train[shape.sealed(forged).end - 1] ^= 1;
                aead::open_train(&key, counters, train, shape.stride(), shape.header, opened);
                assert!(opened.iter().enumerate().all(|(i, &opened)| opened == (i != forged)), "{shape:?}");
            }
        }
    }

    let aad = bytes(32, 1);
    for len in 0..=1500 {
        let plain = bytes(len + TAG_LEN, len);
        let check = |aad: &[u8], buf: &mut [u8]| {
            aead::seal(&key, 1, aad, buf);
            assert!(aead::open(&key, 1, aad, buf).is_ok_and(|text| text == &plain[..len]), "{len} bytes");
        };
        check(&[], bytes_at_end.end(&plain));
        check(&[], bytes_at_start.start(&plain));
        check(verdicts_at_end.end(&aad), bytes_at_end.end(&plain));
    }
}

/// Memory between two pages that cannot be touched.
struct Fenced {
    pages: NonNull<u8>,
}

impl Fenced {
    const PAGE: usize = 4096;
    const INSIDE: usize = 16 * Self::PAGE;
    const ALL: usize = Self::INSIDE + 2 * Self::PAGE;

    fn new() -> Self {
        let (read_write, private) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of its own at an address that the kernel chooses; it aliases nothing.
        let pages = unsafe { libc::mmap(std::ptr::null_mut(), Self::ALL, read_write, private, -1, 0) };
        assert_ne!(pages, libc::MAP_FAILED);
        let pages = NonNull::new(pages.cast::<u8>()).unwrap();
        for fence in [0, Self::ALL - Self::PAGE] {
            // SAFETY: one page inside the mapping just made, to which nothing refers yet.
            let protected =
                unsafe { libc::mprotect(pages.add(fence).as_ptr().cast(), Self::PAGE, libc::PROT_NONE) };
            assert_eq!(protected, 0);
        }
        Self { pages }
    }

    /// A copy of `content` that ends where the memory does.
    fn end<T: Copy>(&mut self, content: &[T]) -> &mut [T] {
        self.at(Self::INSIDE - size_of_val(content), content)
    }

    /// A copy of `content` that begins where the memory does.
    fn start<T: Copy>(&mut self, content: &[T]) -> &mut [T] {
        self.at(0, content)
    }

    fn at<T: Copy>(&mut self, offset: usize, content: &[T]) -> &mut [T] {
        assert!(offset + size_of_val(content) <= Self::INSIDE && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the pages that may be touched, aligned, initialized by the copy, and borrowed from
        // `self` as long as the slice lives.
        unsafe {
            let at = self.pages.add(Self::PAGE + offset).cast::<T>();
            at.as_ptr().copy_from_nonoverlapping(content.as_ptr(), content.len());
            std::slice::from_raw_parts_mut(at.as_ptr(), content.len())
        }
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, to which no slice refers any more.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), Self::ALL) };
    }
}
