//! What a checkpoint says of itself, for people.

use std::fmt::Write as _;

use tunableconv::checkpoint::{Checkpoint, DataSet, Metadata};
use tunableconv::nn::{Colour, Reach};

/// What a net is: its kind and sizes, how its kernels are mixed, what it costs.
pub fn describe_net(metadata: &Metadata) -> [String; 3] {
    let phi = metadata.architecture.phi();
    let banks = metadata.architecture.tensors(metadata.tuning.len());
    let numbers: usize = banks.iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
    let pixels = match metadata.architecture.io().colour {
        // The chain's pixels are 2×2 of luma.
        Colour::Yuv420 => 4.0,
        Colour::Rgb | Colour::Luma => 1.0,
    };
    let macs = metadata.architecture.macs() / pixels / 1000.0;
    [
        metadata.architecture.describe(),
        format!("{:?}, expand {}", phi.mode, phi.expand).to_lowercase(),
        format!("{macs:.1} kMAC per pixel once folded, {numbers} numbers in the banks"),
    ]
}

/// A data set: its name, its licence, how much of it was read.
pub fn describe_set(set: &DataSet) -> String {
    let count = set.count.map_or_else(String::new, |count| format!(", {count} read"));
    format!("{} ({}){count}", set.name, set.licence)
}

/// A table of a checkpoint's net, parameters, provenance and tensors.
pub fn describe(checkpoint: &Checkpoint) -> String {
    let metadata = &checkpoint.metadata;
    let io = metadata.architecture.io();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    for (name, value) in ["net", "mixing", "cost"].into_iter().zip(describe_net(metadata)) {
        line(name, value);
    }
    let reach = match io.reach {
        Reach::Pixels(reach) => format!("{reach} pixels"),
        Reach::Means(reach) => format!("{reach} pixels, and means over the frame"),
    };
    line("reach", format!("{reach}, scale ×{}", io.scale));
    line("domain", format!("{:?}", metadata.tuning.domain).to_lowercase());
    for p in &metadata.tuning.parameters {
        line(&p.name, format!("{}..{} (default {})  {}", p.minimum, p.maximum, p.default, p.blurb));
    }
    let from = &metadata.provenance;
    line("recipe", format!("{}, seed {}, {} steps", from.recipe, from.seed, from.steps));
    line("made by", format!("tunableconv-train {}", from.crate_version));
    for set in &from.data {
        line("data", describe_set(set));
    }
    for degradation in &from.degradations {
        line("undoes", degradation.to_string());
    }
    if let Some(parent) = &from.parent {
        line("parent", parent.clone());
    }
    line("weights", checkpoint.weights_hash());
    line(
        "calibration",
        metadata.calibration.as_ref().map_or_else(
            || "none: int8 needs `tunableconv-train calibrate`".into(),
            |from| {
                let bounds = if from.bounds { ", clamped in every precision" } else { "" };
                format!("{}, {} images, quantile {}{bounds}", from.data, from.images, from.quantile)
            },
        ),
    );
    for spec in metadata.tensors() {
        let values = checkpoint.tensors.get(&spec.name).map_or(&[][..], Vec::as_slice);
        let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        let rms = (squares / values.len().max(1) as f64).sqrt();
        line("tensor", format!("{:<20}{:?}  rms {rms:.4}", spec.name, spec.shape));
    }
    text
}
