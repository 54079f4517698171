//! Vision Transformers as Hugging Face stores them, a file a family.

pub(crate) mod beit;
pub(crate) mod clip;
pub(crate) mod deit;
pub(crate) mod dinov2;
pub(crate) mod dinov3;
pub(crate) mod siglip;
pub(crate) mod siglip2;
pub(crate) mod vit;
pub(crate) mod vit_mae;
