//! ChaCha20 (RFC 8439, section 2.3), sixteen blocks at a time.
//!
//! A state is four rows of four words. Here a word is a vector: of one word of sixteen blocks in the *upright* form, where
//! every lane is a block; of one row of four blocks in the *lying* form, where every quarter is a block. Upright needs no
//! shuffles between rounds but a transposition at the end, and sixteen blocks to be worth it; lying takes few blocks.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::poly1305::OneTimeKeys;
use super::transpose::quarters;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// A state, or several: row by row.
#[derive(Clone, Copy)]
struct Rows<const N: usize> {
    a: [__m512i; N],
    b: [__m512i; N],
    c: [__m512i; N],
    d: [__m512i; N],
}

impl<const N: usize> Rows<N> {
    /// A quarter round (RFC 8439, section 2.1) of `a[i]`, `b[i]`, `c[i]` and `d[i]` for every `i`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn quarter_rounds(&mut self) {
        let Self { a, b, c, d } = self;
        for i in 0..N {
            (a[i], d[i]) = add_xor_rotate::<16>(a[i], b[i], d[i]);
        }
        for i in 0..N {
            (c[i], b[i]) = add_xor_rotate::<12>(c[i], d[i], b[i]);
        }
        for i in 0..N {
            (a[i], d[i]) = add_xor_rotate::<8>(a[i], b[i], d[i]);
        }
        for i in 0..N {
            (c[i], b[i]) = add_xor_rotate::<7>(c[i], d[i], b[i]);
        }
    }

    /// Lying: turns rows `b`, `c` and `d` to the left by so many words, which makes diagonals columns or back.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn turn<const B: i32, const C: i32, const D: i32>(&mut self) {
        for i in 0..N {
            self.b[i] = turn_left::<B>(self.b[i]);
            self.c[i] = turn_left::<C>(self.c[i]);
            self.d[i] = turn_left::<D>(self.d[i]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    fn plus(self, other: &Self) -> Self {
        let mut sum = self;
        for i in 0..N {
            sum.a[i] = _mm512_add_epi32(self.a[i], other.a[i]);
            sum.b[i] = _mm512_add_epi32(self.b[i], other.b[i]);
            sum.c[i] = _mm512_add_epi32(self.c[i], other.c[i]);
            sum.d[i] = _mm512_add_epi32(self.d[i], other.d[i]);
        }
        sum
    }
}

/// `x += y; z ^= x; z <<<= BY`, of which a quarter round is four.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn add_xor_rotate<const BY: i32>(x: __m512i, y: __m512i, z: __m512i) -> (__m512i, __m512i) {
    let x = _mm512_add_epi32(x, y);
    (x, _mm512_rol_epi32::<BY>(_mm512_xor_si512(z, x)))
}

/// Turns each quarter to the left by so many words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn turn_left<const WORDS: i32>(row: __m512i) -> __m512i {
    match WORDS {
        1 => _mm512_shuffle_epi32::<0b00_11_10_01>(row),
        2 => _mm512_shuffle_epi32::<0b01_00_11_10>(row),
        _ => _mm512_shuffle_epi32::<0b10_01_00_11>(row),
    }
}

/// Sixteen packets' or fewer packets' blocks, upright: all have one key, and every lane its nonce.
pub(super) struct Upright {
    /// With block counters of zero.
    start: Rows<4>,
    /// `start` after the first round's columns, which but for the first do not depend on the block counter.
    columns: Rows<4>,
}

impl Upright {
    /// `nonces` are the WireGuard counters of the lanes, which are the last 64 bits of their nonces.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn new(key: &[u32; 8], nonces: &[u64; 16]) -> Self {
        let word = |word: u32| _mm512_set1_epi32(word.cast_signed());
        let nonces = split_words(nonces);
        let start = Rows {
            a: [word(CONSTANTS[0]), word(CONSTANTS[1]), word(CONSTANTS[2]), word(CONSTANTS[3])],
            b: [word(key[0]), word(key[1]), word(key[2]), word(key[3])],
            c: [word(key[4]), word(key[5]), word(key[6]), word(key[7])],
            d: [_mm512_setzero_si512(), _mm512_setzero_si512(), nonces[0], nonces[1]],
        };
        let mut columns = start;
        columns.quarter_rounds();
        Self { start, columns }
    }

    /// Begins sixteen blocks, of which `counters` has the number for each lane: the first of ten double rounds.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn begin(&self, counters: __m512i) -> Pass<'_> {
        let start = &self.start;
        let mut first = Rows { a: [start.a[0]], b: [start.b[0]], c: [start.c[0]], d: [counters] };
        first.quarter_rounds();
        let mut x = self.columns;
        (x.a[0], x.b[0], x.c[0], x.d[0]) = (first.a[0], first.b[0], first.c[0], first.d[0]);
        Pass { x: diagonals(x), start, counters }
    }

    /// Sixteen blocks, of which `counters` has the number for each lane: word `i` of all of them in vector `i`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn words(&self, counters: __m512i) -> [__m512i; 16] {
        let mut pass = self.begin(counters);
        for _ in 1..10 {
            pass.double_round();
        }
        pass.words()
    }
}

/// Sixteen blocks in the making.
pub(super) struct Pass<'a> {
    x: Rows<4>,
    start: &'a Rows<4>,
    counters: __m512i,
}

impl Pass<'_> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn double_round(&mut self) {
        self.x.quarter_rounds();
        self.x = diagonals(self.x);
    }

    /// After the tenth double round: word `i` of all blocks in vector `i`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub(super) fn words(self) -> [__m512i; 16] {
        let start =
            Rows { d: [self.counters, self.start.d[1], self.start.d[2], self.start.d[3]], ..*self.start };
        let Rows { a, b, c, d } = self.x.plus(&start);
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }
}

impl Drop for Upright {
    fn drop(&mut self) {
        self.start.zeroize();
        self.columns.zeroize();
    }
}

impl<const N: usize> Zeroize for Rows<N> {
    fn zeroize(&mut self) {
        self.a.zeroize();
        self.b.zeroize();
        self.c.zeroize();
        self.d.zeroize();
    }
}

/// The second round of a double round: on the diagonals.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn diagonals(x: Rows<4>) -> Rows<4> {
    let Rows { a, b, c, d } = x;
    let mut x =
        Rows { a, b: [b[1], b[2], b[3], b[0]], c: [c[2], c[3], c[0], c[1]], d: [d[3], d[0], d[1], d[2]] };
    x.quarter_rounds();
    let Rows { a, b, c, d } = x;
    Rows { a, b: [b[3], b[0], b[1], b[2]], c: [c[2], c[3], c[0], c[1]], d: [d[1], d[2], d[3], d[0]] }
}

/// The low words, and the high words, of sixteen numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn split_words(numbers: &[u64; 16]) -> [__m512i; 2] {
    let n = numbers.map(u64::cast_signed);
    let first = _mm512_setr_epi64(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]);
    let second = _mm512_setr_epi64(n[8], n[9], n[10], n[11], n[12], n[13], n[14], n[15]);
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    [_mm512_permutex2var_epi32(first, even, second), _mm512_permutex2var_epi32(first, odd, second)]
}

/// The one-time keys (RFC 8439, section 2.6) in eight of the lanes of blocks number 0: the lower or the upper ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn one_time_keys<const UPPER: bool>(words: &[__m512i; 16]) -> OneTimeKeys {
    // Lane i of two words side by side.
    let lanes = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(if UPPER { 8 } else { 0 }));
    let pair = |i: usize| _mm512_permutex2var_epi32(words[i], lanes, words[i + 1]);
    OneTimeKeys { r: [pair(0), pair(2)], s: [pair(4), pair(6)] }
}

/// One packet's keystream from block number `counter` on, `4 * N` blocks, each in a vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub(super) fn lying<const N: usize>(key: &[u32; 8], nonce: u64, counter: u32) -> [[__m512i; 4]; N] {
    let row = |words: [u32; 4]| {
        let [w0, w1, w2, w3] = words.map(u32::cast_signed);
        _mm512_set4_epi32(w3, w2, w1, w0)
    };
    let [k0, k1, k2, k3, k4, k5, k6, k7] = *key;
    let four_on = |i: usize| {
        let counters = row([counter + 4 * i as u32, 0, nonce as u32, (nonce >> 32) as u32]);
        _mm512_add_epi32(counters, _mm512_setr_epi32(0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0))
    };
    let mut d = [_mm512_setzero_si512(); N];
    for (i, d) in d.iter_mut().enumerate() {
        *d = four_on(i);
    }
    let start =
        Rows { a: [row(CONSTANTS); N], b: [row([k0, k1, k2, k3]); N], c: [row([k4, k5, k6, k7]); N], d };
    let mut x = start;
    for _ in 0..10 {
        x.quarter_rounds();
        x.turn::<1, 2, 3>();
        x.quarter_rounds();
        x.turn::<3, 2, 1>();
    }
    let Rows { a, b, c, d } = x.plus(&start);
    let mut blocks = [[_mm512_setzero_si512(); 4]; N];
    for i in 0..N {
        blocks[i] = quarters([a[i], b[i], c[i], d[i]]);
    }
    blocks
}
