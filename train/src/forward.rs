//! The net's own output on given tensors: the door for checking this project against any other.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use candle_core::{DType, Device, Tensor};
use tunableconv::atomic_file;
use tunableconv::net::Net;

/// Reads `x`, `[N, C, H, W]`, and, where p is not 0, `omega`, `[N, p]`, both f32, from the safetensors file `input`;
/// writes `y`, what the net makes of them (residual added, not clipped), to `output`.
///
/// `omega` may leave the domain; it must be finite.
///
/// # Errors
/// Names the file and the tensor at fault.
pub fn forward(net: &Net, input: &Path, output: &Path) -> anyhow::Result<()> {
    let tensors = candle_core::safetensors::load(input, &Device::Cpu)
        .with_context(|| format!("{}: not a whole safetensors file", input.display()))?;
    let named = || input.display().to_string();
    let x = tensor(&tensors, "x", 4).with_context(named)?;
    let (n, channels, height, width) = x.dims4()?;
    let p = net.metadata().tuning.len();
    let omega = match p {
        0 => &Tensor::zeros((n, 0), DType::F32, &Device::Cpu)?,
        _ => tensor(&tensors, "omega", 2).with_context(named)?,
    };
    let expected = net.metadata().architecture.io().channels;
    ensure!(
        channels == expected && n * height * width > 0,
        "{}: tensor `x` is {:?}, expected [N, {expected}, H, W], none of them 0",
        input.display(),
        x.dims()
    );
    ensure!(
        omega.dims() == [n, p],
        "{}: tensor `omega` is {:?}, expected [{n}, {p}]: one tuning per sample of `x`",
        input.display(),
        omega.dims()
    );
    let (x, omega) = (x.to_device(net.device())?, omega.to_device(net.device())?);
    let y = net.forward(&x, &omega)?.to_device(&Device::Cpu)?;
    let bytes = safetensors::serialize([("y", &y)], None)?;
    atomic_file::write(output, |file| file.write_all(&bytes))
        .with_context(|| format!("cannot write {}", output.display()))
}

fn tensor<'t>(
    tensors: &'t HashMap<String, Tensor>,
    name: &str,
    rank: usize,
) -> anyhow::Result<&'t Tensor> {
    let Some(tensor) = tensors.get(name) else { bail!("no tensor `{name}`") };
    ensure!(
        tensor.dtype() == DType::F32 && tensor.rank() == rank,
        "tensor `{name}` is {:?} {:?}, expected F32 of rank {rank}",
        tensor.dtype(),
        tensor.dims()
    );
    let sum = tensor.flatten_all()?.to_vec1::<f32>()?;
    ensure!(sum.iter().all(|v| v.is_finite()), "tensor `{name}` has values that are not finite");
    Ok(tensor)
}
