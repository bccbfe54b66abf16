//! Leaving the packets' cryptography to the library, by environment: for comparisons, and for whoever trusts it more.

use std::env;

/// `library`: AWS-LC seals and opens packets, whatever the processor.
pub(crate) const ADIT_CRYPTO: &str = "ADIT_CRYPTO";

/// Does as the environment says. The error is one line.
pub(crate) fn choose() -> Result<(), String> {
    if let Some(value) = env::var_os(ADIT_CRYPTO)
        && wants_library(&value.to_string_lossy())?
    {
        adit_crypto::use_library();
    }
    Ok(())
}

fn wants_library(value: &str) -> Result<bool, String> {
    match value {
        "" => Ok(false),
        "library" => Ok(true),
        _ => Err(format!("{ADIT_CRYPTO}={value:?} means nothing; set it to library, or not at all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_a_meaning_and_others_get_one_line() {
        assert_eq!(wants_library("library"), Ok(true));
        assert_eq!(wants_library(""), Ok(false));
        for value in ["Library", "own", "library ", "line\nbreak"] {
            let error = wants_library(value).expect_err(value);
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(error.starts_with("ADIT_CRYPTO=") && error.contains("set it to library"), "{error}");
        }
    }
}
