//! Frames through what a net makes of whole tensors.

use crate::Result;
use crate::frame::{CHANNELS, Frame, FrameMut, Recolour};
use crate::nn::{Colour, Io};

/// Filters a frame; `net` turns a tensor `[C, H, W]`, of which it is given the height and width, into a residual in
/// 4:2:0, else into the picture.
///
/// # Errors
/// [`crate::Error::Frame`] when the frames do not fit each other; those of `net`.
pub(super) fn filter(
    io: &Io,
    smoothing: f32,
    input: &Frame<'_>,
    output: &mut FrameMut<'_>,
    net: impl FnOnce(Vec<f32>, [usize; 2]) -> Result<Vec<f32>>,
) -> Result<()> {
    let from = input.format();
    if io.colour == Colour::Yuv420 {
        let (width, height) = from.half_size();
        let mut x = vec![0.0; CHANNELS * width * height];
        input.unpack(&mut x);
        return output.pack_sum(input, &net(x, [height, width])?, smoothing);
    }
    output.check_size((from.width * io.scale, from.height * io.scale))?;
    let mut x = vec![0.0; io.channels * from.width * from.height];
    let size = [from.height, from.width];
    if io.colour == Colour::Rgb {
        input.unpack_rgb(&mut x);
        output.pack_rgb(input, &net(x, size)?);
        return Ok(());
    }
    let sizes = [from, output.format()].map(|of| [of.width, of.height]);
    let mut recolour = Recolour::new(sizes[0], sizes[1]);
    recolour.read(input, &mut x);
    recolour.write(input, &net(x, size)?, output)
}
