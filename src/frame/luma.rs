//! Luma alone from and to frames of any layout, for nets that make nothing else; the colours are those of the
//! input, scaled bicubically.

use crate::resample::{Axis, Filter, transpose};
use crate::{Error, Result};

use super::direct::COLOURS;
use super::lines::{Subsampled, Writable, copy_pixels, of_samples, read};
use super::rescale::Rescale;
use super::samples::{High, Low, Sample, U8};
use super::site::Siting;
use super::yuv::parts;
use super::{Frame, FrameFormat, FrameMut, SampleFormat};

/// Samples of chroma across and down, and how many there are.
type Chroma = ([Siting; 2], [usize; 2]);

/// Takes the luma of frames of one size, and gives it back, at another size, with their colours.
pub struct Recolour {
    sizes: [[usize; 2]; 2],
    /// Of frames in RGB.
    rescale: Option<Rescale>,
    /// Of frames in YUV: what scales chroma, from where to where.
    chroma: Option<([Chroma; 2], [Axis; 2])>,
    /// Scratch space: a plane as it is read, on its way, and as it is written.
    planes: [Vec<f32>; 3],
}

impl Recolour {
    /// From frames of one width and height to those of another.
    ///
    /// # Panics
    /// If one of them is 0.
    pub fn new(from: [usize; 2], to: [usize; 2]) -> Self {
        assert!(from.into_iter().chain(to).all(|side| side > 0), "{from:?} to {to:?}");
        Self { sizes: [from, to], rescale: None, chroma: None, planes: Default::default() }
    }

    /// Width and height of the frames that it takes, and that it gives.
    pub fn sizes(&self) -> [[usize; 2]; 2] {
        self.sizes
    }

    /// Fills `luma`, and keeps the colours: `[height, width]`, 0 to 1 from black to white.
    ///
    /// # Panics
    /// If frame or `luma` are of another size.
    pub fn read(&mut self, input: &Frame<'_>, luma: &mut [f32]) {
        let FrameFormat { width, height, samples, .. } = input.format;
        assert_eq!((luma.len(), [width, height]), (width * height, self.sizes[0]), "size");
        if !input.planes.is_rgb() {
            of_samples!(samples, read_luma(input, luma));
            return;
        }
        let weights = input.planes.matrix().unwrap_or(input.matrix).weights();
        let rgb = self.rescale().read(input);
        luma.copy_from_slice(&rgb[..luma.len()]);
        mix(luma, rgb, weights);
    }

    /// Writes a frame of `luma`, `[height, width]`, and the colours of `input`, which was read last. Of YUV both stay
    /// what they are, made by the matrix of `input`, whatever that of `output` is.
    ///
    /// # Errors
    /// [`Error::Frame`] when the frames have other sizes, or layouts of which one is in RGB alone.
    ///
    /// # Panics
    /// If `luma` has another length.
    pub fn write(
        &mut self,
        input: &Frame<'_>,
        luma: &[f32],
        output: &mut FrameMut<'_>,
    ) -> Result<()> {
        let got = [input.format, output.format].map(|format| [format.width, format.height]);
        if got != self.sizes || input.planes.is_rgb() != output.planes.is_rgb() {
            let [from, to] = self.sizes;
            return Err(Error::Frame(format!("sizes {got:?}, expected {from:?} to {to:?}")));
        }
        let [_, [width, height]] = self.sizes;
        assert_eq!(luma.len(), width * height, "luma length");
        if !input.planes.is_rgb() {
            copy_pixels(input, output);
            let samples = output.format.samples;
            of_samples!(samples, write_yuv(self, input, luma, output));
            return Ok(());
        }
        let weights = output.planes.matrix().unwrap_or(output.matrix).weights();
        let mut change = std::mem::take(&mut self.planes[0]);
        let rgb = self.rescale().enlarge();
        change.clear();
        change.extend_from_slice(&rgb[..luma.len()]);
        mix(&mut change, rgb, weights);
        change.iter_mut().zip(luma).for_each(|(change, luma)| *change = luma - *change);
        // What is added to R, G and B alike is luma.
        for plane in rgb.chunks_exact_mut(luma.len()) {
            plane.iter_mut().zip(&change).for_each(|(value, change)| *value += change);
        }
        output.pack_rgb(input, rgb);
        self.planes[0] = change;
        Ok(())
    }

    fn rescale(&mut self) -> &mut Rescale {
        let [from, to] = self.sizes;
        self.rescale.get_or_insert_with(|| Rescale::new(from, to))
    }

    /// Scales the plane that was read.
    fn scale(&mut self, from: Chroma, to: Chroma) {
        let places = [from, to];
        if self.chroma.as_ref().is_none_or(|(known, _)| *known != places) {
            let axes = [0, 1].map(|side| {
                let scale = self.sizes[0][side] as f64 / self.sizes[1][side] as f64;
                let (spacing, first) = from.0[side].resampled(to.0[side], scale);
                Axis::spaced(Filter::Bicubic, from.1[side], to.1[side], spacing, first)
            });
            self.chroma = Some((places, axes));
        }
        let [plane, other, out] = &mut self.planes;
        let Some((_, axes)) = &self.chroma else { return };
        if self.sizes[0] == self.sizes[1] && from == to {
            std::mem::swap(plane, out);
            return;
        }
        let ([width, _], [_, height]) = (from.1, to.1);
        axes[1].columns(plane, width, other);
        transpose(other, width, plane);
        axes[0].columns(plane, height, other);
        transpose(other, height, out);
    }
}

/// Makes of `luma`, which holds R, the weighted sum of R, G and B.
fn mix(luma: &mut [f32], rgb: &[f32], [r, g, b]: [f32; COLOURS]) {
    let len = luma.len();
    let (green, blue) = (&rgb[len..2 * len], &rgb[2 * len..3 * len]);
    for ((luma, green), blue) in luma.iter_mut().zip(green).zip(blue) {
        *luma = r * *luma + g * green + b * blue;
    }
}

fn read_luma<S: Sample>(frame: &Frame<'_>, luma: &mut [f32]) {
    let FrameFormat { width, range, samples, .. } = frame.format;
    let (y, _) = parts::<_, S>(&frame.planes.as_ref());
    for (row, line) in luma.chunks_exact_mut(width).enumerate() {
        read::<S>(&y, (row, 0), range.luma(samples.bits()), line);
    }
}

fn write_yuv<S: Sample>(
    recolour: &mut Recolour,
    input: &Frame<'_>,
    luma: &[f32],
    output: &mut FrameMut<'_>,
) {
    let (format, site) = (output.format, output.site);
    let FrameFormat { width, range, samples, .. } = format;
    let (mut planes, layout) = Writable::of(output);
    let (y, chroma) = parts::<_, S>(&layout);
    for (row, line) in luma.chunks_exact(width).enumerate() {
        planes.write::<S>(&y, (row, 0), range.luma(samples.bits()), line);
    }
    let from =
        Subsampled::of::<S>(parts::<_, S>(&input.planes.as_ref()).1, input.site, input.format);
    let (Some(from), Some(to)) = (from, Subsampled::of::<S>(chroma, site, format)) else { return };
    let places = ((from.sitings, from.size), (to.sitings, to.size));
    for (component, out) in from.components.iter().zip(&to.components) {
        let plane = &mut recolour.planes[0];
        plane.resize(from.size[0] * from.size[1], 0.0);
        for (row, line) in plane.chunks_exact_mut(from.size[0]).enumerate() {
            let scale = input.format.range.chroma(input.format.samples.bits());
            read::<S>(component, (row, 0), scale, line);
        }
        recolour.scale(places.0, places.1);
        for (row, line) in recolour.planes[2].chunks_exact(to.size[0]).enumerate() {
            planes.write::<S>(out, (row, 0), range.chroma(samples.bits()), line);
        }
    }
}
