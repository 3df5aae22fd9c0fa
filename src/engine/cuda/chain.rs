//! A chain of convolutions in the memory of a [`Gpu`]: weights, and the edges between layers.

use candle_core::Tensor;

use super::conv::{Conv, Shape, Storage, bytes_of, stored};
use super::gpu::{Address, Gpu};
use crate::nn::{Activation, ChainLayer, FoldedChain, FoldedLayer};
use crate::{Error, Result};

/// Largest kernel and stride whose tile fits into the memory that every GPU's blocks can share.
const LARGEST: (usize, usize) = (5, 2);

/// What belongs to a layer.
struct Layer {
    shape: Shape,
    /// Edges that are added to its output.
    add: [Option<usize>; 2],
    /// Slope of what is below zero, unless each channel has its own.
    slope: Option<f32>,
    weights: Address,
    /// Biases, slopes, lowest and highest values, one after the other, as many numbers each.
    numbers: Address,
    /// Whether there are lowest and highest values.
    is_bounded: bool,
}

/// Width and height.
type Size = (usize, usize);

/// See the module documentation. Edges are what layers read and write: the input, then the output of each layer.
pub(super) struct GpuChain<G: Gpu> {
    gpu: G,
    storage: Storage,
    layers: Vec<Layer>,
    /// Channels of each edge.
    channels: Vec<usize>,
    /// Sizes of the edges.
    sizes: Vec<Size>,
    /// What edges lie in, and which of them each does; channels that only fill eight are never written, and stay 0.
    places: Vec<Address>,
    place_of: Vec<usize>,
    /// Width and most rows of the first edge that there is room for.
    room: Size,
}

impl<G: Gpu> GpuChain<G> {
    /// Room for a chain's weights.
    ///
    /// # Errors
    /// [`Error::Config`] for layers of another kind than the kernels are for; what `gpu` says.
    pub(super) fn new(chain: &[ChainLayer], storage: Storage, gpu: G) -> Result<Self> {
        let channels = chain.first().map(|first| first.c_in).into_iter();
        let channels = channels.chain(chain.iter().map(ChainLayer::channels)).collect();
        let mut own = Self {
            gpu,
            storage,
            channels,
            layers: vec![],
            sizes: vec![],
            places: vec![],
            place_of: vec![],
            room: (0, 0),
        };
        for layer in chain {
            let layer = own.layer(layer)?;
            own.layers.push(layer);
        }
        Ok(own)
    }

    fn layer(&mut self, layer: &ChainLayer) -> Result<Layer> {
        let ChainLayer { name, kernel, c_in, c_out, config, link, .. } = layer;
        let (kernel, stride) = (*kernel, config.stride);
        let fits = kernel % 2 == 1 && kernel <= LARGEST.0 && stride <= LARGEST.1;
        if !fits || config.padding != kernel / 2 || config.dilation != 1 || config.groups != 1 {
            return Err(Error::Config(format!(
                "layer `{name}`: kernel {kernel}, stride {stride}, expected an odd kernel up to {}, a stride up to {}, \
                 and no dilation or groups",
                LARGEST.0, LARGEST.1
            )));
        }
        let slope = match config.activation {
            Activation::None => Some(1.0),
            Activation::LeakyRelu(slope) => Some(slope),
            Activation::PRelu => None,
        };
        let shape = Shape { kernel, stride, c_in: *c_in, c_out: *c_out, shuffle: link.shuffle };
        let weights = shape.pack(self.storage, &vec![0.0; c_out * c_in * kernel * kernel]).len();
        let numbers = 4 * shape.padded_outputs() * size_of::<f32>();
        let weights = self.gpu.allocate(weights)?;
        let numbers = self.gpu.allocate(numbers).inspect_err(|_| self.gpu.free(weights))?;
        Ok(Layer { shape, add: link.add, slope, weights, numbers, is_bounded: false })
    }

    /// Takes the weights of a folded net.
    ///
    /// # Errors
    /// What `gpu` says.
    pub(super) fn set(&mut self, folded: &FoldedChain) -> Result<()> {
        for (layer, folded) in self.layers.iter_mut().zip(&folded.layers) {
            let weights = values(&folded.conv.weight)?;
            self.gpu.write(layer.weights, &layer.shape.pack(self.storage, &weights))?;
            let numbers = layer.numbers(folded)?;
            self.gpu.write(layer.numbers, &Storage::F32.encode(numbers.into_iter()))?;
            layer.is_bounded = folded.bounds.is_some();
        }
        Ok(())
    }

    /// Makes the first edge so wide and high, and room for all of them; where there is enough, no more is taken.
    ///
    /// # Errors
    /// There is not so much memory.
    pub(super) fn resize(&mut self, size: Size) -> Result<()> {
        if size.0 != self.room.0 || size.1 > self.room.1 {
            self.clear();
            self.take(size).inspect_err(|_| self.clear())?;
        }
        let mut sizes = std::mem::take(&mut self.sizes);
        self.sizes_from(size, &mut sizes);
        self.sizes = sizes;
        Ok(())
    }

    fn take(&mut self, size: Size) -> Result<()> {
        let (place_of, bytes) = self.shared(size);
        for bytes in bytes {
            let place = self.gpu.allocate(bytes)?;
            self.places.push(place);
        }
        (self.place_of, self.room) = (place_of, size);
        Ok(())
    }

    /// Bytes of all edges whose first is of a size.
    pub(super) fn bytes(&self, size: Size) -> usize {
        self.shared(size).1.into_iter().sum()
    }

    /// Puts into `sizes` those of all edges whose first is of a size.
    fn sizes_from(&self, size: Size, sizes: &mut Vec<Size>) {
        sizes.clear();
        sizes.push(size);
        for (index, layer) in self.layers.iter().enumerate() {
            let (width, height) = sizes[index];
            let made = |len| layer.shape.convolved(len) * layer.shape.shuffle;
            let size = (made(width), made(height));
            sizes.push(layer.add.into_iter().flatten().next().map_or(size, |from| sizes[from]));
        }
    }

    /// Which places edges share whose first is of a size, and the bytes of each place.
    fn shared(&self, size: Size) -> (Vec<usize>, Vec<usize>) {
        let mut sizes = vec![];
        self.sizes_from(size, &mut sizes);
        let kinds: Vec<(Size, usize)> = sizes.into_iter().zip(self.channels.clone()).collect();
        let (mut place_of, mut bytes) = (vec![], vec![]);
        // A place is free again after the last layer that reads it.
        let mut free: Vec<usize> = vec![];
        for (edge, &(size, channels)) in kinds.iter().enumerate() {
            // Halves and f32 never share one.
            let fits = |other: &usize| kinds[*other] == kinds[edge] && edge < self.layers.len();
            let place = match free.iter().position(fits) {
                Some(index) => place_of[free.swap_remove(index)],
                None => {
                    let numbers = size.0 * size.1 * stored(channels);
                    bytes.push(numbers * self.storage_of(edge).bytes());
                    bytes.len() - 1
                }
            };
            place_of.push(place);
            // What the layer that makes this edge is the last to read.
            free.extend((0..edge).filter(|other| self.last_reader(*other) == Some(edge - 1)));
        }
        (place_of, bytes)
    }

    /// The last layer that reads an edge.
    fn last_reader(&self, edge: usize) -> Option<usize> {
        let reads =
            |(index, layer): &(usize, &Layer)| *index == edge || layer.add.contains(&Some(edge));
        let last = self.layers.iter().enumerate().rfind(reads);
        last.map(|(index, _)| index)
    }

    /// What the numbers of an edge are stored as: the last one's in f32.
    pub(super) fn storage_of(&self, edge: usize) -> Storage {
        if edge == self.layers.len() { Storage::F32 } else { self.storage }
    }

    /// Runs all layers on the first edge.
    ///
    /// # Errors
    /// What `gpu` says.
    pub(super) fn run(&mut self) -> Result<()> {
        for index in 0..self.layers.len() {
            let argument = self.argument(index);
            let size = (argument.width as usize, argument.height as usize);
            let (kernel, launch) = self.layers[index].shape.launch(self.storage, size);
            self.gpu.launch(kernel, bytes_of(&argument), launch)?;
        }
        Ok(())
    }

    fn argument(&self, index: usize) -> Conv {
        let layer = &self.layers[index];
        let shape = &layer.shape;
        let (from, to) = (self.sizes[index], self.sizes[index + 1]);
        let part = |index: usize| {
            layer.numbers + (index * shape.padded_outputs() * size_of::<f32>()) as Address
        };
        let bound = |index: usize| if layer.is_bounded { part(index) } else { 0 };
        let as_i32 = |len: usize| len as i32;
        Conv {
            input: self.at(index),
            weights: layer.weights,
            bias: part(0),
            slope: part(1),
            low: bound(2),
            high: bound(3),
            add: layer.add.map(|edge| edge.map_or(0, |edge| self.at(edge))),
            output: self.at(index + 1),
            in_width: as_i32(from.0),
            in_height: as_i32(from.1),
            in_channels: as_i32(stored(self.channels[index])),
            chunks: as_i32(shape.chunks(self.storage)),
            kernel: as_i32(shape.kernel),
            stride: as_i32(shape.stride),
            width: as_i32(shape.convolved(from.0)),
            height: as_i32(shape.convolved(from.1)),
            c_out: as_i32(shape.c_out),
            shuffle: as_i32(shape.shuffle),
            out_width: as_i32(to.0),
            out_height: as_i32(to.1),
            out_channels: as_i32(stored(self.channels[index + 1])),
            is_float: (self.storage_of(index + 1) == Storage::F32).into(),
        }
    }

    /// What it makes of a tensor `[C, H, W]` of this width and height: `[C, H, W]` of the last edge, and its width and
    /// height.
    ///
    /// # Errors
    /// What `gpu` says.
    pub(super) fn tensor(&mut self, x: &[f32], size: Size) -> Result<(Vec<f32>, Size)> {
        self.resize(size)?;
        let (at, channels) = (self.at(0), self.channels[0]);
        let (pixels, step) = (size.0 * size.1, stored(channels));
        let value = |i: usize| {
            let channel = i % step;
            if channel < channels { x[channel * pixels + i / step] } else { 0.0 }
        };
        self.gpu.write(at, &self.storage.encode((0..pixels * step).map(value)))?;
        self.run()?;
        let last = self.layers.len();
        let (channels, size) = (self.channels[last], self.sizes[last]);
        let (pixels, step) = (size.0 * size.1, stored(channels));
        let mut bytes = vec![0; pixels * step * size_of::<f32>()];
        self.gpu.read(self.at(last), &mut bytes)?;
        let value = |i: usize| {
            let at = (i % pixels * step + i / pixels) * size_of::<f32>();
            let number = bytes[at..].first_chunk().expect("inside the edge");
            f32::from_le_bytes(*number)
        };
        Ok(((0..channels * pixels).map(value).collect(), size))
    }

    /// Gives back the edges.
    fn clear(&mut self) {
        for at in self.places.drain(..) {
            self.gpu.free(at);
        }
        self.room = (0, 0);
    }

    fn at(&self, edge: usize) -> Address {
        self.places[self.place_of[edge]]
    }

    /// Where an edge is, and how many numbers a pixel of it has.
    pub(super) fn edge(&self, edge: usize) -> (Address, usize) {
        (self.at(edge), stored(self.channels[edge]))
    }

    /// Edges there are.
    pub(super) fn edges(&self) -> usize {
        self.channels.len()
    }

    /// What it runs on.
    pub(super) fn gpu_ref(&self) -> &G {
        &self.gpu
    }

    /// The same, to be used.
    pub(super) fn gpu(&mut self) -> &mut G {
        &mut self.gpu
    }
}

impl<G: Gpu> Drop for GpuChain<G> {
    fn drop(&mut self) {
        self.clear();
        for layer in &self.layers {
            self.gpu.free(layer.weights);
            self.gpu.free(layer.numbers);
        }
    }
}

impl Layer {
    /// See [`Layer::numbers`], the field.
    fn numbers(&self, folded: &FoldedLayer) -> Result<Vec<f32>> {
        let FoldedLayer { conv, bounds, .. } = folded;
        let Shape { c_out, shuffle, .. } = self.shape;
        let all = self.shape.padded_outputs();
        let mut numbers = vec![0.0; 4 * all];
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
