//! Configuration checks and name resolution, on checkpoints that are only names and shapes.

use serde_json::{Value as Json, json};

use super::{AnyModel, FAMILIES, Model};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorIndex};
use crate::models::timm::table;
use crate::ops::Op;
use crate::tensor::{Shape, TensorDesc};

fn from_config(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    super::from_config(config, index, None).and_then(AnyModel::vision)
}

/// Names and shapes of a ViT of width 12, 3 heads, 2 layers, MLP 20, 16x16 images, 5 classes.
fn vit_index(prefix: &str) -> TensorIndex {
    let mut index = TensorIndex::new();
    let mut add = |name: &str, dims: &[usize]| {
        index.insert(name.to_owned(), Shape::new(dims));
    };
    let encoder = format!("{prefix}encoder.layer");
    add(&format!("{prefix}embeddings.cls_token"), &[1, 1, 12]);
    add(&format!("{prefix}embeddings.position_embeddings"), &[1, 5, 12]);
    add(&format!("{prefix}embeddings.patch_embeddings.projection.weight"), &[12, 3, 8, 8]);
    add(&format!("{prefix}embeddings.patch_embeddings.projection.bias"), &[12]);
    for l in 0..2 {
        for (name, out, inner) in [
            ("attention.attention.query", 12, 12),
            ("attention.attention.key", 12, 12),
            ("attention.attention.value", 12, 12),
            ("attention.output.dense", 12, 12),
            ("intermediate.dense", 20, 12),
            ("output.dense", 12, 20),
        ] {
            add(&format!("{encoder}.{l}.{name}.weight"), &[out, inner]);
            add(&format!("{encoder}.{l}.{name}.bias"), &[out]);
        }
        for name in ["layernorm_before", "layernorm_after"] {
            add(&format!("{encoder}.{l}.{name}.weight"), &[12]);
            add(&format!("{encoder}.{l}.{name}.bias"), &[12]);
        }
    }
    add(&format!("{prefix}layernorm.weight"), &[12]);
    add(&format!("{prefix}layernorm.bias"), &[12]);
    let head = prefix.strip_suffix("vit.").unwrap_or(prefix);
    add(&format!("{head}classifier.weight"), &[5, 12]);
    add(&format!("{head}classifier.bias"), &[5]);
    index
}

fn vit_config() -> Json {
    json!({
        "model_type": "vit", "architectures": ["ViTForImageClassification"],
        "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
        "image_size": 16, "patch_size": 8,
    })
}

fn with(key: &str, value: Json) -> Json {
    let mut config = vit_config();
    config[key] = value;
    config
}

/// The error's sentence and hint; it must be about the model, an [`Error::Model`].
fn message(result: Result<Box<dyn Model>>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(e @ Error::Model { .. }) => e.to_string(),
        Err(e) => panic!("not a model error: {e}"),
    }
}

fn outputs(model: &dyn Model, size: [usize; 2]) -> Vec<String> {
    let mut g = Graph::new();
    let image = g.input("image", TensorDesc::f32([2, 3, size[0], size[1]]));
    model.build(&mut g, image).expect("the model builds");
    g.outputs().iter().map(|(name, _)| name.clone()).collect()
}

#[test]
fn a_small_vit_is_accepted() {
    let model = from_config(&vit_config(), &vit_index("vit.")).expect("it fits");
    let info = model.info();
    assert_eq!((info.family, info.hidden, info.layers, info.classes), ("vit", 12, 2, Some(5)));
    assert!(info.warnings.is_empty(), "{:?}", info.warnings);
    let elements: usize = vit_index("vit.").values().map(Shape::elements).sum();
    assert_eq!(info.parameters, elements as u64);
    let names = outputs(model.as_ref(), [16, 16]);
    for name in ["hidden.0", "hidden.2", "attention.1", "last_hidden_state", "embedding", "logits"] {
        assert!(names.iter().any(|n| n == name), "no {name} in {names:?}");
    }
}

#[test]
fn configurations_that_make_no_sense_are_refused_by_field() {
    let cases = [
        ("num_hidden_layers", json!(1_000_000_000), "`num_hidden_layers` is 1000000000"),
        ("num_hidden_layers", json!(0), "`num_hidden_layers` is 0"),
        ("hidden_size", json!(-12), "`hidden_size` is -12"),
        ("hidden_size", json!(12.0), "`hidden_size` is 12.0"),
        ("hidden_size", json!("12"), "`hidden_size` is \"12\""),
        ("hidden_size", json!(u64::MAX), "`hidden_size` is"),
        ("num_attention_heads", json!(5), "`hidden_size` 12 is not a multiple of `num_attention_heads` 5"),
        ("num_attention_heads", json!(0), "`num_attention_heads` is 0"),
        ("patch_size", json!(32), "patch_size 32x32 is larger than image_size 16x16"),
        ("patch_size", json!([8, 8, 8]), "`patch_size` is [8,8,8]"),
        ("image_size", json!([16, -1]), "`image_size` is [16,-1]"),
        ("image_size", json!(1 << 20), "image_size has 131072x131072 patches"),
        ("layer_norm_eps", json!(-1e-6), "`layer_norm_eps` is -1e-6"),
        ("layer_norm_eps", json!("tiny"), "`layer_norm_eps` is \"tiny\""),
        ("hidden_act", json!("mish"), "`hidden_act` is `mish`"),
        ("qkv_bias", json!(1), "`qkv_bias` is 1"),
        ("num_labels", json!(7), "`num_labels` is 7, but `classifier.weight` has 5 rows"),
        ("model_type", json!("resnet"), "model_type `resnet` is not supported"),
        ("model_type", json!(3), "`model_type` is 3"),
        ("model_type", Json::Null, "neither `model_type` nor"),
    ];
    for (key, value, expected) in cases {
        let said = message(from_config(&with(key, value), &vit_index("vit.")));
        assert!(said.contains(expected), "{key}: {said}");
    }
    for config in [json!([]), json!("vit"), json!({})] {
        message(from_config(&config, &vit_index("vit.")));
    }
}

#[test]
fn absurd_sizes_do_not_overflow_even_without_tensors() {
    for (key, value) in [("patch_size", 1 << 20), ("num_channels", 1 << 20), ("hidden_size", 3 << 18)] {
        let mut config = with(key, json!(value));
        config["image_size"] = json!(1 << 20);
        message(from_config(&config, &TensorIndex::new()));
    }
}

#[test]
fn weights_of_another_size_are_named_with_the_field() {
    let said = message(from_config(&with("hidden_size", json!(24)), &vit_index("vit.")));
    assert!(said.contains("has shape [12, 3, 8, 8], the model needs [24, 3, 8, 8]"), "{said}");
    assert!(said.contains("hidden_size 24"), "{said}");

    let said = message(from_config(&with("intermediate_size", json!(48)), &vit_index("vit.")));
    assert!(said.contains("`vit.encoder.layer.0.intermediate.dense.weight` has shape [20, 12]"), "{said}");
    assert!(said.contains("intermediate_size 48"), "{said}");

    let said = message(from_config(&with("image_size", json!(24)), &vit_index("vit.")));
    assert!(said.contains("need 10 positions") && said.contains("image_size 24"), "{said}");

    let mut index = vit_index("vit.");
    index.insert("vit.encoder.layer.1.output.dense.weight".to_owned(), Shape::new(&[20, 12]));
    let said = message(from_config(&vit_config(), &index));
    assert!(said.contains("has shape [20, 12], the model needs [12, 20]"), "transposed: {said}");
}

#[test]
fn missing_tensors_are_listed_with_near_names() {
    let said = message(from_config(&with("num_hidden_layers", json!(3)), &vit_index("vit.")));
    assert!(said.contains("16 tensors are missing") && said.contains("and 11 more"), "{said}");
    assert!(said.contains("`vit.encoder.layer.2.layernorm_before.weight`"), "{said}");

    let mut index = vit_index("vit.");
    let shape = index.remove("vit.layernorm.weight").expect("it is there");
    index.insert("vit.layernorm.gamma".to_owned(), shape);
    let said = message(from_config(&vit_config(), &index));
    assert!(said.contains("`vit.layernorm.weight` (the file has `vit.layernorm.gamma`)"), "{said}");

    let said = message(from_config(&vit_config(), &vit_index("backbone.net.")));
    assert!(said.contains("(the file has `backbone.net.embeddings.cls_token`)"), "{said}");

    message(from_config(&vit_config(), &TensorIndex::new()));
}

#[test]
fn prefixes_of_wrappers_are_stripped() {
    for prefix in ["", "vit.", "module.vit.", "model.vit.", "module.", "module.model."] {
        let model = from_config(&vit_config(), &vit_index(prefix)).expect(prefix);
        assert_eq!(model.info().classes, Some(5), "{prefix}");
        assert!(model.info().warnings.is_empty(), "{prefix}: {:?}", model.info().warnings);
    }
}

#[test]
fn newer_spellings_are_understood() {
    let renamed = vit_index("vit.").into_iter().map(|(name, shape)| {
        let name = name
            .replace("encoder.layer.", "layers.")
            .replace("attention.attention.query", "attention.q_proj")
            .replace("attention.attention.key", "attention.k_proj")
            .replace("attention.attention.value", "attention.v_proj")
            .replace("attention.output.dense", "attention.o_proj")
            .replace("intermediate.dense", "mlp.fc1")
            .replace("output.dense", "mlp.fc2");
        (name, shape)
    });
    let index: TensorIndex = renamed.collect();
    let model = from_config(&vit_config(), &index).expect("it fits");
    assert!(model.info().warnings.is_empty(), "{:?}", model.info().warnings);
}

#[test]
fn extra_tensors_are_a_warning_and_buffers_are_not() {
    let mut index = vit_index("vit.");
    index.insert("vit.embeddings.mask_token".to_owned(), Shape::new(&[1, 1, 12]));
    index.insert("vit.embeddings.position_ids".to_owned(), Shape::new(&[1, 5]));
    let model = from_config(&vit_config(), &index).expect("it fits");
    assert!(model.info().warnings.is_empty(), "{:?}", model.info().warnings);

    index.insert("vit.adapter.weight".to_owned(), Shape::new(&[12]));
    let model = from_config(&vit_config(), &index).expect("it fits");
    let [warning] = model.info().warnings.as_slice() else { panic!("{:?}", model.info().warnings) };
    assert!(warning.contains("vit.adapter.weight"), "{warning}");
}

#[test]
fn a_classifier_without_a_head_computes_features() {
    let mut index = vit_index("vit.");
    index.retain(|name, _| !name.starts_with("classifier"));
    let model = from_config(&vit_config(), &index).expect("it fits");
    assert_eq!(model.info().classes, None);
    assert!(model.info().warnings[0].contains("no classifier"), "{:?}", model.info().warnings);
    assert!(!outputs(model.as_ref(), [16, 16]).contains(&"logits".to_owned()));
}

#[test]
fn other_picture_sizes_resample_positions_and_small_ones_are_refused() {
    let model = from_config(&vit_config(), &vit_index("vit.")).expect("it fits");
    let weights = |size: [usize; 2]| {
        let mut g = Graph::new();
        let image = g.input("image", TensorDesc::f32([1, 3, size[0], size[1]]));
        model.build(&mut g, image).map(|()| {
            let names = g.nodes().iter().filter_map(|n| match &n.op {
                Op::Weight(w) => Some(w.to_string()),
                _ => None,
            });
            names.filter(|n| n.contains("position")).collect::<Vec<_>>()
        })
    };
    assert_eq!(weights([16, 16]), Ok(vec!["vit.embeddings.position_embeddings".to_owned()]));
    assert_eq!(
        weights([23, 23]),
        Ok(vec!["vit.embeddings.position_embeddings".to_owned()]),
        "as many patches"
    );
    assert_eq!(weights([24, 40]), Ok(vec!["vit.embeddings.position_embeddings@3x5".to_owned()]));
    let small = weights([16, 7]).expect_err("no whole patch");
    assert!(small.to_string().contains("an image of 16x7 pixels holds no patch of 8x8"), "{small}");
}

#[test]
fn every_row_of_the_timm_table_reads() {
    let mut accepted = 0;
    for name in table::names() {
        let arch = table::find(name).expect("a row");
        assert!(arch.hidden.is_multiple_of(arch.heads) && arch.eps > 0.0, "{name}");
        assert!(["token", "avg", "map"].contains(&arch.pool), "{name}");
        accepted += usize::from(table::refusal(name).is_none());
    }
    assert_eq!((table::names().count(), accepted), (172, 169));
    let deit = table::find("deit3_base_patch16_384").expect("a row");
    assert_eq!((deit.image_size, deit.patch, deit.hidden, deit.layer_scale), ([384, 384], 16, 768, true));
    assert!(deit.no_embed_class);
}

#[test]
fn timm_names_that_are_no_plain_vit_are_refused_by_name() {
    let refused = [
        ("vit_base_patch16_rpn_224", "post-norm"),
        ("vit_small_patch16_18x2_224", "parallel"),
        ("vit_large_patch14_xp_224", "parallel"),
        ("vit_pwee_patch16_reg1_gap_256", "parallel"),
        ("vit_dwee_patch16_reg1_gap_256", "differential"),
        ("vit_base_r50_s16_384", "convolution stem is not supported"),
        ("vit_small_r26_s32_224", "convolution stem is not supported"),
        ("vit_small_patch16_dinov3.lvd1689m", "RoPE"),
        ("vit_relpos_base_patch16_224", "relative positions"),
        ("resnet50", "is not known"),
        ("vit_nano_patch16_siglip_99", "is not known"),
    ];
    for (name, why) in refused {
        let said = message(from_config(&json!({"architecture": name}), &TensorIndex::new()));
        assert!(said.contains(why) && said.contains(name), "{name}: {said}");
    }
}

/// Names and shapes of a timm ViT of width 64, one block, 2x2 patches of 8 pixels.
fn timm_index() -> TensorIndex {
    let shapes: &[(&str, &[usize])] = &[
        ("cls_token", &[1, 1, 64]),
        ("pos_embed", &[1, 5, 64]),
        ("patch_embed.proj.weight", &[64, 3, 8, 8]),
        ("patch_embed.proj.bias", &[64]),
        ("blocks.0.norm1.weight", &[64]),
        ("blocks.0.norm1.bias", &[64]),
        ("blocks.0.attn.qkv.weight", &[192, 64]),
        ("blocks.0.attn.qkv.bias", &[192]),
        ("blocks.0.attn.proj.weight", &[64, 64]),
        ("blocks.0.attn.proj.bias", &[64]),
        ("blocks.0.norm2.weight", &[64]),
        ("blocks.0.norm2.bias", &[64]),
        ("blocks.0.mlp.fc1.weight", &[80, 64]),
        ("blocks.0.mlp.fc1.bias", &[80]),
        ("blocks.0.mlp.fc2.weight", &[64, 80]),
        ("blocks.0.mlp.fc2.bias", &[64]),
        ("norm.weight", &[64]),
        ("norm.bias", &[64]),
        ("head.weight", &[4, 64]),
        ("head.bias", &[4]),
    ];
    shapes.iter().map(|(name, dims)| ((*name).to_owned(), Shape::new(dims))).collect()
}

fn timm_config(args: Json) -> Json {
    json!({"architecture": "vit_base_patch16_224", "num_classes": 4, "model_args": args})
}

fn timm_args() -> Json {
    json!({"img_size": 16, "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 2, "num_classes": 4})
}

#[test]
fn timm_arguments_override_the_table() {
    let model = from_config(&timm_config(timm_args()), &timm_index()).expect("it fits");
    let info = model.info();
    assert_eq!((info.image_size, info.heads, info.layers, info.mlp), ([16, 16].into(), 2, 1, 80));
    assert_eq!((info.classes, info.prefix_tokens, info.cls_token), (Some(4), 1, true));

    let refused = [
        ("num_heads", Json::Null, "`num_heads` is not given"),
        ("num_heads", json!(7), "`embed_dim` 64 is not a multiple of `num_heads` 7"),
        ("depth", json!(2), "12 tensors are missing"),
        ("depth", json!(10_000_000), "`depth` is 10000000"),
        ("embed_dim", json!(48), "has shape [64, 3, 8, 8], the model needs [48, 3, 8, 8]"),
        ("patch_size", json!(4), "has shape [64, 3, 8, 8], the model needs [64, 3, 4, 4]"),
        ("num_classes", json!(9), "`num_classes` is 9, but `head.weight` has 4 rows"),
        ("reg_tokens", json!(2), "with 3 prefix tokens"),
        ("qk_norm", json!(true), "`blocks.0.attn.q_norm.weight`"),
        ("act_layer", json!("mish"), "`act_layer` is `mish`"),
        ("norm_layer", json!("batchnorm"), "`norm_layer` is `batchnorm`"),
        ("global_pool", json!("max"), "`global_pool` is `max`"),
        ("attn_layer", json!("diff"), "`attn_layer` diff is not supported"),
        ("block_fn", json!("ParallelBlock"), "`model_args` has `block_fn`"),
        ("img_size", json!(4), "patch_size 8x8 is larger than image_size 4x4"),
    ];
    for (key, value, expected) in refused {
        let mut args = timm_args();
        args[key] = value;
        let said = message(from_config(&timm_config(args), &timm_index()));
        assert!(said.contains(expected), "{key}: {said}");
    }
}

#[test]
fn timm_blocks_that_nobody_reads_are_an_error() {
    let mut index = timm_index();
    index.insert("blocks.0.attn.rel_pos.mlp.weight".to_owned(), Shape::new(&[2, 2]));
    let said = message(from_config(&timm_config(timm_args()), &index));
    assert!(said.contains("has parts that are not supported") && said.contains("rel_pos"), "{said}");

    let mut index = timm_index();
    index.insert("blocks.1.norm1.weight".to_owned(), Shape::new(&[64]));
    let said = message(from_config(&timm_config(timm_args()), &index));
    assert!(said.contains("depth 1, but the checkpoint has 2 blocks"), "{said}");

    let mut index = timm_index();
    index.insert("patch_embed.backbone.0.conv.weight".to_owned(), Shape::new(&[16, 3, 4, 4]));
    let said = message(from_config(&timm_config(timm_args()), &index));
    assert!(said.contains("this convolution stem is not supported"), "{said}");
}

#[test]
fn unknown_timm_names_are_taken_from_their_tensors_with_a_warning() {
    let config = json!({"architecture": "vit_nano_patch8_16", "pretrained_cfg": {"input_size": [3, 16, 16]}});
    let model = from_config(&config, &timm_index()).expect("nothing is ambiguous");
    assert_eq!((model.info().heads, model.info().classes), (1, Some(4)));
    assert!(model.info().warnings[0].contains("not in the table"), "{:?}", model.info().warnings);

    let wrapped =
        timm_index().into_iter().map(|(name, shape)| (format!("timm_model.{name}"), shape)).collect();
    let mut config = timm_config(timm_args());
    config["model_type"] = json!("timm_wrapper");
    let model = from_config(&config, &wrapped).expect("it fits");
    assert!(model.info().warnings.is_empty(), "{:?}", model.info().warnings);
}

#[test]
fn hostile_tensors_are_refused_without_a_panic() {
    let zero = |name: &str, dims: &[usize]| {
        let mut index = timm_index();
        index.insert(name.to_owned(), Shape::new(dims));
        index
    };
    for index in [
        zero("patch_embed.proj.weight", &[64, 3, 0, 8]),
        zero("patch_embed.proj.weight", &[]),
        zero("reg_token", &[]),
        zero("pos_embed", &[5]),
        zero("blocks.0.attn.q_norm.weight", &[0]),
        zero("blocks.18446744073709551615.norm1.weight", &[64]),
    ] {
        for name in ["vit_base_patch16_224", "vit_unheard_of"] {
            message(from_config(&json!({"architecture": name}), &index));
        }
    }
}

#[test]
fn families_and_model_types_are_unique() {
    let mut types: Vec<&str> = FAMILIES.iter().flat_map(|f| f.model_types).copied().collect();
    let count = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), count);
}
