//! Where the taps of a convolution read, so that any stride, dilation and kernel size becomes a
//! walk at stride 1 over zero-padded planes.
//!
//! Forward, a stride `s` splits the input into `s` by `s` phases, each a plane of its own. The data
//! gradient splits its result that way, and each phase of it meets some of the taps.

use super::ConvShape;
use super::lanes::LINE;
use super::padded::Padding;

/// How the forward pass and the weight gradient read the input of one channel: output pixel
/// `(y, x)` meets a tap at `(y + dy, x + dx)` of the tap's plane. Narrow maps may have a plane for
/// each column of the kernel instead, with no `dx`, so that rows need no halo.
pub(super) struct InputTaps {
    /// First row and column of each plane: pixel `(i, j)` of it is pixel `(i s + phase - padding, …)` of the input.
    pub(super) phases: Vec<(usize, usize)>,
    /// Plane, dy and dx of each tap of the kernel.
    taps: Vec<(usize, usize, usize)>,
}

impl InputTaps {
    pub(super) fn new(s: &ConvShape) -> Self {
        Self::with(s, |x| (x % s.stride, x / s.stride))
    }

    /// For a convolution whose planes are walked so often that a narrow map's halo costs more than
    /// further planes.
    pub(super) fn for_convolution(s: &ConvShape) -> Self {
        let taps = Self::new(s);
        let row = Padding::row(s.out_w, taps.halo().1);
        let waste = row.min(s.out_w.next_multiple_of(LINE)) - s.out_w;
        let narrow =
            !s.out_w.is_multiple_of(LINE) && 8 * waste > s.out_w && s.c_out / s.groups >= 16;
        if narrow { Self::with(s, |x| (x, 0)) } else { taps }
    }

    /// `column` is the first column of the plane, and dx there, of a tap at this column.
    fn with(s: &ConvShape, column: impl Fn(usize) -> (usize, usize)) -> Self {
        let (mut phases, mut taps) = (vec![], vec![]);
        for ky in 0..s.k_h {
            for kx in 0..s.k_w {
                let (y, x) = (ky * s.dilation, kx * s.dilation);
                let (first, dx) = column(x);
                let phase = (y % s.stride, first);
                let plane = phases.iter().position(|p| *p == phase).unwrap_or_else(|| {
                    phases.push(phase);
                    phases.len() - 1
                });
                taps.push((plane, y / s.stride, dx));
            }
        }
        Self { phases, taps }
    }

    /// Largest dy and dx.
    pub(super) fn halo(&self) -> (usize, usize) {
        let most = |of: fn(&(usize, usize, usize)) -> usize| self.taps.iter().map(of).max();
        (most(|t| t.1).unwrap_or(0), most(|t| t.2).unwrap_or(0))
    }

    /// Values from a pixel's place in a channel's first plane to each tap's.
    pub(super) fn offsets(&self, padding: Padding) -> Vec<usize> {
        let offset = |&(plane, dy, dx)| plane * padding.plane + dy * padding.row + dx;
        self.taps.iter().map(offset).collect()
    }

    /// Writes the planes of one channel of the input, for an output that starts at `(y, x)`.
    pub(super) fn fill(
        &self,
        s: &ConvShape,
        padding: Padding,
        to: &mut [f32],
        from: &[f32],
        (y, x): (usize, usize),
    ) {
        for (to, phase) in to.chunks_exact_mut(padding.plane).zip(&self.phases) {
            let corner = |at: usize, phase| (at * s.stride + phase) as isize - s.padding as isize;
            let corner = (corner(y, phase.0), corner(x, phase.1));
            padding.fill(to, corner, s.stride, (s.h, s.w), |to, at| {
                if s.stride == 1 {
                    to.copy_from_slice(&from[at..at + to.len()]);
                } else {
                    for (to, from) in to.iter_mut().zip(from[at..].iter().step_by(s.stride)) {
                        *to = *from;
                    }
                }
            });
        }
    }
}

/// How the data gradient reads the output's gradient, whose padded planes have [`Self::margin`]
/// zeros above and to the left.
pub(super) struct GradientTaps {
    /// Rows and columns of zeros before the first pixel.
    pub(super) margin: (usize, usize),
    /// Rows and columns needed from a pixel's place on.
    pub(super) halo: (usize, usize),
    /// The phases of the result, in rows of `stride`.
    pub(super) phases: Vec<GradientPhase>,
}

/// The pixels `(i s + phase, …)` of the data gradient.
pub(super) struct GradientPhase {
    /// First row and column.
    pub(super) phase: (usize, usize),
    /// Index in the kernel, and dy and dx, of each tap that such a pixel meets.
    taps: Vec<(usize, usize, usize)>,
}

impl GradientTaps {
    pub(super) fn new(s: &ConvShape) -> Self {
        // Pixel `i s + phase` of the input meets tap k of output `i + step`, where
        // `(i + step) s + k dilation - padding` is that pixel.
        let step = |phase: usize, k: usize| {
            let distance = (phase + s.padding) as isize - (k * s.dilation) as isize;
            let stride = s.stride as isize;
            (distance.rem_euclid(stride) == 0).then(|| distance.div_euclid(stride))
        };
        let steps = |k: usize| {
            let all =
                (0..s.stride).flat_map(move |phase| (0..k).filter_map(move |k| step(phase, k)));
            let least = all.clone().min().unwrap_or(0).min(0);
            (-least, (all.max().unwrap_or(0) - least) as usize)
        };
        let ((top, down), (left, across)) = (steps(s.k_h), steps(s.k_w));
        let phase = |at: usize| {
            let phase = (at / s.stride, at % s.stride);
            let taps = (0..s.k_h * s.k_w).filter_map(|tap| {
                let dy = step(phase.0, tap / s.k_w)? + top;
                let dx = step(phase.1, tap % s.k_w)? + left;
                Some((tap, dy as usize, dx as usize))
            });
            GradientPhase { phase, taps: taps.collect() }
        };
        Self {
            margin: (top as usize, left as usize),
            halo: (down, across),
            phases: (0..s.stride * s.stride).map(phase).collect(),
        }
    }
}

impl GradientPhase {
    /// Indices of the taps in the kernel.
    pub(super) fn indices(&self) -> Vec<usize> {
        self.taps.iter().map(|tap| tap.0).collect()
    }

    /// Values from a pixel's place to each tap's.
    pub(super) fn offsets(&self, padding: Padding) -> Vec<usize> {
        self.taps.iter().map(|&(_, dy, dx)| dy * padding.row + dx).collect()
    }
}
