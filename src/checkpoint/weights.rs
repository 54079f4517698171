//! Checkpoints: which files they are made of, which tensors they hold, and their elements.
//!
//! [`Checkpoint::open`] takes a folder or a file and reads headers only, so that a wrong model is
//! refused before anything large is touched. [`Checkpoint::index`] is what a model is built from,
//! [`Checkpoint::read`] what its weights are filled from (see [`crate::checkpoint::materialise`]).
//!
//! Only safetensors are read, single or sharded. Refused, each in its own words: pickles and other
//! formats (`checkpoint::sniff`), damaged or ambiguous headers (`checkpoint::header`), shard
//! paths that leave the folder, a tensor in two shards. Where several files could be meant, none is
//! guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use serde::Deserialize;

use crate::checkpoint::header::Stored;
use crate::checkpoint::overlay::Overlay;
use crate::checkpoint::source::Source;
use crate::checkpoint::{header, sniff};
use crate::error::{Error, Result};
use crate::graph::TensorIndex;
use crate::printable::printable;
use crate::tensor::{HostTensor, Shape};
use crate::textfile;

/// The one name of an unsharded checkpoint in a model folder.
pub const SINGLE: &str = "model.safetensors";

/// The decoder of an image generator in LlamaGen's layout, beside its [`TOKENIZER`].
pub const DECODER: &str = "gpt.safetensors";

/// The image tokenizer in LlamaGen's layout.
pub const TOKENIZER: &str = "vq.safetensors";

/// The name of a sharded checkpoint's index in a model folder.
pub const INDEX: &str = "model.safetensors.index.json";

/// What PyTorch calls the weights in a model folder of its own.
const PICKLE: &str = "pytorch_model.bin";

/// Weights that mean nothing without another model's.
const ADAPTER: &str = "adapter_model.safetensors";

/// Largest index file that is read, in bytes (real ones are below 1 MB).
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Most files one checkpoint may be split into.
const MAX_SHARDS: usize = 10_000;

/// Element types that can serve as weights, for messages.
const READABLE: [&str; 4] = ["F32", "F16", "BF16", "F64"];

/// An opened checkpoint: all headers read and checked, no tensor read yet. Reading needs only a
/// shared reference and may happen from several threads; clones share the files.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(super) name: String,
    pub(super) shards: Vec<Arc<Source>>,
    pub(super) tensors: Arc<BTreeMap<String, (usize, Stored)>>,
    pub(super) index: Arc<TensorIndex>,
    /// What another file changes of it.
    pub(super) overlay: Option<Arc<Overlay>>,
    /// Makes elements that lie in no file.
    pub(super) generator: Option<Generator>,
}

/// Elements of a tensor by its name and dimensions: the same ones every time.
pub(crate) type Generator = fn(&str, &[usize]) -> Vec<f32>;

/// The weight files of a model folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightFiles {
    /// One safetensors file.
    Single(PathBuf),
    /// An index file; its shards lie beside it.
    Sharded(PathBuf),
}

impl Checkpoint {
    /// Opens a folder, a safetensors file, or an index file. `mmap` allows mapping
    /// large files into memory; such a file must not be truncated by others meanwhile (SIGBUS).
    ///
    /// # Errors
    /// [`Error::Model`] naming the file, and the tensor where one is to blame.
    pub fn open(path: &Path, mmap: bool) -> Result<Self> {
        let name = path.display().to_string();
        let metadata = path.metadata().map_err(|e| {
            Error::model(
                &name,
                format!("cannot be opened: {e}"),
                "pass a model folder or a .safetensors file",
            )
        })?;
        let files = if metadata.is_dir() {
            find(path)?
        } else if name.ends_with(".index.json") {
            WeightFiles::Sharded(path.to_owned())
        } else {
            WeightFiles::Single(path.to_owned())
        };
        match files {
            WeightFiles::Single(file) => Self::from_sources(name, vec![Source::open(&file, mmap)?]),
            WeightFiles::Sharded(index) => {
                let map = weight_map(&index)?;
                let folder = index.parent().unwrap_or(Path::new(""));
                let shards: BTreeSet<&String> = map.values().collect();
                let open = |shard: &&String| Source::open(&folder.join(shard.as_str()), mmap);
                let sources = shards.iter().map(open).collect::<Result<Vec<_>>>()?;
                let checkpoint = Self::from_sources(name, sources)?;
                let order: Vec<&String> = shards.into_iter().collect();
                checkpoint.agrees_with(&index, &map, &order)?;
                Ok(checkpoint)
            }
        }
    }

    /// A checkpoint that is part of the program; `name` stands for the file in messages.
    ///
    /// # Errors
    /// [`Error::Model`] if the bytes are not a sound safetensors file.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::from_sources(name.to_owned(), vec![Source::from_memory(name, bytes.into())])
    }

    /// A checkpoint that the caller has read; `name` stands for the file in messages.
    ///
    /// # Errors
    /// [`Error::Model`] if the bytes are not a sound safetensors file.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self> {
        Self::from_sources(name.to_owned(), vec![Source::from_memory(name, bytes.into())])
    }

    /// A checkpoint in no file: tensors by name and dimensions, elements made when they are read.
    pub(crate) fn generated(name: &str, list: Vec<(String, Vec<usize>)>, generator: Generator) -> Self {
        let shards = vec![Arc::new(Source::from_memory(name, [].as_slice().into()))];
        let (mut tensors, mut index, mut at) = (BTreeMap::new(), TensorIndex::new(), 0);
        for (tensor, dims) in list {
            index.extend(Shape::checked(&dims).map(|shape| (tensor.clone(), shape)));
            let end = at + 4 * dims.iter().product::<usize>() as u64;
            tensors.insert(tensor, (0, Stored { dtype: "F32".to_owned(), dims, bytes: at..end }));
            at = end;
        }
        let (tensors, index) = (Arc::new(tensors), Arc::new(index));
        Self { name: name.to_owned(), shards, tensors, index, overlay: None, generator: Some(generator) }
    }

    fn from_sources(name: String, shards: Vec<Source>) -> Result<Self> {
        let mut tensors: BTreeMap<String, (usize, Stored)> = BTreeMap::new();
        let mut index = TensorIndex::new();
        for (i, shard) in shards.iter().enumerate() {
            for (tensor, stored) in header::read(shard)? {
                if let Some((other, _)) = tensors.get(&tensor) {
                    let (tensor, a, b) = (printable(&tensor), shards[*other].name(), shard.name());
                    return Err(Error::model(
                        name,
                        format!("tensor `{tensor}` is in two files, {a} and {b}"),
                        "shards of different checkpoints may be mixed in this folder; pull the model again",
                    ));
                }
                if let Some(shape) = Shape::checked(&stored.dims) {
                    index.insert(tensor.clone(), shape);
                }
                tensors.insert(tensor, (i, stored));
            }
        }
        if tensors.is_empty() {
            return Err(Error::model(name, "holds no tensors at all", "download it again"));
        }
        let shards = shards.into_iter().map(Arc::new).collect();
        let (tensors, index) = (Arc::new(tensors), Arc::new(index));
        Ok(Self { name, shards, tensors, index, overlay: None, generator: None })
    }

    /// Every tensor that the index promises must be in the shard it names.
    fn agrees_with(&self, index: &Path, map: &BTreeMap<String, String>, order: &[&String]) -> Result<()> {
        for (tensor, shard) in map {
            let found = self.tensors.get(tensor).map(|(i, _)| order[*i]);
            if found != Some(shard) {
                let (tensor, shard) = (printable(tensor), printable(shard));
                return Err(Error::model(
                    index.display(),
                    format!("places tensor `{tensor}` in {shard}, which does not hold it"),
                    "the index and the shards belong to different checkpoints; pull the model again",
                ));
            }
        }
        Ok(())
    }

    /// This checkpoint with the tensors of another one, which stand in place of those of the same names.
    pub fn with(&self, other: &Checkpoint) -> Self {
        let mut all = self.clone();
        let (tensors, index) = (Arc::make_mut(&mut all.tensors), Arc::make_mut(&mut all.index));
        for (name, (shard, stored)) in other.tensors.iter() {
            index.remove(name);
            index.extend(other.index.get(name).map(|shape| (name.clone(), *shape)));
            tensors.insert(name.clone(), (self.shards.len() + shard, stored.clone()));
        }
        all.shards.extend(other.shards.iter().cloned());
        all.generator = self.generator.or(other.generator);
        all
    }

    /// This checkpoint's tensors under the names that `renamed` gives, without those that get none.
    pub fn renamed(&self, renamed: &dyn Fn(&str) -> Option<String>) -> Self {
        let tensors = self.tensors.iter().filter_map(|(name, t)| Some((renamed(name)?, t.clone())));
        let index = self.index.iter().filter_map(|(name, shape)| Some((renamed(name)?, *shape)));
        let (tensors, index) = (Arc::new(tensors.collect()), Arc::new(index.collect()));
        Self { tensors, index, ..self.clone() }
    }

    /// The folder or file, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names and shapes of all tensors, whatever their element type. Tensors of more than four
    /// dimensions are left out; asking for one is an error that says so.
    pub fn index(&self) -> &TensorIndex {
        &self.index
    }

    /// One tensor in f32 (exact for every readable type but F64, which is rounded), in its own shape.
    ///
    /// # Errors
    /// [`Error::Model`] if there is no such tensor, its element type cannot be read, it has more
    /// than four dimensions, or the file changed or fails underneath.
    pub fn read(&self, tensor: &str) -> Result<HostTensor> {
        let (shape, values) = self.values(tensor)?;
        Ok(HostTensor::f32(shape, values))
    }

    /// [`Checkpoint::read`] without the tensor around it.
    pub(crate) fn values(&self, tensor: &str) -> Result<(Shape, Vec<f32>)> {
        let (shape, mut values) = self.stored_values(tensor)?;
        self.adapt(tensor, &mut values)?;
        Ok((shape, values))
    }

    fn stored_values(&self, tensor: &str) -> Result<(Shape, Vec<f32>)> {
        let shape = self.readable(tensor)?;
        let (shard, stored) = self.stored(tensor)?;
        if let Some(generator) = self.generator.filter(|_| stored.bytes.end > shard.length()) {
            return Ok((shape, generator(tensor, &stored.dims)));
        }
        // Bounded by the file's length, which the header was checked against.
        let mut out: Vec<f32> = Vec::with_capacity(stored.elements());
        let mut halves: Vec<f16> = Vec::new();
        shard.read(stored.bytes.clone(), |piece| match stored.dtype.as_str() {
            "F32" => out.extend(piece.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))),
            "F64" => out.extend(piece.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
            "BF16" => out.extend(piece.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
            _ => {
                // By the slice, because only whole slices use the processor's own conversion.
                halves.clear();
                halves.extend(piece.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b)));
                let done = out.len();
                out.resize(done + halves.len(), 0.0);
                halves.convert_to_f32_slice(&mut out[done..]);
            }
        })?;
        Ok((shape, out))
    }

    pub(super) fn stored(&self, tensor: &str) -> Result<(&Source, &Stored)> {
        let found =
            self.tensors.get(&*self.resolved(tensor)).map(|(shard, stored)| (&*self.shards[*shard], stored));
        let missing = || format!("tensor `{}` is missing", printable(tensor));
        found.ok_or_else(|| Error::model(&self.name, missing(), "the weights may belong to another model"))
    }

    /// The shape of a tensor that [`Checkpoint::read`] could read, from its header alone.
    ///
    /// # Errors
    /// As [`Checkpoint::read`], except for what only reading shows.
    pub fn readable(&self, tensor: &str) -> Result<Shape> {
        let (shard, stored) = self.stored(tensor)?;
        let file = shard.name();
        let tensor = printable(tensor);
        if !READABLE.contains(&stored.dtype.as_str()) {
            let dtype = printable(&stored.dtype);
            return Err(Error::model(
                file,
                format!("tensor `{tensor}` has elements of type {dtype}, which cannot be weights here"),
                format!(
                    "readable types are {}; take a checkpoint in one of them or convert it",
                    READABLE.join(", ")
                ),
            ));
        }
        Shape::checked(&stored.dims).ok_or_else(|| {
            let what = format!("tensor `{tensor}` has {} dimensions; four is the most", stored.dims.len());
            Error::model(file, what, "this model is not supported")
        })
    }

    /// Whether a tensor of this name exists, of whatever type and rank.
    pub fn contains(&self, tensor: &str) -> bool {
        self.tensors.contains_key(&*self.resolved(tensor))
    }

    /// Element types with the number of tensors of each, most first: `BF16 (198), F32 (2)`.
    pub fn dtype_summary(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, stored) in self.tensors.values() {
            *counts.entry(&stored.dtype).or_default() += 1;
        }
        let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|&(dtype, n)| (std::cmp::Reverse(n), dtype));
        let show = |(dtype, n): &(&str, usize)| format!("{} ({n})", printable(dtype));
        counts.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    /// Size of all tensors' elements, in bytes, as stored.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|(_, t)| t.bytes.end - t.bytes.start).sum()
    }

    /// Number of elements in all tensors of a readable type (so without masks and ids).
    pub fn parameters(&self) -> u64 {
        let weights = self.tensors.values().filter(|(_, t)| READABLE.contains(&t.dtype.as_str()));
        weights.map(|(_, t)| t.elements() as u64).sum()
    }
}

/// The weight files of a model folder: `model.safetensors`, or an index with its shards, or the
/// only `*.safetensors` there is (unless `pytorch_model.bin` lies beside it).
///
/// # Errors
/// [`Error::Model`] if there is none (naming a pickle that is there instead), or if several could
/// be meant (naming them).
pub fn find(folder: &Path) -> Result<WeightFiles> {
    let shown = &folder.display();
    let unreadable = &|e: std::io::Error| Error::model(shown, format!("cannot be listed: {e}"), "");
    let mut safetensors = Vec::new();
    let (mut pickles, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let lower = name.to_ascii_lowercase();
        if lower.ends_with(".safetensors") {
            if lower != ADAPTER {
                safetensors.push(name.to_owned());
            }
        } else if [".bin", ".pt", ".pth", ".ckpt", ".pkl"].iter().any(|e| lower.ends_with(e)) {
            pickles.push(name.to_owned());
        } else {
            others.push(name.to_owned());
        }
    }
    safetensors.sort();
    pickles.sort();
    let single = safetensors.iter().any(|name| name == SINGLE);
    let sharded = folder.join(INDEX).symlink_metadata().is_ok();
    let list = |names: &[String]| names.iter().take(5).map(|n| printable(n)).collect::<Vec<_>>().join(", ");
    match (single, sharded, safetensors.as_slice()) {
        // An index of this one file, as some programs write it.
        (true, true, _) if is_superfluous(folder) => Ok(WeightFiles::Single(folder.join(SINGLE))),
        (true, true, _) => Err(Error::model(
            shown,
            format!("holds both {SINGLE} and {INDEX}"),
            "pass the one that is meant as a file",
        )),
        (true, false, _) => Ok(WeightFiles::Single(folder.join(SINGLE))),
        (false, true, _) => Ok(WeightFiles::Sharded(folder.join(INDEX))),
        (false, false, [only]) if pickles.iter().any(|name| name == PICKLE) => Err(Error::model(
            shown,
            format!("has pickled weights ({PICKLE}), which are never read, and {}", printable(only)),
            format!(
                "if {} is meant, pass it as a file; otherwise {}",
                printable(only),
                sniff::convert(PICKLE)
            ),
        )),
        (false, false, [only]) => Ok(WeightFiles::Single(folder.join(only))),
        (false, false, []) if !pickles.is_empty() => Err(Error::model(
            shown,
            format!("has only pickled weights ({}); pickles can run code and are never read", list(&pickles)),
            sniff::convert(&pickles[0]),
        )),
        (false, false, []) => Err(sniff::without(shown, others)),
        (false, false, several) => Err(Error::model(
            shown,
            format!(
                "has {} safetensors files ({}) and none is called {SINGLE}",
                several.len(),
                list(several)
            ),
            "pass the one that is meant as a file",
        )),
    }
}

/// Whether an index beside [`SINGLE`] names that file alone.
fn is_superfluous(folder: &Path) -> bool {
    shards(&folder.join(INDEX)).is_ok_and(|shards| shards == [SINGLE])
}

/// The shard file names of an index file, each once, in order.
///
/// # Errors
/// [`Error::Model`] if the index cannot be read or names a file outside its folder.
pub fn shards(index: &Path) -> Result<Vec<String>> {
    Ok(weight_map(index)?.into_values().collect::<BTreeSet<_>>().into_iter().collect())
}

/// Tensor to shard file, as an index has it; every file name checked to stay in the folder.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let source = Source::open(index, false)?;
    let bad = |what: String| Error::model(index.display(), what, "pull the model again");
    if source.length() > MAX_INDEX_BYTES {
        return Err(bad(format!("is {} bytes long, too long for an index", source.length())));
    }
    let bytes = source.bytes(0..source.length())?;
    let Index { weight_map } = textfile::json(&bytes)
        .and_then(|json| serde_json::from_value(json).map_err(|e| e.to_string()))
        .map_err(|e| bad(format!("is not a checkpoint index: {e}")))?;
    let files: BTreeSet<&String> = weight_map.values().collect();
    if files.is_empty() || files.len() > MAX_SHARDS {
        return Err(bad(format!("names {} shard files", files.len())));
    }
    for file in files {
        if !is_plain_file_name(file) {
            return Err(bad(format!(
                "names the shard `{}`, which is not a plain file name",
                printable(file)
            )));
        }
    }
    Ok(weight_map)
}

/// Whether a name means a file in this very folder, on every system.
pub(crate) fn is_plain_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.contains(['/', '\\', ':', '\0'])
        && !name.chars().any(char::is_control)
}
