//! What a net reads and writes: all that has to be known of it to put it between two frames.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::ops::repeated;
use crate::Error;
use crate::frame::CHANNELS;

/// Colour representation a net works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Normalised 4:2:0 in six channels of half the size, see [`crate::frame`].
    Yuv420,
    /// R, G and B in 0 to 1.
    Rgb,
    /// Luma alone, in 0 to 1; colours are those of the input, scaled bicubically.
    Luma,
}

/// How far an output pixel looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// So many pixels of the input picture to each side, at most: a frame can be cut into tiles that
    /// overlap by as much.
    Pixels(usize),
    /// So many pixels, and means over the whole frame: tiles overlap in the same way, and are gone through
    /// twice, see [`Statistics`](crate::nn::Statistics).
    Means(usize),
}

/// What becomes of a net's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// It is added to the input, enlarged by repeating its pixels; where it is zero and the size stays, the
    /// frame stays what it was, bit for bit.
    Residual,
    /// It is the picture.
    Direct,
}

/// What a net reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Io {
    /// Colour representation.
    pub colour: Colour,
    /// Channels of its input.
    pub channels: usize,
    /// Output size over input size.
    pub scale: usize,
    /// Rows and columns of its input that it takes together where it works at its coarsest: a tile of a
    /// picture has to begin at a multiple of them.
    pub grid: usize,
    /// How far an output pixel looks.
    pub reach: Reach,
    /// What becomes of its output.
    pub output: Output,
    /// Mean colour, subtracted from the input first and added to the output of [`Output::Direct`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f32; 3]>,
    /// Earlier frames that it remembers.
    pub history: usize,
}

impl Io {
    /// Of nets that add to 4:2:0, and look so far and work so coarsely in blocks of 2×2 pixels.
    pub fn yuv420(reach_blocks: usize, grid: usize) -> Self {
        Self {
            colour: Colour::Yuv420,
            channels: CHANNELS,
            scale: 1,
            grid,
            // A luma sample shares its block with one more pixel on either side.
            reach: Reach::Pixels(2 * reach_blocks + 1),
            output: Output::Residual,
            mean: None,
            history: 0,
        }
    }

    /// Of nets on RGB at one size, without a mean colour.
    pub fn rgb(output: Output, reach: Reach, grid: usize) -> Self {
        Self {
            colour: Colour::Rgb,
            channels: 3,
            scale: 1,
            grid,
            reach,
            output,
            mean: None,
            history: 0,
        }
    }

    /// # Errors
    /// [`Error::Config`] unless the net adds to 4:2:0 of the same size, which is all that `user`, such as
    /// "engines", can do.
    pub fn check_yuv420(&self, user: &str) -> crate::Result<()> {
        if (self.colour, self.output, self.scale) == (Colour::Yuv420, Output::Residual, 1) {
            return Ok(());
        }
        let (colour, scale) = (self.colour, self.scale);
        Err(Error::Config(format!(
            "{user} take nets that add to 4:2:0 of the same size; this one turns {colour:?} into {scale} × \
             the size"
        )))
    }

    /// Whether a net whose output is zero leaves frames what they are.
    pub fn keeps_frames(&self) -> bool {
        self.output == Output::Residual && self.scale == 1
    }

    /// What a net makes of a picture `x`, `[N, C, H, W]`, where `run` is the net itself.
    ///
    /// # Errors
    /// Those of `run`, or shapes that do not fit.
    pub fn picture<E: From<candle_core::Error>>(
        &self,
        x: &Tensor,
        run: impl FnOnce(&Tensor) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Tensor, E> {
        let mean = self.mean.map(|mean| Tensor::new(&mean, x.device()));
        let mean = mean.transpose()?.map(|mean| mean.to_dtype(x.dtype())?.reshape((1, 3, 1, 1)));
        let mean = mean.transpose()?;
        let y = match &mean {
            Some(mean) => run(&x.broadcast_sub(mean)?)?,
            None => run(x)?,
        };
        match (self.output, &mean) {
            (Output::Residual, _) => Ok((repeated(x, self.scale)? + self.cropped(x, y)?)?),
            (Output::Direct, Some(mean)) => Ok(self.cropped(x, y)?.broadcast_add(mean)?),
            (Output::Direct, None) => Ok(self.cropped(x, y)?),
        }
    }

    /// Where the grid is coarser than pixels, the output for `x` may be larger than the picture, at the right
    /// and the bottom.
    fn cropped(&self, x: &Tensor, y: Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let (height, width) = (height * self.scale, width * self.scale);
        if y.dims()[2..] == [height, width] {
            return Ok(y);
        }
        y.narrow(2, 0, height)?.narrow(3, 0, width)?.contiguous()
    }
}

/// As files of version 1 say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IoV1 {
    colour: Colour,
    scale: usize,
    reach: usize,
}

impl IoV1 {
    /// Whether it says the same as far as it goes.
    pub(crate) fn agrees(self, io: &Io) -> bool {
        let Self { colour, scale, reach } = self;
        (colour, scale, Reach::Pixels(reach)) == (io.colour, io.scale, io.reach)
    }
}
