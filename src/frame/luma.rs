//! Luma alone from and to frames of any layout, for nets that make nothing else; the colours are those of the
//! input, scaled bicubically.

use crate::resample::{Axis, Filter, transpose};
use crate::{Error, Result};

use super::direct::{
    COLOURS, Rescale, Subsampled, copy_pixels, of_samples, put_planes, read, write,
};
use super::samples::{High, Low, Sample, U8};
use super::yuv::parts;
use super::{Frame, FrameFormat, FrameMut, SampleFormat};

/// Takes the luma of frames of one size, and gives it back, at another size, with their colours.
pub struct Recolour {
    sizes: [[usize; 2]; 2],
    /// Of frames in RGB.
    rescale: Option<Rescale>,
    /// Of frames in YUV: whether chroma has half the columns and lines, and what scales it.
    chroma: Option<([bool; 2], [Axis; 2])>,
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

    /// Writes a frame of `luma`, `[height, width]`, and the colours of `input`, which was read last.
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
    fn scale(&mut self, half: [bool; 2], [from, to]: [[usize; 2]; 2]) {
        if self.chroma.as_ref().is_none_or(|(known, _)| *known != half) {
            let axes = [0, 1].map(|side| {
                // One sample for two columns lies beside the left one of them.
                let scale = self.sizes[0][side] as f64 / self.sizes[1][side] as f64;
                let shift = if side == 0 && half[0] { 0.25 * (1.0 - scale) } else { 0.0 };
                Axis::shifted(Filter::Bicubic, from[side], to[side], shift)
            });
            self.chroma = Some((half, axes));
        }
        let [plane, other, out] = &mut self.planes;
        let Some((_, axes)) = &self.chroma else { return };
        if from == to {
            std::mem::swap(plane, out);
            return;
        }
        axes[1].columns(plane, from[0], other);
        transpose(other, from[0], plane);
        axes[0].columns(plane, to[1], other);
        transpose(other, to[1], out);
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
        read::<S>(&y, row, range.luma(samples.bits()), line);
    }
}

fn write_yuv<S: Sample>(
    recolour: &mut Recolour,
    input: &Frame<'_>,
    luma: &[f32],
    output: &mut FrameMut<'_>,
) {
    let format = output.format;
    let FrameFormat { width, range, samples, .. } = format;
    let (mut planes, layout) = put_planes(output);
    let (y, chroma) = parts::<_, S>(&layout);
    for (row, line) in luma.chunks_exact(width).enumerate() {
        write::<S>(&mut planes, &y, row, range.luma(samples.bits()), line);
    }
    let from = parts::<_, S>(&input.planes.as_ref()).1;
    let both = (Subsampled::of::<S>(from), Subsampled::of::<S>(chroma));
    let (Some(from), Some(to)) = both else { return };
    let (half, sizes) = (from.half, [from.size(input.format), to.size(format)]);
    for (from, to) in from.components.iter().zip(&to.components) {
        let plane = &mut recolour.planes[0];
        plane.resize(sizes[0][0] * sizes[0][1], 0.0);
        for (row, line) in plane.chunks_exact_mut(sizes[0][0]).enumerate() {
            read::<S>(from, row, input.format.range.chroma(input.format.samples.bits()), line);
        }
        recolour.scale(half, sizes);
        for (row, line) in recolour.planes[2].chunks_exact(sizes[1][0]).enumerate() {
            write::<S>(&mut planes, to, row, range.chroma(samples.bits()), line);
        }
    }
}
