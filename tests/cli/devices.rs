//! Adapters: rows G1 and G2, `devices`, `inspect`, `doctor`, and the choice of a device by flags and
//! environment.

use crate::common;
use crate::harness::{Ran, go, run, vit_gpu};

/// The environment of a machine without any driver.
fn without_adapters(arguments: &[&str]) -> Ran {
    run(vit_gpu(arguments).env("VK_DRIVER_FILES", "/nonexistent").env("WGPU_BACKEND", "vulkan"))
}

#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter() {
    let star = "assets/samples/star.png";
    without_adapters(&["infer", star]).code(4).says(&["no usable GPU adapter", "hint: ", "vit-gpu doctor"]);
    without_adapters(&["infer", star, "--device", "0"]).code(4).says(&["no adapter number 0"]);
    without_adapters(&["devices"]).code(4).says(&["no adapter found", "hint: "]);
    let json = without_adapters(&["devices", "--format", "json"]).code(4).json();
    assert_eq!(json["adapters"], serde_json::json!([]));
    let block = without_adapters(&["doctor"]).code(4).out;
    assert!(
        block.contains("adapters\n   none") && block.contains("verdict: no usable GPU adapter"),
        "{block}"
    );
    assert!(block.contains("VK_DRIVER_FILES=/nonexistent"), "{block}");
    // The reference needs none, and neither does looking at a model.
    without_adapters(&["infer", star, "--device", "reference"]).code(0);
    let ran = without_adapters(&["inspect", "--plan"]).code(0).says(&["WebGPU's default limits"]);
    assert!(ran.out.contains("matmul"), "{ran:#?}");
    without_adapters(&["inspect", "--device", "0"]).code(4);
    let ran = without_adapters(&["infer", star, "--device", "cpu", "--format", "json"]).code(0);
    assert_eq!(ran.json()["device"]["kind"], "reference");
    ran.says(&["no adapter on the CPU"]);
    let block = without_adapters(&["doctor", "--device", "reference"]).code(0).out;
    assert!(block.contains("all is well on reference"), "{block}");
}

#[test]
fn a_device_that_is_not_there() {
    let star = "assets/samples/star.png";
    let list = if common::gpu().is_some() { "hint: there is 0: " } else { "hint: there is none" };
    go(["infer", star, "--device", "99"]).code(4).says(&["no adapter number 99", list]);
    go(["infer", star, "--device", "nomatch"]).code(4).says(&["no adapter named like `nomatch`", list]);
    let with = |variables: &[(&str, &str)], more: &[&str]| {
        let mut command = vit_gpu(["infer", star, "--format", "json"]);
        run(command.args(more).envs(variables.iter().copied()))
    };
    with(&[("WGPU_ADAPTER_NAME", "nomatch")], &[]).code(4).says(&["nomatch", list]);
    with(&[("VIT_GPU_DEVICE", "nomatch")], &[]).code(4).says(&["nomatch"]);
    // A flag before VIT_GPU_DEVICE before wgpu's variable.
    let reference = |ran: Ran| assert_eq!(ran.code(0).json()["device"]["name"], "reference");
    reference(with(&[("VIT_GPU_DEVICE", "nomatch")], &["--device", "reference"]));
    reference(with(&[("VIT_GPU_DEVICE", "reference"), ("WGPU_ADAPTER_NAME", "nomatch")], &[]));
    go(["infer", star, "--backend", "glide"]).code(2).says(&["unknown backend `glide`", "vulkan"]);
    with(&[("VIT_GPU_BACKEND", "glide")], &[]).code(2).says(&["glide"]);
    with(&[("VIT_GPU_DTYPE", "f64")], &[]).code(2).says(&["f64"]);
}

#[test]
fn devices_lists_limits_and_a_verdict() {
    if common::gpu().is_none() {
        return;
    }
    let text = go(["devices"]).code(0).out;
    for part in
        ["0: ", "status", "supported", "driver", "limits", "features", "f16", "subgroups", "timestamps"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = go(["devices", "--format", "json"]).code(0).json();
    let kinds = json["adapters"].as_array().expect("a list").iter();
    if kinds.clone().any(|a| a["kind"] == "cpu" && a["usable"] == true) {
        let star = "assets/samples/star.png";
        let ran = go(["infer", star, "--device", "cpu", "--format", "json"]).code(0);
        assert_eq!(ran.json()["device"]["kind"], "cpu");
    }
    let first = &json["adapters"][0];
    assert_eq!((&json["schema_version"], &first["index"]), (&1.into(), &0.into()));
    assert!(first["max_binding_bytes"].as_u64().is_some_and(|n| n >= 1 << 20), "{json}");
    assert!(first["usable"].is_boolean() && first["f16"].is_boolean() && first["name"].is_string(), "{json}");
}

#[test]
fn the_gpu_answers_as_the_reference_does() {
    if common::gpu().is_none() {
        return;
    }
    let answers = |more: &[&str]| {
        let mut command = vit_gpu(["infer", "assets/samples", "--format", "json", "--logits", "-b", "4"]);
        run(command.args(more)).code(0)
    };
    let logits = |ran: &Ran| -> Vec<f64> {
        let json = ran.json();
        let rows = json["results"].as_array().expect("results").clone();
        rows.iter()
            .flat_map(|r| r["logits"].as_array().expect("logits").clone())
            .filter_map(|x| x.as_f64())
            .collect()
    };
    let want = logits(&answers(&["--device", "reference"]));
    assert_eq!(want.len(), 160);
    for more in [
        &[][..],
        &["--checked"],
        &["--device", "0"],
        &["--disable", "f16,subgroups,timestamps"],
        &["--no-mmap"],
    ] {
        let got = answers(more);
        for (g, w) in logits(&got).iter().zip(&want) {
            assert!((g - w).abs() <= 1e-4 + 1e-4 * w.abs(), "{more:?}: {g} instead of {w}");
        }
        let device = &got.json()["device"];
        assert_ne!(device["name"], "reference");
        // Whoever computes on the CPU after all is told, in one line.
        let said = got.err.matches("running on the CPU").count();
        assert_eq!(said, usize::from(device["kind"] == "cpu"), "{got:#?}");
    }
}

#[test]
fn inspect_shows_the_model() {
    let inspect = |more: &[&str]| {
        let mut command = vit_gpu(["inspect", "--device", "reference"]);
        run(command.args(more)).code(0)
    };
    let text = inspect(&[]).out;
    for part in [
        "builtin:shapes",
        "6 layers",
        "width 128",
        "65 at 64x64",
        "parameters     830",
        "FLOP",
        "logits",
        "heart",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = inspect(&["--format", "json", "-b", "2"]).json();
    assert_eq!((&json["structure"]["hidden"], &json["plan"]["batch"]), (&128.into(), &2.into()));
    let flops = |json: &serde_json::Value| json["plan"]["flops"].as_u64().expect("a number");
    let one = inspect(&["--format", "json"]).json();
    assert_eq!(flops(&json), 2 * flops(&one));
    assert!(one["plan"]["weight_bytes"].as_u64().is_some_and(|n| n > 3_000_000), "{one}");

    let dot = inspect(&["--graph", "dot"]).out;
    assert!(
        dot.starts_with("digraph") && dot.trim_end().ends_with('}') && dot.contains("attention"),
        "{dot}"
    );
    assert!(inspect(&["--graph", "text"]).out.contains("logits = %"));
    assert!(inspect(&["--plan", "--outputs", "hidden.2"]).out.contains("hidden.2 = "));
    go(["inspect", "--device", "reference", "--outputs", "nope"])
        .code(2)
        .says(&["no output `nope`", "logits"]);
    let other = inspect(&["-m", "tests/golden/siglip_vision"]).out;
    assert!(other.contains("classes        none"), "{other}");
}

#[test]
fn doctor_says_that_all_is_well() {
    let mut command = vit_gpu(["doctor"]);
    let secret = "hf_a_secret_nobody_must_see";
    command.env("HF_TOKEN", secret).env("VIT_GPU_DTYPE", "f32");
    if common::gpu().is_none() {
        return;
    }
    let ran = run(&mut command).code(0);
    for part in [
        "vit-gpu ",
        "adapters",
        "paths",
        "VIT_GPU_DTYPE=f32",
        "HF_TOKEN=(set)",
        "kernel cases agree",
        "verdict: all is well",
    ] {
        assert!(ran.out.contains(part), "{part}: {ran:#?}");
    }
    assert!(!ran.out.contains(secret) && !ran.err.contains(secret));
}

#[test]
fn models_that_cannot_be_used() {
    let star = "assets/samples/star.png";
    let model = |m: &str| go(["infer", "--device", "reference", star, "-m", m]).code(3);
    model("./no/such/folder").says(&["no such file or folder"]);
    model("tests/images").says(&["tests/images"]);
    model("tests/golden/vit_bin").says(&["pickle", "safetensors"]);
    model("assets/samples/star.png").says(&["star.png"]);
    model("Cargo.toml").says(&["Cargo.toml"]);
    let variable =
        run(vit_gpu(["infer", "--device", "reference", star]).env("VIT_GPU_MODEL", "./gone")).code(3);
    variable.says(&["./gone"]);
}
