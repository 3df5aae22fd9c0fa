//! `tunableconv-train`: see [`tunableconv_train`].

mod cli;
mod threads;

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;
use tunableconv_train::tell;
use tunableconv_train::terminal::causes;

/// A training step makes and frees the same large tensors again and again; the system's allocator
/// hands them back to the kernel each time, which costs about a fifth of a step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    threads::settle(cli.threads);
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            tell!("error: {}", causes(&error));
            ExitCode::FAILURE
        }
    }
}
