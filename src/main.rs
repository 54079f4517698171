//! The `vit-gpu` program: everything is in [`vit_gpu::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    vit_gpu::cli::main(std::env::args_os())
}
