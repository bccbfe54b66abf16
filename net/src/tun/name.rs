//! Names of network interfaces, by the rules of the kernel's `dev_valid_name`.

use super::TunError;

/// Longest name in bytes: `IFNAMSIZ` without its terminating zero.
pub const MAX_NAME_LEN: usize = libc::IFNAMSIZ - 1;

/// Checks a name before the kernel sees it, so that the complaint can say more than `EINVAL`.
///
/// A single `%d` is allowed: the kernel puts the first free number there.
///
/// # Errors
/// [`TunError::BadName`].
pub fn check_name(name: &str) -> Result<(), TunError> {
    let unprintable = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let percent_ok = match name.split_once('%') {
        None => true,
        Some((_, after)) => after.starts_with('d') && !after.contains('%'),
    };
    let length_ok = (1..=MAX_NAME_LEN).contains(&name.len());
    if length_ok && name != "." && name != ".." && !name.contains(unprintable) && percent_ok {
        Ok(())
    } else {
        Err(TunError::BadName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn accepts_what_the_kernel_accepts() {
        for name in ["wg0", "wg%d", "a", "fifteen-bytes-x", "wg.0", "...", "wg_=+-", "ü"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn refuses_what_the_kernel_refuses() {
        for name in
            ["", ".", "..", "sixteen-bytes-xx", "a/b", "a b", "a\t", "a:1", "a\0", "wg%s", "%d%d", "wg%"]
        {
            let error = check_name(name).expect_err(name);
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}
