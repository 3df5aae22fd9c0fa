//! What becomes of a row's sums: values with their activation, or codes.

use super::super::dot::Dot;
use super::super::lanes::{LINE, Lanes};
use super::{Call, VECTORS};

/// Where the results go; pixels are `c_out` values apart, but for pairs.
#[derive(Clone, Copy)]
pub(super) enum Target {
    F32 { to: *mut f32, bounds: Option<[*const f32; 2]>, add: [Option<*const f32>; 2] },
    Pairs([*mut f32; 3]),
    I16 { to: *mut i16, zero: *const f32, low: f32, high: f32 },
    U8 { to: *mut u8, zero: *const f32 },
}

/// What is added to values that become codes.
#[derive(Clone, Copy)]
pub(super) struct AddedCodes {
    pub(super) codes: CodesAt,
    pub(super) offset: *const f32,
    pub(super) step: *const f32,
}

#[derive(Clone, Copy)]
pub(super) enum CodesAt {
    I16(*const i16),
    U8(*const u8),
}

impl AddedCodes {
    /// `(code + offset) · step` of the first `count` values of a vector of channels from `channel` on, where
    /// the first code is at `at`.
    ///
    /// # Safety
    /// There are so many codes there, and whole vectors of offsets and steps.
    #[inline(always)]
    unsafe fn values<F: Lanes>(self, at: usize, channel: usize, count: usize) -> F {
        // SAFETY: as the function's.
        unsafe {
            let codes = match self.codes {
                CodesAt::U8(codes) if count == F::LEN => F::load_u8(codes.add(at)),
                any => {
                    let mut codes = [0f32; LINE];
                    for (lane, code) in codes.iter_mut().enumerate().take(count) {
                        *code = match any {
                            CodesAt::I16(codes) => f32::from(*codes.add(at + lane)),
                            CodesAt::U8(codes) => f32::from(*codes.add(at + lane)),
                        };
                    }
                    F::load(codes.as_ptr())
                }
            };
            codes.add(F::load(self.offset.add(channel))).mul(F::load(self.step.add(channel)))
        }
    }
}

/// From sums to what the layer gives.
///
/// # Safety
/// The caller enables the features of D's level.
#[inline(always)]
unsafe fn activation<D: Dot>(
    sum: D::Float,
    scale: D::Float,
    bias: D::Float,
    slope: D::Float,
) -> D::Float {
    // SAFETY: as the function's.
    unsafe {
        let sum = if D::SCALED { sum.mul(scale) } else { sum };
        sum.add(bias).leaky(slope)
    }
}

/// From sums to values in the target.
///
/// # Safety
/// As [`conv_row`].
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators here spill the sums")]
pub(super) unsafe fn finish<D: Dot, const P: usize, const V: usize>(
    call: &Call<D::X, D::W>,
    sums: &[[D::Float; V]; P],
    first: usize,
    channel: usize,
) {
    let lanes = D::Float::LEN;
    if let Target::U8 { to, zero } = call.target
        && V == VECTORS
        && P.is_multiple_of(2)
        && channel + VECTORS * lanes <= call.c_out
    {
        // SAFETY: as the function's; all channels of the block are there.
        unsafe { finish_u8::<D, P, V>(call, sums, first, channel, (to, zero)) };
        return;
    }
    // SAFETY: as the function's.
    unsafe {
        for v in 0..V {
            let channel = channel + v * lanes;
            let slope = D::Float::load(call.slope.add(channel));
            let scale = D::Float::load(call.scale.add(channel));
            let bias = D::Float::load(call.bias.add(channel));
            // No closure: one that is not inlined would be compiled without the features of D's level.
            macro_rules! value {
                ($p:expr) => {
                    activation::<D>(sums[$p][v], scale, bias, slope)
                };
            }
            let count = lanes.min(call.c_out - channel);
            let at = |p: usize| (first + p) * call.c_out + channel;
            match call.target {
                Target::F32 { to, bounds: None, add: [None, None] } if count == lanes => {
                    for p in 0..P {
                        value!(p).store(to.add(at(p)));
                    }
                }
                Target::F32 { to, bounds, add } => {
                    for p in 0..P {
                        let mut value = value!(p);
                        for add in add.into_iter().flatten() {
                            value = value.add(D::Float::load_first(count, add.add(at(p))));
                        }
                        if let Some([low, high]) = bounds {
                            let (low, high) = (low.add(channel), high.add(channel));
                            value = value.clamp(D::Float::load(low), D::Float::load(high));
                        }
                        value.store_first(count, to.add(at(p)));
                    }
                }
                Target::Pairs(rows) => {
                    for p in 0..P {
                        let mut values = [[0f32; 2]; LINE / 2];
                        value!(p).store(values.as_mut_ptr().cast());
                        for pair in 0..count / 2 {
                            let row = rows[channel / 2 + pair].cast::<[f32; 2]>();
                            row.add(first + p).write(values[pair]);
                        }
                    }
                }
                Target::I16 { to, zero, low, high } => {
                    let zero = D::Float::load(zero.add(channel));
                    let (low, high) = (D::Float::splat(low), D::Float::splat(high));
                    for p in 0..P {
                        let mut value = value!(p);
                        for add in call.added.iter().flatten() {
                            value = value.add(add.values(at(p), channel, count));
                        }
                        let value = value.add(zero).clamp(low, high);
                        if count == lanes {
                            value.store_i16(to.add(at(p)));
                        } else {
                            let mut values = [0i16; LINE];
                            value.store_i16(values.as_mut_ptr());
                            std::ptr::copy_nonoverlapping(values.as_ptr(), to.add(at(p)), count);
                        }
                    }
                }
                Target::U8 { to, zero } => {
                    let zero = D::Float::load(zero.add(channel));
                    let (low, high) = (D::Float::splat(0.0), D::Float::splat(255.0));
                    for p in 0..P {
                        let mut value = value!(p);
                        for add in call.added.iter().flatten() {
                            value = value.add(add.values(at(p), channel, count));
                        }
                        let value = value.add(zero).clamp(low, high);
                        if count == lanes {
                            value.store_u8(to.add(at(p)));
                        } else {
                            let mut values = [0u8; LINE];
                            value.store_u8(values.as_mut_ptr());
                            std::ptr::copy_nonoverlapping(values.as_ptr(), to.add(at(p)), count);
                        }
                    }
                }
            }
        }
    }
}

/// [`finish`] for two whole vectors of u8 per pixel, two pixels at once.
///
/// # Safety
/// As [`finish`]; `to` and `zero` are the target's.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators here spill the sums")]
unsafe fn finish_u8<D: Dot, const P: usize, const V: usize>(
    call: &Call<D::X, D::W>,
    sums: &[[D::Float; V]; P],
    first: usize,
    channel: usize,
    (to, zero): (*mut u8, *const f32),
) {
    // SAFETY: as the function's.
    unsafe {
        let load = |from: *const f32| {
            let from = from.add(channel);
            [D::Float::load(from), D::Float::load(from.add(D::Float::LEN))]
        };
        let (scale, bias) = (load(call.scale), load(call.bias));
        let (slope, zero) = (load(call.slope), load(zero));
        let at = |p: usize| (first + p) * call.c_out + channel;
        // No closure: one that is not inlined would be compiled without the features of D's level.
        macro_rules! value {
            ($p:expr, $v:expr) => {
                activation::<D>(sums[$p][$v], scale[$v], bias[$v], slope[$v])
            };
        }
        let [add, second] = &call.added;
        let Some(add) = add else {
            for p in (0..P).step_by(2) {
                let values = [
                    [value!(p, 0).add(zero[0]), value!(p, V - 1).add(zero[V - 1])],
                    [value!(p + 1, 0).add(zero[0]), value!(p + 1, V - 1).add(zero[V - 1])],
                ];
                D::Float::store_clamped_u8(values, [to.add(at(p)), to.add(at(p + 1))]);
            }
            return;
        };
        for p in (0..P).step_by(2) {
            let mut values =
                [[value!(p, 0), value!(p, V - 1)], [value!(p + 1, 0), value!(p + 1, V - 1)]];
            for q in 0..2 {
                for v in 0..V {
                    let lanes = v * D::Float::LEN;
                    let (at, channel) = (at(p + q) + lanes, channel + lanes);
                    let mut value = values[q][v].add(add.values(at, channel, D::Float::LEN));
                    if let Some(second) = second {
                        value = value.add(second.values(at, channel, D::Float::LEN));
                    }
                    values[q][v] = value.add(zero[v]);
                }
            }
            D::Float::store_clamped_u8(values, [to.add(at(p)), to.add(at(p + 1))]);
        }
    }
}
