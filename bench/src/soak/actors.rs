//! Who changes the engines' configuration, their network, their sessions.

use std::fmt::Write as _;
use std::thread::{self, Scope};
use std::time::Duration;

use lab::Dice;

use super::clients::{Readers, Rude};
use super::scene::{PORT, Scene};
use super::stage::{Actor, Stage};
use super::strangers::{Flood, Strangers};
use crate::peers::topology::{CABLE, Keys, hex};

/// Peers that come and go at a time, and in one set.
const CROWD: usize = 2_000;
const SECTION: usize = 100;
/// Keys that they have. All of them have been called and removed after some minutes: what an engine remembers of removed
/// peers then grows no more.
const CROWD_KEYS: u64 = 3_000;

/// All actors.
pub struct Cast<'a>(Vec<Box<dyn Actor + 'a>>);

impl<'a> Cast<'a> {
    /// Those that suit the engines of `scene`.
    ///
    /// # Errors
    /// Without randomness.
    pub fn new(scene: &'a Scene, mut dice: Dice) -> Result<Cast<'a>, String> {
        add_names(scene);
        Ok(Cast(vec![
            Box::new(Rekeys::new(scene, dice.split())?),
            Box::new(Crowd { scene, dice: dice.split(), there: Vec::new() }),
            Box::new(Strangers::new(scene, dice.split(), 1..65)?),
            Box::new(Strangers::new(scene, dice.split(), 65..129)?),
            Box::new(Flood::new(scene, dice.split())?),
            Box::new(FarEnd { scene, dice: dice.split() }),
            Box::new(NearEnd { scene, dice: dice.split() }),
            Box::new(Routes { scene, dice: dice.split() }),
            Box::new(Rude::new(scene, dice.split())),
            Box::new(Readers::new(scene, dice.split())),
        ]))
    }

    /// Gives each a thread; returns how many they are.
    pub fn start<'scope>(&'scope mut self, scope: &'scope Scope<'scope, '_>, stage: &'scope Stage) -> usize {
        let count = self.0.len();
        for actor in &mut self.0 {
            scope.spawn(move || stage.play(actor.as_mut()));
        }
        count
    }
}

/// Peers whose names are looked up again and again, since nobody is where they lead. Engines that know no names refuse them.
fn add_names(scene: &Scene) {
    let mut dice = Dice::new(0);
    for _ in 0..8 {
        let key = dice.key();
        let name = "endpoint_name=localhost:9\npersistent_keepalive_interval=1";
        scene.inside.uapi().set(&format!("public_key={key}\nendpoint=10.77.0.250:9\n{name}\n"));
    }
}

/// New sessions all the time: the peer is removed and added, or the private key is changed and changed back.
struct Rekeys<'a> {
    scene: &'a Scene,
    dice: Dice,
    other_key: String,
}

impl<'a> Rekeys<'a> {
    fn new(scene: &'a Scene, dice: Dice) -> Result<Self, String> {
        Ok(Rekeys { scene, dice, other_key: hex(Keys::generate()?.secret.expose()) })
    }
}

impl Actor for Rekeys<'_> {
    fn act(&mut self, stage: &Stage) {
        let end = &self.scene.inside;
        if self.dice.once_in(8) {
            let keys = format!("private_key={}\n", self.other_key);
            stage.disturb("private keys changed and back", || {
                end.set(&keys);
                end.set(&format!("private_key={}\n", end.private()));
            });
        } else {
            let lines =
                format!("public_key={}\nremove=true\n{}", self.scene.outside.public(), self.scene.far_peer());
            stage.disturb("rekeys by removal", || end.set(&lines));
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(1000 + self.dice.below(2000))
    }
}

/// Peers by the thousand, whose allowed IPs overlap and move between them.
struct Crowd<'a> {
    scene: &'a Scene,
    dice: Dice,
    there: Vec<String>,
}

impl Crowd<'_> {
    fn add(&mut self) {
        let mut lines = String::new();
        for _ in 0..SECTION {
            let key = Dice::new(self.dice.below(CROWD_KEYS)).key();
            let [a, b] = [self.dice.below(16), self.dice.below(256)];
            let _ = writeln!(
                lines,
                "public_key={key}\nallowed_ip=10.{}.{b}.0/24\nallowed_ip=10.128.0.0/{}",
                128 + a,
                9 + a
            );
            let _ = writeln!(
                lines,
                "allowed_ip=fd01:{b:x}:{a:x}::/{}\nallowed_ip=192.168.0.0/{}",
                48 + a,
                16 + a / 2
            );
            if self.dice.once_in(4) {
                let _ = writeln!(lines, "preshared_key={}", self.dice.key());
            }
            if self.dice.once_in(16) {
                let _ = writeln!(
                    lines,
                    "endpoint=10.77.0.{}:{}\npersistent_keepalive_interval=1",
                    100 + b / 2,
                    9000 + a
                );
            }
            self.there.push(key);
        }
        self.scene.inside.set(&lines);
    }

    fn remove(&mut self, count: usize) {
        let mut lines = String::new();
        for _ in 0..count.min(self.there.len()) {
            let at = usize::try_from(self.dice.below(self.there.len() as u64)).expect("a place in it");
            let _ = writeln!(lines, "public_key={}\nremove=true", self.there.swap_remove(at));
        }
        self.scene.inside.set(&lines);
    }
}

impl Actor for Crowd<'_> {
    fn act(&mut self, stage: &Stage) {
        if self.there.len() < CROWD && !self.dice.once_in(3) {
            self.add();
            stage.did("peers added", SECTION as u64);
        } else {
            let count = (2 * SECTION).min(self.there.len());
            self.remove(count);
            stage.did("peers removed", count as u64);
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.dice.below(100))
    }

    fn rest(&mut self, stage: &Stage) {
        let count = self.there.len();
        self.remove(count);
        stage.did("peers removed", count as u64);
    }
}

/// The other engine, which moves.
struct FarEnd<'a> {
    scene: &'a Scene,
    dice: Dice,
}

impl Actor for FarEnd<'_> {
    fn act(&mut self, stage: &Stage) {
        let (near, far) = (&self.scene.inside, &self.scene.outside);
        if self.dice.once_in(2) {
            let port = 30_000 + self.dice.below(20_000);
            stage.disturb("ports that the peer went to", || far.set(&format!("listen_port={port}\n")));
        } else {
            let port = far.uapi().get().first("listen_port").unwrap_or_default().to_owned();
            let address = self.dice.one_of(&["10.77.0.2", "10.77.0.3", "[fd77::2]"]);
            let key = far.public();
            let keepalive = self.dice.below(30);
            let lines = format!(
                "public_key={key}\nupdate_only=true\nendpoint={address}:{port}\npersistent_keepalive_interval={keepalive}\n"
            );
            stage.disturb("addresses that the peer is called at", || near.set(&lines));
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(300 + self.dice.below(1500))
    }

    fn rest(&mut self, _: &Stage) {
        self.scene.outside.set(&format!("listen_port={PORT}\n"));
        let key = self.scene.outside.public();
        let lines = format!(
            "public_key={key}\nupdate_only=true\nendpoint=10.77.0.2:{PORT}\npersistent_keepalive_interval=0\n"
        );
        self.scene.inside.set(&lines);
    }
}

/// The engine under test: its port, its mark, its interface.
struct NearEnd<'a> {
    scene: &'a Scene,
    dice: Dice,
}

impl Actor for NearEnd<'_> {
    fn act(&mut self, stage: &Stage) {
        let end = &self.scene.inside;
        match self.dice.below(8) {
            0..4 => {
                let port = 20_000 + self.dice.below(10_000);
                stage.disturb("ports of the engine's own", || {
                    end.set(&format!("listen_port={port}\n"));
                    thread::sleep(Duration::from_millis(200));
                    // Where strangers look for it.
                    end.set(&format!("listen_port={PORT}\n"));
                });
            }
            4..7 => {
                stage.did("marks set", 1);
                end.set(&format!("fwmark={}\n", self.dice.below(1 << 32)));
            }
            _ => stage.disturb("times that the interface went down", || {
                end.ip(&format!("link set {} down", end.engine.interface()));
                thread::sleep(Duration::from_millis(self.dice.below(500)));
                end.bring_up();
            }),
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(1000 + self.dice.below(2000))
    }

    fn rest(&mut self, _: &Stage) {
        self.scene.inside.set("fwmark=0\n");
    }
}

/// Routes that come and go, the way to the peer among them.
struct Routes<'a> {
    scene: &'a Scene,
    dice: Dice,
}

impl Actor for Routes<'_> {
    fn act(&mut self, stage: &Stage) {
        let end = &self.scene.inside;
        for _ in 0..4 {
            let n = self.dice.below(8);
            end.ip(&format!("route replace 10.99.{n}.0/24 via 10.77.0.2"));
            if self.dice.once_in(2) {
                end.ip(&format!("route del 10.99.{n}.0/24"));
            }
        }
        stage.did("route changes", 6);
        if self.dice.once_in(4) {
            stage.did("ways to the peer that changed", 1);
            end.ip(&format!("route replace 10.77.0.3/32 dev {CABLE}"));
            end.ip("route flush cache");
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(500 + self.dice.below(500))
    }

    fn rest(&mut self, _: &Stage) {
        let end = &self.scene.inside;
        (0..8).for_each(|n| end.ip(&format!("route flush 10.99.{n}.0/24")));
        end.ip(&format!("route flush 10.77.0.3/32 dev {CABLE}"));
    }
}
