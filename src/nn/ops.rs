//! Operations that nets share, made of those of candle whose gradients are right.

use candle_core::{Result, Tensor};

/// Without mean and with variance 1 over some dimensions: `(x − μ) / √(σ² + ε)`.
///
/// # Errors
/// No such dimension.
pub fn normalised(x: &Tensor, dims: &[usize], epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&mean(x, dims)?)?;
    let deviation = (mean(&centred.sqr()?, dims)? + epsilon)?.sqrt()?;
    centred.broadcast_div(&deviation)
}

/// Mean over some dimensions, one after the other, which keeps sums short; they stay, of length 1.
///
/// # Errors
/// No such dimension.
pub fn mean(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    dims.iter().try_fold(x.clone(), |x, dim| x.mean_keepdim(*dim))
}

/// Samples `[N, C, H, W]` times a factor for each channel, `[B, C, 1, 1]`, of each of B equal runs.
///
/// # Errors
/// Shapes that do not fit.
pub fn scaled(x: &Tensor, factor: &Tensor) -> Result<Tensor> {
    let ((n, c, h, w), sets) = (x.dims4()?, factor.dim(0)?);
    let runs = x.reshape((sets, n / sets, c, h, w))?;
    runs.broadcast_mul(&factor.unsqueeze(1)?)?.reshape((n, c, h, w))
}

/// Every pixel of `[N, C, H, W]` as a square of so many. (candle's own operation has wrong gradients where
/// its input is used again.)
///
/// # Errors
/// Another number of dimensions.
pub fn repeated(x: &Tensor, scale: usize) -> Result<Tensor> {
    if scale == 1 {
        return Ok(x.clone());
    }
    let (n, c, h, w) = x.dims4()?;
    let squares = x.reshape((n * c, h, 1, w, 1))?.broadcast_as((n * c, h, scale, w, scale))?;
    squares.reshape((n, c, h * scale, w * scale))
}

/// `[N, C, H, W]` with zeros below and at the right, so that both sides are multiples of `unit`.
///
/// # Errors
/// Another number of dimensions.
pub fn zero_padded(x: &Tensor, unit: usize) -> Result<Tensor> {
    let mut x = x.clone();
    for dim in [2, 3] {
        let missing = x.dim(dim)?.next_multiple_of(unit) - x.dim(dim)?;
        if missing > 0 {
            let mut shape = x.dims().to_vec();
            shape[dim] = missing;
            x = Tensor::cat(&[&x, &Tensor::zeros(shape, x.dtype(), x.device())?], dim)?;
        }
    }
    Ok(x)
}

/// `[N, C, H, W]` mirrored below and at the right, its last row and column not repeated, so that both sides
/// are multiples of `unit`.
///
/// # Errors
/// Another number of dimensions.
pub fn mirror_padded(x: &Tensor, unit: usize) -> Result<Tensor> {
    let mut x = x.clone();
    for dim in [2, 3] {
        let len = x.dim(dim)?;
        let padded = len.next_multiple_of(unit);
        if padded > len {
            // There and back again, as often as it takes.
            let period = (2 * (len - 1)).max(1);
            let place = |at: usize| (at % period).min(period - at % period).min(len - 1) as u32;
            let places: Vec<u32> = (0..padded).map(place).collect();
            x = x.index_select(&Tensor::new(places, x.device())?, dim)?;
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn row(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap().reshape((1, 1, 1, values.len())).unwrap()
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn padding_goes_up_to_the_next_multiple_and_mirrors_short_sides_more_than_once() {
        let x = row(&[1.0, 2.0, 3.0]);
        assert_eq!(flat(&zero_padded(&x, 4).unwrap())[..4], [1.0, 2.0, 3.0, 0.0]);
        let mirrored = mirror_padded(&x, 8).unwrap();
        assert_eq!(mirrored.dims(), [1, 1, 8, 8]);
        assert_eq!(flat(&mirrored)[..8], [1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
        assert_eq!(flat(&mirrored)[56..], flat(&mirrored)[..8]);
        assert_eq!(flat(&mirror_padded(&x, 3).unwrap())[..3], [1.0, 2.0, 3.0]);
    }

    #[test]
    fn what_is_normalised_has_mean_0_and_variance_1() {
        let x = row(&[1.0, 2.0, 3.0, 6.0]);
        let y = flat(&normalised(&x, &[2, 3], 0.0).unwrap());
        let variance = y.iter().map(|v| v * v).sum::<f32>() / 4.0;
        assert!(y.iter().sum::<f32>().abs() < 1e-6 && (variance - 1.0).abs() < 1e-6, "{y:?}");
        let constant = flat(&normalised(&row(&[2.0, 2.0]), &[2, 3], 1e-5).unwrap());
        assert_eq!(constant, [0.0, 0.0]);
    }
}
