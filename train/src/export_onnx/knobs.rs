//! Kernels and ranges as functions of ω.

use anyhow::{Context as _, bail};
use tunableconv::checkpoint::{Checkpoint, STATISTICS};
use tunableconv::engine::LAST_MARGIN;
use tunableconv::tuning::{Domain, Parameter, TuningSpace};

use super::graph::Builder;
use super::layer_names;
use crate::onnx::{Attribute, Dimension, FLOAT};

/// ω as an input, and the banks it mixes.
pub(super) struct Knobs<'c> {
    checkpoint: &'c Checkpoint,
    p: usize,
    omega: String,
    /// Multilinear coefficients, which all layers share.
    corners: Option<String>,
    /// Weight of each corner of the domain in the ranges of activations, where they are clamped.
    ranges: Option<String>,
}

impl<'c> Knobs<'c> {
    pub(super) fn new(builder: &mut Builder, checkpoint: &'c Checkpoint) -> Self {
        let space = &checkpoint.metadata.tuning;
        let (p, omega) = (space.len(), String::from("tuning"));
        builder.input(&omega, FLOAT, &[1, p].map(Dimension::fixed), &space.names());
        let mut knobs = Self { checkpoint, p, omega, corners: None, ranges: None };
        // A bank of another length than p without an affine map has a kernel per corner.
        let is_multilinear = layer_names(checkpoint).iter().any(|name| {
            !knobs.has(&format!("{name}.mlp.weight"))
                && knobs.bank(&format!("{name}.weight")).is_some_and(|(dims, _)| dims[1] != p)
        });
        if is_multilinear {
            knobs.corners = Some(builder.corners("", &knobs.omega, p));
        }
        let is_bounded = checkpoint.metadata.calibration.as_ref().is_some_and(|c| c.bounds);
        knobs.ranges = is_bounded.then(|| match space.domain {
            Domain::Simplex => knobs.omega.clone(),
            Domain::Box => {
                let unit = builder.unit(&knobs.omega, space);
                builder.corners("ranges.", &unit, p)
            }
        });
        knobs
    }

    fn has(&self, name: &str) -> bool {
        self.checkpoint.tensors.contains_key(name)
    }

    /// Shape and values of a tensor of the checkpoint.
    pub(super) fn bank(&self, name: &str) -> Option<(Vec<usize>, &'c [f32])> {
        let spec = self.checkpoint.metadata.tensors().into_iter().find(|spec| spec.name == name)?;
        Some((spec.shape, self.checkpoint.tensors.get(name)?))
    }

    /// a = φ(ω), `[1, P]`, of one layer.
    pub(super) fn coefficients(
        &self,
        builder: &mut Builder,
        layer: &str,
        kernels: usize,
    ) -> anyhow::Result<String> {
        let (weight, bias) = (format!("{layer}.mlp.weight"), format!("{layer}.mlp.bias"));
        if let (Some((dims, w)), Some((_, c))) = (self.bank(&weight), self.bank(&bias)) {
            builder.floats(&weight, &dims, w);
            builder.floats(&bias, &[kernels], c);
            let inputs = [self.omega.as_str(), &weight, &bias];
            let transposed = [Attribute::int("transB", 1)];
            return Ok(builder.node(
                "Gemm",
                &format!("{layer}.coefficients"),
                &inputs,
                &transposed,
            ));
        }
        match &self.corners {
            _ if kernels == self.p => Ok(self.omega.clone()),
            Some(corners) if kernels == 1 << self.p => Ok(corners.clone()),
            _ => bail!("layer `{layer}` has {kernels} kernels for {} parameters", self.p),
        }
    }

    /// Lowest and highest values of a layer's channels, `[1, C, 1, 1]`.
    pub(super) fn bounds(
        &self,
        builder: &mut Builder,
        layer: &str,
        channels: usize,
        is_last_inner: bool,
    ) -> anyhow::Result<[String; 2]> {
        let name = format!("{layer}.activations");
        let values = self.checkpoint.tensors.get(&name);
        let (values, weights) =
            values.zip(self.ranges.as_ref()).with_context(|| format!("no tensor `{name}`"))?;
        let shape = builder.integers(&format!("{name}.shape"), &[1, channels, 1, 1]);
        let zero = builder.floats(&format!("{name}.zero"), &[], &[0.0]);
        let mut end = |end: &str, index: usize, op: &str| {
            let of_corners: Vec<f32> =
                values.chunks_exact(STATISTICS).map(|range| range[index]).collect();
            let dims = [of_corners.len() / channels, channels];
            let corners = builder.floats(&format!("{layer}.{end}.corners"), &dims, &of_corners);
            let sum = format!("{layer}.{end}.mixed");
            let sum = builder.node("MatMul", &sum, &[weights, &corners], &[]);
            let sum =
                builder.node("Reshape", &format!("{layer}.{end}.shaped"), &[&sum, &shape], &[]);
            builder.node(op, &format!("{layer}.{end}"), &[&sum, &zero], &[])
        };
        let (low, high) = (end("low", 0, "Min"), end("high", 1, "Max"));
        if !is_last_inner {
            return Ok([low, high]);
        }
        let margin = builder.floats(&format!("{layer}.margin"), &[], &[LAST_MARGIN]);
        let below = builder.node("Neg", &format!("{layer}.below"), &[&low], &[]);
        let largest = builder.node("Max", &format!("{layer}.largest"), &[&below, &high], &[]);
        let high = builder.node("Mul", &format!("{layer}.upper"), &[&largest, &margin], &[]);
        let low = builder.node("Neg", &format!("{layer}.lower"), &[&high], &[]);
        Ok([low, high])
    }

    /// The bank `name` mixed by `coefficients`, in the shape `dims`.
    pub(super) fn mixed(
        &self,
        builder: &mut Builder,
        name: &str,
        coefficients: &str,
        dims: &[usize],
    ) -> anyhow::Result<String> {
        let (bank, values) = self.bank(name).with_context(|| format!("no tensor `{name}`"))?;
        let flat = format!("{name}.bank");
        builder.floats(&flat, &[bank[1], values.len() / bank[1]], values);
        let shape = builder.integers(&format!("{name}.shape"), dims);
        let sum = builder.node("MatMul", &format!("{name}.mixed"), &[coefficients, &flat], &[]);
        Ok(builder.node("Reshape", name, &[&sum, &shape], &[]))
    }
}

impl Builder {
    /// ω with every parameter from 0 to 1.
    fn unit(&mut self, omega: &str, space: &TuningSpace) -> String {
        let of = |value: fn(&Parameter) -> f64| -> Vec<f32> {
            space.parameters.iter().map(|parameter| value(parameter) as f32).collect()
        };
        let dims = [1, space.len()];
        let least = self.floats("minima", &dims, &of(|p| p.minimum));
        let width = self.floats("widths", &dims, &of(|p| p.maximum - p.minimum));
        let above = self.node("Sub", "above_minima", &[omega, &least], &[]);
        self.node("Div", "unit", &[&above, &width], &[])
    }

    /// Π_j (ω_j if corner c has bit j, else 1 − ω_j), `[1, 2^p]`: parameter j doubles the
    /// products of those before it. Names begin with `prefix`.
    fn corners(&mut self, prefix: &str, omega: &str, p: usize) -> String {
        let one = self.floats(&format!("{prefix}one"), &[], &[1.0]);
        let rest = self.node("Sub", &format!("{prefix}rest"), &[&one, omega], &[]);
        let along = [Attribute::int("axis", 1)];
        let mut products: Option<String> = None;
        for j in 0..p {
            let index = self.integers(&format!("{prefix}index.{j}"), &[j]);
            let mut side = |name: &str, from: &str| {
                let factor =
                    self.node("Gather", &format!("{prefix}{name}.{j}"), &[from, &index], &along);
                match &products {
                    None => factor,
                    Some(before) => self.node(
                        "Mul",
                        &format!("{prefix}{name}.product.{j}"),
                        &[before, &factor],
                        &[],
                    ),
                }
            };
            let (low, high) = (side("low", &rest), side("high", omega));
            products =
                Some(self.node("Concat", &format!("{prefix}corners.{j}"), &[&low, &high], &along));
        }
        products.expect("a net has at least one parameter")
    }
}
