//! An ablation: all layers but the last fixed at one tuning, so that only the last one tunes.

use anyhow::{Context as _, bail};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::nn::{Mode, PhiConfig};
use tunableconv::tuning::{Tuning, corner_weights};

use crate::quantised::range_names;

/// Fixes every mixing layer but the last at `tuning`: with an affine φ a = W ω + c becomes the constant
/// W ω₀ + c, with a multilinear one the kernels of all corners become their mixture there.
///
/// # Errors
/// A net whose inner layers mix in another way.
pub fn freeze_inner_layers(checkpoint: &mut Checkpoint, tuning: &Tuning) -> anyhow::Result<()> {
    match checkpoint.metadata.architecture.phi().mode {
        Mode::Mlp => freeze_affine(checkpoint, tuning)?,
        Mode::Multilinear => freeze_corners(checkpoint, tuning)?,
        mode => bail!("nets with phi mode {mode:?} have no inner layers to freeze"),
    }
    match &checkpoint.metadata.calibration {
        // Activations are clamped to their ranges, those of the tuning.
        Some(calibration) if calibration.bounds => freeze_ranges(checkpoint, tuning),
        _ => {
            // Its ranges were those of the net as it was.
            checkpoint.metadata.calibration = None;
            checkpoint.tensors.retain(|name, _| !name.ends_with(".activations"));
            Ok(())
        }
    }
}

/// The layers that the tuning mixes, without the last one.
fn inner_layers(checkpoint: &Checkpoint) -> Vec<(String, PhiConfig)> {
    let mut layers = checkpoint.metadata.architecture.phis();
    layers.pop();
    layers
}

fn freeze_affine(checkpoint: &mut Checkpoint, tuning: &Tuning) -> anyhow::Result<()> {
    let omega = tuning.values();
    for (layer, _) in inner_layers(checkpoint).into_iter().filter(|(_, phi)| phi.mode == Mode::Mlp)
    {
        let name = format!("{layer}.mlp.weight");
        let weight = checkpoint.tensors.get_mut(&name).context("listed above")?;
        let constant: Vec<f32> = weight
            .chunks_exact(omega.len())
            .map(|row| row.iter().zip(omega).map(|(w, o)| w * o).sum())
            .collect();
        weight.fill(0.0);
        let bias = name.replace("mlp.weight", "mlp.bias");
        let bias = checkpoint.tensors.get_mut(&bias).context("mlp.bias beside mlp.weight")?;
        for (bias, constant) in bias.iter_mut().zip(constant) {
            *bias += constant;
        }
    }
    Ok(())
}

/// Gives all corners the ranges at a tuning.
fn freeze_ranges(checkpoint: &mut Checkpoint, tuning: &Tuning) -> anyhow::Result<()> {
    let space = &checkpoint.metadata.tuning;
    let mut mixture = vec![0.0; space.corner_count()];
    space.corner_weights(tuning.values(), &mut mixture);
    for name in range_names(&checkpoint.metadata).collect::<Vec<_>>() {
        let ranges = checkpoint.tensors.get_mut(&name).with_context(|| name.clone())?;
        give_all_the_mixture(ranges, &mixture);
    }
    Ok(())
}

/// Replaces each of as many equal parts as there are weights by their sum, weighted.
fn give_all_the_mixture(parts: &mut [f32], mixture: &[f32]) {
    let each = parts.len() / mixture.len();
    let at =
        |i: usize| mixture.iter().zip(parts.chunks_exact(each)).map(|(w, part)| w * part[i]).sum();
    let mixed: Vec<f32> = (0..each).map(at).collect();
    parts.chunks_exact_mut(each).for_each(|part| part.copy_from_slice(&mixed));
}

fn freeze_corners(checkpoint: &mut Checkpoint, tuning: &Tuning) -> anyhow::Result<()> {
    // The layers mix by ω itself.
    let mut mixture = vec![0.0; 1 << tuning.values().len()];
    corner_weights(tuning.values(), &mut mixture);
    for (layer, _) in
        inner_layers(checkpoint).into_iter().filter(|(_, phi)| phi.mode == Mode::Multilinear)
    {
        for part in ["weight", "bias", "slope", "data"] {
            if let Some(bank) = checkpoint.tensors.get_mut(&format!("{layer}.{part}")) {
                give_all_the_mixture(bank, &mixture);
            }
        }
    }
    Ok(())
}
