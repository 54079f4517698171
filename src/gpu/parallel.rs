//! Work on all cores that names wgpu's objects: kernels to compile, weights to upload.

use rayon::prelude::*;

use crate::error::Result;

/// What `work` makes of each item, in their order.
pub(super) fn all<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    items.into_par_iter().map(work).collect()
}
