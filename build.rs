//! Compiles the CUDA kernels to PTX where the feature `cuda` asks for them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What GPUs have that are no older than an A100: tensor cores for halves in products of 16×8×16.
const ARCHITECTURE: &str = "compute_80";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for name in ["NVCC", "CUDA_HOME", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let kernels = Path::new("src/engine/cuda/kernels");
    println!("cargo:rerun-if-changed={}", kernels.display());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let nvcc = nvcc();
    for entry in std::fs::read_dir(kernels).expect("the kernels are part of the sources") {
        let source = entry.expect("a folder that can be read").path();
        if source.extension().is_some_and(|extension| extension == "cu") {
            let name = source.file_stem().expect("a file has a name");
            let ptx = out.join(name).with_extension("ptx");
            compile(&nvcc, &source, &ptx);
        }
    }
}

fn nvcc() -> PathBuf {
    let home = || Some(PathBuf::from(std::env::var_os("CUDA_HOME")?).join("bin/nvcc"));
    std::env::var_os("NVCC").map(PathBuf::from).or_else(home).unwrap_or("nvcc".into())
}

fn compile(nvcc: &Path, source: &Path, ptx: &Path) {
    let output = Command::new(nvcc)
        .args(["--ptx", "-arch", ARCHITECTURE])
        .arg(source)
        .arg("-o")
        .arg(ptx)
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            panic!("{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => panic!(
            "the feature `cuda` needs NVIDIA's compiler, and {} does not run ({error}): `make cuda` fetches it; \
             NVCC or CUDA_HOME say where it is",
            nvcc.display()
        ),
    }
}
