//! The same for programs. `docs/json.md` describes it, and `docs/show.schema.json` is its schema.

use serde_json::{Map, Value, json};

use super::{ScopeName, Standing, endpoint};
use crate::Get;
use crate::why::{Event, Tally, Why};

/// What an interface has under the name of `why`. There are no secrets in it.
#[must_use]
pub fn value(get: &Get, why: Option<&Why>, now: u64, scope_name: ScopeName) -> Value {
    let by_peer = why.map(Why::by_peer);
    let of_peer = |key| by_peer.as_ref().map(|of| tallies(of.get(key).copied().unwrap_or_default()));
    let peers: Vec<Value> = get
        .peers
        .iter()
        .map(|peer| {
            json!({
                "public_key": peer.public_key.to_base64(),
                "standing": Standing::of(peer, now).key(),
                "reasons": of_peer(&peer.public_key),
            })
        })
        .collect();
    json!({
        "is_listening": why.map(|why| why.is_listening),
        "reasons": why.map(|why| tallies(&why.tallies)),
        "peers": peers,
        "events": why.map(|why| why.events.iter().map(|one| event(one, scope_name)).collect::<Vec<_>>()),
    })
}

fn tallies(tallies: &[Tally]) -> Value {
    let member = |tally: &Tally| {
        let value = json!({ "count": tally.count, "last_seconds_ago": tally.age.as_secs() });
        (tally.reason.key().to_owned(), value)
    };
    Value::Object(tallies.iter().map(member).collect::<Map<_, _>>())
}

fn event(event: &Event, scope_name: ScopeName) -> Value {
    json!({
        "reason": event.reason.key(),
        "count": event.count,
        "last_seconds_ago": event.age.as_secs(),
        "first_seconds_ago": event.first_age.as_secs(),
        "public_key": event.peer.map(|key| key.to_base64()),
        "endpoint": event.endpoint.as_ref().map(|addr| endpoint(addr, scope_name)),
        "address": event.address,
        "errno": event.errno,
        "clock_off_seconds": event.clock_off.map(|off| off.as_secs()),
    })
}
