//! Ten thousand random configurations while data flow both ways: none lost, none overtaken, and the last one is in force.
//! `bench sets` does the same with a clock, and says how long data were held up.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::adit;
use lab::sets::{Live, Sets};
use lab::wg::hex;
use lab::{Beat, Outer, Pace, Pair, needs, seconds};

const SETS: usize = 10_000;
const LIMIT: Duration = seconds(30);

#[test]
fn ten_thousand_sets_lose_nothing() {
    needs!("netns", "tun", "wg", "ping");
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let pair = Pair::new(&adit(), &adit());
    pair.a_knows_b(Outer::V4);
    pair.a.reaches(&pair.b);
    let pace = Pace { every: Duration::ZERO, window: 64 };
    let address = |inner: String| -> IpAddr { inner.parse().expect("an address") };
    // Either direction with an address family of its own.
    let out =
        Beat::start((&pair.a.ns, address(pair.a.inner4())), (&pair.b.ns, address(pair.b.inner4())), pace);
    let back =
        Beat::start((&pair.b.ns, address(pair.b.inner6())), (&pair.a.ns, address(pair.a.inner6())), pace);
    assert!(out.arrives(LIMIT) && back.arrives(LIMIT), "nothing flows");

    let mut sets = Sets::new(seed, live(&pair), 200, "10.77.0");
    let mut uapi = pair.a.engine.uapi();
    for number in 0..SETS {
        let set = sets.next();
        let mut apply = |lines: &str| assert_eq!(uapi.set(lines), 0, "set {number}: {lines}");
        if set.reroutes {
            // The other end learns of the new way by what comes that way.
            assert!(back.pause(LIMIT) && out.pause(LIMIT), "set {number}: something is lost before it");
            apply(&set.lines);
            out.resume();
            assert!(out.arrives(LIMIT), "set {number}: nothing arrives by the new way: {}", set.lines);
            back.resume();
        } else {
            apply(&set.lines);
        }
    }
    assert!(out.arrives(LIMIT) && back.arrives(LIMIT), "nothing flows any more");
    for (direction, beat) in [("from the engine", out), ("to the engine", back)] {
        let tally = beat.stop();
        println!("{direction}: {} sent", tally.sent);
        assert_eq!((tally.lost(), tally.disordered), (0, 0), "{direction}: {:?}", tally.gaps);
    }
    assert_eq!(sets.differs(&uapi.get()), None);
}

fn live(pair: &Pair) -> Live {
    Live {
        private_key: hex(&pair.a.keys.private),
        public_key: hex(&pair.b.keys.public),
        allowed_ips: vec![format!("{}/32", pair.b.inner4()), format!("{}/128", pair.b.inner6())],
        endpoints: [Outer::V4, Outer::V6].map(|outer| pair.b.endpoint(outer).to_string()).into(),
    }
}
