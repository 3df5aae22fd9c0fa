//! A checkpoint as an ONNX model, for other runtimes.
//!
//! Folded at one tuning it is a chain of `Conv` and `LeakyRelu`. Without a tuning the graph has a
//! second input, `tuning`, and mixes the banks itself: the knobs stay live in any runtime that
//! convolves with computed kernels.

mod graph;
mod knobs;

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use candle_core::Tensor;
use prost::Message as _;
use tunableconv::atomic_file;
use tunableconv::checkpoint::Checkpoint;
use tunableconv::frame::{CHANNELS, MAX_SIDE, Range};
use tunableconv::net::Net;
use tunableconv::nn::{Activation, FoldedConv2d, FoldedLayer, Link};
use tunableconv::tuning::Tuning;

use crate::onnx::{self, Attribute, Dimension, FLOAT, UINT8};
use graph::Builder;
use knobs::Knobs;

/// Version of the operators used.
pub const OPSET: i64 = 17;

const IR_VERSION: i64 = 8;

/// What the exported model reads and writes; sizes are (width, height).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// `x`, the net's input, to `y`, input plus residual, not clipped: f32, `[N, 6, H, W]` as
    /// [`tunableconv::frame`] defines. With a size (that of the tensor, half the luma size) N is 1
    /// and the shape is fixed; without, it is free.
    Tensor(Option<(usize, usize)>),
    /// `luma`, `u`, `v` to `luma_out`, `u_out`, `v_out`: planes of code values, u8,
    /// `[1, 1, H, W]` and `[1, 1, H/2, W/2]`.
    Planes {
        /// Luma size in pixels, both sides even.
        size: (usize, usize),
        /// Range of the code values.
        range: Range,
    },
}

impl Form {
    fn validate(&self) -> anyhow::Result<()> {
        let (Form::Tensor(Some(size)) | Form::Planes { size, .. }) = *self else { return Ok(()) };
        let (width, height) = size;
        ensure!(
            (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height),
            "size {width}x{height}, expected 1x1 to {MAX_SIDE}x{MAX_SIDE}"
        );
        ensure!(
            matches!(self, Form::Tensor(_)) || (width % 2 == 0 && height % 2 == 0),
            "planes of {width}x{height}: an exported model takes even widths and heights only; pad them \
             to {}x{}",
            width.next_multiple_of(2),
            height.next_multiple_of(2)
        );
        Ok(())
    }
}

/// Writes the model that [`model`] makes to `path`, whole or not at all.
///
/// # Errors
/// As [`model`], or naming the file.
pub fn export(
    checkpoint: &Checkpoint,
    tuning: Option<&Tuning>,
    form: Form,
    path: &Path,
) -> anyhow::Result<()> {
    let bytes = model(checkpoint, tuning, form)?.encode_to_vec();
    atomic_file::write(path, |file| file.write_all(&bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The ONNX model of `checkpoint`: folded at `tuning`, or with ω as the input `tuning`, f32
/// `[1, p]`.
///
/// # Errors
/// A size that the form does not take; a tuning made for another net.
pub fn model(
    checkpoint: &Checkpoint,
    tuning: Option<&Tuning>,
    form: Form,
) -> anyhow::Result<onnx::Model> {
    form.validate()?;
    checkpoint.metadata.architecture.io().check_yuv420("exported graphs")?;
    let space = &checkpoint.metadata.tuning;
    let net = Net::new(checkpoint, &candle_core::Device::Cpu)?;
    // Geometry and activation of a layer are the same at every tuning.
    let anywhere = space.default_tuning()?;
    let folded = net.fold(tuning.unwrap_or(&anywhere))?.into_chain()?;

    let mut builder = Builder::default();
    let boundary = builder.begin(form);
    let knobs = match tuning {
        Some(_) => None,
        None => Some(Knobs::new(&mut builder, checkpoint)),
    };
    let names = layer_names(checkpoint);
    ensure!(names.len() == folded.layers.len(), "the net has layers without a bank");
    let mut edges = vec![boundary.x.clone()];
    for (index, (name, layer)) in names.iter().zip(&folded.layers).enumerate() {
        let y = builder.convolution(name, &layer.conv, knobs.as_ref(), &edges[index])?;
        let sum = builder.link(name, layer.link, &y, &edges);
        let is_last_inner = index + 2 == names.len();
        let bounded = builder.bounded(name, layer, knobs.as_ref(), sum, is_last_inner)?;
        edges.push(bounded);
    }
    builder.end(form, &boundary, &edges[names.len()]);
    Ok(onnx::Model {
        ir_version: IR_VERSION,
        producer_name: "tunableconv".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: String::new(),
        graph: Some(onnx::Graph { name: "tunableconv".into(), ..builder.graph }),
        opset_import: vec![onnx::OperatorSetId { domain: Some(String::new()), version: OPSET }],
        metadata_props: metadata(checkpoint, tuning, form)?,
    })
}

/// What the file says of itself: ranges of the parameters, and where the weights come from.
fn metadata(
    checkpoint: &Checkpoint,
    tuning: Option<&Tuning>,
    form: Form,
) -> anyhow::Result<Vec<onnx::StringStringEntry>> {
    let space = &checkpoint.metadata.tuning;
    let mut entries = Vec::new();
    let mut entry = |key: String, value: String| {
        entries.push(onnx::StringStringEntry { key, value });
    };
    entry("parameters".into(), space.names());
    entry("domain".into(), format!("{:?}", space.domain).to_lowercase());
    for p in &space.parameters {
        let range = format!("{}..{} (default {})", p.minimum, p.maximum, p.default);
        entry(format!("parameter.{}", p.name), format!("{range}  {}", p.blurb));
    }
    if let Some(tuning) = tuning {
        let values: Vec<String> = (space.parameters.iter().zip(tuning.values()))
            .map(|(p, v)| format!("{}={v}", p.name))
            .collect();
        entry("tuning".into(), values.join(","));
    }
    if let Form::Planes { range, .. } = form {
        entry("range".into(), format!("{range:?}").to_lowercase());
    }
    entry("provenance".into(), serde_json::to_string(&checkpoint.metadata.provenance)?);
    Ok(entries)
}

/// The names of the layers, first to last.
fn layer_names(checkpoint: &Checkpoint) -> Vec<String> {
    let is_bank = |name: &str| {
        name.strip_suffix(".weight").filter(|n| !n.ends_with(".mlp")).map(String::from)
    };
    checkpoint.metadata.tensors().iter().filter_map(|spec| is_bank(&spec.name)).collect()
}

/// The values where the net meets the model's inputs.
struct Boundary {
    /// The net's input.
    x: String,
    /// The six channels as code values (planes only).
    codes: String,
    /// Code values from 0 to 1 of each channel (planes only).
    spans: String,
}

impl Builder {
    /// Declares the inputs and makes the net's input from them.
    fn begin(&mut self, form: Form) -> Boundary {
        let Form::Planes { size: (width, height), range } = form else {
            self.input("x", FLOAT, &tensor_dims(form), "Y00 Y01 Y10 Y11 U V, normalised");
            return Boundary { x: "x".into(), codes: String::new(), spans: String::new() };
        };
        for (name, divisor) in [("luma", 1), ("u", 2), ("v", 2)] {
            let dims = [1, 1, height / divisor, width / divisor].map(Dimension::fixed);
            self.input(name, UINT8, &dims, "code values");
        }
        let [luma, u, v] = ["luma", "u", "v"].map(|name| {
            let to_float = [Attribute::int("to", FLOAT as usize)];
            self.node("Cast", &format!("{name}_codes"), &[name], &to_float)
        });
        let blocks = [Attribute::int("blocksize", 2)];
        let luma = self.node("SpaceToDepth", "luma_blocks", &[&luma], &blocks);
        let codes = self.node("Concat", "codes", &[&luma, &u, &v], &[Attribute::int("axis", 1)]);
        let (luma, chroma) = (range.luma(8), range.chroma(8));
        let per_channel = |of: fn((f32, f32)) -> f32| {
            let mut values = [of(luma); CHANNELS];
            values[4..].fill(of(chroma));
            values
        };
        let blacks = self.floats("blacks", &[1, CHANNELS, 1, 1], &per_channel(|(black, _)| black));
        let spans = self.floats("spans", &[1, CHANNELS, 1, 1], &per_channel(|(_, span)| span));
        let above = self.node("Sub", "above_black", &[&codes, &blacks], &[]);
        let x = self.node("Div", "x", &[&above, &spans], &[]);
        Boundary { x, codes, spans }
    }

    /// Adds the net's residual to its input and declares the outputs.
    fn end(&mut self, form: Form, boundary: &Boundary, residual: &str) {
        let Form::Planes { size: (width, height), .. } = form else {
            self.node("Add", "y", &[&boundary.x, residual], &[]);
            self.output("y", FLOAT, &tensor_dims(form), "x plus residual, not clipped");
            return;
        };
        let scaled = self.node("Mul", "residual_codes", &[residual, &boundary.spans], &[]);
        let sum = self.node("Add", "sum", &[&boundary.codes, &scaled], &[]);
        let rounded = self.node("Round", "rounded", &[&sum], &[]);
        let (zero, full) = (self.floats("zero", &[], &[0.0]), self.floats("full", &[], &[255.0]));
        let clipped = self.node("Clip", "clipped", &[&rounded, &zero, &full], &[]);

        let parts = self.integers("parts", &[4, 1, 1]);
        self.node("Split", "luma_clipped", &[&clipped, &parts], &[Attribute::int("axis", 1)]);
        let split = self.graph.node.last_mut().expect("just added");
        split.output.extend(["u_clipped".into(), "v_clipped".into()]);
        let blocks = [Attribute::int("blocksize", 2), Attribute::string("mode", "DCR")];
        let luma = self.node("DepthToSpace", "luma_whole", &["luma_clipped"], &blocks);
        let planes =
            [("luma_out", luma.as_str(), 1), ("u_out", "u_clipped", 2), ("v_out", "v_clipped", 2)];
        for (name, from, divisor) in planes {
            self.node("Cast", name, &[from], &[Attribute::int("to", UINT8 as usize)]);
            let dims = [1, 1, height / divisor, width / divisor].map(Dimension::fixed);
            self.output(name, UINT8, &dims, "code values");
        }
    }

    /// One convolution of the net with its activation.
    fn convolution(
        &mut self,
        name: &str,
        layer: &FoldedConv2d,
        knobs: Option<&Knobs<'_>>,
        x: &str,
    ) -> anyhow::Result<String> {
        let dims = &layer.weight.dims()[1..];
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let mut inputs = vec![x.to_string()];
        if let Some(knobs) = knobs {
            let kernels = knobs.bank(&weight_name).map_or(0, |(bank, _)| bank[1]);
            let coefficients = knobs.coefficients(self, name, kernels)?;
            inputs.push(knobs.mixed(self, &weight_name, &coefficients, dims)?);
            if layer.bias.is_some() {
                inputs.push(knobs.mixed(self, &bias_name, &coefficients, &dims[..1])?);
            }
        } else {
            let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
            inputs.push(self.floats(&weight_name, dims, &values(&layer.weight)?));
            if let Some(bias) = &layer.bias {
                inputs.push(self.floats(&bias_name, &dims[..1], &values(bias)?));
            }
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let geometry = layer.geometry;
        let attributes = [
            Attribute::ints("kernel_shape", &dims[2..]),
            Attribute::ints("strides", &[geometry.stride; 2]),
            Attribute::ints("pads", &[geometry.padding; 4]),
            Attribute::ints("dilations", &[geometry.dilation; 2]),
            Attribute::int("group", geometry.groups),
        ];
        let y = self.node("Conv", &format!("{name}.conv"), &inputs, &attributes);
        Ok(match layer.activation {
            Activation::None => y,
            Activation::LeakyRelu(slope) => {
                let slope = [Attribute::float("alpha", slope)];
                self.node("LeakyRelu", &format!("{name}.activated"), &[&y], &slope)
            }
            Activation::PRelu => anyhow::bail!("layer `{name}`: PReLU is not exported"),
        })
    }

    /// A layer's output, shuffled, with edges added that it is cropped to.
    fn link(&mut self, name: &str, link: Link, y: &str, edges: &[String]) -> String {
        let mut y = y.to_owned();
        if link.shuffle > 1 {
            let shuffle =
                [Attribute::int("blocksize", link.shuffle), Attribute::string("mode", "CRD")];
            y = self.node("DepthToSpace", &format!("{name}.shuffled"), &[&y], &shuffle);
        }
        for (index, added) in link.add.into_iter().flatten().map(|edge| &edges[edge]).enumerate() {
            // Cropped once, it stays so.
            if link.shuffle > 1 && index == 0 {
                let shape = self.node("Shape", &format!("{name}.size"), &[added], &[]);
                let all = self.integers(&format!("{name}.begin"), &[0; 4]);
                y = self.node("Slice", &format!("{name}.cropped"), &[&y, &all, &shape], &[]);
            }
            let nth = if index == 0 { "" } else { "2" };
            y = self.node("Add", &format!("{name}.sum{nth}"), &[&y, added], &[]);
        }
        y
    }

    /// A layer's output within its bounds.
    fn bounded(
        &mut self,
        name: &str,
        layer: &FoldedLayer,
        knobs: Option<&Knobs<'_>>,
        y: String,
        is_last_inner: bool,
    ) -> anyhow::Result<String> {
        let Some(bounds) = &layer.bounds else { return Ok(y) };
        let channels = bounds[0].elem_count();
        let [low, high] = match knobs {
            Some(knobs) => knobs.bounds(self, name, channels, is_last_inner)?,
            None => {
                let shape = [1, channels, 1, 1];
                let [low, high] = bounds.each_ref().map(|b| b.flatten_all()?.to_vec1::<f32>());
                [
                    self.floats(&format!("{name}.low"), &shape, &low?),
                    self.floats(&format!("{name}.high"), &shape, &high?),
                ]
            }
        };
        let above = self.node("Max", &format!("{name}.above"), &[&y, &low], &[]);
        Ok(self.node("Min", &format!("{name}.out"), &[&above, &high], &[]))
    }
}

fn tensor_dims(form: Form) -> [Dimension; 4] {
    let channels = Dimension::fixed(CHANNELS);
    match form {
        Form::Tensor(Some((width, height))) => {
            [Dimension::fixed(1), channels, Dimension::fixed(height), Dimension::fixed(width)]
        }
        _ => [Dimension::named("N"), channels, Dimension::named("H"), Dimension::named("W")],
    }
}
