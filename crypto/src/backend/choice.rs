//! Which code serves new ChaCha20-Poly1305 keys, and batches of X25519.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use super::{avx2, avx512};

/// Whose code seals and opens, and multiplies points when there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// AWS-LC: runs everywhere.
    AwsLc,
    /// Our own, for trains of short packets on x86-64 with AVX2; AWS-LC for everything else.
    Avx2,
    /// Our own, for trains and batches on x86-64 with AVX-512 and its IFMA extension; AWS-LC for what is quicker there.
    Avx512,
}

impl Backend {
    /// Those that this CPU can run, the preferred one last.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::AwsLc, Self::Avx2, Self::Avx512].into_iter().filter(|backend| backend.is_available())
    }

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AwsLc => "AWS-LC",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512/IFMA",
        }
    }

    fn is_available(self) -> bool {
        match self {
            Self::AwsLc => true,
            Self::Avx2 => avx2::is_available(),
            Self::Avx512 => avx512::is_available(),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Set once, by a switch or by a failed self-test, and never reset: nothing is ordered by it.
static LIBRARY_ONLY: AtomicBool = AtomicBool::new(false);

/// What AEAD keys made from now on use, and batches of X25519.
#[must_use]
pub fn preferred_backend() -> Backend {
    match LIBRARY_ONLY.load(Ordering::Relaxed) {
        true => Backend::AwsLc,
        false => Backend::available().last().unwrap_or(Backend::AwsLc),
    }
}

/// Makes AEAD keys and batches of X25519 use the library alone from now on, for the rest of the program's life. AEAD keys
/// that exist stay as they are.
pub fn use_library() {
    LIBRARY_ONLY.store(true, Ordering::Relaxed);
}
