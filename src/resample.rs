//! Separable resampling along one axis.

use serde::{Deserialize, Serialize};

/// How samples are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Mean over the area that a new pixel covers, parts of pixels counted as such. Only scales
    /// down.
    Area,
    /// Cubic convolution with a = −0.5 (Keys, IEEE TASSP 1981), stretched by the factor where it
    /// scales down; edges replicated.
    Bicubic,
}

/// The weights that make an axis of one length from one of another.
pub struct Axis {
    /// For each new sample, old samples and their weights, which sum to 1.
    taps: Vec<Vec<(usize, f32)>>,
}

impl Axis {
    /// From `from` samples to `to`, both at least 1.
    pub fn new(filter: Filter, from: usize, to: usize) -> Self {
        Self::spaced(filter, from, to, from as f64 / to as f64, 0.0)
    }

    /// The same where a new sample i reaches from `first + i · spacing` to `first + (i + 1) · spacing`, and an old one
    /// j from j to j + 1.
    pub fn spaced(filter: Filter, from: usize, to: usize, spacing: f64, first: f64) -> Self {
        let stretch = spacing.max(1.0);
        let taps = (0..to).map(|i| {
            let centre = (i as f64 + 0.5) * spacing + first;
            let (reach, weight): (f64, &dyn Fn(f64) -> f64) = match filter {
                Filter::Area => (stretch / 2.0, &|j| {
                    let (left, right) = (centre - stretch / 2.0, centre + stretch / 2.0);
                    ((j + 1.0).min(right) - j.max(left)).max(0.0)
                }),
                Filter::Bicubic => (2.0 * stretch, &|j| keys((j + 0.5 - centre) / stretch)),
            };
            let (first, last) = ((centre - reach).floor(), (centre + reach).ceil());
            let mut taps: Vec<(usize, f64)> = Vec::new();
            for j in first as isize..last as isize {
                let index = j.clamp(0, from as isize - 1) as usize;
                match taps.last_mut() {
                    Some((last, sum)) if *last == index => *sum += weight(j as f64),
                    _ => taps.push((index, weight(j as f64))),
                }
            }
            let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
            taps.iter().map(|&(j, weight)| (j, (weight / sum) as f32)).collect()
        });
        Self { taps: taps.collect() }
    }

    /// Number of samples it makes.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.taps.len()
    }

    /// Resamples the columns of a plane: `[from, width]` to `[to, width]`.
    pub fn columns(&self, plane: &[f32], width: usize, out: &mut Vec<f32>) {
        out.resize(self.len() * width, 0.0);
        for (out, taps) in out.chunks_exact_mut(width).zip(&self.taps) {
            let row = |j: usize| &plane[j * width..][..width];
            let (first, weight) = taps[0];
            out.iter_mut().zip(row(first)).for_each(|(out, value)| *out = weight * value);
            for &(j, weight) in &taps[1..] {
                out.iter_mut().zip(row(j)).for_each(|(out, value)| *out += weight * value);
            }
        }
    }
}

/// Resamples planes of one size to another.
pub struct Resize {
    from_width: usize,
    across: Axis,
    down: Axis,
    scratch: [Vec<f32>; 2],
}

impl Resize {
    /// From one width and height to another, all at least 1.
    pub fn new(filter: Filter, from: (usize, usize), to: (usize, usize)) -> Self {
        Self::of(Axis::new(filter, from.0, to.0), Axis::new(filter, from.1, to.1), from.0)
    }

    /// The same with so many old samples from a new one to the next, both ways, whatever becomes of the last ones.
    pub fn spaced(filter: Filter, from: (usize, usize), to: (usize, usize), spacing: f64) -> Self {
        let axis = |from, to| Axis::spaced(filter, from, to, spacing, 0.0);
        Self::of(axis(from.0, to.0), axis(from.1, to.1), from.0)
    }

    fn of(across: Axis, down: Axis, from_width: usize) -> Self {
        Self { from_width, across, down, scratch: Default::default() }
    }

    /// A plane `[height, width]` of the old size at the new one.
    pub fn plane(&mut self, plane: &[f32], out: &mut Vec<f32>) {
        let [columns, rows] = &mut self.scratch;
        self.down.columns(plane, self.from_width, columns);
        // Rows are resampled as the columns of the transposed plane.
        transpose(columns, self.from_width, rows);
        self.across.columns(rows, self.down.len(), columns);
        transpose(columns, self.down.len(), out);
    }
}

/// `[height, width]` to `[width, height]`.
pub fn transpose(plane: &[f32], width: usize, out: &mut Vec<f32>) {
    out.clear();
    for x in 0..width {
        out.extend(plane[x..].iter().step_by(width));
    }
}

/// The cubic convolution kernel with a = −0.5; 0 from 2 on.
fn keys(x: f64) -> f64 {
    let x = x.abs();
    match x {
        0.0..1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        1.0..2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(filter: Filter, from: usize, to: usize, i: usize) -> Vec<f32> {
        let axis = Axis::new(filter, from, to);
        let mut weights = vec![0.0; from];
        axis.taps[i].iter().for_each(|&(j, weight)| weights[j] += weight);
        weights
    }

    fn assert_near(got: &[f32], expected: &[f32]) {
        let near = got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near && got.len() == expected.len(), "{got:?}, expected {expected:?}");
    }

    #[test]
    fn area_counts_parts_of_pixels() {
        assert_near(&weights(Filter::Area, 5, 2, 0), &[0.4, 0.4, 0.2, 0.0, 0.0]);
        assert_near(&weights(Filter::Area, 5, 2, 1), &[0.0, 0.0, 0.2, 0.4, 0.4]);
        assert_near(&weights(Filter::Area, 3, 3, 1), &[0.0, 1.0, 0.0]);
    }

    #[test]
    fn cubic_weights_are_those_of_keys() {
        // A quarter before sample 3: 128 times the weights are −3, 29, 111, −9.
        let expected = [0.0, -3.0, 29.0, 111.0, -9.0, 0.0].map(|w| w / 128.0);
        assert_near(&weights(Filter::Bicubic, 6, 12, 6), &expected);
        // At the edge the missing samples are the first one again.
        assert_near(
            &weights(Filter::Bicubic, 4, 8, 0),
            &[1.0 + 9.0 / 128.0, -9.0 / 128.0, 0.0, 0.0],
        );
        // Stretched over twice the samples: half the kernel's values at odd quarters.
        let expected = [-3.0, -9.0, 29.0, 111.0, 111.0, 29.0, -9.0, -3.0].map(|w| w / 256.0);
        assert_near(&weights(Filter::Bicubic, 12, 6, 3)[3..11], &expected);
    }
}
