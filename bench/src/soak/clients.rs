//! Who asks the engine for its configuration, and who behaves badly while doing so.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lab::{Cmd, Dice};

use super::scene::Scene;
use super::stage::{Actor, Stage};

/// Connections kept open at most: more than an engine need put up with.
const KEPT: usize = 400;

/// Clients that stop in the middle, read nothing, send garbage, vanish.
pub struct Rude<'a> {
    scene: &'a Scene,
    dice: Dice,
    kept: Vec<UnixStream>,
}

impl<'a> Rude<'a> {
    /// Of the engine under test.
    pub fn new(scene: &'a Scene, dice: Dice) -> Rude<'a> {
        Rude { scene, dice, kept: Vec::new() }
    }
}

impl Actor for Rude<'_> {
    fn act(&mut self, stage: &Stage) {
        for _ in 0..self.dice.below(30) {
            let Ok(mut stream) = UnixStream::connect(self.scene.inside.engine.socket()) else { continue };
            let _ = stream.set_nonblocking(true);
            let words: &[u8] = match self.dice.below(5) {
                0 => b"get=1\n\nget=1\n\nget=1\n\n",
                1 => b"set=1\nlisten_port=5",
                2 => b"set=1\nfrobnicate=1\n\n",
                3 => b"\0\xff\xff\n\n\n",
                _ => b"",
            };
            // It may have been turned away.
            let _ = stream.write_all(words);
            stage.did("clients that behave badly", 1);
            if self.dice.once_in(2) {
                self.kept.push(stream);
            }
        }
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(50)
    }

    fn rest(&mut self, _: &Stage) {
        self.kept.clear();
    }
}

/// Programs that show the configuration.
pub struct Readers<'a> {
    scene: &'a Scene,
    dice: Dice,
}

impl<'a> Readers<'a> {
    /// Of the engine under test.
    pub fn new(scene: &'a Scene, dice: Dice) -> Readers<'a> {
        Readers { scene, dice }
    }
}

impl Actor for Readers<'_> {
    fn act(&mut self, stage: &Stage) {
        let name = self.scene.inside.engine.interface();
        // The fields that have no keys in them, for nobody looks at the answer.
        let field = self.dice.one_of(&["endpoints", "allowed-ips", "transfer", "latest-handshakes"]);
        let shown = Cmd::new(&format!("wg show {name} {field}")).run();
        assert!(shown.success(), "wg show: {}", shown.stderr);
        stage.did("configurations shown", 1);
        if let Some(bytes) = self.scene.scrape() {
            assert!(bytes > 0, "adit metrics does not answer");
            stage.did("metrics read", 1);
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(300 + self.dice.below(400))
    }
}
