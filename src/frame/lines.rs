//! Lines of luma, chroma, R, G and B of frames of any layout, as numbers.

use super::rows::Component;
use super::samples::{Sample, nearest};
use super::site::{ChromaSite, Siting};
use super::yuv::Chroma;
use super::{Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes};

/// Samples of a line that are worked on at once.
pub(super) const CHUNK: usize = 64;

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

/// Code of 0, and codes from there to 1.
pub(super) type Scale = (f32, f32);

/// Chroma planes.
pub(super) struct Subsampled<P> {
    /// U and V.
    pub(super) components: [Component<P>; 2],
    /// Across and down.
    pub(super) sitings: [Siting; 2],
    /// Columns and lines.
    pub(super) size: [usize; 2],
}

impl<P: Copy> Subsampled<P> {
    /// The chroma of a frame; `None` where there is none.
    pub(super) fn of<S: Sample>(
        chroma: Chroma<P>,
        site: ChromaSite,
        format: FrameFormat,
    ) -> Option<Self> {
        let one = |plane| Component { plane, offset: 0, step: S::BYTES };
        let (components, half) = match chroma {
            Chroma::Neutral => return None,
            Chroma::Planar(planes) => (planes.map(one), [true; 2]),
            Chroma::Pairs(plane, v_first) => {
                let of = |second: bool| {
                    let offset = if second { S::BYTES } else { 0 };
                    Component { plane, offset, step: 2 * S::BYTES }
                };
                ([of(v_first), of(!v_first)], [true; 2])
            }
            Chroma::Finer(components, full_width) => (components, [!full_width, false]),
        };
        let sitings = [0, 1].map(|axis| Siting { half: half[axis], cosited: site.cosited[axis] });
        let [across, down] = sitings;
        let size = [across.samples(format.width), down.samples(format.height)];
        Some(Self { components, sitings, size })
    }
}

impl Subsampled<&Plane<'_>> {
    /// U, or V, at pixels of a line from one on, at most [`CHUNK`].
    pub(super) fn at_pixels<S: Sample>(
        &self,
        which: usize,
        (row, start): (usize, usize),
        scale: Scale,
        out: &mut [f32],
    ) {
        let ([across, down], [width, height]) = (self.sitings, self.size);
        let inside = |sample: usize| sample.min(width - 1);
        let pixels = start..start + out.len();
        // The first is the least, or the one before; the same at the other end.
        let under = |pixel: usize| across.around(pixel).map(|(sample, _)| inside(sample));
        let [first, last] = [under(pixels.start), under(pixels.end - 1)];
        let (first, end) = (first[0].min(first[1]), last[0].max(last[1]) + 1);
        let mut lines = [[0.0; CHUNK + 2]; 2];
        let rows = down.around(row);
        for (line, (row, share)) in lines.iter_mut().zip(rows) {
            if share > 0.0 {
                let row = row.min(height - 1);
                read::<S>(&self.components[which], (row, first), scale, &mut line[..end - first]);
            }
        }
        let [upper, lower] = &lines;
        let at = |sample: usize| {
            let index = inside(sample) - first;
            rows[0].1 * upper[index] + rows[1].1 * lower[index]
        };
        for (pixel, value) in pixels.zip(out) {
            let [(a, share_a), (b, share_b)] = across.around(pixel);
            *value = share_a * at(a) + share_b * at(b);
        }
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

/// The planes of a frame by their numbers: two components cannot borrow one.
pub(super) struct Writable<'f, 'p>([Option<&'f mut PlaneMut<'p>>; 3]);

impl<'f, 'p> Writable<'f, 'p> {
    /// And the layout with those numbers.
    pub(super) fn of(frame: &'f mut FrameMut<'p>) -> (Self, Planes<usize>) {
        let (mut planes, mut count) = ([None, None, None], 0);
        let layout = frame.planes.as_mut().map(|plane| {
            planes[count] = Some(plane);
            count += 1;
            count - 1
        });
        (Self(planes), layout)
    }

    /// Samples of a line of a component, from one on.
    pub(super) fn write<S: Sample>(
        &mut self,
        component: &Component<usize>,
        (row, start): (usize, usize),
        (zero, span): Scale,
        line: &[f32],
    ) {
        let Component { plane, offset, step } = *component;
        let plane = self.0[plane].as_mut().expect("a number of one of the planes");
        let bytes = &mut plane.data[row * plane.stride_bytes + offset + start * step..];
        for (value, sample) in line.iter().zip(bytes.chunks_mut(step)) {
            S::write(nearest::<S>(value * span + zero) as u16, &[0; 2], sample);
        }
    }
}

/// Samples of a line of a component, from one on.
pub(super) fn read<S: Sample>(
    component: &Component<&Plane<'_>>,
    (row, start): (usize, usize),
    (zero, span): Scale,
    line: &mut [f32],
) {
    let samples = component.line::<S>(row, start..start + line.len()).chunks(component.step);
    for (value, sample) in line.iter_mut().zip(samples) {
        *value = (f32::from(S::read(sample)) - zero) / span;
    }
}
