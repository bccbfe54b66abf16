//! Reading a file: `wg-quick`'s own keys, and the rest, which is for `wg`.

use std::net::IpAddr;

use crate::SecretText;
use crate::conf::error::{Error, Place};
use crate::conf::line::{harmless, is_space, without_keys};

/// What a file says to `wg-quick`.
#[derive(Debug, Default)]
pub struct Config {
    /// For the interface.
    pub addresses: Vec<Address>,
    /// Instead of one worked out from the routes to the peers.
    pub mtu: Option<u32>,
    /// Name servers, as written.
    pub dns: Vec<String>,
    /// Domains to search.
    pub search: Vec<String>,
    /// Where the routes go.
    pub table: Table,
    /// Commands for when the interface is there, before it is configured.
    pub pre_up: Vec<String>,
    /// Commands for when all is done.
    pub post_up: Vec<String>,
    /// Commands for before anything is undone.
    pub pre_down: Vec<String>,
    /// Commands for when all is undone.
    pub post_down: Vec<String>,
    /// Whether to write the interface's state into the file before it goes down.
    pub save: bool,
    /// What is for `wg`: each line in its place, the others empty, so that errors name the right one.
    pub rest: SecretText,
    /// The same without the others, as `wg-quick strip` prints it.
    pub stripped: SecretText,
}

/// An address of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As written.
    pub text: String,
    /// The address itself.
    pub ip: IpAddr,
    /// How many of its bits the interface's network shares.
    pub prefix_len: u8,
}

/// Where the routes go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// The main table; a default route into one of its own.
    #[default]
    Auto,
    /// The same, said in so many words.
    ExplicitAuto,
    /// Nowhere.
    Off,
    /// All into one table.
    Named {
        /// As written: its number, or its name.
        name: String,
        /// Its number.
        number: u32,
    },
}

impl Table {
    /// Whether default routes get a table of their own, and rules that lead there.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        matches!(self, Table::Auto | Table::ExplicitAuto)
    }

    /// As the file spells it; `None` if it does not.
    #[must_use]
    pub fn spelling(&self) -> Option<&str> {
        match self {
            Table::Auto => None,
            Table::ExplicitAuto => Some("auto"),
            Table::Off => Some("off"),
            Table::Named { name, .. } => Some(name),
        }
    }
}

/// Reads a file; `tables` knows routing tables by name. What `wg` is to read is not looked at.
///
/// # Errors
/// For the first of `wg-quick`'s keys with a value that it cannot have.
pub fn read(content: &[u8], tables: impl Fn(&str) -> Option<u32>) -> Result<Config, Error> {
    let (config, errors) = read_all(content, tables);
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(config),
    }
}

/// The same, with all that is wrong: a line that is, is as if it were not there.
pub fn read_all(content: &[u8], tables: impl Fn(&str) -> Option<u32>) -> (Config, Vec<Error>) {
    let mut config = Config::default();
    let mut errors = Vec::new();
    let mut in_interface = false;
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    for (number, raw) in (1..).zip(content.split(|&byte| byte == b'\n')) {
        let text = String::from_utf8_lossy(raw);
        let line = Line::new(&text);
        if line.key.starts_with('[') {
            in_interface = line.key.eq_ignore_ascii_case("[Interface]");
        }
        let taken = in_interface
            && config
                .take(&line, &tables)
                .and_then(|taken| if taken && line.is_broken(raw) { Err(broken()) } else { Ok(taken) })
                .unwrap_or_else(|(message, expected)| {
                    errors.push(at(number, &text, &line, message, expected));
                    true
                });
        if !taken {
            config.rest.push(raw);
            config.stripped.push(blank_trimmed(raw));
            config.stripped.push(b"\n");
        }
        config.rest.push(b"\n");
    }
    (config, errors)
}

/// What is wrong, and what was expected.
type Wrong = (String, &'static str);

impl Config {
    /// Takes a line if its key is one of `wg-quick`'s.
    fn take(&mut self, line: &Line<'_>, tables: &impl Fn(&str) -> Option<u32>) -> Result<bool, Wrong> {
        let Some(value) = line.value else { return Ok(false) };
        match line.key.to_ascii_lowercase().as_str() {
            "address" => {
                for word in words(value) {
                    self.addresses.push(address(word)?);
                }
            }
            "dns" => {
                for word in words(value) {
                    let list = if is_server(word) { &mut self.dns } else { &mut self.search };
                    list.push(word.to_owned());
                }
            }
            "mtu" => {
                let wrong = |_| {
                    (format!("Error: argument \"{value}\" is wrong: Invalid \"mtu\" value"), "expected bytes")
                };
                self.mtu = if value.is_empty() { None } else { Some(value.parse().map_err(wrong)?) };
            }
            "table" => self.table = table(value, tables)?,
            "preup" => self.pre_up.push(line.whole_value().to_owned()),
            "postup" => self.post_up.push(line.whole_value().to_owned()),
            "predown" => self.pre_down.push(line.whole_value().to_owned()),
            "postdown" => self.post_down.push(line.whole_value().to_owned()),
            "saveconfig" => {
                self.save = match value.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    _ => {
                        return Err((
                            format!("`{value}' is neither true nor false"),
                            "expected true or false",
                        ));
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Saving the file would write something else than what was there.
fn broken() -> Wrong {
    ("Error: this value is not UTF-8".to_owned(), "expected UTF-8")
}

/// Without the spaces and tabs around it, as a shell reads it.
fn blank_trimmed(mut raw: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = raw {
        raw = rest;
    }
    raw
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(|char| char == ',' || is_space(char)).filter(|word| !word.is_empty())
}

/// What is no address is a domain to search.
fn is_server(word: &str) -> bool {
    word.contains(':') || word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn address(text: &str) -> Result<Address, Wrong> {
    let wrong = || {
        let message = format!("Error: any valid prefix is expected rather than \"{text}\".");
        (
            message,
            "expected an IP address, and perhaps a slash and the number of bits that its network shares",
        )
    };
    let (ip, len) = text.split_once('/').map_or((text, None), |(ip, len)| (ip, Some(len)));
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let all = if ip.is_ipv4() { 32 } else { 128 };
    let prefix_len = match len {
        None => Some(all),
        Some(len) => len.parse().ok().or_else(|| mask_len(ip, len)).filter(|len| *len <= all),
    };
    Ok(Address { text: text.to_owned(), ip, prefix_len: prefix_len.ok_or_else(wrong)? })
}

/// The length of a prefix that is written as a mask, such as 255.255.255.0.
fn mask_len(ip: IpAddr, mask: &str) -> Option<u8> {
    let (IpAddr::V4(_), Ok(IpAddr::V4(mask))) = (ip, mask.parse()) else { return None };
    let len = mask.to_bits().leading_ones();
    (mask.to_bits().count_ones() == len).then_some(len as u8)
}

fn table(value: &str, tables: &impl Fn(&str) -> Option<u32>) -> Result<Table, Wrong> {
    let number = || match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    };
    match value {
        "" => Ok(Table::Auto),
        "auto" => Ok(Table::ExplicitAuto),
        "off" => Ok(Table::Off),
        _ => match tables(value).or_else(number).filter(|number| *number > 0) {
            Some(number) => Ok(Table::Named { name: value.to_owned(), number }),
            None => {
                let message = format!("Error: argument \"{value}\" is wrong: \"table\" value is invalid");
                Err((message, "expected off, auto, or the number or name of a routing table"))
            }
        },
    }
}

/// A line as `wg-quick` sees it.
struct Line<'a> {
    /// What is before the first `=`, or all of it.
    key: &'a str,
    /// What is behind it, without a comment.
    value: Option<&'a str>,
    raw: &'a str,
}

impl<'a> Line<'a> {
    fn new(raw: &'a str) -> Self {
        let text = raw.split('#').next().unwrap_or_default();
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
        Line { key: trim(key), value: value.map(trim), raw }
    }

    /// A command's value: in it a `#` is a character like others.
    fn whole_value(&self) -> &'a str {
        self.raw.split_once('=').map_or("", |(_, value)| trim(value))
    }

    /// Whether the value is not what the file has, whose line is made of these bytes. In comments any will do.
    fn is_broken(&self, bytes: &[u8]) -> bool {
        let is_command =
            ["preup", "postup", "predown", "postdown"].iter().any(|key| self.key.eq_ignore_ascii_case(key));
        let value = if is_command { self.whole_value() } else { self.value.unwrap_or_default() };
        value.contains(char::REPLACEMENT_CHARACTER) && str::from_utf8(bytes).is_err()
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

fn at(number: usize, raw: &str, line: &Line<'_>, message: String, hint: &'static str) -> Error {
    let value = line.value.unwrap_or_default();
    let offset = value.as_ptr().addr() - raw.as_ptr().addr();
    let column = raw.get(..offset).unwrap_or_default().chars().count() + 1;
    Error {
        message: harmless(&without_words(message, value)),
        summary: "Configuration parsing error",
        place: Some(Place { line: number, column, text: harmless(&without_keys(raw.trim_end())) }),
        hint,
        warnings: Vec::new(),
    }
}

/// A key that stands where it does not belong is not shown, nor is a word that could be a part of one.
fn without_words(message: String, value: &str) -> String {
    if without_keys(value) == value {
        return message;
    }
    words(value).chain([value]).fold(message, |message, word| {
        let [quoted, ticked] = [format!("\"{word}\""), format!("`{word}'")];
        message.replace(&quoted, "\"(hidden)\"").replace(&ticked, "`(hidden)'")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Config {
        read(text.as_bytes(), |name| (name == "vpn").then_some(7)).unwrap()
    }

    fn error(text: &str) -> String {
        read(text.as_bytes(), |_| None).unwrap_err().display("wg0.conf").to_string()
    }

    #[test]
    fn keys_of_either_program() {
        let config = parse(
            "# first\n[interface]\n  ADDRESS = 10.0.0.1/24,fd00::1\r\nAddress=10.0.0.2/255.255.0.0 # more\n\
            PrivateKey = abc\ndns = 192.0.2.1 example.com, ::1\nMtu=1280\nTable = vpn\nsaveconfig = TRUE\n[Peer]\n\
            Table = not here\n",
        );
        let addresses: Vec<_> =
            config.addresses.iter().map(|address| (address.ip.to_string(), address.prefix_len)).collect();
        assert_eq!(
            addresses,
            [("10.0.0.1".to_owned(), 24), ("fd00::1".to_owned(), 128), ("10.0.0.2".to_owned(), 16)]
        );
        assert_eq!(
            (config.dns, config.search),
            (vec!["192.0.2.1".into(), "::1".into()], vec!["example.com".into()])
        );
        assert_eq!((config.mtu, config.save), (Some(1280), true));
        assert_eq!(config.table, Table::Named { name: "vpn".to_owned(), number: 7 });
        let stripped = "# first\n[interface]\nPrivateKey = abc\n[Peer]\nTable = not here\n";
        assert_eq!(str::from_utf8(&config.stripped).unwrap(), stripped);
        let rest = "# first\n[interface]\n\n\nPrivateKey = abc\n\n\n\n\n[Peer]\nTable = not here\n";
        assert_eq!(str::from_utf8(&config.rest).unwrap(), rest);
    }

    #[test]
    fn commands_are_taken_literally() {
        let config = parse(
            "[Interface]\nPreUp =  a # b = 'C  d' \nPOSTUP=x\nPostUp=y\nPreDown = \nPostDown = z%i # Address = 1\n",
        );
        assert_eq!(config.pre_up, ["a # b = 'C  d'"]);
        assert_eq!(config.post_up, ["x", "y"]);
        assert_eq!(
            (config.pre_down, config.post_down),
            (vec![String::new()], vec!["z%i # Address = 1".into()])
        );
    }

    #[test]
    fn what_is_no_key_is_left() {
        let config = parse("Address = 1\n[Interface]\nAddress\n#MTU = 5\n[ Interface ]\nMTU = 5");
        assert_eq!((config.addresses.len(), config.mtu), (0, None));
        assert_eq!(config.stripped.split(|&byte| byte == b'\n').count(), 7);
        assert_eq!(parse("[Interface]\nTable = 0x10\n").table.spelling(), Some("0x10"));
        assert_eq!(parse("[Interface]\nMTU =\nTable =\n").table, Table::Auto);
    }

    #[test]
    fn errors_say_where() {
        assert_eq!(
            error("[Interface]\nSaveConfig = maybe # x\n"),
            "`maybe' is neither true nor false\nConfiguration parsing error\n\
            wg0.conf:2:14: expected true or false\n  2 | SaveConfig = maybe # x\n    |              ^"
        );
        for wrong in [
            "Address = 10.0.0.1/33",
            "Address = 10.0.0.1/255.0.255.0",
            "Address = fd00::1/129",
            "Address = name/24",
            "MTU = big",
            "Table = nowhere",
            "Table = 0",
        ] {
            let text = error(&format!("[Interface]\n\n{wrong}\n"));
            assert!(text.contains("wg0.conf:3:"), "{text}");
        }
    }

    #[test]
    fn keys_in_the_wrong_place_are_not_shown() {
        let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let (start, end) = key.split_at(20);
        for name in ["Address", "MTU", "Table", "SaveConfig"] {
            for value in [key.to_owned(), format!("{start} {end}"), format!("10.0.0.1, {key}")] {
                let text = error(&format!("[Interface]\n{name} = {value}\n"));
                assert!(text.contains("(hidden)") && !text.contains(start) && !text.contains(end), "{text}");
            }
        }
    }

    /// They are printed as they are, and whoever wrote the file may not want them to be seen.
    #[test]
    fn errors_do_not_move_the_cursor() {
        for name in ["Address", "MTU", "Table", "SaveConfig"] {
            let text = error(&format!("[Interface]\n{name} = \u{1b}[2Jx\u{202e} # \u{7}\n"));
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_text_is_not_changed_silently() {
        for line in [&b"PostUp = echo \xe9"[..], b"PreDown = # \xe9", b"DNS = 192.0.2.1, \xe9.example"] {
            let error = read(&[b"[Interface]\n\n", line].concat(), |_| None).unwrap_err();
            assert!(error.display("wg0.conf").to_string().contains("wg0.conf:3:"), "{error:?}");
        }
        for line in [&b"DNS = 192.0.2.1 # \xe9"[..], "PostUp = echo \u{fffd}".as_bytes(), b"Other = \xe9"] {
            read(&[b"[Interface]\n", line].concat(), |_| None).unwrap();
        }
    }

    proptest! {
        #[test]
        fn every_line_keeps_its_place(
            lines in proptest::collection::vec(
                "([Interfac\\]]{0,4}|Address|DNS|MTU|PostUp|[Peer\\]])?[ \t]{0,2}=?[ #0-9a-z.,:/=\r\\PC]{0,12}", 0..20)
        ) {
            let text = format!("[Interface]\n{}", lines.join("\n"));
            if let Ok(config) = read(text.as_bytes(), |_| None) {
                let rest = str::from_utf8(&config.rest).unwrap();
                prop_assert_eq!(rest.lines().count(), text.split('\n').count() - usize::from(text.ends_with('\n')));
                for (kept, line) in rest.split('\n').zip(text.split('\n')) {
                    prop_assert!(kept.is_empty() || kept == line);
                }
            }
        }
    }
}
