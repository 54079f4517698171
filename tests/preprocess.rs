//! Resizing and preprocessing against Pillow, torchvision, transformers and timm, bit for bit.
//!
//! `golden/preprocess/golden.safetensors` holds whole tensors for one image; `resize.json` and
//! `configs.json` hold checksums for random images and configurations (made by `make.py`
//! beside them). All of it runs on the CPU.

use std::fs;
use std::path::PathBuf;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use vit_gpu::error::Error;
use vit_gpu::image::preprocess::{Backend, CropMode, Geometry, Pixels, Preprocess, Resize};
use vit_gpu::image::resize::{Filter, PillowCompat, Resampler, Window};
use vit_gpu::image::{Decoded, resize};
use vit_gpu::tensor::Size;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json_file(name: &str) -> Value {
    serde_json::from_slice(&golden(name)).expect("fixture is JSON")
}

/// `picture` of make.py: 0 noise, 1 slopes, 2 black-and-white noise.
fn picture(kind: u64, seed: u64, w: usize, h: usize) -> Vec<u8> {
    let noise = |i: u64| {
        let mut v = (i * 2654435761 + seed * 40503) as u32;
        v ^= v >> 15;
        v = v.wrapping_mul(2246822519);
        (v ^ v >> 13) as u8
    };
    let byte = |i: usize| match kind {
        0 => noise(i as u64),
        1 => ((i / 3 % w) * 7 + (i / 3 / w) * 3 + (i % 3) * 50 + seed as usize) as u8,
        _ => 255 * u8::from(noise(i as u64) > 127),
    };
    (0..w * h * 3).map(byte).collect()
}

fn crc32(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let table: [u32; 256] = std::array::from_fn(|n| {
        (0..8).fold(n as u32, |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    });
    let step = |c: u32, b: u8| table[usize::from(c as u8 ^ b)] ^ (c >> 8);
    u64::from(!bytes.into_iter().fold(!0, step))
}

fn decoded(kind: u64, seed: u64, width: usize, height: usize) -> Decoded {
    Decoded { width, height, rgb: picture(kind, seed, width, height), notes: Vec::new() }
}

fn backend(name: &str) -> Backend {
    match name {
        "pil" => Backend::Pil,
        "torchvision" => Backend::Torchvision,
        "timm" => Backend::Timm,
        other => panic!("backend {other}"),
    }
}

/// Equality of bits, so that NaN and -0.0 count; names the first element that differs.
fn same_bits(case: &str, got: &[f32], want: &[f32]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{case}: {} elements, expected {}", got.len(), want.len()));
    }
    match got.iter().zip(want).position(|(a, b)| a.to_bits() != b.to_bits()) {
        Some(i) => Err(format!("{case}: element {i} is {}, the original has {}", got[i], want[i])),
        None => Ok(()),
    }
}

#[test]
fn comparators_can_fail() {
    assert_eq!(crc32(*b"123456789"), 0xcbf4_3926);
    assert!(same_bits("same", &[1.0, 2.0], &[1.0, 2.0]).is_ok());
    for bad in [&[1.0, 2.5][..], &[1.0], &[2.0, 1.0], &[1.0, f32::NAN]] {
        assert!(same_bits("bad", bad, &[1.0, 2.0]).is_err(), "{bad:?}");
    }
}

#[test]
fn resizes_equal_pillow_and_torchvision() {
    let cases = json_file("golden/preprocess/resize.json");
    let mut checked = 0;
    for (kind, resampler) in [
        ("pillow12", Resampler::Pillow(PillowCompat::V12)),
        ("pillow13", Resampler::Pillow(PillowCompat::V13)),
        ("torch", Resampler::Torch),
    ] {
        for case in cases[kind].as_array().expect("cases") {
            let n: Vec<u64> =
                case.as_array().expect("case").iter().map(|v| v.as_u64().expect("number")).collect();
            let [_, _, w, h, ow, oh, ..] = n[..].iter().map(|n| *n as usize).collect::<Vec<_>>()[..] else {
                panic!("case of {} numbers", n.len())
            };
            let filter = Filter::from_code(n[6] as i64).expect("filter");
            let src = picture(n[0], n[1], w, h);
            let whole = resize::resize(&src, (w, h), (ow, oh), filter, resampler);
            assert_eq!(crc32(whole.iter().copied()), n[7], "{kind}: {w}x{h} to {ow}x{oh} {}", filter.name());
            // A window is what cutting it out afterwards gives.
            let (x, y) = (ow / 3, oh / 4);
            let window = Window { x, y, width: (ow - x).div_ceil(2), height: (oh - y).div_ceil(2) };
            let part = resize::resize_window(&src, (w, h), (ow, oh), window, filter, resampler);
            let cut: Vec<u8> = (y..y + window.height)
                .flat_map(|row| whole[(row * ow + x) * 3..(row * ow + x + window.width) * 3].to_vec())
                .collect();
            assert!(part == cut, "{kind}: window of {w}x{h} to {ow}x{oh} {}", filter.name());
            checked += 1;
        }
    }
    assert!(checked > 900, "{checked} cases");
}

#[test]
fn pass_orders_differ() {
    // The reason for PillowCompat: a portrait image, where Pillow 13 resizes columns first.
    let src = picture(0, 3, 60, 200);
    let [old, new] = [PillowCompat::V12, PillowCompat::V13]
        .map(|compat| resize::resize(&src, (60, 200), (40, 40), Filter::Bicubic, Resampler::Pillow(compat)));
    assert_ne!(old, new);
    assert!(old.iter().zip(&new).all(|(a, b)| a.abs_diff(*b) <= 3));
}

/// The golden image, and its file.
fn golden_image(file: &SafeTensors) -> Decoded {
    let image = file.tensor("in.image").expect("in.image");
    let &[height, width, 3] = image.shape() else { panic!("{:?}", image.shape()) };
    Decoded { width, height, rgb: image.data().to_vec(), notes: Vec::new() }
}

#[test]
fn goldens_are_equal_bit_for_bit() {
    let bytes = golden("golden/preprocess/golden.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("golden.safetensors");
    let image = golden_image(&file);
    let case = json_file("golden/preprocess/case.json");
    let (mut tensors, mut resizes) = (0, 0);
    for name in file.names() {
        let parts: Vec<&str> = name.split('.').collect();
        let want = file.tensor(name).expect("listed");
        match parts[..] {
            ["in", _] => {}
            ["out", "pil_resize", filter, size] => {
                let (w, h) = size.split_once('x').expect("WxH");
                let to = (w.parse().expect("width"), h.parse().expect("height"));
                let filter = Filter::from_name(filter).expect("filter");
                let pillow = Resampler::Pillow(PillowCompat::V13);
                let got = resize::resize(&image.rgb, (image.width, image.height), to, filter, pillow);
                assert!(got == want.data(), "{name}");
                resizes += 1;
            }
            ["out", config, by] => {
                let text = case["used"][config]["config"].to_string();
                let mut preprocess = Preprocess::from_json(config, &text, None).expect(config);
                preprocess.backend = backend(by);
                let got = preprocess.tensor(&image).expect(config);
                assert_eq!(got.shape().dims(), want.shape(), "{name}");
                let floats: Vec<f32> = want
                    .data()
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect();
                same_bits(name, got.as_f32().expect("f32"), &floats).unwrap_or_else(|e| panic!("{e}"));
                tensors += 1;
            }
            _ => panic!("unexpected tensor {name}"),
        }
    }
    assert_eq!((tensors, resizes), (24, 18));
}

/// Of the processor that resizes floats, by `make_floats.py`: to 1e-6 before the normalisation.
#[test]
fn floats_are_the_originals_up_to_rounding() {
    let bytes = golden("golden/preprocess/golden.safetensors");
    let image = golden_image(&SafeTensors::deserialize(&bytes).expect("golden.safetensors"));
    let bytes = golden("golden/preprocess/floats.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("floats.safetensors");
    let configs = json_file("golden/preprocess/floats.json");
    let mut between_levels = 0;
    for (name, config) in configs.as_object().expect("configurations by name") {
        let preprocess = Preprocess::from_json(name, &config.to_string(), None).expect(name);
        assert_eq!(preprocess.backend, Backend::TorchvisionFloats, "{name}");
        let want = file.tensor(&format!("out.{name}")).expect(name);
        let tensor = preprocess.tensor(&image).expect(name);
        assert_eq!(tensor.shape().dims(), want.shape(), "{name}");
        let (got, n) = (tensor.as_f32().expect("f32"), want.data().len() / 12);
        let deviation = preprocess.mean_std.map_or([1.0; 3], |(_, std)| std);
        let words = want.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        for (i, (got, want)) in got.iter().zip(words).enumerate() {
            let apart = f64::from(got - want).abs() * deviation[i / n];
            assert!(apart <= 1e-6, "{name}: element {i} is {got}, the original has {want}");
        }
        // What is carried to the device is the same; bytes would not do.
        let prepared = preprocess.prepare(&image).expect(name);
        assert_eq!(prepared, Pixels::Floats(got.to_vec()), "{name}");
        let (shown, pixels) = (preprocess.shown(&prepared), preprocess.pixels(&image).expect(name));
        // Bytes are clipped between the passes, which bicubic weights leave.
        let near = if preprocess.filter == Filter::Bicubic { 40 } else { 1 };
        assert!(shown.iter().zip(&pixels).all(|(a, b)| a.abs_diff(*b) <= near), "{name}");
        let (scale, offset) = preprocess.normalise();
        let level = |i: usize| (got[i] - offset[i / n]) / scale[i / n];
        between_levels += (0..got.len()).filter(|&i| (level(i) - level(i).round()).abs() > 0.1).count();
    }
    assert!(configs.as_object().is_some_and(|all| all.len() >= 7) && between_levels > 1000);
    for resample in [0, 1, 4, 5] {
        let config = json!({"image_processor_type": "DINOv3ViTImageProcessor", "resample": resample});
        assert!(Preprocess::from_json("p", &config.to_string(), None).is_err(), "{resample}");
    }
    let usual = Preprocess::default_for("dinov3_vit", [224, 224]).expect("known");
    assert_eq!(usual.backend, Backend::TorchvisionFloats);
}

#[test]
fn random_configurations_are_equal_bit_for_bit() {
    let [all, naflex] =
        ["configs", "naflex"].map(|name| json_file(&format!("golden/preprocess/{name}.json")));
    let mut checked = [0; 3];
    for case in all.as_array().into_iter().chain(naflex.as_array()).flatten() {
        let number = |v: &Value| v.as_u64().expect("number");
        let image = &case["image"];
        let (w, h) = (number(&image[2]) as usize, number(&image[3]) as usize);
        let image = decoded(number(&image[0]), number(&image[1]), w, h);
        let text = case["config"].to_string();
        let mut preprocess = Preprocess::from_json("configs.json", &text, case["family"].as_str())
            .unwrap_or_else(|e| panic!("{case}: {e}"));
        preprocess.backend = backend(case["backend"].as_str().expect("backend"));
        let size = Size::new(number(&case["size"][1]) as usize, number(&case["size"][0]) as usize);
        assert_eq!(preprocess.output_size([h, w]), size, "{case}");
        let got = preprocess.tensor(&image).unwrap_or_else(|e| panic!("{case}: {e}"));
        let bytes = got.as_f32().expect("f32").iter().flat_map(|x| x.to_le_bytes());
        assert_eq!(crc32(bytes), number(&case["crc"]), "{case}");
        checked[preprocess.backend as usize] += 1;
        // What a device computes from the bytes is the same up to rounding.
        let (scale, offset) = preprocess.normalise();
        let pixels = preprocess.pixels(&image).expect("as tensor");
        for (i, (&byte, c)) in pixels.iter().zip([0, 1, 2].into_iter().cycle()).enumerate() {
            let want = got.as_f32().expect("f32")[c * size.height * size.width + i / 3];
            let computed = f32::from(byte) * scale[c] + offset[c];
            let bound = 1e-5 * (1.0 + want.abs() + offset[c].abs());
            assert!((computed - want).abs() <= bound, "{case}: byte {i}: {computed} vs {want}");
        }
    }
    assert!(
        checked.iter().all(|n| *n > 80) && naflex.as_array().is_some_and(|n| n.len() == 60),
        "{checked:?}"
    );
}

fn read(config: Value) -> Preprocess {
    Preprocess::from_json("preprocessor_config.json", &config.to_string(), None).expect("valid")
}

fn geometry(resize: Resize, crop: Option<(usize, usize)>) -> Geometry {
    Geometry::Hf { resize, crop }
}

const fn exact(height: usize, width: usize) -> Resize {
    Resize::Exact { height, width }
}

const fn shortest(edge: usize, longest: Option<usize>) -> Resize {
    Resize::ShortestEdge { edge, longest }
}

#[test]
fn every_form_of_size_is_read() {
    for (class, size, want) in [
        ("ViT", json!(96), exact(96, 96)),
        ("ViT", json!([64, 32]), exact(64, 32)),
        ("ViT", json!({"height": 64, "width": 32}), exact(64, 32)),
        ("ViT", json!({"height": 64, "width": 32, "shortest_edge": null}), exact(64, 32)),
        ("ViT", json!({"shortest_edge": 48}), shortest(48, None)),
        ("ViT", json!({"shortest_edge": 48, "longest_edge": 90}), shortest(48, Some(90))),
        ("ViT", json!({"max_height": 40, "max_width": 50}), Resize::Within { height: 40, width: 50 }),
        ("ViT", json!(224.0), exact(224, 224)),
        ("ViT", json!(null), exact(224, 224)),
        ("DeiT", json!(null), exact(256, 256)),
        ("Beit", json!(384), exact(384, 384)),
        ("CLIP", json!(336), shortest(336, None)),
        ("Bit", json!(256), shortest(256, None)),
        ("Siglip", json!({"height": 384, "width": 384}), exact(384, 384)),
    ] {
        let got = read(json!({"image_processor_type": format!("{class}ImageProcessor"), "size": size}));
        let Geometry::Hf { resize, .. } = got.geometry else { panic!("{got:?}") };
        assert_eq!(resize, want, "{class} {size}");
    }
    let crop = |size: Value| {
        read(json!({"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": size})).size()
    };
    assert_eq!(crop(json!(48)), Some(Size::square(48)));
    assert_eq!(crop(json!({"height": 48, "width": 40})), Some(Size::new(48, 40)));
    assert_eq!(crop(json!([48, 40])), Some(Size::new(48, 40)));
    assert_eq!(crop(json!(null)), Some(Size::square(224)));
}

#[test]
fn missing_keys_take_the_defaults_of_the_class() {
    let imagenet = Some(([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]));
    let clip = Some(([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]));
    let half = Some(([0.5; 3], [0.5; 3]));
    for (class, filter, mean_std, want) in [
        ("ViTImageProcessor", Filter::Bilinear, half, geometry(exact(224, 224), None)),
        ("ViTFeatureExtractor", Filter::Bilinear, half, geometry(exact(224, 224), None)),
        ("ViTImageProcessorFast", Filter::Bilinear, half, geometry(exact(224, 224), None)),
        ("DeiTImageProcessor", Filter::Bicubic, half, geometry(exact(256, 256), Some((224, 224)))),
        ("BitImageProcessor", Filter::Bicubic, clip, geometry(shortest(224, None), Some((224, 224)))),
        ("CLIPImageProcessor", Filter::Bicubic, clip, geometry(shortest(224, None), Some((224, 224)))),
        ("SiglipImageProcessor", Filter::Bicubic, half, geometry(exact(224, 224), None)),
        ("BeitImageProcessor", Filter::Bicubic, half, geometry(exact(224, 224), None)),
        ("ImageGPTImageProcessor", Filter::Bilinear, half, geometry(exact(256, 256), None)),
        ("DINOv3ViTImageProcessor", Filter::Bilinear, imagenet, geometry(exact(224, 224), None)),
    ] {
        let got = read(json!({"image_processor_type": class}));
        assert_eq!((got.filter, got.mean_std, got.geometry), (filter, mean_std, want), "{class}");
        assert_eq!(got.rescale, Some(1.0 / 255.0), "{class}");
        let by = match class {
            "DINOv3ViTImageProcessor" => Backend::TorchvisionFloats,
            _ if class.ends_with("Fast") => Backend::Torchvision,
            _ => Backend::Pil,
        };
        assert_eq!(got.backend, by, "{class}");
    }
    // google/vit-base-patch16-224 of 2021 names no class at all.
    let old = json!({"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
                     "image_std": [0.5, 0.5, 0.5], "size": 224});
    assert_eq!(read(old.clone()), read(json!({"image_processor_type": "ViTImageProcessor"})));
    let deit = Preprocess::from_json("p", &old.to_string(), Some("deit")).expect("valid");
    assert_eq!(deit.geometry, geometry(exact(224, 224), Some((224, 224))));
    let off =
        read(json!({"do_resize": false, "do_rescale": false, "do_normalize": false, "image_std": [0, 0, 0]}));
    assert_eq!((off.geometry, off.rescale, off.mean_std), (geometry(Resize::None, None), None, None));
    assert_eq!(off.normalise(), ([1.0; 3], [0.0; 3]));
    assert_eq!(off.output_size([5, 17]), Size::new(5, 17));
    let image = decoded(0, 1, 17, 5);
    assert_eq!(off.pixels(&image).expect("valid"), image.rgb);
}

#[test]
fn timm_files_of_all_ages_are_read() {
    let timm = |config: Value| Preprocess::from_json("config.json", &config.to_string(), None);
    let size = |g: Geometry| match g {
        Geometry::Timm { height, width, crop_pct, mode } => (height, width, crop_pct, mode),
        other => panic!("{other:?}"),
    };
    // Of timm itself, with the image size changed at creation.
    let new = timm(json!({
        "architecture": "vit_base_patch16_224", "model_args": {"img_size": [24, 32]},
        "pretrained_cfg": {"input_size": [3, 224, 224], "fixed_input_size": true, "interpolation": "bilinear",
                           "crop_pct": 0.9, "crop_mode": "squash", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]}
    }))
    .expect("valid");
    assert_eq!(size(new.geometry), (24, 32, 0.9, CropMode::Squash));
    assert_eq!((new.filter, new.backend), (Filter::Bilinear, Backend::Timm));
    assert_eq!(new.mean_std, Some(([0.5; 3], [0.5, 0.25, 0.5])));
    // A model that takes any size keeps the trained one.
    let dynamic = timm(json!({"architecture": "x", "model_args": {"img_size": 96, "dynamic_img_size": true},
                              "pretrained_cfg": {"input_size": [3, 48, 48], "fixed_input_size": true}}));
    assert_eq!(size(dynamic.expect("valid").geometry), (48, 48, 0.875, CropMode::Center));
    // All keys at the top, as in early hub files; transformers' wrapper.
    let flat = json!({"architecture": "x", "input_size": [3, 64, 64], "mean": [0.1], "std": [0.2], "crop_pct": null});
    let flat = timm(flat).expect("valid");
    assert_eq!(size(flat.geometry), (64, 64, 0.875, CropMode::Center));
    assert_eq!(flat.mean_std, Some(([0.1; 3], [0.2; 3])));
    let wrapper = timm(json!({"model_type": "timm_wrapper", "architecture": "x", "pretrained_cfg": {}}));
    assert_eq!(size(wrapper.expect("valid").geometry), (224, 224, 0.875, CropMode::Center));
}

#[test]
fn values_that_cannot_be_meant_are_refused() {
    let hf = |key: &str, value: Value| json!({"image_processor_type": "ViTImageProcessor", key: value});
    let crop = |value: Value| json!({"image_processor_type": "CLIPImageProcessor", "crop_size": value});
    let timm = |key: &str, value: Value| json!({"architecture": "x", "pretrained_cfg": {key: value}});
    for (config, field) in [
        (hf("image_std", json!([0.5, 0, 0.5])), "image_std"),
        (hf("image_std", json!([0.5, -0.5, 0.5])), "image_std"),
        (hf("image_std", json!([1e-60, 1, 1])), "image_std"),
        (hf("image_mean", json!([0.5])), "image_mean"),
        (hf("image_mean", json!([0.5, 0.5, 0.5, 0.5])), "image_mean"),
        (hf("image_mean", json!(["a", 0.5, 0.5])), "image_mean"),
        (hf("image_mean", json!([1e300, 0.5, 0.5])), "image_mean"),
        (hf("resample", json!(99)), "resample"),
        (hf("resample", json!(-1)), "resample"),
        (hf("resample", json!("bicubic")), "resample"),
        (hf("size", json!(0)), "size"),
        (hf("size", json!(-224)), "size"),
        (hf("size", json!(224.5)), "size"),
        (hf("size", json!(1_000_000_000)), "size"),
        (hf("size", json!("224")), "size"),
        (hf("size", json!([224])), "size"),
        (hf("size", json!({"height": 224})), "size"),
        (hf("size", json!({"longest_edge": 224})), "size"),
        (hf("size", json!({"min_pixels": 4, "max_pixels": 9})), "size"),
        (hf("size", json!({"height": 224, "width": 0})), "size.width"),
        (hf("do_resize", json!("yes")), "do_resize"),
        (hf("do_pad", json!(true)), "do_pad"),
        (hf("rescale_factor", json!(0)), "rescale_factor"),
        (hf("rescale_factor", json!("1/255")), "rescale_factor"),
        (crop(json!({"shortest_edge": 224})), "crop_size"),
        (crop(json!(0)), "crop_size"),
        (json!({"image_processor_type": "DonutImageProcessor"}), "DonutImageProcessor"),
        (json!({"image_processor_type": 3}), "image_processor_type"),
        (json!([1, 2]), "JSON object"),
        (timm("input_size", json!([1, 224, 224])), "input_size"),
        (timm("input_size", json!([3, 0, 224])), "input_size"),
        (timm("input_size", json!([3, 224, 100_000])), "input_size"),
        (timm("interpolation", json!("cubic")), "interpolation"),
        (timm("interpolation", json!("random")), "interpolation"),
        (timm("crop_mode", json!("top")), "crop_mode"),
        (timm("crop_pct", json!(-0.9)), "crop_pct"),
        (timm("crop_pct", json!(1e-9)), "crop_pct"),
        (timm("std", json!([0, 0, 0])), "std"),
        (timm("mean", json!([0.5, 0.5])), "mean"),
        (
            json!({"architecture": "x", "model_args": {"in_chans": 1}, "pretrained_cfg": {}}),
            "model_args.in_chans",
        ),
    ] {
        let error =
            Preprocess::from_json("dir/p.json", &config.to_string(), None).expect_err(&config.to_string());
        assert!(matches!(error, Error::Model { .. }), "{config}");
        let text = error.message();
        assert!(text.starts_with("dir/p.json: ") && text.contains(field), "{config}: {text}");
        assert!(error.hint().is_some(), "{config}");
    }
    let error = Preprocess::from_json("dir/p.json", "{\"size\": 22", None).expect_err("cut off");
    assert!(matches!(&error, Error::Model { what, .. } if what.contains("JSON")), "{error}");
    // Deep nesting and NaN literals are serde_json's errors, not a stack overflow.
    let deep = "[".repeat(200_000);
    for odd in [deep.as_str(), "{\"rescale_factor\": NaN}"] {
        assert!(matches!(Preprocess::from_json("p", odd, None), Err(Error::Model { .. })), "{odd:.40}");
    }
}

#[test]
fn families_without_a_file_have_defaults() {
    for (family, want) in [
        ("vit", geometry(exact(96, 96), None)),
        ("vit_mae", geometry(exact(96, 96), None)),
        ("deit", geometry(exact(109, 109), Some((96, 96)))),
        ("dinov2", geometry(shortest(109, None), Some((96, 96)))),
        ("dinov2_with_registers", geometry(shortest(109, None), Some((96, 96)))),
        ("clip_vision_model", geometry(shortest(96, None), Some((96, 96)))),
        ("siglip_vision_model", geometry(exact(96, 96), None)),
        ("beit", geometry(exact(96, 96), None)),
        ("imagegpt", geometry(exact(96, 96), None)),
        ("timm", Geometry::Timm { height: 96, width: 96, crop_pct: 0.875, mode: CropMode::Center }),
    ] {
        let got = Preprocess::default_for(family, [96, 96]).expect(family);
        assert_eq!(got.geometry, want, "{family}");
        assert_eq!(got.size(), Some(Size::square(96)), "{family}");
    }
    // No images; no pixels.
    for (family, size) in [("bert", [96, 96]), ("vit", [0, 96])] {
        assert!(matches!(Preprocess::default_for(family, size), Err(Error::Model { .. })), "{family}");
    }
}

#[test]
fn another_resolution_keeps_the_proportions() {
    let at = |config: Value, h, w| read(config).with_size([h, w]).expect("valid").geometry;
    let class = |name: &str| json!({"image_processor_type": format!("{name}ImageProcessor")});
    assert_eq!(at(class("ViT"), 384, 320), geometry(exact(384, 320), None));
    // As facebook/deit-base-distilled-patch16-384 says itself: 438.
    assert_eq!(at(class("DeiT"), 384, 384), geometry(exact(438, 438), Some((384, 384))));
    assert_eq!(at(class("CLIP"), 336, 336), geometry(shortest(336, None), Some((336, 336))));
    assert_eq!(at(class("CLIP"), 112, 336), geometry(shortest(336, None), Some((112, 336))));
    let open = json!({"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 100}});
    assert_eq!(read(open.clone()).size(), None);
    assert_eq!(at(open, 64, 48), geometry(exact(64, 48), None));
    let timm = json!({"architecture": "x", "pretrained_cfg": {"crop_pct": 0.9}});
    let got = read(timm).with_size([384, 384]).expect("valid");
    assert_eq!(got.output_size([500, 1000]), Size::square(384));
    for (h, w) in [(0, 5), (5, 0), (100_000, 5)] {
        assert!(matches!(read(class("ViT")).with_size([h, w]), Err(Error::Model { .. })), "{h}x{w}");
    }
}

#[test]
fn extreme_images_work_or_are_refused() {
    let clip = read(json!({"image_processor_type": "CLIPImageProcessor", "size": 224, "crop_size": 224}));
    let timm = read(json!({"architecture": "x", "pretrained_cfg": {"crop_mode": "border", "crop_pct": 1.0}}));
    for (w, h) in [(1, 1), (1, 10_000), (10_000, 1), (3, 3), (2, 1)] {
        let image = decoded(0, 9, w, h);
        for preprocess in [&clip, &timm] {
            for by in [Backend::Pil, Backend::Torchvision, Backend::Timm] {
                let preprocess = Preprocess { backend: by, ..preprocess.clone() };
                let tensor = preprocess.tensor(&image).expect("extreme but fine");
                assert_eq!(tensor.shape().dims(), [1, 3, 224, 224]);
                assert!(tensor.as_f32().expect("f32").iter().all(|x| x.is_finite()));
            }
        }
    }
    let long = decoded(0, 9, 1_000_000, 1);
    assert!(matches!(clip.pixels(&long), Err(Error::Input { what, .. }) if what.contains("224000000x224")));
    let open = read(json!({"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 2000}}));
    // 800 million pixels.
    assert!(matches!(open.pixels(&decoded(0, 9, 2000, 10)), Err(Error::Input { .. })));
    for (w, h, bytes) in [(0, 0, 0), (2, 2, 11), (2, 2, 13), (usize::MAX, usize::MAX, 3)] {
        let image = Decoded { width: w, height: h, rgb: vec![0; bytes], notes: Vec::new() };
        assert!(matches!(clip.pixels(&image), Err(Error::Input { .. })), "{w}x{h} in {bytes} bytes");
    }
}
