//! Compiled pipelines on disk, so that a second start does not compile. The file is keyed by
//! adapter, driver and version, replaced atomically, and ignored when anything about it is off:
//! the driver never sees bytes whose digest does not match what was written.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{AdapterReport, kept};

const MAGIC: &[u8] = b"vit-gpu pipelines 1\n";

pub(super) struct PipelineCache {
    file: PathBuf,
    cache: wgpu::PipelineCache,
    loaded: Vec<u8>,
}

impl PipelineCache {
    /// Opens the cache of this adapter under `dir`, empty if there is none that can be trusted.
    #[expect(unsafe_code, reason = "the data was returned by get_data for this adapter: its digest says so")]
    pub(super) fn open(device: &wgpu::Device, dir: &Path, report: &AdapterReport) -> Self {
        let key = format!("{} {:?} {} {}", report.name, report.ids, report.driver, env!("CARGO_PKG_VERSION"));
        let file = dir.join(format!("pipelines-{}.bin", kept::short_digest(&key)));
        let loaded = kept::read(&file).and_then(|bytes| unwrap(&bytes)).unwrap_or_default();
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("pipelines"),
                data: (!loaded.is_empty()).then_some(&loaded),
                fallback: true,
            })
        };
        Self { file, cache, loaded }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn get(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes the cache if it has changed; a failure costs the next start time, nothing else.
    pub(super) fn save(&self) {
        let Some(data) = self.cache.get_data() else { return };
        if data == self.loaded {
            return;
        }
        kept::replace(&self.file, &wrap(&data));
    }
}

fn wrap(data: &[u8]) -> Vec<u8> {
    [MAGIC, Sha256::digest(data).as_slice(), data].concat()
}

fn unwrap(bytes: &[u8]) -> Option<Vec<u8>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (digest, data) = rest.split_at_checked(32)?;
    (Sha256::digest(data).as_slice() == digest).then(|| data.to_vec())
}

#[cfg(test)]
mod tests {
    use super::{unwrap, wrap};

    #[test]
    fn a_damaged_file_is_ignored() {
        let good = wrap(b"compiled");
        assert_eq!(unwrap(&good).as_deref(), Some(&b"compiled"[..]));
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 1;
            assert_eq!(unwrap(&bad), None, "byte {i}");
            assert_eq!(unwrap(&good[..i]), None, "cut at {i}");
        }
    }
}
