//! A chain of convolutions in the memory of a [`Gpu`]: the edges between layers, and the layers that are run on them.

use super::conv::{Conv, Shape, Storage, bytes_of, stored};
use super::gpu::{Address, Gpu};
use super::weights::{LayerWeights, Weights};
use crate::nn::{ChainLayer, FoldedChain};
use crate::{Error, Result};

/// Largest kernel and stride whose tile fits into the memory that every GPU's blocks can share.
const LARGEST: (usize, usize) = (5, 2);

/// What belongs to a layer.
struct Layer {
    shape: Shape,
    /// Edges that are added to its output.
    add: [Option<usize>; 2],
}

/// Width and height.
type Size = (usize, usize);

/// See the module documentation. Edges are what layers read and write: the input, then the output of each layer.
pub(super) struct GpuChain<G: Gpu> {
    gpu: G,
    storage: Storage,
    layers: Vec<Layer>,
    weights: Weights,
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
    pub(super) fn new(chain: &[ChainLayer], storage: Storage, mut gpu: G) -> Result<Self> {
        let channels = chain.first().map(|first| first.c_in).into_iter();
        let channels = channels.chain(chain.iter().map(ChainLayer::channels)).collect();
        let layers = chain.iter().map(Layer::new).collect::<Result<Vec<_>>>()?;
        let shapes: Vec<Shape> = layers.iter().map(|layer| layer.shape).collect();
        Ok(Self {
            weights: Weights::new(chain, &shapes, storage, &mut gpu)?,
            gpu,
            storage,
            layers,
            channels,
            sizes: vec![],
            places: vec![],
            place_of: vec![],
            room: (0, 0),
        })
    }

    /// Takes the weights of a folded net. They are sent when it runs.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub(super) fn set(&mut self, folded: &FoldedChain) -> Result<()> {
        self.weights.set(folded)
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
            let cropped = layer.add.into_iter().flatten().map(|from| sizes[from]);
            sizes.push(cropped.fold(size, |(w, h), (width, height)| (w.min(width), h.min(height))));
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
        self.weights.send(&mut self.gpu)?;
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
        let LayerWeights { weights, bias, slope, bounds: [low, high] } = self.weights.layer(index);
        let as_i32 = |len: usize| len as i32;
        Conv {
            input: self.at(index),
            weights,
            bias,
            slope,
            low,
            high,
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
            add_width: layer.add.map(|edge| edge.map_or(0, |edge| as_i32(self.sizes[edge].0))),
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
        let mut bytes = vec![0; pixels * step * self.storage.bytes()];
        self.storage.encode((0..pixels * step).map(value), &mut bytes);
        self.gpu.write(at, &bytes)?;
        let last = self.layers.len();
        let (channels, size) = (self.channels[last], self.sizes[last]);
        let (pixels, step) = (size.0 * size.1, stored(channels));
        let mut bytes = vec![0; pixels * step * size_of::<f32>()];
        let made = self.run().and_then(|()| self.gpu.read(self.at(last), &mut bytes));
        made.inspect_err(|_| self.gpu.settle())?;
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
        self.weights.free(&mut self.gpu);
    }
}

impl Layer {
    fn new(layer: &ChainLayer) -> Result<Self> {
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
        let shape = Shape { kernel, stride, c_in: *c_in, c_out: *c_out, shuffle: link.shuffle };
        Ok(Self { shape, add: link.add })
    }
}
