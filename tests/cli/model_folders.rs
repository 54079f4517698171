//! Folders of models as people have them: JSON as Python writes it, other element types and prefixes,
//! adapters, preprocessing in its newer place, heads of other kinds; and images whose size the model refuses.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Ran, golden, infer, names, run, sample, scratch, vit_gpu};

/// A folder with a copy of the golden ViT, that a case may change.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = scratch();
        for file in ["config.json", "model.safetensors", "preprocessor_config.json"] {
            fs::copy(golden("vit").join(file), folder.path().join(file)).expect("a copy");
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn at(&self) -> &str {
        self.path().to_str().expect("text")
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), bytes).expect("a file");
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path().join(name)).expect("a file")).expect("JSON")
    }

    /// Merges keys into a JSON file.
    fn set(&self, name: &str, keys: Value) {
        let mut json = self.json(name);
        let keys = keys.as_object().expect("an object").clone();
        json.as_object_mut().expect("an object").extend(keys);
        self.write(name, json.to_string());
    }

    /// Replaces the weights: `tensor` makes of a name and elements what is to be stored.
    fn weights(&self, tensor: impl Fn(&str, &[f32]) -> Vec<(String, &'static str, Vec<u8>)>) {
        let path = self.path().join("model.safetensors");
        let bytes = fs::read(&path).expect("weights");
        let (length, rest) = bytes.split_at(8);
        let header = rest.split_at(u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize);
        let entries: Value = serde_json::from_slice(header.0).expect("a header");
        let (mut made, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, entry) in
            entries.as_object().expect("an object").iter().filter(|(n, _)| *n != "__metadata__")
        {
            let at = |i: usize| entry["data_offsets"][i].as_u64().expect("an offset") as usize;
            let values: Vec<f32> =
                header.1[at(0)..at(1)].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            for (name, dtype, bytes) in tensor(name, &values) {
                let offsets = [data.len(), data.len() + bytes.len()];
                data.extend(bytes);
                made.insert(name, json!({"dtype": dtype, "shape": entry["shape"], "data_offsets": offsets}));
            }
        }
        let header = Value::Object(made).to_string();
        let length = (header.len() as u64).to_le_bytes();
        self.write("model.safetensors", [&length[..], header.as_bytes(), &data].concat());
    }

    fn answers(&self) -> Ran {
        infer([sample("star").to_str().expect("text"), "-m", self.at(), "--format", "jsonl", "--logits"])
    }
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Scores of the one image.
fn logits(ran: &Ran) -> Value {
    ran.json_lines()[0]["logits"].clone()
}

#[test]
fn other_spellings_of_the_same_model_answer_the_same() {
    let want = logits(&Folder::new().answers().code(0));
    assert!(want.as_array().is_some_and(|l| !l.is_empty()), "{want}");
    let same = |what: &str, change: &dyn Fn(&Folder)| {
        let folder = Folder::new();
        change(&folder);
        assert_eq!(logits(&folder.answers().code(0)), want, "{what}");
    };
    same("NaN where nobody looks", &|f| {
        let config = f.json("config.json").to_string();
        f.write(
            "config.json",
            config.replacen('{', "{\"router_jitter\": NaN, \"x\": [-Infinity, Infinity],", 1),
        );
    });
    same("a byte order mark", &|f| {
        for name in ["config.json", "preprocessor_config.json"] {
            f.write(name, [b"\xef\xbb\xbf", f.json(name).to_string().as_bytes()].concat());
        }
    });
    same("UTF-16", &|f| {
        let text = format!("\u{feff}{}", f.json("config.json"));
        f.write("config.json", text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    });
    same("F64", &|f| {
        f.weights(|name, values| {
            vec![(name.to_owned(), "F64", values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect())]
        });
    });
    for prefix in [
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "base_model.model.",
        "module.base_model.model.",
    ] {
        same(prefix, &|f| {
            f.weights(|name, values| vec![(format!("{prefix}{name}"), "F32", f32_bytes(values))])
        });
    }
    same("processor_config.json", &|f| {
        f.write(
            "processor_config.json",
            json!({"image_processor": f.json("preprocessor_config.json")}).to_string(),
        );
        // What lies beside it is older.
        f.set("preprocessor_config.json", json!({"image_mean": [0.1, 0.2, 0.3]}));
    });
    same("a processor of texts alone", &|f| f.write("processor_config.json", "{\"processor_class\": \"X\"}"));
    same("an index beside one file", &|f| {
        let index = json!({"weight_map": {"classifier.bias": "model.safetensors"}});
        f.write("model.safetensors.index.json", index.to_string());
    });
}

#[test]
fn what_is_left_aside_is_said() {
    let folder = Folder::new();
    let want = logits(&folder.answers().code(0));
    folder.weights(|name, values| {
        let other: Vec<f32> = values.iter().map(|v| v * 0.5).collect();
        let double = (format!("model.{name}"), "F32", f32_bytes(&other));
        vec![(name.to_owned(), "F32", f32_bytes(values)), double]
    });
    let ran = folder.answers().code(0);
    assert_eq!(logits(&ran), want, "what no wrapper prefixed is the model's");
    ran.says(&["in the checkpoint twice", "`model."]);

    let folder = Folder::new();
    folder.write("adapter_config.json", json!({"base_model_name_or_path": "./base"}).to_string());
    folder.answers().code(0).says(&["adapter beside the model", "./base", "not applied"]);
    folder.write("adapter_model.safetensors", "x");
    for file in ["model.safetensors", "config.json"] {
        fs::remove_file(folder.path().join(file)).expect("a file");
        folder.answers().code(3).says(&["./base: no such file or folder", "the base of the adapter"]);
    }

    let folder = Folder::new();
    fs::remove_file(folder.path().join("model.safetensors")).expect("a file");
    folder.answers().code(3).says(&["has no weights", "looked for model.safetensors"]);
    for (file, form) in [("model.onnx", "ONNX"), ("tf_model.h5", "HDF5"), ("model.gguf", "GGUF")] {
        folder.write(file, "x");
        folder.answers().code(3).says(&["has no weights that are read", file, form, "save_pretrained"]);
        fs::remove_file(folder.path().join(file)).expect("a file");
    }

    let folder = Folder::new();
    fs::remove_file(folder.path().join("preprocessor_config.json")).expect("a file");
    folder.answers().code(0).says(&["there is no preprocessor_config.json", "ViTImageProcessor"]);
    #[cfg(unix)]
    {
        let link = folder.path().join("preprocessor_config.json");
        std::os::unix::fs::symlink("nowhere", link).expect("a link");
        folder.answers().code(3).says(&["preprocessor_config.json", "a link that leads nowhere"]);
    }

    let folder = Folder::new();
    folder.weights(|name, values| {
        vec![(name.replace("classifier.", "classifier.0."), "F32", f32_bytes(values))]
    });
    folder.answers().code(2).says(&["not used: classifier.0.bias, classifier.0.weight", "no classifier"]);
}

#[test]
fn heads_of_other_kinds() {
    let folder = Folder::new();
    let scores: Vec<f64> = logits(&folder.answers().code(0))
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    folder.set("config.json", json!({"problem_type": "multi_label_classification"}));
    let ran = folder.answers().code(0);
    for prediction in ran.json_lines()[0]["predictions"].as_array().expect("a list") {
        let index = prediction["index"].as_u64().expect("a number") as usize;
        let want = 1.0 / (1.0 + (-scores[index]).exp());
        let got = prediction["probability"].as_f64().expect("a number");
        assert!((got - want).abs() < 1e-5, "{prediction}");
    }
    folder.set("config.json", json!({"problem_type": "regression"}));
    let ran = folder.answers().code(0);
    let best = &ran.json_lines()[0]["predictions"][0];
    let top = scores.iter().copied().fold(f64::MIN, f64::max);
    assert!((best["score"].as_f64().expect("a number") - top).abs() < 1e-5, "{best}");
}

#[test]
fn models_of_no_known_kind_and_folders_above_models() {
    let folder = Folder::new();
    folder.set("config.json", json!({"model_type": "llama"}));
    for flags in [
        &["infer", "--text", "a"][..],
        &["infer", "assets/samples/star.png"],
        &["generate", "--prompt", "a"],
        &["embed", "--text", "a"],
        &["verify"],
        &["inspect"],
    ] {
        let ran = run(vit_gpu(flags).args(["-m", folder.at(), "--device", "reference"]));
        ran.code(3).says(&["model_type `llama` is not supported", "text models bert"]);
    }
    folder.set("config.json", json!({"model_type": null, "architectures": ["LlamaForCausalLM"]}));
    folder.answers().code(3).says(&["has neither `model_type`", "`architectures` says LlamaForCausalLM"]);

    let above = scratch();
    fs::rename(Folder::new().0.keep(), above.path().join("step-1000")).expect("a folder");
    let at = above.path().to_str().expect("text");
    infer([sample("star").to_str().expect("text"), "-m", at]).code(3).says(&["no config.json", "step-1000"]);
    infer([sample("star").to_str().expect("text"), "-m", ""]).code(2).says(&["-m is empty"]);
}

#[test]
fn an_image_that_comes_out_too_small_fails_alone() {
    let folder = Folder::new();
    folder.set("preprocessor_config.json", json!({"do_resize": false}));
    let images = scratch();
    // A PNG of 1x1, and one that is large enough.
    let small = images.path().join("a.ppm");
    fs::write(&small, b"P6\n1 1\n255\nabc").expect("a file");
    let star = sample("star").to_str().expect("text").to_owned();
    for command in ["infer", "embed"] {
        for device in [&["--device", "reference"][..], &[]] {
            if device.is_empty() && crate::common::gpu().is_none() {
                continue;
            }
            let small = small.to_str().expect("text");
            let inputs = [&star[..], small, &star, "--format", "jsonl", "-m", folder.at()];
            let ran = run(vit_gpu([command]).args(inputs).args(device)).code(1);
            let ran = ran.says(&["a.ppm", "1x1 pixels"]);
            let lines = ran.json_lines();
            assert!(
                lines.len() == 3 && lines[1]["error"].is_string() && lines[2]["error"].is_null(),
                "{ran:?}"
            );
        }
    }
}

#[test]
fn lists_and_folders_of_other_systems() {
    let folder = scratch();
    let star = fs::canonicalize(sample("star")).expect("a path").display().to_string();
    let list = folder.path().join("list.txt");
    let text = format!("\u{feff}{star}\r\n{star}\r\n");
    for bytes in [text.clone().into_bytes(), text.encode_utf16().flat_map(u16::to_le_bytes).collect()] {
        fs::write(&list, bytes).expect("a file");
        let ran = infer([&format!("@{}", list.display()), "--format", "jsonl"]).code(0);
        assert_eq!(ran.json_lines().len(), 2, "{ran:?}");
    }
    for name in ["a.heic", "b.HEIC", "c.svg", "d.txt"] {
        fs::write(folder.path().join(name), "x").expect("a file");
    }
    fs::copy(sample("star"), folder.path().join("e.png")).expect("a copy");
    let ran = infer([folder.path().to_str().expect("text")]).code(0);
    ran.says(&["formats that are not read were skipped (2 .heic, 1 .svg)"]);
}

#[test]
fn bitmaps_and_pngs_as_pillow_reads_them() {
    let folder = scratch();
    let png = fs::read(sample("star")).expect("an image");
    let want = infer([sample("star").to_str().expect("text"), "--format", "jsonl", "--logits"]).code(0);
    let end = png.len() - 12;
    for (name, bytes) in [("cut.png", &png[..end]), ("begun.png", &png[..end + 5])] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        let ran = infer([path.to_str().expect("text"), "--format", "jsonl", "--logits"]).code(0);
        assert_eq!(logits(&ran), logits(&want), "{name}");
    }
    let path = folder.path().join("damaged.png");
    fs::write(&path, &png[..end - 1]).expect("a file");
    infer([path.to_str().expect("text")]).code(1).says(&["truncated PNG"]);

    // Two by two, 24 bits: with the header of a file and without.
    let mut info: Vec<u8> = [40u32, 2, 2].iter().flat_map(|n| n.to_le_bytes()).collect();
    info.extend([1, 0, 24, 0]);
    info.extend([0; 24]);
    let pixels = [1, 2, 3, 4, 5, 6, 0, 0, 250, 200, 100, 9, 8, 7, 0, 0];
    let size = (14 + info.len() + pixels.len()) as u32;
    let header = [b"BM", &size.to_le_bytes()[..], &[0; 4], &54u32.to_le_bytes()].concat();
    let whole = [&header[..], &info, &pixels].concat();
    fs::write(folder.path().join("a.bmp"), &whole).expect("a file");
    fs::write(folder.path().join("a.dib"), &whole[14..]).expect("a file");
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let ran = infer([&at("a.bmp")[..], &at("a.dib"), "--format", "jsonl", "--logits"]).code(0);
    assert_eq!(ran.json_lines()[0]["logits"], ran.json_lines()[1]["logits"]);
}

#[test]
fn attention_of_an_image_of_a_long_name() {
    let folder = scratch();
    let name = format!("{}.png", "n".repeat(250));
    fs::copy(sample("star"), folder.path().join(&name)).expect("a copy");
    fs::copy(sample("circle"), folder.path().join("z.png")).expect("a copy");
    let out = folder.path().join("maps");
    let at = |p: &Path| p.to_str().expect("text").to_owned();
    infer([at(folder.path()), "--attention".into(), at(&out)]).code(0);
    let names = names(&out);
    assert!(names.len() == 2 && names.iter().all(|n| n.len() <= 255), "{names:?}");
}
