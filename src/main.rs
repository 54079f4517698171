//! The `vit-gpu` program: everything is in [`vit_gpu::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    quiet_mesa();
    vit_gpu::cli::main(std::env::args_os())
}

/// Mesa's device-select layer asks the desktop session which GPU it prefers; where there is no
/// session, as on a server, libwayland complains on standard error about `XDG_RUNTIME_DIR`.
#[expect(unsafe_code, reason = "no other thread exists yet that could read the environment")]
fn quiet_mesa() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
