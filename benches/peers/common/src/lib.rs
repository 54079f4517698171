//! What every peer written in Rust shares: the protocol that `compare.py` speaks.
//!
//! A peer is started as `PROGRAM MODEL_FOLDER INPUT.safetensors LOGITS.safetensors`. It loads the
//! model, runs it once, writes the logits and prints `peer ready JSON`. Then each line `run` on
//! standard input is answered by `peer SECONDS CPU_SECONDS`: one forward pass from pixels in the
//! host's memory to logits in the host's memory, by the wall clock and by the processor time of all
//! the process's threads. At the end of input it leaves. Lines that do not begin with `peer ` are an
//! engine's own chatter.
//!
//! The input file holds one tensor `image`, (B,3,H,W) f32; the logits file one tensor `logits`,
//! (B,V) f32.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Anything that can go wrong; the process ends with it.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the command line names.
pub struct Job {
    /// Folder with `config.json` and `model.safetensors`, in Hugging Face's layout and names.
    pub model: PathBuf,
    /// (B,3,H,W).
    pub shape: [usize; 4],
    /// The pixels, row-major.
    pub image: Vec<f32>,
    /// Where the logits go.
    pub logits: PathBuf,
}

impl Job {
    /// Reads the command line and the input file.
    pub fn from_args() -> Result<Self> {
        let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
        let [model, input, logits] = <[PathBuf; 3]>::try_from(args)
            .map_err(|_| "three arguments: MODEL_FOLDER INPUT.safetensors LOGITS.safetensors")?;
        let (shape, image) = read_tensor(&std::fs::read(&input)?, "image")?;
        let shape = shape.try_into().map_err(|_| "the image is not of rank 4")?;
        Ok(Self { model, shape, image, logits })
    }

    /// The file of weights.
    pub fn weights(&self) -> PathBuf {
        self.model.join("model.safetensors")
    }

    /// Runs once, writes the logits, reports, and then runs as often as it is told to.
    ///
    /// `about` is a JSON object: engine, version, device, settings.
    pub fn serve(&self, about: &str, mut forward: impl FnMut() -> Result<Vec<f32>>) -> Result<()> {
        let start = Instant::now();
        let logits = forward()?;
        let first = start.elapsed().as_secs_f64();
        let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = vec![self.shape[0], logits.len() / self.shape[0]];
        let view = TensorView::new(Dtype::F32, shape, &bytes)?;
        safetensors::serialize_to_file([("logits", view)], None, &self.logits)?;
        let mut out = std::io::stdout();
        writeln!(out, "peer ready {{\"first_s\": {first:.3}, {}", about.trim_start_matches('{'))?;
        out.flush()?;
        for line in std::io::stdin().lock().lines() {
            if line? != "run" {
                return Err("the only command is `run`".into());
            }
            let (start, cpu_start) = (Instant::now(), cpu_seconds());
            let logits = forward()?;
            let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu_start);
            std::hint::black_box(logits);
            writeln!(out, "peer {seconds:.6} {cpu:.6}")?;
            out.flush()?;
        }
        Ok(())
    }
}

/// Processor time of this process so far, over all its threads.
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// All tensors of a checkpoint as f32: name, shape, values.
pub fn read_weights(path: &Path) -> Result<Vec<(String, Vec<usize>, Vec<f32>)>> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    file.names()
        .into_iter()
        .map(|name| {
            let (shape, values) = floats(&file.tensor(name)?)?;
            Ok((name.to_owned(), shape, values))
        })
        .collect()
}

fn read_tensor(bytes: &[u8], name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    floats(&SafeTensors::deserialize(bytes)?.tensor(name)?)
}

fn floats(view: &TensorView) -> Result<(Vec<usize>, Vec<f32>)> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("a tensor is {:?}, only F32 is compared", view.dtype()).into());
    }
    let words = view.data().chunks_exact(4);
    let values = words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok((view.shape().to_vec(), values))
}
