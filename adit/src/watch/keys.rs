//! What is typed: letters, and the sequences that terminals send for other keys.

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    Top,
    Bottom,
    Redraw,
    Suspend,
}

/// The keys with a meaning, by the bytes of each. A sequence stands before what it begins with.
const KEYS: [(&[u8], Key); 23] = [
    (b"\x1b[A", Key::Up),
    (b"\x1bOA", Key::Up),
    (b"\x1b[B", Key::Down),
    (b"\x1bOB", Key::Down),
    (b"\x1b[5~", Key::PageUp),
    (b"\x1b[6~", Key::PageDown),
    (b"\x1b[H", Key::Top),
    (b"\x1bOH", Key::Top),
    (b"\x1b[1~", Key::Top),
    (b"\x1b[F", Key::Bottom),
    (b"\x1bOF", Key::Bottom),
    (b"\x1b[4~", Key::Bottom),
    (b"k", Key::Up),
    (b"j", Key::Down),
    (b"b", Key::PageUp),
    (b" ", Key::PageDown),
    (b"g", Key::Top),
    (b"G", Key::Bottom),
    (b"q", Key::Quit),
    (b"Q", Key::Quit),
    (b"\x03", Key::Quit),
    (b"\x1a", Key::Suspend),
    (b"\x0c", Key::Redraw),
];

/// The keys in what was read, which may be several. What has no meaning is passed over, sequences as a whole.
pub(super) fn of(mut typed: &[u8]) -> impl Iterator<Item = Key> {
    std::iter::from_fn(move || {
        while !typed.is_empty() {
            if let Some((bytes, key)) = KEYS.iter().find(|(bytes, _)| typed.starts_with(bytes)) {
                typed = &typed[bytes.len()..];
                return Some(*key);
            }
            typed = &typed[unknown(typed)..];
        }
        None
    })
}

/// The length of what has no meaning. The letters of a sequence are no keys.
fn unknown(typed: &[u8]) -> usize {
    match typed {
        [0x1b, b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte));
            end.map_or(typed.len(), |end| 2 + end + 1)
        }
        [0x1b, _, ..] => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(typed: &[u8]) -> Vec<Key> {
        of(typed).collect()
    }

    #[test]
    fn several_at_once() {
        assert_eq!(keys(b"jk\x1b[Bq"), [Key::Down, Key::Up, Key::Down, Key::Quit]);
        assert_eq!(keys(b"\x03"), [Key::Quit]);
        assert_eq!(keys(b""), []);
    }

    #[test]
    fn sequences_without_a_meaning_are_no_letters() {
        assert_eq!(keys(b"\x1b[1;5q\x1b[200~\x1bq\x1b"), []);
        assert_eq!(keys(b"xyz\x1b[Cj"), [Key::Down]);
    }
}
