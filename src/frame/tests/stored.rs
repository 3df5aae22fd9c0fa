//! Frames in one buffer, whose samples are looked up and stored one by one.

use super::*;

/// What the samples are and how they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    I420,
    Yv12,
    Nv12,
    Nv21,
    Yuv422,
    Yuv444,
    /// 4:2:2 in pairs, V first or not.
    Nv16(bool),
    /// 4:4:4 in pairs, V first or not.
    Nv24(bool),
    PackedYuv(YuvPixel),
    Grey,
    Packed(RgbPixel, Matrix),
    Gbr(Matrix),
}

/// Where samples of a component (Y, U and V, or R, G and B) are, in bytes, and how many.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    first: usize,
    stride: usize,
    step: usize,
    size: (usize, usize),
}

/// Frame in one buffer, with other bytes before, between and after its rows and planes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) format: FrameFormat,
    pub(super) layout: Layout,
    places: Vec<Place>,
    /// First byte, bytes and stride of each plane, as they follow each other; a plane ends with
    /// its last sample.
    planes: Vec<(usize, usize, usize)>,
    pub(super) bytes: Vec<u8>,
}

impl Stored {
    /// Without samples; `padding` bytes after each row.
    pub(super) fn new(format: FrameFormat, layout: Layout, padding: usize) -> Self {
        let bytes = format.samples.bytes();
        let whole = (format.width, format.height);
        let half = (format.width.div_ceil(2), format.height.div_ceil(2));
        let mut planes = vec![];
        let mut end = 3;
        let mut plane = |(width, height): (usize, usize), step: usize| {
            let (first, stride) = (end, width * step + padding);
            end += stride * height + 5;
            planes.push((first, stride * (height - 1) + width * step, stride));
            Place { first, stride, step, size: (width, height) }
        };
        let after = |place: Place, bytes: usize| Place { first: place.first + bytes, ..place };
        let fine_half = (half.0, whole.1);
        let first = match layout {
            Layout::Packed(pixel, _) => plane(whole, pixel.bytes),
            Layout::PackedYuv(pixel) => {
                plane(if pixel.is_pair { fine_half } else { whole }, pixel.bytes)
            }
            _ => plane(whole, bytes),
        };
        let in_pairs = |pairs: Place, v_first: bool| {
            let [u, v] = if v_first { [bytes, 0] } else { [0, bytes] };
            vec![first, after(pairs, u), after(pairs, v)]
        };
        let places = match layout {
            Layout::I420 => vec![first, plane(half, bytes), plane(half, bytes)],
            Layout::Yv12 => {
                let v = plane(half, bytes);
                vec![first, plane(half, bytes), v]
            }
            Layout::Nv12 => in_pairs(plane(half, 2 * bytes), false),
            Layout::Nv21 => in_pairs(plane(half, 2 * bytes), true),
            Layout::Nv16(v_first) => in_pairs(plane(fine_half, 2 * bytes), v_first),
            Layout::Nv24(v_first) => in_pairs(plane(whole, 2 * bytes), v_first),
            Layout::PackedYuv(YuvPixel { bytes, y, u, v, is_pair }) => {
                let step = if is_pair { bytes / 2 } else { bytes };
                let luma = Place { step, size: whole, ..after(first, y) };
                vec![luma, after(first, u), after(first, v)]
            }
            Layout::Yuv422 => vec![first, plane(fine_half, bytes), plane(fine_half, bytes)],
            Layout::Yuv444 => vec![first, plane(whole, bytes), plane(whole, bytes)],
            Layout::Grey => vec![first],
            Layout::Packed(RgbPixel { r, g, b, .. }, _) => {
                [r, g, b].map(|o| after(first, o)).into()
            }
            Layout::Gbr(_) => {
                let b = plane(whole, bytes);
                vec![plane(whole, bytes), first, b]
            }
        };
        Self { format, layout, places, planes, bytes: vec![SENTINEL; end] }
    }

    /// With noise for samples. Where a word has bits that are no code's, `dirty` sets some.
    pub(super) fn noise(format: FrameFormat, layout: Layout, padding: usize, dirty: bool) -> Self {
        let mut stored = Self::new(format, layout, padding);
        let mut noise = Noise(1 + (format.width * format.height) as u64);
        let end = 1u64 << format.samples.bits();
        for which in 0..stored.components() {
            let (width, height) = stored.size(which);
            for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
                // The lowest and the highest code more often than others.
                let code = noise.below(end + end / 4).saturating_sub(end / 8).min(end - 1);
                stored.put(which, (x, y), code as u16);
                let at = stored.at(which, (x, y));
                match format.samples {
                    SampleFormat::U10Low if dirty => stored.bytes[at + 1] |= 0xc0,
                    SampleFormat::U12Low if dirty => stored.bytes[at + 1] |= 0xa0,
                    SampleFormat::U10High if dirty => stored.bytes[at] |= 0x15,
                    SampleFormat::U12High if dirty => stored.bytes[at] |= 0x05,
                    _ => (),
                }
            }
        }
        for (_, at) in stored.other_bytes() {
            stored.bytes[at] = noise.below(256) as u8;
        }
        stored
    }

    /// Y, or Y, U and V, or R, G and B.
    pub(super) fn components(&self) -> usize {
        self.places.len()
    }

    pub(super) fn size(&self, which: usize) -> (usize, usize) {
        self.places[which].size
    }

    pub(super) fn at(&self, which: usize, (x, y): (usize, usize)) -> usize {
        let Place { first, stride, step, .. } = self.places[which];
        first + y * stride + x * step
    }

    /// Where the bytes of packed pixels are that are no sample's, and those of luma beyond an odd
    /// width; with the pixels, or the first of two.
    pub(super) fn other_bytes(&self) -> Vec<((usize, usize), usize)> {
        let FrameFormat { width, height, samples, .. } = self.format;
        let (bytes, pixels) = match self.layout {
            Layout::Packed(pixel, _) => (pixel.bytes, 1),
            Layout::PackedYuv(pixel) => (pixel.bytes, if pixel.is_pair { 2 } else { 1 }),
            _ => return vec![],
        };
        let (first, _, stride) = self.planes[0];
        let is_sample = |at: usize| {
            (0..3).any(|which| {
                let Place { first, stride, step, size } = self.places[which];
                let (y, x) = ((at.wrapping_sub(first)) / stride, (at.wrapping_sub(first)) % stride);
                at >= first && y < size.1 && x / step < size.0 && x % step < samples.bytes()
            })
        };
        let pixels = (0..height).flat_map(|y| (0..width).step_by(pixels).map(move |x| (x, y)));
        let step =
            if matches!(self.layout, Layout::PackedYuv(pixel) if pixel.is_pair) { 2 } else { 1 };
        let all = pixels.flat_map(|(x, y)| {
            (0..bytes).map(move |i| ((x, y), first + y * stride + x / step * bytes + i))
        });
        all.filter(|&(_, at)| !is_sample(at)).collect()
    }

    pub(super) fn code(&self, which: usize, at: (usize, usize)) -> u16 {
        let at = self.at(which, at);
        let byte = |i: usize| u16::from(self.bytes[at + i]);
        match self.format.samples {
            SampleFormat::U8 => byte(0),
            SampleFormat::U10Low => byte(0) + byte(1) % 4 * 256,
            SampleFormat::U10High => byte(0) / 64 + byte(1) * 4,
            SampleFormat::U12Low => byte(0) + byte(1) % 16 * 256,
            SampleFormat::U12High => byte(0) / 16 + byte(1) * 16,
            SampleFormat::U16 => byte(0) + byte(1) * 256,
        }
    }

    pub(super) fn put(&mut self, which: usize, at: (usize, usize), code: u16) {
        let at = self.at(which, at);
        let (low, high) = match self.format.samples {
            SampleFormat::U8 => {
                self.bytes[at] = code as u8;
                return;
            }
            SampleFormat::U10Low | SampleFormat::U12Low | SampleFormat::U16 => {
                (code % 256, code / 256)
            }
            SampleFormat::U10High => (code % 4 * 64, code / 4),
            SampleFormat::U12High => (code % 16 * 16, code / 16),
        };
        (self.bytes[at], self.bytes[at + 1]) = (low as u8, high as u8);
    }

    /// As [`Stored::put`], and the bits that are no code's as the input has them.
    pub(super) fn put_into(&mut self, input: &Self, which: usize, at: (usize, usize), code: u16) {
        self.put(which, at, code);
        let others = match self.format.samples {
            SampleFormat::U10High => 63,
            SampleFormat::U12High => 15,
            _ => 0,
        };
        let (from, to) = (input.at(which, at), self.at(which, at));
        self.bytes[to] |= input.bytes[from] & others;
    }

    pub(super) fn frame(&self) -> Frame<'_> {
        let planes = self.planes.iter().map(|&(first, len, stride_bytes)| Plane {
            data: &self.bytes[first..][..len],
            stride_bytes,
        });
        Frame::new(self.format, in_layout(self.layout, planes)).unwrap()
    }

    pub(super) fn frame_mut(&mut self) -> FrameMut<'_> {
        let (mut rest, mut end) = (&mut *self.bytes, 0);
        let planes = self.planes.iter().map(|&(first, len, stride_bytes)| {
            let (data, after) = std::mem::take(&mut rest)[first - end..].split_at_mut(len);
            (rest, end) = (after, first + len);
            PlaneMut { data, stride_bytes }
        });
        FrameMut::new(self.format, in_layout(self.layout, planes)).unwrap()
    }

    /// Writes these pieces of every row.
    pub(super) fn write(
        &mut self,
        level: Level,
        input: &Self,
        pieces: &[usize],
        residual: &Residual,
        smoothing: f32,
    ) {
        let (_, half_height) = self.format.half_size();
        let input = input.frame();
        let mut frame = self.frame_mut();
        let writer = frame.writer(smoothing);
        for row in 0..half_height {
            for piece in pieces.windows(2) {
                let parts = residual.parts(row, piece[0]..piece[1]);
                // SAFETY: one after the other.
                unsafe { writer.write_pairs(level, &input, row, piece[0]..piece[1], parts) }
            }
        }
    }
}

/// The planes as they follow each other in [`Stored`].
fn in_layout<P>(layout: Layout, mut planes: impl Iterator<Item = P>) -> Planes<P> {
    let y = planes.next().unwrap();
    let mut next = || planes.next().unwrap();
    let yuv = |y, u, v, subsampling| Planes::Planar { y, u, v, subsampling };
    let pairs = |y, uv, v_first, subsampling| Planes::SemiPlanar { y, uv, v_first, subsampling };
    match layout {
        Layout::I420 => yuv(y, next(), next(), Subsampling::Yuv420),
        Layout::Yv12 => {
            let v = next();
            yuv(y, next(), v, Subsampling::Yuv420)
        }
        Layout::Nv12 => pairs(y, next(), false, Subsampling::Yuv420),
        Layout::Nv21 => pairs(y, next(), true, Subsampling::Yuv420),
        Layout::Nv16(v_first) => pairs(y, next(), v_first, Subsampling::Yuv422),
        Layout::Nv24(v_first) => pairs(y, next(), v_first, Subsampling::Yuv444),
        Layout::PackedYuv(pixel) => Planes::PackedYuv { pixels: y, pixel },
        Layout::Yuv422 => yuv(y, next(), next(), Subsampling::Yuv422),
        Layout::Yuv444 => yuv(y, next(), next(), Subsampling::Yuv444),
        Layout::Grey => Planes::Grey { y },
        Layout::Packed(pixel, matrix) => Planes::PackedRgb { pixels: y, pixel, matrix },
        Layout::Gbr(matrix) => {
            let (g, b) = (y, next());
            Planes::PlanarRgb { r: next(), g, b, matrix }
        }
    }
}
