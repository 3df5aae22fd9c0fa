//! RGB images as planar floats, the form in which degradations are defined.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, RgbImage};
use tunableconv::resample::{Filter, Resize};

use crate::content::{Hash, hash_bytes};

/// Kinds of image files that are read.
const READ: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP];

/// An RGB image in planar floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Rgb {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `[3, height, width]`, values in `[0, 1]`.
    pub data: Vec<f32>,
}

impl Rgb {
    /// Wraps planar data.
    ///
    /// # Shapes
    /// - `data`: `[3, height, width]`
    ///
    /// # Panics
    /// If a side is 0 or the length of `data` is not `3 · height · width`.
    #[must_use]
    pub fn new(width: usize, height: usize, data: Vec<f32>) -> Self {
        assert!(width > 0 && height > 0, "empty image {width}x{height}");
        assert_eq!(
            data.len(),
            3 * width * height,
            "[3, {height}, {width}] needs another number of values"
        );
        Self { width, height, data }
    }

    /// The plane of channel `c` (0 red, 1 green, 2 blue): `[height, width]`.
    #[must_use]
    pub fn plane(&self, c: usize) -> &[f32] {
        let size = self.width * self.height;
        &self.data[c * size..][..size]
    }

    /// At another size, clipped to `[0, 1]`.
    ///
    /// # Panics
    /// If a side is 0.
    #[must_use]
    pub fn resized(&self, width: usize, height: usize, filter: Filter) -> Self {
        let mut resize = Resize::new(filter, (self.width, self.height), (width, height));
        let (mut data, mut plane) = (Vec::with_capacity(3 * width * height), vec![]);
        for c in 0..3 {
            resize.plane(self.plane(c), &mut plane);
            data.extend(plane.iter().map(|value| value.clamp(0.0, 1.0)));
        }
        Self::new(width, height, data)
    }

    /// The part `width × height` whose top left pixel is `(x, y)`.
    ///
    /// # Panics
    /// If that part is empty or reaches outside the image.
    #[must_use]
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Self {
        assert!(
            x + width <= self.width && y + height <= self.height,
            "crop {width}x{height} at ({x}, {y}) leaves the image {}x{}",
            self.width,
            self.height
        );
        let mut data = Vec::with_capacity(3 * width * height);
        for c in 0..3 {
            for row in self.plane(c).chunks_exact(self.width).skip(y).take(height) {
                data.extend_from_slice(&row[x..x + width]);
            }
        }
        Self::new(width, height, data)
    }

    /// Mirrored left to right.
    #[must_use]
    pub fn flip_horizontal(mut self) -> Self {
        for row in self.data.chunks_exact_mut(self.width) {
            row.reverse();
        }
        self
    }

    /// Mirrored top to bottom.
    #[must_use]
    pub fn flip_vertical(self) -> Self {
        let mut data = Vec::with_capacity(self.data.len());
        for c in 0..3 {
            for row in self.plane(c).chunks_exact(self.width).rev() {
                data.extend_from_slice(row);
            }
        }
        Self::new(self.width, self.height, data)
    }

    /// Rows become columns; a `w × h` image becomes `h × w`.
    #[must_use]
    pub fn transpose(self) -> Self {
        let mut data = Vec::with_capacity(self.data.len());
        for c in 0..3 {
            let plane = self.plane(c);
            for x in 0..self.width {
                data.extend(plane[x..].iter().step_by(self.width));
            }
        }
        Self::new(self.height, self.width, data)
    }

    /// One of the eight symmetries of the square, by `index` in `0..8`: bit 0 flips horizontally,
    /// then bit 1 flips vertically, then bit 2 transposes. Index 0 is the identity.
    ///
    /// # Panics
    /// If `index > 7`.
    #[must_use]
    pub fn dihedral(self, index: u8) -> Self {
        assert!(index < 8, "there are eight dihedral transforms, got {index}");
        let mut image = self;
        if index & 1 != 0 {
            image = image.flip_horizontal();
        }
        if index & 2 != 0 {
            image = image.flip_vertical();
        }
        if index & 4 != 0 {
            image = image.transpose();
        }
        image
    }

    /// From 8 bit, `v / 255`.
    ///
    /// # Panics
    /// If the image is empty.
    #[must_use]
    pub fn from_image(image: &RgbImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let mut data = Vec::with_capacity(3 * width * height);
        for c in 0..3 {
            let channel = image.as_raw().iter().skip(c).step_by(3);
            data.extend(channel.map(|&v| f32::from(v) / 255.0));
        }
        Self::new(width, height, data)
    }

    /// To 8 bit: `255 · v`, rounded to the nearest (ties away from zero), clipped.
    #[must_use]
    pub fn to_image(&self) -> RgbImage {
        let (red, green, blue) = (self.plane(0), self.plane(1), self.plane(2));
        RgbImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            let i = y as usize * self.width + x as usize;
            image::Rgb([red[i], green[i], blue[i]].map(|v| (v * 255.0).round() as u8))
        })
    }

    /// Reads an image file; its content, not its name, tells the format. It is turned as its Exif
    /// orientation says; what is transparent is seen on black, grey is replicated, 16 bit is rounded
    /// to 8.
    ///
    /// # Errors
    /// If the file cannot be read or decoded, or decoding it would take more than 512 MiB; the
    /// message names it.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::from_image(&load_image(path)?))
    }
}

/// The most that decoding one image may allocate, in bytes; a header may announce anything.
const MAX_DECODER_BYTES: u64 = 512 << 20;

/// The largest image file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// An image file in memory.
pub(crate) struct ImageFile<'p> {
    path: &'p Path,
    bytes: Vec<u8>,
}

impl<'p> ImageFile<'p> {
    /// Number of pixels that the header of a file tells of, if it tells.
    pub(crate) fn size(path: &Path) -> Option<u64> {
        // Opening a pipe would wait for its writer.
        let reader = path.is_file().then(|| ImageReader::open(path))?.ok()?;
        let (width, height) = reader.with_guessed_format().ok()?.into_dimensions().ok()?;
        Some(u64::from(width) * u64::from(height))
    }

    pub(crate) fn read(path: &'p Path) -> anyhow::Result<Self> {
        let context = || format!("cannot read {}", path.display());
        let file = fs::metadata(path).with_context(context)?;
        // Opening a pipe would wait for its writer.
        ensure!(file.is_file(), "{} is not a file", path.display());
        ensure!(
            file.len() <= MAX_FILE_BYTES,
            "{} has {} bytes, expected at most {MAX_FILE_BYTES}",
            path.display(),
            file.len()
        );
        Ok(Self { path, bytes: fs::read(path).with_context(context)? })
    }

    /// With the hash of the file.
    pub(crate) fn decode_hashed(&self) -> anyhow::Result<(RgbImage, Hash)> {
        Ok((self.decode()?, hash_bytes(&self.bytes)))
    }

    /// As 8-bit RGB; see [`Rgb::load`].
    pub(crate) fn decode(&self) -> anyhow::Result<RgbImage> {
        let path = self.path.display();
        let format = image::guess_format(&self.bytes);
        let format = format.ok().filter(|format| READ.contains(format));
        let Some(format) = format else {
            bail!("{path} is no PNG, JPEG or WebP image, whatever its name says");
        };
        ensure!(format != ImageFormat::Jpeg || jpeg_is_whole(&self.bytes), "{path} is cut short");
        let decoded = || -> image::ImageResult<DynamicImage> {
            let mut reader = ImageReader::with_format(Cursor::new(&self.bytes), format);
            let mut limits = image::Limits::default();
            limits.max_alloc = Some(MAX_DECODER_BYTES);
            reader.limits(limits.clone());
            let mut decoder = reader.into_decoder()?;
            limits.reserve(decoder.total_bytes())?;
            let orientation = decoder.orientation()?;
            let mut image = DynamicImage::from_decoder(decoder)?;
            image.apply_orientation(orientation);
            Ok(image)
        };
        let image = decoded().with_context(|| format!("cannot decode {path}"))?;
        let image = if image.color().has_alpha() { over_black(image) } else { image.into_rgb8() };
        ensure!(image.width() > 0 && image.height() > 0, "{path} is an empty image");
        Ok(image)
    }
}

/// Reads an image file as 8-bit RGB; see [`Rgb::load`].
pub(crate) fn load_image(path: &Path) -> anyhow::Result<RgbImage> {
    ImageFile::read(path)?.decode()
}

/// What is seen of an image on black: the colour of what is transparent means nothing.
fn over_black(image: DynamicImage) -> RgbImage {
    let image = image.into_rgba8();
    let mut seen = RgbImage::new(image.width(), image.height());
    for (seen, image::Rgba([red, green, blue, alpha])) in seen.pixels_mut().zip(image.pixels()) {
        let seen_of = |value: u8| ((u16::from(value) * u16::from(*alpha) + 127) / 255) as u8;
        seen.0 = [red, green, blue].map(|value| seen_of(*value));
    }
    seen
}

/// Whether a JPEG file has its end marker (ISO/IEC 10918-1, annex B), whatever comes after that; the
/// decoder fills what is missing with grey.
fn jpeg_is_whole(file: &[u8]) -> bool {
    const END: u8 = 0xD9;
    const SCAN: u8 = 0xDA;
    // Start of the image, restarts and TEM stand alone.
    let has_segment = |marker: u8| !matches!(marker, 0x01 | 0xD0..=0xD8);
    let mut rest = file;
    loop {
        let [0xFF, marker, after @ ..] = rest else { return false };
        let marker = *marker;
        // Any number of 0xFF may stand before a marker.
        if marker == 0xFF {
            rest = &rest[1..];
            continue;
        }
        if marker == END {
            return true;
        }
        rest = after;
        if has_segment(marker) {
            let Some(&[high, low]) = rest.first_chunk::<2>() else { return false };
            let Some(next) = rest.get(usize::from(u16::from_be_bytes([high, low]))..) else {
                return false;
            };
            rest = next;
        }
        if marker == SCAN {
            // In coded data 0xFF is followed by 0, or by a restart.
            let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7);
            let Some(end) = rest.windows(2).position(is_marker) else { return false };
            rest = &rest[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 3×2 image whose pixels all differ.
    fn sample() -> Rgb {
        Rgb::new(3, 2, (0..18).map(|v| v as f32 / 255.0).collect())
    }

    #[test]
    fn eight_bit_round_trip_is_exact() {
        let image = sample();
        let back = Rgb::from_image(&image.to_image());
        assert_eq!(back, image);
        assert_eq!(image.to_image().get_pixel(1, 1).0, [4, 10, 16]);
    }

    #[test]
    fn a_jpeg_is_whole_whatever_is_appended() {
        let image = RgbImage::from_fn(90, 70, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
        let mut file = std::io::Cursor::new(vec![]);
        let mut encoder = jpeg_encoder::Encoder::new(&mut file, 90);
        encoder.set_restart_interval(3);
        encoder.encode(&image, 90, 70, jpeg_encoder::ColorType::Rgb).unwrap();
        let file = file.into_inner();
        assert!(jpeg_is_whole(&file));
        for trailer in [&[0xFF, 0xDA][..], b"\0\0\0\x18ftypmp42", &[0xFF; 9]] {
            assert!(jpeg_is_whole(&[&file, trailer].concat()));
        }
        for end in 0..file.len() {
            assert!(!jpeg_is_whole(&file[..end]), "cut at {end} of {}", file.len());
        }
    }

    #[test]
    fn out_of_range_values_are_clipped_and_halves_rounded_up() {
        let image = Rgb::new(1, 1, vec![-0.2, 1.3, 0.5]);
        assert_eq!(image.to_image().get_pixel(0, 0).0, [0, 255, 128]);
    }

    #[test]
    fn crop_takes_the_named_window() {
        let red: Vec<f32> = sample().crop(1, 0, 2, 2).plane(0).to_vec();
        assert_eq!(red, [1.0, 2.0, 4.0, 5.0].map(|v| v / 255.0));
    }

    #[test]
    fn the_eight_transforms_differ_and_are_undone_by_their_inverses() {
        let image = sample();
        let all: Vec<Rgb> = (0..8).map(|i| image.clone().dihedral(i)).collect();
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
            // Without the transpose each is its own inverse; with it, the flips swap.
            let i = i as u8;
            let inverse = match i {
                5 => 6,
                6 => 5,
                _ => i,
            };
            assert_eq!(a.clone().dihedral(inverse), image, "transform {i}");
        }
    }
}
