//! No GPU. Every model's plan is made resident, recorded and submitted on wgpu's `noop` backend,
//! which computes nothing but validates everything: buffer sizes and usages, bind groups against
//! layouts, layouts against shaders, dispatch limits, copies. All of that must be silent; whatever
//! wgpu reports outside an error scope comes back as an error of the next call.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/models.rs"]
mod models;

use std::sync::Arc;

use models::Net;
use vit_gpu::generate::Generator;
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, States, Store};
use vit_gpu::graph::{Graph, Weight};
use vit_gpu::models::sequence::New;
use vit_gpu::ops::Target;
use vit_gpu::plan::{self, Buffer, Options, Plan, Precision};
use vit_gpu::tensor::{DType, HostTensor, Shape, TensorDesc};
use vit_gpu::{Error, Result, selftest, session};

/// A device that computes nothing.
fn noop() -> Arc<Gpu> {
    let choice = DeviceChoice { backends: vec!["noop".into()], ..DeviceChoice::default() };
    let gpu = Gpu::open(&choice).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(gpu.report().backend, "noop");
    Arc::new(gpu)
}

fn zeros(desc: TensorDesc) -> HostTensor {
    let n = desc.shape.elements();
    match desc.dtype {
        DType::U8 => HostTensor::u8(desc.shape, vec![0; n]),
        DType::U32 => HostTensor::u32(desc.shape, vec![0; n]),
        _ => HostTensor::f32(desc.shape, vec![0.0; n]),
    }
}

/// Uploads zeros for weights, records and submits the plan twice (nothing may be used up by the
/// first run), and returns the results of the second.
fn record(gpu: &Arc<Gpu>, plan: Plan) -> Result<Vec<HostTensor>> {
    let store = Store::new();
    store.load(gpu, &plan, &|_: &Weight, shape: Shape| Ok(zeros(TensorDesc::f32(shape))))?;
    let inputs: Vec<(String, HostTensor)> =
        plan.inputs.iter().map(|port| (port.name.clone(), zeros(port.desc))).collect();
    let inputs: Vec<(&str, &HostTensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let mut executor = Executor::new(gpu.clone(), plan, &store)?;
    executor.run(&inputs)?;
    executor.run(&inputs)
}

/// Records a graph as planned for a GPU and for a software adapter, with WebGPU's default limits.
fn record_all(gpu: &Arc<Gpu>, name: &str, graph: &Graph, precisions: &[Precision]) {
    for &precision in precisions {
        for target in [Target::portable(), Target::portable_cpu()] {
            for fuse in [true, false] {
                let target = Target { f16: precision == Precision::F16, ..target.clone() };
                let what = format!("{name}, {precision}, cpu {}, fused {fuse}", target.cpu);
                let plan =
                    plan::compile(graph, &target, Options { precision, fuse, ..Options::default() }).unwrap();
                let wanted: Vec<TensorDesc> = plan.outputs.iter().map(|port| port.desc).collect();
                let got = record(gpu, plan).unwrap_or_else(|e| panic!("{what}: {e}"));
                let got: Vec<TensorDesc> = got.iter().map(HostTensor::desc).collect();
                assert_eq!(got, wanted, "{what}");
            }
        }
    }
}

const BOTH: &[Precision] = &[Precision::F32, Precision::F16];

#[test]
fn every_model_records_in_silence() {
    let gpu = noop();
    assert!(gpu.target().f16, "noop offers every feature");
    let mut nets = Net::goldens();
    nets.push(Net::builtin());
    assert!(nets.len() > 20, "{} models", nets.len());
    for net in nets {
        // All outputs at once from planes, the main one alone from bytes: little and much fusion.
        record_all(&gpu, &net.name, &net.whole_graph(3, false), BOTH);
        record_all(&gpu, &net.name, &net.graph(1, true), BOTH);
    }
}

#[test]
fn every_op_case_records_in_silence() {
    let gpu = noop();
    for case in selftest::all() {
        record_all(&gpu, &case.name, &case.graph, BOTH);
    }
}

/// The token loop: a prompt and many tokens over one set of states, in few submissions.
#[test]
fn a_token_loop_records_in_silence() {
    let gpu = noop();
    let options = session::Options { device: session::Device::Reference, ..session::Options::default() };
    for case in ["llamagen", "imagegpt", "randar"] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
        let model = Generator::open(&session::ModelSource::Path(folder), &options).unwrap();
        for (samples, given) in [(1, 0), (3, 5), (20, 1)] {
            let (store, states) = (Store::new(), States::new());
            let several = [New::Step { drawn: 1, next: 3 }, New::Step { drawn: 3, next: 2 }];
            let more = if model.info().any_order { &several[..] } else { &[] };
            let plans = [&[New::Prompt(given), New::LAST], more].concat();
            let mut executors: Vec<Executor> = Vec::new();
            for new in plans {
                let graph = model.graph(samples, model.info().guided, new).unwrap();
                let plan = plan::compile(&graph, &Target::portable(), Options::default()).unwrap();
                store.load(&gpu, &plan, &|_: &Weight, shape| Ok(zeros(TensorDesc::f32(shape)))).unwrap();
                executors.push(Executor::with_states(gpu.clone(), plan, &store, &states).unwrap());
            }
            for (executor, times) in executors.iter_mut().zip([1, 7, 1, 1]) {
                executor.repeat(times).unwrap().wait().unwrap_or_else(|e| panic!("{case} {samples}: {e}"));
            }
        }
    }
}

#[test]
fn vit_base_records_in_silence() {
    let gpu = noop();
    let graph = Net::vit_base().graph(8, true);
    let plan = plan::compile(&graph, &Target::portable(), Options::default()).unwrap();
    assert!(plan.cost().flops > 250_000_000_000, "this is not ViT-B at batch 8");
    record(&gpu, plan).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_split_weight_records_in_silence() {
    let gpu = noop();
    let small = |max_binding_bytes| Target { max_binding_bytes, ..Target::portable() };
    let mut graph = Graph::new();
    let ids = graph.input("ids", TensorDesc::new(DType::U32, [2, 3]));
    let table = graph.weight("table", [1001, 65]);
    let x = graph.gather(table, ids);
    let y = graph.linear(x, table, None);
    let y = graph.slice_tokens(y, 2..3);
    graph.output("y", y);
    // Weights split, activations do not: six rows of logits are 24 KB.
    let error = plan::compile(&graph, &small(10_000), Options::default()).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    let plan = plan::compile(&graph, &small(30_000), Options::default()).unwrap();
    assert!(plan.weights.iter().all(|w| w.parts.len() > 5), "{plan}");
    record(&gpu, plan).unwrap_or_else(|e| panic!("{e}"));
}

/// Three steps: scale, matmul, softmax.
fn small_plan() -> Plan {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorDesc::f32([5, 8]));
    let x = graph.scale(x, 2.0);
    let (w, b) = (graph.weight("w", [8, 8]), graph.weight("b", [8]));
    let y = graph.linear(x, w, Some(b));
    let y = graph.softmax(y);
    graph.output("y", y);
    plan::compile(&graph, &Target::portable(), Options::default()).unwrap()
}

/// The harness must notice broken plans, else its silence says nothing.
#[test]
fn a_broken_plan_is_not_silent() {
    let gpu = noop();
    record(&gpu, small_plan()).unwrap_or_else(|e| panic!("{e}"));
    type Breakage = (&'static str, fn(&mut Plan));
    let breakages: [Breakage; 5] = [
        ("a buffer is operand and result", |p| {
            let result = *p.steps[1].binds.last().unwrap();
            p.steps[1].binds[0] = result;
        }),
        ("a buffer is missing", |p| {
            p.steps[1].binds.pop();
        }),
        ("parameters are short", |p| p.steps[0].params.truncate(4)),
        ("a result is larger than its slot", |p| p.outputs[0].desc = TensorDesc::f32([4096])),
        ("an input is written", |p| {
            let last = p.steps[1].binds.len() - 1;
            p.steps[1].binds[last] = Buffer::Input(0);
            p.steps[1].binds[0] = Buffer::Input(0);
        }),
    ];
    for (what, breakage) in breakages {
        let mut plan = small_plan();
        breakage(&mut plan);
        assert!(record(&gpu, plan).is_err(), "{what}: recorded in silence");
    }
    record(&gpu, small_plan()).unwrap_or_else(|e| panic!("after the broken ones: {e}"));
}
