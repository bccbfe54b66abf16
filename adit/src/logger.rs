//! The log: lines on standard error, as many as LOG_LEVEL asks for.

use std::io::Write;
use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata, Record};

struct Logger {
    interface: OnceLock<String>,
}

static LOGGER: Logger = Logger { interface: OnceLock::new() };

/// Starts logging. `LOG_LEVEL` is `verbose` or `debug`, `info`, `error` or `silent`; without it there are warnings too.
pub(crate) fn init(level: Option<&str>) {
    let level = match level {
        Some("verbose" | "debug") => LevelFilter::Debug,
        Some("info") => LevelFilter::Info,
        Some("error") => LevelFilter::Error,
        Some("silent") => LevelFilter::Off,
        _ => LevelFilter::Warn,
    };
    // Fails only when it was called before.
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
}

/// From now on lines tell which interface they are about.
pub(crate) fn set_interface(name: &str) {
    let _ = LOGGER.interface.set(name.to_owned());
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries have nothing to say that concerns an administrator.
        metadata.target().starts_with("adit")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let interface = self.interface.get().map_or("", String::as_str);
            let line = format!("{}: ({interface}) {}\n", record.level(), record.args());
            // Nowhere to complain if standard error is gone.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}
