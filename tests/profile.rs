//! Measured runs: what is counted, how clocks are laid side by side, and what traces and images
//! hold. No time is ever asserted, only what must hold of any times.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use vit_gpu::gpu::ceilings::Ceilings;
use vit_gpu::gpu::timer::{Clock, Timer};
use vit_gpu::gpu::{DeviceChoice, Disabled, Executor, Store};
use vit_gpu::graph::Graph;
use vit_gpu::plan::{self, Options};
use vit_gpu::profile::Profile;
use vit_gpu::session::{BUILTIN, Device, ModelSource, Options as SessionOptions, Session};
use vit_gpu::tensor::{HostTensor, TensorDesc};

/// Ceilings that need no measuring.
fn some_ceilings() -> Ceilings {
    Ceilings {
        kernel_copy: 1e10,
        buffer_copy: 1.2e10,
        f32: 1e11,
        f16: Some(5e10),
        matrix: None,
        launch: 2e-6,
        clock: "GPU timestamps".to_owned(),
        took: 1.0,
    }
}

/// A profile of the built-in model, two images at a time.
fn profile(disabled: Disabled, runs: usize) -> Option<Profile> {
    common::gpu()?;
    let device = Device::Gpu(DeviceChoice { disabled, ..DeviceChoice::default() });
    let options = SessionOptions { device, ..SessionOptions::default() };
    let session = Session::open(&ModelSource::Builtin(BUILTIN.to_owned()), &options).unwrap();
    let mut timer = Timer::new(session.gpu().unwrap()).unwrap();
    let mut prepared = session.prepare(2, [64, 64], &["logits"]).unwrap();
    let mut heard = Vec::new();
    let progress = &mut |done| heard.push(done);
    let profile =
        Profile::measure(&session, &mut prepared, &mut timer, some_ceilings(), runs, progress).unwrap();
    assert_eq!(heard, (1..=runs).collect::<Vec<_>>());
    Some(profile)
}

// ---- what is counted

#[test]
fn every_launch_of_every_round_is_counted_once() {
    for disabled in [Disabled::default(), Disabled { timestamps: true, ..Disabled::default() }] {
        let Some(profile) = profile(disabled, 3) else { return };
        let totals = profile.totals();
        assert_eq!(totals.launches, profile.launches.len());
        assert!(profile.launches.iter().all(|l| l.times.len() == 3 && l.times.iter().all(|t| *t >= 0.0)));
        let (kernels, layers) = (profile.kernels(), profile.layers());
        for rows in [&kernels, &layers] {
            assert_eq!(rows.iter().map(|r| r.calls).sum::<usize>(), totals.launches);
            for row in rows {
                assert!(row.median_us <= row.p95_us && row.median_us.is_finite(), "{row:?}");
                assert!(
                    row.parts.is_empty() || row.parts.iter().map(|p| p.calls).sum::<usize>() == row.calls
                );
            }
        }
        let layers: Vec<&str> = layers.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(layers[..3], ["embeddings", "layer.0", "layer.1"], "in the order they run");
        assert!(totals.busy > 0.0 && totals.busy <= 1.0, "{totals:?}");
        // By how much sums and whole runs differ is for benchmarks; here it is a number.
        assert!(totals.excess().is_finite() && totals.pass_us > 0.0, "{totals:?}");
        let remarks = profile.remarks().join("\n");
        let wall = matches!(profile.clock, Clock::Wall(_));
        assert_eq!(wall, remarks.contains("wall clock"), "{remarks}");
        assert!(wall || !disabled.timestamps);
        for text in [profile.text(), profile.markdown(), profile.csv()] {
            assert!(kernels.iter().all(|k| text.contains(&k.name)), "{text}");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }
}

#[test]
fn device_times_lie_between_submission_and_the_end_of_the_wait() {
    let Some(profile) = profile(Disabled::default(), 2) else { return };
    let (offset, uncertainty) = profile.offset;
    for run in profile.rounds.iter().flat_map(|r| [&r.steps, &r.whole]) {
        let submitted = run.host.iter().find(|h| h.what == "submit").unwrap().span.start;
        let waited = run.host.iter().rfind(|h| h.what == "wait").unwrap().span.end;
        let slack = uncertainty + 1.0;
        for span in &run.device {
            let span = span.shifted(offset);
            assert!(span.start >= submitted - slack && span.end <= waited + slack, "{span:?} {run:?}");
        }
        assert!(run.host.windows(2).all(|w| w[0].span.end <= w[1].span.start));
        let order: BTreeSet<&str> = run.host.iter().map(|h| h.what).collect();
        assert_eq!(order, BTreeSet::from(["upload", "record", "submit", "wait", "read"]));
    }
}

/// More launches than a query set holds timestamps for, in many submissions.
#[test]
fn long_plans_are_timed_in_pieces() {
    let Some(gpu) = common::gpu() else { return };
    let mut g = Graph::new();
    g.scope("chain");
    let mut x = g.input("x", TensorDesc::f32([1, 4]));
    let steps = 2100;
    for _ in 0..steps {
        x = g.scale(x, 1.0);
    }
    g.output("y", x);
    let plan = plan::compile(&g, gpu.target(), Options { fuse: false, ..Options::default() }).unwrap();
    assert_eq!(plan.steps.len(), steps);
    let mut executor = Executor::new(gpu.clone(), plan, &Store::new()).unwrap();
    let mut timer = Timer::new(&gpu).unwrap();
    let input = HostTensor::f32([1, 4], vec![1.0, 2.0, 3.0, 4.0]);
    let inputs = [("x", &input)];
    for flops in [u64::MAX, 1000] {
        executor.set_submit_flops(flops);
        let run = executor.time_steps(&mut timer, &inputs).unwrap();
        assert_eq!(run.device.len(), steps);
        assert!(!executor.time_run(&mut timer, &inputs).unwrap().device.is_empty());
    }
    // A measured run leaves nothing behind.
    assert_eq!(executor.run(&inputs).unwrap()[0].to_f32(), input.to_f32());
}

#[test]
fn a_missing_input_is_an_error_of_measured_runs_too() {
    let Some(gpu) = common::gpu() else { return };
    let mut g = Graph::new();
    let x = g.input("x", TensorDesc::f32([1, 4]));
    let y = g.scale(x, 2.0);
    g.output("y", y);
    let plan = plan::compile(&g, gpu.target(), Options::default()).unwrap();
    let mut executor = Executor::new(gpu.clone(), plan, &Store::new()).unwrap();
    let mut timer = Timer::new(&gpu).unwrap();
    assert!(executor.time_steps(&mut timer, &[]).unwrap_err().to_string().contains("`x` is missing"));
    assert!(executor.time_run(&mut timer, &[]).is_err());
}

// ---- ceilings

#[test]
fn ceilings_are_kept_and_a_damaged_file_is_measured_again() {
    let Some(gpu) = common::gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut timer = Timer::new(&gpu).unwrap();
    let (first, measured) = Ceilings::of(&mut timer, Some(folder.path()), false).unwrap();
    assert!(measured);
    for rate in [first.kernel_copy, first.buffer_copy, first.f32, first.launch, first.f16.unwrap_or(1.0)] {
        assert!(rate.is_finite() && rate > 0.0, "{first:?}");
    }
    assert_eq!(first.f16.is_some(), gpu.target().f16);
    let kept = |timer: &mut Timer| Ceilings::of(timer, Some(folder.path()), false).unwrap();
    let (again, measured) = kept(&mut timer);
    // Text brings numbers back but for the last bit.
    let same = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b;
    assert!(!measured && same(again.f32, first.f32) && same(again.kernel_copy, first.kernel_copy));
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, b"vit-gpu ceilings 1 nonsense").unwrap();
    assert!(kept(&mut timer).1, "a damaged file does not count");
    assert!(!kept(&mut timer).1, "and is replaced");
    assert!(Ceilings::of(&mut timer, Some(folder.path()), true).unwrap().1, "--fresh");
    // A folder that cannot be written costs time, nothing else.
    let nowhere = file.join("below-a-file");
    assert!(Ceilings::of(&mut timer, Some(&nowhere), false).unwrap().1);
}

// ---- traces

/// Begin, length and name, in microseconds.
type Spans<'a> = Vec<(f64, f64, &'a str)>;

/// What Chrome's trace-event format and Perfetto ask of a trace, or what it breaks.
fn validate(trace: &Value) -> Result<(), String> {
    let events = trace["traceEvents"].as_array().ok_or("no traceEvents")?;
    if !matches!(trace["displayTimeUnit"].as_str(), None | Some("ms" | "ns")) {
        return Err("displayTimeUnit".to_owned());
    }
    let (mut threads, mut processes) = (BTreeSet::new(), BTreeSet::new());
    let mut tracks: BTreeMap<(u64, u64), Spans> = BTreeMap::new();
    for event in events {
        let wrong = |what: &str| format!("{what}: {event}");
        let name = event["name"].as_str().ok_or_else(|| wrong("no name"))?;
        let pid = event["pid"].as_u64().ok_or_else(|| wrong("no pid"))?;
        let tid = event["tid"].as_u64().ok_or_else(|| wrong("no tid"))?;
        if !event["args"].is_null() && !event["args"].is_object() {
            return Err(wrong("args are no object"));
        }
        match event["ph"].as_str() {
            Some("M") => match name {
                "process_name" | "thread_name" if event["args"]["name"].is_string() => {
                    if name == "thread_name" {
                        threads.insert((pid, tid));
                    } else {
                        processes.insert(pid);
                    }
                }
                "process_sort_index" | "thread_sort_index" if event["args"]["sort_index"].is_i64() => {}
                _ => return Err(wrong("metadata")),
            },
            Some("X") => {
                let time = |key: &str| {
                    let value = event[key].as_f64().filter(|v| v.is_finite() && *v >= 0.0);
                    value.ok_or_else(|| wrong(key))
                };
                tracks.entry((pid, tid)).or_default().push((time("ts")?, time("dur")?, name));
            }
            _ => return Err(wrong("ph")),
        }
    }
    for (track, mut spans) in tracks {
        if !threads.contains(&track) || !processes.contains(&track.0) {
            return Err(format!("track {track:?} has no name"));
        }
        // Outer before inner: by begin, then the longer one first.
        spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut open: Vec<(f64, &str)> = Vec::new();
        for (start, length, name) in spans {
            // Half a nanosecond: microseconds with three digits are not exact.
            while open.last().is_some_and(|(end, _)| *end <= start + 0.0005) {
                open.pop();
            }
            let end = start + length;
            if let Some((outer, around)) = open.last()
                && end > outer + 0.0005
            {
                return Err(format!("`{name}` begins inside `{around}` and ends after it"));
            }
            open.push((end, name));
        }
    }
    Ok(())
}

#[test]
fn traces_are_what_the_format_says() {
    for disabled in [Disabled::default(), Disabled { timestamps: true, ..Disabled::default() }] {
        let Some(profile) = profile(disabled, 2) else { return };
        // As it will be read: through text.
        let trace: Value = serde_json::from_str(&profile.trace("model", "device").to_string()).unwrap();
        validate(&trace).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let count = |category: &str| events.iter().filter(|e| e["cat"] == category).count();
        assert_eq!(count("launch"), 2 * profile.launches.len());
        assert_eq!(count("layer"), 2 * profile.layers().len());
        assert_eq!(count("run"), 4);
        let names: BTreeSet<&str> =
            events.iter().filter(|e| e["cat"] == "host").filter_map(|e| e["name"].as_str()).collect();
        assert_eq!(names, BTreeSet::from(["decode, resize", "upload", "record", "submit", "wait", "read"]));
        let track = |tid: u64| {
            events.iter().find(|e| e["name"] == "thread_name" && e["tid"] == tid).unwrap()["args"]["name"]
                .as_str()
                .unwrap()
        };
        assert_eq!(track(1), "CPU");
        assert_eq!(track(2).contains("wall clock"), matches!(profile.clock, Clock::Wall(_)));
    }
}

#[test]
fn the_validator_can_fail() {
    let name = |what: &str| json!({"name": what, "ph": "M", "pid": 1, "tid": 1, "args": {"name": "x"}});
    let span = |ts: f64, dur: f64| json!({"name": "s", "ph": "X", "pid": 1, "tid": 1, "ts": ts, "dur": dur});
    let trace = |events: &[Value]| json!({"traceEvents": events});
    let names = [name("process_name"), name("thread_name")];
    let with = |more: &[Value]| trace(&[&names[..], more].concat());
    validate(&with(&[span(0.0, 9.0), span(1.0, 3.0), span(4.0, 5.0), span(20.0, 0.0)])).unwrap();
    for (bad, why) in [
        (json!([]), "no traceEvents"),
        (trace(&[span(0.0, 1.0)]), "has no name"),
        (with(&[span(0.0, 5.0), span(3.0, 5.0)]), "ends after it"),
        (with(&[span(-1.0, 5.0)]), "ts"),
        (with(&[json!({"name": "s", "ph": "X", "pid": 1, "tid": 1, "ts": 0})]), "dur"),
        (with(&[json!({"name": "s", "ph": "X", "pid": 1, "ts": 0, "dur": 1})]), "no tid"),
        (with(&[json!({"name": "s", "ph": "?", "pid": 1, "tid": 1})]), "ph"),
        (with(&[json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": 1})]), "metadata"),
    ] {
        let error = validate(&bad).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
}

// ---- images

#[test]
fn every_kernel_is_a_labelled_point_under_labelled_roofs() {
    let Some(profile) = profile(Disabled::default(), 1) else { return };
    let scene = profile.roofline("model & <size>", "device");
    let svg = scene.svg();
    assert!(
        svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("model &amp; &lt;size&gt;")
    );
    for kernel in profile.kernels() {
        assert!(svg.contains(&format!(">{}", kernel.name)) || svg.contains(&kernel.name), "{}", kernel.name);
    }
    for roof in ["copy 12.0 GB/s", "f32 100 GFLOP/s", "f16 50.0 GFLOP/s"] {
        assert!(svg.contains(roof), "{roof}: {svg}");
    }
    let png = image::load_from_memory(&scene.png().unwrap()).unwrap().to_rgb8();
    let dark = png.pixels().filter(|p| p.0.iter().all(|c| *c < 128)).count();
    assert!(png.width() > 1000 && dark > 5000, "{}x{}, {dark} dark", png.width(), png.height());
}

// ---- synthetic models

#[test]
fn synthetic_models_are_ordinary_models() {
    let options = SessionOptions { device: Device::Reference, ..SessionOptions::default() };
    let open = |name: &str| Session::open(&ModelSource::Synthetic(name.to_owned()), &options);
    let session = open("vit-ti/16").unwrap();
    assert_eq!((session.info().hidden, session.info().layers, session.info().classes), (192, 12, Some(1000)));
    assert_eq!(session.name(), "synthetic:vit-ti/16");
    assert!(session.warnings().is_empty(), "{:?}", session.warnings());
    let plan = session.plan(1, [224, 224], &["logits"]).unwrap();
    assert!((plan.weight_bytes() as f64 / 4e6 - 5.7).abs() < 0.1, "{}", plan.weight_bytes());
    assert!(open("vit-ti/17").is_err());
    assert!(session.prepare(1, [224, 224], &["logits"]).is_err(), "the reference has no launches");
    assert!(!Path::new("synthetic:vit-ti").exists());
}
