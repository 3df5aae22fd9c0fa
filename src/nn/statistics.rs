//! Means over a whole picture, by which some nets normalise or weigh: of the picture itself, or, where it is
//! cut into tiles, of all of them together.
//!
//! A picture in tiles is gone through twice. First each tile has its own means, and they are recorded;
//! joined, they are those of the picture for the first layer that asks, and near to them for the others,
//! whose inputs were made with the means of a tile. Then each tile is computed with the joined ones, so that
//! tiles fit each other without a seam.

use candle_core::{Result, Tensor, bail};

use super::ops::mean;

/// Dimensions of width and height.
const PLANE: [usize; 2] = [3, 2];

/// Means and variances of `[N, C, H, W]` over height and width, `[N, C, 1, 1]`, in the order in which a net
/// asks for them.
#[derive(Clone, Debug)]
pub struct Statistics {
    mode: Mode,
    moments: Vec<Moments>,
    /// Of the moments that are given, those that were asked for.
    asked: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Own,
    Recording,
    Given,
}

#[derive(Clone, Debug)]
struct Moments {
    mean: Tensor,
    variance: Tensor,
}

impl Statistics {
    /// Those of the picture itself.
    pub fn own() -> Self {
        Self { mode: Mode::Own, moments: vec![], asked: 0 }
    }

    /// Those of the picture itself, which is a tile; they are recorded.
    pub fn recording() -> Self {
        Self { mode: Mode::Recording, ..Self::own() }
    }

    /// Those of a picture, by what was recorded of its tiles and how large these are.
    ///
    /// # Errors
    /// No tiles, or tiles of other nets.
    pub fn joined(tiles: &[(Self, f64)]) -> Result<Self> {
        let Some(((first, _), count)) = tiles.first().map(|first| (first, tiles.len())) else {
            bail!("statistics of no tiles");
        };
        if tiles.iter().any(|(tile, _)| tile.moments.len() != first.moments.len()) {
            bail!("statistics of {count} tiles that are not of one net");
        }
        let all: f64 = tiles.iter().map(|(_, size)| size).sum();
        let moments = (0..first.moments.len()).map(|at| {
            let weighed = |of: &dyn Fn(&Moments) -> Result<Tensor>| {
                let parts = tiles.iter().map(|(tile, size)| of(&tile.moments[at])? * (size / all));
                parts.reduce(|sum, part| sum? + part?).unwrap_or_else(|| bail!("no tiles"))
            };
            let mean = weighed(&|tile| Ok(tile.mean.clone()))?;
            // Within the tiles, and between them.
            let variance = weighed(&|tile| &tile.variance + (&tile.mean - &mean)?.sqr()?)?;
            Ok(Moments { mean, variance })
        });
        Ok(Self { mode: Mode::Given, moments: moments.collect::<Result<_>>()?, asked: 0 })
    }

    /// Means over height and width.
    ///
    /// # Errors
    /// Another number of dimensions, or fewer means given than asked for.
    pub fn mean(&mut self, x: &Tensor) -> Result<Tensor> {
        if self.mode == Mode::Own {
            return mean(x, &PLANE);
        }
        Ok(self.moments(x)?.mean)
    }

    /// Without mean and with variance 1 over height and width: `(x − μ) / √(σ² + ε)`.
    ///
    /// # Errors
    /// As [`Self::mean`].
    pub fn normalised(&mut self, x: &Tensor, epsilon: f64) -> Result<Tensor> {
        let Moments { mean, variance } = self.moments(x)?;
        x.broadcast_sub(&mean)?.broadcast_div(&(variance + epsilon)?.sqrt()?)
    }

    fn moments(&mut self, x: &Tensor) -> Result<Moments> {
        if self.mode == Mode::Given {
            let Some(given) = self.moments.get(self.asked) else {
                bail!("statistics of {} layers are given, more are asked for", self.asked);
            };
            self.asked += 1;
            return Ok(given.clone());
        }
        let mu = mean(x, &PLANE)?;
        let variance = mean(&x.broadcast_sub(&mu)?.sqr()?, &PLANE)?;
        let moments = Moments { mean: mu, variance };
        if self.mode == Mode::Recording {
            self.moments.push(moments.clone());
        }
        Ok(moments)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn plane(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap().reshape((1, 1, 1, values.len())).unwrap()
    }

    #[test]
    fn those_of_tiles_together_are_those_of_the_whole() {
        let (whole, parts) = ([1.0, 2.0, 4.0, 9.0, -3.0], [&[1.0, 2.0][..], &[4.0, 9.0, -3.0]]);
        let mut recorded = vec![];
        for part in parts {
            let mut statistics = Statistics::recording();
            statistics.mean(&plane(part)).unwrap();
            statistics.normalised(&plane(part), 1e-5).unwrap();
            recorded.push((statistics, part.len() as f64));
        }
        let mut joined = Statistics::joined(&recorded).unwrap();
        let flat = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let x = plane(&whole);
        let want = flat(Statistics::own().mean(&x).unwrap());
        assert!((flat(joined.mean(&x).unwrap())[0] - want[0]).abs() < 1e-6);
        let want = flat(Statistics::own().normalised(&x, 1e-5).unwrap());
        let got = flat(joined.normalised(&x, 1e-5).unwrap());
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {want:?}");
        assert!(joined.mean(&x).is_err(), "no third is there");
        assert!(Statistics::joined(&[]).is_err());
    }
}
