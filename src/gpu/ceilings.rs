//! What an adapter can do at best, measured on it by small programs that do nothing else: bytes
//! copied, multiply-adds, and how long a launch takes that does no work. Data sheets are not
//! consulted: what counts is what a shader reaches through this driver.
//!
//! A measurement takes about a second, so it is kept on disk under adapter, driver and version, in
//! a file that is replaced as a whole and ignored if anything about it is off.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::probe::{Arithmetic, CopyWork, FmaShape};
use super::timer::Timer;
use super::{Gpu, kept};
use crate::error::Result;
use crate::tensor::DType;

/// First words of the file; raised when a measurement changes its meaning.
const MAGIC: &str = "vit-gpu ceilings 1";

/// Nanoseconds that one timed piece of work should take at least, so that starting it is no part;
/// short enough to fit between what else a busy machine does.
const LONG_ENOUGH: f64 = 2e6;
/// Timings of each piece of work; the fastest counts, since what disturbs only ever adds.
const TRIES: usize = 8;

/// The best rates of one adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Bytes read and written a second by a kernel that copies.
    pub kernel_copy: f64,
    /// Bytes read and written a second by the driver's buffer copy, by wall clock.
    pub buffer_copy: f64,
    /// Floating-point operations a second in f32; a multiply-add counts two.
    pub f32: f64,
    /// The same in f16, if the adapter has it.
    pub f16: Option<f64>,
    /// The same by cooperative matrices, if the adapter has them and shaders here use them.
    pub matrix: Option<f64>,
    /// Seconds of a launch that does next to nothing.
    pub launch: f64,
    /// Which clock measured: `GPU timestamps` or `wall clock`.
    pub clock: String,
    /// Seconds that measuring took.
    pub took: f64,
}

impl Ceilings {
    /// Bytes a second of the faster copy: the memory roof.
    pub fn copy(&self) -> f64 {
        self.kernel_copy.max(self.buffer_copy)
    }

    /// The ceilings of the timer's device: those kept in `folder`, else measured now and kept there.
    /// `fresh` measures in any case. True if they were measured.
    ///
    /// # Errors
    /// Device errors; a file that cannot be read or written only costs the next run time.
    pub fn of(timer: &mut Timer, folder: Option<&Path>, fresh: bool) -> Result<(Self, bool)> {
        let key = key(timer);
        let file = folder.map(|folder| file(folder, &key));
        let kept = file.as_ref().filter(|_| !fresh).and_then(|file| kept::read(file));
        if let Some(ceilings) = kept.and_then(|bytes| decode(&bytes, &key)) {
            return Ok((ceilings, false));
        }
        let ceilings = Self::measure(timer)?;
        if let Some(file) = file {
            kept::replace(&file, encode(&ceilings, &key).as_bytes());
        }
        Ok((ceilings, true))
    }

    /// Measures.
    ///
    /// # Errors
    /// Device errors.
    pub fn measure(timer: &mut Timer) -> Result<Self> {
        let begun = timer.now();
        let gpu = timer.gpu().clone();
        gpu.raise_clocks()?;
        let (kernel_copy, buffer_copy) = copies(timer, &gpu)?;
        let f32 = fma(timer, &gpu, DType::F32)?;
        let f16 = if gpu.target.f16 { Some(fma(timer, &gpu, DType::F16)?) } else { None };
        Ok(Self {
            kernel_copy,
            buffer_copy,
            f32,
            f16,
            matrix: matrix(timer, &gpu)?,
            launch: launch(timer, &gpu)?,
            clock: timer.clock().name().to_owned(),
            took: (timer.now() - begun) / 1e9,
        })
    }

    /// Whether every rate is a rate.
    fn sound(&self) -> bool {
        let rates = [Some(self.kernel_copy), Some(self.buffer_copy), Some(self.f32), self.f16, self.matrix];
        rates.into_iter().flatten().chain([self.launch]).all(|x| x.is_finite() && x > 0.0)
    }
}

/// Bytes a second by a kernel and by the driver.
fn copies(timer: &mut Timer, gpu: &Gpu) -> Result<(f64, f64)> {
    // Beyond the last cache of most processors; on GPUs beyond any.
    let wanted: u64 = if gpu.report.kind == "discrete" { 512 << 20 } else { 48 << 20 };
    let most = gpu.target.max_binding_bytes.min(gpu.report.max_buffer_bytes) / 16 * 16;
    // Workgroups are counted in one dimension.
    let countable = u64::from(gpu.target.max_workgroups) * CopyWork::GROUP_BYTES;
    let mut bytes = wanted.min(most).min(countable);
    let work = loop {
        match CopyWork::new(gpu, bytes) {
            Err(_) if bytes > 4 << 20 => bytes = bytes / 32 * 16,
            made => break made?,
        }
    };
    let (mut kernel, mut driver) = (f64::INFINITY, f64::INFINITY);
    for i in 0..=TRIES {
        let (k, d) = (timer.pass(|pass| work.record(pass))?.best(), driver_copy(timer, &work)?);
        // The first of each also pays for pages and pipelines.
        if i > 0 {
            (kernel, driver) = (kernel.min(k), driver.min(d));
        }
    }
    Ok((work.bytes() / kernel * 1e9, work.bytes() / driver * 1e9))
}

/// Nanoseconds of one copy by the driver, by wall clock.
fn driver_copy(timer: &Timer, work: &CopyWork) -> Result<f64> {
    let gpu = timer.gpu();
    let commands = work.by_driver(gpu);
    let start = timer.now();
    let submission = gpu.queue.submit([commands]);
    gpu.wait("a copy", &submission, gpu.patience())?;
    Ok(timer.now() - start)
}

/// Floating-point operations a second of the best way to write multiply-adds.
fn fma(timer: &mut Timer, gpu: &Gpu, dtype: DType) -> Result<f64> {
    let mut best = 0f64;
    for shape in FmaShape::all(dtype) {
        best = best.max(rate(timer, &Arithmetic::fma(gpu, shape)?, best)?);
    }
    Ok(best)
}

/// Floating-point operations a second by cooperative matrices, of the faster size.
fn matrix(timer: &mut Timer, gpu: &Gpu) -> Result<Option<f64>> {
    let Some(matrices) = gpu.target.matrices else { return Ok(None) };
    let mut best = 0f64;
    for side in [8, 16].into_iter().filter(|side| matrices.has(*side)) {
        best = best.max(rate(timer, &Arithmetic::matrices(gpu, side, matrices.subgroup)?, best)?);
    }
    Ok((best > 0.0).then_some(best))
}

/// Floating-point operations a second of some work; less carefully if it is far behind `best`.
fn rate(timer: &mut Timer, work: &Arithmetic, best: f64) -> Result<f64> {
    let mut rounds = 4;
    let mut time = timer.work(work, rounds)?.best();
    while time < LONG_ENOUGH && rounds < 1 << 24 {
        // The first short runs say little; grow until one is long enough.
        let factor = (1.3 * LONG_ENOUGH / time.max(1.0)).clamp(2.0, 16.0);
        rounds = ((f64::from(rounds) * factor) as u32).next_multiple_of(4);
        time = timer.work(work, rounds)?.best();
    }
    let behind = work.flops(rounds) / time * 1e9 < 0.6 * best;
    for _ in 0..if behind { 2 } else { TRIES } {
        time = time.min(timer.work(work, rounds)?.best());
    }
    Ok(work.flops(rounds) / time * 1e9)
}

/// Seconds of a launch that does next to nothing.
fn launch(timer: &mut Timer, gpu: &Gpu) -> Result<f64> {
    let work = Arithmetic::small(gpu)?;
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        // Some clocks tick seldom: zero says less than one tick.
        best = best.min(timer.work(&work, 0)?.best().max(1.0));
    }
    Ok(best / 1e9)
}

/// What a measurement holds for.
fn key(timer: &Timer) -> String {
    let report = timer.gpu().report();
    let (name, ids, driver) = (&report.name, report.ids, &report.driver);
    let (f16, matrices) = (timer.gpu().target().f16, timer.gpu().target().matrices.is_some());
    let (checked, clock) = (timer.gpu().checked(), timer.clock().name());
    let (backend, version) = (&report.backend, env!("CARGO_PKG_VERSION"));
    format!(
        "{name} {ids:?} {driver} {backend} f16={f16} matrices={matrices} checked={checked} {clock} {version}"
    )
}

fn file(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("ceilings-{}.json", kept::short_digest(key)))
}

/// What the file holds besides its first line.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: String,
    ceilings: Ceilings,
}

fn encode(ceilings: &Ceilings, key: &str) -> String {
    let kept = Kept { key: key.to_owned(), ceilings: ceilings.clone() };
    let json = serde_json::to_string_pretty(&kept).expect("finite numbers and strings are JSON");
    format!("{MAGIC} {}\n{json}\n", kept::digest(format!("{json}\n").as_bytes()))
}

fn decode(bytes: &[u8], key: &str) -> Option<Ceilings> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (digest, json) = text.strip_prefix(MAGIC)?.strip_prefix(' ')?.split_once('\n')?;
    if digest != kept::digest(json.as_bytes()) {
        return None;
    }
    let kept: Kept = serde_json::from_str(json).ok()?;
    (kept.key == key && kept.ceilings.sound()).then_some(kept.ceilings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn some() -> Ceilings {
        Ceilings {
            kernel_copy: 1e10,
            buffer_copy: 2e10,
            f32: 3e11,
            f16: Some(4e11),
            matrix: None,
            launch: 1e-6,
            clock: "GPU timestamps".to_owned(),
            took: 1.0,
        }
    }

    #[test]
    fn only_a_whole_file_of_the_same_adapter_counts() {
        let text = encode(&some(), "this adapter");
        assert_eq!(decode(text.as_bytes(), "this adapter"), Some(some()));
        assert_eq!(decode(text.as_bytes(), "another"), None);
        for i in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[i] ^= 1;
            assert_eq!(decode(&bad, "this adapter"), None, "byte {i}");
            assert_eq!(decode(&bad[..i], "this adapter"), None, "cut at {i}");
        }
        let absurd = encode(&Ceilings { f32: -1.0, ..some() }, "this adapter");
        assert_eq!(decode(absurd.as_bytes(), "this adapter"), None);
    }
}
