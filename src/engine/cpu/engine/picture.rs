//! Frames through nets that make the picture themselves, in RGB or its luma.

use super::CpuEngine;
use crate::Result;
use crate::engine::Engine as _;
use crate::engine::cpu::pipeline::Tiling;
use crate::frame::{Frame, FrameMut, Recolour};
use crate::nn::{Colour, Output};

impl CpuEngine {
    /// [`CpuEngine::process_tiled`] for such nets.
    pub(super) fn process_picture(
        &mut self,
        input: &Frame<'_>,
        output: &mut FrameMut<'_>,
        tiling: Option<Tiling>,
    ) -> Result<()> {
        let size = (input.format().width, input.format().height);
        let out_size = self.output_size(size.0, size.1);
        output.check_size(out_size)?;
        let (channels, mean) = (self.io.channels, self.io.mean);
        let sides = |(width, height)| [width, height];
        let sizes = [sides(size), sides(out_size)];
        if self.io.colour == Colour::Luma
            && self.recolour.as_ref().is_none_or(|known| known.sizes() != sizes)
        {
            self.recolour = Some(Recolour::new(sizes[0], sizes[1]));
        }
        let mut pictures = std::mem::take(&mut self.pictures);
        let [x, y] = &mut pictures;
        x.resize(channels * size.0 * size.1, 0.0);
        y.resize(channels * out_size.0 * out_size.1, 0.0);
        match &mut self.recolour {
            Some(recolour) => recolour.read(input, x),
            None => input.unpack_rgb(x),
        }
        add(x, mean.map(|mean| mean.map(|value| -value)));
        let mut run = self.run_tensor((x, size), (y, out_size), tiling);
        if self.io.output == Output::Residual {
            add_repeated(x, size, y, self.io.scale);
        } else {
            add(y, mean);
        }
        match &mut self.recolour {
            Some(recolour) => run = run.and(recolour.write(input, y, output)),
            None => output.pack_rgb(input, y),
        }
        self.pictures = pictures;
        run
    }
}

/// Adds a picture `[C, H, W]` to one `scale` times as large, each pixel to a square of them.
fn add_repeated(x: &[f32], (width, height): (usize, usize), y: &mut [f32], scale: usize) {
    for (row, line) in y.chunks_exact_mut(width * scale).enumerate() {
        let (channel, row) = (row / (height * scale), row % (height * scale) / scale);
        let from = &x[(channel * height + row) * width..][..width];
        for (values, value) in line.chunks_exact_mut(scale).zip(from) {
            values.iter_mut().for_each(|to| *to += value);
        }
    }
}

/// Adds to each channel of a picture `[3, H, W]`.
fn add(picture: &mut [f32], mean: Option<[f32; 3]>) {
    let Some(mean) = mean else { return };
    let pixels = picture.len() / mean.len();
    for (channel, mean) in picture.chunks_exact_mut(pixels).zip(mean) {
        channel.iter_mut().for_each(|value| *value += mean);
    }
}
