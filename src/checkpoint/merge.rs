//! A checkpoint and what is laid over it, written as one: the tensors of the base, in their own element types.

use std::path::Path;

use super::weights::Checkpoint;
use super::write::{Content, Entry, Stored, write};
use crate::error::Result;

/// Writes all tensors of a checkpoint, those that an overlay changes as they count: in the element type that the base
/// has for them, rounded once (F64 becomes F32). Tensors that are new keep the adapter's type.
///
/// # Errors
/// As [`write`](super::write::write).
pub fn merge(checkpoint: &Checkpoint, path: &Path) -> Result<()> {
    let names = checkpoint.visible();
    write(path, &names.iter().map(|name| entry(checkpoint, name)).collect::<Vec<_>>())
}

fn entry<'a>(checkpoint: &'a Checkpoint, name: &'a str) -> Entry<'a> {
    let dtype = checkpoint.dtype_beneath(name).filter(|_| checkpoint.change_of(name).is_some());
    let content = match dtype {
        None => Content::Same(checkpoint, name),
        Some("F16") => Content::Read(checkpoint, name, Stored::F16),
        Some("BF16") => Content::Read(checkpoint, name, Stored::BF16),
        Some(_) => Content::Read(checkpoint, name, Stored::F32),
    };
    Entry { name: name.to_owned(), content }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::checkpoint::{LowRank, Overlay};
    use crate::tensor::HostTensor;

    /// W + 0.5·B·A of a bf16 base is rounded once; a tensor in the place of another has its type; others are the same
    /// bytes.
    #[test]
    fn what_is_merged_has_the_types_of_the_base() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.safetensors");
        let w = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let tensor = |dims: &[usize], v: &[f32]| HostTensor::f32(crate::tensor::Shape::new(dims), v.to_vec());
        let entry = |name: &str, t: HostTensor, stored| Entry {
            name: name.to_owned(),
            content: Content::Memory(Cow::Owned(t), stored),
        };
        let all = [
            entry("w.weight", tensor(&[2, 3], &w), Stored::BF16),
            entry("head.weight", tensor(&[1, 2], &[7.0, 8.0]), Stored::F16),
            entry("rest", tensor(&[2], &[0.1, 0.2]), Stored::F16),
        ];
        write(&path, &all).unwrap();
        let base = Checkpoint::open(&path, false).unwrap();
        let named = |name: &str, t: HostTensor| (name.to_owned(), t);
        let adapter = Checkpoint::from_tensors(
            "adapter",
            [
                named("a", tensor(&[1, 3], &[1.0, 0.001, -1.0])),
                named("b", tensor(&[2, 1], &[2.0, 4.0])),
                named("h", tensor(&[2, 2], &[0.1, 0.2, 0.3, 0.4])),
                named("n", tensor(&[1], &[9.0])),
            ],
        )
        .unwrap();
        let low = LowRank { a: "a".into(), b: "b".into(), scale: 0.5, turned: false };
        let overlay = Overlay {
            low_rank: [("w.weight".to_owned(), low)].into(),
            replaced: [("head.weight".to_owned(), "h".to_owned()), ("new".to_owned(), "n".to_owned())].into(),
            ..Overlay::default()
        };
        let adapted = base.overlaid(&adapter, overlay).unwrap();
        let sum = [2.0, 2.001, 2.0, 6.0, 5.002, 4.0];
        assert_eq!(adapted.read("w.weight").unwrap().to_f32()[..], sum);
        assert_eq!(adapted.read("w.base_layer.weight").unwrap().to_f32()[..], w);
        assert_ne!(adapted.fingerprint().unwrap(), base.fingerprint().unwrap());

        let out = folder.path().join("merged.safetensors");
        merge(&adapted, &out).unwrap();
        let merged = Checkpoint::open(&out, false).unwrap();
        let names: Vec<&String> = merged.index().keys().collect();
        assert_eq!(names, ["head.weight", "new", "rest", "w.weight"]);
        assert_eq!(merged.dtype_summary(), "F16 (2), BF16 (1), F32 (1)");
        let rounded = sum.map(|v| half::bf16::from_f32(v).to_f32());
        assert_eq!(merged.read("w.weight").unwrap().to_f32()[..], rounded);
        assert_eq!(merged.index()["head.weight"].dims(), [2, 2]);
        assert_eq!(merged.read("rest").unwrap(), base.read("rest").unwrap());
    }

    #[test]
    fn factors_that_do_not_fit_are_refused() {
        let tensor = |dims: &[usize]| {
            HostTensor::f32(crate::tensor::Shape::new(dims), vec![0.0; dims.iter().product()])
        };
        let base = Checkpoint::from_tensors("base", [("w".to_owned(), tensor(&[4, 6]))]).unwrap();
        for (a, b, turned, fits) in [
            (&[2, 6][..], &[4, 2][..], false, true),
            (&[2, 4], &[6, 2], true, true),
            (&[2, 6], &[4, 2], true, false),
            (&[2, 4], &[6, 2], false, false),
            (&[3, 6], &[4, 2], false, false),
            (&[2, 3, 2], &[4, 2, 1], false, false),
            (&[2], &[4, 2], false, false),
            (&[0, 6], &[4, 0], false, false),
        ] {
            let other = [("a".to_owned(), tensor(a)), ("b".to_owned(), tensor(b))];
            let other = Checkpoint::from_tensors("adapter", other).unwrap();
            let low = LowRank { a: "a".into(), b: "b".into(), scale: 1.0, turned };
            let overlay = Overlay { low_rank: [("w".to_owned(), low)].into(), ..Overlay::default() };
            let laid = base.overlaid(&other, overlay);
            assert_eq!(laid.is_ok(), fits, "{a:?} {b:?} {turned}: {laid:?}");
        }
    }
}
