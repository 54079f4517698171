//! Small work of a known size: what the ceilings of an adapter are measured with, and what its
//! timestamps are checked against. One probe binds x, y and its parameters like any other kernel.

use std::sync::Arc;
use std::time::Duration;

use super::Gpu;
use super::pipeline::PARAMETERS;
use crate::clock::Instant;
use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::DType;

params! {
    /// Parameters of `probe_fma` and `probe_matrices`.
    struct FmaParams { rounds: u32, invocations: u32 }
}
params! {
    /// Parameters of `probe_copy`.
    struct CopyParams { quads: u32, each: u32 }
}

static FMA: Kernel =
    Kernel { name: "probe_fma", source: shader!("probe_fma.wgsl"), params: FmaParams::FIELDS };
static COPY: Kernel =
    Kernel { name: "probe_copy", source: shader!("probe_copy.wgsl"), params: CopyParams::FIELDS };

static MATRICES: Kernel =
    Kernel { name: "probe_matrices", source: shader!("probe_matrices.wgsl"), params: FmaParams::FIELDS };

/// Invocations of a workgroup of the first two.
const WORKGROUP: u32 = 128;
/// Subgroups of a workgroup of the last.
const MATRIX_SUBGROUPS: u32 = 4;
/// vec4s that one invocation of the copy moves.
const COPY_EACH: u32 = 8;

/// How long a GPU must work without a break until its clocks are up. They sink when work comes with breaks,
/// and it is slower then than it will be: an NVIDIA H100 (driver 580) that was given 4 to 20 ms of work every
/// 60 ms went from 1980 to 690 MHz within a second, and needed 0.2 s of unbroken work to come back.
pub const CLOCKS_RISE: Duration = Duration::from_millis(300);

/// How the multiply-add probe is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FmaShape {
    /// Element type.
    pub(super) dtype: DType,
    /// Independent chains of four in an invocation, 2 to 4.
    pub(super) quads: usize,
    /// `fma(v, m, c)` rather than `v * m + c`.
    pub(super) fused: bool,
    /// Long turns of the loop, chain after chain.
    pub(super) long: bool,
}

impl FmaShape {
    /// Any will do to check a clock.
    pub(super) const SIMPLE: Self = Self { dtype: DType::F32, quads: 2, fused: false, long: false };

    /// All shapes of one element type: which is fastest depends on registers and on the compiler.
    pub(super) fn all(dtype: DType) -> impl Iterator<Item = Self> {
        let kinds = [(true, false), (false, false), (true, true), (false, true)];
        let shapes = [3, 4].into_iter().flat_map(move |quads| kinds.map(|kind| (quads, kind)));
        shapes.map(move |(quads, (fused, long))| Self { dtype, quads, fused, long })
    }

    fn variant(self) -> Variant {
        let variant = Variant::new().with_type("elem", self.dtype);
        variant.with_u32("QUADS", self.quads).with_bool("FUSED", self.fused).with_bool("LONG", self.long)
    }
}

/// Every probe, as kernel, variant and storage bindings: for the tests that check all shaders.
pub fn probes() -> Vec<(&'static Kernel, Variant, usize)> {
    let shapes = [DType::F32, DType::F16].into_iter().flat_map(FmaShape::all);
    let fma = shapes.map(|shape| (&FMA, shape.variant(), 2));
    let matrices = [8, 16].map(|side| (&MATRICES, matrix_variant(side, 32), 2));
    fma.chain([(&COPY, Variant::new(), 2)]).chain(matrices).collect()
}

fn matrix_variant(side: usize, subgroup: u32) -> Variant {
    Variant::new().with_matrices(side).with_u32("SG", subgroup as usize)
}

/// Arithmetic without memory traffic.
pub(super) struct Arithmetic {
    launch: Launch,
    invocations: u32,
    /// Floating-point operations of one round.
    per_round: f64,
}

impl Arithmetic {
    /// Multiply-adds of every invocation on its own.
    pub(super) fn fma(gpu: &Gpu, shape: FmaShape) -> Result<Self> {
        // A few workgroups a core on a CPU, far more than are resident at once on a GPU.
        Self::sized(gpu, shape, if gpu.target.cpu { 64 } else { 8192 })
    }

    /// As little work as there can be.
    pub(super) fn small(gpu: &Gpu) -> Result<Self> {
        Self::sized(gpu, FmaShape::SIMPLE, 1)
    }

    fn sized(gpu: &Gpu, shape: FmaShape, workgroups: u32) -> Result<Self> {
        let invocations = workgroups * WORKGROUP;
        let per_round = f64::from(invocations) * 8.0 * shape.quads as f64 * 4.0 * 2.0;
        Self::new(gpu, &FMA, &shape.variant(), workgroups, invocations, per_round)
    }

    /// Cooperative matrices of this side, subgroups of `lanes`.
    pub(super) fn matrices(gpu: &Gpu, side: usize, lanes: u32) -> Result<Self> {
        let workgroups = if gpu.target.cpu { 16 } else { 4096 };
        let subgroups = workgroups * MATRIX_SUBGROUPS;
        let per_round = f64::from(subgroups) * 8.0 * 2.0 * (side * side * side) as f64;
        let elements = subgroups * (side * side) as u32;
        Self::new(gpu, &MATRICES, &matrix_variant(side, lanes), workgroups, elements, per_round)
    }

    fn new(
        gpu: &Gpu,
        kernel: &'static Kernel,
        variant: &Variant,
        workgroups: u32,
        results: u32,
        per_round: f64,
    ) -> Result<Self> {
        let x = gpu.buffer("probe x", 16, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST)?;
        // The fixed point is 1: no chain leaves the normal numbers, in f16 either.
        gpu.queue.write_buffer(&x, 0, bytemuck::cast_slice(&[0.75f32, 0.25, 0.0, 0.0]));
        let y = gpu.buffer("probe y", u64::from(results) * 4, wgpu::BufferUsages::STORAGE)?;
        let launch = Launch::new(gpu, kernel, variant, &x, &y, workgroups)?;
        Ok(Self { launch, invocations: results, per_round })
    }

    /// Sets how many rounds the next run makes.
    pub(super) fn set_rounds(&self, gpu: &Gpu, rounds: u32) {
        let params = FmaParams { rounds, invocations: self.invocations };
        gpu.queue.write_buffer(&self.launch.parameters, 0, bytemuck::bytes_of(&params));
    }

    /// Records one run.
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass) {
        self.launch.record(pass);
    }

    /// Runs it once and waits.
    fn run(&self, gpu: &Gpu, rounds: u32) -> Result<()> {
        self.set_rounds(gpu, rounds);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.launch.record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        let submission = gpu.queue.submit([encoder.finish()]);
        gpu.wait("work to raise the clocks", &submission, gpu.patience())
    }

    /// Floating-point operations of one run.
    pub(super) fn flops(&self, rounds: u32) -> f64 {
        f64::from(rounds) * self.per_round
    }
}

impl Gpu {
    /// Keeps a GPU busy until its clocks are up ([`CLOCKS_RISE`]). Software adapters have none to wait for.
    ///
    /// # Errors
    /// Device errors.
    pub fn raise_clocks(&self) -> Result<()> {
        if self.target.cpu {
            return Ok(());
        }
        let work = Arithmetic::fma(self, FmaShape::SIMPLE)?;
        let (begun, mut rounds) = (Instant::now(), 16);
        while begun.elapsed() < CLOCKS_RISE {
            let start = Instant::now();
            work.run(self, rounds)?;
            if start.elapsed() < CLOCKS_RISE / 30 {
                rounds = (rounds * 2).min(1 << 24);
            }
        }
        Ok(())
    }
}

/// Memory copied by a kernel or by the driver's own copy.
pub(super) struct CopyWork {
    launch: Launch,
    x: wgpu::Buffer,
    y: wgpu::Buffer,
    bytes: u64,
}

impl CopyWork {
    /// Bytes that one workgroup copies.
    pub(super) const GROUP_BYTES: u64 = (WORKGROUP * COPY_EACH) as u64 * 16;

    pub(super) fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let quads = u32::try_from(bytes / 16).expect("callers stay within a binding");
        let workgroups = quads.div_ceil(WORKGROUP * COPY_EACH);
        let (x, y) = (gpu.buffer("probe x", bytes, usage)?, gpu.buffer("probe y", bytes, usage)?);
        let launch = Launch::new(gpu, &COPY, &Variant::new(), &x, &y, workgroups)?;
        let params = CopyParams { quads, each: COPY_EACH };
        gpu.queue.write_buffer(&launch.parameters, 0, bytemuck::bytes_of(&params));
        Ok(Self { launch, x, y, bytes })
    }

    /// Bytes moved by one run: each is read and written.
    pub(super) fn bytes(&self) -> f64 {
        2.0 * self.bytes as f64
    }

    /// Records one copy by the kernel.
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass) {
        self.launch.record(pass);
    }

    /// One copy by the driver, ready to submit.
    pub(super) fn by_driver(&self, gpu: &Gpu) -> wgpu::CommandBuffer {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&self.x, 0, &self.y, 0, self.bytes);
        encoder.finish()
    }
}

/// A probe's kernel, bound.
struct Launch {
    pipeline: Arc<wgpu::ComputePipeline>,
    group: wgpu::BindGroup,
    parameters: wgpu::Buffer,
    workgroups: u32,
}

impl Launch {
    fn new(
        gpu: &Gpu,
        kernel: &'static Kernel,
        variant: &Variant,
        x: &wgpu::Buffer,
        y: &wgpu::Buffer,
        workgroups: u32,
    ) -> Result<Self> {
        let pipeline = gpu.pipeline(kernel, variant)?;
        let parameters = gpu.buffer("probe parameters", 16, PARAMETERS)?;
        let entries =
            [(0, x.as_entire_binding()), (1, y.as_entire_binding()), (2, parameters.as_entire_binding())]
                .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource });
        let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Ok(Self { pipeline, group, parameters, workgroups })
    }

    fn record(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(self.workgroups, 1, 1);
    }
}
