//! Pictures that nobody took: shapes that lie on one another, as in the dead leaves model (Lee, Mumford
//! and Huang, "Occlusion models for natural images", IJCV 2001), whose sizes follow a power law as those
//! of things in photographs do. Here their edges are hard and many of their colours pure, as in titles,
//! diagrams and test cards, which photographs have nothing of.

use rand::{Rng, RngExt as _};

use crate::rgb::Rgb;

/// Shapes of a picture.
const LEAVES: usize = 32;

/// Least radius, in pixels.
const SMALLEST: f32 = 1.0;

/// Longest period of a pattern, in pixels.
const PERIOD: u32 = 16;

/// A random square picture of `side` pixels each way.
///
/// # Panics
/// If `side` is 0.
pub fn draw<R: Rng + ?Sized>(side: usize, rng: &mut R) -> Rgb {
    let ground = Paint::sample(side, rng);
    let pixels = (0..side * side).map(|at| ground.colour(at % side, at / side));
    let mut picture: Vec<[f32; 3]> = pixels.collect();
    for _ in 0..LEAVES {
        let (shape, paint) = (Shape::sample(side, rng), Paint::sample(side, rng));
        for y in shape.span(shape.y, side) {
            for x in shape.span(shape.x, side) {
                if shape.contains(x, y) {
                    picture[y * side + x] = paint.colour(x, y);
                }
            }
        }
    }
    let plane = |c: usize| picture.iter().map(move |colour| colour[c]);
    Rgb::new(side, side, (0..3).flat_map(plane).collect())
}

/// A disc, or a rectangle with upright sides.
struct Shape {
    x: f32,
    y: f32,
    /// Of the disc, or of what holds the rectangle.
    radius: f32,
    /// Half of the rectangle's sides.
    sides: Option<[f32; 2]>,
}

impl Shape {
    /// The density of radii falls with their third power, so that the model looks alike at every scale.
    fn sample<R: Rng + ?Sized>(side: usize, rng: &mut R) -> Self {
        let mut within = |length: f32| length * rng.random::<f32>();
        let (x, y) = (within(side as f32), within(side as f32));
        let largest = SMALLEST.max(side as f32 / 2.0);
        // The inverse of the distribution function.
        let ends = [SMALLEST, largest].map(|end| end.powi(-2));
        let radius = (ends[0] - within(ends[0] - ends[1])).powf(-0.5);
        let aspect = 0.1 + within(0.9);
        let sides = match within(4.0) as u32 {
            0 | 1 => None,
            2 => Some([radius, radius * aspect]),
            _ => Some([radius * aspect, radius]),
        };
        Self { x, y, radius, sides }
    }

    /// Pixels along an axis, `side` long, that may be inside.
    fn span(&self, centre: f32, side: usize) -> std::ops::Range<usize> {
        let end = |at: f32| (at.max(0.0) as usize).min(side);
        end(centre - self.radius)..end((centre + self.radius).ceil() + 1.0)
    }

    fn contains(&self, x: usize, y: usize) -> bool {
        let (dx, dy) = (x as f32 - self.x, y as f32 - self.y);
        match self.sides {
            None => dx * dx + dy * dy <= self.radius * self.radius,
            Some([width, height]) => dx.abs() <= width && dy.abs() <= height,
        }
    }
}

/// What a shape is filled with: two colours, and how far each pixel is from the first to the second.
struct Paint {
    colours: [[f32; 3]; 2],
    pattern: Pattern,
}

enum Pattern {
    Plain,
    /// Along x and y, per pixel.
    Gradient([f32; 2]),
    /// Bits of the pixels' places along x and y that change the colour: period and whether it counts.
    Checks {
        period: usize,
        along: [bool; 2],
    },
}

impl Paint {
    fn sample<R: Rng + ?Sized>(side: usize, rng: &mut R) -> Self {
        let colours = [colour(rng), colour(rng)];
        let pattern = match rng.random_range(0..4) {
            0 | 1 => Pattern::Plain,
            2 => {
                let mut slope = || rng.random::<f32>() / side as f32;
                Pattern::Gradient([slope(), slope()])
            }
            _ => {
                let period = rng.random_range(1..=PERIOD) as usize;
                let along = [[true, true], [true, false], [false, true]][rng.random_range(0..3)];
                Pattern::Checks { period, along }
            }
        };
        Self { colours, pattern }
    }

    fn colour(&self, x: usize, y: usize) -> [f32; 3] {
        let share = match self.pattern {
            Pattern::Plain => 0.0,
            Pattern::Gradient([a, b]) => (a * x as f32 + b * y as f32).min(1.0),
            Pattern::Checks { period, along } => {
                let count = |at: usize, counts: bool| if counts { at / period } else { 0 };
                ((count(x, along[0]) + count(y, along[1])) % 2) as f32
            }
        };
        let [first, second] = self.colours;
        std::array::from_fn(|c| first[c] + share * (second[c] - first[c]))
    }
}

/// Half of the time with every primary on or off, else anything.
fn colour<R: Rng + ?Sized>(rng: &mut R) -> [f32; 3] {
    if rng.random() {
        let most = if rng.random() { 1.0 } else { 0.75 };
        std::array::from_fn(|_| if rng.random() { most } else { 0.0 })
    } else {
        std::array::from_fn(|_| rng.random())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn pictures_are_in_range_have_hard_edges_and_are_their_seed() {
        let mut extremes = 0;
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let picture = draw(80, &mut rng);
            assert_eq!(picture, draw(80, &mut ChaCha8Rng::seed_from_u64(seed)));
            assert!(picture.data.iter().all(|v| (0.0..=1.0).contains(v)));
            let plane = picture.plane(1);
            let edges = plane.windows(2).filter(|pair| (pair[0] - pair[1]).abs() > 0.4).count();
            assert!(edges > 20, "seed {seed}: {edges} edges");
            extremes += plane.iter().filter(|&&v| v == 0.0 || v == 1.0).count();
        }
        assert!(extremes > 20 * 80 * 80 / 10, "{extremes} samples are pure");
    }

    #[test]
    fn radii_follow_the_power_law() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let radii: Vec<f32> = (0..4000).map(|_| Shape::sample(64, &mut rng).radius).collect();
        assert!(radii.iter().all(|&r| (0.999..=32.001).contains(&r)));
        // P(r > 2) = (2⁻² − 32⁻²) / (1 − 32⁻²) = 0.249.
        let above = radii.iter().filter(|&&r| r > 2.0).count() as f32 / 4000.0;
        assert!((above - 0.249).abs() < 0.03, "{above}");
    }

    #[test]
    fn a_single_pixel_is_a_picture() {
        assert_eq!(draw(1, &mut ChaCha8Rng::seed_from_u64(1)).data.len(), 3);
    }
}
