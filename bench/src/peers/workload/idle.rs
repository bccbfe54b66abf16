//! What an engine does that has nothing to do: its context switches while 1,000 peers are configured and silent.

use std::thread;
use std::time::Duration;

use crate::peers::contender::Contender;
use crate::peers::sample::{Outcome, Sample, figures};
use crate::peers::topology::{Keys, PeerConfig, Site, Station, inner, outer};
use crate::peers::usage::Switches;

/// Peers that each engine has.
const PEERS: u16 = 1_000;
/// How long an engine may take to come to rest.
const SETTLING: Duration = Duration::from_secs(5);

/// An engine with its peers.
struct Resting {
    station: Station,
    _site: Site,
}

/// Watches all of them at once, for as long as `duration`, once: there is nothing to disturb and nothing to vary.
pub fn watch(contenders: &[&Contender], duration: Duration, report: &mut dyn FnMut(usize, Outcome)) {
    let resting: Vec<_> = contenders.iter().map(|contender| rest(contender)).collect();
    thread::sleep(SETTLING);
    let switches = || -> Vec<Result<Switches, String>> {
        let of = |resting: &Result<Resting, String>| match resting {
            Ok(resting) => Switches::of(resting.station.pid()),
            Err(why) => Err(why.clone()),
        };
        resting.iter().map(of).collect()
    };
    let before = switches();
    thread::sleep(duration);
    for (who, (before, after)) in before.into_iter().zip(switches()).enumerate() {
        let outcome = before.and_then(|before| {
            let sample = |after: Switches| Sample::of(figures::SWITCHES, after.since(&before) as f64);
            after.map(sample)
        });
        report(who, outcome);
    }
}

fn rest(contender: &Contender) -> Result<Resting, String> {
    let site = Site::new();
    let station = Station::start(contender, &site.a, 1)?;
    let peers = (0..PEERS).map(|number| {
        let [high, low] = number.to_be_bytes();
        Ok(PeerConfig {
            public_key: Keys::generate()?.public,
            address: [10, 64, high, low].into(),
            endpoint: Some((outer(2), 10_000 + number).into()),
        })
    });
    station.configure(&Keys::generate()?, &peers.collect::<Result<Vec<_>, String>>()?)?;
    site.a.address(station.interface(), &format!("{}/24", inner(1)));
    site.a.ip(&format!("link set {} up", station.interface()));
    Ok(Resting { station, _site: site })
}
