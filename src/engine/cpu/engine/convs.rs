//! The convolutions of a layer: which kernels run them, and their weights.

use crate::engine::cpu::kernels::Level;
use crate::engine::cpu::kernels::aligned::Number;
use crate::engine::cpu::kernels::conv_row::{
    Added, ConvRow, RowKernel, RowShape, choose, f32_kernels, u8_kernels,
};
use crate::engine::cpu::line_buffer::Kind;
use crate::engine::cpu::pipeline::Layer;
use crate::engine::cpu::plan::{ChainSpec, LayerSpec};
use crate::engine::cpu::quant::{INPUT_MAX, LAST_MAX};
use crate::engine::cpu::winograd::WinogradConv;

/// How each edge is stored. In int8 the first layer of a net that reads no 4:2:0 is in f32: it has few channels
/// to read, and no pairs of them.
pub(in crate::engine::cpu) fn edge_kinds(spec: &ChainSpec, int8: bool, level: Level) -> Vec<Kind> {
    let last = spec.layers.len() - 1;
    let kind = |edge: usize| match edge {
        _ if !int8 || edge > last || (edge == 0 && !spec.is_video()) => Kind::F32,
        0 => Kind::I16 { low: -INPUT_MAX, high: INPUT_MAX },
        _ if edge == last => Kind::I16 { low: -LAST_MAX, high: LAST_MAX },
        _ if u8_kernels(level).is_empty() => Kind::I16 { low: 0, high: 255 },
        _ => Kind::U8,
    };
    (0..=spec.layers.len()).map(kind).collect()
}

pub(super) fn row_shape(layer: &LayerSpec, parts: usize) -> RowShape {
    let pixel = layer.c_in / (layer.unshuffle * parts);
    RowShape {
        segments: layer.kernel * layer.unshuffle * parts,
        run: layer.kernel * pixel,
        pixel: layer.stride * pixel,
        c_out: layer.c_out / layer.shuffle,
    }
}

/// Whether a layer of f32 is computed by [`super::winograd`].
pub(super) fn fits_winograd(spec: &ChainSpec, index: usize) -> bool {
    let layer = &spec.layers[index];
    let in_place = layer.kernel == 3 && layer.step() == 1 && layer.shuffle == 1;
    let channels = layer.c_in.is_multiple_of(8) && layer.c_out.is_multiple_of(8);
    index > 0 && in_place && channels
}

fn kernel<X: Number, W: Number>(kernels: &[RowKernel<X, W>], shape: &RowShape) -> RowKernel<X, W> {
    choose(kernels, shape).expect("some kernel has a group of the run's")
}

pub(super) fn winograd_conv(level: Level, layer: &LayerSpec) -> Box<WinogradConv> {
    let LayerSpec { c_in, c_out, slope, .. } = *layer;
    let component = RowShape { segments: 1, run: c_in, pixel: c_in, c_out };
    let kernel = kernel(&f32_kernels(level), &component);
    Box::new(WinogradConv::zeroed(kernel, c_in, c_out, slope.unwrap_or(1.0)))
}

/// One convolution for each row that a shuffle makes of one.
pub(super) fn convs<X: Number, W: Number>(
    kernels: &[RowKernel<X, W>],
    shape: RowShape,
    layer: &LayerSpec,
) -> Vec<ConvRow<X, W>> {
    let kernel = kernel(kernels, &shape);
    let slope = layer.slope.unwrap_or(1.0);
    (0..layer.shuffle).map(|_| ConvRow::zeroed(kernel, shape, slope)).collect()
}

/// Gives a layer slopes of its own, divided among the rows of a shuffle.
pub(super) fn set_slopes(layer: &mut Layer, slopes: &[f32]) {
    fn divide<X, W>(convs: &mut [ConvRow<X, W>], slopes: &[f32]) {
        let channels = slopes.len() / convs.len();
        for (conv, slopes) in convs.iter_mut().zip(slopes.chunks_exact(channels)) {
            conv.slope[..channels].copy_from_slice(slopes);
        }
    }
    match layer {
        Layer::F32(convs) => divide(convs, slopes),
        Layer::I16(convs) => divide(convs, slopes),
        Layer::U8(convs) => divide(convs, slopes),
        Layer::Winograd(conv) => conv.slope_mut().copy_from_slice(slopes),
    }
}

/// Gives a layer of f32 the lowest and highest values of its channels.
pub(super) fn set_bounds(layer: &mut Layer, bounds: impl Iterator<Item = [f32; 2]> + Clone) {
    let set = |[low, high]: [&mut [f32]; 2]| {
        // The columns of a shuffle have the same channels.
        for ((low, high), bounds) in low.iter_mut().zip(high).zip(bounds.clone().cycle()) {
            [*low, *high] = bounds;
        }
    };
    match layer {
        Layer::F32(convs) => convs.iter_mut().for_each(|conv| set(conv.bounds_mut())),
        Layer::Winograd(conv) => set(conv.bounds_mut()),
        Layer::I16(_) | Layer::U8(_) => unreachable!("f32 layers are not integer"),
    }
}

/// Sets how codes that are added, first or second, are read.
pub(super) fn set_added<X, W>(
    convs: &mut [ConvRow<X, W>],
    which: usize,
    added: impl Iterator<Item = (f32, f32)> + Clone,
) {
    for conv in convs {
        let Added { offset, step } = &mut conv.added[which];
        // The columns of a shuffle have the same channels.
        let channels = offset.iter_mut().zip(&mut **step);
        for ((offset, step), (zero, of_code)) in channels.zip(added.clone().cycle()) {
            (*offset, *step) = (-zero, of_code);
        }
    }
}

/// Divides the weights among the rows of a shuffle.
pub(super) fn set<X: Number, W: Number>(
    convs: &mut [ConvRow<X, W>],
    weights: &[W],
    bias: &[f32],
    scale: &[f32],
) {
    let (count, channels) = (convs.len(), bias.len() / convs.len());
    let rows = convs.iter_mut().zip(weights.chunks_exact(weights.len() / count));
    for (index, (conv, weights)) in rows.enumerate() {
        conv.set_weights(weights);
        let of_row = index * channels..(index + 1) * channels;
        conv.bias[..channels].copy_from_slice(&bias[of_row.clone()]);
        if let Some(scale) = scale.get(of_row) {
            conv.scale[..channels].copy_from_slice(scale);
        }
    }
}

/// Whether a chain can be computed in int8.
///
/// # Errors
/// Why not.
pub(super) fn fits_int8(spec: &ChainSpec) -> Result<(), &'static str> {
    let last = spec.layers.len() - 1;
    let mut layers = spec.layers.iter().enumerate();
    if last == 0 || spec.layers[0].shuffle > 1 {
        return Err("the net is one layer, or its first one shuffles, which int8 does not do");
    }
    // Activations, to activations.
    if !layers.all(|(l, layer)| layer.added().all(|from| from != 0 && l != last)) {
        return Err("the net adds its input or to its output, which int8 does not do");
    }
    Ok(())
}
