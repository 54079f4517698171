//! What happens when the device, its driver or its limits let us down: rows G1 to G11 of the list
//! of faults, each with a typed error or the right answer, never a panic or a hang.
//!
//! | row | fault | expected |
//! | --- | --- | --- |
//! | G1 | no adapter | `NoDevice`, exit 4, with what to install |
//! | G2 | no adapter of that name or number | `NoDevice`, exit 4, listing those there are |
//! | G3 | limits too small | weights are split; else `Limit`, exit 4, naming need and have |
//! | G4 | batch too large | halved, same answers, and said so; else `OutOfMemory`, exit 5 |
//! | G5 | device lost | `DeviceLost`, exit 5, now and from then on |
//! | G6 | device does not answer | `Timeout`, exit 5, at the deadline; usable afterwards |
//! | G7 | odd sizes | as the reference, model by model (op by op: `tests/kernels.rs`) |
//! | G8 | features missing | same answers without them |
//! | G9 | NaN and huge pixels | that image's results are not finite; its neighbours' are right |
//! | G10 | twice, two threads, dropped while busy | bit-equal; no deadlock |
//! | G11 | damaged pipeline cache | ignored and rebuilt |
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/models.rs"]
mod models;

use std::path::Path;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use common::assert_close;
use models::{Net, VitShape, noise_image, noise_weight};
use sha2::{Digest, Sha256};
use vit_gpu::error::Advice;
use vit_gpu::generate::Generator;
use vit_gpu::gpu::{Adapters, DeviceChoice, DeviceSpec, Disabled, Executor, Gpu, Store};
use vit_gpu::graph::{Graph, Weight};
use vit_gpu::ops::Target;
use vit_gpu::plan::{self, Options, Plan, Precision};
use vit_gpu::session::{self, BUILTIN, Device, ModelSource, Session};
use vit_gpu::tensor::{HostTensor, Shape, TensorDesc};
use vit_gpu::text::{Passage, TextSession};
use vit_gpu::{Error, Result, reference, selftest};

/// Runs `f` on a thread of its own and fails if it takes longer than that.
fn within<T: Send + 'static>(seconds: u64, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(f()));
    match receiver.recv_timeout(Duration::from_secs(seconds)) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs: nothing within {seconds} s"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => unreachable!("the thread sends before it ends"),
        },
    }
}

fn noop() -> DeviceChoice {
    DeviceChoice { backends: vec!["noop".into()], ..DeviceChoice::default() }
}

/// The embedded classifier on a device.
fn open_builtin(choice: DeviceChoice, precision: Precision) -> Result<Session> {
    let options = session::Options {
        device: Device::Gpu(choice),
        precision: Some(precision),
        ..session::Options::default()
    };
    Session::open(&ModelSource::Builtin(BUILTIN.to_owned()), &options)
}

/// The embedded classifier on the adapter under test, or `None` after a loud skip.
fn builtin(choice: DeviceChoice) -> Option<Session> {
    common::gpu()?;
    let checked = std::env::var_os("VIT_GPU_CHECKED").is_some();
    Some(open_builtin(DeviceChoice { checked, ..choice }, Precision::F32).unwrap_or_else(|e| panic!("{e}")))
}

/// The same with nothing special, shared by the tests because software adapters compile slowly.
fn plain_builtin() -> Option<&'static Session> {
    static SESSION: OnceLock<Option<Session>> = OnceLock::new();
    // Each test that is skipped says so.
    common::gpu()?;
    SESSION.get_or_init(|| builtin(DeviceChoice::default())).as_ref()
}

/// Images of noise for the embedded classifier, as tensor.
fn pictures(count: usize, seed: u64) -> HostTensor {
    noise_image([count, 3, 64, 64], seed)
}

fn logits(session: &Session, image: &HostTensor) -> HostTensor {
    session.run_tensor(image, &["logits"]).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

/// Rows of a (B,K) tensor.
fn row(tensor: &HostTensor, i: usize) -> Vec<f32> {
    let width = tensor.shape().width();
    tensor.as_f32().unwrap()[i * width..(i + 1) * width].to_vec()
}

fn top1(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

// ---- G1, G2: no such adapter

/// Checks an error for a device that is not there.
fn assert_no_device(e: &Error, what: &str, help: &str) {
    assert!(matches!(e, Error::NoDevice { .. }), "{e:?}");
    assert!(e.message().contains(what), "expected `{what}` in: {e}");
    assert!(e.hint().unwrap().to_string().contains(help), "expected `{help}` in: {:?}", e.hint());
}

#[test]
fn g1_a_back_end_that_this_system_lacks() {
    let foreign = if cfg!(target_os = "macos") { "dx12" } else { "metal" };
    let choice = DeviceChoice { backends: vec![foreign.into()], ..DeviceChoice::default() };
    assert!(Adapters::list(&choice).unwrap().reports().is_empty());
    assert_no_device(&Gpu::open(&choice).err().unwrap(), "no usable GPU adapter", "there is none");
    assert_no_device(&open_builtin(choice, Precision::F32).err().unwrap(), "no usable", "install a driver");
    let unknown = DeviceChoice { backends: vec!["glide".into()], ..DeviceChoice::default() };
    let e = Gpu::open(&unknown).err().unwrap();
    assert!(matches!(e, Error::Usage { .. }) && e.to_string().contains("glide"), "{e}");
}

/// Says that a test has started this process to run itself in another environment.
#[cfg(target_os = "linux")]
const CHILD: &str = "VIT_GPU_TEST_CHILD";

/// Runs a test of this file in another process, under other variables and at most so many KiB of
/// addresses. It must pass there and print a sentence: nothing would pass too if no test had the name.
#[cfg(target_os = "linux")]
fn rerun(test: &str, addresses: &str, variables: &[(&str, &str)], sentence: &str) {
    assert!(std::env::var_os(CHILD).is_none(), "a rerun test must not start another");
    let mut child = std::process::Command::new("sh");
    child.args(["-c", &format!("ulimit -v {addresses} && exec \"$0\" \"$@\"")]);
    child.arg(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    child.env(CHILD, "1").envs(variables.iter().copied()).env_remove("VK_ADD_DRIVER_FILES");
    let output = within(60, move || child.output().unwrap());
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains(sentence), "{text}");
}

/// Runs in a process of its own, because the loader reads its environment.
#[test]
#[cfg(target_os = "linux")]
fn g1_without_a_driver() {
    if std::env::var_os(CHILD).is_some() {
        let e = Gpu::open(&DeviceChoice::default()).err().unwrap();
        assert_no_device(&e, "no usable GPU adapter", "mesa-vulkan-drivers");
        println!("checked without a driver");
        return;
    }
    let variables = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    rerun("g1_without_a_driver", "$(ulimit -v)", &variables, "checked without a driver");
}

#[test]
fn g2_no_adapter_of_that_name_or_number() {
    let choose = |device| DeviceChoice { device, ..noop() };
    let e = Gpu::open(&choose(DeviceSpec::Index(99))).err().unwrap();
    assert_no_device(&e, "no adapter number 99", "0: noop");
    let e = Gpu::open(&choose(DeviceSpec::Name("no such card".into()))).err().unwrap();
    assert_no_device(&e, "`no such card`", "0: noop");
    assert!(Gpu::open(&choose(DeviceSpec::Name("NOOP".into()))).is_ok(), "names are matched in part");
    let Some(gpu) = common::gpu() else { return };
    let choice = DeviceChoice { device: DeviceSpec::Index(99), ..DeviceChoice::default() };
    assert_no_device(&Gpu::open(&choice).err().unwrap(), "99", &gpu.report().name);
}

// ---- G3, G4: too small

#[test]
fn g3_limits_too_small_split_weights_or_say_what_is_needed() {
    let run = |bytes| {
        let session =
            open_builtin(DeviceChoice { max_binding_bytes: Some(bytes), ..noop() }, Precision::F32).unwrap();
        session.run_tensor(&pictures(1, 0), &["logits"])
    };
    // The image alone is 48 KiB, weights up to 256 KiB are split, activations reach 96 KiB.
    assert!(run(128 << 10).is_ok());
    for bytes in [64 << 10, 10_000, 16, 0] {
        let e = run(bytes).err().unwrap();
        let Error::Limit { need, have, .. } = e else { panic!("{e:?}") };
        assert!(need > have && have == bytes, "{e}");
        assert!(e.message().contains(&need.to_string()) && e.hint().is_some(), "{e}");
    }
}

#[test]
fn g4_a_batch_that_does_not_fit_is_halved() {
    let Some(whole) = plain_builtin() else { return };
    // Weights are split too (G3), and only a single image's activations fit.
    let small = DeviceChoice { max_binding_bytes: Some(150 << 10), ..DeviceChoice::default() };
    let small = builtin(small).unwrap();
    let split = small.plan(1, [64, 64], &["logits"]).unwrap();
    assert!(split.weights.iter().any(|w| w.parts.len() > 1), "{split}");
    let image = pictures(21, 2);
    let got = logits(&small, &image);
    assert_eq!(got.shape().dims(), [21, 16]);
    let warnings = small.warnings().join("; ");
    assert!(
        warnings.contains("batch of 21 does not fit") && warnings.contains("going on with 1"),
        "{warnings}"
    );
    // At once, on a device without that limit: planned for 24, padded.
    let want = logits(whole, &image);
    assert_close("one by one against all at once", &got, &want, 1e-4, 1e-4);
    assert!(whole.warnings().is_empty(), "{:?}", whole.warnings());
    // The size that fits is kept: no new warnings, same answers.
    assert_eq!(logits(&small, &image), got);
    assert_eq!(small.warnings().join("; "), warnings);
}

#[test]
fn g4_absurd_batches_are_limits_not_overflows() {
    let net = Net::builtin();
    for batch in [1_000_000, 100_000_000, 5_000_000_000] {
        for cpu in [false, true] {
            let target = Target { cpu, max_binding_bytes: u64::MAX, ..Target::portable() };
            let e = plan::compile(&net.graph(batch, true), &target, Options::default()).err().unwrap();
            assert!(matches!(e, Error::Limit { .. }), "{e:?}");
            let target = Target { cpu, ..Target::portable() };
            let e = plan::compile(&net.graph(batch, true), &target, Options::default()).err().unwrap();
            assert!(matches!(e, Error::Limit { .. }), "{e:?}");
        }
    }
}

/// Runs in a process of its own, which may not have more than 1.5 GB of addresses.
#[test]
#[cfg(target_os = "linux")]
fn g4_memory_that_runs_out_is_an_error_and_the_device_stays_usable() {
    if std::env::var_os(CHILD).is_none() {
        let test = "g4_memory_that_runs_out_is_an_error_and_the_device_stays_usable";
        // Threads reserve addresses that they do not use.
        let variables = [("RAYON_NUM_THREADS", "1"), ("MALLOC_ARENA_MAX", "1")];
        rerun(test, "1500000", &variables, "checked with little memory");
        return;
    }
    let gpu = Arc::new(Gpu::open(&noop()).unwrap_or_else(|e| panic!("{e}")));
    let echo = |rows: usize| {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorDesc::f32([rows, 1 << 10]));
        graph.output("y", x);
        plan::compile(&graph, gpu.target(), Options::default()).unwrap()
    };
    let e = executor(&gpu, echo(500_000)).err().unwrap();
    let Error::OutOfMemory { bytes, .. } = e else { panic!("{e:?}") };
    assert_eq!(bytes, 500_000 << 12);
    assert_eq!(e.hint(), Some(&Advice::LessMemory));
    let x = noise_image([3, 1 << 10], 0);
    assert_eq!(executor(&gpu, echo(3)).unwrap().run(&[("x", &x)]).unwrap()[0], x);
    println!("checked with little memory");
}

// ---- G5, G6: the device goes away, or does not answer

/// Rows and columns of what [`long_plan`] multiplies.
const SIDE: usize = 512;

/// A plan of `steps` matmuls of 0.27 GFLOP each, one after the other.
fn long_plan(gpu: &Gpu, steps: usize) -> Plan {
    let mut graph = Graph::new();
    let mut x = graph.input("x", TensorDesc::f32([SIDE, SIDE]));
    for i in 0..steps {
        graph.scope(format!("step.{i}"));
        let w = graph.weight("w", [SIDE, SIDE]);
        x = graph.linear(x, w, None);
    }
    graph.output("y", x);
    plan::compile(&graph, gpu.target(), Options::default()).unwrap()
}

fn executor(gpu: &Arc<Gpu>, plan: Plan) -> Result<Executor> {
    let store = Store::new();
    store.load(gpu, &plan, &|w, s| Ok(noise_weight(w, s)))?;
    Executor::new(gpu.clone(), plan, &store)
}

/// Steps that keep the adapter busy for long enough to be caught at it.
fn many(gpu: &Gpu) -> usize {
    if gpu.target().cpu { 12 } else { 2000 }
}

fn assert_lost(e: &Error) {
    assert!(matches!(e, Error::DeviceLost { .. }), "{e:?}");
    assert_eq!(e.hint(), Some(&Advice::CheckMachine));
}

#[test]
fn g5_a_lost_device_is_an_error_now_and_from_then_on() {
    let Some(gpu) = common::gpu() else { return };
    within(60, move || {
        let x = noise_image([SIDE, SIDE], 0);
        let plan = long_plan(&gpu, 1);
        let mut executor = executor(&gpu, plan.clone()).unwrap();
        executor.run(&[("x", &x)]).unwrap();
        gpu.destroy();
        let started = Instant::now();
        for _ in 0..3 {
            assert_lost(&executor.run(&[("x", &x)]).err().unwrap());
        }
        assert_lost(&Store::new().load(&gpu, &plan, &|w, s| Ok(noise_weight(w, s))).err().unwrap());
        assert_lost(&Executor::new(gpu.clone(), plan, &Store::new()).err().unwrap());
        assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
        // A new device of the same adapter is not affected.
        let fresh = common::gpu().unwrap();
        let mut executor = self::executor(&fresh, long_plan(&fresh, 1)).unwrap();
        executor.run(&[("x", &x)]).unwrap();
    });
}

#[test]
fn g5_a_device_lost_in_the_middle_of_a_run_does_not_hang_it() {
    let Some(gpu) = common::gpu() else { return };
    within(60, move || {
        let mut executor = executor(&gpu, long_plan(&gpu, many(&gpu))).unwrap();
        let destroyer = std::thread::spawn({
            let gpu = gpu.clone();
            move || {
                std::thread::sleep(Duration::from_millis(30));
                gpu.destroy();
            }
        });
        let x = noise_image([SIDE, SIDE], 0);
        // A fast device may be done before it is destroyed.
        if let Err(e) = executor.run(&[("x", &x)]) {
            assert_lost(&e);
        }
        destroyer.join().unwrap();
        let e = executor.run(&[("x", &x)]).err().unwrap();
        assert_lost(&e);
        assert!(e.to_string().contains("Destroyed"), "{e}");
    });
}

#[test]
fn g6_a_run_past_its_deadline_is_a_timeout_and_the_next_one_works() {
    let Some(gpu) = common::gpu() else { return };
    within(120, move || {
        let mut executor = executor(&gpu, long_plan(&gpu, many(&gpu))).unwrap();
        let x = noise_image([SIDE, SIDE], 0);
        let want = executor.run(&[("x", &x)]).unwrap();
        let started = Instant::now();
        assert_eq!(executor.run(&[("x", &x)]).unwrap(), want);
        let usual = started.elapsed();
        let deadline = (usual / 10).min(Duration::from_millis(200));

        executor.set_deadline(deadline);
        let started = Instant::now();
        let e = executor.run(&[("x", &x)]).err().unwrap();
        let took = started.elapsed();
        assert!(matches!(e, Error::Timeout { .. }), "{e:?}");
        assert!(
            took < deadline + Duration::from_secs(1),
            "deadline {deadline:?}, took {took:?}, usually {usual:?}"
        );

        // Still busy with the abandoned run; the next one waits for it.
        executor.set_deadline(Duration::from_secs(60));
        assert_eq!(executor.run(&[("x", &x)]).unwrap(), want);
    });
}

// ---- G7: odd sizes

/// A model on the adapter against the reference; batches also with the kernels that are planned for
/// the other kind of adapter.
fn assert_parity(gpu: &Arc<Gpu>, net: &Net, batch: usize) {
    let graph = net.graph(batch, false);
    let [h, w] = net.model.info().image_size.into();
    let image = noise_image([batch, 3, h, w], 3);
    let load = |w: &Weight, s: Shape| net.weight(w, s);
    let want = reference::run(&graph, &load, &[("image", image.clone())]).unwrap();
    let native = gpu.target().cpu;
    for cpu in if batch > 1 { vec![native, !native] } else { vec![native] } {
        let target = Target { cpu, ..gpu.target().clone() };
        let plan = plan::compile(&graph, &target, Options::default()).unwrap();
        let store = Store::new();
        store.load(gpu, &plan, &load).unwrap();
        let got = Executor::new(gpu.clone(), plan, &store).unwrap().run(&[("image", &image)]).unwrap();
        let what = format!("{} b{batch}, cpu kernels: {cpu}", net.name);
        assert_close(&what, &got[0], &want[0], 1e-4, 1e-4);
        assert!(want[0].as_f32().unwrap().iter().any(|x| x.abs() > 1e-3), "{what}: all results are zero");
    }
}

#[test]
fn g7_models_of_odd_sizes_agree_with_the_reference() {
    let Some(gpu) = common::gpu() else { return };
    let vit = VitShape { image: 8, patch: 8, hidden: 75, heads: 25, mlp: 10, layers: 1, classes: 2 };
    for (tokens, batch, net) in [
        (1, 1, Net::gap(8, 8, 15, 3, 1)),
        (1, 7, Net::gap(4, 4, 25, 25, 2)),
        (2, 7, vit.net()),
        (65, 7, VitShape { image: 16, patch: 2, hidden: 66, heads: 3, mlp: 130, layers: 2, ..vit }.net()),
        (197, 1, VitShape { image: 28, patch: 2, hidden: 34, heads: 1, mlp: 65, classes: 1001, ..vit }.net()),
        (1025, 1, VitShape { image: 32, patch: 1, hidden: 33, heads: 3, mlp: 31, classes: 1, ..vit }.net()),
    ] {
        let info = net.model.info();
        let grid = info.grid();
        assert_eq!(info.prefix_tokens + grid[0] * grid[1], tokens, "{}", net.name);
        assert_parity(&gpu, &net, batch);
    }
}

// ---- G8: features missing

#[test]
fn g8_features_switched_off_change_no_answer() {
    let Some(default) = plain_builtin() else { return };
    let disabled = Disabled { f16: true, subgroups: true, timestamps: true, matrices: true };
    let choice = DeviceChoice { disabled, ..DeviceChoice::default() };
    let gpu = Gpu::open(&choice).unwrap_or_else(|e| panic!("{e}"));
    assert!(!gpu.target().f16 && !gpu.report().subgroups && !gpu.report().timestamps);
    // Asked for f16 all the same, a plan falls back to f32.
    let options = Options { precision: Precision::F16, ..Options::default() };
    let plan = plan::compile(&Net::builtin().graph(1, true), gpu.target(), options).unwrap();
    assert!(!plan.steps.iter().any(|s| s.variant.uses_f16()), "{plan}");
    let e = open_builtin(choice.clone(), Precision::F16).err().unwrap();
    assert_no_device(&e, "f16", "f32");

    let plain = builtin(choice).unwrap();
    let image = pictures(2, 4);
    // Other kernels may add in another order.
    common::compare(&logits(&plain, &image), &logits(default, &image), 1e-5, 1e-5).unwrap();
}

#[test]
fn g8_with_f16_the_answer_is_nearly_the_same() {
    let Some(f32_session) = plain_builtin() else { return };
    if !common::gpu().unwrap().target().f16 {
        eprintln!("SKIP: adapter `{}` has no f16", f32_session.device().name);
        return;
    }
    let f16_session = open_builtin(DeviceChoice::default(), Precision::F16).unwrap_or_else(|e| panic!("{e}"));
    let image = pictures(4, 5);
    let (got, want) = (logits(&f16_session, &image), logits(f32_session, &image));
    assert_ne!(got, want, "f16 was not used");
    assert_close("f16 against f32", &got, &want, 2e-2, 2e-2);
    for i in 0..4 {
        assert_eq!(top1(&row(&got, i)), top1(&row(&want, i)), "image {i}");
    }
}

// ---- G9: pixels that are no pixels

#[test]
fn g9_pixels_that_are_not_finite_stay_in_their_picture() {
    let Some(session) = plain_builtin() else { return };
    let good = pictures(3, 6);
    let want = logits(session, &good);
    let area = 3 * 64 * 64;
    type Patch = (&'static str, fn(usize) -> Option<f32>);
    let patches: [Patch; 5] = [
        ("one NaN", |i| (i == 77).then_some(f32::NAN)),
        ("all NaN", |_| Some(f32::NAN)),
        ("infinities", |i| Some(if i % 2 == 0 { f32::INFINITY } else { f32::NEG_INFINITY })),
        ("3e38", |i| Some(if i % 2 == 0 { 3e38 } else { -3e38 })),
        ("1e30", |_| Some(1e30)),
    ];
    for (what, pixel) in patches {
        let mut data = good.as_f32().unwrap().to_vec();
        for i in 0..area {
            if let Some(x) = pixel(i) {
                data[area + i] = x;
            }
        }
        let got = logits(session, &HostTensor::f32([3, 3, 64, 64], data));
        for i in [0, 2] {
            let (got, want) = (HostTensor::f32([16], row(&got, i)), HostTensor::f32([16], row(&want, i)));
            assert_close(&format!("{what}: neighbour {i}"), &got, &want, 1e-5, 1e-5);
        }
        let bad = row(&got, 1);
        let finite = bad.iter().filter(|x| x.is_finite()).count();
        if what.contains("NaN") || what == "infinities" {
            // Nothing that could be taken for an answer: callers count non-finite logits (exit 6).
            assert_eq!(finite, 0, "{what}: {bad:?}");
        } else {
            // Overflow may saturate or not, but not in part.
            assert!(finite == 0 || finite == 16, "{what}: {bad:?}");
        }
    }
}

// ---- G10: twice, at once, and gone

#[test]
fn g10_the_same_input_gives_the_same_bits_on_every_thread() {
    let Some(session) = plain_builtin() else { return };
    within(60, move || {
        let images: Vec<HostTensor> = (0..4).map(|seed| pictures(1 + seed as usize % 2, seed)).collect();
        let want: Vec<HostTensor> = images.iter().map(|image| logits(session, image)).collect();
        assert_ne!(want[0], want[2], "two images, one answer");
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (images, want) = (&images, &want);
                scope.spawn(move || {
                    for n in 0..8 {
                        let i = (n + 2 * thread) % images.len();
                        assert_eq!(logits(session, &images[i]), want[i], "thread {thread}, run {n}");
                    }
                });
            }
        });
    });
}

#[test]
fn g10_two_executors_of_one_device_run_at_once() {
    let Some(gpu) = common::gpu() else { return };
    within(60, move || {
        let x = noise_image([SIDE, SIDE], 1);
        let mut executors = [1, 2].map(|steps| executor(&gpu, long_plan(&gpu, steps)).unwrap());
        let want = executors.each_mut().map(|e| e.run(&[("x", &x)]).unwrap());
        std::thread::scope(|scope| {
            for (executor, want) in executors.iter_mut().zip(&want) {
                let x = &x;
                scope.spawn(move || {
                    for _ in 0..3 {
                        assert_eq!(&executor.run(&[("x", x)]).unwrap(), want);
                    }
                });
            }
        });
    });
}

#[test]
fn g10_an_executor_or_a_device_may_be_dropped_while_busy() {
    let Some(gpu) = common::gpu() else { return };
    within(60, move || {
        let x = noise_image([SIDE, SIDE], 1);
        let mut small = executor(&gpu, long_plan(&gpu, 1)).unwrap();
        let want = small.run(&[("x", &x)]).unwrap();
        let busy = |gpu: &Arc<Gpu>| {
            let mut executor = executor(gpu, long_plan(gpu, many(gpu))).unwrap();
            executor.set_deadline(Duration::ZERO);
            let result = executor.run(&[("x", &x)]);
            assert!(matches!(result, Err(Error::Timeout { .. })), "{result:?}");
        };
        // Its buffers are still in use by the device when the executor goes.
        busy(&gpu);
        assert_eq!(small.run(&[("x", &x)]).unwrap(), want);
        // The device itself, still computing.
        busy(&gpu);
        drop((small, gpu));
        let gpu = common::gpu().unwrap();
        assert_eq!(executor(&gpu, long_plan(&gpu, 1)).unwrap().run(&[("x", &x)]).unwrap(), want);
    });
}

// ---- G11: damaged pipeline caches

/// A device that keeps pipelines under a folder, after it has compiled and run one; and the result.
fn run_with_cache(folder: &Path) -> (Gpu, HostTensor) {
    let choice = DeviceChoice { cache_dir: Some(folder.to_owned()), ..DeviceChoice::default() };
    let gpu = Arc::new(Gpu::open(&choice).unwrap_or_else(|e| panic!("{e}")));
    let case = selftest::all().into_iter().find(|c| c.name == "layer_norm 7x255").unwrap();
    let (result, _) = case.run(&gpu, gpu.target(), Options::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_close("against the reference", &result, &case.reference().unwrap(), 2e-5, 2e-5);
    (Arc::into_inner(gpu).unwrap(), result)
}

/// What precedes the driver's data in a cache file: a line that names the format, and a digest.
fn sealed(data: &[u8]) -> Vec<u8> {
    [b"vit-gpu pipelines 1\n".as_slice(), Sha256::digest(data).as_slice(), data].concat()
}

#[test]
fn g11_a_damaged_pipeline_cache_is_ignored_and_rebuilt() {
    let Some(gpu) = common::gpu() else { return };
    if !gpu.report().pipeline_cache {
        eprintln!("SKIP: adapter `{}` keeps no pipelines", gpu.report().name);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (gpu, want) = run_with_cache(folder.path());
    let file = gpu.cache_file().unwrap();
    drop(gpu);
    let good = std::fs::read(&file).unwrap();
    assert!(file.starts_with(folder.path()));
    let data = good[good.len().min(52)..].to_vec();
    assert_eq!(sealed(&data), good, "the format has changed: adapt this test");

    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    // wgpu puts vendor, device and driver in front of the driver's own data; all else is intact.
    let mut foreign = data.clone();
    foreign.iter_mut().take(48).skip(8).for_each(|b| *b ^= 0x55);
    let mut foreign_driver = data.clone();
    foreign_driver.iter_mut().skip(48).for_each(|b| *b ^= 0x55);
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("cut", good[..good.len() / 2].to_vec()),
        ("one bit flipped", flipped),
        ("garbage", vec![0xa5; 10_000]),
        ("sealed garbage", sealed(&[0xa5; 10_000])),
        ("sealed nothing", sealed(&[])),
        ("of another adapter, by wgpu's header", sealed(&foreign)),
        ("of another driver, by its own header", sealed(&foreign_driver)),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        let (gpu, got) = run_with_cache(folder.path());
        assert_eq!(gpu.cache_file().unwrap(), file, "{what}");
        assert_eq!(got, want, "{what}");
        let rebuilt = std::fs::read(&file).unwrap();
        assert_ne!(rebuilt, bytes, "{what}: the file was kept");
        assert_eq!(sealed(&rebuilt[52..]), rebuilt, "{what}: the file was not rebuilt");
        assert!(rebuilt.len() + 1000 > good.len(), "{what}: {} bytes, were {}", rebuilt.len(), good.len());
    }
    let leftovers = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(leftovers, 1, "temporary files are left");

    // Where nothing can be written, everything else still works.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(run_with_cache(folder.path()).1, want, "a folder in the file's place");
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, b"not a folder").unwrap();
    assert_eq!(run_with_cache(&blocked).1, want, "a file in the folder's place");
}

/// A copy of a model folder in which the first element of every f32 and f16 tensor is NaN.
fn with_nan(folder: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let mut bytes = std::fs::read(&file).unwrap();
        if file.extension().is_some_and(|e| e == "safetensors") {
            let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let header: serde_json::Value = serde_json::from_slice(&bytes[8..data]).unwrap();
            for tensor in header.as_object().unwrap().values().filter(|t| t["dtype"].is_string()) {
                let at = data + tensor["data_offsets"][0].as_u64().unwrap() as usize;
                match tensor["dtype"].as_str().unwrap() {
                    "F32" => bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes()),
                    "F16" => bytes[at..at + 2].copy_from_slice(&half::f16::NAN.to_le_bytes()),
                    _ => {}
                }
            }
        }
        std::fs::write(copy.path().join(file.file_name().unwrap()), bytes).unwrap();
    }
    copy
}

#[test]
fn weights_that_are_not_finite_are_told_of_whatever_the_model_is() {
    let options = session::Options { device: Device::Reference, ..session::Options::default() };
    let told = |warnings: Vec<String>| {
        let warnings = warnings.join("; ");
        assert!(warnings.contains("NaN or infinite"), "{warnings}");
    };
    let folder = with_nan("tests/golden/bert_seqcls");
    let texts = TextSession::open(&ModelSource::Path(folder.path().to_owned()), &options).unwrap();
    texts.run(&[Passage { ids: vec![1, 2, 3], ..Passage::default() }], &["logits"]).unwrap();
    told(texts.warnings());
    // The decoder of tokens is sound here, and the decoder of images is not.
    let folder = with_nan("tests/golden/llamagen");
    std::fs::copy("tests/golden/llamagen/gpt.safetensors", folder.path().join("gpt.safetensors")).unwrap();
    let generator = Generator::open(&ModelSource::Path(folder.path().to_owned()), &options).unwrap();
    generator.decode_values(&[vec![0; generator.info().tokens]]).unwrap();
    told(generator.warnings());
}
