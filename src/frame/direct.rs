//! Whole pictures in RGB from and to frames of any layout, for nets that make the picture themselves.
//!
//! Chroma of 4:2:0 and 4:2:2 lies beside the left one of two pixels and halfway between two lines, as
//! MPEG-2 and most video have it: it is interpolated linearly on the way in, and filtered by 1-2-1 and
//! the mean of the lines on the way out.

use crate::resample::{Axis, Filter, transpose};
use crate::{Error, Result};

use super::rows::Component;
use super::samples::{High, Low, Sample, U8, nearest};
use super::yuv::{Chroma, parts};
use super::{Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes, RgbPixel, SampleFormat};

/// R, G and B.
pub(super) const COLOURS: usize = 3;

/// Runs a generic function for samples of a format.
macro_rules! of_samples {
    ($samples:expr, $function:ident ( $($value:expr),* )) => {
        match $samples {
            SampleFormat::U8 => $function::<U8>($($value),*),
            SampleFormat::U10Low => $function::<Low<10>>($($value),*),
            SampleFormat::U10High => $function::<High<10>>($($value),*),
            SampleFormat::U12Low => $function::<Low<12>>($($value),*),
            SampleFormat::U12High => $function::<High<12>>($($value),*),
            SampleFormat::U16 => $function::<High<16>>($($value),*),
        }
    };
}

pub(super) use of_samples;

impl Frame<'_> {
    /// Fills `tensor`, `[3, height, width]`, with R, G and B, 0 to 1 from black to white.
    ///
    /// # Panics
    /// If `tensor` has another length.
    pub fn unpack_rgb(&self, tensor: &mut [f32]) {
        let FrameFormat { width, height, samples, .. } = self.format;
        assert_eq!(tensor.len(), COLOURS * width * height, "tensor length");
        of_samples!(samples, unpack(self, tensor));
    }
}

impl FrameMut<'_> {
    /// Writes R, G and B, `[3, height, width]`, rounded to the nearest code value (ties to even) and
    /// clamped to the codes there are. Packed pixels have their alpha and padding from where they are in
    /// `input`, which may be of another size.
    ///
    /// # Panics
    /// If `tensor` has another length.
    pub fn pack_rgb(&mut self, input: &Frame<'_>, tensor: &[f32]) {
        let FrameFormat { width, height, samples, .. } = self.format;
        assert_eq!(tensor.len(), COLOURS * width * height, "tensor length");
        copy_pixels(input, self);
        of_samples!(samples, pack(self, tensor));
    }
}

/// Makes a picture of another size: bicubic, in RGB; alpha and padding of packed pixels are those of the
/// nearest pixel.
pub struct Rescale {
    sizes: [[usize; 2]; 2],
    /// Across and down.
    axes: [Axis; 2],
    /// Scratch space: planes of the input and of the output, and one in between.
    planes: [Vec<f32>; 2],
    columns: [Vec<f32>; 2],
}

impl Rescale {
    /// From frames of one width and height to those of another.
    ///
    /// # Panics
    /// If one of them is 0.
    pub fn new(from: [usize; 2], to: [usize; 2]) -> Self {
        assert!(from.into_iter().chain(to).all(|side| side > 0), "{from:?} to {to:?}");
        let planes = [from, to].map(|[width, height]| vec![0.0; COLOURS * width * height]);
        let axes = [0, 1].map(|side| Axis::new(Filter::Bicubic, from[side], to[side]));
        Self { sizes: [from, to], axes, planes, columns: [vec![], vec![]] }
    }

    /// Writes the input's picture.
    ///
    /// # Errors
    /// [`Error::Frame`] when the frames have other sizes.
    pub fn run(&mut self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        let got = [input.format, output.format].map(|format| [format.width, format.height]);
        if got != self.sizes {
            let [from, to] = self.sizes;
            return Err(Error::Frame(format!("sizes {got:?}, expected {from:?} to {to:?}")));
        }
        self.read(input);
        output.pack_rgb(input, self.enlarge());
        Ok(())
    }

    /// R, G and B of a frame of the first size.
    pub(super) fn read(&mut self, input: &Frame<'_>) -> &[f32] {
        input.unpack_rgb(&mut self.planes[0]);
        &self.planes[0]
    }

    /// The picture that was read, in the second size.
    pub(super) fn enlarge(&mut self) -> &mut [f32] {
        let [[width, height], [new_width, new_height]] = self.sizes;
        let [from, to] = &mut self.planes;
        if self.sizes[0] == self.sizes[1] {
            to.copy_from_slice(from);
            return to;
        }
        let [other, columns] = &mut self.columns;
        let planes = from.chunks_exact(width * height);
        for (plane, out) in planes.zip(to.chunks_exact_mut(new_width * new_height)) {
            self.axes[1].columns(plane, width, other);
            transpose(other, width, columns);
            self.axes[0].columns(columns, new_height, other);
            transpose(other, new_height, columns);
            out.copy_from_slice(columns);
        }
        to
    }
}

/// Gives packed pixels all bytes of those of a frame of the same layout, the nearest ones.
pub(super) fn copy_pixels(input: &Frame<'_>, output: &mut FrameMut<'_>) {
    let (from, to) = (input.format, output.format);
    if input.planes.layout() != output.planes.layout() || from.samples != to.samples {
        return;
    }
    let (from_plane, to_plane, bytes, pixels) = match (&input.planes, &mut output.planes) {
        (Planes::PackedRgb { pixels: a, pixel, .. }, Planes::PackedRgb { pixels: b, .. }) => {
            (a, b, pixel.bytes, 1)
        }
        (Planes::PackedYuv { pixels: a, pixel }, Planes::PackedYuv { pixels: b, .. }) => {
            (a, b, pixel.bytes, if pixel.is_pair { 2 } else { 1 })
        }
        _ => return,
    };
    let (from_count, count) = (from.width.div_ceil(pixels), to.width.div_ceil(pixels));
    for row in 0..to.height {
        let from_row = &from_plane.data[row * from.height / to.height * from_plane.stride_bytes..];
        let to_row = &mut to_plane.data[row * to_plane.stride_bytes..][..count * bytes];
        for (x, pixel) in to_row.chunks_exact_mut(bytes).enumerate() {
            let at = x * from_count / count * bytes;
            pixel.copy_from_slice(&from_row[at..][..bytes]);
        }
    }
}

/// Code of 0, and codes from there to 1.
type Scale = (f32, f32);

/// Chroma planes.
pub(super) struct Subsampled<P> {
    /// U and V.
    pub(super) components: [Component<P>; 2],
    /// Whether there is one sample for two pixels, and for two lines.
    pub(super) half: [bool; 2],
}

impl<P: Copy> Subsampled<P> {
    pub(super) fn of<S: Sample>(chroma: Chroma<P>) -> Option<Self> {
        let one = |plane| Component { plane, offset: 0, step: S::BYTES };
        Some(match chroma {
            Chroma::Neutral => return None,
            Chroma::Planar(planes) => Self { components: planes.map(one), half: [true; 2] },
            Chroma::Pairs(plane, v_first) => {
                let of = |second: bool| {
                    let offset = if second { S::BYTES } else { 0 };
                    Component { plane, offset, step: 2 * S::BYTES }
                };
                Self { components: [of(v_first), of(!v_first)], half: [true; 2] }
            }
            Chroma::Finer(components, full_width) => {
                Self { components, half: [!full_width, false] }
            }
        })
    }

    /// Width and height of a chroma plane.
    pub(super) fn size(&self, format: FrameFormat) -> [usize; 2] {
        let of = |len: usize, half: bool| if half { len.div_ceil(2) } else { len };
        [of(format.width, self.half[0]), of(format.height, self.half[1])]
    }
}

fn rgb_components<P: Copy, S: Sample>(planes: &Planes<P>) -> Option<[Component<P>; COLOURS]> {
    match *planes {
        Planes::PackedRgb { pixels: plane, pixel: RgbPixel { bytes: step, r, g, b }, .. } => {
            Some([r, g, b].map(|offset| Component { plane, offset, step }))
        }
        Planes::PlanarRgb { r, g, b, .. } => {
            Some([r, g, b].map(|plane| Component { plane, offset: 0, step: S::BYTES }))
        }
        _ => None,
    }
}

fn unpack<S: Sample>(frame: &Frame<'_>, tensor: &mut [f32]) {
    let FrameFormat { width, height, range, samples } = frame.format;
    let (luma, planes) = (range.luma(samples.bits()), frame.planes.as_ref());
    if let Some(components) = rgb_components::<_, S>(&planes) {
        for (component, plane) in components.iter().zip(tensor.chunks_mut(width * height)) {
            for (row, line) in plane.chunks_mut(width).enumerate() {
                read::<S>(component, row, luma, line);
            }
        }
        return;
    }
    let (y, chroma) = parts::<_, S>(&planes);
    let chroma = Subsampled::of::<S>(chroma).map(|chroma| {
        let [chroma_width, chroma_height] = chroma.size(frame.format);
        let values = chroma.components.map(|component| {
            let mut values = vec![0.0; chroma_width * chroma_height];
            for (row, line) in values.chunks_mut(chroma_width).enumerate() {
                read::<S>(&component, row, range.chroma(samples.bits()), line);
            }
            values
        });
        (values, chroma.half, chroma_width)
    });
    let [kr, kg, kb] = frame.matrix.weights();
    let (r, rest) = tensor.split_at_mut(width * height);
    let (g, b) = rest.split_at_mut(width * height);
    let mut lines = [(); COLOURS].map(|()| vec![0.0; width]);
    for row in 0..height {
        let [luma_line, u, v] = &mut lines;
        read::<S>(&y, row, luma, luma_line);
        if let Some((values, half, chroma_width)) = &chroma {
            for (line, values) in [u, v].into_iter().zip(values) {
                interpolate(values, *chroma_width, *half, row, line);
            }
        }
        let is_coloured = chroma.is_some();
        let line = row * width..(row + 1) * width;
        let out = r[line.clone()].iter_mut().zip(&mut g[line.clone()]).zip(&mut b[line]);
        let [luma_line, u, v] = &lines;
        for (((r, g), b), ((y, u), v)) in out.zip(luma_line.iter().zip(u).zip(v)) {
            let [u, v] = [u, v].map(|c| if is_coloured { c - 0.5 } else { 0.0 });
            (*r, *b) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
            *g = (y - kr * *r - kb * *b) / kg;
        }
    }
}

/// One line of full-size chroma.
fn interpolate(values: &[f32], width: usize, half: [bool; 2], row: usize, line: &mut [f32]) {
    let last = values.len() / width - 1;
    let at = |row: usize, x: usize| values[row * width + x.min(width - 1)];
    let rows = match half[1] {
        false => [row, row],
        true if row.is_multiple_of(2) => [row / 2, (row / 2).saturating_sub(1)],
        true => [row / 2, (row / 2 + 1).min(last)],
    };
    let vertical = |x: usize| 0.75 * at(rows[0], x) + 0.25 * at(rows[1], x);
    for (x, value) in line.iter_mut().enumerate() {
        *value = match half[0] {
            false => vertical(x),
            true if x.is_multiple_of(2) => vertical(x / 2),
            true => 0.5 * (vertical(x / 2) + vertical(x / 2 + 1)),
        };
    }
}

fn pack<S: Sample>(frame: &mut FrameMut<'_>, tensor: &[f32]) {
    let (format, matrix) = (frame.format, frame.matrix);
    let FrameFormat { width, height, range, samples } = format;
    let luma = range.luma(samples.bits());
    let (mut planes, layout) = put_planes(frame);
    if let Some(components) = rgb_components::<_, S>(&layout) {
        for (component, values) in components.iter().zip(tensor.chunks(width * height)) {
            for (row, line) in values.chunks(width).enumerate() {
                write::<S>(&mut planes, component, row, luma, line);
            }
        }
        return;
    }
    let (y, chroma) = parts::<_, S>(&layout);
    let [kr, kg, kb] = matrix.weights();
    let pixel = |row: usize, x: usize| {
        let at = row.min(height - 1) * width + x.min(width - 1);
        let [r, g, b] = [0, 1, 2].map(|c: usize| tensor[c * width * height + at]);
        let y = kr * r + kg * g + kb * b;
        [y, 0.5 * (b - y) / (1.0 - kb) + 0.5, 0.5 * (r - y) / (1.0 - kr) + 0.5]
    };
    let mut line = vec![0.0; width];
    for row in 0..height {
        line.iter_mut().enumerate().for_each(|(x, value)| *value = pixel(row, x)[0]);
        write::<S>(&mut planes, &y, row, luma, &line);
    }
    let Some(chroma) = Subsampled::of::<S>(chroma) else { return };
    let [chroma_width, chroma_height] = chroma.size(format);
    for (component, which) in chroma.components.iter().zip(1..) {
        let horizontal = |row: usize, x: usize| match chroma.half[0] {
            false => pixel(row, x)[which],
            true => {
                let of = |x: usize| pixel(row, x)[which];
                0.25 * (of((2 * x).saturating_sub(1)) + of(2 * x + 1)) + 0.5 * of(2 * x)
            }
        };
        for row in 0..chroma_height {
            for (x, value) in line[..chroma_width].iter_mut().enumerate() {
                *value = match chroma.half[1] {
                    false => horizontal(row, x),
                    true => 0.5 * (horizontal(2 * row, x) + horizontal(2 * row + 1, x)),
                };
            }
            let scale = range.chroma(samples.bits());
            write::<S>(&mut planes, component, row, scale, &line[..chroma_width]);
        }
    }
}

/// The planes of a frame, and the layout with their numbers: two components cannot borrow one.
pub(super) fn put_planes<'f, 'p>(
    frame: &'f mut FrameMut<'p>,
) -> (Vec<&'f mut PlaneMut<'p>>, Planes<usize>) {
    let mut planes = vec![];
    let layout = frame.planes.as_mut().map(|plane| {
        planes.push(plane);
        planes.len() - 1
    });
    (planes, layout)
}

/// A line of a component.
pub(super) fn read<S: Sample>(
    component: &Component<&Plane<'_>>,
    row: usize,
    (zero, span): Scale,
    line: &mut [f32],
) {
    let samples = component.line::<S>(row, 0..line.len()).chunks(component.step);
    for (value, sample) in line.iter_mut().zip(samples) {
        *value = (f32::from(S::read(sample)) - zero) / span;
    }
}

/// A line of a component.
pub(super) fn write<S: Sample>(
    planes: &mut [&mut PlaneMut<'_>],
    component: &Component<usize>,
    row: usize,
    (zero, span): Scale,
    line: &[f32],
) {
    let Component { plane, offset, step } = *component;
    let plane = &mut planes[plane];
    let bytes = &mut plane.data[row * plane.stride_bytes + offset..];
    for (value, sample) in line.iter().zip(bytes.chunks_mut(step)) {
        S::write(nearest::<S>(value * span + zero) as u16, &[0; 2], sample);
    }
}
