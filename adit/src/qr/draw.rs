//! A QR code as text, PNG and SVG: dark on light, with the quiet zone around it that scanners need (ISO/IEC 18004).

use std::fmt::Write as _;

use zeroize::Zeroizing;

/// Light modules on each side.
const QUIET: usize = 4;
/// A module's pixels in a PNG, each way.
const SCALE: usize = 8;
/// Black on white of the fixed part of the terminal's colours: themes change the others.
const COLOURS: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// The modules of a code.
pub(super) struct Picture {
    /// Of the code alone.
    size: usize,
    dark: Zeroizing<Vec<bool>>,
}

impl Picture {
    /// Of a square code, its modules row by row.
    pub(super) fn new(size: usize, dark: Zeroizing<Vec<bool>>) -> Self {
        Picture { size, dark }
    }

    /// In modules, with what is around it.
    pub(super) fn width(&self) -> usize {
        self.size + 2 * QUIET
    }

    /// Whatever is not of the code is light.
    fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = |place: usize| place.checked_sub(QUIET).filter(|place| *place < self.size);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => self.dark[y * self.size + x],
            _ => false,
        }
    }

    /// For a terminal: a character is two modules, one above the other, which makes them square.
    pub(super) fn text(&self) -> Vec<u8> {
        let line_len = COLOURS.len() + '█'.len_utf8() * self.width() + RESET.len() + 1;
        let mut text = String::with_capacity(line_len * self.width().div_ceil(2));
        for y in (0..self.width()).step_by(2) {
            text += COLOURS;
            text.extend((0..self.width()).map(|x| match (self.is_dark(x, y), self.is_dark(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            }));
            text += RESET;
            text.push('\n');
        }
        text.into_bytes()
    }

    /// One bit a pixel.
    pub(super) fn png(&self) -> Vec<u8> {
        let pixels = self.width() * SCALE;
        let mut rows = Zeroizing::new(vec![0_u8; pixels.div_ceil(8) * pixels]);
        for (y, row) in rows.chunks_mut(pixels.div_ceil(8)).enumerate() {
            for x in (0..pixels).filter(|x| !self.is_dark(x / SCALE, y / SCALE)) {
                row[x / 8] |= 0x80 >> (x % 8);
            }
        }
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, pixels as u32, pixels as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&rows));
        debug_assert!(written.is_ok(), "memory takes all that is written to it");
        out
    }

    /// A path of rectangles, one for each run of dark modules.
    pub(super) fn svg(&self) -> Vec<u8> {
        let width = self.width();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{pixels}\" height=\"{pixels}\" \
            viewBox=\"0 0 {width} {width}\" shape-rendering=\"crispEdges\">\n\
            <rect width=\"{width}\" height=\"{width}\" fill=\"#fff\"/>\n<path fill=\"#000\" d=\"",
            pixels = width * SCALE
        );
        for y in 0..width {
            let mut x = 0;
            while x < width {
                let run = (x..width).take_while(|x| self.is_dark(*x, y)).count();
                if run > 0 {
                    let _ = write!(svg, "M{x} {y}h{run}v1h-{run}z");
                }
                x += run.max(1);
            }
        }
        svg += "\"/>\n</svg>\n";
        svg.into_bytes()
    }
}
