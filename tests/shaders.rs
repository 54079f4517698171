//! No GPU. Every kernel variant that a plan can ask for, before any driver sees it: naga validates
//! it with the capabilities it declares and no more, the SPIR-V, MSL and HLSL backends accept it,
//! and its bindings, parameters and sizes are what the Rust side says.
//!
//! "Can ask for" is found out, not listed: every op case and every model is compiled for every kind
//! of adapter, and the steps of those plans are collected. The probes that adapters are measured with
//! are added.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/models.rs"]
mod models;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use models::Net;
use naga::back::{hlsl, msl, spv};
use vit_gpu::graph::Graph;
use vit_gpu::kernel::{BindingKind, Field, Kernel, Reflection, Variant};
use vit_gpu::ops::{self, Choices, Matrices, Target};
use vit_gpu::plan::{self, Options, Precision};
use vit_gpu::{gpu, selftest};

/// WebGPU's default limits, which every adapter offers.
const MAX_INVOCATIONS: u32 = 256;
const MAX_WORKGROUP_BYTES: u32 = 16_384;
/// What NVIDIA's driver offers: kernels on cooperative matrices may ask for as much.
const MAX_MATRIX_BYTES: u32 = 49_152;
/// One less than WebGPU's default: Metal takes a binding for buffer sizes.
const MAX_STORAGE_BUFFERS: usize = 7;
/// Parameters of a step lie this far apart in one buffer.
const MAX_PARAM_BYTES: usize = 256;

/// A kernel variant that some plan asks for.
struct Reached {
    kernel: &'static Kernel,
    variant: Variant,
    /// Storage buffers that each step using it binds.
    binds: BTreeSet<usize>,
    /// The least that an adapter it is made for allows.
    invocations: u32,
}

/// Every variant of every plan, each once.
fn reached() -> &'static [Reached] {
    static REACHED: OnceLock<Vec<Reached>> = OnceLock::new();
    REACHED.get_or_init(|| {
        let adapters = adapters();
        let mut all: BTreeMap<(&str, Variant), Reached> = BTreeMap::new();
        for graph in graphs() {
            for (target, options) in &adapters {
                let plan = plan::compile(&graph, target, options.clone()).unwrap();
                for step in plan.steps {
                    let key = (step.kernel.name, step.variant.clone());
                    let entry = all.entry(key).or_insert_with(|| Reached {
                        kernel: step.kernel,
                        variant: step.variant,
                        binds: BTreeSet::new(),
                        invocations: target.max_invocations,
                    });
                    assert!(
                        std::ptr::eq(entry.kernel, step.kernel),
                        "two kernels named {}",
                        step.kernel.name
                    );
                    entry.binds.insert(step.binds.len());
                    entry.invocations = entry.invocations.min(target.max_invocations);
                }
            }
        }
        let probes = gpu::probes().into_iter().map(|(kernel, variant, storage)| Reached {
            kernel,
            variant,
            binds: BTreeSet::from([storage]),
            invocations: MAX_INVOCATIONS,
        });
        all.into_values().chain(probes).collect()
    })
}

/// Every op case, and every model as images and as tensors: all outputs, and the main one alone.
fn graphs() -> Vec<Graph> {
    let mut graphs: Vec<Graph> = selftest::all().into_iter().map(|case| case.graph).collect();
    let mut nets = Net::goldens();
    nets.extend([Net::builtin(), Net::vit_base()]);
    for net in nets {
        for bytes in [false, true] {
            graphs.extend([net.whole_graph(2, bytes), net.graph(1, bytes)]);
        }
    }
    graphs
}

/// Every kind of adapter and every way to compile.
fn adapters() -> Vec<(Target, Options)> {
    let mut adapters = Vec::new();
    for target in [Target::portable(), Target::portable_cpu()] {
        for precision in [Precision::F32, Precision::F16] {
            for fuse in [true, false] {
                let target = Target { f16: precision == Precision::F16, ..target.clone() };
                adapters.push((target, Options { precision, fuse, ..Options::default() }));
            }
        }
    }
    for (op, names) in ops::variants() {
        for name in names {
            for precision in [Precision::F32, Precision::F16] {
                let choices = Choices::forced([format!("{op}={name}").as_str()]).unwrap();
                let target = Target { f16: precision == Precision::F16, subgroup: 8, ..Target::portable() };
                adapters.push((target, Options { precision, choices, ..Options::default() }));
            }
            if name.starts_with("coop") {
                let choices = Choices::forced([format!("{op}={name}").as_str()]).unwrap();
                for target in matrix_targets() {
                    let precision = Precision::F16;
                    adapters.push((
                        target,
                        Options { precision, choices: choices.clone(), ..Options::default() },
                    ));
                }
            }
        }
    }
    adapters
}

/// Adapters with cooperative matrices as NVIDIA's, as the newest lavapipe's and as Apple's.
fn matrix_targets() -> [Target; 3] {
    let target = |matrices: Matrices, max_workgroup_bytes: u32| Target {
        f16: true,
        subgroup: matrices.subgroup,
        max_workgroup_bytes,
        max_invocations: 1024,
        matrices: Some(matrices),
        ..Target::portable()
    };
    let none = Matrices { side8: false, side16: false, subgroup: 32, quads: true };
    [
        target(Matrices { side16: true, ..none }, MAX_MATRIX_BYTES),
        target(Matrices { side8: true, subgroup: 8, ..none }, 32_768),
        target(Matrices { side8: true, quads: false, ..none }, 32_768),
    ]
}

/// Most buffers one kernel writes: three states and a result, of a draw.
const MAX_WRITTEN: usize = 4;

/// Everything that must hold of one variant, or what does not.
fn check(
    kernel: &Kernel,
    variant: &Variant,
    binds: &BTreeSet<usize>,
    most_invocations: u32,
) -> Result<Reflection, String> {
    // Parses, validates with the declared capabilities, and refuses another entry point than one
    // `main`, another group than 0, and bindings that are not dense.
    let reflection = kernel.reflect(variant)?;
    let (last, storage) = reflection.bindings.split_last().ok_or("no bindings")?;
    if last.kind != BindingKind::Uniform {
        return Err(format!("the last binding is `{}`, not the parameters", last.name));
    }
    let result = storage.last().ok_or("no storage bindings")?;
    if result.kind != BindingKind::ReadWrite {
        return Err(format!("the last storage binding `{}` cannot be written", result.name));
    }
    // Operands first, then the states that the op writes, then its result.
    let written = storage.iter().skip_while(|b| b.kind == BindingKind::Read);
    if let Some(other) = written.clone().find(|b| b.kind != BindingKind::ReadWrite) {
        return Err(format!("`{}` is an operand after something that is written", other.name));
    }
    if written.count() > MAX_WRITTEN {
        return Err(format!("more than {MAX_WRITTEN} storage buffers are written"));
    }
    if storage.len() > MAX_STORAGE_BUFFERS {
        return Err(format!("{} storage buffers", storage.len()));
    }
    if binds.iter().any(|&n| n != storage.len()) {
        return Err(format!("steps bind {binds:?} buffers, the kernel has {}", storage.len()));
    }
    let rust: Vec<_> =
        kernel.params.iter().map(|f| (f.name.to_owned(), f.offset, f.wgsl.to_owned())).collect();
    if rust != reflection.params {
        return Err(format!("parameters are {:?} in WGSL, {rust:?} in Rust", reflection.params));
    }
    if rust.last().is_none_or(|(_, offset, _)| offset + 4 > MAX_PARAM_BYTES) {
        return Err("no parameters, or too many".to_owned());
    }
    let invocations: u32 = reflection.workgroup.iter().product();
    if invocations == 0 || invocations > most_invocations {
        return Err(format!("{invocations} invocations a workgroup"));
    }
    let most = if variant.uses_matrices() { MAX_MATRIX_BYTES } else { MAX_WORKGROUP_BYTES };
    if reflection.workgroup_bytes > most {
        return Err(format!("{} bytes of workgroup memory", reflection.workgroup_bytes));
    }
    if !reflection.module.overrides.is_empty() {
        return Err("overrides".to_owned());
    }
    Ok(reflection)
}

/// Has every backend of naga write the module that can run it. Cooperative matrices: SPIR-V knows
/// both sizes; Metal has 8 x 8 only, loaded from scalars (naga would write nonsense for others);
/// HLSL has none, and no adapter there offers them.
fn write(reflection: &Reflection, variant: &Variant) -> Result<(), String> {
    let f16 = variant.uses_f16();
    let Reflection { module, info, .. } = reflection;
    let main = || (naga::ShaderStage::Compute, "main".to_owned());

    let entry = spv::PipelineOptions { shader_stage: main().0, entry_point: main().1 };
    // 1.3: the first that Vulkan 1.1 has.
    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    let words = spv::write_vec(module, info, &options, Some(&entry)).map_err(|e| format!("SPIR-V: {e}"))?;
    if words.first() != Some(&0x0723_0203) {
        return Err("SPIR-V: no magic number".to_owned());
    }

    let scalars = reflection.module.global_variables.iter().any(|(_, g)| {
        let naga::TypeInner::Array { base, .. } = reflection.module.types[g.ty].inner else { return false };
        g.name.as_deref() == Some("halves")
            && matches!(reflection.module.types[base].inner, naga::TypeInner::Scalar(_))
    });
    if variant.uses_matrices() && !(variant.matrix_side() == 8 && scalars) {
        return Ok(());
    }
    let entry = msl::PipelineOptions { entry_point: Some(main()), ..msl::PipelineOptions::default() };
    let options = msl::Options { lang_version: (2, 3), ..msl::Options::default() };
    let (text, translation) =
        msl::write_string(module, info, &options, &entry).map_err(|e| format!("MSL: {e}"))?;
    for name in translation.entry_point_names {
        let name = name.map_err(|e| format!("MSL: {e}"))?;
        if !text.contains(&name) {
            return Err(format!("MSL: no function {name}"));
        }
    }

    if variant.uses_matrices() {
        let found = text.contains("simdgroup_half8x8") && text.contains("simdgroup_float8x8");
        return if found { Ok(()) } else { Err("MSL: no matrices".to_owned()) };
    }

    // Without f16 the oldest compiler must do; 16-bit types came with shader model 6.2.
    let shader_model = if f16 { hlsl::ShaderModel::V6_2 } else { hlsl::ShaderModel::V5_1 };
    let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
    let entry = hlsl::PipelineOptions { entry_point: Some(main()) };
    let mut text = String::new();
    let mut writer = hlsl::Writer::new(&mut text, &options, &entry);
    let translation = writer.write(module, info, None).map_err(|e| format!("HLSL: {e}"))?;
    for name in translation.entry_point_names {
        name.map_err(|e| format!("HLSL: {e}"))?;
    }
    if text.contains("numthreads") { Ok(()) } else { Err("HLSL: no entry point".to_owned()) }
}

#[test]
fn every_variant_is_valid_and_every_back_end_takes_it() {
    let mut failures = Vec::new();
    for Reached { kernel, variant, binds, invocations } in reached() {
        let checked = check(kernel, variant, binds, *invocations).and_then(|r| write(&r, variant));
        if let Err(e) = checked {
            failures.push(format!("{} with\n{}{e}", kernel.name, variant.prelude()));
        }
    }
    let count = reached().len();
    println!("{count} variants");
    assert!(count > 100, "only {count} variants: are plans still compiled here?");
    assert!(failures.is_empty(), "{} of {count} variants fail:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn both_precisions_and_both_kinds_of_adapter_are_reached() {
    for name in [
        "matmul_tile",
        "matmul_rows",
        "matmul_lanes",
        "attention_tile",
        "attention_lanes",
        "norm",
        "patchify",
    ] {
        for f16 in [false, true] {
            let found = reached().iter().any(|r| r.kernel.name == name && r.variant.uses_f16() == f16);
            assert!(found, "no plan asks for {name} with f16: {f16}");
        }
    }
}

#[test]
fn both_sizes_of_cooperative_matrices_are_reached_for_both_kinds_of_memory() {
    for name in ["matmul_coop", "attention_coop"] {
        for (name, side) in [(name.to_owned(), 8), (name.to_owned(), 16), (format!("{name}_scalars"), 8)] {
            let found = reached().iter().any(|r| r.kernel.name == name && r.variant.matrix_side() == side);
            assert!(found, "no plan asks for {name} with {side}x{side}");
        }
    }
}

#[test]
fn every_shader_file_is_used() {
    let used: BTreeSet<String> =
        reached().iter().flat_map(|r| r.kernel.source).map(|(file, _)| (*file).to_owned()).collect();
    let folder = models::root().join("shaders");
    let mut files = BTreeSet::new();
    for (prefix, folder) in [("", folder.clone()), ("lib/", folder.join("lib"))] {
        for file in wgsl_files(&folder) {
            files.insert(format!("{prefix}{file}"));
        }
    }
    assert!(files.len() > 15, "{} files in {}", files.len(), folder.display());
    let orphans: Vec<_> = files.difference(&used).collect();
    assert!(orphans.is_empty(), "no plan reaches a kernel with {orphans:?}");
    let unknown: Vec<_> = used.difference(&files).collect();
    assert!(unknown.is_empty(), "kernels name {unknown:?}, which are no files");
}

fn wgsl_files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name != "lib")
        .inspect(|name| assert!(name.ends_with(".wgsl"), "{name} in {} is no shader", folder.display()))
        .collect()
}

#[test]
fn a_library_file_has_no_entry_point_and_a_kernel_file_has_one() {
    for Reached { kernel, .. } in reached() {
        for (file, text) in kernel.source {
            let entries = text.matches("@compute").count();
            let expected = usize::from(!file.starts_with("lib/"));
            assert_eq!(entries, expected, "entry points in {file} of {}", kernel.name);
        }
    }
}

// ---- the checks can fail

const FIELDS: &[Field] =
    &[Field { name: "count", offset: 0, wgsl: "u32" }, Field { name: "factor", offset: 4, wgsl: "f32" }];

const GOOD: &str = "
struct Params { count: u32, factor: f32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;
var<workgroup> scratch: array<f32, 64>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    scratch[id.x % 64u] = x[id.x];
    if id.x < u32(p.count) { y[id.x] = p.factor * scratch[id.x % 64u]; }
}
";

/// What [`check`] says of a synthetic kernel whose steps bind two buffers.
fn verdict(text: &str) -> Result<(), String> {
    let source = Vec::leak(vec![("synthetic.wgsl", &*String::leak(text.to_owned()))]);
    let kernel = Kernel { name: "synthetic", source, params: FIELDS };
    check(&kernel, &Variant::new(), &BTreeSet::from([2]), MAX_INVOCATIONS)
        .and_then(|r| write(&r, &Variant::new()))
}

#[test]
fn the_checks_can_fail() {
    assert_eq!(verdict(GOOD), Ok(()));
    let fields = "count: u32, factor: f32";
    for (from, to, expected) in [
        (fields, "factor: f32, count: u32", "parameters are"),
        (fields, "count: f32, factor: f32", "parameters are"),
        (fields, "count: u32, spare: u32, factor: f32", "parameters are"),
        ("var<storage, read_write> y", "var<storage, read> y", "y"),
        ("@binding(1)", "@binding(3)", "not dense"),
        ("@group(0) @binding(0)", "@group(1) @binding(0)", "group 1"),
        ("@workgroup_size(64)", "@workgroup_size(16, 32)", "512 invocations"),
        ("array<f32, 64>", "array<f32, 8192>", "32768 bytes"),
        ("fn main", "fn start", "entry point is `start`"),
        ("x[id.x];", "x[id.z + nothing];", "nothing"),
        ("p.factor * scratch", "f32(f16(p.factor)) * scratch", "f16"),
    ] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from} is not there");
        let error = verdict(&text).expect_err(to);
        assert!(error.contains(expected), "{to}: expected `{expected}` in: {error}");
    }
    let late = GOOD
        .replace("binding(1)", "binding(9)")
        .replace("binding(0)", "binding(1)")
        .replace("binding(9)", "binding(0)");
    let error = verdict(&late).expect_err("an operand last");
    assert!(error.contains("cannot be written"), "{error}");
    let extra =
        GOOD.replace("var<workgroup>", "@group(0) @binding(3) var<uniform> q: Params;\nvar<workgroup>");
    assert!(verdict(&extra).is_err(), "a second uniform");
    let kernel = Kernel { name: "good", source: Vec::leak(vec![("good.wgsl", GOOD)]), params: FIELDS };
    let error =
        check(&kernel, &Variant::new(), &BTreeSet::from([2, 3]), MAX_INVOCATIONS).expect_err("three buffers");
    assert!(error.contains("steps bind"), "{error}");
}
