//! From a net's planes to what the losses look at.
//!
//! Of nets on 4:2:0 planes are `[N, 6, H, W]` as in [`tunableconv::frame`]: luma's 2×2 phases Y00 Y01 Y10 Y11, each
//! 0 (black) to 1 (white), then U and V in 0 to 1 around 0.5.

use candle_core::{Result, Tensor, bail};
use tunableconv::frame::CHANNELS;

use tunableconv::nn::Colour;

use super::shuffle;
use crate::view::View;
use crate::yuv::Matrix;

/// Planes of luma's phases.
const PHASES: usize = 4;

/// Luma at full size.
///
/// # Shapes
/// - `planes`: `[N, 6, H, W]`; returns `[N, 1, 2 H, 2 W]`
///
/// # Errors
/// Another shape.
pub fn luma(planes: &Tensor) -> Result<Tensor> {
    check(planes)?;
    shuffle(&planes.narrow(1, 0, PHASES)?)
}

/// RGB, each chroma sample serving its whole 2×2 block; not clipped, so that gradients reach
/// samples outside 0 to 1 too.
///
/// # Shapes
/// - `planes`: `[N, 6, H, W]`; `matrices`: one per sample; returns `[N, 3, 2 H, 2 W]`
///
/// # Errors
/// Another shape, another number of matrices.
pub fn rgb(planes: &Tensor, matrices: &[Matrix]) -> Result<Tensor> {
    let (n, _, h, w) = check(planes)?;
    if matrices.len() != n {
        bail!("rgb: expected {n} matrices, one per sample, got {}", matrices.len());
    }
    let weights: Vec<f64> = matrices.iter().copied().flat_map(chroma_weights).collect();
    let weights = Tensor::from_vec(weights, (n, 3, 2), planes.device())?;
    let chroma = (planes.narrow(1, PHASES, 2)? - 0.5)?.reshape((n, 2, h * w))?;
    let colour = weights.to_dtype(planes.dtype())?.matmul(&chroma)?.reshape((n, 3, 1, h, w))?;
    let luma = planes.narrow(1, 0, PHASES)?.unsqueeze(1)?;
    shuffle(&colour.broadcast_add(&luma)?.reshape((n, 3 * PHASES, h, w))?)
}

/// Planes of any view in RGB, `[N, 3, H, W]` of the picture; luma alone as grey.
///
/// # Errors
/// Planes of another shape than the view's, another number of matrices.
pub fn of_view(view: View, planes: &Tensor, matrices: &[Matrix]) -> Result<Tensor> {
    match view.colour {
        Colour::Yuv420 => rgb(planes, matrices),
        Colour::Rgb => Ok(planes.clone()),
        Colour::Luma => Tensor::cat(&[planes, planes, planes], 1),
    }
}

/// Luma of a picture in RGB.
///
/// # Shapes
/// - `rgb`: `[N, 3, H, W]`; `matrices`: one per sample; returns `[N, 1, H, W]`
///
/// # Errors
/// Another shape, another number of matrices.
pub fn luma_of_rgb(rgb: &Tensor, matrices: &[Matrix]) -> Result<Tensor> {
    let (n, c, h, w) = rgb.dims4()?;
    let weights: Vec<f32> = matrices.iter().flat_map(|matrix| matrix.weights()).collect();
    let weights = Tensor::from_vec(weights, (matrices.len(), 1, 3), rgb.device())?;
    weights.to_dtype(rgb.dtype())?.matmul(&rgb.reshape((n, c, h * w))?)?.reshape((n, 1, h, w))
}

fn check(planes: &Tensor) -> Result<(usize, usize, usize, usize)> {
    match planes.dims4()? {
        (n, CHANNELS, h, w) => Ok((n, CHANNELS, h, w)),
        _ => bail!("planes of shape {:?}, expected [N, {CHANNELS}, H, W]", planes.dims()),
    }
}

/// What (U, V), around 0, add to luma in R, G and B: `[3, 2]` (ITU-R BT.601 and BT.709).
fn chroma_weights(matrix: Matrix) -> [f64; 6] {
    let [kr, kg, kb] = matrix.weights();
    let [kr, kg, kb] = [kr, kg, kb].map(f64::from);
    let (u_to_blue, v_to_red) = (2.0 * (1.0 - kb), 2.0 * (1.0 - kr));
    [0.0, v_to_red, -kb * u_to_blue / kg, -kr * v_to_red / kg, u_to_blue, 0.0]
}
