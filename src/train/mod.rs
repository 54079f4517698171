//! Training: a loss put behind a model's forward pass, the backward half and an optimizer behind that, and what
//! runs the whole as one graph, step by step, with the parameters on the device.
//!
//! A model does not know that it is trained. [`objective`] builds its forward pass with a loss; [`parameters`]
//! makes of the weights that are to be trained states that a step may change, under the names and in the shapes
//! of the file; [`crate::graph::differentiate`] writes the gradients; [`recipe`] puts clipping and the
//! optimizer behind; and a [`Trainer`] keeps all of it.
//!
//! A run is a [`Task`] (batches, and how well it is known) that [`fit`] takes through its epochs, and what
//! [`save`] keeps of it on disk. [`ImageClasses`] is the task of telling classes of images apart, [`MaskedImages`]
//! that of painting what is hidden of them, [`DrawnImages`] that of drawing them token by token; [`CaptionedImages`] that of
//! finding the words that are true of them; [`texts`] has those of learning from texts; [`data`] reads and varies what they learn from, [`head`] gives a model new classes, [`scope`]
//! says what of it is trained.

mod contrastive;
pub mod data;
mod drawn;
mod features;
mod feeding;
pub mod fit;
mod found;
mod frozen;
pub mod head;
mod images;
pub mod lora;
mod masked;
mod measure;
pub mod objective;
pub mod parameters;
pub mod recipe;
pub mod save;
mod schedule;
pub mod scope;
pub mod sequences;
pub mod texts;
mod tokens;
mod trainer;

pub use crate::ops::{AdamW, Lion, Sgd};
pub use contrastive::CaptionedImages;
pub use drawn::{Drawing, DrawnImages};
pub use feeding::Feeding;
pub use fit::{Better, Event, Inputs, Metric, Run, Task};
pub use images::ImageClasses;
pub use masked::MaskedImages;
pub use measure::prepare_images;
pub use recipe::{Optimizer, Recipe};
pub use schedule::{Decay, Schedule};
pub use scope::Scope;
pub use texts::{Reading, Texts};
pub use trainer::{Progress, Trainer};
