//! The arithmetic of a profile, on times made by hand.

use super::*;

/// One launch with its time in each of two rounds.
fn launch(label: &str, kernel: &str, shapes: &str, cost: [u64; 2], times: [f64; 2]) -> Launch {
    Launch {
        label: label.to_owned(),
        kernel: kernel.to_owned(),
        shapes: shapes.to_owned(),
        dtype: "f32".to_owned(),
        cost: Cost { flops: cost[0], bytes: cost[1] },
        roof: 1e12,
        times: times.to_vec(),
    }
}

/// Launches one after the other with a microsecond between them.
fn run(times: impl Iterator<Item = f64>) -> TimedRun {
    let mut at = 0.0;
    let mut span = |time: f64| {
        let span = Span { start: at, end: at + time };
        at = span.end + 1e3;
        span
    };
    let device: Vec<Span> = times.map(&mut span).collect();
    TimedRun { device, host: Vec::new(), total: Span { start: 0.0, end: at + 1e3 } }
}

/// A pass of four launches; as usual it takes `pass` nanoseconds.
fn profile(pass: [f64; 2]) -> Profile {
    let launches = vec![
        launch("embeddings", "patchify", "a -> b", [0, 1_000_000], [1e5, 3e5]),
        // 1e9 operations at 1e12 a second are a millisecond.
        launch("layer.0.mlp", "matmul", "b -> c", [1_000_000_000, 1000], [2e6, 2e6]),
        launch("layer.0.mlp", "matmul", "c -> b", [1_000_000_000, 1000], [4e6, 4e6]),
        launch("layer.10.mlp", "add", "b b -> b", [10, 40], [1500.0, 1500.0]),
    ];
    let round = |i: usize| Round {
        decode: Span::default(),
        steps: run(launches.iter().map(|l| l.times[i])),
        whole: run([pass[i]].into_iter()),
        end_to_end: 8e-3,
    };
    let rounds = vec![round(0), round(1)];
    let ceilings = Ceilings {
        kernel_copy: 1e10,
        buffer_copy: 5e9,
        f32: 1e12,
        f16: None,
        matrix: None,
        launch: 1e-6,
        clock: String::new(),
        took: 0.0,
    };
    Profile {
        clock: Clock::Gpu,
        batch: 4,
        size: Size::square(8),
        ceilings,
        launches,
        rounds,
        offset: (0.0, 0.0),
    }
}

#[test]
fn rows_add_up() {
    let profile = profile([6.1e6, 6.3e6]);
    let kernels = profile.kernels();
    let names: Vec<&str> = kernels.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["matmul", "patchify", "add"], "costliest first");
    let matmul = &kernels[0];
    assert_eq!((matmul.calls, matmul.total_us, matmul.median_us, matmul.p95_us), (2, 6000.0, 3000.0, 4000.0));
    assert!((matmul.gflops - 2e9 / 6e6).abs() < 1e-9 && (matmul.roofline - 1.0 / 3.0).abs() < 1e-9);
    assert_eq!(matmul.bound, Bound::Compute);
    assert_eq!(matmul.parts.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["c -> b", "b -> c"]);
    let patchify = &kernels[1];
    // 1e6 bytes at the faster copy's 1e10 a second are 100 us of the 200 us it takes.
    assert!((patchify.roofline - 0.5).abs() < 1e-9, "{patchify:?}");
    assert_eq!((patchify.bound, patchify.intensity, patchify.parts.len()), (Bound::Memory, 0.0, 0));
    assert_eq!(kernels[2].bound, Bound::Launch);
    assert!((kernels.iter().map(|r| r.share).sum::<f64>() - 1.0).abs() < 1e-9);
    let layers: Vec<String> = profile.layers().into_iter().map(|r| r.name).collect();
    assert_eq!(layers, ["embeddings", "layer.0", "layer.10"]);
}

#[test]
fn totals_and_what_is_said_of_them() {
    let profile = profile([6.1e6, 6.3e6]);
    let t = profile.totals();
    assert_eq!((t.launches, t.steps_us, t.steps_best_us), (4, 6201.5, 6101.5));
    assert!((t.step_gaps_us - 3.0).abs() < 1e-6 && (t.pass_us - 6200.0).abs() < 1e-6, "{t:?}");
    assert_eq!((t.end_to_end_us, t.images_per_second), (8000.0, 500.0));
    assert!(t.busy > 0.99 && t.busy < 1.0 && t.excess().abs() < 0.001, "{t:?}");
    assert_eq!(profile.remarks(), [""; 0]);
    let said = |pass| self::profile(pass).remarks().join("; ");
    assert!(said([4e6, 4e6]).contains("53% more"), "{}", said([4e6, 4e6]));
    assert!(said([9e6, 9e6]).contains("rounds differ"), "{}", said([9e6, 9e6]));
    assert!(said([6e6, 16e6]).contains("something else keeps the machine busy"));
}

#[test]
fn labels_and_layers() {
    for (label, of) in [
        ("layer.3.attention", "layer.3"),
        ("layer.11", "layer.11"),
        ("embeddings", "embeddings"),
        ("head.pool", "head"),
        ("", ""),
        ("layer.", "layer"),
    ] {
        assert_eq!(layer(label), of, "{label}");
    }
}

#[test]
fn quantiles_lie_between_neighbours() {
    assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
    assert_eq!(quantile(&[1.0, 2.0], 1.0), 2.0);
    assert_eq!((quantile(&[], 0.5), quantile(&[7.0], 0.95)), (0.0, 7.0));
}

#[test]
fn labels_of_crowded_points_do_not_cover_each_other() {
    use crate::render::plot::Shape;
    let mut profile = profile([6.1e6, 6.3e6]);
    for i in 0..14 {
        let kernel = format!("another_kernel_{i} way{i}");
        let bytes = 2_000_000 + 100_000 * i;
        profile.launches.push(launch("head", &kernel, "x -> y", [1_000_000_000, bytes], [4e6, 4e6]));
    }
    for (i, round) in profile.rounds.iter_mut().enumerate() {
        round.steps = run(profile.launches.iter().map(|l| l.times[i]));
    }
    let scene = profile.roofline("model", "device");
    let labels: Vec<([f32; 2], f32)> = scene
        .shapes
        .iter()
        .filter_map(|shape| match shape {
            Shape::Words { at, text, size, angle: 0.0, .. } if text.contains('%') => {
                Some((*at, crate::render::letters::width(text, *size)))
            }
            _ => None,
        })
        .collect();
    // Every kernel that computes, and the line about those that only move data.
    assert_eq!(labels.len(), 14 + 2 + 1);
    for (i, (a, wide)) in labels.iter().enumerate() {
        for (b, other) in &labels[i + 1..] {
            let apart = (a[1] - b[1]).abs() >= 14.0 || a[0] + wide <= b[0] || b[0] + other <= a[0];
            assert!(apart, "{a:?} {b:?}");
        }
    }
}
