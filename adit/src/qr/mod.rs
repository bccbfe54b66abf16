//! `adit qr`: a file as a QR code, which the apps for phones scan. It holds the private key: whoever sees it has it.

mod draw;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adit_control::check::{Severity, check};
use adit_control::phone::{Phone, phone};
use clap::ValueHint;
use qrcode::types::QrError;
use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

use self::draw::Picture;
use crate::quick::file;
use crate::replace::create;
use crate::wg;

/// Nobody but the owner sees keys.
const MODE: u32 = 0o600;
/// Most terminals have as many columns.
const COLUMNS: usize = 80;

/// What `adit qr` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write a PNG picture instead of showing the code in the terminal
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    png: Option<PathBuf>,
    /// Write an SVG picture instead
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    svg: Option<PathBuf>,
    /// An interface, whose file is /etc/wireguard/INTERFACE.conf, or a file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    name: String,
}

/// Shows the code, or writes pictures of it.
pub(crate) fn run(args: &Args) -> ExitCode {
    match show(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_empty() {
                wg::tell(format_args!("adit qr: {error}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn show(args: &Args) -> Result<(), String> {
    let path = file::path(&args.name);
    let shown = path.display();
    let Phone { text, left_out } = read(&path)?;
    if !left_out.is_empty() {
        let list = left_out.join(", ");
        wg::tell(format_args!("adit qr: phones take no file with {list}, so the code is without"));
    }
    let picture = picture(&text).map_err(|error| match error {
        QrError::DataTooLong => format!(
            "{shown} is too large for a QR code: {} bytes, and 2953 is the most there can be; copy the file instead",
            text.len()
        ),
        error => format!("{shown}: {error}"),
    })?;
    for (path, draw) in [(&args.png, Picture::png as fn(&Picture) -> Vec<u8>), (&args.svg, Picture::svg)] {
        if let Some(path) = path {
            save(path, &Zeroizing::new(draw(&picture)))?;
        }
    }
    if args.png.is_some() || args.svg.is_some() {
        return Ok(());
    }
    if picture.width() > COLUMNS {
        wg::tell(format_args!(
            "adit qr: the code is {} columns wide; if lines are broken, make the terminal wider or use --png",
            picture.width()
        ));
    }
    // Nothing more to say if nobody reads it.
    wg::print(&Zeroizing::new(picture.text())[..]).map_err(|wg::Failed| String::new())
}

/// Reads a file, and tells all of its errors.
fn read(path: &Path) -> Result<Phone, String> {
    let shown = path.display();
    let content = fs::File::open(path).and_then(wg::setconf::read_from);
    let content = content.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound if path.starts_with("/etc/wireguard") => {
                "; a file in this directory is named ./FILE"
            }
            _ => "",
        };
        format!("cannot read {shown}: {}{hint}", wg::reason(&error))
    })?;
    let report = check(&content, file::table_number);
    if report.has_errors() {
        for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Error) {
            wg::tell(finding.display(&path.to_string_lossy()));
        }
        return Err(format!("{shown} has errors, and phones would refuse it"));
    }
    phone(&content, file::table_number).map_err(|error| format!("{shown}: {error}"))
}

/// As small as it can be, and so small as safe against damage as it can be.
fn picture(text: &[u8]) -> Result<Picture, QrError> {
    let mut code = QrCode::with_error_correction_level(text, EcLevel::L)?;
    for level in [EcLevel::M, EcLevel::Q, EcLevel::H] {
        match QrCode::with_error_correction_level(text, level) {
            Ok(safer) if safer.width() == code.width() => code = safer,
            _ => break,
        }
    }
    let dark = code.to_colors().into_iter().map(|color| color == Color::Dark);
    Ok(Picture::new(code.width(), Zeroizing::new(dark.collect())))
}

fn save(path: &Path, content: &[u8]) -> Result<(), String> {
    create(path, content, MODE).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{} is there already, and stays as it is", path.display()),
        _ => format!("cannot write {}: {}", path.display(), wg::reason(&error)),
    })
}
