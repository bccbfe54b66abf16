//! ChaCha20 (RFC 8439, section 2.3), eight blocks at a time: every lane is a block, of any packet.

use core::arch::x86_64::*;
use core::hint::black_box;

use super::BLOCK_LEN;

/// Blocks made at a time.
pub(super) const LANES: usize = 8;

/// A block of keystream.
pub(super) type Block = [__m256i; BLOCK_LEN / 32];

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// The block with which each lane is concerned.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    /// The block counters.
    pub(super) blocks: [u32; LANES],
    /// The WireGuard counters, which are the last 64 bits of the nonces: their low words, and their high ones.
    pub(super) nonces: [[u32; LANES]; 2],
}

/// The blocks of all lanes.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn eight_blocks(key: &[u32; 8], numbers: &Numbers) -> [Block; LANES] {
    let by = Shuffles::new();
    let start = start(key, numbers);
    let [mut a, mut b, mut c, mut d] = start;
    for _ in 0..10 {
        // Quarter rounds (RFC 8439, section 2.1), four in turn: of columns, and then of diagonals.
        add_xor_rotate::<16>(&by, &mut a, b, &mut d);
        add_xor_rotate::<12>(&by, &mut c, d, &mut b);
        add_xor_rotate::<8>(&by, &mut a, b, &mut d);
        add_xor_rotate::<7>(&by, &mut c, d, &mut b);
        (b, c, d) = ([b[1], b[2], b[3], b[0]], [c[2], c[3], c[0], c[1]], [d[3], d[0], d[1], d[2]]);
        add_xor_rotate::<16>(&by, &mut a, b, &mut d);
        add_xor_rotate::<12>(&by, &mut c, d, &mut b);
        add_xor_rotate::<8>(&by, &mut a, b, &mut d);
        add_xor_rotate::<7>(&by, &mut c, d, &mut b);
        (b, c, d) = ([b[3], b[0], b[1], b[2]], [c[2], c[3], c[0], c[1]], [d[1], d[2], d[3], d[0]]);
    }
    let mut x = [a, b, c, d];
    for (x, start) in x.as_flattened_mut().iter_mut().zip(start.as_flattened()) {
        *x = _mm256_add_epi32(*x, *start);
    }
    blocks(x)
}

/// The state that the blocks begin with: four rows of four words, of which a vector has one of all lanes.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn start(key: &[u32; 8], numbers: &Numbers) -> [[__m256i; 4]; 4] {
    let [k0, k1, k2, k3, k4, k5, k6, k7] = *key;
    let row = |words: [u32; 4]| words.map(|word| _mm256_set1_epi32(word.cast_signed()));
    let [low, high] = numbers.nonces;
    let counters = [lanes(numbers.blocks), _mm256_setzero_si256(), lanes(low), lanes(high)];
    [row(CONSTANTS), row([k0, k1, k2, k3]), row([k4, k5, k6, k7]), counters]
}

#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn lanes(words: [u32; LANES]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = words.map(u32::cast_signed);
    _mm256_setr_epi32(a, b, c, d, e, f, g, h)
}

/// `x += y; z ^= x; z <<<= BY`, of which a quarter round is four.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn add_xor_rotate<const BY: i32>(by: &Shuffles, x: &mut [__m256i; 4], y: [__m256i; 4], z: &mut [__m256i; 4]) {
    for i in 0..4 {
        x[i] = _mm256_add_epi32(x[i], y[i]);
        z[i] = rotate::<BY>(by, _mm256_xor_si256(z[i], x[i]));
    }
}

/// To the left.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn rotate<const BY: i32>(by: &Shuffles, x: __m256i) -> __m256i {
    match BY {
        16 => _mm256_shuffle_epi8(x, by.two_bytes),
        12 => _mm256_or_si256(_mm256_slli_epi32::<12>(x), _mm256_srli_epi32::<20>(x)),
        8 => _mm256_shuffle_epi8(x, by.one_byte),
        _ => _mm256_or_si256(_mm256_slli_epi32::<7>(x), _mm256_srli_epi32::<25>(x)),
    }
}

/// Rotations by whole bytes.
struct Shuffles {
    one_byte: __m256i,
    two_bytes: __m256i,
}

impl Shuffles {
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn new() -> Self {
        let each_half = |low, high| {
            // A compiler that knew them would make two instructions of each shuffle.
            black_box(_mm256_setr_epi64x(low, high, low, high))
        };
        Self {
            one_byte: each_half(0x0605_0407_0201_0003, 0x0e0d_0c0f_0a09_080b),
            two_bytes: each_half(0x0504_0706_0100_0302, 0x0d0c_0f0e_0908_0b0a),
        }
    }
}

/// Word `i` of all blocks in vector `i` becomes the blocks.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn blocks(rows: [[__m256i; 4]; 4]) -> [Block; LANES] {
    // Within each half: row g of lane 4h + i is half h of vector i of group g.
    let group = |g: usize| {
        let [w, x, y, z] = rows[g];
        let (wx_01, wx_23) = (_mm256_unpacklo_epi32(w, x), _mm256_unpackhi_epi32(w, x));
        let (yz_01, yz_23) = (_mm256_unpacklo_epi32(y, z), _mm256_unpackhi_epi32(y, z));
        [
            _mm256_unpacklo_epi64(wx_01, yz_01),
            _mm256_unpackhi_epi64(wx_01, yz_01),
            _mm256_unpacklo_epi64(wx_23, yz_23),
            _mm256_unpackhi_epi64(wx_23, yz_23),
        ]
    };
    let (g0, g1, g2, g3) = (group(0), group(1), group(2), group(3));
    let mut blocks = [[_mm256_setzero_si256(); 2]; LANES];
    for i in 0..4 {
        blocks[i] = [
            _mm256_permute2x128_si256::<0x20>(g0[i], g1[i]),
            _mm256_permute2x128_si256::<0x20>(g2[i], g3[i]),
        ];
        blocks[4 + i] = [
            _mm256_permute2x128_si256::<0x31>(g0[i], g1[i]),
            _mm256_permute2x128_si256::<0x31>(g2[i], g3[i]),
        ];
    }
    blocks
}
