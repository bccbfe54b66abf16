//! Lists of what to do without, by option and by environment: wg-quick starts the daemon with nothing but the interface.

use std::env;

/// A name, and what it switches off.
pub(crate) type Switch<W> = (&'static str, fn(&mut W));

/// What can be done without, and where that is said.
pub(crate) struct Switches<W: 'static> {
    /// What one of them is called.
    pub(crate) thing: &'static str,
    pub(crate) names: &'static [Switch<W>],
    pub(crate) option: &'static str,
    /// The environment variable, which adds to the option.
    pub(crate) variable: &'static str,
}

impl<W: Default> Switches<W> {
    /// All but what `lists`, of the option, and the environment name. The error is one line.
    pub(crate) fn without(&self, lists: &[String]) -> Result<W, String> {
        let mut wanted = W::default();
        for list in lists {
            self.switch_off(&mut wanted, self.option, list)?;
        }
        if let Some(list) = env::var_os(self.variable) {
            self.switch_off(&mut wanted, self.variable, &list.to_string_lossy())?;
        }
        Ok(wanted)
    }

    /// `origin` is whom to blame. An empty list is none, and so is an empty place in one.
    pub(crate) fn switch_off(&self, wanted: &mut W, origin: &str, list: &str) -> Result<(), String> {
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let (_, switch_off) = self.names.iter().find(|(known, _)| *known == name).ok_or_else(|| {
                let known: Vec<_> = self.names.iter().map(|(known, _)| *known).collect();
                format!("{origin}: no {} is called {name:?}; there are {}", self.thing, known.join(", "))
            })?;
            switch_off(wanted);
        }
        Ok(())
    }
}
