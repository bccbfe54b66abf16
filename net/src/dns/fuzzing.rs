//! Questions and answers as bytes, for the fuzz target.

use std::net::IpAddr;

use super::message::{Answer, Kind, Question};

/// The question for `host`'s addresses of a family; `None` if it is no name of DNS.
pub fn question(host: &str, v6: bool, id: u16) -> Option<Vec<u8>> {
    Question::new(host, kind(v6), id).map(|question| question.as_bytes().to_vec())
}

/// What `answer` says to that question; `None` if it is not taken for one to it, `Some(None)` if it is of no help.
pub fn answer(host: &str, v6: bool, id: u16, answer: &[u8]) -> Option<Option<Vec<IpAddr>>> {
    let question = Question::new(host, kind(v6), id)?;
    question.is_answered_by(answer).then(|| match question.read(answer) {
        Answer::Addresses(addresses) => Some(addresses),
        Answer::Failure => None,
    })
}

fn kind(v6: bool) -> Kind {
    if v6 { Kind::Aaaa } else { Kind::A }
}
