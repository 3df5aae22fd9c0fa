use super::*;

/// Largest error of an f32 sum against f64, relative to the sum of magnitudes that
/// the operands here can reach.
const TOLERANCE: f64 = 2e-6;

fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| f64::from(v)).collect()
}

struct Operands {
    s: ConvShape,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    grad: Vec<f32>,
    slope: f32,
}

impl Operands {
    fn new(x: [usize; 4], weight: [usize; 5], padding: usize, slope: f32) -> Self {
        Self::with(x, weight, [1, padding, 1, 1], slope)
    }

    fn with(x: [usize; 4], weight: [usize; 5], geometry: Geometry, slope: f32) -> Self {
        let s = ConvShape::new(&x, &weight, geometry).unwrap();
        Self {
            s,
            x: noise(s.x_len(), 1),
            weight: noise(s.weight_len(), 2),
            bias: noise(s.sets * s.c_out, 3),
            grad: noise(s.out_len(), 4),
            slope,
        }
    }

    fn forward(&self, level: Level) -> Vec<f32> {
        let s = self.s.in_a_row();
        conv_nchw::forward(level, &s, &self.x, &self.weight, &self.bias, self.slope)
    }

    fn backward(&self, level: Level, out: &[f32]) -> Gradients<f32> {
        let operands =
            Backward { x: &self.x, weight: &self.weight, out, grad: &self.grad, slope: self.slope };
        conv_nchw_grad::backward(level, &self.s.in_a_row(), &operands, ALL)
    }
}

const ALL: Wanted = Wanted { x: true, weight: true, bias: true };

#[track_caller]
fn assert_close(got: &[f32], want: &[f64], terms: usize, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        let bound = TOLERANCE * (1.0 + (terms as f64).sqrt());
        assert!(error <= bound, "{what} [{i}]: {got}, want {want}");
    }
}

fn check(o: &Operands, level: Level) {
    let s = &o.s;
    let (x, weight, bias) = (wide(&o.x), wide(&o.weight), wide(&o.bias));
    let what = format!("{} {s:?}", level.name());
    let slope = f64::from(o.slope);
    let out = o.forward(level);
    let want = conv_general::forward(s, &x, &weight, &bias, slope);
    assert_close(&out, &want, s.c_in * s.k_h * s.k_w, &what);
    let got = o.backward(level, &out);
    let operands =
        Backward { x: &x, weight: &weight, out: &wide(&out), grad: &wide(&o.grad), slope };
    let want = conv_general::backward(s, &operands, ALL);
    let terms = s.c_out * s.k_h * s.k_w;
    assert_close(&got.x.unwrap(), &want.x.unwrap(), terms, &what);
    let terms = s.n / s.sets * s.out_h * s.out_w;
    assert_close(&got.weight.unwrap(), &want.weight.unwrap(), terms, &what);
    assert_close(&got.bias.unwrap(), &want.bias.unwrap(), terms, &what);
}

/// Runs at each level the machine has, and tells which it has not.
fn at_levels(mut run: impl FnMut(Level)) {
    for level in Level::ALL {
        if level.is_available() {
            run(level);
        } else {
            println!("not on this CPU: {}", level.name());
        }
    }
}

#[test]
fn sizes_against_f64() {
    let sizes = [(1, 1), (1, 7), (2, 3), (5, 5), (3, 16), (6, 17), (9, 31), (4, 33), (19, 37)];
    at_levels(|level| {
        for (h, w) in sizes {
            for k in [1, 3, 5] {
                for padding in 0..=k / 2 {
                    if h + 2 * padding < k || w + 2 * padding < k {
                        continue;
                    }
                    for slope in [1.0, 0.1] {
                        let o = Operands::new([2, 3, h, w], [2, 6, 3, k, k], padding, slope);
                        check(&o, level);
                    }
                }
            }
        }
    });
}

#[test]
fn channels_against_f64() {
    at_levels(|level| {
        for c_in in [1, 3, 6, 7, 8, 9, 32] {
            for c_out in [1, 3, 6, 7, 8, 9, 32] {
                for k in [1, 3, 5] {
                    let o = Operands::new([2, c_in, 5, 18], [1, c_out, c_in, k, k], k / 2, 0.2);
                    check(&o, level);
                }
            }
        }
    });
}

#[test]
fn kernel_sets_against_f64() {
    at_levels(|level| {
        for sets in [1, 2, 3, 6] {
            check(&Operands::new([6, 4, 7, 9], [sets, 5, 4, 3, 3], 1, 0.2), level);
        }
        // Wider and higher than a tile; and more padding than "same".
        check(&Operands::new([1, 6, 40, 300], [1, 3, 6, 3, 3], 1, 1.0), level);
        check(&Operands::new([1, 32, 70, 193], [1, 4, 32, 3, 3], 1, 0.1), level);
        check(&Operands::new([1, 2, 6, 5], [1, 3, 2, 5, 5], 4, 1.0), level);
    });
}

/// Strides, dilations, groups and kernels of every kind, one entry per kind of inner loop.
fn geometries() -> Vec<Operands> {
    let with = |x, weight, geometry| Operands::with(x, weight, geometry, 0.2);
    let mut all = vec![
        // Maps of one pixel, one row, one column.
        with([2, 5, 1, 1], [2, 7, 5, 3, 3], [1, 1, 1, 1]),
        with([2, 5, 1, 1], [1, 7, 5, 3, 3], [2, 1, 1, 1]),
        with([2, 3, 1, 40], [1, 2, 3, 3, 3], [2, 1, 1, 1]),
        with([2, 3, 40, 1], [1, 2, 3, 3, 3], [1, 1, 1, 1]),
        with([3, 4, 1, 1], [3, 4, 1, 7, 7], [1, 3, 1, 4]),
        // More padding than taps, steps longer than the kernel, taps that see nothing.
        with([1, 2, 4, 5], [1, 3, 2, 1, 1], [1, 2, 1, 1]),
        with([1, 2, 4, 5], [1, 3, 2, 2, 2], [1, 3, 1, 1]),
        with([2, 2, 4, 5], [1, 3, 2, 2, 2], [2, 5, 1, 1]),
        with([2, 3, 11, 13], [1, 2, 3, 1, 1], [2, 0, 1, 1]),
        with([2, 3, 11, 13], [1, 2, 3, 2, 2], [5, 0, 1, 1]),
        with([1, 2, 9, 9], [1, 2, 2, 3, 3], [1, 6, 6, 1]),
        // Kernels that are not square, even, dilated.
        with([1, 3, 9, 20], [1, 5, 3, 1, 4], [1, 1, 1, 1]),
        with([1, 3, 9, 20], [1, 5, 3, 3, 2], [2, 1, 2, 1]),
        with([2, 4, 12, 35], [2, 9, 4, 3, 3], [3, 1, 2, 1]),
        with([1, 2, 14, 33], [1, 6, 2, 3, 3], [1, 2, 2, 1]),
        // Wider than a tile, with a stride.
        with([1, 2, 9, 613], [1, 3, 2, 3, 3], [2, 1, 1, 1]),
        // Groups.
        with([2, 6, 9, 17], [2, 4, 3, 3, 3], [1, 1, 1, 2]),
        with([2, 6, 9, 17], [1, 9, 2, 3, 3], [2, 1, 1, 3]),
        with([2, 8, 6, 10], [1, 16, 2, 1, 1], [1, 0, 1, 4]),
        // More input channels than are walked at once, in parts alike and not.
        with([2, 130, 5, 11], [1, 5, 130, 3, 3], [1, 1, 1, 1]),
        with([1, 67, 7, 20], [1, 70, 67, 3, 3], [2, 1, 1, 1]),
        with([1, 26, 8, 19], [1, 26, 26, 5, 5], [1, 2, 1, 1]),
        // Many output channels: of groups, of kernels of all kinds, of several sums to add up.
        with([2, 6, 9, 17], [2, 34, 3, 3, 3], [1, 1, 1, 2]),
        with([2, 3, 9, 20], [1, 17, 3, 1, 4], [1, 1, 1, 1]),
        with([2, 3, 9, 20], [2, 16, 3, 3, 2], [2, 1, 2, 1]),
        with([3, 2, 4, 5], [1, 19, 2, 2, 2], [1, 3, 1, 1]),
        with([2, 2, 14, 33], [1, 18, 2, 3, 3], [1, 2, 2, 1]),
        with([2, 3, 11, 13], [1, 16, 3, 1, 1], [2, 0, 1, 1]),
        with([9, 2, 5, 4], [1, 23, 2, 3, 3], [1, 1, 1, 1]),
        with([2, 2, 3, 300], [1, 16, 2, 3, 3], [1, 1, 1, 1]),
        // Channels by themselves.
        with([4, 3, 9, 11], [2, 3, 1, 3, 3], [3, 1, 1, 3]),
        with([2, 3, 10, 21], [1, 3, 1, 2, 4], [1, 2, 2, 3]),
        with([2, 3, 4, 5], [2, 3, 1, 1, 1], [1, 0, 1, 3]),
        // By themselves, in bands of rows and strips of every width.
        with([1, 2, 40, 301], [1, 2, 1, 3, 3], [1, 1, 1, 2]),
        with([2, 3, 3, 48], [2, 3, 1, 3, 3], [1, 1, 1, 3]),
        with([2, 3, 1, 80], [1, 3, 1, 3, 3], [1, 1, 1, 3]),
        // Pixels in a row.
        with([2, 18, 30, 31], [2, 40, 18, 1, 1], [1, 0, 1, 1]),
        with([5, 64, 8, 8], [1, 16, 64, 1, 1], [1, 0, 1, 1]),
        with([3, 17, 7, 9], [3, 13, 17, 1, 1], [1, 0, 1, 1]),
        with([2, 20, 30, 31], [1, 12, 20, 1, 1], [1, 0, 1, 1]),
    ];
    for (h, w) in [(1, 1), (5, 7), (8, 8), (9, 16), (6, 18), (7, 24), (12, 33)] {
        // One kernel to a sample.
        all.push(with([3, 6, h, w], [3, 6, 6, 3, 3], [1, 1, 1, 1]));
        all.push(with([2, 3, h, w], [1, 4, 3, 3, 3], [2, 1, 1, 1]));
        all.push(with([3, 5, h, w], [3, 21, 5, 3, 3], [1, 1, 1, 1]));
        all.push(with([2, 20, h, w], [1, 16, 20, 3, 3], [1, 1, 1, 1]));
        all.push(with([2, 3, h, w], [1, 18, 3, 5, 5], [2, 2, 1, 1]));
        all.push(with([2, 3, h, w], [1, 4, 3, 9, 9], [1, 4, 1, 1]));
        all.push(with([2, 4, h, w], [1, 3, 4, 7, 7], [1, 3, 1, 1]));
        for k in [3, 5, 7] {
            all.push(with([2, 5, h, w], [2, 5, 1, k, k], [1, k / 2, 1, 5]));
            all.push(with([2, 3, h, w], [1, 6, 1, k, k], [2, k / 2, 1, 3]));
        }
    }
    all
}

#[test]
fn geometries_against_f64() {
    at_levels(|level| geometries().iter().for_each(|o| check(o, level)));
}

/// All results, as bits.
fn bits(o: &Operands, level: Level) -> [Vec<u32>; 4] {
    let out = o.forward(level);
    let g = o.backward(level, &out);
    [out, g.x.unwrap(), g.weight.unwrap(), g.bias.unwrap()]
        .map(|v| v.into_iter().map(f32::to_bits).collect())
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn threads_change_no_bit() {
    let mut all = geometries();
    all.push(Operands::new([4, 6, 37, 211], [2, 9, 6, 3, 3], 1, 0.1));
    // Sums over more samples than one task takes.
    all.push(Operands::new([7, 32, 48, 48], [1, 8, 32, 3, 3], 1, 0.1));
    let pools = [1, 2, 3].map(pool);
    at_levels(|level| {
        for o in &all {
            let [one, two, three] = [0, 1, 2].map(|i| pools[i].install(|| bits(o, level)));
            assert!(one == two && one == three, "{} {:?}", level.name(), o.s);
        }
    });
}

#[test]
fn what_buffers_held_before_changes_no_bit() {
    let pool = pool(1);
    at_levels(|level| {
        for o in geometries() {
            let [clean, stale] = [0.0, f32::NAN].map(|before| {
                pool.install(|| {
                    for slot in 0..padded::SLOTS {
                        let mut scratch = padded::Scratch::take(slot, 1 << 20);
                        scratch.as_mut().fill(before);
                        scratch.keep(slot);
                    }
                    bits(&o, level)
                })
            });
            assert!(clean == stale, "{} {:?}", level.name(), o.s);
        }
    });
}

#[test]
fn writes_nothing_beside_the_output() {
    const GUARD: usize = 64;
    const CANARY: f32 = 12345.0;
    at_levels(|level| {
        for o in geometries() {
            let mut around = vec![std::mem::MaybeUninit::new(CANARY); o.s.out_len() + 2 * GUARD];
            let out = &mut around[GUARD..GUARD + o.s.out_len()];
            let operands = [&o.x[..], &o.weight, &o.bias];
            conv_nchw::forward_into(level, &o.s.in_a_row(), operands, o.slope, out);
            // SAFETY: all values were initialised above.
            let around = around.into_iter().map(|v| unsafe { v.assume_init() });
            let around: Vec<f32> = around.collect();
            let (before, rest) = around.split_at(GUARD);
            let (out, after) = rest.split_at(o.s.out_len());
            assert!(before.iter().chain(after).all(|v| *v == CANARY), "{:?}", o.s);
            assert_eq!(out, o.forward(level));
        }
    });
}

#[test]
fn general_path_does_not_depend_on_threads_either() {
    let s = ConvShape::new(&[4, 4, 21, 20], &[2, 4, 2, 3, 3], [2, 1, 2, 2]).unwrap();
    let (x, w) = (noise(s.x_len(), 1), noise(s.weight_len(), 2));
    let (bias, grad) = (noise(s.sets * s.c_out, 3), noise(s.out_len(), 4));
    let runs = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let out = conv_general::forward(&s, &x, &w, &bias, 0.1);
            let operands = Backward { x: &x, weight: &w, out: &out, grad: &grad, slope: 0.1 };
            let g = conv_general::backward(&s, &operands, ALL);
            [g.x.unwrap(), g.weight.unwrap(), g.bias.unwrap(), out]
        })
    });
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn nan_and_infinity_pass_through() {
    at_levels(|level| {
        let mut o = Operands::new([1, 1, 3, 20], [1, 1, 1, 1, 1], 0, 0.1);
        o.x[0] = f32::NAN;
        o.x[1] = f32::INFINITY;
        let out = o.forward(level);
        assert!(out[0].is_nan());
        assert!(out[1].is_infinite());
        assert!(out[2..].iter().all(|v| v.is_finite()));
    });
}
