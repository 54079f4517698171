//! What plans must look like. Snapshots (`tests/snapshots/*.plan.txt`, rewritten by `BLESS=1`) make
//! every change of fusion or memory visible in review; properties hold for every model; and on a
//! GPU, fused and unfused plans, split and whole weights must give the same numbers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/models.rs"]
mod models;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use models::{Net, noise_image, noise_weight};
use vit_gpu::generate::Generator;
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, Store};
use vit_gpu::graph::{Graph, Weight};
use vit_gpu::models::sequence::New;
use vit_gpu::ops::{Act, MatMul, Op, Target, Window};
use vit_gpu::plan::memory::Life;
use vit_gpu::plan::{self, Buffer, Options, Plan, Precision, Step};
use vit_gpu::tensor::{DType, HostTensor, Shape, TensorDesc};
use vit_gpu::{Error, Result, session};

// ---- snapshots

/// Compares a plan with its snapshot, or rewrites the snapshot.
fn snapshot(name: &str, plan: &Plan) -> Result<(), String> {
    let file = models::root().join(format!("tests/snapshots/{name}.plan.txt"));
    let got = plan.to_string();
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, got).unwrap();
        return Ok(());
    }
    let Ok(want) = std::fs::read_to_string(&file) else {
        return Err(format!("{}: no such snapshot", file.display()));
    };
    difference(&got, &want).map_or(Ok(()), |d| Err(format!("{}: {d}", file.display())))
}

/// The first line that differs.
fn difference(got: &str, want: &str) -> Option<String> {
    let mut lines = (got.lines(), want.lines());
    for n in 1.. {
        match (lines.0.next(), lines.1.next()) {
            (None, None) => return None,
            (g, w) if g == w => {}
            (g, w) => {
                let show = |line: Option<&str>| line.unwrap_or("(end)").to_owned();
                return Some(format!("line {n}\n  plan     {}\n  snapshot {}", show(g), show(w)));
            }
        }
    }
    None
}

fn portable(f16: bool, cpu: bool) -> Target {
    Target { f16, cpu, ..Target::portable() }
}

fn options(precision: Precision) -> Options {
    Options { precision, ..Options::default() }
}

fn compile(net: &Net, batch: usize, precision: Precision, cpu: bool) -> Plan {
    let target = portable(precision == Precision::F16, cpu);
    plan::compile(&net.graph(batch, true), &target, options(precision)).unwrap()
}

#[test]
fn plans_equal_their_snapshots() {
    let mut failures = Vec::new();
    let mut check = |name: &str, plan: &Plan| failures.extend(snapshot(name, plan).err());
    let builtin = Net::builtin();
    check("builtin_shapes.f32", &compile(&builtin, 1, Precision::F32, false));
    check("builtin_shapes.f32.cpu", &compile(&builtin, 1, Precision::F32, true));
    check("builtin_shapes.f16", &compile(&builtin, 1, Precision::F16, false));
    for name in ["vit", "timm_vit", "dinov2_swiglu", "beit", "siglip_vision", "deit_distilled"] {
        check(name, &compile(&Net::golden(name), 1, Precision::F32, false));
    }
    check("vit_base_patch16_224", &compile(&Net::vit_base(), 1, Precision::F32, false));
    assert!(
        failures.is_empty(),
        "{} snapshots differ; BLESS=1 cargo test --test plan rewrites them\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn the_snapshot_comparison_can_fail() {
    assert_eq!(difference("a\nb\n", "a\nb\n"), None);
    assert!(difference("a\nb\n", "a\nc\n").unwrap().contains("line 2"));
    assert!(difference("a\n", "a\nb\n").unwrap().contains("(end)"));
    assert!(difference("a\nb\n", "a\n").unwrap().contains("(end)"));
}

#[test]
fn weights_of_another_size_are_refused() {
    let mut g = Graph::new();
    let x = g.input("x", TensorDesc::f32([2, 8]));
    let w = g.weight("w", [4, 8]);
    let y = g.linear(x, w, None);
    g.output("y", y);
    let short = |_: &Weight, _: Shape| Ok(HostTensor::f32([3, 8], vec![1.0; 24]));
    let input = HostTensor::f32([2, 8], vec![1.0; 16]);
    let said = |e: Error| assert!(e.to_string().contains("weight w was loaded as [3,8]"), "{e}");
    said(vit_gpu::reference::run(&g, &short, &[("x", input)]).unwrap_err());
    let Some(gpu) = common::gpu() else { return };
    let plan = plan::compile(&g, gpu.target(), Options::default()).unwrap();
    said(Store::new().load(&gpu, &plan, &short).unwrap_err());
}

#[test]
fn a_computed_weight_is_packed_or_refused() {
    let w = |g: &mut Graph, shape: &[usize], computed: bool| match computed {
        true => g.input("w", TensorDesc::f32(Shape::new(shape))),
        false => g.weight(Weight::tensor("w"), Shape::new(shape)),
    };
    let plan = |g: &Graph| plan::compile(g, &Target::portable(), Options::default());
    let linear = |computed: bool| {
        let mut g = Graph::new();
        let x = g.input("x", TensorDesc::f32([5, 8]));
        let w = w(&mut g, &[12, 8], computed);
        let y = g.push(Op::MatMul(MatMul::default()), vec![x, w]);
        g.output("y", y);
        plan(&g).unwrap().steps.iter().map(|step| step.kernel.name).collect::<Vec<_>>()
    };
    assert_eq!((linear(false).len(), linear(true).len(), linear(true)[0]), (1, 2, "pack"));
    let convolution = |computed: bool| {
        let mut g = Graph::new();
        let x = g.input("x", TensorDesc::f32([1, 5, 5, 8]));
        let w = w(&mut g, &[12, 72], computed);
        let y = g.conv2d(x, w, None, Window::strided(3, 2));
        g.output("y", y);
        plan(&g)
    };
    convolution(false).unwrap();
    let refused = convolution(true).unwrap_err().to_string();
    assert!(refused.contains("operand 1 of conv2d is computed"), "{refused}");
}

// ---- properties

/// Everything that must hold of the buffers of a plan, or what does not.
fn sound(plan: &Plan) -> Result<(), String> {
    let mut written: BTreeSet<usize> = BTreeSet::new();
    let mut pending: BTreeSet<usize> = BTreeSet::new();
    for (i, step) in plan.steps.iter().enumerate() {
        let (result, operands) = step.binds.split_last().ok_or(format!("step {i} binds nothing"))?;
        let result_slot = match *result {
            Buffer::Slot(slot) => slot,
            // What enters a cache makes no result of its own.
            Buffer::State(n) if n < plan.states.len() && !operands.contains(result) => continue,
            _ => return Err(format!("step {i} writes {result}")),
        };
        if operands.contains(result) {
            return Err(format!("step {i} reads and writes {result}"));
        }
        for operand in operands {
            match *operand {
                Buffer::Slot(s) if !written.contains(&s) => {
                    return Err(format!("step {i} reads s{s} before anything was written to it"));
                }
                Buffer::Slot(s) => {
                    pending.remove(&s);
                }
                Buffer::Input(n) if n >= plan.inputs.len() => return Err(format!("step {i}: no input {n}")),
                Buffer::Weight(w, part) if plan.weights.get(w).is_none_or(|w| part >= w.parts.len()) => {
                    return Err(format!("step {i}: no weight {w}.{part}"));
                }
                Buffer::State(n) if n >= plan.states.len() => return Err(format!("step {i}: no state {n}")),
                Buffer::Input(_) | Buffer::Weight(..) | Buffer::State(_) => {}
            }
        }
        if in_place(step) {
            if !written.contains(&result_slot) {
                return Err(format!("step {i} adds to s{result_slot} before anything was written to it"));
            }
            pending.remove(&result_slot);
        }
        written.insert(result_slot);
        pending.insert(result_slot);
        if step.workgroups.iter().any(|&n| n == 0 || n > 65_535) {
            return Err(format!("step {i} has {:?} workgroups", step.workgroups));
        }
    }
    for port in &plan.outputs {
        match port.buffer {
            Buffer::Slot(s) if written.contains(&s) => {
                pending.remove(&s);
                if plan.slots[s] < port.desc.bytes() as u64 {
                    return Err(format!("output {} does not fit s{s}", port.name));
                }
            }
            other => return Err(format!("output {} is {other}, which nothing wrote", port.name)),
        }
        if port.desc.dtype != DType::F32 {
            return Err(format!("output {} is {}", port.name, port.desc.dtype));
        }
    }
    if let Some(s) = pending.first() {
        return Err(format!("what was last written to s{s} is never read"));
    }
    if plan.slots.iter().any(|&bytes| bytes > 128 << 20) {
        return Err("a slot is above the binding limit".to_owned());
    }
    let lives = lives(plan);
    let live = largest_live_set(&lives);
    if live != plan.largest_live_set {
        return Err(format!(
            "the largest live set has {live} bytes, the plan says {}",
            plan.largest_live_set
        ));
    }
    let (have, need) = (plan.activation_bytes(), least_slot_bytes(&lives));
    if have * 100 > need * 115 {
        return Err(format!("{have} bytes of activations, {need} would do"));
    }
    Ok(())
}

/// When each tensor of a plan is needed, read back from its launches: a tensor begins where its
/// slot is written after having been read, and ends at the last launch that reads it.
fn lives(plan: &Plan) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    // The tensor in each slot, and whether anything has read it.
    let mut tenants: BTreeMap<usize, (usize, bool)> = BTreeMap::new();
    for (i, step) in plan.steps.iter().enumerate() {
        let (result, operands) = step.binds.split_last().unwrap();
        for operand in operands {
            if let Buffer::Slot(s) = operand {
                let (life, read) = tenants.get_mut(s).unwrap();
                lives[*life].end = i;
                *read = true;
            }
        }
        let Buffer::Slot(s) = *result else { unreachable!("checked before") };
        let tenant = tenants.get(&s).filter(|(_, read)| !read || in_place(step)).map(|(life, _)| *life);
        let life = tenant.unwrap_or_else(|| {
            lives.push(Life { start: i, end: i, bytes: result_bytes(step) });
            lives.len() - 1
        });
        lives[life].end = i;
        tenants.insert(s, (life, false));
    }
    for port in &plan.outputs {
        let Buffer::Slot(s) = port.buffer else { unreachable!("checked before") };
        lives[tenants[&s].0].end = plan.steps.len();
    }
    lives
}

/// Bytes of a step's result as allocated, from the shapes that the plan prints.
fn result_bytes(step: &Step) -> u64 {
    let (_, shape) = step.shapes.rsplit_once("-> ").unwrap();
    let dims = shape.trim_matches(['[', ']']).split(',').map(|d| d.parse::<u64>().unwrap());
    (dims.product::<u64>() * step.dtype.bytes() as u64).next_multiple_of(4).max(16)
}

/// Sizes of the tensors live at each step, largest first.
fn live_sizes(lives: &[Life]) -> Vec<Vec<u64>> {
    let steps = lives.iter().map(|l| l.end + 1).max().unwrap_or(0);
    let at = |step: usize| {
        let live = lives.iter().filter(|l| l.start <= step && step <= l.end);
        let mut sizes: Vec<u64> = live.map(|l| l.bytes).collect();
        sizes.sort_by(|a, b| b.cmp(a));
        sizes
    };
    (0..steps).map(at).collect()
}

fn largest_live_set(lives: &[Life]) -> u64 {
    live_sizes(lives).iter().map(|sizes| sizes.iter().sum()).max().unwrap_or(0)
}

/// What no assignment of tensors to whole buffers can go below: the i-th largest slot holds at
/// least the i-th largest tensor of every step. More than the largest live set where one step needs
/// one large tensor and another several small ones, as in the tiny models of `tests/golden`, whose
/// patches are five times as wide as their tokens.
fn least_slot_bytes(lives: &[Life]) -> u64 {
    let sizes = live_sizes(lives);
    let slots = sizes.iter().map(Vec::len).max().unwrap_or(0);
    (0..slots).map(|i| sizes.iter().filter_map(|s| s.get(i)).max().unwrap()).sum()
}

/// True if the step adds its result to what the result's buffer holds.
fn in_place(step: &Step) -> bool {
    step.variant.prelude().contains("const IN_PLACE: bool = true;")
}

#[test]
fn every_plan_is_sound_and_its_buffers_within_15_percent_of_the_least() {
    let mut nets = Net::goldens();
    nets.extend([Net::builtin(), Net::vit_base()]);
    let mut failures = Vec::new();
    let mut in_place_steps = 0;
    for net in nets {
        for batch in [1, 8] {
            for graph in [net.graph(batch, true), net.whole_graph(batch, false)] {
                for (precision, cpu, fuse) in [
                    (Precision::F32, false, true),
                    (Precision::F32, true, true),
                    (Precision::F16, false, true),
                    (Precision::F32, false, false),
                ] {
                    let target = portable(precision == Precision::F16, cpu);
                    let plan =
                        plan::compile(&graph, &target, Options { precision, fuse, ..Options::default() })
                            .unwrap();
                    in_place_steps += plan.steps.iter().filter(|s| in_place(s)).count();
                    if let Err(e) = sound(&plan) {
                        let outputs = plan.outputs.len();
                        failures.push(format!(
                            "{} b{batch} {precision} cpu {cpu} fused {fuse}, {outputs} outputs: {e}",
                            net.name
                        ));
                    }
                }
            }
        }
    }
    assert!(in_place_steps > 0, "no residual is added in place: is the prelude's name still IN_PLACE?");
    assert!(failures.is_empty(), "{} plans:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn models_of_real_proportions_are_within_15_percent_of_their_largest_live_set() {
    for net in [Net::builtin(), Net::vit_base()] {
        for batch in [1, 8] {
            for (precision, cpu) in [(Precision::F32, false), (Precision::F32, true), (Precision::F16, false)]
            {
                let plan = compile(&net, batch, precision, cpu);
                let (have, need) = (plan.activation_bytes(), plan.largest_live_set);
                assert!(
                    have >= need && have * 100 <= need * 115,
                    "{} b{batch} {precision}: {have}, {need}",
                    net.name
                );
            }
        }
    }
}

#[test]
fn the_least_slots_of_lives_known_by_hand() {
    let lives = [(0, 0, 100), (1, 2, 10), (2, 3, 10), (2, 2, 30)];
    let lives = lives.map(|(start, end, bytes)| Life { start, end, bytes });
    assert_eq!(largest_live_set(&lives), 100);
    assert_eq!(least_slot_bytes(&lives), 120);
}

#[test]
fn the_soundness_check_can_fail() {
    let good = compile(&Net::golden("vit"), 1, Precision::F32, false);
    assert_eq!(sound(&good), Ok(()));
    type Breakage = (&'static str, fn(&mut Plan));
    let breakages: [Breakage; 7] = [
        ("reads and writes", |p| p.steps[3].binds[0] = *p.steps[3].binds.last().unwrap()),
        ("before anything was written", |p| p.steps.swap(0, 1)),
        ("writes in0", |p| *p.steps[3].binds.last_mut().unwrap() = Buffer::Input(0)),
        ("is never read", |p| {
            p.steps.pop();
            p.outputs.clear();
        }),
        ("would do", |p| p.slots.push(p.largest_live_set)),
        ("the plan says", |p| p.largest_live_set += 4),
        ("workgroups", |p| p.steps[0].workgroups[1] = 70_000),
    ];
    for (expected, breakage) in breakages {
        let mut plan = good.clone();
        breakage(&mut plan);
        let error = sound(&plan).expect_err(expected);
        assert!(error.contains(expected), "expected `{expected}`: {error}");
    }
}

// ---- fusion

/// Steps whose label starts with `scope`, as `op` or `op+act+scale+residual`, what the epilogue has.
fn ops(plan: &Plan, scope: &str) -> Vec<String> {
    let describe = |step: &Step| {
        let prelude = step.variant.prelude();
        let mut text = step.op.to_owned();
        for (mark, line) in [
            ("+bias", "const BIAS: bool = true;"),
            ("+gelu", "const ACT: u32 = 1u;"),
            ("+scale", "const SCALE: bool = true;"),
            ("+residual", "const RESIDUAL: bool = true;"),
            ("+heads", "const HEADS: bool = true;"),
        ] {
            if prelude.contains(line) {
                text.push_str(mark);
            }
        }
        text
    };
    plan.steps.iter().filter(|s| s.label.starts_with(scope)).map(describe).collect()
}

#[test]
fn a_vit_layer_is_seven_launches() {
    let attention = ["layer_norm", "matmul+bias+heads", "attention", "matmul+bias+residual"];
    let mlp = ["layer_norm", "matmul+bias+gelu", "matmul+bias+residual"];
    let net = Net::vit_base();
    let plan = compile(&net, 1, Precision::F32, false);
    for layer in 0..11 {
        assert_eq!(ops(&plan, &format!("layer.{layer}.attention")), attention, "layer {layer}");
        assert_eq!(ops(&plan, &format!("layer.{layer}.mlp")), mlp, "layer {layer}");
    }
    // Of the last layer's result only the class token is read, so only its row is computed.
    let last = [
        "layer_norm",
        "matmul+bias+heads",
        "attention",
        "slice_tokens",
        "slice_tokens",
        "matmul+bias+residual",
    ];
    assert_eq!(ops(&plan, "layer.11.attention"), last);
    assert_eq!(ops(&plan, "layer.11.mlp"), ["decode_linear+bias+gelu", "matmul+bias+residual"]);
    let rows = plan.steps.iter().rfind(|s| s.label == "layer.11.mlp").map(|s| s.shapes.clone()).unwrap();
    assert!(rows.ends_with("[1,1,768]"), "{rows}");
    // Pixels go from bytes to patches in one launch; the head is norm, token, classifier.
    assert_eq!(plan.steps[0].kernel.name, "patchify_bytes");
    assert_eq!(ops(&plan, "pixels"), [""; 0]);
    assert_eq!(ops(&plan, "head").last().unwrap(), "matmul+bias");
    let elsewhere = plan.steps.len() - 12 * 7;
    assert!(elsewhere <= 9, "{elsewhere} launches outside the layers:\n{plan}");

    let unfused = plan::compile(
        &net.graph(1, true),
        &Target::portable(),
        Options { fuse: false, ..Options::default() },
    );
    assert!(ops(&unfused.unwrap(), "layer.0").len() > 15, "unfused plans are fused");
}

/// The plans of a prompt and of one token of LlamaGen-B, for one or more samples with guidance.
fn llamagen(samples: usize, target: &Target) -> [Plan; 2] {
    plans("llamagen-b", samples, [New::Prompt(0), New::LAST], target)
}

/// Plans of a synthetic generator with guidance.
fn plans<const N: usize>(name: &str, samples: usize, news: [New; N], target: &Target) -> [Plan; N] {
    let options = session::Options { device: session::Device::Reference, ..session::Options::default() };
    let source = session::ModelSource::Synthetic(name.to_owned());
    let model = Generator::open(&source, &options).unwrap();
    news.map(|new| {
        let graph = model.graph(samples, true, new).unwrap();
        plan::compile(&graph, target, Options::default()).unwrap()
    })
}

#[test]
fn a_token_is_at_most_six_launches_a_layer_and_four() {
    for cpu in [false, true] {
        let [prompt, step] = llamagen(1, &portable(false, cpu));
        let layer: Vec<&str> =
            step.steps.iter().filter(|s| s.label.starts_with("layer.3.")).map(|s| s.op).collect();
        assert_eq!(layer, ["decode_linear", "attention", "matmul", "decode_linear", "matmul"], "{step}");
        assert_eq!(step.steps.len(), 12 * 5 + 3, "{step}");
        // Both read the same weights, but for the class table that only the prompt needs.
        let of = |plan: &Plan| plan.weights.iter().map(|w| w.weight.to_string()).collect::<BTreeSet<_>>();
        let [only_prompt, only_step] = [(&prompt, &step), (&step, &prompt)].map(|(a, b)| &of(a) - &of(b));
        assert_eq!(only_prompt.into_iter().collect::<Vec<_>>(), ["cls_embedding.embedding_table.weight"]);
        assert_eq!(only_step.into_iter().collect::<Vec<_>>(), ["tok_embeddings.weight"]);
        let states =
            |plan: &Plan| plan.states.iter().map(|s| (s.name.clone(), s.desc)).collect::<BTreeMap<_, _>>();
        let shared = states(&prompt);
        assert!(states(&step).iter().all(|(name, desc)| shared.get(name) == Some(desc)));
        snapshot(if cpu { "llamagen_step_cpu" } else { "llamagen_step_gpu" }, &step).unwrap();
    }
    // More rows than the kernels of a step take: norms, rotation and cache are launches of their own.
    let [_, step] = llamagen(9, &portable(false, false));
    assert_eq!(ops(&step, "layer.3.").len(), 9, "{step}");
}

/// With an instruction before each token there are more rows, and no more launches in a layer.
#[test]
fn any_order_costs_a_launch_outside_the_layers() {
    for cpu in [false, true] {
        let news = [New::LAST, New::Step { drawn: 3, next: 3 }];
        let [one, three] = plans("randar-0.3b", 1, news, &portable(false, cpu));
        for plan in [&one, &three] {
            assert_eq!(ops(plan, "layer.3.").len(), 5, "{plan}");
            // Embeddings, the rows that are scored, the head, the draw.
            assert_eq!(plan.steps.len(), 24 * 5 + 4, "{plan}");
        }
    }
    // More rows than the kernels of a step take.
    let several = [New::Step { drawn: 5, next: 5 }];
    let [plan] = plans("randar-0.3b", 1, several, &portable(false, false));
    assert_eq!(ops(&plan, "layer.3.").len(), 9, "{plan}");
}

#[test]
fn layer_scale_bias_tables_and_gates_are_folded_as_far_as_they_go() {
    // More rows than those for which a norm rides along.
    let dinov2 = compile(&Net::golden("dinov2_swiglu"), 5, Precision::F32, false);
    let attention = ["layer_norm", "matmul+bias+heads", "attention", "matmul+bias+scale+residual"];
    assert_eq!(ops(&dinov2, "layer.0.attention"), attention);
    let mlp = ["layer_norm", "matmul+bias", "glu", "matmul+bias+scale+residual"];
    assert_eq!(ops(&dinov2, "layer.0.mlp"), mlp);
    // BEiT: the key projection has no bias, and attention adds a table.
    let beit = compile(&Net::golden("beit"), 5, Precision::F32, false);
    let attention = ["layer_norm", "matmul+bias+heads", "attention+bias", "matmul+bias+scale+residual"];
    assert_eq!(ops(&beit, "layer.0.attention"), attention);
    for net in [Net::golden("vit"), Net::golden("timm_vit"), Net::golden("siglip_vision"), Net::builtin()] {
        let plan = compile(&net, 2, Precision::F32, false);
        let loose = ["add", "mul", "act", "scale", "split_heads", "normalise"];
        let found: Vec<&Step> =
            plan.steps.iter().filter(|s| s.label.starts_with("layer.") && loose.contains(&s.op)).collect();
        assert!(found.is_empty(), "{}: {} {}", net.name, found[0].op, found[0].label);
    }
}

// ---- weights above the binding limit

#[test]
fn only_weights_that_may_be_split_are_and_parts_fit() {
    let mut graph = Graph::new();
    let ids = graph.input("ids", TensorDesc::new(DType::U32, [7]));
    let table = graph.weight("table", [1001, 64]);
    let x = graph.gather(table, ids);
    let (w, b) = (graph.weight("w", [999, 64]), graph.weight("b", [999]));
    let x = graph.linear(x, w, Some(b));
    graph.output("y", x);
    for limit in [50_000u64, 65_536, 256_255, 1 << 20] {
        let target = Target { max_binding_bytes: limit, ..Target::portable() };
        let plan = plan::compile(&graph, &target, Options::default()).unwrap();
        for weight in &plan.weights {
            let rows = weight.shape.dims()[0];
            let mut next = 0;
            for (part, &(start, end)) in weight.parts.iter().enumerate() {
                assert_eq!(start, next, "{} part {part}", weight.weight);
                assert!(end > start && weight.part_bytes(part) <= limit, "{} part {part}", weight.weight);
                next = end;
            }
            assert_eq!(next, rows, "{}", weight.weight);
        }
        let parts: usize = plan.weights.iter().map(|w| w.parts.len()).sum();
        assert_eq!(parts > 3, limit < 256_256, "{limit}: {plan}");
        // Each part of the table and of the linear weight has a launch of its own; the bias has none.
        assert_eq!(plan.steps.len(), parts - 1, "{limit}: {plan}");
    }
    // A bias is never split; the limit and the tensor are named.
    let target = Target { max_binding_bytes: 3_990, ..Target::portable() };
    match plan::compile(&graph, &target, Options::default()) {
        Err(Error::Limit { need, have, .. }) => assert!(need > have && have == 3_990),
        other => panic!("{other:?}"),
    }
}

// ---- on a GPU

/// Compiles and runs a graph with the given weights.
fn run(
    gpu: &Arc<Gpu>,
    graph: &Graph,
    options: Options,
    weights: &(dyn Fn(&Weight, Shape) -> Result<HostTensor> + Sync),
    inputs: &[(&str, &HostTensor)],
) -> (Plan, Vec<HostTensor>) {
    let plan = plan::compile(graph, gpu.target(), options).unwrap_or_else(|e| panic!("{e}"));
    let store = Store::new();
    store.load(gpu, &plan, weights).unwrap_or_else(|e| panic!("{e}"));
    let mut executor = Executor::new(gpu.clone(), plan.clone(), &store).unwrap_or_else(|e| panic!("{e}"));
    (plan, executor.run(inputs).unwrap_or_else(|e| panic!("{e}")))
}

#[test]
fn unfused_plans_give_the_same_numbers() {
    let Some(gpu) = common::gpu() else { return };
    for net in Net::goldens() {
        let info = net.model.info();
        let [h, w] = info.image_size.into();
        let image = noise_image([2, info.channels, h, w], 1);
        let graph = net.graph(2, false);
        let [fused, unfused] = [true, false].map(|fuse| {
            let weights = |w: &Weight, s: Shape| net.weight(w, s);
            run(&gpu, &graph, Options { fuse, ..Options::default() }, &weights, &[("image", &image)])
        });
        assert!(fused.0.steps.len() < unfused.0.steps.len(), "{}: nothing was fused", net.name);
        common::assert_close(
            &format!("{}: fused against unfused", net.name),
            &fused.1[0],
            &unfused.1[0],
            1e-4,
            1e-4,
        );
    }
}

/// A device with another idea of how large a binding may be.
fn limited(bytes: u64) -> Option<Arc<Gpu>> {
    common::open(&DeviceChoice { max_binding_bytes: Some(bytes), ..DeviceChoice::default() })
}

#[test]
fn split_weights_give_the_same_numbers() {
    let Some(whole) = common::gpu() else { return };
    let Some(small) = limited(1 << 20) else { return };
    let mut graph = Graph::new();
    let ids = graph.input("ids", TensorDesc::new(DType::U32, [9]));
    // 4.1 MB each: five parts, the last one short.
    let table = graph.weight("table", [1001, 1024]);
    let x = graph.gather(table, ids);
    let (w, b) = (graph.weight("w", [1030, 1024]), graph.weight("b", [1030]));
    let y = graph.linear(x, w, Some(b));
    let y = graph.act(y, Act::Gelu);
    let s = graph.weight(Weight::tensor("s"), [1030]);
    let y = graph.mul(y, s);
    let other = graph.weight("other table", [7, 1030]);
    let r = graph.gather(other, ids);
    let y = graph.add(r, y);
    graph.output("y", y);
    let ids = HostTensor::u32([9], vec![0, 255, 256, 257, 511, 512, 1000, 3, 6]);
    let weights = |w: &Weight, s: Shape| Ok(noise_weight(w, s));
    for precision in [Precision::F32, Precision::F16] {
        if precision == Precision::F16 && !whole.target().f16 {
            eprintln!("SKIP: adapter `{}` has no f16", whole.report().name);
            continue;
        }
        let run = |gpu| run(gpu, &graph, options(precision), &weights, &[("ids", &ids)]);
        let (whole_plan, whole) = run(&whole);
        let (plan, split) = run(&small);
        let split_parts = if precision == Precision::F16 { 2 } else { 4 };
        assert!(plan.steps.len() >= whole_plan.steps.len() + split_parts, "{precision}: not split:\n{plan}");
        assert_eq!(whole[0], split[0], "{precision}");
        if precision == Precision::F32 {
            let want = vit_gpu::reference::run(&graph, &weights, &[("ids", ids.clone())]).unwrap();
            common::assert_close("split weights", &split[0], &want[0], 1e-4, 1e-4);
        }
    }
}

/// GPT-2's table of token embeddings: 154 MB in f32, above the 128 MiB that lavapipe (and WebGPU's
/// defaults) bind.
const TABLE: [usize; 2] = [50_257, 768];

/// An element of the big table, by formula, so that any row can be had alone.
fn element(row: usize, column: usize) -> f32 {
    let h = ((row * TABLE[1] + column) as u32).wrapping_mul(0x9e37_79b1);
    (h >> 8) as f32 / (1 << 23) as f32 - 1.0
}

fn big_table(_: &Weight, shape: Shape) -> Result<HostTensor> {
    assert_eq!(shape.dims(), TABLE);
    let data = (0..TABLE[0]).flat_map(|row| (0..TABLE[1]).map(move |column| element(row, column))).collect();
    Ok(HostTensor::f32(TABLE, data))
}

/// Rows around every border between parts, the first and the last, and one in five thousand.
fn telling_rows(plan: &Plan) -> Vec<usize> {
    let parts = &plan.weights[0].parts;
    assert!(parts.len() > 1, "{} bytes were not split", plan.weight_bytes());
    let borders = parts.iter().flat_map(|&(start, end)| [start, start + 1, end - 2, end - 1]);
    let rows: BTreeSet<usize> = borders.chain((0..TABLE[0]).step_by(5000)).collect();
    rows.into_iter().collect()
}

#[test]
fn a_table_of_154_mb_is_gathered_from() {
    let Some(gpu) = limited(128 << 20) else { return };
    let graph = |count: usize| {
        let mut graph = Graph::new();
        let ids = graph.input("ids", TensorDesc::new(DType::U32, [count]));
        let table = graph.weight("wte", TABLE);
        let y = graph.gather(table, ids);
        graph.output("y", y);
        graph
    };
    let rows = telling_rows(&plan::compile(&graph(1), gpu.target(), Options::default()).unwrap());
    // The last id is outside the table and must give zeros, not a neighbour's row.
    let ids: Vec<u32> = rows.iter().map(|&r| r as u32).chain([TABLE[0] as u32]).collect();
    let ids = HostTensor::u32([rows.len() + 1], ids);
    let (_, results) = run(&gpu, &graph(rows.len() + 1), Options::default(), &big_table, &[("ids", &ids)]);
    let got = results[0].as_f32().unwrap();
    for (i, &row) in rows.iter().enumerate() {
        for column in 0..TABLE[1] {
            assert_eq!(got[i * TABLE[1] + column], element(row, column), "row {row}, column {column}");
        }
    }
    assert!(got[rows.len() * TABLE[1]..].iter().all(|&x| x == 0.0), "an id outside the table");
}

#[test]
fn a_table_of_154_mb_is_a_language_model_head() {
    let Some(gpu) = limited(128 << 20) else { return };
    let mut graph = Graph::new();
    let x = graph.input("x", TensorDesc::f32([3, TABLE[1]]));
    let table = graph.weight("wte", TABLE);
    let y = graph.linear(x, table, None);
    graph.output("y", y);
    let x = noise_image([3, TABLE[1]], 2);
    let (plan, results) = run(&gpu, &graph, Options::default(), &big_table, &[("x", &x)]);
    let (x, got) = (x.as_f32().unwrap(), results[0].as_f32().unwrap());
    for token in 0..3 {
        for column in telling_rows(&plan) {
            let row = &x[token * TABLE[1]..][..TABLE[1]];
            let want: f64 =
                row.iter().enumerate().map(|(k, &x)| f64::from(x) * f64::from(element(column, k))).sum();
            let got = got[token * TABLE[0] + column];
            assert!(
                (f64::from(got) - want).abs() <= 1e-4,
                "token {token}, column {column}: gpu {got}, want {want}"
            );
        }
    }
}

/// Where operands of a product are brought into order first, those launches only move bytes: all the work is the
/// product's.
#[test]
fn packing_is_no_work() {
    let mut g = Graph::new();
    let [a, b] = ["a", "b"].map(|name| g.input(name, TensorDesc::f32([70, 64])));
    let y = g.product([a, b], [true, false]);
    g.output("y", y);
    let plan = plan::compile(&g, &Target::portable_cpu(), Options::default()).unwrap();
    let flops: Vec<(&str, u64)> = plan.steps.iter().map(|s| (s.kernel.name, s.cost.flops)).collect();
    let &[("pack", 0), ("pack", 0), (_, work)] = &flops[..] else { panic!("{flops:?}") };
    assert_eq!(work, 2 * 70 * 64 * 64);
    let moved = 2 * 70 * 64 * 4;
    assert!(plan.steps[..2].iter().all(|s| (moved..2 * moved).contains(&s.cost.bytes)), "{plan}");
}
