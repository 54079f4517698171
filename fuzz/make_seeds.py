"""Writes the seeds of the fuzz targets: small files, good and bad, in fuzz/seeds.

    python3 fuzz/make_seeds.py        (needs nothing but Python and the repository)

Seeds called found_* are inputs on which a fuzzer once failed; they are kept by
hand and not touched here. What an input of each target looks like is said at
the top of fuzz/bodies/*.rs.
"""

import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN, IMAGES, SEEDS = ROOT / "tests/golden", ROOT / "tests/images", ROOT / "fuzz/seeds"


def seed(target, name, data):
    assert len(data) < 20_000, name
    (SEEDS / target / name).write_bytes(data)


def header_of(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def checkpoint_headers():
    def header(name, text, elements=b""):
        text = text if isinstance(text, bytes) else compact(text)
        seed("checkpoint_header", name, text + (b"\0" + elements if elements else b""))

    def tensors(*entries, **more):
        at, made = 0, dict(more)
        for name, dtype, shape in entries:
            size = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2}.get(dtype, 1)
            for d in shape:
                size *= d
            made[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        return made

    def file(name, text, elements):
        text = compact(text)
        seed("checkpoint_header", name, struct.pack("<Q", len(text)) + text + elements)

    header("matrix", tensors(("classifier.weight", "F32", [3, 4]), ("classifier.bias", "F32", [3])))
    header("halves", tensors(("a", "F16", [6, 2]), ("b", "BF16", [2, 3]), __metadata__={"format": "pt"}),
           bytes(range(36)))
    header("positions", tensors(("vit.embeddings.position_embeddings", "F32", [1, 10, 2])))
    header("bias_table", tensors(("relative_position_bias_table", "F32", [28, 2])))
    header("kernel", tensors(("patch_embed.proj.weight", "BF16", [4, 3, 2, 2]), ("patch_embed.proj.bias", "BF16", [4])))
    header("scalar_and_empty", tensors(("logit_scale", "F32", []), ("none", "F32", [0, 7]), ("ids", "I64", [1, 5])))
    header("five_dimensions", tensors(("volume", "F32", [1, 2, 1, 2, 1])))
    header("small_floats", tensors(("a", "F8_E4M3", [3]), ("b", "U8", [2]), ("c", "BOOL", [1]), ("d", "I8", [2])))
    header("unknown_type", tensors(("a", "X7", [3])))
    header("not_finite", tensors(("a", "F32", [4])), struct.pack("<4f", float("nan"), float("inf"), 70000.0, -0.0))
    header("overflow", {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}})
    header("hidden_overflow", {"a": {"dtype": "F32", "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}})
    header("empty_but_long", {"a": {"dtype": "F32", "shape": [2**60, 0], "data_offsets": [0, 0]},
                              "b": {"dtype": "F32", "shape": [0, 2**60], "data_offsets": [0, 0]}})
    header("zero_first", {"a": {"dtype": "F32", "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]},
                          "b": {"dtype": "F32", "shape": [2**40, 0, 2**40], "data_offsets": [0, 0]}})
    header("backwards", {"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}})
    header("hole", {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                    "b": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]}})
    header("overlap", {"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                       "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}})
    header("far_end", {"a": {"dtype": "U8", "shape": [2**64 - 1], "data_offsets": [0, 2**64 - 1]}})
    header("twice", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}')
    header("odd_metadata", b'{"__metadata__":{"a":1},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}')
    header("negative", b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}')
    header("deep", b'{"a":' + b"[" * 200)
    header("escape", b'{"\\u001b[2J\\u202e":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')
    file("whole_file", tensors(("w", "F32", [2, 2]), ("b", "F32", [2])), bytes(24))
    file("cut_short", tensors(("w", "F32", [2, 2])), bytes(15))
    file("too_long", tensors(("w", "F32", [2, 2])), bytes(17))
    seed("checkpoint_header", "real_header", (GOLDEN / "vit_bf16/model.safetensors").read_bytes()[:600])
    seed("checkpoint_header", "no_length", b"\x01\0\0")
    seed("checkpoint_header", "huge_length", struct.pack("<Q", 2**63) + b"{}")
    seed("checkpoint_header", "no_tensors", struct.pack("<Q", 2) + b"{}")
    seed("checkpoint_header", "bad_utf8", struct.pack("<Q", 6) + b'{"\xff":1')
    for name, head in {
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:",
        "html": b" <!DOCTYPE html><html>",
        "zip": b"PK\x03\x04\x14\0\0\0archive/data.pkl",
        "pickle": b"\x80\x04\x95\x10\0\0",
        "gguf": b"GGUF\x03\0\0\0",
        "onnx": b"\x08\x07\x12\x07pytorch",
        "hdf5": b"\x89HDF\r\n\x1a\n",
    }.items():
        seed("checkpoint_header", "other_" + name, head)


CONFIGS = """beit clip_vision clip_vision_model deit_distilled dinov2 dinov2_registers dinov2_swiglu
siglip_vision timm_clip_quickgelu timm_deit3 timm_deit_distilled timm_dinov2_giant_reg4 timm_gap timm_qknorm
timm_reg4_gap timm_siglip_map timm_vit vit vit_mae vit_model_pooler vit_patch4_gelunew""".split()
# Fields that no code here reads.
UNREAD = """initializer_range attention_probs_dropout_prob hidden_dropout_prob transformers_version dtype
encoder_stride label2id initializer_factor attention_dropout drop_path_rate torch_dtype""".split()


def model_configs():
    def config(name, fields, tensors):
        lines = [f"{tensor} {','.join(map(str, shape))}" for tensor, shape in tensors.items()]
        seed("model_config", name, compact(fields) + b"\0" + "\n".join(lines).encode())

    folders = {}
    for name in CONFIGS:
        folder = GOLDEN / name
        fields = json.loads((folder / "config.json").read_text())
        for part in (fields, fields.get("vision_config", {})):
            for key in UNREAD:
                part.pop(key, None)
        fields.pop("text_config", None)
        header = header_of(folder / "model.safetensors")
        tensors = {k: v["shape"] for k, v in header.items() if k != "__metadata__"}
        # The decoder of ViT-MAE and all text towers are left aside by the models, too.
        tensors = {k: v for k, v in tensors.items() if "decoder." not in k and "text_model." not in k}
        folders[name] = (fields, tensors)
        config(name, fields, tensors)

    fields, tensors = folders["vit"]
    config("vit_no_tensors", fields, {})
    config("vit_other_weights", fields, folders["timm_vit"][1])
    config("vit_wrong_shape", fields, {k: v[::-1] for k, v in tensors.items()})
    config("vit_deep", {**fields, "num_hidden_layers": 1024}, {"a": [1]})
    config("vit_huge", {**fields, "image_size": 1 << 20, "patch_size": 1 << 10, "hidden_size": 1 << 20}, tensors)
    config("vit_no_size", {**fields, "image_size": 0}, tensors)
    config("vit_odd_heads", {**fields, "num_attention_heads": 7}, tensors)
    config("vit_text_for_number", {**fields, "hidden_size": "36", "id2label": ["a", None, 3]}, tensors)
    config("vit_rectangle", {**fields, "image_size": [64, 16]}, tensors)
    config("vit_nulls", {key: None for key in fields} | {"model_type": "vit"}, tensors)
    config("vit_long_prefix", {**fields, "num_hidden_layers": 1024}, {"module." * 1000 + "a": [1]})
    config("vit_endless_head", fields, {**tensors, "classifier.weight": [1 << 60, 0]})
    fields, tensors = folders["timm_reg4_gap"]
    config("timm_endless_registers", fields, {**tensors, "reg_token": [1, 1 << 60, 0]})
    config("timm_unheard_of", {**fields, "architecture": "vit_unheard_of_patch8_32"}, tensors)
    config("timm_model_args", {**fields, "model_args": {"img_size": [48, 32], "mlp_ratio": 2.5, "act_layer": "silu"}},
           tensors)
    config("wrapper", {"model_type": "timm_wrapper", **fields}, {"timm_model." + k: v for k, v in tensors.items()})
    config("unknown_type", {"model_type": "resnet"}, {})
    seed("model_config", "not_an_object", b"[1,2]")
    seed("model_config", "empty_object", b"{}")
    seed("model_config", "deep_json", b"[" * 300)


def preprocessor_configs():
    def config(name, fields, *image):
        seed("preprocessor_config", name, compact(fields) + (b"\0" + bytes(image) if image else b""))

    for path in sorted(GOLDEN.glob("*/preprocessor_config.json")):
        config(path.parent.name, json.loads(path.read_text()), 0, 40, 30, 0)
    # One of each set of keys among the 420 that the tests compare with the originals.
    seen = set()
    for i, case in enumerate(json.loads((GOLDEN / "preprocess/configs.json").read_text())):
        keys = (case["backend"], *sorted(case["config"]))
        if keys not in seen and len(seen) < 60:
            seen.add(keys)
            config(f"case_{i}", case["config"], i % 6, i % 64, i * 7 % 64, i % 3)
    image = (0, 20, 3, 1)
    config("list_size", {"image_processor_type": "ViTImageProcessor", "size": [20, 30]}, *image)
    config("longest_edge", {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 30, "longest_edge": 40}}, *image)
    config("longest_alone", {"image_processor_type": "BitImageProcessor", "size": {"longest_edge": 40}}, *image)
    config("within", {"image_processor_type": "CLIPImageProcessorFast", "size": {"max_height": 30, "max_width": 9},
                      "do_center_crop": False}, *image)
    config("largest", {"image_processor_type": "ViTImageProcessorFast", "size": 8192, "resample": 2}, *image)
    config("largest_thin", {"image_processor_type": "CLIPImageProcessorFast", "size": {"shortest_edge": 8192}, "crop_size": 8},
           0, 0, 60, 2)
    config("too_large", {"size": {"height": 8193, "width": 1}})
    config("nothing_on", {"do_resize": False, "do_rescale": False, "do_normalize": False}, *image)
    config("crop_alone", {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 50, "width": 2}}, *image)
    config("no_deviation", {"image_std": [0, 0, 0]})
    config("tiny_deviation", {"image_std": [1e-45, 1e-38, 1e38], "image_mean": [-1e38, 1e38, 0]}, *image)
    config("bad_filter", {"resample": 99})
    config("no_rescale", {"rescale_factor": 1e-300})
    config("unknown_class", {"image_processor_type": "PoolFormerImageProcessor"})
    config("padded", {"do_pad": True})
    config("timm_border", {"architecture": "x", "input_size": [3, 20, 30], "crop_mode": "border", "crop_pct": 0.9,
                           "mean": [2.0, -1.0, 0.5], "std": [1]}, *image)
    config("timm_tiny_crop", {"architecture": "x", "input_size": [3, 8, 8], "crop_pct": 0.0005}, *image)
    config("timm_large_crop", {"architecture": "x", "input_size": [3, 8, 8], "crop_pct": 1e9}, *image)
    config("timm_zero_crop", {"architecture": "x", "input_size": [3, 8, 8], "crop_pct": 0}, *image)
    config("timm_fixed", {"pretrained_cfg": {"input_size": [3, 9, 9], "fixed_input_size": True},
                          "model_args": {"img_size": [12, 10]}}, *image)
    config("timm_channels", {"pretrained_cfg": {}, "model_args": {"in_chans": 4}})
    config("names_escape", {"image_processor_type": "\x1b[2J\u202e" * 40})
    seed("preprocessor_config", "not_an_object", b"3")
    seed("preprocessor_config", "empty", b"")


def text_configs():
    def config(name, *parts):
        parts = [part if isinstance(part, bytes) else compact(part) for part in parts]
        seed("text_config", name, b"\0".join(parts))

    for name in ("gpt2", "t5_v11"):
        config(f"golden_{name}", json.loads((GOLDEN / name / "generation_config.json").read_text()))
    config("chance", {"do_sample": True, "temperature": 0.7, "top_k": 50, "top_p": 0.9, "max_new_tokens": 5})
    config("ends", {"eos_token_id": [1, 99], "min_length": 3, "min_new_tokens": 2, "max_length": 20})
    config("penalties", {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2})
    config("bans", {"suppress_tokens": [1, 2], "begin_suppress_tokens": [3], "bad_words_ids": [[1], [2, 3], []]})
    config("forced", {"forced_bos_token_id": 7, "forced_eos_token_id": [1], "decoder_start_token_id": 0})
    config("not_followed", {"num_beams": 4, "typical_p": 0.2, "sequence_bias": [[[1], 2.0]], "guidance_scale": 3})
    config("beyond", {"eos_token_id": 100, "suppress_tokens": [-1], "bad_words_ids": [[1e9]], "top_p": 2})
    config("kinds", {"eos_token_id": "a", "temperature": [], "do_sample": 1, "max_length": -5, "stop_strings": [1]})
    config("stops", {"stop_strings": ["\n", "", "\u00e9"]})
    config("huge", {"max_new_tokens": 1 << 63, "no_repeat_ngram_size": 1 << 40, "repetition_penalty": 1e300})
    config("list", [])
    config("cut", b'{"eos_token_id": [1, ')
    config("nothing", b"")

    def module(*names):
        own = "sentence_transformers.models."
        return [{"idx": i, "name": str(i), "path": path, "type": own + name} for i, (name, path) in enumerate(names)]

    plain = module(("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    dense = module(("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"))
    mean = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "include_prompt": False}
    prompts = {"prompts": {"query": "q: "}, "default_prompt_name": "query", "truncate_dim": 2, "max_seq_length": 8,
               "do_lower_case": True}
    config("sentence", b"", plain, mean, prompts)
    config("mode_by_name", b"", plain, {"pooling_mode": "lasttoken"}, {"max_seq_length": 0, "truncate_dim": 0})
    config("dense", b"", dense, {"in_features": 2, "out_features": 3, "pooling_mode": "mean", "bias": False})
    config("dense_huge", b"", dense, {"in_features": 1 << 20, "out_features": 1 << 20, "pooling_mode": "cls"})
    config("custom", b"", [{"type": "custom_st.Transformer", "path": ""}], mean)
    config("outside", b"", module(("Transformer", "../x"), ("Pooling", "/etc")), mean)
    config("no_list", b"", {}, [], 3)
    config("prompt_unknown", b"", plain, mean, {"default_prompt_name": "query"})
    config("tokenizer", b"", b"", b"", b"", {"tokenizer_class": "BertTokenizer", "do_lower_case": False,
                                             "model_max_length": 1e30, "truncation_side": "left"})
    config("tokenizer_unknown", b"", b"", b"", b"", {"tokenizer_class": "BertJapaneseTokenizer"})
    config("tokenizer_added", b"", b"", b"", b"", {"added_tokens_decoder": {"7": {"content": "<x>", "special": True}},
                                                   "mask_token": {"content": "[MASK]", "lstrip": True}})
    config("tokenizer_kinds", b"", b"", b"", b"", {"tokenizer_class": 3, "cls_token": [], "added_tokens_decoder": []})


def image_options():
    size = 0
    for path in sorted(IMAGES.iterdir(), key=lambda p: (p.stat().st_size, p.name)):
        if path.suffix in (".py", ".safetensors") or (path.name[:5] == "exif_" and path.stem[-1] in "234789"):
            continue
        data = path.read_bytes()
        if len(data) > 1400:
            continue
        # EXIF on, the largest limit; damaged files also as far as they go.
        seed("image_options", path.name, bytes([1 if len(data) % 2 else 13, 3]) + data)
        if path.suffix == ".jpg" and path.name.startswith("bad_"):
            seed("image_options", "as_far_as_it_goes_" + path.name, bytes([3, 3]) + data)
        size += len(data)
    for limit in range(3):
        seed("image_options", f"limit_{limit}.png", bytes([0, limit]) + (IMAGES / "rgb.png").read_bytes())
    for name, head in {
        "pdf": b"%PDF-1.7", "heic": b"\0\0\0\x18ftypheic\0\0\0\0", "avif": b"\0\0\0\x1cftypavif\0\0\0\0", "jxl": b"\xff\x0a",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text": b"hello", "empty": b"", "pfm": b"PF\n1 1\n",
    }.items():
        seed("image_options", "other_" + name, bytes([1, 3]) + head)


if __name__ == "__main__":
    for target in (checkpoint_headers, model_configs, preprocessor_configs, text_configs, image_options):
        folder = SEEDS / target.__name__.removesuffix("s" if target is not image_options else "")
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("found_"):
                old.unlink()
        target()
    files = [p for p in SEEDS.rglob("*") if p.is_file()]
    print(f"{len(files)} seeds, {sum(p.stat().st_size for p in files)} bytes")
