//! Queries times all rows of an index, on a device, block by block: neither memory nor what an adapter can bind
//! limits the rows.

use std::sync::Arc;

use super::best::{Best, Hit};
use super::index::Index;
use crate::error::{Error, Result};
use crate::gpu::{Executor, Gpu, Running, Store};
use crate::graph::{Graph, Weight};
use crate::ops::Target;
use crate::plan::{self, Options};
use crate::reference;
use crate::tensor::{HostTensor, Shape, TensorDesc};

/// Most bytes of rows that are multiplied at a time: enough to keep an adapter busy.
const BLOCK_BYTES: u64 = 32 << 20;
/// Most queries at a time.
const MAX_QUERIES: usize = 64;

const QUERIES: &str = "queries";
const ROWS: &str = "rows";

/// What multiplies.
#[derive(Clone)]
pub struct Product {
    gpu: Option<Arc<Gpu>>,
}

/// A block that the device works on.
struct Block {
    first: usize,
    count: usize,
    running: Running,
}

impl Product {
    /// On an adapter, or by plain loops if there is none.
    pub fn new(gpu: Option<&Arc<Gpu>>) -> Self {
        Self { gpu: gpu.cloned() }
    }

    /// The `most` rows that score highest for each query, best first, ties by row; only rows that `wanted` names
    /// count. A query is E numbers of length 1, so that scores are cosines.
    ///
    /// # Errors
    /// [`Error::Usage`] for queries of another width; [`Error::Input`] for rows that cannot be read or hold what is
    /// no number; [`Error::Limit`] where not one row fits the adapter; device errors.
    pub fn best(
        &self,
        queries: &[Vec<f32>],
        index: &Index,
        most: usize,
        wanted: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Vec<Hit>>> {
        if let Some(bad) = queries.iter().find(|query| query.len() != index.width()) {
            let what = format!("a query has {} numbers, a row has {}", bad.len(), index.width());
            return Err(Error::usage(what, "make it with the model that made the index"));
        }
        let mut found = Vec::new();
        for queries in queries.chunks(MAX_QUERIES) {
            let mut best: Vec<Best> = queries.iter().map(|_| Best::new(most)).collect();
            self.scores(queries, index, &mut |first, scores| {
                best.iter_mut().enumerate().try_for_each(|(query, best)| {
                    let scores: Vec<f32> =
                        scores.iter().skip(query).step_by(queries.len()).copied().collect();
                    best.offer(first, &scores, wanted).map_err(|e| match e {
                        // Queries are finite, so the rows are not.
                        Error::NonFinite { what, .. } => index.damaged(format!("{what} are no numbers")),
                        other => other,
                    })
                })
            })?;
            found.extend(best.into_iter().map(Best::hits));
        }
        Ok(found)
    }

    /// Hands scores (n,Q) of the rows from a first one on to `take`, in order.
    fn scores(
        &self,
        queries: &[Vec<f32>],
        index: &Index,
        take: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let (width, total) = (index.width(), index.len());
        let most = self.block_rows(width).min(total);
        let asked = HostTensor::f32([queries.len(), width], queries.concat());
        let graph = graph(queries.len(), most, width);
        let mut executor = self.gpu.as_ref().map(|gpu| executor(gpu, &graph)).transpose()?;
        let mut before: Option<Block> = None;
        for first in (0..total).step_by(most) {
            let count = most.min(total - first);
            let mut rows = index.rows(first..first + count)?;
            // The last block is filled with zeros, whose scores are left out.
            rows.resize(most * width, 0.0);
            let rows = HostTensor::f32([most, width], rows);
            let Some(executor) = &mut executor else {
                let inputs = [(QUERIES, asked.clone()), (ROWS, rows)];
                let made = reference::run(&graph, &no_weights, &inputs)?;
                hand(&made[0], first, count * queries.len(), take)?;
                continue;
            };
            let running = executor.start(&[(QUERIES, &asked), (ROWS, &rows)])?;
            // While the device works on this block, the one before is read.
            if let Some(Block { first, count, running }) = before.replace(Block { first, count, running }) {
                hand(&running.wait()?[0], first, count * queries.len(), take)?;
            }
        }
        if let Some(Block { first, count, running }) = before {
            hand(&running.wait()?[0], first, count * queries.len(), take)?;
        }
        Ok(())
    }

    /// Rows that are multiplied at a time.
    fn block_rows(&self, width: usize) -> usize {
        let target = self.gpu.as_ref().map_or_else(Target::portable, |gpu| gpu.target().clone());
        let bytes = BLOCK_BYTES.min(target.max_binding_bytes / 2);
        let rows = usize::try_from(bytes / (4 * width as u64)).unwrap_or(usize::MAX);
        // Scores of all queries must fit a binding, too; kernels make several rows at a time.
        rows.min(target.max_binding_bytes as usize / (4 * MAX_QUERIES)).next_multiple_of(32)
    }
}

/// The product of a block: `scores` (n,Q) of `rows` (n,E) and `queries` (Q,E). The rows are read as they lie, and the
/// queries, which are few, are what is brought into a weight's order.
fn graph(queries: usize, rows: usize, width: usize) -> Graph {
    let mut g = Graph::new();
    let asked = g.input(QUERIES, TensorDesc::f32([queries, width]));
    let rows = g.input(ROWS, TensorDesc::f32([rows, width]));
    g.scope("scores");
    let scores = g.linear(rows, asked, None);
    g.output("scores", scores);
    g
}

fn executor(gpu: &Arc<Gpu>, graph: &Graph) -> Result<Executor> {
    let plan = plan::compile(graph, gpu.target(), Options::default())?;
    Executor::new(gpu.clone(), plan, &Store::new())
}

fn no_weights(_: &Weight, _: Shape) -> Result<HostTensor> {
    unreachable!("the graph has no weights")
}

/// Hands on the first `count` of scores: those of zeros behind the last row are left out.
fn hand(
    scores: &HostTensor,
    first: usize,
    count: usize,
    take: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
) -> Result<()> {
    take(first, &scores.as_f32().unwrap_or_default()[..count])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::search::disk;
    use crate::search::{Image, Maker};

    /// An index of made-up rows.
    fn index(folder: &std::path::Path, rows: &[Vec<f32>]) -> Index {
        let image = |i: usize| Image {
            path: format!("/{i}.png"),
            bytes: 1,
            modified_us: 0,
            sha256: format!("{i:064x}"),
        };
        let images: Vec<Image> = (0..rows.len()).map(image).collect();
        let maker = Maker {
            model: "m".to_owned(),
            weights: "w".to_owned(),
            output: "o".to_owned(),
            preprocessing: "p".to_owned(),
        };
        disk::write(folder, &maker, rows[0].len(), images.iter(), rows.iter().cloned().map(Ok)).unwrap();
        Index::open(folder).unwrap()
    }

    #[test]
    fn the_nearest_rows_of_all_blocks() {
        let folder = tempfile::tempdir().unwrap();
        // Directions in a plane, a tie among them, in blocks of which the last is short.
        let at = |angle: f32| vec![angle.cos(), angle.sin(), 0.0];
        let mut rows: Vec<Vec<f32>> = (0..100).map(|i| at(i as f32 * 0.01)).collect();
        rows[70] = at(0.2);
        let index = index(folder.path(), &rows);
        let product = Product::new(None);
        let nearest = |angle: f32, most| {
            let found = product.best(&[at(angle), at(0.0)], &index, most, &|row| row != 21).unwrap();
            assert_eq!(found[1][0].row, 0);
            found[0].iter().map(|hit| hit.row).collect::<Vec<_>>()
        };
        assert_eq!(nearest(0.201, 4), [20, 70, 19, 22]);
        assert_eq!(nearest(0.99, 1), [99]);
        let hits = product.best(&[at(0.2)], &index, 500, &|_| true).unwrap();
        assert_eq!(hits[0].len(), 100);
        assert!((hits[0][0].score - 1.0).abs() < 1e-6);
        assert!(product.best(&[vec![1.0]], &index, 1, &|_| true).is_err());
    }

    #[test]
    fn rows_that_are_no_numbers_are_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let index = index(folder.path(), &[vec![1.0, 0.0], vec![f32::NAN, 0.0]]);
        let e = Product::new(None).best(&[vec![0.0, 1.0]], &index, 1, &|row| row == 0).unwrap_err();
        assert!(e.message().contains("damaged"), "{e}");
    }
}
