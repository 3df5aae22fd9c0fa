//! Chains of convolutions from ONNX files, as published upscalers and denoisers come: checkpoints without a
//! parameter, which [`crate::import_dni`] makes tunable two by two.
//!
//! Taken are Conv, Relu, LeakyRelu, PRelu, DepthToSpace, sums with earlier outputs, a constant factor, and the
//! input enlarged by repeating pixels that is added last. Everything else is refused by the name of its node.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use prost::Message as _;
use prost::bytes::Bytes;
use tunableconv::checkpoint::{Architecture, Checkpoint, Metadata, Provenance};
use tunableconv::nn::{Activation, Colour, Mode, PhiConfig, PlainConfig, PlainLayer};
use tunableconv::tuning::{Domain, TuningSpace};

use crate::onnx::{Attribute, FLOAT, Graph, Model, Node, Tensor};

/// The net of a file's bytes; `name` says in messages which.
///
/// # Errors
/// A file that is no ONNX model, or a net that is no such chain on RGB or luma; names the node or tensor.
pub fn import(name: &str, file: Bytes) -> anyhow::Result<Checkpoint> {
    let read = || {
        let model = Model::decode(file).context("not an ONNX model")?;
        Reader::read(&model.graph.context("not an ONNX model: it has no graph")?)
    };
    let (config, tensors) = read().with_context(|| name.to_owned())?;
    let architecture = Architecture::Plain(config);
    architecture.validate().with_context(|| name.to_owned())?;
    let provenance = Provenance {
        recipe: format!("imported from {name}"),
        crate_version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    };
    let tuning = TuningSpace { domain: Domain::Box, parameters: vec![] };
    let metadata = Metadata { architecture, tuning, provenance, calibration: None };
    Ok(Checkpoint { metadata, tensors })
}

/// Passes on what it reads.
const IDENTITY: &str = "Identity";

/// What a value of the graph is.
#[derive(Clone, Copy)]
enum Value<'g> {
    /// The input of the chain, 0, or the output of a layer, as [`PlainLayer::add`] counts.
    Edge(usize),
    /// The input, so many times as wide and high.
    Enlarged(usize),
    Constant(&'g Tensor),
}

/// A chain on its way out of a graph.
struct Reader<'g> {
    /// That of the input, by the channels of the first kernels.
    colour: Colour,
    values: BTreeMap<&'g str, Value<'g>>,
    /// What passes a value on under another name, and the first name that it had.
    first_names: BTreeMap<&'g str, &'g str>,
    /// How often each value is read, by its first name.
    uses: BTreeMap<&'g str, usize>,
    /// First name of what the graph gives.
    output: &'g str,
    layers: Vec<PlainLayer>,
    tensors: BTreeMap<String, Vec<f32>>,
    /// Of the enlarged input, once it was added.
    enlarged: Option<usize>,
}

impl<'g> Reader<'g> {
    fn read(graph: &'g Graph) -> anyhow::Result<(PlainConfig, BTreeMap<String, Vec<f32>>)> {
        let mut values: BTreeMap<&str, Value<'_>> = BTreeMap::new();
        for tensor in &graph.initializer {
            values.insert(&tensor.name, Value::Constant(tensor));
        }
        let mut inputs = graph.input.iter().filter(|i| !values.contains_key(i.name.as_str()));
        let (Some(input), None) = (inputs.next(), inputs.next()) else {
            bail!("a graph with other than one input");
        };
        values.insert(&input.name, Value::Edge(0));
        let mut first_names: BTreeMap<&str, &str> = BTreeMap::new();
        for node in graph.node.iter().filter(|node| node.op_type == IDENTITY) {
            let input = node.input(0)?;
            let first = first_names.get(input).copied().unwrap_or(input);
            first_names.insert(node.output_name(), first);
        }
        let first = |name: &'g str| first_names.get(name).copied().unwrap_or(name);
        let mut uses = BTreeMap::new();
        let outputs = graph.output.iter().map(|output| output.name.as_str());
        let readers = graph.node.iter().filter(|node| node.op_type != IDENTITY);
        let reads = readers.flat_map(|node| node.input.iter().map(String::as_str));
        reads.chain(outputs).for_each(|name| *uses.entry(first(name)).or_insert(0) += 1);
        let [output] = &graph.output[..] else { bail!("a graph with other than one output") };
        let mut reader = Self {
            colour: Colour::Rgb,
            values,
            output: first(&output.name),
            first_names,
            uses,
            layers: vec![],
            tensors: BTreeMap::new(),
            enlarged: None,
        };
        for node in &graph.node {
            let said = || format!("node `{}` ({})", node.output_name(), node.op_type);
            let value = reader.node(node).with_context(said)?;
            reader.values.insert(node.output_name(), value);
        }
        reader.check_last(reader.output).context("the output of the graph")?;
        let scale = reader.layers.iter().map(|layer| layer.shuffle).product();
        if let Some(enlarged) = reader.enlarged {
            ensure!(
                enlarged == scale,
                "the net is ×{scale}, the input that it adds to ×{enlarged}"
            );
        }
        let phi = PhiConfig { mode: Mode::Multilinear, expand: 1 };
        let (colour, residual) = (reader.colour, reader.enlarged.is_some());
        Ok((PlainConfig { colour, scale, residual, layers: reader.layers, phi }, reader.tensors))
    }

    /// Takes in a node; returns what its output is.
    fn node(&mut self, node: &'g Node) -> anyhow::Result<Value<'g>> {
        match node.op_type.as_str() {
            "Constant" => {
                let tensor = node.attribute("value").and_then(|value| value.t.as_ref());
                return Ok(Value::Constant(tensor.context("a constant that is no tensor")?));
            }
            IDENTITY => return self.value(node, 0),
            "Conv" => self.conv(node)?,
            "Relu" => self.activate(node, Activation::LeakyRelu(0.0))?,
            "LeakyRelu" => {
                let slope = node.attribute("alpha").and_then(|alpha| alpha.f).unwrap_or(0.01);
                self.activate(node, Activation::LeakyRelu(slope))?;
            }
            "PRelu" => self.prelu(node)?,
            "DepthToSpace" => self.shuffle(node)?,
            "Add" => self.add(node)?,
            "Mul" => self.scale(node)?,
            "Resize" | "Upsample" => return self.enlarge(node),
            "Clip" => self.clip(node)?,
            _ => bail!(
                "not taken: chains are of Conv, Relu, LeakyRelu, PRelu, DepthToSpace, Add, Mul by a constant, \
                 and an input that is resized to nearest pixels"
            ),
        }
        Ok(Value::Edge(self.layers.len()))
    }

    fn value(&self, node: &Node, index: usize) -> anyhow::Result<Value<'g>> {
        let name = node.input(index)?;
        self.values.get(name).copied().with_context(|| format!("its input `{name}` is not known"))
    }

    /// A tensor of f32 that does not depend on the input.
    fn constant(&self, node: &Node, index: usize) -> anyhow::Result<&'g Tensor> {
        match self.value(node, index)? {
            Value::Constant(tensor) => Ok(tensor),
            _ => bail!("its input `{}` is computed, expected a constant", node.input(index)?),
        }
    }

    /// Whether a value is what was computed last.
    fn check_last(&self, name: &str) -> anyhow::Result<()> {
        match self.values.get(name) {
            Some(Value::Edge(edge)) if *edge == self.layers.len() => Ok(()),
            _ => bail!("`{name}` is not what was computed last: the net is no chain"),
        }
    }

    /// Whether a value is read once, under whatever name.
    fn check_only(&self, name: &str) -> anyhow::Result<()> {
        let first = self.first_names.get(name).copied().unwrap_or(name);
        ensure!(self.uses.get(first) == Some(&1), "`{name}` is read elsewhere as well");
        Ok(())
    }

    /// The layer whose output a node changes before anything else reads it.
    fn changed(&mut self, node: &Node, index: usize) -> anyhow::Result<&mut PlainLayer> {
        let name = node.input(index)?;
        self.check_last(name)?;
        self.check_only(name)?;
        let layer = self.layers.last_mut().context("the input itself, before any layer")?;
        ensure!(layer.add.is_empty() && self.enlarged.is_none(), "a sum, expected a convolution");
        Ok(layer)
    }

    fn conv(&mut self, node: &Node) -> anyhow::Result<()> {
        self.check_last(node.input(0)?)?;
        ensure!(self.enlarged.is_none(), "something follows the sum with the enlarged input");
        let tensor = self.constant(node, 1)?;
        let [c_out, inputs, height, width] = tensor.shape()?[..] else {
            bail!("tensor `{}`: expected [C_out, C_in, K, K]", tensor.name);
        };
        if self.layers.is_empty() && inputs == 1 {
            self.colour = Colour::Luma;
        }
        let c_in = self.channels();
        ensure!(
            inputs == c_in && height == width,
            "tensor `{}`: [{c_out}, {inputs}, {height}, {width}], expected [C_out, {c_in}, K, K]",
            tensor.name
        );
        for (name, each, expected) in [
            ("strides", 1, "stride 1"),
            ("dilations", 1, "no dilation"),
            ("pads", width / 2, "as much padding as keeps the size"),
        ] {
            let is_same = node.attribute("auto_pad").is_some_and(|pad| pad.is("SAME_UPPER"));
            let values = node.attribute(name).map_or(&[][..], |of| &of.ints);
            let default = if name == "pads" && !is_same { 0 } else { each };
            let all = values.iter().all(|value| *value == each as i64);
            ensure!(
                all && (!values.is_empty() || default == each),
                "{name} {values:?}, expected {expected}"
            );
        }
        let groups = node.attribute("group").and_then(|group| group.i).unwrap_or(1);
        ensure!(groups == 1, "{groups} groups, expected 1");
        let name = self.layer_name(&tensor.name);
        self.tensors.insert(format!("{name}.weight"), tensor.floats()?);
        let bias = node.input.get(2).is_some_and(|name| !name.is_empty());
        if bias {
            let values = self.constant(node, 2)?.floats()?;
            ensure!(values.len() == c_out, "{} biases for {c_out} channels", values.len());
            self.tensors.insert(format!("{name}.bias"), values);
        }
        let layer = PlainLayer::new(name, width, c_out, Activation::None);
        self.layers.push(PlainLayer { bias, ..layer });
        Ok(())
    }

    /// Channels of what was computed last.
    fn channels(&self) -> usize {
        let colours = if self.colour == Colour::Luma { 1 } else { 3 };
        self.layers.last().map_or(colours, |layer| layer.channels / layer.shuffle.pow(2))
    }

    /// As its kernels are named, where that is a name of one layer alone.
    fn layer_name(&self, tensor: &str) -> String {
        let name = tensor.strip_suffix("weight").unwrap_or(tensor).trim_end_matches(['.', '_']);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_free = self.layers.iter().all(|layer| layer.name != name);
        match !name.is_empty() && name.chars().all(is_plain) && is_free {
            true => name.to_owned(),
            false => format!("layer.{}", self.layers.len()),
        }
    }

    fn activate(&mut self, node: &Node, activation: Activation) -> anyhow::Result<()> {
        let layer = self.changed(node, 0)?;
        ensure!(layer.activation == Activation::None, "a second activation");
        ensure!(layer.shuffle == 1 || activation != Activation::PRelu, "slopes after a shuffle");
        layer.activation = activation;
        Ok(())
    }

    fn prelu(&mut self, node: &Node) -> anyhow::Result<()> {
        let tensor = self.constant(node, 1)?;
        let (shape, slopes) = (tensor.shape()?, tensor.floats()?);
        // Of other shapes they would be for rows or columns.
        ensure!(
            slopes.len() == 1 || matches!(shape[..], [_, 1, 1] | [1, _, 1, 1]),
            "tensor `{}`: slopes {shape:?}, expected [C, 1, 1]",
            tensor.name
        );
        self.activate(node, Activation::PRelu)?;
        let Some(PlainLayer { name, channels, .. }) = self.layers.last() else { return Ok(()) };
        let slopes = match slopes[..] {
            [slope] => vec![slope; *channels],
            _ => slopes,
        };
        ensure!(slopes.len() == *channels, "{} slopes for {channels} channels", slopes.len());
        self.tensors.insert(format!("{name}.slope"), slopes);
        Ok(())
    }

    fn shuffle(&mut self, node: &Node) -> anyhow::Result<()> {
        let by = node.attribute("blocksize").and_then(|size| size.i).unwrap_or_default();
        let by = usize::try_from(by).unwrap_or_default();
        let columns_first = !node.attribute("mode").is_some_and(|mode| mode.is("CRD"));
        let layer = self.changed(node, 0)?;
        let channels = layer.channels;
        ensure!(layer.shuffle == 1, "a second shuffle");
        ensure!(
            (1..=4).contains(&by) && channels.is_multiple_of(by * by),
            "{by} of {channels} channels"
        );
        layer.shuffle = by;
        let name = layer.name.clone();
        if columns_first {
            // Depth, column, row: pixels of a square are whole groups of channels.
            let groups = channels / (by * by);
            let from = |to: usize| to % (by * by) * groups + to / (by * by);
            for suffix in ["weight", "bias", "slope"] {
                if let Some(values) = self.tensors.get_mut(&format!("{name}.{suffix}")) {
                    let each = values.len() / channels;
                    let rows = (0..channels).flat_map(|to| &values[from(to) * each..][..each]);
                    *values = rows.copied().collect();
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, node: &Node) -> anyhow::Result<()> {
        let last = self.layers.len();
        let values = [self.value(node, 0)?, self.value(node, 1)?];
        let (index, other) = match values {
            [Value::Edge(a), b] if a == last && !matches!(b, Value::Edge(b) if b == last) => (0, b),
            [a, Value::Edge(b)] if b == last && !matches!(a, Value::Edge(a) if a == last) => (1, a),
            _ => bail!("neither of the two is what was computed last: the net is no chain"),
        };
        self.check_only(node.input(index)?)?;
        ensure!(self.enlarged.is_none(), "something follows the sum with the enlarged input");
        let layer = self.layers.last_mut().context("a sum before any layer")?;
        match other {
            Value::Edge(edge) => {
                ensure!(layer.add.len() < 2, "a third sum");
                layer.add.push(edge);
            }
            Value::Enlarged(scale) => self.enlarged = Some(scale),
            Value::Constant(_) => bail!("a constant is added"),
        }
        Ok(())
    }

    /// A constant factor goes into the weights.
    fn scale(&mut self, node: &Node) -> anyhow::Result<()> {
        let index = usize::from(matches!(self.value(node, 0)?, Value::Constant(_)));
        let factor = self.constant(node, 1 - index)?.floats()?;
        let [factor] = factor[..] else { bail!("{} factors, expected 1", factor.len()) };
        let layer = self.changed(node, index)?;
        let linear = layer.activation == Activation::None;
        ensure!(factor.is_finite() && (linear || factor > 0.0), "a factor of {factor}");
        let name = layer.name.clone();
        for suffix in ["weight", "bias"] {
            let values = self.tensors.get_mut(&format!("{name}.{suffix}"));
            values.into_iter().flatten().for_each(|value| *value *= factor);
        }
        Ok(())
    }

    /// Pictures end at 0 and 1 anyway.
    fn clip(&self, node: &Node) -> anyhow::Result<()> {
        self.check_last(node.input(0)?)?;
        ensure!(node.output_name() == self.output, "before the end: activations are not clipped");
        for (index, name, expected) in [(1, "min", 0.0), (2, "max", 1.0)] {
            let bound = match (node.attribute(name), node.input(index)) {
                (Some(attribute), _) => attribute.f,
                (None, Ok(_)) => self.constant(node, index)?.floats()?.first().copied(),
                (None, Err(_)) => None,
            };
            ensure!(bound == Some(expected), "{name} {bound:?}, expected {expected}");
        }
        Ok(())
    }

    fn enlarge(&mut self, node: &Node) -> anyhow::Result<Value<'g>> {
        ensure!(matches!(self.value(node, 0)?, Value::Edge(0)), "of something else than the input");
        let word = |name: &str| node.attribute(name).and_then(|of| of.s.as_deref()).unwrap_or(b"");
        ensure!(word("mode") == b"nearest", "mode {:?}, expected nearest", text(word("mode")));
        let (place, nearest) = (word("coordinate_transformation_mode"), word("nearest_mode"));
        // Whole factors then repeat pixels.
        let repeats = match place {
            b"" | b"half_pixel" | b"pytorch_half_pixel" if node.op_type == "Resize" => {
                nearest.is_empty() || nearest.starts_with(b"round_prefer")
            }
            b"" => true,
            b"asymmetric" | b"tf_half_pixel_for_nn" => nearest == b"floor",
            _ => false,
        };
        ensure!(repeats, "{:?} {:?} does not repeat pixels", text(place), text(nearest));
        let scales = match node.attribute("scales") {
            Some(scales) => scales.floats.clone(),
            None => {
                let index = if node.op_type == "Resize" { 2 } else { 1 };
                self.constant(node, index).context("its scales")?.floats()?
            }
        };
        match scales[..] {
            [1.0, 1.0, down, across] if down == across && (1.0..=4.0).contains(&down) => {
                ensure!(down.fract() == 0.0, "scales {scales:?}, expected whole numbers");
                Ok(Value::Enlarged(down as usize))
            }
            _ => bail!("scales {scales:?}, expected 1, 1 and the same twice, up to 4"),
        }
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

impl Node {
    fn output_name(&self) -> &str {
        self.output.first().map_or("", String::as_str)
    }

    fn input(&self, index: usize) -> anyhow::Result<&str> {
        let input = self.input.get(index).map(String::as_str).filter(|name| !name.is_empty());
        input.with_context(|| format!("input {index} is missing"))
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }
}

impl Attribute {
    /// Whether it is this word.
    fn is(&self, word: &str) -> bool {
        self.s.as_deref() == Some(word.as_bytes())
    }
}

impl Tensor {
    fn shape(&self) -> anyhow::Result<Vec<usize>> {
        let dims = self.dims.iter().map(|&dim| usize::try_from(dim));
        dims.collect::<Result<_, _>>().with_context(|| format!("tensor `{}`: its shape", self.name))
    }

    /// Its elements.
    fn floats(&self) -> anyhow::Result<Vec<f32>> {
        let Self { name, data_type, data_location, .. } = self;
        ensure!(
            *data_type == FLOAT,
            "tensor `{name}`: element type {data_type}, expected f32 ({FLOAT})"
        );
        ensure!(*data_location == 0, "tensor `{name}`: its elements are in another file");
        let (shape, bytes) = (self.shape()?, self.raw_data.as_deref().unwrap_or_default());
        let len = shape.iter().try_fold(1usize, |len, &dim| len.checked_mul(dim));
        let values = match self.float_data.is_empty() {
            true => {
                ensure!(bytes.len().is_multiple_of(4), "tensor `{name}`: {} bytes", bytes.len());
                bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
            false => self.float_data.clone(),
        };
        ensure!(
            len == Some(values.len()),
            "tensor `{name}`: {} elements for {shape:?}",
            values.len()
        );
        let bad = values.iter().find(|value| !value.is_finite());
        ensure!(bad.is_none(), "tensor `{name}`: holds {}", bad.copied().unwrap_or_default());
        Ok(values)
    }
}
