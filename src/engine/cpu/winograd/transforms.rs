//! What becomes of rows on their way to components, and of sums on their way to outputs.

use super::{COMPONENTS, MIXED, TILE};
use crate::engine::cpu::kernels::{Job, Level};

/// Four rows of a component to those that are multiplied for a pair of outputs.
pub(super) struct Mix<'a> {
    pub(super) rows: [&'a [f32]; MIXED],
    pub(super) to: &'a mut [f32],
}

impl Job for Mix<'_> {
    #[inline(always)]
    fn run(self) {
        let [d0, d1, d2, d3] = self.rows;
        let len = d0.len();
        let (d1, d2, d3) = (&d1[..len], &d2[..len], &d3[..len]);
        let [v0, v1, v2, v3] = quarters(self.to, len);
        for i in 0..len {
            v0[i] = d0[i] - d2[i];
            v1[i] = d1[i] + d2[i];
            v2[i] = d2[i] - d1[i];
            v3[i] = d1[i] - d3[i];
        }
    }
}

/// Sums of those four to those of the pair.
pub(super) struct Unmix<'a> {
    pub(super) mixed: &'a mut [f32],
    pub(super) to: &'a mut [f32],
}

impl Job for Unmix<'_> {
    #[inline(always)]
    fn run(self) {
        let (first, second) = self.to.split_at_mut(self.to.len() / 2);
        let len = first.len();
        let second = &mut second[..len];
        let [m0, m1, m2, m3] = quarters(self.mixed, len);
        for i in 0..len {
            first[i] = m0[i] + m1[i] + m2[i];
            second[i] = m1[i] - m2[i] - m3[i];
        }
    }
}

#[inline(always)]
fn quarters(values: &mut [f32], len: usize) -> [&mut [f32]; MIXED] {
    let mut parts = values.chunks_exact_mut(len);
    [(); MIXED].map(|()| parts.next().expect("four rows of this length"))
}

/// See [`super::WinogradConv::outputs`].
pub(super) struct Outputs<'a> {
    pub(super) bias: &'a [f32],
    pub(super) slope: &'a [f32],
    pub(super) bounds: Option<&'a [Vec<f32>; 2]>,
    /// Of every component, `stride` apart.
    pub(super) sums: &'a [f32],
    pub(super) stride: usize,
    pub(super) add: [Option<&'a [f32]>; 2],
    pub(super) out: &'a mut [f32],
}

impl Job for Outputs<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { bias, slope, bounds, sums, stride, add, out } = self;
        let channels = bias.len();
        let slope = &slope[..channels];
        for (tile, out) in out.chunks_exact_mut(TILE * channels).enumerate() {
            let of = |component: usize| &sums[component * stride + tile * channels..][..channels];
            let [m0, m1, m2, m3, m4, m5] = [of(0), of(1), of(2), of(3), of(4), of(5)];
            let (upper, lower) = out.split_at_mut(2 * channels);
            let (y0, y1) = upper.split_at_mut(channels);
            let (y2, y3) = lower.split_at_mut(channels);
            for c in 0..channels {
                let (even, odd) = (m1[c] + m2[c], m1[c] - m2[c]);
                let (even2, odd2) = (m3[c] + m4[c], m3[c] - m4[c]);
                let leaky = |v: f32| if v < 0.0 { v * slope[c] } else { v };
                y0[c] = leaky(m0[c] + even + even2 + bias[c]);
                y1[c] = leaky(odd + 2.0 * odd2 + bias[c]);
                y2[c] = leaky(even + 4.0 * even2 + bias[c]);
                y3[c] = leaky(odd + 8.0 * odd2 + m5[c] + bias[c]);
            }
            for add in add.into_iter().flatten() {
                let add = &add[tile * TILE * channels..];
                out.iter_mut().zip(add).for_each(|(out, add)| *out += add);
            }
            let Some([low, high]) = bounds else { continue };
            for out in out.chunks_exact_mut(channels) {
                for ((v, low), high) in out.iter_mut().zip(low).zip(high) {
                    *v = if *v > *low { *v } else { *low };
                    *v = if *v < *high { *v } else { *high };
                }
            }
        }
    }
}

/// Transforms a row of inputs `[x][channel]` to components, `stride` apart. `row` starts one column
/// left of the first tile and ends one column right of the last.
pub(crate) fn transform(level: Level, row: &[f32], channels: usize, stride: usize, to: &mut [f32]) {
    level.run(Transform { row, channels, stride, to });
}

struct Transform<'a> {
    row: &'a [f32],
    channels: usize,
    stride: usize,
    to: &'a mut [f32],
}

impl Job for Transform<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { row, channels, stride, to } = self;
        let tiles = (row.len() / channels - 2) / TILE;
        let [v0, v1, v2, v3, v4, v5] = {
            let mut parts = to.chunks_exact_mut(stride);
            [(); COMPONENTS].map(|()| parts.next().expect("one part per component"))
        };
        for tile in 0..tiles {
            let at = tile * channels..(tile + 1) * channels;
            let [v0, v1, v2] = [&mut v0[at.clone()], &mut v1[at.clone()], &mut v2[at.clone()]];
            let [v3, v4, v5] = [&mut v3[at.clone()], &mut v4[at.clone()], &mut v5[at.clone()]];
            let of = |x: usize| &row[(tile * TILE + x) * channels..][..channels];
            let [d0, d1, d2, d3, d4, d5] = [of(0), of(1), of(2), of(3), of(4), of(5)];
            for c in 0..channels {
                let (even, odd) = (d4[c] - 4.0 * d2[c], d3[c] - 4.0 * d1[c]);
                let (even2, odd2) = (d4[c] - d2[c], 2.0 * (d3[c] - d1[c]));
                v0[c] = 4.0 * d0[c] - 5.0 * d2[c] + d4[c];
                v1[c] = even + odd;
                v2[c] = even - odd;
                v3[c] = even2 + odd2;
                v4[c] = even2 - odd2;
                v5[c] = 4.0 * d1[c] - 5.0 * d3[c] + d5[c];
            }
        }
    }
}
