//! An ablation: all layers but the last fixed at one tuning, so that only the last one tunes.

use anyhow::{Context as _, bail};
use tunableconv::checkpoint::{Architecture, Checkpoint};
use tunableconv::nn::Mode;
use tunableconv::tuning::Tuning;

/// Fixes every mixing layer but the last at `tuning`: with an affine φ a = W ω + c becomes the constant
/// W ω₀ + c, with a multilinear one the kernels of all corners become their mixture there.
///
/// # Errors
/// A net whose inner layers mix in another way.
pub fn freeze_inner_layers(checkpoint: &mut Checkpoint, tuning: &Tuning) -> anyhow::Result<()> {
    let Architecture::Video(config) = &checkpoint.metadata.architecture;
    match config.phi.mode {
        Mode::Mlp => freeze_affine(checkpoint, tuning)?,
        Mode::Multilinear => freeze_corners(checkpoint, tuning)?,
        mode => bail!("nets with phi mode {mode:?} have no inner layers to freeze"),
    }
    // Its ranges were those of the net as it was.
    checkpoint.metadata.calibration = None;
    checkpoint.tensors.retain(|name, _| !name.ends_with(".activations"));
    Ok(())
}

fn freeze_affine(checkpoint: &mut Checkpoint, tuning: &Tuning) -> anyhow::Result<()> {
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
    Ok(())
}

fn freeze_corners(checkpoint: &mut Checkpoint, tuning: &Tuning) -> anyhow::Result<()> {
    let omega = tuning.values();
    let weight = |corner: usize| -> f32 {
        let on = |j: usize| corner >> j & 1 == 1;
        omega.iter().enumerate().map(|(j, w)| if on(j) { *w } else { 1.0 - w }).product()
    };
    let mixture: Vec<f32> = (0..1 << omega.len()).map(weight).collect();
    for spec in checkpoint.metadata.tensors() {
        // `[1, corners, …]`; the last layer has a kernel for each parameter.
        if spec.shape.get(1) != Some(&mixture.len()) {
            continue;
        }
        let bank = checkpoint.tensors.get_mut(&spec.name).with_context(|| spec.name.clone())?;
        let each = bank.len() / mixture.len();
        let mixed: Vec<f32> = (0..each)
            .map(|i| mixture.iter().zip(bank.chunks_exact(each)).map(|(w, k)| w * k[i]).sum())
            .collect();
        bank.chunks_exact_mut(each).for_each(|kernel| kernel.copy_from_slice(&mixed));
    }
    Ok(())
}
