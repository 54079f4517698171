//! Batches: what the caller passed as the graph's input, the batch sizes plans are made for, and
//! results cut and joined along the batch.

use crate::tensor::{HostTensor, Shape, Size};

/// A batch as the caller passed it.
pub(super) enum Images<'a> {
    Bytes(&'a [&'a [u8]]),
    /// Each (Ch,H,W).
    Planes(&'a [&'a [f32]]),
}

impl Images<'_> {
    pub(super) fn count(&self) -> usize {
        match self {
            Images::Bytes(pixels) => pixels.len(),
            Images::Planes(planes) => planes.len(),
        }
    }

    /// Some of the images as the graph's input of `batch` images, zeros behind.
    pub(super) fn tensor(
        &self,
        range: std::ops::Range<usize>,
        batch: usize,
        Size { height: h, width: w }: Size,
        channels: usize,
    ) -> HostTensor {
        match self {
            Images::Bytes(pixels) => {
                let mut data: Vec<u8> = pixels[range].concat();
                data.resize(batch * h * w * 3, 0);
                HostTensor::u8([batch, h, w, 3], data)
            }
            Images::Planes(planes) => {
                let mut data: Vec<f32> = planes[range].concat();
                data.resize(batch * channels * h * w, 0.0);
                HostTensor::f32([batch, channels, h, w], data)
            }
        }
    }
}

/// The batch size that a plan is made for: 1, 2, 3, 4, 6, 8, 12, 16, ...
pub(crate) fn padded_batch(n: usize) -> usize {
    let power = n.next_power_of_two();
    match n {
        0..=4 => n,
        _ if n <= power / 4 * 3 => power / 4 * 3,
        _ => power,
    }
}

/// The first `n` images' part of a tensor whose first dimension counts `batch` images.
pub(super) fn first_of_batch(tensor: HostTensor, n: usize, batch: usize) -> HostTensor {
    let dims = tensor.shape().dims().to_vec();
    if n == batch || dims.first() != Some(&batch) {
        return tensor;
    }
    let mut data = tensor.to_f32();
    data.truncate(data.len() / batch * n);
    let dims = [&[n], &dims[1..]].concat();
    HostTensor::f32(Shape::new(&dims), data)
}

/// Joins results of partial batches along the first dimension.
pub(super) fn join_batches(mut parts: Vec<Vec<HostTensor>>) -> Vec<HostTensor> {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let outputs = parts.first().map_or(0, Vec::len);
    let join = |i: usize| {
        let data: Vec<f32> = parts.iter().flat_map(|p| p[i].to_f32()).collect();
        let batch: usize = parts.iter().map(|p| p[i].shape().dims()[0]).sum();
        let dims = [&[batch], &parts[0][i].shape().dims()[1..]].concat();
        HostTensor::f32(Shape::new(&dims), data)
    };
    (0..outputs).map(join).collect()
}
