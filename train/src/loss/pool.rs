//! Max pooling whose gradient adds up to 1 where values tie: candle's own is wrong.

use candle_core::{Result, Tensor, bail};

/// 2×2 windows, stride 2; the last row or column of an odd side is dropped.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`; returns `[N, C, ⌊H/2⌋, ⌊W/2⌋]`
pub(super) fn max_2x2(x: &Tensor) -> Result<Tensor> {
    check(x)?;
    [2, 3].into_iter().try_fold(x.clone(), |x, dim| {
        let half = x.dim(dim)? / 2;
        let even = x.narrow(dim, 0, 2 * half)?;
        every_other(&even, dim, 0)?.maximum(&every_other(&even, dim, 1)?)
    })
}

/// 3×3 windows, stride 2; the last window may reach over the edge ("ceil mode").
///
/// # Shapes
/// - `x`: `[N, C, H, W]`; returns `[N, C, ⌊H/2⌋, ⌊W/2⌋]`
pub(super) fn max_3x3(x: &Tensor) -> Result<Tensor> {
    check(x)?;
    [2, 3].into_iter().try_fold(x.clone(), |x, dim| {
        let len = x.dim(dim)?;
        let half = len / 2;
        // Repeating a window's own last value does not change its maximum.
        let x = match len % 2 {
            0 => Tensor::cat(&[&x, &x.narrow(dim, len - 1, 1)?], dim)?,
            _ => x,
        };
        let (first, shifted) = (x.narrow(dim, 0, 2 * half)?, x.narrow(dim, 1, 2 * half)?);
        every_other(&first, dim, 0)?
            .maximum(&every_other(&first, dim, 1)?)?
            .maximum(&every_other(&shifted, dim, 1)?)
    })
}

fn check(x: &Tensor) -> Result<()> {
    match x.dims4()? {
        (_, _, 2.., 2..) => Ok(()),
        (_, _, h, w) => bail!("max pooling: expected at least 2×2 values, got {w}×{h}"),
    }
}

/// The values at `phase`, `phase + 2`, … along `dim`, whose length is even.
fn every_other(x: &Tensor, dim: usize, phase: usize) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    dims[dim] /= 2;
    dims.insert(dim + 1, 2);
    x.reshape(dims)?.narrow(dim + 1, phase, 1)?.squeeze(dim + 1)
}
