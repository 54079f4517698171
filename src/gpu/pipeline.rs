//! From (kernel, variant) to a compute pipeline: made once, in parallel, layouts by reflection.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::wait::block;
use super::{Gpu, parallel};
use crate::error::{Advice, Error, Result};
use crate::kernel::{BindingKind, Kernel, Variant};
use crate::plan::Step;

/// What a buffer of parameters is used as: uniforms, or storage where uniforms are better avoided.
pub(super) const PARAMETERS: wgpu::BufferUsages =
    wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::STORAGE).union(wgpu::BufferUsages::COPY_DST);

impl Gpu {
    /// The pipelines of steps, in their order; those not made yet are made on all cores.
    pub(super) fn pipelines(&self, steps: &[&Step]) -> Result<Vec<Arc<wgpu::ComputePipeline>>> {
        let mut missing: BTreeMap<(&'static str, &Variant), &'static Kernel> = BTreeMap::new();
        {
            let made = self.pipelines.lock().expect("no panic happens while this lock is held");
            for step in steps {
                if !made.contains_key(&(step.kernel.name, step.variant.clone())) {
                    missing.insert((step.kernel.name, &step.variant), step.kernel);
                }
            }
        }
        let fresh = parallel::all(missing.into_iter().collect(), |((name, variant), kernel)| {
            Ok(((name, variant.clone()), Arc::new(self.compile(kernel, variant)?)))
        })?;
        let compiled = !fresh.is_empty();
        let mut made = self.pipelines.lock().expect("no panic happens while this lock is held");
        made.extend(fresh);
        if let (Some(cache), true) = (&self.cache, compiled) {
            cache.save();
        }
        let get = |step: &&Step| made[&(step.kernel.name, step.variant.clone())].clone();
        Ok(steps.iter().map(get).collect())
    }

    /// The pipeline of one kernel that no plan names.
    pub(super) fn pipeline(
        &self,
        kernel: &'static Kernel,
        variant: &Variant,
    ) -> Result<Arc<wgpu::ComputePipeline>> {
        let key = (kernel.name, variant.clone());
        let made = || self.pipelines.lock().expect("no panic happens while this lock is held");
        if let Some(pipeline) = made().get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(self.compile(kernel, variant)?);
        made().insert(key, pipeline.clone());
        if let Some(cache) = &self.cache {
            cache.save();
        }
        Ok(pipeline)
    }

    #[expect(unsafe_code, reason = "our own kernels: indices are proved in bounds by tests that run checked")]
    fn compile(&self, kernel: &'static Kernel, variant: &Variant) -> Result<wgpu::ComputePipeline> {
        let mut reflection = kernel.reflect(variant).unwrap_or_else(|e| {
            unreachable!("tests/shaders.rs validates every variant of {}: {e}", kernel.name)
        });
        // Of our kernels only these end up small enough for that, and to read storage costs others a tenth.
        if variant.uses_subgroups() && self.report.inlines_uniforms() {
            reflection = reflection.with_stored_params();
        }
        let kinds =
            [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory];
        let (pipeline, error) = block(self.scoped(&kinds, || {
            let entries: Vec<wgpu::BindGroupLayoutEntry> = reflection
                .bindings
                .iter()
                .map(|b| wgpu::BindGroupLayoutEntry {
                    binding: b.index,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer {
                        ty: match b.kind {
                            BindingKind::Read => wgpu::BufferBindingType::Storage { read_only: true },
                            BindingKind::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                            BindingKind::Uniform => wgpu::BufferBindingType::Uniform,
                        },
                        has_dynamic_offset: false,
                        min_binding_size: None,
                    },
                    count: None,
                })
                .collect();
            let group = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(kernel.name),
                entries: &entries,
            });
            let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(kernel.name),
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            let source = wgpu::ShaderModuleDescriptor {
                label: Some(kernel.name),
                source: wgpu::ShaderSource::Naga(Cow::Owned(reflection.module)),
            };
            let module = if self.checked {
                self.device.create_shader_module(source)
            } else {
                let checks = wgpu::ShaderRuntimeChecks::unchecked();
                unsafe { self.device.create_shader_module_trusted(source, checks) }
            };
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(kernel.name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: self.cache.as_ref().map(|c| c.get()),
            })
        }));
        self.fault()?;
        match error {
            None => Ok(pipeline),
            Some(e) => Err(Error::NoDevice {
                what: format!("the driver of `{}` rejects kernel {}: {e}", self.report.name, kernel.name),
                help: Advice::PlainerKernels,
            }),
        }
    }
}
