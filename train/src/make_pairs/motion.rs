//! A view that moves over a photograph.

use rand::{Rng, RngExt as _};

use crate::rgb::Rgb;

/// How far a view moves in a frame at most, in its own pixels: a walk, not a leap.
const SPEED: f32 = 4.0;
/// Pixels of the photograph to one of the view, each way: what is scaled down is clean.
const SCALE: [f32; 2] = [1.0, 2.0];
/// Change of scale in a frame at most.
const ZOOM: f32 = 0.005;
/// Samples to a pixel, each way.
const SAMPLES: usize = 2;

/// A path over one photograph.
pub struct Motion {
    /// Centre of the view in the first frame, in pixels of the photograph.
    centre: [f32; 2],
    /// Pixels of the photograph in a frame.
    velocity: [f32; 2],
    scale: f32,
    zoom: f32,
}

impl Motion {
    /// Over a photograph of some size, for `frames` views that all lie within it.
    ///
    /// # Panics
    /// If the photograph is smaller than the view.
    pub fn new<R: Rng + ?Sized>(
        photograph: (usize, usize),
        view: (usize, usize),
        frames: usize,
        rng: &mut R,
    ) -> Self {
        let (photograph, view) = ([photograph.0, photograph.1], [view.0, view.1]);
        assert!(view[0] <= photograph[0] && view[1] <= photograph[1], "{photograph:?} {view:?}");
        let most = (0..2).map(|axis| photograph[axis] as f32 / view[axis] as f32);
        let most = most.fold(SCALE[1], f32::min);
        let scale = SCALE[0] + (most - SCALE[0]) * rng.random::<f32>();
        let last = (frames.max(2) - 1) as f32;
        // Zooming out must not leave the photograph.
        let widest = (most / scale - 1.0) / last;
        let zoom = (ZOOM * (2.0 * rng.random::<f32>() - 1.0)).min(widest);
        let scale_at_end = scale * (1.0 + zoom * last);
        let direction = std::f32::consts::TAU * rng.random::<f32>();
        let speed = SPEED * scale * rng.random::<f32>();
        let (mut centre, mut velocity) = ([0.0; 2], [0.0; 2]);
        for (axis, part) in [direction.cos(), direction.sin()].into_iter().enumerate() {
            let half = 0.5 * view[axis] as f32 * scale.max(scale_at_end);
            let room = (photograph[axis] as f32 - 2.0 * half).max(0.0);
            velocity[axis] = (speed * part).clamp(-room / last, room / last);
            let way = velocity[axis] * last;
            let free = room - way.abs();
            centre[axis] = half + free * rng.random::<f32>() + (-way).max(0.0);
        }
        Self { centre, velocity, scale, zoom }
    }

    /// The view in a frame.
    pub fn view(&self, photograph: &Rgb, (width, height): (usize, usize), frame: usize) -> Rgb {
        let frame = frame as f32;
        let scale = self.scale * (1.0 + self.zoom * frame);
        let left = self.centre[0] + self.velocity[0] * frame - 0.5 * width as f32 * scale;
        let top = self.centre[1] + self.velocity[1] * frame - 0.5 * height as f32 * scale;
        let place = |start: f32, pixel: usize, sample: usize| {
            start + scale * (pixel as f32 + (sample as f32 + 0.5) / SAMPLES as f32) - 0.5
        };
        let weight = 1.0 / (SAMPLES * SAMPLES) as f32;
        let mut data = Vec::with_capacity(3 * width * height);
        for channel in 0..3 {
            let plane = photograph.plane(channel);
            for y in 0..height {
                for x in 0..width {
                    let mut sum = 0.0;
                    for sample in 0..SAMPLES * SAMPLES {
                        let x = place(left, x, sample % SAMPLES);
                        let y = place(top, y, sample / SAMPLES);
                        sum += bilinear(plane, (photograph.width, photograph.height), x, y);
                    }
                    data.push(sum * weight);
                }
            }
        }
        Rgb::new(width, height, data)
    }
}

/// The value between pixels; beyond the edge that of the edge.
fn bilinear(plane: &[f32], (width, height): (usize, usize), x: f32, y: f32) -> f32 {
    let x = x.clamp(0.0, (width - 1) as f32);
    let y = y.clamp(0.0, (height - 1) as f32);
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(width - 1), (y0 + 1).min(height - 1));
    let (right, down) = (x - x0 as f32, y - y0 as f32);
    let row = |y: usize| {
        let (left, beside) = (plane[y * width + x0], plane[y * width + x1]);
        left + right * (beside - left)
    };
    let (above, below) = (row(y0), row(y1));
    above + down * (below - above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn a_view_stays_within_its_photograph() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (photograph, view, frames) = ((300, 256), (256, 192), 12);
            let motion = Motion::new(photograph, view, frames, &mut rng);
            for frame in [0, frames - 1] {
                let frame = frame as f32;
                let scale = motion.scale * (1.0 + motion.zoom * frame);
                for (axis, (all, shown)) in [(300.0, 256.0), (256.0, 192.0)].into_iter().enumerate()
                {
                    let centre = motion.centre[axis] + motion.velocity[axis] * frame;
                    let half = 0.5 * shown * scale;
                    assert!(centre - half > -0.01 && centre + half < all + 0.01, "{seed} {centre}");
                }
            }
        }
    }

    #[test]
    fn a_view_at_rest_is_the_photograph_itself() {
        let data: Vec<f32> = (0..3 * 12 * 8).map(|i| (i % 97) as f32 / 97.0).collect();
        let photograph = Rgb::new(12, 8, data);
        let still = Motion { centre: [6.0, 4.0], velocity: [0.0; 2], scale: 2.0, zoom: 0.0 };
        let view = still.view(&photograph, (6, 4), 3);
        // Two samples to a pixel each way, that are the photograph's own pixels.
        let mean = |c: usize| {
            let plane = photograph.plane(c);
            (plane[0] + plane[1] + plane[12] + plane[13]) / 4.0
        };
        for channel in 0..3 {
            assert!((view.plane(channel)[0] - mean(channel)).abs() < 1e-6);
        }
        let moving = Motion { velocity: [2.0, 0.0], ..still };
        let (first, second) =
            (moving.view(&photograph, (3, 2), 0), moving.view(&photograph, (3, 2), 1));
        assert!((first.plane(0)[1] - second.plane(0)[0]).abs() < 1e-6);
    }
}
