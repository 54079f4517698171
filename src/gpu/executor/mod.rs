//! A plan made resident: buffers, bind groups and parameters exist before the first run, and a run
//! only writes inputs, records the launches, submits, and reads results.

mod running;
mod timing;

pub use running::{Repeated, Running};
pub use timing::{HostSpan, TimedRun};

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use running::{Idle, output_bytes};

use super::pipeline::PARAMETERS;
use super::{Gpu, States, Store};
use crate::error::{Error, Result};
use crate::plan::{Buffer, Plan, Port};
use crate::tensor::HostTensor;

/// Parameters of all steps lie in one uniform buffer at this stride, the largest alignment any
/// adapter asks for.
const PARAM_STRIDE: u64 = 256;

/// A launch with everything it binds.
struct Launch {
    pipeline: Arc<wgpu::ComputePipeline>,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
    flops: u64,
}

/// A plan made resident on a device.
pub struct Executor {
    gpu: Arc<Gpu>,
    plan: Plan,
    launches: Vec<Launch>,
    inputs: Vec<wgpu::Buffer>,
    slots: Vec<wgpu::Buffer>,
    states: Vec<Arc<wgpu::Buffer>>,
    outputs: Arc<[Port]>,
    idle: Idle,
    /// Floating-point operations after which a submission is cut, so that none runs into a
    /// watchdog; a software adapter has none.
    submit_flops: u64,
    deadline: Duration,
}

impl Executor {
    /// Creates pipelines, buffers and bind groups. The store must hold the plan's weights.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`], or a driver that rejects a kernel.
    pub fn new(gpu: Arc<Gpu>, plan: Plan, store: &Store) -> Result<Self> {
        Self::with_states(gpu, plan, store, &States::new())
    }

    /// As [`Executor::new`], with states that other executors may share.
    ///
    /// # Errors
    /// As [`Executor::new`]; [`Error::Usage`] for a state that exists in another shape.
    pub fn with_states(gpu: Arc<Gpu>, plan: Plan, store: &Store, states: &States) -> Result<Self> {
        gpu.fault()?;
        let pipelines = gpu.pipelines(&plan.steps.iter().collect::<Vec<_>>())?;
        let weights = plan
            .weights
            .iter()
            .map(|w| {
                store.get(w).ok_or_else(|| {
                    Error::usage(format!("weight {} is not in the store", w.weight), "call Store::load first")
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let states = states.buffers(&gpu, &plan.states)?;
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let of_inputs = plan.inputs.iter().map(|p| p.desc.bytes() as u64);
        let bytes = of_inputs.chain(plan.slots.iter().copied()).sum();
        let (inputs, slots, launches) = gpu.allocate("inputs and activations", bytes, || {
            let inputs = plan
                .inputs
                .iter()
                .map(|p| {
                    let usage = storage | wgpu::BufferUsages::COPY_DST;
                    gpu.unscoped_buffer(&p.name, p.desc.bytes() as u64, usage)
                })
                .collect::<Result<Vec<_>>>()?;
            let slots = plan
                .slots
                .iter()
                .enumerate()
                .map(|(i, &bytes)| gpu.unscoped_buffer(&format!("slot {i}"), bytes, storage))
                .collect::<Result<Vec<_>>>()?;
            let params = parameters(&gpu, &plan)?;
            let mut launches = Vec::with_capacity(plan.steps.len());
            for (i, (step, pipeline)) in plan.steps.iter().zip(pipelines).enumerate() {
                let whole = |b: &Buffer| match *b {
                    Buffer::Input(i) => inputs[i].as_entire_binding(),
                    Buffer::Slot(i) => slots[i].as_entire_binding(),
                    Buffer::Weight(i, part) => weights[i][part].as_entire_binding(),
                    Buffer::State(i) => states[i].as_entire_binding(),
                };
                let mut entries: Vec<wgpu::BindGroupEntry> = step
                    .binds
                    .iter()
                    .enumerate()
                    .map(|(binding, b)| wgpu::BindGroupEntry { binding: binding as u32, resource: whole(b) })
                    .collect();
                entries.push(wgpu::BindGroupEntry {
                    binding: entries.len() as u32,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: &params,
                        offset: i as u64 * PARAM_STRIDE,
                        size: wgpu::BufferSize::new(step.params.len() as u64),
                    }),
                });
                let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(&step.label),
                    layout: &pipeline.get_bind_group_layout(0),
                    entries: &entries,
                });
                launches.push(Launch {
                    pipeline,
                    bind_group,
                    workgroups: step.workgroups,
                    flops: step.cost.flops,
                });
            }
            Ok((inputs, slots, launches))
        })?;
        // About 100 ms of work at a rate that the slowest adapters of each kind still reach.
        let submit_flops = match gpu.report.kind {
            "cpu" => u64::MAX,
            "discrete" => 200_000_000_000,
            _ => 20_000_000_000,
        };
        // And twice the time that half a GFLOP/s takes.
        let deadline = gpu.patience() + Duration::from_secs(plan.cost().flops / 250_000_000);
        let outputs = plan.outputs.clone().into();
        let idle = Idle::default();
        let executor =
            Self { gpu, plan, launches, inputs, slots, states, outputs, idle, submit_flops, deadline };
        // Room for the results of one run is part of being resident.
        let staging = executor.staging()?;
        executor.idle.lock().expect("no panic happens while this lock is held").push(staging);
        Ok(executor)
    }

    /// The plan this executor runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Changes how long a run may take before it counts as hung.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Changes after how many floating-point operations a submission is cut.
    pub fn set_submit_flops(&mut self, flops: u64) {
        self.submit_flops = flops;
    }

    /// Runs once. Inputs are matched by name; results come in the plan's order, as f32.
    ///
    /// # Errors
    /// [`Error::Usage`] for a missing or misshapen input, [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn run(&mut self, inputs: &[(&str, &HostTensor)]) -> Result<Vec<HostTensor>> {
        self.start(inputs)?.wait()
    }

    /// Submits a run and comes back at once: the next one may be started before this one is waited
    /// for, and its inputs are then copied while the device works.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn start(&mut self, inputs: &[(&str, &HostTensor)]) -> Result<Running> {
        self.write_inputs(inputs)?;
        let staging = self.staging()?;
        let mut last = None;
        for range in self.submissions() {
            let results = (range.end == self.launches.len()).then_some(&staging);
            last = Some(self.submit(&self.launches[range], results));
        }
        let last = last.unwrap_or_else(|| self.submit(&[], Some(&staging)));
        Ok(self.running(last, staging))
    }

    /// Submits `times` runs one after the other and comes back at once; inputs keep what they hold,
    /// results are not read. What a run leaves in the states, the next one finds there: this is the
    /// token loop, in which nothing passes between host and device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and other faults known by now.
    pub fn repeat(&mut self, times: u32) -> Result<Repeated> {
        self.gpu.fault()?;
        let mut last = None;
        let cuts: Vec<Range<usize>> = self.submissions().collect();
        if let [whole] = &cuts[..] {
            let launches = &self.launches[whole.clone()];
            let flops = launches.iter().map(|l| l.flops).sum::<u64>().max(1);
            let most = (self.submit_flops / flops).clamp(1, u64::from(u32::MAX)) as u32;
            let mut left = times;
            while left > 0 {
                let n = left.min(most);
                last = Some(self.submit_times(launches, n, None));
                left -= n;
            }
        } else {
            for _ in 0..times {
                for range in &cuts {
                    last = Some(self.submit(&self.launches[range.clone()], None));
                }
            }
        }
        let submission = last.unwrap_or_else(|| self.submit(&[], None));
        Ok(Repeated { gpu: self.gpu.clone(), submission, deadline: self.deadline * times.max(1) })
    }

    fn running(&self, submission: wgpu::SubmissionIndex, staging: wgpu::Buffer) -> Running {
        let (gpu, idle, outputs) = (self.gpu.clone(), self.idle.clone(), self.outputs.clone());
        Running { gpu, submission, staging, idle, outputs, deadline: self.deadline }
    }

    /// A buffer to read results from: an idle one, or a new one if runs are under way.
    fn staging(&self) -> Result<wgpu::Buffer> {
        if let Some(idle) = self.idle.lock().expect("no panic happens while this lock is held").pop() {
            return Ok(idle);
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.gpu.buffer("results", self.staging_bytes(), usage)
    }

    fn staging_bytes(&self) -> u64 {
        self.plan.outputs.iter().map(output_bytes).sum()
    }

    /// Bytes of everything this executor keeps on the device besides weights: inputs, activations,
    /// parameters, results.
    pub fn device_bytes(&self) -> u64 {
        let buffers = self.inputs.iter().chain(&self.slots).map(wgpu::Buffer::size).sum::<u64>();
        buffers + self.staging_bytes() + self.launches.len() as u64 * PARAM_STRIDE
    }

    fn write_inputs(&self, inputs: &[(&str, &HostTensor)]) -> Result<()> {
        self.gpu.fault()?;
        for (port, buffer) in self.plan.inputs.iter().zip(&self.inputs) {
            let found = inputs.iter().find(|(name, t)| *name == port.name && t.desc() == port.desc);
            let (_, tensor) = found.ok_or_else(|| {
                Error::usage(
                    format!("input `{}` is missing or not {}", port.name, port.desc),
                    "pass a tensor of that type and shape",
                )
            })?;
            self.gpu.write(buffer, tensor.bytes());
        }
        Ok(())
    }

    /// The launches of each submission.
    fn submissions(&self) -> impl Iterator<Item = Range<usize>> + use<'_> {
        let mut first = 0;
        std::iter::from_fn(move || {
            let mut flops = 0u64;
            let mut end = first;
            while end < self.launches.len()
                && (end == first || flops + self.launches[end].flops <= self.submit_flops)
            {
                flops = flops.saturating_add(self.launches[end].flops);
                end += 1;
            }
            let range = first..end;
            first = end;
            (!range.is_empty()).then_some(range)
        })
    }

    fn submit(&self, launches: &[Launch], results: Option<&wgpu::Buffer>) -> wgpu::SubmissionIndex {
        self.submit_times(launches, 1, results)
    }

    fn submit_times(
        &self,
        launches: &[Launch],
        times: u32,
        results: Option<&wgpu::Buffer>,
    ) -> wgpu::SubmissionIndex {
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for _ in 0..times {
                launches.iter().for_each(|launch| launch.record(&mut pass));
            }
        }
        if let Some(staging) = results {
            self.copy_results(&mut encoder, staging);
        }
        self.gpu.queue.submit([encoder.finish()])
    }

    fn copy_results(&self, encoder: &mut wgpu::CommandEncoder, staging: &wgpu::Buffer) {
        let mut offset = 0;
        for port in &self.plan.outputs {
            let buffer = match port.buffer {
                Buffer::Input(i) => &self.inputs[i],
                Buffer::Slot(i) => &self.slots[i],
                Buffer::State(i) => &*self.states[i],
                Buffer::Weight(..) => unreachable!("compile refuses a weight as an output"),
            };
            let bytes = output_bytes(port);
            encoder.copy_buffer_to_buffer(buffer, 0, staging, offset, bytes);
            offset += bytes;
        }
    }
}

impl Launch {
    fn record(&self, pass: &mut wgpu::ComputePass) {
        let [x, y, z] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Packs the parameters of all steps into one uniform buffer.
fn parameters(gpu: &Gpu, plan: &Plan) -> Result<wgpu::Buffer> {
    let mut bytes = vec![0u8; plan.steps.len().max(1) * PARAM_STRIDE as usize];
    for (step, slot) in plan.steps.iter().zip(bytes.chunks_mut(PARAM_STRIDE as usize)) {
        slot[..step.params.len()].copy_from_slice(&step.params);
    }
    let buffer = gpu.unscoped_buffer("parameters", bytes.len() as u64, PARAMETERS)?;
    gpu.queue.write_buffer(&buffer, 0, &bytes);
    Ok(buffer)
}
