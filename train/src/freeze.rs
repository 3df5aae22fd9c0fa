//! An ablation: all layers but the last fixed at one tuning, so that only the last one tunes.

use anyhow::{Context as _, ensure};
use tunableconv::checkpoint::{Architecture, Checkpoint};
use tunableconv::nn::Mode;
use tunableconv::tuning::Tuning;

/// Fixes every mixing layer at `tuning`: a = W ω + c becomes the constant W ω₀ + c.
///
/// # Errors
/// A net whose inner layers mix in another way.
pub fn freeze_inner_layers(checkpoint: &mut Checkpoint, tuning: &Tuning) -> anyhow::Result<()> {
    let Architecture::Video(config) = &checkpoint.metadata.architecture;
    ensure!(
        config.phi.mode == Mode::Mlp,
        "only nets with phi mode \"mlp\" can be frozen, this one has {:?}",
        config.phi.mode
    );
    let omega = tuning.values();
    let weights: Vec<String> =
        checkpoint.tensors.keys().filter(|name| name.ends_with("mlp.weight")).cloned().collect();
    for name in weights {
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
    // Its ranges were those of the net as it was.
    checkpoint.metadata.calibration = None;
    checkpoint.tensors.retain(|name, _| !name.ends_with(".activations"));
    Ok(())
}
