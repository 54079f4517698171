//! No GPU. LoRA adapters of PEFT: names of modules in every spelling, what is refused and how, heads for other classes,
//! new adapters and their training. `tests/golden/lora_*` hold what PEFT computed; `tests/training.rs` trains them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use serde_json::{Value as Json, json};
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::checkpoint::lora::{self, Lora, LoraConfig};
use vit_gpu::models::{self, TensorNames};
use vit_gpu::session::ModelFiles;
use vit_gpu::tensor::{HostTensor, Shape};
use vit_gpu::train::lora::{LoraWishes, fresh};
use vit_gpu::train::objective::{self, LABELS, WEIGHTS};
use vit_gpu::train::{AdamW, Optimizer, Recipe, Trainer};
use vit_gpu::verify::compare::Tolerance;
use vit_gpu::verify::{images, texts};
use vit_gpu::{AnySession, Device, ModelSource, Options};

fn golden(name: &str) -> ModelFiles {
    ModelSource::named(&format!("tests/golden/{name}")).read(true).unwrap()
}

fn reference() -> Options {
    Options { device: Device::Reference, ..Options::default() }
}

#[test]
fn recorded_adapters_agree_with_peft() {
    for name in ["lora_vit", "lora_vit_oldnames", "lora_bert_seqcls", "lora_gpt2", "lora_t5_v11"] {
        let session = AnySession::from_files(golden(name), &reference()).unwrap();
        let file = Path::new("tests/golden").join(name).join("golden.safetensors");
        let file = Checkpoint::open(&file, false).unwrap();
        let near = Tolerance { atol: 1e-4, rtol: 1e-4 };
        let verdicts = match &session {
            AnySession::Vision(session) => images::verdicts(session, &file, near).unwrap(),
            AnySession::Text(session) => texts::verdicts(session, &file, near).unwrap(),
            AnySession::Generator(_) | AnySession::Dual(_) => unreachable!(),
        };
        assert!(
            !verdicts.is_empty() && verdicts.iter().all(|v| v.pass && !v.missing),
            "{name}: {verdicts:?}"
        );
    }
}

/// Modules as transformers 5.23 lists them, other spellings, and the tensor of the recorded file.
const SPELLINGS: &[(&str, &str, &[&str], &str)] = &[
    (
        "vit",
        "vit.layers.1.attention.q_proj",
        &["vit.encoder.layer.1.attention.attention.query"],
        "vit.encoder.layer.1.attention.attention.query",
    ),
    (
        "vit",
        "vit.layers.0.attention.o_proj",
        &["vit.encoder.layer.0.attention.output.dense"],
        "vit.encoder.layer.0.attention.output.dense",
    ),
    (
        "vit",
        "vit.layers.0.mlp.fc1",
        &["vit.encoder.layer.0.intermediate.dense", "layers.0.mlp.fc1"],
        "vit.encoder.layer.0.intermediate.dense",
    ),
    (
        "vit",
        "vit.layers.0.mlp.fc2",
        &["vit.encoder.layer.0.output.dense"],
        "vit.encoder.layer.0.output.dense",
    ),
    ("vit", "classifier", &[], "classifier"),
    (
        "deit_distilled",
        "deit.layers.0.attention.v_proj",
        &["deit.encoder.layer.0.attention.attention.value"],
        "deit.encoder.layer.0.attention.attention.value",
    ),
    ("deit_distilled", "distillation_classifier", &[], "distillation_classifier"),
    (
        "dinov2",
        "dinov2.encoder.layer.0.attention.k_proj",
        &["dinov2.encoder.layer.0.attention.attention.key", "dinov2.layers.0.attention.k_proj"],
        "dinov2.encoder.layer.0.attention.attention.key",
    ),
    ("dinov2", "dinov2.encoder.layer.1.mlp.fc2", &[], "dinov2.encoder.layer.1.mlp.fc2"),
    (
        "dinov2_registers",
        "dinov2_with_registers.encoder.layer.0.attention.o_proj",
        &["dinov2_with_registers.encoder.layer.0.attention.output.dense"],
        "dinov2_with_registers.encoder.layer.0.attention.output.dense",
    ),
    (
        "dinov2_swiglu",
        "encoder.layer.0.mlp.down_proj",
        &["dinov2.encoder.layer.0.mlp.weights_out"],
        "encoder.layer.0.mlp.weights_out",
    ),
    (
        "clip_vision",
        "vision_model.encoder.layers.0.self_attn.q_proj",
        &["encoder.layers.0.self_attn.q_proj"],
        "vision_model.encoder.layers.0.self_attn.q_proj",
    ),
    ("clip_vision", "visual_projection", &[], "visual_projection"),
    (
        "siglip_vision",
        "encoder.layers.0.mlp.fc1",
        &["vision_model.encoder.layers.0.mlp.fc1"],
        "encoder.layers.0.mlp.fc1",
    ),
    (
        "beit",
        "beit.layers.0.attention.q_proj",
        &["beit.encoder.layer.0.attention.attention.query"],
        "beit.encoder.layer.0.attention.attention.query",
    ),
    (
        "beit",
        "beit.layers.1.mlp.fc1",
        &["beit.encoder.layer.1.intermediate.dense"],
        "beit.encoder.layer.1.intermediate.dense",
    ),
    (
        "vit_mae",
        "vit.layers.0.attention.q_proj",
        &["vit.encoder.layer.0.attention.attention.query"],
        "vit.encoder.layer.0.attention.attention.query",
    ),
    (
        "vit_mae",
        "decoder.decoder_layers.0.attention.q_proj",
        &["decoder.decoder_encoder.layer.0.attention.attention.query"],
        "decoder.decoder_encoder.layer.0.attention.attention.query",
    ),
    ("timm_vit", "blocks.0.attn.qkv", &["timm_model.blocks.0.attn.qkv"], "blocks.0.attn.qkv"),
    (
        "bert_seqcls",
        "bert.encoder.layer.0.attention.self.query",
        &["encoder.layer.0.attention.self.query"],
        "bert.encoder.layer.0.attention.self.query",
    ),
    ("bert_seqcls", "bert.pooler.dense", &[], "bert.pooler.dense"),
    (
        "distilbert_seqcls",
        "distilbert.transformer.layer.0.attention.q_lin",
        &["transformer.layer.0.attention.q_lin"],
        "distilbert.transformer.layer.0.attention.q_lin",
    ),
    (
        "distilbert_seqcls",
        "distilbert.transformer.layer.1.attention.out_lin",
        &[],
        "distilbert.transformer.layer.1.attention.out_lin",
    ),
    (
        "distilbert_seqcls",
        "distilbert.transformer.layer.1.ffn.lin2",
        &[],
        "distilbert.transformer.layer.1.ffn.lin2",
    ),
    ("distilbert_seqcls", "pre_classifier", &[], "pre_classifier"),
    (
        "roberta_seqcls",
        "roberta.encoder.layer.0.output.dense",
        &["encoder.layer.0.output.dense"],
        "roberta.encoder.layer.0.output.dense",
    ),
    ("roberta_seqcls", "classifier.out_proj", &[], "classifier.out_proj"),
    ("roberta_mlm_pad_inside", "lm_head.dense", &[], "lm_head.dense"),
    ("gpt2", "transformer.h.0.attn.c_attn", &["h.0.attn.c_attn"], "transformer.h.0.attn.c_attn"),
    ("gpt2_noprefix", "transformer.h.0.mlp.c_fc", &["h.0.mlp.c_fc"], "h.0.mlp.c_fc"),
    ("gpt2_seqcls", "score", &[], "score"),
    ("imagegpt", "transformer.h.1.attn.c_proj", &["h.1.attn.c_proj"], "transformer.h.1.attn.c_proj"),
    (
        "t5_v11",
        "encoder.block.0.layer.0.SelfAttention.q",
        &["transformer.encoder.block.0.layer.0.SelfAttention.q"],
        "encoder.block.0.layer.0.SelfAttention.q",
    ),
    (
        "t5_v11",
        "decoder.block.1.layer.2.DenseReluDense.wi_0",
        &[],
        "decoder.block.1.layer.2.DenseReluDense.wi_0",
    ),
    ("llamagen", "layers.0.attention.wqkv", &[], "layers.0.attention.wqkv"),
    (
        "clip",
        "text_model.encoder.layers.1.self_attn.q_proj",
        &[],
        "text_model.encoder.layers.1.self_attn.q_proj",
    ),
    ("clip", "text_projection", &[], "text_projection"),
    ("dinov3", "model.layer.1.attention.q_proj", &["layer.1.attention.q_proj"], "layer.1.attention.q_proj"),
    ("modernbert_mlm", "model.layers.1.attn.Wqkv", &["layers.1.attn.Wqkv"], "model.layers.1.attn.Wqkv"),
    (
        "siglip2_naflex",
        "vision_model.encoder.layers.0.mlp.fc1",
        &["encoder.layers.0.mlp.fc1"],
        "vision_model.encoder.layers.0.mlp.fc1",
    ),
];

#[test]
fn modules_are_found_in_every_spelling_of_their_family() {
    let mut families = std::collections::BTreeSet::new();
    for (case, current, others, file) in SPELLINGS {
        let files = golden(case);
        let names = TensorNames::new(&files.config, files.checkpoint.index()).unwrap();
        let tensor = format!("{file}.weight");
        for module in [current].into_iter().chain(*others).chain([file]) {
            let found = names.find(&format!("base_model.model.{module}.weight"));
            assert_eq!(found.as_deref(), Some(&tensor[..]), "{case}: {module}");
        }
        assert_eq!(names.current(&tensor), format!("{current}.weight"), "{case}");
        assert_eq!(names.find(&format!("{current}x.weight")), None, "{case}");
        families.insert(models::family_name(&files.config).unwrap());
    }
    assert_eq!(families.len(), models::FAMILIES.len(), "{families:?}");
}

/// A sound configuration with some fields changed.
fn config(change: Json) -> Json {
    let mut config = json!({
        "peft_type": "LORA", "base_model_name_or_path": "x", "r": 4, "lora_alpha": 8, "target_modules": ["q"],
        "bias": "none", "fan_in_fan_out": false, "use_rslora": false, "modules_to_save": ["classifier"],
    });
    for (key, value) in change.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn what_is_not_plain_lora_is_refused_by_its_field() {
    for (field, value) in [
        ("peft_type", json!("IA3")),
        ("peft_type", Json::Null),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("target_parameters", json!(["w"])),
        ("layer_replication", json!([[0, 1]])),
        ("trainable_token_indices", json!([1])),
        ("alora_invocation_tokens", json!([1])),
        ("arrow_config", json!({"top_k": 2})),
        ("use_qalora", json!(true)),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("olora")),
        ("bias", json!("some")),
        ("r", json!(0)),
        ("r", json!("4")),
        ("lora_alpha", Json::Null),
        ("use_rslora", json!(1)),
        ("fan_in_fan_out", json!("yes")),
        ("rank_pattern", json!({"q": "a"})),
        ("rank_pattern", json!({"(": 4})),
        ("alpha_pattern", json!([4])),
        ("modules_to_save", json!("classifier")),
    ] {
        let error = LoraConfig::read("a.json", &config(json!({ field: value }))).unwrap_err().to_string();
        assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
    }
    for harmless in [
        json!({"use_dora": false, "target_parameters": [], "layer_replication": null, "loftq_config": {}}),
        json!({"init_lora_weights": true}),
        json!({"init_lora_weights": "gaussian", "bias": "lora_only", "lora_dropout": 0.1}),
    ] {
        LoraConfig::read("a.json", &config(harmless)).unwrap();
    }
    assert!(LoraConfig::read("a.json", &json!([])).is_err());
}

#[test]
fn patterns_stand_for_the_ends_of_names() {
    let change = json!({
        "rank_pattern": {"query": 8, "layer\\.0\\.key": 2, "^vit.value": 16},
        "alpha_pattern": {"query": 4}, "use_rslora": true,
    });
    let read = LoraConfig::read("a.json", &config(change)).unwrap();
    for (module, rank) in [
        ("vit.layer.1.query", 8),
        ("query", 8),
        ("vit.layer.1.myquery", 4),
        ("vit.layer.1.query.x", 4),
        ("vit.layer.0.key", 2),
        ("vit.layer.10.key", 4),
        ("vit.value", 16),
        ("x.vit.value", 4),
    ] {
        assert_eq!(read.rank_of(module).unwrap(), rank, "{module}");
    }
    assert_eq!(read.scale_of("a.query", 4).unwrap(), 2.0);
    assert_eq!(read.scale_of("a.key", 4).unwrap(), 4.0);
    let both =
        LoraConfig::read("a.json", &config(json!({"rank_pattern": {"a.query": 2, "query": 8}}))).unwrap();
    let error = both.rank_of("x.a.query").unwrap_err().to_string();
    assert!(error.contains("`rank_pattern`: a.query and query both fit x.a.query"), "{error}");
}

fn tensor(dims: &[usize]) -> HostTensor {
    HostTensor::f32(Shape::new(dims), (0..dims.iter().product()).map(|i: usize| i as f32 / 100.0).collect())
}

/// An adapter of these tensors.
fn adapter(config: &Json, tensors: &[(&str, &[usize])]) -> vit_gpu::Result<Lora> {
    let tensors = tensors.iter().map(|(name, dims)| (format!("base_model.model.{name}"), tensor(dims)));
    Lora::new(
        "adapter".to_owned(),
        "a.json",
        config,
        Checkpoint::from_tensors("a.safetensors", tensors).unwrap(),
    )
}

const QUERY: &str = "vit.layers.0.attention.q_proj";

#[test]
fn tensors_that_mean_something_else_are_refused_by_name() {
    let named = |end: &str| format!("{QUERY}.{end}");
    let (a, b) = (named("lora_A.weight"), named("lora_B.weight"));
    let pair = [(&a[..], &[4, 36][..]), (&b[..], &[36, 4][..])];
    adapter(&config(json!({})), &pair).unwrap();
    for (more, said) in [
        (named("lora_magnitude_vector"), "use_dora"),
        (named("lora_embedding_A"), "embedding"),
        (named("lora_B.bias"), "lora_bias"),
        (named("lora_A.other.weight"), "another adapter"),
        (named("lora_C.weight"), "no lora_A or lora_B"),
        ("x.token_adapter.trainable_tokens_delta".to_owned(), "trainable_token_indices"),
    ] {
        let all = [&pair[..], &[(&more[..], &[4, 36][..])]].concat();
        let error = adapter(&config(json!({})), &all).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("tensor `base_model.model."), "{more}: {error}");
    }
    let error = adapter(&config(json!({})), &pair[..1]).unwrap_err().to_string();
    assert!(error.contains("has a lora_A and no lora_B"), "{error}");
    let error = adapter(&config(json!({"r": 8})), &pair).unwrap_err().to_string();
    assert!(error.contains("has 4 rows, and `r` is 8"), "{error}");
    // One adapter that has its name in the file is one adapter.
    let (a, b) = (named("lora_A.default.weight"), named("lora_B.default.weight"));
    adapter(&config(json!({})), &[(&a, &[4, 36]), (&b, &[36, 4])]).unwrap();
    let bare = Checkpoint::from_tensors("a", [(format!("{QUERY}.lora_A.weight"), tensor(&[4, 36]))]).unwrap();
    let error = Lora::new("a".into(), "a.json", &config(json!({})), bare).unwrap_err().to_string();
    assert!(error.contains("does not begin with base_model.model."), "{error}");
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let at = |module: &str| [format!("{module}.lora_A.weight"), format!("{module}.lora_B.weight")];
    let lay = |module: &str, a: &[usize], b: &[usize]| {
        let [first, second] = at(module);
        golden("vit").with_lora(&adapter(&config(json!({})), &[(&first, a), (&second, b)]).unwrap())
    };
    lay(QUERY, &[4, 36], &[36, 4]).unwrap();
    for (module, a, b, said) in [
        ("vit.layers.7.attention.q_proj", [4, 36], [36, 4], "it has `vit.encoder.layer."),
        (QUERY, [4, 32], [36, 4], "made for a model of other sizes"),
        (QUERY, [4, 36], [32, 4], "made for a model of other sizes"),
        (QUERY, [4, 36], [36, 3], "the rank is 4"),
    ] {
        let error = lay(module, &a, &b).unwrap_err().to_string();
        assert!(error.contains(said), "{module} {a:?} {b:?}: {error}");
    }
    // One tensor by two names, and a tensor that is neither listed nor there.
    let two = [at(QUERY), at("vit.encoder.layer.0.attention.attention.query")].concat();
    let two: Vec<(&str, &[usize])> =
        two.iter().map(|n| (&n[..], if n.contains("_A") { &[4, 36][..] } else { &[36, 4] })).collect();
    assert!(golden("vit").with_lora(&adapter(&config(json!({})), &two).unwrap()).is_err());
    let stray = adapter(&config(json!({})), &[("head.weight", &[2, 2])]).unwrap();
    let error = golden("vit").with_lora(&stray).unwrap_err().to_string();
    assert!(error.contains("`head.weight` is not in tests/golden/vit"), "{error}");
    let twice =
        golden("lora_vit").with_lora(&adapter(&config(json!({})), &[("classifier.bias", &[7])]).unwrap());
    assert!(twice.unwrap_err().to_string().contains("lay it over a whole model"));
}

#[test]
fn a_head_for_other_classes_takes_the_place_of_the_old_one_or_of_none() {
    let lora =
        adapter(&config(json!({})), &[("classifier.weight", &[3, 36]), ("classifier.bias", &[3])]).unwrap();
    for base in ["vit", "vit_model_pooler"] {
        let files = golden(base).with_lora(&lora).unwrap();
        let model =
            models::from_config(&files.config, files.checkpoint.index(), None).unwrap().vision().unwrap();
        assert_eq!(model.info().classes, Some(3), "{base}");
        let labels = vit_gpu::labels::Labels::from_config(&files.config, 3);
        assert_eq!(labels.names, ["LABEL_0", "LABEL_1", "LABEL_2"], "{base}");
        assert_eq!(files.checkpoint.read("classifier.bias").unwrap(), tensor(&[3]), "{base}");
    }
}

#[test]
fn biases_and_old_spellings_of_saved_modules_replace_the_base() {
    let name = format!("{QUERY}.base_layer.bias");
    let saved = "classifier.modules_to_save.default.bias";
    let original = "classifier.original_module.bias";
    let all: [(&str, &[usize]); 3] = [(&name, &[36]), (saved, &[7]), (original, &[7])];
    let files = golden("vit").with_lora(&adapter(&config(json!({"bias": "all"})), &all).unwrap()).unwrap();
    let query = "vit.encoder.layer.0.attention.attention.query.bias";
    assert_eq!(files.checkpoint.read(query).unwrap(), tensor(&[36]));
    assert_eq!(files.checkpoint.read("classifier.bias").unwrap(), tensor(&[7]));
    assert_eq!(files.adapter.unwrap().replaced, 2);
}

#[test]
fn base_and_adapted_weights_are_told_apart() {
    let prints = ["vit", "lora_vit"].map(|name| golden(name).checkpoint.fingerprint().unwrap());
    assert_ne!(prints[0], prints[1]);
    let lora = |alpha: f64| {
        let [a, b] = ["lora_A", "lora_B"].map(|factor| format!("{QUERY}.{factor}.weight"));
        let lora = adapter(&config(json!({"lora_alpha": alpha})), &[(&a, &[4, 36]), (&b, &[36, 4])]).unwrap();
        golden("vit").with_lora(&lora).unwrap().checkpoint.fingerprint().unwrap()
    };
    assert_eq!(lora(8.0), lora(8.0));
    assert_ne!(lora(8.0), lora(16.0));
}

fn wishes(targets: &[&str], saved: &[&str]) -> LoraWishes {
    LoraWishes {
        base: "../vit".to_owned(),
        rank: 4,
        alpha: 8.0,
        rank_stabilised: false,
        targets: targets.iter().map(|t| (*t).to_owned()).collect(),
        modules_to_save: saved.iter().map(|t| (*t).to_owned()).collect(),
        initial: vec![],
        seed: 1,
    }
}

fn graph_of(files: &ModelFiles) -> vit_gpu::graph::Graph {
    let model = models::from_config(&files.config, files.checkpoint.index(), None).unwrap();
    match model {
        models::AnyModel::Vision(model) => objective::classes_of_images(&*model, 1, 0.0).unwrap().graph,
        models::AnyModel::Text(model) => {
            let sizes = models::text::TextSizes { batch: 1, tokens: 4, written: 4, places: 1 };
            objective::texts(&*model, sizes, objective::usual(&*model)).unwrap().graph
        }
        models::AnyModel::Generator(_) => unreachable!(),
    }
}

#[test]
fn a_new_adapter_changes_nothing_and_is_read_again() {
    let files = golden("vit");
    let graph = graph_of(&files);
    let lora = fresh(&files, &graph, &wishes(&["q_proj", "value"], &["classifier"])).unwrap();
    let modules: Vec<&str> = lora.pairs.iter().map(|pair| pair.module.as_str()).collect();
    let own = ["q_proj", "v_proj"].map(|name| format!("vit.layers.0.attention.{name}"));
    assert_eq!(modules[..2], own);
    assert_eq!((modules.len(), lora.saved.len()), (4, 2));
    let a = lora.checkpoint.read(&lora.pairs[0].a).unwrap().to_f32();
    let most = a.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    assert!(most <= 1.0 / 6.0 && most > 0.12, "within 1/sqrt(36): {most}");
    assert!((a.iter().sum::<f32>() / a.len() as f32).abs() < 0.03);
    let again = fresh(&files, &graph, &wishes(&["q_proj", "v_proj"], &["classifier"])).unwrap();
    assert_eq!(lora.checkpoint.fingerprint().unwrap(), again.checkpoint.fingerprint().unwrap());
    let other =
        fresh(&files, &graph, &LoraWishes { seed: 2, ..wishes(&["q_proj", "v_proj"], &["classifier"]) });
    assert_ne!(lora.checkpoint.fingerprint().unwrap(), other.unwrap().checkpoint.fingerprint().unwrap());

    let laid = files.clone().with_lora(&lora).unwrap();
    for name in files.checkpoint.index().keys() {
        assert_eq!(laid.checkpoint.read(name).unwrap(), files.checkpoint.read(name).unwrap(), "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let tensors: Vec<(String, HostTensor)> =
        lora.names().iter().map(|name| ((*name).to_owned(), lora.checkpoint.read(name).unwrap())).collect();
    lora::save(folder.path(), &lora.json, &tensors).unwrap();
    let read = Lora::open(folder.path(), true).unwrap();
    assert_eq!((read.pairs, read.saved), (lora.pairs, lora.saved));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no draft is left");
}

#[test]
fn all_linear_layers_are_those_of_peft_without_heads() {
    for (case, count, one, in_out) in [
        ("vit", 12, "vit.layers.1.mlp.fc2", false),
        ("bert_seqcls", 13, "bert.pooler.dense", false),
        ("gpt2", 8, "transformer.h.0.attn.c_proj", true),
        ("t5_v11", 0, "decoder.block.0.layer.1.EncDecAttention.o", false),
    ] {
        let files = golden(case);
        let lora = fresh(&files, &graph_of(&files), &wishes(&[], &[])).unwrap();
        assert!(lora.pairs.iter().any(|pair| pair.module == one), "{case}: {:?}", lora.pairs);
        assert!(count == 0 || lora.pairs.len() == count, "{case}: {} layers", lora.pairs.len());
        assert_eq!(lora.json["fan_in_fan_out"], in_out, "{case}");
        files.with_lora(&lora).unwrap();
    }
    let error = fresh(&golden("vit"), &graph_of(&golden("vit")), &wishes(&["q_prj"], &[])).unwrap_err();
    assert!(error.to_string().contains("has no module `q_prj`"), "{error}");
}

/// Nothing but the adapter is trained, and no gradient has the size of a weight.
#[test]
fn training_a_new_adapter_lowers_the_loss() {
    let files = golden("vit");
    let lora = fresh(&files, &graph_of(&files), &wishes(&[], &["classifier"])).unwrap();
    let files = files.with_lora(&lora).unwrap();
    let model = models::from_config(&files.config, files.checkpoint.index(), None).unwrap().vision().unwrap();
    let objective = objective::classes_of_images(&*model, 2, 0.0).unwrap();
    let names = files.adapter.as_ref().unwrap().names.clone();
    let recipe =
        Recipe { optimizer: Optimizer::AdamW(AdamW { decay: 0.0, ..AdamW::default() }), ..Recipe::default() };
    let mut trainer =
        Trainer::open(files, &reference(), objective, &|name| names.contains(name), &recipe).unwrap();
    assert_eq!(trainer.parameters().len(), names.len());
    let file = Checkpoint::open(Path::new("tests/golden/vit/training.safetensors"), false).unwrap();
    let batch = [
        ("image", file.read("in.pixel_values").unwrap()),
        (LABELS, file.ids("in.labels").unwrap()),
        (WEIGHTS, HostTensor::f32([2], vec![0.5; 2])),
    ];
    let losses: Vec<f32> = (0..6).map(|_| trainer.step(&batch, 1e-3).unwrap().loss).collect();
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{losses:?}");
    let b = trainer.parameter(&lora.pairs[0].b).unwrap().to_f32();
    assert!(b.iter().any(|v| *v != 0.0));
}
