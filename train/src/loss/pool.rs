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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// Every value's derivative, for the sum of all outputs.
    fn gradient(
        values: &[f64],
        shape: (usize, usize),
        pool: fn(&Tensor) -> Result<Tensor>,
    ) -> Vec<f64> {
        let (h, w) = shape;
        let x = Tensor::from_slice(values, (1, 1, h, w), &Device::Cpu).unwrap();
        let x = Var::from_tensor(&x).unwrap();
        let grads = pool(&x).unwrap().sum_all().unwrap().backward().unwrap();
        grads.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn gradients_go_to_the_largest_of_every_window() {
        #[rustfmt::skip]
        let x = [
            1.0, 5.0, 2.0, 0.0,
            3.0, 4.0, 9.0, 7.0,
            6.0, 8.0, 0.5, 0.1,
        ];
        #[rustfmt::skip]
        let expected = [
            0.0, 1.0, 0.0, 0.0,
            0.0, 0.0, 1.0, 0.0,
            0.0, 0.0, 0.0, 0.0,
        ];
        assert_eq!(gradient(&x, (3, 4), max_2x2), expected);
        // Windows from columns 0 and 2, both of which hold the 9.
        #[rustfmt::skip]
        let expected = [
            0.0, 0.0, 0.0, 0.0,
            0.0, 0.0, 2.0, 0.0,
            0.0, 0.0, 0.0, 0.0,
        ];
        assert_eq!(gradient(&x, (3, 4), max_3x3), expected);
    }

    #[test]
    fn equal_values_share_one_gradient() {
        for (pool, shape, windows) in [
            (max_2x2 as fn(&Tensor) -> Result<Tensor>, (5, 4), 4.0),
            (max_3x3, (5, 5), 4.0),
            (max_3x3, (4, 6), 6.0),
            (max_3x3, (2, 3), 1.0),
        ] {
            let sum: f64 = gradient(&vec![1.5; shape.0 * shape.1], shape, pool).iter().sum();
            assert_eq!(sum, windows);
        }
    }
}
