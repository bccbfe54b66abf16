//! Who is measured: Adit, the engines found on this machine, those named by the user, and the copy limit.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::Cmd;
use lab::require::find;

/// The engines that are looked for, by the names of their programs, with the arguments that they need here.
///
/// boringtun and GotaTun give up root by default, which a run without a login user makes them fail at.
const KNOWN: [(&str, &[&str], &str); 3] = [
    ("wireguard-go", &["wireguard-go"], ""),
    ("boringtun", &["boringtun-cli"], "--disable-drop-privileges"),
    ("gotatun", &["gotatun", "gotatun-cli"], "--disable-drop-privileges"),
];

/// The name of the copy limit.
const COPY_LIMIT: &str = "copy limit";
/// The name of Adit.
const ADIT: &str = "adit";

/// What part a contender has in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the benchmark is about.
    Adit,
    /// What it is compared with.
    Peer,
    /// No engine, but the bound on all of them.
    CopyLimit,
}

/// One that takes its turn in every round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Its name in the tables.
    pub name: String,
    /// Its part.
    pub role: Role,
    /// The command that starts it, split at white space.
    pub command: String,
    /// What its `--version` prints first, or nothing.
    pub version: String,
}

impl Contender {
    /// The same, for a crowd: the copy limit has to be told.
    pub fn for_crowd(&self) -> Contender {
        let crowd = if self.role == Role::CopyLimit { " --crowd" } else { "" };
        Contender { command: format!("{}{crowd}", self.command), ..self.clone() }
    }

    fn engine(name: &str, role: Role, command: &str) -> Contender {
        let version = Cmd::new(&format!("{command} --version")).run().text();
        let version = version.lines().next().unwrap_or_default().trim().to_owned();
        Contender { name: name.to_owned(), role, command: command.to_owned(), version }
    }
}

/// Adit first, the copy limit last.
///
/// # Errors
/// When there is no Adit, `peers` has an entry that is not `NAME=COMMAND` with a program that exists, or `without` names
/// nobody.
pub fn gather(adit: Option<&Path>, peers: &[String], without: &[String]) -> Result<Vec<Contender>, String> {
    let this = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let adit = match adit {
        Some(path) => path.to_owned(),
        None => beside(&this)?,
    };
    if !adit.is_file() {
        return Err(format!(
            "there is no {}: build it with `cargo build --release -p adit`, or name one with --adit",
            adit.display()
        ));
    }
    let mut contenders = vec![Contender::engine(ADIT, Role::Adit, &adit.display().to_string())];
    for (name, programs, arguments) in KNOWN {
        let program = programs.iter().find_map(|program| find(program));
        contenders.extend(program.map(|program| {
            Contender::engine(name, Role::Peer, format!("{} {arguments}", program.display()).trim_end())
        }));
    }
    for peer in peers {
        let (name, command) = parse_peer(peer)?;
        contenders.push(Contender::engine(name, Role::Peer, command));
    }
    contenders.push(Contender {
        name: COPY_LIMIT.to_owned(),
        role: Role::CopyLimit,
        command: format!("{} copy-limit", this.display()),
        version: String::new(),
    });
    leave_out(contenders, without)
}

/// The adit of the same build as `this` program. What cargo runs was built anew, and so must be what it measures.
pub fn beside(this: &Path) -> Result<PathBuf, String> {
    if let Some(cargo) = env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "adit"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let built = build.status().map_err(|error| format!("cannot build adit: {error}"))?;
        if !built.success() {
            return Err("adit, which is to be measured, does not build: name another with --adit".to_owned());
        }
    }
    Ok(this.with_file_name("adit"))
}

fn parse_peer(text: &str) -> Result<(&str, &str), String> {
    let wrong = |why: &str| format!("--peer {text}: {why}");
    let (name, command) = text.split_once('=').ok_or_else(|| wrong("give it as NAME=COMMAND"))?;
    let program = command.split_whitespace().next().ok_or_else(|| wrong("the command is missing"))?;
    if name.is_empty() {
        return Err(wrong("the name is missing"));
    }
    find(program).ok_or_else(|| wrong(&format!("there is no program {program}")))?;
    Ok((name, command))
}

fn leave_out(mut contenders: Vec<Contender>, without: &[String]) -> Result<Vec<Contender>, String> {
    for name in without {
        let before = contenders.len();
        contenders.retain(|contender| contender.name != *name);
        if contenders.len() == before {
            let names: Vec<_> = contenders.iter().map(|contender| contender.name.as_str()).collect();
            return Err(format!("--without {name}: there is only {}", names.join(", ")));
        }
    }
    Ok(contenders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_and_a_command() {
        assert_eq!(parse_peer("old=/bin/sh -c x=y"), Ok(("old", "/bin/sh -c x=y")));
        for (bad, why) in [
            ("old", "NAME=COMMAND"),
            ("=/bin/sh", "name is missing"),
            ("old= ", "command is missing"),
            ("old=no-such-program -x", "no program no-such-program"),
        ] {
            assert!(parse_peer(bad).unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn contenders_are_left_out_by_name() {
        let named = |name: &str| Contender {
            name: name.to_owned(),
            role: Role::Peer,
            command: String::new(),
            version: String::new(),
        };
        let left = leave_out(vec![named("a"), named("b")], &["a".to_owned()]).unwrap();
        assert_eq!(left, [named("b")]);
        assert!(leave_out(left, &["a".to_owned()]).unwrap_err().contains("only b"));
    }
}
