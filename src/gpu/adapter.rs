//! Which adapters there are, what they offer, whether they will do, and which one is meant.

use std::path::PathBuf;

use super::wait::block;
use crate::error::{Advice, Error, Result};
use crate::ops::{Matrices, Target};

/// How the user names an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceSpec {
    /// The best one that will do: discrete before integrated before software.
    #[default]
    Auto,
    /// By position in [`Adapters::list`].
    Index(usize),
    /// By part of its name, case-insensitive.
    Name(String),
}

/// Features switched off by hand, so that an adapter with a broken one is usable at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disabled {
    /// No f16 storage.
    pub f16: bool,
    /// No subgroup operations.
    pub subgroups: bool,
    /// No timestamp queries.
    pub timestamps: bool,
    /// No cooperative matrices.
    pub matrices: bool,
}

/// Everything that decides which device is opened and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceChoice {
    /// Which adapter.
    pub device: DeviceSpec,
    /// Only these backends (`vulkan`, `metal`, `dx12`, `noop`); all but `noop` if empty.
    pub backends: Vec<String>,
    /// Features not to use.
    pub disabled: Disabled,
    /// Keep bounds checks in shaders: slower; for doubtful drivers and for tests.
    pub checked: bool,
    /// Pretend that storage bindings end here (bytes), to test splitting.
    pub max_binding_bytes: Option<u64>,
    /// Directory for compiled pipelines; none are kept if absent.
    pub cache_dir: Option<PathBuf>,
}

/// What one adapter is and offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterReport {
    /// Position in the list.
    pub index: usize,
    /// Name as the driver gives it.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: &'static str,
    /// `vulkan`, `metal`, `dx12` or `noop`.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// PCI bus id, empty where unknown.
    pub pci: String,
    /// Vendor and device number, for cache keys.
    pub ids: (u32, u32),
    /// Limits and features that plans are made for.
    pub target: Target,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Smallest and largest subgroup; zeros where unknown.
    pub subgroup_sizes: (u32, u32),
    /// Subgroup operations in shaders.
    pub subgroups: bool,
    /// Timestamp queries.
    pub timestamps: bool,
    /// Compiled pipelines can be kept on disk.
    pub pipeline_cache: bool,
    /// Shapes of cooperative matrices: `16x16x16 f16/f32`.
    pub cooperative_matrices: Vec<String>,
    /// Why the adapter will not do; `None` if it will.
    pub unusable: Option<String>,
}

impl AdapterReport {
    /// True for a driver that compiles a kernel anew for the values of its uniforms, with every launch that
    /// has others, and never forgets one: lavapipe of Mesa 22 and 23 does so where loops end at a uniform
    /// (`lvp_inline_uniforms.c`), which took up to 200 kB an image.
    pub(super) fn inlines_uniforms(&self) -> bool {
        let version = self.driver.strip_prefix("llvmpipe Mesa ").and_then(|v| v.split('.').next());
        version.and_then(|v| v.parse::<u32>().ok()).is_some_and(|major| major < 24)
    }
}

/// The adapters of this machine.
pub struct Adapters {
    adapters: Vec<wgpu::Adapter>,
    reports: Vec<AdapterReport>,
}

impl Adapters {
    /// Lists adapters on the backends that `choice` allows.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown backend.
    pub fn list(choice: &DeviceChoice) -> Result<Self> {
        block(Self::list_async(choice))
    }

    /// As [`Adapters::list`], for who may not block.
    ///
    /// # Errors
    /// As [`Adapters::list`].
    pub async fn list_async(choice: &DeviceChoice) -> Result<Self> {
        let mut backends = wgpu::Backends::empty();
        let mut noop = false;
        for name in &choice.backends {
            backends |= match name.to_ascii_lowercase().as_str() {
                "vulkan" | "vk" => wgpu::Backends::VULKAN,
                "metal" | "mtl" => wgpu::Backends::METAL,
                "dx12" | "d3d12" => wgpu::Backends::DX12,
                "noop" => {
                    noop = true;
                    wgpu::Backends::NOOP
                }
                other => {
                    let what = format!("unknown backend `{other}`");
                    return Err(Error::usage(what, "one or more of vulkan, metal, dx12"));
                }
            };
        }
        if backends.is_empty() {
            backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        }
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        descriptor.backend_options.noop.enable = noop;
        let instance = wgpu::Instance::new(descriptor);
        let adapters = instance.enumerate_adapters(backends).await;
        let reports = adapters.iter().enumerate().map(|(i, a)| report(i, a, &choice.disabled)).collect();
        Ok(Self { adapters, reports })
    }

    /// What each adapter is, in order.
    pub fn reports(&self) -> &[AdapterReport] {
        &self.reports
    }
}

/// The adapter meant by `choice`.
pub(super) async fn pick(choice: &DeviceChoice) -> Result<(wgpu::Adapter, AdapterReport)> {
    let Adapters { adapters, reports } = Adapters::list_async(choice).await?;
    let list = |reports: &[AdapterReport]| {
        if reports.is_empty() {
            return Advice::InstallDriver;
        }
        let names = reports.iter().map(|r| format!("{}: {} ({}, {})", r.index, r.name, r.kind, r.backend));
        format!("there is {}", names.collect::<Vec<_>>().join("; ")).into()
    };
    let chosen = match &choice.device {
        DeviceSpec::Index(i) => reports.get(*i).map(|r| r.index),
        DeviceSpec::Name(name) => {
            let name = name.to_lowercase();
            reports.iter().find(|r| r.name.to_lowercase().contains(&name)).map(|r| r.index)
        }
        DeviceSpec::Auto => {
            let rank = |r: &&AdapterReport| match r.kind {
                "discrete" => 0,
                "integrated" => 1,
                "virtual" => 2,
                "other" => 3,
                _ => 4,
            };
            reports.iter().filter(|r| r.unusable.is_none()).min_by_key(rank).map(|r| r.index)
        }
    };
    let Some(index) = chosen else {
        let what = match &choice.device {
            DeviceSpec::Auto => "no usable GPU adapter".to_owned(),
            DeviceSpec::Index(i) => format!("no adapter number {i}"),
            DeviceSpec::Name(n) => format!("no adapter named like `{n}`"),
        };
        return Err(Error::NoDevice { what, help: list(&reports) });
    };
    let report = reports[index].clone();
    if let Some(why) = &report.unusable {
        let what = format!("adapter `{}` will not do: {why}", report.name);
        return Err(Error::NoDevice { what, help: list(&reports) });
    }
    Ok((adapters[index].clone(), report))
}

fn report(index: usize, adapter: &wgpu::Adapter, disabled: &Disabled) -> AdapterReport {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let features = adapter.features();
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "cpu",
        wgpu::DeviceType::Other => "other",
    };
    let subgroups = features.contains(wgpu::Features::SUBGROUP) && !disabled.subgroups;
    let target = Target {
        max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        f16: features.contains(wgpu::Features::SHADER_F16) && !disabled.f16,
        cpu: info.device_type == wgpu::DeviceType::Cpu,
        workgroup_slots: match kind {
            "discrete" => 128,
            "cpu" => std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            _ => 32,
        },
        subgroup: if subgroups && info.subgroup_min_size == info.subgroup_max_size {
            info.subgroup_max_size
        } else {
            0
        },
        matrices: if subgroups && !disabled.f16 && !disabled.matrices { matrices(adapter) } else { None },
    };
    let portable = Target::portable();
    let needs = [
        ("storage binding bytes", target.max_binding_bytes, portable.max_binding_bytes / 8),
        ("invocations of a workgroup", target.max_invocations.into(), portable.max_invocations.into()),
        ("bytes of workgroup memory", target.max_workgroup_bytes.into(), portable.max_workgroup_bytes.into()),
        ("storage buffers of a shader", limits.max_storage_buffers_per_shader_stage.into(), 7),
    ];
    let downlevel = adapter.get_downlevel_capabilities();
    let unusable = if !downlevel.flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
        Some("it has no compute shaders".to_owned())
    } else {
        needs
            .iter()
            .find(|(_, have, need)| have < need)
            .map(|(what, have, need)| format!("it offers {have} {what}, {need} are needed"))
    };
    let matrix = |m: &wgpu::CooperativeMatrixProperties| {
        let name = format!("{:?}/{:?}", m.ab_type, m.cr_type).to_lowercase();
        format!("{}x{}x{} {name}", m.m_size, m.n_size, m.k_size)
    };
    AdapterReport {
        index,
        kind,
        backend: format!("{:?}", info.backend).to_lowercase(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        name: info.name,
        pci: info.device_pci_bus_id,
        ids: (info.vendor, info.device),
        target,
        max_buffer_bytes: limits.max_buffer_size,
        subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
        subgroups,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY) && !disabled.timestamps,
        pipeline_cache: features.contains(wgpu::Features::PIPELINE_CACHE),
        cooperative_matrices: adapter.cooperative_matrix_properties().iter().map(matrix).collect(),
        unusable,
    }
}

/// The cooperative matrices that kernels here can use: square, f16 operands, f32 accumulators.
fn matrices(adapter: &wgpu::Adapter) -> Option<Matrices> {
    let needs = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP;
    if !adapter.features().contains(needs) {
        return None;
    }
    let info = adapter.get_info();
    let shapes = adapter.cooperative_matrix_properties();
    let has = |side: u32| {
        shapes.iter().any(|m| {
            (m.m_size, m.n_size, m.k_size) == (side, side, side)
                && m.ab_type == wgpu::CooperativeScalarType::F16
                && m.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    let metal = info.backend == wgpu::Backend::Metal;
    // naga writes 16x16 for Metal as well, where no such type exists.
    let (side8, side16) = (has(8), has(16) && !metal);
    let subgroup = info.subgroup_max_size;
    // Mesa 26's software driver crashes on them with registers of 512 bits (LP_NATIVE_VECTOR_WIDTH=512).
    let crashes = info.device_type == wgpu::DeviceType::Cpu && subgroup > 8;
    let usable = (side8 || side16) && subgroup.is_power_of_two() && !crashes;
    usable.then_some(Matrices { side8, side16, subgroup, quads: !metal })
}
