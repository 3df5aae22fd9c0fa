//! Whole pictures in RGB from and to frames of any layout, for nets that make the picture themselves.
//!
//! Chroma of 4:2:0 and 4:2:2 lies where the frame's [`ChromaSite`](super::ChromaSite) says: it is interpolated
//! linearly on the way in, and filtered by 1-2-1, or the mean of two, on the way out.

use super::lines::{CHUNK, Subsampled, Writable, copy_pixels, of_samples, read};
use super::rows::Component;
use super::samples::{High, Low, Sample, U8};
use super::yuv::parts;
use super::{Frame, FrameFormat, FrameMut, Planes, RgbPixel, SampleFormat};

/// R, G and B.
pub(super) const COLOURS: usize = 3;

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
                read::<S>(component, (row, 0), luma, line);
            }
        }
        return;
    }
    let (y, chroma) = parts::<_, S>(&planes);
    let chroma = Subsampled::of::<S>(chroma, frame.site, frame.format);
    let [kr, kg, kb] = frame.matrix.weights();
    let (r, rest) = tensor.split_at_mut(width * height);
    let (g, b) = rest.split_at_mut(width * height);
    let lines = r.chunks_mut(width).zip(g.chunks_mut(width)).zip(b.chunks_mut(width));
    for (row, ((r, g), b)) in lines.enumerate() {
        let chunks = r.chunks_mut(CHUNK).zip(g.chunks_mut(CHUNK)).zip(b.chunks_mut(CHUNK));
        for (index, ((r, g), b)) in chunks.enumerate() {
            let at = (row, index * CHUNK);
            let (mut luma_line, mut colours) = ([0.0; CHUNK], [[0.5; CHUNK]; 2]);
            read::<S>(&y, at, luma, &mut luma_line[..r.len()]);
            if let Some(chroma) = &chroma {
                for (which, line) in colours.iter_mut().enumerate() {
                    let scale = range.chroma(samples.bits());
                    chroma.at_pixels::<S>(which, at, scale, &mut line[..r.len()]);
                }
            }
            let [u, v] = &colours;
            let out = r.iter_mut().zip(g).zip(b);
            for (((r, g), b), ((y, u), v)) in out.zip(luma_line.iter().zip(u).zip(v)) {
                (*r, *b) = (y + 2.0 * (1.0 - kr) * (v - 0.5), y + 2.0 * (1.0 - kb) * (u - 0.5));
                *g = (y - kr * *r - kb * *b) / kg;
            }
        }
    }
}

fn pack<S: Sample>(frame: &mut FrameMut<'_>, tensor: &[f32]) {
    let (format, matrix, site) = (frame.format, frame.matrix, frame.site);
    let FrameFormat { width, height, range, samples } = format;
    let luma = range.luma(samples.bits());
    let (mut planes, layout) = Writable::of(frame);
    if let Some(components) = rgb_components::<_, S>(&layout) {
        for (component, values) in components.iter().zip(tensor.chunks(width * height)) {
            for (row, line) in values.chunks(width).enumerate() {
                planes.write::<S>(component, (row, 0), luma, line);
            }
        }
        return;
    }
    let (y, chroma) = parts::<_, S>(&layout);
    let [kr, kg, kb] = matrix.weights();
    let (r, rest) = tensor.split_at(width * height);
    let (g, b) = rest.split_at(width * height);
    let mut line = [0.0; CHUNK];
    for row in 0..height {
        for start in (0..width).step_by(CHUNK) {
            let line = &mut line[..CHUNK.min(width - start)];
            let first = row * width + start;
            let pixels = r[first..].iter().zip(&g[first..]).zip(&b[first..]);
            for (value, ((r, g), b)) in line.iter_mut().zip(pixels) {
                *value = kr * r + kg * g + kb * b;
            }
            planes.write::<S>(&y, (row, start), luma, line);
        }
    }
    let Some(chroma) = Subsampled::of::<S>(chroma, site, format) else { return };
    let ([across, down], [chroma_width, chroma_height]) = (chroma.sitings, chroma.size);
    let mean = |row: usize, column: usize| {
        let mut rgb = [0.0; COLOURS];
        for (row, of_row) in down.under(row) {
            for (column, of_column) in across.under(column) {
                let at = row.min(height - 1) * width + column.min(width - 1);
                for (sum, plane) in rgb.iter_mut().zip([r, g, b]) {
                    *sum += of_row * of_column * plane[at];
                }
            }
        }
        rgb
    };
    let scale = range.chroma(samples.bits());
    for row in 0..chroma_height {
        for start in (0..chroma_width).step_by(CHUNK) {
            let len = CHUNK.min(chroma_width - start);
            let mut lines = [[0.0; CHUNK]; 2];
            let [us, vs] = &mut lines;
            for (column, (u, v)) in (start..start + len).zip(us.iter_mut().zip(vs)) {
                let [r, g, b] = mean(row, column);
                let y = kr * r + kg * g + kb * b;
                (*u, *v) = (0.5 * (b - y) / (1.0 - kb) + 0.5, 0.5 * (r - y) / (1.0 - kr) + 0.5);
            }
            for (component, line) in chroma.components.iter().zip(&lines) {
                planes.write::<S>(component, (row, start), scale, &line[..len]);
            }
        }
    }
}
