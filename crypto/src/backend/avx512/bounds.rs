//! That nothing overflows in [`poly1305`](super::poly1305): the largest values there are, through the same operations.
//!
//! All of them are monotonic, so the largest of what goes in makes the largest of what comes out. The compiler computes
//! this, and refuses to build what could lose a bit.

/// Each limb's largest value.
type Largest = [u128; 3];

const fn below(bits: u32) -> u128 {
    (1 << bits) - 1
}

/// What `Product::carry` makes.
const CARRIED: Largest = [below(44), below(44) + (1 << 15), below(42)];
const TIGHT: Largest = [below(44), below(44), below(41)];
/// Of limb 0 the instruction itself ignores what is above.
const LOOSE: Largest = [below(52), below(52), below(41)];

/// The most that a multiplication sums up.
const MOST_BLOCKS: u128 = 4;

/// A multiplication takes loose blocks, or the sum of a carried number and a tight block, by a carried number.
const MULTIPLICAND: Largest = {
    let mut largest = LOOSE;
    let mut limb = 0;
    while limb < 3 {
        let sum = CARRIED[limb] + TIGHT[limb];
        if sum > largest[limb] {
            largest[limb] = sum;
        }
        limb += 1;
    }
    largest
};

/// Low and high parts of a limb that is the sum of such products of `factors`.
const fn accumulated(factors: [(u128, u128); 3]) -> (u128, u128) {
    let (mut low, mut high) = (0, 0);
    let mut i = 0;
    while i < 3 {
        let (m, r) = factors[i];
        assert!(m <= below(52) && r <= below(52), "`vpmadd52` would cut a factor");
        low += MOST_BLOCKS * if m * r < below(52) { m * r } else { below(52) };
        high += MOST_BLOCKS * ((m * r) >> 52);
        i += 1;
    }
    (fits(low), fits(high))
}

const fn fits(value: u128) -> u128 {
    assert!(value <= below(64), "a lane would overflow");
    value
}

/// `Product::accumulate` and `Product::carry`.
const fn carried() -> Largest {
    let [m0, m1, m2] = MULTIPLICAND;
    let [r0, r1, r2] = CARRIED;
    let (r1_20, r2_20) = (20 * r1, 20 * r2);
    let (l0, h0) = accumulated([(m0, r0), (m1, r2_20), (m2, r1_20)]);
    let (l1, h1) = accumulated([(m0, r1), (m1, r0), (m2, r2_20)]);
    let (l2, h2) = accumulated([(m0, r2), (m1, r1), (m2, r0)]);

    let l1 = fits(l1 + fits((h0 << 8) + (l0 >> 44)));
    let l2 = fits(l2 + fits((h1 << 8) + (l1 >> 44)));
    let above = fits((h2 << 10) + (l2 >> 42));
    let l0 = fits(below(44) + fits(5 * above));
    [below(44), below(44) + (l0 >> 44), below(42)]
}

/// What goes in and what comes out have the same bounds.
const _: () = {
    let [l0, l1, l2] = carried();
    assert!(l0 <= CARRIED[0] && l1 <= CARRIED[1] && l2 <= CARRIED[2], "carried limbs grow");
};

/// `Limbs::canonical` adds 5 to a number whose limbs 0 and 1 are of 44 bits, and limb 1 by at most one more.
const _: () = assert!(fits(below(44) + 5 * ((CARRIED[2] + (CARRIED[1] >> 44)) >> 42)) >> 44 <= 1);
