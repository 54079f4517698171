//! Every op that can be computed in several ways.

use super::{attention, matmul};

/// Every op that can be computed in several ways, and their names.
pub fn variants() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![("matmul", matmul::names()), ("attention", attention::names()), ("conv2d", matmul::conv_names())]
}

/// The text of every kernel that is chosen between: when it changes, measurements are void.
pub fn kernel_text() -> String {
    matmul::kernels().chain(attention::kernels()).flat_map(|k| k.source).map(|(_, text)| *text).collect()
}
