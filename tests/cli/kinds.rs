//! Models that draw, that classify, and that work on texts: `inspect` of those that draw, and one message
//! where they are mixed up.

use serde_json::Value;

use crate::common;
use crate::harness::{Ran, golden, names, run, scratch, vit_gpu};
use crate::tiny::Tiny;

const LLAMAGEN: &str = "tests/golden/llamagen";
const COLOURS: &str = "tests/golden/imagegpt";

fn inspect(model: &str, more: &[&str]) -> Ran {
    run(vit_gpu(["inspect", "--device", "reference", "-m", model]).args(more))
}

#[test]
fn inspect_shows_a_model_that_draws() {
    let text = inspect(LLAMAGEN, &[]).code(0).out;
    for part in [
        "(llamagen, LlamaGen), generates images",
        "2 layers, width 36, 3 heads, vocabulary 64",
        "16, 4x4 patches of 2x2 pixels: images of 8x8",
        "parameters     36.1 k (36108)",
        "codec          VQ, 64 codes of width 8",
        "classes        5 (numbers): LABEL_0",
        "defaults       temperature 1, top-k 2000, top-p all, guidance 4",
        "device         reference",
        "\nprompt ",
        "\ntoken ",
        "; must read ",
        "\nimage          96 launches",
        "with and without its class",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = inspect(COLOURS, &[]).code(0).out;
    for part in [
        "palette of 32 colours",
        "classes        none",
        "no guidance",
        "image          looked up on the host",
        "patches of 1x1 pixels",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn inspect_of_a_model_that_draws_as_json_graph_and_plans() {
    let json = |more: &[&str]| inspect(LLAMAGEN, &[&["--format", "json"], more].concat()).code(0).json();
    let one = json(&[]);
    let facts = [("layers", 2), ("heads", 3), ("hidden", 36), ("vocabulary", 64), ("tokens", 16)];
    for (name, value) in facts {
        assert_eq!(one["structure"][name], value, "{one}");
    }
    assert_eq!(one["structure"]["grid"], serde_json::json!([4, 4]));
    assert_eq!((&one["codec"]["kind"], &one["codec"]["codes"]), (&"vq".into(), &64.into()));
    assert_eq!((&one["guided"], &one["defaults"]["cfg_scale"]), (&true.into(), &4.0.into()));
    // Keys and values: 2 rows, 2 layers, 2 of (16,36) f32.
    assert_eq!(one["cache_bytes_per_sample"], 2 * 2 * 2 * 16 * 36 * 4);
    let parts: Vec<&str> =
        one["plans"].as_array().expect("plans").iter().filter_map(|p| p["part"].as_str()).collect();
    assert_eq!(parts, ["prompt", "token", "image"]);
    let token = |json: &Value, name: &str| json["plans"][1][name].as_u64().expect("a number");
    let four = json(&["-b", "4"]);
    assert_eq!(four["cache_bytes_per_sample"], one["cache_bytes_per_sample"]);
    assert_eq!(token(&four, "weight_bytes"), token(&one, "weight_bytes"), "samples share weights");
    assert!(token(&one, "must_read_bytes") < token(&one, "weight_bytes") + 20_000, "{one}");
    assert!(one["plans"][0].get("must_read_bytes").is_none(), "{one}");

    let plans = inspect(LLAMAGEN, &["--plan", "-b", "2"]).code(0).out;
    let headings: Vec<&str> = plans.lines().filter(|l| l.starts_with("# ")).collect();
    assert_eq!(headings.len(), 3, "{plans}");
    assert!(headings[1].starts_with("# token") && headings[1].contains("2 samples, 4 rows"), "{plans}");
    let dot = inspect(LLAMAGEN, &["--graph", "dot"]).code(0).out;
    assert!(dot.starts_with("digraph") && dot.contains("sample"), "{dot}");
    assert!(inspect(COLOURS, &["--graph", "text"]).code(0).out.contains("ids = %"));
    inspect(LLAMAGEN, &["--image-size", "16"]).code(2).says(&["--image-size", "leave --image-size away"]);
    inspect(LLAMAGEN, &["--outputs", "logits"]).code(2).says(&["--outputs"]);
}

#[test]
fn inspect_counts_what_a_token_must_read_as_generate_does() {
    use vit_gpu::generate::{Generator, Order, Request};
    use vit_gpu::ops::{Guidance, Sampling};
    use vit_gpu::session::{ModelSource, Options};

    if common::gpu().is_none() {
        return;
    }
    for (model, class, scale) in [("llamagen", Some(1), 2.0), ("imagegpt", None, 1.0)] {
        let options = Options { tuning_budget: std::time::Duration::ZERO, ..Options::default() };
        let generator = Generator::open(&ModelSource::Path(golden(model)), &options).expect("a model");
        let guidance = Guidance { first: scale, last: scale, places: 1 };
        let sampling = Sampling { seed: 1, temperature: 0.0, top_k: 0, top_p: 1.0, guidance };
        let classes = vec![class; 2];
        let request = Request {
            classes,
            first: 0,
            sampling,
            prime: Vec::new(),
            order: Order::Raster,
            parallel: None,
            every: 0,
        };
        let stats = generator.generate(&request, &mut |_| Ok(())).expect("two images").stats;
        let json =
            run(vit_gpu(["inspect", "-q", "--no-tune", "-b", "2", "--format", "json", "-m"])
                .arg(golden(model)))
            .code(0)
            .json();
        assert_eq!(json["plans"][1]["must_read_bytes"], stats.bytes_per_step, "{model}");
        assert_eq!(json["plans"][1]["launches"], stats.launches_per_step, "{model}");
    }
}

#[test]
fn a_model_of_the_other_kind_is_named_as_such() {
    let folder = scratch();
    let out = folder.path().join("out.png").to_str().expect("text").to_owned();
    let star = "assets/samples/star.png";
    let draws = ["generates images", "vit-gpu generate", "profile --generate"];
    let commands: [&[&str]; 9] = [
        &["infer", star, "-m", "builtin:shapes-gpt"],
        &["infer", star, "-m", LLAMAGEN],
        &["infer", star, "-m", "tests/golden/llamagen/gpt.safetensors"],
        &["infer", star, "--attention", &out, "-m", COLOURS],
        &["bench", "-m", LLAMAGEN],
        &["bench", "--synthetic", "llamagen-b"],
        &["tune", "-m", COLOURS],
        &["tune", "--synthetic", "llamagen-xl/384"],
        &["profile", "-m", LLAMAGEN],
    ];
    for command in commands {
        let ran = run(&mut vit_gpu(command)).code(2).says(&draws);
        assert_eq!((ran.out.as_str(), ran.err.matches("error: ").count()), ("", 1), "{ran:#?}");
    }
    for command in ["generate", "profile"] {
        let mut command = vit_gpu([command, "-m", "builtin:shapes"]);
        match command.get_args().next().and_then(|a| a.to_str()) {
            Some("generate") => command.args(["-o", &out]),
            _ => command.arg("--generate"),
        };
        run(&mut command).code(2).says(&["does not generate images", "builtin:shapes-gpt does"]);
    }
    for command in [&["generate", "-o", &out][..], &["tokens", star], &["profile", "--generate"]] {
        let mut command = vit_gpu(command);
        run(command.args(["-m", "tests/golden/vit"])).code(2).says(&["does not generate images", "LlamaGen"]);
    }
    for command in [&["infer", star][..], &["generate", "-o", &out], &["inspect"], &["tune"]] {
        let mut command = vit_gpu(command);
        let both = ["there is no builtin model `nope`", "builtin:shapes,", "builtin:shapes-gpt"];
        run(command.args(["-m", "builtin:nope"])).code(2).says(&both);
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn flags_for_images_and_flags_for_texts() {
    let (bert, gpt2) = (Tiny::new("bert_seqcls"), Tiny::new("gpt2"));
    let star = "assets/samples/star.png";
    let reference = |model: &Tiny, command: &str, more: &[&str]| {
        run(vit_gpu([command, "-q", "--device", "reference", "-m", model.at()]).args(more))
    };
    let one = |ran: Ran, says: &[&str]| {
        let ran = ran.code(2).says(says);
        assert_eq!((ran.out.as_str(), ran.err.matches("error: ").count()), ("", 1), "{ran:#?}");
    };
    for flags in [
        &[star][..],
        &["--attention", "a.png"],
        &["--embeddings", "e.safetensors"],
        &["--image-size", "64"],
        &["-r"],
        &["--no-exif"],
    ] {
        let ran = reference(&bert, "infer", &[&["--text", "a"], flags].concat());
        one(ran, &["is for models of images", "reads texts"]);
    }
    one(reference(&bert, "embed", &["--text", "a", star]), &["an image is for models of images"]);
    for flags in [
        &["--class", "1"][..],
        &["--zoom", "2"],
        &["--cfg-scale", "2"],
        &["--entropy", "e.png"],
        &["--tokens", "t.json"],
        &["--num-steps", "2"],
    ] {
        let ran = reference(&gpt2, "generate", &[&["--prompt", "a"], flags].concat());
        one(ran, &[flags[0], "generate images", "writes texts"]);
    }
    for flags in
        [&["--text", "a"][..], &["--question", "a", "--context", "b"], &["--perplexity"], &["--truncate"]]
    {
        let ran = run(vit_gpu(["infer", "-m", "tests/golden/vit"]).args(flags));
        one(ran, &[flags[0], "looks at images"]);
    }
    one(run(&mut vit_gpu(["infer", "-m", "tests/golden/llamagen", "--text", "a"])), &["generates images"]);
    one(run(&mut vit_gpu(["embed", "-m", "tests/golden/vit", "--text", "a"])), &["looks at images"]);
    one(run(&mut vit_gpu(["embed", "-m", "builtin:shapes-gpt", star])), &["generates images"]);
    one(
        run(&mut vit_gpu(["generate", "-m", "tests/golden/llamagen", "--prompt", "a"])),
        &["generates images"],
    );
    one(run(&mut vit_gpu(["infer", "--text", "a"])), &["none is built in", "-m FOLDER"]);
    one(run(&mut vit_gpu(["generate", "--prompt", "a"])), &["none is built in"]);
    // Images for a model of texts, and commands that have nothing to do with them.
    let texts = ["--text", "--prompt"];
    one(reference(&bert, "infer", &[star]), &["reads texts, not images", texts[0]]);
    one(reference(&bert, "embed", &[star]), &["reads texts"]);
    for command in [&["tokens", star][..], &["generate", "-o", "a.png"], &["profile", "--generate"]] {
        one(reference(&gpt2, command[0], &command[1..]), &["works on texts", texts[1]]);
    }
    for command in ["profile", "tune"] {
        one(run(&mut vit_gpu([command, "-m", bert.at()])), &["reads texts, not images"]);
    }
    one(run(&mut vit_gpu(["bench", "-m", bert.at()])), &["reads texts, not images"]);
    one(reference(&bert, "generate", &["--prompt", "a"]), &["BertForSequenceClassification", "cannot write"]);
}
