//! The folded weights of a chain: packed on the host, and sent in one piece with what is launched next.

use std::ops::Range;

use candle_core::Tensor;

use super::conv::{Shape, Storage};
use super::gpu::{Address, Gpu, Pinned};
use crate::Result;
use crate::nn::{Activation, ChainLayer, FoldedChain, FoldedLayer};

/// Where each part of a layer's begins, in bytes: what a GPU reads at once never straddles two.
const ALIGNMENT: usize = 256;

/// Biases, slopes, lowest and highest values.
const NUMBERS: usize = 4;

/// What a layer's kernel reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerWeights {
    pub(super) weights: Address,
    pub(super) bias: Address,
    pub(super) slope: Address,
    /// Lowest and highest values, or nowhere.
    pub(super) bounds: [Address; 2],
}

/// See the module documentation.
pub(super) struct Weights {
    storage: Storage,
    layers: Vec<Part>,
    at: Address,
    packed: Pinned,
    bytes: usize,
    is_sent: bool,
}

/// What belongs to a layer.
struct Part {
    shape: Shape,
    /// Slope of what is below zero, unless each channel has its own.
    slope: Option<f32>,
    weights: Range<usize>,
    numbers: Range<usize>,
    is_bounded: bool,
}

impl Weights {
    /// Room for those of all layers, which have these shapes.
    ///
    /// # Errors
    /// There is not so much memory.
    pub(super) fn new(
        chain: &[ChainLayer],
        shapes: &[Shape],
        storage: Storage,
        gpu: &mut impl Gpu,
    ) -> Result<Self> {
        let mut bytes = 0;
        let mut next = |len: usize| {
            let start = bytes;
            bytes = (start + len).next_multiple_of(ALIGNMENT);
            start..start + len
        };
        let parts = chain.iter().zip(shapes).map(|(layer, shape)| Part {
            shape: *shape,
            slope: match layer.config.activation {
                Activation::None => Some(1.0),
                Activation::LeakyRelu(slope) => Some(slope),
                Activation::PRelu => None,
            },
            weights: next(shape.weights(storage) * storage.bytes()),
            numbers: next(NUMBERS * shape.padded_outputs() * Storage::F32.bytes()),
            is_bounded: false,
        });
        let layers = parts.collect();
        let at = gpu.allocate(bytes)?;
        let packed = gpu.pin(bytes).inspect_err(|_| gpu.free(at))?;
        Ok(Self { storage, layers, at, packed, bytes, is_sent: true })
    }

    /// Takes those of a folded net. What was launched before is done, or has been settled.
    ///
    /// # Errors
    /// A tensor that cannot be read; then all stay as they are.
    pub(super) fn set(&mut self, folded: &FoldedChain) -> Result<()> {
        let read = |(part, layer): (&Part, &FoldedLayer)| {
            Ok((values(&layer.conv.weight)?, part.numbers(layer)?))
        };
        let values =
            self.layers.iter().zip(&folded.layers).map(read).collect::<Result<Vec<_>>>()?;
        // SAFETY: what was sent is there, as what was launched with it is done.
        let packed = unsafe { self.packed.part_mut(0..self.bytes) };
        for ((part, (weights, numbers)), layer) in
            self.layers.iter_mut().zip(values).zip(&folded.layers)
        {
            part.shape.pack(self.storage, &weights, &mut packed[part.weights.clone()]);
            Storage::F32.encode(numbers.into_iter(), &mut packed[part.numbers.clone()]);
            part.is_bounded = layer.bounds.is_some();
        }
        self.is_sent = false;
        Ok(())
    }

    /// Begins to send what is new, for what is launched from now on.
    ///
    /// # Errors
    /// What `gpu` says.
    pub(super) fn send(&mut self, gpu: &mut impl Gpu) -> Result<()> {
        if !self.is_sent {
            gpu.send(self.at, &self.packed, 0..self.bytes)?;
            self.is_sent = true;
        }
        Ok(())
    }

    /// Where those of a layer are.
    pub(super) fn layer(&self, index: usize) -> LayerWeights {
        let Part { shape, weights, numbers, is_bounded, .. } = &self.layers[index];
        let at = |offset: usize| self.at + offset as Address;
        let numbers =
            |kind| at(numbers.start + kind * shape.padded_outputs() * Storage::F32.bytes());
        LayerWeights {
            weights: at(weights.start),
            bias: numbers(0),
            slope: numbers(1),
            bounds: [2, 3].map(|kind| if *is_bounded { numbers(kind) } else { 0 }),
        }
    }

    /// Gives back the room.
    pub(super) fn free(&mut self, gpu: &mut impl Gpu) {
        gpu.free(std::mem::take(&mut self.at));
        gpu.unpin(std::mem::take(&mut self.packed));
    }
}

impl Part {
    /// Biases, slopes, lowest and highest values, one after the other, as many each.
    fn numbers(&self, folded: &FoldedLayer) -> Result<Vec<f32>> {
        let FoldedLayer { conv, bounds, .. } = folded;
        let Shape { c_out, shuffle, .. } = self.shape;
        let all = self.shape.padded_outputs();
        let mut numbers = vec![0.0; NUMBERS * all];
        if let Some(bias) = &conv.bias {
            numbers[..c_out].copy_from_slice(&values(bias)?);
        }
        match (&conv.slope, self.slope) {
            (Some(slope), _) => numbers[all..][..c_out].copy_from_slice(&values(slope)?),
            (None, slope) => numbers[all..][..c_out].fill(slope.unwrap_or(1.0)),
        }
        let Some(bounds) = bounds else { return Ok(numbers) };
        for (index, bound) in bounds.iter().enumerate() {
            let bound = values(bound)?;
            // A shuffle makes a square of pixels of so many outputs, one after the other.
            let own = (0..c_out).map(|output| bound[output / shuffle.pow(2)]);
            let to = &mut numbers[(2 + index) * all..][..c_out];
            to.iter_mut().zip(own).for_each(|(to, value)| *to = value);
        }
        Ok(numbers)
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}
