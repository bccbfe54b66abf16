//! Questions and answers of DNS (RFC 1035, 4), as far as addresses take them. Answers are anybody's bytes.

use std::net::IpAddr;

const HEADER_LEN: usize = 12;
/// In the second byte of the flags: the answer code.
const RCODE: u8 = 0x0f;
const NO_SUCH_NAME: u8 = 3;
const IS_ANSWER: u8 = 0x80;
const RECURSION_DESIRED: u8 = 1;
const INTERNET: u16 = 1;
/// The two bits that say that the rest of a name stands elsewhere.
const POINTER: u8 = 0xc0;
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    A = 1,
    Aaaa = 28,
}

/// A question for the addresses of one family.
#[derive(Debug)]
pub(super) struct Question(Vec<u8>);

/// What an answer says.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// Perhaps none.
    Addresses(Vec<IpAddr>),
    /// The server cannot tell, or what it says makes no sense.
    Failure,
}

impl Question {
    /// `None` if `host` is no name of DNS.
    pub(super) fn new(host: &str, kind: Kind, id: u16) -> Option<Question> {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        bytes[2] = RECURSION_DESIRED;
        bytes[5] = 1;
        for label in host.strip_suffix('.').unwrap_or(host).split('.') {
            if label.is_empty() || label.len() > MAX_LABEL {
                return None;
            }
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        if bytes.len() - HEADER_LEN > MAX_NAME {
            return None;
        }
        bytes.extend((kind as u16).to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        Some(Question(bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether an answer repeats the number and the question, letters perhaps in other cases.
    pub(super) fn is_answered_by(&self, answer: &[u8]) -> bool {
        let (Some(header), Some(question)) = (answer.get(..HEADER_LEN), answer.get(HEADER_LEN..self.0.len()))
        else {
            return false;
        };
        header[..2] == self.0[..2]
            && header[2] & IS_ANSWER != 0
            && header[4..6] == [0, 1]
            && question.eq_ignore_ascii_case(&self.0[HEADER_LEN..])
    }

    /// Reads an answer to this question: all addresses in it, whatever aliases lead to them.
    pub(super) fn read(&self, answer: &[u8]) -> Answer {
        match answer[3] & RCODE {
            0 => {}
            NO_SUCH_NAME => return Answer::Addresses(Vec::new()),
            _ => return Answer::Failure,
        }
        let count = u16::from_be_bytes([answer[6], answer[7]]);
        let mut rest = &answer[self.0.len()..];
        let mut addresses = Vec::new();
        for _ in 0..count {
            // One that was cut short has whole records before that.
            let Some((address, after)) = record(rest) else { break };
            addresses.extend(address);
            rest = after;
        }
        Answer::Addresses(addresses)
    }
}

/// The address in a record, if it has one, and what comes after it.
fn record(bytes: &[u8]) -> Option<(Option<IpAddr>, &[u8])> {
    let (fixed, rest) = skip_name(bytes)?.split_first_chunk::<10>()?;
    let [kind, class] = [[fixed[0], fixed[1]], [fixed[2], fixed[3]]].map(u16::from_be_bytes);
    let (data, rest) = rest.split_at_checked(u16::from_be_bytes([fixed[8], fixed[9]]).into())?;
    let is = |wanted: Kind| class == INTERNET && kind == wanted as u16;
    let address = match data.len() {
        4 if is(Kind::A) => data.first_chunk::<4>().map(|addr| IpAddr::from(*addr)),
        16 if is(Kind::Aaaa) => data.first_chunk::<16>().map(|addr| IpAddr::from(*addr)),
        _ => None,
    };
    Some((address, rest))
}

/// What comes after a name. Where a pointer leads does not matter.
fn skip_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (len, rest) = bytes.split_first()?;
        match *len {
            0 => return Some(rest),
            len if len & POINTER == POINTER => return rest.get(1..),
            len if len & POINTER != 0 => return None,
            len => bytes = rest.get(len.into()..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: u16 = 0x1234;

    fn question(kind: Kind) -> Question {
        Question::new("vpn.example.com", kind, ID).unwrap()
    }

    /// An answer with these records after the question.
    fn answer(kind: Kind, code: u8, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question(kind).0;
        bytes[2] |= IS_ANSWER;
        bytes[3] = 0x80 | code;
        bytes[7] = records.len() as u8;
        for (name, kind, data) in records {
            bytes.extend(*name);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            bytes.extend(*data);
        }
        bytes
    }

    #[test]
    fn questions_are_spelled_as_the_standard_says() {
        let bytes = Question::new("a.bc.", Kind::Aaaa, ID).unwrap().0;
        assert_eq!(bytes, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x1c\0\x01");
        let long = vec!["a".repeat(63); 4].join(".");
        for wrong in ["", ".", "a..b", &"a".repeat(64), &long] {
            assert!(Question::new(wrong, Kind::A, ID).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn aliases_lead_to_addresses() {
        let alias = (&b"\xc0\x0c"[..], 5, &b"\x01b\xc0\x10"[..]);
        let bytes =
            answer(Kind::A, 0, &[alias, (b"\x01b\xc0\x10", 1, &[192, 0, 2, 1]), (b"\0", 1, &[192, 0, 2, 2])]);
        let asked = question(Kind::A);
        assert!(asked.is_answered_by(&bytes));
        let expected = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        assert_eq!(asked.read(&bytes), Answer::Addresses(expected.to_vec()));
        assert_eq!(asked.read(&bytes[..bytes.len() - 1]), Answer::Addresses(expected[..1].to_vec()));
        let six = answer(Kind::Aaaa, 0, &[(b"\xc0\x0c", 28, &[1; 16]), (b"\xc0\x0c", 28, &[1; 4])]);
        assert_eq!(question(Kind::Aaaa).read(&six), Answer::Addresses(vec![IpAddr::from([1; 16])]));
    }

    #[test]
    fn no_name_is_an_answer_and_no_help_is_none() {
        let asked = question(Kind::A);
        assert_eq!(asked.read(&answer(Kind::A, NO_SUCH_NAME, &[])), Answer::Addresses(vec![]));
        assert_eq!(asked.read(&answer(Kind::A, 0, &[])), Answer::Addresses(vec![]));
        assert_eq!(asked.read(&answer(Kind::A, 2, &[])), Answer::Failure);
    }

    #[test]
    fn answers_to_other_questions_do_not_count() {
        let (asked, right) = (question(Kind::A), answer(Kind::A, 0, &[]));
        assert!(asked.is_answered_by(&right.to_ascii_uppercase()), "whatever the case");
        assert!(!asked.is_answered_by(&answer(Kind::Aaaa, 0, &[])));
        assert!(!asked.is_answered_by(asked.as_bytes()), "a question");
        for place in [0, 1, 5, 13, 20] {
            let mut other = right.clone();
            other[place] ^= 1;
            assert!(!asked.is_answered_by(&other), "{place}");
        }
        assert!(!asked.is_answered_by(&right[..right.len() - 1]));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read(rest in proptest::collection::vec(any::<u8>(), 0..100), count in any::<u8>()) {
            let mut bytes = answer(Kind::A, 0, &[]);
            bytes[7] = count;
            bytes.extend(rest);
            let asked = question(Kind::A);
            prop_assert!(asked.is_answered_by(&bytes));
            asked.read(&bytes);
        }
    }
}
