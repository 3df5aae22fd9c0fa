//! Contact sheets: a grid of pictures with a caption above each.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use image::{ImageFormat, Rgb, RgbImage, imageops};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const BACKGROUND: Rgb<u8> = Rgb([24, 26, 31]);
const TITLE: Rgb<u8> = Rgb([238, 240, 244]);
const HEADING: Rgb<u8> = Rgb([122, 178, 232]);
const CAPTION: Rgb<u8> = Rgb([176, 182, 192]);

/// Pixels between tiles, and around the sheet.
const GAP: u32 = 12;
/// Height of a line of text, and of the line with the space below it.
const TEXT: u32 = 16;
const LINE: u32 = TEXT + 4;

/// A contact sheet under construction; all lengths are pixels.
#[derive(Clone, Debug)]
pub struct Sheet {
    columns: usize,
    title: String,
    column_titles: Vec<String>,
    row_titles: Vec<String>,
    tiles: Vec<(RgbImage, String)>,
}

impl Sheet {
    /// An empty sheet that is filled row by row.
    ///
    /// # Panics
    /// If `columns` is 0.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        assert!(columns > 0, "a sheet needs a column");
        Self {
            columns,
            title: String::new(),
            column_titles: Vec::new(),
            row_titles: Vec::new(),
            tiles: Vec::new(),
        }
    }

    /// A line above everything.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// A line above each column, from the left.
    #[must_use]
    pub fn column_titles<T: Into<String>>(mut self, titles: impl IntoIterator<Item = T>) -> Self {
        self.column_titles = titles.into_iter().map(Into::into).collect();
        self
    }

    /// A line before each row, from the top.
    #[must_use]
    pub fn row_titles<T: Into<String>>(mut self, titles: impl IntoIterator<Item = T>) -> Self {
        self.row_titles = titles.into_iter().map(Into::into).collect();
        self
    }

    /// Adds the next picture. Every cell is as large as the largest picture; a smaller one
    /// stands at the top left of its cell.
    #[must_use]
    pub fn tile(mut self, image: RgbImage, caption: impl Into<String>) -> Self {
        self.tiles.push((image, caption.into()));
        self
    }

    /// Leaves the next cell empty.
    #[must_use]
    pub fn gap(self) -> Self {
        self.tile(RgbImage::new(0, 0), "")
    }

    /// Draws the sheet.
    #[must_use]
    pub fn render(&self) -> RgbImage {
        let columns = self.columns as u32;
        let rows = self.tiles.len().div_ceil(self.columns) as u32;
        let captions = self.tiles.iter().map(|(_, caption)| caption);
        let cell_width = self
            .tiles
            .iter()
            .map(|(image, _)| image.width())
            .chain(captions.chain(&self.column_titles).map(|text| text_width(text)))
            .max()
            .unwrap_or(0);
        let picture_height = self.tiles.iter().map(|(image, _)| image.height()).max();
        let cell_height = LINE + picture_height.unwrap_or(0);
        let line_if = |present: bool| if present { LINE + GAP / 2 } else { 0 };
        let columns_y = GAP + line_if(!self.title.is_empty());
        let top = columns_y + line_if(!self.column_titles.is_empty());
        let row_title_width = self.row_titles.iter().map(|text| text_width(text)).max();
        let left = GAP + row_title_width.map_or(0, |width| width + GAP);
        let grid_width = columns * cell_width + (columns - 1) * GAP;
        let width = (left + grid_width).max(GAP + text_width(&self.title)) + GAP;
        let height = top + rows * (cell_height + GAP);

        let mut sheet = RgbImage::from_pixel(width, height.max(top + GAP), BACKGROUND);
        draw_text(&mut sheet, &self.title, GAP, GAP, TITLE);
        for (column, title) in self.column_titles.iter().take(self.columns).enumerate() {
            let x = left + column as u32 * (cell_width + GAP);
            draw_text(&mut sheet, title, x, columns_y, HEADING);
        }
        for (row, title) in self.row_titles.iter().take(rows as usize).enumerate() {
            let y = top + row as u32 * (cell_height + GAP);
            draw_text(&mut sheet, title, GAP, y + cell_height / 2, HEADING);
        }
        for (i, (image, caption)) in self.tiles.iter().enumerate() {
            let x = left + (i % self.columns) as u32 * (cell_width + GAP);
            let y = top + (i / self.columns) as u32 * (cell_height + GAP);
            draw_text(&mut sheet, caption, x, y, CAPTION);
            imageops::replace(&mut sheet, image, i64::from(x), i64::from(y + LINE));
        }
        sheet
    }

    /// Writes the rendered sheet as PNG, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written; the message names it.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut png = io::Cursor::new(Vec::new());
        self.render()
            .write_to(&mut png, ImageFormat::Png)
            .with_context(|| format!("cannot encode {}", path.display()))?;
        tunableconv::atomic_file::write::<io::Error>(path, |file| {
            io::Write::write_all(file, png.get_ref())
        })
        .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn text_width(text: &str) -> u32 {
    let glyph = get_raster_width(FontWeight::Regular, RasterHeight::Size16);
    (spelled(text).count() * glyph) as u32
}

/// The font holds Latin letters; the signs this field likes beyond that are spelled out.
fn spelled(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().flat_map(|c| {
        let known = match c {
            'σ' => "sigma",
            'ω' => "omega",
            'λ' => "lambda",
            '…' => "...",
            '–' | '—' | '−' => "-",
            '→' => "->",
            _ => "",
        };
        let other = match c {
            _ if get_raster(c, FontWeight::Regular, RasterHeight::Size16).is_some() => Some(c),
            _ if known.is_empty() => Some('?'),
            _ => None,
        };
        known.chars().chain(other)
    })
}

/// Draws one line whose top left corner is `(x, y)`.
fn draw_text(sheet: &mut RgbImage, text: &str, x: u32, y: u32, colour: Rgb<u8>) {
    let advance = get_raster_width(FontWeight::Regular, RasterHeight::Size16) as u32;
    for (i, c) in spelled(text).enumerate() {
        let Some(glyph) = get_raster(c, FontWeight::Regular, RasterHeight::Size16) else {
            continue;
        };
        let x = x + i as u32 * advance;
        for (dy, row) in glyph.rows().enumerate() {
            for (dx, &coverage) in row.iter().enumerate() {
                if let Some(pixel) = sheet.get_pixel_mut_checked(x + dx as u32, y + dy as u32) {
                    for (under, over) in pixel.0.iter_mut().zip(colour.0) {
                        *under = mix(*under, over, coverage);
                    }
                }
            }
        }
    }
}

/// `under` covered by `over` to `coverage / 255`.
fn mix(under: u8, over: u8, coverage: u8) -> u8 {
    let coverage = u32::from(coverage);
    ((u32::from(under) * (255 - coverage) + u32::from(over) * coverage + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_stand_in_the_grid_with_text_above() {
        let red = RgbImage::from_pixel(100, 40, Rgb([255, 0, 0]));
        let blue = RgbImage::from_pixel(100, 40, Rgb([0, 0, 255]));
        let sheet = Sheet::new(2)
            .title("title")
            .column_titles(["left", "right"])
            .row_titles(["a", "b"])
            .tile(red.clone(), "σ=25")
            .tile(blue.clone(), "31.4 dB")
            .tile(blue, "c")
            .render();
        let glyph = text_width("a");
        let (left, top) = (GAP + glyph + GAP, GAP + 2 * (LINE + GAP / 2));
        assert_eq!(sheet.width(), left + 200 + 2 * GAP);
        assert_eq!(sheet.height(), top + 2 * (LINE + 40 + GAP));
        let at = |x, y| sheet.get_pixel(x, y).0;
        assert_eq!(at(left, top + LINE), [255, 0, 0]);
        assert_eq!(at(left + 99, top + LINE + 39), [255, 0, 0]);
        assert_eq!(at(left + 100 + GAP, top + LINE), [0, 0, 255]);
        assert_eq!(at(left, top + 2 * LINE + 40 + GAP), [0, 0, 255]);
        assert_eq!(at(0, 0), BACKGROUND.0);
        // The caption leaves ink above its tile.
        let ink = (left..left + 100).any(|x| (top..top + TEXT).any(|y| at(x, y) != BACKGROUND.0));
        assert!(ink);
    }

    #[test]
    fn a_long_caption_widens_the_cells_and_an_empty_sheet_renders() {
        let tile = RgbImage::new(8, 8);
        let caption = "a caption far wider than its tile";
        let sheet = Sheet::new(1).tile(tile, caption).render();
        assert_eq!(sheet.width(), text_width(caption) + 2 * GAP);
        assert!(Sheet::new(3).render().width() > 0);
    }

    #[test]
    fn what_the_font_lacks_is_spelled_out() {
        let text: String = spelled("σ 2×2 é ż 絵").collect();
        assert_eq!(text, "sigma 2×2 é ż ?");
    }

    #[test]
    fn saved_sheets_are_png_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheet.png");
        let sheet = Sheet::new(1).tile(RgbImage::new(8, 8), "x");
        sheet.save(&path).unwrap();
        assert_eq!(image::open(&path).unwrap().into_rgb8(), sheet.render());
        let error = sheet.save(&dir.path().join("none/sheet.png")).unwrap_err();
        assert!(error.to_string().contains("sheet.png"), "{error}");
    }
}
