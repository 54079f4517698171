//! Learning from texts: classes, numbers, tags and answers, masked words, the next token, text to text.
//!
//! A `Lesson` says what one objective makes of its data: examples, drawn anew for every epoch where
//! chance is part of it, and the numbers of a validation. [`Texts`] is the task that all of them share: order,
//! batches, inputs, the loop of a validation.

mod answers;
mod classes;
mod entities;
mod lesson;
mod masked;
mod next_token;
mod pairs;
mod rated;
mod running;
mod spans;
mod squad;
mod tags;
mod task;
mod tied;

pub use answers::answers;
pub use classes::classes;
pub use lesson::Reading;
pub use masked::masked_words;
pub use next_token::next_token;
pub use pairs::text_to_text;
pub use rated::regression;
pub use spans::span_corruption;
pub use tags::tags;
pub use task::Texts;
