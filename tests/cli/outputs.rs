//! Formats, and the files that `infer` writes.

use std::fs;

use safetensors::SafeTensors;

use crate::harness::{go, golden, infer, names, sample, scratch};

#[test]
fn text_is_for_people() {
    let ran = go(["infer", "--device", "reference", "assets/samples", "-k", "1"]).code(0);
    assert_eq!(ran.out.lines().count(), 20, "{ran:#?}");
    assert!(ran.out.contains("assets/samples/star.png\n   98."), "{ran:#?}");
    assert!(ran.out.contains("%  star  (10)"), "{ran:#?}");
    // One line, and it says what to pass for photographs.
    assert_eq!(ran.err.lines().count(), 1, "{ran:#?}");
    ran.says(&["built-in", "photographs", "-m "]);

    let quiet = infer(["-q", "assets/samples/star.png"]).code(0);
    assert_eq!(quiet.err, "");
    let named = infer(["-m", "builtin:shapes", "assets/samples/star.png"]).code(0);
    assert_eq!(named.err, "", "a model that was asked for is not announced");
    infer(["-m", "builtin:nothing", "assets/samples/star.png"]).code(2).says(&["builtin:shapes"]);
}

#[test]
fn json_has_the_documented_form() {
    let ran = infer([
        "assets/samples/star.png",
        "nope.png",
        "assets/samples/heart.png",
        "--format",
        "json",
        "--logits",
    ]);
    let json = ran.code(1).says(&["error: nope.png: cannot be read"]).json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["model"]["id"], "builtin:shapes");
    assert_eq!(json["model"]["family"], "vit");
    assert_eq!(json["device"]["name"], "reference");
    for part in ["load", "decode", "run", "total"] {
        assert!(json["timing_ms"][part].as_f64().is_some_and(|t| t >= 0.0), "{json}");
    }
    let results = json["results"].as_array().expect("results");
    assert_eq!(results.len(), 3);
    let star = &results[0];
    assert_eq!(star["input"], "assets/samples/star.png");
    assert_eq!(star["predictions"][0]["label"], "star");
    assert_eq!(star["predictions"][0]["index"], 10);
    assert!(star["predictions"][0]["probability"].as_f64().is_some_and(|p| p > 0.9 && p <= 1.0));
    assert_eq!(star["predictions"].as_array().map(Vec::len), Some(5));
    assert_eq!(star["logits"].as_array().map(Vec::len), Some(16));
    assert!(star.get("error").is_none());
    assert!(results[1]["error"].as_str().is_some_and(|e| e.contains("cannot be read")), "{json}");
    assert!(results[1].get("predictions").is_none() && results[1].get("logits").is_none());
}

#[test]
fn probabilities_are_the_softmax_of_the_logits() {
    let json = infer(["assets/samples/star.png", "--format", "json", "--logits", "-k", "0"]).code(0).json();
    let row = &json["results"][0];
    let logits: Vec<f64> =
        row["logits"].as_array().expect("logits").iter().map(|x| x.as_f64().expect("a number")).collect();
    let sum: f64 = logits.iter().map(|x| x.exp()).sum();
    let predictions = row["predictions"].as_array().expect("predictions");
    assert_eq!(predictions.len(), logits.len());
    let mut before = f64::INFINITY;
    for p in predictions {
        let (index, got) =
            (p["index"].as_u64().expect("an index"), p["probability"].as_f64().expect("a number"));
        assert!((got - logits[index as usize].exp() / sum).abs() < 1e-6, "{p}");
        assert!(got <= before, "best first");
        before = got;
    }
}

#[test]
fn json_lines_are_the_results_of_json() {
    let arguments =
        ["assets/samples/star.png", "nope.png", "assets/samples/heart.png", "-k", "2", "--format"];
    let lines = infer(arguments.iter().chain(&["jsonl"])).code(1).json_lines();
    let json = infer(arguments.iter().chain(&["json"])).code(1).json();
    assert_eq!(serde_json::Value::Array(lines), json["results"]);
}

#[test]
fn csv_has_a_row_a_class_and_quotes() {
    let folder = scratch();
    let odd = folder.path().join("a, \"b\".png");
    fs::copy(sample("star"), &odd).expect("a copy");
    let csv = |extra: &[&str]| {
        let mut arguments = vec![odd.to_str().expect("text"), "nope.png", "-k", "2", "--format", "csv"];
        arguments.extend(extra);
        infer(arguments).code(1).out
    };
    let plain = csv(&[]);
    let lines: Vec<&str> = plain.split("\r\n").collect();
    assert_eq!(lines[0], "input,rank,index,label,probability,error");
    assert!(lines[1].contains("a, \"\"b\"\".png\",1,10,star,0.98"), "{plain}");
    assert!(lines[2].contains("\",2,"), "{plain}");
    assert!(lines[3].starts_with("nope.png,,,,,cannot be read"), "{plain}");
    assert_eq!(lines.len(), 5, "{plain}");
    assert!(csv(&["--logits"]).starts_with("input,rank,index,label,probability,logit,error\r\n"));
}

#[test]
fn how_many_classes() {
    let count = |k: &str| {
        let json = infer(["assets/samples/star.png", "--format", "json", "-k", k]).code(0).json();
        json["results"][0]["predictions"].as_array().map(Vec::len)
    };
    assert_eq!(count("0"), Some(16), "0 is all");
    assert_eq!(count("1000000000"), Some(16), "more than there are is all");
    assert_eq!(count("3"), Some(3));
    for wrong in ["-1", "1e9", "nan", ""] {
        infer(["assets/samples/star.png", "-k", wrong]).code(2).says(&["--top-k"]);
    }
}

#[test]
fn embeddings_are_a_readable_file() {
    let folder = scratch();
    let file = folder.path().join("e.safetensors");
    let path = file.to_str().expect("text");
    fs::write(&file, "replaced").expect("a file");
    infer(["assets/samples/star.png", "nope.png", "assets/samples/heart.png", "--embeddings", path]).code(1);
    let bytes = fs::read(&file).expect("the embeddings");
    let read = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor = read.tensor("embedding").expect("the tensor");
    assert_eq!(tensor.shape(), [2, 128], "a row for each image that worked");
    let (_, about) = SafeTensors::read_metadata(&bytes).expect("a header");
    let about = about.metadata().clone().expect("metadata");
    let inputs = read.tensor("inputs").expect("the inputs").data();
    assert_eq!(inputs, br#"["assets/samples/star.png","assets/samples/heart.png"]"#);
    assert_eq!(about["model"], "builtin:shapes");
    assert_eq!(names(folder.path()), ["e.safetensors"], "no draft is left");

    // Nothing worked: what was there stays.
    infer(["nope.png", "--embeddings", path]).code(1).says(&["not written"]);
    assert_eq!(fs::read(&file).expect("the embeddings"), bytes);
}

#[test]
fn a_model_without_classes_gives_embeddings() {
    let folder = scratch();
    let file = folder.path().join("e.safetensors");
    let (model, path) = (golden("clip_vision"), file.to_str().expect("text").to_owned());
    let model = model.to_str().expect("text");
    infer(["-m", model, "assets/samples/star.png"]).code(2).says(&["no classifier head", "--embeddings"]);
    let lines =
        infer(["-m", model, "assets/samples/star.png", "--embeddings", &path, "--format", "jsonl"]).code(0);
    assert_eq!(lines.json_lines()[0], serde_json::json!({"input": "assets/samples/star.png"}));
    let bytes = fs::read(&file).expect("the embeddings");
    let read = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors = read.names();
    tensors.sort_unstable();
    assert_eq!(tensors, ["embedding", "inputs"]);
    assert_eq!(read.tensor("embedding").expect("the projection").shape(), [1, 20]);
}

#[test]
fn features_are_pictures_in_colours_of_their_own() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let model = golden("dinov3");
    let model = model.to_str().expect("text");
    let [star, heart] = ["star", "heart"].map(|name| format!("assets/samples/{name}.png"));
    let pca = |more: &[&str]| infer(more.iter().copied().chain(["-m", model, "--format", "json"]));
    let ran = pca(&[&star, &heart, "nope.png", "--features-pca", &at("many")]).code(1);
    let rows = ran.json()["results"].clone();
    assert!(rows[0]["features"].as_str().is_some_and(|path| path.ends_with("star.features.png")));
    assert!(rows[2]["error"].is_string() && rows[2].get("features").is_none());
    assert_eq!(names(&folder.path().join("many")), ["heart.features.png", "star.features.png"]);
    for name in ["a.png", "b.png"] {
        pca(&[&star, "--features-pca", &at(name), "--image-size", "32x48"]).code(0);
    }
    assert!(fs::read(at("a.png")).expect("a file") == fs::read(at("b.png")).expect("a file"));
    let image = image::open(at("a.png")).expect("an image").to_rgb8();
    // 32x48 four times; patches of 8 pixels.
    assert_eq!(image.dimensions(), (192, 128));
    let cell = |x: u32, y: u32| image.get_pixel(x * 32 + 5, y * 32 + 20).0;
    let all: Vec<_> = (0..24).map(|i| cell(i % 6, i / 6)).collect();
    assert!(all.iter().any(|colour| *colour != all[0]), "{all:?}");
    assert!((0..32).all(|d| image.get_pixel(64 + d, 32 + d).0 == cell(2, 1)), "a patch is of one colour");
    // A whole range of each.
    for c in 0..3 {
        let values = || all.iter().map(|colour| colour[c]);
        assert_eq!((values().min(), values().max()), (Some(0), Some(255)));
    }
    pca(&[&star, "--features-pca", &at("c.png"), "--attention", &at("d.png")]).code(2);
}

#[test]
fn attention_is_a_picture_of_the_right_size() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    infer(["assets/samples/star.png", "--attention", &at("star.png")]).code(0);
    let size = |name: &str| image::image_dimensions(folder.path().join(name)).expect("an image");
    assert_eq!(size("star.png"), (256, 256), "64x64 four times");
    infer(["assets/samples/star.png", "--attention", &at("wide.png"), "--image-size", "64x96"]).code(0);
    assert_eq!(size("wide.png"), (384, 256), "its aspect is the preprocessed image's");
    infer([
        "assets/samples/star.png",
        "--attention",
        &at("one.png"),
        "--attention-layer",
        "5",
        "--attention-head",
        "3",
    ])
    .code(0);
    assert_ne!(fs::read(at("one.png")).expect("a file"), fs::read(at("star.png")).expect("a file"));

    // Several go into a folder, which is made; JSON says where each went.
    let ran = infer([
        "assets/samples/star.png",
        "assets/samples/heart.png",
        "--attention",
        &at("maps"),
        "--format",
        "json",
    ]);
    let json = ran.code(0).json();
    assert_eq!(names(&folder.path().join("maps")), ["heart.attention.png", "star.attention.png"]);
    assert!(json["results"][1]["attention"].as_str().is_some_and(|p| p.ends_with("heart.attention.png")));
    assert_eq!(names(folder.path()), ["maps", "one.png", "star.png", "wide.png"], "no draft is left");

    let two = ["assets/samples/star.png", "assets/samples/heart.png", "--attention"];
    infer(two.into_iter().chain([at("star.png").as_str()])).code(2).says(&["name a directory"]);
    infer(["assets/samples/star.png", "--attention", &at("x.png"), "--attention-layer", "6"])
        .code(2)
        .says(&["6 layers", "from 0 to 5"]);
    infer(["assets/samples/star.png", "--attention-layer", "1"]).code(2).says(&["--attention"]);
}

#[test]
fn attention_shows_where_the_shape_is() {
    let folder = scratch();
    let path = folder.path().join("a.png");
    infer(["assets/samples/star.png", "--attention", path.to_str().expect("text")]).code(0);
    let picture = image::open(&path).expect("an image").to_rgb8();
    let red = |x: u32, y: u32| f64::from(picture.get_pixel(x, y).0[0]);
    let corners = (red(8, 8) + red(248, 8) + red(8, 248) + red(248, 248)) / 4.0;
    assert!(red(128, 60) > corners + 80.0, "the star's tip is hotter than the corners");
}

#[test]
fn outputs_replace_files_but_never_inputs() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    fs::copy(sample("star"), at("star.png")).expect("a copy");
    let before = fs::read(at("star.png")).expect("a file");
    for flag in ["--attention", "--embeddings"] {
        infer([&at("star.png"), flag, &at("star.png")]).code(2).says(&["would replace an input"]);
        let roundabout =
            at("../") + folder.path().file_name().and_then(|n| n.to_str()).expect("text") + "/star.png";
        infer([&at("star.png"), flag, &roundabout]).code(2).says(&["would replace an input"]);
        infer([&at("star.png"), flag, &at("no/such/file")])
            .code(1)
            .says(&["cannot write", "there is no folder"]);
        infer([&at("star.png"), flag, &at("star.png/x")]).code(1).says(&["cannot write"]);
    }
    infer([&at("star.png"), "--attention", &at("x"), "--embeddings", &at("x")])
        .code(2)
        .says(&["the same file"]);
    assert_eq!(fs::read(at("star.png")).expect("a file"), before);

    // Nor the model's own files.
    fs::create_dir(at("model")).expect("a folder");
    for file in ["config.json", "model.safetensors", "preprocessor_config.json"] {
        fs::copy(golden("vit").join(file), folder.path().join("model").join(file)).expect("a copy");
    }
    let weights = at("model/model.safetensors");
    infer(["-m", &at("model"), &at("star.png"), "--embeddings", &weights])
        .code(2)
        .says(&["a file of the model"]);
    fs::write(at("model/map.png"), "mine").expect("a file");
    infer(["-m", &at("model"), &at("star.png"), "--attention", &at("model/map.png")])
        .code(2)
        .says(&["a file of the model"]);
    infer(["-m", &at("model"), &at("star.png"), "--embeddings", &at("model/new")]).code(0);
    assert_eq!(
        fs::read(weights).expect("a file"),
        fs::read(golden("vit/model.safetensors")).expect("a file")
    );
}

#[test]
fn nan_is_an_error_and_never_json() {
    let folder = scratch();
    for file in ["config.json", "preprocessor_config.json"] {
        fs::copy(golden("vit").join(file), folder.path().join(file)).expect("a copy");
    }
    // The last tensor's last element becomes NaN, whichever it is.
    let mut weights = fs::read(golden("vit/model.safetensors")).expect("weights");
    let header = u64::from_le_bytes(weights[..8].try_into().expect("eight bytes")) as usize;
    let json: serde_json::Value = serde_json::from_slice(&weights[8..8 + header]).expect("a header");
    let offsets = &json["classifier.bias"]["data_offsets"];
    let at = 8 + header + offsets[0].as_u64().expect("an offset") as usize;
    weights[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(folder.path().join("model.safetensors"), weights).expect("a file");
    let model = folder.path().to_str().expect("text");
    for format in ["text", "json", "jsonl", "csv"] {
        let ran = infer(["-m", model, "assets/samples/star.png", "--format", format]).code(6);
        let ran = ran.says(&["logits for assets/samples/star.png", "not finite", "warning: "]);
        assert!(!ran.out.contains("NaN") && !ran.out.contains("nan"), "{ran:#?}");
    }
    let json = infer(["-m", model, "assets/samples/star.png", "--format", "json", "--logits"]).code(6).json();
    assert!(json["results"][0]["error"].as_str().is_some_and(|e| e.contains("not finite")), "{json}");
}
