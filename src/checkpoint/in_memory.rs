//! Checkpoints made of tensors that the caller holds: a model's weights without a file.

use std::collections::BTreeSet;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::tensor::{HostTensor, Shape};

impl Checkpoint {
    /// A checkpoint of tensors that are in memory, stored as f32; `name` stands for the file in messages.
    ///
    /// # Errors
    /// [`Error::Model`] if there are none, or two of one name.
    pub fn from_tensors(name: &str, tensors: impl IntoIterator<Item = (String, HostTensor)>) -> Result<Self> {
        let refused = |what: String| Error::model(name, what, "give each tensor a name of its own");
        let mut seen = BTreeSet::new();
        let mut views = Vec::new();
        let tensors: Vec<(String, Shape, Vec<f32>)> =
            tensors.into_iter().map(|(tensor, t)| (tensor, t.desc().shape, t.to_f32())).collect();
        for (tensor, shape, values) in &tensors {
            if !seen.insert(tensor) {
                return Err(refused(format!("holds two tensors `{tensor}`")));
            }
            let bytes = bytemuck::cast_slice(values);
            let view = TensorView::new(Dtype::F32, shape.dims().to_vec(), bytes);
            views.push((tensor, view.map_err(|e| refused(e.to_string()))?));
        }
        let bytes = safetensors::serialize(views, None).map_err(|e| refused(e.to_string()))?;
        Self::from_bytes(name, bytes)
    }
}
