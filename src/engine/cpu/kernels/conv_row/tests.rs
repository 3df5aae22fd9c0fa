//! Every kernel that this machine can run against sums written out one by one. Whatever a kernel
//! is given to read or write ends where the memory ends.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::any::TypeId;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use guarded::Guarded;

mod choice;
mod guarded;
mod refusals;

/// Runs and distances between pixels: 3×1 and 1×3 taps, 5×1, and single taps.
const RUNS: [(usize, usize); 8] =
    [(6, 2), (18, 6), (96, 32), (24, 8), (144, 48), (8, 8), (32, 32), (160, 32)];
const SEGMENTS: [usize; 5] = [1, 3, 9, 5, 15];
const C_OUT: [usize; 10] = [6, 3, 5, 8, 16, 24, 32, 40, 48, 64];
const MAX_C_OUT: usize = 64;
/// 3 · P + 5 for the longest block.
const MAX_PIXELS: usize = 47;
const SLOPES: [f32; 5] = [0.0, 0.1, 1.0, -0.3, 1.5];
/// Of an f32 sum, relative to the sum of magnitudes.
const TOLERANCE: f64 = 1e-5;

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 20
    }

    fn within(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// From -1 to 1.
    fn float(&mut self) -> f32 {
        self.within(-(1 << 20), 1 << 20) as f32 / (1 << 20) as f32
    }
}

/// The sums of the most channels and pixels; those of fewer are among them.
struct Operands<X, W> {
    shape: RowShape,
    x: Vec<Vec<X>>,
    weights: Vec<W>,
    /// Per channel and pixel.
    sums: Vec<f64>,
    /// As `sums`, of the magnitudes of the products.
    magnitudes: Vec<f64>,
    /// Whether the sums are to be exact, and times the scale.
    scaled: bool,
    scale: Vec<f32>,
    bias: Vec<f32>,
    zero: Vec<f32>,
}

impl<X: Number + Into<f64> + 'static, W: Number + Into<f64>> Operands<X, W> {
    /// `span` is what the largest integer sum is scaled to. `w` gets the channel and the place
    /// among its weights.
    fn new(
        (segments, run, pixel): (usize, usize, usize),
        span: f32,
        mut x: impl FnMut() -> X,
        mut w: impl FnMut(usize, usize) -> W,
    ) -> Self {
        let shape = RowShape { segments, run, pixel, c_out: MAX_C_OUT };
        let reach = shape.reach(MAX_PIXELS);
        let x: Vec<Vec<X>> = (0..segments).map(|_| (0..reach).map(|_| x()).collect()).collect();
        let mut weights = vec![];
        for channel in 0..MAX_C_OUT {
            weights.extend((0..segments * run).map(|i| w(channel, i)));
        }
        let (mut sums, mut magnitudes) = (vec![], vec![]);
        for channel in 0..MAX_C_OUT {
            for p in 0..MAX_PIXELS {
                let (mut sum, mut magnitude) = (0.0, 0.0);
                for segment in 0..segments {
                    for tap in 0..run {
                        let x: f64 = x[segment][p * pixel + tap].into();
                        let w: f64 = weights[(channel * segments + segment) * run + tap].into();
                        sum += x * w;
                        magnitude += (x * w).abs();
                    }
                }
                sums.push(sum);
                magnitudes.push(magnitude);
            }
        }
        let mut noise = Noise(77);
        let mut channels = |value: &dyn Fn(usize, f32) -> f32| {
            (0..MAX_C_OUT).map(|channel| value(channel, noise.float())).collect::<Vec<f32>>()
        };
        let scaled = TypeId::of::<X>() != TypeId::of::<f32>();
        let largest = sums.iter().fold(1.0f64, |largest, sum| largest.max(sum.abs()));
        let unit = span / largest as f32;
        let scale = match scaled {
            true => channels(&|_, v| unit * (1.0 + 0.5 * v)),
            false => vec![f32::NAN; MAX_C_OUT],
        };
        let bias = channels(&|_, v| if scaled { 0.1 * span * v } else { v });
        let zero = channels(&|channel, v| (channel % 7) as f32 * 17.0 - 40.0 + (8.0 * v).round());
        Self { shape, x, weights, sums, magnitudes, scaled, scale, bias, zero }
    }

    /// What is to come out, before a zero point, and how far off it may be.
    fn value(&self, channel: usize, p: usize, slope: f32) -> (f64, f64) {
        let i = channel * MAX_PIXELS + p;
        let (sum, bias) = (self.sums[i], self.bias[channel]);
        if self.scaled {
            assert!(sum.abs() <= f64::from(i32::MAX));
            let v = sum as f32 * self.scale[channel] + bias;
            return (f64::from(if v < 0.0 { v * slope } else { v }), 0.0);
        }
        let v = sum + f64::from(bias);
        let slack = TOLERANCE * (self.magnitudes[i] + f64::from(bias.abs()));
        (if v < 0.0 { v * f64::from(slope) } else { v }, slack)
    }

    fn plus(&self, v: f64, more: f32) -> f64 {
        if self.scaled { f64::from(v as f32 + more) } else { v + f64::from(more) }
    }

    #[track_caller]
    fn assert_float(&self, got: f32, (want, slack): (f64, f64), what: &dyn Fn() -> String) {
        let same = match self.scaled {
            true => got.to_bits() == (want as f32).to_bits(),
            false => (f64::from(got) - want).abs() <= slack,
        };
        assert!(same, "{}: {got}, want {want}", what());
    }

    #[track_caller]
    fn assert_code(
        &self,
        got: i16,
        (v, slack): (f64, f64),
        channel: usize,
        (low, high): (i16, i16),
        what: &dyn Fn() -> String,
    ) {
        let want = self.plus(v, self.zero[channel]).clamp(low.into(), high.into());
        let same = match self.scaled {
            true => f64::from(got) == want.round_ties_even(),
            false => (f64::from(got) - want).abs() <= 0.5 + slack + TOLERANCE * want.abs(),
        };
        assert!(same, "{}: {got}, want {want}", what());
    }

    /// With the weights of so many channels.
    fn row(&self, kernel: RowKernel<X, W>, c_out: usize, slope: f32) -> ConvRow<X, W> {
        let shape = RowShape { c_out, ..self.shape };
        let mut row = ConvRow::zeroed(kernel, shape, slope);
        row.set_weights(&self.weights[..c_out * shape.segments * shape.run]);
        let channels = row.scale.len();
        row.scale.copy_from_slice(&self.scale[..channels]);
        row.bias.copy_from_slice(&self.bias[..channels]);
        row
    }
}

/// Room for one call.
struct Memory<X> {
    x: Vec<Guarded<X>>,
    floats: Guarded<f32>,
    add: Guarded<f32>,
    pairs: [Guarded<f32>; 3],
    words: Guarded<i16>,
    bytes: Guarded<u8>,
    added_words: Guarded<i16>,
    added_bytes: Guarded<u8>,
    zero: Guarded<f32>,
    noise: Noise,
}

impl<X: Number + Into<f64> + 'static> Memory<X> {
    fn new() -> Self {
        let reach = |&(run, pixel): &(usize, usize)| (MAX_PIXELS - 1) * pixel + run;
        let reach = RUNS.iter().map(reach).max().unwrap();
        let values = MAX_PIXELS * MAX_C_OUT;
        Self {
            x: (0..MAX_SEGMENTS).map(|_| Guarded::new(reach)).collect(),
            floats: Guarded::new(values),
            add: Guarded::new(values),
            pairs: [(); 3].map(|()| Guarded::new(2 * MAX_PIXELS)),
            words: Guarded::new(values),
            bytes: Guarded::new(values),
            added_words: Guarded::new(values),
            added_bytes: Guarded::new(values),
            zero: Guarded::new(MAX_C_OUT),
            noise: Noise(5),
        }
    }

    /// Every kind of output of one kernel on these operands.
    fn check<W: Number + Into<f64>>(&mut self, kernel: RowKernel<X, W>, o: &Operands<X, W>) {
        if !o.shape.run.is_multiple_of(kernel.group) {
            return;
        }
        for pixels in lengths(&kernel) {
            for c_out in C_OUT {
                self.check_one(kernel, o, pixels, c_out);
            }
        }
    }

    fn check_one<W: Number + Into<f64>>(
        &mut self,
        kernel: RowKernel<X, W>,
        o: &Operands<X, W>,
        pixels: usize,
        c_out: usize,
    ) {
        let Self { x, floats, add, pairs, words, bytes, added_words, added_bytes, zero, noise } =
            self;
        let mut row = o.row(kernel, c_out, 0.0);
        let reach = row.shape.reach(pixels);
        let segments: Vec<&[X]> =
            x.iter_mut().zip(&o.x).map(|(to, from)| to.filled(&from[..reach])).collect();
        let (values, channels) = (pixels * c_out, row.bias.len());
        let shape = row.shape;
        let what = |kind: &'static str, i: usize| {
            move || format!("{} {kind} {shape:?} × {pixels}: [{i}]", kernel.name)
        };
        // Other ones for each kind of output, and each channel.
        let mut slopes = |row: &mut ConvRow<X, W>| {
            row.slope.fill_with(|| SLOPES[noise.next() as usize % SLOPES.len()]);
        };

        slopes(&mut row);
        let to = floats.last(values);
        to.fill(f32::NAN);
        row.run(&segments, pixels, RowOut::F32 { to, add: [None; 2] });
        for (i, &got) in to.iter().enumerate() {
            let want = o.value(i % c_out, i / c_out, row.slope[i % c_out]);
            o.assert_float(got, want, &what("f32", i));
        }

        slopes(&mut row);
        let add = add.last(values);
        add.iter_mut().enumerate().for_each(|(i, v)| *v = (i % 23) as f32 * 0.3 - 3.0);
        let addend = &*add;
        for sums in [1, 2] {
            let to = floats.last(values);
            to.fill(f32::NAN);
            let add = [Some(addend), (sums > 1).then_some(addend)];
            row.run(&segments, pixels, RowOut::F32 { to, add });
            for (i, (&got, &more)) in to.iter().zip(addend).enumerate() {
                let (want, slack) = o.value(i % c_out, i / c_out, row.slope[i % c_out]);
                let slack = slack + f64::from(sums) * TOLERANCE * f64::from(more.abs());
                let want = (0..sums).fold(want, |want, _| o.plus(want, more));
                o.assert_float(got, (want, slack), &what("sum", i));
            }
        }

        if c_out == 6 {
            slopes(&mut row);
            let mut rows = pairs.each_mut().map(|pairs| pairs.last(2 * pixels));
            rows.iter_mut().for_each(|row| row.fill(f32::NAN));
            row.run(&segments, pixels, RowOut::Pairs(rows.each_mut().map(|row| &mut **row)));
            for (pair, got) in rows.iter().enumerate() {
                for (i, &got) in got.iter().enumerate() {
                    let want = o.value(2 * pair + i % 2, i / 2, row.slope[2 * pair + i % 2]);
                    o.assert_float(got, want, &what("pairs", i));
                }
            }
        }

        let zero = zero.filled(&o.zero[..channels]);
        for limits in [(-100, 150), (i16::MIN, i16::MAX)] {
            slopes(&mut row);
            let to = words.last(values);
            to.fill(31_111);
            let (low, high) = limits;
            row.run(&segments, pixels, RowOut::I16 { to, zero, low, high, add: [None; 2] });
            for (i, &got) in to.iter().enumerate() {
                let v = o.value(i % c_out, i / c_out, row.slope[i % c_out]);
                o.assert_code(got, v, i % c_out, limits, &what("i16", i));
            }
        }

        slopes(&mut row);
        let to = bytes.last(values);
        to.fill(77);
        row.run(&segments, pixels, RowOut::U8 { to, zero, add: [None; 2] });
        for (i, &got) in to.iter().enumerate() {
            let v = o.value(i % c_out, i / c_out, row.slope[i % c_out]);
            o.assert_code(got.into(), v, i % c_out, (0, 255), &what("u8", i));
        }

        // Codes of one type are added to those of the other, which a net never does.
        for (c, offset) in row.added[0].offset.iter_mut().enumerate() {
            *offset = -((11 * c % 7) as f32);
        }
        for (c, step) in row.added[0].step.iter_mut().enumerate() {
            *step = 0.3 * (1 + c % 5) as f32;
        }
        let more = |i: usize, code: f32| {
            (code - (11 * (i % c_out) % 7) as f32) * (0.3 * (1 + i % c_out % 5) as f32)
        };
        let sum = |i: usize, code: f32, slope: f32| {
            let (v, slack) = o.value(i % c_out, i / c_out, slope);
            let more = more(i, code);
            (o.plus(v, more), slack + TOLERANCE * f64::from(more.abs()))
        };
        slopes(&mut row);
        let (to, codes) = (bytes.last(values), added_words.last(values));
        codes.iter_mut().enumerate().for_each(|(i, code)| *code = (i % 255) as i16 - 99);
        row.run(&segments, pixels, RowOut::U8 { to, zero, add: [Some(Codes::I16(codes)), None] });
        for (i, (&got, &code)) in to.iter().zip(&*codes).enumerate() {
            let sum = sum(i, code.into(), row.slope[i % c_out]);
            o.assert_code(got.into(), sum, i % c_out, (0, 255), &what("u8 sum", i));
        }
        slopes(&mut row);
        let (to, codes) = (words.last(values), added_bytes.last(values));
        codes.iter_mut().enumerate().for_each(|(i, code)| *code = (i % 251) as u8);
        let (low, high, add) = (-100, 150, [Some(Codes::U8(&*codes)), None]);
        row.run(&segments, pixels, RowOut::I16 { to, zero, low, high, add });
        for (i, (&got, &code)) in to.iter().zip(&*codes).enumerate() {
            let sum = sum(i, code.into(), row.slope[i % c_out]);
            o.assert_code(got, sum, i % c_out, (low, high), &what("i16 sum", i));
        }

        // Two at once: the second is the first again, of twice the steps.
        let [first, second] = &mut row.added;
        second.offset.copy_from_slice(&first.offset);
        for (to, step) in second.step.iter_mut().zip(&*first.step) {
            *to = 2.0 * step;
        }
        let twice = |i: usize, code: f32, slope: f32| {
            let (v, slack) = sum(i, code, slope);
            let again = 2.0 * more(i, code);
            (o.plus(v, again), slack + TOLERANCE * f64::from(again.abs()))
        };
        slopes(&mut row);
        let (to, codes) = (bytes.last(values), added_bytes.last(values));
        let add = [Some(Codes::U8(&*codes)); 2];
        row.run(&segments, pixels, RowOut::U8 { to, zero, add });
        for (i, (&got, &code)) in to.iter().zip(&*codes).enumerate() {
            let want = twice(i, code.into(), row.slope[i % c_out]);
            o.assert_code(got.into(), want, i % c_out, (0, 255), &what("u8 of two sums", i));
        }
        slopes(&mut row);
        let (to, codes) = (words.last(values), added_words.last(values));
        let add = [Some(Codes::I16(&*codes)); 2];
        row.run(&segments, pixels, RowOut::I16 { to, zero, low, high, add });
        for (i, (&got, &code)) in to.iter().zip(&*codes).enumerate() {
            let want = twice(i, code.into(), row.slope[i % c_out]);
            o.assert_code(got, want, i % c_out, (low, high), &what("i16 of two sums", i));
        }
    }
}

fn all<X, W>(kernels: fn(Level) -> Vec<RowKernel<X, W>>) -> Vec<RowKernel<X, W>> {
    for level in Level::ALL.into_iter().filter(|level| !level.is_available()) {
        println!("not on this CPU: {}", level.name());
    }
    kernels(Level::detected())
}

/// Lengths of rows around those of a kernel's blocks, and the shortest.
fn lengths<X, W>(kernel: &RowKernel<X, W>) -> Vec<usize> {
    let around = |&p: &usize| [p, p + 1, 2 * p - 1, 2 * p, 3 * p + 5];
    let mut lengths: Vec<usize> = kernel.blocks.iter().flat_map(around).collect();
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths[0] == kernel.pixels && lengths[lengths.len() - 1] <= MAX_PIXELS);
    lengths
}

fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
    RUNS.into_iter().flat_map(|(run, pixel)| SEGMENTS.map(|segments| (segments, run, pixel)))
}

#[test]
fn f32_sums_are_near() {
    let (kernels, mut memory) = (all(f32_kernels), Memory::new());
    let (mut x, mut w) = (Noise(1), Noise(2));
    for shape in shapes() {
        // Integers would hide what rounds.
        let o = Operands::new(shape, 0.0, || 3.0 * x.float(), |_, _| 5.0 * w.float());
        kernels.iter().for_each(|&kernel| memory.check(kernel, &o));
    }
}

#[test]
fn i16_sums_are_exact() {
    let (kernels, mut memory) = (all(i16_kernels), Memory::new());
    let (mut x, mut w) = (Noise(1), Noise(2));
    for shape in shapes() {
        let x = || x.within(-4000, 4000) as i16;
        let o = Operands::new(shape, 400.0, x, |_, _| w.within(-900, 900) as i16);
        kernels.iter().for_each(|&kernel| memory.check(kernel, &o));
    }
}

#[test]
fn u8_sums_are_exact() {
    let (kernels, mut memory) = (all(u8_kernels), Memory::new());
    let (mut x, mut w) = (Noise(1), Noise(2));
    for shape in shapes() {
        let x = || x.within(0, 255) as u8;
        let o = Operands::new(shape, 400.0, x, |_, _| w.within(-128, 127) as i8);
        kernels.iter().for_each(|&kernel| memory.check(kernel, &o));
    }
}

#[test]
fn extreme_i16_do_not_saturate() {
    let (kernels, mut memory) = (all(i16_kernels), Memory::new());
    let (mut x, mut w) = (Noise(3), Noise(4));
    for shape in [(1, 8, 8), (3, 96, 32), (15, 160, 32)] {
        let terms = shape.0 * shape.1;
        let mut x = || [i16::MIN, i16::MAX][x.next() as usize % 2];
        let most = i64::from(i32::MAX) / 32768 / terms as i64;
        let dense = |_, _| ([-1, 1][w.next() as usize % 2] * most) as i16;
        let dense = Operands::new(shape, 40_000.0, &mut x, dense);
        // The largest of both signs, often in one product.
        let sparse = |channel, i| match (i + channel) % terms {
            0 => i16::MIN,
            1 => i16::MAX,
            _ => 0,
        };
        let sparse = Operands::new(shape, 40_000.0, &mut x, sparse);
        for o in [dense, sparse] {
            kernels.iter().for_each(|&kernel| memory.check(kernel, &o));
        }
    }
}

#[test]
fn extreme_u8_do_not_saturate() {
    let (kernels, mut memory) = (all(u8_kernels), Memory::new());
    let mut noise = Noise(3);
    for shape in [(1, 8, 8), (3, 96, 32), (15, 160, 32)] {
        let w = |channel: usize, _| match channel % 4 {
            0 => 127,
            1 => -127,
            2 => -128,
            _ => [-127, 127][noise.next() as usize % 2],
        };
        let o = Operands::new(shape, 40_000.0, || 255u8, w);
        kernels.iter().for_each(|&kernel| memory.check(kernel, &o));
    }
}

/// Sums of a single product by a half: every other value is a tie.
fn check_halves<X, W>(kernels: &[RowKernel<X, W>], x: impl FnMut() -> X, one: W)
where
    X: Number + Into<f64> + 'static,
    W: Number + Into<f64>,
{
    let w = |channel, i| if i == channel % 8 { one } else { W::default() };
    let mut o = Operands::new((1, 8, 8), 1.0, x, w);
    o.scale.fill(0.5);
    o.bias.fill(-20.0);
    let mut memory = Memory::new();
    kernels.iter().for_each(|&kernel| memory.check(kernel, &o));
}

#[test]
fn halves_are_rounded_to_even() {
    let mut noise = Noise(6);
    check_halves(&all(i16_kernels), || noise.within(-700, 700) as i16, 1);
    check_halves(&all(u8_kernels), || noise.within(0, 255) as u8, 1);
    // f32 alone is compared with a tolerance: here every sum is exact.
    for kernel in all(f32_kernels) {
        let shape = RowShape { segments: 1, run: 2, pixel: 2, c_out: 5 };
        let mut row = ConvRow::zeroed(kernel, shape, 1.0);
        row.set_weights(&[0.5, 0.0].repeat(5));
        let pixels = kernel.pixels;
        let x: Vec<f32> = (0..2 * pixels).map(|i| i as f32 - 9.0).collect();
        let want = |i: usize| (x[i / 5 * 2] * 0.5).round_ties_even();
        let (mut words, mut bytes) = (vec![0; pixels * 5], vec![0; pixels * 5]);
        let zero = [0.0; 16];
        row.run(
            &[&x],
            pixels,
            RowOut::I16 { to: &mut words, zero: &zero, low: -9, high: 99, add: [None; 2] },
        );
        row.run(&[&x], pixels, RowOut::U8 { to: &mut bytes, zero: &zero, add: [None; 2] });
        for (i, (word, byte)) in words.into_iter().zip(bytes).enumerate() {
            assert_eq!(f32::from(word), want(i), "{}", kernel.name);
            assert_eq!(f32::from(byte), want(i).max(0.0), "{}", kernel.name);
        }
    }
}

#[test]
fn not_a_number_becomes_the_lowest_code() {
    for kernel in all(f32_kernels) {
        let shape = RowShape { segments: 1, run: 2, pixel: 2, c_out: 7 };
        let mut row = ConvRow::zeroed(kernel, shape, 0.1);
        row.set_weights(&[1.0; 14]);
        let pixels = kernel.pixels;
        let (x, zero) = (vec![f32::NAN; 2 * pixels], [5.0; 16]);
        let (mut words, mut bytes) = (vec![0; 7 * pixels], vec![1; 7 * pixels]);
        row.run(
            &[&x],
            pixels,
            RowOut::I16 { to: &mut words, zero: &zero, low: -9, high: 99, add: [None; 2] },
        );
        row.run(&[&x], pixels, RowOut::U8 { to: &mut bytes, zero: &zero, add: [None; 2] });
        assert_eq!((words, bytes), (vec![-9; 7 * pixels], vec![0; 7 * pixels]), "{}", kernel.name);
    }
}
